"Decimals and fractions: taken wherever a number is, and kept as the float that they are"

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
from covidxr.hospital import Shares, _check_shares
from covidxr.metrics import average_precision, operating_point
from covidxr.phantom import random_patient, random_pose, simulate
from covidxr.tables.readers import Reader
from covidxr.thorax.physics import Tone
from covidxr.thorax.sites import Site
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
def test_a_record_keeps_every_number_as_a_float_that_meets_others(kind):
    seen = 0
    for one in (random_patient(3), random_pose(3), Tone(), Shares(), Site("a"), Reader()):
        numbers = {field.name: getattr(one, field.name) for field in fields(one)}
        numbers = {name: value for name, value in numbers.items() if isinstance(value, float)}
        again = replace(one, **{name: kind(str(float(value))) for name, value in numbers.items()})
        assert again == one and {type(getattr(again, name)) for name in numbers} == {float}
        seen += len(numbers)
    assert seen > 25
    shift = replace(random_pose(3), shift=(kind("1.5"), kind(2))).shift
    assert shift == (1.5, 2.0) and {type(one) for one in shift} == {float}
    _check_shares(Shares(test=kind("0.4"), classes=[kind("0.25")] * 4))


@pytest.mark.parametrize("kind", [Decimal, Fraction])
def test_a_chest_of_decimals_is_that_of_floats(kind):
    patient, pose = random_patient(3), replace(random_pose(3), field=40.0, shift=(0.5, -0.25), border=0.5)
    told = {"heart": 1.25, "fat": 0.5}
    wanted = simulate(1, size=64, strength=0.5, patient=replace(patient, **told), pose=pose, tone=Tone(steep=3.0))
    exact = replace(patient, **{name: kind(str(value)) for name, value in told.items()})
    lying = replace(pose, field=kind(40), shift=(kind("0.5"), kind("-0.25")), border=kind("0.5"))
    found = simulate(1, size=64, strength=kind("0.5"), patient=exact, pose=lying, tone=Tone(steep=kind(3)))
    np.testing.assert_array_equal(found.pixels, wanted.pixels)
    with pytest.raises(DataError, match=r"patient: heart must lie from 0\.5 to 2, not "):
        simulate(1, size=64, patient=replace(patient, heart=kind(3)))


@pytest.mark.parametrize("age", [63.0, np.int64(63), np.float64(63), Decimal(63), Fraction(63)])
def test_a_whole_age_is_kept_as_a_whole_number(age):
    patient = replace(random_patient(3), age=age)
    assert (patient.age, type(patient.age)) == (63, int)
    assert simulate(1, size=64, patient=patient).facts.age == 63


@pytest.mark.parametrize("age", [63.5, True, "63", None, float("nan"), float("inf"), Decimal("sNaN"), -1.0])
def test_what_is_no_age_is_refused(age):
    with pytest.raises(DataError, match="patient: age must be a whole number from 0 to 120, not "):
        simulate(1, size=64, patient=replace(random_patient(3), age=age))


def test_a_view_takes_a_decimal_or_says_why_not():
    try:
        scale = View(scale=Decimal("0.5")).scale
    except DataError as error:
        assert "Decimal" in str(error)
    else:
        assert scale == 0.5 and isinstance(scale, float)
