"A classifier with a map: what it writes, what it finds, and that it is a classifier like any other"

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from covidxr.base.errors import DataError, ModelError
from covidxr.base.extras import opencv
from covidxr.base.terms import APPEARANCES, BOX_COLUMNS
from covidxr.boxes.network_answers import map_boxes
from covidxr.classify import load_classifier, predict_classifier, predict_classifier_views, train_classifier
from covidxr.learning import map_training
from covidxr.learning.map_training import load_maps, map_plan, predict_map_views, predict_maps, train_map_classifier
from covidxr.learning.maps import MapNetwork, box_masks, standardised, start_from
from covidxr.learning.models import read_model, read_tensors, save_model
from covidxr.learning.weights import find_weights, whole_weights

PLAN = {"arch": "test_resnet", "size": 64, "epochs": 10, "learning_rate": 5e-3, "batch_size": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Forty pictures of noise, 64 x 96; every other one has a bright patch of 24 x 24 with a box"
    folder, rows, boxes = tmp_path_factory.mktemp("patches"), [], []
    for number in range(40):
        rng = np.random.default_rng(number)
        pixels = rng.normal(100, 20, (64, 96))
        if number % 2:
            x, y = rng.integers(4, 68), rng.integers(4, 36)
            pixels[y : y + 24, x : x + 24] += 90
            boxes.append((f"i{number}", x, y, x + 24, y + 24))
        opencv().imwrite(f"{folder}/i{number}.png", np.clip(pixels, 0, 255).astype(np.uint8))
        label = ("none", "opacity")[number % 2]
        rows.append((f"i{number}", f"{folder}/i{number}.png", label, number >= 32, 4.0 * (number % 2)))
    images = pd.DataFrame(rows, columns=["image_id", "file", "label", "valid", "extent"])
    return images, pd.DataFrame(boxes, columns=["image_id", *BOX_COLUMNS])


@pytest.fixture(scope="module")
def trained(patches: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("maps") / "model"
    train_map_classifier(*patches, out, pretrained=False, **PLAN)
    return out


def test_a_trained_map_is_three_plain_files_and_says_where_it_started(trained: Path) -> None:
    assert sorted(path.name for path in trained.glob("[!.]*")) == ["config.json", "history.csv", "model.safetensors"]
    config = json.loads((trained / "config.json").read_text())
    assert config["pretrained"] is False and config["why"] == "not asked for" and config["answer"] == "opacity"


def test_it_tells_new_pictures_with_a_patch_from_those_without(patches: tuple, trained: Path) -> None:
    new = patches[0][patches[0]["valid"]]
    answers = predict_map_views(trained, new)[1]
    assert list(answers.columns) == ["image_id", "none", "opacity"]
    assert np.allclose(answers["none"] + answers["opacity"], 1)
    yes = (new["label"] == "opacity").to_numpy()
    assert answers["opacity"][yes].min() > answers["opacity"][~yes].max()


def test_the_box_of_its_map_lies_on_the_patch_in_pixels_of_the_file(patches: tuple, trained: Path) -> None:
    images, boxes = patches
    new, hits = images[images["valid"] & (images["label"] == "opacity")], 0
    told = predict_maps(trained, new)
    for row, image_id in enumerate(new["image_id"]):
        found = map_boxes(told.maps[row], told.places.iloc[row], told.maps[row].max() * 0.8, fewest=1)
        box = boxes[boxes["image_id"] == image_id].iloc[0]
        middle = ((box["x_min"] + box["x_max"]) / 2, (box["y_min"] + box["y_max"]) / 2)
        inside = found["x_min"].le(middle[0]) & found["x_max"].ge(middle[0])
        hits += (inside & found["y_min"].le(middle[1]) & found["y_max"].ge(middle[1])).any()
    assert hits >= len(new) - 1


def test_the_extent_is_between_0_and_8_and_larger_where_there_is_more(patches: tuple, trained: Path) -> None:
    table = predict_maps(trained, patches[0]).table
    yes = (patches[0]["label"] == "opacity").to_numpy()
    assert table["map_extent"].between(0, 8).all()
    ill, healthy = table["map_extent"][yes].to_numpy(), table["map_extent"][~yes].to_numpy()
    assert (ill[:, None] > healthy).mean() > 0.95  # how far apart they are depends on the processor that trained


def test_the_same_seed_gives_the_same_network_and_two_networks_differ(patches: tuple, tmp_path: Path) -> None:
    short = PLAN | {"epochs": 1}
    train_map_classifier(*patches, tmp_path / "a", pretrained=False, networks=2, **short)
    train_map_classifier(*patches, tmp_path / "b", pretrained=False, **short)
    _, both = read_model(tmp_path / "a", "classifier")
    _, one = read_model(tmp_path / "b", "classifier")
    assert all(torch.equal(value, both[name]) for name, value in one.items())
    assert not torch.equal(both["0.map.weight"], both["1.map.weight"])


def test_more_than_two_classes_are_answered_by_their_own_head(patches: tuple, tmp_path: Path) -> None:
    images, boxes = patches
    images = images.assign(label=[("a", "b", "c")[number % 3] for number in range(len(images))]).drop(columns="extent")
    train_map_classifier(images, boxes, tmp_path / "m", "c b a".split(), pretrained=False, **PLAN | {"epochs": 1})
    answers = predict_map_views(tmp_path / "m", images)[1]
    assert list(answers.columns) == ["image_id", "c", "b", "a"]
    assert np.allclose(answers[["a", "b", "c"]].sum(axis=1), 1, atol=1e-5)


def test_brightness_and_contrast_of_the_whole_picture_change_nothing() -> None:
    pictures = torch.rand(2, 1, 64, 64)
    assert torch.allclose(standardised(pictures), standardised(0.2 + 0.5 * pictures), atol=0.02)


def test_first_stages_with_weights_do_not_learn_and_the_rest_does() -> None:
    torch.manual_seed(0)
    network = MapNetwork("test_resnet", 2)
    colours = {name: torch.rand_like(value.float()) for name, value in network.body.state_dict().items()}
    first = next(name for name in colours if name.endswith("weight"))
    colours[first] = colours[first].repeat(1, 3, 1, 1)
    start_from(network, colours)
    assert torch.allclose(network.body.state_dict()[first], colours[first].sum(1, keepdim=True))
    before = {name: value.clone() for name, value in network.body.state_dict().items()}
    optimizer = torch.optim.SGD([one for one in network.parameters() if one.requires_grad], 0.1)
    network.train()(torch.rand(4, 1, 64, 64))[0].sum().backward()
    optimizer.step()
    moved = {name for name, value in network.body.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith(("layer2", "layer3", "layer4")) for name in moved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arch": "resnet1000"}, "no backbone is called"),
        ({"arch": "vit_tiny_patch16_224"}, "take another"),
        ({"size": 16}, "size is 16"),
        ({"networks": 0}, "networks is 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_anything_is_written(
    patches: tuple, tmp_path: Path, change: dict, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        train_map_classifier(*patches, tmp_path / "m", **PLAN | change)
    assert not (tmp_path / "m").exists()


def test_a_table_without_corners_and_extents_out_of_range_are_refused(patches: tuple, tmp_path: Path) -> None:
    images, boxes = patches
    with pytest.raises(DataError, match="no column x_min"):
        train_map_classifier(images, boxes.drop(columns="x_min"), tmp_path / "m", **PLAN)
    with pytest.raises(DataError, match="0 to 8"):
        train_map_classifier(images.assign(extent=9), boxes, tmp_path / "m", **PLAN)


def test_boxes_that_would_teach_nothing_are_refused_in_words(patches: tuple, tmp_path: Path) -> None:
    images, boxes = patches
    swapped = boxes.rename(columns={"x_min": "x_max", "x_max": "x_min"})
    shares = boxes.assign(**{name: boxes[name] / 100 for name in BOX_COLUMNS})
    originals = boxes.assign(**{name: boxes[name] * 30 for name in BOX_COLUMNS})
    strangers = boxes.assign(image_id="z" + boxes["image_id"])
    wrong = {"swapped": swapped, "shares": shares, "pixels of the originals": originals, "belongs to": strangers}
    for words, table in wrong.items():
        with pytest.raises(DataError, match=words):
            train_map_classifier(images, table, tmp_path / "m", **PLAN)
    assert not (tmp_path / "m").exists()


def test_the_map_answers_only_where_one_class_has_no_boxes(patches: tuple, tmp_path: Path) -> None:
    images, boxes = patches
    quick = PLAN | {"epochs": 1, "pretrained": False}
    every = boxes.iloc[:1].merge(images[["image_id"]], how="cross", suffixes=("_x", ""))[list(boxes.columns)]
    train_map_classifier(images, every.iloc[4:], tmp_path / "both", **quick)
    train_map_classifier(images, boxes, tmp_path / "one", **quick)
    answers = [json.loads((tmp_path / name / "config.json").read_text())["answer"] for name in ("both", "one")]
    assert answers == [None, "opacity"], "viral or bacterial is not a question of any opacity at all"


def test_no_image_gives_a_table_of_numbers(trained: Path, patches: tuple) -> None:
    nothing = predict_classifier(trained, patches[0][:0])
    assert len(nothing) == 0 and nothing["opacity"].dtype == float


@pytest.mark.parametrize("size", ["64", None, 8, 64.5])
def test_an_odd_size_beside_boxes_is_refused_in_words(patches: tuple, tmp_path: Path, size: object) -> None:
    with pytest.raises(ModelError, match="size is"):
        train_classifier(patches[0], ["none", "opacity"], tmp_path / "m", size=size, boxes=patches[1])


def test_a_classifier_without_a_map_is_told_from_one_with(trained: Path, tmp_path: Path) -> None:
    for file in trained.glob("[!.]*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "map": False}))
    with pytest.raises(ModelError, match="has no map"):
        load_maps(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "networks": 2}))
    with pytest.raises(ModelError, match="do not belong together"):
        load_maps(tmp_path)


@pytest.mark.parametrize("arch, stages", [("resnet18", 1), ("densenet121", 2), ("test_resnet", 1)])
def test_the_first_stages_keep_their_weights_however_a_backbone_names_them(arch, stages):
    network = MapNetwork(arch, 2)
    start_from(network, network.body.state_dict(), stages)
    fixed = [not one.requires_grad for one in network.body.parameters()]
    assert any(fixed) and not all(fixed)


def test_a_class_without_any_box_does_not_become_the_one_that_the_map_answers_for():
    table = pd.DataFrame({"image_id": ["1", "2"], "label": ["none", "opacity"]})
    assert map_training._boxed_class(table, pd.DataFrame({"image_id": []}), ["none", "opacity"]) is None
    assert map_training._boxed_class(table, pd.DataFrame({"image_id": ["2"]}), ["none", "opacity"]) == "opacity"


def test_boxes_of_a_finer_map_lie_where_its_cells_lie():
    opaque = np.zeros((16, 16))
    opaque[2:6, 4:8] = 1
    place = {"scale": 1.0, "left": 0, "top": 0}
    corners = ["x_min", "y_min", "x_max", "y_max"]
    assert map_boxes(opaque, place | {"stride": 8})[corners].iloc[0].tolist() == [32, 16, 64, 48]
    assert map_boxes(opaque, place)[corners].iloc[0].tolist() == [64, 32, 128, 96]


@pytest.mark.parametrize(("size", "stride"), [(72, 16), (100, 8), (100, 16), (120, 16), (224, 16)])
def test_a_map_that_says_the_truth_gives_the_box_back_whatever_the_size(tmp_path, monkeypatch, size, stride):
    box = np.array([0.60, 0.55, 0.92, 0.95]) * size
    boxes, whole = pd.DataFrame([["a", *box]], columns=["image_id", *BOX_COLUMNS]), pd.DataFrame({"image_id": ["a"]})
    masks = box_masks(whole, pd.DataFrame({"scale": [1.0], "left": 0, "top": 0}), boxes, size)
    opencv().imwrite(str(tmp_path / "a.png"), np.full((size, size), 90, np.uint8))
    network, config = (
        MapNetwork("test_resnet", 2, stride).eval(),
        map_plan(["a", "b"], "test_resnet", size, stride=stride),
    )

    def truth(networks, squares, flip_tta):
        cells = network(torch.zeros(1, 1, size, size))[0].shape[1:]
        drawn = torch.nn.functional.interpolate(torch.from_numpy(masks)[:, None].float() / 255, cells, mode="area")
        return drawn[:, 0].numpy(), np.full((1, 2), 0.5), np.zeros(1)

    monkeypatch.setattr(map_training, "load_maps", lambda folder, device=None: ([network], config))
    monkeypatch.setattr(map_training, "ask_maps", truth)
    told = predict_maps(tmp_path, [tmp_path / "a.png"])
    found = map_boxes(told.maps[0], told.places.iloc[0])[BOX_COLUMNS].to_numpy()
    assert len(found) == 1 and 0 <= found.min() and found.max() <= size + 1e-9
    assert np.abs(found - box).max() <= 0.75 * size / len(told.maps[0])  # the nearest cell, and a mask's pixel


def test_reading_with_the_network_that_comes_along_changes_no_warning_filter():
    from covidxr.start import interpret

    before = list(warnings.filters)
    said = interpret(np.random.default_rng(0).random((60, 90)))
    assert list(warnings.filters) == before
    assert said.opacity_map.shape == (60, 90)


def test_a_training_that_fails_leaves_the_model_before_it(tmp_path):
    history = pd.DataFrame({"epoch": [1]})
    save_model(tmp_path, {"a": torch.ones(2)}, {"kind": "classifier"}, history)
    with pytest.raises(ModelError, match="training went astray"):
        save_model(tmp_path, {"a": torch.tensor([1.0, float("nan")])}, {"kind": "classifier"}, history)
    assert read_model(tmp_path, "classifier")[1]["a"].tolist() == [1, 1]


def test_one_door_trains_and_asks_both_kinds_and_tells_them_apart(patches: tuple, tmp_path: Path) -> None:
    images, boxes = patches
    options = {"arch": "test_resnet", "size": 64, "epochs": 1, "device": "cpu"}
    train_classifier(images, ["none", "opacity"], tmp_path / "m", boxes=boxes, pretrained="simulated", **options)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["map"] is True and config["stride"] == 8 and "learnt from simulated X-rays" in config["why"]
    plain, both = predict_classifier_views(tmp_path / "m", images)
    assert plain.to_csv() == predict_classifier(tmp_path / "m", images).to_csv()
    assert both.to_csv() == predict_classifier(tmp_path / "m", images, flip_tta=True).to_csv() != plain.to_csv()
    assert np.allclose(both["opacity"], predict_maps(tmp_path / "m", images).table["opacity"], atol=1e-6)
    with pytest.raises(ModelError, match="has a map"):
        load_classifier(tmp_path / "m")
    with pytest.raises(ModelError, match="pretrained is 'photographs'; it must be True, False or 'simulated'"):
        train_classifier(images, ["none", "opacity"], tmp_path / "n", boxes=boxes, pretrained="photographs", **options)
    assert not (tmp_path / "n").exists()


def test_a_network_with_a_map_starts_from_all_of_covidxrs_own() -> None:
    file, _ = find_weights("test_resnet", simulated=True)
    shipped = read_tensors(file)
    known = list(APPEARANCES)
    for classes in (known, known[::-1], ["typical", "negative"], ["none", "opacity"], ["typical", "opacity"]):
        network = MapNetwork("test_resnet", len(classes), stride=8)
        start_from(network, whole_weights(file, "test_resnet", classes), frozen=0)
        state = network.state_dict()
        alike = {name for name in state if torch.equal(state[name], shipped.get(f"0.{name}", torch.tensor(-7.0)))}
        assert {"map.weight", "join.0.weight", "extent.weight"} <= alike
        for name in ("classes.1.weight", "classes.1.bias"):
            own = torch.stack([shipped[f"0.{name}"][known.index(one) if one in known else 0] for one in classes])
            assert torch.equal(state[name], own) is set(classes).issubset(known), "each class has the row of its name"
