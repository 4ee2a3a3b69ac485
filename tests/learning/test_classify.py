"The classifier's room: what it writes, what it refuses, and that it needs no network"

import json
import os
import socket
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from measure import in_time

from covidxr.base.errors import CovidxrError, DataError, ModelError
from covidxr.base.extras import opencv
from covidxr.classify import load_classifier, predict_classifier, predict_classifier_views, train_classifier
from covidxr.learning import classifier, data, weights
from covidxr.learning.models import read_model
from covidxr.learning.weights import find_weights

CLASSES = ("negative", "typical", "indeterminate")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    "Thirty-six tiny grey pictures: noise, with a bright spot for two of the classes"
    folder, cv2, rows = tmp_path_factory.mktemp("tiny"), opencv(), []
    for number in range(36):
        pixels = np.random.default_rng(number).normal(100, 20, (64, 64))
        label = CLASSES[number % 3]
        if label != "negative":
            left = 10 if label == "typical" else 40
            pixels[30:44, left : left + 14] += 80
        file = folder / f"i{number:02d}.png"
        cv2.imwrite(str(file), np.clip(pixels, 0, 255).astype(np.uint8))
        rows.append((file.stem, str(file), label, number >= 24))
    return pd.DataFrame(rows, columns=["image_id", "file", "label", "valid"])


def train(images: pd.DataFrame, out: Path, **changes: object) -> pd.DataFrame:
    options = {
        "arch": "test_resnet",
        "size": 32,
        "epochs": 2,
        "batch_size": 8,
        "pretrained": False,
        "seed": 3,
        "device": "cpu",
    }
    return train_classifier(images, CLASSES, out, **(options | changes))


@pytest.fixture(scope="module")
def trained(images: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "one"
    train(images, out)
    return out


def test_a_trained_classifier_is_three_plain_files(trained: Path) -> None:
    assert sorted(path.name for path in trained.glob("[!.]*")) == ["config.json", "history.csv", "model.safetensors"]
    config = json.loads((trained / "config.json").read_text())
    assert config["classes"] == list(CLASSES) and config["pretrained"] is False and config["train_images"] == 24
    assert list(pd.read_csv(trained / "history.csv")["epoch"]) == [1, 2]


def test_probabilities_are_one_row_an_image_and_sum_to_one(trained: Path, images: pd.DataFrame) -> None:
    table = predict_classifier(trained, images, batch_size=7)
    assert list(table.columns) == ["image_id", *CLASSES] and list(table["image_id"]) == list(images["image_id"])
    assert np.allclose(table[list(CLASSES)].sum(axis=1), 1, atol=1e-5)
    files = predict_classifier(trained, list(images["file"][:3]))
    assert np.allclose(files[list(CLASSES)], table[list(CLASSES)][:3], atol=1e-5) and list(files["image_id"]) == [
        "i00",
        "i01",
        "i02",
    ]


def test_pixels_reach_the_network_when_it_predicts_as_they_did_when_it_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = tmp_path / "half.png", []
    opencv().imwrite(str(file), np.repeat(np.array([[0, 255]], np.uint8), 16, 1).repeat(32, 0))

    class Network(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            seen.append(batch)
            return torch.zeros(len(batch), 2)

    config = {"classes": ["a", "b"], "size": 32, "mean": data.MEAN, "spread": data.SPREAD}
    monkeypatch.setattr(classifier, "load_classifier", lambda folder, device: (Network(), config))
    predict_classifier("nowhere", file, device="cpu")
    squares, _ = data.read_squares([file] * 4, 32)
    choosing = np.array([False, False, True, True])
    loaders = data.classifier_loaders(squares, np.array([0, 1, 0, 1]), choosing, 2, False, "cpu")
    for batch in (*seen, torch.Tensor(loaders.valid.one_batch()[0])):
        assert batch.shape[1:] == (1, 32, 32)
        assert (batch[..., :16] == -2).all() and (batch[..., 16:] == 2).all()  # (0 - 0.5) / 0.25 and (1 - 0.5) / 0.25
    assert len(seen) == 1


def test_what_was_learnt_of_a_class_is_said_under_its_name(tmp_path: Path) -> None:
    rows = []
    for number, (label, value) in enumerate([("indeterminate", 20), ("negative", 120), ("typical", 235)] * 8):
        file = tmp_path / f"{number}.png"
        pixels = np.random.default_rng(number).normal(value, 5, (32, 32))
        opencv().imwrite(str(file), np.clip(pixels, 0, 255).astype(np.uint8))
        rows.append((file.stem, str(file), label, number >= 18))
    images = pd.DataFrame(rows, columns=["image_id", "file", "label", "valid"])
    train(images, tmp_path / "model", epochs=12, batch_size=6)  # the classes in no order of the alphabet, as they are
    said = predict_classifier(tmp_path / "model", images)
    surest = said[list(CLASSES)].idxmax(axis=1)
    assert (surest == images["label"]).mean() > 0.8, pd.crosstab(images["label"], surest).to_string()


def test_the_mirror_is_the_mean_of_both_views(trained: Path, images: pd.DataFrame, tmp_path: Path) -> None:
    cv2, one = opencv(), images["file"][0]
    cv2.imwrite(str(tmp_path / "mirrored.png"), cv2.imread(one, cv2.IMREAD_GRAYSCALE)[:, ::-1])
    plain, mirrored = (
        predict_classifier(trained, file)[list(CLASSES)].to_numpy() for file in (one, tmp_path / "mirrored.png")
    )
    both = predict_classifier(trained, one, flip_tta=True)[list(CLASSES)].to_numpy()
    assert np.allclose(both, (plain + mirrored) / 2, atol=1e-5)


def test_both_views_come_from_one_pass_over_the_files(
    trained: Path, images: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [predict_classifier(trained, images, flip_tta=mirror, batch_size=7) for mirror in (False, True)]
    read, reads = classifier.read_squares, []
    monkeypatch.setattr(classifier, "read_squares", lambda files, size: reads.extend(files) or read(files, size))
    views = predict_classifier_views(trained, images, batch_size=7)
    assert [one.to_csv() for one in views] == [one.to_csv() for one in expected]
    assert reads == list(images["file"])


def test_the_same_seed_gives_the_same_network(trained: Path, images: pd.DataFrame, tmp_path: Path) -> None:
    torch.manual_seed(77)  # whatever happened before
    train(images, tmp_path / "again")
    first, second = (read_model(folder, "classifier")[1] for folder in (trained, tmp_path / "again"))
    assert first and first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_training_leaves_the_callers_random_numbers_alone(images: pd.DataFrame, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(images, tmp_path / "model", epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_validation_images_do_not_change_what_is_learnt(images: pd.DataFrame, tmp_path: Path, trained: Path) -> None:
    changed = images.copy()
    changed.loc[changed["valid"], "label"] = "negative"
    train(changed, tmp_path / "other")
    first, second = (read_model(folder, "classifier")[1] for folder in (trained, tmp_path / "other"))
    assert first and first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_no_validation_images_is_fine(images: pd.DataFrame, tmp_path: Path) -> None:
    history = train(images.assign(valid=False), tmp_path / "model", epochs=1)
    assert len(history) == 1 and len(predict_classifier(tmp_path / "model", images[:2])) == 2


def test_it_is_quiet_on_stdout_and_writes_nowhere_else(
    images: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    train(images, tmp_path / "model", epochs=1)
    predict_classifier(tmp_path / "model", images)
    said = capsys.readouterr()
    assert said.out == "" and "from scratch" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_a_network_training_starts_from_scratch_within_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants as hub
    import timm  # noqa: F401  (its import takes seconds of its own)

    def hang(*arguments: object, **options: object) -> None:
        time.sleep(30)

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", hang)  # the worst case: a name look-up that never answers
    started = time.monotonic()
    file, why = find_weights("test_resnet")
    assert file is None and "no answer" in why and in_time(time.monotonic() - started, 3)


def test_missing_weights_are_recorded(images: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_weights", lambda arch: (None, "the server is asleep"))
    train(images, tmp_path / "model", epochs=1, pretrained=True)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["pretrained"] is False and config["why"] == "the server is asleep"


def test_weights_from_a_file_are_used(images: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    from safetensors.torch import save_file

    source = timm.create_model("test_resnet")
    save_file(source.state_dict(), str(tmp_path / "hub.safetensors"))
    monkeypatch.setattr(weights, "find_weights", lambda arch: (tmp_path / "hub.safetensors", "a test"))
    train(images, tmp_path / "model", epochs=2, pretrained=True, learning_rate=1e-6)
    config, state = read_model(tmp_path / "model", "classifier")
    name, known = next(
        (name, value)
        for name, value in source.state_dict().items()
        if name.endswith("layer1.0.conv1.weight") or name.endswith("layer2.0.conv1.weight")
    )
    assert config["pretrained"] is True
    assert torch.allclose(next(value for key, value in state.items() if key.endswith(name)), known, atol=1e-3)


def test_nothing_pickled_is_loaded(trained: Path, tmp_path: Path) -> None:
    import pickle

    class Harm:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "harm"),))

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes((trained / "config.json").read_bytes())
    (tmp_path / "model" / "model.safetensors").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ModelError, match="cannot be read"):
        load_classifier(tmp_path / "model")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("files", ["", [""], ["one.png", ""], ["a\0.png"], [5]])
def test_a_list_with_something_that_is_no_file_is_refused_as_a_table_is(files: object) -> None:
    with pytest.raises(
        DataError, match="^the list of images: .*(no file can have such a name|a file is given as text)"
    ):
        data.image_table(files)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="label"), "no column label"),
        (lambda t: t.assign(label="covid"), "not among the classes"),
        (lambda t: t.assign(label="typical"), "two classes"),
        (lambda t: t.assign(file="nowhere.png"), "nowhere.png"),
        (lambda t: t.assign(image_id="same"), "listed twice"),
    ],
)
def test_bad_tables_are_refused_in_words(images: pd.DataFrame, tmp_path: Path, change: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        train(change(images), tmp_path / "model")
    assert not (tmp_path / "model" / "config.json").exists()


def test_an_unknown_backbone_is_named(images: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(CovidxrError, match="did you mean"):
        train(images, tmp_path / "model", arch="resnet19")
