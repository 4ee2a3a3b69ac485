"Means, stacking, found weights and views: what they must do, and what they must refuse."

import json
from dataclasses import asdict
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from covidxr.base.arguments import check_cells
from covidxr.base.errors import DataError, XrayError
from covidxr.base.extras import opencv
from covidxr.base.terms import BOX_COLUMNS
from covidxr.boxes.classes import class_score_draws
from covidxr.boxes.competition import study_rows
from covidxr.boxes.matching import ranked_average_precision
from covidxr.ensemble import (
    choose_class_weights,
    choose_rerank_exponent,
    choose_weights,
    class_score,
    fuse_boxes,
    mean_probabilities,
    none_confidence,
    rerank_boxes,
    soft_nms,
)
from covidxr.metrics import bootstrap_scores, operating_point, score
from covidxr.stacking import Stacking, fit_stacking, nested_fusion, stack
from covidxr.submission import fuse_submissions, submission_table
from covidxr.views import VIEWS, View, apply_view, boxes_back, fuse_views, predict_views

CLASSES = ["a", "b", "c"]


def _readers(seed: int = 0, studies: int = 150) -> tuple[dict[str, pd.DataFrame], pd.Series, pd.Series]:
    rng = np.random.default_rng(seed)
    names = [f"s{number}" for number in range(studies)]
    truth = pd.Series(rng.choice(CLASSES, studies), index=names)

    def reader(skill: float) -> pd.DataFrame:
        evidence = np.exp(skill * pd.get_dummies(truth)[CLASSES].to_numpy(float) + rng.normal(size=(studies, 3)))
        return pd.DataFrame(evidence / evidence.sum(axis=1, keepdims=True), columns=CLASSES).assign(study_id=names)

    tables = {"good": reader(2.0), "fair": reader(1.2), "blind": reader(0.0)}
    return tables, truth, pd.Series([f"p{number // 3}" for number in range(studies)], index=names)


def test_every_mean_of_equal_tables_is_that_table_and_ranks_are_places():
    table = _readers()[0]["good"]
    for method in ("arithmetic", "geometric", "power"):
        same = mean_probabilities({"x": table, "y": table}, method=method, power=3.0)
        assert np.allclose(same[CLASSES], table[CLASSES], atol=1e-6)
    ranks = mean_probabilities({"x": table}, method="rank")
    assert ranks["a"].rank().tolist() == table["a"].rank().tolist() and ranks["a"].between(0, 1).all()
    assert class_score(ranks, _readers()[1]) == class_score(table, _readers()[1])
    for options in ({"method": "median"}, {"method": "power", "power": 0}):
        with pytest.raises(DataError, match="unknown mean"):
            mean_probabilities({"x": table}, **options)


@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_a_class_scores_as_its_boxes_of_one_pixel_would_whatever_is_tied_or_absent(decimals):
    for seed in range(20):
        tables, truth, _ = _readers(seed, studies=25)
        table = tables["fair"].round(decimals).assign(nobody=0.1)  # a class that no study has
        expected = score(*study_rows(table, truth), [*CLASSES, "nobody"])
        assert class_score(table, truth) == pytest.approx(expected.map, abs=1e-12)
        for name in CLASSES:
            found = ranked_average_precision(truth.to_numpy() == name, table[name].to_numpy())
            assert found == pytest.approx(expected.per_class[name], abs=1e-12, nan_ok=True)
    assert np.isnan(ranked_average_precision(np.zeros(3, bool), np.ones(3)))


def test_classes_are_drawn_again_as_their_boxes_of_one_pixel_would_be():
    tables, truth, patients = _readers(studies=40)
    tables = {name: table.round(1) for name, table in tables.items()}
    found = class_score_draws(tables, truth, patients, 30, 1)
    boxes = {name: study_rows(table, truth)[1] for name, table in tables.items()}
    expected = bootstrap_scores(study_rows(tables["good"], truth)[0], boxes, patients, 30, 1)
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-12)
    assert found.attrs["patients"] == expected.attrs["patients"]


def test_a_stacking_is_plain_numbers_and_learns_whom_to_trust():
    tables, truth, _ = _readers()
    fitted = fit_stacking(tables, truth, strength=1.0)
    again = Stacking(**json.loads(json.dumps(asdict(fitted))))
    assert np.allclose(stack(tables, again)[CLASSES], stack(tables, fitted)[CLASSES])
    size = np.abs(np.array(fitted.weights)).reshape(3, 3, 3).sum(axis=(0, 2))
    assert size[0] > size[1] > size[2]
    mixed = {name: table.sample(frac=1, random_state=1) for name, table in tables.items()}
    one, other = (stack(part, fitted).set_index("study_id").sort_index() for part in (tables, mixed))
    assert np.allclose(one, other)


def test_two_classes_are_stacked_as_scikit_learn_would():
    from sklearn.linear_model import LogisticRegression

    tables, truth, _ = _readers()
    pair = {name: table[["study_id", "b", "a"]] for name, table in tables.items()}
    two = truth.replace("c", "a")
    said = stack(pair, fit_stacking(pair, two, strength=0.5))
    evidence = np.hstack([np.log(table[["b", "a"]].clip(1e-4, 1)) for table in pair.values()])
    model = LogisticRegression(C=0.5, tol=1e-9, max_iter=5000).fit(evidence, two)
    assert np.allclose(said[["a", "b"]], model.predict_proba(evidence), atol=1e-6)


def test_classes_that_stand_in_no_order_of_the_alphabet_are_stacked_as_scikit_learn_would():
    from sklearn.linear_model import LogisticRegression

    tables, truth, _ = _readers()
    order = ["c", "a", "b"]  # as the competition's: negative, typical, indeterminate, atypical
    mixed = {name: table[["study_id", *order]] for name, table in tables.items()}
    said = stack(mixed, fit_stacking(mixed, truth, strength=0.5))
    evidence = np.hstack([np.log(table[order].clip(1e-4, 1)) for table in mixed.values()])
    model = LogisticRegression(C=0.5, tol=1e-9, max_iter=5000).fit(evidence, truth)
    assert list(said) == ["study_id", *order]
    assert np.allclose(said[list(model.classes_)], model.predict_proba(evidence), atol=1e-6)


def test_stacking_refuses_what_it_cannot_learn_or_say():
    tables, truth, _ = _readers()
    fitted = fit_stacking(tables, truth)
    for work, said in (
        (lambda: fit_stacking({}, truth), "no classifier"),
        (lambda: fit_stacking(tables, truth.replace("c", "a")), "each class"),
        (lambda: fit_stacking(tables, truth[:20]), "study s20 has no true class"),
        (lambda: stack({"good": tables["good"]}, fitted), "no table of model fair"),
        (lambda: stack(tables | {"fair": tables["fair"][:5]}, fitted), "different studies"),
    ):
        with pytest.raises(DataError, match=said):
            work()


def test_held_out_gains_are_smaller_than_seen_ones_and_a_constant_fusion_has_none():
    tables, truth, patients = _readers(studies=90)
    found = nested_fusion(tables, truth, patients, draws=50)
    plain = found.loc["arithmetic mean"]
    assert plain["gain"] == plain["low"] == plain["high"] == 0 and plain["seen"] == plain["held_out"]
    assert found.loc["stacking", "seen"] > found.loc["stacking", "held_out"]
    assert (found["low"] <= found["gain"] + 1e-9).all() and (found["gain"] <= found["high"] + 1e-9).all()


def test_no_patient_stands_on_both_sides_of_a_nested_fold():
    tables, truth, patients = _readers(studies=60)
    seen = []

    def spy(part: dict, labels: pd.Series):
        fitted = set(patients[part["good"]["study_id"]])

        def fuse(other: dict) -> pd.DataFrame:
            seen.append((fitted, set(patients[other["good"]["study_id"]])))
            return other["good"]

        return fuse

    nested_fusion(tables, truth, patients, {"spy": spy}, folds=3, draws=5)
    apart = [pair for pair in seen if pair[0] != pair[1]]
    assert len(apart) == 3 and all(not fitted & held for fitted, held in apart)


def test_weights_of_many_models_are_climbed_and_equal_ones_kept_without_a_gain():
    calls = []

    def value(weights: dict) -> float:
        calls.append(weights)
        return weights["a"] - abs(weights["b"] - 0.2)

    names = list("abcdefgh")
    found = choose_weights(names, value)
    assert found["a"] > 0.2 and sum(found.values()) == pytest.approx(1) and len(calls) < 500
    assert set(choose_weights(names, lambda weights: 0.5).values()) == {0.125}
    assert choose_weights(["a", "b"], lambda weights: weights["a"] * 0.01) == {"a": 0.5, "b": 0.5}


def test_boxes_are_ranked_by_their_image_and_exponents_are_chosen():
    boxes = pd.DataFrame(
        [("x", 0, 0, 9, 9, 0.5), ("y", 0, 0, 9, 9, 0.6)], columns=["image_id", *BOX_COLUMNS, "confidence"]
    )
    none = pd.Series({"x": 0.1, "y": 0.9})
    assert rerank_boxes(boxes, none, 0).equals(boxes)
    assert rerank_boxes(boxes, none, 0.5)["confidence"].tolist() == pytest.approx(
        [(0.5 * 0.9) ** 0.5, (0.6 * 0.1) ** 0.5]
    )
    assert choose_rerank_exponent(boxes, none, boxes[:1]) > 0
    assert choose_rerank_exponent(boxes, none, boxes[1:]) == 0
    for wrong in (none[:1], none + 1):
        with pytest.raises(DataError, match="none must be there"):
            rerank_boxes(boxes, wrong)
    with pytest.raises(DataError, match="exponent"):
        rerank_boxes(boxes, none, 2)


def test_unknown_ways_of_fusing_are_named():
    boxes = pd.DataFrame([("x", 0, 0, 9, 9, 0.5)], columns=["image_id", *BOX_COLUMNS, "confidence"])
    for work, said in (
        (lambda: fuse_boxes(boxes, "mean"), "wbf, nmw"),
        (lambda: soft_nms(boxes, "cubic"), "linear or gaussian"),
        (lambda: soft_nms(boxes, sigma=0), "sigma"),
    ):
        with pytest.raises(DataError, match=said):
            work()
    for method in ("wbf", "nmw", "nms", "soft-nms"):
        assert list(fuse_boxes(boxes.iloc[:0], method).columns) == ["image_id", *BOX_COLUMNS, "confidence"]
        flat = pd.concat([boxes, boxes.assign(x_max=0)])  # a box without area
        assert len(fuse_boxes(flat, method)) == 1


@pytest.mark.parametrize(
    "view", [*VIEWS["flip and scales"], View(True, 1.25, (0.1, 0.2, 0.9, 1.0))], ids=lambda view: view.name
)
def test_a_box_comes_back_from_every_view_to_where_it_was(view):
    picture = np.zeros((211, 173), np.uint8)
    picture[60:120, 70:110] = 255
    rows, columns = np.nonzero(apply_view(picture, view) > 127)
    seen = pd.DataFrame([(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)], columns=BOX_COLUMNS)
    back = boxes_back(seen, view, 173, 211).to_numpy(float)[0]
    assert np.abs(back - [70, 60, 110, 120]).max() <= 1 / min(view.scale, 1) + 0.5


def test_boxes_of_an_oblong_picture_come_back_from_every_view_to_where_they_are(tmp_path):
    import cv2

    picture = np.zeros((60, 100), np.uint8)
    picture[10:30, 70:90] = 255
    cv2.imwrite(str(tmp_path / "x.png"), picture)

    def bright(table: pd.DataFrame) -> pd.DataFrame:
        "A model that boxes what is bright"
        rows, columns = np.nonzero(cv2.imread(table["file"][0], cv2.IMREAD_GRAYSCALE) > 127)
        corners = (columns.min(), rows.min(), columns.max() + 1.0, rows.max() + 1.0)
        return pd.DataFrame([("x", *corners, 0.9)], columns=["image_id", *BOX_COLUMNS, "confidence"])

    views = [*VIEWS["flip and scales"], View(True, 1.25, (0.3, 0.0, 1.0, 0.8))]
    found = predict_views(bright, pd.DataFrame({"image_id": ["x"], "file": [tmp_path / "x.png"]}), views)
    assert found["model"].tolist() == [view.name for view in views]
    assert np.abs(found[BOX_COLUMNS].to_numpy(float) - [70, 10, 90, 30]).max() < 2


def test_a_box_that_a_crop_has_cut_is_left_out_and_one_at_the_pictures_edge_is_kept():
    view = View(crop=(0.5, 0.0, 1.0, 1.0))
    boxes = pd.DataFrame([(0, 10, 20, 30), (30, 0, 50, 30), (10, 10, 20, 30)], columns=BOX_COLUMNS)
    assert boxes_back(boxes, view, 100, 80)["x_min"].tolist() == [80, 60]
    view = View(crop=(0.0, 0.0, 1.0, 0.5))  # the upper half: its lower border is the cut
    boxes = pd.DataFrame([(0, 20, 20, 40), (0, 0, 20, 30), (80, 10, 100, 20)], columns=BOX_COLUMNS)
    assert boxes_back(boxes, view, 100, 80)["y_max"].tolist() == [30, 20]


def test_views_ask_a_model_and_name_the_file_that_is_none(tmp_path):
    (tmp_path / "x.png").write_bytes(b"nothing")
    images = pd.DataFrame({"image_id": ["x"], "file": [tmp_path / "x.png"]})
    with pytest.raises(XrayError, match="x.png"):
        predict_views(lambda table: table, images)
    with pytest.raises(DataError, match="no view"):
        predict_views(lambda table: table, images, ())
    nothing = pd.DataFrame(columns=["image_id", *BOX_COLUMNS, "confidence", "model"]).astype(
        dict.fromkeys([*BOX_COLUMNS, "confidence"], float)
    )
    assert len(fuse_views(nothing)) == 0


def test_an_xray_fused_alone_is_fused_as_in_a_batch(tmp_path):
    import cv2

    for name, left in (("x", 10), ("y", 40)):
        picture = np.zeros((60, 60), np.uint8)
        picture[20:40, left : left + 10] = 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    images = pd.DataFrame({"image_id": ["x", "y"], "file": [tmp_path / "x.png", tmp_path / "y.png"]})

    def left_half_only(table: pd.DataFrame) -> pd.DataFrame:
        "A model that is blind at the right: it sees x as it is, and y in the mirror"
        lit = [cv2.imread(file, cv2.IMREAD_GRAYSCALE)[:, :30].any() for file in table["file"]]
        rows = [(name, 10, 20, 20, 40, 0.8) for name, seen in zip(table["image_id"], lit, strict=True) if seen]
        columns = ["image_id", *BOX_COLUMNS, "confidence"]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], float))

    both = predict_views(left_half_only, images)
    alone = predict_views(left_half_only, images[:1])
    assert both.attrs["views"] == alone.attrs["views"] == [view.name for view in VIEWS["flip"]]
    of_x = fuse_views(both).query("image_id == 'x'")
    assert of_x["confidence"].tolist() == [0.4]
    pd.testing.assert_frame_equal(fuse_views(alone), of_x, check_dtype=False)
    kept = pd.DataFrame(alone.to_dict("list"))  # as a file gives it back, without the note
    assert fuse_views(kept)["confidence"].tolist() == [0.8]
    pd.testing.assert_frame_equal(fuse_views(kept, views=VIEWS["flip"]), of_x, check_dtype=False)


def test_an_operating_point_keeps_its_promise_and_its_interval_knows_patients():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(50), 6)
    sick = np.repeat(rng.random(50) < 0.4, 6)
    value = np.repeat(rng.normal(size=50), 6) + 1.5 * sick
    point = operating_point(sick, value, sensitivity=0.9)
    assert point.loc["sensitivity", "share"] >= 0.9
    assert operating_point(sick, value, threshold=point["threshold"].iloc[0]).equals(point)
    together = operating_point(sick, value, sensitivity=0.9, groups=patient)
    width = lambda table: (table["high"] - table["low"]).loc["specificity"]  # noqa: E731
    assert width(together) > 1.8 * width(point)
    certain = operating_point([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1], threshold=0.5)
    assert certain["share"].tolist() == [1, 1] and certain["low"].tolist() == pytest.approx([0.3424, 0.3424], abs=1e-3)
    for options in ({}, {"threshold": 0.5, "sensitivity": 0.9}, {"sensitivity": 0}, {"sensitivity": 1.5}):
        with pytest.raises(DataError, match="either a threshold"):
            operating_point(sick, value, **options)


def test_where_each_row_is_a_patient_the_interval_is_scipys():
    from scipy.stats import binomtest

    right = np.r_[np.ones(17), np.zeros(8)].astype(bool)
    point = operating_point(np.r_[np.ones(25), 0], np.r_[right, 0], threshold=0.5).loc["sensitivity"]
    known = binomtest(17, 25).proportion_ci(method="wilson")
    assert (point["low"], point["high"]) == pytest.approx((known.low, known.high), abs=1e-6)


def _decimals(values: pd.Series) -> list[Decimal]:
    return [Decimal(str(round(float(one), 4))) for one in values]


@pytest.mark.parametrize("kind", ["float32", "float16", "text", "decimals", "arrow"])
@pytest.mark.parametrize("method, power", [("geometric", 2), ("rank", 2), *(("power", one) for one in (-50, 2, 30))])
def test_a_mean_is_the_same_in_whatever_numbers_its_tables_are_kept(kind, method, power):
    if kind == "arrow":
        kept = pd.ArrowDtype(pytest.importorskip("pyarrow").decimal128(10, 4))
    said = np.array([[1e-4, 0.2999, 0.7], [0.25, 0.5, 0.25], [0.125, 0.375, 0.5], [0.6, 0.3, 0.1]])
    tables, others = {}, {}
    for name, values in {"one": said, "two": said[::-1]}.items():
        table = pd.DataFrame(values, columns=CLASSES)
        if kind in ("float32", "float16"):
            other = table.astype(kind)
            table = other.astype(float)  # the same numbers, before anything is made of them
        elif kind == "text":
            other = table.astype(str)
        else:
            other = table.apply(lambda one: pd.Series(_decimals(one), dtype=kept if kind == "arrow" else object))
        tables[name], others[name] = (one.assign(study_id=list("wxyz")) for one in (table, other))
    wanted, found = (mean_probabilities(one, method=method, power=power)[CLASSES] for one in (tables, others))
    np.testing.assert_allclose(found.to_numpy(float), wanted.to_numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", ["float16", "decimals", "arrow"])
def test_every_door_takes_decimals_and_rounds_nothing_to_16_bits(kind):
    kept = pd.ArrowDtype(pytest.importorskip("pyarrow").decimal128(10, 4)) if kind == "arrow" else object

    def keep(values) -> pd.Series:
        return pd.Series(values, dtype="float16") if kind == "float16" else pd.Series(_decimals(values), dtype=kept)

    exact = [0.25, 0.0625, 0.5, 0.375, 0.125, 0.9375]
    table = pd.DataFrame({"a": exact, "b": [1 - one for one in exact]})
    odd = table.apply(keep)
    assert (check_cells(odd, ["a", "b"], "table", 0, 1) == table.to_numpy()).all()
    none = dict(zip("pqrstu", exact, strict=True))
    boxes = pd.DataFrame(
        {"image_id": list("pqrstu"), "confidence": exact, **dict(zip(BOX_COLUMNS, (1, 2, 30, 40), strict=True))}
    )
    other = boxes.assign(**{name: keep(boxes[name]) for name in ("confidence", *BOX_COLUMNS)})
    mixed = pd.Series(keep(exact).to_numpy(), list("pqrstu"))
    wanted = none_confidence(none, boxes, 0.3)
    pd.testing.assert_series_equal(none_confidence(mixed, other, 0.3), wanted, rtol=1e-12)
    given = boxes.rename(columns={"image_id": "id"}).assign(label="opacity")
    again = other.rename(columns={"image_id": "id"}).assign(label="opacity")
    silent = given.assign(label="none"), again.assign(label="none")
    fused = fuse_submissions([pd.concat([given, silent[0]])] * 2, [0.3, 0.7])
    pd.testing.assert_frame_equal(fuse_submissions([pd.concat([again, silent[1]])] * 2, [0.3, 0.7]), fused, rtol=1e-12)


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "f4", "f8"])
def test_a_view_of_a_picture_of_another_machine_is_the_same_view(kind):
    drawn = np.random.default_rng(0).random((12, 16))
    picture = drawn.astype(kind) if kind[0] == "f" else (drawn * 250).astype(kind)
    for view in (View(scale=0.5), View(flip=True, scale=1.25), View(crop=(0.0, 0.0, 0.75, 0.75))):
        found = apply_view(picture.astype(f">{kind}"), view)
        assert (found == apply_view(picture, view)).all() and found.dtype.isnative


def test_boxes_of_views_are_cut_at_the_edges_of_the_whole_picture(tmp_path):
    file = str(tmp_path / "wide.png")
    opencv().imwrite(file, np.zeros((40, 80), np.uint8))

    def beyond(table: pd.DataFrame) -> pd.DataFrame:  # the last lies below every view
        rows = [(10, 10, 30, 30), (-9, 5, 500, 500), (5, 300, 30, 400)]
        corners = pd.DataFrame(rows, columns=BOX_COLUMNS, dtype=float)
        return corners.assign(image_id=table["image_id"].iloc[0], confidence=0.5, width="kept")

    seen = predict_views(beyond, pd.DataFrame({"image_id": ["a"], "file": [file]}), VIEWS["flip and scales"])
    corners = seen[BOX_COLUMNS].to_numpy()
    assert len(seen) == 12 and set(seen["width"]) == {"kept"}
    assert corners.min() >= 0 and (corners <= [80, 40, 80, 40]).all()
    assert corners[1].tolist() == [0, 5, 80, 40]


@pytest.mark.parametrize("name", ["fold", "Split", "patient_id", "hospital"])
@pytest.mark.parametrize("door", ["arithmetic", "geometric", "power", "rank", "weights", "stacking", "submission"])
def test_a_fold_or_a_patient_of_0_and_1_is_no_class(door, name):
    "It changed all chances of a geometric mean, and stood in submissions as a class"
    tables, labels, _ = _readers()
    told = {model: table.assign(**{name: np.arange(len(table)) % 2}) for model, table in tables.items()}
    boxes = pd.DataFrame(columns=["image_id", *BOX_COLUMNS, "confidence"])
    doors = {
        "weights": lambda: choose_class_weights(told, labels, method="geometric"),
        "stacking": lambda: fit_stacking(told, labels),
        "submission": lambda: submission_table(next(iter(told.values())), boxes, {"i": 0.5}),
    }
    with pytest.raises(DataError, match=f"a column '{name}', which is no class; rename it, or leave it out"):
        doors.get(door, lambda: mean_probabilities(told, method=door))()
