"The metric's sharp edges; what it is at all stands in test_score.py."

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_auc_score

from covidxr.base.errors import DataError
from covidxr.base.terms import BOX_COLUMNS
from covidxr.boxes import matching
from covidxr.metrics import (
    auc_difference,
    average_precision,
    bootstrap_scores,
    confusion_table,
    match,
    operating_point,
    paired_difference,
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
    names = [f"i{number:02}" for number in range(12)]  # patients are numbered by name
    truth = _boxes([(name, 0, 0, 4, 4) for name in names])
    guess = _boxes([(name, 0, 0, 4, rng.integers(1, 5), round(rng.random(), 1)) for name in names * 2])
    draws = bootstrap_scores(truth, {"guess": guess}, pd.Series(names, index=names), draws=20, seed=3)["guess"]
    from covidxr.base.seeds import generator

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
    for truth, prediction, said in (
        (["x"], ["typical"], "class x is not among typical"),
        (["typical"], ["x"], "class x is not among typical"),
        (["typical"], ["typical", "typical"], "1 true classes and 2 predicted"),
    ):
        with pytest.raises(DataError, match=said):
            confusion_table(truth, prediction, ["typical"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=20))
def test_the_confusion_table_equals_scikit_learns(rows):
    truth, said = zip(*rows, strict=True)
    assert confusion_table(truth, said, list("abc")).to_numpy().tolist() == (
        confusion_matrix(truth, said, labels=list("abc")).tolist()
    )


TWO = _boxes([("a", 0, 0, 4, 4), ("b", 0, 0, 4, 4)])
GUESS = _boxes([("a", 0, 0, 4, 4, 0.9), ("b", 0, 0, 4, 4, 0.8)])
FAULTS = {
    "an id missing from the prediction": (TWO, GUESS.assign(id=["a", None]), "row 1 .*prediction has no id"),
    "an id missing from the truth": (TWO.assign(id=[np.nan, "b"]), GUESS, "row 0 .*truth has no id"),
    "a label missing": (TWO, GUESS.assign(label=["opacity", np.nan]), "row 1 .*prediction has no label"),
    "a column missing": (TWO, TWO, "prediction has no column confidence"),
    "no column at all": (TWO, pd.DataFrame(), "prediction has no column id"),
    "text for a confidence": (TWO, GUESS.assign(confidence="high"), "a prediction for a .*not a number"),
    "text for a corner": (TWO.assign(x_min=["0", "left"]), GUESS, "a truth for b .*not a number"),
    "a whole number that is missing": (
        TWO,
        GUESS.assign(x_min=pd.array([0, pd.NA], dtype="Int64")),
        "a prediction for b .*not a number",
    ),
    "ids that are numbers here and text there": (
        TWO.assign(id=[1, 2]),
        GUESS.assign(id=["1", "2"]),
        "id .*make them alike",
    ),
    "labels that are numbers here and text there": (TWO.assign(label=1), GUESS.assign(label="1"), "label .*make them"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_has_no_place_in_a_score_is_refused_in_words(fault):
    truth, prediction, said = FAULTS[fault]
    owners = pd.Series(dtype=object)
    works = [lambda: score(truth, prediction), lambda: bootstrap_scores(truth, {"prediction": prediction}, owners)]
    if "label" not in said:
        works += [lambda: average_precision(truth, prediction), lambda: match(truth, prediction)]
    for work in works:
        with pytest.raises(DataError, match=said):
            work()


def test_labels_are_a_list_and_one_that_nobody_has_selects_nothing():
    with pytest.raises(DataError, match="labels must be a list, not the text .opacity."):
        score(TWO, GUESS, labels="opacity")
    assert np.isnan(score(TWO, GUESS, labels=["cloud", "opacity"]).per_class["cloud"])
    assert score(TWO, GUESS, labels=["cloud", "opacity"]).map == 1.0


def test_what_cannot_be_drawn_again_is_said():
    one, owners = {"one": GUESS}, pd.Series({"a": "p", "b": "q"})
    for work, said in (
        (lambda: bootstrap_scores(TWO[:0], one, owners), "truth holds no box at all"),
        (lambda: bootstrap_scores(TWO[:0], {"one": GUESS[:0]}, owners[:0]), "truth holds no box at all"),
        (lambda: bootstrap_scores(TWO, {}, owners), "no submission"),
        (lambda: bootstrap_scores(TWO, one, owners, labels=["cloud"]), "no box of the classes cloud"),
        (lambda: bootstrap_scores(TWO, one, pd.concat([owners, owners])), "id a appears twice"),
        (lambda: bootstrap_scores(TWO, one, owners, draws=10**13), "ask for 50000000 or fewer"),
        (lambda: bootstrap_scores(TWO, one, owners, draws=0), "at least one draw"),
        (lambda: roc_auc([0, 1, 1], [0.1, 0.2, 0.3], draws=10**13), "or fewer"),
    ):
        with pytest.raises(DataError, match=said):
            work()


def _study_world(rng, studies: int, skills: list[float]) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    "Studies of four classes, and readers who see the truth through noise of their own"
    truth = rng.choice(4, studies, p=[0.28, 0.47, 0.17, 0.08])
    names, unit = np.array([f"s{number:05}" for number in range(studies)]), dict(x_min=0, y_min=0, x_max=1, y_max=1)
    readers = []
    for skill in skills:
        chance = np.exp(skill * np.eye(4)[truth] + rng.normal(size=(studies, 4)))
        chance /= chance.sum(axis=1, keepdims=True)
        labels = np.tile(list("abcd"), studies)
        table = pd.DataFrame({"id": np.repeat(names, 4), "label": labels, "confidence": chance.ravel()})
        readers.append(table.assign(**unit))
    return pd.DataFrame({"id": names, "label": np.array(list("abcd"))[truth]}).assign(**unit), readers


def test_the_order_of_rows_changes_no_draw_and_no_interval():
    rng = np.random.default_rng(0)
    truth, readers = _study_world(rng, 60, [1.3, 0.5])
    owners = pd.Series([f"p{number // 2}" for number in range(58)], index=truth["id"][:58])
    shuffled = owners.sample(frac=1, random_state=4)

    def ask(right: pd.DataFrame, one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
        return bootstrap_scores(right, {"a": one, "b": other}, shuffled, draws=100)

    mixed = [table.sample(frac=1, random_state=seed) for seed, table in enumerate([truth, *readers])]
    pd.testing.assert_frame_equal(ask(truth, *readers), ask(*mixed), check_exact=True)
    target, patient = rng.random(60) < 0.5, np.r_[np.repeat(np.arange(28), 2).astype(float), [np.nan] * 4]
    value, other = (np.round(target + rng.normal(size=60), 1) for _ in range(2))  # with ties
    for groups in (None, patient):
        place = rng.permutation(60)
        moved = None if groups is None else groups[place]
        assert roc_auc(target, value, groups) == roc_auc(target[place], value[place], moved)
        before, after = (
            auc_difference(target, value, other, groups),
            auc_difference(target[place], value[place], other[place], moved),
        )
        assert before == after


def test_the_interval_of_a_paired_difference_holds_what_it_promises():
    rng = np.random.default_rng(3)
    skills, held, sets = [1.6, 1.2], 0, 0
    truth, readers = _study_world(rng, 40_000, skills)
    true_lead = score(truth, readers[0]).map - score(truth, readers[1]).map
    for seed in range(120):
        truth, readers = _study_world(rng, 100, skills)
        if truth["label"].nunique() < 4:
            continue
        draws = bootstrap_scores(truth, dict(zip("ab", readers, strict=True)), pd.Series(dtype=object), 200, seed)
        lead = paired_difference(draws, "a", "b")
        held, sets = held + (lead["low"] <= true_lead <= lead["high"]), sets + 1
    assert 0.9 <= held / sets <= 0.99, (held, sets)


def test_draws_that_lack_a_class_are_counted_and_where_none_is_left_the_class_is_named():
    truth, (first, second) = _study_world(np.random.default_rng(0), 40, [1.3, 0.5])
    truth.loc[truth["label"] == "d", "label"] = "a"
    truth.loc[0, "label"] = "d"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draws = bootstrap_scores(truth, {"a": first, "b": second}, pd.Series(dtype=object), draws=300)
        assert paired_difference(draws, "a", "b")["draws"] == draws["a"].notna().sum() < 250
        lacking = draws[draws["a"].isna()]
        with pytest.raises(DataError, match="class d stands on 1 patient; there is no interval"):
            paired_difference(lacking, "a", "b")


def test_a_bootstrap_by_class_averages_to_the_mean_and_labels_choose():
    truth, (first, second) = _study_world(np.random.default_rng(0), 40, [1.3, 0.5])
    options = dict(groups=pd.Series(dtype=object), draws=50)
    means = bootstrap_scores(truth, {"a": first, "b": second}, **options)
    apart = bootstrap_scores(truth, {"a": first, "b": second}, by_class=True, **options)
    assert list(apart.columns) == [(name, label) for name in "ab" for label in "abcd"]
    for name in "ab":
        assert np.allclose(apart[name].mean(axis=1, skipna=False), means[name], equal_nan=True)
    chosen = bootstrap_scores(truth, {"a": first}, labels=["b"], **options)["a"]
    assert (chosen == apart["a", "b"]).all()
    assert paired_difference(apart, ("a", "b"), ("b", "b"))["draws"] == 50


def test_answers_values_and_patients_must_fit_and_none_may_be_missing():
    for target, value, groups, said in (
        ([0, 1, 1], [0.1, 0.2], None, "target has 3 rows, value has 2 rows"),
        ([0, 1, 1], [0.1, 0.2, 0.3], [1, 2], "groups has 2 rows"),
        ([0, 1, np.nan], [0.1, 0.2, 0.3], None, "row 2 .*True or False"),
        (["0", "1"], [0.1, 0.2], None, "row 0 .*True or False"),
        ([0, 1, 1], [0.1, 0.2, np.nan], None, "1 of 3 values are not a number"),
        ([0, 1, 1], [0.1, 0.2, "high"], None, "1 of 3 values are not a number"),
        ([1, 1], [0.1, 0.2], None, "both answers"),
    ):
        for work in (roc_auc, lambda *rows: operating_point(*rows[:2], threshold=0.5, groups=rows[2])):
            with pytest.raises(DataError, match=said):
                work(target, value, groups)
    with pytest.raises(DataError, match="threshold must be a number, not nan"):
        operating_point([0, 1], [0.1, 0.2], threshold=np.nan)
    with pytest.raises(DataError, match="class is missing"):
        confusion_table(["a", None], ["a", "a"])


def test_a_submission_may_bear_any_name():
    draws = bootstrap_scores(TWO, {"truth": GUESS[:0], "half": GUESS[:1]}, pd.Series(dtype=object), draws=20)
    assert (draws["truth"] == 0).all() and set(draws["half"]) == {0, 0.5, 1}


def test_a_row_without_a_patient_is_a_patient_of_its_own():
    rng = np.random.default_rng(0)
    target = rng.random(80) < 0.5
    value = target + rng.normal(size=80)
    nobody = np.full(80, np.nan)
    assert roc_auc(target, value, nobody) == roc_auc(target, value)
    alone, unknown = (operating_point(target, value, threshold=0.5, groups=groups) for groups in (None, nobody))
    assert alone.equals(unknown)


def test_a_lead_in_roc_auc_is_drawn_on_the_same_patients():
    rng = np.random.default_rng(0)
    target = rng.random(200) < 0.5
    first = target + rng.normal(size=200)
    second = first + 0.8 * rng.normal(size=200)
    lead = auc_difference(target, first, second, draws=300)
    assert lead["lead"] == pytest.approx(roc_auc(target, first)["auc"] - roc_auc(target, second)["auc"], abs=1e-12)
    apart = [roc_auc(target, value, draws=300) for value in (first, second)]
    assert lead["high"] - lead["low"] < max(one["high"] - one["low"] for one in apart)
    same = auc_difference(target, first, first, draws=50)
    assert set(same.values()) == {0.0}


@pytest.mark.parametrize("method", ["voc", "coco"])
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40),
    missed=st.integers(0, 5),
)
def test_counting_each_box_once_gives_the_area_that_the_bootstraps_loop_gives(method, rows, missed):
    sure, hit = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows], bool)
    truths = int(hit.sum()) + missed
    order = np.argsort(-sure, kind="stable")
    counts = np.zeros(len(rows), np.int64), np.ones((1, 1), np.int64), np.array([truths])
    (wanted,) = matching.weighted_average_precision(sure[order], hit[order], *counts, method)
    found = matching.average_precision_of_hits(sure, hit, truths, method)
    assert found == pytest.approx(wanted, abs=1e-12, nan_ok=True)
