"""How alike are simulated and real X-rays? Grey levels, power spectrum, local contrast, edges, in the same preparation.

    python benchmarks/realism.py [--real ../shared/real/cxr_boxes] [--images 240] [--size 512] [--out runs/realism]

Real X-rays are 8-bit squares in FOLDER/images_512 (271 of NIH ChestX-ray14 in our checks); simulated ones are drawn square with the
course's class shares, at 512 pixels, without the word SIMULATED; with `--size 2400` at a detector's size and then shrunk to 512, as
the real ones were. For each statistic the table gives the real images' 5th, 50th and
95th percentile and the simulated median, over its whole range; a figure shows the same.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from covidxr.base.csv_files import write_table
from covidxr.base.extras import opencv
from covidxr.base.parallel import parallel
from covidxr.base.progress import progress
from covidxr.base.seeds import generator
from covidxr.base.terms import APPEARANCES
from covidxr.hospital import Shares
from covidxr.phantom import random_pose, simulate

SIZE = 512
GREY = np.linspace(0, 1, 33)
FREQUENCY = np.geomspace(0.01, 0.4, 25)  # cycles a pixel
EDGE = (0.01, 0.02, 0.04, 0.08)  # grey levels a pixel


def statistics(pixels: np.ndarray) -> dict[str, np.ndarray]:
    "What can be said of one square picture without knowing what it shows"
    cv2 = opencv()
    window = np.hanning(SIZE)[:, None] * np.hanning(SIZE)
    power = np.abs(np.fft.fft2((pixels - pixels.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    ring = np.digitize(frequency, FREQUENCY)
    mean = cv2.GaussianBlur(pixels, (0, 0), 8)
    contrast = np.sqrt(np.maximum(cv2.GaussianBlur(pixels * pixels, (0, 0), 8) - mean * mean, 0))
    slope = np.hypot(cv2.Sobel(pixels, cv2.CV_32F, 1, 0), cv2.Sobel(pixels, cv2.CV_32F, 0, 1)) / 8
    lung, middle = np.r_[contrast[150:330, 90:190], contrast[150:330, 322:422]], contrast[150:400, 226:286]
    return {
        "grey-level histogram": np.histogram(pixels, GREY)[0] / pixels.size,
        "power spectrum (log10)": np.log10([power[ring == number].mean() for number in range(1, len(FREQUENCY))]),
        "local contrast (lungs, mediastinum)": np.array([lung.mean(), middle.mean()]),
        "edge density": np.array([(slope > limit).mean() for limit in EDGE]),
    }


def _real(path: Path) -> dict[str, np.ndarray]:
    pixels = opencv().imread(str(path), opencv().IMREAD_GRAYSCALE)
    return statistics(opencv().resize(pixels, (SIZE, SIZE)).astype(np.float32) / 255)


def _simulated(task: tuple[int, int]) -> dict[str, np.ndarray]:
    seed, size = task
    shares = np.array(Shares().classes)
    appearance = str(generator(seed, "realism").choice(APPEARANCES, p=shares / shares.sum()))
    pixels = simulate(seed, appearance, size, pose=replace(random_pose(seed), aspect=1.0), marked=False).pixels
    small = pixels if size == SIZE else opencv().resize(pixels, (SIZE, SIZE), interpolation=opencv().INTER_AREA)
    return statistics(np.round(small * 255).astype(np.float32) / 255)


def compare(real: list[dict], simulated: list[dict]) -> pd.DataFrame:
    "One row a value: the real band and the simulated median"
    rows = []
    places = {"grey-level histogram": GREY[:-1], "power spectrum (log10)": FREQUENCY[:-1], "edge density": EDGE}
    for name in real[0]:
        low, median, high = np.percentile([one[name] for one in real], (5, 50, 95), axis=0)
        ours = np.median([one[name] for one in simulated], axis=0)
        for number, values in enumerate(zip(low, median, high, ours, strict=True)):
            rows.append((name, places.get(name, ("lungs", "mediastinum"))[number], *values))
    table = pd.DataFrame(rows, columns=["statistic", "at", "real 5 %", "real median", "real 95 %", "simulated median"])
    return table.assign(inside=table["simulated median"].between(table["real 5 %"], table["real 95 %"]))


def draw(table: pd.DataFrame, path: Path) -> None:
    "The table as a figure"
    from matplotlib.figure import Figure

    page = Figure(figsize=(11, 3.2), layout="constrained")
    for ax, (name, rows) in zip(page.subplots(1, 4), table.groupby("statistic", sort=False), strict=True):
        across = range(len(rows))
        ax.fill_between(across, rows["real 5 %"], rows["real 95 %"], color="#CCCCCC", label="real, 5 to 95 %")
        ax.plot(across, rows["real median"], color="#555555", label="real, median")
        ax.plot(across, rows["simulated median"], "o-", ms=3, color="#D55E00", label="simulated, median")
        shown = sorted({0, len(rows) // 2, len(rows) - 1})
        labels = [rows["at"].iloc[number] for number in shown]
        ax.set_xticks(shown, [one if isinstance(one, str) else f"{one:.2g}" for one in labels])
        ax.set_title(name, fontsize=9)
    page.axes[0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(path, dpi=110, facecolor="white")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--real", type=Path, default=Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    )
    options.add_argument("--images", type=int, default=240)
    options.add_argument("--size", type=int, default=SIZE, help="of the simulated X-rays before they are shrunk")
    options.add_argument("--out", type=Path, default=Path("runs/realism"))
    options = options.parse_args()
    files = sorted((options.real / "images_512").glob("*.png"))
    if not files:
        raise SystemExit(f"{options.real}: no images_512/*.png here; name the folder with --real")
    real = [_real(path) for path in progress(files, "real X-rays")]
    simulated = list(
        parallel(_simulated, [(seed, options.size) for seed in range(5000, 5000 + options.images)], "simulated X-rays")
    )
    table = compare(real, simulated)
    write_table(table.round(5), options.out / "realism.csv")
    draw(table, options.out / "realism.png")
    inside = table.groupby("statistic", sort=False)["inside"].agg(["sum", "size"])
    for name, row in inside.iterrows():
        print(f"{name}: simulated median inside the real 5 to 95 % band at {row['sum']} of {row['size']} values")
    print(f"table and figure: {options.out}")


if __name__ == "__main__":
    main()
