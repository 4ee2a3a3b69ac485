"The course folder: made once, for all lessons, whatever stops it, and nothing of the user's in danger."

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.base.extras import opencv
from covidxr.base.terms import APPEARANCES, BOX_COLUMNS
from covidxr.course import folder as room
from covidxr.prepare import fit_square, to_cache

SIZE = "40"
IN_CHILD = """
import os, sys, time
import covidxr.base.parallel
from covidxr.course import folder as room

covidxr.base.parallel.cores = lambda: 1  # all in this process
made, usual = [], room._make_one

def watched(task):
    made.append(task[1].image_id)
    with open(sys.argv[1], "a") as log:
        print(task[1].image_id, file=log)
    {gate}
    return usual(task)

room._make_one = watched
print(len(room.course_images()), len(made))
"""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    "A place for a small course, still empty"
    monkeypatch.setenv("COVIDXR_COURSE", str(tmp_path / "course"))
    monkeypatch.setenv("COVIDXR_COURSE_SIZE", SIZE)
    return tmp_path / "course"


@pytest.fixture(scope="module")
def small(once) -> Path:
    "A small course that nobody disturbed; not to be changed"

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COVIDXR_COURSE", str(folder))
            patch.setenv("COVIDXR_COURSE_SIZE", SIZE)
            room.course_images()

    return once("small-course", make)


@pytest.fixture
def opened(small, monkeypatch) -> Path:
    "The small course, found by what lessons call"
    monkeypatch.setenv("COVIDXR_COURSE", str(small))
    monkeypatch.setenv("COVIDXR_COURSE_SIZE", SIZE)
    return room.course_folder()


@pytest.fixture
def content(hashes) -> Callable[[Path], dict[str, str]]:
    "Hashes of what a course holds, without marks and locks"
    return lambda folder: {name: sha for name, sha in hashes(folder).items() if ".covidxr" not in name}


def _child(log: Path, gate: str = "") -> subprocess.Popen:
    "Another process that makes the course; it writes down each image that it begins"
    words = [sys.executable, "-c", IN_CHILD.format(gate=gate), str(log)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _until(true: Callable[[], bool]) -> None:
    "Wait until something is so"
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, "nothing happened for two minutes"
        time.sleep(0.02)


def test_the_whole_course_has_the_competitions_shares_and_no_patient_in_two_splits():
    studies = pd.DataFrame(room._plans(3000)).drop_duplicates("study_id")
    assert studies["split"].value_counts().to_dict() == {"train": 2000, "test": 600, "valid": 400}
    assert studies.groupby("patient_id")["split"].nunique().max() == 1
    for name, share in zip(APPEARANCES, (0.28, 0.47, 0.17, 0.08), strict=True):
        assert abs((studies["label"] == name).mean() - share) < 0.03
        assert abs((studies.loc[studies["split"] == "test", "label"] == name).mean() - share) < 0.06
    several = studies.groupby("patient_id").filter(lambda one: len(one) > 1)["split"].value_counts(normalize=True)
    assert abs(several["train"] - 2 / 3) < 0.05  # those who come back are in every split, by its share


@pytest.mark.parametrize("studies", [30, 31, 100, 777])
def test_a_smaller_course_has_the_same_splits(studies):
    table = pd.DataFrame(room._plans(studies)).drop_duplicates("study_id")
    assert table["split"].value_counts().to_dict() == room._rooms(studies)
    assert table.groupby("patient_id")["split"].nunique().max() == 1


def test_the_same_seeds_give_the_same_bytes(opened, place, content):
    assert room.course_images()["file"].str.startswith(str(place)).all()
    assert content(place) == content(opened.parent)


def test_tables_are_what_preparing_and_training_take(opened):
    pytest.importorskip("torch")
    from covidxr.learning.data import image_table, read_squares

    images, boxes = room.course_images(["train", "valid"]), room.course_boxes()
    assert image_table(images, ["label", "valid"])["valid"].equals(images["split"] == "valid")
    squares, _ = read_squares(images["file"], 128)
    assert squares.shape == (len(images), 128, 128) and squares.std(axis=(1, 2)).min() > 10
    assert set(images["label"]) <= set(APPEARANCES)
    every = room.course_images()
    assert every["valid"].equals(every["split"] != "train"), "nothing is learnt from test images by mistake"
    assert list(boxes) == ["image_id", *BOX_COLUMNS] and set(boxes["image_id"]) <= set(every["image_id"])
    mapped = to_cache(boxes, every)
    sides = mapped[["x_max", "y_max"]].to_numpy() - mapped[["x_min", "y_min"]].to_numpy()
    assert (
        (sides > 1).all() and mapped[BOX_COLUMNS].to_numpy().min() >= 0 and mapped[BOX_COLUMNS].to_numpy().max() <= 128
    )
    assert not set(boxes["image_id"]) & set(every.loc[every["label"] == "negative", "image_id"])


def test_an_xray_simulated_once_more_is_the_one_of_the_folder(opened):
    row = room.course_images("test").iloc[-1]
    again = room.course_xray(row["image_id"])
    square, place = fit_square(again.pixels, 128)
    assert np.array_equal(square, opencv().imread(row["file"], opencv().IMREAD_GRAYSCALE))
    assert again.pixels.shape == (row["height"], row["width"])
    assert (place["scale"], place["left"], place["top"]) == (row["scale"], row["left"], row["top"])
    assert (again.appearance, again.severity()["extent"]) == (row["appearance"], row["extent"])
    with pytest.raises(DataError, match="the course has none of this name"):
        room.course_xray("nobody")


def test_whoever_changes_the_pictures_counts_the_recipe_up(opened):
    known = {1: [109.0, 110.45, 87.45, 119.6], 2: [106.86, 109.98, 82.11, 117.66]}
    means = [opencv().imread(file, 0).mean() for file in room.course_images("valid")["file"][:4]]
    assert room._RECIPE in known, "add the new recipe's means here"
    assert np.allclose(means, known[room._RECIPE], atol=0.3), (
        "pictures changed: count _RECIPE up, and note new means here"
    )


def test_a_finished_course_is_only_read(opened, monkeypatch, hashes):
    before = hashes(opened)

    def refuse(*_, **__):
        raise AssertionError("something is written")

    for name in ("owned_folder", "atomic_path", "write_json", "parallel"):
        monkeypatch.setattr(room, name, refuse)
    assert len(room.course_images()) >= int(SIZE) and len(room.course_boxes())
    assert "(made)" in room.course_note()
    assert hashes(opened) == before


def test_a_making_that_is_killed_is_resumed_and_ends_with_the_same_bytes(opened, place, content, tmp_path):
    log = tmp_path / "log"
    killed = _child(log, gate="len(made) == 11 and os.kill(os.getpid(), 9)")
    assert killed.wait() == -signal.SIGKILL
    folder = place / opened.name
    assert not (folder / "images.parquet").exists() and "(made)" not in room.course_note()
    done = sorted((folder / "images").glob("*.png"))
    assert len(done) == 10
    done[3].write_bytes(done[3].read_bytes()[:100])  # what a power cut leaves
    (folder / ".unfinished" / f"{done[4].stem}.json").write_text("{")
    written = {path: path.stat().st_mtime_ns for path in done}
    room.course_images()
    again = {path for path in done if path.stat().st_mtime_ns != written[path]}
    assert again == {done[3], done[4]}, "what was done is kept, what was damaged is made again"
    assert content(place) == content(opened.parent)


def test_two_notebooks_that_begin_at_once_make_each_image_once(place, tmp_path):
    log, gate = tmp_path / "log", tmp_path / "open"
    wait = f"while len(made) == 5 and not os.path.exists({str(gate)!r}): time.sleep(0.02)"
    first = _child(log, wait)
    _until(lambda: log.exists() and len(log.read_text().splitlines()) == 5)
    second = _child(log)
    assert "if another notebook is at it, this one waits" in second.stderr.readline()
    time.sleep(0.5)
    assert second.poll() is None
    gate.touch()
    said = [process.communicate(timeout=300)[0].split() for process in (first, second)]
    begun = log.read_text().split()
    assert len(begun) == len(set(begun)) == int(said[0][0])
    assert said == [[said[0][0], said[0][0]], [said[0][0], "0"]]


def test_what_is_lost_of_a_finished_course_is_made_again(opened, place, content):
    files = [Path(file) for file in room.course_images()["file"]]
    files[0].unlink()
    files[1].write_bytes(b"")
    written = {file: file.stat().st_mtime_ns for file in files[2:]}
    (place / opened.name / "images" / "mine.txt").write_text("mine")
    (room.course_models() / "note.txt").write_text("mine")
    room.course_boxes()
    assert written == {file: file.stat().st_mtime_ns for file in files[2:]}, "the others are kept"
    (place / opened.name / "boxes.parquet").write_bytes(b"PAR1")
    (place / opened.name / "images.parquet").unlink()
    room.course_images()
    assert {name: sha for name, sha in content(place).items() if not name.endswith(".txt")} == content(opened.parent)
    assert (place / opened.name / "images" / "mine.txt").read_text() == "mine"
    assert (room.course_models() / "note.txt").read_text() == "mine"


def test_a_folder_that_holds_something_else_is_refused_untouched(place, hashes):
    place.mkdir()
    (place / "thesis.txt").write_text("mine")
    before = hashes(place)
    for call in (room.course_images, room.course_boxes, room.course_models):
        with pytest.raises(DataError, match="thesis.txt', which covidxr did not write"):
            call()
    assert hashes(place) == before


def test_a_place_that_cannot_be_written_to_is_named_with_the_cure(place, monkeypatch):
    place.write_text("a file")
    with pytest.raises(DataError, match="is a file"):
        room.course_images()
    place.unlink()
    place.parent.joinpath("file").write_text("")
    monkeypatch.setenv("COVIDXR_COURSE", str(place.parent / "file" / "course"))
    for call in (room.course_images, room.course_models):
        with pytest.raises(DataError, match="let the environment variable COVIDXR_COURSE name a folder"):
            call()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_said_in_one_sentence_and_the_next_call_goes_on(number, opened, place, monkeypatch, content):
    usual, made = room._make_one, []

    def full(task):
        made.append(task)
        if len(made) == 4:
            raise OSError(number, os.strerror(number), "there.png")
        return usual(task)

    monkeypatch.setattr(room, "_make_one", full)
    monkeypatch.setattr("covidxr.base.parallel.cores", lambda: 1)
    with pytest.raises(DataError) as caught:
        room.course_images()
    said = str(caught.value)
    assert said.startswith("there.png: ") and ("make room" in said) == (number != errno.EROFS) and "\n" not in said
    room.course_images()
    assert len(made) == 1 + len(content(place)) - 2  # four begun, three of them kept
    assert content(place) == content(opened.parent)


@pytest.mark.parametrize("size", ["many", "-1", "29", "1000000", "3.5", "²"])
def test_an_impossible_size_is_refused(size, place, monkeypatch):
    monkeypatch.setenv("COVIDXR_COURSE_SIZE", size)
    with pytest.raises(DataError, match="COVIDXR_COURSE_SIZE is .* must be a whole number of studies from 30"):
        room.course_images()
    assert not place.exists()


def test_each_size_has_a_folder_of_its_own_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("COVIDXR_COURSE", "COVIDXR_COURSE_SIZE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    whole = room.course_folder()
    monkeypatch.setenv("COVIDXR_COURSE_SIZE", "200")
    assert room.course_folder().parent == whole.parent and room.course_folder() != whole
    if sys.platform == "linux":
        assert whole.parent == tmp_path / ".cache" / "covidxr" / "course"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        assert room.course_folder().parent == tmp_path / "elsewhere" / "covidxr" / "course"
    monkeypatch.setenv("COVIDXR_COURSE", "~/mine")
    assert room.course_folder().parent == tmp_path / "mine"
    assert not list(tmp_path.iterdir()), "to say where it is makes nothing"


def test_a_model_is_trained_by_the_first_lesson_that_needs_it(place):
    trained = []

    def train(folder: Path) -> None:
        trained.append(folder)
        if len(trained) > 1:
            (folder / "config.json").write_text("{}")

    with pytest.raises(DataError, match="left no config.json"):  # the first training stops before its end
        room.course_model("net", train)
    for _ in range(2):
        assert room.course_model("net", train) == room.course_models() / "net"
        assert len(trained) == 2
    with pytest.raises(DataError, match="may have letters"):
        room.course_model("../net", train)


def test_the_command_course_says_where_the_xrays_are(covidxr, opened, tmp_path):
    answer = covidxr("course", tmp_path / "mine")
    assert answer.returncode == 0 and f"Lessons share simulated X-rays: {opened} (made)" in answer.stdout
    elsewhere = {**os.environ, "COVIDXR_COURSE": str(tmp_path / "elsewhere")}
    answer = covidxr("course", tmp_path / "other", env=elsewhere)
    assert str(tmp_path / "elsewhere") in answer.stdout and "the first lesson that needs them" in answer.stdout
    assert not (tmp_path / "elsewhere").exists()


def test_a_training_that_saves_nothing_is_told_and_its_own_error_comes_through(place):
    with pytest.raises(DataError, match="left no config.json"):
        room.course_model("empty", lambda folder: None)

    def broken(folder: Path) -> None:
        raise NotImplementedError("not on this device")

    with pytest.raises(NotImplementedError, match="not on this device"):
        room.course_model("broken", broken)
