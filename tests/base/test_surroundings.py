"""Machines and programs around us that lack what most have: disks without locks, no stream for errors, processes that may start none."""

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from covidxr.base import files
from covidxr.base.errors import DataError
from covidxr.base.files import LOCK, check_folder, folder_kind, locked, owned_folder
from covidxr.cli import main
from covidxr.prepare import prepare

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
