"A run where Ultralytics is not installed, with the models that need boxes or covidxr's own weights"

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
from absent import WITHOUT_ULTRALYTICS
from conftest import MODELS, TINY

import covidxr.classify
from covidxr.base.errors import DataError
from covidxr.base.extras import MissingExtra
from covidxr.base.files import check_folder, owned_folder
from covidxr.base.terms import APPEARANCES
from covidxr.pipeline import run
from covidxr.runs import inputs
from covidxr.runs.inputs import check_profile, installed_models
from covidxr.runs.profiles import FULL, QUICK, ModelPlan
from covidxr.runs.run import open_run
from covidxr.runs.training import train_model, training_key

FCOS = ModelPlan("detector", "fcos-test_resnet", 64, epochs=1, pretrained="simulated")
MAP = ModelPlan("classifier", "test_resnet", 64, epochs=1, learning_rate=1e-3, pretrained="simulated", map=True)
MIXED = replace(TINY, models=(MAP, replace(MODELS[0], epochs=1), FCOS, MODELS[2]))


@pytest.fixture
def without_ultralytics(monkeypatch: pytest.MonkeyPatch) -> None:
    def require(extra: str, *modules: str) -> None:
        raise MissingExtra(f"{modules[0]} is not installed; `pip install 'covidxr[{extra}]'` adds what is missing")

    monkeypatch.setattr(inputs, "require", require)


def test_without_ultralytics_only_its_detectors_are_left_out_and_named(without_ultralytics: None, capsys) -> None:
    profile, left_out = installed_models(MIXED)
    assert profile.models == MIXED.models[:3] and left_out == ["yolo11n-64"]
    said = capsys.readouterr().err
    assert "without yolo11n-64" in said and "pip install 'covidxr[detect]'" in said


@pytest.mark.parametrize("profile", [QUICK, FULL], ids=lambda profile: profile.name)
def test_both_profiles_keep_a_detector_and_two_classifiers(without_ultralytics: None, profile) -> None:
    kinds = [plan.kind for plan in installed_models(profile)[0].models]
    assert kinds.count("classifier") >= 2 and kinds.count("detector") >= 1


@pytest.mark.parametrize("profile", [QUICK, FULL, MIXED], ids=lambda profile: profile.name)
def test_a_plan_is_the_same_after_it_was_written_and_read(profile) -> None:
    again = [ModelPlan(**plan) for plan in json.loads(json.dumps([asdict(plan) for plan in profile.models]))]
    assert again == list(profile.models) and set(again) == set(profile.models)


def test_classes_that_the_weights_do_not_know_are_learnt_for_longer() -> None:
    first, second, *others = QUICK.models
    for known in (APPEARANCES, sorted(APPEARANCES), ["typical", "negative"]):
        assert [plan.fitted(known) for plan in QUICK.models] == list(QUICK.models)
    for unknown in (["normal", "pneumonia", "other"], ["typical", "other"]):
        longer = first.fitted(unknown)
        assert (longer.epochs, longer.learning_rate, longer.name) == (12, 3e-3, first.name)
        assert [plan.fitted(unknown) for plan in (second, *others)] == [second, *others]
    for other in ({"pretrained": False}, {"map": False}, {"fresh_epochs": None, "fresh_rate": None}):
        plan = replace(first, **other)
        assert plan.fitted(["normal", "pneumonia"]) == plan, "it is done as it was asked"


def test_a_run_of_before_goes_on_though_plans_tell_more_now(tmp_path: Path) -> None:
    before = asdict(QUICK)
    for plan in before["models"]:
        del plan["fresh_epochs"], plan["fresh_rate"]
    assert QUICK.decisive() == before
    with owned_folder(tmp_path / "run", "run", {"profile": before}):
        pass
    check_folder(tmp_path / "run", "run", {"profile": QUICK.decisive()})
    with pytest.raises(DataError, match="another profile"):
        check_folder(tmp_path / "run", "run", {"profile": replace(QUICK, draws=9).decisive()})


def test_where_no_detector_is_left_it_says_what_to_install(without_ultralytics: None) -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'covidxr\[detect\]'"):
        installed_models(TINY)


def test_with_ultralytics_nothing_is_left_out() -> None:
    pytest.importorskip("ultralytics")
    assert installed_models(MIXED) == (MIXED, [])


WITHOUT = (
    WITHOUT_ULTRALYTICS
    + """
sys.path.insert(0, sys.argv[1])
from test_without_yolo import MIXED
from covidxr.pipeline import predict, run

metrics = run("phantom", sys.argv[2], profile=MIXED)
predict(sys.argv[2], [sys.argv[2] + "/data/test"], sys.argv[2] + "-new.csv")
print(metrics["left_out"], "ultralytics" in sys.modules)
"""
)


@pytest.fixture(scope="module")
def run_without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A finished run in a process that cannot import Ultralytics"
    folder = tmp_path_factory.mktemp("without") / "run"
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", WITHOUT, here, str(folder)]
    environment = {"PYTHONPATH": str(Path(here).parent)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=os.environ | environment, cwd=folder.parent
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "['yolo11n-64'] False"
    return folder


def test_a_run_with_fcos_alone_is_whole_and_its_report_says_what_is_missing(run_without: Path) -> None:
    metrics = json.loads((run_without / "metrics.json").read_text())
    assert "test_resnet-map-64 + fcos-test_resnet-64" in metrics["scores"]
    page = (run_without / "report.html").read_text()
    assert "Ultralytics is not installed: yolo11n-64" in page
    assert "learnt from simulated X-rays" in page, "the report names the weights that a model started from"
    table = pd.read_parquet(run_without / "predictions" / "test_resnet-map-64-1.parquet")
    assert table.set_index("image_id").sum(axis=1).round(5).eq(1).all()
    assert len(pd.read_csv(run_without.parent / "run-new.csv")) > 0


def test_boxes_belong_to_what_a_model_with_a_map_learns_from(run_without: Path) -> None:
    this = open_run(run_without)
    moved = replace(this, dataset=replace(this.dataset, boxes=this.dataset.boxes.assign(x_min=0.0)))
    split, (mapped, plain) = this.rounds[0], this.profile.models[:2]
    assert training_key(this, split, 1, mapped) != training_key(moved, split, 1, mapped)
    assert training_key(this, split, 1, plain) == training_key(moved, split, 1, plain)


def test_a_run_takes_longer_for_classes_that_its_weights_do_not_know(run_without: Path, monkeypatch) -> None:
    this, plan, asked = open_run(run_without), replace(MAP, fresh_epochs=2, fresh_rate=5e-3), []
    names = {name: name.title() for name in this.dataset.classes}
    studies = this.dataset.studies.rename(columns=names)
    other = replace(this, dataset=replace(this.dataset, classes=tuple(names.values()), studies=studies))
    monkeypatch.setattr(covidxr.classify, "train_classifier", lambda *_, **options: asked.append(options))
    for one in (this, other):
        train_model(one, one.rounds[0], 1, plan)
    assert [(options["epochs"], options["learning_rate"]) for options in asked] == [(1, 1e-3), (2, 5e-3)]
    longer = replace(plan, fresh_epochs=3)
    keys = [training_key(one, one.rounds[0], 1, how) for one in (this, other) for how in (plan, longer)]
    assert keys[0] == keys[1] and keys[2] != keys[3], "what does not change a model does not train it again"


def test_once_ultralytics_is_installed_the_same_run_goes_on_and_trains_what_was_missing(run_without: Path) -> None:
    pytest.importorskip("ultralytics")
    before = json.loads((run_without / "steps.json").read_text())
    metrics = run("phantom", run_without, profile=MIXED)
    assert metrics["left_out"] == [] and "test_resnet-map-64 + yolo11n-64" in metrics["scores"]
    trained = [name for name in before if name.startswith("train")]
    assert {name: metrics["steps"][name] for name in trained} == {name: before[name] for name in trained}


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (replace(MODELS[2], map=True), "only a classifier has a map"),
        (replace(MODELS[2], pretrained="simulated"), "covidxr has no weights for yolo11n"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_anything_is_made(plan: ModelPlan, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_profile(replace(MIXED, models=(*MIXED.models[:3], plan)))
