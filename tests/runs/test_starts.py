"""All rounds of a run start from the same weights, whatever the network does meanwhile"""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

pytest.importorskip("torch")
import covidxr.classify
from covidxr.base.errors import ModelError
from covidxr.learning import weights
from covidxr.runs import training
from covidxr.runs.profiles import ModelPlan
from covidxr.runs.run import Steps


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    "Train three rounds of one classifier, with a network that is there or not; what each round started from"
    images = pd.DataFrame({"image_id": ["a"], "part": ["train"]})
    monkeypatch.setattr(training, "image_parts", lambda *_: images)
    monkeypatch.setattr(training, "training_key", lambda run, split, number, plan: f"{number}")
    monkeypatch.setattr(training, "predicting_key", lambda *_: "")
    monkeypatch.setattr(training, "predict_model", lambda *_: [])
    state = {"answers": [], "ends": None}

    def find(*_, **__) -> tuple:
        return (Path("a"), "hub") if state["answers"].pop(0) else (None, "no answer within 120 s")

    def train(_, classes, out: Path, pretrained=True, **__) -> None:
        if out.name.endswith(f"-{state['ends']}"):
            raise KeyboardInterrupt
        out.mkdir(parents=True, exist_ok=True)
        file, why = weights.asked_weights("resnet34", pretrained)
        for name in ("model.safetensors", "history.csv"):
            (out / name).write_text("")
        (out / "config.json").write_text(json.dumps({"pretrained": file is not None, "why": why}))

    monkeypatch.setattr(weights, "find_weights", find)
    monkeypatch.setattr(covidxr.classify, "train_classifier", train)
    plan = ModelPlan("classifier", "resnet34", 64, 1)
    run = SimpleNamespace(
        folder=tmp_path, seed=0, device=None, rounds=[None] * 3, profile=SimpleNamespace(models=[plan])
    )
    run.dataset = SimpleNamespace(classes=["a", "b"])

    def rounds(answers: list[bool], ends: int | None = None) -> list[bool]:
        state.update(answers=list(answers), ends=ends)
        training.train_and_predict(Steps(tmp_path), run)
        return [training.started(run, number, plan) for number in (1, 2, 3)]

    return rounds


def test_where_the_first_round_found_no_weights_no_other_takes_any(call, capsys: pytest.CaptureFixture) -> None:
    assert call([False, True, True]) == [False] * 3
    assert "as in its other rounds" in "".join(capsys.readouterr())


def test_a_run_that_goes_on_with_a_network_starts_as_it_began_without(call) -> None:
    with pytest.raises(KeyboardInterrupt):
        call([False], ends=2)
    assert call([True] * 4) == [False] * 3


def test_a_run_that_began_with_weights_is_not_finished_without_them(call) -> None:
    with pytest.raises(ModelError, match="its other rounds started from published weights, and now no answer"):
        call([True, False])
    assert call([True] * 4) == [True] * 3


def test_a_round_that_is_done_anew_starts_as_those_that_stand(call, tmp_path: Path) -> None:
    assert call([False] * 3) == [False] * 3
    (tmp_path / "models" / "resnet34-64-1" / "model.safetensors").write_text("damaged")
    assert call([True] * 4) == [False] * 3


def test_where_weights_are_there_all_rounds_take_them(call) -> None:
    assert call([True] * 5) == [True] * 3
