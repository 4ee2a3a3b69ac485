"What is not meant is refused in one sentence of our own, by every public function of the score, the fusions, the views, the submission and of scale."

import inspect
import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from covidxr import ensemble, ensemble_boxes, metrics, scale, stacking, submission, views
from covidxr.base.errors import CovidxrError, DataError, SubmissionError, XrayError
from covidxr.base.extras import opencv
from covidxr.base.terms import BOX_COLUMNS
from covidxr.boxes import clusters
from covidxr.ensemble import fuse_boxes, none_confidence, revise_classes
from covidxr.metrics import bootstrap_scores, confusion_table, operating_point, roc_auc, score
from covidxr.stacking import Stacking, fit_stacking, nested_fusion, stack
from covidxr.submission import fuse_submissions
from covidxr.views import VIEWS, View, apply_view, boxes_back, fuse_views, predict_views

TRUE = pd.DataFrame([("a", "opacity", 0, 0, 4, 4), ("b", "none", 0, 0, 1, 1)], columns=["id", "label", *BOX_COLUMNS])
SAID = TRUE.assign(confidence=[0.9, 0.2])
BOXES = pd.DataFrame(
    [("a", 0, 0, 4, 4, 0.9, "A"), ("b", 0, 0, 4, 5, 0.6, "B")],
    columns=["image_id", *BOX_COLUMNS, "confidence", "model"],
)
STUDIES = pd.DataFrame({"study_id": ["s", "t"], "negative": [0.2, 0.6], "typical": [0.8, 0.4]})
ROWS = pd.DataFrame(
    [("s_study", "typical", 0.7, 0, 0, 1, 1), ("a_image", "opacity", 0.6, 5, 5, 50, 60)],
    columns=["id", "label", "confidence", *BOX_COLUMNS],
)
LISTS = ([[[0.1, 0.1, 0.5, 0.5]], [[0.1, 0.1, 0.5, 0.6]]], [[0.9], [0.8]], [[0], [0]])
OWNERS = pd.Series({"a": "p", "b": "q"})
CLASSES = pd.Series({"s": "typical", "t": "negative"})
FOUR = pd.DataFrame({"study_id": list("stuv"), "negative": [0.2, 0.6, 0.3, 0.7], "typical": [0.8, 0.4, 0.7, 0.3]})
LABELS = pd.Series({"s": "typical", "t": "negative", "u": "typical", "v": "negative"})
PATIENTS = pd.Series({"s": "p", "t": "q", "u": "r", "v": "o"})
STACKED = Stacking(["x"], ["negative", "typical"], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
PICTURE = np.arange(48, dtype=np.uint8).reshape(6, 8)
FILE = "id,PredictionString\ns_study,typical 1 0 0 1 1\na_image,opacity 1 10 10 60 80\n"


def _bright(table: pd.DataFrame) -> pd.DataFrame:
    "A model that boxes the same place in each picture"
    corners = dict(zip(BOX_COLUMNS, (1, 1, 3, 4), strict=True))
    return table[["image_id"]].assign(**corners, confidence=0.5)


def _calls(folder) -> dict:
    "Each public function with arguments that are right; files lie in a folder"
    one = str(folder / "one.csv")
    draws = bootstrap_scores(TRUE, {"x": SAID, "y": SAID}, OWNERS, draws=5)
    answers = {"target": [0, 1, 1], "value": [0.1, 0.2, 0.3]}
    suppress = {"iou_threshold": 0.5, "weights": {"A": 1, "B": 1}}
    lists = dict(zip(("boxes", "scores", "labels"), LISTS, strict=True))
    listed = dict(zip(("boxes_list", "scores_list", "labels_list"), LISTS, strict=True))
    pair = {"truth": TRUE, "prediction": SAID, "iou_threshold": 0.5, "method": "voc"}
    empty, none = pd.Series({"a": 0.3, "b": 0.8}), pd.Series({"a": False, "b": True})
    fusing = {"boxes": BOXES, "weights": {"A": 1, "B": 1}, "iou_threshold": 0.55}
    opencv().imwrite(str(folder / "a.png"), PICTURE)
    images = pd.DataFrame({"image_id": ["a"], "file": [folder / "a.png"]})
    return {
        scale: {
            "throughput": {"steps": {"decode": (0.1, "core")}, "have": {"core": 8}},
            "run_many": {"work": abs, "items": [], "lost": lambda item, why: why, "workers": 1, "scheduler": None},
        },
        stacking: {
            "fit_stacking": {"tables": {"x": FOUR, "y": FOUR}, "labels": LABELS, "strength": 0.1},
            "stack": {"tables": {"x": FOUR}, "stacking": STACKED},
            "nested_fusion": {"tables": {"x": FOUR}, "labels": LABELS, "groups": PATIENTS, "folds": 2, "draws": 20}
            | {"fusions": {"mean": stacking.FUSIONS["arithmetic mean"]}, "seed": 0},
        },
        views: {
            "apply_view": {"picture": PICTURE, "view": View(flip=True, scale=0.5)},
            "boxes_back": {"boxes": BOXES, "view": View(scale=2), "width": 8, "height": [6, 6], "edge": 0.01},
            "predict_views": {"predict": _bright, "images": images, "views": VIEWS["flip"]},
            "fuse_views": {"predictions": BOXES, "method": "wbf", "iou_threshold": 0.55, "views": None},
        },
        metrics: {
            "box_iou": {"first": [[0, 0, 2, 2]], "second": [[0, 0, 2, 2]]},
            "match": pair,
            "average_precision": pair,
            "precision_recall": pair,
            "score": pair | {"labels": ["opacity"]},
            "bootstrap_scores": {"truth": TRUE, "predictions": {"x": SAID}, "groups": OWNERS, "draws": 5, "seed": 0}
            | {"iou_threshold": 0.5, "method": "voc", "labels": ["opacity"]},
            "paired_difference": {"draws": draws, "first": "x", "second": "y"},
            "roc_auc": answers | {"groups": ["p", "q", "r"], "draws": 20, "seed": 0},
            "auc_difference": {"target": [0, 1, 1], "first": [1, 2, 3], "second": [1, 2, 3], "groups": None}
            | {"draws": 20, "seed": 0},
            "operating_point": answers | {"threshold": 0.2, "groups": ["p", "q", "r"]},
            "confusion_table": {"truth": ["a", "b"], "prediction": ["a", "a"], "labels": ["a", "b"]},
        },
        ensemble: {
            "nms": {"boxes": BOXES} | suppress,
            "soft_nms": {"boxes": BOXES, "method": "linear", "sigma": 0.5, "threshold": 0.001} | suppress,
            "weighted_boxes_fusion": fusing | {"skip_below": 0.0, "confidence_type": "avg"},
            "non_maximum_weighted": fusing | {"skip_below": 0.0},
            "fuse_boxes": fusing | {"method": "wbf"},
            "mean_probabilities": {"tables": {"x": STUDIES}, "weights": {"x": 1}, "method": "power", "power": 2.0},
            "none_confidence": {"empty": empty, "boxes": BOXES, "exponent": 0.5},
            "rescale_boxes": {"boxes": BOXES},
            "rerank_boxes": {"boxes": BOXES, "none": empty, "exponent": 0.5},
            "revise_classes": {"studies": STUDIES, "shares": pd.Series({"negative": 1.0, "typical": 0.1})}
            | {"none": pd.Series({"s": 0.3, "t": 0.6})},
            "choose_weights": {"models": ["x", "y"], "value": lambda weights: 0.5, "margin": 0.02},
            "class_score": {"table": STUDIES, "labels": CLASSES},
            "choose_class_weights": {"tables": {"x": STUDIES, "y": STUDIES}, "labels": CLASSES}
            | {"margin": 0.02, "method": "arithmetic"},
            "choose_box_weights": {"boxes": BOXES, "truth": BOXES[["image_id", *BOX_COLUMNS]], "models": ["A", "B"]}
            | {"margin": 0.02, "iou_threshold": 0.55, "method": "wbf"},
            "choose_none_exponent": {"empty": empty, "boxes": BOXES, "none": none, "margin": 0.02},
            "choose_rerank_exponent": {"boxes": BOXES, "none": empty, "truth": BOXES, "margin": 0.0},
        },
        ensemble_boxes: {
            "weighted_boxes_fusion": listed
            | {"weights": [1, 2], "iou_thr": 0.55, "skip_box_thr": 0.0}
            | {"conf_type": "avg"},
            "non_maximum_weighted": listed | {"weights": [1, 2], "iou_thr": 0.55, "skip_box_thr": 0.0},
            "nms_method": lists | {"method": 3, "iou_thr": 0.5, "sigma": 0.5, "thresh": 0.001, "weights": [1, 2]},
            "nms": lists | {"iou_thr": 0.5, "weights": [1, 2]},
            "soft_nms": lists | {"method": 2, "iou_thr": 0.5, "sigma": 0.5, "thresh": 0.001, "weights": [1, 2]},
        },
        submission: {
            "submission_table": {"studies": STUDIES, "boxes": BOXES, "none": empty},
            "submission_ids": {"images": pd.DataFrame({"image_id": ["a"], "study_id": ["s"]})},
            "write_submission": {"table": ROWS, "ids": ["s_study", "a_image"], "path": folder / "out.csv"},
            "read_submission": {"path": one, "ids": ["s_study", "a_image"], "labels": ["typical", "opacity"]},
            "read_ids": {"path": one},
            "read_truth": {"paths": one},
            "score_submission": {"truth": one, "submission": one},
            "compare_submissions": {"truth": one, "submissions": {"x": one, "y": one}, "draws": 20, "seed": 0},
            "fuse_submissions": {"tables": [ROWS, ROWS], "weights": [1, 2], "iou_threshold": 0.55, "method": "wbf"},
            "fuse_submission_files": {
                "paths": [one, str(folder / "two.csv")],
                "out": folder / "fused.csv",
                "weights": [1, 2],
            }
            | {"method": "wbf"},
        },
    }


ODD = [
    None,
    float("nan"),
    float("inf"),
    -1,
    7,
    0.25,
    True,
    "word",
    "",
    b"\x00",
    [],
    (),
    {},
    [None],
    [[]],
    ["word"],
    [float("nan")],
    [[0.5], [0.25]],
    [[0.1, 0.1, 0.5, 0.5, 0.9]],
    [[1, 2], [3]],
    {"A": "much"},
    {"x": None},
    {None: 1},
    np.zeros(0),
    np.zeros((0, 4)),
    np.zeros((2, 1)),
    np.zeros((2, 3)),
    np.array(0.5),
    np.array(["a", "b"]),
    pd.Series(dtype=float),
    pd.Series([1.0, 1.0], index=["a", "a"]),
    pd.Series({1: 0.5}),
    pd.DataFrame(),
    pd.DataFrame({"id": [1]}),
    object(),
]
BEHIND = {metrics: ["match"], ensemble: ["choose_weights"]}  # of the engine room, and as careful
NAMES = [
    (module, name)
    for module in (metrics, ensemble, ensemble_boxes, stacking, views, submission, scale)
    for name in (*module.__all__, *BEHIND.get(module, ()))
    if inspect.isfunction(getattr(module, name))
]


def _answer(function, arguments: dict):
    "What a function says; whatever it raises must be ours, and one line"
    try:
        if "paths" in arguments and function is submission.read_truth:
            return function(arguments["paths"])
        answer = function(**arguments)
        return list(answer) if inspect.isgenerator(answer) else answer
    except CovidxrError as error:
        assert str(error) and "\n" not in str(error), error
        return error


@pytest.fixture
def calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # "word" is a fine name of a file
    (tmp_path / "one.csv").write_text(FILE)
    (tmp_path / "two.csv").write_text(FILE)
    return _calls(tmp_path)


@pytest.mark.parametrize("module, name", NAMES, ids=[f"{module.__name__[8:]}.{name}" for module, name in NAMES])
def test_odd_arguments_of_every_public_function_raise_our_errors_or_none(calls, recwarn, module, name, tmp_path):
    function, right = getattr(module, name), calls[module][name]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not isinstance(answer := _answer(function, right), CovidxrError), answer
    for argument in right:
        for value in ODD:
            _answer(function, right | {argument: value})
        if isinstance(right[argument], pd.DataFrame):
            for table in _spoilt(right[argument]):
                _answer(function, right | {argument: table})
    assert not recwarn.list, [str(one.message) for one in recwarn.list]
    assert {file: (tmp_path / file).read_bytes() for file in before} == before  # nothing that was there is written over


def _spoilt(table: pd.DataFrame) -> list[pd.DataFrame]:
    "A table without a column, with one twice, and with odd values in it"
    tables = [table.iloc[:0], table[[]], pd.concat([table, table], axis=1)]
    for column in table.columns:
        tables.append(table.drop(columns=column))
        for value in (None, float("nan"), float("inf"), -1, "word", [1, 2], pd.NA, pd.Timestamp(0)):
            cells = pd.Series([value, *table[column].iloc[1:]], index=table.index, dtype=object)
            tables.append(table.assign(**{column: cells}))
    return tables


def test_lists_tuples_arrays_series_and_columns_are_the_same_to_every_function_of_rows():
    target, value, patient = [0, 1, 1, 0], [0.2, 0.1, 0.9, 0.4], ["p", "q", "r", "s"]
    kinds = (list, tuple, np.array, pd.Series, lambda rows: np.array(rows)[:, None])
    answers = [roc_auc(kind(target), kind(value), kind(patient), draws=20) for kind in kinds]
    points = [operating_point(kind(target), kind(value), threshold=0.3, groups=kind(patient)) for kind in kinds]
    tables = [confusion_table(kind(["a", "b"]), kind(["a", "a"]), kind(["a", "b"])) for kind in kinds]
    assert all(one == answers[0] for one in answers)
    assert all(one.equals(points[0]) for one in points) and all(one.equals(tables[0]) for one in tables)
    scores = [score(TRUE, SAID, labels=kind(["opacity", "none"])) for kind in kinds]
    assert all(one == scores[0] for one in scores)
    fused = [fuse_submissions(kind2([ROWS, ROWS]), kind([1, 3])) for kind in kinds for kind2 in (list, tuple)]
    assert all(one.equals(fused[0]) for one in fused)
    given = [none_confidence(kind({"a": 0.3, "b": 0.8}), BOXES) for kind in (dict, pd.Series)]
    assert given[0].equals(given[1])


@pytest.mark.parametrize("name", ["weighted_boxes_fusion", "non_maximum_weighted", "nms", "soft_nms"])
def test_a_column_of_scores_is_taken_as_scores_and_boxes_of_five_numbers_are_refused(name):
    fuse = getattr(ensemble_boxes, name)
    wanted = fuse(*LISTS)
    arrays = [[np.array(one) for one in part] for part in LISTS]
    arrays[1] = [one[:, None] for one in arrays[1]]
    assert all(np.array_equal(one, other) for one, other in zip(fuse(*arrays), wanted, strict=True))
    box, nothing = [[0.1, 0.1, 0.5, 0.5]], np.zeros((0, 7))
    for lists, said in (
        (([[[0.1, 0.1, 0.5, 0.5, 0.9]]], [[0.9]], [[0]]), "each of four numbers .* give confidences apart"),
        (([box, box], [[0.9], [0.8]], [[None], [1]]), "label is missing"),
        (([box, box], [[0.9], [0.8]], [["1"], [1]]), "text for some boxes and numbers for others"),
        (([box, box], [[0.9], [0.8]], [[float("nan")], [1]]), "label is missing"),
        (([box], [[[0.9, 0.1]]], [[0]]), "scores of model 0 .* list of single values"),
        (([box], [["high"]], [[0]]), "scores of model 0 .* must be numbers"),
        (([box], [[float("nan")]], [[0]]), "score that does not lie from 0 to 1"),
        (([box], [[1.5]], [[0]]), "score that does not lie from 0 to 1"),
        (([[[0.1, 0.1, 0.5, float("inf")]]], [[0.9]], [[0]]), "not a number"),
        (([box], [0.9], [[0]]), "scores of model 0"),
        (([box * 2], [[0.9]], [[0]]), "as many for each model"),
    ):
        with pytest.raises(DataError, match=said):
            fuse(*lists)
    assert [len(part) for part in fuse([nothing], [nothing], [nothing])] == [0, 0, 0]
    for weights, said in (([float("nan"), 1], "finite"), ([-1, 2], "0 or more"), ([0, 0], "not all 0"), ("12", "list")):
        with pytest.raises(DataError, match=said):
            fuse(*LISTS, weights=weights)


@pytest.mark.parametrize("method", ["wbf", "nmw", "nms", "soft-nms"])
def test_a_threshold_of_any_kind_of_number_fuses_alike_and_is_not_compiled_anew(method):
    machines = clusters.suppress.machine(), clusters._cluster_groups.machine()  # compiled, as after many boxes
    wanted = fuse_boxes(BOXES, method, iou_threshold=0.0)
    before = [len(machine.signatures) for machine in machines]
    assert any(before)
    for threshold in (0, np.float64(0), np.float32(0), np.array(0)):
        assert fuse_boxes(BOXES, method, iou_threshold=threshold).equals(wanted)
    assert [len(machine.signatures) for machine in machines] == before


def _row(name: str, label: str, confidence: float, *corners: float) -> pd.DataFrame:
    return pd.DataFrame([(name, label, confidence, *corners)], columns=list(ROWS.columns))


@pytest.mark.parametrize("name, label", [("a_image", "none"), ("s_study", "typical")])
def test_labels_without_a_place_are_one_row_whatever_their_corners(name, label):
    usual, other = _row(name, label, 0.6, 0, 0, 1, 1), _row(name, label, 0.6, 0, 0, 2, 2)
    wanted = [dict(zip(ROWS.columns, (name, label, 0.6, 0.0, 0.0, 1.0, 1.0), strict=True))]
    for tables in ([usual, other], [other, usual]):
        assert fuse_submissions(tables).to_dict("records") == wanted
    twice = pd.concat([_row(name, label, 0.6, 0, 0, 1, 1), _row(name, label, 0.2, 0, 0, 3, 3)])
    assert fuse_submissions([twice, _row(name, label, 0.2, 0, 0, 1, 1)])["confidence"].tolist() == [pytest.approx(0.4)]
    kept = fuse_submissions([_row(name, label, 0.6, 0, 0, 2, 2)] * 2)  # where all agree nothing is changed
    assert kept["x_max"].tolist() == [2]


@pytest.mark.parametrize(
    "column, value, said",
    [
        ("confidence", np.nan, "does not lie from 0 to 1"),
        ("confidence", 1.5, "does not lie from 0 to 1"),
        ("label", None, "not text"),
        ("id", np.nan, "not text"),
        ("x_max", np.inf, "not a number"),
        ("x_max", -5, "swapped"),
    ],
)
def test_a_prediction_that_would_be_lost_in_a_mean_is_refused(column, value, said):
    "pandas leaves out rows whose label or confidence is missing, without a word"
    for one in (_row("s_study", "typical", 0.7, 0, 0, 1, 1), _row("a_image", "opacity", 0.6, 5, 5, 50, 60)):
        with pytest.raises(SubmissionError, match=f"submission 2: a prediction .* has .*{said}"):
            fuse_submissions([ROWS, one.astype({column: object}).assign(**{column: [value]})])


def test_the_sensitivity_asked_for_is_reached_by_the_highest_threshold_that_does():
    target, value = [0, 0, 1, 1, 1], [0.1, 0.6, 0.2, 0.7, 0.9]
    for asked, wanted in (
        *((tiny, 0.9) for tiny in (1e-300, 1e-10, 0.1, 1 / 3)),
        (1 / 3 + 1e-6, 0.7),
        (2 / 3, 0.7),
        (2 / 3 + 1e-6, 0.2),
        (1, 0.2),
    ):
        point = operating_point(target, value, sensitivity=asked)
        assert point["threshold"].tolist() == [wanted, wanted], asked
        assert point.loc["sensitivity", "share"] >= asked - 1e-9
    for asked in (0, -1, 1.5, np.nan, np.inf, "0.5", None):
        with pytest.raises(DataError, match="either a threshold"):
            operating_point(target, value, sensitivity=asked)


def test_ids_that_are_text_here_and_numbers_there_are_noticed_where_they_meet():
    "They would never be found, and every image would count as one without a box"
    number = pd.Series({1: 0.3, 2: 0.8})
    with pytest.raises(DataError, match="make them alike"):
        none_confidence(number, BOXES)
    with pytest.raises(DataError, match="make them alike"):
        bootstrap_scores(TRUE, {"x": SAID}, pd.Series({1: "p"}), draws=2)
    with pytest.raises(DataError, match="make them alike"):
        confusion_table(["1"], [1])


def test_classes_without_any_chance_are_named_and_nothing_is_divided_by_0(recwarn):
    nothing = STUDIES.assign(negative=[0.0, 0.6], typical=[0.0, 0.4])
    with pytest.raises(DataError, match="study s: its class probabilities must be 0 or more, and not all 0"):
        revise_classes(nothing, {"negative": 1.0, "typical": 0.1}, {"s": 0.3, "t": 0.6})
    assert not recwarn.list


def test_the_draws_of_an_unknown_name_are_named_with_those_that_there_are():
    draws = bootstrap_scores(TRUE, {"x": SAID}, OWNERS, draws=5, by_class=True)
    for name in ("y", "x", ("x", "typical"), None, ["x"]):
        with pytest.raises(DataError, match="no draws of .* bootstrap_scores returned"):
            metrics.paired_difference(draws, name, ("x", "opacity"))


def test_eight_threads_at_once_get_the_numbers_that_one_gets():
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(0)
    corners = rng.integers(0, 40, (600, 2))
    said = pd.DataFrame(np.hstack([corners, corners + rng.integers(1, 20, (600, 2))]), columns=BOX_COLUMNS)
    said = said.assign(id=rng.integers(0, 40, 600).astype(str), label="opacity", confidence=rng.random(600))
    said["model"] = rng.choice(["A", "B"], 600)
    truth = said.sample(60, random_state=1).drop(columns=["confidence", "model"])
    boxes = said.rename(columns={"id": "image_id"})

    def work(seed: int) -> list:
        draws = bootstrap_scores(truth, {"x": said}, pd.Series(dtype=object), draws=50, seed=seed)
        fused = [fuse_boxes(boxes, method) for method in ("wbf", "nmw", "nms", "soft-nms")]
        return [draws["x"].tolist(), score(truth, said).map, *(one.to_numpy().tolist() for one in fused)]

    settings = np.geterr()
    alone = [work(seed) for seed in range(4)] * 4
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, [0, 1, 2, 3] * 4))
    assert json.dumps(together) == json.dumps(alone) and np.geterr() == settings


def test_a_view_is_what_can_be_looked_at_and_equal_views_have_equal_names():
    for arguments, said in (
        ({"crop": (0.5, 1)}, "four numbers from 0 to 1"),
        ({"crop": (0, 0, float("nan"), 1)}, "four numbers from 0 to 1"),
        ({"crop": ("a", 0, 1, 1)}, "crop of a view must be numbers"),
        ({"crop": None}, "crop of a view must be a list"),
        ({"crop": (0.5, 0, 0.2, 1)}, "left before right"),
        ({"scale": float("nan")}, "scale of a view must lie from 0.05 to 20, not nan"),
        ({"scale": "2"}, "scale of a view must lie"),
        ({"flip": "no"}, "flip of a view must be True or False"),
    ):
        with pytest.raises(DataError, match=said):
            View(**arguments)
    for crop in ([0, 0, 0.5, 1], (0, 0, 0.5, 1), np.array([0, 0, 0.5, 1]), pd.Series([0, 0, 0.5, 1])):
        assert View(np.False_, np.float32(1), crop) == View(crop=(0.0, 0.0, 0.5, 1.0))
        assert View(crop=crop).name == "part (0.0, 0.0, 0.5, 1.0)"
    assert hash(View(crop=[0, 0, 1, 1])) == hash(View())


def test_views_are_taken_in_any_sequence_and_answers_must_be_about_the_pictures(tmp_path):
    images = _calls(tmp_path)[views]["predict_views"]["images"]
    answers = [predict_views(_bright, images, kind(VIEWS["flip"])) for kind in (list, tuple, np.array, pd.Series)]
    assert all(one.equals(answers[0]) for one in answers)
    assert fuse_views(answers[0], views=list(VIEWS["flip"])).equals(fuse_views(answers[0]))
    for answer, said in (
        (lambda table: None, "answer of predict must be a pandas table"),
        (lambda table: table.drop(columns="image_id"), "has no column image_id"),
        (lambda table: _bright(table).assign(image_id="b"), "not asked about image 'b'"),
        (lambda table: _bright(table).assign(x_max=np.nan), "a corner that is not a number"),
        (lambda table: _bright(table).assign(x_max="wide"), "each of four numbers"),
        (lambda table: _bright(table).assign(x_max=0), "its corners swapped"),
    ):
        with pytest.raises(DataError, match=said):
            predict_views(answer, images)
    with pytest.raises(DataError, match="image a is there twice"):
        predict_views(_bright, pd.concat([images, images]))
    with pytest.raises(XrayError, match="None: not a file's name"):
        predict_views(_bright, images.assign(file=None))
    assert len(predict_views(_bright, images[:0])) == 0


def test_chances_of_views_must_be_numbers_and_one_a_view():
    chances = pd.DataFrame({"image_id": ["a", "a"], "typical": [0.2, 0.6], "model": ["as it is", "mirrored"]})
    assert fuse_views(chances).to_dict("records") == [{"image_id": "a", "typical": pytest.approx(0.4)}]
    for wrong, said in (
        (chances.assign(typical=[0.2, np.nan]), "row 1 .*: typical must be a finite number, not nan"),
        (chances.assign(typical=[0.2, np.inf]), "typical must be a finite number, not inf"),
        (chances.assign(typical=["low", 0.6]), "row 0 .*: typical must be a finite number, not 'low'"),
        (chances.assign(model="mirrored"), "image a is there twice for the view mirrored"),
        (chances.drop(columns="model"), "has no column model"),
        (chances.drop(columns="typical"), "no column of numbers"),
    ):
        with pytest.raises(DataError, match=said):
            fuse_views(wrong)


@pytest.mark.parametrize("dtype", ["bool", "int64", "float16", "complex64", "object"])
def test_a_picture_that_opencv_cannot_resize_is_refused_in_every_view(dtype):
    for view in (View(), View(flip=True), View(scale=2)):
        with pytest.raises(DataError, match="must be an array .* of uint8, uint16"):
            apply_view(PICTURE.astype(dtype), view)
    for size in ((0, 4), (4, 0), (4,), (1, 2, 3, 4)):
        with pytest.raises(DataError, match="must be an array"):
            apply_view(np.zeros(size, np.uint8), View())


def test_boxes_come_back_only_from_pictures_of_a_known_size():
    for size, said in (
        ({"width": 0}, "width must be a number above 0"),
        ({"width": float("nan")}, "width must be a number above 0"),
        ({"height": [6, 6, 6]}, "height must be a number above 0, or one for each of 2"),
        ({"height": None}, "height must be a list of values"),
    ):
        with pytest.raises(DataError, match=said):
            boxes_back(BOXES, View(), **({"width": 8, "height": 6} | size))
    kinds = (list, tuple, np.array, pd.Series, lambda one: 8)
    answers = [boxes_back(BOXES, View(flip=True), kind([8, 8]), 6) for kind in kinds]
    assert all(one.equals(answers[0]) for one in answers)


def test_a_stacking_takes_chances_of_the_same_studies_and_says_which_are_not():
    tables = {"x": FOUR, "y": FOUR}
    assert fit_stacking(tables, LABELS) == fit_stacking(tables, LABELS.to_dict())
    for wrong, said in (
        (FOUR.assign(typical=[0.1, np.nan, 0.2, 0.3]), "row 1 .*table of y: typical must lie from 0 to 1, not nan"),
        (FOUR.assign(typical=[0.1, np.inf, 0.2, 0.3]), "typical must lie from 0 to 1, not inf"),
        (FOUR.assign(typical=[0.1, 1.5, 0.2, 0.3]), "typical must lie from 0 to 1, not 1.5"),
        (FOUR.assign(study_id=list("sstu")), "study s is there twice"),
        (FOUR.assign(study_id=["s", None, "u", "v"]), "row 1 .* no id of its study"),
        (FOUR[:3], "predict different studies"),
        (FOUR.drop(columns="typical"), "table of y has no column typical"),
        (FOUR.to_dict("list"), "table of y must be a pandas table"),
    ):
        with pytest.raises(DataError, match=said):
            fit_stacking(tables | {"y": wrong}, LABELS)
        with pytest.raises(DataError, match=said):
            stack({"y": wrong, "x": FOUR}, fit_stacking({"x": FOUR, "y": FOUR}, LABELS))
    for labels, said in (
        (LABELS[:3], "study v has no true class"),
        (LABELS.replace("typical", "negative"), "at least one study of each class"),
        (pd.concat([LABELS, LABELS]), "id s appears twice"),
        (list(LABELS), "must be a pandas Series by id, or a dictionary"),
    ):
        with pytest.raises(DataError, match=said):
            fit_stacking(tables, labels)
    with pytest.raises(DataError, match="two classes"):
        fit_stacking({"x": FOUR[["study_id", "typical"]]}, dict.fromkeys("stuv", "typical"))
    for strength in (0, -1, np.nan, np.inf, "1"):
        with pytest.raises(DataError, match="strength must be above 0"):
            fit_stacking(tables, LABELS, strength)


def test_a_stacking_that_was_changed_by_hand_is_refused_where_it_is_made():
    for change, said in (
        ({"weights": [[1.0, 0.0]]}, "finite numbers of shape \\(2, 2\\)"),
        ({"weights": [[1.0, 0.0], [0.0]]}, "numbers of shape"),
        ({"weights": [[1.0, 0.0], [0.0, float("nan")]]}, "finite numbers"),
        ({"bias": [0.0]}, "finite numbers of shape \\(2,\\)"),
        ({"models": []}, "needs a model and two classes"),
        ({"models": "x"}, "models of a stacking must be a list"),
        ({"classes": ["typical"]}, "needs a model and two classes"),
    ):
        with pytest.raises(DataError, match=said):
            replace(STACKED, **change)
    with pytest.raises(DataError, match="stacking must be what fit_stacking returned"):
        stack({"x": FOUR}, asdict(STACKED))


def test_nested_folds_need_patients_for_each_and_a_function_for_each_fusion():
    right = {"tables": {"x": FOUR}, "labels": LABELS, "groups": PATIENTS, "folds": 2, "draws": 20}
    right["fusions"] = {"mean": stacking.FUSIONS["arithmetic mean"]}
    wanted = nested_fusion(**right)
    assert nested_fusion(**right | {"labels": LABELS.to_dict(), "groups": PATIENTS.to_dict()}).equals(wanted)
    for change, said in (
        ({"folds": 1}, "folds must be a whole number from 2, not 1"),
        ({"folds": 2.0}, "folds must be a whole number"),
        ({"folds": 3}, "3 folds need as many patients, .* here are 2"),
        ({"groups": dict.fromkeys("stuv", "p")}, "2 folds need as many patients, .* here are 1"),
        ({"groups": PATIENTS[:3]}, "study v has no patient"),
        ({"groups": PATIENTS.replace("q", None)}, "study t has no patient"),
        ({"labels": LABELS[:3]}, "study v has no true class"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 2**32}, "seed must be a whole number from 0 to"),
        ({"draws": 0}, "draws must be a whole number from 1"),
        ({"tables": {}}, "no classifier"),
        ({"tables": [FOUR]}, "give a dictionary"),
        ({"tables": {"x": FOUR[:0]}}, "here are 0"),
        ({"fusions": {}}, "no fusion"),
        ({"fusions": {"mean": "mean"}}, "fusion mean must be a function"),
        ({"fusions": {"mean": lambda tables, labels: None}}, "must be a function, not None"),
        ({"fusions": {"mean": lambda tables, labels: lambda rows: None}}, "answer of a fusion must be a pandas table"),
        ({"fusions": {"mean": lambda tables, labels: lambda rows: FOUR}}, "every study that it is given, and for no"),
    ):
        with pytest.raises(DataError, match=said):
            nested_fusion(**right | change)
