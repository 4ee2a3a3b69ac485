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
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "-p", "no:cacheprovider", *words]
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
