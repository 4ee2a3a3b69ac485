"""How fast are boxes fused? Beside ensemble-boxes, on the same boxes.

    python benchmarks/fusion_speed.py [--images 6000] [--models 4] [--boxes 100] [--beside 300] [--rounds 3]

Prints medians for each method: `covidxr.ensemble` on one table of all images, `covidxr.ensemble_boxes` called image by image as
ensemble-boxes is, and ensemble-boxes itself on the first `--beside` images; then how the time grows with the images.
"""

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable

import ensemble_boxes as theirs
import numpy as np
import pandas as pd

from covidxr import ensemble_boxes
from covidxr.base.terms import BOX_COLUMNS
from covidxr.ensemble import fuse_boxes


def opinions(images: int, models: int, boxes: int, seed: int = 0) -> pd.DataFrame:
    "Boxes of several models on images of 1000 pixels a side: 60 places an image, of which each model sees some and draws others"
    rng = np.random.default_rng(seed)
    low = rng.random((images, 60, 2)) * 850
    side = 40 + rng.random((images, 60, 2)) * 100
    image = np.repeat(np.arange(images), models * boxes)
    place = rng.integers(0, 60, len(image))
    moved = rng.normal(size=(len(image), 2)) * 10
    start = np.clip(low[image, place] + moved, 0, 999)
    corners = np.hstack([start, np.clip(start + side[image, place], 0, 1000)])
    table = pd.DataFrame(
        {
            "image_id": np.char.add("image ", image.astype(str)),
            "model": np.tile(np.repeat(np.arange(models), boxes), images),
        }
    )
    return table.assign(
        **dict(zip(BOX_COLUMNS, corners.T, strict=True)), confidence=rng.random(len(image)) * 0.98 + 0.01
    )


def _lists(table: pd.DataFrame, models: int) -> list[tuple]:
    "What ensemble-boxes takes: one image at a time, corners from 0 to 1"
    parts = []
    for _, rows in table.groupby("image_id"):
        of = [rows[rows["model"] == number] for number in range(models)]
        boxes = [one[BOX_COLUMNS].to_numpy(float) / 1000 for one in of]
        parts.append(
            (boxes, [one["confidence"].to_numpy(float) for one in of], [np.zeros(len(one), int) for one in of])
        )
    return parts


def _seconds(work: Callable, rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("images", 6000), ("models", 4), ("boxes", 100), ("beside", 300), ("rounds", 3)):
        options.add_argument(f"--{name}", type=int, default=value)
    options = options.parse_args()
    table = opinions(options.images, options.models, options.boxes)
    few = table[: options.beside * options.models * options.boxes]
    lists = _lists(few, options.models)
    calls = {
        "wbf": lambda library: (
            lambda one: library.weighted_boxes_fusion(*one, iou_thr=0.55, conf_type="box_and_model_avg")
        ),
        "nmw": lambda library: lambda one: library.non_maximum_weighted(*one, iou_thr=0.55),
        "nms": lambda library: lambda one: library.nms(*one, iou_thr=0.55),
        "soft-nms": lambda library: lambda one: library.soft_nms(*one, iou_thr=0.55),
    }
    print(
        f"{len(table):,} boxes of {options.models} models on {options.images:,} images; ensemble-boxes on {options.beside} of them\n"
    )
    print(
        "| method | covidxr, one table: s | microseconds a box | image by image, ms an image | ensemble-boxes, ms an image | one table is faster | image by image is |"
    )
    print("|---|---|---|---|---|---|---|")
    for method, call in calls.items():
        # so often that loops are compiled
        fuse_boxes(few, method), fuse_boxes(few, method), call(ensemble_boxes)(lists[0]), call(theirs)(lists[0])
        ours = _seconds(lambda method=method: fuse_boxes(table, method), options.rounds)
        ways = [[] for _ in range(3)]
        for _ in range(options.rounds):  # in turn
            ways[0].append(_seconds(lambda method=method: fuse_boxes(few, method), 1))
            for way, library in ((1, ensemble_boxes), (2, theirs)):
                one = call(library)
                ways[way].append(_seconds(lambda one=one: [one(part) for part in lists], 1))
        table_s, mine, their = (statistics.median(way) / len(lists) * 1e3 for way in ways)
        print(
            f"| {method} | {ours:.2f} | {ours / len(table) * 1e6:.2f} | {mine:.2f} | {their:.2f} | {their / table_s:.0f} x | {their / mine:.0f} x |"
        )
    print("\n| images | seconds (wbf) | microseconds an image |\n|---|---|---|")
    for images in (1000, 2500, 5000, 10_000, 25_000, 50_000):
        part = opinions(images, options.models, 20)
        seconds = _seconds(lambda part=part: fuse_boxes(part, "wbf"), options.rounds)
        print(f"| {images:,} | {seconds:.3f} | {seconds / images * 1e6:.1f} |")


if __name__ == "__main__":
    main()
