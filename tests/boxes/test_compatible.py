"With `compatible=True` the drop-in gives ensemble-boxes' own numbers to the last bit, its faults included."

import contextlib
import io
import warnings

import numpy as np
import pytest

from covidxr import ensemble_boxes
from covidxr.base.errors import DataError

theirs = pytest.importorskip("ensemble_boxes")
KINDS = ["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]


def _lists(rng: np.random.Generator) -> tuple[list, list, list, list]:
    "Boxes of a few models near each other: doubled, swapped, outside, without area; scores that tie, or are 0"
    boxes, scores, labels = [], [], []
    for _ in range(rng.integers(1, 5)):
        count = rng.integers(0, 25)
        low = rng.choice([0.1, 0.3, 0.5], (count, 2)) + rng.normal(size=(count, 2)) * rng.choice([0, 0.02])
        box = np.hstack([low, low + rng.choice([0, 0.2, 0.3, 0.9], (count, 2))])
        turned = rng.random(count) < 0.1
        box[turned] = box[turned][:, [2, 3, 0, 1]]
        far = rng.random(count) < 0.1
        box[far] = box[far] * 3 - 1
        boxes.append(box.tolist())
        scores.append((rng.integers(0, 5, count) / 4 if rng.random() < 0.5 else rng.random(count)).tolist())
        labels.append(rng.integers(0, 3, count).tolist())
    return boxes, scores, labels, rng.choice([0.0, 0.5, 1.0, 2.0], len(boxes)).tolist()


def _both(*lists, **options) -> tuple[tuple, tuple]:
    with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        old = theirs.weighted_boxes_fusion(*lists, **options)
    return ensemble_boxes.weighted_boxes_fusion(*lists, **options, compatible=True), old


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("overflow", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_every_number_is_theirs(kind, overflow, seed):
    *lists, weights = _lists(np.random.default_rng(seed))
    for share in (None, weights, [*weights, 1.0]):  # the last has a weight too many
        for threshold, least in ((0.55, 0.0), (0.3, 0.2)):
            options = {"weights": share, "iou_thr": threshold, "skip_box_thr": least}
            mine, old = _both(*lists, **options, conf_type=kind, allows_overflow=overflow)
            for part, own in zip(mine, old, strict=True):
                assert part.shape == own.shape and part.dtype == own.dtype and np.array_equal(part, own, equal_nan=True)


def test_its_known_faults_are_there():
    mine, old = _both([[[0.1, 0.1, 0.2, 0.2]] * 2, [[0.3, 0.3, 0.4, 0.4]]], [[1.0, 1.0], [0.5]], [[0, 0], [0]], [2, 1])
    assert mine[1].max() == old[1].max() > 1.3  # a doubled box has two votes
    mine, old = _both([[[30, 40, 90, 120]]], [[0.9]], [[1]])
    assert len(mine[0]) == len(old[0]) == 0  # pixels come back as nothing
    mine, _ = _both([[[0.1, 0.1, 0.2, 0.2]], [[0.5, 0.5, 0.8, 0.8]] * 2], [[0.9], [0.8, 0.7]], [[0], [0, 0]], [1, 0])
    assert np.isnan(mine[0]).any()
    mine, _ = _both([[[0.4, 0.1, 0.2, 0.3]]], [[0.9]], [[1]])
    assert mine[0].tolist() == [[0.2, 0.1, 0.4, 0.3]]


def test_what_ends_their_program_is_said_and_the_default_stays_right():
    lists = [[[0.1, 0.1, 0.2, 0.2]]], [[0.9, 0.8]], [[0]]
    with pytest.raises(DataError, match="as many"):
        ensemble_boxes.weighted_boxes_fusion(*lists, compatible=True)
    with pytest.raises(DataError, match="compatible"):
        ensemble_boxes.weighted_boxes_fusion(lists[0], [[0.9]], [[0]], compatible="yes")
    with pytest.raises(DataError, match="swapped"):
        ensemble_boxes.weighted_boxes_fusion([[[0.4, 0.1, 0.2, 0.3]]], [[0.9]], [[1]])
