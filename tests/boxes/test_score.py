"The metric, fusing and submissions: right by an independent reckoning, and strict at the door."

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covidxr.base.errors import DataError, SubmissionError
from covidxr.base.terms import APPEARANCES, BOX_COLUMNS
from covidxr.ensemble import none_confidence, weighted_boxes_fusion
from covidxr.metrics import average_precision, bootstrap_scores, paired_difference, score
from covidxr.submission import (
    compare_submissions,
    fuse_submissions,
    read_submission,
    read_truth,
    score_submission,
    write_submission,
)

corner = st.integers(-2, 6)
box = st.tuples(corner, corner, st.integers(0, 5), st.integers(0, 5)).map(
    lambda one: (one[0], one[1], one[0] + one[2], one[1] + one[3])
)
image = st.sampled_from(["a", "b", "c"])
truths = st.lists(st.tuples(image, box), min_size=1, max_size=7)
guesses = st.lists(st.tuples(image, box, st.sampled_from([0.1, 0.5, 0.5, 0.9])), max_size=14)


def _table(rows, label="opacity"):
    columns = ["id", *BOX_COLUMNS] + (["confidence"] if rows and len(rows[0]) == 3 else [])
    frame = pd.DataFrame([(row[0], *row[1], *row[2:]) for row in rows], columns=columns)
    return frame.assign(label=label) if "confidence" in frame or len(rows) else frame.assign(label=label, confidence=[])


def _iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = lambda corners: (corners[2] - corners[0]) * (corners[3] - corners[1])  # noqa: E731
    return width * height / (area(one) + area(other) - width * height)


def _plain(truth, prediction):
    "Average precision told step by step, with other means than the library's"
    truth, found, marks = sorted(truth), set(), []
    for place, corners, confidence in sorted(prediction, key=lambda one: (-one[2], one[0], one[1])):
        best, chosen = 0.5, None
        for number, (other, true) in enumerate(truth):
            overlap = _iou(corners, true) if other == place else 0.0
            if overlap > best or (overlap == best > 0.5 and chosen in found and number not in found):
                best, chosen = overlap, number
        marks.append((confidence, chosen is not None and chosen not in found))
        found.add(chosen)
    levels = sorted({confidence for confidence, _ in marks}, reverse=True)
    points = []
    for level in levels:
        kept = [hit for confidence, hit in marks if confidence >= level]
        points.append((sum(kept) / len(truth), sum(kept) / len(kept)))
    steps = sorted({recall for recall, _ in points})
    before, area = 0.0, 0.0
    for recall in steps:
        area += (recall - before) * max(precision for other, precision in points if other >= recall)
        before = recall
    return area


@settings(max_examples=400, deadline=None)
@given(truths, guesses)
def test_average_precision_equals_an_independent_reckoning(truth, prediction):
    assert average_precision(_table(truth), _table(prediction)) == pytest.approx(_plain(truth, prediction), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(truths, guesses, st.randoms(use_true_random=False))
def test_the_order_of_rows_never_changes_a_score(truth, prediction, random):
    before = average_precision(_table(truth), _table(prediction))
    random.shuffle(truth)
    random.shuffle(prediction)
    assert average_precision(_table(truth), _table(prediction)) == before


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(image, box.filter(lambda one: one[2] > one[0] and one[3] > one[1])), min_size=1, max_size=7))
def test_the_truth_scores_one_against_itself_even_with_doubled_boxes(truth):
    assert average_precision(_table(truth), _table(truth).assign(confidence=1.0)) == 1.0


def test_a_constant_confidence_scores_the_share_of_the_class():
    truth = _table([(f"i{number}", (0, 0, 1, 1)) for number in range(30)], "none")
    everyone = _table([(f"i{number}", (0, 0, 1, 1), 0.3) for number in range(100)], "none")
    assert score(truth, everyone).map == pytest.approx(0.3)


def test_a_class_without_truth_is_nan_and_left_out():
    truth = _table([("a", (0, 0, 4, 4))])
    result = score(truth, truth.assign(confidence=1.0), labels=["opacity", "typical"])
    assert result.map == 1.0 and np.isnan(result.per_class["typical"])
    with pytest.raises(DataError, match="nothing to score"):
        score(truth.iloc[:0], truth.assign(confidence=1.0))


def test_bootstrap_draws_hold_the_score_and_are_paired():
    rng = np.random.default_rng(0)
    truth = _table([(f"i{number}", (0, 0, 4, 4)) for number in range(60)])
    better = truth.assign(confidence=rng.random(60))
    worse = better.assign(x_min=np.where(rng.random(60) < 0.4, 3, 0))
    groups = pd.Series([f"p{number // 2}" for number in range(60)], index=truth["id"])
    draws = bootstrap_scores(truth, {"better": better, "worse": worse, "same": better}, groups, draws=200)
    low, high = np.percentile(draws["worse"], (2.5, 97.5))
    assert low < score(truth, worse).map < high
    assert (draws["better"] == draws["same"]).all()
    assert paired_difference(draws, "better", "worse")["probability"] > 0.95


boxes = st.lists(
    st.tuples(
        image, box.filter(lambda one: one[2] > one[0] and one[3] > one[1]), st.floats(0, 1), st.sampled_from("AB")
    ),
    max_size=12,
)


def _boxes(rows):
    return pd.DataFrame(
        [(row[0], *row[1], *row[2:]) for row in rows], columns=["image_id", *BOX_COLUMNS, "confidence", "model"]
    )


@settings(max_examples=100, deadline=None)
@given(boxes, st.randoms(use_true_random=False))
def test_fused_boxes_stay_within_their_parts_and_order_does_not_matter(rows, random):
    fused = weighted_boxes_fusion(_boxes(rows), {"A": 1, "B": 1})
    assert fused["confidence"].between(0, 1).all()
    assert set(fused["image_id"]) == {row[0] for row in rows}
    for name, mine in fused.groupby("image_id"):
        parts = _boxes([row for row in rows if row[0] == name])
        for low, high in (("x_min", "x_max"), ("y_min", "y_max")):
            assert mine[low].min() >= parts[low].min() - 1e-9 and mine[high].max() <= parts[high].max() + 1e-9
    random.shuffle(rows)
    pd.testing.assert_frame_equal(fused, weighted_boxes_fusion(_boxes(rows), {"A": 1, "B": 1}))


def test_one_model_does_not_vote_twice():
    once = _boxes([("a", (0, 0, 10, 10), 0.6, "A")])
    twice = pd.concat([once, once])
    assert (
        weighted_boxes_fusion(once, {"A": 1, "B": 1})["confidence"].tolist()
        == weighted_boxes_fusion(twice, {"A": 1, "B": 1})["confidence"].tolist()
        == [0.3]
    )


def test_none_needs_both_witnesses():
    found = pd.DataFrame({"image_id": ["a"], "confidence": [1.0]})
    none = none_confidence(pd.Series({"a": 0.9, "b": 0.9, "c": 0.0}), found)
    assert none["a"] == 0 and none["c"] == 0 and none["b"] > 0.9


def test_fusing_a_submission_with_itself_gives_it_back():
    table = pd.DataFrame(
        [
            ("s_study", "typical", 0.7, 0, 0, 1, 1),
            ("a_image", "none", 0.2, 0, 0, 1, 1),
            ("a_image", "opacity", 0.6, 5, 5, 50, 60),
        ],
        columns=["id", "label", "confidence", *BOX_COLUMNS],
    )
    fused = fuse_submissions([table, table], weights=[1, 3])
    assert fused.sort_values("label", ignore_index=True)["confidence"].round(9).tolist() == [0.2, 0.6, 0.7]


@pytest.fixture
def files(tmp_path):
    "A truth and a good submission"
    (tmp_path / "truth.csv").write_text(
        "id,PredictionString\ns_study,typical 1 0 0 1 1\na_image,opacity 1 10 10 60 80\nb_image,none 1 0 0 1 1\n"
    )
    (tmp_path / "good.csv").write_text(
        "id,PredictionString\ns_study,typical 0.9 0 0 1 1 negative 0.1 0 0 1 1\na_image,opacity 0.8 12 10 60 80 none 0.1 0 0 1 1\nb_image,none 0.7 0 0 1 1\n"
    )
    return tmp_path


BROKEN = {
    "an id missing": ("b_image,none 0.7 0 0 1 1\n", "", "b_image is missing"),
    "an id doubled": ("b_image,none", "a_image,none", "row 4: id a_image appears twice"),
    "an id unknown": ("b_image,none", "c_image,none", "row 4: unknown id c_image"),
    "a label unknown": ("opacity 0.8", "shadow 0.8", "row 3: unknown label shadow"),
    "a study label in an image": ("opacity 0.8", "typical 0.8", "row 3: unknown label typical"),
    "a confidence above 1": ("opacity 0.8", "opacity 1.8", "row 3: confidence 1.8"),
    "a negative confidence": ("opacity 0.8", "opacity -0.8", "row 3: confidence -0.8"),
    "a confidence that is no number": ("opacity 0.8", "opacity high", "row 3: confidence high is not a number"),
    "an infinite confidence": ("opacity 0.8", "opacity nan", "row 3: confidence nan is not a finite number"),
    "five words": ("12 10 60 80", "12 10 60", "row 3: 11 words"),
    "swapped corners": ("12 10 60 80", "60 10 12 80", "row 3: box"),
    "another header": ("id,PredictionString", "id,Prediction", "row 1: column PredictionString"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_submission_ends_with_code_2_and_one_line_with_file_row_and_reason(covidxr, files, fault):
    before, after, said = BROKEN[fault]
    text = (files / "good.csv").read_text()
    assert before in text
    (files / "bad.csv").write_text(text.replace(before, after, 1))
    answer = covidxr("score", files / "truth.csv", files / "bad.csv")
    assert answer.returncode == 2 and answer.stdout == ""
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1 and "bad.csv" in lines[0] and "row " in lines[0] and said in lines[0]


def test_score_prints_a_table_for_a_person_and_json_for_a_program(covidxr, files):
    person, program = (
        covidxr("score", files / "truth.csv", files / "good.csv"),
        covidxr("score", files / "truth.csv", files / "good.csv", "--json"),
    )
    assert "opacity" in person.stdout and person.returncode == 0
    assert "negative                 -  (not in the truth)" in person.stdout
    assert json.loads(program.stdout) == {
        "map": 1.0,
        "per_class": {"negative": None, "typical": 1.0, "none": 1.0, "opacity": 1.0},
    }


def test_two_submissions_are_compared_on_the_same_patients(covidxr, phantom, tmp_path):
    truth = read_truth(phantom / "truth" / "test_study_level.csv", phantom / "truth" / "test_image_level.csv")
    ids = sorted(truth["id"].unique())
    write_submission(truth.assign(confidence=1.0), ids, tmp_path / "right.csv")
    rng = np.random.default_rng(0)
    write_submission(truth.assign(confidence=1.0)[rng.random(len(truth)) < 0.6], ids, tmp_path / "poor.csv")
    ask = ["score", phantom, tmp_path / "right.csv", "--versus", tmp_path / "poor.csv", "--draws", "200"]
    person, program = covidxr(*ask), covidxr(*ask, "--json")
    assert person.returncode == 0, person.stderr
    answer = json.loads(program.stdout)
    lacking = 200 - answer["draws"]  # few patients: many draws lack a rare class, and the answer says how many
    assert answer["drawn"] == "patients" and answer["asked"] == 200 and lacking > 0
    assert f"{answer['draws']} draws of patients; {lacking} more lack a class" in person.stdout
    for label, value in answer["first"]["per_class"].items():
        lead = answer["leads"][label]
        assert (
            lead["lead"] == pytest.approx(value - answer["second"]["per_class"][label]) and lead["low"] <= lead["high"]
        )
        assert f"{lead['low']:+.4f} to {lead['high']:+.4f}" in person.stdout
    assert answer["first"]["map"] == 1.0 and answer["low"] <= answer["lead"] <= answer["high"]
    assert answer["probability"] > 0.95
    same = json.loads(covidxr(*ask[:3], "--versus", tmp_path / "right.csv", "--draws", "50", "--json").stdout)
    assert same["lead"] == same["low"] == same["high"] == 0


def test_a_comparison_that_cannot_be_drawn_ends_in_one_line_and_json_holds_no_nan(covidxr, tmp_path):
    labels = ["negative", "typical", "atypical", "indeterminate"]
    rows = [f"s{number}_study,{label} 1 0 0 1 1\n" for number, label in enumerate(labels)]
    (tmp_path / "t.csv").write_text("id,PredictionString\n" + "".join(rows))
    ask = ["score", tmp_path / "t.csv", tmp_path / "t.csv", "--versus", tmp_path / "t.csv", "--json", "--draws"]
    for draws, said in (("1", "none of 1 draws holds every class"), ("10000000000000", "do not fit in memory")):
        answer = covidxr(*ask, draws)
        assert answer.returncode == 2 and answer.stdout == "" and said in answer.stderr
        assert len(answer.stderr.strip().splitlines()) == 1
    answer = covidxr(*ask, "300")
    assert answer.returncode == 0 and "NaN" not in answer.stdout and 0 < json.loads(answer.stdout)["draws"] < 300


def test_without_headers_studies_are_drawn_and_without_studies_rows(phantom, tmp_path):
    tables = [phantom / "truth" / f"test_{level}_level.csv" for level in ("study", "image")]
    for path in tables:
        shutil.copy(path, tmp_path)
    truth = read_truth(*tables)
    write_submission(truth.assign(confidence=1.0), sorted(truth["id"].unique()), tmp_path / "right.csv")
    pair = {"a": tmp_path / "right.csv", "b": tmp_path / "right.csv"}
    assert compare_submissions([tmp_path / path.name for path in tables], pair, draws=5)["drawn"] == "studies"
    assert compare_submissions([tmp_path / "right.csv"], pair, draws=5)["drawn"] == "rows"


def test_every_form_of_the_truth_scores_one_against_itself(covidxr, phantom, tmp_path):
    for half, folder in (("train", phantom), ("test", phantom / "truth")):
        tables = [folder / f"{half}_{level}_level.csv" for level in ("image", "study")]
        truth = read_truth(*tables)
        write_submission(truth.assign(confidence=1.0), sorted(truth["id"].unique()), tmp_path / "self.csv")
        for given_truth in ([phantom], tables, [tmp_path / "self.csv"]):
            answer = covidxr("score", *given_truth, tmp_path / "self.csv", "--json")
            assert answer.returncode == 0, answer.stderr
            assert json.loads(answer.stdout)["map"] == 1.0


def test_the_sample_submission_is_accepted_and_scores_little(phantom):
    result = score_submission([phantom], phantom / "sample_submission.csv")
    assert list(result.per_class)[-2:] == ["none", "opacity"] and set(result.per_class) <= {
        *APPEARANCES,
        "none",
        "opacity",
    }
    assert 0 < result.map < 0.4


def test_ensembles_of_files_need_the_same_ids_and_fitting_weights(covidxr, files):
    answer = covidxr(
        "ensemble", files / "good.csv", files / "truth.csv", "--out", files / "fused.csv", "--weights", "1,1"
    )
    assert answer.returncode == 0, answer.stderr
    assert len(read_submission(files / "fused.csv")) >= 4
    for out, weights, said in (
        (".", "1,1", "is a folder"),
        (files / "x.csv", "1e308,1e308", "finite"),
        (files / "x.csv", "1", "2 submissions need 2 weights, not 1"),
    ):
        answer = covidxr("ensemble", files / "good.csv", files / "truth.csv", "--out", out, "--weights", weights)
        assert answer.returncode == 2 and said in answer.stderr and len(answer.stderr.splitlines()) == 1
    (files / "other.csv").write_text("id,PredictionString\nz_image,none 1 0 0 1 1\n")
    answer = covidxr("ensemble", files / "good.csv", files / "other.csv", "--out", files / "x.csv")
    assert answer.returncode == 2 and "z_image" in answer.stderr and not (files / "x.csv").exists()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 4000), st.floats(0, 4000), st.floats(0, 900), st.floats(0, 900)),
        max_size=5,
    )
)
def test_a_submission_that_was_written_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("submission") / "s.csv"
    table = pd.DataFrame(
        [("a_image", "opacity", c, x, y, x + w, y + h) for c, x, y, w, h in rows],
        columns=["id", "label", "confidence", *BOX_COLUMNS],
    ).astype(dict.fromkeys(["confidence", *BOX_COLUMNS], float))
    write_submission(table, ["a_image", "s_study"], path)
    back = read_submission(path, ids=["a_image", "s_study"])
    assert back[["id", "label"]].equals(table[["id", "label"]].astype(back[["id", "label"]].dtypes))
    wanted = table.sort_values(["confidence", *BOX_COLUMNS], ascending=[False] + [True] * 4)
    assert np.allclose(back["confidence"], wanted["confidence"], rtol=1e-5, atol=1e-12)
    assert np.allclose(back[BOX_COLUMNS], wanted[BOX_COLUMNS], rtol=0, atol=0.006)


def test_an_id_without_a_row_to_go_to_is_refused_before_anything_is_written(tmp_path):
    table = pd.DataFrame([("a_image", "none", 1.0, 0, 0, 1, 1)], columns=["id", "label", "confidence", *BOX_COLUMNS])
    with pytest.raises(SubmissionError, match="a_image"):
        write_submission(table, ["b_image"], tmp_path / "s.csv")
    assert not list(tmp_path.iterdir())
