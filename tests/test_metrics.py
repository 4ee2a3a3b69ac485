"The metric's sharp edges; what it is at all stands in test_score.py."

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from covidxr.core import BOX_COLUMNS, DataError
from covidxr.metrics import (
    average_precision,
    bootstrap_scores,
    confusion_table,
    precision_recall,
    roc_auc,
    score,
)


def _boxes(rows, label="opacity"):
    return pd.DataFrame(rows, columns=["id", *BOX_COLUMNS, "confidence"][: len(rows[0])]).assign(label=label)


TRUTH = _boxes([("a", 0, 0, 4, 4)])
FALSE_ALARM = _boxes([("b", 0, 0, 4, 4, 0.9), ("a", 0, 0, 4, 4, 0.5)])


def test_a_negative_coordinate_and_doubled_boxes_of_truth_score_one_against_themselves():
    truth = _boxes([("a", -1, 0, 4, 4), ("a", -1, 0, 4, 4), ("a", -1, 0, 4, 4), ("b", 1, 1, 2, 2)])
    assert score(truth, truth.assign(confidence=1.0)).map == 1.0


def test_a_box_at_exactly_half_overlap_is_no_hit():
    assert average_precision(TRUTH, _boxes([("a", 0, 0, 4, 2, 1.0)])) == 0.0
    assert average_precision(TRUTH, _boxes([("a", 0, 0, 4, 2.01, 1.0)])) == 1.0


def test_a_false_alarm_on_an_image_without_truth_costs_the_bootstrap_what_it_costs_the_score():
    one_patient = pd.Series({"a": "p", "b": "p"})
    draws = bootstrap_scores(TRUTH, {"alarm": FALSE_ALARM}, one_patient, draws=20)
    assert (draws["alarm"] == score(TRUTH, FALSE_ALARM).map).all()


def test_an_id_without_a_known_patient_is_drawn_on_its_own_and_draws_without_truth_are_nan():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draws = bootstrap_scores(TRUTH, {"alarm": FALSE_ALARM}, pd.Series({"a": "p"}), draws=100)["alarm"]
    assert set(draws.dropna()) == {0.5, 1.0} and draws.isna().any()


def test_a_bootstrap_draw_equals_the_score_of_the_tables_it_stands_for():
    rng = np.random.default_rng(0)
    names = [f"i{number}" for number in range(12)]
    truth = _boxes([(name, 0, 0, 4, 4) for name in names])
    guess = _boxes([(name, 0, 0, 4, rng.integers(1, 5), round(rng.random(), 1)) for name in names * 2])
    draws = bootstrap_scores(truth, {"guess": guess}, pd.Series(names, index=names), draws=20, seed=3)["guess"]
    from covidxr.core import generator

    counts = generator(3, "bootstrap").multinomial(12, np.full(12, 1 / 12), size=20)
    for draw, count in zip(draws, counts, strict=True):
        copies = [(name, copy) for name, times in zip(names, count, strict=True) for copy in range(times)]
        parts = [
            pd.concat([table[table["id"] == name].assign(id=f"{name} {copy}") for name, copy in copies])
            for table in (truth, guess)
        ]
        assert draw == pytest.approx(score(*parts).map, abs=1e-12)


def test_the_curve_holds_one_point_a_confidence_and_its_envelope_the_average_precision():
    guess = _boxes([("a", 0, 0, 4, 4, 0.9), ("b", 0, 0, 4, 4, 0.9), ("c", 0, 0, 4, 4, 0.2)])
    truth = _boxes([("a", 0, 0, 4, 4), ("c", 0, 0, 4, 4)])
    curve = precision_recall(truth, guess)
    assert curve["confidence"].tolist() == [0.9, 0.2]
    assert curve["recall"].tolist() == [0.5, 1.0]
    envelope = np.maximum.accumulate(curve["precision"][::-1])[::-1]
    assert average_precision(truth, guess) == pytest.approx((np.diff(curve["recall"], prepend=0) * envelope).sum())


def test_a_confidence_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="not a number"):
        score(TRUTH, FALSE_ALARM.assign(confidence=[0.5, np.nan]))


def test_classes_without_any_truth_give_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(score(TRUTH, FALSE_ALARM, labels=["typical"]).map)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 0.1, 0.5, 0.7, 1])), min_size=2, max_size=30))
def test_roc_auc_equals_scikit_learns(rows):
    target, value = [row[0] for row in rows], [row[1] for row in rows]
    if len(set(target)) == 1:
        with pytest.raises(DataError, match="both answers"):
            roc_auc(target, value, draws=5)
        return
    assert roc_auc(target, value, draws=5)["auc"] == pytest.approx(roc_auc_score(target, value), abs=1e-12)


def test_roc_auc_is_wider_when_images_of_one_patient_go_together():
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(40), 5)
    target = np.repeat(rng.random(40) < 0.5, 5)
    value = np.repeat(rng.random(40), 5) + 0.5 * target
    alone, together = roc_auc(target, value), roc_auc(target, value, patient)
    assert together["high"] - together["low"] > 1.5 * (alone["high"] - alone["low"])
    with pytest.raises(DataError, match="not a number"):
        roc_auc([0, 1], [0.5, np.nan])


def test_the_confusion_table_has_the_truth_in_rows_and_refuses_what_it_does_not_know():
    table = confusion_table(
        ["typical", "typical", "negative"], ["negative", "typical", "negative"], ["negative", "typical", "atypical"]
    )
    assert table.loc["typical"].tolist() == [1, 1, 0]
    assert table.loc["atypical"].sum() == 0
    for truth, said in ((["x"], ["typical"]), (["typical"], ["typical", "typical"])):
        with pytest.raises(DataError):
            confusion_table(truth, said, ["typical"])
