"A run's networks without PyTorch: the same answers, only from the run's own files; and a run packed in one file"

import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
from conftest import TINY
from fakes import shaken
from PIL import Image
from xrays import stored_so

from covidxr.base.errors import CovidxrError, DataError, ModelError
from covidxr.base.extras import MissingExtra, opencv
from covidxr.base.files import read_json, write_json
from covidxr.base.terms import APPEARANCES, BOX_COLUMNS
from covidxr.boxes.network_answers import fcos_boxes, yolo_boxes
from covidxr.cli import main
from covidxr.dicom import XrayFacts, read_xray, write_dicom
from covidxr.learning.shipped_reader import interpret
from covidxr.phantom import simulate
from covidxr.pipeline import predict
from covidxr.prepare import from_cache, prepare
from covidxr.runs import exporting, inference, packed_files, serving
from covidxr.runs.answer import answer_file
from covidxr.runs.grading import read_severities
from covidxr.runs.packing import pack_run
from covidxr.submission import read_submission
from covidxr.xray.standard import TURNS

pytest.importorskip("onnxscript", reason="onnxscript is an extra: pip install 'covidxr[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is an extra: pip install 'covidxr[serve]'")
NETWORKS = ("plain-64-1", "map-64-1", "fcos-64-1", "yolo-64-1")
REFUSED = ("torch", "torchvision", "fastai", "ultralytics", "timm")
WITHOUT = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import covidxr
run, out, *xrays = sys.argv[1:]
print(covidxr.predict(run, xrays, out)["images"])
heavy = {REFUSED!r} + ("scipy", "sklearn", "matplotlib", "numba", "jinja2")
print([name for name in heavy if name in sys.modules])
"""


@pytest.fixture(scope="module")
def xrays(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("xrays")
    paths = [folder / f"x{seed}.png" for seed in range(5)]
    for seed, path in enumerate(paths):
        pixels = simulate(seed, size=96 if seed else 64).pixels[:, : 80 if seed % 2 else None]
        opencv().imwrite(str(path), (pixels * 255).astype(np.uint8))
    return paths


def _save_models(folder: Path) -> None:
    "A model of each form, untrained"
    import torch

    from covidxr.learning.classifier import save_classifier
    from covidxr.learning.fcos_detector import FcosNetwork
    from covidxr.learning.map_training import map_plan
    from covidxr.learning.maps import MapNetwork
    from covidxr.learning.models import save_model
    from covidxr.learning.networks import build_classifier
    from covidxr.learning.yolo_detector import build_detector

    torch.manual_seed(0)
    save_classifier(shaken(build_classifier("test_resnet", 4)), folder / NETWORKS[0], "test_resnet", APPEARANCES, 64)
    plan = map_plan(list(APPEARANCES), "test_resnet", 64, stride=8, networks=2, device="cpu")
    networks = torch.nn.ModuleList(shaken(MapNetwork("test_resnet", 4, 8)) for _ in range(2))
    yolo = shaken(build_detector("yolo11n"))
    fcos = shaken(FcosNetwork("test_resnet", 64))
    for part in (*(one[-1] for one in yolo.model[-1].cv3), fcos.fcos.head.classification_head.cls_logits):
        part.bias.data.fill_(-1.0)  # an untrained detector is sure of nothing
    detector = {"kind": "detector", "classes": ["opacity"], "size": 64}
    for name, network, config in (
        (NETWORKS[1], networks, plan),
        (NETWORKS[2], fcos, detector | {"model": "fcos-test_resnet"}),
        (NETWORKS[3], yolo, detector | {"model": "yolo11n"}),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_model(folder / name, network.state_dict(), config, pd.DataFrame({"epoch": [1]}))


def _describe(run: Path) -> None:
    "What a finished run says of itself"
    trained = [name.removesuffix("-1") for name in NETWORKS]
    choice = {"class_weights": dict.fromkeys(trained[:2], 0.5), "box_weights": dict.fromkeys(trained[2:], 0.5)}
    shares = dict(zip(APPEARANCES, (1.0, 0.1, 0.1, 0.2), strict=True))
    write_json([choice | {"none_exponent": 0.5, "revise": False, "shares": shares}], run / "choices.json")
    write_json({"data": str(run / "patients"), "profile": {"cache_size": 80}}, run / "config.json")
    steps = {"report": {"files": {}}}
    metrics = {"data": "simulated", "steps": steps, "scores": {"ensemble": {"map": 0.25, "low": 0.2, "high": 0.3}}}
    metrics |= {"opacity_auc": {}, "trust": {}, "versions": {}, "seed": 0, "profile": "hand"}
    write_json(metrics | {"failed": [str(run / "Miller.dcm")]}, run / "metrics.json")
    write_json(steps, run / "steps.json")


@pytest.fixture(scope="module")
def run(xrays: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    "What a finished run leaves, of untrained networks; not to be changed"
    pytest.importorskip("ultralytics")
    folder = tmp_path_factory.mktemp("served") / "run"
    _save_models(folder / "models")
    _describe(folder)
    index = pd.DataFrame({"file": [path.name for path in xrays]})
    (folder / "cache").mkdir()
    for path in xrays:
        (folder / "cache" / path.name).write_bytes(path.read_bytes())
    written = exporting._export_all(SimpleNamespace(folder=folder, index=index, profile=TINY), list(NETWORKS))
    assert written == ["onnx.json", *(f"models/{name}/model.onnx" for name in NETWORKS)]
    return folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    "The same run, to be changed"
    import shutil

    return Path(shutil.copytree(run, tmp_path / "copied"))


def _told(run: Path, xrays: list[Path], monkeypatch, torch: bool = False) -> inference._Told:
    "What all networks of a run say, by one of the two ways"
    seen: list[inference._Told] = []
    way = "_through_torch" if torch else "_served"
    other = "_served" if torch else "_through_torch"
    with monkeypatch.context() as patch, tempfile.TemporaryDirectory() as place:
        real = getattr(inference, way)
        patch.setattr(inference, way, lambda *given: seen.append(real(*given)) or seen[0])
        patch.setattr(inference, other, lambda *given: pytest.fail(f"{other} was asked"))
        if torch:

            def unserved(*given: object) -> None:
                raise serving.NotServed("no", expected=True)

            patch.setattr(inference, "open_networks", unserved)
        predict(run, xrays, Path(place) / "s.csv")
    return seen[0]


def _agree(one: inference._Told, other: inference._Told, least: float = 1e-4) -> None:
    assert list(one.answers) == list(other.answers) and one.failed == other.failed
    for name, table in one.answers.items():
        again, columns = other.answers[name], [column for column in table if column != "image_id"]
        assert table["image_id"].tolist() == again["image_id"].tolist() and len(table), name
        apart = np.abs(table[columns].to_numpy(float) - again[columns].to_numpy(float))
        apart[:, [column in BOX_COLUMNS for column in columns]] /= 80  # corners as shares of the picture
        assert apart.max() <= least, name


def test_onnxruntime_says_what_pytorch_says_of_every_form_of_network(run, xrays, tmp_path, monkeypatch):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    served = _told(run, [*xrays, broken], monkeypatch)
    assert list(served.answers) == list(NETWORKS) and len(served.failed) == 1
    for name, table in served.answers.items():
        assert np.ptp(table.drop(columns="image_id").to_numpy(float), axis=0).max() > 1e-3, (
            f"{name} says one thing of all"
        )
    _agree(served, _told(run, [*xrays, broken], monkeypatch, torch=True))
    _agree(_told(run, xrays[1:2], monkeypatch), _told(run, xrays[1:2], monkeypatch, torch=True))


def test_beside_a_gpu_pytorch_answers_though_there_are_onnx_files(run, xrays, tmp_path, monkeypatch):
    predict(run, xrays, tmp_path / "served.csv")
    counted: list[tuple[list[str], int]] = []
    monkeypatch.setattr(inference, "gpu_answers", lambda files, names, xrays: counted.append((list(names), xrays)) or 1)
    monkeypatch.setattr(inference, "_open", lambda *given: pytest.fail("onnxruntime was opened"))
    predict(run, xrays, tmp_path / "torch.csv")
    assert counted == [(list(NETWORKS), len(xrays))]
    one, other = (read_submission(tmp_path / f"{name}.csv") for name in ("served", "torch"))
    assert np.abs(one["confidence"].to_numpy() - other["confidence"].to_numpy()).max() < 1e-4


def test_both_views_count(run, xrays, tmp_path, monkeypatch):
    "A mirrored X-ray has the same classes, and its boxes lie on the other side"
    mirrored = tmp_path / "x.png"
    opencv().imwrite(str(mirrored), opencv().imread(str(xrays[2]), 0)[:, ::-1])
    here, there = _told(run, [xrays[2]], monkeypatch).answers, _told(run, [mirrored], monkeypatch).answers
    for name in NETWORKS[:2]:
        assert np.allclose(here[name][list(APPEARANCES)], there[name][list(APPEARANCES)], atol=1e-5)
    for name in NETWORKS[2:]:
        best, again = (answers[name].iloc[0] for answers in (here, there))
        assert abs(best["confidence"] - again["confidence"]) < 1e-5
        # without doubles one of two views that are equally sure stays
        assert min(abs(again["x_min"] - best["x_min"]), abs(again["x_min"] - (80 - best["x_max"]))) < 0.01


@pytest.mark.parametrize("confidence", [0.01, 0.3])
def test_doubles_are_removed_as_torchvision_and_ultralytics_do_it(confidence):
    torch = pytest.importorskip("torch")
    ultralytics = pytest.importorskip("ultralytics")
    from covidxr.learning import fcos_detector, yolo_detector

    assert ultralytics
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 120, (3, 1500, 2))
    corners = np.concatenate([low, low + rng.uniform(-2, 40, low.shape)], 2)
    sure = rng.choice([0.01, 0.2, 0.3, 0.31, 0.6, 0.9], (3, 1500, 1))  # many are equal, and some are the limit itself
    views = [np.concatenate([corners, sure], 2).astype(np.float32)[:, part] for part in (slice(700), slice(700, None))]
    asked = {"confidence": confidence, "iou": 0.5}
    given = [torch.from_numpy(views[0]), torch.from_numpy(views[1])]
    network = SimpleNamespace(propose=lambda batch: given[int(batch[0, 0, 0, 0] > 0)].clone())
    batch = torch.zeros(3, 1, 160, 160)
    batch[..., 159] = 1  # mirrored, its first pixel is bright
    (wanted,) = fcos_detector._search(network, batch, (True,), max_boxes=2000, **asked)
    found = fcos_boxes(views, 160, confidence, 0.5, 2000)
    for one, other in zip(wanted, found, strict=True):
        assert np.array_equal(one.numpy(), other) and 20 < len(other)
    yolo = [np.concatenate([view[..., :2], np.abs(view[..., 2:4] - view[..., :2]), view[..., 4:]], 2) for view in views]
    yolo = [np.ascontiguousarray(view.transpose(0, 2, 1)) for view in yolo]
    tensors = [torch.from_numpy(view) for view in yolo]
    (wanted,) = yolo_detector._search(
        lambda x: [tensors[int(x[0, 0, 0, 0] > 0)]], batch, (True,), max_boxes=2000, **asked
    )
    for one, other in zip(wanted, yolo_boxes(yolo, 160, confidence, 0.5, 2000), strict=True):
        assert np.array_equal(one[:, 4].numpy(), other[:, 4]) and 20 < len(other)
        rows = [sorted(map(tuple, part[:, :5].round(3).tolist())) for part in (one.numpy(), other)]
        assert rows[0] == rows[1]


def _without_torch(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, words)], capture_output=True, text=True, timeout=300
    )


def test_predict_imports_no_framework_and_nothing_else_of_weight(run, xrays, tmp_path):
    pack_run(run, tmp_path / "model.zip")
    for number, place in enumerate((run, tmp_path / "model.zip")):
        done = _without_torch(place, tmp_path / f"{number}.csv", *xrays)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n")[:2] == ["5", "[]"]
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()
    (run_torch := tmp_path / "torch").mkdir()
    assert len(read_submission(tmp_path / "0.csv")) > 10 and not list(run_torch.iterdir())


def test_a_finished_run_predicts_the_same_without_pytorch(finished, tmp_path, monkeypatch):
    told = read_json(finished / "onnx.json")
    assert len(told["networks"]) == 4 and told["left_out"] == {} and told["note"] == "" and told["checked_on"] == 62
    assert all(one["difference"] <= 1e-4 for one in told["networks"].values())
    assert sum("AGPL-3.0" in one["licence"] for one in told["networks"].values()) == 2
    assert "4 of them also lie beside their weights as ONNX files" in (finished / "report.html").read_text()
    files = sorted((finished / "data" / "test").rglob("*.dcm"))
    _agree(_told(finished, files, monkeypatch), _told(finished, files, monkeypatch, torch=True))
    done = _without_torch(finished, tmp_path / "s.csv", *files)
    assert done.returncode == 0 and done.stdout.split("\n")[1] == "[]", done.stderr
    assert main(["pack", str(finished), "-o", str(tmp_path / "m.zip")]) == 0
    assert _without_torch(tmp_path / "m.zip", tmp_path / "z.csv", *files).returncode == 0
    assert (tmp_path / "z.csv").read_bytes() == (tmp_path / "s.csv").read_bytes()


def _exchange(copied: Path) -> None:
    (copied / "models" / NETWORKS[0] / "model.onnx").write_bytes(
        (copied / "models" / NETWORKS[1] / "model.onnx").read_bytes()
    )


def _cut(copied: Path) -> None:
    file = copied / "models" / NETWORKS[2] / "model.onnx"
    file.write_bytes(file.read_bytes()[:-100])


def _version(copied: Path) -> None:
    write_json(read_json(copied / "onnx.json") | {"format": 99}, copied / "onnx.json")


def _other_weights(copied: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    file = copied / "models" / NETWORKS[0] / "model.safetensors"
    tensors = load_file(str(file))
    save_file({name: one + 0.01 if one.dtype == torch.float32 else one for name, one in tensors.items()}, str(file))


def _gone(copied: Path) -> None:
    (copied / "models" / NETWORKS[3] / "model.onnx").unlink()


def _not_a_network(copied: Path) -> None:
    "Even where somebody mends the hashes"
    file, told = copied / "models" / NETWORKS[0] / "model.onnx", read_json(copied / "onnx.json")
    file.write_bytes(b"\x08\x0a not a network")
    told["networks"][NETWORKS[0]]["sha256"] = serving.hashlib.sha256(file.read_bytes()).hexdigest()
    write_json(told, copied / "onnx.json")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_exchange, "is damaged, or not the run's own; run it again"),
        (_cut, "is damaged, or not the run's own; run it again"),
        (_version, "is of another version of covidxr"),
        (_other_weights, "is not what model.onnx was made of"),
        (_gone, "model.onnx: is missing"),
        (_not_a_network, "its ONNX files cannot be opened"),
        (lambda copied: (copied / "onnx.json").write_text("{"), "not a JSON file"),
        (
            lambda copied: (copied / "onnx.json").write_text('{"format": 1, "networks": {"plain-64-1": 3}}'),
            "onnx.json: is not",
        ),
    ],
)
def test_what_is_not_the_runs_own_is_told_in_one_line_and_pytorch_answers(spoil, said, copied, xrays, tmp_path, capfd):
    spoil(copied)
    predict(copied, xrays[:2], tmp_path / "s.csv")
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "PyTorch answers this time" in line]
    assert said in line
    done = _without_torch(copied, tmp_path / "t.csv", xrays[0])
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and said in last and "pip install 'covidxr[train]'" in last
    assert not (tmp_path / "t.csv").exists()


def test_without_onnxruntime_pytorch_answers_without_a_word(run, xrays, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    predict(run, xrays[:1], tmp_path / "s.csv")
    assert "PyTorch" not in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'covidxr\[serve\]'.*pip install 'covidxr\[train\]'"):
        predict(run, xrays[:1], tmp_path / "t.csv")


def test_choices_that_take_a_detector_for_a_classifier_are_refused(copied, xrays, tmp_path):
    (choice,) = read_json(copied / "choices.json")
    write_json([choice | {"class_weights": {"fcos-64": 1.0}, "box_weights": {"yolo-64": 1.0}}], copied / "choices.json")
    with pytest.raises(ModelError, match="takes fcos-64-1 for what it is not"):
        predict(copied, xrays[:1], tmp_path / "s.csv")


def test_a_run_that_was_begun_again_and_stopped_answers_nothing(copied, xrays, tmp_path):
    "Its networks may be newer than what it chose"
    pack_run(copied, tmp_path / "m.zip")
    first = predict(copied, xrays[:1], tmp_path / "s.csv")
    steps = read_json(copied / "steps.json")
    for stopped in (steps | {"train": {"files": {}, "key": "new"}}, {"train": {"files": {}}}):
        write_json(stopped, copied / "steps.json")
        for ask in (
            lambda: predict(copied, xrays[:1], tmp_path / "s.csv", extents=tmp_path / "e.csv"),
            lambda: pack_run(copied, tmp_path / "m.zip"),
        ):
            with pytest.raises(
                DataError, match=r"copied: this run was begun again and is not finished; give the folder of a run"
            ):
                ask()
        assert "begun again" in inference._predict_part((str(copied), [], False))  # on a machine of a cluster
    assert predict(tmp_path / "m.zip", xrays[:1], tmp_path / "s.csv") == first, "packed while it was finished"
    (copied / "metrics.json").unlink()
    with pytest.raises(DataError, match="copied: not a finished run"):
        predict(copied, xrays[:1], tmp_path / "s.csv")


def _changed(folder: Path, name: str, change: dict) -> None:
    "Change some of what a JSON file of a run says, as by hand; None takes it away"
    known = read_json(folder / name)
    part = known[0] if isinstance(known, list) else known
    part |= {key: value for key, value in change.items() if value is not None}
    for key in [key for key, value in change.items() if value is None]:
        del part[key]
    (folder / name).write_text(json.dumps(known))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"none_exponent": None}, "none_exponent must be a number"),
        ({"none_exponent": float("nan")}, "none_exponent must be a number"),
        ({"none_exponent": 2}, "none_exponent must be a number"),
        ({"none_exponent": True}, "none_exponent must be a number"),
        ({"shares": -1}, "shares must be numbers"),
        ({"shares": {}}, "shares must be numbers"),
        ({"shares": dict.fromkeys(APPEARANCES, "0.5")}, "shares must be numbers"),
        ({"shares": dict.fromkeys(APPEARANCES, 2)}, "shares must be numbers"),
        ({"shares": dict.fromkeys(APPEARANCES[1:], 0.5)}, "name other classes than plain-64-1 knows"),
        ({"shares": dict.fromkeys([*APPEARANCES, "x"], 0.5)}, "name other classes than plain-64-1 knows"),
        ({"box_weights": []}, "box_weights names no models"),
        ({"box_weights": {}}, "box_weights names no models"),
        ({"class_weights": None}, "class_weights names no models"),
        ({"class_weights": {"../plain-64": 1.0}}, "class_weights names no models"),
        ({"class_weights": {"plain-64": -1}}, "class_weights must be numbers"),
        ({"class_weights": {"plain-64": 0}}, "class_weights must be numbers"),
        ({"class_weights": {"plain-64": "1"}}, "class_weights must be numbers"),
        ({"class_weights": {"plain-64": 1e308}}, "class_weights must be numbers"),
        ({"class_weights": {"absent": 1.0}}, "absent-1.config.json: no such file"),
        ({"revise": "x"}, "revise must be true or false"),
        ({"revise": 1}, "revise must be true or false"),
    ],
)
def test_choices_that_no_run_has_written_are_refused_in_a_sentence(copied, xrays, tmp_path, change, said):
    _changed(copied, "choices.json", change)
    for ask in (lambda: predict(copied, xrays[:1], tmp_path / "s.csv"), lambda: pack_run(copied, tmp_path / "m.zip")):
        with pytest.raises(DataError, match=said):
            ask()
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize("text", ["5", "[]", "[5]", '{"a": 1}', "null"])
def test_choices_that_are_no_rounds_are_refused_in_a_sentence(copied, xrays, tmp_path, text):
    (copied / "choices.json").write_text(text)
    with pytest.raises(DataError, match="choices.json: (holds no rounds|round 1: is not as a run writes it)"):
        predict(copied, xrays[:1], tmp_path / "s.csv")


@pytest.mark.parametrize("size", [None, "80", 80.5, True, 0, 10**30])
def test_a_size_that_no_run_has_written_is_refused_in_a_sentence(copied, xrays, tmp_path, size):
    _changed(copied, "config.json", {"profile": {"cache_size": size}})
    with pytest.raises(DataError, match="config.json: cache_size is not as a run writes it"):
        predict(copied, xrays[:1], tmp_path / "s.csv")


@pytest.mark.parametrize("torch", [False, True])
@pytest.mark.parametrize("change", [{"classes": [[1], "a"]}, {"classes": "ab"}, {"kind": ["x"]}, {"size": "64"}])
def test_a_networks_description_is_looked_at_on_either_way(copied, xrays, tmp_path, change, torch):
    _changed(copied, "models/plain-64-1/config.json", change)
    if torch:
        (copied / "onnx.json").unlink()
    with pytest.raises(ModelError, match=r"plain-64-1.config.json: is not a model's description"):
        predict(copied, xrays[:1], tmp_path / "s.csv")


def test_threads_share_one_session_for_each_network(run, xrays, tmp_path, monkeypatch):
    made, real = [], onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *given, **how: made.append(1) or real(*given, **how))
    serving._SESSIONS.clear()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: predict(run, xrays, tmp_path / f"{number}.csv"), range(6)))
    assert len(made) == len(NETWORKS)
    assert len({(tmp_path / f"{number}.csv").read_bytes() for number in range(6)}) == 1


@pytest.mark.parametrize("torch", [False, True])
def test_an_xray_that_lies_or_is_mirrored_is_read_upright_and_its_boxes_lie_as_it_is_stored(
    torch, run, tmp_path, monkeypatch
):
    pixels = np.round(simulate(70, "typical", 120, strength=1.2).pixels[10:90, 10:90] * 4095).astype(np.uint16)
    assert pixels.shape == (80, 80)  # with its margins alike on all sides, so that nothing is rounded
    paths = []
    for orientation in TURNS:
        paths.append(tmp_path / f"{orientation.replace(chr(92), '')}.dcm")
        stored, name = np.ascontiguousarray(stored_so(pixels, orientation)), paths[-1].stem
        facts = XrayFacts(name, name, name, name, bits_stored=12, orientation=orientation)
        write_dicom(paths[-1], stored, facts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it was turned
            shown = read_xray(paths[-1]).pixels
        assert np.array_equal(shown, read_xray(paths[0]).pixels)
    told = _told(run, paths, monkeypatch, torch)
    for name, table in told.answers.items():
        table = from_cache(table, told.index) if "x_min" in table else table
        usual = table[table["image_id"] == "LF"].drop(columns="image_id").to_numpy(float)
        assert len(usual)
        for orientation in TURNS[1:]:
            mine = table[table["image_id"] == orientation.replace("\\", "")].drop(columns="image_id").to_numpy(float)
            if "x_min" not in table:
                assert np.abs(mine - usual).max() < 1e-6, (name, orientation)
                continue
            assert np.abs(mine[:, 4] - usual[:, 4]).max() < 1e-6
            for one, other in zip(usual, mine, strict=True):  # the same patch of the picture, by marking it
                canvas = np.zeros((80, 80))
                left, top, right, bottom = np.clip(np.round(one[:4]), 0, 80).astype(int)
                canvas[top:bottom, left:right] = 1
                x_min, y_min, x_max, y_max = np.clip(np.round(other[:4]), 0, 80).astype(int)
                again = np.zeros((80, 80))
                again[y_min:y_max, x_min:x_max] = 1
                apart = np.abs(stored_so(canvas, orientation) - again).sum()
                assert apart <= 2 * 80 * 1.0, (name, orientation)  # halves may round either way: a row and a column


def test_a_strip_has_no_extent(run, xrays, tmp_path, monkeypatch):
    thin = tmp_path / "thin.png"
    opencv().imwrite(str(thin), np.random.default_rng(0).integers(0, 255, (214, 3)).astype(np.uint8))
    for way in ("served", "torch"):
        if way == "torch":
            monkeypatch.setattr(inference, "_open", lambda files, names: None)
        predict(run, [thin, xrays[0]], tmp_path / "a.csv", extents=tmp_path / f"{way}.csv")
        told = pd.read_csv(tmp_path / f"{way}.csv").set_index("image_id")["extent"]
        assert np.isnan(told["thin"]) and told.notna().sum() == 1


def test_what_has_no_grade_has_none_by_either_command(run, xrays, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    grey = {
        "black": np.zeros((64, 64), np.uint8),
        "speck": np.pad(np.ones((1, 1), np.uint8), ((20, 43), (30, 33))),
        "steps": (30_000 + rng.integers(0, 40, (64, 64))).astype(np.uint16),
        "oblong": np.full((60, 200), 128, np.uint8),  # in its square it has two levels
        "tall": np.full((200, 60), 128, np.uint8),
    }
    for name, pixels in grey.items():
        opencv().imwrite(str(tmp_path / f"{name}.png"), pixels)
    given = [xrays[0], *(tmp_path / f"{name}.png" for name in grey)]
    table, failed = read_severities(given, workers=1)
    assert len(table) == 1 and len(failed) == len(grey)
    for way in ("served", "torch"):
        if way == "torch":
            monkeypatch.setattr(inference, "_open", lambda files, names: None)
        predict(run, given, tmp_path / "a.csv", extents=tmp_path / f"{way}.csv")
        told = pd.read_csv(tmp_path / f"{way}.csv").set_index("image_id")["extent"]
        assert told[list(grey)].isna().all() and told.notna().sum() == 1


def _header_only(folder: Path) -> dict[str, str]:
    "One chest with several headers: file to what is said against it"
    facts = {
        "hand": {"body_part": "HAND"},
        "side": {"view": "LL"},
        "thorax": {"body_part": "THORAX"},
        "odd": {"body_part": "QX"},
    }
    pixels = (simulate(3, size=96).pixels * 4095).astype(np.uint16)
    for name, said in facts.items():
        write_dicom(folder / f"{name}.dcm", pixels, XrayFacts(name, name, **said))
    scan = pydicom.dcmread(folder / "odd.dcm")
    scan.Modality = "CT"
    scan.save_as(folder / "scan.dcm")
    return {"hand": "the body part HAND, not a chest", "scan": "of the kind CT", "side": "the view is LL"}


def test_what_its_header_calls_no_frontal_chest_is_told_by_every_command(run, tmp_path, monkeypatch, capsys):
    told = _header_only(tmp_path)
    table, failed = read_severities(tmp_path, workers=1)
    assert table["image_id"].tolist() == ["odd", "thorax"] and len(failed) == 3
    for (name, said), line in zip(told.items(), failed, strict=True):
        assert f"{name}.dcm: this is no frontal chest X-ray: its header says that" in line and said in line
        assert said in answer_file(tmp_path / f"{name}.dcm").reasons[0]
        with pytest.raises(DataError, match=said):
            interpret(read_xray(tmp_path / f"{name}.dcm"))
    for way in ("served", "torch"):
        if way == "torch":
            monkeypatch.setattr(inference, "_open", lambda files, names: None)
        out = tmp_path / f"{way}.csv"
        assert main(["predict", str(run), str(tmp_path), "--out", str(out), "--extents", f"{out}.x.csv"]) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("answered, but doubtful")]
        assert len(lines) == 3 and "(1 of 3): " in lines[0]
        assert all(f"{name}.dcm: its header says that" in line for name, line in zip(told, lines, strict=True))
        assert len(pd.read_csv(out)) == 10, "no row is lost"
        graded = pd.read_csv(f"{out}.x.csv").set_index("image_id")["extent"].notna()
        assert graded.to_dict() == {"hand": False, "odd": True, "scan": False, "side": False, "thorax": True}


def test_a_negative_is_answered_and_told_as_doubtful_by_every_command(run, tmp_path, monkeypatch, capsys):
    "The page alone had refused it; of real chests 2 % lie below the border, too many to lose their grade"
    chest = (simulate(5, "typical", size=160).pixels * 255).astype(np.uint8)
    Image.fromarray(chest).save(tmp_path / "chest.png")
    Image.fromarray(255 - chest).save(tmp_path / "negative.png")
    table, failed = read_severities(tmp_path, workers=1)
    assert failed == [] and table["extent"].notna().all()
    assert table.set_index("image_id")["doubt"].str.contains("shown as a negative").to_dict() == {
        "chest": False,
        "negative": True,
    }
    assert answer_file(tmp_path / "negative.png").reasons[0] in table["doubt"].tolist()
    assert main(["severity", str(tmp_path), "--workers", "1"]) == 0
    assert capsys.readouterr().out.count("doubtful: It does not look like an upright frontal chest") == 1
    for way in ("served", "torch"):
        if way == "torch":
            monkeypatch.setattr(inference, "_open", lambda files, names: None)
        told = predict(run, tmp_path, tmp_path / f"{way}.csv")["doubtful"]
        assert len(told) == 1 and told[0].startswith(f"{tmp_path / 'negative.png'}: It does not look like")


@pytest.mark.parametrize("torch", [False, True])
def test_a_png_in_the_working_folder_is_predicted_as_anywhere_else(run, xrays, tmp_path, monkeypatch, torch):
    "Its small copy, which nobody writes, was said to take its place"
    given = [tmp_path / path.name for path in xrays]
    for path, xray in zip(given, xrays, strict=True):
        shutil.copy(xray, path)
    if torch:
        monkeypatch.setattr(inference, "_open", lambda files, names: None)
    predict(run, given, tmp_path / "elsewhere.csv")
    monkeypatch.chdir(tmp_path)
    for number, names in enumerate(([path.name for path in given], given, ".")):
        told = predict(run, names, f"{number}.csv")
        assert told["failed"] == [] and told["images"] == len(given)
        assert (tmp_path / f"{number}.csv").read_bytes() == (tmp_path / "elsewhere.csv").read_bytes()
    assert predict(run, given[0].name, "one.csv")["images"] == 1
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(path.name for path in given)


def test_extents_are_those_of_the_other_way(run, xrays, tmp_path, monkeypatch):
    predict(run, xrays, tmp_path / "a.csv", extents=tmp_path / "served.csv")
    monkeypatch.setattr(inference, "_open", lambda files, names: None)
    predict(run, xrays, tmp_path / "b.csv", extents=tmp_path / "torch.csv")
    assert (tmp_path / "served.csv").read_bytes() == (tmp_path / "torch.csv").read_bytes()
    assert pd.read_csv(tmp_path / "served.csv")["extent"].notna().sum() == 5


@pytest.fixture(scope="module")
def many(xrays: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    "Forty files, some of one name, and two that are no picture"
    folder = tmp_path_factory.mktemp("many")
    for number in range(40):
        path = folder / (f"{number:02}.png" if number % 8 else f"patient{number}/IM0001.png")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(xrays[number % 5].read_bytes())
    for name in ("a_broken.png", "x_broken.png"):
        (folder / name).write_bytes(b"no picture")
    return sorted(folder.rglob("*.png"), key=lambda path: path.name)


def test_a_cluster_predicts_the_very_same_also_where_files_of_one_name_lie_in_different_parts(
    run, many, cluster, tmp_path, monkeypatch
):
    monkeypatch.chdir(run.parent)  # workers have another working folder
    monkeypatch.setattr(inference, "_PART", inference.BATCH)  # three parts
    assert len({path.name for path in many}) < len({path.name for path in many[:16]}) + len(many) - 16
    here = predict(run.name, many, tmp_path / "here.csv", extents=tmp_path / "here_extents.csv")
    there = predict(run.name, many, tmp_path / "there.csv", extents=tmp_path / "there_extents.csv", scheduler=cluster)
    assert there == here and here["images"] == 40 and len(here["failed"]) == 2
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert (tmp_path / "there_extents.csv").read_bytes() == (tmp_path / "here_extents.csv").read_bytes()


@pytest.mark.parametrize("torch", [False, True])
def test_a_folders_xrays_are_called_as_prepare_calls_them(run, xrays, tmp_path, monkeypatch, torch):
    for name in ("images/p1/IM1.png", "images/p2/IM1.png", "images/b.png"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(xrays[len(name) % 5].read_bytes())
    if torch:
        monkeypatch.setattr(inference, "_open", lambda files, names: None)
    names = prepare(tmp_path / "data", tmp_path / "cache", size=16, workers=1)["image_id"].tolist()
    predict(run, tmp_path / "data", tmp_path / "s.csv", extents=tmp_path / "x.csv")
    told = pd.read_csv(tmp_path / "x.csv")
    assert (
        told["image_id"].tolist() == names == ["b", "images-p1-IM1", "images-p2-IM1"] and told.notna().to_numpy().all()
    )
    ids = [f"{name}_{kind}" for kind in ("study", "image") for name in names]
    assert pd.read_csv(tmp_path / "s.csv")["id"].tolist() == ids


def test_answers_of_a_part_get_the_ids_of_the_whole():
    rows = [{"image_id": f"{place}-1", "path": f"/data/{place}/1.png"} for place in "cd"]
    index, boxes = pd.DataFrame({"image_id": ["d-1", "c-1"]}), pd.DataFrame({"image_id": ["c-1", "c-1"]})
    told = inference._renamed(inference._Told(index, [], {"yolo": boxes}, {"d-1": [1, 2, 3]}), rows)
    assert told.index["image_id"].tolist() == ["d-1", "c-1"] and told.graded == {"d-1": [1, 2, 3]}
    alone = inference._Told(pd.DataFrame({"image_id": ["1"]}), [], {}, {"1": [0, 0, 0]})
    told = inference._renamed(alone, rows[:1])  # alone, a file needs no folder before its name
    assert told.index["image_id"].tolist() == ["c-1"] and list(told.graded) == ["c-1"]


def test_a_file_that_no_machine_can_predict_is_told_of_and_costs_no_other(run, many, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "_PART", 20)
    monkeypatch.setattr(inference, "_predict_part", _fragile)
    told = predict(run, many, tmp_path / "s.csv", scheduler=cluster)
    bad = [path for path in many if path.name in ("33.png", "x_broken.png", "a_broken.png")]
    assert told["images"] == 39 and len(told["failed"]) == 3
    assert {Path(line.partition(":")[0]) for line in told["failed"]} == {path.absolute() for path in bad}
    assert sum("RuntimeError on the cluster: no disk" in line for line in told["failed"]) == 1


def _fragile(part: tuple) -> inference._Told:
    "Cannot stand a file"
    if any(row["path"].endswith("33.png") for row in part[1]):
        raise RuntimeError("no disk")
    return _REAL(part)


_REAL = inference._predict_part


def test_a_machine_that_does_not_see_the_run_ends_the_call_and_calls_no_file_unreadable(
    run, many, cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(inference, "_predict_part", _elsewhere)
    with pytest.raises(DataError, match="no such file or folder.*all machines of a cluster must see the run"):
        predict(run, many, tmp_path / "s.csv", scheduler=cluster)
    assert not (tmp_path / "s.csv").exists()


def _elsewhere(part: tuple) -> inference._Told:
    "As on a machine where the folder is not mounted"
    return _REAL(("/not/mounted", *part[1:]))


def test_grades_are_the_same_in_one_process_in_two_and_on_a_cluster(many, cluster, monkeypatch):
    alone, failed = read_severities(many, workers=1)
    assert len(alone) == 40 and len(failed) == 2 and "a_broken.png" in failed[0]
    for how in ({"workers": 2}, {"scheduler": cluster}):
        table, same = read_severities(many, **how)
        pd.testing.assert_frame_equal(table, alone)
        assert same == failed
    monkeypatch.chdir(many[0].parent)
    some = [path.name for path in many if path.parent == many[0].parent]
    table, _ = read_severities(some, scheduler=cluster)
    assert len(table) == 35 and table["path"].map(os.path.isabs).all()
    with pytest.raises(DataError, match="workers must be a whole number from 1"):
        read_severities(many, workers=-1)


def test_a_failed_check_or_a_missing_package_costs_no_run(copied, xrays, monkeypatch, capfd):
    this = SimpleNamespace(folder=copied, index=pd.DataFrame({"file": [path.name for path in xrays]}), profile=TINY)
    from covidxr.learning import onnx_export

    real = onnx_export._compare
    spoilt = lambda plan, *rest: (0.5, "any") if "boxes" in plan.outputs else real(plan, *rest)  # noqa: E731
    monkeypatch.setattr(onnx_export, "_compare", spoilt)
    assert exporting._export_all(this, [NETWORKS[0], NETWORKS[2]]) == ["onnx.json", f"models/{NETWORKS[0]}/model.onnx"]
    told = read_json(copied / "onnx.json")
    assert list(told["networks"]) == [NETWORKS[0]] and "differ by 0.5" in told["left_out"][NETWORKS[2]]
    assert not (copied / "models" / NETWORKS[2] / "model.onnx").exists()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert exporting._export_all(this, list(NETWORKS)) == ["onnx.json"]
    note = read_json(copied / "onnx.json")["note"]
    assert note.startswith("no ONNX files were made: onnxscript is not installed; `pip install 'covidxr[export]'`")
    assert note in capfd.readouterr().err


# ---------------------------------------------------------------- one file


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("packed") / "model.zip"
    pack_run(run, file)
    return file


def test_a_pack_holds_a_card_and_no_path_and_is_the_same_each_time(run, packed, tmp_path):
    told = pack_run(run, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    assert (told["networks"], told["onnx"], told["bytes"]) == (4, 4, packed.stat().st_size)
    with zipfile.ZipFile(packed) as archive:
        texts = {name: archive.read(name) for name in archive.namelist() if name.endswith((".json", ".md"))}
    assert {"pack.json", "README.md", "choices.json", "config.json", "onnx.json", "calibration.json"} <= set(texts)
    assert not any(str(run).encode() in text or b"Miller" in text for text in texts.values())
    card = texts["README.md"].decode()
    for part in ("nothing here is for clinical use", "simulated X-rays", "0.250 (0.200 to 0.300)", "AGPL-3.0"):
        assert part in card


def test_a_packed_run_answers_through_pytorch_too_and_leaves_nothing(run, packed, xrays, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    predict(run, xrays, tmp_path / "folder.csv")
    monkeypatch.setattr(inference, "_open", lambda files, names: None)
    predict(packed, xrays, tmp_path / "zip.csv")
    one, other = (read_submission(tmp_path / f"{name}.csv") for name in ("folder", "zip"))
    assert np.abs(one["confidence"].to_numpy() - other["confidence"].to_numpy()).max() < 1e-4
    assert not list((tmp_path / "temporary").iterdir()) and not list((tmp_path / "here").iterdir())


def test_an_unfinished_or_changed_run_is_not_packed(copied, tmp_path):
    out = tmp_path / "m.zip"
    for name, text in (("steps.json", '{"train": {}}'), ("steps.json", None), ("choices.json", None)):
        kept = (copied / name).read_bytes()
        (copied / name).write_text(text) if text else (copied / name).unlink()
        with pytest.raises(DataError, match=r"not (a )?finished"):
            pack_run(copied, out)
        (copied / name).write_bytes(kept)
    steps = {"fuse": {"files": {"choices.json": "0" * 32}}, "report": {"files": {}}}
    write_json(steps, copied / "steps.json")
    write_json(read_json(copied / "metrics.json") | {"steps": steps}, copied / "metrics.json")
    with pytest.raises(DataError, match="choices.json: is not as the run wrote it"):
        pack_run(copied, out)
    assert not out.exists()


def test_a_card_tells_what_was_measured_and_odd_files_are_told(copied, tmp_path):
    out, metrics = tmp_path / "m.zip", read_json(copied / "metrics.json")
    write_json({"scores": metrics["scores"], "opacity_auc": metrics["opacity_auc"]}, copied / "scores.json")
    pack_run(copied, tmp_path / "good.zip")
    write_json(metrics | {"scores": {"ensemble": {"map": 0.999}}}, copied / "metrics.json")
    with pytest.raises(DataError, match=r"metrics\.json: does not tell what the run measured"):
        pack_run(copied, out)
    (copied / "scores.json").unlink()
    odd = [("metrics.json", "[1]"), ("metrics.json", json.dumps({"steps": metrics["steps"]})), ("onnx.json", "[1]")]
    odd += [
        ("choices.json", '[{"class_weights": [5], "box_weights": {}, "shares": 1}]'),
        ("steps.json", '{"report": 5}'),
    ]
    odd += [("config.json", '{"profile": {"cache_size": 1e999}}')]
    for name, text in odd:
        kept = (copied / name).read_bytes()
        (copied / name).write_text(text)
        with pytest.raises(DataError):
            pack_run(copied, out)
        (copied / name).write_bytes(kept)
    assert not out.exists()


@pytest.mark.parametrize("text", ["[]", '{"x": 5}', '{"prepare": {"files": 5, "key": "k"}}'])
def test_steps_that_nobody_could_have_done_are_done_again(text, tmp_path):
    from covidxr.runs.run import Steps

    (tmp_path / "steps.json").write_text(text)
    done = []
    Steps(tmp_path)("prepare", lambda: done.append(1), "k")
    assert done == [1] and read_json(tmp_path / "steps.json")["prepare"]["key"] == "k"


def test_pack_writes_over_its_own_file_only(run, packed, tmp_path, capfd):
    out = tmp_path / "m.zip"
    out.write_bytes(b"mine")
    assert main(["pack", str(run), "--out", str(out)]) == 2
    assert out.read_bytes() == b"mine" and "covidxr did not write it" in capfd.readouterr().err
    out.unlink()
    assert main(["pack", str(run), "-o", str(out)]) == 0 and main(["pack", str(run), "-o", str(out)]) == 0
    assert "4 networks, 4 of them as ONNX files" in capfd.readouterr().out
    assert out.read_bytes() == packed.read_bytes()


def _rewritten(packed: Path, out: Path, change) -> Path:
    "The packed run with other members: change(members) takes and gives (ZipInfo, bytes) pairs"
    with zipfile.ZipFile(packed) as archive:
        members = [(one, archive.read(one)) for one in archive.infolist()]
    with pytest.MonkeyPatch.context() as patch, zipfile.ZipFile(out, "w") as archive:
        patch.setattr(zipfile.warnings, "warn", lambda *given, **how: None) if hasattr(zipfile, "warnings") else None
        for one, data in change(members):
            archive.writestr(one, data)
    return out


def _new(
    name: str, data: bytes = b"{}", mode: int = stat.S_IFREG | 0o644, kind: int = 0
) -> tuple[zipfile.ZipInfo, bytes]:
    one = zipfile.ZipInfo(name)
    one.external_attr, one.compress_type = mode << 16, kind
    return one, data


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda members: [*members, _new("../outside")], "'../outside' would lie outside"),
        (lambda members: [*members, _new("/etc/outside")], "'/etc/outside' would lie outside"),
        (lambda members: [*members, _new("models/../../outside")], "would lie outside"),
        (lambda members: [*members, _new("..\\outside")], "would lie outside"),
        (lambda members: [*members, _new("C:outside")], "would lie outside"),
        (lambda members: [*members, _new("models/evil.pkl")], "'models/evil.pkl' is nothing that a packed run has"),
        (lambda members: [*members, _new("run.py")], "'run.py' is nothing that a packed run has"),
        (lambda members: [*members, _new("models/", b"")], "'models/' is nothing that a packed run has"),
        (lambda members: [*members, _new("models/a/model.onnx", b"/etc/passwd", stat.S_IFLNK | 0o777)], "is a link"),
        (lambda members: [*members, members[1]], "'README.md' is there twice"),
        (lambda members: members[1:], "it has no pack.json"),
        (lambda members: members[:-1], "does not hold the files that its pack.json names"),
        (lambda members: [*members, _new("models/a/model.onnx", b"x")], "does not hold the files that its pack.json"),
        (lambda members: [*members, _new("models/a/model.onnx", bytes(2**24), kind=8)], "is packed more than 100 times"),
        (lambda members: [*members, _new("calibration.json", bytes(2**24 + 1), kind=8)], "is there twice"),
        (lambda members: [_new("README.md", bytes(2**24 + 1), kind=8)], "would take 16777217 bytes"),
        (lambda members: [*members, _new("run.json", kind=12)], "is nothing that a packed run has"),
        (lambda members: [_new("README.md", kind=12)], "is packed in a way"),
        (lambda members: [_new(f"models/a{number}/config.json") for number in range(1001)], "1001 members"),
        (lambda members: [_new("pack.json", b'{"covidxr": "data", "files": {}}')], "is no run that `covidxr pack` made"),
        (lambda members: [_new("pack.json", b'{"covidxr": "run", "files": {}, "format": 7}')], "another version"),
        (lambda members: [_new("pack.json", b"[" * 100_000)], "its pack.json is no JSON"),
        (lambda members: [(one, data.replace(b"0.5", b"0.7") if one.filename == "choices.json" else data) for one, data in members],
         "its choices.json is not what was packed"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_packed_run_is_refused_in_one_sentence(change, said, packed, xrays, tmp_path, monkeypatch):
    (tmp_path / "here" / "temporary").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "here" / "temporary"))
    file = _rewritten(packed, tmp_path / "x.zip", change)
    with pytest.raises(DataError) as told:
        predict(file, xrays[:1], tmp_path / "s.csv")
    assert said in str(told.value) and str(file) in str(told.value) and "\n" not in str(told.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["here", "temporary", "x.zip"]


def _patched(packed: Path, out: Path, find: bytes, at: int, put: bytes, last: bool = True) -> Path:
    "The file with bytes exchanged, so many after a signature"
    data = bytearray(packed.read_bytes())
    place = (data.rindex if last else data.index)(find) + at
    data[place : place + len(put)] = put
    out.write_bytes(data)
    return out


@pytest.mark.parametrize(
    ("find", "at", "put", "last", "said"),
    [
        (b"PK\1\2", 8, b"\1\0", True, "is encrypted"),  # a flag in the list of contents
        (b"PK\1\2", 24, struct.pack("<L", 2**31 + 5), True, "would take 2147483653 bytes"),
        (b"PK\1\2", 20, struct.pack("<L", 2**30), True, "its members overlap"),
        (b"PK\5\6", 10, struct.pack("<H", 5000), True, "5000 members"),
        (b"PK\5\6", 12, struct.pack("<L", 10**8), True, "members, more than any run"),
        (b"PK\5\6", 20, b"\5\0", True, "has a comment"),
        (b"PK\3\4", 0, b"XX", False, "is damaged"),  # pack.json's own head
    ],
)  # fmt: skip
def test_a_list_of_contents_that_lies_is_refused(find, at, put, last, said, packed, xrays, tmp_path):
    file = _patched(packed, tmp_path / "x.zip", find, at, put, last)
    with pytest.raises(DataError, match=said):
        predict(file, xrays[:1], tmp_path / "s.csv")


def test_a_member_that_is_larger_than_it_says_is_not_read_further(packed, xrays, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        size = archive.getinfo("choices.json").file_size
    data = bytearray(packed.read_bytes())
    place = data.rindex(b"choices.json") - 46
    assert data[place : place + 4] == b"PK\1\2"
    data[place + 24 : place + 28] = struct.pack("<L", size - 10)
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"its choices.json is (damaged|not what was packed)"):
        predict(tmp_path / "x.zip", xrays[:1], tmp_path / "s.csv")


@pytest.mark.parametrize("data", [b"", b"PK", b"no archive" * 50, b"PK\5\6" + bytes(18)])
def test_any_other_file_is_refused_too(data, xrays, tmp_path):
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(CovidxrError, match="is no run that `covidxr pack` made"):
        predict(tmp_path / "x.zip", xrays[:1], tmp_path / "s.csv")


def test_each_byte_of_a_pack_counts(packed, xrays, tmp_path):
    "A byte changed anywhere is noticed, unless it is one that nobody reads"
    data, rng = bytearray(packed.read_bytes()), np.random.default_rng(0)
    for place in rng.integers(0, len(data), 5):
        data[place] ^= 1
        (tmp_path / "x.zip").write_bytes(data)
        with packed_files.open_files(packed) as whole, pytest.raises(DataError):
            with packed_files.open_files(tmp_path / "x.zip") as files:
                assert [files.read(name) for name in files.members] == [whole.read(name) for name in whole.members]
        data[place] ^= 1
    assert json.loads(zipfile.ZipFile(packed).read("pack.json"))["format"] == packed_files.PACK_FORMAT


def test_a_box_in_the_padding_of_a_prepared_picture_is_none(tmp_path):
    place = {"height": 50, "width": 100, "scale": 0.64, "scale_y": 0.64, "left": 0, "top": 16, "size": 64}
    corners = [(10, 2, 30, 12), (10, 10, 30, 30), (10, 60, 30, 64)]  # the first and the last lie in the margins
    found = pd.DataFrame(corners, columns=BOX_COLUMNS, dtype=float)
    told = inference._Told(
        pd.DataFrame([{"image_id": "a", **place}]),
        [],
        {
            "net-1": found.assign(image_id="a", confidence=0.5),
            "sure-1": pd.DataFrame({"image_id": ["a"], "typical": [1.0]}),
        },
        {},
    )
    images = pd.DataFrame({"image_id": ["a"], "study_id": ["s"]})
    choice = {"shares": {"typical": 0.5}, "class_weights": {"sure": 1.0}, "box_weights": {"net": 1.0}}
    boxes = inference._opinions(tmp_path, told, images, 1, choice).boxes
    assert boxes[BOX_COLUMNS].round(3).to_numpy().tolist() == [[15.625, 0, 46.875, 21.875]]
