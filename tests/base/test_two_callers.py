"A call that begins while another one begins at the same place: it is told so, or goes on, and never takes it for a stranger"

import os
import subprocess
import time

import psutil
import pytest

from covidxr.base import files
from covidxr.base.errors import DataError
from covidxr.base.files import MARK, atomic_path, check_file, check_folder, owned_file, owned_folder, sweep


@pytest.mark.parametrize("claim", [None, {"seed": 1}])
def test_a_mark_that_comes_between_two_looks_is_ours(tmp_path, monkeypatch, claim):
    look, first = files._mark, []

    def late(folder):
        if not first:  # the other call has made the folder, and marks it after this look
            first.append(look(folder))
            with owned_folder(folder, "cache", claim):
                (folder / "xray.png").write_bytes(b"")
            return first[0]
        return look(folder)

    monkeypatch.setattr(files, "_mark", late)
    check_folder(tmp_path, "cache", claim)
    assert first == [None] and (tmp_path / MARK).exists()


def test_a_mark_that_comes_between_two_looks_may_be_of_another_kind(tmp_path, monkeypatch):
    look, first = files._mark, []

    def late(folder):
        if not first:
            first.append(look(folder))
            with owned_folder(folder, "run", None):
                pass
            return first[0]
        return look(folder)

    monkeypatch.setattr(files, "_mark", late)
    with pytest.raises(DataError, match="holds a run that covidxr wrote"):
        check_folder(tmp_path, "cache")


def test_a_strangers_file_is_one_however_often_we_look(tmp_path):
    (tmp_path / "theirs.txt").write_text("x")
    with pytest.raises(DataError, match="'theirs.txt', which covidxr did not write"):
        check_folder(tmp_path, "cache")


def test_a_file_that_another_call_has_just_written_is_ours(tmp_path, monkeypatch):
    path, sum_of, once = tmp_path / "submission.csv", files.file_sha256, []
    with owned_file(path) as partial:
        partial.write_text("first")

    def late(file):
        if file == path and not once:  # the other call writes between our look at its note and our look at its file
            once.append(True)
            with owned_file(path) as partial:
                partial.write_text("second")
        return sum_of(file)

    monkeypatch.setattr(files, "file_sha256", late)
    assert sum_of(path) in check_file(path)
    assert once and path.read_text() == "second" and os.listdir(tmp_path).count("submission.csv") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows keeps no processes that have ended")
def test_what_a_killed_process_left_goes_also_before_its_parent_has_taken_note(tmp_path):
    "A killed process is still listed until then, and its half-written file had stayed for good"
    ended, lives = subprocess.Popen(["true"]), subprocess.Popen(["sleep", "60"])
    try:
        while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        with atomic_path(tmp_path / "x.txt") as partial:
            machine = partial.parent.name.split("-")[1]
            partial.touch()
        names = {one: f".covidxr-{machine}-{one.pid}-0a1b2c3d.partial" for one in (ended, lives)}
        for name in names.values():
            (tmp_path / name).mkdir()
        sweep(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([names[lives], "x.txt"])
    finally:
        lives.kill()
        for one in (ended, lives):
            one.wait()
