"""How long does a classifier learn that starts from covidxr's own weights, where those do not know the data's classes?

    python benchmarks/new_classes.py RUN [--classes 3] [--seed 0]

RUN is a folder that `covidxr run --data` has finished, with folds that take turns: its prepared images, folds and seeds are used.
The quick profile's first classifier (test_resnet with a map, 128 px) is trained in each turn with several schedules, from
covidxr's own weights and from random ones. Half of the patients (drawn by chance) are those to choose by: a schedule is
judged by what it says of their images in the validation folds. What is left is to report: the test folds of the other half, and
of all. Printed is the ROC AUC of `any box` with its 95 % interval (patients drawn again), and the lead of own over random weights.
With `--classes 2` the classes are "boxed" and "clear", for which the map answers and not the layer of the classes.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from covidxr.base.progress import progress
from covidxr.base.seeds import generator
from covidxr.classify import predict_classifier_views, train_classifier
from covidxr.metrics import auc_difference, roc_auc
from covidxr.runs.run import Run, image_parts, open_run
from covidxr.runs.training import _learning_boxes, _model_seed

# epochs, learning rate, and where from; the first of each kind is what the profile had before
SCHEDULES = [
    *[("simulated", epochs, rate) for epochs, rate in ((3, 3e-4), (8, 1e-3), (12, 1e-3), (12, 3e-3), (20, 3e-3))],
    *[("random", epochs, rate) for epochs, rate in ((12, 3e-3), (12, 1e-2), (30, 3e-3))],
]


def said_by(run: Run, start: str, epochs: int, rate: float, two: bool) -> pd.DataFrame:
    "Each image that was not learnt from, turn by turn: part, and how sure the classifier is of a box"
    boxed, plan, tables = ~run.dataset.unboxed(), run.profile.models[0], []
    for number, split in enumerate(run.rounds, start=1):
        images = image_parts(run, split)
        if two:
            images["label"] = np.where(images["image_id"].map(boxed), "boxed", "clear")
        classes = ["boxed", "clear"] if two else list(run.dataset.classes)
        learning = images[images["part"].isin(["train", "valid"])]
        train = images[images["part"] == "train"]
        shares = (
            train["image_id"].map(boxed).astype(float).groupby(train["label"]).mean().reindex(classes, fill_value=0)
        )
        with tempfile.TemporaryDirectory() as folder:
            how = {"size": plan.size, "epochs": epochs, "batch_size": plan.batch_size, "learning_rate": rate}
            how |= {"seed": _model_seed(plan, number, run.seed), "boxes": _learning_boxes(run, learning)}
            how |= {"pretrained": start if start == "simulated" else False}
            train_classifier(learning, classes, Path(folder) / "model", arch=plan.arch, **how)
            unseen = images[images["part"] != "train"]
            _, mirrored = predict_classifier_views(Path(folder) / "model", unseen)
        table = mirrored.merge(images[["image_id", "part"]], on="image_id")
        tables.append(table.assign(sure=table[classes] @ shares)[["image_id", "part", "sure"]])
    said = pd.concat(tables, ignore_index=True)
    return said.assign(boxed=said["image_id"].map(boxed))


def interval(found: dict, name: str = "auc") -> str:
    "A number with its interval"
    return f"{found[name]:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("run", help="a finished run on real X-rays")
    words.add_argument(
        "--classes", type=int, choices=[2, 3], default=3, help="2: boxed and clear; 3: those of the data"
    )
    words.add_argument("--seed", type=int, default=0, help="decides which half of the patients is to choose by")
    options = words.parse_args()
    run = open_run(options.run)
    patients = run.dataset.images.set_index("image_id")["patient_id"]
    drawn = generator(options.seed, "the half to choose by").permutation(sorted(patients.unique()))
    first = set(drawn[: len(drawn) // 2])
    print(
        "| weights | epochs | rate | chosen by: half, validation | other half, test | all, test |\n|---|---|---|---|---|---|"
    )
    kept = {}
    for start, epochs, rate in progress(SCHEDULES, "schedules"):
        said = said_by(run, start, epochs, rate, options.classes == 2)
        said["patient"] = said["image_id"].map(patients)
        mine, test = said["patient"].isin(first), said["part"] == "test"
        parts = [said[mine & ~test], said[~mine & test], said[test]]
        cells = [interval(roc_auc(one["boxed"], one["sure"], one["patient"])) for one in parts]
        print(f"| {start} | {epochs} | {rate:g} | {' | '.join(cells)} |", flush=True)
        kept[start, epochs, rate] = parts[2].set_index("image_id")
    own, other = kept["simulated", 12, 3e-3], kept["random", 12, 3e-3]
    lead = auc_difference(own["boxed"], own["sure"], other["sure"].reindex(own.index), own["patient"])
    print(f"\nown over random weights, 12 epochs at 3e-3, all in test folds: {interval(lead, 'lead')}")


if __name__ == "__main__":
    main()
