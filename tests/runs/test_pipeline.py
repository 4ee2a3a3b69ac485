"The whole way: honest, resumable, the same for simulated and other X-rays, and clear about what is wrong."

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MODELS, TINY
from fakes import QUICKEST, fake_models
from xrays import stored_so

from covidxr.base.errors import DataError
from covidxr.base.files import _host
from covidxr.base.terms import BOX_COLUMNS
from covidxr.dataset import Dataset, open_dataset
from covidxr.dicom import read_xray
from covidxr.folds import Round
from covidxr.metrics import score
from covidxr.pipeline import predict, run
from covidxr.prepare import prepare, to_cache
from covidxr.runs.baselines import prior_submission, with_unread
from covidxr.runs.evaluate import evaluate_run
from covidxr.runs.inference import given_files
from covidxr.runs.run import Run, open_run, plan_rounds
from covidxr.runs.training import predicting_key, training_key
from covidxr.submission import read_ids, read_submission, read_truth, score_submission


def test_a_run_leaves_what_it_promises(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["data"] == "simulated" and metrics["seed"] == 0 and metrics["versions"]["torch"]
    kinds = [one["kind"] for one in metrics["scores"].values()]
    assert kinds.count("ensemble") == 1 and kinds.count("model") == 4 and kinds.count("baseline") == 2
    for one in metrics["scores"].values():
        assert 0 <= one["map"] <= 1 and list(one["per_class"])[-2:] == ["none", "opacity"]
    assert {"simulate", "prepare", "explore", "fuse", "score", "trust", "report"} <= set(metrics["steps"])
    assert all(step["seconds"] >= 0 and step["peak_mb"] > 50 for step in metrics["steps"].values())
    for place in (
        "config.json",
        "submission.csv",
        "report.html",
        "figures/grid.png",
        "figures/curves.png",
        "eda/eda-figure.png",
    ):
        assert (finished / place).stat().st_size > 100, place
    models = sorted(path.name for path in (finished / "models").glob("*/[!.]*"))
    exported = {"model.onnx"} if metrics["onnx"]["files"] else set()  # where the extra `export` is installed
    assert set(models) == {"model.safetensors", "config.json", "history.csv"} | exported
    assert models.count("model.onnx") == metrics["onnx"]["files"]


def test_the_submission_scores_what_the_report_says(finished, covidxr):
    metrics = json.loads((finished / "metrics.json").read_text())
    result = score_submission([finished / "data"], finished / "submission.csv")
    assert result.map == pytest.approx(metrics["scores"]["ensemble"]["map"], abs=1e-9)
    assert set(read_ids(finished / "submission.csv")) == set(
        pd.read_csv(finished / "data" / "sample_submission.csv")["id"]
    )


def test_the_report_is_one_page_that_needs_nothing_else_and_says_what_it_is(finished):
    page = (finished / "report.html").read_text()
    assert page.count("simulated X-rays") >= 5 and "clinical use" in page
    assert 'src="http' not in page and 'href="http' not in page and "<script" not in page
    assert page.count("<img") == page.count('alt="') == 5
    for name in json.loads((finished / "metrics.json").read_text())["scores"]:
        assert name in page


def test_a_second_call_does_nothing_again_and_another_seed_is_refused(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    assert len(before) == len(MODELS)
    run("phantom", finished, profile=TINY)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")} == before
    with pytest.raises(DataError, match="another seed"):
        run("phantom", finished, profile=TINY, seed=5)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="is no run"):
        run("phantom", tmp_path, profile=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_no_image_that_is_scored_was_seen_in_training_or_choosing(finished):
    dataset = open_dataset(finished / "data")
    owner = dataset.images.drop_duplicates("study_id").set_index("study_id")["patient_id"]
    turns = plan_rounds(dataset, TINY, 0)
    assert turns
    for turn in turns:
        sides = [set(owner[list(part)]) for part in (turn.train, turn.valid, turn.test)]
        assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert not set(dataset.images.loc[dataset.images["split"] == "test", "study_id"]) & set(dataset.labels().index)


@pytest.fixture(scope="session")
def learnable(tmp_path_factory) -> Path:
    "A dataset that is large enough for small networks to learn something"
    from covidxr.hospital import simulate_dataset

    return simulate_dataset(tmp_path_factory.mktemp("learnable") / "data", studies=220, seed=4, size=96)


def _shuffled(data: Path, out: Path) -> Path:
    "The same dataset with the training labels and boxes dealt out anew; the hidden truth stays"
    shutil.copytree(data, out)
    rng = np.random.default_rng(0)
    for name, columns in (("train_study_level.csv", slice(1, 5)), ("train_image_level.csv", slice(1, 3))):
        table = pd.read_csv(out / name)
        table.iloc[:, columns] = table.iloc[rng.permutation(len(table)), columns].to_numpy()
        table.to_csv(out / name, index=False)
    return out


def _lead(folder: Path, data: Path) -> float:
    "Mean AP of the ensemble's classes and none above the same answers dealt to other studies and images (the prior is too low a bar: by chance alone, AP in a small test half lies above a class's share)"
    truth = read_truth(*(data / "truth" / f"test_{level}_level.csv" for level in ("study", "image")))
    answers = read_submission(folder / "submissions" / "ensemble.csv")
    truth, answers = truth[truth["label"] != "opacity"], answers[answers["label"] != "opacity"]
    rng, chance = np.random.default_rng(0), []
    for _ in range(20):
        dealt = {}
        for level in ("_study", "_image"):
            ids = sorted(answers.loc[answers["id"].str.endswith(level), "id"].unique())
            dealt |= dict(zip(ids, rng.permutation(ids), strict=True))
        chance.append(score(truth, answers.assign(id=answers["id"].map(dealt))).map)
    return score(truth, answers).map - float(np.mean(chance))


def test_shuffled_labels_score_at_the_baseline_and_true_ones_do_not(learnable, tmp_path):
    models = tuple(replace(plan, epochs=25 if plan.kind == "classifier" else 1) for plan in MODELS)
    profile = replace(TINY, models=models, export=False)
    run(learnable, tmp_path / "true", profile=profile)
    run(_shuffled(learnable, tmp_path / "shuffled data"), tmp_path / "shuffled", profile=profile)
    true, shuffled = _lead(tmp_path / "true", learnable), _lead(tmp_path / "shuffled", learnable)
    assert abs(shuffled) < 0.1, (
        f"shuffled labels lead chance by {shuffled:.3f}: something leaks"
    )  # ten shuffles: mean 0.006, spread 0.033
    assert true > 0.15, f"true labels lead by {true:.3f}: nothing is learnt, so the test above proves nothing"
    metrics = json.loads((tmp_path / "shuffled" / "metrics.json").read_text())
    assert metrics["scores"]["ensemble"]["per_class"]["opacity"] < 0.1


@pytest.fixture(scope="session")
def plain(learnable, tmp_path_factory) -> Path:
    "A plain folder of pictures with a table, without a test half"
    import cv2

    folder = tmp_path_factory.mktemp("plain") / "pictures"
    folder.mkdir()
    dataset, rows, boxes = open_dataset(learnable), [], []
    words = {"negative": "Normal", "typical": "Lung Opacity", "indeterminate": "Lung Opacity", "atypical": "Not Normal"}
    images = dataset.images[dataset.images["split"] == "train"].head(50)
    for row in images.itertuples():
        cv2.imwrite(
            str(folder / f"{row.image_id}.png"),
            np.round(read_xray(dataset.root / row.path).pixels * 255).astype(np.uint8),
        )
        rows.append((f"{row.image_id}.png", words[dataset.labels()[row.study_id]], row.patient_id))
        for box in dataset.boxes[dataset.boxes["image_id"] == row.image_id].itertuples():
            boxes.append((f"{row.image_id}.png", box.x_min, box.y_min, box.x_max - box.x_min, box.y_max - box.y_min))
    pd.DataFrame(rows, columns=["file", "finding_class", "patient_id"]).to_csv(folder / "images.csv", index=False)
    pd.DataFrame(boxes, columns=["file", "x", "y", "width", "height"]).to_csv(folder / "boxes.csv", index=False)
    return folder


def test_a_folder_of_pictures_goes_the_same_way_and_every_image_is_judged_once(plain, tmp_path):
    models = tuple(replace(plan, epochs=1) for plan in MODELS)
    metrics = run(plain, tmp_path / "run", profile=replace(TINY, turns=3, models=models, export=False))
    assert metrics["data"] == "real" and set(metrics["scores"]["ensemble"]["per_class"]) == {
        "lung-opacity",
        "normal",
        "not-normal",
        "none",
        "opacity",
    }
    assert len(metrics["opacity_auc"]) == 2 and all(0 <= area["auc"] <= 1 for area in metrics["opacity_auc"].values())
    for one in json.loads((tmp_path / "run" / "choices.json").read_text()):
        choice = one["in_turns"]
        weights = [*choice["class_weights"].values(), *choice["box_weights"].values(), choice["none_exponent"]]
        assert weights == [0.5] * 5, "folds that take turns are ranked together: one scale for all"
    names = [path.stem for path in plain.glob("*.png")]
    assert sorted(read_ids(tmp_path / "run" / "submission.csv")) == sorted(
        f"{name}_{kind}" for name in names for kind in ("image", "study")
    )
    page = (tmp_path / "run" / "report.html").read_text()
    assert "real X-rays" in page and "imulated" not in page


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    profile = replace(TINY, export=False, models=tuple(replace(plan, epochs=1) for plan in MODELS))
    code = f"from dataclasses import replace\nfrom covidxr.runs.profiles import *\nfrom covidxr.pipeline import run\nmodels = tuple(ModelPlan(**plan) for plan in {[asdict(plan) for plan in profile.models]!r})\nrun('phantom', {str(tmp_path / 'run')!r}, profile=replace(QUICK, name='tiny', studies=60, simulated_size=96, cache_size=64, draws=200, models=models, export=False))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    steps = tmp_path / "run" / "steps.json"
    deadline = time.monotonic() + 300
    while not (steps.exists() and "train classifier test_resnet-64" in json.loads(steps.read_text())):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = json.loads(steps.read_text())
    weights = (tmp_path / "run" / "models" / "test_resnet-64-1" / "model.safetensors").stat().st_mtime_ns
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout
    half = (
        tmp_path / "run" / "models" / "test_efficientnet-64-1" / f".covidxr-{_host()}-{gone.strip()}-0123abcd.partial"
    )
    half.mkdir(parents=True, exist_ok=True)  # as if it had been killed while it wrote the weights
    metrics = run("phantom", tmp_path / "run", profile=profile)
    assert {name: metrics["steps"][name] for name in done} == done
    assert (tmp_path / "run" / "models" / "test_resnet-64-1" / "model.safetensors").stat().st_mtime_ns == weights
    assert not list((tmp_path / "run").rglob("*.partial*"))


def test_a_run_predicts_new_files_and_lists_what_it_cannot_read(finished, tmp_path, covidxr):
    good = next((finished / "data" / "test").glob("*/*/*.dcm"))
    shutil.copy(good, tmp_path / "new.dcm")
    (tmp_path / "bad.dcm").write_bytes(b"no X-ray")
    answer = covidxr(
        "predict", finished, tmp_path / "new.dcm", tmp_path / "bad.dcm", "--out", tmp_path / "s.csv", "--json"
    )
    assert answer.returncode == 1, answer.stderr
    told = json.loads(answer.stdout)
    assert told["images"] == 1 and "bad.dcm" in told["failed"][0]
    assert read_ids(tmp_path / "s.csv") == ["new_study", "new_image"]


def test_a_prediction_writes_extents_where_it_is_asked_for_them(finished, tmp_path):
    good = sorted((finished / "data" / "test").glob("*/*/*.dcm"))[:2]
    predict(finished, good, tmp_path / "s.csv", extents=tmp_path / "e.csv")
    table = pd.read_csv(tmp_path / "e.csv")
    assert list(table) == ["image_id", "study_id", "extent", "low", "high"] and len(table) == 2
    assert set(table["image_id"] + "_image") | set(table["study_id"] + "_study") == set(read_ids(tmp_path / "s.csv"))
    assert ((0 <= table["low"]) & (table["low"] <= table["extent"]) & (table["extent"] <= table["high"])).all()
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(DataError, match="covidxr did not write it"):
        predict(finished, good, tmp_path / "t.csv", extents=tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "mine" and not (tmp_path / "t.csv").exists()


def test_predicting_the_test_half_gives_the_runs_own_submission(finished, tmp_path):
    predict(finished, [finished / "data" / "test"], tmp_path / "s.csv")
    assert set(read_ids(tmp_path / "s.csv")) == set(read_ids(finished / "submission.csv"))
    again, first = (
        score_submission([finished / "data"], path).map for path in (tmp_path / "s.csv", finished / "submission.csv")
    )
    assert again == pytest.approx(first, abs=1e-3)


def test_what_could_not_be_read_gets_a_guess_so_that_the_submission_is_whole(learnable):
    dataset = open_dataset(learnable)
    turn = plan_rounds(dataset, TINY, 0)[0]
    images = dataset.images[dataset.images["study_id"].isin(turn.test)]
    read = images[~images["study_id"].isin(turn.test[:2])]
    table = prior_submission(dataset, turn.train, read[["image_id", "study_id"]])
    whole = with_unread(table, dataset, turn, "test")
    assert set(whole["id"]) == {f"{name}_image" for name in images["image_id"]} | {
        f"{name}_study" for name in turn.test
    }
    assert whole.head(len(table)).equals(table) and not whole.isna().any(axis=None)


def test_only_training_studies_are_learnt_from_in_every_turn(plain, tmp_path, monkeypatch):
    import covidxr.classify
    import covidxr.detect

    learnt, chosen = [], []

    def train(images: pd.DataFrame, *rest, **options) -> None:
        learnt.append(set(images.loc[~images["valid"], "image_id"]))
        chosen.append(set(images.loc[images["valid"], "image_id"]))

    def probabilities(place, images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        said = images[["image_id"]].assign(**dict.fromkeys(dataset.classes, 1 / len(dataset.classes)))
        return said, said

    def boxes(place, images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        found = images[["image_id"]].head(1).assign(x_min=1.0, y_min=1.0, x_max=9.0, y_max=9.0, confidence=0.5)
        return found, found

    dataset = open_dataset(plain)
    monkeypatch.setattr(covidxr.classify, "train_classifier", train)
    monkeypatch.setattr(covidxr.detect, "train_detector", train)
    monkeypatch.setattr(covidxr.classify, "predict_classifier_views", probabilities)
    monkeypatch.setattr(covidxr.detect, "predict_detector_views", boxes)
    run(plain, tmp_path / "run", profile=replace(TINY, export=False))
    turns = plan_rounds(dataset, TINY, 0)
    study = dataset.images.set_index("study_id")["image_id"]
    assert len(learnt) == len(turns) * len(MODELS) > 0
    for number, turn in enumerate(turns):
        for model in range(len(MODELS)):
            place = number * len(MODELS) + model
            assert learnt[place] == set(study[list(turn.train)]) and chosen[place] == set(study[list(turn.valid)])
            assert not (learnt[place] | chosen[place]) & set(study[list(turn.test)])


def test_a_run_says_at_the_door_what_it_cannot_use(plain, tmp_path):
    with pytest.raises(DataError, match="inside the dataset"):
        run(plain, plain / "run", profile=TINY)
    with pytest.raises(DataError, match="no profile is called 'fast'"):
        run(plain, tmp_path / "run", profile="fast")
    with pytest.raises(DataError, match="differ in architecture or size"):
        run(plain, tmp_path / "run", profile=replace(TINY, models=MODELS[:1] * 2 + MODELS[2:]))
    few = shutil.copytree(plain, tmp_path / "few")
    pd.read_csv(few / "boxes.csv").head(0).to_csv(few / "boxes.csv", index=False)
    with pytest.raises(DataError, match="needs boxes.csv"):
        run(few, tmp_path / "run", profile=TINY)
    assert not (tmp_path / "run").exists()


def test_pictures_in_deep_folders_are_no_study_of_one_another(tmp_path):
    for name in ("ward/2021/a.png", "ward/2021/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    given = given_files([tmp_path])
    assert given["study_id"].tolist() == given["image_id"].tolist()


@pytest.mark.parametrize("named", ["", [""], 5, None, [None]])
def test_an_empty_name_is_not_the_working_folder(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one.png").write_bytes(b"")
    with pytest.raises(DataError, match="not a file's name"):
        given_files(named)
    assert len(given_files(".")) == 1
    for call in (open_dataset, lambda name: prepare(name, tmp_path / "out"), lambda name: run(name, tmp_path / "out")):
        with pytest.raises(DataError, match="not a file's name"):
            call("")
    assert not (tmp_path / "out").exists()


def test_a_submission_and_its_extents_are_two_files(tmp_path):
    run = tmp_path / "run"
    choice = {"class_weights": {"x": 1.0}, "box_weights": {"y": 1.0}, "none_exponent": 0.5, "shares": {"typical": 1.0}}
    network = {"size": 64, "kind": "classifier", "classes": ["typical"]}
    for name, text in {
        "choices": [choice],
        "config": {"profile": {"cache_size": 64}},
        "steps": {"report": {}},
        "metrics": {"steps": {"report": {}}},
        "models/x-1/config": network,
        "models/y-1/config": network | {"kind": "detector", "model": "yolo11n"},
    }.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / f"{name}.json").write_text(json.dumps(text))
    (tmp_path / "link").symlink_to(run)
    for other in ("run/o.csv", "link/o.csv", "run/../link/o.csv"):
        with pytest.raises(DataError, match="give the extents a file of their own"):
            predict(run, tmp_path, run / "o.csv", extents=tmp_path / other)
    assert not (run / "o.csv").exists()


def test_given_files_of_one_name_and_of_odd_bytes_are_told_apart(tmp_path):
    for name in ("a/x.png", "b/x.png", "M\udcfcller.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    given = given_files([tmp_path, tmp_path / "a" / "x.png"])  # one of them is named twice
    assert sorted(given["image_id"]) == ["M%FCller", "a-x", "b-x"]


@pytest.mark.parametrize("layout", ["train/pneumonia/images", "test/covid/1"])
@pytest.mark.parametrize("suffix", [".png", ".dcm"])
def test_persons_in_a_folder_of_their_class_are_no_study_of_one_another(layout, suffix, tmp_path):
    from covidxr.dicom import XrayFacts, write_dicom

    folder = tmp_path / layout
    folder.mkdir(parents=True)
    for person in "abc":
        path = folder / f"person-{person}{suffix}"
        if suffix == ".png":
            path.write_bytes(b"")
        else:
            write_dicom(path, np.zeros((8, 8), int), XrayFacts(person, study_id=f"visit of {person}"))
    given = given_files(tmp_path)
    assert sorted(given["study_id"]) == ["person-a", "person-b", "person-c"]


def test_images_of_one_study_in_the_competitions_layout_stay_together(tmp_path):
    from covidxr.dicom import XrayFacts, write_dicom

    for series, image in (("s1", "i1"), ("s2", "i2")):
        path = tmp_path / "test" / "visit" / series / f"{image}.dcm"
        path.parent.mkdir(parents=True)
        write_dicom(path, np.zeros((8, 8), int), XrayFacts(image, study_id="visit"))
    assert given_files([tmp_path])["study_id"].tolist() == ["visit", "visit"]


def _victim(data: Path) -> tuple[Path, str]:
    "A file of the judged part of a small dataset, and its image id"
    dataset = open_dataset(data)
    images = dataset.images[dataset.images["study_id"].isin(plan_rounds(dataset, QUICKEST, 0)[0].test)]
    return data / images["path"].iloc[0], images["image_id"].iloc[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, dict]:
    "A folder with a small dataset, and beside it a run on a copy that nobody disturbed; and what the run told"
    from covidxr.hospital import simulate_dataset

    folder = tmp_path_factory.mktemp("undisturbed")
    simulate_dataset(folder / "data", studies=24, seed=3, size=64, workers=1)
    shutil.copytree(folder / "data", folder / "copy")  # a run writes headers.csv
    with fake_models():
        return folder, run(folder / "copy", folder / "run", profile=QUICKEST)


@pytest.fixture()
def small(undisturbed, tmp_path) -> Path:
    "A small dataset that a test may damage"
    return Path(shutil.copytree(undisturbed[0] / "data", tmp_path / "data"))


@pytest.mark.parametrize("broken", ["pixels", "header"])
@pytest.mark.parametrize("stopped", [True, False], ids=["stopped before the end", "run to its end"])
def test_a_run_goes_on_after_a_file_was_mended_and_all_its_parts_tell_the_same(
    broken, stopped, small, undisturbed, tmp_path
):
    import covidxr.pipeline

    folder, told = undisturbed
    path, image_id = _victim(small)
    whole = path.read_bytes()
    (small / "headers.csv").unlink(missing_ok=True)
    path.write_bytes(whole[:700] if broken == "header" else whole[:-800])
    with fake_models():
        if stopped:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    covidxr.pipeline, "write_submissions", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt)
                )
                with pytest.raises(KeyboardInterrupt):
                    run(small, tmp_path / "run", profile=QUICKEST)
        else:
            assert len(run(small, tmp_path / "run", profile=QUICKEST)["failed"]) == 1
            assert "could not be read" in (tmp_path / "run" / "report.html").read_text()
        path.write_bytes(whole)
        metrics = run(small, tmp_path / "run", profile=QUICKEST)
    assert metrics["failed"] == [] and metrics["scores"] == told["scores"]
    assert "could not be read" not in (tmp_path / "run" / "report.html").read_text()
    for plan in QUICKEST.models:
        predicted = pd.read_parquet(tmp_path / "run" / "predictions" / f"{plan.name}-1.parquet")
        assert plan.kind == "detector" or image_id in set(predicted["image_id"])
    for name in ("submission.csv", "choices.json"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / "run" / name).read_bytes()


def test_an_xray_of_the_test_half_that_is_not_there_is_no_file_that_cannot_be_read(small, tmp_path):
    shutil.rmtree(next((small / "test").iterdir()))
    with fake_models():
        metrics = run(small, tmp_path / "run", profile=QUICKEST)
    page = (tmp_path / "run" / "report.html").read_text()
    assert metrics["failed"] == [] and "could not be read" not in page
    assert [name.rpartition("_")[2] for name in metrics["missing"]] == ["study", "image"]
    why = f"1 image and 1 study of sample_submission.csv have no file in test/, first {metrics['missing'][0]}; what is"
    assert page.count(why) == 1 and page.count(metrics["missing"][0]) == 1


def test_what_is_scored_is_what_is_handed_in_to_the_last_digit(small, tmp_path):
    with fake_models():
        run(small, tmp_path / "run", profile=QUICKEST)
    files = sorted((tmp_path / "run" / "submissions").glob("*.csv"))
    assert [path.stem for path in files if path.stem == "ensemble" or " + " in path.stem]
    for path in files:
        scored = pd.read_parquet(tmp_path / "run" / "predictions" / f"{path.stem}.parquet")
        pd.testing.assert_frame_equal(scored, read_submission(path), check_exact=True)


def test_predictions_of_a_round_are_read_once_per_view(small, tmp_path, monkeypatch):
    reads, read = [], pd.read_parquet
    with fake_models():
        run(small, tmp_path / "run", profile=QUICKEST)
        (tmp_path / "run" / "choices.json").unlink()  # so that only fusing is done again
        monkeypatch.setattr(pd, "read_parquet", lambda path, **options: reads.append(path) or read(path, **options))
        run(small, tmp_path / "run", profile=QUICKEST)
    models = [path.name for path in reads if "-1" in path.stem and path.parent.name == "predictions"]
    views = [f"{plan.name}-1{view}.parquet" for plan in QUICKEST.models for view in ("", "-mirror")]
    assert sorted(models) == sorted(views)


def test_a_finished_run_is_opened_as_it_was_made(small, tmp_path):
    with fake_models():
        metrics = run(small, tmp_path / "run", profile=QUICKEST, seed=2)
    this = open_run(tmp_path / "run")
    assert this.profile == QUICKEST and this.seed == 2 and this.hidden
    assert this.rounds == plan_rounds(open_dataset(small), QUICKEST, 2)
    assert evaluate_run(this)[0]["scores"] == metrics["scores"]


def test_mending_an_image_of_the_test_half_trains_nothing_again(small, tmp_path):
    path, _ = _victim(small)
    whole = path.read_bytes()
    path.write_bytes(whole[:-800])
    with fake_models():
        before = run(small, tmp_path / "run", profile=QUICKEST)["steps"]
        path.write_bytes(whole)
        after = run(small, tmp_path / "run", profile=QUICKEST)["steps"]
    trained = [name for name in before if name.startswith("train")]
    assert len(trained) == len(QUICKEST.models) == len([name for name in before if name.startswith("predict")])
    assert [before[name] for name in trained] == [after[name] for name in trained]
    assert all(before[name]["key"] != after[name]["key"] for name in before if name.startswith("predict"))


def test_what_a_run_wrote_and_somebody_removed_is_made_again(small, tmp_path):
    with fake_models():
        run(small, tmp_path / "run", profile=QUICKEST)
        kept = {}
        for name in (
            "report.html",
            "submission.csv",
            "predictions/yolo11n-64-1.parquet",
            "models/yolo11n-64-1/config.json",
        ):
            kept[name] = (tmp_path / "run" / name).read_bytes()
            (tmp_path / "run" / name).unlink()
        next((tmp_path / "run" / "cache").glob("*.png")).unlink()
        run(small, tmp_path / "run", profile=QUICKEST)
    again = {name: (tmp_path / "run" / name).read_bytes() for name in kept}
    kept.pop("report.html"), again.pop("report.html")  # it tells what the steps cost
    assert again == kept


def test_versions_are_kept_for_each_step(small, tmp_path, monkeypatch):
    import covidxr.runs.run

    with fake_models():
        run(small, tmp_path / "run", profile=QUICKEST)
        (tmp_path / "run" / "submission.csv").unlink()
        real = covidxr.runs.run.version
        monkeypatch.setattr(covidxr.runs.run, "version", lambda name: "99.0" if name == "torch" else real(name))
        metrics = run(small, tmp_path / "run", profile=QUICKEST)
    assert metrics["steps"]["fuse"]["versions"]["torch"] == "99.0"
    assert metrics["steps"]["prepare"]["versions"]["torch"] != "99.0"
    assert metrics["versions"]["torch"].endswith("and 99.0")


def _claim(folder: Path, seed: int, both, said) -> None:
    "In a process of its own: claim a run's folder at the same moment as another"
    import covidxr.base.files as files

    check, calls = files.check_folder, []

    def together(*rest, **options) -> None:
        check(*rest, **options)
        calls.append(1)
        if len(calls) == 1:  # both have found the folder free
            both.wait(30)

    files.check_folder = together
    try:
        with files.owned_folder(folder, "run", {"seed": seed}):
            said.put(seed)
            time.sleep(1)
    except Exception as error:
        said.put(str(error))


def test_of_two_calls_at_once_the_one_that_works_is_the_one_whose_seed_is_noted(tmp_path):
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    both, said = context.Barrier(2), context.Queue()
    pair = [context.Process(target=_claim, args=(tmp_path / "run", seed, both, said)) for seed in (1, 2)]
    for process in pair:
        process.start()
    answers = [said.get(timeout=60) for _ in pair]
    for process in pair:
        process.join()
    (worked,) = [one for one in answers if isinstance(one, int)]
    assert json.loads((tmp_path / "run" / ".covidxr.json").read_text())["claim"] == {"seed": worked}


@pytest.fixture(scope="module")
def faked(tmp_path_factory) -> Path:
    "A finished run with fakes in the place of networks, its data beside it; not to be changed"
    from covidxr.hospital import simulate_dataset

    folder = tmp_path_factory.mktemp("faked")
    simulate_dataset(folder / "data", studies=40, seed=3, size=64, workers=1)
    with fake_models():
        run(folder / "data", folder / "run", profile=QUICKEST)
    return folder / "run"


@pytest.fixture(scope="module")
def told(faked) -> tuple[dict, pd.DataFrame, dict[str, pd.DataFrame]]:
    "What a run tells, and what it can be checked by: the truth, and its submissions"
    metrics, truth = json.loads((faked / "metrics.json").read_text()), faked.parent / "data" / "truth"
    answers = {name: read_submission(faked / "submissions" / f"{name}.csv") for name in metrics["scores"]}
    assert len(answers) == 4
    return metrics, read_truth(*(truth / f"test_{level}_level.csv" for level in ("study", "image"))), answers


def test_scores_and_their_intervals_are_those_of_the_submissions_beside_them(faked, told):
    metrics, truth, answers = told
    draws = pd.read_csv(faked / "draws.csv")
    for name, one in metrics["scores"].items():
        wanted = [score(truth, answers[name]).map, *np.nanpercentile(draws[name], (2.5, 97.5))]
        assert [one[part] for part in ("map", "low", "high")] == pytest.approx(wanted, abs=2e-6)
    assert len({one["map"] for one in metrics["scores"].values()}) == 4


def test_a_lead_is_the_ensembles_score_less_the_others_on_the_same_draws(faked, told):
    metrics, truth, answers = told
    maps, draws = {name: score(truth, table).map for name, table in answers.items()}, pd.read_csv(faked / "draws.csv")
    assert set(metrics["leads"]) == set(maps) - {"ensemble"}
    for name, one in metrics["leads"].items():
        gap = (draws["ensemble"] - draws[name]).dropna()
        wanted = [maps["ensemble"] - maps[name], *np.percentile(gap, (2.5, 97.5)), (gap > 0).mean()]
        assert [one[part] for part in ("lead", "low", "high", "probability")] == pytest.approx(wanted, abs=2e-6)


def test_any_opacity_is_judged_by_one_less_none(told):
    from sklearn.metrics import roc_auc_score

    metrics, truth, answers = told
    none = answers["ensemble"].query("label == 'none'").set_index("id")["confidence"]
    boxed = none.index.isin(truth.loc[truth["label"] == "opacity", "id"])
    area = roc_auc_score(boxed, 1 - none)
    assert abs(area - 0.5) > 0.01, "else a sign would not be seen"
    assert metrics["opacity_auc"]["ensemble"]["auc"] == pytest.approx(area, abs=1e-6)


def test_always_no_box_means_the_class_that_has_none(told):
    nothing = told[2]["always no box"]
    sure = nothing[nothing["id"].str.endswith("_study") & (nothing["confidence"] == 1)]
    assert set(sure["label"]) == {"negative"}
    assert set(sure["id"]) == set(nothing.loc[nothing["id"].str.endswith("_study"), "id"])
    assert set(nothing.loc[nothing["id"].str.endswith("_image"), "label"]) == {"none"}


def test_predicting_the_test_half_again_gives_the_runs_own_submission_to_the_letter(faked, tmp_path):
    with fake_models():  # they say another thing of a mirrored image, and of another picture
        predict(faked, faked.parent / "data" / "test", tmp_path / "s.csv")
    again, first = (
        pd.read_csv(path).set_index("id").sort_index() for path in (tmp_path / "s.csv", faked / "submission.csv")
    )
    assert len(first) > 10
    pd.testing.assert_frame_equal(again, first)


def _stored_otherwise(folder: Path, orientation: str) -> None:
    "Every second X-ray of a dataset as a detector may store it, with its boxes on the stored pixels"
    import ast

    import pydicom

    table = pd.read_csv(folder / "train_image_level.csv")
    for path in sorted(folder.glob("*/*/*/*.dcm"))[::2]:
        ds = pydicom.dcmread(path)
        if ds.file_meta.TransferSyntaxUID.is_compressed:
            ds.decompress()
        height, width = ds.Rows, ds.Columns
        stored = np.ascontiguousarray(stored_so(ds.pixel_array, orientation))
        ds.PixelData, (ds.Rows, ds.Columns) = stored.tobytes(), stored.shape
        ds.PatientOrientation = orientation.split("\\")
        ds.save_as(path)
        row = table["id"] == f"{path.stem}_image"
        if not row.any() or not isinstance(table.loc[row, "boxes"].iloc[0], str):
            continue
        boxes, lines = [], []
        for box in ast.literal_eval(table.loc[row, "boxes"].iloc[0]):
            corners = [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]
            if orientation == "R\\H":
                corners = [width - corners[2], height - corners[3], width - corners[0], height - corners[1]]
            else:  # F\\L
                corners = [corners[1], corners[0], corners[3], corners[2]]
            x, y, right, bottom = corners
            boxes.append({"x": x, "y": y, "width": right - x, "height": bottom - y})
            lines.append(f"opacity 1 {x} {y} {right} {bottom}")
        table.loc[row, "boxes"], table.loc[row, "label"] = str(boxes), " ".join(lines)
    table.to_csv(folder / "train_image_level.csv", index=False)
    (folder / "headers.csv").unlink(missing_ok=True)


@pytest.mark.parametrize("orientation", ["R\\H", "F\\L"])
def test_a_run_learns_from_upright_xrays_however_they_are_stored_and_predicts_them_as_predict_does(
    faked, tmp_path, orientation
):
    shutil.copytree(faked.parent / "data", tmp_path / "data")
    _stored_otherwise(tmp_path / "data", orientation)
    with fake_models():  # what they learn and say is decided by the bytes of the pictures, and by the boxes
        run(tmp_path / "data", tmp_path / "run", profile=QUICKEST)
        predict(tmp_path / "run", tmp_path / "data" / "test", tmp_path / "s.csv")
    usual, index = (pd.read_parquet(one / "cache" / "images.parquet") for one in (faked, tmp_path / "run"))
    assert index["sha256"].tolist() == usual["sha256"].tolist()
    assert set(index["orientation"]) == {"L\\F", orientation}
    order = {"by": ["id", "label", "confidence", "x_min"], "ignore_index": True}
    places = (tmp_path / "s.csv", tmp_path / "run" / "submission.csv")
    again, own = (read_submission(path).sort_values(**order) for path in places)
    pd.testing.assert_frame_equal(again, own, atol=1e-3, rtol=0)
    boxes = open_dataset(tmp_path / "data").boxes
    there, wanted = to_cache(boxes, index), to_cache(open_dataset(faked.parent / "data").boxes, usual)
    assert len(there) > 5 and np.abs(there[BOX_COLUMNS].to_numpy() - wanted[BOX_COLUMNS].to_numpy()).max() < 0.05


def test_the_prior_is_the_share_of_each_class_and_the_middle_box_of_either_side():
    images = [("a", "s", 200, 100), ("b", "t", 50, 400), ("c", "u", 70, 70), ("d", "v", 9, 9), ("e", "w", 50, 400)]
    images = pd.DataFrame(images, columns=["image_id", "study_id", "width", "height"])
    images = images.assign(patient_id=images["study_id"], split="train", path="x.png")
    studies = pd.DataFrame({"study_id": list("stuvw"), "split": "train", "x": [1, 1, 0, 1, 0], "y": [0, 0, 1, 0, 1]})
    rows = [("a", 20, 30, 60, 70), ("a", 120, 10, 180, 50), ("b", 10, 40, 20, 80), ("b", 40, 200, 50, 400)]
    boxes = pd.DataFrame([*rows, ("e", 0, 0, 1, 1)], columns=["image_id", *BOX_COLUMNS])  # e is not learnt from
    dataset = Dataset(Path("here"), False, ("x", "y"), studies, images, boxes)
    table = prior_submission(dataset, ("s", "t", "u", "v"), images.loc[images["image_id"] == "e"])
    said = {name: rows[["confidence", *BOX_COLUMNS]].to_numpy().tolist() for name, rows in table.groupby("label")}
    assert said["x"][0][0] == 0.75 and said["y"][0][0] == 0.25 and said["none"][0][0] == 0.5
    left = np.mean([[0.1, 0.3, 0.3, 0.7], [0.2, 0.1, 0.4, 0.2]], axis=0)  # the middle of two is their mean
    right = np.mean([[0.6, 0.1, 0.9, 0.5], [0.8, 0.5, 1.0, 1.0]], axis=0)
    wanted = sorted([0.5, *side * [50, 400, 50, 400]] for side in (left, right))
    assert np.allclose(sorted(said["opacity"]), wanted)


def _keys(kind: str, **changed: dict) -> tuple[str, str]:
    "The fingerprints of a model's training and of what it says, with something changed: of images s, t, u, v, of which u is chosen by and v tested"
    of = {
        "label": dict(s=1, t=0, u=1, v=0),
        "x_min": dict(s=1, u=2, v=3),
        "sha256": {},
        "left": {},
        "part": {},
        "orientation": {},
    }
    of |= {name: of.get(name, {}) | values for name, values in changed.items()}
    names = list("stuv")
    marks = [of["label"][name] for name in names]
    studies = pd.DataFrame({"study_id": names, "split": "train", "x": marks, "y": [1 - mark for mark in marks]})
    size = {"height": 64, "width": 64}
    images = pd.DataFrame({"image_id": names, "study_id": names, "patient_id": names, "split": "train", **size})
    boxes = pd.DataFrame([(name, x, 2, 20, 20) for name, x in of["x_min"].items()], columns=["image_id", *BOX_COLUMNS])
    dataset = Dataset(Path("here"), False, ("x", "y"), studies, images, boxes)
    made = {"scale": 1.0, "scale_y": 1.0, "top": 0, "size": 64, **size}
    index = pd.DataFrame({"image_id": names, "file": names, **made})
    index["sha256"] = [of["sha256"].get(name, "0") for name in names]
    index["left"] = [of["left"].get(name, 0) for name in names]
    index["orientation"] = [of["orientation"].get(name, "L\\F") for name in names]
    part = {"s": "train", "t": "train", "u": "valid", "v": "test"} | of["part"]
    turn = Round(*(tuple(name for name in names if part[name] == one) for one in ("train", "valid", "test")))
    plan = replace(next(one for one in MODELS if one.kind == kind), **of.get("plan", {}))
    run = Run(Path("run"), dataset, index, [turn], replace(TINY, models=(plan,)), of.get("run", {}).get("seed", 0))
    trained = training_key(run, turn, of.get("run", {}).get("round", 1), plan)
    return trained, predicting_key(trained, run, turn)


@pytest.mark.parametrize(
    ("changed", "trains", "predicts"),
    [
        ({}, "", ""),
        ({"label": {"s": 0}}, "both", "both"),
        ({"label": {"u": 0}}, "both", "both"),
        ({"label": {"v": 1}}, "", ""),  # what is tested is not learnt from
        ({"x_min": {"s": 5}}, "detector", "detector"),
        ({"x_min": {"u": 5}}, "detector", "detector"),
        ({"x_min": {"t": 5}}, "detector", "detector"),  # a box where none was
        ({"x_min": {"v": 5}}, "", ""),
        ({"sha256": {"s": "1"}}, "both", "both"),
        ({"sha256": {"u": "1"}}, "both", "both"),
        ({"sha256": {"v": "1"}}, "", "both"),
        ({"left": {"v": 1}}, "", "both"),
        ({"orientation": {"v": "R\\H"}}, "", "both"),
        ({"part": {"t": "valid"}}, "both", "both"),
        ({"part": {"u": "test"}}, "both", "both"),
        ({"plan": {"epochs": 99}}, "both", "both"),
        ({"run": {"seed": 1}}, "both", "both"),
        ({"run": {"round": 2}}, "both", "both"),
    ],
)
def test_a_model_is_made_anew_when_what_it_learns_from_has_changed_and_only_then(changed, trains, predicts):
    for kind in ("classifier", "detector"):
        before, after = _keys(kind), _keys(kind, **changed)
        assert (before[0] != after[0]) == (trains in ("both", kind)), kind
        assert (before[1] != after[1]) == (predicts in ("both", kind)), kind
