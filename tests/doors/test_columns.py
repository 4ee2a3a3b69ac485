"Tables whose columns pandas keeps in other ways (categories, dates, Arrow, …) give what plain ones give"

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from covidxr.base.terms import APPEARANCES
from covidxr.calibrate import calibrate, conformal, operating_points, reliability
from covidxr.dataset import Dataset, problems
from covidxr.eda import summary
from covidxr.ensemble import (
    choose_class_weights,
    class_score,
    fuse_boxes,
    mean_probabilities,
    nms,
    non_maximum_weighted,
    none_confidence,
    rerank_boxes,
    rescale_boxes,
    revise_classes,
    soft_nms,
    weighted_boxes_fusion,
)
from covidxr.folds import patient_folds, rounds
from covidxr.metrics import average_precision, bootstrap_scores, operating_point, roc_auc, score
from covidxr.prepare import from_cache, to_cache
from covidxr.severity import agreement
from covidxr.shortcuts import subgroups
from covidxr.stacking import fit_stacking, nested_fusion, stack
from covidxr.submission import fuse_submissions, submission_ids, submission_table
from covidxr.views import boxes_back

CLASSES, COUNT = list(APPEARANCES), 40


def _chances(seed: int) -> pd.DataFrame:
    "What a network says of forty studies of twenty patients"
    rng = np.random.default_rng(seed)
    right = np.tile(np.eye(4), (COUNT // 4, 1))
    table = pd.DataFrame(0.7 * rng.dirichlet(np.ones(4), COUNT) + 0.3 * right, columns=CLASSES)
    names = [f"s{number:02d}" for number in range(COUNT)]
    return table.assign(
        study_id=names, patient_id=[f"p{number // 2}" for number in range(COUNT)], label=CLASSES * (COUNT // 4)
    )


def _known() -> pd.DataFrame:
    "What it says of forty others"
    return _chances(2).assign(study_id=lambda t: "k" + t["study_id"], patient_id=lambda t: "k" + t["patient_id"])


def _boxes(seed: int) -> pd.DataFrame:
    "Some boxes of two detectors in ten images"
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 200, (60, 2)) * 1.0
    table = pd.DataFrame(np.c_[corners, corners + rng.integers(40, 120, (60, 2))], columns=list(_corners()))
    images = [f"i{number % 10}" for number in range(60)]
    return table.assign(image_id=images, model=["m", "n", "n"] * 20, confidence=rng.random(60).round(3))


def _corners() -> tuple[str, ...]:
    return ("x_min", "y_min", "x_max", "y_max")


def _rows(seed: int) -> pd.DataFrame:
    "Rows of a submission, or of its truth"
    boxes = _boxes(seed).drop(columns="model")
    boxes["id"] = boxes.pop("image_id") + "_image"
    return boxes.assign(label=["opacity", "none"] * 30, model="one")


SIDES = pd.DataFrame({"image_id": [f"i{n}" for n in range(10)], "height": 400, "width": 300, "left": 4, "top": 0})
INDEX = SIDES.assign(scale=0.5, scale_y=0.5, split="train", study_id=SIDES["image_id"].str.replace("i", "s"))
NONE = {name: 0.1 * place for place, name in enumerate(SIDES["image_id"])}
LABELS = _chances(0).set_index("study_id")["label"]
GROUPS = _chances(0).set_index("study_id")["patient_id"]
READINGS = pd.DataFrame({"a": [0, 3, 2, 5, 8, 1], "b": [1, 3, 3, 5, 7, 1], "c": [0, 4, 2, 6, 8, 0]})
EXAMS = pd.DataFrame({"sick": [0, 1, 1, 0] * 10, "logit": np.arange(COUNT) % 7, "sex": ["F", "M"] * 20}).assign(
    patient=_chances(0)["patient_id"]
)
DOORS = {  # name to the tables that it is given, and what is done with them
    "score": ([_rows(1).drop(columns="confidence"), _rows(2)], lambda one, two: pd.Series(score(one, two).per_class)),
    "average_precision": (
        [_rows(1)[lambda t: t.label == "opacity"], _rows(2)[lambda t: t.label == "opacity"]],
        lambda one, two: pd.Series([average_precision(one, two)]),
    ),
    "bootstrap_scores": (
        [_rows(1), _rows(2)],
        lambda one, two: bootstrap_scores(one, {"a": two}, {f"i{n}_image": f"p{n // 2}" for n in range(10)}, 50),
    ),
    "roc_auc": ([EXAMS], lambda t: pd.Series(roc_auc(t["sick"], t["logit"], t["patient"], draws=50))),
    "operating_point": ([EXAMS], lambda t: operating_point(t["sick"], t["logit"], threshold=3, groups=t["patient"])),
    "subgroups": ([EXAMS], lambda t: subgroups(t, "sex", patient="patient", draws=50)),
    "reliability": ([_chances(1)], lambda t: pd.DataFrame(reliability(t, draws=20)["bins"])),
    "calibrate": ([_chances(1), _known()], lambda one, two: calibrate(one, two)[CLASSES]),
    "conformal": ([_chances(1), _known()], lambda one, two: conformal(one, two, by_class=True)),
    "operating_points": ([_chances(1), _known()], operating_points),
    "class_score": ([_chances(1)], lambda t: pd.Series([class_score(_narrow(t), t.set_index("study_id")["label"])])),
    "mean_probabilities": (
        [_chances(1), _chances(2)],
        lambda one, two: mean_probabilities({"a": _narrow(one), "b": _narrow(two)}),
    ),
    "choose_class_weights": (
        [_chances(1), _chances(2)],
        lambda one, two: pd.Series(
            choose_class_weights({"a": _narrow(one), "b": _narrow(two)}, one.set_index("study_id")["label"])
        ),
    ),
    "stacking": (
        [_chances(1), _chances(2)],
        lambda one, two: stack(
            {"a": _narrow(one), "b": _narrow(two)},
            fit_stacking({"a": _narrow(one), "b": _narrow(two)}, one.set_index("study_id")["label"]),
        ),
    ),
    "nested_fusion": (
        [_chances(1), _chances(2)],
        lambda one, two: nested_fusion(
            {"a": _narrow(one), "b": _narrow(two)}, LABELS, one.set_index("study_id")["patient_id"], folds=2, draws=20
        ),
    ),
    **{
        name: ([_boxes(1)], way)
        for name, way in {
            "wbf": weighted_boxes_fusion,
            "weighted wbf": partial(weighted_boxes_fusion, weights={"m": 0.3, "n": 0.7}),
            "nms": nms,
            "soft_nms": soft_nms,
            "nmw": non_maximum_weighted,
            "fuse_boxes": fuse_boxes,
            "rescale_boxes": rescale_boxes,
            "none_confidence": partial(none_confidence, NONE),
            "rerank_boxes": lambda t: rerank_boxes(t, NONE),
        }.items()
    },
    "revise_classes": (
        [_chances(1)],
        lambda t: revise_classes(_narrow(t), {"typical": 0.1, "negative": 0.9}, dict.fromkeys(t["study_id"], 0.4)),
    ),
    "to_cache": ([_boxes(1), INDEX], to_cache),
    "from_cache": ([_boxes(1), INDEX], from_cache),
    "agreement": ([READINGS], lambda t: agreement(t[["a", "b", "c"]], draws=20)),
    "submission_table": (
        [_chances(1).head(10), fuse_boxes(_boxes(1))],
        lambda one, two: submission_table(_narrow(one), two, NONE),
    ),
    "submission_ids": ([INDEX], lambda t: pd.Series(submission_ids(t))),
    "fuse_submissions": ([_rows(1), _rows(2)], lambda one, two: fuse_submissions([one, two])),
}


def _narrow(table: pd.DataFrame) -> pd.DataFrame:
    "The studies' ids and their probabilities"
    return table[["study_id", *CLASSES]]


def _unread(table: pd.DataFrame) -> pd.DataFrame:
    "Beside the columns that are read, one of every kind that pandas has"
    number = np.arange(len(table))
    day = pd.Timestamp("2020-03-01")
    return table.assign(
        groups=pd.cut(number, [0, 5, 1000]),  # the first is in none
        grade=pd.Categorical([None, *[2] * (len(table) - 1)]),
        told=pd.Categorical([None, *[True] * (len(table) - 1)]),
        view=pd.Categorical(["PA", "AP"] * len(table))[: len(table)],
        zoned=day.tz_localize("Asia/Seoul"),
        day=day,
        month=day.to_period("M"),
        span=day - pd.Timestamp("2020-01-01"),
        sparse=pd.arrays.SparseArray(number % 2),
        whole=pd.array(number, dtype="Int64"),
        thing=[{"a": 1}] * len(table),
        swapped=number.astype(">i4"),
    )


def _categories(table: pd.DataFrame) -> pd.DataFrame:
    "Text as categories, in another order than the alphabet's and with one that no row has"
    made = table.copy()
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            known = sorted(table[name].unique(), reverse=True)
            made[name] = pd.Categorical(table[name], ["of no row", *known])
    return made


def _arrow(table: pd.DataFrame) -> pd.DataFrame:
    "All in Arrow's own types"
    pytest.importorskip("pyarrow")
    return table.convert_dtypes(dtype_backend="pyarrow")


def _nullable(table: pd.DataFrame) -> pd.DataFrame:
    "All in the types of pandas that know a missing value"
    return table.convert_dtypes(dtype_backend="numpy_nullable")


def _objects(table: pd.DataFrame) -> pd.DataFrame:
    "All as Python's own objects"
    return table.astype(object)


KINDS = {"unread": _unread, "categories": _categories, "arrow": _arrow, "nullable": _nullable, "objects": _objects}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_a_column_kept_in_another_way_changes_no_answer(door, kind):
    tables, way = DOORS[door]
    wanted = way(*(table.copy() for table in tables))
    if kind == "unread" and door == "agreement":
        pytest.skip("each column of this table is a reader")
    found = way(*(KINDS[kind](table) for table in tables))
    _same(found, wanted)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    "The index is called as the first column, as after a loop of pandas"
    return table.rename_axis(index=table.columns[0])


def _levels(table: pd.DataFrame) -> pd.DataFrame:
    "Every column is a level of the index, too"
    return table.set_index(list(table.columns), drop=False)


@pytest.mark.parametrize("way", [_named, _levels])
@pytest.mark.parametrize("door", DOORS)
def test_an_index_that_is_called_as_a_column_changes_no_answer(door, way):
    tables, ask = DOORS[door]
    wanted, found = ask(*(table.copy() for table in tables)), ask(*map(way, tables))
    if isinstance(wanted, pd.DataFrame):
        wanted, found = wanted.reset_index(drop=True), found.reset_index(drop=True)
    _same(found, wanted)


@pytest.mark.parametrize("way", [_named, _levels])
def test_tables_with_such_an_index_are_left_as_they_are(way):
    boxes = way(_boxes(1))
    before = boxes.copy()
    none_confidence(NONE, boxes)
    weighted_boxes_fusion(boxes)
    pd.testing.assert_frame_equal(boxes, before)
    assert boxes.index.names == before.index.names


def _same(found: pd.DataFrame | pd.Series | dict, wanted: pd.DataFrame | pd.Series | dict) -> None:
    "The values that a door gives, whatever they are kept in"
    if isinstance(wanted, pd.DataFrame):
        found, wanted = found.reset_index(), wanted.reset_index()
        found = found[wanted.columns]
        for name in wanted.columns:
            _same(found[name], wanted[name])
    elif isinstance(wanted, dict):
        for name, value in wanted.items():
            _same(found[name], value)
    elif pd.api.types.is_numeric_dtype(np.asarray(wanted)):
        np.testing.assert_allclose(np.asarray(found, float), np.asarray(wanted, float), rtol=1e-9)
    else:
        assert list(map(str, np.asarray(found))) == list(map(str, np.asarray(wanted)))


def _dataset(way) -> Dataset:
    "Made by hand, of tables whose columns are kept in some way"
    of = _chances(0)
    marks = pd.get_dummies(of["label"])[CLASSES].astype(int)
    studies = pd.concat([of[["study_id"]].assign(split="train"), marks], axis=1)
    images = of[["study_id", "patient_id"]].assign(split="train", view=["PA", "AP"] * 20, path="x", height=9, width=9)
    images["image_id"] = images["study_id"].str.replace("s", "i")
    boxes = pd.DataFrame({"image_id": ["i01", "i02"], "x_min": 1.0, "y_min": 1.0, "x_max": 5.0, "y_max": 6.0})
    return Dataset("nowhere", True, tuple(CLASSES), way(studies), way(images), way(boxes))


@pytest.mark.parametrize("kind", [*KINDS, "named", "levels"])
def test_a_dataset_made_by_hand_is_split_and_told_alike(kind):
    ways = KINDS | {"named": _named, "levels": _levels}
    plain, other = _dataset(lambda table: table), _dataset(ways[kind])
    _same(other.labels().sort_index(), plain.labels().sort_index())
    _same(patient_folds(other, folds=4), patient_folds(plain, folds=4))
    folds = [rounds(patient_folds(one, folds=4)) for one in (other, plain)]
    assert [sorted(one.valid) for one in folds[0]] == [sorted(one.valid) for one in folds[1]]
    assert len(other.unboxed()) == COUNT and other.unboxed().sum() == COUNT - 2
    assert len(problems(other)) == len(problems(plain))
    assert json.dumps(summary(other), default=str) == json.dumps(summary(plain), default=str)


def test_the_view_of_a_box_takes_any_kind_too():
    from covidxr.views import View

    boxes = _boxes(3)
    for kind in ("unread", "categories", "arrow", "nullable", "objects"):
        _same(boxes_back(KINDS[kind](boxes), View(flip=True), 300, 400), boxes_back(boxes, View(flip=True), 300, 400))
