"Exploring a dataset: never in somebody's folder, and every figure of odd data."

import json
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.base.terms import BOX_COLUMNS
from covidxr.dataset import Dataset, open_dataset
from covidxr.eda import box_map, explore, figure, plot_classes, summary

OURS = ["boxes.csv", "figure.png", "images.csv", "studies.csv", "summary.json", "summary.txt"]
THEIRS = [
    "images.csv",
    "boxes.csv",
    "studies.csv",
    "train_study_level.csv",
    "summary.json",
    "eda.png",
    "eda-images.csv",
]


def _data(rows: list[tuple], classes: tuple[str, ...] = ("x", "y"), boxes: list[tuple] = ()) -> Dataset:
    "A dataset of (image, study, patient, class, width, height)"
    table = pd.DataFrame(rows, columns=["image_id", "study_id", "patient_id", "label", "width", "height"])
    studies = table.drop_duplicates("study_id")
    marks = pd.DataFrame({name: (studies["label"] == name).astype(int) for name in classes})
    studies = marks.assign(study_id=studies["study_id"], split="train")
    images = table.drop(columns="label").assign(path="x.png", split="train")
    drawn = pd.DataFrame(list(boxes), columns=["image_id", *BOX_COLUMNS])
    return Dataset(Path("here"), False, classes, studies, images, drawn)


ONE = [("a", "s", "p", "x", 100, 80)]
ODD = {
    "a class without a study": _data([*ONE, ("b", "t", "q", "x", 90, 80)]),
    "one study": _data(ONE, ("x",), [("a", 1, 2, 30, 40)]),
    "unknown sizes": _data([("a", "s", "p", "x", np.nan, np.nan)], boxes=[("a", 1, 2, 30, 40)]),
    "some sizes unknown": _data([*ONE, ("b", "t", "q", "y", np.nan, np.nan)]),
    "no study": _data([]),
    "no class": _data([], ()),
    "a box without area, outside of its image": _data(ONE, boxes=[("a", 300, 300, 300, 200)]),
    "boxes of images that are not there": _data(ONE, boxes=[("a", 1, 2, 3, 4)]),
    "a size of nothing": _data([("a", "s", "p", "x", 0, 0)], boxes=[("a", 1, 2, 3, 4)]),
}
lost = ODD["boxes of images that are not there"]
lost.boxes = lost.boxes.assign(image_id="z")  # `Dataset` takes none such, but tables can be exchanged later


@pytest.mark.parametrize("dataset", ODD.values(), ids=ODD)
def test_every_figure_and_number_of_odd_data_is_made_without_a_warning(dataset, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = explore(dataset, tmp_path / "eda")
        figure(dataset).savefig(tmp_path / "again.png")
    assert json.loads((tmp_path / "eda" / "eda-summary.json").read_text())["classes"] == numbers["classes"]
    assert (tmp_path / "eda" / "eda-figure.png").stat().st_size > 10_000


def test_plot_classes_shows_a_class_without_a_study_as_none():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    plot_classes(ODD["a class without a study"], ax)
    assert [text.get_text() for text in ax.texts] == [" 2 (100%)", " 0 (0%)"]
    assert [bar.get_width() for bar in ax.patches] == [2, 0]


def test_box_map_counts_boxes_on_its_cells():
    dataset = _data(ONE, boxes=[("a", 0, 0, 50, 40), ("a", 0, 0, 25, 80)])
    assert box_map(dataset, 4).tolist() == [[2, 1, 0, 0], [2, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    for cells in (0, 2.5, True):
        with pytest.raises(DataError, match="1 cell a side or more"):
            box_map(dataset, cells)


@pytest.mark.parametrize("name", THEIRS)
def test_explore_never_writes_into_a_folder_that_holds_anything_of_somebody_else(phantom, tmp_path, hashes, name):
    (tmp_path / name).write_text("mine")
    before = hashes(tmp_path)
    with pytest.raises(DataError, match=f"holds '{re.escape(name)}', which covidxr did not write"):
        explore(phantom, tmp_path)
    assert hashes(tmp_path) == before


def test_what_is_counted_and_drawn_is_of_the_labelled_half_alone():
    rows = [("a", "s", "p", "x", 100, 80), ("b", "t", "q", "x", 100, 80), ("c", "u", np.nan, "x", 100, 80)]
    whole = _data(rows, boxes=[(name, 0, 0, 50, 40) for name in "abc"])
    studies, images = whole.studies.copy(), whole.images.copy()
    studies.loc[1:, "split"] = images.loc[1:, "split"] = "test"
    studies[["x", "y"]] = studies[["x", "y"]].astype(float)
    studies.loc[1:, ["x", "y"]] = np.nan
    half = Dataset(Path("here"), False, whole.classes, studies, images, whole.boxes)
    assert (summary(half)["boxes"], summary(half)["none"]) == (1, 0)
    assert box_map(half, 2).tolist() == [[1, 0], [0, 0]]
    nobody = Dataset(
        Path("here"), False, whole.classes, whole.studies, whole.images.assign(patient_id=np.nan), whole.boxes
    )
    assert not summary(nobody)["patients_known"] and summary(whole)["patients_known"]


def test_explore_never_writes_into_a_datasets_own_folder(phantom, tmp_path, hashes):
    from PIL import Image

    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((20, 30), 99, np.uint8)).save(plain / name)
    (plain / "images.csv").write_text("file,label,reader_note\na.png,x,n1\nb.png,y,n2\n")
    open_dataset(phantom)  # its headers.csv is there
    for folder in (plain, phantom):
        before = hashes(folder)
        with pytest.raises(DataError, match="choose a"):
            explore(folder, folder)
        assert hashes(folder) == before
    explore(plain, plain / "eda")  # below it is well
    assert open_dataset(plain).labels().to_dict() == {"a": "x", "b": "y"}


def test_explore_writes_the_same_again_into_its_own_folder(phantom, tmp_path):
    said = explore(str(phantom), str(tmp_path / "eda"))
    assert sorted(path.name for path in (tmp_path / "eda").glob("eda-*")) == [f"eda-{name}" for name in OURS]
    assert explore(open_dataset(phantom), tmp_path / "eda") == said
    assert (tmp_path / "eda" / "eda-summary.txt").read_text() == said["text"] + "\n"
    assert len(pd.read_csv(tmp_path / "eda" / "eda-images.csv")) == len(open_dataset(phantom).images)


def test_explore_writes_tables_of_files_whose_names_are_no_utf8(tmp_path):
    dataset = _data(ONE)
    path = pd.Series([os.fsdecode(b"M\xfcller.dcm")], dtype=object)
    dataset.images = dataset.images.assign(path=path)
    explore(dataset, tmp_path / "eda")
    assert "ller.dcm" in (tmp_path / "eda" / "eda-images.csv").read_text(encoding="utf-8")


def test_summary_counts_by_hand():
    rows = [
        ("a", "s", "p", "x", 9, 9),
        ("b", "s", "p", "x", 9, 9),
        ("c", "t", "p", "y", 9, 9),
        ("d", "u", "q", "y", 9, 9),
    ]
    numbers = summary(_data(rows, boxes=[("c", 1, 1, 2, 2)]))
    assert numbers["studies"] == 3 and numbers["images"] == 4 and numbers["boxes"] == 1 and numbers["none"] == 3
    assert numbers["non_negative_without_box"] == 1 and numbers["studies_with_several_images"] == 1
    assert numbers["patients"] == 2 and numbers["patients_with_several_studies"] == 1
    assert numbers["patients_with_several_classes"] == 1 and numbers["classes"] == {"x": 1, "y": 2}


def test_summary_tells_the_test_half_apart_and_whether_any_patient_is_known():
    data = _data([("a", "s", "s", "x", 9, 9), ("b", "t", "t", "y", 9, 9), ("c", "u", "u", "y", 9, 9)])
    assert summary(data)["patients_known"] is False and summary(data)["test_images"] == 0
    data.images = data.images.assign(patient_id=["s", "p", "u"], split=["train", "train", "test"])
    data.studies = data.studies.assign(split=["train", "train", "test"])
    numbers = summary(data)
    assert numbers["patients_known"] is True, "one that is known is enough to split by patient"
    assert (numbers["test_images"], numbers["images"], numbers["studies"]) == (1, 2, 2)
