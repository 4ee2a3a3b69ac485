"Every exercise: its solution passes, so does another style, what learners get wrong fails with a counter-example."

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from exercise_answers import ANSWERS

from covidxr.course import edition, lesson_titles, write_course
from covidxr.exercise import same
from covidxr.exercises import EXERCISES


def _made(code: str, name: str) -> object:
    "What a learner's code defines"
    own = {"np": np, "pd": pd}
    exec(code, own)
    return own[name]


def test_there_are_three_exercises_a_lesson_and_at_least_36():
    lessons = {"00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "10b", "10c", "11", "16"}
    assert sorted(EXERCISES) == sorted(f"{lesson}.{number}" for lesson in lessons for number in (1, 2, 3))
    assert sorted(ANSWERS) == sorted(EXERCISES)


@pytest.mark.parametrize("key", EXERCISES)
def test_right_answers_pass_and_wrong_ones_fail_with_a_counter_example(key):
    one = EXERCISES[key]
    assert one.check(_made(one.code, one.name)).right
    assert one.check(_made(ANSWERS[key]["other"], one.name)).right
    assert len(ANSWERS[key]["wrong"]) == 3
    for code in ANSWERS[key]["wrong"]:
        verdict = one.check(_made(code, one.name))
        assert not verdict.right, code
        assert "Traceback" not in verdict.text and len(verdict.text) < 2500
        if one.inputs is not None:
            assert "smallest input" in verdict.text and "expected:" in verdict.text


@pytest.mark.parametrize("key", EXERCISES)
def test_an_unfinished_answer_is_told_what_is_missing(key):
    one = EXERCISES[key]
    verdict = one.check(_made(one.stub, one.name))
    assert not verdict.right
    assert "no answer yet" in verdict.text or "is a `return` missing?" in verdict.text
    said = [one.hint().text for _ in range(4)]
    assert len(set(said)) == 3 and said[3] == said[2]
    assert one.code in one.solution().text


@pytest.mark.parametrize("key", [key for key, one in EXERCISES.items() if one.draw])
def test_boxes_are_drawn_with_both_answers(key):
    one = EXERCISES[key]
    drawn = [one.check(_made(code, one.name)) for code in ANSWERS[key]["wrong"]]
    assert any(verdict.picture for verdict in drawn)
    assert all('alt="' in verdict._repr_html_() for verdict in drawn if verdict.picture)


@pytest.mark.parametrize(
    ("answer", "expected", "alike"),
    [
        ([1, 2], (1.0, 2.0), True),
        (np.array([[1, 2]]), [[1, 2]], True),
        (([1], []), ((1,), ()), True),
        (pd.Series({"a": 1}), {"a": 1.0}, True),
        (1 + 1e-9, 1, True),
        (True, 1, True),
        ("1", 1, False),
        (None, 0, False),
        ([1], 1, False),
        (1, [1], False),
        ([[1, 2], [3]], [[1, 2], [3, 4]], False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([], None, False),
        (float("nan"), float("nan"), True),
        (float("nan"), 0.0, False),
    ],
)
def test_what_counts_as_the_same_answer(answer, expected, alike):
    assert same(answer, expected) is alike


@pytest.mark.parametrize(
    "answer", [lambda *_: 1 / 0, lambda: 1, lambda *_: object(), lambda *_: "x" * 10**6, 7, None, ...]
)
def test_no_answer_breaks_the_checker(answer):
    for one in EXERCISES.values():
        verdict = one.check(answer)
        assert not verdict.right and "Traceback" not in verdict.text and len(verdict.text) < 4000


def test_progress_is_kept_in_one_file_and_drawn(covidxr, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDXR_PROGRESS", str(tmp_path / "deep" / "progress.json"))
    one = EXERCISES["07.1"]
    one.check(_made(ANSWERS["07.1"]["wrong"][0], one.name))
    assert not (tmp_path / "deep").exists(), "a wrong answer solves nothing"
    one.check(_made(one.code, one.name))
    answer = covidxr("progress")
    assert answer.returncode == 0 and f"1 of {len(EXERCISES)} exercises solved" in answer.stdout
    assert re.search(r"07  ■ □ □  The score", answer.stdout)
    assert json.loads(covidxr("progress", "--json").stdout) == {"solved": ["07.1"]}
    (tmp_path / "deep" / "progress.json").write_text("[1, 2")
    answer = covidxr("progress")
    assert answer.returncode == 2 and "progress.json" in answer.stderr and "Traceback" not in answer.stderr


def test_each_lesson_asks_its_three_exercises_once():
    asked = []
    for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        own = [found[1] for cell in cells if (found := re.match(r'exercise\("([^"]+)"\)$', "".join(cell["source"])))]
        assert all(key.split(".")[0] == path.stem.split("_")[0] for key in own)
        asked += own
    assert sorted(asked) == sorted(EXERCISES)


def test_the_solved_edition_is_solved_and_the_other_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDXR_PROGRESS", "off")
    lesson = json.loads((ROOT / "nbs" / "07_metrics.ipynb").read_text(encoding="utf-8"))
    for with_solutions, right in ((True, 3), (False, 0)):
        cells = edition(lesson, with_solutions)["cells"]
        start = next(number for number, cell in enumerate(cells) if "".join(cell["source"]).startswith("ask = "))
        own: dict = {}
        verdicts = []
        exec("from covidxr.exercises import exercise", own)
        for cell in cells[start:]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and "ask.check" in source:
                verdicts.append(eval(source.split("  #")[0], own))
            elif cell["cell_type"] == "code":
                exec(source, own)
        assert len(verdicts) == 3 and sum(verdict.right for verdict in verdicts) == right
        assert len({cell["id"] for cell in cells}) == len(cells)


def test_a_learner_sees_no_words_that_are_for_the_site():
    for path in (ROOT / "nbs").glob("[0-9]*.ipynb"):
        for cell in edition(json.loads(path.read_text(encoding="utf-8")), False)["cells"]:
            source = "".join(cell["source"])
            assert source and (cell["cell_type"] != "code" or not re.search(r"^#\| ", source, re.M)), source[:80]


def test_the_course_comes_with_the_command_and_overwrites_nothing(covidxr, tmp_path):
    answer = covidxr("course", tmp_path / "mine")
    assert answer.returncode == 0 and "jupyter lab" in answer.stdout
    for part in ("lessons", "solved"):
        names = {path.name for path in (tmp_path / "mine" / part).glob("*.ipynb")}
        assert names == {path.name for path in (ROOT / "nbs").glob("*.ipynb")}
    mine = tmp_path / "mine" / "lessons" / "07_metrics.ipynb"
    mine.write_text("my work")
    again = covidxr("course", tmp_path / "mine")
    assert again.returncode == 0 and "left as they are" in again.stdout and mine.read_text() == "my work"
    refused = covidxr("course", mine)
    assert refused.returncode == 2 and "is a file" in refused.stderr


def test_the_wheel_brings_the_lessons(tmp_path):
    ignore = shutil.ignore_patterns(
        ".git", ".venv", "runs", "*.egg-info", "__pycache__", "_proc", "_docs", ".*_cache", "build"
    )
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=ignore, symlinks=True)
    code = "import setuptools.build_meta as b; print(b.build_wheel('dist'))"
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    place = tmp_path / "site"
    zipfile.ZipFile(copy / "dist" / made).extractall(place)
    assert {path.name for path in (place / "covidxr" / "lessons").glob("*.ipynb")} == {
        path.name for path in (ROOT / "nbs").glob("*.ipynb")
    }
    code = f"import sys; sys.path.insert(0, {str(place)!r}); import covidxr.course as c; print(c.lessons_folder()); print(len(c.write_course({str(tmp_path / 'mine')!r})['written']))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.split()
    assert Path(answer[0]) == place / "covidxr" / "lessons" and int(answer[1]) > 30


def test_every_lesson_has_a_title():
    titles = lesson_titles()
    assert list(titles) == sorted(titles) and all(titles.values())
    assert write_course.__doc__


def _forever(*_: object) -> None:
    while True:
        pass


def _leave(*_: object) -> None:
    sys.exit()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_forever, "is there a loop that never ends?"),
        (_leave, "raised SystemExit"),
        (print, "write `return`"),
        (lambda *_: (one for one in "ab"), "wrap it in `list"),
        (lambda *_: [[1.0], [1.0, 2.0]], "expected:"),
        (lambda *_: np.float64(1).reshape(()), "expected:"),
        (lambda *_: list, "expected:"),
    ],
)
def test_the_checker_says_what_is_odd_about_an_answer_and_comes_back(answer, said, monkeypatch, capsys):
    monkeypatch.setattr("covidxr.exercise.PATIENCE", 0.2)
    for key in ("01.1", "05.3", "07.1"):
        verdict = EXERCISES[key].check(answer)
        assert not verdict.right and said in verdict.text and "Traceback" not in verdict.text
    assert capsys.readouterr().out == "", "what an answer prints sixty times would flood the notebook"


def test_a_learner_who_stops_a_slow_check_sees_no_traceback():
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    assert "was stopped" in EXERCISES["01.1"].check(stopped).text


def test_a_number_that_cannot_be_a_share_is_told_so():
    assert "from 0 to 1" in EXERCISES["02.3"].check(30).text
