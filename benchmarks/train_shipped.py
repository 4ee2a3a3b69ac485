"""Train the network that covidxr ships, and write its card: the whole way from nothing, for anybody to run again.

    python benchmarks/train_shipped.py [--out covidxr/learning/shipped] [--work runs/shipped] [--epochs 4]

1. Simulates 20,000 X-rays to learn from and 3,000 to be examined on, in pieces that an interrupted call finds again (about
   25 minutes of one core).
2. Trains one network of 0.4 million weights for the four classes, the map of the opacities and the extent of disease (about
   a quarter of an hour of one core). Nothing is chosen by the 3,000.
3. Examines it on the 3,000, and on the real X-rays of `--real` where that folder is there.
4. Writes model.safetensors, config.json, history.csv and README.md, the card with all figures; and model.onnx, the plan
   for onnxruntime, looked at on 100 X-rays. `--graph` does this alone, for the network that is there.
"""

import argparse
import hashlib
import os
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from covidxr import __version__
from covidxr.base.extras import opencv
from covidxr.base.files import atomic_path
from covidxr.base.parallel import parallel
from covidxr.base.seeds import generator
from covidxr.base.terms import BOX_COLUMNS
from covidxr.boxes.network_answers import map_boxes
from covidxr.learning.map_training import ask_maps, fit_maps, load_maps, map_plan, predict_maps
from covidxr.learning.maps import MapTruth
from covidxr.learning.models import save_model
from covidxr.learning.onnx_export import export_graph
from covidxr.metrics import average_precision, roc_auc
from covidxr.phantom import simulate
from covidxr.prepare import fit_square

SIZE, CELL, PIECE = 128, 4, 500  # pixels of a picture and of a mask's cell; X-rays per file
SHARES = {"negative": 0.3, "typical": 0.35, "indeterminate": 0.2, "atypical": 0.15}
CLASSES = list(SHARES)
TRAIN, TEST = (500_000, 41), (900_000, 6)  # first seed and number of pieces; the last one of TRAIN is only looked at


def _cover(masks: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    "The share of each cell that some mask covers, 0 to 255"
    whole = np.any([np.zeros(shape, bool), *masks], axis=0).astype(np.float64)
    square, _ = fit_square(whole, SIZE)
    return np.round(square.reshape(SIZE // CELL, CELL, SIZE // CELL, CELL).mean((1, 3))).astype(np.uint8)


def one_xray(seed: int) -> dict:
    "A simulated X-ray as the network sees it, with its truth"
    appearance = str(generator(seed, "shipped").choice(CLASSES, p=list(SHARES.values())))
    xray = simulate(seed, appearance, 160, marked=False)
    picture, place = fit_square(xray.pixels, SIZE)
    moved = xray.boxes[BOX_COLUMNS].to_numpy() * place["scale"] + [place["left"], place["top"]] * 2
    return {
        "picture": picture,
        "mask": _cover(xray.opacities, xray.pixels.shape),
        "label": CLASSES.index(appearance),
        "extent": np.float32(xray.severity()["extent"]),
        "boxes": moved,
    }


def _piece(task: tuple[Path, int]) -> Path:
    "Simulate some X-rays into a file, unless it is there"
    path, first = task
    if not path.exists():
        opencv().setNumThreads(1)
        rows = [one_xray(seed) for seed in range(first, first + PIECE)]
        data = {name: np.array([row[name] for row in rows]) for name in ("picture", "mask", "label", "extent")}
        boxes = [np.c_[np.full(len(row["boxes"]), place), row["boxes"]] for place, row in enumerate(rows)]
        with atomic_path(path) as partial, open(partial, "wb") as out:
            np.savez_compressed(out, boxes=np.concatenate(boxes), **data)
    return path


def simulated(folder: Path, name: str, first: int, pieces: int) -> tuple[np.ndarray, MapTruth, pd.DataFrame]:
    "Pictures, what should be said of them, and their boxes"
    folder.mkdir(parents=True, exist_ok=True)
    kind = hashlib.sha256(f"{__version__} {SIZE} {CELL} {SHARES} {first}".encode()).hexdigest()[:8]
    tasks = [(folder / f"{name}-{kind}-{place:03d}.npz", first + PIECE * place) for place in range(pieces)]
    held, boxes = {"picture": [], "mask": [], "label": [], "extent": []}, []
    for place, path in enumerate(parallel(_piece, tasks, f"simulate X-rays ({name})", few=0)):
        with np.load(path) as data:
            for key, kept in held.items():
                kept.append(data[key])
            boxes.append(data["boxes"] + [PIECE * place, 0, 0, 0, 0])
    held = {key: np.concatenate(kept) for key, kept in held.items()}
    table = pd.DataFrame(np.concatenate(boxes), columns=["id", *BOX_COLUMNS])
    return held["picture"], MapTruth(held["mask"], held["label"], held["extent"]), table


def ask_all(folder: Path, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Maps, classes and extents of many pictures"
    networks, _ = load_maps(folder, "cpu")
    answers = [ask_maps(networks, pictures[start : start + 64]) for start in range(0, len(pictures), 64)]
    return tuple(np.concatenate(one) for one in zip(*answers, strict=True))


def _between(value: float, draws: np.ndarray) -> str:
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def examined(folder: Path, pictures: np.ndarray, truth: MapTruth, boxes: pd.DataFrame, stride: int) -> list[str]:
    "The card's rows for simulated X-rays, each with a 95 % interval by resampling them"
    maps, chances, extents = ask_all(folder, pictures)
    said, rng = chances.argmax(1), generator(0, "card")
    draws = rng.integers(0, len(said), (1000, len(said)))
    right = said == truth.labels
    lazy = truth.labels == np.bincount(truth.labels).argmax()
    rows = [
        f"| accuracy, four classes | {_between(right.mean(), right[draws].mean(1))} | always typical {lazy.mean():.3f} |"
    ]
    for place, name in enumerate(CLASSES):
        area = roc_auc(truth.labels == place, chances[:, place])
        value = f"{area['auc']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
        rows.append(f"| ROC AUC, {name} against the others | {value} | chance 0.5 |")
    error = np.abs(extents - truth.extents)
    usual = np.abs(truth.extents - np.median(truth.extents)).mean()
    rows.append(
        f"| mean absolute error of the extent, 0 to 8 | {_between(error.mean(), error[draws].mean(1))} | always the median {usual:.3f} |"
    )
    place = {"scale": 1.0, "left": 0.0, "top": 0.0}
    found = [map_boxes(one, place, stride=stride).assign(id=number) for number, one in enumerate(maps)]
    hits = average_precision(boxes, pd.concat(found, ignore_index=True))
    rows.append(f"| AP of the map's boxes at IoU > 0.5 | {hits:.3f} | |")
    return rows


def on_real(folder: Path, real: Path) -> list[str]:
    "The card's rows for real X-rays: an opacity or none, without having seen a real X-ray before"
    if not (real / "images.csv").exists():
        return []
    table = pd.read_csv(real / "images.csv", dtype={"patient_id": str})
    table["image_id"], target = table["file"].str.removesuffix(".png"), table["n_boxes"] > 0
    table["file"] = [str(real / "images_512" / name) for name in table["file"]]
    said = predict_maps(folder, table[["image_id", "file"]])
    rows = []
    for name, value in (
        ("the map's surest cells", said.table["map_opacity"]),
        ("1 - negative", 1 - said.table["negative"]),
    ):
        area = roc_auc(target, value, table["patient_id"])
        value = f"{area['auc']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
        rows.append(f"| real X-rays, opacity or none, ROC AUC by {name} | {value} | chance 0.5 |")
    return rows


CARD = """# The network that covidxr ships

For teaching and research. **Not for clinical use.** It learnt from simulated X-rays alone.

- **What it says of one frontal chest X-ray:** the probabilities of negative, typical, indeterminate and atypical; a map of the opacities; the extent of disease from 0 to 8.
- **Network:** {arch}, {weights:,} weights, {megabytes:.1f} MB, {size} x {size} pixels, a cell of the map per {stride} pixels, from random weights. Licence: that of covidxr; the plan is timm's (Apache-2.0).
- **Data:** {train:,} X-rays simulated by covidxr {version} with the seeds {first} to {last}; class shares {shares}; no marks, no real X-ray.
- **Training:** `python benchmarks/train_shipped.py`: {epochs} epochs, seed {seed}, one-cycle rule up to {rate}, batches of {batch}; the last epoch is kept, nothing was chosen by the test.
- **Time:** {seconds:.3f} s of network per X-ray on one core after the imports, its mirror image included.

| on {test:,} other simulated X-rays (seeds {test_first} to {test_last}) | value (95 % interval) | beside it |
|---|---|---|
{rows}

## Limits

- Real X-rays are richer than simulated ones; the figures on simulated X-rays say nothing about real ones.
- It knows no word for "this is no chest X-ray" and answers all the same; probabilities are not calibrated for other shares of the classes.
- Children, lateral views and rotated pictures were never shown to it.
"""


def seconds_per_xray(folder: Path, picture: np.ndarray) -> float:
    "One X-ray on one core, the fastest of twenty"
    threads, (networks, _) = torch.get_num_threads(), load_maps(folder, "cpu")
    torch.set_num_threads(1)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        ask_maps(networks, picture[None])
        times.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return min(times)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, default=Path("covidxr/learning/shipped"))
    options.add_argument("--work", type=Path, default=Path("runs/shipped"), help="where simulated X-rays are kept")
    real = Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    options.add_argument("--real", type=Path, default=real, help="real X-rays to report on; left out where absent")
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--pieces", type=int, default=TRAIN[1], help=f"files of {PIECE} X-rays to learn from")
    options.add_argument("--graph", action="store_true", help="only write model.onnx again")
    options = options.parse_args()
    if options.graph:
        print(f"model.onnx: {export_graph(options.out):.1e} from PyTorch's answers at most")
        return
    test = simulated(options.work, "test", *TEST)
    pictures, truth, _ = simulated(options.work, "train", TRAIN[0], options.pieces)
    plan = map_plan(CLASSES, "test_resnet", SIZE, options.epochs, 5e-3, 64, stride=8, device="cpu")
    valid = np.zeros(len(pictures), bool)
    valid[-PIECE:] = True  # a curve to look at
    state, history = fit_maps(pictures, truth, valid, plan)
    plan |= {
        "pretrained": False,
        "why": "the plan",
        "kept": "last epoch",
        "answer": None,
        "train_images": len(pictures) - PIECE,
        "valid_images": PIECE,
        "versions": {name: version(name) for name in ("torch", "fastai", "timm")},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    save_model(options.out, state, plan, history)
    export_graph(options.out)
    card = CARD.format(
        arch=plan["arch"],
        weights=sum(value.numel() for value in state.values()),
        megabytes=(options.out / "model.safetensors").stat().st_size / 1e6,
        size=SIZE,
        stride=plan["stride"],
        train=len(pictures) - PIECE,
        version=__version__,
        first=TRAIN[0],
        last=TRAIN[0] + len(pictures) - PIECE - 1,
        shares=", ".join(f"{name} {share}" for name, share in SHARES.items()),
        epochs=options.epochs,
        seed=plan["seed"],
        rate=plan["learning_rate"],
        batch=plan["batch_size"],
        seconds=seconds_per_xray(options.out, test[0][0]),
        test=len(test[0]),
        test_first=TEST[0],
        test_last=TEST[0] + len(test[0]) - 1,
        rows="\n".join(examined(options.out, *test, plan["stride"]) + on_real(options.out, options.real)),
    )
    (options.out / "README.md").write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    main()
