"""Machines and programs around us that lack what most have: disks without locks, no stream for errors, processes that may start none."""

import errno
import io
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from covidxr.base import files
from covidxr.base.errors import DataError
from covidxr.base.files import LOCK, check_folder, folder_kind, locked, owned_folder
from covidxr.base.progress import log_line
from covidxr.cli import main
from covidxr.dataset import open_dataset
from covidxr.hospital import simulate_dataset
from covidxr.prepare import prepare
from covidxr.scale import run_many

fcntl = pytest.importorskip("fcntl", reason="Windows has locks of another kind")
NO_LOCKS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]


def _pictures(folder: Path, many: int) -> Path:
    "Some X-rays, as far as `prepare` can tell"
    folder.mkdir()
    for number in range(many):
        shades = np.random.default_rng(number).integers(0, 256, (40, 40), np.uint8)
        cv2.imwrite(str(folder / f"x{number}.png"), shades)
    return folder


@pytest.fixture(params=NO_LOCKS, ids=errno.errorcode.get)
def without_locks(request, monkeypatch):
    "A disk that says of locks what Lustre, NFS without its daemon and some cloud folders say"

    def flock(file: int, how: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(files, "_TOLD", set())


def test_a_disk_without_locks_is_written_to_and_what_that_means_is_said_once(without_locks, tmp_path, capsys):
    xrays = _pictures(tmp_path / "xrays", 3)
    for _ in range(2):
        assert len(prepare(xrays, tmp_path / "cache", size=32, workers=1)) == 3
    assert main(["app", "--export", str(tmp_path / "space")]) == 0
    said = capsys.readouterr().err
    assert said.count("this disk has no locks, so nothing keeps two calls apart there") == 1 and "cache" in said
    assert (tmp_path / "cache" / LOCK).read_bytes() == b""  # nothing that another call could take for a lock


def test_a_folder_goes_from_disks_with_locks_to_those_without_and_back(tmp_path, monkeypatch):
    real = fcntl.flock

    def none(file: int, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    for flock in (real, none, real):
        monkeypatch.setattr(fcntl, "flock", flock)
        with owned_folder(tmp_path / "run", "run"):
            assert folder_kind(tmp_path / "run") == "run"
    with owned_folder(tmp_path / "run", "run"), pytest.raises(DataError, match="another call is writing here"):
        owned_folder(tmp_path / "run", "run").__enter__()


def test_a_call_that_was_killed_on_a_disk_without_locks_is_no_stranger(without_locks, tmp_path):
    (tmp_path / "new").mkdir()
    with locked(tmp_path / "new" / LOCK, 0):
        check_folder(tmp_path / "new", "cache")  # before its mark is written, only its lock lies there
    check_folder(tmp_path / "new", "cache")


def test_lessons_and_progress_need_no_locks(without_locks, tmp_path, monkeypatch):
    from covidxr.course.folder import course_model
    from covidxr.course.progress import remember, solved

    monkeypatch.setenv("COVIDXR_COURSE", str(tmp_path / "course"))
    monkeypatch.setenv("COVIDXR_COURSE_SIZE", "30")
    monkeypatch.setenv("COVIDXR_PROGRESS", str(tmp_path / "progress.json"))
    found = course_model("net", lambda folder: (folder / "config.json").write_text("{}"))
    assert found == course_model("net", lambda folder: pytest.fail("it is there"))
    assert remember("metrics.1") == "" and solved() == ["metrics.1"]


def test_a_fault_of_a_lock_that_is_no_lack_of_locks_is_an_error(tmp_path, monkeypatch):
    def flock(file: int, how: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error.*covidxr.lock"), owned_folder(tmp_path / "run", "run"):
        pass


class _Log:
    "What supervisors and programs with windows put in the place of a stream"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def _closed() -> io.TextIOWrapper:
    stream = open(os.devnull, "w", encoding="utf-8")
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [lambda: None, _Log, _closed], ids=["none", "a logger", "a closed one"])
def test_work_needs_no_stream_for_errors(stream, tmp_path, monkeypatch, capsys):
    xrays, stream = _pictures(tmp_path / "xrays", 10), stream()
    monkeypatch.setattr(sys, "stderr", stream)
    assert len(prepare(xrays, tmp_path / "cache", size=32, workers=2)) == 10
    simulate_dataset(tmp_path / "data", studies=3, size=64, workers=1)
    assert len(open_dataset(tmp_path / "data").images)
    log_line("a line of progress")
    assert main(["score", str(tmp_path / "absent"), str(tmp_path / "absent.csv"), "--json"]) == 2
    assert capsys.readouterr().out == ""  # neither progress nor an error lies where a program reads the answer
    if isinstance(stream, _Log):
        assert "a line of progress" in stream.text and "covidxr: " in stream.text


def test_a_command_whose_streams_are_closed_works_and_writes_nothing_into_its_files(tmp_path):
    xrays = _pictures(tmp_path / "xrays", 10)
    start = f"{sys.executable} -c 'import sys; from covidxr.cli import main; sys.exit(main())'"
    words = f"prepare {xrays} {tmp_path / 'cache'} --size 32 --json"
    done = subprocess.run(["bash", "-c", f"{start} {words} 2>&-"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and json.loads(done.stdout)["prepared"] == 10
    (tmp_path / "xrays" / "broken.png").write_bytes(b"no picture")
    done = subprocess.run(["bash", "-c", f"{start} {words} >&- 2>&-"], capture_output=True, timeout=300)
    assert done.returncode == 1 and done.stdout + done.stderr == b""
    done = subprocess.run(["bash", "-c", f"{start} score --json 2>&-"], capture_output=True, timeout=300)
    assert done.returncode == 2 and done.stdout == b""  # how it is called is told to nobody
    assert len(pd.read_parquet(tmp_path / "cache" / "images.parquet")) == 10


CALL = """
import json, os, sys
from covidxr.prepare import prepare

if sys.argv[3:]:  # a program's own file gets the number of the closed stream, as it would without us
    taken = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT)
    assert taken in (1, 2)
made = len(prepare(sys.argv[1], sys.argv[2] + "/cache", size=32, workers=2))
with open(sys.argv[2] + "/answer.json", "w") as file:
    json.dump(made, file)
"""


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-", ">&-"])
@pytest.mark.parametrize("taken", [False, True])
def test_a_program_whose_streams_are_closed_prepares_all_and_keeps_its_files(tmp_path, closed, taken):
    if taken and closed.startswith("<"):
        pytest.skip("the program's file gets another number")
    xrays, place, own = _pictures(tmp_path / "xrays", 20), tmp_path / "out", tmp_path / "own"
    place.mkdir()
    words = [sys.executable, "-c", CALL, str(xrays), str(place)]
    words = [*words, str(own)] if taken else words
    call = " ".join(shlex.quote(word) for word in words)
    done = subprocess.run(["bash", "-c", f"{call} {closed}"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((place / "answer.json").read_text()) == 20, (place / "cache" / "failed.csv").read_text()
    assert not taken or own.read_bytes() == b"", "what is printed is not written into a file of the program"


def test_streams_that_stand_in_stay_until_the_last_call_has_ended(tmp_path):
    code = "\n".join(
        [
            "import os, sys",
            "from covidxr.base.progress import standing_streams",
            "first, second = standing_streams(), standing_streams()",
            "first.__enter__(), second.__enter__()",
            "assert os.fstat(2) and sys.stderr is not None",
            "first.__exit__(None, None, None)",
            "assert os.fstat(2), 'the second call still needs it'",
            "second.__exit__(None, None, None)",
            "assert sys.stderr is None",
            "try:",
            "    os.fstat(2)",
            "except OSError:",
            "    sys.exit(7)",
        ]
    )
    call = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} 2>&-"
    assert subprocess.run(["bash", "-c", call], timeout=300).returncode == 7


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".dcm")}


def _lost(number: int, why: str) -> str:
    return why


def _as_a_worker(place: Path) -> tuple:
    "What our calls answer where no process may be started"
    from covidxr.base.process import at_once

    index = prepare(place / "xrays", place / "cache", size=32, workers=2)
    simulate_dataset(place / "data", studies=10, seed=1, size=64, workers=2)
    answers = dict(run_many(abs, list(range(-20, 0)), _lost, workers=2))
    try:
        at_once(abs, [1, 2])
    except RuntimeError as error:
        return len(index), answers, str(error)
    return ()


def test_a_daemonic_worker_does_all_by_itself_and_gives_the_same_answers(tmp_path, capfd):
    _pictures(tmp_path / "xrays", 12)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        images, answers, refused = pool.apply(_as_a_worker, (tmp_path,))
    assert images == 12 and answers == {number: -number for number in range(-20, 0)}
    assert "may start no others" in refused and "use one GPU" in refused
    assert "does all the work alone" in capfd.readouterr().err
    prepare(tmp_path / "xrays", tmp_path / "cache here", size=32, workers=2)
    simulate_dataset(tmp_path / "data here", studies=10, seed=1, size=64, workers=2)
    for name in ("cache", "data"):
        assert _files(tmp_path / name) == _files(tmp_path / f"{name} here") and _files(tmp_path / name)


def test_a_full_disk_is_told_with_the_file_that_found_no_room(tmp_path):
    with pytest.raises(OSError, match="No space left on device.*cache.images.parquet") as told:
        with files.atomic_path(tmp_path / "cache" / "images.parquet"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert told.value.filename == str(tmp_path / "cache" / "images.parquet")
    assert list((tmp_path / "cache").iterdir()) == []
