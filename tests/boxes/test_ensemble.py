"Fusing by hand-reckoned cases, and refusing what cannot be fused; general properties stand in test_score.py."

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError, SubmissionError
from covidxr.base.terms import BOX_COLUMNS
from covidxr.boxes.competition import study_rows
from covidxr.ensemble import (
    choose_box_weights,
    choose_class_weights,
    choose_none_exponent,
    class_score,
    fuse_boxes,
    mean_probabilities,
    nms,
    none_confidence,
    rescale_boxes,
    revise_classes,
    weighted_boxes_fusion,
)
from covidxr.submission import fuse_submissions

COLUMNS = ["image_id", *BOX_COLUMNS, "confidence", "model"]
PAIR = pd.DataFrame([("x", 0, 0, 10, 10, 0.9, "A"), ("x", 0, 0, 10, 12, 0.6, "B")], columns=COLUMNS)
SUBMISSION = ["id", "label", "confidence", *BOX_COLUMNS]


def test_two_boxes_are_averaged_by_confidence_and_weight():
    fused = weighted_boxes_fusion(PAIR, {"A": 2, "B": 1}).iloc[0]
    assert fused["y_max"] == pytest.approx((1.8 * 10 + 0.6 * 12) / 2.4)
    assert fused["confidence"] == pytest.approx((2 * 0.9 + 0.6) / 3)


def test_a_lone_box_keeps_its_models_share_of_the_say():
    assert weighted_boxes_fusion(PAIR.iloc[:1], {"A": 2, "B": 1})["confidence"].tolist() == [pytest.approx(0.6)]
    assert weighted_boxes_fusion(PAIR, {"A": 1, "B": 0})["confidence"].tolist() == [pytest.approx(0.9)]


def test_fusion_does_not_ask_for_normalised_boxes():
    large, small = weighted_boxes_fusion(PAIR.assign(**PAIR[BOX_COLUMNS] * 300.0)), weighted_boxes_fusion(PAIR)
    assert np.allclose(large[BOX_COLUMNS], small[BOX_COLUMNS] * 300)


@pytest.mark.parametrize(
    "column, value, said",
    [
        ("x_max", np.nan, "not a number"),
        ("x_max", -3, "swapped"),
        ("confidence", 1.2, "0 to 1"),
        ("confidence", np.nan, "0 to 1"),
    ],
)
def test_a_box_that_is_none_is_refused_by_fusion_and_suppression(column, value, said):
    for fuse in (weighted_boxes_fusion, nms):
        with pytest.raises(DataError, match=said):
            fuse(PAIR.assign(**{column: value}))


def test_suppression_keeps_the_surest_of_each_place_and_no_chain_falls_with_its_middle():
    chain = pd.DataFrame(
        [
            ("x", 0, 0, 10, 10, 0.9, "A"),
            ("x", 3, 0, 13, 10, 0.8, "A"),
            ("x", 6, 0, 16, 10, 0.7, "A"),
            ("y", 0, 0, 10, 10, 0.1, "A"),
        ],
        columns=COLUMNS,
    )
    assert nms(chain)["confidence"].tolist() == [0.9, 0.7, 0.1]
    assert nms(chain.sample(frac=1, random_state=1)).equals(nms(chain))
    assert len(nms(chain.iloc[:0])) == 0


def test_probabilities_need_the_same_studies_once_and_a_weight_that_counts():
    table = pd.DataFrame({"study_id": ["s", "t"], "typical": [0.2, 0.4]})
    mean = mean_probabilities({"A": table, "B": table.assign(typical=1.0).iloc[::-1]}, {"A": 3, "B": 1})
    assert mean["typical"].tolist() == pytest.approx([0.4, 0.55])
    for tables, weights, said in (
        ({}, None, "no classifier to average"),
        ({"A": table, "B": table.iloc[:1]}, None, "B and A predict different studies"),
        ({"A": pd.concat([table, table])}, None, "A predicts study s twice"),
        ({"A": table}, {"A": 0}, "not all 0"),
        ({"A": table, "B": table}, {"A": 1}, "model B has no weight"),
        ({"A": table}, {"A": -1}, "0 or more"),
    ):
        with pytest.raises(DataError, match=said):
            mean_probabilities(tables, weights)


def test_equal_models_keep_equal_weights():
    table = pd.DataFrame({"study_id": ["s", "t"], "typical": [0.2, 0.4], "negative": [0.8, 0.6]})
    weights = choose_class_weights({"A": table, "B": table}, pd.Series({"s": "negative", "t": "typical"}))
    assert weights["A"] == weights["B"]
    truth = PAIR[["image_id", *BOX_COLUMNS]].iloc[:1]
    weights = choose_box_weights(PAIR, truth, ["A", "B"])
    assert weights["A"] == weights["B"]
    assert choose_none_exponent(pd.Series({"x": 0.1, "y": 0.9}), PAIR, pd.Series({"x": False, "y": True})) == 0.5


def test_a_useless_detector_loses_its_weight_only_beyond_the_margin():
    rng = np.random.default_rng(0)
    good = pd.DataFrame([(f"i{n}", 0, 0, 10, 10, 0.5 + 0.4 * rng.random(), "good") for n in range(40)], columns=COLUMNS)
    bad = pd.DataFrame([(f"i{n}", 20, 20, 30, 30, 0.7 + 0.3 * rng.random(), "bad") for n in range(40)], columns=COLUMNS)
    both, truth = pd.concat([good, bad]), good[["image_id", *BOX_COLUMNS]]
    weights = choose_box_weights(both, truth, ["bad", "good"])
    assert weights["good"] > weights["bad"]
    weights = choose_box_weights(both, truth, ["bad", "good"], margin=1.0)
    assert weights["good"] == weights["bad"]


def test_a_class_that_one_submission_says_twice_counts_once():
    once = pd.DataFrame([("a_image", "none", 0.6, 0, 0, 1, 1)], columns=SUBMISSION)
    assert fuse_submissions([pd.concat([once, once]), once])["confidence"].tolist() == [pytest.approx(0.6)]
    for tables, weights, said in (
        ([], None, "no submission to fuse"),
        ([once], [1, 2], "1 submissions need 1 weights, not 2"),
        ([once], [0], "not all 0"),
        ([once], [-1], "0 or more"),
        ([once], [float("nan")], "finite"),
        (once, None, "must be a list"),
    ):
        with pytest.raises(SubmissionError, match=said):
            fuse_submissions(tables, weights)


STUDIES = pd.DataFrame({"study_id": ["a", "b"], "negative": [0.5, 0.2], "typical": [0.4, 0.6], "atypical": [0.1, 0.2]})
SHARES = pd.Series({"negative": 1.0, "typical": 0.1, "atypical": 0.4})


def test_classes_agree_with_none_once_they_are_revised_and_keep_their_odds_within_a_case():
    none = pd.Series({"b": 0.3, "a": 0.9})
    revised = revise_classes(STUDIES, SHARES, none).set_index("study_id")
    assert np.allclose(revised.sum(axis=1), 1)
    assert revised.loc["a", "negative"] == pytest.approx(
        0.5 * 0.9 / 0.58
    )  # before, nothing boxed had 0.5 + 0.04 + 0.04
    boxed = STUDIES.set_index("study_id") * (
        1 - SHARES
    )  # negative never is; the others keep their odds among what is boxed
    unboxed = STUDIES.set_index("study_id") * SHARES
    parts = [part.div(part.sum(axis=1), axis=0) for part in (unboxed, boxed)]
    assert np.allclose(revised, parts[0].mul(none, axis=0) + parts[1].mul(1 - none, axis=0))


def test_news_that_is_no_news_changes_nothing_and_missing_news_is_refused():
    before = pd.Series(STUDIES[list(SHARES.index)].to_numpy() @ SHARES.to_numpy(), index=STUDIES["study_id"])
    assert np.allclose(revise_classes(STUDIES, SHARES, before)[list(SHARES.index)], STUDIES[list(SHARES.index)])
    with pytest.raises(DataError, match="study b"):
        revise_classes(STUDIES, SHARES, before[["a"]])
    with pytest.raises(DataError, match="no column 'typical'"):
        revise_classes(STUDIES.drop(columns="typical"), SHARES, before)


MISSING = {
    "an image": (PAIR.assign(image_id=["x", np.nan]), "row 1 .*no image_id"),
    "a label": (PAIR.assign(label=[None, "opacity"]), "row 0 .*no label"),
    "a model": (PAIR.assign(model=["A", None]), "row 1 .*no model"),
    "a column": (PAIR.drop(columns="confidence"), "no column confidence"),
    "a name in one kind": (PAIR.assign(model=["A", 1]), "model .*make them alike"),
    "numbers": (PAIR.assign(x_max=["10", "wide"]), "corner that is not a number"),
}


@pytest.mark.parametrize("what", MISSING)
def test_a_box_that_belongs_nowhere_is_refused_by_every_fusion(what):
    boxes, said = MISSING[what]
    for method in ("wbf", "nmw", "nms", "soft-nms"):
        for weights in (None, {"A": 1, "B": 1}):
            with pytest.raises(DataError, match=said):
                fuse_boxes(boxes, method, weights)


def test_thresholds_and_weights_that_mean_nothing_are_refused_by_every_fusion():
    from covidxr import ensemble_boxes

    for method in ("wbf", "nmw", "nms", "soft-nms"):
        for threshold in (np.nan, -0.1, 55):
            with pytest.raises(DataError, match="IoU threshold must lie from 0 to 1"):
                fuse_boxes(PAIR, method, iou_threshold=threshold)
        for weights, said in (([1, 2], "dictionary"), ({1: 1, 2: 1}, "alike"), ({"A": 1e308, "B": 1e308}, "finite")):
            with pytest.raises(DataError, match=said):
                fuse_boxes(PAIR, method, weights)
    lists = [[[0.1, 0.1, 0.2, 0.2]]] * 2, [[0.9], [0.8]], [[0], [0]]
    for fuse in ("weighted_boxes_fusion", "non_maximum_weighted", "nms", "soft_nms"):
        with pytest.raises(DataError, match="IoU threshold"):
            getattr(ensemble_boxes, fuse)(*lists, iou_thr=55)
        with pytest.raises(DataError, match="finite"):
            getattr(ensemble_boxes, fuse)(*lists, weights=[1e308, 1e308])
    once = pd.DataFrame([("a_image", "none", 0.6, 0, 0, 1, 1)], columns=SUBMISSION)
    with pytest.raises(SubmissionError, match="finite"):
        fuse_submissions([once, once], [1e308, 1e308])


TWO_STUDIES = pd.DataFrame({"study_id": ["s", "t"], "a": [0.2, 0.4], "b": [0.8, 0.6]})


def test_a_mean_takes_columns_in_any_order_and_refuses_what_is_no_probability():
    plain = mean_probabilities({"x": TWO_STUDIES, "y": TWO_STUDIES.assign(a=0.3)})
    assert mean_probabilities({"x": TWO_STUDIES, "y": TWO_STUDIES.assign(a=0.3)[["b", "a", "study_id"]]}).equals(plain)
    for method in ("arithmetic", "geometric", "power", "rank"):
        with pytest.raises(DataError, match="y gives study s the value nan"):
            mean_probabilities({"x": TWO_STUDIES, "y": TWO_STUDIES.assign(a=[np.nan, 0.5])}, method=method)
    for method in ("geometric", "power"):
        with pytest.raises(DataError, match="x gives study t the value 5; .* from 0 to 1"):
            mean_probabilities({"x": TWO_STUDIES.assign(b=[1, 5])}, method=method)
    for power in (np.nan, 0, np.inf, -100):
        with pytest.raises(DataError, match="unknown mean"):
            mean_probabilities({"x": TWO_STUDIES}, method="power", power=power)


def test_a_study_or_image_without_a_known_answer_is_named():
    for work in (class_score, study_rows):
        with pytest.raises(DataError, match="study t has no true class"):
            work(TWO_STUDIES, pd.Series({"s": "b"}))
        with pytest.raises(DataError, match="study s has more than one"):
            work(TWO_STUDIES, pd.Series(["b", "a", "a"], index=["s", "s", "t"]))
    empty = pd.Series({"x": 0.1, "y": 0.9})
    with pytest.raises(DataError, match="image y is not known"):
        choose_none_exponent(empty, PAIR, pd.Series({"x": False}))
    with pytest.raises(DataError, match="image y has no chance"):
        none_confidence(pd.Series({"x": 0.1, "y": np.nan}), PAIR)


def test_a_blind_witness_of_none_loses_its_say():
    rng = np.random.default_rng(0)
    names = [f"i{number}" for number in range(60)]
    none = pd.Series(np.arange(60) < 25, index=names)
    seeing, blind = np.where(none, 0.8, 0.2) + 0.1 * rng.random(60), rng.uniform(0.01, 0.99, 60)
    for empty, surest, chosen in ((seeing, blind, {0.0, 0.25}), (blind, 1 - seeing, {0.75, 1.0})):
        boxes = pd.DataFrame({"image_id": names, "confidence": surest})
        assert choose_none_exponent(pd.Series(empty, index=names), boxes, none) in chosen


def _three_scales() -> pd.DataFrame:
    "Boxes of three detectors on 60 images; each leaves some out"
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        {"image_id": np.repeat([f"i{number}" for number in range(60)], 6), "model": list("AABBCC") * 60}
    )
    table = table.assign(x_min=0.0, y_min=0.0, x_max=9.0, y_max=9.0, confidence=rng.uniform(0.05, 0.5, 360))
    return table[rng.random(360) < 0.7].reset_index(drop=True)


@pytest.mark.parametrize("factor", [0.1, 0.3, 1.5])
def test_rescaling_undoes_the_scale_of_one_detector_and_keeps_the_order_of_its_boxes(factor):
    boxes = _three_scales()
    bent = boxes.assign(confidence=boxes["confidence"] * np.where(boxes["model"] == "C", factor, 1))
    plain, again = rescale_boxes(boxes), rescale_boxes(bent)
    ratio = again["confidence"] / plain["confidence"]
    assert np.ptp(ratio) < 1e-9, "all models are brought to the same scale, whatever it is"
    assert again.drop(columns="confidence").equals(boxes.drop(columns="confidence"))
    surest = again.groupby(["model", "image_id"])["confidence"].max().groupby("model").mean()
    assert np.ptp(surest) < 1e-9
    for _, part in again.groupby("model"):
        assert (part["confidence"].rank() == bent.loc[part.index, "confidence"].rank()).all()


def test_rescaling_never_leaves_0_to_1_and_refuses_boxes_of_no_model():
    boxes = _three_scales()
    low = boxes.assign(confidence=np.where(boxes["model"] == "A", 0.001, 0.9))
    low.loc[low["model"].eq("A").idxmax(), "confidence"] = 1.0
    assert rescale_boxes(low)["confidence"].between(0, 1).all()
    assert (rescale_boxes(boxes.assign(confidence=0.0))["confidence"] == 0).all()
    with pytest.raises(DataError, match="model"):
        rescale_boxes(boxes.drop(columns="model"))
    with pytest.raises(DataError, match="row 3 .* has no model"):
        rescale_boxes(boxes.assign(model=boxes["model"].where(boxes.index != 3)))
