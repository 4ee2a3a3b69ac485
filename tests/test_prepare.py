"Many X-rays to a cache: nothing lost, nothing half-written, nothing done twice, whatever stops the work."

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from covidxr.core import BOX_COLUMNS, DataError
from covidxr.dicom import read_xray
from covidxr.phantom import simulate_dataset
from covidxr.prepare import from_cache, prepare, privacy, read_failed, to_cache

KILLS = int(os.environ.get("COVIDXR_KILLS", "4"))  # the point that 20 are asked for is measured with 20


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    "A folder of simulated X-rays that takes some seconds to prepare"
    folder = tmp_path_factory.mktemp("many") / "data"
    simulate_dataset(folder, studies=60, seed=3, size=900)
    return folder


def _started(source: Path, out: Path, *words: str) -> subprocess.Popen:
    command = [
        str(Path(sys.executable).with_name("covidxr")),
        "prepare",
        str(source),
        str(out),
        "--size",
        "256",
        *words,
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def test_killed_at_any_moment_the_next_call_ends_with_the_very_same_bytes(many, tmp_path, hashes):
    started = time.monotonic()
    assert _started(many, tmp_path / "whole").wait() == 0
    usual = time.monotonic() - started
    whole, rng = hashes(tmp_path / "whole"), np.random.default_rng(0)
    kept = 0
    for turn in range(KILLS):
        out = tmp_path / f"cut-{turn}"
        process = _started(many, out)
        time.sleep(float(rng.uniform(0.2, 0.95)) * usual)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        pictures = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")} if out.exists() else {}
        notes = {path.stem for path in out.glob(".unfinished/*.json")} | (
            set(pd.read_parquet(out / "images.parquet")["image_id"]) if (out / "images.parquet").exists() else set()
        )
        assert _started(many, out).wait() == 0
        assert hashes(out) == whole
        again = [name for name in pictures if Path(name).stem in notes]
        assert all((out / name).stat().st_mtime_ns == pictures[name] for name in again)  # finished work is not redone
        kept += len(again)
        shutil.rmtree(out)
    assert kept > 0


def test_ctrl_c_says_that_the_next_call_goes_on(many, tmp_path):
    process = _started(many, tmp_path / "cache")
    while not list((tmp_path / "cache").glob("*.png")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() in (0, 130)
    assert len(prepare(many, tmp_path / "cache", size=256)) == len(list(many.glob("*/*/*/*.dcm")))


def test_a_worker_that_is_killed_loses_nothing(many, tmp_path):
    process = _started(many, tmp_path / "cache", "--workers", "2")
    killed = 0
    while process.poll() is None and killed < 1:
        if len(list((tmp_path / "cache").glob("*.png"))) > 8:
            workers = [one for one in psutil.Process(process.pid).children() if "loky" in " ".join(one.cmdline())]
            if workers:
                workers[-1].kill()
                killed += 1
        time.sleep(0.02)
    assert process.wait() == 0 and killed == 1
    assert len(read_failed(tmp_path / "cache")) == 0
    assert len(pd.read_parquet(tmp_path / "cache" / "images.parquet")) == len(list(many.glob("*/*/*/*.dcm")))


def test_a_file_that_ends_every_process_is_listed_and_the_others_are_made(many, tmp_path, monkeypatch):
    from covidxr import prepare as room

    tasks = []
    for number, path in enumerate(sorted(many.glob("train/*/*/*.dcm"))[:3]):
        name = "poison" if number == 1 else path.stem
        shutil.copy(path, tmp_path / f"{name}.dcm")
        tasks.append(room._Task(name, str(tmp_path / f"{name}.dcm"), name, str(tmp_path), 64, "pad", "png"))
    monkeypatch.setattr(room, "_prepare_one", _poisoned)
    rows = list(room._one_by_one(tasks))
    assert ["error" in row for row in rows] == [False, True, False]
    assert "ended the process" in rows[1]["error"] and "poison" in rows[1]["error"]


def _poisoned(task):
    "What a decoder that crashes would do"
    if task.image_id == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"image_id": task.image_id}


def test_a_full_disk_stops_the_work_in_words_and_keeps_what_was_done(many, tmp_path, monkeypatch):
    from covidxr import prepare as room

    calls = []

    def full(square, path):
        calls.append(path)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(square, path)

    write = room._write_picture
    monkeypatch.setattr(room, "_write_picture", full)
    with pytest.raises(DataError, match="5 of .* are done and kept"):
        prepare(many, tmp_path / "cache", size=64, workers=1)
    monkeypatch.setattr(room, "_write_picture", write)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.png")}
    assert len(before) == 5
    prepare(many, tmp_path / "cache", size=64)
    assert all((tmp_path / "cache" / name).stat().st_mtime_ns == made for name, made in before.items())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_really_full(many, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(DataError, match="make room and run the same again"):
            prepare(many, small / "cache", size=256)
        assert all(read_xray(path).pixels.shape == (256, 256) for path in (small / "cache").glob("*.png"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert len(prepare(many, small / "cache", size=256)) == len(list(many.glob("*/*/*/*.dcm")))
        assert [path.name for path in (small / "cache").glob(".*")] == [".lock"]
    finally:
        subprocess.run(["umount", str(small)])


def test_a_cluster_of_two_workers_of_which_one_is_killed(many, tmp_path, hashes):
    distributed = pytest.importorskip("distributed", reason="the extra 'scale' is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        process = _started(many, tmp_path / "cache", "--scheduler", cluster.scheduler_address)
        while len(list((tmp_path / "cache").glob("*.png"))) < 5 and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, "ended before a worker could be killed"
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        assert process.wait(timeout=120) == 0
    prepare(many, tmp_path / "alone", size=256)
    assert hashes(tmp_path / "cache") == hashes(tmp_path / "alone")


def test_no_cluster_is_said_in_words(many, tmp_path):
    pytest.importorskip("distributed", reason="the extra 'scale' is not installed")
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(DataError, match="no Dask scheduler answers"):
            prepare(many, tmp_path / "cache", scheduler=address)


def test_only_what_is_new_or_changed_is_made_again(many, tmp_path):
    source, out = tmp_path / "source", tmp_path / "source" / "small"
    source.mkdir()
    for path in sorted(many.glob("train/*/*/*.dcm"))[:6]:
        shutil.copy(path, source)
    first = prepare(source, out, size=64)
    made = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert len(made) == 6 and prepare(source, out, size=64).equals(first)  # its own pictures are no X-rays
    shutil.copy(source / f"{first['image_id'][0]}.dcm", source / "new.dcm")
    os.utime(source / f"{first['image_id'][1]}.dcm")
    assert len(prepare(source, out, size=64)) == 7
    again = {name for name, when in made.items() if (out / name).stat().st_mtime_ns != when}
    assert again == {f"{first['image_id'][1]}.png"}


def test_what_a_killed_process_had_begun_is_swept_away(many, tmp_path):
    rest = tmp_path / "cache" / ".a.png.999999999.partial"
    rest.mkdir(parents=True)
    (rest / ".a.png").write_bytes(b"half")
    prepare(many, tmp_path / "cache", size=64)
    assert not rest.exists() and [path.name for path in (tmp_path / "cache").glob(".*")] == [".lock"]


def test_two_calls_at_once_do_not_fill_one_cache(many, tmp_path):
    code = f"from covidxr.core import alone_in\nwith alone_in({str(tmp_path / 'cache')!r}):\n    print('holds', flush=True)\n    input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "holds\n"
        with pytest.raises(DataError, match="another call is writing here"):
            prepare(many, tmp_path / "cache", size=64)
    finally:
        other.kill()  # the system gives the lock back
        other.communicate()
    assert len(prepare(many, tmp_path / "cache", size=64))


@pytest.mark.parametrize("form", ["png", "jpg", "npy"])
@pytest.mark.parametrize("square", ["pad", "stretch", "crop"])
def test_every_shape_and_format_holds_the_picture_and_maps_boxes_back(many, tmp_path, square, form):
    path = sorted(many.glob("train/*/*/*.dcm"))[0]
    index = prepare(path, tmp_path / "cache", size=96, square=square, form=form)
    file = tmp_path / "cache" / index["file"][0]
    picture = np.load(file) if form == "npy" else np.round(read_xray(file).pixels * 255)
    assert picture.shape == (96, 96) and picture.max() > 150
    height, width = index.loc[0, ["height", "width"]]
    box = pd.DataFrame(
        [(path.stem, 0.4 * width, 0.4 * height, 0.6 * width, 0.7 * height)], columns=["image_id", *BOX_COLUMNS]
    )
    back = from_cache(to_cache(box, index), index)
    assert np.allclose(back[BOX_COLUMNS], box[BOX_COLUMNS])
    with pytest.raises(DataError, match="choose another folder"):
        prepare(path, tmp_path / "cache", size=96, square="pad" if square == "crop" else "crop", form=form)


def test_it_says_what_was_found_and_keeps_none_of_it(many, tmp_path, covidxr):
    import pydicom

    path = sorted(many.glob("train/*/*/*.dcm"))[0]
    ds = pydicom.dcmread(path)
    ds.PatientName, ds.InstitutionName, ds.PatientIdentityRemoved = "Doe^Jane", "A hospital", "NO"
    (tmp_path / "in").mkdir()
    ds.save_as(tmp_path / "in" / "x.dcm")
    (tmp_path / "in" / "broken.dcm").write_bytes(b"nothing")
    answer = covidxr("prepare", tmp_path / "in", tmp_path / "cache", "--size", "64")
    assert answer.returncode == 1 and "1  PatientName in the header" in answer.stdout and "broken.dcm" in answer.stderr
    for file in (tmp_path / "cache").rglob("*"):
        raw = file.read_bytes() if file.is_file() else b""
        assert (
            b"Doe" not in raw
            and b"A hospital" not in raw
            and str(tmp_path / "in").encode() not in raw
            or file.name == "failed.csv"
        )
    assert privacy(pd.read_parquet(tmp_path / "cache" / "images.parquet"))["InstitutionName in the header"] == 1


def test_the_doctor_knows_what_is_here(covidxr):
    import json

    answer = covidxr("doctor", "--json")
    rows = {row["part"]: row for row in json.loads(answer.stdout)}
    assert answer.returncode == 0, answer.stdout
    assert rows["decoder of JPEG 2000"]["ok"] and rows["decoder of RLE"]["ok"] and rows["torch"]["ok"]
    assert "All that is needed is here." in covidxr("doctor").stdout


def test_the_doctor_names_the_cure(monkeypatch):
    from importlib import metadata

    from covidxr import cli

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    rows = {row["part"]: row for row in cli.examine()}
    assert rows["timm"]["ok"] is False and rows["timm"]["text"] == "`pip install timm`"


def _pictures(folder: Path, values: dict[str, int]) -> list[Path]:
    "Grey pictures of one value each"
    import cv2

    for name, value in values.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((300, 200), value, np.uint8))
    return [folder / name for name in values]


def test_what_a_stopped_call_made_in_another_size_is_made_anew(tmp_path, monkeypatch):
    from covidxr import prepare as room

    _pictures(tmp_path / "src", {f"i{number}.png": 200 for number in range(4)})
    write, written = room._write_picture, []

    def stop(square, path):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(square, path)

    monkeypatch.setattr(room, "_write_picture", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "src", tmp_path / "out", size=64, workers=1)
    monkeypatch.setattr(room, "_write_picture", write)
    index = prepare(tmp_path / "src", tmp_path / "out", size=128, square="crop", workers=1)
    for row in index.itertuples():
        assert room.read_prepared(tmp_path / "out" / row.file).shape == (128, 128)
        assert (row.size, row.square, row.scale) == (128, "crop", 0.64)


def test_files_of_one_name_are_refused_and_uids_are_told_apart(tmp_path):
    files = _pictures(tmp_path, {"a/x.png": 200, "b/x.png": 50})
    with pytest.raises(DataError, match="two files are called x"):
        prepare(files, tmp_path / "out", size=32, workers=1)
    uids = [shutil.copy(file, tmp_path / f"1.2.3.{number}") for number, file in enumerate(files)]
    index = prepare([Path(file) for file in uids], tmp_path / "out", size=32, workers=1)
    assert index["image_id"].tolist() == ["1.2.3.0", "1.2.3.1"] and index["file"].nunique() == 2


def test_threads_do_not_lose_what_was_noticed(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    import pydicom

    from covidxr import prepare as room
    from covidxr.dicom import XrayFacts, write_dicom

    (tmp_path / "out" / ".unfinished").mkdir(parents=True)
    tasks = []
    for number in range(40):
        file = tmp_path / f"i{number}.dcm"
        write_dicom(file, np.full((40, 30), 2000), XrayFacts(f"i{number}"))
        if number % 2:
            ds = pydicom.dcmread(file)
            ds.PatientOrientation = ["R", "F"]
            ds.save_as(file)
        tasks.append(room._Task(f"i{number}", str(file), file.name, str(tmp_path / "out"), 32, "pad", "png"))
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(room._prepare_one, tasks))
    assert [row["checks"].count("orientation") for row in rows] == [number % 2 for number in range(40)]
