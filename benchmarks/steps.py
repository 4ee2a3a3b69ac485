"""Which steps of an ensemble pay? Each one's gain over the step before it, on simulated X-rays of three seeds, or on real ones.

    python benchmarks/steps.py [RUN ...] [--draws 1000]

A RUN is a folder that `covidxr run` has finished; without one, `runs/seeds/5`, `6` and `7` of `benchmarks/three_seeds.py`. All
choices (the best single models, weights, exponents) are made on validation folds; what is printed is the part that no choice has
seen. Several runs are several seeds: scores and gains are their means. Intervals (95 %) draw the patients of each run again,
the same ones for both sides of a gain. More views than the mirror image are asked of the models anew.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from covidxr.base.progress import progress
from covidxr.classify import predict_classifier
from covidxr.detect import predict_detector
from covidxr.ensemble import (
    choose_box_weights,
    choose_class_weights,
    choose_none_exponent,
    choose_rerank_exponent,
    class_score,
    fuse_boxes,
    mean_probabilities,
    none_confidence,
    rerank_boxes,
    revise_classes,
)
from covidxr.metrics import average_precision, bootstrap_scores, score
from covidxr.prepare import from_cache
from covidxr.runs.evaluate import tested_images, tested_truth
from covidxr.runs.opinions import SAME_BOX, Opinions, empty_chance, read_opinions, study_probabilities
from covidxr.runs.run import Run, image_parts, open_run
from covidxr.stacking import fit_stacking, stack
from covidxr.submission import submission_table
from covidxr.views import VIEWS, fuse_views, predict_views

LOOKS = {"flip": "flip", "flip and scales": "flip and scales", "crops": "crops"}
BOXES = {
    "wbf": "weighted boxes fusion",
    "nmw": "non-maximum weighted",
    "nms": "suppression",
    "soft-nms": "soft suppression",
}
BEFORE = {  # each step's predecessor
    "best single classifier + best single detector": None,
    **{f"+ views: {name}": "best single classifier + best single detector" for name in LOOKS},
    **{f"+ all detectors, {name}": "+ views: flip" for name in BOXES.values()},
    "+ all classifiers, arithmetic mean": "+ all detectors, weighted boxes fusion",
    "+ all classifiers, geometric mean": "+ all detectors, weighted boxes fusion",
    "+ all classifiers, mean of ranks": "+ all detectors, weighted boxes fusion",
    "+ all classifiers, power mean": "+ all detectors, weighted boxes fusion",
    "+ all classifiers, stacked": "+ all detectors, weighted boxes fusion",
    "+ weights chosen": "+ all classifiers, geometric mean",
    "+ none: the detectors' silence": "+ all classifiers, geometric mean",
    "+ boxes ranked by 1 - none": "+ none: the detectors' silence",
    "+ classes revised by the boxes": "+ none: the detectors' silence",
    "+ both": "+ none: the detectors' silence",
}


def _truth_of(dataset, opinions: Opinions) -> tuple[pd.Series, pd.DataFrame, pd.Series]:
    "Labels by study, boxes, and what is unboxed, of a labelled part"
    boxes = dataset.boxes[dataset.boxes["image_id"].isin(opinions.images["image_id"])]
    return dataset.labels(), boxes, dataset.unboxed()[opinions.images["image_id"]]


def _best(dataset, valid: Opinions) -> tuple[str, str]:
    "The best classifier and the best detector on the validation part"
    labels, boxes, _ = _truth_of(dataset, valid)
    true = boxes.rename(columns={"image_id": "id"})
    of_class = {name: class_score(table, labels) for name, table in valid.studies.items()}
    alone = {name: part.rename(columns={"image_id": "id"}) for name, part in valid.boxes.groupby("model")}
    of_box = {name: average_precision(true, part) for name, part in alone.items()}
    return max(of_class, key=of_class.get), max(of_box, key=of_box.get)


def _submission(opinions: Opinions, studies: pd.DataFrame, boxes: pd.DataFrame, exponent: float = 0.0) -> pd.DataFrame:
    chance = empty_chance(opinions, studies)
    chance /= max(1, chance.max())  # ranks do not sum to 1 over the classes; only the order of images counts here
    return submission_table(studies, boxes, none_confidence(chance, boxes, exponent))


def _looked(
    folder: Path, opinions: Opinions, files: pd.DataFrame, index: pd.DataFrame, turn: int, names: tuple, look: str
) -> tuple:
    "What one classifier and one detector say after several views"
    classifier, detector = (folder / "models" / f"{name}-{turn}" for name in names)
    method = "nmw" if look == "crops" else "wbf"
    seen = [
        predict_views(partial(ask, place), files, VIEWS[look])
        for ask, place in ((predict_classifier, classifier), (predict_detector, detector))
    ]
    studies = study_probabilities(fuse_views(seen[0]), opinions.images, opinions.classes)
    return studies, from_cache(fuse_views(seen[1], method, SAME_BOX), index)


def _round(run: Run, number: int) -> dict[str, pd.DataFrame]:
    "The test submission of each step in one round"
    dataset, folder, index = run.dataset, run.folder, run.index
    plain, both = read_opinions(run, number), read_opinions(run, number, mirror=True)
    once, alone, valid, test = plain["valid"], plain["test"], both["valid"], both["test"]
    best = _best(dataset, once)
    labels, boxes, unboxed = _truth_of(dataset, valid)
    steps = {
        "best single classifier + best single detector": _submission(
            alone, alone.studies[best[0]], alone.boxes[alone.boxes["model"] == best[1]]
        )
    }
    files = image_parts(run, run.rounds[number - 1])
    files = files.loc[files["part"] == "test", ["image_id", "file"]]
    looked = {look: _looked(folder, test, files, index, number, best, look) for look in LOOKS}
    steps |= {f"+ views: {look}": _submission(test, *looked[look]) for look in LOOKS}
    studies, _ = looked["flip"]
    fused = {
        method: fuse_boxes(test.boxes, method, dict.fromkeys(test.boxes["model"].unique(), 1.0), SAME_BOX)
        for method in BOXES
    }
    steps |= {f"+ all detectors, {BOXES[method]}": _submission(test, studies, fused[method]) for method in BOXES}
    means = {
        "arithmetic mean": "arithmetic",
        "geometric mean": "geometric",
        "mean of ranks": "rank",
        "power mean": "power",
    }
    for name, method in means.items():
        steps[f"+ all classifiers, {name}"] = _submission(
            test, mean_probabilities(test.studies, method=method), fused["wbf"]
        )
    steps["+ all classifiers, stacked"] = _submission(
        test, stack(test.studies, fit_stacking(valid.studies, labels)), fused["wbf"]
    )
    detectors = list(test.boxes["model"].unique())
    weights = (
        choose_class_weights(valid.studies, labels, margin=0.0, method="geometric"),
        choose_box_weights(valid.boxes, boxes, detectors, margin=0.0, iou_threshold=SAME_BOX),
    )
    weighted = (
        mean_probabilities(test.studies, weights[0], "geometric"),
        fuse_boxes(test.boxes, "wbf", weights[1], SAME_BOX),
    )
    steps["+ weights chosen"] = _submission(test, *weighted)
    # from here on: the geometric mean, equal weights; exponents from the validation part
    mean = {
        part: mean_probabilities(part_.studies, method="geometric")
        for part, part_ in (("valid", valid), ("test", test))
    }
    seen = {"valid": fuse_boxes(valid.boxes, "wbf", dict.fromkeys(detectors, 1.0), SAME_BOX), "test": fused["wbf"]}
    exponent = choose_none_exponent(empty_chance(valid, mean["valid"]), seen["valid"], unboxed)
    none = {
        part: none_confidence(empty_chance(opinions, mean[part]), seen[part], exponent)
        for part, opinions in (("valid", valid), ("test", test))
    }
    ranked = rerank_boxes(seen["test"], none["test"], choose_rerank_exponent(seen["valid"], none["valid"], boxes))
    by_study = none["test"].groupby(test.images.set_index("image_id")["study_id"]).mean()
    revised = revise_classes(mean["test"], test.shares.reindex(list(test.classes)), by_study)
    steps["+ none: the detectors' silence"] = submission_table(mean["test"], seen["test"], none["test"])
    steps["+ boxes ranked by 1 - none"] = submission_table(mean["test"], ranked, none["test"])
    steps["+ classes revised by the boxes"] = submission_table(revised, seen["test"], none["test"])
    steps["+ both"] = submission_table(revised, ranked, none["test"])
    return steps


def _run(folder: Path, draws: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Scores of the steps by class, and their draws"
    run = open_run(folder)
    numbers = range(1, len(run.rounds) + 1)
    parts = [_round(run, number) for number in progress(numbers, str(folder))]
    tables = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in BEFORE}
    images = tested_images(run)
    truth = tested_truth(run, images)
    owner = pd.concat(
        [images.set_index(images[f"{kind}_id"] + f"_{kind}")["patient_id"] for kind in ("study", "image")]
    )
    owner = owner[~owner.index.duplicated()]
    results = {name: score(truth, table) for name, table in tables.items()}
    scores = pd.DataFrame({name: {"mean": one.map, **one.per_class} for name, one in results.items()}).T
    return scores, bootstrap_scores(truth, tables, owner, draws=draws, seed=run.seed)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("runs", nargs="*", type=Path, default=[Path("runs/seeds") / seed for seed in "567"])
    options.add_argument("--draws", type=int, default=1000)
    options = options.parse_args()
    done = [_run(folder, options.draws) for folder in options.runs]
    scores = sum(part for part, _ in done) / len(done)
    print("| step | mean AP | gain over the step before | |\n|---|---|---|---|")
    for name, before in BEFORE.items():
        if before is None:
            print(f"| {name} | {scores['mean'][name]:.3f} | | |")
            continue
        gaps = np.mean([again[name] - again[before] for _, again in done], axis=0)
        low, high = np.nanpercentile(gaps, (2.5, 97.5))
        gain = scores["mean"][name] - scores["mean"][before]
        says = "pays" if low > 0 else "costs" if high < 0 else "not shown"
        print(f"| {name} | {scores['mean'][name]:.3f} | {gain:+.3f} ({low:+.3f} to {high:+.3f}) | {says} |")
    print("\nAP by class\n" + scores.round(3).to_string())


if __name__ == "__main__":
    main()
