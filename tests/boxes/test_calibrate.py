"Probabilities held against what happened: calibration, operating points, and the promise of conformal sets"

from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, kstest
from sklearn.calibration import calibration_curve

from covidxr.base.errors import DataError
from covidxr.base.files import json_text
from covidxr.base.seeds import generator
from covidxr.base.terms import APPEARANCES
from covidxr.boxes.calibration import bin_numbers, chances_of, conformal_limit, fit_temperature, tempered
from covidxr.boxes.decisions import share_interval
from covidxr.calibrate import calibrate, conformal, operating_points, reliability

CLASSES = list(APPEARANCES)


def _patients(count: int, seed: int, temperature: float = 1.0) -> pd.DataFrame:
    "Simulated patients whose truth is drawn from the probabilities, which are then stated at another temperature"
    rng = generator(seed, "calibration tests")
    fair = tempered(rng.dirichlet([1, 2, 0.7, 0.4], count), 0.4)
    labels = (fair.cumsum(1) > rng.random((count, 1))).argmax(1)
    table = pd.DataFrame(tempered(fair, 1 / temperature), columns=CLASSES)
    return table.assign(label=[CLASSES[one] for one in labels])


def test_a_perfect_model_shows_what_chance_gives_and_no_more() -> None:
    for count in (100, 2000):
        found = [reliability(_patients(count, seed), draws=200, seed=seed) for seed in range(20)]
        assert np.mean([one["low"] == 0 for one in found]) >= 0.9
        assert np.mean([one["ece"] for one in found]) == pytest.approx(found[0]["by_chance"], rel=0.2)


def test_the_calibration_error_of_100_patients_lies_above_that_of_many() -> None:
    many = _patients(6000, 1, 1.3)
    few = [reliability(many.sample(100, random_state=seed), draws=1)["ece"] for seed in range(40)]
    assert np.mean(few) > reliability(many, draws=1)["ece"] + 0.02


def test_the_interval_of_the_calibration_error_holds_the_true_one_about_as_often_as_it_says() -> None:
    for temperature in (1.0, 2.0):  # 95 % are asked for; nine of ten were measured on 20,000 patients
        true = reliability(_patients(200_000, 99, temperature), draws=1)["ece"]
        found = [reliability(_patients(200, seed, temperature), draws=300, seed=seed) for seed in range(60)]
        assert np.mean([one["low"] <= true <= one["high"] for one in found]) >= 0.8


def test_bins_are_those_of_scikit_learn() -> None:
    table = _patients(500, 2, 1.5)
    happened, stated = calibration_curve(table["label"] == "typical", table["typical"], n_bins=10)
    bins = reliability(table, of="typical", draws=1)["bins"]
    np.testing.assert_allclose(bins["happened"], happened)
    np.testing.assert_allclose(bins["said"], stated)
    assert ((bins["low"] <= bins["happened"]) & (bins["happened"] <= bins["high"])).all()


def test_rows_of_one_patient_count_as_fewer_than_those_of_many() -> None:
    table = _patients(300, 3).assign(patient_id=[f"p{one}" for one in range(300)])
    thrice = pd.concat([table] * 3, ignore_index=True)
    once, again, alone = (reliability(one) for one in (table, thrice, thrice.drop(columns="patient_id")))
    widths = [one["bins"]["high"] - one["bins"]["low"] for one in (once, again, alone)]
    assert (widths[2] < widths[1]).all() and (widths[1] > 0.95 * widths[0]).all()


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_scaling_takes_the_error_below_003_on_20000_simulated_patients(method: str, temperature: float) -> None:
    known, new = _patients(2000, 4, temperature), _patients(20_000, 5, temperature)
    before, after = reliability(new, draws=1), reliability(calibrate(new, known, method), draws=1)
    assert before["ece"] > 0.06 and after["ece"] < 0.03
    assert after["brier"] < before["brier"]


def test_a_temperature_changes_nobodys_class_and_is_what_pytorch_finds() -> None:
    torch = pytest.importorskip("torch")
    known = _patients(400, 6, 1.7)
    chances, labels = known[CLASSES].to_numpy(), known["label"].map(CLASSES.index).to_numpy()
    assert (calibrate(known, known)[CLASSES].to_numpy().argmax(1) == chances.argmax(1)).all()
    logits, logarithm = torch.tensor(chances).log(), torch.zeros(1, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithm], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / logarithm.exp(), torch.tensor(labels))
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(chances, labels) == pytest.approx(logarithm.exp().item(), rel=1e-3)


def test_other_shares_are_corrected_where_the_classes_look_as_before() -> None:
    known = _patients(20_000, 7)
    learnt, used = known["label"].value_counts(normalize=True), {"negative": 0.9, "typical": 0.05}
    used |= {"indeterminate": 0.03, "atypical": 0.02}
    weights = known["label"].map({name: used[name] / learnt[name] for name in CLASSES}).to_numpy()
    corrected = calibrate(known, known, "none", used)
    for name in CLASSES:
        assert np.average(corrected[name], weights=weights) == pytest.approx(used[name], abs=0.01), name
    assert np.average(known["negative"], weights=weights) < 0.8  # uncorrected
    same = calibrate(known, known, "none", learnt.to_dict())
    np.testing.assert_allclose(same[CLASSES], known[CLASSES], atol=1e-9)


def test_operating_points_are_chosen_on_some_patients_and_judged_on_others() -> None:
    known, new = _patients(500, 8), _patients(800, 9)
    points = operating_points(new, known, 0.9, (0.01, 0.1, 0.3))
    sick, value = new["label"] != "negative", 1 - new["negative"]
    alarm = value >= points["threshold"].iloc[0]
    assert points["sensitivity"].iloc[0] == pytest.approx((alarm & sick).sum() / sick.sum())
    assert ((1 - known["negative"])[known["label"] != "negative"] >= points["threshold"].iloc[0]).mean() >= 0.9
    own = operating_points(new, known, 0.9, [sick.mean()]).iloc[0]  # here Bayes' rule is mere counting
    assert own["ppv"] == pytest.approx((alarm & sick).sum() / alarm.sum())
    assert own["npv"] == pytest.approx((~alarm & ~sick).sum() / (~alarm).sum())
    assert points["ppv"].is_monotonic_increasing and points["npv"].is_monotonic_decreasing
    for name in ("ppv", "npv"):
        assert (points[f"{name}_low"] < points[name]).all() and (points[name] < points[f"{name}_high"]).all()


def _coverages(limit, known: int, error: float) -> list[float]:
    "True coverage of 200 limits: strangeness is uniform here, so that the limit itself is the share it covers"
    draws = (generator(seed, "coverage").random(known) for seed in range(200))
    return [min(limit(one, error), 1.0) for one in draws]


def _quantile(strangeness: np.ndarray, error: float) -> float:
    return float(np.quantile(strangeness, 1 - error))


def _rank(strangeness: np.ndarray, error: float, shift: int) -> float:
    rank = int(np.ceil((len(strangeness) + 1) * (1 - error) - 1e-9)) + shift
    return float(np.sort(strangeness)[min(rank, len(strangeness)) - 1])


@pytest.mark.parametrize(("known", "error"), [(19, 0.1), (15, 0.125), (9, 0.2)])
def test_the_coverage_of_200_draws_follows_its_exact_beta_law_and_no_other_order_statistic_does(known, error) -> None:
    rank = round((known + 1) * (1 - error))
    law = beta(rank, known + 1 - rank)
    assert kstest(_coverages(conformal_limit, known, error), law.cdf).pvalue > 0.01
    for wrong in (partial(_rank, shift=-1), partial(_rank, shift=1), _quantile):
        assert kstest(_coverages(wrong, known, error), law.cdf).pvalue < 1e-3


def test_sets_cover_the_truth_as_the_beta_law_says_when_they_are_made_of_tables() -> None:
    new, covered = _patients(4000, 10, 1.8), []
    truth = np.arange(len(new)), new["label"].map(CLASSES.index).to_numpy()
    for seed in range(200):
        known = _patients(29, 1000 + seed, 1.8)
        covered.append(conformal(new, known, 0.1).to_numpy()[truth].mean())
    assert kstest(covered, beta(27, 3).cdf).pvalue > 0.01
    assert kstest(covered, beta(26, 4).cdf).pvalue < 1e-3


def test_class_by_class_the_promise_holds_for_the_rare_class_too() -> None:
    known, new = _patients(4000, 11, 0.6), _patients(20_000, 12, 0.6)
    truth = np.arange(len(new)), new["label"].map(CLASSES.index).to_numpy()
    held = {}
    for by_class in (False, True):
        inside = pd.Series(conformal(new, known, 0.1, by_class).to_numpy()[truth])
        held[by_class] = inside.groupby(new["label"]).mean()
    assert held[False].min() < 0.85
    assert (held[True] - 0.9).abs().max() < 0.04


def test_where_too_few_are_known_every_class_is_in_the_set() -> None:
    known, new = _patients(8, 13), _patients(5, 14)
    assert conformal(new, known, 0.1).to_numpy().all()
    assert not conformal(new, _patients(60, 13), 0.1).to_numpy().all()


@pytest.mark.parametrize("error", [0.3, 0.1, 0.05, 0.02])
@pytest.mark.parametrize("count", [60, 99, 250])
def test_our_sets_are_those_of_mapie(error: float, count: int) -> None:
    mapie = pytest.importorskip("mapie", minversion="1.6", reason="mapie is not installed; covidxr[course] brings it")
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Ready(ClassifierMixin, BaseEstimator):
        classes_ = np.arange(4)

        def fit(self, X, y):
            return self

        def predict_proba(self, X):
            return X

        def predict(self, X):
            return X.argmax(1)

    known, new = _patients(count, 15, 1.4), _patients(1000, 16, 1.4)
    theirs = SplitConformalClassifier(Ready(), confidence_level=1 - error, conformity_score="lac", prefit=True)
    theirs.conformalize(known[CLASSES].to_numpy(), known["label"].map(CLASSES.index).to_numpy())
    sets = theirs.predict_set(new[CLASSES].to_numpy())[1][:, :, 0]
    assert (sets == conformal(new, known, error).to_numpy()).all(), mapie.__version__


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda t: reliability(t.drop(columns="label")), "has no column label"),
        (lambda t: reliability(t.assign(typical=np.nan)), "typical must lie from 0 to 1"),
        (lambda t: reliability(t.assign(typical=0.0)), "sum to"),
        (lambda t: reliability(t.assign(label="flu")), "is none of the classes negative, typical"),
        (lambda t: reliability(t.head(0)), "has no rows"),
        (lambda t: reliability(t, of="flu"), "unknown class 'flu'"),
        (lambda t: reliability(t, bins=1), "bins must be a whole number from 2 to 100"),
        (lambda t: reliability(t, draws=0), "draws must be a whole number from 1"),
        (lambda t: reliability(t, classes=["negative"]), "at least two columns"),
        (lambda t: calibrate(t, t, "platt"), "unknown method 'platt'"),
        (lambda t: calibrate(t, t.head(0)), "known table has no rows"),
        (lambda t: calibrate(t, t, shares={"negative": 1}), "a number for each of negative"),
        (lambda t: calibrate(t, t, shares=dict.fromkeys(CLASSES, 0)), "must sum to more than 0"),
        (lambda t: calibrate(t, t[t["label"] != "atypical"], shares=dict.fromkeys(CLASSES, 1)), "no known patient is"),
        (lambda t: conformal(t, t, 0), "the error must be above 0"),
        (lambda t: conformal(t, t, 1), "the error must be above 0 and at most 0.99"),
        (lambda t: operating_points(t, t, healthy="well"), "unknown class 'well'"),
        (lambda t: operating_points(t, t, prevalences=[2]), "a prevalence must be above 0"),
        (lambda t: operating_points(t, t[t["label"] == "typical"]), "both answers"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_words(call, said: str) -> None:
    with pytest.raises(DataError, match=said):
        call(_patients(40, 17))


def test_twenty_equal_rows_of_a_patient_count_as_one_patient_for_the_sets() -> None:
    known, new = _patients(12, 20, 1.8), _patients(4000, 21, 1.8)
    often = pd.concat([known.assign(patient_id=[f"p{one}" for one in range(12)])] * 20, ignore_index=True)
    for by_class in (False, True):
        assert conformal(new, often, 0.1, by_class).equals(conformal(new, known, 0.1, by_class))
    few = often[often["patient_id"].isin([f"p{one}" for one in range(5)])]
    assert conformal(new, few, 0.1).to_numpy().all()  # five patients promise nothing at this error
    worst = often.assign(negative=np.linspace(0.1, 0.9, len(often)))  # rows of a patient differ: its worst one counts
    worst = worst.assign(**dict.fromkeys(CLASSES[1:], (1 - worst["negative"]) / 3), label="negative")
    least = worst.groupby("patient_id")["negative"].min().sort_values()
    inside = conformal(new, worst, 0.2)["negative"]
    rank = int(np.ceil(13 * 0.8))
    assert (inside == (new["negative"] >= least.iloc[12 - rank] - 1e-12)).all()


def test_a_calibration_error_whose_draws_are_all_alike_has_no_interval() -> None:
    sure = pd.DataFrame([[1.0, 0, 0, 0]] * 3, columns=CLASSES).assign(label="negative")
    one = _patients(50, 22).assign(patient_id="p")
    for table in (sure, one):
        found = reliability(table, draws=50)
        assert np.isfinite(found["ece"]) and np.isnan([found["low"], found["high"]]).all()
    assert '"low": null' in json_text({name: found[name] for name in ("ece", "low", "high")})
    found = reliability(one.assign(patient_id=["p", "q"] * 25), draws=50)
    assert found["low"] <= found["ece"] <= found["high"]


def test_few_known_patients_and_faultless_ones_give_no_certainty() -> None:
    new, perfect = _patients(10, 23), pd.DataFrame(0.1, range(40), CLASSES).assign(negative=0.7, label="negative")
    for method in ("temperature", "isotonic"):
        with pytest.raises(DataError, match="8 known patients are too few to correct probabilities; give at least 20"):
            calibrate(new, perfect.head(8), method)
        with pytest.raises(DataError, match="2 known patients are too few"):
            calibrate(new, perfect.assign(patient_id=["p", "q"] * 20), method)
    with pytest.raises(DataError, match="give no temperature, as the model is right in .nearly. all of them"):
        calibrate(new, perfect)
    with pytest.raises(DataError, match="no better than chance"):
        calibrate(new, perfect.assign(label="typical"))
    pd.testing.assert_frame_equal(calibrate(new, perfect.head(8), "none"), new)
    assert calibrate(new, _patients(20, 24))[CLASSES].notna().all().all()


def test_patients_in_both_tables_are_refused_but_where_one_number_scales_its_own() -> None:
    known = _patients(60, 25).assign(patient_id=range(60))
    new = _patients(40, 26).assign(patient_id=[*range(100, 139), 59])
    for call in (calibrate, conformal, operating_points, partial(calibrate, method="isotonic")):
        with pytest.raises(DataError, match="patient 59 is in the table and in the known table; split by patient"):
            call(new, known)
        assert len(call(new.head(39), known))
    calls = (partial(calibrate, method="isotonic"), conformal)
    for call in calls:
        with pytest.raises(DataError, match="patient 0 is in the table"):
            call(known, known)
    assert calibrate(known, known).equals(calibrate(known.copy(), known))
    unknown = [one.assign(patient_id=None) for one in (new, known)]
    assert len(conformal(*unknown)) == 40  # rows without a patient are nobody's twice


def test_classes_may_be_numbers_and_answers_are_the_same() -> None:
    known, new = _patients(60, 27), _patients(40, 28)
    place = {name: number for number, name in enumerate(CLASSES)}
    numbered = [one.rename(columns=place).assign(label=one["label"].map(place)) for one in (new, known)]
    how = {"classes": range(4)}
    for method in ("temperature", "isotonic"):
        shares = [dict.fromkeys(names, 1) for names in (CLASSES, range(4))]
        wanted = calibrate(new, known, method, shares[0])[CLASSES].to_numpy()
        assert (calibrate(*numbered, method, shares[1], **how)[[0, 1, 2, 3]].to_numpy() == wanted).all()
    assert reliability(numbered[0], of=1, draws=20, **how)["ece"] == reliability(new, of="typical", draws=20)["ece"]
    assert operating_points(*numbered, healthy=0, **how).equals(operating_points(new, known))
    assert (conformal(*numbered, **how).to_numpy() == conformal(new, known).to_numpy()).all()
    with pytest.raises(DataError, match="unknown class 7; it can be 0, 1, 2 or 3"):
        reliability(numbered[0], of=7, **how)
    with pytest.raises(DataError, match="a number for each of 0, 1, 2, 3"):
        calibrate(*numbered, shares={0: 1}, **how)


@pytest.mark.parametrize("method", ["temperature", "isotonic", "none"])
def test_a_table_without_rows_stays_one(method: str) -> None:
    known = _patients(40, 29)
    found = calibrate(known.head(0), known, method)
    assert found.shape == (0, 5) and list(found) == list(known)


@pytest.mark.parametrize(
    "work", [calibrate, conformal, operating_points, lambda new, known, **how: reliability(new, **how)]
)
@pytest.mark.parametrize("classes", ["negative", None, 3, [], ["negative"], ["negative", "negative"]])
def test_what_are_no_classes_is_called_so(work, classes) -> None:
    with pytest.raises(DataError, match="classes must"):
        work(_patients(30, 30), _patients(30, 31), classes=classes)


def test_nothing_that_is_given_is_changed_and_an_answer_comes_again() -> None:
    known, new = _patients(60, 18), _patients(40, 19)
    before = known.copy(), new.copy()
    for work in (calibrate, conformal, operating_points):
        first, second = work(new, known), work(new, known)
        pd.testing.assert_frame_equal(first, second)
    assert reliability(new)["ece"] == reliability(new.sample(frac=1, random_state=1))["ece"].__float__()
    pd.testing.assert_frame_equal(known, before[0])
    pd.testing.assert_frame_equal(new, before[1])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_interval_of_a_share_holds_the_share_to_the_last_digit(share):
    "Else an error bar drawn from share, low and high has a negative length, and matplotlib refuses it"
    for rows in range(1, 300):
        value, low, high = share_interval(np.full(rows, bool(share)), np.arange(rows))
        assert low <= value <= high and 0 <= low and high <= 1


def _hundredths(count: int, seed: int, name: str) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    "Whole hundredths that sum to 100, the true class of each row, and the same as a table of probabilities"
    rng = np.random.default_rng(seed)
    parts = np.floor(rng.dirichlet(np.ones(4), count) * 100).astype(int)
    parts[:, 3] = 100 - parts[:, :3].sum(1)
    labels = np.array([rng.choice(4, p=row / 100) for row in parts])
    table = pd.DataFrame(parts / 100, columns=APPEARANCES)
    patients = [f"{name}{one}" for one in range(count)]
    return parts, labels, table.assign(label=[APPEARANCES[one] for one in labels], patient_id=patients)


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_one_stated_probability_is_one_number_in_every_row(kind: str) -> None:
    for seed in range(40):
        (known, true, first), (judged, right, second) = _hundredths(100, seed, "k"), _hundredths(300, 500 + seed, "t")
        first, second = (one.astype(dict.fromkeys(APPEARANCES, kind)) for one in (first, second))
        strange = np.sort(100 - known[np.arange(100), true])  # whole numbers know no rounding
        inside = 100 - judged <= strange[int(np.ceil(101 * 0.9 - 1e-9)) - 1]
        assert (conformal(second, first, 0.1)[CLASSES].to_numpy() == inside).all()
        sick, alarm = np.sort((100 - known[:, 0])[true > 0])[::-1], 100 - judged[:, 0]
        threshold = sick[max(int(np.ceil(0.95 * len(sick) - 1e-9)), 1) - 1]
        found = operating_points(second, first).iloc[0]
        assert found["sensitivity"] == pytest.approx((alarm[right > 0] >= threshold).mean())
        assert found["specificity"] == pytest.approx((alarm[right == 0] < threshold).mean())


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("bins", [5, 10, 20, 100])
def test_a_probability_on_a_border_lies_in_the_upper_bin(kind: str, bins: int) -> None:
    said = (np.arange(101) / 100).astype(kind)
    assert bin_numbers(said, bins).tolist() == [min(one * bins // 100, bins - 1) for one in range(101)]
    wholes = [[*row, 10 - sum(row)] for row in product(range(11), repeat=3) if sum(row) <= 10]
    table = pd.DataFrame(np.array(wholes) / 10, columns=APPEARANCES)
    stated = bin_numbers(chances_of(table, CLASSES), 10)
    assert (stated == np.minimum(wholes, 9)).all()


def test_what_sums_to_nearly_one_is_still_divided() -> None:
    table = pd.DataFrame([[0.33, 0.33, 0.33, 0.0], [0.25, 0.25, 0.25, 0.25]], columns=APPEARANCES)
    assert chances_of(table, CLASSES).sum(axis=1).tolist() == pytest.approx([1, 1], abs=1e-12)
