"The command line as a process: what it prints, which code it returns, what bad input gives."

import json
import subprocess
import sys

import pytest
from measure import in_time, seconds_of

COMMANDS = [
    ["run"],
    ["data"],
    ["data", "phantom"],
    ["data", "siim"],
    ["prepare"],
    ["eda"],
    ["score"],
    ["predict"],
    ["ensemble"],
]


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=" ".join)
def test_every_command_has_help_that_says_what_it_is_not_for(covidxr, words):
    answer = covidxr(*words, "--help")
    assert answer.returncode == 0
    assert "clinical use" in " ".join(answer.stdout.split())


def test_the_version_is_that_of_the_settings(covidxr):
    from configparser import ConfigParser

    from conftest import ROOT

    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini")
    assert covidxr("--version").stdout.strip() == f"covidxr {config['DEFAULT']['version']}"


def test_import_takes_under_half_a_second_and_loads_no_framework():
    assert in_time(seconds_of("import covidxr"), 0.5)
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import covidxr, covidxr.cli, sys; assert not {'torch', 'fastai', 'ultralytics'} & set(sys.modules)",
        ],
        check=True,
    )


def test_help_answers_in_under_a_second_and_a_half_without_torch():
    code = "import sys; sys.argv = ['covidxr', '--help']\nfrom covidxr.cli import main\ntry: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    assert in_time(seconds_of(code), 1.5)


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["run", "--profile", "slow"],
        ["score", "only-one"],
        ["prepare", "a", "b", "--size", "0"],
        ["run", "--seed", "-1"],
        ["ensemble", "a.csv", "--out", "b.csv", "--weights", "one"],
    ],
    ids=" ".join,
)
def test_wrong_words_end_with_code_2(covidxr, words):
    answer = covidxr(*words)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["eda", "nowhere"],
        ["run", "--data", "nowhere"],
        ["prepare", "nowhere", "cache"],
        ["score", "nowhere", "nowhere.csv"],
        ["predict", "nowhere", "x.dcm", "--out", "s.csv"],
        ["ensemble", "a.csv", "b.csv", "--out", "c.csv"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_named_in_one_line(covidxr, tmp_path, words):
    answer = covidxr(*words, cwd=tmp_path)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert len([line for line in answer.stderr.splitlines() if line.startswith("covidxr: ")]) == 1
    assert not list(tmp_path.iterdir())


def test_eda_counts_and_a_program_can_read_it(covidxr, phantom, tmp_path):
    answer = covidxr("eda", phantom, "--out", tmp_path / "eda", "--json")
    numbers = json.loads(answer.stdout)
    assert answer.returncode == 0 and numbers["data"] == "simulated"
    assert sum(numbers["classes"].values()) == numbers["studies"]
    assert (tmp_path / "eda" / "eda-figure.png").stat().st_size > 10_000


def test_prepare_lists_what_it_cannot_read_and_says_so_in_its_exit_code(covidxr, phantom, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    good = next(phantom.glob("train/*/*/*.dcm"))
    (mixed / "good.dcm").write_bytes(good.read_bytes())
    (mixed / "bad.dcm").write_bytes(good.read_bytes()[:700])
    answer = covidxr("prepare", mixed, tmp_path / "cache", "--size", "64", "--json")
    assert answer.returncode == 1
    told = json.loads(answer.stdout)
    assert told["prepared"] == 1 and told["failed"][0]["image_id"] == "bad"
    assert sorted(path.name for path in (tmp_path / "cache").glob(".*")) == [".covidxr.json", ".covidxr.lock"]


def test_without_credentials_the_download_says_what_to_do_in_two_lines_and_leaves_nothing(covidxr, tmp_path):
    pytest.importorskip("kagglehub", reason="kagglehub is an extra: pip install 'covidxr[siim]'")
    answer = covidxr(
        "data",
        "siim",
        "--out",
        tmp_path / "siim",
        env={"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"},
        timeout=60,
    )
    assert answer.returncode == 2
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 2 and "credentials" in lines[0] and "rules" in lines[1]
    assert not list(tmp_path.iterdir())


def test_a_missing_system_library_is_named_with_its_cure(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    code = "from covidxr.core import opencv, CovidxrError\ntry: opencv()\nexcept CovidxrError as error: print(error)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert "libGL.so.1" in answer.stdout and "apt-get install libgl1" in answer.stdout


def test_what_the_system_refuses_is_said_in_one_line(covidxr, phantom, tmp_path):
    (tmp_path / "file").write_text("")
    for words in (
        ("eda", phantom, "--out", tmp_path / "file"),
        ("data", "phantom", "--out", tmp_path / "file" / "x", "--studies", 4),
    ):
        answer = covidxr(*words)
        assert answer.returncode == 2 and len(answer.stderr.strip().splitlines()) == 1 and "file" in answer.stderr


def test_exploring_never_writes_over_a_datasets_tables(covidxr, phantom):
    before = (phantom / "train_study_level.csv").read_bytes()
    answer = covidxr("eda", phantom, "--out", phantom)
    assert answer.returncode == 2 and "holds a dataset" in answer.stderr
    assert (phantom / "train_study_level.csv").read_bytes() == before
