"Are classes revised by the boxes only where the validation studies say that it helps?"

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from covidxr.runs.opinions import Opinions, ensemble_round, equal_weights, mean_log_loss, select_weights

CLASSES = ("negative", "typical")
SHARES = pd.Series({"negative": 1.0, "typical": 0.05})


def _round(detector: str, seed: int = 0) -> tuple[Opinions, SimpleNamespace]:
    "Sixty studies of a hesitating classifier, and a detector that is right or blind; and the truth"
    rng = np.random.default_rng(seed)
    ids = [f"s{number:02}" for number in range(60)]
    sick = rng.random(60) < 0.5
    said = np.clip(0.5 + 0.25 * (sick - 0.5) + rng.normal(0, 0.1, 60), 0.05, 0.95)
    studies = pd.DataFrame({"study_id": ids, "negative": 1 - said, "typical": said})
    seen = sick if detector == "right" else rng.random(60) < 0.5
    corners = {"x_min": 5.0, "y_min": 5.0, "x_max": 25.0, "y_max": 25.0}
    boxes = pd.DataFrame({"image_id": ids, **corners, "confidence": np.where(seen, 0.9, 0.02), "model": "d"})
    images = pd.DataFrame({"image_id": ids, "study_id": ids})
    labels = pd.Series(np.where(sick, "typical", "negative"), index=ids)
    truth = SimpleNamespace(
        labels=lambda: labels,
        boxes=boxes[sick].drop(columns=["confidence", "model"]),
        unboxed=lambda: pd.Series(~sick, index=ids),
    )
    return Opinions(images, CLASSES, {"c": studies}, boxes, SHARES), truth


@pytest.mark.parametrize(("detector", "wanted"), [("right", True), ("blind", False)])
def test_the_classes_learn_from_a_detector_that_sees_and_not_from_a_blind_one(detector: str, wanted: bool) -> None:
    opinions, truth = _round(detector)
    assert select_weights(opinions, truth, ["c"], ["d"])["revise"] is wanted


def test_the_choice_is_what_the_ensemble_does_and_an_older_run_keeps_its_way() -> None:
    opinions, truth = _round("right")
    choice = select_weights(opinions, truth, ["c"], ["d"])
    typical = {
        name: ensemble_round(opinions, one)
        .query("label == 'typical'")
        .set_index("id")["confidence"]
        .sort_index()
        .to_numpy()
        for name, one in {
            "chosen": choice,
            "never": choice | {"revise": False},
            "older": {key: value for key, value in choice.items() if key != "revise"},
        }.items()
    }
    assert np.array_equal(typical["chosen"], typical["older"])
    assert not np.allclose(typical["chosen"], typical["never"])
    assert np.allclose(typical["never"], opinions.studies["c"]["typical"])


def test_no_label_has_a_part_in_the_plain_choice() -> None:
    assert equal_weights(["a", "b"], ["c"])["revise"] is False


def test_log_loss_is_scikit_learns() -> None:
    from sklearn.metrics import log_loss

    opinions, truth = _round("right", seed=3)
    table = opinions.studies["c"]
    labels = truth.labels()
    expected = log_loss(labels[table["study_id"]], table[list(CLASSES)], labels=list(CLASSES))
    assert mean_log_loss(table, labels) == pytest.approx(expected)
    assert mean_log_loss(table, labels.iloc[:1]) == pytest.approx(-np.log(table.at[0, labels.iloc[0]]))
