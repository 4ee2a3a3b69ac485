"The command line as a process: what it prints, which code it returns, what bad input gives."

import argparse
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest
from measure import in_time, seconds_of

import covidxr
from covidxr.base.errors import CovidxrError, DataError
from covidxr.base.words import from_zero, number_list, positive
from covidxr.cache.index import read_failed
from covidxr.classify import load_classifier, predict_classifier
from covidxr.cli import main, parser
from covidxr.dataset import image_ids, scan_headers
from covidxr.detect import load_detector
from covidxr.eda import explore
from covidxr.learning.data import image_table
from covidxr.runs.grading import read_severities
from covidxr.runs.run import open_run
from covidxr.scale import run_many

PNG = "one.png"

COMMANDS = [
    ["run"],
    ["data"],
    ["data", "phantom"],
    ["data", "siim"],
    ["prepare"],
    ["eda"],
    ["score"],
    ["predict"],
    ["pack"],
    ["severity"],
    ["ensemble"],
    ["app"],
    ["course"],
    ["progress"],
    ["doctor"],
]


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=" ".join)
def test_every_command_has_help_that_says_what_it_is_not_for(covidxr, words):
    answer = covidxr(*words, "--help")
    assert answer.returncode == 0
    assert "clinical use" in " ".join(answer.stdout.split())


def _commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> list[list[str]]:
    "The words of every command below a parser"
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found += [[*words, name], *_commands(below, (*words, name))]
    return found


def test_every_command_is_among_those_whose_help_is_looked_at():
    assert sorted(_commands(parser())) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("read", "word"),
    [
        *((read, word) for read in (positive, from_zero) for word in ("²", "1.5", "-1", "", "x", "9" * 5000)),
        (positive, "0"),
        *((number_list, word) for word in ("nan,1", "1,inf", "a", "", "1,,2", "x" * 5000)),
    ],
)
def test_a_word_that_is_no_number_is_told_in_a_short_sentence(read, word):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a") as told:
        read(word)
    assert len(str(told.value)) < 130


def _given(monkeypatch: pytest.MonkeyPatch, place: str, words: str, **answer: object) -> inspect.BoundArguments:
    "What a command hands to the function that does the work, by the names of its parameters"
    module, name = place.rsplit(".", 1)
    seen, real = [], getattr(importlib.import_module(f"covidxr.{module}"), name)

    def record(*given: object, **named: object) -> object:
        seen.append(inspect.signature(real).bind(*given, **named))
        raise CovidxrError("seen")

    monkeypatch.setattr(f"covidxr.{place}", record)
    assert main(words.split()) == 2
    (one,) = seen
    return {name: str(value) if isinstance(value, Path) else value for name, value in one.arguments.items()}


@pytest.mark.parametrize(
    ("place", "words", "wanted"),
    [
        (
            "pipeline.run",
            "run --data d --out o --profile full --seed 5 --gpus 2",
            {"data": "d", "out": "o", "profile": "full", "seed": 5, "gpus": 2},
        ),
        (
            "hospital.simulate_dataset",
            "data phantom --out o --studies 7 --seed 5 --size 99",
            {"out": "o", "studies": 7, "seed": 5, "size": 99, "workers": None, "scheduler": None},
        ),
        (
            "prepare.prepare",
            "prepare s o --size 99 --fit crop --format npy --draft --workers 3 --scheduler tcp://x",
            {"source": "s", "out": "o", "size": 99, "fit": "crop", "format": "npy", "draft": True, "workers": 3}
            | {"scheduler": "tcp://x"},
        ),
        ("eda.explore", "eda s --out o", {"source": "s", "out": "o"}),
        ("submission.score_submission", "score t u s", {"truth": ["t", "u"], "submission": "s"}),
        (
            "submission.compare_submissions",
            "score t s --versus v --draws 7",
            {"truth": ["t"], "submissions": {"first": "s", "second": "v"}, "draws": 7},
        ),
        ("pipeline.predict", "predict r x y --out s", {"run": "r", "xrays": ["x", "y"], "out": "s"}),
        (
            "pipeline.predict",
            "predict r x --out s --extents e --scheduler tcp://x",
            {"run": "r", "xrays": ["x"], "out": "s", "extents": "e", "scheduler": "tcp://x"},
        ),
        ("runs.grading.read_severities", "severity x y", {"xrays": ["x", "y"], "workers": None, "scheduler": None}),
        (
            "runs.grading.read_severities",
            "severity x --workers 3 --scheduler tcp://x",
            {"xrays": ["x"], "workers": 3, "scheduler": "tcp://x"},
        ),
        (
            "submission.fuse_submission_files",
            "ensemble a b --out c --weights 1,2 --boxes nms",
            {"paths": ["a", "b"], "out": "c", "weights": [1, 2], "method": "nms"},
        ),
    ],
)
def test_every_option_of_a_command_reaches_the_function_that_does_the_work(place, words, wanted, monkeypatch):
    assert _given(monkeypatch, place, words) == wanted


def test_the_version_is_that_of_the_settings(covidxr):
    from configparser import ConfigParser

    from conftest import ROOT

    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini")
    assert covidxr("--version").stdout.strip() == f"covidxr {config['DEFAULT']['version']}"


def test_import_takes_under_three_tenths_of_a_second_and_loads_no_framework():
    assert in_time(seconds_of("import covidxr", times=5), 0.3)
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import covidxr, covidxr.cli, sys; assert not {'torch', 'fastai', 'ultralytics'} & set(sys.modules)",
        ],
        check=True,
    )


def test_help_answers_in_under_seven_tenths_of_a_second_without_torch():
    code = "import sys; sys.argv = ['covidxr', '--help']\nfrom covidxr.cli import main\ntry: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    assert in_time(seconds_of(code, times=5), 0.7)


WHOLE = {  # a call of each command that works on something, with all its options
    "run": "run --data d --out o --profile quick --seed 5 --gpus 2",
    "data phantom": "data phantom --out o --studies 7 --seed 5 --size 99 --workers 1 --scheduler tcp://x",
    "data siim": "data siim --out o",
    "prepare": "prepare s o --size 99 --fit crop --format npy --workers 3 --scheduler tcp://x",
    "eda": "eda s --out o",
    "score": "score t s --versus v --draws 7",
    "predict": "predict r x y --out s --extents e --scheduler tcp://x",
    "pack": "pack r -o o.zip",
    "severity": "severity x y --workers 3 --scheduler tcp://x",
    "ensemble": "ensemble a b --out c --weights 1,2 --boxes nms",
    "app": "app --port 0 --export o",
    "course": "course o --lang ko",
}


def _worded(command: argparse.ArgumentParser, name: str = "") -> dict[str, list[argparse.Action]]:
    "Each command that works on something, and what is to be given to it as a word of one's own"
    below = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
    if below:
        inner = [_worded(one, f"{name} {word}".strip()) for word, one in below[0].choices.items()]
        return {key: words for one in inner for key, words in one.items()}
    return {name: [action for action in command._actions if action.nargs != 0 and not action.choices]}


def test_whole_calls_have_every_word_that_a_command_takes():
    for name, actions in _worded(parser()).items():
        words = WHOLE.get(name, "").split()
        for action in actions:
            if action.option_strings:
                assert set(words) & set(action.option_strings), (name, action.option_strings)
        options = sum(word.startswith("-") for word in words)
        positional = sum(not action.option_strings for action in actions)
        assert len(words) - len(name.split()) * (name in WHOLE) - 2 * options >= positional, name


def test_a_variable_of_the_shell_that_is_not_set_is_no_word_of_any_command(capsys):
    '`--out "$OUT"` with no OUT would be the working folder, and an empty --scheduler this machine'
    for name, call in WHOLE.items():
        words, said = call.split(), len(name.split())
        parser().parse_args(words)
        for place in range(said, len(words)):
            if words[place].startswith("-"):
                continue
            for empty in ("", " "):
                with pytest.raises(SystemExit) as told:
                    parser().parse_args([*words[:place], empty, *words[place + 1 :]])
                assert told.value.code == 2, (name, words[place])
                line = capsys.readouterr().err.splitlines()[-1]
                assert line.startswith(f"covidxr {name}: error: argument"), line


@pytest.mark.parametrize(
    "call",
    [
        lambda: covidxr.run("phantom", ""),
        lambda: covidxr.run("", "o"),
        lambda: covidxr.simulate_dataset("", 3),
        lambda: covidxr.prepare("", "o"),
        lambda: covidxr.prepare(PNG, ""),
        lambda: covidxr.predict("", PNG, "o.csv"),
        lambda: explore("", "o"),
        lambda: explore("d", ""),
        lambda: load_classifier(""),
        lambda: load_detector(""),
        lambda: predict_classifier("", [PNG]),
        lambda: open_run(""),
        lambda: covidxr.prepare(["", PNG], "o"),
        lambda: covidxr.prepare([PNG, "  "], "o"),
        lambda: read_failed(""),
        lambda: scan_headers([PNG, ""]),
        lambda: image_ids(["", PNG]),
        lambda: open_run(" "),
    ],
)
def test_an_empty_name_is_not_the_working_folder_for_the_library_either(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(PNG).write_bytes(b"")
    with pytest.raises(CovidxrError, match="^' *': not a file's name; is a variable not set"):
        call()
    assert os.listdir(tmp_path) == [PNG]


def test_all_that_stands_for_a_path_is_one(tmp_path):
    (tmp_path / "a run").mkdir()
    (entry,) = os.scandir(tmp_path)
    for path in (str(entry.path), Path(entry.path), PurePosixPath(entry.path), entry):
        with pytest.raises(CovidxrError, match="a run.config.json: no such file"):
            open_run(path)
    file = tmp_path / "one.png"
    cv2.imwrite(str(file), np.zeros((64, 64), np.uint8))
    entry = next(entry for entry in os.scandir(tmp_path) if entry.name == "one.png")
    for given in (str(file), file, entry, [entry], iter([entry])):
        assert image_ids(given) == ["one"]
    for given in (file, entry, [entry]):
        assert scan_headers(given)["image_id"].tolist() == image_table(given)["image_id"].tolist() == ["one"]
        assert image_table(given)["file"].tolist() == [str(file)]
        assert len(covidxr.prepare(given, tmp_path / "cache", size=32)) == 1
    for door in (image_ids, scan_headers, image_table):
        with pytest.raises(DataError, match="give .*one file, or a list of files"):
            door(5)
    for wrong in (None, 5, b"a", ["a"], "a\0"):
        with pytest.raises(CovidxrError, match="not a file's name; give it as text or as a Path"):
            open_run(wrong)


@pytest.mark.parametrize("call", [covidxr.read_xray, lambda name: covidxr.write_dicom(name, None, None)])
def test_an_empty_name_is_none_of_an_xray(call):
    with pytest.raises(CovidxrError, match=r"^'' \(str\): no file can have such a name"):
        call("")


@pytest.mark.parametrize("scheduler", ["", " ", 8786])
@pytest.mark.parametrize(
    "call",
    [
        lambda how: covidxr.simulate_dataset("o", 3, **how),
        lambda how: covidxr.prepare(PNG, "o", **how),
        lambda how: read_severities(PNG, **how),
        lambda how: run_many(abs, [1], max, **how),
        lambda how: covidxr.predict("no run", PNG, "o.csv", **how),
    ],
)
def test_what_is_no_address_of_a_scheduler_is_refused_before_anything_is_written(
    call, scheduler, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path(PNG).write_bytes(b"")
    with pytest.raises(CovidxrError, match="^scheduler: give an address such as tcp://10.0.0.5:8786"):
        call({"scheduler": scheduler})
    assert os.listdir(tmp_path) == [PNG]


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
        ["severity", "nowhere"],
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
    code = "from covidxr.base.extras import opencv\nfrom covidxr.base.errors import CovidxrError\ntry: opencv()\nexcept CovidxrError as error: print(error)"
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
