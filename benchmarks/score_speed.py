"""How fast is a score? Beside the libraries that people take instead, on the same boxes.

    python benchmarks/score_speed.py [--images 6334] [--boxes 50] [--rounds 3]

Prints a table of medians on one core: `covidxr.metrics.score` in both methods, faster-coco-eval, pycocotools and torchmetrics, all
at IoU 0.5. Two columns of seconds: from tables or lists in memory to the number, and, for the COCO evaluators, from what they have
loaded (`createIndex`, `loadRes`) to the number; the lists themselves are made beforehand, outside both. Then 1,000 bootstraps of
patients on all cores; then how the time grows with the images. The boxes are random: one truth for two images and class, and one prediction in ten near it.
"""

import argparse
import contextlib
import io
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from covidxr.base.terms import BOX_COLUMNS
from covidxr.boxes.competition import COMPETITION_LABELS
from covidxr.metrics import bootstrap_scores, score


def tables(images: int, boxes: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    "A truth and a prediction of six classes, so many boxes for each image and class"
    rng = np.random.default_rng(seed)
    ids = np.array([f"{number:012x}_image" for number in range(images)])
    place = np.tile(np.repeat(np.arange(6), boxes), images)
    image = np.repeat(np.arange(images), 6 * boxes)
    low = rng.random((images, 6, 2)) * 400
    side = 40 + rng.random((images, 6, 2)) * 80
    there = rng.random((images, 6)) < 0.5
    near = rng.random(len(image)) < 0.1
    start = np.where(
        near[:, None], low[image, place] + rng.normal(size=(len(image), 2)) * 8, rng.random((len(image), 2)) * 400
    )
    size = np.where(near[:, None], side[image, place], 40 + rng.random((len(image), 2)) * 80)
    sure = np.clip(0.3 * near + rng.random(len(image)) * 0.7, 0, 1)
    name = np.array(COMPETITION_LABELS)
    where = np.nonzero(there)
    corners = np.concatenate([low, low + side], axis=2)[where]
    truth = pd.DataFrame(
        {"id": ids[where[0]], "label": name[where[1]], **dict(zip(BOX_COLUMNS, corners.T, strict=True))}
    )
    found = np.hstack([start, start + size])
    guess = {"id": ids[image], "label": name[place], "confidence": sure, **dict(zip(BOX_COLUMNS, found.T, strict=True))}
    return truth, pd.DataFrame(guess)


def _coco(truth: pd.DataFrame, prediction: pd.DataFrame, fast: bool) -> tuple[Callable, Callable]:
    "faster-coco-eval or pycocotools, its lists made beforehand: what loads them, and what scores them once they are loaded"
    if fast:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    ids = {name: number for number, name in enumerate(pd.unique(pd.concat([truth["id"], prediction["id"]])), 1)}
    labels = {name: number for number, name in enumerate(COMPETITION_LABELS, 1)}

    def rows(table: pd.DataFrame) -> list[dict]:
        x, y, right, bottom = table[BOX_COLUMNS].to_numpy(float).T
        sure = table["confidence"] if "confidence" in table else np.ones(len(table))
        parts = zip(table["id"].map(ids), table["label"].map(labels), x, y, right - x, bottom - y, sure, strict=True)
        return [
            {"id": n, "image_id": i, "category_id": c, "bbox": [a, b, w, h], "area": w * h, "iscrowd": 0, "score": s}
            for n, (i, c, a, b, w, h, s) in enumerate(parts, 1)
        ]

    known, said = rows(truth), rows(prediction)

    def load() -> tuple:
        with contextlib.redirect_stdout(io.StringIO()):
            images, kinds = [{"id": number} for number in ids.values()], [{"id": number} for number in labels.values()]
            base = COCO()
            base.dataset = {"info": {}, "images": images, "categories": kinds, "annotations": known}
            base.createIndex()
            return base, base.loadRes([dict(row) for row in said])

    def work(base: object, found: object) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            run = COCOeval(base, found, "bbox")
            run.params.iouThrs, run.params.maxDets = np.array([0.5]), [1, 10, 1000]
            run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
            run.evaluate()
            run.accumulate()
        return float(run.eval["precision"][0, :, :, 0, 2].mean())

    return load, work


def _torchmetrics(truth: pd.DataFrame, prediction: pd.DataFrame) -> Callable[[], float]:
    "torchmetrics' MeanAveragePrecision, its tensors made beforehand"
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    torch.set_num_threads(1)
    labels = {name: number for number, name in enumerate(COMPETITION_LABELS)}

    def parts(table: pd.DataFrame) -> dict[str, dict]:
        found = {}
        for name, rows in table.groupby("id"):
            found[name] = {
                "boxes": torch.tensor(rows[BOX_COLUMNS].to_numpy(float), dtype=torch.float32),
                "labels": torch.tensor(rows["label"].map(labels).to_numpy()),
            }
            if "confidence" in rows:
                found[name]["scores"] = torch.tensor(rows["confidence"].to_numpy(float), dtype=torch.float32)
        return found

    true, said = parts(truth), parts(prediction)
    none = {"boxes": torch.zeros((0, 4)), "labels": torch.zeros(0, dtype=torch.int64)}

    def work() -> float:
        metric = MeanAveragePrecision(
            iou_thresholds=[0.5]
        )  # at most 100 boxes of a class and image, which are more than there are
        metric.warn_on_many_detections = False
        metric.update(list(said.values()), [true.get(name, none) for name in said])
        return float(metric.compute()["map"])

    return work


def _whole(truth: pd.DataFrame, prediction: pd.DataFrame) -> dict[str, tuple[Callable, Callable]]:
    "Each library's way from its input to the number, in two parts: what loads the input, and what scores it"
    nothing = lambda: ()  # noqa: E731
    return {
        "covidxr, VOC": (nothing, lambda: score(truth, prediction).map),
        "covidxr, COCO": (nothing, lambda: score(truth, prediction, method="coco").map),
        "faster-coco-eval": _coco(truth, prediction, fast=True),
        "pycocotools": _coco(truth, prediction, fast=False),
        "torchmetrics": (nothing, _torchmetrics(truth, prediction)),
    }


def _seconds(work: Callable) -> tuple[float, object]:
    started = time.perf_counter()
    value = work()
    return time.perf_counter() - started, value


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, default=6334)
    options.add_argument("--boxes", type=int, default=50)
    options.add_argument("--rounds", type=int, default=3)
    options = options.parse_args()
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_cores)})
    score(*tables(1000, 50)), score(*tables(1000, 50), method="coco")  # so many that loops are compiled
    truth, prediction = tables(options.images, options.boxes)
    print(f"{options.images:,} images, {len(prediction):,} predictions, {len(truth):,} truths, one core\n")
    taken: dict[str, list] = {}
    ways = _whole(truth, prediction)
    for _ in range(options.rounds):
        for name, (load, work) in ways.items():
            loading, loaded = _seconds(load)
            scoring, value = _seconds(lambda work=work, loaded=loaded: work(*loaded))
            taken.setdefault(name, []).append((loading + scoring, scoring, value))
    middles = {name: [statistics.median(one[part] for one in rows) for part in (0, 1)] for name, rows in taken.items()}
    ours = middles["covidxr, VOC"][0]
    print(
        "| score | seconds | times covidxr's | seconds, once loaded | times covidxr's | mean AP |\n|---|---|---|---|---|---|"
    )
    for name, (whole, scored) in middles.items():
        value = taken[name][0][2]
        apart = f"{scored:.2f} | {scored / ours:.1f}" if name in ("faster-coco-eval", "pycocotools") else "- | -"
        print(f"| {name} | {whole:.2f} | {whole / ours:.1f} | {apart} | {value:.12f} |")
    os.sched_setaffinity(0, all_cores)
    ids = truth["id"].unique()
    patients = pd.Series([f"p{number // 2}" for number in range(len(ids))], index=ids)
    seconds, _ = _seconds(lambda: len(bootstrap_scores(truth, {"one": prediction}, patients, draws=1000)))
    print(f"\n1,000 bootstraps of {len(ids) // 2:,} patients on {len(all_cores)} cores: {seconds:.1f} s\n")
    os.sched_setaffinity(0, {min(all_cores)})
    print("| images | seconds | microseconds an image |\n|---|---|---|")
    for images in (1000, 2500, 5000, 10_000, 25_000, 50_000):
        pair = tables(images, 10)
        seconds = statistics.median(_seconds(lambda pair=pair: score(*pair).map)[0] for _ in range(options.rounds))
        print(f"| {images:,} | {seconds:.3f} | {seconds / images * 1e6:.1f} |")


if __name__ == "__main__":
    main()
