"""Calls every public function that trains, predicts, reads, writes, simulates, scores or fuses, once, in one process.

    python tests/calls.py FOLDER ANSWER.json

FOLDER is for what they write; ANSWER.json tells for each call what it changed in the process, and which files of the
working folder it opened. The order matters: later calls read what earlier ones wrote.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

OPENED: set[str] = set()  # files below the working folder that Python opened
HERE = os.getcwd() + os.sep


def _watch(event: str, arguments: tuple) -> None:
    "Python tells of each file that it opens (PEP 578)"
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith(HERE):
            OPENED.add(path.removeprefix(HERE))


class Calls:
    "The calls, each a method; what one makes is kept for the next"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def phantom_simulate(self) -> None:
        from covidxr.phantom import simulate

        self.xray = simulate(1, size=64)

    def phantom_simulate_study(self) -> None:
        from covidxr.phantom import simulate_study

        simulate_study(1, size=64)

    def hospital_simulate_dataset(self) -> None:
        from covidxr.hospital import simulate_dataset

        self.data = simulate_dataset(self.folder / "data", studies=24, seed=1, size=64, workers=1)

    def base_parallel(self) -> None:
        import math

        from covidxr.base.parallel import parallel

        list(parallel(math.sqrt, list(range(20)), "roots", workers=2))

    def dataset_xray_files(self) -> None:
        from covidxr.dataset import xray_files

        self.files = xray_files(self.data)

    def dataset_scan_headers(self) -> None:
        from covidxr.dataset import scan_headers

        scan_headers(self.files)

    def dataset_open_dataset(self) -> None:
        from covidxr.dataset import open_dataset

        self.dataset = open_dataset(self.data)

    def dataset_problems(self) -> None:
        from covidxr.dataset import problems

        problems(self.dataset)

    def dicom_read_xray(self) -> None:
        from covidxr.dicom import read_xray

        self.read = read_xray(self.files[0])

    def dicom_read_facts(self) -> None:
        from covidxr.dicom import read_facts

        self.facts = read_facts(self.files[0])

    def dicom_read_checked(self) -> None:
        from covidxr.dicom import read_checked

        read_checked(self.files[0])

    def dicom_identifying_elements(self) -> None:
        import pydicom

        from covidxr.dicom import identifying_elements

        self.header = pydicom.dcmread(self.files[0])
        identifying_elements(self.header)

    def dicom_deidentify(self) -> None:
        from covidxr.dicom import deidentify

        deidentify(self.header, "a secret")

    def dicom_write_dicom(self) -> None:
        import numpy as np

        from covidxr.dicom import XrayFacts, read_xray, write_dicom

        pixels = np.add.outer(np.arange(64), np.arange(64))
        for syntax in (
            "1.2.840.10008.1.2.1",
            "1.2.840.10008.1.2.5",
            "1.2.840.10008.1.2.4.70",
            "1.2.840.10008.1.2.4.90",
        ):
            write_dicom(self.folder / f"{syntax}.dcm", pixels, XrayFacts("one", bits_stored=8, transfer_syntax=syntax))
            read_xray(self.folder / f"{syntax}.dcm")

    def dicom_read_xray_that_is_broken(self) -> None:
        from covidxr.base.errors import XrayError
        from covidxr.dicom import read_xray

        for name, content in {
            "a.png": b"\x89PNG" + bytes(99),
            "a.jpg": b"\xff\xd8\xff" + bytes(99),
            "a.dcm": bytes(999),
        }.items():
            (self.folder / name).write_bytes(content)
            try:
                read_xray(self.folder / name)
            except XrayError:
                continue
            raise AssertionError(f"{name} was read")

    def eda_explore(self) -> None:
        from covidxr.eda import explore

        explore(self.dataset, self.folder / "eda")

    def prepare_prepare(self) -> None:
        from covidxr.prepare import prepare

        self.index = prepare(self.dataset, self.folder / "cache", size=64, workers=1)

    def prepare_read_prepared(self) -> None:
        from covidxr.prepare import read_prepared

        read_prepared(self.folder / "cache" / self.index["file"][0])

    def folds_patient_folds(self) -> None:
        from covidxr.folds import patient_folds

        self.folds = patient_folds(self.dataset, 3)

    def folds_rounds(self) -> None:
        from covidxr.folds import rounds

        self.turn = rounds(self.folds)[0]

    def classify_find_weights(self) -> None:
        from covidxr.learning.weights import find_weights

        find_weights("test_resnet")

    def classify_build_classifier(self) -> None:
        from covidxr.learning.networks import build_classifier

        build_classifier("test_resnet", 4)

    def classify_train_classifier(self) -> None:
        from covidxr.classify import train_classifier
        from covidxr.runs.profiles import QUICK
        from covidxr.runs.run import Run, image_parts

        run = Run(self.folder, self.dataset, self.index, [self.turn], QUICK, 0)
        images = image_parts(run, self.turn)
        self.images = images[images["part"].isin(["train", "valid"])].reset_index(drop=True)
        self.classifier = self.folder / "classifier"
        options = {"size": 64, "epochs": 1, "pretrained": False, "device": "cpu"}
        train_classifier(self.images, self.dataset.classes, self.classifier, **options)

    def classify_load_classifier(self) -> None:
        from covidxr.classify import load_classifier

        load_classifier(self.classifier)

    def classify_predict_classifier(self) -> None:
        from covidxr.classify import predict_classifier

        self.chances = predict_classifier(self.classifier, self.images, flip_tta=True)

    def classify_predict_classifier_views(self) -> None:
        from covidxr.classify import predict_classifier_views

        predict_classifier_views(self.classifier, self.images)

    def classify_save_classifier(self) -> None:
        from covidxr.classify import load_classifier, save_classifier

        network, config = load_classifier(self.classifier)
        save_classifier(network, self.folder / "saved", config["arch"], config["classes"], config["size"])

    def detect_build_detector(self) -> None:
        from covidxr.learning.yolo_detector import build_detector

        build_detector("yolo11n")

    def detect_train_detector(self) -> None:
        from covidxr.detect import train_detector
        from covidxr.prepare import to_cache

        self.boxes = to_cache(self.dataset.boxes, self.index)
        self.detector = self.folder / "detector"
        train_detector(self.images, self.boxes, self.detector, model="yolov8n", size=64, epochs=1, device="cpu")

    def detect_load_detector(self) -> None:
        from covidxr.detect import load_detector

        load_detector(self.detector)

    def detect_predict_detector_views(self) -> None:
        from covidxr.detect import predict_detector_views

        predict_detector_views(self.detector, self.images, confidence=1e-4)

    def detect_predict_detector(self) -> None:
        from covidxr.detect import predict_detector

        self.found = predict_detector(self.detector, self.images, confidence=1e-4, flip_tta=True, max_boxes=3)

    def detect_train_detector_that_fails(self) -> None:
        from covidxr.base.errors import ModelError
        from covidxr.detect import train_detector

        try:
            train_detector(self.images, self.boxes, self.folder / "none", model="yolo11n", size=64, epochs=1, lr0=1e6)
        except ModelError:
            return
        raise AssertionError("it learned something")

    def views_predict_views(self) -> None:
        from covidxr.classify import predict_classifier
        from covidxr.views import predict_views

        self.views = predict_views(lambda images: predict_classifier(self.classifier, images), self.images[:3])

    def views_fuse_views(self) -> None:
        from covidxr.views import fuse_views

        fuse_views(self.views)

    def ensemble_fuse_boxes(self) -> None:
        import pandas as pd

        from covidxr.ensemble import fuse_boxes

        pair = pd.concat([self.found.assign(model=name) for name in ("one", "two")], ignore_index=True)
        for method in ("wbf", "nmw", "soft-nms", "nms"):
            fuse_boxes(pair, method)

    def ensemble_boxes_weighted_boxes_fusion(self) -> None:
        from covidxr import ensemble_boxes

        lists = [[[0.1, 0.1, 0.5, 0.5]], [[0.1, 0.2, 0.5, 0.5]]], [[0.9], [0.8]], [[0], [0]]
        for name in ("weighted_boxes_fusion", "non_maximum_weighted", "nms", "soft_nms"):
            getattr(ensemble_boxes, name)(*lists)

    def ensemble_choose_class_weights(self) -> None:
        from covidxr.ensemble import choose_class_weights, mean_probabilities

        studies = self.images.set_index("image_id")["study_id"]
        table = self.chances.assign(study_id=self.chances["image_id"].map(studies)).drop(columns="image_id")
        table = table.groupby("study_id", as_index=False).mean()
        self.tables, self.labels = {"one": table, "two": table}, self.dataset.labels()
        mean_probabilities(self.tables, method="rank")
        choose_class_weights(self.tables, self.labels)

    def ensemble_choose_box_weights(self) -> None:
        import pandas as pd

        from covidxr.ensemble import choose_box_weights

        pair = pd.concat([self.found.assign(model=name) for name in ("one", "two")], ignore_index=True)
        choose_box_weights(pair, self.boxes, ["one", "two"])

    def stacking_fit_stacking(self) -> None:
        from covidxr.stacking import fit_stacking

        self.stacking = fit_stacking(self.tables, self.labels)

    def stacking_stack(self) -> None:
        from covidxr.stacking import stack

        stack(self.tables, self.stacking)

    def stacking_nested_fusion(self) -> None:
        from covidxr.stacking import FUSIONS, nested_fusion

        studies = self.tables["one"]["study_id"]
        fusions = dict(list(FUSIONS.items())[:2])  # stacking wants each class in each fold
        nested_fusion(self.tables, self.labels, studies.set_axis(studies), fusions, folds=2, draws=5)

    def explain_explain(self) -> None:
        from covidxr.explain import explain
        from covidxr.phantom import simulate

        for method in ("grad_cam", "occlusion", "gradients", "map"):
            explain(None, simulate(1, size=64), method)

    def metrics_roc_auc(self) -> None:
        from covidxr.metrics import auc_difference, operating_point, roc_auc

        truth, value = [True, False] * 10, list(range(20))
        roc_auc(truth, value, draws=20)
        auc_difference(truth, value, value[::-1], draws=20)
        operating_point(truth, value, threshold=5)

    def pipeline_run(self) -> None:
        from dataclasses import replace

        from fakes import MODELS, networks_that_learn_nothing

        from covidxr.pipeline import run
        from covidxr.runs.profiles import QUICK

        tiny = replace(QUICK, name="tiny", cache_size=64, draws=20, folds=3, turns=2, models=MODELS)
        self.run = self.folder / "run"
        with networks_that_learn_nothing():  # the calls above train and predict in earnest
            run(self.data, self.run, profile=tiny)

    def pipeline_predict(self) -> None:
        from fakes import networks_that_learn_nothing

        from covidxr.pipeline import predict

        with networks_that_learn_nothing():
            predict(self.run, self.files[:2], self.folder / "predicted.csv")

    def submission_score_submission(self) -> None:
        from covidxr.submission import score_submission

        score_submission(self.data, self.run / "submission.csv")

    def submission_compare_submissions(self) -> None:
        from covidxr.submission import compare_submissions

        one = self.run / "submission.csv"
        compare_submissions(self.data, {"one": one, "two": one}, draws=20)

    def submission_fuse_submission_files(self) -> None:
        from covidxr.submission import fuse_submission_files

        fuse_submission_files([self.run / "submission.csv", self.run / "submission.csv"], self.folder / "fused.csv")

    def submission_read_submission(self) -> None:
        from covidxr.submission import read_submission, read_truth, write_submission

        table = read_submission(self.folder / "fused.csv")
        read_truth(self.data)
        write_submission(table, list(dict.fromkeys(table["id"])), self.folder / "written.csv")

    def course_write_course(self) -> None:
        from covidxr.course import write_course

        write_course(self.folder / "course")

    def course_exercise(self) -> None:
        from covidxr.course import exercise
        from covidxr.metrics import box_iou

        exercise("metrics.1").check(box_iou)

    def cli_main(self) -> None:
        from covidxr.cli import main

        assert main(["score", str(self.data), str(self.run / "submission.csv"), "--json"]) == 0
        assert main(["score", "nowhere", "nothing.csv"]) == 2

    def doctor_check_installation(self) -> None:
        from covidxr.doctor import check_installation

        check_installation()


NAMES = [name for name, one in vars(Calls).items() if callable(one) and not name.startswith("_")]


def _measured(work: Callable[[], Any]) -> dict[str, Any]:
    "What one call changes, and the files of the working folder that it opens"
    from state import changes, state

    OPENED.clear()
    said, before = StringIO(), state()
    with redirect_stdout(said), redirect_stderr(said):
        import time

        t = time.process_time()
        work()
    print(work.__name__, round(time.process_time() - t, 2), file=sys.stderr, flush=True)
    after = state()
    return {"changed": changes(before, after), "opened": sorted(OPENED)}


def main(folder: str, answer: str) -> None:
    "Load what a user of such data has loaded, then call one after another"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import cv2  # noqa: F401
        import joblib  # noqa: F401
        import matplotlib  # noqa: F401
        import numba  # noqa: F401
        import pandas  # noqa: F401
        import PIL.ImageFile  # noqa: F401
        import pydicom  # noqa: F401
        import scipy.stats  # noqa: F401
        import sklearn  # noqa: F401
        import torch  # noqa: F401
    sys.addaudithook(_watch)
    calls, found = Calls(Path(folder)), {}
    for name in NAMES:
        found[name] = _measured(getattr(calls, name))
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
