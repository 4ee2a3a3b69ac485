"""Nothing that lies about is run: not in the working folder, not beside weights, not in a model, a cache, a run or a table.

Each payload makes a folder, its mark, where it is run; that each does so in the wrong hands is tested first.
"""

import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from calls import NAMES
from conftest import ROOT
from fakes import fake_models
from payloads import (
    DETECTORS,
    LYING,
    Harm,
    by_hand,
    checkpoint,
    lay,
    network_plan,
    object_among_tensors,
    object_array,
    object_arrays,
    old_checkpoint,
    parquet,
    pickled_object,
    postscript,
    python_code,
    torch_saved,
)

from covidxr.base.errors import CovidxrError, DataError, ModelError, XrayError
from covidxr.base.extras import opencv
from covidxr.base.terms import BOX_COLUMNS
from covidxr.classify import load_classifier, predict_classifier, train_classifier
from covidxr.detect import load_detector, predict_detector, train_detector
from covidxr.learning.data import read_squares
from covidxr.learning.models import save_model
from covidxr.learning.networks import build_classifier
from covidxr.learning.yolo import ultralytics
from covidxr.learning.yolo_detector import build_detector
from covidxr.learning.yolo_training import NUMBERS
from covidxr.prepare import prepare, read_prepared

CLASSES = ["negative", "typical"]  # those of `pictures`


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    "The folder that a payload makes"
    return tmp_path / "RUN"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "An empty working folder"
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list:
    "Which hosts were asked for; none answers"
    hosts = []

    def refuse(host: str, *rest: object, **options: object) -> None:
        hosts.append(host)
        raise OSError("a test: no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return hosts


@pytest.fixture
def ghostscript(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    "A program of Ghostscript's name"
    import PIL.EpsImagePlugin

    monkeypatch.setattr(PIL.EpsImagePlugin, "gs_binary", None)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (folder / name).write_text(f'#!/bin/sh\nmkdir "{mark}"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def _read_by_pillow(file: str) -> None:
    from PIL import Image

    Image.open(file).load()


def _read_by_ultralytics(file: str) -> None:
    ultralytics()
    from ultralytics.nn.modules.conv import Conv

    before = Conv.default_act
    try:
        ultralytics().DetectionModel(file, ch=1, verbose=False)
    finally:
        Conv.default_act = before  # Ultralytics leaves what the plan made of it


CARELESS = {  # how each payload is run by who trusts files
    "yolo11n.yaml": (network_plan, _read_by_ultralytics),
    "object.pkl": (pickled_object, lambda file: pickle.loads(Path(file).read_bytes())),
    "checkpoint.pt": (checkpoint, lambda file: torch.load(file, weights_only=False)),
    "old.pt": (old_checkpoint, lambda file: torch.load(file, weights_only=False)),
    "state.pt": (object_among_tensors, lambda file: torch.load(file, weights_only=False)),
    "by-hand.pt": (by_hand("os", "mkdir"), lambda file: torch.load(file, weights_only=False)),
    "dotted.pt": (by_hand("torch.serialization", "os.mkdir"), lambda file: torch.load(file, weights_only=False)),
    "array.npy": (object_array, lambda file: np.load(file, allow_pickle=True)),
    "arrays.npz": (object_arrays, lambda file: np.load(file, allow_pickle=True)["image"]),
    "picture.png": (postscript, _read_by_pillow),
}


@pytest.mark.parametrize("name", CARELESS)
def test_each_payload_is_run_in_the_wrong_hands(name, here, mark, ghostscript):
    make, load = CARELESS[name]
    Path(name).write_bytes(make(mark))
    with suppress(Exception):  # what comes after the payload does not count
        load(name)
    assert mark.is_dir()


# The working folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    "A classifier and a detector that have learned nothing"
    folder, history = tmp_path_factory.mktemp("models"), pd.DataFrame({"epoch": [1]})
    classifier = {
        "kind": "classifier",
        "arch": "test_resnet",
        "classes": CLASSES,
        "size": 32,
        "mean": 0.5,
        "spread": 0.25,
    }
    detector = {"kind": "detector", "model": "yolo11n", "classes": ["opacity"], "size": 64}
    save_model(folder / "classifier", build_classifier("test_resnet", 2).state_dict(), classifier, history)
    save_model(folder / "detector", build_detector("yolo11n").state_dict(), detector, history)
    return {"classifier": folder / "classifier", "detector": folder / "detector"}


def _activations(network: torch.nn.Module) -> set[type]:
    return {type(layer.act) for layer in network.modules() if hasattr(layer, "act")} - {torch.nn.Identity}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_network_is_not_built_from_what_the_users_last_network_left(name, monkeypatch):
    ultralytics()
    from ultralytics.nn.modules.conv import Conv

    theirs = torch.nn.Mish()
    monkeypatch.setattr(Conv, "default_act", theirs)  # as Ultralytics' documentation tells its users
    assert _activations(build_detector(name)) == {torch.nn.SiLU}
    assert Conv.default_act is theirs


@pytest.mark.parametrize("name", DETECTORS)
def test_a_network_is_built_from_the_installed_plan_whatever_lies_in_the_working_folder(name, here, mark, asked):
    before = sum(weights.numel() for weights in build_detector(name).parameters())
    lay(here, mark)
    assert sum(weights.numel() for weights in build_detector(name).parameters()) == before
    assert not mark.exists() and asked == []


def test_training_and_predicting_take_nothing_from_the_working_folder(pictures, models, here, mark, asked):
    images, boxes = pictures
    lay(here, mark)
    for file in images["file"]:
        Path(file).with_suffix(".npy").write_bytes(
            object_array(mark)
        )  # where Ultralytics keeps pixels that were read before
    train_detector(images, boxes, "a-detector", model="yolov8n", size=64, epochs=1, device="cpu")
    train_detector(
        images, boxes, "another", model="yolov8n", size=64, epochs=1, device="cpu", optimizer="SGD", weights=None
    )
    train_classifier(images, CLASSES, "a-classifier", size=32, epochs=1, pretrained=False, device="cpu")
    for folder in ("a-detector", models["detector"]):
        predict_detector(folder, images)
    for folder in ("a-classifier", models["classifier"]):
        predict_classifier(folder, images)
    assert not mark.exists() and asked == []


# Weights

WEIGHTS = {  # what stands in a file of weights; the name says whether it is read as a pickle or as plain tensors
    "an object": ("yolo11n.pt", checkpoint),
    "an object alone": ("yolo11n.pt", lambda mark: torch_saved(Harm(mark))),
    "an object among tensors": ("yolo11n.pt", object_among_tensors),
    "an object in PyTorch's old form": ("yolo11n.pt", old_checkpoint),
    "a plain pickle": ("yolo11n.pt", pickled_object),
    "a pickle as text": ("yolo11n.pt", lambda mark: pickle.dumps(Harm(mark), 0)),
    "an array of objects": ("yolo11n.pt", object_array),
    "arrays of objects": ("yolo11n.pt", object_arrays),
    "a call of the system": ("yolo11n.pt", by_hand("os", "system")),
    "a call by a name that published weights have": ("yolo11n.pt", by_hand("ultralytics.utils", "os.mkdir")),
    "a call by a name that networks have": ("yolo11n.pt", by_hand("torch.nn.modules.module", "os.mkdir")),
    "a call by a name of Python's own": ("yolo11n.pt", by_hand("builtins", "eval")),
    "a download": ("yolo11n.pt", by_hand("torch.hub", "load")),
    "another ending": ("yolo11n.pth", checkpoint),
    "no ending": ("yolo11n", checkpoint),
    "a pickle named as tensors": ("yolo11n.safetensors", pickled_object),
    "a checkpoint named as tensors": ("yolo11n.safetensors", checkpoint),
    "arrays named as tensors": ("yolo11n.safetensors", object_arrays),
    "nothing": ("yolo11n.safetensors", lambda mark: b""),
    "a header that is too long": ("yolo11n.safetensors", lambda mark: b"\xff" * 64),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_hold_more_than_tensors_are_refused_in_words(case, pictures, here, mark, asked):
    name, make = WEIGHTS[case]
    (here / "published").mkdir()
    file = here / "published" / name
    file.write_bytes(make(mark))
    given = [file] if file.suffix not in (".pt", ".safetensors") else [file, str(file), file.parent]
    for weights in given:
        with pytest.raises(ModelError) as told:
            train_detector(*pictures, "model", model="yolo11n", size=64, epochs=1, device="cpu", weights=weights)
        words = str(told.value)
        assert words.startswith(str(file)) and re.search(r"get (it|the file) (again|from its publisher)", words), words
    assert not mark.exists() and not Path("model").exists() and asked == []


@pytest.mark.parametrize("ending", ["pt", "pth", "bin"])
def test_the_tensors_of_a_pickle_are_taken_and_code_in_its_texts_stays_text(ending, tmp_path, mark):
    from covidxr.learning.yolo import published_tensors

    state = {name: value for name, value in build_detector("yolo11n").state_dict().items() if "conv.weight" in name}
    file = tmp_path / f"yolo11n.{ending}"
    torch.save({"model": state, "train_args": {"data": python_code(mark)}}, file)
    assert set(published_tensors(file)) == set(state) and not mark.exists()


# Models

ARCHES = [
    *(
        "/etc/passwd",
        "../evil",
        "..",
        ".",
        "./model",
        "model.safetensors",
        "C:\\evil",
        "evil\0",
        "test_resnet\n",
        " test_resnet",
    ),
    *(
        "https://example.org/evil",
        "hf-hub:evil/evil",
        "hf_hub:evil/evil",
        "local-dir:/tmp",
        "local-dir:.",
        "timm/evil",
        "file:///tmp",
    ),
    *(
        "os.system",
        "torch.hub.load",
        "torchvision.models.resnet18",
        "__class__",
        "__init__",
        "list_models",
        "get_model_weights",
    ),
    *(
        "test_resnet.evil",
        "test_resnet.../evil",
        "test_resnet.r160_in1k.py",
        "",
        "a" * 10_000,
        "eval('1')",
        "fcn_resnet50",
        "raft_small",
    ),
]
MODELS = [
    *(
        "/etc/yolo11n",
        "../yolo11n",
        "./yolo11n",
        "yolo11n.yaml",
        "yolo11n.pt",
        "weights/yolo11n",
        "C:\\yolo11n",
        "yolo11n\0",
    ),
    *(
        "https://example.org/yolo11n",
        "ul://evil",
        "hub:yolo11n",
        "rtdetr-l",
        "yolo11n-seg",
        "yolo11n-cls",
        "yolo",
        "yolo11",
    ),
    *("os.system", "__class__", "__init__", "DetectionModel", "yolo11n\n", " yolo11n", "yolo११n", "", "a" * 10_000),
]
STRANGE = [None, 5, 1.5, True, ["test_resnet"], {"__class__": "os.system"}, {"_target_": "os.system"}]


def _spoilt(folder: Path, source: Path, **values: object) -> Path:
    "A copy of a model with other values in its description"
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | values), encoding="utf-8")
    return folder


LOAD = {"classifier": load_classifier, "detector": load_detector}
NETWORKS = [("classifier", "arch", one) for one in ARCHES + STRANGE] + [
    ("detector", "model", one) for one in MODELS + STRANGE
]


@pytest.mark.parametrize(("kind", "name", "value"), NETWORKS, ids=lambda one: repr(one)[:40])
def test_a_models_description_names_a_known_network_or_is_refused(kind, name, value, models, here, mark, asked):
    folder = _spoilt(here / "model", models[kind], **{name: value})
    for known in ("evil", "model", "yolo11n.yaml", "yolo11n.pt"):  # also where such a file is there
        with suppress(OSError):
            lay(here, mark, {known: checkpoint})
    with pytest.raises(ModelError):
        LOAD[kind](folder)
    assert not mark.exists() and asked == []


VALUES = [
    *(
        ("classifier", "classes", one)
        for one in ("negative", {"__class__": "os.system"}, [["a"]] * 3, ["a", "a"], [], None, [1, 2, 3])
    ),
    *(
        ("classifier", name, one)
        for name in ("mean", "spread")
        for one in ("0.5", "__import__('os')", None, [0.5], float("nan"))
    ),
    *((kind, "size", one) for kind in LOAD for one in ("64", "64; import os", None, [64], -64, 10**9, 63.5)),
    *((kind, "kind", one) for kind in LOAD for one in ("os.system", None, ["classifier"], {"__class__": "os"}, "")),
]


@pytest.mark.parametrize(("kind", "name", "value"), VALUES, ids=lambda one: repr(one)[:40])
def test_values_of_another_kind_in_a_models_description_are_refused(kind, name, value, models, here, mark):
    folder = _spoilt(here / "model", models[kind], **{name: value})
    with pytest.raises(ModelError, match=re.escape(str(folder))):
        LOAD[kind](folder)


@pytest.mark.parametrize("kind", LOAD)
def test_what_a_models_description_holds_besides_is_left_alone(kind, models, pictures, here, mark, asked):
    lay(
        here,
        mark,
        {"evil.yaml": network_plan, "evil.pt": checkpoint, "evil.py": lambda mark: python_code(mark).encode()},
    )
    code, file = python_code(mark), str(here / "evil.pt")
    more = {
        "__class__": "os.system",
        "__reduce__": ["os.system", ["x"]],
        "_target_": "os.mkdir",
        "py/object": "os.mkdir",
    }
    more |= {
        "auto_map": {"AutoModel": "evil.Model"},
        "trust_remote_code": True,
        "activation": code,
        "yaml_file": "evil.yaml",
    }
    more |= {
        "weights": file,
        "pretrained": file,
        "file": file,
        "pretrained_cfg_overlay": {"file": file},
        "head": code,
        "why": code,
    }
    more |= {
        "training": {"cfg": "evil.yaml", "resume": file},
        "versions": {"torch": code},
        "device": code,
        "channels": code,
    }
    folder = _spoilt(here / "model", models[kind], **more)
    predict = {"classifier": predict_classifier, "detector": predict_detector}[kind]
    pd.testing.assert_frame_equal(
        predict(folder, pictures[0], device="cpu"), predict(models[kind], pictures[0], device="cpu")
    )
    assert not mark.exists() and asked == []


TENSORS = {
    "a pickle": pickled_object,
    "a checkpoint": checkpoint,
    "an old checkpoint": old_checkpoint,
    "arrays": object_arrays,
    "an array": object_array,
    "a call": by_hand("os", "mkdir"),
    "a plan": network_plan,
    "nothing": lambda mark: b"",
    "no header": lambda mark: b"\xff" * 64,
    "a number that is unknown": lambda mark: (
        (lambda text: len(text).to_bytes(8, "little") + text)(b'{"a":{"dtype":"OBJ","shape":[1],"data_offsets":[0,8]}}')
        + bytes(8)
    ),
}


@pytest.mark.parametrize("kind", LOAD)
@pytest.mark.parametrize("case", TENSORS)
def test_a_models_weights_are_tensors_or_refused(kind, case, models, here, mark):
    folder = _spoilt(here / "model", models[kind])
    (folder / "model.safetensors").write_bytes(TENSORS[case](mark))
    with pytest.raises(ModelError, match="model.safetensors: cannot be read as tensors"):
        LOAD[kind](folder)
    assert not mark.exists()


@pytest.mark.parametrize("case", ["a pickle", "a checkpoint", "a plan", "nothing"])
@pytest.mark.parametrize("kind", LOAD)
def test_a_models_description_is_json_or_refused(kind, case, models, here, mark):
    folder = _spoilt(here / "model", models[kind])
    (folder / "config.json").write_bytes(TENSORS[case](mark))
    with pytest.raises(ModelError, match=re.escape("config.json")):
        LOAD[kind](folder)
    assert not mark.exists()


# Pictures, caches and runs

PICTURES = {  # files in the place of a prepared picture
    "array.npy": object_array,
    "pickle.npy": pickled_object,
    "arrays.npy": object_arrays,
    "checkpoint.npy": checkpoint,
    "arrays.npz": object_arrays,
    "array.png": object_array,
    "pickle.png": pickled_object,
    "postscript.png": postscript,
    "postscript.jpg": postscript,
    "postscript.eps": postscript,
    "pickle.pkl": pickled_object,
    "checkpoint.pt": checkpoint,
}


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_no_picture_is_refused_wherever_pictures_are_read(name, models, pictures, here, mark, ghostscript):
    from covidxr.dicom import read_facts, read_xray
    from covidxr.runs.report import grid_figure

    Path(name).write_bytes(PICTURES[name](mark))
    images = pictures[0].assign(file=[name, *pictures[0]["file"][1:]])
    options = {"epochs": 1, "device": "cpu"}
    empty = pd.DataFrame(columns=["id", "label", "confidence", *BOX_COLUMNS])
    shown = images[:1].assign(study_id="s")
    readers = [
        lambda: read_prepared(name),
        lambda: read_squares([name], 32),
        lambda: predict_classifier(models["classifier"], [name]),
        lambda: predict_detector(models["detector"], [name]),
        lambda: train_classifier(images, CLASSES, "c", size=32, pretrained=False, **options),
        lambda: train_detector(images, pictures[1], "d", model="yolo11n", size=64, **options),
        lambda: read_xray(name),
        lambda: read_facts(name),
        lambda: grid_figure(shown, empty, empty, images, "simulated X-rays"),
    ]
    for read in readers:
        with pytest.raises((DataError, XrayError), match=re.escape(name)):
            read()
    assert not mark.exists() and os.listdir() == [name]


@pytest.fixture
def cache(pictures, here) -> Path:
    "A cache of arrays, made by `prepare`"
    prepare(list(pictures[0]["file"]), here / "cache", size=32, workers=1, format="npy")
    return here / "cache"


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npy"))}


@pytest.mark.parametrize("payload", [object_array, pickled_object, object_arrays, checkpoint])
def test_a_pickle_in_a_cache_is_not_loaded_and_the_picture_is_made_again(payload, cache, pictures, mark):
    before = _contents(cache)
    for name in before:
        (cache / name).write_bytes(payload(mark).ljust(len(before[name]), b"\0")[: len(before[name])])
    (cache / "i0.npy").write_bytes(payload(mark))
    prepare(list(pictures[0]["file"]), cache, size=32, workers=1, format="npy")
    assert _contents(cache) == before and not mark.exists()


@pytest.mark.parametrize("payload", [parquet, pickled_object, object_array, checkpoint])
def test_an_index_that_is_none_is_not_run_and_made_again(payload, cache, pictures, mark):
    before = _contents(cache)
    (cache / "images.parquet").write_bytes(payload(mark))
    index = prepare(list(pictures[0]["file"]), cache, size=32, workers=1, format="npy")
    assert len(index) == len(pictures[0]) and _contents(cache) == before and not mark.exists()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A finished run, with fakes in the place of networks"
    from covidxr.hospital import simulate_dataset
    from covidxr.pipeline import run

    folder = tmp_path_factory.mktemp("runs")
    with fake_models():
        simulate_dataset(folder / "data", studies=24, seed=1, size=64, workers=1)
        run(folder / "data", folder / "run")
    return folder


def _read_by_runs(run: Path) -> list[Path]:
    "The files of a run, one of each kind in each folder below it"
    files = [path for path in sorted(run.rglob("*")) if path.suffix in (".json", ".csv", ".parquet", ".safetensors")]
    kinds = {(path.parent.parent, path.name if path.parent == run else path.suffix): path for path in files}
    return [path.relative_to(run) for path in kinds.values()]


def test_no_file_of_a_run_is_run(run_folder, tmp_path, mark):
    from covidxr.pipeline import predict, run

    xrays = sorted((run_folder / "data").rglob("*.dcm"))[:1]
    tried = _read_by_runs(run_folder / "run")
    assert {name.suffix for name in tried} == {".json", ".csv", ".parquet", ".safetensors"} and len(tried) > 8
    for number, name in enumerate(tried):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        shutil.copytree(run_folder, tmp_path / "runs")
        (tmp_path / "runs" / "run" / name).write_bytes((pickled_object, checkpoint, network_plan)[number % 3](mark))
        with fake_models():
            for work in (
                lambda: predict(tmp_path / "runs" / "run", xrays, tmp_path / "runs" / "out.csv"),
                lambda: run(tmp_path / "runs" / "data", tmp_path / "runs" / "run"),
            ):
                with suppress(CovidxrError, AssertionError, UnicodeDecodeError):  # the last two are the fakes' own
                    work()
        assert not mark.exists(), name


# Settings

SETTINGS = {  # settings of Ultralytics that name files, functions or hosts, and what is given for them
    **{
        name: str
        for name in ("cfg", "data", "resume", "pretrained", "project", "name", "save_dir", "source", "tracker")
    },
    **{
        name: str
        for name in ("teacher", "distill_model", "classes", "time", "mode", "task", "format", "visualize", "cache")
    },
    **{
        name: bool
        for name in ("amp", "val", "save", "plots", "exist_ok", "compile", "profile", "deterministic", "rect")
    },
    **{name: lambda mark: [Harm(mark)] for name in ("augmentations", "callbacks", "_callbacks", "freeze", "trainer")},
    **{name: str for name in ("__class__", "lr0; import os", "copy_paste_mode", "auto_augment", "workers", "imgsz")},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_is_no_number_of_training_is_refused_by_its_name(name, pictures, here, mark, asked):
    lay(here, mark, {"evil.pt": checkpoint, "evil.yaml": network_plan})
    with pytest.raises(ModelError, match=f"has no argument {re.escape(repr(name))}"):
        train_detector(*pictures, "model", size=64, epochs=1, **{name: SETTINGS[name](mark)})
    assert not mark.exists() and sorted(os.listdir()) == ["evil.pt", "evil.yaml"] and asked == []


ODD = ["evil.pt", "0.1; import os", ["evil.pt"], {"lr": 0.1}, os.mkdir, None, float("nan"), float("inf"), np.zeros(2)]


@pytest.mark.parametrize("value", ODD, ids=lambda one: repr(one)[:20])
def test_a_setting_of_training_is_a_number(value, pictures, here):
    for name in sorted(NUMBERS):
        with pytest.raises(ModelError, match=f"^{name} is "):
            train_detector(*pictures, "model", size=64, epochs=1, **{name: value})
    assert os.listdir() == []


def test_every_setting_that_is_taken_is_a_number_to_ultralytics_too():
    ultralytics()
    from ultralytics.utils import DEFAULT_CFG_DICT

    others = {name for name in NUMBERS if not isinstance(DEFAULT_CFG_DICT[name], int | float)}
    assert others == {"optimizer"}  # which is one of a few names


# Tables and pages

HEAD = "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance"


@pytest.mark.parametrize("case", ["boxes", "labels", "ids", "submission"])
def test_code_in_a_table_stays_text(case, here, mark):
    from covidxr.dataset import open_dataset
    from covidxr.eda import explore
    from covidxr.submission import read_submission

    code = python_code(mark)
    corner = code if case == "boxes" else "1"
    label = f'"{code}"' if case == "labels" else "1"
    name = code.replace("/", "") if case == "ids" else "s"
    boxes = f"[{{'x': {corner}, 'y': 1, 'width': 9, 'height': 9}}]"
    Path("train_study_level.csv").write_text(f"{HEAD}\n{name}_study,{label},0,0,0\n")
    images = f'id,boxes,label,StudyInstanceUID\ni_image,"{boxes}",opacity 1 1 1 10 10,{name}\n'
    Path("train_image_level.csv").write_text(images)
    Path("submission.csv").write_text(
        f'id,PredictionString\ns_study,"{code} 1 0 0 1 1"\ni_image,"opacity {code} 0 0 1 1"\n'
    )
    if case == "submission":
        with pytest.raises(CovidxrError, match="submission.csv: row"):
            read_submission("submission.csv")
    elif case == "ids":
        explore(open_dataset(here))
    else:
        with pytest.raises(DataError, match="level.csv: row"):
            open_dataset(here)
    assert not mark.exists()


def test_a_page_shows_names_and_does_not_run_them(here):
    from covidxr.pipeline import run

    cv2, rows = opencv(), []
    Path("data").mkdir()
    for number in range(24):
        name = f"<img src=x onerror=alert(1)>{number}{{{{ 7 * 7 }}}}.png"
        cv2.imwrite(f"data/{number}.png", np.random.default_rng(number).integers(0, 255, (64, 64)).astype(np.uint8))
        os.rename(f"data/{number}.png", f"data/{name}")
        rows.append((name, ["<script>alert(2)</script>", "{{ 7 * 7 }}"][number % 2], f"<b>{number}", 10, 10, 20, 20))
    table = pd.DataFrame(rows, columns=["file", "label", "patient_id", "x", "y", "width", "height"])
    table[["file", "label", "patient_id"]].to_csv("data/images.csv", index=False)
    table[1::2][["file", "x", "y", "width", "height"]].to_csv("data/boxes.csv", index=False)
    Path("data", rows[0][0]).write_bytes(b"no picture")  # what cannot be read is named on the page
    with fake_models():
        run("data", "run")
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "onerror" in page and not re.search(r"<script|<img src=x|<b>", page)


# The working folder of a program, and of the processes that it begins

MODULES = [
    *("covidxr", "numpy", "pandas", "cv2", "torch", "pydicom", "joblib", "PIL", "matplotlib", "numba", "yaml", "scipy"),
    *(
        "signal",
        "multiprocessing",
        "threading",
        "queue",
        "socket",
        "pickle",
        "random",
        "tempfile",
        "logging",
        "json",
        "struct",
    ),
    *("sitecustomize", "usercustomize", "conftest", "setup", "__init__", "__main__", "evil"),
]


def test_no_module_of_the_working_folder_is_imported(covidxr, pictures, here, tmp_path, mark):
    for name in MODULES:
        (here / f"{name}.py").write_text(f"import os\nos.makedirs({str(mark / name)!r})\n")
    (here / "evil.pth").write_text(f"import os; os.makedirs({str(mark / 'pth')!r})\n")
    (here / "matplotlibrc").write_text(
        f"backend: module://evil\naxes.prop_cycle: cycler('color', {python_code(mark)})\n"
    )
    subprocess.run([sys.executable, "-c", "import evil"], cwd=here, check=True)
    assert os.listdir(mark) == ["evil"]
    shutil.rmtree(mark)
    for number in range(10):
        (tmp_path / "many").mkdir(exist_ok=True)
        shutil.copy(pictures[0]["file"][number % 8], tmp_path / "many" / f"{number}.png")
    done = covidxr(
        "prepare", tmp_path / "many", tmp_path / "cache", "--size", 32, "--workers", 2, cwd=here, timeout=240
    )
    assert (done.returncode, mark.exists()) == (0, False), done.stderr + str(mark.exists() and os.listdir(mark))
    done = covidxr("data", "phantom", "--studies", 4, "--size", 64, "--out", tmp_path / "data", cwd=here)
    done = covidxr("eda", tmp_path / "data", "--out", tmp_path / "eda", cwd=here)
    assert (done.returncode, mark.exists()) == (0, False), done.stderr + str(mark.exists() and os.listdir(mark))


PROGRAM = """
import os, pickle, sys
import covidxr.base.compiled as room

class Harm:
    def __reduce__(self):
        return os.mkdir, ("RUN",)

if sys.argv[1:] == ["forge"]:  # as somebody can who knows the machine
    room.dumps = lambda data: pickle.dumps(Harm())
import loop
assert loop.double(3.0) == 6.0
"""
LOOP = "from covidxr.base.compiled import compiled\n\n\n@compiled\ndef double(x):\n    return 2.0 * x\n"


def _compute(program: Path, here: Path, *words: str, **place: str) -> None:
    "Run the program in a working folder"
    own = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}
    own |= {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(here.parent / "home"),
        **place,
    }
    subprocess.run([sys.executable, str(program / "run.py"), *words], cwd=here, env=own, check=True)


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A program with a compiled loop, and beside it `kept` with a pickle in the place of machine code, its sum right"
    folder = tmp_path_factory.mktemp("forged")
    (folder / "program").mkdir()
    (folder / "program" / "loop.py").write_text(LOOP)
    (folder / "program" / "run.py").write_text(PROGRAM)
    (folder / "here").mkdir()
    _compute(folder / "program", folder / "here", "forge", NUMBA_CACHE_DIR=str(folder / "kept"))
    assert list(folder.rglob("*.covidxr")) and not (folder / "here" / "RUN").exists()
    shutil.copytree(folder / "kept", folder / "copy")  # what is run is replaced by what is right
    _compute(folder / "program", folder / "here", NUMBA_CACHE_DIR=str(folder / "copy"))
    assert (folder / "here" / "RUN").is_dir()  # who names a folder to Numba trusts it
    return folder


@pytest.mark.parametrize("named", ["kept", "{here}/kept", "/proc/self/cwd/kept", None])
def test_compiled_code_of_the_working_folder_is_not_run(named, forged, here):
    "Numba reads a file of settings there, which can name a folder of pickles; a variable can name one by half"
    shutil.copytree(forged / "kept", here / "kept")
    if named is None:
        _compute(forged / "program", here, NUMBA_CACHE_DIR="kept")
    else:
        (here / ".numba_config.yaml").write_text(f"cache_dir: {named.format(here=here)}\n")
        _compute(forged / "program", here)
    assert not (here / "RUN").exists()


@pytest.mark.parametrize("call", NAMES)
def test_no_call_opens_a_file_that_lies_in_the_working_folder(call, called):
    assert sorted(set(called[call]["opened"]) & set(LYING)) == []
