"Any one factor of a simulated picture can be changed, and what that factor does not touch stays as it is; sites."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.base.files import read_json
from covidxr.base.terms import APPEARANCES
from covidxr.hospital import simulate_dataset
from covidxr.phantom import SITES, random_patient, random_pose, simulate
from covidxr.thorax.anatomy import build_chest
from covidxr.thorax.canvas import Canvas
from covidxr.thorax.physics import Tone, exposure_noise, random_tone
from covidxr.thorax.sites import Site, site_pose

SIZE, SEED = 160, 21
PLAIN = replace(random_pose(SEED), leads=False, tubes=False, pacemaker=False, border=0.0, view="AP")
OLD = {  # by seed: mean of the upper and of the lower half; 1 has a pacemaker, 4 leads, 7 tubes, 24 and 558 several
    1: [0.40068, 0.58268],
    4: [0.39115, 0.62916],
    7: [0.34017, 0.68988],
    9: [0.3693, 0.63128],
    24: [0.30106, 0.52838],
    558: [0.29888, 0.57014],
}


def _simulate(**changed):
    return simulate(SEED, **{"appearance": "typical", "size": SIZE, "pose": PLAIN} | changed)


def _rectangle(first, second) -> tuple[int, int, int, int]:  # top, bottom, left, right of all that differs
    rows, columns = np.nonzero(first.pixels != second.pixels)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize("seed", OLD)
def test_old_seeds_give_old_pixels(seed):
    pixels = simulate(seed, "typical", 96).pixels  # coarse, as the last digits are the processor's
    halves = [pixels[: len(pixels) // 2].mean(), pixels[len(pixels) // 2 :].mean()]
    assert halves == pytest.approx(OLD[seed], abs=1e-4)


@pytest.mark.parametrize("seed", [1, 4, 21])
def test_a_factor_that_is_spelled_out_as_the_seed_has_it_changes_no_byte(seed):
    usual = simulate(seed, "indeterminate", 96)
    spelled = {"patient": random_patient(seed), "disease": seed, "pose": random_pose(seed), "tone": random_tone(seed)}
    again = simulate(seed, "indeterminate", 96, **spelled)
    assert usual.pixels.tobytes() == again.pixels.tobytes() and usual.healthy.tobytes() == again.healthy.tobytes()
    assert (usual.pose, usual.tone) == (again.pose, again.tone)
    assert usual.tone == random_tone(seed)  # what was drawn is recorded


def test_another_letter_changes_a_small_rectangle_and_nothing_else():
    for word in ("", "PORTABLE"):
        pose = replace(PLAIN, letter="L", word=word)
        left, none = _simulate(pose=pose), _simulate(pose=replace(pose, letters=False))
        top, bottom, first, last = _rectangle(left, none)
        height, width = left.pixels.shape
        assert bottom <= 0.2 * height and (first >= 0.8 * width or word)
        if not word:
            assert (bottom - top) * (last - first) < 0.02 * height * width
        changed = left.pixels != none.pixels
        assert (left.pixels[changed] >= none.pixels[changed]).all()  # letters are bright
        right = _simulate(pose=replace(pose, letter="R"))
        assert not (right.pixels != left.pixels)[round(0.2 * height) :].any()
        assert [right.boxes.equals(left.boxes), right.severity() == left.severity()] == [True, True]


def test_another_word_changes_the_words_rectangle_and_nothing_else():
    some, other = (_simulate(pose=replace(PLAIN, letter="R", word=word)) for word in ("PORTABLE", "ERECT"))
    top, bottom, first, last = _rectangle(some, other)
    height, width = some.pixels.shape
    assert bottom <= 0.09 * height and first >= 0.75 * width and last - first < 0.25 * width


def test_a_black_edge_covers_the_edge_and_nothing_else():
    bare, edged = (_simulate(pose=replace(PLAIN, border=border, letters=False), marked=False) for border in (0, 1.0))
    edge = round(1.0 * min(bare.pixels.shape) / PLAIN.field)
    inside = (slice(edge, -edge), slice(edge, -edge))
    assert edge > 2 and bare.pixels[inside].tobytes() == edged.pixels[inside].tobytes()
    assert edged.pixels.sum() == edged.pixels[inside].sum()


def test_a_device_is_one_organ_more_and_moves_no_other_device():
    def layers(**shown):
        return build_chest(Canvas(random_patient(SEED), replace(PLAIN, **shown), SIZE), SEED).layers

    kinds = [{"leads": True}, {"tubes": True}, {"pacemaker": True}]
    bare = layers()
    for kind in kinds:
        one = layers(**kind)
        differ = [organ for organ in bare if one[organ].tobytes() != bare[organ].tobytes()]
        assert differ == ["electrodes and tubes"]
        for other in kinds:
            both, alone = (layers(**shown)["electrodes and tubes"] for shown in (kind | other, other))
            away = one["electrodes and tubes"] == 0
            assert both[away].tobytes() == alone[away].tobytes()


def test_a_device_changes_little_of_the_picture_away_from_it():
    bare, tubed = _simulate(), _simulate(pose=replace(PLAIN, tubes=True))
    change, width = np.abs(tubed.pixels - bare.pixels), bare.pixels.shape[1]
    assert change.max() > 0.05  # the tube
    assert np.median(change) < 0.01 and np.percentile(change[:, : width // 5], 99) < 0.02  # scatter, the window
    assert bare.boxes.equals(tubed.boxes) and bare.severity() == tubed.severity()


def test_another_tone_curve_keeps_which_pixel_is_brighter():
    pose = replace(PLAIN, letters=False)
    usual, steep = (_simulate(pose=pose, marked=False, tone=tone) for tone in (Tone(), Tone(0.3, 5.0, 0.8)))
    order = np.argsort(usual.pixels, axis=None)
    assert np.diff(steep.pixels.ravel()[order]).min() > -1e-5 and np.abs(steep.pixels - usual.pixels).mean() > 0.02
    assert usual.boxes.equals(steep.boxes) and steep.tone == Tone(0.3, 5.0, 0.8)


def test_fewer_photons_enlarge_the_same_grain():
    pose = replace(PLAIN, letters=False)
    pictures = [_simulate(pose=pose, tone=Tone(photons=count)).pixels for count in (1e12 / 1e3, 4e4, 1e4)]
    some, more = pictures[1] - pictures[0], pictures[2] - pictures[0]
    inside = (slice(20, -20), slice(20, -20))
    assert np.corrcoef(some[inside].ravel(), more[inside].ravel())[0, 1] > 0.95
    assert 1.7 < more[inside].std() / some[inside].std() < 2.3  # the root of four


def test_disease_leaves_the_same_healthy_twin_behind():
    pictures = [simulate(SEED, name, SIZE) for name in APPEARANCES] + [simulate(SEED, "typical", SIZE, disease=5)]
    assert len({xray.healthy.tobytes() for xray in pictures}) == 1
    assert len({xray.pixels.tobytes() for xray in pictures}) == len(pictures)


def test_a_pose_changes_neither_who_it_is_nor_the_noise():
    turned = replace(PLAIN, rotation=1.0, tilt=3.0)
    some, other = _simulate(), _simulate(pose=turned)
    canvases = [Canvas(random_patient(SEED), pose, SIZE) for pose in (PLAIN, turned)]
    assert exposure_noise(canvases[0], SEED).tobytes() == exposure_noise(canvases[1], SEED).tobytes()
    assert (some.patient, some.finding, some.tone) == (other.patient, other.finding, other.tone)
    assert some.pixels.tobytes() != other.pixels.tobytes()


def test_another_site_is_the_same_patient_with_the_same_disease():
    here, there = (simulate(SEED, "typical", SIZE, site=name) for name in "AB")
    assert (here.patient, here.finding, len(here.opacities)) == (there.patient, there.finding, len(there.opacities))
    kept = ("rotation", "tilt", "shift", "aspect", "pacemaker")
    assert all(getattr(here.pose, name) == getattr(there.pose, name) for name in kept)
    assert (here.pose.letter, there.pose.letter) == ("R", "L") and here.tone.middle > there.tone.middle
    own = simulate(SEED, "typical", SIZE, site=SITES["A"], pose=there.pose)  # what a caller decides, no site overrules
    assert own.pose == there.pose and own.tone == here.tone
    habits = simulate(SEED, "typical", SIZE, site=replace(SITES["B"], tone=SITES["A"].tone))
    assert habits.pose == there.pose and habits.tone == here.tone


def test_a_habit_that_changes_leaves_all_other_habits_of_a_picture():
    for seed in range(200):
        usual, edged = (site_pose(site, seed) for site in (SITES["C"], replace(SITES["C"], border=1.0)))
        assert edged.border >= 0.2 and replace(edged, border=usual.border) == usual


def test_a_dataset_of_a_site_has_its_prevalence_and_its_letters(tmp_path):
    folder = simulate_dataset(tmp_path / "b", studies=30, seed=3, size=64, workers=1, site="B")
    truth = pd.read_csv(folder / "truth" / "severity.csv")
    assert (truth["appearance"] == "negative").mean() > 0.9
    assert read_json(folder / "simulated.json")["site"]["letter"] == "L"
    row = truth.iloc[0]
    again = simulate(int(row["seed"]), row["appearance"], 64, int(row["patient"]), int(row["disease"]), site="B")
    assert again.pose.letter == "L"
    for other in ("C", None):
        with pytest.raises(DataError, match="another site|another shares"):
            simulate_dataset(folder, studies=30, seed=3, size=64, site=other)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"site": "D"}, "there is no site 'D'; sites are A, B, C"),
        ({"site": 1}, "there is no site 1"),
        ({"tone": Tone(steep=0)}, "tone: steep 0: must be from"),
        ({"tone": Tone(white=float("nan"))}, "tone: white nan"),
        ({"pose": replace(PLAIN, letter="left")}, "pose: letter 'left'"),
        ({"pose": replace(PLAIN, word="x" * 17)}, "pose: word"),
    ],
)
def test_simulate_says_which_factor_cannot_be(wrong, said):
    with pytest.raises(DataError, match=said):
        simulate(1, size=64, **wrong)


def test_a_site_says_which_habit_cannot_be():
    with pytest.raises(DataError, match="site mine: prevalence 2: must be a share"):
        Site("mine", prevalence=2)
    with pytest.raises(DataError, match="tone: photons"):
        Site("mine", tone=Tone(photons=0))
