"The door for pretrained weights: where they come from, in which order, and what is refused"

import json
import os
import pickle
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from measure import in_time

from covidxr.base.errors import ModelError
from covidxr.learning import weights
from covidxr.learning.weights import PACKAGES, find_weights, read_weights

LITE = "tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    "As without a network, and with nothing in the cache"
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_the_installed_package_gives_every_tensor_of_the_network_its_timm_name() -> None:
    import timm

    file, said = find_weights(LITE)
    assert file is not None and f"package {PACKAGES[LITE]} " in said
    network, tensors = timm.create_model(LITE).state_dict(), read_weights(file, LITE)
    assert {name for name in network if not name.endswith("num_batches_tracked")} == set(tensors)
    assert all(network[name].shape == value.shape for name, value in tensors.items())


def test_the_packages_weights_know_a_photograph_of_a_flower_and_one_of_a_temple() -> None:
    import timm
    from PIL import Image
    from sklearn.datasets import load_sample_images

    network = timm.create_model(LITE).eval()
    network.load_state_dict(read_weights(find_weights(LITE)[0], LITE), strict=False)
    small = [
        torch.tensor(list(Image.fromarray(one).resize((224, 224)).getdata())) for one in load_sample_images().images
    ]
    pictures = torch.stack(small).float().reshape(-1, 224, 224, 3).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        temple, flower = network((pictures - 0.498) / 0.502).argmax(1).tolist()
    assert (temple, flower) == (442, 985)  # ImageNet's bell cote and daisy


def test_the_weights_on_the_hub_come_before_those_of_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"conv_stem.weight": torch.ones(2)}, str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(weights, "_hub_weights", lambda arch: tmp_path / "model.safetensors")
    assert find_weights(LITE) == (tmp_path / "model.safetensors", "weights from the Hugging Face hub")


def test_a_damaged_file_on_the_hub_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"half a fil")
    monkeypatch.setattr(weights, "_hub_weights", lambda arch: tmp_path / "model.safetensors")
    assert "package" in find_weights(LITE)[1]


def test_weights_that_are_shipped_come_last_and_only_for_their_backbone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "config.json").write_text(json.dumps({"arch": "test_resnet"}))
    save_file(
        {"0.body.conv1.weight": torch.ones(2), "0.map.bias": torch.ones(1)}, f"{tmp_path}/shipped/model.safetensors"
    )
    monkeypatch.setattr(weights, "inside", lambda package: tmp_path)
    file, said = find_weights("test_resnet", simulated=True)
    assert "simulated" in said and list(read_weights(file, "test_resnet")) == ["conv1.weight"]
    assert find_weights("resnet18", simulated=True)[0] is None
    assert "package" in find_weights(LITE, simulated=True)[1]


def test_with_the_hub_switched_off_the_answer_is_there_at_once() -> None:
    find_weights("resnet18")  # imports what is needed
    started = time.monotonic()
    file, why = find_weights("resnet18")
    assert file is None and "HF_HUB_OFFLINE" in why and in_time(time.monotonic() - started, 0.1)


def test_without_the_package_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.PACKAGES, LITE, "no-such-package")
    monkeypatch.setattr(weights, "_shipped_weights", lambda arch: (_ for _ in ()).throw(ModelError("none shipped")))
    file, why = find_weights(LITE)
    assert file is None and "no-such-package is not installed" in why


def test_a_pickle_that_would_run_something_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "harm"),))

    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ModelError, match="weights alone"):
        read_weights(tmp_path / "bad.pth", LITE)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [[], {"a": 1}, {"conv.weight": torch.ones(3)}])
def test_a_file_of_something_else_is_refused_in_words(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="other.pth"):
        read_weights(tmp_path / "other.pth", LITE)


def test_a_classifier_starts_from_the_package_and_says_so(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    from covidxr.classify import train_classifier
    from covidxr.learning.models import read_model

    rows = []
    for number in range(6):
        cv2.imwrite(f"{tmp_path}/{number}.png", np.full((32, 32), 20 * number, np.uint8))
        rows.append((str(number), f"{tmp_path}/{number}.png", "ab"[number % 2], False))
    images = pd.DataFrame(rows, columns=["image_id", "file", "label", "valid"])
    train_classifier(images, "a b".split(), tmp_path / "m", LITE, 32, 1, learning_rate=1e-9, device="cpu")
    config, state = read_model(tmp_path / "m", "classifier")
    known = read_weights(find_weights(LITE)[0], LITE)["blocks.0.0.conv_dw.weight"]
    found = [value for name, value in state.items() if name.endswith("blocks.0.0.conv_dw.weight")]
    assert config["pretrained"] is True and PACKAGES[LITE] in config["why"]
    assert len(found) == 1 and torch.allclose(found[0], known, atol=1e-3)
