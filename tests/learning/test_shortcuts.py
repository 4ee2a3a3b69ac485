"Subgroups, flips, and pictures that differ in one thing only."

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from covidxr.base.errors import DataError
from covidxr.base.files import json_text
from covidxr.metrics import auc_difference, roc_auc
from covidxr.phantom import SITES
from covidxr.shortcuts import flip_test, only_changed, subgroups
from covidxr.thorax.physics import Tone
from covidxr.thorax.sites import Site


def _table(rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    sick, view = rng.random(rows) < 0.4, rng.choice(["AP", "PA"], rows)
    logit = rng.normal(size=rows) + 2 * sick * (view == "PA")  # it sees disease on PA pictures alone
    return pd.DataFrame({"sick": sick, "view": view, "logit": logit, "owner": np.arange(rows) // 3})


def test_a_subgroup_has_the_auc_and_the_interval_of_its_own_rows():
    table = _table()
    found = subgroups(table, "view", draws=200)
    for view, part in table.groupby("view"):
        area = roc_auc(part["sick"], part["logit"], draws=200)
        assert found.loc[("view", view), ["auc", "low", "high"]].tolist() == list(area.values())
        assert found.loc[("view", view), ["pictures", "positive"]].tolist() == [len(part), part["sick"].sum()]
    assert found.loc[("all", "all"), "pictures"] == len(table) and found.index[0] == ("all", "all")
    assert found.loc[("view", "PA"), "low"] > found.loc[("view", "AP"), "high"]


def test_pictures_of_one_patient_are_drawn_together():
    table = pd.concat([_table(90)] * 4, ignore_index=True).assign(copy=1)
    narrow, wide = subgroups(table, "copy"), subgroups(table, "copy", patient="owner")
    widths = [(one["high"] - one["low"]).iloc[0] for one in (narrow, wide)]
    assert widths[1] > 1.5 * widths[0]


def test_a_group_without_sick_patients_has_counts_and_no_auc():
    table = _table().assign(site=lambda one: np.where(one["sick"], "A", "B"))
    found = subgroups(table, ["site", "view"], draws=50)
    assert found.loc["site"][["auc", "low", "high"]].isna().all().all()
    assert found.loc[("site", "B"), "positive"] == 0 and found.loc["view"]["auc"].notna().all()
    with_gap = table.assign(view=table["view"].where(table["view"] == "AP"))
    assert subgroups(with_gap, "view", draws=50)["pictures"].sum() == 2 * len(table)  # unknown is a group too


def test_subgroups_names_the_column_that_is_absent():
    with pytest.raises(DataError, match="no column sex; add it"):
        subgroups(_table(), ["view", "sex"])


def test_a_flip_is_the_mean_change_with_its_interval():
    rng = np.random.default_rng(1)
    before = rng.normal(size=200)
    after = before + 0.5 + rng.normal(0, 0.2, 200)
    found = flip_test(before, after)
    assert found["mean"] == pytest.approx((after - before).mean()) and found["pairs"] == 200
    assert 0.4 < found["low"] < found["mean"] < found["high"] < 0.6 and found["rises"] > 0.95
    half = (found["high"] - found["low"]) / 2
    assert half == pytest.approx(1.96 * (after - before).std() / np.sqrt(200), rel=0.15)
    assert flip_test(before, before) == {"mean": 0, "low": 0, "high": 0, "rises": 0, "pairs": 200}


@pytest.mark.parametrize(
    ("before", "after"), [([1.0], [1.0, 2.0]), ([], []), ([1.0], [float("nan")]), ([1.0, 2.0], ["x", "y"])]
)
def test_flips_that_do_not_fit_are_refused(before, after):
    with pytest.raises(DataError):
        flip_test(before, after)


def test_one_thing_changes_and_nothing_else():
    known = {"appearance": "typical", "size": 96, "marked": False}
    before, after = only_changed(4, {"letter": "R", "middle": 0.3}, **known)
    assert after.pose == replace(before.pose, letter="R") and after.tone == replace(before.tone, middle=0.3)
    assert (before.patient, before.finding) == (after.patient, after.finding) and before.boxes.equals(after.boxes)
    sick = only_changed(4, {"appearance": "negative"}, **known)
    assert sick[1].pixels.tobytes() == sick[0].healthy.tobytes()
    assert only_changed(4, {}, **known)[1].pixels.tobytes() == before.pixels.tobytes()


def test_another_site_changes_all_its_habits():
    before, after = only_changed(4, {"site": "A"}, size=64, site="B")
    assert (before.pose.letter, after.pose.letter) == (SITES["B"].letter, SITES["A"].letter)
    assert before.patient == after.patient and before.tone != after.tone


def test_what_cannot_be_changed_is_named():
    with pytest.raises(DataError, match="unknown change 'marker'; it can be view, inspiration"):
        only_changed(4, {"marker": "R"}, size=64)
    with pytest.raises(DataError, match="pose: letter 'Q'"):
        only_changed(4, {"letter": "Q"}, size=64)
    for changed in ("letter", None, ["letter"]):
        with pytest.raises(DataError, match="what changes is a dictionary"):
            only_changed(4, changed, size=64)
    with pytest.raises(DataError, match="unknown change 1; it can be"):
        only_changed(4, {1: 2, "letter": "R"}, size=64)
    with pytest.raises(DataError, match="unknown argument 'sizes'; it can be appearance"):
        only_changed(4, {}, sizes=64)


def test_another_site_and_another_letter_are_both_changed():
    known = {"appearance": "typical", "size": 64, "site": "B"}
    moved = only_changed(1, {"site": "A"}, **known)[1]
    assert (SITES["A"].letter, SITES["B"].letter) == ("R", "L")
    both = only_changed(1, {"site": "A", "letter": "L"}, **known)[1]
    assert both.pose == replace(moved.pose, letter="L") and both.tone == moved.tone
    toned = only_changed(1, {"site": "A", "middle": 0.9}, **known)[1]
    assert toned.tone == replace(moved.tone, middle=0.9) and toned.pose == moved.pose
    well = only_changed(1, {"site": "A", "appearance": "negative", "letter": "L"}, **known)[1]
    assert well.healthy.tobytes() == both.healthy.tobytes() == well.pixels.tobytes()


def test_a_site_at_the_edge_of_tones_can_be_changed_too():
    dark = Site("dark", tone=Tone(middle=2.0))
    before, after = only_changed(2, {"letter": "R"}, site=dark, size=64)
    assert after.pose.letter == "R" and before.tone == after.tone and after.tone.middle <= 2


def test_one_patient_has_an_auc_and_no_interval():
    table = _table(40).assign(nobody=1)
    for owner in ("nobody", None):
        rows = table if owner else table.sort_values("sick").iloc[[0, -1]]
        found = subgroups(rows, "view", patient=owner, draws=20).loc[("all", "all")]
        assert 0 <= found["auc"] <= 1 and np.isnan(found["low"]) and np.isnan(found["high"])
    lone = flip_test([1.0], [2.0])
    assert (lone["mean"], lone["pairs"]) == (1, 1) and np.isnan(lone["low"]) and np.isnan(lone["high"])
    assert json.loads(json_text(lone))["low"] is None
    lead = auc_difference([0, 1, 1], [0.1, 0.9, 0.8], [0.1, 0.9, 0.0], draws=50)
    assert lead["lead"] == 0.5 and np.isnan([lead["low"], lead["high"], lead["probability"]]).all()


@pytest.mark.parametrize("wrong", [2, float("nan"), None, "covid", pd.NA])
def test_the_truth_of_each_row_must_be_known_whatever_its_group(wrong):
    for cells in ([wrong] * 4, [True, wrong, True, wrong]):
        table = pd.DataFrame({"sick": pd.Series(cells, dtype=object), "view": list("abab"), "logit": range(4)})
        with pytest.raises(DataError, match=r"row [01] \(from 0\) of the target is .*; it must be True or False"):
            subgroups(table, "view")


def test_a_table_that_cannot_be_grouped_is_refused_in_words():
    table = _table(20)
    for by in (None, 3, [], [["view"]], ["view", None]):
        with pytest.raises(DataError):
            subgroups(table, by)
    for wrong, said in (
        ([1], "must be a pandas table"),
        (table.iloc[:0], "the table has no rows"),
        (pd.concat([table, table[["view"]]], axis=1), "two columns view"),
        (table.assign(view=[[1]] * 20), r"row 0 \(from 0\) of the table: view must be a text or a number, not \[1\]"),
    ):
        with pytest.raises(DataError, match=said):
            subgroups(wrong, "view")
    with pytest.raises(DataError, match="rename the column"):
        subgroups(table.rename(columns={"view": "all"}), "all")


def test_a_flip_names_the_row_that_is_no_number_and_takes_tensors_that_learn():
    with pytest.raises(DataError, match=r"row 1 \(from 0\): nan before, 3.0 after"):
        flip_test([1, float("nan")], [2, 3])
    with pytest.raises(DataError, match="before has 2 answers and after 1"):
        flip_test([1, 2], [2])
    before = torch.tensor([1.0, 2.0], requires_grad=True)
    assert flip_test(before, before + 1)["mean"] == 1
