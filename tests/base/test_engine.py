"The engine room: files that are ours, answers in their order, fingerprints that tell things apart."

import os
import subprocess
import sys

import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.base.files import _host, owned_file, owned_folder
from covidxr.base.process import in_processes
from covidxr.runs.run import fingerprint


def test_only_what_a_process_of_this_machine_that_is_no_more_left_is_swept_away(tmp_path):
    own = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    gone, here, there = int(own.stdout), _host(), "0123abcd"
    assert here != there
    ours = [f".covidxr-{here}-{gone}-0123abcd.partial", f"sub/deep/.covidxr-{here}-{gone}-89abcdef.partial"]
    others = [
        f".covidxr-{here}-{os.getpid()}-0123abcd.partial",  # at work
        f".covidxr-{there}-{gone}-0123abcd.partial",  # another machine's, which shares the disk
        f".covidxr-{here}-{gone}-0123abcd.partial.txt",
        f".covidxr-{here}-{gone}.partial",
    ]
    with owned_folder(tmp_path, "cache"):
        pass
    for name in (*ours, *others):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("half")
    with owned_folder(tmp_path, "cache"):
        left = {name for name in (*ours, *others) if (tmp_path / name / "file").exists()}
    assert left == set(others)


def test_a_file_of_ours_stays_ours_where_a_call_ends_between_its_note_and_its_name(tmp_path, monkeypatch):
    path, rename = tmp_path / "s.csv", os.replace

    def write(text: str) -> None:
        with owned_file(path) as partial:
            partial.write_text(text)

    def ended(source: os.PathLike, target: os.PathLike) -> None:
        if target == path:
            raise KeyboardInterrupt
        rename(source, target)

    write("first")
    monkeypatch.setattr(os, "replace", ended)
    with pytest.raises(KeyboardInterrupt):
        write("second")
    monkeypatch.undo()
    assert path.read_text() == "first"
    write("third")
    assert path.read_text() == "third"
    for text in ("second", "somebody's own"):  # the one never got its name, so it never was ours
        path.write_text(text)
        with pytest.raises(DataError, match="did not write it as it is"):
            write("fourth")
        assert path.read_text() == text


@pytest.mark.parametrize("batch", [1, 4])
def test_answers_of_processes_come_in_the_order_of_what_was_asked(batch):
    asked = list(range(30))  # more than wait at a time
    assert list(in_processes(str, asked, 2, batch=batch)) == [str(number) for number in asked]


def test_a_fingerprint_keeps_its_parts_their_order_and_their_kinds_apart():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    parts = [
        (1, 23), (12, 3), (3, 12), ("1", "23"), (123,), ([1, 23],), ("a", "bc"), ("ab", "c"), (None,), ("",), (),
        ("x", table), (table, "x"), (table[["b", "a"]],), (table.iloc[::-1],), (table.rename(columns={"a": "c"}),),
        (table.assign(a=[1, 3]),), (table.iloc[:1], table.iloc[1:]), (table,),
    ]  # fmt: skip
    assert len({fingerprint(*one) for one in parts}) == len(parts)
    assert fingerprint(1, "x", table) == fingerprint(1, "x", table.copy()) and len(fingerprint(1)) == 32
