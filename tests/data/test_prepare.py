"Many X-rays to a cache: nothing lost, nothing half-written, nothing done twice, whatever stops the work."

import errno
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest
from gates import BEFORE, CALL, poisoned
from measure import TESTS

from covidxr import prepare as room
from covidxr.base.errors import DataError
from covidxr.base.terms import BOX_COLUMNS
from covidxr.cache import index as index_room
from covidxr.cache import pictures
from covidxr.cache import workers as workers_room
from covidxr.cache.pictures import Task
from covidxr.dicom import XrayFacts, read_xray, write_dicom
from covidxr.hospital import simulate_dataset
from covidxr.prepare import count_findings, fit_square, from_cache, prepare, read_failed, read_prepared, to_cache

KILLS = int(os.environ.get("COVIDXR_KILLS", "8"))  # of the chaos; what is reported is measured with 50


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    "A folder of simulated X-rays that takes some seconds to prepare"
    folder = tmp_path_factory.mktemp("many") / "data"
    simulate_dataset(folder, studies=60, seed=3, size=160)
    return folder


def _started(source: Path, out: Path, *words: str, gated: bool = False, **options) -> subprocess.Popen:
    "The command at work; behind a gate it waits after some pictures, see `gates`"
    start = [sys.executable, "-c", CALL, TESTS] if gated else [str(Path(sys.executable).with_name("covidxr"))]
    command = [*start, "prepare", str(source), str(out), "--size", "256", *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **quiet | options)


def _pictured(out: Path, count: int, process: subprocess.Popen) -> list[Path]:
    "The pictures of a cache, once there are so many"
    while len(list(out.glob("*.png"))) < count:
        assert process.poll() is None, "the call has ended before its work was there"
        time.sleep(0.01)
    return sorted(out.glob("*.png"))


def test_killed_at_any_moment_the_next_call_ends_with_the_very_same_bytes(many, tmp_path, hashes):
    assert _started(many, tmp_path / "whole").wait() == 0
    whole, rng = hashes(tmp_path / "whole"), np.random.default_rng(0)
    for turn in range(2 + KILLS // 4):
        out = tmp_path / f"cut-{turn}"
        process = _started(many, out)
        _pictured(out, int(rng.integers(1, len(whole) // 2)), process)
        time.sleep(float(rng.uniform(0, 0.05)))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        made = {name: (out / row["file"]).stat().st_mtime_ns for name, row in index_room.noted_rows(out).items()}
        if (out / "images.parquet").exists():  # all was there already: then nothing is done again, either
            made = {path.stem: path.stat().st_mtime_ns for path in out.glob("*.png")}
        assert made
        assert _started(many, out).wait() == 0
        assert hashes(out) == whole
        assert all((out / f"{name}.png").stat().st_mtime_ns == when for name, when in made.items()), "done again"
        shutil.rmtree(out)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_chaos__killed_damaged_and_mended_at_random_the_last_call_gives_what_one_undisturbed_call_gives(tmp_path):
    command = [sys.executable, str(Path(TESTS) / "chaos.py"), "prepare", str(tmp_path), str(KILLS)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    print(answer.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stopped_call_says_that_the_next_one_goes_on_and_leaves_no_process(many, tmp_path, number, workers):
    out = tmp_path / "cache"
    process = _started(many, out, "--workers", workers, gated=True, stderr=subprocess.PIPE, text=True)
    _pictured(out, BEFORE, process)
    # Until all are at the gate, which never opens: the call cannot end by itself
    while len(list(tmp_path.glob("waits-*"))) < int(workers):
        assert process.poll() is None
        time.sleep(0.02)
    helpers = psutil.Process(process.pid).children(recursive=True)
    started = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - started < 20, "nobody waits for work that was stopped"
    assert process.returncode == 130
    assert "covidxr: stopped; the same command goes on where it stopped" in said and "Traceback" not in said
    assert not psutil.wait_procs(helpers, timeout=20)[1]
    assert len(prepare(many, out, size=256)) == len(list(many.glob("*/*/*/*.dcm")))


def test_a_worker_that_is_killed_loses_nothing(many, tmp_path):
    process = _started(many, tmp_path / "cache", "--workers", "2", gated=True)
    _pictured(tmp_path / "cache", BEFORE, process)
    workers = [one for one in psutil.Process(process.pid).children() if "loky" in " ".join(one.cmdline())]
    workers[-1].kill()
    (tmp_path / "open").touch()
    assert process.wait() == 0
    assert len(read_failed(tmp_path / "cache")) == 0
    assert len(pd.read_parquet(tmp_path / "cache" / "images.parquet")) == len(list(many.glob("*/*/*/*.dcm")))


def test_a_file_that_ends_every_process_is_listed_and_the_others_are_made(many, tmp_path, monkeypatch):
    tasks = []
    for number, path in enumerate(sorted(many.glob("train/*/*/*.dcm"))[:3]):
        name = "poison" if number == 1 else path.stem
        shutil.copy(path, tmp_path / f"{name}.dcm")
        tasks.append(Task(name, str(tmp_path / f"{name}.dcm"), name, str(tmp_path), 64, "pad", "png"))
    monkeypatch.setattr(workers_room, "prepare_one", poisoned)
    rows = list(workers_room._one_by_one(tasks))
    assert ["error" in row for row in rows] == [False, True, False]
    assert "ended the process" in rows[1]["error"] and "poison" in rows[1]["error"]


@pytest.mark.parametrize("good", [11, 25])
def test_a_file_that_ends_every_process_does_not_end_the_call(tmp_path, monkeypatch, good):
    _pictures(tmp_path / "src", {name: 99 for name in [*(f"i{number}.png" for number in range(good)), "poison.png"]})
    monkeypatch.setattr(workers_room, "prepare_one", poisoned)
    index = prepare(tmp_path / "src", tmp_path / "out", size=32, workers=2)
    failed = read_failed(tmp_path / "out")
    assert (
        len(index) == good and failed["image_id"].tolist() == ["poison"] and "ended the process" in failed["error"][0]
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_few_files_ended_is_set_apart_by_the_next_call(tmp_path, workers):
    _pictures(tmp_path / "src", {name: 99 for name in ("i1.png", "i2.png", "i3.png", "i4.png", "poison.png")})
    code = (
        f"import sys; sys.path.insert(0, {TESTS!r})\n"
        "import gates\nfrom covidxr.cache import workers\nworkers.prepare_one = gates.poisoned\n"
        "from covidxr.prepare import prepare\n"
        f"print(len(prepare({str(tmp_path / 'src')!r}, {str(tmp_path / 'out')!r}, size=32, workers={workers})))"
    )
    (tmp_path / "call.py").write_text(code)
    first, second = (
        subprocess.run([sys.executable, tmp_path / "call.py"], capture_output=True, text=True) for _ in range(2)
    )
    assert first.returncode == -signal.SIGKILL
    assert second.returncode == 0 and second.stdout.strip() == "4", second.stderr
    assert read_failed(tmp_path / "out")["image_id"].tolist() == ["poison"]


def test_a_full_disk_stops_the_work_in_words_and_keeps_what_was_done(many, tmp_path, monkeypatch):
    calls = []

    def full(coded, path):
        calls.append(path)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(coded, path)

    write = pictures._write_picture
    monkeypatch.setattr(pictures, "_write_picture", full)
    with pytest.raises(DataError, match="5 of .* are done and kept"):
        prepare(many, tmp_path / "cache", size=64, workers=1)
    monkeypatch.setattr(pictures, "_write_picture", write)
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
        made = sorted((small / "cache").glob("*.png"))
        assert made and all(read_xray(path).pixels.shape == (256, 256) for path in made)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert len(prepare(many, small / "cache", size=256)) == len(list(many.glob("*/*/*/*.dcm")))
        assert sorted(path.name for path in (small / "cache").glob(".*")) == [".covidxr.json", ".covidxr.lock"]
    finally:
        subprocess.run(["umount", str(small)])


def test_a_cluster_of_two_workers_of_which_one_is_killed(many, tmp_path, hashes):
    distributed = pytest.importorskip("distributed", reason="the extra 'scale' is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        process = _started(many, tmp_path / "cache", "--scheduler", cluster.scheduler_address, gated=True)
        _pictured(tmp_path / "cache", BEFORE, process)  # the rest waits at the gate until a worker is killed
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        (tmp_path / "open").touch()
        assert process.wait(timeout=120) == 0
    prepare(many, tmp_path / "alone", size=256)
    assert hashes(tmp_path / "cache") == hashes(tmp_path / "alone")


def test_no_cluster_is_said_in_words(many, tmp_path, monkeypatch):
    monkeypatch.setattr("covidxr.base.cluster._KNOCK", 0.5)
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
    out = tmp_path / "cache"
    process = _started(many, out, "--workers", "1", gated=True)
    _pictured(out, BEFORE, process)
    code = (
        f"import os\nfrom covidxr.base.files import atomic_path\nwith atomic_path({str(out / 'a.png')!r}): os._exit(0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(out.glob(".covidxr-*.partial"))
    prepare(many, out, size=256)
    assert sorted(path.name for path in out.glob(".*")) == [".covidxr.json", ".covidxr.lock"]


def test_two_calls_at_once_do_not_fill_one_cache(many, tmp_path):
    first = _started(many, tmp_path / "cache", "--workers", "1", gated=True)
    try:
        _pictured(tmp_path / "cache", BEFORE, first)
        with pytest.raises(DataError, match="another call is writing here"):
            prepare(many, tmp_path / "cache", size=64)
    finally:
        first.kill()  # the system gives the lock back
        first.communicate()
    assert len(prepare(many, tmp_path / "cache", size=64))


@pytest.mark.parametrize("format", ["png", "jpg", "npy"])
@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
def test_every_shape_and_format_holds_the_picture_and_maps_boxes_back(many, tmp_path, fit, format):
    path = sorted(many.glob("train/*/*/*.dcm"))[0]
    index = prepare(path, tmp_path / "cache", size=96, fit=fit, format=format)
    file = tmp_path / "cache" / index["file"][0]
    picture = np.load(file) if format == "npy" else np.round(read_xray(file).pixels * 255)
    assert picture.shape == (96, 96) and picture.max() > 150
    height, width = index.loc[0, ["height", "width"]]
    box = pd.DataFrame(
        [(path.stem, 0.4 * width, 0.4 * height, 0.6 * width, 0.7 * height)], columns=["image_id", *BOX_COLUMNS]
    )
    back = from_cache(to_cache(box, index), index)
    assert np.allclose(back[BOX_COLUMNS], box[BOX_COLUMNS])
    with pytest.raises(DataError, match="choose another folder"):
        prepare(path, tmp_path / "cache", size=96, fit="pad" if fit == "crop" else "crop", format=format)


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
    files = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert {"x.png", "images.parquet", "failed.csv", ".covidxr.json"} <= {file.name for file in files}
    index = pd.read_parquet(tmp_path / "cache" / "images.parquet")
    texts = {file.name: file.read_bytes() for file in files} | {"the index, unpacked": index.to_csv().encode()}
    for name, raw in texts.items():
        assert b"Doe" not in raw and b"A hospital" not in raw, name
        assert str(tmp_path / "in").encode() not in raw or name == "failed.csv", name
    assert count_findings(index)["InstitutionName in the header"] == 1


def test_the_doctor_knows_what_is_here(covidxr):
    answer = covidxr("doctor", "--json")
    rows = {row["part"]: row for row in json.loads(answer.stdout)}
    assert answer.returncode == 0, answer.stdout
    assert rows["decoder of JPEG 2000"]["ok"] and rows["decoder of RLE"]["ok"] and rows["torch"]["ok"]
    assert "All that is needed is here." in covidxr("doctor").stdout


def test_the_doctor_names_the_cure(monkeypatch):
    from importlib import metadata

    from covidxr.doctor import check_installation

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    rows = {row["part"]: row for row in check_installation()}
    assert rows["timm"]["ok"] is False and rows["timm"]["text"] == "`pip install timm`"


def _pictures(folder: Path, values: dict[str, int]) -> list[Path]:
    "Grey pictures of one value each"
    for name, value in values.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((300, 200), value, np.uint8))
    return [folder / name for name in values]


def test_what_a_stopped_call_made_in_another_size_is_made_anew(tmp_path, monkeypatch):
    _pictures(tmp_path / "src", {f"i{number}.png": 200 for number in range(4)})
    write, written = pictures._write_picture, []

    def stop(coded, path):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(coded, path)

    monkeypatch.setattr(pictures, "_write_picture", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "src", tmp_path / "out", size=64, workers=1)
    monkeypatch.setattr(pictures, "_write_picture", write)
    index = prepare(tmp_path / "src", tmp_path / "out", size=128, fit="crop", workers=1)
    for row in index.itertuples():
        assert read_prepared(tmp_path / "out" / row.file).shape == (128, 128)
        assert (row.size, row.fit, row.scale) == (128, "crop", 0.64)


def test_files_of_one_name_are_told_apart_by_their_folders_and_uids_by_their_last_number(tmp_path):
    files = _pictures(
        tmp_path / "src", {"a/x.png": 200, "b/x.png": 50, "b/y.png": 90, "y.png": 10, "z.png": 1, "z.jpg": 2}
    )
    for source in (tmp_path / "src", files):
        index = prepare(source, tmp_path / "out", size=32, workers=1)
        assert index["image_id"].tolist() == ["a-x", "b-x", "b-y", "y", "z.jpg", "z.png"]
        shown = [cv2.imread(str(tmp_path / "out" / file), 0).max() for file in index["file"]]
        assert shown == [200, 50, 90, 10, 2, 1]
    with pytest.raises(DataError, match="two files would be called"):
        prepare([files[0], files[0]], tmp_path / "twice", size=32)
    uids = [shutil.copy(file, tmp_path / f"1.2.3.{number}") for number, file in enumerate(files[:2])]
    index = prepare([Path(file) for file in uids], tmp_path / "uids", size=32, workers=1)
    assert index["image_id"].tolist() == ["1.2.3.0", "1.2.3.1"] and index["file"].nunique() == 2


def test_no_original_is_ever_written_over(tmp_path, hashes):
    (file,) = _pictures(tmp_path / "one", {"a.png": 90})
    many = _pictures(tmp_path / "data", {f"i{number}.png": 50 + number for number in range(4)})
    (tmp_path / "data" / "images.csv").write_text(
        "file,label\n" + "".join(f"i{number}.png,{'ab'[number % 2]}\n" for number in range(4))
    )
    (tmp_path / "deep").mkdir()
    shutil.copytree(tmp_path / "one", tmp_path / "deep" / "raw")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    (tmp_path / "theirs").mkdir()  # small pictures and tables that somebody else made, of the names that we use
    for name in ("a.png", "i0.png", "x.jpg"):
        shutil.copy(file, tmp_path / "theirs" / name)
    for name in ("failed.csv", "images.parquet", ".unfinished"):
        (tmp_path / name.strip(".")).mkdir()
        (tmp_path / name.strip(".") / name).write_text("my,own\n")
    before = hashes(tmp_path)
    for name in ("theirs", "failed.csv", "images.parquet", "unfinished"):
        for source in (file, tmp_path / "one", many, tmp_path / "data"):
            with pytest.raises(DataError, match="choose a new or an empty folder"):
                prepare(source, tmp_path / name, size=32)
    for source, out in (
        (file, tmp_path / "one"),
        (file, tmp_path / "link"),
        (many, tmp_path / "data"),
        (tmp_path / "data", tmp_path / "data"),
        (tmp_path / "one", tmp_path / "one"),
        (tmp_path / "deep" / "raw", tmp_path / "deep"),
    ):
        with pytest.raises(DataError, match="choose another folder"):
            prepare(source, out, size=32)
    assert hashes(tmp_path) == before


def test_a_small_copy_is_not_made_of_itself_nor_of_a_link_to_it(many, tmp_path, hashes):
    file, cache = sorted(many.glob("train/*/*/*.dcm"))[0], tmp_path / "cache"
    small = cache / prepare(file, cache, size=32)["file"][0]
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / small.name).symlink_to(small)
    before = hashes(cache)
    for source in ([small], [tmp_path / "link" / small.name]):
        with pytest.raises(DataError, match="would take the place of an X-ray; choose another folder"):
            prepare(source, cache, size=32)
    assert hashes(cache) == before


def test_a_disc_without_endings_and_folders_behind_links_are_found(tmp_path, many):
    files = sorted(many.glob("train/*/*/*.dcm"))[:3]
    source = tmp_path / "disc"
    for path, name in zip(files, ("IM0001", "1.2.840.7", "deep/IM0002"), strict=True):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, source / name)
    (source / "README").write_text("no X-ray")
    (source / "notes.txt").write_text("no X-ray, but long enough to be asked" * 9)
    shutil.copy(files[0], source / "odd.txt")  # DICOM by its bytes, whatever its suffix says
    _pictures(tmp_path / "elsewhere", {"b.png": 50})
    (source / "link").symlink_to(tmp_path / "elsewhere")
    (source / "deep" / "up").symlink_to(source)
    names = prepare(source, tmp_path / "out", size=32)["source"].tolist()
    assert sorted(names) == ["1.2.840.7", "IM0001", "deep/IM0002", "link/b.png", "odd.txt"]


def test_what_cannot_be_looked_at_is_listed(tmp_path, phantom, monkeypatch):
    _pictures(tmp_path / "src", {"a.png": 90, "closed/b.png": 50})
    scan = os.scandir

    def refused(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refused)
    prepare(tmp_path / "src", tmp_path / "out", size=32)
    assert "closed: this folder cannot be looked into (Permission denied)" in read_failed(tmp_path / "out")["error"][0]
    monkeypatch.undo()
    shutil.copytree(phantom, tmp_path / "data")
    next((tmp_path / "data" / "train").glob("*/*/*.dcm")).unlink()
    prepare(tmp_path / "data", tmp_path / "out2", size=32)
    assert "its file is not there" in read_failed(tmp_path / "out2")["error"][0]


def test_odd_files_are_listed_and_hold_nothing_up(tmp_path, covidxr):
    source = tmp_path / "src"
    _pictures(source, {"a.png": 90, "thin.png": 20})
    cv2.imwrite(str(source / "thin.png"), np.zeros((1, 40_000), np.uint8))
    (source / "loop.dcm").symlink_to("loop.dcm")
    os.mkfifo(source / "pipe.png")
    shutil.copy(source / "a.png", os.fsencode(source) + b"/M\xfcller.png")
    (source / os.fsdecode(b"broken\xfc.png")).write_bytes(b"nothing")
    answer = covidxr("prepare", source, tmp_path / "out", "--fit", "crop", "--size", 64, "--json", timeout=60)
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    assert sorted(row["image_id"] for row in json.loads(answer.stdout)["failed"]) == [
        "broken%FC",
        "loop",
        "pipe",
        "thin",
    ]
    assert pd.read_parquet(tmp_path / "out" / "images.parquet")["image_id"].tolist() == ["M%FCller", "a"]


def test_an_error_that_nobody_thought_of_is_that_files(tmp_path, monkeypatch):
    _pictures(tmp_path / "src", {"a.png": 90, "b.png": 50})

    def fails(path, **options):
        if Path(path).stem == "b":
            raise RuntimeError("nobody thought of this")
        return read(path, **options)

    read = pictures.read_checked
    monkeypatch.setattr(pictures, "read_checked", fails)
    assert prepare(tmp_path / "src", tmp_path / "out", size=32)["image_id"].tolist() == ["a"]
    assert "RuntimeError: nobody thought of this" in read_failed(tmp_path / "out")["error"][0]


def test_what_a_power_cut_leaves_is_made_again(tmp_path):
    _pictures(tmp_path / "src", {f"i{number}.png": 50 + number for number in range(4)})
    out = tmp_path / "out"
    first = prepare(tmp_path / "src", out, size=32)
    whole = {file: (out / file).read_bytes() for file in first["file"]}
    (out / "i0.png").write_bytes(b"")
    (out / "i1.png").write_bytes(whole["i1.png"][:20])
    made = (out / "i2.png").stat().st_mtime_ns
    assert prepare(tmp_path / "src", out, size=32).equals(first)
    assert {file: (out / file).read_bytes() for file in whole} == whole
    assert (out / "i2.png").stat().st_mtime_ns == made
    (out / ".unfinished").mkdir()
    (out / ".unfinished" / "i2.json").write_bytes(b"")
    for broken in (b"", (out / "images.parquet").read_bytes()[:300]):
        (out / "images.parquet").write_bytes(broken)
        assert prepare(tmp_path / "src", out, size=32).equals(first)


def test_a_picture_that_cannot_be_cropped_takes_no_memory():
    with pytest.raises(DataError, match="cannot be cropped"):
        fit_square(np.zeros((1, 40_000), np.float32), 512, "crop")


def test_a_name_that_may_be_a_patients_is_told(tmp_path):
    _pictures(tmp_path / "src", {"DOE_JANE.png": 50, "IM0001.png": 60, "0a1b2c3d4e5f.png": 70, "Doe/IM0002.png": 80})
    index = prepare(tmp_path / "src", tmp_path / "out", size=32)
    assert index["image_id"][index["checks"].str.contains("may tell who")].tolist() == ["DOE_JANE", "IM0002"]


def test_a_cluster_in_another_folder_finds_relative_names_and_one_without_workers_is_said(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra 'scale' is not installed")
    _pictures(tmp_path / "src", {"i1.png": 50, "i2.png": 60})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers_room, "_PATIENCE", 0.5)
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None, "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=0, **options) as cluster:
        with pytest.raises(DataError, match="no workers"):
            prepare("src", "out", size=32, scheduler=cluster.scheduler_address)
        monkeypatch.chdir("/")
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=60)
        monkeypatch.chdir(tmp_path)
        assert len(prepare("src", "out", size=32, scheduler=cluster.scheduler_address)) == 2
    assert (tmp_path / "out" / "i1.png").exists()


def test_the_doctor_does_without_psutil(monkeypatch):
    from covidxr.doctor import check_installation

    monkeypatch.setitem(sys.modules, "psutil", None)
    rows = {row["part"]: row for row in check_installation()}
    assert rows["memory"]["ok"] is None and "pip install psutil" in rows["memory"]["text"]


def test_the_doctor_sees_a_decoder_that_gives_other_pixels(monkeypatch):
    import imagecodecs

    from covidxr.doctor import check_installation

    decode = imagecodecs.jpegls_decode
    monkeypatch.setattr(imagecodecs, "jpegls_decode", lambda stream: decode(stream)[::-1])
    rows = {row["part"]: row for row in check_installation()}
    assert rows["decoder of JPEG-LS"]["ok"] is False and rows["decoder of JPEG 2000"]["ok"]
    assert rows["decoder of High-Throughput JPEG 2000"]["ok"]


def test_threads_do_not_lose_what_was_noticed(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    import pydicom

    (tmp_path / "out" / ".unfinished").mkdir(parents=True)
    tasks = []
    for number in range(40):
        file = tmp_path / f"i{number}.dcm"
        write_dicom(file, np.full((40, 30), 2000), XrayFacts(f"i{number}"))
        if number % 2:
            ds = pydicom.dcmread(file)
            ds.PatientOrientation = ["R", "F"]
            ds.save_as(file)
        tasks.append(Task(f"i{number}", str(file), file.name, str(tmp_path / "out"), 32, "pad", "png"))
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(pictures.prepare_one, tasks))
    assert [row["checks"].count("orientation") for row in rows] == [number % 2 for number in range(40)]


def test_the_disk_has_a_file_before_it_gets_its_name(tmp_path, monkeypatch):
    from covidxr.base.files import write_text

    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("on disk"), sync(number)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("named"), replace(*names)))
    write_text("whole", tmp_path / "a.txt")
    write_text("whole", tmp_path / "b.txt", durable=False)
    assert done == ["on disk", "named", "named"]


def _source(folder: Path, count: int = 4) -> Path:
    _pictures(folder, {f"i{number}.png": 50 + number for number in range(count)})
    return folder


def test_a_picture_whose_xray_is_gone_or_cannot_be_read_any_more_does_not_stay(tmp_path, hashes):
    source, out = _source(tmp_path / "src"), tmp_path / "out"
    prepare(source, out, size=32)
    prepare(_pictures(tmp_path / "other", {"z.png": 9}), out, size=32)  # another source's stays
    (out / "mine.png").write_bytes(b"a stranger's")  # and what we did not make
    (out / "notes.txt").write_text("a stranger's")
    (source / "i0.png").unlink()
    (source / "i1.png").write_bytes(b"cut off")
    index = prepare(source, out, size=32)
    assert index["image_id"].tolist() == ["i2", "i3"]
    assert sorted(pd.read_parquet(out / "images.parquet")["image_id"]) == ["i2", "i3", "z"]
    assert sorted(path.name for path in out.glob("*.png")) == ["i2.png", "i3.png", "mine.png", "z.png"]
    assert read_failed(out)["image_id"].tolist() == ["i1"]
    assert (out / "mine.png").read_bytes() == b"a stranger's" == (out / "notes.txt").read_bytes()


def test_a_file_that_somebody_put_into_the_cache_is_never_written_over(tmp_path, hashes):
    source, out = _source(tmp_path / "src"), tmp_path / "out"
    prepare(source, out, size=32)
    (out / "new.png").write_bytes(b"a stranger's")
    _pictures(source, {"new.png": 99})
    (source / "i0.png").unlink()
    before = hashes(out)
    with pytest.raises(DataError, match="new.png: lies in the cache, but `prepare` did not make it; move it away"):
        prepare(source, out, size=32)
    assert {name: one for name, one in hashes(out).items() if not name.startswith(".")} == {
        name: one for name, one in before.items() if not name.startswith(".")
    }
    (out / "new.png").unlink()
    assert len(prepare(source, out, size=32)) == 4


def test_a_changed_index_cannot_lead_out_of_the_cache(tmp_path):
    source, out = _source(tmp_path / "src"), tmp_path / "out"
    index = prepare(source, out, size=32)
    (tmp_path / "precious.png").write_bytes(b"a stranger's")
    changed = index.assign(file=["../precious.png", *index["file"][1:]], image_id=["gone", *index["image_id"][1:]])
    changed.to_parquet(out / "images.parquet")
    (out / "i0.png").unlink()
    prepare(source, out, size=32)
    assert (tmp_path / "precious.png").read_bytes() == b"a stranger's"


@pytest.mark.parametrize("format", ["png", "jpg", "npy"])
def test_a_damaged_picture_is_made_again_and_the_index_holds_its_sha256(tmp_path, format, hashes):
    source, out = _source(tmp_path / "src", 6), tmp_path / "out"
    first = prepare(source, out, size=32, format=format)
    whole = hashes(out)
    assert all(whole[row.file] == row.sha256 for row in first.itertuples())
    for number in range(3):  # the first calls after a change look at each byte, the later ones at what was touched
        raw = (out / f"i0.{format}").read_bytes()
        (out / f"i0.{format}").write_bytes(raw[: len(raw) // 2])
        (out / f"i1.{format}").write_bytes(bytes(len(raw)))
        (out / f"i2.{format}").unlink()
        shutil.copy(out / f"i4.{format}", out / f"i3.{format}")
        os.utime(out / f"i3.{format}", ns=(1, 1))  # as a backup puts back an old one
        made = (out / f"i5.{format}").stat().st_mtime_ns
        assert prepare(source, out, size=32, format=format).equals(first), number
        assert hashes(out) == whole and (out / f"i5.{format}").stat().st_mtime_ns == made


def test_notes_go_before_their_pictures_so_that_none_is_unknown(tmp_path, monkeypatch):
    source, out = _source(tmp_path / "src"), tmp_path / "out"
    seen = []

    def stopped(coded, path):
        seen.append((path.parent / ".unfinished" / f"{path.stem}.json").exists())
        write(coded, path)
        if len(seen) == 2:
            raise KeyboardInterrupt

    write = pictures._write_picture
    monkeypatch.setattr(pictures, "_write_picture", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out, size=32, workers=1)
    monkeypatch.undo()
    assert seen == [True, True] and len(list(out.glob("*.png"))) == 2
    (out / ".unfinished" / "i1.json").write_bytes(b"")  # a power cut
    for name in ("i0.png", "i1.png"):
        (source / name).unlink()
    assert prepare(source, out, size=48)["image_id"].tolist() == ["i2", "i3"]
    assert sorted(path.name for path in out.glob("*.png")) == ["i2.png", "i3.png"]


@pytest.mark.parametrize("count, workers", [(1, None), (20, 1), (20, 2)])
def test_opencv_keeps_the_callers_threads(tmp_path, count, workers):
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        prepare(_source(tmp_path / "src", count), tmp_path / "out", size=32, workers=workers)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_names_deep_in_uid_folders_of_odd_bytes_and_of_250_bytes_stop_nothing(tmp_path):
    deep = "/".join(f"1.2.826.0.1.3680043.8.498.{digit * 38}" for digit in "4567")
    names = [f"{deep}1/00000001.png", f"{deep}2/00000001.png", "ü" * 123 + ".png", "good.png"]
    _pictures(tmp_path / "src", {"good.png": 90})
    for name in names[:3]:
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "src" / "good.png", tmp_path / "src" / name)
    shutil.copy(tmp_path / "src" / "good.png", os.fsencode(tmp_path / "src") + b"/M\xfcller\n.png")
    index = prepare(tmp_path / "src", tmp_path / "out", size=32)
    assert len(index) == 5 and len(read_failed(tmp_path / "out")) == 0
    assert all(len(name.encode()) <= 200 for name in index["image_id"]) and index["image_id"].is_unique
    assert all(read_prepared(tmp_path / "out" / name).shape == (32, 32) for name in index["file"])
    assert prepare(tmp_path / "src", tmp_path / "out", size=32).equals(index)


def test_files_can_come_in_any_sequence(tmp_path):
    files = _pictures(tmp_path / "src", {"a.png": 90, "b.png": 50})
    wanted = prepare(files, tmp_path / "out", size=32)
    ways = (tuple(files), (path for path in files), (tmp_path / "src").glob("*.png"), np.array([*map(str, files)]))
    for given in (*ways, [str(file) for file in files], str(tmp_path / "src")):
        assert prepare(given, tmp_path / "out", size=32)["image_id"].tolist() == ["a", "b"]
    assert prepare(str(files[0]), str(tmp_path / "one"), size=32)["sha256"].tolist() == wanted["sha256"].tolist()[:1]
    for odd in (None, 5, [5], [None], {1: 2}):
        with pytest.raises(DataError, match="give a dataset, a folder, or files"):
            prepare(odd, tmp_path / "odd", size=32)
    assert not (tmp_path / "odd").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        *({"size": size} for size in (0, -1, 7, 8193, 512.0, float("nan"), "512", True, None)),
        *({"workers": workers} for workers in (0, -1, 1.5, 10**6, "2")),
        *({"fit": fit} for fit in ("round", None, 3, ["pad"])),
        *({"format": format} for format in ("gif", "PNG", None, ["png"])),
    ],
)
def test_what_cannot_be_asked_for_is_said_before_a_byte_is_written(tmp_path, wrong):
    source = _source(tmp_path / "src", 1)
    with pytest.raises(DataError, match="must be"):
        prepare(source, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pixels", [np.zeros((0, 5)), np.zeros(5), np.zeros((2, 2, 3)), np.full((9, 9), np.nan), 3])
def test_fit_square_takes_pictures_only(pixels):
    with pytest.raises(DataError):
        fit_square(pixels, 16)


@pytest.mark.parametrize("shape", [(40, 80), (80, 40)], ids=["wide", "tall"])
@pytest.mark.parametrize(("fit", "size"), [("crop", 40), ("pad", 80)])
def test_each_pixel_lies_where_the_margins_say(shape, fit, size):
    pixels = np.random.default_rng(0).random(shape)
    fitted, place = fit_square(pixels, size, fit)
    off = {"crop": -20, "pad": 20}[fit]
    wanted = {"wide": (0, off), "tall": (off, 0)}["wide" if (shape[0] < shape[1]) == (fit == "crop") else "tall"]
    assert (place["left"], place["top"], place["scale"], place["scale_y"]) == (*wanted[::-1], 1, 1)
    for row in range(size):
        for column in range(size):
            y, x = row - wanted[0], column - wanted[1]
            inside = 0 <= y < shape[0] and 0 <= x < shape[1]
            assert fitted[row, column] == (round(255 * pixels[y, x]) if inside else 0)


def test_boxes_that_a_crop_has_cut_off_are_left_out_and_those_that_it_has_cut_are_cut():
    place = fit_square(np.ones((40, 80)), 40, "crop")[1]  # of 80 columns those from 20 to 60 stay
    index = pd.DataFrame([{"image_id": "a", "height": 40, "width": 80, "size": 40, **place}])
    rows = [("a", 0, 5, 15, 30), ("a", 10, 5, 30, 30), ("a", 30, 5, 70, 30), ("a", 60, 5, 80, 30)]
    kept = to_cache(pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS]), index)
    assert kept[BOX_COLUMNS].to_numpy().tolist() == [[0, 5, 10, 30], [10, 5, 40, 30]]


def test_stripes_that_are_finer_than_the_small_picture_become_grey_and_no_others():
    stripes = np.tile([0.0, 1.0], (400, 200))
    fitted, _ = fit_square(stripes, 56)  # seven of them to a pixel, and a little more
    assert np.abs(fitted.astype(int) - 128).max() < 40, "an average, not a picture of some of them (moire)"


def test_boxes_need_their_image_in_an_index_once():
    index = pd.DataFrame([{"image_id": "a", "height": 9, "width": 9, **fit_square(np.ones((9, 9)), 8)[1]}])
    box = pd.DataFrame([("a", 1.0, 1.0, 2.0, 2.0)], columns=["image_id", *BOX_COLUMNS])
    for way in (to_cache, from_cache):
        with pytest.raises(DataError, match="image b has a box but was not prepared"):
            way(box.assign(image_id="b"), index)
        with pytest.raises(DataError, match="image a appears twice"):
            way(box, pd.concat([index, index]))
        with pytest.raises(DataError, match="column x_max is missing"):
            way(box.drop(columns="x_max"), index)
        with pytest.raises(DataError, match="column scale is missing"):
            way(box, index.drop(columns="scale"))
        assert len(way(box[:0], index)) == 0 and len(way(box, index)) == 1


def test_read_failed_gives_back_what_was_told_and_knows_what_is_no_cache(tmp_path):
    said = 'a, "quoted"\nin two lines; \ttab, \r return and an odd \udcfc byte'
    rows = [{"image_id": name, "error": said} for name in ("NA", "null", "b")]
    settings = {"size": 8, "fit": "pad", "format": "png", "draft": False}
    index_room.write_index(tmp_path, [], rows, settings, 0)
    failed = read_failed(str(tmp_path))
    assert failed["image_id"].tolist() == ["NA", "b", "null"] and failed.index.tolist() == [0, 1, 2]
    assert set(failed["error"]) == {said.replace("\udcfc", "%FC")}
    with pytest.raises(DataError, match="failed.csv: no such file"):
        read_failed(tmp_path / "nowhere")
    (tmp_path / "failed.csv").write_text("my,own\n")
    with pytest.raises(DataError, match="image_id"):
        read_failed(tmp_path)


def test_an_image_that_is_called_NA_is_so_in_the_answer(tmp_path, covidxr):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "NA.dcm").write_bytes(b"no xray")
    answer = covidxr("prepare", tmp_path / "in", tmp_path / "out", "--json")
    assert [row["image_id"] for row in json.loads(answer.stdout, parse_constant=pytest.fail)["failed"]] == ["NA"]


def test_count_findings_counts_what_there_is():
    assert count_findings(pd.DataFrame({"checks": ["a; b", "", None, "b"]})) == {"b": 2, "a": 1}
    assert count_findings(pd.DataFrame({"checks": []})) == {}
    for odd in (pd.DataFrame(), None, "out", {"checks": []}):
        with pytest.raises(DataError, match="give what `prepare` returned"):
            count_findings(odd)


@pytest.mark.parametrize("format", ["png", "jpg", "npy"])
def test_a_small_picture_that_is_cut_off_is_refused(tmp_path, format):
    index = prepare(_source(tmp_path / "src", 1), tmp_path / "out", size=64, format=format)
    file = tmp_path / "out" / index["file"][0]
    raw = file.read_bytes()
    for length in (0, 1, 50, len(raw) // 2, len(raw) - 1):
        file.write_bytes(raw[:length])
        with pytest.raises(DataError, match="not an image that can be read"):
            read_prepared(file)
    np.save(tmp_path / "three.npy", np.zeros((2, 2, 3)))
    for odd in (tmp_path, tmp_path / "absent.png", tmp_path / "three.npy"):
        with pytest.raises(DataError, match="not an image that can be read"):
            read_prepared(odd)


def _npy(header: str, content: bytes = b"") -> bytes:
    "A file of NumPy's with any header"
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def test_a_picture_that_prepare_never_wrote_is_refused_whatever_its_header_says(tmp_path):
    shape = "{{'descr': '|u1', 'fortran_order': False, 'shape': {}, }}"
    whole = _npy(shape.format((2, 2)), b"abcd")
    (tmp_path / "right.npy").write_bytes(whole)
    assert read_prepared(str(tmp_path / "right.npy")).tolist() == [[97, 98], [99, 100]]
    archive = io.BytesIO()
    np.savez(archive, np.zeros((2, 2), np.uint8))
    pickled = io.BytesIO()
    np.save(pickled, np.array([[None]]), allow_pickle=True)
    depth = zlib.crc32(b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 60_000, 60_000, 8, 0, 0, 0, 0, depth)
    files = {
        "archive.npz": archive.getvalue(),
        "archive.npy": archive.getvalue(),
        "broken.npy": archive.getvalue()[:50],
        "pickled.npy": pickled.getvalue(),
        "cut.npy": whole[:-1],
        "magic.npy": whole[:7],
        "words.npy": _npy("import os"),
        "floats.npy": _npy(shape.format((1, 1)).replace("|u1", "<f8"), bytes(8)),
        "deep.npy": _npy(shape.format((1, 2, 2)), bytes(4)),
        "nothing.npy": _npy(shape.format((0, 4))),
        "memory.npy": _npy(shape.format((2**31, 2**31))),
        "numbers.npy": _npy(shape.format((2**70, 2**70))),
        "below.npy": _npy(shape.format((-1, 4)), bytes(4)),
        "huge.png": huge + b"\0\0\0\0IEND\xaeB`\x82",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: not an image that can be read"):
            read_prepared(tmp_path / name)
    for odd in (None, 5, b"a.png", "", "a\0.png"):
        with pytest.raises(DataError, match="not a file's name"):
            read_prepared(odd)


def test_two_threads_prepare_two_folders_at_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    for name in "ab":
        _source(tmp_path / name, 12)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(prepare, tmp_path / name, tmp_path / f"out-{name}", 32, 2) for name in "ab"]
        same = [pool.submit(prepare, tmp_path / "a", tmp_path / "out-a", 32, 1)]
        assert [len(job.result()) for job in jobs if not job.exception()] in ([12, 12], [12])
    for job in (*jobs, *same):  # the one that came second to one folder is refused in words
        assert job.exception() is None or "another call is writing here" in str(job.exception())
    assert len(prepare(tmp_path / "a", tmp_path / "out-a", size=32)) == 12


def test_an_error_in_the_midst_leaves_no_process(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = set(psutil.Process().children(recursive=True))
    monkeypatch.setattr(room, "write_index", full)
    with pytest.raises(OSError) as kept:  # the traceback holds the frames, as a notebook does
        prepare(_source(tmp_path / "src", 12), tmp_path / "out", size=32, workers=2)
    started = set(psutil.Process().children(recursive=True)) - before
    assert kept and not [one for one in started if "resource_tracker" not in " ".join(one.cmdline())]


def test_dask_leaves_the_callers_loggers_and_threads_alone(tmp_path):
    pytest.importorskip("distributed", reason="the extra 'scale' is not installed")
    _source(tmp_path / "src", 1)
    code = """
import logging, sys, threading
from covidxr.base import cluster
from covidxr.prepare import prepare

cluster._KNOCK = 0.5  # seconds; nobody will answer

def look():
    others = [logging.getLogger(name) for name in ("tornado", "tornado.application", "bokeh")]
    return [(one.level, one.handlers, one.propagate) for one in others]

before = look()
try:
    prepare(sys.argv[1], sys.argv[2], scheduler="tcp://127.0.0.1:1")
except Exception as error:
    print(type(error).__name__)
assert look() == before
assert not [one.name for one in threading.enumerate() if one.name == "IO loop"]
"""
    words = [sys.executable, "-c", code, str(tmp_path / "src"), str(tmp_path / "out")]
    answer = subprocess.run(words, capture_output=True, text=True)
    assert answer.returncode == 0 and answer.stdout.strip() == "DataError", answer.stderr


def test_a_copy_of_the_same_name_size_and_time_in_another_folder_is_another_patients(tmp_path):
    for folder, value in (("A", 100), ("B", 3000)):
        (tmp_path / folder).mkdir()
        pixels = np.full((40, 30), value)
        pixels[0] = 4095
        write_dicom(tmp_path / folder / "img1.dcm", pixels, XrayFacts("img1"))
        os.utime(tmp_path / folder / "img1.dcm", ns=(10**18, 10**18))  # as `cp -p` or an archive leaves it
    sizes = {(tmp_path / folder / "img1.dcm").stat().st_size for folder in "AB"}
    assert len(sizes) == 1
    for folder, value in (("A", 100), ("B", 3000), ("A", 100)):
        if folder == "B":  # whoever prepared A has an index that names A's picture
            with pytest.raises(DataError, match="holds the small copy of another X-ray under the id img1"):
                prepare(tmp_path / "B", tmp_path / "cache A", size=40)
        index = prepare(tmp_path / folder, tmp_path / f"cache {folder}", size=40)
        shown = read_prepared(tmp_path / f"cache {folder}" / index["file"][0])
        assert shown[20, 20] == pytest.approx(255 * value / 4095, abs=1), folder


@pytest.mark.parametrize("pixels", [np.full((8, 8), 3, np.uint8), np.ones((8, 8), complex), [[0.5]]])
def test_what_is_no_picture_from_0_to_1_is_not_fitted(pixels):
    with pytest.raises(DataError, match="numbers from 0 to 1"):
        fit_square(pixels, 8)
