"Decimals and fractions: taken where a number is only used, and refused in a sentence where it would be kept"

from dataclasses import fields, replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.ensemble import (
    choose_class_weights,
    fuse_boxes,
    nms,
    non_maximum_weighted,
    none_confidence,
    soft_nms,
    weighted_boxes_fusion,
)
from covidxr.hospital import Shares, simulate_dataset
from covidxr.metrics import average_precision, operating_point
from covidxr.phantom import random_patient, random_pose, simulate
from covidxr.views import View

BOXES = pd.DataFrame(
    {
        "image_id": ["a", "a", "b"],
        "model": ["m", "n", "m"],
        "x_min": [0.0, 1, 3],
        "y_min": [0.0, 1, 3],
        "x_max": [9.0, 9, 9],
        "y_max": [9.0, 9, 9],
        "confidence": [0.9, 0.5, 0.3],
    }
)
ROWS = BOXES.rename(columns={"image_id": "id"}).assign(label="opacity")
TAKEN = {  # what is done with a number from 0 to 1
    "wbf": lambda one: weighted_boxes_fusion(BOXES, iou_threshold=one),
    "wbf, least": lambda one: weighted_boxes_fusion(BOXES, skip_below=one),
    "nmw": lambda one: non_maximum_weighted(BOXES, skip_below=one, iou_threshold=one),
    "nms": lambda one: nms(BOXES, iou_threshold=one),
    "soft": lambda one: soft_nms(BOXES, iou_threshold=one, threshold=one, sigma=one),
    "weights": lambda one: fuse_boxes(BOXES, weights={"m": one, "n": one}),
    "exponent": lambda one: none_confidence({"a": 0.2, "b": 0.5}, BOXES, one),
    "average_precision": lambda one: average_precision(ROWS, ROWS, iou_threshold=one),
    "sensitivity": lambda one: operating_point([1, 1, 0, 0], [3, 1, 2, 0], sensitivity=one),
    "threshold": lambda one: operating_point([1, 1, 0, 0], [3, 1, 2, 0], threshold=one),
    "margin": lambda one: choose_class_weights(
        {"a": _chances(0.7), "b": _chances(0.6)}, {"s": "x", "t": "y"}, margin=one
    ),
}


def _chances(sure: float) -> pd.DataFrame:
    return pd.DataFrame({"study_id": ["s", "t"], "x": [sure, 1 - sure], "y": [1 - sure, sure]})


@pytest.mark.parametrize("kind", [Decimal, Fraction, np.float32, np.float64])
@pytest.mark.parametrize("door", TAKEN)
def test_any_number_gives_what_a_float_gives(door, kind):
    wanted, found = TAKEN[door](0.5), TAKEN[door](kind("0.5") if kind in (Decimal, Fraction) else kind(0.5))
    assert str(found) == str(wanted)


@pytest.mark.parametrize("kind", [Decimal, Fraction])
def test_a_chest_keeps_no_number_that_meets_no_float(kind):
    patient, pose, shares = random_patient(3), random_pose(3), Shares()
    asked = [lambda: simulate(1, "typical", size=64, strength=kind(1))]
    for one, way in (
        (patient, lambda new: simulate(1, size=64, patient=new)),
        (pose, lambda new: simulate(1, size=64, pose=new)),
        (shares, lambda new: simulate_dataset("never", studies=3, shares=new)),
    ):
        for field in fields(one):
            value = getattr(one, field.name)
            if isinstance(value, float):
                new = {field.name: kind(str(value))}
                asked.append(lambda one=one, new=new, way=way: way(replace(one, **new)))
    assert len(asked) > 15
    for ask in asked:
        with pytest.raises(DataError, match=kind.__name__):
            ask()


def test_a_view_takes_a_decimal_or_says_why_not():
    try:
        scale = View(scale=Decimal("0.5")).scale
    except DataError as error:
        assert "Decimal" in str(error)
    else:
        assert scale == 0.5 and isinstance(scale, float)
