"Subgroups, flips, and pictures that differ in one thing only."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.metrics import roc_auc
from covidxr.phantom import SITES
from covidxr.shortcuts import flip_test, only_changed, subgroups


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
    with pytest.raises(DataError, match="no column sex; it has sick, view"):
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
    with pytest.raises(DataError, match="cannot change marker; what can be changed is view, inspiration"):
        only_changed(4, {"marker": "R"}, size=64)
    with pytest.raises(DataError, match="pose: letter 'Q'"):
        only_changed(4, {"letter": "Q"}, size=64)
