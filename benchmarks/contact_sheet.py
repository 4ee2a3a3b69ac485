"""Two contact sheets of simulated X-rays, to be looked at with a radiologist's eye, point by point of benchmarks/ANATOMY.md.

    python benchmarks/contact_sheet.py [--out runs/contact_sheet] [--first 300]

Twenty-four X-rays at 512 pixels (seeds from `--first`) and eight at 1,024 (seeds from `--first` + 400), classes in turn; above each
its seed, class, view and finding. Half a minute of one core.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from covidxr.base.terms import APPEARANCES
from covidxr.phantom import simulate


def tile(seed: int, size: int) -> np.ndarray:
    "One X-ray in a square, with its words"
    xray = simulate(seed, list(APPEARANCES)[seed % 4], size=size)
    square = np.zeros((size + 20, size), np.uint8)
    height, width = xray.pixels.shape
    square[20 : 20 + height, :width] = np.round(255 * xray.pixels)
    words = f"{seed} {xray.appearance}, {xray.pose.view}{', supine' if xray.pose.supine else ''}: {xray.finding}"
    cv2.putText(square, words, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 255, 1)
    return square


def sheet(seeds: range, size: int, across: int) -> np.ndarray:
    "Tiles in rows"
    tiles = [tile(seed, size) for seed in seeds]
    return np.vstack([np.hstack(tiles[start : start + across]) for start in range(0, len(tiles), across)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/contact_sheet"))
    parser.add_argument("--first", type=int, default=300)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for first, count, size, across in ((options.first, 24, 512, 6), (options.first + 400, 8, 1024, 4)):
        path = options.out / f"{count}_at_{size}.png"
        cv2.imwrite(str(path), sheet(range(first, first + count), size, across))
        print(path)


if __name__ == "__main__":
    main()
