"A run whose data, models or truth are other than they were: the same answer, or one sentence before the work."

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import QUICKEST, fake_models

import covidxr.runs.training
from covidxr.base.errors import DataError, ModelError, SubmissionError
from covidxr.base.files import read_json, write_json
from covidxr.classify import predict_classifier, train_classifier
from covidxr.cli import main
from covidxr.hospital import simulate_dataset
from covidxr.metrics import score
from covidxr.pipeline import run
from covidxr.runs.inference import predict
from covidxr.runs.packing import pack_run
from covidxr.runs.page import _without_proxy
from covidxr.runs.run import open_run
from covidxr.submission import read_submission, read_truth


@pytest.fixture(scope="module")
def faked(tmp_path_factory) -> Path:
    "A finished run with fakes in the place of networks; not to be changed"
    folder = tmp_path_factory.mktemp("kinds")
    with fake_models():
        run("phantom", folder / "run", profile=QUICKEST, seed=3)
    return folder / "run"


@pytest.fixture
def own(faked, tmp_path) -> Path:
    "A copy of it that a test may change"
    return Path(shutil.copytree(faked, tmp_path / "run"))


def test_a_runs_simulated_data_are_made_again_where_somebody_removed_them(tmp_path, hashes):
    own = tmp_path / "run"
    with fake_models():
        first = run("phantom", own, profile=QUICKEST, seed=3)
    before = hashes(own / "data")
    shutil.rmtree(own / "data")
    with fake_models():
        told = run("phantom", own, profile=QUICKEST, seed=3)
    after = hashes(own / "data")
    kept = [name for name in before if "covidxr" not in name]
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    assert told["data"] == "simulated" and told["scores"] == first["scores"]


def test_another_dataset_in_the_place_of_a_runs_own_is_refused(own):
    "The message's own cure had put another dataset there, and the run went on with it"
    shutil.rmtree(own / "data")
    simulate_dataset(own / "data", studies=20, seed=0, size=64, workers=1)
    before = (own / "metrics.json").read_bytes()
    with fake_models(), pytest.raises(DataError, match="run/data: .* another seed and number of studies"):
        run("phantom", own, profile=QUICKEST, seed=3)
    assert (own / "metrics.json").read_bytes() == before


def test_a_model_that_is_trained_again_predicts_again(own, monkeypatch):
    "Another GPU trains another network from the same seed; the old one's predictions had stayed"
    name = "yolo11n-64-1"
    before = {path.name: path.read_bytes() for path in (own / "predictions").glob(f"{name}*")}
    assert before
    (own / "models" / name / "model.safetensors").unlink()
    asked, real = [], covidxr.runs.training.predict_model
    monkeypatch.setattr(
        covidxr.runs.training,
        "predict_model",
        lambda run, split, number, plan: asked.append(plan.name) or real(run, split, number, plan),
    )
    with fake_models():
        run("phantom", own, profile=QUICKEST, seed=3)
    assert asked == ["yolo11n-64"], "its own alone"
    asked.clear()
    with fake_models():
        run("phantom", own, profile=QUICKEST, seed=3)
    assert asked == []


def test_the_ensemble_is_that_of_the_networks_which_are_there(own, monkeypatch):
    "Submission, scores, report and ONNX files had stayed those of the networks before"
    names = ("submission.csv", "scores.json", "trust.json", "report.html")
    before = {name: (own / name).read_bytes() for name in names}
    exported = json.loads((own / "steps.json").read_text())["onnx"]["key"]
    for path in (own / "models").glob("*/model.safetensors"):
        path.unlink()
    train = covidxr.runs.training.train_model

    def elsewhere(run, split, number, plan, start):
        "Another GPU makes another network of the same plan and seed"
        files = train(run, split, number, plan, start)
        place = run.folder / "models" / f"{plan.name}-{number}"
        (place / "model.safetensors").write_text("0.125")
        write_json(read_json(place / "config.json") | {"made": "0.125"}, place / "config.json")
        return files

    monkeypatch.setattr(covidxr.runs.training, "train_model", elsewhere)
    with fake_models():
        run("phantom", own, profile=QUICKEST, seed=3)
    assert [name for name in names if (own / name).read_bytes() == before[name]] == []
    assert json.loads((own / "steps.json").read_text())["onnx"]["key"] != exported


@pytest.mark.parametrize("gone", ["data/test", "data/truth", "data/truth/test_study_level.csv", "one file", "a table"])
def test_a_part_of_a_runs_simulated_data_is_made_again(gone, tmp_path):
    "Without the test half the run had gone on as another experiment"
    own = tmp_path / "run"
    with fake_models():
        first = run("phantom", own, profile=QUICKEST, seed=3)
        if gone == "one file":
            next((own / "data" / "train").rglob("*.dcm")).unlink()
        elif gone == "a table":
            (own / "data" / "truth" / "test_image_level.csv").write_text("other\n")
        elif gone.endswith(".csv"):
            (own / gone).unlink()
        else:
            shutil.rmtree(own / gone)
        again = run("phantom", own, profile=QUICKEST, seed=3)
    assert again["scores"] == first["scores"] and again["failed"] == first["failed"]


@pytest.mark.parametrize("seed", [2**32, 202401311234, -1, "1", 0.5, None])
def test_a_seed_that_cannot_be_used_is_refused_at_the_door(seed, tmp_path):
    with pytest.raises(DataError, match="seed must be a whole number"):
        run("phantom", tmp_path / "run", profile=QUICKEST, seed=seed)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("profile", [None, {"name": "quick"}, 3, Path("quick")])
def test_what_is_no_profile_is_told_in_words(profile, tmp_path):
    with pytest.raises(DataError, match="give one of quick, full"):
        run("phantom", tmp_path / "run", profile=profile)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("asked", ["out", "extents"])
def test_a_submission_that_cannot_be_written_is_refused_before_the_work(asked, faked, tmp_path, monkeypatch):
    "All networks had answered all X-rays before"
    monkeypatch.setattr("covidxr.runs.inference.given_files", lambda *rest: pytest.fail("work was begun"))
    (tmp_path / "file").write_text("mine")
    names = {"out": tmp_path / "s.csv", "extents": tmp_path / "e.csv"} | {asked: tmp_path / "file" / "deep" / "s.csv"}
    fault = SubmissionError if asked == "out" else DataError
    with pytest.raises(fault, match="file is no folder, so no file can be written below it"):
        predict(faked, faked / "data" / "test", **names)
    (tmp_path / "closed").mkdir()  # whoever tests may be root, who may write anywhere
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path / "closed")
    names[asked] = tmp_path / "closed" / "new" / "s.csv"
    with pytest.raises(fault, match="nothing can be written into"):
        predict(faked, faked / "data" / "test", **names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed", "file"]


def test_images_without_a_truth_are_predicted_and_not_scored(faked, tmp_path):
    "Each had counted as a false alarm"
    data = Path(shutil.copytree(faked / "data", tmp_path / "data"))
    for level in ("study", "image"):
        path = data / "truth" / f"test_{level}_level.csv"
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if level == "study":
            gone = table["id"].iloc[:2].str.removesuffix("_study").tolist()
            table.iloc[2:].to_csv(path, index=False)
        else:
            table[~table["StudyInstanceUID"].isin(gone)].to_csv(path, index=False)
    with fake_models():
        told = run(data, tmp_path / "run", profile=QUICKEST, seed=3)
    truth, answer = read_truth(data / "truth"), read_submission(tmp_path / "run" / "submission.csv")
    assert not set(answer["id"]) <= set(truth["id"])
    found = score(truth, answer[answer["id"].isin(truth["id"])])
    assert told["scores"]["ensemble"]["map"] == pytest.approx(found.map, abs=2e-6)
    draws = pd.read_csv(tmp_path / "run" / "draws.csv")["ensemble"]
    assert draws.min() <= found.map <= draws.max()


@pytest.mark.parametrize(("words", "goes_on"), [(["prepare", "a", "b"], True), (["predict", "a", "b"], False)])
def test_only_commands_that_keep_their_work_say_that_they_go_on(words, goes_on, monkeypatch, capsys):
    def stop(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr("covidxr.cli.parser", lambda helps: _Parser(stop))
    assert main(words) == 130
    said = capsys.readouterr().err
    assert "covidxr: stopped" in said and ("goes on where it stopped" in said) == goes_on


class _Parser:
    "Takes any words"

    def __init__(self, work) -> None:
        self.work = work

    def parse_args(self, words):
        return self


def test_a_packed_file_is_not_packed_again(faked, tmp_path):
    pack_run(faked, tmp_path / "one.zip")
    with pytest.raises(DataError, match="one.zip: is a file, such as this command writes; give the folder of a run"):
        pack_run(tmp_path / "one.zip", tmp_path / "two.zip")
    with pytest.raises(DataError, match="one.zip: a file; give the folder of a run"):
        open_run(tmp_path / "one.zip")
    assert not (tmp_path / "two.zip").exists()


# Arguments of the models


@pytest.mark.parametrize("folder", [None, 3, "", b"x"])
def test_what_is_no_folder_of_a_model_is_told_in_words(folder, pictures):
    with pytest.raises(ModelError):
        predict_classifier(folder, pictures[0])


@pytest.mark.parametrize("flip", ["False", "no", None, 2])
@pytest.mark.parametrize("map", [False, True])
def test_whether_to_mirror_is_true_or_false(flip, map, pictures, tmp_path):
    images, boxes = pictures
    more = {"boxes": boxes} if map else {}
    with pytest.raises(ModelError, match="flip must be True or False"):
        train_classifier(images, ("negative", "typical"), tmp_path / "model", "test_resnet", size=32, flip=flip, **more)
    assert not (tmp_path / "model").exists()


# The page


def test_this_machine_is_asked_without_a_proxy():
    assert _without_proxy("") == "127.0.0.1,localhost"
    assert _without_proxy("a.example, localhost") == "a.example,localhost,127.0.0.1"


def test_the_page_opens_where_a_proxy_is_set_and_runs_nothing_of_the_working_folder(tmp_path):
    pytest.importorskip("gradio", reason="the extra 'app' is not installed")
    for name in ("random", "numpy", "covidxr", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import pathlib; pathlib.Path(r'%s').touch()" % (tmp_path / "RUN"))
    script = tmp_path / "elsewhere" / "page.py"
    script.parent.mkdir()
    lines = [
        "from covidxr.app import app",
        "import urllib.request",
        "asked = urllib.request.build_opener(urllib.request.ProxyHandler({}))",
        "with app() as address:",
        "    print(address, asked.open(address).status)",
    ]
    script.write_text("\n".join(lines))
    proxy = "http://127.0.0.1:9"  # nobody answers there
    own = {**os.environ, "http_proxy": proxy, "HTTP_PROXY": proxy, "https_proxy": proxy, "ALL_PROXY": proxy}
    own = {name: value for name, value in own.items() if name.lower() != "no_proxy"}
    own["PYTHONPATH"] = str(Path(covidxr.__file__).parents[1])
    told = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=own, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout[-500:] + told.stderr[-1500:]
    assert told.stdout.split()[1] == "200" and not (tmp_path / "RUN").exists()


def test_steps_are_noted_as_json(faked):
    steps = json.loads((faked / "steps.json").read_text())
    assert list(steps["simulate"]["files"]) == ["data/simulated.json"]
    assert np.isfinite([step["seconds"] for step in steps.values()]).all()
