"Many X-rays to a cache: nothing lost, nothing half-written, nothing done twice, whatever stops the work."

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import psutil
import pytest
from gates import BEFORE, CALL, poisoned

from covidxr import prepare as room
from covidxr.core import BOX_COLUMNS, DataError
from covidxr.dicom import XrayFacts, read_xray, write_dicom
from covidxr.phantom import simulate_dataset
from covidxr.prepare import fit_square, from_cache, prepare, privacy, read_failed, to_cache

HERE = str(Path(__file__).parent)
KILLS = int(os.environ.get("COVIDXR_KILLS", "8"))  # of the chaos; what is reported is measured with 50


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    "A folder of simulated X-rays that takes some seconds to prepare"
    folder = tmp_path_factory.mktemp("many") / "data"
    simulate_dataset(folder, studies=60, seed=3, size=160)
    return folder


def _started(source: Path, out: Path, *words: str, gated: bool = False, **options) -> subprocess.Popen:
    "The command at work; behind a gate it waits after some pictures, see `gates`"
    start = [sys.executable, "-c", CALL, HERE] if gated else [str(Path(sys.executable).with_name("covidxr"))]
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
        made = {name: (out / row["file"]).stat().st_mtime_ns for name, row in room._noted(out).items()}
        if (out / "images.parquet").exists():  # all was there already: then nothing is done again, either
            made = {path.stem: path.stat().st_mtime_ns for path in out.glob("*.png")}
        assert made
        assert _started(many, out).wait() == 0
        assert hashes(out) == whole
        assert all((out / f"{name}.png").stat().st_mtime_ns == when for name, when in made.items()), "done again"
        shutil.rmtree(out)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_chaos__killed_damaged_and_mended_at_random_the_last_call_gives_what_one_undisturbed_call_gives(tmp_path):
    command = [sys.executable, str(Path(HERE) / "chaos.py"), "prepare", str(tmp_path), str(KILLS)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    print(answer.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stopped_call_says_that_the_next_one_goes_on_and_leaves_no_process(many, tmp_path, number, workers):
    out = tmp_path / "cache"
    process = _started(many, out, "--workers", workers, gated=True, stderr=subprocess.PIPE, text=True)
    _pictured(out, BEFORE, process)
    time.sleep(0.5)  # all processes are at the gate, which never opens: the call cannot end by itself
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
        tasks.append(room._Task(name, str(tmp_path / f"{name}.dcm"), name, str(tmp_path), 64, "pad", "png"))
    monkeypatch.setattr(room, "_prepare_one", poisoned)
    rows = list(room._one_by_one(tasks))
    assert ["error" in row for row in rows] == [False, True, False]
    assert "ended the process" in rows[1]["error"] and "poison" in rows[1]["error"]


@pytest.mark.parametrize("good", [11, 25])
def test_a_file_that_ends_every_process_does_not_end_the_call(tmp_path, monkeypatch, good):
    _pictures(tmp_path / "src", {name: 99 for name in [*(f"i{number}.png" for number in range(good)), "poison.png"]})
    monkeypatch.setattr(room, "_prepare_one", poisoned)
    index = prepare(tmp_path / "src", tmp_path / "out", size=32, workers=2)
    failed = read_failed(tmp_path / "out")
    assert (
        len(index) == good and failed["image_id"].tolist() == ["poison"] and "ended the process" in failed["error"][0]
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_few_files_ended_is_set_apart_by_the_next_call(tmp_path, workers):
    _pictures(tmp_path / "src", {name: 99 for name in ("i1.png", "i2.png", "i3.png", "i4.png", "poison.png")})
    code = (
        f"import sys; sys.path.insert(0, {HERE!r})\n"
        "import gates\nfrom covidxr import prepare as room\nroom._prepare_one = gates.poisoned\n"
        f"print(len(room.prepare({str(tmp_path / 'src')!r}, {str(tmp_path / 'out')!r}, size=32, workers={workers})))"
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
    out = tmp_path / "cache"
    process = _started(many, out, "--workers", "1", gated=True)
    _pictured(out, BEFORE, process)
    code = f"import os\nfrom covidxr.core import atomic_path\nwith atomic_path({str(out / 'a.png')!r}): os._exit(0)"
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
    for name, value in values.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((300, 200), value, np.uint8))
    return [folder / name for name in values]


def test_what_a_stopped_call_made_in_another_size_is_made_anew(tmp_path, monkeypatch):
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


def test_a_disc_without_endings_and_folders_behind_links_are_found(tmp_path, many):
    files = sorted(many.glob("train/*/*/*.dcm"))[:3]
    source = tmp_path / "disc"
    for path, name in zip(files, ("IM0001", "1.2.840.7", "deep/IM0002"), strict=True):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, source / name)
    (source / "README").write_text("no X-ray")
    (source / "notes.txt").write_bytes(files[0].read_bytes())
    _pictures(tmp_path / "elsewhere", {"b.png": 50})
    (source / "link").symlink_to(tmp_path / "elsewhere")
    (source / "deep" / "up").symlink_to(source)
    names = prepare(source, tmp_path / "out", size=32)["source"].tolist()
    assert sorted(names) == ["1.2.840.7", "IM0001", "deep/IM0002", "link/b.png"]


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
    answer = covidxr("prepare", source, tmp_path / "out", "--square", "crop", "--size", 64, "--json", timeout=60)
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

    read = room.read_checked
    monkeypatch.setattr(room, "read_checked", fails)
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
    monkeypatch.setattr(room, "_PATIENCE", 0.5)
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
    from covidxr import cli

    monkeypatch.setitem(sys.modules, "psutil", None)
    rows = {row["part"]: row for row in cli.examine()}
    assert rows["memory"]["ok"] is None and "pip install psutil" in rows["memory"]["text"]


def test_the_doctor_sees_a_decoder_that_gives_other_pixels(monkeypatch):
    import imagecodecs

    from covidxr import cli

    decode = imagecodecs.jpegls_decode
    monkeypatch.setattr(imagecodecs, "jpegls_decode", lambda stream: decode(stream)[::-1])
    rows = {row["part"]: row for row in cli.examine()}
    assert rows["decoder of JPEG-LS"]["ok"] is False and rows["decoder of JPEG 2000"]["ok"]
    assert rows["decoder of High-Throughput JPEG 2000"]["ok"]


def test_threads_do_not_lose_what_was_noticed(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    import pydicom

    from covidxr import prepare as room

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


def test_the_disk_has_a_file_before_it_gets_its_name(tmp_path, monkeypatch):
    from covidxr.core import write_text

    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("on disk"), sync(number)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("named"), replace(*names)))
    write_text("whole", tmp_path / "a.txt")
    write_text("whole", tmp_path / "b.txt", durable=False)
    assert done == ["on disk", "named", "named"]
