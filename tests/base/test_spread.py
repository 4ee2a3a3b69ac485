"The tests of a file run in one process, and whoever loses that is told."

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CONFTEST = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import spread
from spread import pytest_xdist_make_scheduler
def pytest_configure(config):
    spread.watch(config)
"""
SHARED = """
import os, time
import pytest
@pytest.fixture(scope="module")
def made():
    with open("made.txt", "a") as file:
        file.write(f"{os.path.basename(__file__)}\\n")
@pytest.mark.parametrize("number", range(8))
def test_of_a_file(made, number):
    time.sleep(0.05)
"""


def _run(folder: Path, *words: str, conftest: str = CONFTEST) -> tuple[int, str, list[str]]:
    "The exit code, what was said, and the files whose fixture was made, in two processes"
    (folder / "conftest.py").write_text(conftest)
    # a place of its own: where pytest chooses one, it clears away what earlier runs left there, for minutes if that is much
    place = f"--basetemp={folder / 'temporary'}"
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "-p", "no:cacheprovider", place, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    made = (folder / "made.txt").read_text().split() if (folder / "made.txt").exists() else []
    return done.returncode, done.stdout + done.stderr, sorted(made)


def test_what_a_file_shares_is_made_once_and_tests_that_share_nothing_are_spread(tmp_path):
    for name in ("test_one", "test_two", "test_project"):  # the last one's tests go out one by one
        (tmp_path / f"{name}.py").write_text(SHARED)
    code, said, made = _run(tmp_path)
    assert code == 0, said
    assert [made.count(f"{name}.py") for name in ("test_one", "test_two")] == [1, 1]
    assert len({line.split()[0] for line in said.splitlines() if "PASSED test_project" in line}) == 2


def test_a_run_that_spreads_a_file_fails(tmp_path):
    (tmp_path / "test_one.py").write_text(SHARED)
    code, said, _ = _run(tmp_path, conftest=CONFTEST.replace("from spread import pytest_xdist_make_scheduler\n", ""))
    assert code == 1 and "ran in several processes: test_one.py" in said, said


def test_who_asks_for_another_way_gets_it(tmp_path):
    (tmp_path / "test_one.py").write_text(SHARED)
    code, said, made = _run(tmp_path, "--dist", "load")
    assert code == 0 and made == ["test_one.py", "test_one.py"], said


def test_a_process_that_dies_is_told_and_the_others_go_on(tmp_path):
    (tmp_path / "test_one.py").write_text("import os\ndef test_dies():\n    os._exit(3)\ndef test_lives():\n    pass\n")
    (tmp_path / "test_two.py").write_text(SHARED)
    code, said, _ = _run(tmp_path)
    assert code == 1 and "INTERNALERROR" not in said and "crashed while running 'test_one.py::test_dies'" in said
    assert said.count("PASSED test_two.py") == 8, said  # the other file's


@pytest.mark.parametrize("name", ["test_one", "test_project"])  # in one process; one by one
@pytest.mark.parametrize("deadly", [[0], [9, 11], [4, 5, 6], range(7)])  # xdist itself gives up after eight
def test_whatever_dies_each_test_runs_once_and_the_run_ends(tmp_path, name, deadly):
    "xdist began the deadly test again, and waited for ever for a process that had one test left"
    head = "import os, time\nimport pytest\n@pytest.mark.parametrize('number', range(12))\n"
    body = f"    time.sleep(0.02)\n    if number in {list(deadly)}:\n        os._exit(3)\n"
    (tmp_path / f"{name}.py").write_text(f"{head}def test_of_a_file(number):\n{body}")
    (tmp_path / "test_two.py").write_text(SHARED)
    code, said, _ = _run(tmp_path)
    assert code == 1 and "INTERNALERROR" not in said, said
    ends = re.findall(r"%\] (PASSED|FAILED) (test_\w+)\.py::test_of_a_file\[(\d+)\]", said)
    other = [("PASSED", "test_two", str(number)) for number in range(8)]
    assert sorted(ends) == sorted(
        [*other, *(("FAILED" if number in deadly else "PASSED", name, str(number)) for number in range(12))]
    ), said


def test_a_run_inside_a_test_does_not_clear_away_what_others_left(tmp_path, monkeypatch):
    "It did so with a whole run of the day before, 6 GB, and took longer than it may"
    (tmp_path / "inner").mkdir()
    (tmp_path / "others").mkdir()
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(tmp_path / "others"))
    (tmp_path / "inner/test_one.py").write_text("def test_of_a_file(tmp_path):\n    pass\n")
    code, said, _ = _run(tmp_path / "inner")
    assert code == 0 and not list((tmp_path / "others").iterdir()), said


def test_what_a_passed_test_wrote_is_removed_and_what_a_failed_one_wrote_stays(tmp_path):
    "Three whole runs, which is what pytest keeps otherwise, are 18 GB"
    body = "    (tmp_path / 'picture.png').write_bytes(bytes(9))\n"
    tests = f"def test_passes(tmp_path):\n{body}def test_fails(tmp_path):\n{body}    assert False\n"
    (tmp_path / "test_one.py").write_text(tests)
    code, said, _ = _run(tmp_path, "-c", str(TESTS.parent / "pyproject.toml"), str(tmp_path))
    left = [file.parent.name.rstrip("0") for file in (tmp_path / "temporary").rglob("picture.png")]
    assert code == 1 and left == ["test_fails"], said
