"Any one factor of a simulated picture can be changed, and what that factor does not touch stays as it is; sites."

import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.base.files import read_json
from covidxr.base.terms import APPEARANCES
from covidxr.hospital import Shares, plan_dataset, simulate_dataset
from covidxr.phantom import SITES, random_patient, random_pose, simulate
from covidxr.thorax.anatomy import build_chest
from covidxr.thorax.canvas import Canvas
from covidxr.thorax.physics import Tone, exposure_noise, random_tone
from covidxr.thorax.sites import Site, exposure_of, site_pose

SIZE, SEED = 160, 21
PLAIN = replace(random_pose(SEED), leads=False, tubes=False, pacemaker=False, border=0.0, view="AP")
OLD = {  # by seed: mean of the upper and of the lower half; 1 has a pacemaker, 4 leads, 7 tubes, 24 and 558 several
    1: [0.38377, 0.54474],
    4: [0.39109, 0.62633],
    7: [0.34068, 0.68521],
    9: [0.36973, 0.62529],
    24: [0.30182, 0.52268],
    558: [0.30246, 0.5615],
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
        ({"tone": Tone(steep=0)}, "tone: steep must lie from 0.1 to 20, not 0"),
        ({"tone": Tone(white=float("nan"))}, "tone: white must lie from 0.1 to 1, not nan"),
        ({"pose": replace(PLAIN, letter="left")}, "pose: letter 'left'"),
        ({"pose": replace(PLAIN, word="x" * 17)}, "pose: word"),
        ({"pose": replace(PLAIN, word="a\nb")}, "pose: word"),
        ({"pose": replace(PLAIN, shift=(50, 0))}, "pose: shift must lie from -10 to 10"),
        ({"pose": replace(PLAIN, shift="left")}, "pose: shift must be numbers"),
        ({"pose": replace(PLAIN, leads="no")}, "pose: leads must be True or False"),
        *(({"pose": pose}, "a pose is a Pose") for pose in ("AP", {}, False)),
        *(({"tone": tone}, "tone: must be a Tone") for tone in (0.5, "soft", {}, False)),
        ({"tone": Tone(middle="a")}, "tone: middle must lie from -1 to 2, not 'a'"),
        *(({"strength": much}, "the strength .* must lie from 0.05 to 10") for much in ("a", True)),
        ({"marked": "no"}, "marked must be True or False, not 'no'"),
        ({"site": {}}, "there is no site {}"),
    ],
)
def test_simulate_says_which_factor_cannot_be(wrong, said):
    with pytest.raises(DataError, match=said):
        simulate(1, size=64, **wrong)


def test_a_site_says_which_habit_cannot_be():
    with pytest.raises(DataError, match="site mine: prevalence must lie from 0 to 1, not 2"):
        Site("mine", prevalence=2)
    with pytest.raises(DataError, match="site mine: tone: photons"):
        Site("mine", tone=Tone(photons=0))
    for habit, wrong in (
        ("prevalence", ["a", None, True, float("nan")]),
        ("words", [None, ("P",), "PO", "PORTABLE", ("\u00c4\u00d6 mit Punkten", "")]),
        ("field", ["a", 1000, float("nan")]),
        ("letter", ["Q", 1]),
        ("tone", [None, 0.5]),
    ):
        for value in wrong:
            with pytest.raises(DataError, match=f"site mine: {habit.removesuffix('s')}"):
                Site("mine", **{habit: value})
    with pytest.raises(DataError, match="unknown appearance 'covid'; it can be negative"):
        Site("mine").label(1, "covid")


@pytest.mark.parametrize("noise", [0.06, 1.0])
def test_a_reader_of_a_rare_disease_keeps_its_share_and_half_of_its_labels(noise):
    shares = replace(Shares(), classes=SITES["B"].classes, disagreement=noise)
    plans = pd.DataFrame(plan_dataset(12_000, 0, 64, shares))
    truth, label = plans["appearance"], plans["label"]
    sick = [(names != "negative").mean() for names in (truth, label)]
    assert sick[1] == pytest.approx(sick[0], abs=0.002) and sick[0] == pytest.approx(0.012, abs=0.002)
    assert (truth[label != "negative"] != "negative").mean() > 0.8
    doubtful = truth == "indeterminate"
    assert (label[doubtful] == "indeterminate").mean() == pytest.approx(0.5, abs=0.2)
    assert (truth != label).mean() == pytest.approx(SITES["B"].classes[2], abs=0.001)


def test_the_readers_of_a_and_c_write_what_they_wrote():
    written = [
        SITES[name].label(seed, appearance) for name in "AC" for seed in range(300) for appearance in APPEARANCES
    ]
    assert zlib.crc32(" ".join(written).encode()) == 855260706


def test_a_tone_at_the_edge_of_what_can_be_stays_there():
    dark = Site("dark", tone=Tone(middle=2.0, steep=20, white=0.1))
    tones = [exposure_of(seed, None, None, dark)[1] for seed in range(50)]  # raises nothing
    assert max(tone.middle for tone in tones) == 2.0 and max(tone.steep for tone in tones) == 20
    assert min(tone.white for tone in tones) == 0.1 and simulate(2, size=64, site=dark).tone == tones[2]


FIRST = """
import warnings
import covidxr.phantom
import numpy, pandas, cv2
before = list(warnings.filters)
covidxr.phantom.simulate(1, size=64)
assert "scipy.interpolate" in __import__("sys").modules
assert warnings.filters == before, warnings.filters
"""


def test_the_first_simulation_adds_no_warning_filter():
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
