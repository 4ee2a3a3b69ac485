"A call that begins while another one begins at the same place: it is told so, or goes on, and never takes it for a stranger"

import os

import pytest

from covidxr.base import files
from covidxr.base.errors import DataError
from covidxr.base.files import MARK, check_file, check_folder, owned_file, owned_folder


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
