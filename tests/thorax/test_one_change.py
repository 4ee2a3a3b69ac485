"A change of one thing changes nothing else, and what is of one picture is not of its twin."

import numpy as np
import pytest

from covidxr.base.errors import DataError
from covidxr.hospital import Shares, plan_dataset
from covidxr.phantom import simulate
from covidxr.shortcuts import only_changed
from covidxr.thorax.patient import other_strength

KINDS = [("typical", 5), ("indeterminate", 38), ("atypical", 11), ("atypical", 12), ("atypical", 17), ("atypical", 22)]


@pytest.mark.parametrize(("appearance", "seed"), KINDS)
@pytest.mark.parametrize("known", [{}, {"strength": 0.5}, {"disease": 77}])
def test_another_strength_is_the_same_disease_in_the_same_place(appearance, seed, known):
    "The disease had moved, as naming a strength draws another one"
    before, after = only_changed(seed, {"strength": 1.3}, appearance=appearance, size=96, marked=False, **known)
    assert np.array_equal(before.pixels, simulate(seed, appearance, 96, marked=False, **known).pixels)
    assert before.finding == after.finding
    assert len(before.opacities) == len(after.opacities)
    for mine, other in zip(before.opacities, after.opacities, strict=True):
        assert (mine == other).all()
    assert np.array_equal(before.healthy, after.healthy)
    assert np.array_equal(before.pixels, after.pixels) == (before.finding == "pneumothorax")


def test_nothing_changed_is_the_same_picture():
    before, after = only_changed(5, {"strength": None}, appearance="typical", size=96)
    assert np.array_equal(before.pixels, after.pixels)


def test_no_strength_is_that_of_the_other_disease():
    _, after = only_changed(5, {"strength": None, "disease": 9}, appearance="typical", size=96, strength=1.0)
    wanted = other_strength(9, {"strength": 1.0}, None)
    assert np.array_equal(after.pixels, simulate(5, "typical", 96, disease=9, strength=wanted).pixels)


def test_no_strength_is_the_seeds_own():
    named, drawn = only_changed(5, {"strength": None}, appearance="typical", size=96, strength=1.5)
    assert (named.opacities[0] == drawn.opacities[0]).all() and not np.array_equal(named.pixels, drawn.pixels)


@pytest.mark.parametrize("wrong", ["much", 0, 11, np.nan, True])
def test_a_strength_that_cannot_be_is_refused(wrong):
    with pytest.raises(DataError, match="strength"):
        only_changed(5, {"strength": wrong}, appearance="typical", size=64)


def test_a_twin_has_facts_of_its_own():
    "One file's id had become the other's, and both files had one UID"
    one = simulate(7, size=64)
    twins = [one.without_disease(), one.mirrored()]
    one.facts.image_id = "sick"
    for number, twin in enumerate(twins):
        assert twin.facts.image_id == "" and twin.facts is not one.facts
        twin.facts.image_id = f"twin {number}"
    assert one.facts.image_id == "sick" and twins[0].facts.image_id == "twin 0"


@pytest.mark.parametrize("kind", [np.float16, np.float32, float])
def test_shares_of_few_digits_make_a_dataset(kind):
    shares = Shares(classes=np.array([0.3, 0.45, 0.17, 0.08], kind), disagreement=0.5)
    try:
        plans = plan_dataset(300, 0, 64, shares)
    except Exception as error:  # float16 may be too far from 1, which is then said in words
        assert type(error).__name__ == "DataError" and kind is np.float16, error
    else:
        assert len(plans) >= 300
