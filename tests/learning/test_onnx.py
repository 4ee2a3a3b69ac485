"Networks as ONNX files: they say what the library says, tell how to use them, and are kept only where both agree"

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import shaken

from covidxr.base import process
from covidxr.base.errors import ModelError
from covidxr.base.extras import MissingExtra, opencv
from covidxr.base.terms import APPEARANCES, BOX_COLUMNS
from covidxr.boxes.network_answers import cut_boxes
from covidxr.classify import predict_classifier
from covidxr.detect import predict_detector
from covidxr.learning import onnx_export
from covidxr.learning.classifier import save_classifier
from covidxr.learning.data import read_squares
from covidxr.learning.fcos_detector import FcosNetwork
from covidxr.learning.map_training import map_plan, predict_maps
from covidxr.learning.maps import MapNetwork
from covidxr.learning.models import save_model
from covidxr.learning.networks import build_classifier
from covidxr.learning.onnx_export import TOLERANCE, export_models, export_onnx
from covidxr.phantom import simulate

pytest.importorskip("onnxscript", reason="onnxscript is an extra: pip install 'covidxr[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is an extra: pip install 'covidxr[export]'")
HISTORY = pd.DataFrame({"epoch": [1]})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A folder of three models of another kind each"
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save_classifier(shaken(build_classifier("test_resnet", 4)), folder / "plain", "test_resnet", APPEARANCES, 64)
    plan = map_plan(["none", "opacity"], "test_resnet", 64, stride=8, networks=2, device="cpu") | {"answer": "opacity"}
    networks = torch.nn.ModuleList(shaken(MapNetwork("test_resnet", 2, 8)) for _ in range(2))
    detector = {"kind": "detector", "model": "fcos-test_resnet", "classes": ["opacity"], "size": 64}
    for name, network, config in (
        ("map", networks, plan),
        ("fcos", shaken(FcosNetwork("test_resnet", 64)), detector),
    ):
        (folder / name).mkdir()
        save_model(folder / name, network.state_dict(), config, HISTORY)
    return folder


def _is_note(path: Path) -> bool:
    "Where a file's SHA-256 is kept, by which we know it again"
    return path.name.startswith(".covidxr-file-") and path.suffix == ".json"


@pytest.fixture(scope="module")
def files(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("files") / "onnx"
    said = export_models(models, out)
    assert list(said) == ["fcos.onnx", "map.onnx", "plain.onnx"]
    assert all(float(one["difference"]) <= TOLERANCE and one["batch"] == "any" for one in said.values())
    assert sorted(path.name for path in out.iterdir() if not _is_note(path)) == list(said)
    return out


@pytest.fixture(scope="module")
def xrays(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("xrays")
    paths = [folder / f"x{seed}.png" for seed in range(5)]
    for seed, path in enumerate(paths):
        opencv().imwrite(str(path), (simulate(seed, size=96).pixels * 255).astype(np.uint8))
    return paths


def ask(file: Path, xrays: list[Path]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    "The answers of an ONNX file, and what it says of itself"
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    squares, _ = read_squares(xrays, json.loads(facts["size"]))
    names = list(json.loads(facts["outputs"]))
    images = squares[:, None].astype(np.float32) / 255
    return dict(zip(names, session.run(names, {"images": images}), strict=True)), facts


def test_a_classifier_says_what_it_says_in_the_library(models: Path, files: Path, xrays: list[Path]) -> None:
    said, facts = ask(files / "plain.onnx", xrays)
    wanted = predict_classifier(models / "plain", xrays, device="cpu")[list(APPEARANCES)].to_numpy()
    assert np.ptp(wanted, axis=0).max() > 0.01
    assert np.abs(said["probabilities"] - wanted).max() <= TOLERANCE
    assert json.loads(facts["classes"]) == list(APPEARANCES)
    assert (json.loads(facts["mean"]), json.loads(facts["std"])) == (0.5, 0.25)


def test_a_map_answers_for_two_classes_in_the_file_too(models: Path, files: Path, xrays: list[Path]) -> None:
    said, facts = ask(files / "map.onnx", xrays)
    wanted = predict_maps(models / "map", xrays, flip_tta=False, device="cpu")
    assert np.ptp(wanted.maps) > 0.01
    assert np.abs(said["map"] - wanted.maps).max() <= TOLERANCE
    assert np.abs(said["probabilities"] - wanted.table[["none", "opacity"]].to_numpy()).max() <= TOLERANCE
    assert np.abs(said["extent"] - wanted.table["map_extent"].to_numpy()).max() <= TOLERANCE * 8
    assert "middle 80 %" in json.loads(facts["mean"])


def test_the_surest_box_of_a_detector_is_the_librarys(models: Path, files: Path, xrays: list[Path]) -> None:
    said, facts = ask(files / "fcos.onnx", xrays)
    _, places = read_squares(xrays, 64)
    found = predict_detector(models / "fcos", xrays, max_boxes=1, confidence=0.0, device="cpu")
    for row, (boxes, place) in enumerate(zip(said["boxes"], places.to_numpy(), strict=True)):
        corners = (boxes[:, :4].clip(0, 64) - place[[1, 2, 1, 2]]) / place[0]
        told = pd.DataFrame(np.column_stack([corners, boxes[:, 4]]), columns=[*BOX_COLUMNS, "confidence"])
        best = cut_boxes(told, width=place[4], height=place[3]).nlargest(1, "confidence")
        wanted = found.loc[found["image_id"] == f"x{row}"].iloc[0]
        assert np.allclose(best.iloc[0], wanted[[*BOX_COLUMNS, "confidence"]].to_numpy(float), atol=1e-2)
    assert "BSD-3" in facts["licence"]


@pytest.mark.parametrize("name", ["plain", "map", "fcos"])
def test_a_file_takes_one_image_or_many_and_says_how_to_use_it(files: Path, xrays: list[Path], name: str) -> None:
    many, facts = ask(files / f"{name}.onnx", xrays)
    for row, xray in enumerate(xrays):
        one, _ = ask(files / f"{name}.onnx", [xray])
        for part in many:
            assert np.allclose(one[part][0], many[part][row], atol=1e-4, rtol=1e-4)
    assert "Apache-2.0" in facts["licence"] and "nothing here is for clinical use" in facts["use"]
    steps = json.loads(facts["preprocessing"])
    assert {"input", "colours", "fit", "then"} <= steps.keys() and facts["network"] and facts["covidxr"]


def test_a_file_that_says_something_else_is_not_kept(models: Path, tmp_path: Path, monkeypatch) -> None:
    def other(plan, file: Path, name: str) -> None:
        with torch.no_grad():
            next(plan.network.parameters()).mul_(1.5)
        write(plan, file, name)
        with torch.no_grad():
            next(plan.network.parameters()).div_(1.5)

    write = onnx_export._write
    monkeypatch.setattr(onnx_export, "_write", other)
    with pytest.raises(ModelError, match=r"differ by .* the file was not kept"):
        export_onnx(models / "plain", tmp_path / "one.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_told_in_words(models: Path, xrays: list[Path], tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ModelError, match=r"ends in \.onnx"):
        export_onnx(models / "plain", tmp_path / "one.pt")
    with pytest.raises(ModelError, match="no trained model here"):
        export_onnx(tmp_path / "nowhere", tmp_path / "one.onnx")
    with pytest.raises(ModelError, match="holds no trained models"):
        export_models(tmp_path, tmp_path / "out")
    for wrong in (5, None, ""):
        for call in (export_onnx, export_models):
            for given in ((wrong, tmp_path / "one.onnx"), (models / "plain", wrong)):
                with pytest.raises(ModelError, match="not a file's name"):
                    call(*given)
    monkeypatch.setattr(onnx_export, "_write", lambda plan, file, name: None)
    monkeypatch.setattr(onnx_export, "_describe", lambda plan, file: {})
    with pytest.raises(ModelError, match="no image was given"):
        export_onnx(models / "plain", tmp_path / "one.onnx", images=[])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pip install 'covidxr\[export\]'"):
        export_onnx(models / "plain", tmp_path / "one.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_wants_a_fixed_number_of_images_gets_it(models: Path, tmp_path: Path, monkeypatch) -> None:
    export = torch.onnx.export

    def fixed(*arguments: object, dynamic_shapes: object = None, **others: object) -> object:
        if dynamic_shapes:
            raise RuntimeError("the number of images is not free")
        return export(*arguments, dynamic_shapes=None, **others)

    monkeypatch.setattr(torch.onnx, "export", fixed)
    facts = export_onnx(models / "plain", tmp_path / "one.onnx")
    assert facts["batch"] == "1" and float(facts["difference"]) <= TOLERANCE


def test_exporting_leaves_the_callers_process_as_it_was(models: Path, tmp_path: Path, capfd) -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    export_onnx(models / "plain", tmp_path / "one.onnx")
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    assert capfd.readouterr() == ("", "")


def test_yolo_goes_by_ultralytics_own_export_and_says_its_licence(xrays: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    from covidxr.learning.yolo_detector import build_detector

    network = build_detector("yolo11n")
    (tmp_path / "yolo").mkdir()
    config = {"kind": "detector", "model": "yolo11n", "classes": ["opacity"], "size": 64}
    save_model(tmp_path / "yolo", network.state_dict(), config, HISTORY)
    said = export_onnx(tmp_path / "yolo", tmp_path / "yolo.onnx", xrays)
    assert float(said["difference"]) <= TOLERANCE and said["batch"] == "any"
    answers, facts = ask(tmp_path / "yolo.onnx", xrays)
    assert answers["output0"].shape == (5, 5, 84)
    assert "AGPL-3.0" in facts["licence"] and "AGPL-3.0" in facts["license"] and facts["author"] == "Ultralytics"
    assert sorted(path.name for path in tmp_path.iterdir() if not _is_note(path)) == ["yolo", "yolo.onnx"]


def test_a_run_with_onnx_writes_its_networks_and_asks_for_what_it_needs_first(tmp_path: Path, monkeypatch) -> None:
    from covidxr import pipeline
    from covidxr.cli import main

    done: list[tuple] = []
    monkeypatch.setattr(pipeline, "run", lambda data, out, **how: done.append(("run", out)) or {})
    monkeypatch.setattr(onnx_export, "export_models", lambda folder, out: done.append((folder, out)))
    assert main(["run", "--out", str(tmp_path), "--onnx", "--json"]) == 0
    assert done == [("run", str(tmp_path)), (tmp_path / "models", tmp_path / "onnx")]
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["run", "--out", str(tmp_path), "--onnx", "--json"]) == 2
    assert len(done) == 2


@pytest.mark.parametrize("kind", ["plain", "map", "maps", "fcos"])
def test_pytorch_keeps_memory_from_one_batch_to_the_next(models, tmp_path, monkeypatch, kind):
    files = [tmp_path / f"i{number}.png" for number in range(3)]
    for file in files:
        opencv().imwrite(str(file), np.full((64, 64), 100, np.uint8))
    ask = {"plain": predict_classifier, "map": predict_classifier, "maps": predict_maps, "fcos": predict_detector}[kind]
    asked: list[int] = []
    monkeypatch.setattr(process, "_glibc", lambda: asked.append(1))
    folder = models / {"maps": "map"}.get(kind, kind)
    ask(folder, files[:2], batch_size=2, device="cpu")
    assert asked == [], "one batch has nothing to keep"
    ask(folder, files, batch_size=2, device="cpu")
    assert asked == [1]


def test_somebodys_onnx_file_stays_and_ours_may_be_written_anew(
    models: Path, tmp_path: Path, xrays: list[Path]
) -> None:
    out = tmp_path / "net.onnx"
    out.write_bytes(b"somebody's network")
    with pytest.raises(ModelError, match="net.onnx: is there already, and covidxr did not write it"):
        export_onnx(models / "plain", out, xrays)
    assert out.read_bytes() == b"somebody's network"
    out.unlink()
    for _ in range(2):
        export_onnx(models / "plain", out, xrays)
    out.write_bytes(out.read_bytes() + b"changed")
    with pytest.raises(ModelError, match="did not write it as it is"):
        export_onnx(models / "plain", out, xrays)
    assert out.read_bytes().endswith(b"changed")
