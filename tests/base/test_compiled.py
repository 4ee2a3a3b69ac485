"Compiled loops are kept where that is possible, work where it is not, and nobody else's machine code is run."

import importlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import covidxr
from covidxr.base import compiled as room

LOOP = "from covidxr.base.compiled import compiled\n\n\n@compiled\ndef {name}(x):\n    return {value}\n"


@pytest.fixture
def program(tmp_path, monkeypatch):
    "A folder of modules of compiled functions; program(names) imports them afresh, as a new process would"
    pytest.importorskip("numba")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "program"
    folder.mkdir(mode=0o755)
    monkeypatch.syspath_prepend(str(folder))

    def write(**values: str) -> None:
        for name, value in values.items():
            text = LOOP.format(name=name, value=value)
            (folder / f"loop_{name}.py").write_text(
                text.replace("@", "from loop_inner import inner\n\n\n@", name == "outer")
            )

    def fresh(name: str):
        for other in [other for other in sys.modules if other.startswith("loop_")]:
            del sys.modules[other]
        importlib.invalidate_caches()
        return getattr(importlib.import_module(f"loop_{name}"), name)

    fresh.folder, fresh.write = folder, write
    write(double="2.0 * x")
    yield fresh
    for other in [other for other in sys.modules if other.startswith("loop_")]:
        del sys.modules[other]


def _kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.covidxr"))


def _found(function) -> int:
    "How many of a function's kinds of arguments came from disk"
    return sum(function.stats.cache_hits.values())


def test_what_is_compiled_once_is_found_again_for_each_kind_of_arguments(program):
    for found in (0, 2):
        double = program("double")
        assert double(3.0) == 6.0 and double(np.array([1.0, 2.0])).tolist() == [2.0, 4.0]
        assert _found(double) == found
    assert {one.parent.name for one in _kept(program.folder)} == {"__pycache__"} and len(_kept(program.folder)) == 2


class _Foreign:
    "Runs code where it is unpickled"

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_a_damaged_or_foreign_file_is_neither_run_nor_in_the_way_and_is_replaced(program, tmp_path):
    program("double")(3.0)
    (kept,) = _kept(program.folder)
    good, marker = kept.read_bytes(), tmp_path / "run"
    foreign = pickle.dumps(_Foreign(marker))
    spoilt = [b"", b"\x00", good[:-1], good[:31], good[: len(good) // 2], good + b"\x00", foreign, good[:32] + foreign]
    for place in range(0, len(good), max(len(good) // 12, 1)):  # one wrong bit, also within the machine code
        spoilt.append(good[:place] + bytes([good[place] ^ 16]) + good[place + 1 :])
    for raw in spoilt:
        kept.write_bytes(raw)
        double = program("double")
        assert double(3.0) == 6.0 and _found(double) == 0 and not marker.exists()
        again = program("double")
        assert again(3.0) == 6.0 and _found(again) == 1


def test_a_loop_is_compiled_anew_when_a_loop_of_another_module_that_it_calls_has_changed(program):
    program.write(inner="x + 1.0", outer="10.0 * inner(x)")
    assert program("outer")(1.0) == 20.0
    assert _found(again := program("outer")) == 0 and again(1.0) == 20.0 and _found(again) == 1
    program.write(inner="x + 2.0")
    assert program("outer")(1.0) == 30.0
    program.write(outer="20.0 * inner(x)")
    assert program("outer")(1.0) == 60.0


def _file_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("")


def test_where_no_folder_can_be_written_the_function_works_and_nothing_is_kept(program, tmp_path, monkeypatch):

    for folder in (tmp_path / "named", program.folder / "__pycache__", tmp_path / "home"):
        _file_in_its_place(folder)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    double = program("double")
    assert double(3.0) == 6.0 and double.stats.cache_path is None and not _kept(tmp_path)


def test_a_folder_that_fails_between_import_and_call_or_a_full_disk_costs_only_the_keeping(program, monkeypatch):
    double = program("double")
    _file_in_its_place(program.folder / "__pycache__")
    assert double(3.0) == 6.0
    (program.folder / "__pycache__").unlink()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room, "atomic_path", full)
    assert program("double")(3.0) == 6.0 and not _kept(program.folder)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders of Windows have no mode")
def test_nothing_is_read_from_a_folder_in_which_others_can_write(program, tmp_path, monkeypatch):

    named = tmp_path / "named"
    named.mkdir(mode=0o700)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(named))
    assert program("double")(3.0) == 6.0
    (kept,) = _kept(named)  # where the folder is ours alone it is the first choice
    os.chmod(kept.parent, 0o777)
    double = program("double")
    assert double(3.0) == 6.0 and _found(double) == 0 and "__pycache__" in double.stats.cache_path
    os.chmod(kept.parent, 0o700)
    named.chmod(0o777)  # somebody could put another folder in its place
    assert "__pycache__" in program("double").stats.cache_path
    (program.folder / "__pycache__").chmod(0o777)  # more open than the program's own folder
    assert program("double").stats.cache_path.startswith(str(tmp_path / "home"))
    (tmp_path / "home").chmod(0o777)
    double = program("double")
    assert double(3.0) == 6.0 and double.stats.cache_path is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_another_users_files_and_folders_are_not_read(program, tmp_path):
    program("double")(3.0)
    (kept,) = _kept(program.folder)
    os.chown(kept, 12345, -1)
    double = program("double")
    assert double(3.0) == 6.0 and _found(double) == 0
    assert _kept(program.folder)[0].stat().st_uid == 0  # replaced by our own
    os.chown(kept.parent, 12345, -1)
    assert program("double").stats.cache_path.startswith(str(tmp_path / "home"))


def test_processes_that_compile_at_once_all_work_and_leave_one_good_file(program, tmp_path):
    code = "from loop_double import double; import numpy as np; print(double(3.0), double(np.ones(2)).tolist())"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(program.folder), str(Path(covidxr.__file__).parents[1])])
    }
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [one.communicate()[0] for one in started] == ["6.0 [2.0, 2.0]\n"] * 4
    double = program("double")
    assert double(3.0) == 6.0 and double(np.ones(2)).tolist() == [2.0, 2.0] and _found(double) == 2
    left = [one.name for one in (program.folder / "__pycache__").iterdir() if one.suffix not in (".covidxr", ".pyc")]
    assert not left and len(_kept(program.folder)) == 2


SCORE = """
import numba, sys, warnings
before, filters = {name: value for name, value in vars(numba.config).items() if name.isupper()}, list(warnings.filters)
import covidxr.submission, covidxr.ensemble_boxes
from covidxr.metrics import average_precision
import pandas as pd
truth = pd.DataFrame([("a", 0, 0, 4, 4)], columns=["id", "x_min", "y_min", "x_max", "y_max"])
print(average_precision(truth, truth.assign(confidence=1.0)), covidxr.__file__)
assert {name: value for name, value in vars(numba.config).items() if name.isupper()} == before
assert [one for one in filters if one not in warnings.filters] == []
"""


@pytest.mark.parametrize("options", [{}, {"NUMBA_DISABLE_JIT": "1"}], ids=["compiled", "plain Python"])
def test_the_library_scores_without_any_folder_to_write_and_leaves_numbas_settings(tmp_path, options):
    "A read-only installation without a home, as in many containers; a file in a folder's place stops root, too"
    installed = tmp_path / "covidxr"
    shutil.copytree(Path(covidxr.__file__).parent, installed, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in {one.parent for one in installed.rglob("*.py")}:
        (folder / "__pycache__").write_text("")
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG"))}
    environment |= {"PYTHONPATH": str(tmp_path), "HOME": str(nowhere), "NUMBA_CACHE_DIR": str(nowhere / "cache")}
    answer = subprocess.run(
        [sys.executable, "-c", SCORE], env=environment | options, capture_output=True, text=True, cwd=tmp_path
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"1.0 {installed / '__init__.py'}\n" and not _kept(tmp_path)
