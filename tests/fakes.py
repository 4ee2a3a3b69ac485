"""Models that learn nothing, in the place of networks: what they say is decided by the bytes of what they were given.

A run with them takes a second, and a step that was wrongly not done again shows in the answer.
"""

import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from conftest import TINY

from covidxr.base.files import owned_folder, read_json, write_json
from covidxr.base.terms import BOX_COLUMNS
from covidxr.runs.profiles import ModelPlan

MODELS = (
    ModelPlan("classifier", "test_resnet", size=64, epochs=1),
    ModelPlan("detector", "yolo11n", size=64, epochs=1),
)
QUICKEST = replace(
    TINY, name="fakes", studies=24, simulated_size=64, cache_size=64, draws=20, turns=3, models=MODELS, export=False
)


def _number(*parts: object) -> float:
    "A number from 0 to 1 that the parts decide"
    text = "\n".join(map(str, parts))
    return int(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 16**8


def _content(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _train(images: pd.DataFrame, *rest: object, **options: object) -> None:
    "Write a model that is what it was given"
    boxes = next((one.to_csv() for one in rest if isinstance(one, pd.DataFrame)), "")
    classes = next((list(one) for one in rest if isinstance(one, tuple)), [])
    out = next(one for one in rest if isinstance(one, Path))
    seen = [f"{row.image_id} {row.label} {row.valid} {_content(row.file)}" for row in images.itertuples()]
    with owned_folder(out, "model"):
        made = str(_number(*seen, boxes, options["seed"], classes))
        (out / "model.safetensors").write_text(made)
        (out / "history.csv").write_text("epoch\n1\n")
        kind = {"kind": "classifier", "classes": classes} if classes else {"kind": "detector", "classes": ["opacity"]}
        config = kind | {"model": options.get("model"), "made": made, "size": 64, "epochs": 1}
        write_json(config, out / "config.json")


def _classify(place: Path, images: pd.DataFrame, flip_tta: bool = False) -> pd.DataFrame:
    model = read_json(place / "config.json")
    assert (place / "model.safetensors").read_text() == model["made"], "weights of another training"
    rows = [
        [0.1 + _number(model["made"], name, _content(row.file), flip_tta) for name in model["classes"]]
        for row in images.itertuples()
    ]
    chances = np.array(rows).reshape(len(images), len(model["classes"]))
    chances /= chances.sum(axis=1, keepdims=True)
    names = images[["image_id"]].reset_index(drop=True)
    return pd.concat([names, pd.DataFrame(chances, columns=model["classes"])], axis=1)


def _classify_twice(place: Path, images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return _classify(place, images), _classify(place, images, flip_tta=True)


def _detect_twice(place: Path, images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return _detect(place, images), _detect(place, images, flip_tta=True)


def _detect(place: Path, images: pd.DataFrame, flip_tta: bool = False) -> pd.DataFrame:
    model = read_json(place / "config.json")
    rows = []
    for row in images.itertuples():
        left, top, sure = (_number(model["made"], part, _content(row.file), flip_tta) for part in "xyc")
        rows.append((row.image_id, 30 * left, 30 * top, 30 * left + 20, 30 * top + 20, sure))
    return pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS, "confidence"])


class _Picture:
    "In the place of a figure: bytes that its tables decide, as drawing takes most of a small run's time"

    def __init__(self, *tables: object, **options: object) -> None:
        shown = [one for one in tables if isinstance(one, pd.DataFrame)]
        texts = [one.drop(columns="file", errors="ignore").to_csv() for one in shown]  # the run's folder does not show
        self.text = str(_number(*texts))

    def savefig(self, target: object, **options: object) -> None:
        if hasattr(target, "write"):
            target.write(self.text.encode())
        else:
            Path(target).write_text(self.text)


def _explore(dataset: object, folder: Path) -> list[str]:
    with owned_folder(folder / "eda", "eda"):
        write_json({"studies": len(dataset.studies), "images": len(dataset.images)}, folder / "eda" / "counts.json")
    return ["eda/counts.json"]


def _data_picture(dataset: object) -> _Picture:
    return _Picture(dataset.studies, dataset.images, dataset.boxes)


@contextmanager
def networks_that_learn_nothing() -> Iterator[None]:
    "Put fakes in the place of networks for a while"
    import covidxr.classify
    import covidxr.detect
    import covidxr.runs.probes
    import covidxr.runs.profiles

    with (
        mock.patch.object(covidxr.runs.probes, "_asked_classifier", lambda run: None),  # it has no heat map
        mock.patch.object(covidxr.classify, "train_classifier", _train),
        mock.patch.object(covidxr.detect, "train_detector", _train),
        mock.patch.object(covidxr.classify, "predict_classifier", _classify),
        mock.patch.object(covidxr.classify, "predict_classifier_views", _classify_twice),
        mock.patch.object(covidxr.detect, "predict_detector", _detect),
        mock.patch.object(covidxr.detect, "predict_detector_views", _detect_twice),
    ):
        yield


@contextmanager
def fake_models() -> Iterator[None]:
    "Put fakes in the place of networks, and of drawing the data, for a while; all work is done in this process"
    import covidxr.eda
    import covidxr.pipeline
    import covidxr.prepare
    import covidxr.runs.inputs
    import covidxr.runs.report

    one = functools.partial(covidxr.prepare.prepare, workers=1)
    with (
        networks_that_learn_nothing(),
        mock.patch.object(covidxr.runs.inputs, "prepare", one),
        mock.patch.object(covidxr.pipeline, "explore_data", _explore),
        mock.patch.object(covidxr.runs.report, "curves_figure", _Picture),
        mock.patch.object(covidxr.runs.report, "grid_figure", _Picture),
        mock.patch.object(covidxr.eda, "figure", _data_picture),
        mock.patch.dict(covidxr.runs.profiles.PROFILES, {"quick": QUICKEST}),
    ):
        yield


def shaken(network: Any) -> Any:
    "The same network, whose answers differ from picture to picture as a trained one's do"
    import torch

    draw = torch.Generator().manual_seed(1)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 1.5, generator=draw)
            part.momentum = 1.0
    with torch.no_grad():
        network.train()(2 * torch.randn(8, 1, 8, 8, generator=draw).repeat_interleave(8, 2).repeat_interleave(8, 3))
    return network.eval()
