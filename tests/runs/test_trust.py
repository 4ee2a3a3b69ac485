"How well calibrated a run's study probabilities are: in metrics.json, in the report, and against the truth itself"

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.base.files import json_text
from covidxr.dataset import open_dataset
from covidxr.runs.run import open_run
from covidxr.runs.trust import answered_studies, reliability_figure, trust_of, write_trust
from covidxr.submission import read_submission


def test_a_run_tells_how_often_it_is_right_where_it_says_so(finished: Path) -> None:
    trust = json.loads((finished / "metrics.json").read_text())["trust"]
    dataset = open_dataset(finished / "data")
    truth = pd.read_csv(finished / "data" / "truth" / "test_study_level.csv").set_index("id").idxmax(axis=1)
    said = read_submission(finished / "submissions" / "ensemble.csv")
    said = said[said["id"].str.endswith("_study")].pivot(index="id", columns="label", values="confidence")
    said = said.div(said.sum(axis=1), axis=0)
    names = {
        "Negative for Pneumonia": "negative",
        "Typical Appearance": "typical",
        "Indeterminate Appearance": "indeterminate",
        "Atypical Appearance": "atypical",
    }
    sure, right = said.max(axis=1), said.idxmax(axis=1) == truth.map(names).reindex(said.index)
    assert set(said.columns) == set(dataset.classes) and trust["studies"] == len(said)
    bins = np.minimum((sure * 10).astype(int), 9)
    gaps = (right.astype(float) - sure).groupby(bins).sum().abs().sum() / len(said)  # the ECE by hand
    assert trust["as_predicted"]["ece"] == pytest.approx(gaps, abs=1e-6)
    assert sum(one["rows"] for one in trust["as_predicted"]["bins"]) == len(said)
    assert trust["as_predicted"]["low"] <= trust["as_predicted"]["ece"] <= trust["as_predicted"]["high"]


def test_the_report_shows_it_says_that_it_is_simulated_and_leaves_predictions_alone(finished: Path) -> None:
    page, trust = (finished / "report.html").read_text(), json.loads((finished / "trust.json").read_text())
    part = page[page.index("How sure, and how often right") : page.index("<h2>For whom it works</h2>")]
    assert part.count("<img") == 1 and "simulated X-rays" in part
    assert f"temperature {trust['temperature']:.2f} was learnt from {trust['known_studies']} validation" in part
    assert f"{trust['as_predicted']['ece']:.3f}" in part and f"{trust['after_scaling']['ece']:.3f}" in part
    assert (finished / "figures" / "trust.png").stat().st_size > 1000


def test_the_temperature_is_learnt_from_validation_studies_only(finished: Path) -> None:
    run = open_run(finished)
    valid = {study for turn in run.rounds for study in turn.valid}
    tested = {study for turn in run.rounds for study in turn.test}
    trust = json.loads((finished / "trust.json").read_text())
    assert not valid & tested and trust["known_studies"] == sum(len(turn.valid) for turn in run.rounds)


def _answers(rows: list[tuple[str, float, str]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(f"{study}_study", label, value) for study, value, label in rows], columns=["id", "label", "confidence"]
    )


def test_studies_without_a_truth_or_without_an_answer_are_left_out() -> None:
    answers = _answers([("s", 0.6, "a"), ("s", 0.2, "b"), ("t", 0.0, "a"), ("u", 1.0, "b")])
    found = answered_studies(answers, pd.Series({"s": "a", "t": "b"}), ["a", "b"])
    assert found["study_id"].tolist() == ["s"] and found["a"].tolist() == [pytest.approx(0.75)]


def test_ids_that_are_numbers_are_no_studies() -> None:
    answers = _answers([("s", 0.6, "a"), ("7", 0.2, "b")])
    numbered = pd.concat([answers, answers.assign(id=7)], ignore_index=True)
    assert answered_studies(numbered, pd.Series({"s": "a", 7: "b"}), ["a", "b"])["study_id"].tolist() == ["7", "s"]
    assert answered_studies(answers.assign(id=7), pd.Series({"s": "a"}), ["a", "b"]).empty


def test_nothing_known_has_no_figure_and_few_studies_are_reported_as_they_are() -> None:
    with pytest.raises(DataError, match="no tested study with a truth"):
        reliability_figure({}, "real X-rays")
    table = pd.DataFrame({"a": [0.7] * 8, "b": 0.3, "label": "a", "patient_id": "p"})
    found = json.loads(json_text(trust_of(table, table, ["a", "b"], 50, 0)))
    assert found["known_studies"] == 8 and found["temperature"] == pytest.approx(0.05, rel=0.01)
    assert found["as_predicted"]["low"] is None and found["as_predicted"]["high"] is None


def test_more_studies_give_a_narrower_interval_and_a_figure_of_two_panels() -> None:
    rng = np.random.default_rng(0)
    fair = rng.dirichlet([1, 1, 1], 2000)
    table = pd.DataFrame(fair, columns=list("abc")).assign(label=[list("abc")[rng.choice(3, p=row)] for row in fair])
    few, many = (trust_of(table, table[:count], list("abc"), 200, 0) for count in (60, 2000))
    widths = [one["as_predicted"]["high"] - one["as_predicted"]["low"] for one in (few, many)]
    assert widths[1] < widths[0] / 2 and many["temperature"] == pytest.approx(1, abs=0.1)
    assert len(reliability_figure(many, "real X-rays").axes) == 2


def test_a_run_without_a_tested_study_says_nothing(finished: Path, tmp_path: Path, monkeypatch) -> None:
    from dataclasses import replace

    from covidxr.runs import trust

    none = pd.DataFrame({"a": [], "b": [], "label": []})
    monkeypatch.setattr(trust, "_parts", lambda run: (none, none, ["a", "b"]))
    monkeypatch.setattr(trust, "write_probes", lambda run: [])
    assert write_trust(replace(open_run(finished), folder=tmp_path)) == ["trust.json"]
    assert json.loads((tmp_path / "trust.json").read_text()) == {}
