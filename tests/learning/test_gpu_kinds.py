"GPUs of all kinds, played: one without kernels, one that is full, one whose driver is too old, and none for hours of work"

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import QUICKEST, fake_models

from covidxr import doctor
from covidxr.base import process
from covidxr.base.errors import ModelError
from covidxr.base.extras import MissingExtra
from covidxr.learning import device, gpus, models
from covidxr.pipeline import run
from covidxr.runs import inputs, serving
from covidxr.runs.profiles import FULL, QUICK

NO_KERNELS = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be …"
ONES = torch.ones


@pytest.fixture
def pascal(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    "Two GPUs that PyTorch sees; of each the words by which a computation on it fails, and which were tried"
    here = {"faults": {"cuda": NO_KERNELS, "cuda:1": NO_KERNELS}, "tried": []}

    def ones(*shape: int, device: str = "cpu") -> torch.Tensor:
        here["tried"].append(device)
        if device in here["faults"]:
            raise RuntimeError(here["faults"][device])
        return ONES(*shape)

    monkeypatch.setattr(torch, "ones", ones)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla P100")
    facts = SimpleNamespace(name="Tesla P100", total_memory=17e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: facts)
    monkeypatch.delenv("COVIDXR_PROCESSES_ON_CPU", raising=False)
    for known in (device.gpu_fault, device._tell_once):
        known.cache_clear()
    yield here
    for known in (device.gpu_fault, device._tell_once):
        known.cache_clear()


def test_on_a_gpu_without_kernels_the_processor_computes_and_one_line_says_why(pascal: dict, capsys) -> None:
    assert [device.pick_device(), models.device_name(None), device.pick_device()] == ["cpu"] * 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "the processor does (Tesla P100: CUDA error: no kernel image is available" in line and "T4" in line
    assert "might be" not in line and pascal["tried"] == ["cuda"], "it is tried once in a process"


def test_a_gpu_that_computes_is_taken_without_a_word(pascal: dict, capsys) -> None:
    pascal["faults"].clear()
    assert [device.pick_device(), models.device_name("cuda")] == ["cuda", "cuda"]
    assert device.device_text("cuda:0,cuda:1") == "cuda:0,cuda:1 (Tesla P100, 17 GB, Tesla P100, 17 GB)"
    assert not capsys.readouterr().err and pascal["tried"] == ["cuda"]


def test_a_gpu_that_is_full_has_another_cure(pascal: dict) -> None:
    pascal["faults"]["cuda"] = "CUDA out of memory. Tried to allocate 20.00 MiB."
    assert "nvidia-smi" in device.gpu_fault("cuda") and "older GPUs" not in device.gpu_fault("cuda")


def test_who_asks_for_a_gpu_by_name_hears_that_it_cannot_compute(pascal: dict) -> None:
    assert [models.device_name("cuda:0"), gpus.first_gpus(1)] == ["cuda:0", "cuda:0"]
    for ask in (partial(models.device_name, "cuda:1"), partial(gpus.first_gpus, 2)):
        with pytest.raises(ModelError, match=r"^device 'cuda:1': PyTorch cannot compute on it \(Tesla P100: .*T4"):
            ask()


def test_the_doctor_tries_the_gpu_and_names_the_cure(pascal: dict) -> None:
    row = doctor._accelerator()
    assert row["ok"] is False and "Tesla P100: CUDA error: no kernel image" in row["text"] and "T4" in row["text"]
    pascal["faults"].clear()
    device.gpu_fault.cache_clear()
    assert doctor._accelerator() == {"part": "GPU", "ok": True, "text": "Tesla P100"}


@pytest.mark.parametrize(
    ("cuda", "said", "cure"),
    [(None, "", "is a build without CUDA; install a build for CUDA"), ("13.2", "driver is too old", "a newer driver")],
)
def test_the_doctor_tells_why_a_gpu_is_not_seen(monkeypatch, cuda: str | None, said: str, cure: str) -> None:
    def init() -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor, "nvidia_signs", lambda: False)
    assert doctor._accelerator()["text"].startswith("none that PyTorch sees")
    monkeypatch.setattr(doctor, "nvidia_signs", lambda: True)
    row = doctor._accelerator()
    assert row["ok"] is None and cure in row["text"] and said in row["text"]


def test_the_doctor_comes_without_pytorch_too() -> None:
    code = """import sys
sys.modules["torch"] = sys.modules["fastai"] = None
from covidxr.doctor import check_installation
rows = {row["part"]: row["ok"] for row in check_installation()}
print(rows["GPU"], rows["Python"])"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.split() == ["False", "True"], answer.stderr


def test_a_sign_of_a_gpu_is_a_name_in_the_system(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(process, "_NVIDIA", (str(tmp_path / "nvidia0"),))
    assert not process.nvidia_signs()
    (tmp_path / "nvidia0").touch()
    assert process.nvidia_signs()
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not process.nvidia_signs()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    "Signs of a GPU that computes; notes each time that PyTorch is asked for it"
    asked: list[str] = []
    monkeypatch.setattr(serving, "nvidia_signs", lambda: True)
    monkeypatch.setattr(device, "pick_device", lambda: asked.append("asked") or "cuda")
    monkeypatch.setattr(device, "device_text", lambda name: f"{name} (Tesla T4, 16 GB)")
    return asked


FILES = SimpleNamespace(has=lambda name: True)
FULL_RUN = [f"{plan.name}-{number}" for plan in FULL.models for number in range(1, 6)]


def test_many_xrays_are_answered_on_the_gpu_and_one_line_says_so(asked: list[str], capsys) -> None:
    assert serving.gpu_answers(FILES, FULL_RUN, 1263)
    assert capsys.readouterr().err.splitlines() == ["PyTorch answers on cuda (Tesla T4, 16 GB)"]


def test_pytorch_is_not_asked_for_one_xray_nor_where_nothing_tells_of_a_gpu(asked, monkeypatch, capsys) -> None:
    assert not serving.gpu_answers(FILES, FULL_RUN, 1)
    monkeypatch.setattr(serving, "nvidia_signs", lambda: False)
    assert not serving.gpu_answers(FILES, FULL_RUN, 1263)
    assert not asked and not capsys.readouterr().err


@pytest.mark.parametrize("missing", ["torch", "ultralytics", "weights"])
def test_beside_a_gpu_onnxruntime_answers_where_pytorch_cannot(asked, monkeypatch, capsys, missing: str) -> None:
    def require(extra: str, *names: str) -> None:
        if missing in names:
            raise MissingExtra(f"{missing} is not installed")

    monkeypatch.setattr(serving, "require", require)
    files = SimpleNamespace(has=lambda name: missing != "weights" or not name.endswith(".safetensors"))
    assert not serving.gpu_answers(files, FULL_RUN, 1263)
    assert not asked and not capsys.readouterr().err
    if missing == "ultralytics":
        assert serving.gpu_answers(files, [name for name in FULL_RUN if "yolo" not in name], 1263)


@pytest.mark.parametrize("found", ["cpu", "mps"])
def test_where_pytorch_finds_no_such_gpu_onnxruntime_answers(asked, monkeypatch, capsys, found: str) -> None:
    monkeypatch.setattr(device, "pick_device", lambda: found)
    assert not serving.gpu_answers(FILES, FULL_RUN, 1263) and not capsys.readouterr().err


PLAN = {"kind": "classifier", "device": "cuda", "batch_size": 32, "train_images": 64, "seed": 3}


def _small_gpu(most: int, tried: list[tuple]):
    "A training that takes as much memory as `most` images a step"

    def fit(folder: Path, plan: dict) -> tuple[dict, pd.DataFrame]:
        tried.append((plan["batch_size"], plan["seed"]))
        if plan["batch_size"] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return {"one": ONES(1)}, pd.DataFrame({"epoch": [1]})

    return fit


def test_where_a_gpus_memory_ends_training_begins_anew_with_half_a_batch(tmp_path: Path, capsys) -> None:
    tried: list[tuple] = []
    models.train_into(tmp_path / "model", PLAN, _small_gpu(8, tried), "resnet34", "none")
    assert tried == [(32, 3), (16, 3), (8, 3)], "the same seed"
    assert json.loads((tmp_path / "model" / "config.json").read_text())["batch_size"] == 8
    assert PLAN["batch_size"] == 32, "the caller's table was changed"
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "resnet34: 32 images a step do not fit into the GPU's memory; training begins anew with 16"
    assert len(lines) == 2


def test_a_network_that_never_fits_is_told_of_with_a_cure_that_can_be_followed(tmp_path: Path) -> None:
    tried: list[tuple] = []
    with pytest.raises(ModelError, match=r"a batch of 4 images .*; take a GPU with more memory, or a smaller size$"):
        models.train_into(tmp_path / "model", PLAN, _small_gpu(2, tried), "resnet34", "none")
    assert [batch for batch, _ in tried] == [32, 16, 8, 4]
    assert not (tmp_path / "model" / "config.json").exists()
    tried.clear()
    four = PLAN | {"device": ",".join(f"cuda:{number}" for number in range(4))}
    with pytest.raises(ModelError, match="a batch of 8 images"):  # two for each, as batch normalisation needs
        models.train_into(tmp_path / "model", four, _small_gpu(2, tried), "resnet34", "none")


def _full_once(plan: dict, **given: object) -> tuple[dict, pd.DataFrame]:
    if plan["batch_size"] > 8:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return {"one": ONES(1)}, pd.DataFrame({"epoch": [1]})


@pytest.mark.parametrize("kind", ["classifier", "map_training", "fcos_detector"])
def test_every_kind_of_training_takes_half_a_batch_and_its_config_says_so(tmp_path: Path, monkeypatch, kind) -> None:
    from importlib import import_module

    import cv2

    from covidxr.classify import train_classifier
    from covidxr.detect import train_detector

    files = [str(tmp_path / f"{number}.png") for number in range(4)]
    for file in files:
        cv2.imwrite(file, np.zeros((32, 32), np.uint8))
    images = pd.DataFrame({"image_id": list("abcd"), "file": files, "label": ["x", "y"] * 2})
    images["valid"] = images["image_id"] == "d"
    boxes = pd.DataFrame({"image_id": ["a"], "x_min": [1], "y_min": [1], "x_max": [9], "y_max": [9]})
    monkeypatch.setattr(import_module(f"covidxr.learning.{kind}"), "fit_maps" if "map" in kind else "_fit", _full_once)
    out, options = tmp_path / "model", {"size": 32, "batch_size": 16, "pretrained": False, "device": "cpu"}
    if kind == "fcos_detector":
        train_detector(images, boxes, out, model="fcos-test_resnet", **options)
    else:
        train_classifier(images, ["x", "y"], out, boxes=boxes if "map" in kind else None, **options)
    assert json.loads((out / "config.json").read_text())["batch_size"] == 8


def _crowded(module: torch.nn.Module, given: tuple) -> None:
    "In the place of a GPU's memory: it holds four images of a training"
    if module.training and isinstance(given[0], dict) and len(given[0]["img"]) > 4:
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_what_ultralytics_halves_by_itself_is_noted(tmp_path: Path, capsys) -> None:
    pytest.importorskip("ultralytics")
    from covidxr.learning.yolo import network
    from covidxr.learning.yolo_training import TRAINING, fit, yolo_labels

    def start() -> torch.nn.Module:
        yolo = network("yolo11n")
        yolo.register_forward_pre_hook(_crowded)
        return yolo

    pixels = np.zeros((10, 32, 32), np.uint8)
    labels = yolo_labels([f"{number}.png" for number in range(10)], [np.array([[0.2, 0.2, 0.6, 0.7]])] * 10, 32)
    parts = {"train_pixels": pixels[:8], "train_labels": labels[:8], "val_pixels": pixels[8:], "val_labels": labels[8:]}
    plan = {"model": "yolo11n", "device": "cpu", "size": 32, "epochs": 1, "seed": 0, "valid_images": 2}
    plan |= {"batch_size": 8, "training": dict(TRAINING)}
    _, history = fit(parts, plan, tmp_path, start)
    assert len(history) == 1 and (plan["batch_size"], plan["training"]["nbs"]) == (4, 8)
    assert "yolo11n: 8 images at once did not fit into the GPU's memory; 4 did" in capsys.readouterr().err


def test_a_run_says_its_device_and_that_a_full_one_takes_days_on_a_processor(monkeypatch, capsys) -> None:
    monkeypatch.setattr(device, "pick_device", lambda: "cpu")
    inputs.tell_device(None, QUICK)
    assert capsys.readouterr().err == "device: cpu\n"
    inputs.tell_device(None, FULL)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "device: cpu" and "takes days" in second and "16 GB" in second and "covidxr doctor" in second
    monkeypatch.setattr(device, "device_text", lambda name: f"{name} (Tesla T4, 16 GB)")
    inputs.tell_device("cuda:0", FULL)
    assert capsys.readouterr().err == "device: cuda:0 (Tesla T4, 16 GB)\n"


def test_the_device_comes_before_all_work_of_a_run(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(device, "pick_device", lambda: "cpu")
    with fake_models():
        run("phantom", tmp_path / "run", replace(QUICKEST, name="full"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "device: cpu" and lines[1].startswith("profile full takes days on a processor")
    assert lines[2] == "simulate ..."
