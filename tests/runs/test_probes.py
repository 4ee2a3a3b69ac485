"What else a run is asked: subgroups, where its classifier looks, how much lung; in metrics.json and in the report"

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from covidxr.dataset import open_dataset
from covidxr.runs import probes
from covidxr.runs.probes import answered_images, extents, group_scores, judged_pictures, pointing, true_boxes
from covidxr.runs.run import open_run


@pytest.fixture(scope="module")
def told(finished: Path) -> dict:
    return json.loads((finished / "metrics.json").read_text())["probes"]


def test_every_tested_image_is_in_one_group_of_each_kind(finished: Path, told: dict) -> None:
    table = pd.DataFrame(told["subgroups"])
    whole = table.loc[table["column"] == "all"].iloc[0]
    for name in ("view", "sex", "age"):
        part = table[table["column"] == name]
        assert part["pictures"].sum() == whole["pictures"] and part["positive"].sum() == whole["positive"]
    boxed = pd.read_csv(finished / "data" / "truth" / "test_image_level.csv")["label"].str.contains("opacity")
    assert (whole["pictures"], whole["positive"]) == (len(boxed), boxed.sum())


def test_groups_are_what_the_headers_say(finished: Path) -> None:
    run = open_run(finished)
    table = answered_images(run).set_index("image_id")
    images = open_dataset(finished / "data").images.set_index("image_id").loc[table.index]
    assert (table["view"] == images["view"]).all() and (table["sex"] == images["sex"]).all()
    old = pd.to_numeric(images["age"]) >= 70
    assert ((table["age"] == "70 or older") == old).all() and table["value"].between(0, 1).all()


def test_a_group_that_is_too_small_or_of_one_kind_has_no_score() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient_id": range(100), "view": ["AP"] * 19 + ["PA"] * 81, "sex": "F", "age": "unknown"})
    table["opacity"] = rng.random(100) < 0.5
    table["value"] = table["opacity"] + rng.normal(0, 0.5, 100)
    scores = {(row["column"], row["group"]): row for row in group_scores(table, 50, 0)}
    assert scores["view", "AP"]["auc"] is None and scores["view", "PA"]["auc"] > 0.8
    assert scores["age", "unknown"] == scores["all", "all"] | {"column": "age", "group": "unknown"}
    assert group_scores(table.assign(opacity=True), 50, 0) == []


@pytest.mark.parametrize(("where", "hits"), [("in a box", 1.0), ("in a corner", 0.0)])
def test_pointing_counts_maps_that_point_into_a_box(finished: Path, monkeypatch, where: str, hits: float) -> None:
    run = open_run(finished)
    pictures, boxes = judged_pictures(run), true_boxes(run)

    def drawn(run, images):
        heats = [np.zeros((run.profile.cache_size,) * 2) for _ in range(len(images))]
        for heat, image_id in zip(heats, images["image_id"], strict=True):
            box = boxes[boxes["image_id"] == image_id].iloc[-1]
            middle = int((box.y_min + box.y_max) / 2), int((box.x_min + box.x_max) / 2)
            heat[middle if where == "in a box" else (0, 0)] = 1.0
        return heats

    monkeypatch.setattr(probes, "heat_maps", drawn)
    found = pointing(run, pictures, boxes, most=5)
    assert (found["hits"], found["low"], found["high"], found["images"]) == (hits, hits, hits, 5)
    assert pointing(run, pictures[~pictures["image_id"].isin(boxes["image_id"])], boxes) == {}
    one = pointing(run, pictures.assign(patient_id="one"), boxes, most=5)
    assert (one["hits"], one["low"], one["high"]) == (hits, None, None)


def test_pointing_tells_which_classifier_and_its_interval(finished: Path, told: dict) -> None:
    found = told["pointing"]
    assert (finished / "models" / found["model"] / "config.json").exists()
    assert 0 <= found["low"] <= found["hits"] <= found["high"] <= 1 and 0 < found["chance"] < 1
    assert 0 < found["images"] <= 40


def test_classes_are_graded_in_their_order_and_opaque_lungs_get_more(finished: Path, told: dict) -> None:
    run = open_run(finished)
    labels = [row["label"] for row in told["extents"]]
    assert labels == [name for name in run.dataset.classes if name in labels]
    assert sum(row["images"] for row in told["extents"]) == min(100, judged_pictures(run)["label"].notna().sum())
    medians = {row["label"]: row["median"] for row in told["extents"]}
    assert medians["negative"] < medians["typical"]
    few = extents(judged_pictures(run), list(run.dataset.classes), seed=0, most=6)
    assert sum(row["images"] for row in few) == 6
    run.index["checks"] = "its header says that the view is LL, only frontal views (PA, AP) can be read"
    assert extents(judged_pictures(run), list(run.dataset.classes), seed=0) == [], "laterals have no grade"


def test_the_report_tells_all_three(finished: Path, told: dict) -> None:
    page = (finished / "report.html").read_text()
    parts = [page.index(f"<h2>{title}</h2>") for title in ("For whom it works", "Where it looks", "How much lung")]
    assert parts == sorted(parts)
    assert f"{told['pointing']['hits']:.2f}" in page[parts[1] : parts[2]] and "<img" in page[parts[1] : parts[2]]
    assert "pictures of covidxr's simulator alone" in page[parts[2] :] and "too few" in page[parts[0] : parts[1]]
    assert (finished / "figures" / "looking.png").stat().st_size > 5000


def test_without_captum_the_question_is_left_out(finished: Path, monkeypatch) -> None:
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "captum" else found(name, *more))
    run = open_run(finished)
    assert pointing(run, judged_pictures(run), true_boxes(run)) == {} and probes.looking_figure(run) is None


def test_a_classifier_without_feature_maps_is_asked_by_occlusion_and_the_report_says_so(
    finished: Path, tmp_path
) -> None:
    from covidxr.learning.models import save_model
    from covidxr.learning.networks import build_classifier
    from covidxr.runs.report import write_report

    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run = open_run(folder)
    model = probes._asked_classifier(run)
    size, classes = 64, json.loads((model / "config.json").read_text())["classes"]
    state = build_classifier("test_vit2", len(classes)).state_dict()
    given = {"kind": "classifier", "arch": "test_vit2", "classes": classes, "size": size, "mean": 0.5, "spread": 0.25}
    config = given | {"epochs": 1}
    save_model(model, state, config, pd.DataFrame({"epoch": []}))
    found = pointing(run, judged_pictures(run), true_boxes(run), most=3)
    assert found["method"] == "occlusion" and found["images"] == 3
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["probes"]["pointing"]["method"] == "grad_cam"
    metrics["probes"]["pointing"] = found
    write_report(run, metrics)
    page = (folder / "report.html").read_text()
    assert page.count("occlusion map") == 2 and "Grad-CAM" not in page
