"The simulator's truth is true: masks, boxes, severity, what disease changes, what files hold."

import os
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from measure import TESTS

from covidxr.base.errors import DataError
from covidxr.base.extras import opencv
from covidxr.base.terms import APPEARANCES
from covidxr.dicom import TRANSFER_SYNTAXES, read_xray, write_dicom
from covidxr.hospital import Shares, plan_dataset, simulate_dataset
from covidxr.phantom import opacity_extent, random_patient, random_pose, simulate, simulate_study
from covidxr.thorax.canvas import side_generator
from covidxr.thorax.disease import add_disease
from covidxr.thorax.patient import check_patient, check_pose
from covidxr.thorax.truth import reader_boxes

LUNGS, MEAN = [1082, 1192], 0.42050  # of `simulate(3, "typical", 96)`: pixels of each lung, mean of the picture
DISEASED = [(seed, appearance) for appearance in APPEARANCES[1:] for seed in range(12)]


def _around(mask: np.ndarray) -> np.ndarray:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def test_each_opacity_has_one_box_that_a_reader_could_have_drawn():
    agreements = []
    for seed, appearance in DISEASED:
        xray = simulate(seed, appearance, size=256)
        masks = [mask for mask in xray.opacities if mask.sum() >= 12]
        for mask, box in zip(masks, xray.boxes.to_numpy(), strict=True):
            tight = _around(mask)
            inner = np.r_[np.maximum(tight[:2], box[:2]), np.minimum(tight[2:], box[2:])]
            overlap, areas = (np.prod(one[2:] - one[:2]) for one in (inner, tight)), np.prod(box[2:] - box[:2])
            shared, own = overlap
            agreements.append(shared / (own + areas - shared))
    assert (
        len(agreements) > len(DISEASED) and min(agreements) > 0.5 and 0.75 < np.median(agreements) < 0.98
    )  # near the mask, never tight on it


def test_a_reader_without_error_draws_the_box_that_holds_the_mask_and_nothing_more():
    mask = np.zeros((60, 80), bool)
    mask[10:31, 20:26] = mask[15, 40] = True  # half-open: up to row 31 and column 41
    small = np.zeros((60, 80), bool)
    small[:2, :5] = True  # ten pixels, which nobody boxes
    boxes = reader_boxes([mask, small, ~small], np.random.default_rng(0), looseness=0)
    assert boxes.to_numpy().tolist() == [[20, 10, 41, 31], [0, 0, 80, 60]]


def test_a_planned_dataset_has_the_shares_that_were_asked_for():
    shares = Shares()
    table = pd.DataFrame(plan_dataset(6000, 1, 96, shares))
    studies = table.drop_duplicates("study_id")
    first = studies.groupby("patient_id").head(1).set_index("patient_id")["appearance"]
    later = studies[studies["patient_id"].duplicated()]
    alike = sum((share / sum(shares.classes)) ** 2 for share in shares.classes)
    visits = studies.groupby("patient_id").size()
    images = table.groupby("study_id").size()
    found = {
        **studies["appearance"].value_counts(normalize=True).to_dict(),
        "test": studies.drop_duplicates("patient_id")["split"].eq("test").mean(),
        "returning": (visits > 1).mean(),
        "several images": (images > 1).mean(),
        "another label": (studies["appearance"] != studies["label"]).mean(),
        "the same class again": (later["appearance"] == later["patient_id"].map(first)).mean(),
    }
    wanted = dict(zip(APPEARANCES, shares.classes, strict=True)) | {
        "test": shares.test,
        "returning": shares.returning,
        "several images": shares.several_images,
        "another label": shares.disagreement,
        "the same class again": shares.same_class + (1 - shares.same_class) * alike,
    }
    assert found == {name: pytest.approx(share, abs=0.03 if share > 0.2 else 0.015) for name, share in wanted.items()}
    labels = studies["label"].value_counts(normalize=True)
    assert labels.to_dict() == {name: pytest.approx(wanted[name], abs=0.03) for name in APPEARANCES}
    assert not table.loc[table["label"] == "negative", "boxed"].any()


def test_a_patient_is_one_person_in_a_dataset_and_nobody_of_another_dataset():
    one, other = (pd.DataFrame(plan_dataset(40, seed, 96)) for seed in (1, 2))
    assert (one.groupby("patient_id")["patient"].nunique() == 1).all()
    assert one["patient"].nunique() == one["patient_id"].nunique()
    for name in ("patient", "disease", "seed", "image_id", "study_id", "patient_id"):
        assert not set(one[name]) & set(other[name]), name


def test_disease_stays_in_the_lungs_and_changes_little_beyond_its_masks():
    looked = 0
    for seed, appearance in DISEASED:
        xray = simulate(seed, appearance, size=256)
        for mask in xray.opacities:
            assert not (mask & ~(xray.lungs[0] | xray.lungs[1])).any()
        if xray.opacities:
            opaque = np.any(xray.opacities, axis=0)
            far = opencv().distanceTransform((~opaque).astype(np.uint8), opencv().DIST_L2, 5) * xray.facts.pixel_spacing
            changed = np.abs(xray.pixels - xray.without_disease().pixels)
            assert (
                changed[far > 30].max(initial=0) < 0.03 and changed[far > 80].max(initial=0) < 0.01
            )  # scatter and processing
            assert changed[opaque].mean() > 3 * changed[far > 30].mean()
            looked += 1
    assert looked > 30, "nearly every disease shows"


def test_a_healthy_patient_is_the_same_with_and_without_disease():
    xray = simulate(5, "negative", size=128)
    assert xray.finding == "none" and not xray.opacities and len(xray.boxes) == 0
    assert (xray.pixels == xray.without_disease().pixels).all() and xray.severity()["extent"] == 0


def test_severity_is_the_masks_share_of_each_lung():
    for seed, appearance in DISEASED[::3]:
        xray = simulate(seed, appearance, size=160)
        opaque = np.any([np.zeros_like(xray.lungs[0]), *xray.opacities], axis=0)
        right, left = (100 * (lung & opaque).sum() / lung.sum() for lung in xray.lungs)
        severity = xray.severity()
        assert severity["right_percent"] == pytest.approx(right) and severity["left_percent"] == pytest.approx(left)
        assert severity["extent"] == sum(opacity_extent(lung, opaque) for lung in xray.lungs)


def test_a_mirrored_patient_mirrors_the_truth_and_twice_is_the_same():
    xray = simulate(7, "indeterminate", size=160)
    other = xray.mirrored()
    assert (other.pixels == xray.pixels[:, ::-1]).all() and (other.heart == xray.heart[:, ::-1]).all()
    for mask, mirrored, box in zip(xray.opacities, other.opacities, other.boxes.to_numpy(), strict=True):
        assert (mirrored == mask[:, ::-1]).all()
        middle = (box[:2] + box[2:]) / 2
        assert mirrored[int(middle[1]) - 8 : int(middle[1]) + 8, int(middle[0]) - 8 : int(middle[0]) + 8].any()
    assert other.severity()["left_percent"] == pytest.approx(xray.severity()["right_percent"])
    again = other.mirrored()
    assert (again.pixels == xray.pixels).all() and np.allclose(again.boxes, xray.boxes)


@pytest.mark.parametrize(
    "bits, photometric", [(12, "MONOCHROME1"), (12, "MONOCHROME2"), (16, "MONOCHROME1"), (16, "MONOCHROME2")]
)
@pytest.mark.parametrize("syntax", sorted(TRANSFER_SYNTAXES))
def test_a_written_dicom_reads_back_to_the_same_pixels_without_a_warning(syntax, bits, photometric, tmp_path):
    xray = simulate(3, "typical", size=96)
    stored = np.round(xray.pixels * (2**bits - 1)).astype(np.uint16)
    facts = replace(
        xray.facts, image_id="a", study_id="b", series_id="c", patient_id="d", modality="DX", bits_stored=bits
    )
    facts = replace(facts, photometric=photometric, transfer_syntax=TRANSFER_SYNTAXES[syntax])
    write_dicom(tmp_path / "a.dcm", stored, facts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = pydicom.dcmread(tmp_path / "a.dcm").pixel_array
    assert (pixels == (stored if photometric == "MONOCHROME2" else 2**bits - 1 - stored)).all()
    assert np.abs(read_xray(tmp_path / "a.dcm").pixels - xray.pixels).max() < 1 / 2**bits


def test_the_images_of_a_study_show_one_disease_and_a_dataset_can_be_simulated_again(tmp_path):
    findings = {xray.finding for xray in simulate_study(4, "indeterminate", images=4, size=96)}
    assert len(findings) == 1
    with pytest.raises(DataError, match="1 to 9"):
        simulate_study(4, images=10)
    plans = pd.DataFrame(plan_dataset(800, 1, 128))
    assert (plans.groupby("study_id")["disease"].nunique() == 1).all()
    folder = simulate_dataset(tmp_path / "data", studies=12, seed=2, size=96)
    truth = pd.read_csv(folder / "truth" / "severity.csv", dtype={"image_id": str}).set_index("image_id")
    files = sorted(folder.glob("*/*/*/*.dcm"))[:6]
    assert len(files) == 6
    for path in files:
        row, pixels = truth.loc[path.stem], read_xray(path).pixels
        size = max(pixels.shape)
        again = simulate(
            int(row["seed"]), row["appearance"], size, patient=int(row["patient"]), disease=int(row["disease"])
        )
        assert again.pixels.shape == pixels.shape and np.abs(again.pixels - pixels).max() < 1 / 2**12


def test_every_nuisance_can_be_switched_and_is_recorded():
    plain = replace(random_pose(1), leads=False, tubes=False, pacemaker=False, letters=False, border=0.0)
    bare = simulate(1, "negative", 160, pose=plain, marked=False)
    for change in ({"leads": True}, {"tubes": True}, {"pacemaker": True}, {"letters": True}, {"border": 1.0}):
        other = simulate(1, "negative", 160, pose=replace(plain, **change), marked=False)
        assert other.pose == replace(plain, **change) and np.abs(other.pixels - bare.pixels).max() > 0.05
    assert (
        simulate(1, "negative", 160, pose=plain).pixels[-4:, :20] != bare.pixels[-4:, :20]
    ).any()  # the word SIMULATED


def test_large_pictures_show_the_same_chest_as_small_ones():
    small, large = simulate(2, "typical", 400), simulate(2, "typical", 2000)
    shrunk = opencv().resize(large.pixels, small.pixels.shape[::-1], interpolation=opencv().INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), small.pixels.ravel())[0, 1] > 0.98
    assert large.severity()["extent"] == small.severity()["extent"] and large.lungs[0].shape == large.pixels.shape


def test_the_grain_of_a_picture_of_full_size_is_that_of_a_detector_whose_light_spreads():
    pixels = simulate(5, "typical", size=1800).pixels.astype(float)
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    grain = np.median(np.abs(4 * pixels[1:-1, 1:-1] - around)) / 0.6745 / np.sqrt(20)  # of white noise the deviation
    assert 0.0005 < grain < 0.006  # real radiographs of 1,024 to 1,760 pixels: 0.0007 to 0.003 of their range


def test_pictures_are_those_of_before__both_sides_of_a_patient_keep_their_streams():
    words = zlib.crc32(b"lung")
    for side, key in ((-1, [7, words]), (1, [7, words, 2])):
        assert side_generator(7, "lung", side).random() == np.random.default_rng(key).random()
    xray = simulate(3, "typical", 96)  # coarse, as the last digits are the processor's
    assert [int(lung.sum()) for lung in xray.lungs] == pytest.approx(LUNGS, abs=4)
    assert xray.pixels.mean() == pytest.approx(MEAN, abs=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"seed": seed} for seed in (-1, 1.5, float("nan"), "1", None, True)),
        *({"size": size} for size in (0, -5, 63, 8193, 96.0, float("inf"), "96")),
        *({"appearance": name} for name in ("covid", None, 3, ["typical"])),
        *({"strength": value} for value in (float("nan"), -1, float("inf"), 0, 0.01)),
        *({"patient": value} for value in (-1, 0.5, "x")),
        *({"disease": value} for value in (-1, 0.5, "x")),
        *({"pose": replace(random_pose(1), **odd)} for odd in ({"view": "LL"}, {"aspect": 0}, {"field": float("nan")})),
    ],
)
def test_simulate_says_what_cannot_be(wrong):
    with pytest.raises(DataError):
        simulate(**{"seed": 1, "size": 96} | wrong)


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_a_pose_that_leaves_a_lung_beside_the_picture_is_refused(appearance):
    for seed in range(4):
        pose = replace(random_pose(seed), shift=(10, 10), field=20)
        with pytest.raises(DataError, match="a lung lies beside the picture; make the shift smaller"):
            simulate(seed, appearance, 64, pose=pose)
        assert simulate(seed, appearance, 64, pose=replace(pose, shift=(4, -4), field=45)).lungs[0].any()


def test_the_faintest_disease_that_can_be_asked_for_is_in_the_picture():
    xray = simulate(70, "typical", 256, strength=0.05)
    mask = np.any(xray.opacities, axis=0)
    assert len(xray.boxes) and np.abs(xray.pixels - xray.healthy)[mask].max() > 1 / 255


@pytest.mark.parametrize("strength", [0, 0.0, 0.01, 1])
def test_a_negative_has_no_opacity_that_could_be_too_faint(strength):
    np.testing.assert_array_equal(
        simulate(7, "negative", 64, strength=strength).pixels, simulate(7, "negative", 64).pixels
    )
    for wrong in (-1, 11, float("nan"), "a", True):
        with pytest.raises(DataError, match="the strength must lie from 0 to 10, not "):
            simulate(7, "negative", 64, strength=wrong)


def test_other_doors_of_the_simulator_say_what_cannot_be(tmp_path):
    for call in (random_patient, random_pose):
        for seed in (-1, 0.5, None):
            with pytest.raises(DataError, match="whole number"):
                call(seed)
    for images in (0, 10, 1.0, None):
        with pytest.raises(DataError, match="1 to 9"):
            simulate_study(4, images=images)
    with pytest.raises(DataError, match="cannot simulate a covid X-ray"):
        add_disease(None, None, "covid", 1)
    with pytest.raises(DataError, match="boolean and of one shape"):
        opacity_extent(np.ones((3, 3), bool), np.ones((4, 4), bool))
    half = (0.5, 0.5)
    odd = ({"classes": half}, {"classes": (0, 0, 0, 0)}, {"classes": "abcd"}, {"test": 2}, {"test": "a"})
    for shares in (*(Shares(**one) for one in odd), Shares(unboxed=float("nan")), None, 0.5):
        with pytest.raises(DataError, match="must (be|lie)"):
            plan_dataset(4, 1, 96, shares)
    for wrong in ({"studies": 1}, {"studies": 4.0}, {"size": 10}, {"seed": -1}, {"workers": 0}, {"workers": -1}):
        with pytest.raises(DataError, match="must be a whole number"):
            simulate_dataset(tmp_path / "data", **{"studies": 4, "size": 64} | wrong)
    assert not (tmp_path / "data").exists()


def test_threads_simulate_what_one_thread_does():
    alone = [simulate(seed, "typical", 96).pixels for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda seed: simulate(seed, "typical", 96).pixels, range(6)))
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_a_dataset_is_written_into_a_folder_of_its_own_and_goes_on_only_as_it_was_begun(tmp_path, hashes):
    theirs = tmp_path / "theirs"
    for name in ("train_study_level.csv", "simulated.json", ".unfinished/claim.json", "thesis.txt"):
        (theirs / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / name).write_text("a stranger's")
        before = hashes(theirs)
        with pytest.raises(DataError, match="choose a new or an empty folder"):
            simulate_dataset(theirs, studies=4, size=64)
        assert hashes(theirs) == before
        (theirs / name).unlink()
        if name.startswith("."):
            (theirs / name).parent.rmdir()
    threads = opencv().getNumThreads()
    data = simulate_dataset(tmp_path / "data", studies=4, size=64)
    assert opencv().getNumThreads() == threads
    whole = hashes(data)
    for other in ({"seed": 1}, {"studies": 5}, {"size": 65}, {"shares": Shares(test=0.5)}):
        with pytest.raises(DataError, match=f"another (number of )?{next(iter(other))}"):
            simulate_dataset(data, **{"studies": 4, "size": 64} | other)
    assert simulate_dataset(str(data), studies=np.int64(4), size=64) == data and hashes(data) == whole


def test_two_calls_at_once_do_not_write_one_dataset(tmp_path):
    code = (
        "import sys\nfrom covidxr import hospital\n"
        "hospital._write_image = lambda task: print('begun', flush=True) or input()\n"
        "hospital.simulate_dataset(sys.argv[1], studies=4, size=64, workers=1)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "data")]
    other = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "begun\n"
        with pytest.raises(DataError, match="another call is writing here"):
            simulate_dataset(tmp_path / "data", studies=4, size=64)
    finally:
        other.kill()
        other.communicate()
    simulate_dataset(tmp_path / "data", studies=4, size=64)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_dataset_that_is_killed_at_random_moments_ends_with_the_same_bytes(tmp_path):
    kills = os.environ.get("COVIDXR_KILLS", "6")
    command = [sys.executable, str(Path(TESTS) / "chaos.py"), "simulate", str(tmp_path), kills]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_a_worker_that_is_killed_is_said_in_words_and_the_next_call_goes_on(tmp_path):
    code = (
        "import os, sys, signal\nsys.path.insert(0, sys.argv[2])\nimport gates\nfrom covidxr import hospital\n"
        "hospital._write_image = gates.killed\n"
        "try:\n    hospital.simulate_dataset(sys.argv[1], studies=12, size=64, workers=2)\n"
        "except hospital.DataError as error:\n    print(error)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "data"), TESTS]
    answer = subprocess.run(words, capture_output=True, text=True)
    assert "a process was ended from outside" in answer.stdout and "goes on where it stopped" in answer.stdout
    assert (simulate_dataset(tmp_path / "data", studies=12, size=64, workers=1) / "simulated.json").exists()


def test_a_pose_or_a_patient_that_cannot_be_is_refused_by_its_field():
    pose, person = replace(random_pose(1), view="AP"), random_patient(1)
    with pytest.raises(DataError, match="pose: supine must be True or False, not 'no'"):
        simulate(1, size=64, pose=replace(pose, supine="no"))
    wrong = {"sex": ["X", None], "age": [-5, 1.5, 200], "scale": [5.0, 0], "fat": [-1], "heart": [float("nan"), 9]}
    for name, values in (wrong | {"breadth": [0], "scoliosis": [90], "seed": [-1, "a"]}).items():
        for value in values:
            with pytest.raises(DataError, match=f"patient: {name}.*must"):
                simulate(1, size=64, patient=replace(person, **{name: value}))
    for number in (-1, "x", 1.5, True):
        with pytest.raises(DataError, match=r"^patient .*must be a whole number from 0"):
            simulate(1, size=64, patient=number)
    for field, values in {"scale": (0.6, 1.5), "fat": (0, 3), "heart": (0.5, 2), "breadth": (0.7, 1.6)}.items():
        for value in values:
            assert len(simulate(1, size=64, patient=replace(person, **{field: value})).boxes)
    for seed in range(300):
        check_patient(random_patient(seed))
        check_pose(random_pose(seed))
