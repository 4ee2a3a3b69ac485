"How much lung is opaque: the door, the readers beside it, and the command."

import json

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

import cv2
from sklearn.metrics import cohen_kappa_score

from covidxr.base.errors import DataError
from covidxr.dicom import XrayFacts, read_xray, write_dicom
from covidxr.explain import explain
from covidxr.phantom import opacity_extent, simulate
from covidxr.prepare import prepare, read_prepared
from covidxr.severity import agreement, severity
from covidxr.start import interpret
from covidxr.tables.readers import Reader, check_owners, extent_grades, pair_agreement, read_lungs, weighted_kappa

KINDS = ("negative", "typical", "indeterminate", "typical", "atypical")


@pytest.fixture(scope="module")
def graded() -> pd.DataFrame:
    "Truth and answer for simulated patients that no network and no table of constants has seen"
    rows = []
    for number in range(60):
        xray = simulate(2_500_000 + number, KINDS[number % 5], size=160)
        true = {f"true_{name}": value for name, value in xray.severity().items()}
        rows.append(vars(severity(xray)) | true)
    return pd.DataFrame(rows)


def test_the_extent_is_near_the_truth_and_its_interval_holds_it(graded):
    assert (graded["extent"] - graded["true_extent"]).abs().mean() < 0.8
    held = (graded["low"] <= graded["true_extent"]) & (graded["true_extent"] <= graded["high"])
    assert held.mean() > 0.75
    assert ((graded["low"] <= graded["extent"]) & (graded["extent"] <= graded["high"])).all()


def test_each_lung_has_its_own_share(graded):
    for side in ("right", "left"):
        assert graded[f"{side}_percent"].between(0, 100).all()
        assert graded[f"{side}_percent"].corr(graded[f"true_{side}_percent"]) > 0.7
    gap, true = (graded[f"{name}right_percent"] - graded[f"{name}left_percent"] for name in ("", "true_"))
    assert gap.corr(true) > 0.5  # and not only how much there is on both sides together


def test_a_mirrored_xray_has_its_shares_exchanged():
    xray = simulate(2_500_001, "typical", size=160)
    one, other = severity(xray), severity(xray.mirrored())
    assert one.extent == pytest.approx(other.extent, abs=0.2)
    assert one.right_percent == pytest.approx(other.left_percent, abs=3)
    assert one.left_percent == pytest.approx(other.right_percent, abs=3)


def test_the_size_of_the_picture_changes_little():
    small, large = (severity(simulate(2_500_003, "typical", size=size, marked=False)) for size in (192, 384))
    assert small.extent == pytest.approx(large.extent, abs=0.8)
    assert small.right_percent == pytest.approx(large.right_percent, abs=10)


@pytest.mark.parametrize("given", ["x.dcm", None, np.full((64, 64), 200.0), np.zeros((64, 64), np.uint8)])
def test_what_is_no_xray_is_refused(given):
    with pytest.raises(DataError):
        severity(given)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_one_grey_level_or_a_strip_has_no_grade(level):
    noise = np.random.default_rng(0).random((3, 400))
    for pixels in (np.full((64, 64), level), np.full((1, 1), level), noise, noise.T, np.stack([noise] * 3, axis=-1)):
        with pytest.raises(DataError, match="all its pixels are|at least 16 pixels"):
            severity(pixels)


def _stepped(low: int, steps: int, top: int) -> np.ndarray:
    "Noise of some steps of a finer scale than 8 bits"
    return (low + np.random.default_rng(0).integers(0, steps, (200, 160))) / top


@pytest.mark.parametrize(
    "pixels",
    [
        np.pad(np.full((1, 1), 1 / 255), ((20, 43), (30, 33))),  # black but for one pixel, by one level or by all
        np.pad(np.ones((1, 1)), ((20, 43), (30, 33))),
        _stepped(30_000, 40, 32_767),
        _stepped(0, 300, 65_535),
        np.pad(np.ones((40, 40)), ((10, 250), (10, 250))),  # a mark on black
        np.tile(np.linspace(0, 1, 200), (200, 1)),  # a ramp changes in one direction alone
        simulate(2_500_001, "typical", size=160).pixels / 20,
    ],
)
def test_what_the_network_sees_as_one_grey_level_has_no_grade(pixels):
    for one in (pixels, pixels.T, pixels[:, :100]):
        for ask in (severity, interpret, lambda given: explain(None, given)):
            with pytest.raises(DataError, match="without contrast: . of 256 grey levels"):
                ask(np.ascontiguousarray(one))


def test_an_xray_of_any_shape_and_of_little_contrast_has_a_grade():
    xray = simulate(2_500_001, "typical", size=300).pixels
    for pixels in (xray, xray.T, xray[100:140], xray[:, 100:140], xray / 3, np.pad(xray, ((0, 0), (150, 150)))):
        severity(np.ascontiguousarray(pixels))


def test_a_picture_without_a_grade_is_left_out_of_a_run_and_empty_in_the_table(tmp_path):
    from covidxr.runs import inference
    from covidxr.runs.probes import extents

    ill = np.round(255 * simulate(2_500_001, "typical", size=96).pixels).astype(np.uint8)
    for name, pixels in {"ill": ill, "black": np.zeros((96, 96), np.uint8)}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    files = [str(tmp_path / f"{name}.png") for name in ("black", "ill")]
    images = pd.DataFrame(
        {"image_id": ["black", "ill"], "study_id": "s", "file": files, "label": ["negative", "typical"]}
    )
    (row,) = extents(images, ["negative", "typical"], seed=0)
    assert (row["label"], row["images"]) == ("typical", 1)
    assert extents(images.head(1), ["negative"], seed=0) == []
    inference._write_extents(images, tmp_path / "e.csv")
    table = pd.read_csv(tmp_path / "e.csv").set_index("image_id")
    assert table.loc["black", ["extent", "low", "high"]].isna().all() and table.loc["ill"].notna().all()


@pytest.mark.parametrize("kind", ["lateral", "hand", "strip", "frontal"])
def test_a_run_grades_no_tested_image_that_severity_refuses(kind, tmp_path):
    from covidxr.runs.inference import grade_prepared
    from covidxr.runs.probes import extents

    told = {"lateral": {"view": "LL"}, "hand": {"body_part": "HAND"}}.get(kind, {})
    pixels = (simulate(3, "typical", size=256).pixels * 4095).astype(np.uint16)
    path = tmp_path / "src" / "a.dcm"
    path.parent.mkdir()
    write_dicom(path, pixels[100:108] if kind == "strip" else pixels, XrayFacts("a", **told))
    index = prepare(path.parent, tmp_path / "out", size=160, workers=1)
    images = index.assign(file=[str(tmp_path / "out" / name) for name in index["file"]], label="typical")
    found = extents(images, ["typical"], seed=0)
    (row,) = images.to_dict("records")
    if kind == "frontal":
        assert [one["median"] for one in found] == grade_prepared(read_prepared(row["file"]), row)[:1]
        severity(read_xray(path))
    else:
        assert found == [] and grade_prepared(read_prepared(row["file"]), row) == [None] * 3
        with pytest.raises(DataError):
            severity(read_xray(path))


def test_agreement_knows_perfect_readers_bias_and_chance():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 9, 400)
    same = agreement(pd.DataFrame({"a": first, "b": first}), draws=50)
    assert same[["icc", "kappa"]].tolist() == [1, 1] and same["absolute"] == 0
    more = agreement(pd.DataFrame({"a": first, "b": first + 2}), draws=50)
    assert more["difference"] == 2 and more["low"] == 2 and more["high"] == 2
    assert more["icc"] < 0.9  # absolute agreement: a reader who always says more lowers it
    chance = agreement(pd.DataFrame({"a": first, "b": rng.permutation(first)}), draws=200)
    assert abs(chance["icc"]) < 0.12 and chance["icc_low"] < 0 < chance["icc_high"]


def test_kappa_is_that_of_scikit_learn_and_three_readers_have_its_mean():
    table = pd.DataFrame(np.random.default_rng(1).integers(0, 5, (60, 3)), columns=list("abc"))
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    wanted = np.mean([cohen_kappa_score(table[one], table[two], weights="quadratic") for one, two in pairs])
    found = agreement(table, draws=20)
    assert found["kappa"] == pytest.approx(wanted)
    assert "difference" not in found  # of three readers there is no one difference


def test_an_interval_by_patient_is_wider_where_patients_come_often():
    rng = np.random.default_rng(2)
    true = np.repeat(rng.integers(0, 9, 20), 10)
    table = pd.DataFrame({name: true + rng.normal(0, 1, 200) for name in "ab"})
    alone, together = agreement(table), agreement(table, patients=np.repeat(np.arange(20), 10))
    assert alone["icc"] == together["icc"]
    assert together["icc_high"] - together["icc_low"] > 1.3 * (alone["icc_high"] - alone["icc_low"])


@pytest.mark.parametrize(
    ("table", "patients", "said"),
    [
        (pd.DataFrame({"a": [1, 2, 3]}), None, "2 readers and 3 cases"),
        (pd.DataFrame({"a": [1, 2], "b": [1, 2]}), None, "2 readers and 3 cases"),
        (pd.DataFrame({"a": [1, 2, 3], "b": [1, np.nan, 2]}), None, "row 1 (from 0) of the table of readings: b"),
        (pd.DataFrame({"a": [1, 2, 3], "b": ["x", 1, 2]}), None, "row 0 (from 0) of the table of readings: b"),
        (pd.DataFrame({"a": [1, 2, 3], "b": [1, 2, 3]}), ["p", "q"], "each of the 3 rows"),
        ([[1, 2], [3, 4]], None, "pandas table"),
    ],
)
def test_a_table_without_two_whole_readers_is_refused(table, patients, said):
    with pytest.raises(DataError, match=said.replace("(", r"\(").replace(")", r"\)")):
        agreement(table, patients, draws=5)


def test_a_border_belongs_to_the_grade_that_wong_gives_it():
    percents = [0, 0.5, 24.5, 25, 25.5, 50, 50.5, 75, 75.5, 100]
    wanted = [0, 1, 1, 2, 2, 2, 3, 3, 4, 4]
    assert extent_grades(np.array(percents)).tolist() == wanted
    lung = np.ones(200, bool)
    assert [opacity_extent(lung, np.arange(200) < 2 * percent) for percent in percents] == wanted


@pytest.mark.parametrize("odd", [[np.nan], [np.inf], [-5], [200], ["much"], [[1], [2, 3]], None])
def test_what_is_no_per_cent_of_a_lung_has_no_grade(odd):
    with pytest.raises(DataError, match="per cent of a lung"):
        extent_grades(odd)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, bool, list, pd.Series])
def test_agreement_of_two_readers_does_not_depend_on_how_numbers_are_stored(kind):
    one, two = np.random.default_rng(4).integers(0, 2 if kind is bool else 9, (2, 80))
    stored = [kind(row.tolist()) if kind in (list, pd.Series) else row.astype(kind) for row in (one, two)]
    kappa = cohen_kappa_score(one, two, weights="quadratic")
    assert weighted_kappa(*stored) == pytest.approx(kappa)
    assert pair_agreement(*stored)["difference"] == pytest.approx((two - one).mean())
    assert pair_agreement(*stored)["kappa"] == pytest.approx(kappa)


@pytest.mark.parametrize("given", [([1, 2], [1]), ([], []), ([1, np.nan], [1, 2]), (["x", "y"], [1, 2]), (None, [1])])
def test_readers_of_different_cases_do_not_agree(given):
    for measure in (weighted_kappa, pair_agreement):
        with pytest.raises(DataError, match="reader"):
            measure(*given)


def test_an_agreement_whose_draws_are_all_alike_has_no_interval():
    table = pd.DataFrame({name: np.random.default_rng(5).normal(size=20) for name in "a"}).assign(b=range(20))
    for found in (agreement(table, [1] * 20, draws=50), agreement(table.assign(b=table["a"]), draws=50)):
        assert np.isfinite(found["icc"]) and found[["icc_low", "icc_high"]].isna().all()
    two = agreement(table, [1, 2] * 10, draws=50)
    assert two["icc_low"] < two["icc_high"]


def test_whose_case_is_whose_does_not_depend_on_how_it_is_told():
    torch, ids = pytest.importorskip("torch"), np.repeat(range(10), 3)
    rng = np.random.default_rng(6)
    true = rng.normal(size=10)[ids]
    table = pd.DataFrame({name: true + rng.normal(size=30) for name in "ab"}, index=range(100, 130))
    wanted = agreement(table, ids.tolist(), draws=50)
    named = pd.Series(ids, table.index)
    for told in (
        ids,
        torch.tensor(ids),
        list(torch.tensor(ids)),
        named,
        named.sample(frac=1, random_state=0),
        [f"p{one}" for one in ids],
    ):
        pd.testing.assert_series_equal(agreement(table, told, draws=50), wanted)
    # one person, as `Dataset` has it: a column of numbers and one of text are often joined
    assert check_owners([1, "1", 1.0], pd.RangeIndex(3)).tolist() == [0, 0, 0]
    assert check_owners([1, "2", 1], pd.RangeIndex(3)).tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="must have the index of the table"):
        agreement(table, pd.Series(ids), draws=50)
    for odd in (set(range(30)), dict.fromkeys(range(30)), "x" * 30, iter(ids), [np.nan, *["p"] * 29]):
        with pytest.raises(DataError, match="patients"):
            agreement(table, odd, draws=50)


def test_readers_with_more_noise_agree_less():
    rng = np.random.default_rng(3)
    true = rng.uniform(0, 100, (300, 2))
    found = []
    for noise in (3, 9, 20):
        seen = {name: extent_grades(read_lungs(true, Reader(noise=noise), rng)).sum(1) for name in "ab"}
        found.append(agreement(pd.DataFrame(seen), draws=5)["icc"])
    assert found[0] > found[1] > found[2]


def test_the_command_grades_files_and_names_what_it_cannot_read(tmp_path, covidxr):
    xray = simulate(2_500_001, "typical", size=160)
    write_dicom(tmp_path / "ill.dcm", np.round(xray.pixels * 4095).astype(int), xray.facts)
    (tmp_path / "bad.dcm").write_bytes(b"no X-ray")
    answer = covidxr("severity", tmp_path / "ill.dcm", tmp_path / "bad.dcm", "--json")
    assert answer.returncode == 1, answer.stderr
    told = json.loads(answer.stdout)
    (row,) = told["xrays"]
    assert row["image_id"] == "ill" and row["extent"] == pytest.approx(severity(xray).extent, abs=0.3)
    assert "bad.dcm" in told["failed"][0] and "simulated" in told["warning"] and "clinical use" in told["warning"]
    spoken = covidxr("severity", tmp_path / "ill.dcm")
    assert spoken.returncode == 0 and "ill.dcm" in spoken.stdout and "simulated X-rays alone" in spoken.stdout
    for name, shape in {"black": (64, 64), "strip": (3, 400)}.items():
        cv2.imwrite(
            str(tmp_path / f"{name}.png"), np.zeros(shape, np.uint8) + (np.arange(shape[1]) * (name == "strip") % 99)
        )
    rest = covidxr("severity", tmp_path, "--json")
    told = json.loads(rest.stdout)
    assert rest.returncode == 1 and [one["image_id"] for one in told["xrays"]] == ["ill"]
    assert sorted(one.partition("bad.dcm")[1] or one.split(".png")[0][-5:] for one in told["failed"]) == [
        "bad.dcm",
        "black",
        "strip",
    ]
    nothing = covidxr("severity", tmp_path / "bad.dcm")
    assert nothing.returncode == 2 and "none of 1 files can be read" in nothing.stderr
