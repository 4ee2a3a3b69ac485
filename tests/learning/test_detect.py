"The detector's room: what it writes, what it refuses, and that Ultralytics keeps to itself"

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from covidxr.base.errors import DataError, ModelError
from covidxr.base.extras import opencv
from covidxr.base.terms import BOX_COLUMNS
from covidxr.detect import load_detector, predict_detector, predict_detector_views, train_detector
from covidxr.learning import box_samples, yolo_detector, yolo_training
from covidxr.learning.box_samples import box_shares
from covidxr.learning.models import read_model
from covidxr.learning.yolo_detector import build_detector


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Twenty-four tiny grey pictures; two of three hold one bright rectangle"
    folder, cv2, rows, boxes = tmp_path_factory.mktemp("tiny"), opencv(), [], []
    for number in range(24):
        rng = np.random.default_rng(number)
        pixels = rng.normal(60, 10, (96, 96))
        file = folder / f"i{number:02d}.png"
        if number % 3:
            left, top = rng.integers(5, 50, 2)
            pixels[top : top + 40, left : left + 30] += 120
            boxes.append((file.stem, left, top, left + 30, top + 40))
        cv2.imwrite(str(file), np.clip(pixels, 0, 255).astype(np.uint8))
        rows.append((file.stem, str(file), number >= 16))
    return pd.DataFrame(rows, columns=["image_id", "file", "valid"]), pd.DataFrame(
        boxes, columns=["image_id", *BOX_COLUMNS]
    )


def train(tables: tuple[pd.DataFrame, pd.DataFrame], out: Path, **changes: object) -> pd.DataFrame:
    options = {"model": "yolov8n", "size": 64, "epochs": 2, "batch_size": 8, "seed": 3, "device": "cpu"}
    return train_detector(*tables, out, **(options | changes))


@pytest.fixture(scope="module")
def trained(tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "one"
    train(tables, out)
    return out


def test_a_trained_detector_is_three_plain_files(trained: Path) -> None:
    assert sorted(path.name for path in trained.glob("[!.]*")) == ["config.json", "history.csv", "model.safetensors"]
    config = json.loads((trained / "config.json").read_text())
    assert config["model"] == "yolov8n" and config["train_images"] == 16 and config["pretrained"] is False
    assert list(pd.read_csv(trained / "history.csv")["epoch"]) == [1, 2]


def test_boxes_lie_in_the_image_and_do_not_depend_on_the_batch(
    trained: Path, tables: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    images, _ = tables
    found = predict_detector(trained, images, confidence=1e-5, max_boxes=5)
    assert list(found.columns) == ["image_id", *BOX_COLUMNS, "confidence"] and len(found)
    assert found[BOX_COLUMNS].to_numpy().min() >= 0 and found[BOX_COLUMNS].to_numpy().max() <= 96
    assert found["confidence"].between(1e-5, 1).all() and found.groupby("image_id").size().max() <= 5
    again = predict_detector(trained, images.iloc[:3], confidence=1e-5, max_boxes=5, batch_size=2)
    first = found[found["image_id"].isin(images["image_id"][:3])]
    assert np.allclose(again[[*BOX_COLUMNS, "confidence"]], first[[*BOX_COLUMNS, "confidence"]], atol=1e-2)


def test_nothing_found_is_an_empty_table_of_numbers(trained: Path, tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found = predict_detector(trained, tables[0], confidence=1.0)
    assert len(found) == 0 and all(found[name].dtype == float for name in (*BOX_COLUMNS, "confidence"))


def test_a_box_comes_back_in_the_pixels_of_its_file(
    trained: Path, tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    cv2, file = opencv(), tables[0]["file"][1]
    pixels = cv2.imread(file, cv2.IMREAD_GRAYSCALE)
    small = tmp_path / "small.png"  # exactly the network's size, so both see the same pixels
    cv2.imwrite(str(small), cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA))
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), np.repeat(np.repeat(cv2.imread(str(small), cv2.IMREAD_GRAYSCALE), 3, 0), 3, 1))
    one, two = (predict_detector(trained, path, confidence=1e-4, max_boxes=1) for path in (small, large))
    assert len(one) == len(two) == 1, "no box, no comparison"
    assert np.allclose(one[BOX_COLUMNS] * 3, two[BOX_COLUMNS], atol=0.5)


def test_boxes_of_an_oblong_file_come_back_in_its_own_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, shape in (("tall", (96, 48)), ("wide", (48, 96))):
        opencv().imwrite(str(tmp_path / f"{name}.png"), np.zeros(shape, np.uint8))
    proposed = torch.tensor([32.0, 30.0, 16.0, 20.0, 0.9])  # centre, width and height in a square of 64
    monkeypatch.setattr(yolo_detector, "load", lambda folder, device: (None, {"size": 64}))
    found_so = lambda network, batch, mirrors: [proposed[None, :, None].repeat(len(batch), 1, 1)]  # noqa: E731
    monkeypatch.setattr(yolo_detector, "_proposals", found_so)
    (found,) = yolo_detector.predict("nowhere", [tmp_path / "tall.png", tmp_path / "wide.png"])
    found = found.set_index("image_id")
    assert found.loc["tall", BOX_COLUMNS].tolist() == pytest.approx([12, 30, 36, 60])  # a margin of 16 at the left
    assert found.loc["wide", BOX_COLUMNS].tolist() == pytest.approx([36, 6, 60, 36])  # and of 16 at the top
    assert found["confidence"].tolist() == pytest.approx([0.9, 0.9])


def test_boxes_are_learnt_as_centre_and_size_in_shares_of_the_input() -> None:
    table = pd.DataFrame({"image_id": ["a", "b", "c"]})
    places = pd.DataFrame({"scale": 0.5, "left": [16, 0, 0], "top": [0, 16, 0]})
    rows = [("a", 16, 20, 48, 100), ("b", 16, 20, 48, 80), ("b", 16, 20, 17, 80), ("b", 100, -9, 300, 9)]
    boxes = pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS])
    a, b, c = yolo_training.yolo_labels(["a.png", "b.png", "c.png"], box_shares(table, places, boxes, 64), 64)
    assert a["bboxes"].tolist() == [[32 / 64, 30 / 64, 16 / 64, 40 / 64]]
    # one that is half a pixel wide is left out, one that reaches beyond is cut: from 50 to 64, and from 11.5 to 20.5
    assert b["bboxes"].tolist() == [[16 / 64, 41 / 64, 16 / 64, 30 / 64], [57 / 64, 16 / 64, 14 / 64, 9 / 64]]
    assert c["bboxes"].shape == (0, 4) and [len(one["cls"]) for one in (a, b, c)] == [1, 2, 0]
    assert all(one["bbox_format"] == "xywh" and one["normalized"] for one in (a, b, c))


def test_the_mirror_adds_boxes_of_the_mirrored_image(
    trained: Path, tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    cv2, file = opencv(), tables[0]["file"][1]
    cv2.imwrite(str(tmp_path / "mirrored.png"), np.ascontiguousarray(cv2.imread(file, cv2.IMREAD_GRAYSCALE)[:, ::-1]))
    both, turned = (
        predict_detector(trained, path, confidence=1e-4, max_boxes=1, flip_tta=True)
        for path in (file, tmp_path / "mirrored.png")
    )
    assert len(both) == len(turned) == 1, "no box, no comparison"
    assert np.allclose(both["x_min"], 96 - turned["x_max"], atol=0.2) and np.allclose(
        both["confidence"], turned["confidence"], atol=1e-3
    )


def test_both_answers_come_from_one_reading_and_are_those_of_two_calls(
    trained: Path, tables: tuple[pd.DataFrame, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    squares = box_samples.read_squares
    monkeypatch.setattr(box_samples, "read_squares", lambda files, size: read.extend(files) or squares(files, size))
    options = {"confidence": 1e-4, "max_boxes": 5, "batch_size": 7, "device": "cpu"}
    plain, mirrored = predict_detector_views(trained, tables[0], **options)
    assert read == list(tables[0]["file"])
    assert len(plain) and not plain.equals(mirrored)
    pd.testing.assert_frame_equal(plain, predict_detector(trained, tables[0], **options))
    pd.testing.assert_frame_equal(mirrored, predict_detector(trained, tables[0], flip_tta=True, **options))
    nothing = predict_detector_views(trained, tables[0][:0], device="cpu")
    assert [len(one) for one in nothing] == [0, 0]


def test_the_same_seed_gives_the_same_network_and_validation_is_not_learnt(
    trained: Path, tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    images, boxes = tables
    torch.manual_seed(77)
    train((images, boxes[boxes["image_id"].isin(images.loc[~images["valid"], "image_id"])]), tmp_path / "again")
    first, second = (read_model(folder, "detector")[1] for folder in (trained, tmp_path / "again"))
    assert first and first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_no_validation_images_is_fine(tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    history = train((tables[0].assign(valid=False), tables[1]), tmp_path / "model", epochs=1)
    assert len(history) == 1 and not [name for name in history if name.startswith(("val/", "metrics/"))]


def test_it_is_quiet_and_keeps_to_its_folder(tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    "A fresh process, with a home of its own: nothing on stdout, nothing written but the model, threads and environment as before"
    home, out, table = tmp_path / "home", tmp_path / "model", tmp_path / "tables"
    for folder in (home, table):
        folder.mkdir()
    tables[0].to_csv(table / "images.csv", index=False)
    tables[1].to_csv(table / "boxes.csv", index=False)
    program = f"""
import os, socket, sys
import pandas as pd, torch
def refuse(*arguments, **options):
    raise OSError("a test: no network here")
socket.getaddrinfo = socket.create_connection = refuse
before, threads = dict(os.environ), torch.get_num_threads()
from covidxr.detect import predict_detector, train_detector
images, boxes = pd.read_csv({str(table / "images.csv")!r}), pd.read_csv({str(table / "boxes.csv")!r})
train_detector(images, boxes, {str(out)!r}, model="yolov8n", size=64, epochs=1, device="cpu")
predict_detector({str(out)!r}, images)
changed = {{name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}}
assert changed <= {{"LD_LIBRARY_PATH", "TORCHINDUCTOR_CACHE_DIR"}}, changed  # OpenCV's and PyTorch's
assert torch.get_num_threads() == threads
"""
    place = {name: value for name, value in os.environ.items() if not name.startswith(("YOLO", "XDG", "ULTRALYTICS"))}
    place |= {"HOME": str(home), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=home, env=place, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and "from scratch" in done.stderr
    assert [path for path in home.rglob("*") if "Ultralytics" in str(path) or path.is_file()] == []
    assert sorted(path.name for path in out.glob("[!.]*")) == ["config.json", "history.csv", "model.safetensors"]


def test_a_missing_system_library_is_named_with_its_cure() -> None:
    program = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
sys.meta_path.insert(0, Missing())
from covidxr.base.errors import CovidxrError
try:
    from covidxr.learning.yolo_detector import build_detector
    build_detector("yolo11n")
except CovidxrError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120).stdout
    assert "libGL.so.1" in said and "apt-get install libgl1" in said


def test_published_weights_are_taken_from_a_local_folder(
    tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_detector("yolov8n")
    torch.save({"model": network, "train_args": {}}, tmp_path / "yolov8n.pt")
    known = network.state_dict()["model.0.conv.weight"].clone()
    train(tables, tmp_path / "model", epochs=1, learning_rate=1e-7, weights=tmp_path)
    config, state = read_model(tmp_path / "model", "detector")
    assert config["pretrained"] is True and torch.allclose(state["model.0.conv.weight"].float(), known, atol=1e-4)
    monkeypatch.chdir(tmp_path)  # an empty name is not the working folder, which holds weights here
    for wrong, said in (("", "^'': not a file's name; is a variable not set"), (5, "^5: not a file's name")):
        with pytest.raises(ModelError, match=said):
            train(tables, tmp_path / "other", epochs=1, weights=wrong)


@pytest.mark.parametrize(
    "name", ["../evil", "https://example.org/yolo11n", "yolo11n.yaml", "yolo11n-cls", "rtdetr-l", "yolo99n", ""]
)
def test_only_names_of_detectors_are_taken(name: str) -> None:
    with pytest.raises(ModelError, match="yolo11n"):
        build_detector(name)


OTHER_KIND = """
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ultralytics":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

if sys.argv[1] == "absent":
    sys.meta_path.insert(0, Absent())
import covidxr, json, pathlib
import pandas as pd, torch
from covidxr.base.errors import CovidxrError
from covidxr.detect import DETECTORS
from covidxr.learning.models import save_model

other = ModuleType("another_kind")
def train(images, boxes, out, model, seed, **options):
    pathlib.Path(out).mkdir()
    config = {"kind": "detector", "model": model, "classes": ["opacity"], "size": 64}
    save_model(out, {"weight": torch.zeros(1)}, config, pd.DataFrame({"epoch": [1]}))
    return sorted(options)
def predict(folder, images, mirrors=(False,), **options):
    return [f"{pathlib.Path(folder).name} {mirror}" for mirror in mirrors]
other.train, other.predict, other.load = train, predict, lambda folder, device: ("network", {})
sys.modules["another_kind"] = other
DETECTORS["other"] = "another_kind"
print(covidxr.train_detector(None, None, "made", model="other-net", strength=3))
print(covidxr.predict_detector("made", None), covidxr.predict_detector("made", None, flip_tta=True))
from covidxr.detect import load_detector, predict_detector_views
print(predict_detector_views("made", None), load_detector("made"))
print("ultralytics" in sys.modules)
images = pd.DataFrame({"image_id": ["a"], "file": ["a.png"], "valid": [False]})
boxes = pd.DataFrame({"image_id": ["a"], "x_min": [1], "y_min": [1], "x_max": [9], "y_max": [9]})
for model in ("none-such", "yolo11n"):
    try:
        covidxr.train_detector(images, boxes, "another", model=model)
    except CovidxrError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("how", ["present", "absent"])
def test_another_kind_of_detector_needs_no_ultralytics_and_yolo_says_what_to_install(how: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER_KIND, how], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    options, predicted, views, there, unknown, yolo = done.stdout.splitlines()
    assert options == "['batch_size', 'device', 'epochs', 'learning_rate', 'size', 'strength', 'weights']"
    assert predicted == "made False made True"
    assert views == "('made False', 'made True') ('network', {})" and there == "False"
    assert "'none-such' is not the name of a detector; names begin with yolo or fcos or other" in unknown
    if how == "absent":
        assert yolo.startswith("MissingExtra ultralytics is not installed; `pip install 'covidxr[detect]'`")
    else:
        assert "a.png" in yolo
    assert not (tmp_path / "another").exists()


def test_a_changed_configuration_is_noticed(trained: Path, tmp_path: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model": "yolo11n"}))
    (tmp_path / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="do not belong together"):
        load_detector(tmp_path)


def test_an_interrupted_training_leaves_no_model(
    tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    train(tables, tmp_path / "model", epochs=1)
    monkeypatch.setattr(yolo_training._Trainer, "save_metrics", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tables, tmp_path / "model", epochs=1)
    assert not (tmp_path / "model" / "config.json").exists() and not (tmp_path / "model" / ".work").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images, boxes: (images.drop(columns="valid"), boxes), "no column valid"),
        (lambda images, boxes: (images, boxes.drop(columns="x_max")), "no column x_max"),
        (lambda images, boxes: (images, boxes.iloc[:0]), "has a box"),
        (lambda images, boxes: (images.assign(file="nowhere.png"), boxes), "nowhere.png"),
        (lambda images, boxes: (images, boxes.assign(**boxes[BOX_COLUMNS] / 96)), "between 0 and 1"),
        (lambda images, boxes: (images, boxes.assign(**boxes[BOX_COLUMNS] * 4)), "to_cache"),
        (lambda images, boxes: (images, boxes.assign(x_min=np.nan)), "no number"),
        (lambda images, boxes: (images, boxes.rename(columns={"x_min": "x"})), "no column x_min"),
        (lambda images, boxes: (images, boxes.assign(image_id="elsewhere")), "has a box"),
    ],
)
def test_bad_tables_are_refused_in_words(
    tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path, change: object, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        train(change(*tables), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_size_off_the_grid_is_refused(tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="multiple of 32"):
        train(tables, tmp_path / "model", size=100)
    assert not (tmp_path / "model").exists()


OFFLINE = """
import os, pathlib, shutil, socket, sys
import pandas as pd, torch
asked = []
def refuse(*arguments, **options):
    asked.append(arguments)
    raise OSError("a test: no network here")
socket.getaddrinfo = socket.create_connection = refuse
from covidxr.learning.yolo import offline, ultralytics
images, data = pd.read_csv(sys.argv[1]), pathlib.Path(sys.argv[2])
for part, rows in (("train", images[:8]), ("val", images[8:12])):
    (data / part).mkdir(parents=True)
    for file in rows["file"]:
        shutil.copy(file, data / part)
        (data / part / pathlib.Path(file).with_suffix(".txt").name).write_text("0 0.5 0.5 0.3 0.4")
(data / "data.yaml").write_text(f"path: {data}\\ntrain: train\\nval: val\\nnames: [opacity]\\nchannels: 1\\n")
ultralytics()
from ultralytics import YOLO, utils
before = [torch.get_num_threads(), dict(os.environ), str(utils.USER_CONFIG_DIR), utils.ONLINE, dict(utils.SETTINGS)]
before.append(torch.get_rng_state().tolist())
with offline():
    model, place = YOLO("yolov8n.yaml"), {"project": str(data), "name": "one", "exist_ok": True, "workers": 0}
    model.train(data=str(data / "data.yaml"), imgsz=64, epochs=1, batch=8, device="cpu", plots=True, **place)
    results = model.predict(list(images["file"][:2]), imgsz=64, conf=0.001)
    drawn = results[0].plot()
    model.val(data=str(data / "data.yaml"), imgsz=64, plots=False, **place)
after = [torch.get_num_threads(), dict(os.environ), str(utils.USER_CONFIG_DIR), utils.ONLINE, dict(utils.SETTINGS)]
after.append(torch.get_rng_state().tolist())
assert asked == [], asked
assert [one for one, other in zip(before, after) if one != other] == [], (before[:-1], after[:-1])
assert len(results) == 2 and drawn.shape == (96, 96, 3), drawn.shape
assert (data / "one" / "weights" / "best.pt").is_file() and (data / "one" / "results.csv").is_file()
"""


def test_ultralytics_own_commands_work_offline_and_leave_nothing_but_their_results(
    tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tables[0].to_csv(tmp_path / "images.csv", index=False)
    place = {name: value for name, value in os.environ.items() if not name.startswith(("YOLO", "XDG", "ULTRALYTICS"))}
    place |= {"HOME": str(home), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    command = [sys.executable, "-c", OFFLINE, str(tmp_path / "images.csv"), str(tmp_path / "data")]
    done = subprocess.run(command, cwd=home, env=place, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and [path for path in home.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("flip_tta", [False, True])
def test_no_box_of_yolo_reaches_beyond_a_picture_that_is_not_square(
    trained: Path, tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path, flip_tta: bool
) -> None:
    rows = []
    for one in tables[0][:4].itertuples():
        file = tmp_path / f"{one.image_id}.png"
        opencv().imwrite(str(file), opencv().imread(one.file, 0)[:, 30:66])  # higher than wide
        rows.append((one.image_id, str(file)))
    high = pd.DataFrame(rows, columns=["image_id", "file"])
    found = predict_detector(trained, high, confidence=1e-6, max_boxes=300, flip_tta=flip_tta)
    corners = found[BOX_COLUMNS].to_numpy()
    assert len(found) and corners.min() >= 0 and (corners <= [36, 96, 36, 96]).all()
    assert (corners[:, 2:] > corners[:, :2]).all()


def test_the_lessons_label_files_hold_shares_of_each_pictures_own_sides():
    lesson = json.loads((Path(__file__).parents[2] / "nbs" / "11_detect.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in lesson["cells"]]
    source = next(cell for cell in cells if "def label_file" in cell).split("\n\n\n")[0]
    boxes = pd.DataFrame([("a", 32.0, 64.0, 256.0, 192.0)], columns=["image_id", *BOX_COLUMNS])
    known = {"boxes": boxes, "BOX_COLUMNS": BOX_COLUMNS, "grey": lambda file: np.zeros((256, 320), np.uint8)}
    exec(source, known)
    assert known["label_file"]("a", "a.png") == "0 0.4500 0.5000 0.7000 0.5000"
    assert any("len(model.trainer.train_loader.dataset)" in cell for cell in cells)  # who was left out is seen


def test_an_earlier_trainings_own_folder_is_gone_on_from_and_another_models_is_refused(tables, tmp_path, capfd):
    train(tables, tmp_path / "first", epochs=1)
    train(tables, tmp_path / "second", epochs=1, learning_rate=1e-7, weights=tmp_path / "first")
    assert "yolov8n: weights from model.safetensors" in capfd.readouterr().err
    config, tensors = read_model(tmp_path / "second", "detector")
    before = read_model(tmp_path / "first", "detector")[1]
    assert config["pretrained"] is True
    name = "model.0.conv.weight"
    assert torch.allclose(tensors[name], before[name], atol=1e-4)
    with pytest.raises(ModelError, match="first: holds a 'yolov8n', not a yolo11n; take its own name"):
        train(tables, tmp_path / "third", model="yolo11n", epochs=1, weights=tmp_path / "first")
