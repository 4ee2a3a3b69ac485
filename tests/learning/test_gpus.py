"One training in several processes, on the processor: what is as with one, and what happens when one fails"

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from covidxr.base.errors import ModelError
from covidxr.learning.gpus import first_gpus, fit_together, training_devices
from covidxr.learning.models import save_model, train_into
from covidxr.runs.profiles import ModelPlan

PLAN = {"device": "cpu,cpu", "batch_size": 7, "train_images": 23, "epochs": 2, "learning_rate": 0.03, "seed": 3}


def _learn(numbers: np.ndarray, place: Path, plan: dict) -> tuple[dict, pd.DataFrame]:
    "Train two small networks, without and with batch normalisation; note which rows were learnt from, in which order"
    from covidxr.learning.fitting import fit_network, memory_loaders, seeded_training
    from covidxr.learning.guests import fastai_training

    parts = [torch.from_numpy(numbers), torch.from_numpy(numbers).sum(1, keepdim=True), torch.arange(len(numbers))]
    states, tables, seen = {}, [], []
    for name, batch, rate in (("plain", 7, plan["learning_rate"]), ("norm", 6, 1e-12)):
        with seeded_training(plan["seed"]):
            first = torch.nn.BatchNorm1d(6) if name == "norm" else torch.nn.Linear(6, 6)
            network = torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Linear(6, 1))

            def loss(answer, truth, rows, network=network, name=name):
                if network.training:
                    seen.append([name, rows.tolist()])
                return torch.nn.functional.mse_loss(answer, truth)

            loaders = memory_loaders(parts, np.arange(len(numbers)) >= 23, batch, "cpu")
            nothing = fastai_training().Callback()
            tables.append(fit_network(network, loaders, loss, nothing, plan | {"learning_rate": rate}, "numbers"))
        states |= {f"{name}.{part}": value for part, value in network.state_dict().items()}
    (place / f"{plan.get('rank', 'alone')}.json").write_text(json.dumps(seen))
    return states, pd.concat(tables, keys=["plain", "norm"])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict:
    "The same training by one process and by two: weights, history, and the rows that each learnt from"
    folder, answers = tmp_path_factory.mktemp("together"), {}
    given = {"numbers": np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32), "place": folder}
    for name, device in (("one", "cpu"), ("two", "cpu,cpu")):
        (folder / name).mkdir()
        answers[name] = fit_together(_learn, given, PLAN | {"device": device}, folder / name)
        assert not os.listdir(folder / name), "something was left behind"
    for name in ("alone", "0", "1"):
        answers[name] = json.loads((folder / f"{name}.json").read_text())
    return answers


def test_two_processes_learn_from_the_batches_of_one_each_from_its_share(both: dict) -> None:
    shares = zip(both["0"], both["1"], strict=True)
    assert [[name, mine + theirs] for (name, mine), (_, theirs) in shares] == both["alone"]
    sizes = [(len(mine), len(theirs)) for (_, mine), (_, theirs) in zip(both["0"], both["1"], strict=True)]
    assert sizes == [(4, 3)] * 6 + [(3, 3)] * 6  # two epochs of three steps each


def test_two_processes_take_the_steps_of_one_where_nothing_is_normalised(both: dict) -> None:
    (one, alone), (two, together) = both["one"], both["two"]
    for name in [name for name in one if name.startswith("plain")]:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
    assert list(together.columns) == ["epoch", "train_loss", "valid_loss"]
    np.testing.assert_allclose(together.loc["plain"], alone.loc["plain"], rtol=1e-4)


def test_the_averages_of_batch_normalisation_are_those_of_all_images(both: dict) -> None:
    name = "norm.0.running_mean"
    assert both["one"][0][name].abs().max() > 0.01
    torch.testing.assert_close(both["two"][0][name], both["one"][0][name], rtol=1e-4, atol=1e-5)


def _fails(plan: dict) -> None:
    if plan["rank"]:
        raise ValueError("the second has had enough")
    torch.distributed.barrier()


def test_where_one_process_fails_the_other_ends_and_one_sentence_says_why(tmp_path: Path) -> None:
    before, out = {one.pid for one in psutil.Process().children(recursive=True)}, tmp_path / "model"
    with pytest.raises(ModelError, match=r"^nets: training stopped \(the second has had enough\); try less$"):
        train_into(out, PLAN, lambda folder, plan: fit_together(_fails, {}, plan, folder), "nets", "try less")
    assert not [path.name for path in out.iterdir() if not path.name.startswith(".covidxr")]
    left = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
    assert not [one for one in left if "popen_loky" in " ".join(one.cmdline())]


def test_too_small_a_batch_for_so_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"two images a step, and batch_size is 3 .*; take 4 or more, or fewer GPUs"):
        fit_together(_fails, {}, PLAN | {"batch_size": 3}, tmp_path)
    save_model(tmp_path / "model", {"one": torch.ones(1)}, PLAN, pd.DataFrame({"epoch": [1]}))
    before = (tmp_path / "model" / "config.json").read_bytes()
    with pytest.raises(ModelError, match="two images a step"):
        train_into(tmp_path / "model", PLAN | {"batch_size": 3}, lambda folder, plan: 1 / 0, "nets", "try less")
    assert (tmp_path / "model" / "config.json").read_bytes() == before, "an earlier model is lost"


def test_gpus_are_named_where_they_are_and_refused_where_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COVIDXR_PROCESSES_ON_CPU", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("covidxr.learning.device.gpu_fault", lambda place: "")
    assert [first_gpus(1), first_gpus(2)] == ["cuda:0", "cuda:0,cuda:1"]
    assert training_devices("cuda:1, cuda:0") == "cuda:1,cuda:0"
    for wrong in ("cuda:0,cuda:0", "cuda:0,cpu", "cuda,cuda:1"):
        with pytest.raises(ModelError, match="are not several GPUs, each once; take such as cuda:0,cuda:1"):
            training_devices(wrong)
    with pytest.raises(ModelError, match=r"^gpus is 3, and this computer has 2 that PyTorch can use; ask for 1 to 2$"):
        first_gpus(3)
    for wrong in (0, -1, 1.5, "2", True):
        with pytest.raises(ModelError, match="gpus is .*; it must be a whole number from 1"):
            first_gpus(wrong)


def test_a_run_for_more_gpus_than_there_are_is_refused_before_it_begins(covidxr, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("COVIDXR_PROCESSES_ON_CPU", raising=False)
    told = covidxr("run", "--gpus", "2", "--out", tmp_path / "run")
    assert told.returncode == 2
    said = "covidxr: gpus is 2, and this computer has none that PyTorch can use; leave the option out"
    assert told.stderr.strip() == said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind, arch", [("classifier", "test_resnet"), ("detector", "yolo11n")])
def test_a_run_hands_its_gpus_to_every_training(kind: str, arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import covidxr.classify
    import covidxr.detect
    from covidxr.runs import training

    asked = {}
    monkeypatch.setattr(covidxr.classify, "train_classifier", lambda *given, **named: asked.update(named))
    monkeypatch.setattr(covidxr.detect, "train_detector", lambda *given, **named: asked.update(named))
    images = pd.DataFrame({"image_id": ["a"], "part": ["train"]})
    monkeypatch.setattr(training, "image_parts", lambda *_: images)
    monkeypatch.setattr(training, "_learning_boxes", lambda *_: None)
    run = SimpleNamespace(folder=Path("run"), seed=0, dataset=SimpleNamespace(classes=["a"]), device="cuda:0,cuda:1")
    training.train_model(run, None, 1, ModelPlan(kind, arch, 64, 1))
    assert asked["device"] == "cuda:0,cuda:1"


def _shared_yolo(parts: dict, work: Path, notes: Path, plan: dict) -> tuple[dict, pd.DataFrame]:
    "Ultralytics' training in several processes, with what it asks only GPUs for done by the processor"
    from functools import partial

    from covidxr.learning import yolo_training
    from covidxr.learning.yolo import network

    theirs, reduce = torch.nn.parallel.DistributedDataParallel, torch.distributed.reduce

    def mean(value: torch.Tensor, dst: int, op) -> None:
        assert op == torch.distributed.ReduceOp.AVG
        reduce(value, dst)
        value.div_(plan["ranks"])

    def tables(trainer) -> dict:
        trainer.world_size = plan["ranks"]  # 0 on a processor
        return trainer.tables

    torch.nn.parallel.DistributedDataParallel = lambda model, device_ids, **named: theirs(model, **named)
    torch.distributed.reduce = mean
    torch.cuda.current_device = lambda: 0
    yolo_training._Trainer.get_dataset = tables
    weights, history = yolo_training.fit(parts, plan | {"devices": "cpu"}, work, partial(network, "yolo11n"))
    numbers = {name: value.double().sum().item() for name, value in weights.items() if name.endswith("weight")}
    (notes / f"yolo-{plan['rank']}.json").write_text(json.dumps([numbers, len(history)]))
    return weights, history


def test_yolo_learns_in_our_processes_by_ultralytics_own_sharing(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    from covidxr.learning.yolo_training import TRAINING, yolo_labels

    pixels = np.random.default_rng(0).integers(0, 255, (10, 32, 32), dtype=np.uint8)
    labels = yolo_labels([f"{number}.png" for number in range(10)], [np.array([[0.2, 0.2, 0.6, 0.7]])] * 10, 32)
    parts = {"train_pixels": pixels[:8], "train_labels": labels[:8], "val_pixels": pixels[8:], "val_labels": labels[8:]}
    plan = PLAN | {"model": "yolo11n", "size": 32, "batch_size": 4, "train_images": 8, "training": TRAINING}
    given = {"parts": parts, "work": tmp_path / "work", "notes": tmp_path}
    weights, history = fit_together(_shared_yolo, given, plan | {"valid_images": 2}, tmp_path)
    first, second = (json.loads((tmp_path / f"yolo-{rank}.json").read_text()) for rank in (0, 1))
    assert first[0] == pytest.approx(second[0], rel=1e-5, abs=1e-5), "both must have taken the same steps"
    assert (first[1], second[1]) == (2, 0), "the first alone keeps the history"
    assert list(history["epoch"]) == [1, 2] and "val/box_loss" in history
    assert all(bool(torch.isfinite(value.float()).all()) for value in weights.values())
