"A loop gives the same numbers to the last bit, run as plain Python or compiled; a short one never loads the compiler."

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from covidxr.base import loops
from covidxr.base.terms import BOX_COLUMNS
from covidxr.boxes import clusters, matching, tables
from covidxr.ensemble import fuse_boxes, soft_nms
from covidxr.metrics import average_precision, bootstrap_scores, score

USED = (
    (tables, "_by_group", "_surest_first"),
    (matching, "overlap", "_hits", "_areas"),
    (clusters, "overlap", "suppress", "_overlaps", "_cluster_groups"),
)


def _both_ways(work):
    "What some work gives with plain loops, and with compiled ones"
    answers = []
    for way in ("plain", "compiled"):
        with pytest.MonkeyPatch.context() as patch:
            for room, *names in USED:
                for name in names:
                    one = getattr(room, name)
                    patch.setattr(room, name, one.py_func if way == "plain" else one.machine())
            with np.errstate(all="ignore"):
                answers.append(work())
    return answers


def test_the_loops_that_are_run_both_ways_are_all_there_are():
    for room, *names in USED:
        assert {name for name, one in vars(room).items() if isinstance(one, loops._Loop)} == set(names)


def _boxes(rng: np.random.Generator, images: int, count: int, ties: bool) -> pd.DataFrame:
    "Boxes near each other, some without area, some twice; confidences that are often equal"
    low = rng.integers(0, 6, (count, 2)) * 10.0 + (0 if ties else rng.normal(size=(count, 2)))
    side = rng.integers(0, 4, (count, 2)) * 10.0 + (0 if ties else rng.random((count, 2)))
    table = pd.DataFrame(np.hstack([low, low + side]), columns=BOX_COLUMNS)
    sure = rng.integers(0, 5, count) / 4 if ties else rng.random(count)
    names = [f"image {number}" for number in rng.integers(0, images, count)]
    return table.assign(id=names, confidence=sure, model=rng.integers(0, 3, count), label=rng.choice(["a", "b"], count))


@pytest.mark.parametrize("ties", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("method", ["voc", "coco"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_scores_and_bootstraps_are_the_same_to_the_last_bit(ties, seed, method, threshold):
    rng = np.random.default_rng(seed)
    truth = _boxes(rng, 12, rng.integers(1, 40), ties)[["id", "label", *BOX_COLUMNS]]
    said = _boxes(rng, 12, rng.integers(0, 200), ties)
    options = {"iou_threshold": threshold, "method": method}
    plain, machine = _both_ways(lambda: score(truth, said, **options).per_class)
    assert str(plain) == str(machine)
    plain, machine = _both_ways(lambda: bootstrap_scores(truth, {"one": said}, {}, draws=9, labels=["a"], **options))
    assert plain.to_numpy().tobytes() == machine.to_numpy().tobytes()


@pytest.mark.parametrize("ties", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.0, 0.55, 1.0])
@pytest.mark.parametrize("method", ["wbf", "nmw", "nms", "soft-nms", "linear"])
def test_fused_boxes_are_the_same_to_the_last_bit(ties, seed, threshold, method):
    rng = np.random.default_rng(seed)
    boxes = _boxes(rng, 5, rng.integers(0, 150), ties).rename(columns={"id": "image_id"})

    def work() -> pd.DataFrame:
        if method == "linear":
            return soft_nms(boxes, "linear", threshold)
        return fuse_boxes(boxes, method, {0: 1.0, 1: 0.5, 2: 0.0}, threshold)

    plain, machine = _both_ways(work)
    pd.testing.assert_frame_equal(plain, machine, check_exact=True)
    assert plain[BOX_COLUMNS].to_numpy().tobytes() == machine[BOX_COLUMNS].to_numpy().tobytes()


@pytest.mark.parametrize("side", [1e-170, 1e-160, 5e-324, 1e160, 1e308])
@pytest.mark.parametrize("method", ["wbf", "nmw", "nms", "soft-nms"])
def test_boxes_at_the_ends_of_what_a_number_holds_are_treated_alike_and_stop_nothing(side, method):
    truth = pd.DataFrame([("a", 0.0, 0.0, side, side)], columns=["id", *BOX_COLUMNS])
    plain, machine = _both_ways(lambda: average_precision(truth, truth.assign(confidence=1.0)))
    assert plain == machine
    pair = pd.concat([truth.assign(confidence=0.9, model=0), truth.assign(confidence=0.8, model=1)])
    pair = pair.rename(columns={"id": "image_id"})
    plain, machine = _both_ways(lambda: fuse_boxes(pair, method))
    pd.testing.assert_frame_equal(plain, machine, check_exact=True)


FRESH = """
import sys
from covidxr.cli import main
assert main({words}) == 0
assert not {{"numba", "scipy", "sklearn", "joblib", "matplotlib"}} & set(sys.modules), "the compiler, or more"
"""


def test_one_submission_is_scored_and_two_are_fused_without_the_compiler(tmp_path):
    rng, files = np.random.default_rng(0), [tmp_path / f"{name}.csv" for name in ("truth", "one", "two")]
    for number, file in enumerate(files):
        sure = 1 if not number else 0.5
        at = rng.integers(0, 50, 300)
        rows = [f"opacity {sure} {x} {x} {x + 100} {x + 90}" for x in at]
        pd.DataFrame({"id": [f"{name}_image" for name in range(300)], "PredictionString": rows}).to_csv(
            file, index=False
        )
    truth, one, two = map(str, files)
    for words in (["score", truth, one], ["ensemble", one, two, "--out", str(tmp_path / "fused.csv")]):
        command = [sys.executable, "-c", FRESH.format(words=words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_many_short_calls_are_a_long_loop_and_are_compiled_at_last(monkeypatch):
    made = []
    monkeypatch.setattr(loops, "_LIMIT", 30)
    monkeypatch.setattr("covidxr.base.compiled.compiled", lambda function: made.append(function) or function)

    @loops.loop(lambda values: len(values))
    def last(values):
        return values[-1]

    for _ in range(3):
        assert last(np.arange(10)) == 9
    assert not made
    assert [last(np.arange(10)) for _ in range(3)] == [9, 9, 9] and len(made) == 1
