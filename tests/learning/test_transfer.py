"Starting a body from published weights, and what the lesson says about the simulated ones"

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from covidxr.base.errors import ModelError
from covidxr.base.terms import APPEARANCES
from covidxr.hospital import plan_dataset
from covidxr.learning import weights
from covidxr.learning.data import classifier_loaders
from covidxr.learning.models import read_model
from covidxr.learning.networks import HEAD
from covidxr.learning.weights import find_weights, read_weights
from covidxr.transfer import start_body

LITE, SMALL = "tf_efficientnet_lite0", "test_resnet"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    "As without a network, and with nothing in the cache"
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))


def _learner(arch: object, channels: int = 1):
    "A fastai learner on noise"
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401  (gives learners no_bar and fine_tune)
    from fastai.vision.learner import vision_learner

    squares = np.random.default_rng(0).integers(0, 255, (8, 32, 32), dtype=np.uint8)
    loaders = classifier_loaders(squares, np.arange(8) % 4, np.arange(8) > 5, 4, True, "cpu")
    options = {"n_out": 4, "n_in": channels, "normalize": False, "pretrained": False}
    return vision_learner(loaders, arch, loss_func=torch.nn.CrossEntropyLoss(), **options, **HEAD)


def test_every_weight_of_the_body_comes_from_the_shipped_network_and_the_head_stays_random() -> None:
    learn = _learner(SMALL)
    head = {name: value.clone() for name, value in learn.model[1].state_dict().items()}
    assert start_body(learn, simulated=True) == "weights that covidxr ships, learnt from simulated X-rays"
    tensors, own = read_weights(find_weights(SMALL, simulated=True)[0], SMALL), learn.model[0].model.state_dict()
    assert all(torch.equal(value, tensors[name]) for name, value in own.items() if not name.endswith("tracked"))
    assert all(torch.equal(value, head[name]) for name, value in learn.model[1].state_dict().items())


@pytest.mark.parametrize("channels", [1, 3])
def test_imagenets_colours_are_summed_for_grey_and_kept_for_three_channels(channels: int) -> None:
    learn = _learner(LITE, channels)
    assert "ImageNet weights from the package" in start_body(learn)
    first = read_weights(find_weights(LITE)[0], LITE)["conv_stem.weight"]
    wanted = first.sum(1, keepdim=True) if channels == 1 else first
    assert torch.equal(learn.model[0].model.conv_stem.weight, wanted)


def test_a_grey_body_answers_as_the_colour_body_does_to_a_grey_picture() -> None:
    grey, colour = _learner(LITE, 1), _learner(LITE, 3)
    start_body(grey), start_body(colour)
    picture = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        answers = [one.model.eval()[0](picture.expand(-1, part, -1, -1)) for one, part in ((grey, 1), (colour, 3))]
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-3)


def test_a_started_learner_is_fine_tuned_the_ordinary_way() -> None:
    learn = _learner(SMALL)
    start_body(learn, simulated=True)
    before = learn.model[0].model.conv1[0].weight.clone()
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(1, 1e-2, freeze_epochs=1)
    assert not torch.equal(learn.model[0].model.conv1[0].weight, before)


def test_what_is_no_learner_with_a_timm_backbone_is_refused_in_words() -> None:
    import torchvision

    for odd in (None, 7, "test_resnet", torch.nn.Linear(1, 1), _learner(torchvision.models.resnet18)):
        with pytest.raises(ModelError, match="start_body takes a learner that vision_learner made of a timm backbone"):
            start_body(odd)


def test_a_body_that_nobody_has_weights_for_is_an_error_with_the_reason() -> None:
    learn = _learner(SMALL)
    before = {name: value.clone() for name, value in learn.model.state_dict().items()}
    with pytest.raises(ModelError, match="test_resnet: no weights .*no package brings weights for test_resnet"):
        start_body(learn)
    assert all(torch.equal(value, before[name]) for name, value in learn.model.state_dict().items())


def test_asked_for_simulated_weights_the_shipped_ones_come_before_the_hubs(monkeypatch, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"conv1.0.weight": torch.ones(2)}, str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(weights, "_hub_weights", lambda arch: tmp_path / "model.safetensors")
    assert "hub" in find_weights(SMALL)[1]
    assert "covidxr ships" in find_weights(SMALL, simulated=True)[1]


def test_no_patient_of_the_course_is_one_of_the_shipped_networks() -> None:
    "Its training: seeds from 500,000 (its card), each a patient of its own; the course: 3,000 studies, seed 2021"
    config, _ = read_model(Path(weights.__file__).parent / "shipped", "classifier")
    learnt = range(500_000, 500_000 + config["train_images"] + config["valid_images"])
    card = (Path(weights.__file__).parent / "shipped" / "README.md").read_text(encoding="utf-8")
    assert f"seeds {learnt[0]} to {learnt[0] + config['train_images'] - 1}" in card
    plans = pd.DataFrame(plan_dataset(3000, 2021, 224))
    for column in ("seed", "patient", "disease"):
        assert not plans[column].isin(learnt).any(), column
    assert tuple(config["classes"]) == APPEARANCES
