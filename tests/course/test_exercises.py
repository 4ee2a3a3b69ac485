"Every exercise: its solution passes, so does another style, what learners get wrong fails with a reason."

import base64
import json
import os
import pickle
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import exercise_outputs
import numpy as np
import pages
import pandas as pd
import pytest
from conftest import ROOT, copy_project
from exercise_answers import ANSWERS

from covidxr.base.errors import DataError
from covidxr.base.seeds import generator
from covidxr.base.terms import BOX_COLUMNS
from covidxr.course import exercise, sandbox, solved, write_course
from covidxr.course.catalog import questions
from covidxr.course.checking import Exercise, same
from covidxr.course.choices import drawn
from covidxr.course.editions import Lesson, edition, lessons, progress_map
from covidxr.submission import read_submission, write_submission

EXERCISES = {key: exercise(key) for key in questions()}
CHOSEN = [key for key, one in EXERCISES.items() if one.kind == "picture"]
SCORED = [key for key, one in EXERCISES.items() if one.kind == "data" and one.contest]
WRITTEN = [key for key in EXERCISES if key not in {*CHOSEN, *SCORED}]
METRICS = next((ROOT / "nbs").glob("[0-9]*_metrics.ipynb"))  # a lesson, whatever its number


def _made(code: str, name: str) -> object:
    "What a learner's code defines"
    own = {"np": np, "pd": pd}
    exec(code, own)
    return own[name]


def _remembered(expected: Callable) -> Callable:
    "The library's answers, each worked out once: five answers are compared with them"
    known: dict[bytes, bytes] = {}

    def call(*inputs: object) -> object:
        key = pickle.dumps(inputs)
        if key not in known:
            known[key] = pickle.dumps(expected(*inputs))
        return pickle.loads(known[key])

    return call


def test_there_are_three_exercises_a_lesson_and_at_least_36():
    names = {"dicom", "phantom", "dataset", "prepare", "eda", "folds", "metrics", "classify", "detect"}
    names |= {"calibrate", "ensemble", "explain", "pipeline", "severity", "shortcuts"}
    names |= {"stacking", "start"}
    names |= {"submission", "transfer", "views", "app", "scale"}
    assert sorted(EXERCISES) == sorted(f"{name}.{number}" for name in names for number in (1, 2, 3))
    chosen = [key for key in CHOSEN if isinstance(EXERCISES[key].right, str)]  # every choice is tried
    assert sorted([*ANSWERS, *chosen]) == sorted(EXERCISES)


@pytest.mark.parametrize("lesson", sorted({key.split(".")[0] for key in EXERCISES}))
def test_a_lesson_has_one_exercise_of_each_kind(lesson):
    kinds = [EXERCISES[f"{lesson}.{number}"].kind for number in (1, 2, 3)]
    assert sorted(kinds) == ["data", "function", "picture"]


@pytest.mark.parametrize("key", SCORED)
def test_on_data_the_solution_wins_and_what_is_lazy_lucky_or_leaks_fails_and_is_told_why(key):
    one = EXERCISES[key]
    for code in (one.code, ANSWERS[key]["other"]):
        started = time.process_time()
        verdict = one.check(_made(code, one.name))
        assert verdict.right and one.verdicts["won"] in verdict.text, verdict.text
        assert time.process_time() - started < 15, "a check on data is quick"
    assert len(ANSWERS[key]["wrong"]) == 3 and ANSWERS[key]["lazy"] and ANSWERS[key]["leaking"]
    told = [(code, "Not yet") for code in ANSWERS[key]["wrong"]]
    told += [(code, one.verdicts["lazy"]) for code in ANSWERS[key]["lazy"]]
    told += [(code, one.verdicts[name]) for name, code in ANSWERS[key]["leaking"].items()]
    for code, why in told:
        verdict = one.check(_made(code, one.name))
        assert not verdict.right and why in verdict.text and len(verdict.text) < 2500, (code, verdict.text)
    assert {"measure", "baseline", "shape", "lazy", "won", *one.contest.changed} <= set(one.verdicts)


@pytest.mark.parametrize("key", SCORED)
def test_data_to_try_an_answer_on_are_the_same_each_time_and_not_those_of_the_check(key):
    one = EXERCISES[key]
    first, again, other = one.data(), one.data(), one.data(1)
    assert pickle.dumps(first) == pickle.dumps(again) != pickle.dumps(other)
    drawn = [pickle.dumps(one.contest.draw(generator(number, key))[0]) for number in range(one.contest.rounds)]
    assert len({pickle.dumps(first), pickle.dumps(other), *drawn}) == one.contest.rounds + 2


@pytest.mark.parametrize("key", CHOSEN)
def test_every_choice_has_an_explanation_of_its_own_that_gives_nothing_away(key):
    one = EXERCISES[key]
    assert one.check(_made(one.code, one.name)).right and len(set(one.choices.values())) == len(one.choices) >= 3
    if one.expected:
        assert one.right == one.expected() or abs(one.right - one.expected()) < one.tolerance / 2
    if isinstance(one.right, str):
        tried = {f" {letter.lower()}": letter for letter in one.choices}
        wrong = [text for letter, text in one.choices.items() if letter != one.right]
        assert not any(re.search(rf"\b{one.right}\b(?! [a-z])", text) for text in [*wrong, *one.hints[:2]])
    else:
        assert len(ANSWERS[key]["wrong"]) == 3
        tried = dict.fromkeys([one.right - 0.9 * one.tolerance, np.float64(one.right)], "right")
        numbers = [_made(code, one.name) for code in ANSWERS[key]["wrong"]] + [one.right + 1.1 * one.tolerance]
        tried |= {number: "below" if number < one.right else "above" for number in numbers}
    for answer, name in tried.items():
        verdict = one.check(answer)
        assert verdict.right is (name in (one.right, "right")) and one.choices[name] in verdict.text
        assert bool(verdict.picture) is bool(verdict.right and one.reveals)


@pytest.mark.parametrize("key", [key for key in CHOSEN if EXERCISES[key].shows])
def test_a_picture_is_small_and_told_in_words(key):
    one = EXERCISES[key]
    pictures = {"alt": drawn(one.shows, one.picture)}
    if one.reveals:
        verdict = one.check(_made(one.code, one.name))
        pictures["revealed"] = verdict.picture
        assert f'alt="{one.picture["revealed"]}"' in verdict._repr_html_()
    for name, picture in pictures.items():
        assert len(picture) < 40_000 and 30 <= len(one.picture[name]) <= 400
        assert base64.b64decode(picture)[1:4] == b"PNG"


def test_lessons_store_their_questions_as_they_are_now():
    for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")):
        before = json.loads(path.read_text(encoding="utf-8"))
        after = exercise_outputs.stored(json.loads(path.read_text(encoding="utf-8")))
        for old, new in zip(before["cells"], after["cells"], strict=True):
            if exercise_outputs.ASKED.fullmatch("".join(new["source"])):
                said = [
                    [(sorted(one["data"]), "".join(one["data"]["text/plain"])) for one in cell["outputs"]]
                    for cell in (old, new)
                ]
                assert old["source"] == new["source"] and said[0] == said[1], "run python tests/exercise_outputs.py"


@pytest.mark.parametrize("key", WRITTEN)
def test_right_answers_pass_and_wrong_ones_fail_with_a_counter_example(key):
    one = replace(EXERCISES[key], expected=_remembered(EXERCISES[key].expected))
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
    assert "no answer yet" in verdict.text or "is a `return` missing?" in verdict.text, verdict.text
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
def test_no_answer_breaks_the_checker(answer, monkeypatch):
    monkeypatch.setattr(
        "covidxr.course.checking.TRIALS", 10
    )  # one input of each size: what comes back is as odd on all
    for one in EXERCISES.values():
        verdict = one.check(answer)
        assert not verdict.right and "Traceback" not in verdict.text and len(verdict.text) < 4000


def test_progress_is_kept_in_one_file_and_drawn(covidxr, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDXR_PROGRESS", str(tmp_path / "deep" / "progress.json"))
    one = EXERCISES["metrics.1"]
    one.check(_made(ANSWERS["metrics.1"]["wrong"][0], one.name))
    assert not (tmp_path / "deep").exists(), "a wrong answer solves nothing"
    one.check(_made(one.code, one.name))
    answer = covidxr("progress")
    assert answer.returncode == 0 and f"1 of {len(EXERCISES)} exercises solved" in answer.stdout
    (lesson,) = [lesson for lesson in lessons() if lesson.name == "metrics"]
    assert f"{lesson.number}  ■ □ □  {lesson.title}\n" in answer.stdout
    korean = covidxr("progress", "--lang", "ko").stdout.splitlines()
    assert (
        f"  {lesson.number}  ■ □ □  점수: mAP" in korean
        and korean[-1] == f"푼 연습 문제: 전체 {len(EXERCISES)}개 중 1개"
    )
    assert json.loads(covidxr("progress", "--json").stdout) == {"solved": ["metrics.1"]}
    (tmp_path / "deep" / "progress.json").write_text("[1, 2")
    for words, said in (
        [[], "it is damaged"],
        [["--lang", "ko"], "손상되었습니다"],
        [["--lang", "ko", "--json"], "손상되었습니다"],
    ):
        answer = covidxr("progress", *words)
        assert answer.returncode == 2 and "progress.json" in answer.stderr and "Traceback" not in answer.stderr
        assert said in answer.stderr


def _solve(key: str) -> str:
    "Give a right answer; what the checker says"
    one = EXERCISES[key]
    verdict = one.check(_made(one.code, one.name))
    assert verdict.right
    return verdict.text


@pytest.mark.parametrize(
    "strange",
    [
        "[1, 2",
        "my own notes\n",
        '["metrics.1"]',
        '{"solved": "metrics.1"}',
        '{"solved": [7.1]}',
        '{"solved": ["metrics.1"], "mine": 1}',
        '{"solved": null}',
        "",
        "\0\1",
    ],
)
def test_another_file_in_the_place_of_progress_is_never_written_over_and_the_learner_is_told(
    strange, tmp_path, monkeypatch
):
    place = tmp_path / "progress.json"
    place.write_text(strange)
    monkeypatch.setenv("COVIDXR_PROGRESS", str(place))
    assert f"could not be saved: {place}" in _solve("phantom.3")
    assert place.read_text() == strange
    with pytest.raises(DataError, match=r"progress\.json: not a progress file"):
        solved()


def test_a_tilde_that_no_shell_has_seen_is_the_learners_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("COVIDXR_PROGRESS", "~/progress.json")
    monkeypatch.chdir(tmp_path)
    assert "could not" not in _solve("phantom.3")
    assert solved() == ["phantom.3"] and [one.name for one in tmp_path.iterdir()] == ["home"]


def test_progress_that_an_earlier_version_kept_goes_on(tmp_path, monkeypatch):
    (tmp_path / "progress.json").write_text('{"solved": ["07.1", "10b.2"]}')
    monkeypatch.setenv("COVIDXR_PROGRESS", str(tmp_path / "progress.json"))
    assert "could not" not in _solve("phantom.3")
    assert solved() == ["metrics.1", "phantom.3", "stacking.2"]


def test_where_nothing_can_be_written_an_answer_is_right_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file where a home should be")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("COVIDXR_PROGRESS")
    assert "Right" in _solve("phantom.3") and "could not be saved" in _solve("phantom.3")
    assert solved() == []

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert "could not" not in _solve("phantom.3") and solved() == []


def test_notebooks_that_solve_at_once_forget_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDXR_PROGRESS", str(tmp_path / "progress.json"))
    code = (
        "import sys; from covidxr.course.progress import remember; "
        "[print(remember(f'{sys.argv[1]}.{n}'), end='') for n in range(20)]"
    )
    own = [subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True) for name in "abc"]
    assert [process.communicate()[0] for process in own] == ["", "", ""]
    assert solved() == sorted(f"{name}.{number}" for name in "abc" for number in range(20))
    assert json.loads((tmp_path / "progress.json").read_text())["covidxr"] == "progress"


def test_the_map_shows_what_was_solved_and_counts_no_stranger():
    course = [
        Lesson("07", "metrics", "The score"),
        Lesson("08", "classify", "Classes"),
        Lesson("09", "detect", "Boxes"),
    ]
    text = progress_map(["metrics.1", "classify.2"], course, ["metrics.1", "99.9"])
    assert text == "  07  ■  The score\n  08  □  Classes\n1 of 2 exercises solved"


def test_each_lesson_asks_its_three_exercises_once():
    asked = []
    for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        asked_in = [exercise_outputs.ASKED.fullmatch("".join(cell["source"])) for cell in cells]
        own = [found[1] for found in asked_in if found]
        assert all(key.split(".")[0] == path.stem.split("_")[1] for key in own)
        asked += own
    assert sorted(asked) == sorted(EXERCISES)


def test_the_solved_edition_is_solved_and_the_other_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDXR_PROGRESS", "off")
    lesson = json.loads(METRICS.read_text(encoding="utf-8"))
    for with_solutions, right in ((True, 3), (False, 0)):
        cells = edition(lesson, with_solutions)["cells"]
        start = next(number for number, cell in enumerate(cells) if "".join(cell["source"]).startswith("ask = "))
        own: dict = {}
        verdicts = []
        exec("from covidxr.course import exercise", own)
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
    mine = tmp_path / "mine" / "lessons" / METRICS.name
    mine.write_text("my work")
    (tmp_path / "mine" / "lessons" / "own.ipynb").write_text("a notebook of my own")
    gone = tmp_path / "mine" / "solved" / METRICS.name
    gone.unlink()
    again = covidxr("course", tmp_path / "mine")
    assert again.returncode == 0 and "left as they are" in again.stdout and mine.read_text() == "my work"
    assert (tmp_path / "mine" / "lessons" / "own.ipynb").read_text() == "a notebook of my own"
    assert gone.exists(), "what is missing is written again"
    refused = covidxr("course", mine)
    assert refused.returncode == 2 and "is a file" in refused.stderr


def test_the_commands_of_the_korean_course_answer_in_korean(covidxr, tmp_path):
    "What a command prints has no English sentence in it, whether the course is new or there already"
    for said in ("새로 쓴 파일 {}개", "이미 있어서 그대로 둔 파일 {}개"):
        lines = covidxr("course", tmp_path / "mine", "--lang", "ko").stdout.splitlines()
        files = [path for path in (tmp_path / "mine").glob("*_ko/**/*") if path.is_file()]
        assert lines[0].startswith(str(tmp_path / "mine")) and lines[0].endswith(said.format(len(files))), lines
        assert lines[-1] == f"강의 열기: jupyter lab {tmp_path / 'mine' / 'lessons_ko'}"
        assert all(re.search("[가-힣]", line) for line in lines), lines
    drawn = covidxr("progress", "--lang", "ko").stdout.splitlines()
    assert len(drawn) == len(lessons()) + 1 and all(re.search("[가-힣]", line) for line in drawn), drawn


def test_a_course_is_not_written_among_somebodys_files(covidxr, tmp_path, hashes):
    for name in (f"lessons/{METRICS.name}", "thesis.docx", "solved/notes.txt"):
        folder = tmp_path / name.split(".")[0].replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("a stranger's")
        before = hashes(folder)
        answer = covidxr("course", folder)
        assert answer.returncode == 2 and "which covidxr did not write" in answer.stderr, answer.stderr
        assert hashes(folder) == before
        assert len(answer.stderr.splitlines()) == 1


def test_the_command_that_opens_a_course_can_be_pasted_into_a_shell(covidxr, tmp_path):
    for name in ("my course", "it's mine", "$HOME", "a;b"):
        answer = covidxr("course", tmp_path / name)
        (line,) = [line for line in answer.stdout.splitlines() if "jupyter lab" in line]
        words = shlex.split(line[line.index("jupyter lab") :])
        assert words[:3] == ["jupyter", "lab", str(tmp_path / name / "lessons")], line


def test_lessons_to_work_in_hold_no_answer_and_no_notebook_of_the_engine_room(tmp_path):
    write_course(tmp_path / "mine")
    cells = {"lessons": set(), "solved": set()}
    for path in (tmp_path / "mine").rglob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells[path.parent.name] |= {"".join(cell["source"]).partition("\n\n\n")[2] for cell in notebook["cells"]}
        assert not (ROOT / "nbs" / "engine" / path.name).exists()
    codes = {one.code for one in EXERCISES.values()}
    assert codes <= cells["solved"] and not codes & cells["lessons"]


def test_links_of_a_learners_lessons_lead_somewhere(tmp_path):
    write_course(tmp_path / "mine")
    written = sorted((tmp_path / "mine").rglob("*.ipynb"))
    assert len(written) == 2 * len(list((ROOT / "nbs").glob("*.ipynb")))
    for page in written:
        assert pages.dead_links(page, page.parent) == [], page.name
    text = (tmp_path / "mine" / "lessons" / "index.ipynb").read_text(encoding="utf-8")
    assert "https://covidxr.github.io/covidxr/faq.html" in text


def test_the_wheel_brings_the_lessons(tmp_path):
    copy = copy_project(tmp_path)
    code = "import setuptools.build_meta as b; print(b.build_wheel('dist'))"
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    place = tmp_path / "site"
    zipfile.ZipFile(copy / "dist" / made).extractall(place)
    assert {path.name for path in (place / "covidxr" / "lessons").glob("*.ipynb")} == {
        path.name for path in (ROOT / "nbs").glob("*.ipynb")
    }
    code = f"import sys; sys.path.insert(0, {str(place)!r}); import covidxr.course.editions as c; print(c.lessons_folder()); print(len(c.write_course({str(tmp_path / 'mine')!r})['written']))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.split()
    assert Path(answer[0]) == place / "covidxr" / "lessons"
    code = f"import sys; sys.path.insert(0, {str(place)!r}); import covidxr.course as c; print(c.exercise('dicom.1').check(1))"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert "without calling it" in said and Path(place, "covidxr", "course", "questions", "dicom.toml").exists()
    assert int(answer[1]) == 2 * sum(
        path.is_file() and path.suffix != ".po" for path in (place / "covidxr" / "lessons").rglob("*")
    )


def test_a_map_and_a_course_are_made_without_the_code_that_checks_answers():
    code = "import sys; from covidxr.course import course_map; course_map([]); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "covidxr.course.catalog" in loaded
    assert [name for name in loaded if name.startswith(("covidxr.course.answers", "covidxr.metrics", "numba"))] == []


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("metrics.9", "the lesson metrics has metrics.1, metrics.2, metrics.3"),
        ("07.1", 'such as exercise("metrics.1"), and the lessons with exercises are app, calibrate, classify'),
        (7.1, "there is no exercise 7.1"),
        (None, "there is no exercise None"),
        (["metrics.1"], "there is no exercise"),
    ],
)
def test_an_exercise_that_does_not_exist_is_told_with_those_that_do(key, told):
    with pytest.raises(DataError, match=re.escape(told)):
        exercise(key)


def _inputs(key: str) -> list[tuple]:
    "What an exercise generates, from small to large"
    return [EXERCISES[key].inputs(np.random.default_rng(number), number % 10) for number in range(100)]


def test_yolos_form_in_the_exercises_is_the_one_that_the_library_trains_with():
    from covidxr.learning.box_samples import box_shares
    from covidxr.learning.yolo_training import yolo_labels

    table, places = pd.DataFrame({"image_id": ["a"]}), {"scale": [1.0], "left": [0.0], "top": [0.0]}
    for boxes, side in _inputs("detect.1"):
        rows = pd.DataFrame([("a", *box) for box in boxes], columns=["image_id", *BOX_COLUMNS])
        rows = rows.astype(dict.fromkeys(BOX_COLUMNS, float))
        (label,) = yolo_labels(["a.png"], box_shares(table, pd.DataFrame(places), rows, side), side)
        assert np.allclose(label["bboxes"], np.reshape(EXERCISES["detect.1"].expected(boxes, side), (-1, 4)))
        center, size = np.reshape(label["bboxes"], (-1, 2, 2)).transpose(1, 0, 2) * side
        assert np.allclose(np.hstack([center - size / 2, center + size / 2]), np.reshape(boxes, (-1, 4)))


def test_cells_in_the_exercises_are_those_that_the_library_reads_and_writes(tmp_path):
    columns = ["id", "label", "confidence", *BOX_COLUMNS]
    cells = [cell.replace("typical", "none") for (cell,) in _inputs("submission.1")]  # a class of an image
    told = [EXERCISES["submission.1"].expected(cell) for cell in cells]
    rows = [(f"i{number}_image", *row) for number, mine in enumerate(told) for row in mine]
    ids = [f"i{number}_image" for number in range(len(cells))]
    write_submission(pd.DataFrame(rows, columns=columns), ids, tmp_path / "out.csv")
    written = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)["PredictionString"].tolist()
    assert [sorted(cell.split()) for cell in written] == [sorted(cell.split()) for cell in cells]
    read = read_submission(tmp_path / "out.csv", ids).set_index("id")
    for name, expected in zip(ids, told, strict=True):
        mine = read[read.index == name].itertuples(index=False, name=None)
        assert sorted(mine) == sorted(expected)


def test_every_lesson_has_a_title():
    course = lessons()
    names = [path.stem for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))]
    assert [f"{lesson.number}_{lesson.name}" for lesson in course] == names
    assert all(re.fullmatch(r"[A-Z].{5,59}", lesson.title) for lesson in course), course
    assert len({lesson.title for lesson in course}) == len(course)


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
    monkeypatch.setattr("covidxr.course.sandbox.PATIENCE", 0.2)
    for key in ("dicom.1", "eda.1", "metrics.1"):
        verdict = EXERCISES[key].check(answer)
        assert not verdict.right and said in verdict.text and "Traceback" not in verdict.text
    assert capsys.readouterr().out == "", "what an answer prints sixty times would flood the notebook"


def test_the_counter_example_is_the_smallest_input_on_which_the_answer_is_wrong():
    one = Exercise(
        key="00.9", title="a sum", question="Sum them.", name="total", stub="def total(values):\n    ...",
        code="", hints=("", "", ""), expected=sum, inputs=lambda rng, size: ([7] * (size + 1),),
    )  # fmt: skip
    wrong = one.check(lambda values: sum(values) if len(values) < 3 else 0)
    assert not wrong.right and "values = [7, 7, 7]\n" in wrong.text
    assert "yours:    0\nexpected: 21" in wrong.text
    assert "values = [7]\n" in one.check(len).text
    assert one.check(sum).right


def test_a_learner_who_stops_a_slow_check_sees_no_traceback():
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    assert "was stopped" in EXERCISES["dicom.1"].check(stopped).text


def test_a_number_that_cannot_be_a_share_is_told_so():
    one = Exercise(
        key="00.9", title="a share", question="Which share?", name="share", stub="share = ...", code="share = 0.3",
        hints=("", "", ""), expected=lambda: 0.3,
    )  # fmt: skip
    assert "from 0 to 1" in one.check(30).text and "from 0 to 1" not in one.check(0.4).text and one.check(0.3).right


def _state() -> dict[str, object]:
    "What belongs to the learner's process"
    import matplotlib.pyplot as plt

    return {
        "folder": os.getcwd(),
        "filters": list(warnings.filters),
        "list of filters": id(warnings.filters),
        "random": random.getstate(),
        "numpy": pickle.dumps(np.random.get_state()),
        "errors": np.geterr(),
        "figures": plt.get_fignums(),
        "current figure": plt.gcf().number if plt.get_fignums() else None,
        "output": (id(sys.stdout), id(sys.stderr)),
        "alarm": signal.getsignal(signal.SIGALRM),
        "environment": dict(os.environ),
        "threads": threading.active_count(),
    }


def _meddler(*_: object) -> None:
    "An answer that changes whatever it can"
    import matplotlib.pyplot as plt

    os.chdir("/")
    warnings.simplefilter("ignore")
    random.seed(1)
    np.random.seed(1)
    np.seterr(all="raise")
    plt.figure()
    print("x" * 1000)


def _clearer(*_: object) -> float:
    "An answer that takes away all filters, and draws"
    warnings.resetwarnings()
    return random.random() + np.random.rand()


def _never_gives_up(value):
    while True:
        try:
            value += 1
        except:  # noqa: E722  (as a beginner writes it)
            continue


def _swallows_it_once(value):
    ends = time.thread_time() + 1  # of the processor: on a slow machine a second by the clock may be less than patience
    try:
        while time.thread_time() < ends:
            pass
    except:  # noqa: E722
        pass
    while time.thread_time() < ends:
        try:
            sum(range(1000))
        except:  # noqa: E722
            continue
    return value


@pytest.mark.parametrize("answer", [_never_gives_up, _swallows_it_once])
def test_an_answer_that_catches_every_error_is_stopped_all_the_same(answer, monkeypatch):
    monkeypatch.setattr("covidxr.course.sandbox.PATIENCE", 0.2)
    started = time.monotonic()
    given, fault, useless = sandbox.call(answer, (1,))
    assert given is None and "gave no answer" in fault and useless
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("answer", [_meddler, _clearer, _forever, _leave, lambda *_: [], "the right one"])
def test_a_check_leaves_the_learners_process_as_it_was(answer, monkeypatch, tmp_path):
    import matplotlib.pyplot as plt

    monkeypatch.setattr("covidxr.course.sandbox.PATIENCE", 0.2)
    monkeypatch.chdir(tmp_path)
    plt.figure()
    random.seed(7)
    np.random.seed(7)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for key in ("dicom.1", "eda.1", "metrics.1", "detect.1"):
                one = EXERCISES[key]
                before = _state()
                one.check(_made(one.code, one.name) if isinstance(answer, str) else answer)
                after = _state()
                assert [name for name in before if before[name] != after[name]] == [], key
    finally:
        plt.close("all")


def test_checks_in_several_threads_lose_no_output_and_no_filter(capsys):
    before = _state()
    wrong = [lambda *_: print("flood"), _clearer, lambda *_: []] * 3
    own = [threading.Thread(target=EXERCISES["metrics.1"].check, args=(answer,)) for answer in wrong]
    for thread in own:
        thread.start()
    for thread in own:
        thread.join()
    after = _state()
    assert [name for name in before if before[name] != after[name]] == []
    print("still heard")
    assert capsys.readouterr().out == "still heard\n"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm clock on this system")
def test_an_alarm_that_the_caller_has_set_still_rings():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        EXERCISES["phantom.3"].check(30)
        EXERCISES["dicom.1"].check(lambda *_: [])
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0 or rung
        time.sleep(0.6)
        assert len(rung) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


LAST_ALARM = """
import signal, time
from covidxr.course import sandbox

real = signal.setitimer

def late(which, seconds, interval=0.0):
    answer = real(which, seconds, interval)
    if not seconds:  # it rang just before it was stopped, and Python hears of it only now
        signal.raise_signal(signal.SIGALRM)
    return answer

signal.signal(signal.SIGALRM, signal.SIG_IGN)  # as long as the clock is not ours
sandbox.PATIENCE, signal.setitimer = 0.1, late
ends = time.monotonic() + 0.5

def answer():
    while time.monotonic() < ends:
        try:
            sum(range(1000))
        except:
            continue

sandbox.call(answer, ())
signal.signal(signal.SIGALRM, signal.SIG_DFL)
time.sleep(0.5)
print("alive", real(signal.ITIMER_REAL, 0))
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm clock on this system")
def test_a_last_alarm_that_comes_late_does_not_end_the_learners_process():
    "It had set the clock anew, and nobody was there to hear it: the system then ends the process (in one call of 25)"
    done = subprocess.run([sys.executable, "-c", LAST_ALARM], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("alive (0.0, 0.0)\n", 0), done.stderr


def test_an_answer_that_is_drawn_is_a_picture_and_no_figure_is_left_open():
    import matplotlib.pyplot as plt

    one: Exercise = EXERCISES["detect.1"]
    verdict = one.check(_made(ANSWERS["detect.1"]["wrong"][0], one.name))
    assert verdict.picture and plt.get_fignums() == []
