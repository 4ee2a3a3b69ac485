"""What pays when X-rays are few? Weights, augmentation, a map, picture size and number of pictures, one changed at a time.

    python benchmarks/little.py [--out runs/little] [--seeds 3] [--deals 2] [--real ../shared/real/cxr_boxes] [--tiny]

Two questions, each asked of the same small set of settings:

- simulated: the four classes of the course's X-rays, learnt from 200 of its training images, told by the mean AP on the test images;
- real: opacity or none on 271 real X-rays (`--real`; left out where absent), three folds by patient, told by the ROC AUC.

A setting is a `MapNetwork` trained for a fixed number of epochs; the last epoch counts. The learning rate of each kind of start is
chosen once, by the simulated validation images and a seed that is used for nothing else; no test image and no real X-ray chooses
anything. A seed deals the training images (or the folds), the first weights, alike for both sides of
a comparison: three seeds for the simulated X-rays, two for the real ones. Intervals (95 %) draw seeds and patients again, the same
for both sides. Each training writes a row of trainings.csv and its answers, so an interrupted call goes on where it stopped (about
35 minutes of one core in all).
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from real import ranks, real_tables
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from torch.nn.functional import cross_entropy

from covidxr.base.csv_files import write_table
from covidxr.base.seeds import generator
from covidxr.base.terms import APPEARANCES
from covidxr.boxes.network_answers import surest
from covidxr.course.folder import course_boxes, course_images
from covidxr.learning.data import read_squares
from covidxr.learning.map_training import ask_maps
from covidxr.learning.maps import MapNetwork, MapTruth, box_masks, map_loss, standardised, start_from, varied
from covidxr.learning.weights import find_weights, read_weights
from covidxr.prepare import to_cache

BATCH, STRIDE, CHOOSING = 16, 8, 100  # pictures per step; pixels per cell of the map; the seed that chooses rates
SMALL, LITE = "test_resnet", "tf_efficientnet_lite0"
RATES = {SMALL: (3e-3, 1e-2), LITE: (1e-3, 3e-3)}
BASE = {"arch": SMALL, "start": "random", "augment": True, "map": True, "size": 96, "images": 200, "epochs": 20}
REAL = BASE | {"arch": LITE, "start": "ImageNet", "epochs": 6, "images": 1.0}
SETTINGS = {
    "simulated": {
        "reference": BASE,
        "simulated weights": BASE | {"start": "simulated"},
        "no augmentation": BASE | {"augment": False},
        "no map": BASE | {"map": False},
        "64 px": BASE | {"size": 64},
        "1,000 images": BASE | {"images": 1000, "epochs": 8},
        "lite0, random weights": BASE | {"arch": LITE, "epochs": 10},
        "lite0, ImageNet weights": BASE | {"arch": LITE, "epochs": 10, "start": "ImageNet"},
    },
    "real": {
        "reference": REAL,
        "lite0, random weights": REAL | {"start": "random"},
        "no augmentation": REAL | {"augment": False},
        "no map": REAL | {"map": False},
        "64 px": REAL | {"size": 64},
        "half the images": REAL | {"images": 0.5},
        "resnet, random weights": REAL | {"arch": SMALL, "start": "random", "epochs": 20},
        "resnet, simulated weights": REAL | {"arch": SMALL, "start": "simulated", "epochs": 20},
    },
}
COMPARISONS = [  # data, what is changed, with it, without it
    ("simulated", "simulated weights for random ones", "simulated weights", "reference"),
    ("simulated", "ImageNet weights for random ones", "lite0, ImageNet weights", "lite0, random weights"),
    ("simulated", "ImageNet's for simulated weights", "lite0, ImageNet weights", "simulated weights"),
    ("simulated", "augmentation", "reference", "no augmentation"),
    ("simulated", "a map beside the answer", "reference", "no map"),
    ("simulated", "96 px for 64", "reference", "64 px"),
    ("simulated", "five times the images", "1,000 images", "reference"),
    ("real", "simulated weights for random ones", "resnet, simulated weights", "resnet, random weights"),
    ("real", "ImageNet weights for random ones", "reference", "lite0, random weights"),
    ("real", "ImageNet's for simulated weights", "reference", "resnet, simulated weights"),
    ("real", "augmentation", "reference", "no augmentation"),
    ("real", "a map beside the answer", "reference", "no map"),
    ("real", "96 px for 64", "reference", "64 px"),
    ("real", "twice the images", "reference", "half the images"),
]


def started(plan: dict, classes: int) -> MapNetwork:
    "A network with the first weights that the setting asks for"
    network = MapNetwork(plan["arch"], classes, STRIDE)
    if plan["start"] != "random":
        file, why = find_weights(plan["arch"], simulated=plan["start"] == "simulated")
        if file is None:
            raise SystemExit(f"no weights for {plan['arch']} ({why}); `pip install 'covidxr[train]'` brings them")
        if (plan["start"] == "simulated") != ("simulated" in why):
            raise SystemExit(f"{plan['start']} weights were asked for {plan['arch']}, but found: {why}")
        start_from(network, read_weights(file, plan["arch"]))
    return network.to(memory_format=torch.channels_last)


def train(plan: dict, squares: np.ndarray, truth: MapTruth, rate: float, seed: int) -> MapNetwork:
    "The one-cycle rule (Smith 2018) over a fixed number of epochs; no image is held back"
    torch.manual_seed(seed)
    network, count = started(plan, int(truth.labels.max()) + 1).train(), len(squares)
    learning = [weights for weights in network.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(learning, rate, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.05)
    steps = plan["epochs"] * (count // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.25)
    pixels, masks = torch.from_numpy(squares)[:, None], torch.from_numpy(truth.masks)[:, None]
    labels, unknown = torch.as_tensor(truth.labels), torch.full((BATCH,), torch.nan)
    for step in range(steps):
        if step % (count // BATCH) == 0:
            order = torch.randperm(count)
        rows = order[step % (count // BATCH) * BATCH :][:BATCH]
        pictures, drawn = pixels[rows].float() / 255, masks[rows].float() / 255
        if plan["augment"]:
            pictures, drawn = varied(pictures, drawn)
        answers = network(standardised(pictures).contiguous(memory_format=torch.channels_last))
        if plan["map"]:
            loss = map_loss(answers, drawn, labels[rows], unknown)
        else:
            loss = 0.5 * cross_entropy(answers[1], labels[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def ask(network: MapNetwork, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Maps, and probabilities of the classes, the mirror image included"
    parts = [ask_maps(torch.nn.ModuleList([network]), squares[at : at + 64])[:2] for at in range(0, len(squares), 64)]
    return tuple(np.concatenate(one) for one in zip(*parts, strict=True))


def pictures(images: pd.DataFrame, boxes: pd.DataFrame, classes: list[str], size: int) -> tuple[np.ndarray, MapTruth]:
    "Squares, and what should be said of them"
    squares, places = read_squares(images["file"], size)
    labels = images["label"].map(classes.index).to_numpy()
    return squares, MapTruth(box_masks(images, places, boxes, size), labels, np.full(len(images), np.nan))


def part(squares: np.ndarray, truth: MapTruth, rows: np.ndarray) -> tuple[np.ndarray, MapTruth]:
    "Some of them"
    return squares[rows], MapTruth(*(one[rows] for one in truth))


def simulated_answers(plan: dict, rate: float, seed: int, asked: str) -> np.ndarray:
    "The probabilities of the four classes for the images of a split"
    images, classes = course_images(["train", asked]), list(APPEARANCES)
    boxes = to_cache(course_boxes(), course_images())  # in pixels of the small pictures
    if plan["images"] < 100:  # a tiny trial
        images = images.groupby("split").head(100).reset_index(drop=True)
    squares, truth = pictures(images, boxes, classes, plan["size"])
    pool = np.flatnonzero(images["split"] == "train")
    rows = generator(seed, "little").permutation(pool)[: plan["images"]]
    network = train(plan, *part(squares, truth, rows), rate, seed)
    return ask(network, squares[images["split"] == asked])[1]


def real_answers(plan: dict, rate: float, seed: int, images: pd.DataFrame, boxes: pd.DataFrame) -> np.ndarray:
    "What is said of each real X-ray by the network that has not seen its patient, as its rank in the fold"
    squares, truth = pictures(images, boxes, ["none", "opacity"], plan["size"])
    said = np.zeros(len(images))
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=seed)
    for learnt, asked in folds.split(images, images["opacity"], images["patient_id"]):
        patients = generator(seed, "half").permutation(images["patient_id"].iloc[learnt].unique())
        kept = images["patient_id"].iloc[learnt].isin(patients[: round(plan["images"] * len(patients))])
        network = train(plan, *part(squares, truth, learnt[kept]), rate, seed)
        maps, chances = ask(network, squares[asked])
        said[asked] = ranks(surest(maps) if plan["map"] else chances[:, 1])
    return said


def mean_ap(labels: np.ndarray, chances: np.ndarray) -> float:
    "Mean over the classes"
    names = range(chances.shape[1])
    return float(np.mean([average_precision_score(labels == name, chances[:, name]) for name in names]))


class Trainings:
    "Each training once: its row and its answers are kept in the folder"

    def __init__(self, out: Path) -> None:
        self.out, self.file = out, out / "trainings.csv"
        out.mkdir(parents=True, exist_ok=True)
        self.rows = pd.read_csv(self.file).to_dict("records") if self.file.exists() else []

    def once(self, facts: dict, plan: dict, work: Callable, measures: Callable) -> tuple[np.ndarray, dict]:
        "The answers and the row of a training"
        kind = hashlib.sha256(json.dumps([facts, plan], sort_keys=True).encode()).hexdigest()[:12]
        file = self.out / f"{kind}.npy"
        for row in self.rows:
            if row["name"] == kind and file.exists():
                return np.load(file), row
        started_at = time.perf_counter()
        answers = work()
        row = {"name": kind, **facts, **measures(answers), "seconds": round(time.perf_counter() - started_at, 1)}
        np.save(file, answers)
        self.rows.append(row)
        write_table(pd.DataFrame(self.rows), self.file)
        print(*(f"{name} {value}" for name, value in row.items() if name != "name"), sep=", ", flush=True)
        return answers, row


def measured(labels: np.ndarray, chances: np.ndarray) -> dict:
    "Of the four classes"
    return {"ap": round(mean_ap(labels, chances), 4), "accuracy": round(float((chances.argmax(1) == labels).mean()), 4)}


def measured_real(opacity: np.ndarray, said: np.ndarray) -> dict:
    "Of opacity or none"
    return {"auc": round(float(roc_auc_score(opacity, said)), 4)}


def chosen_rates(kept: Trainings, settings: dict) -> dict:
    "For each backbone and start the rate with the higher mean AP on the simulated validation images"
    images, chosen = course_images("valid"), {}
    for plan in settings["simulated"].values():
        kind = (plan["arch"], plan["start"])
        if kind in chosen or plan["images"] > 200:
            continue
        labels = (images.head(100) if plan["images"] < 100 else images)["label"].map(APPEARANCES.index).to_numpy()
        found = {}
        for rate in RATES[plan["arch"]]:
            facts = {"data": "choosing", "setting": " ".join(kind), "seed": CHOOSING, "rate": rate}
            work = partial(simulated_answers, plan, rate, CHOOSING, "valid")
            found[rate] = kept.once(facts, plan, work, partial(measured, labels))[1]["ap"]
        chosen[kind] = max(found, key=found.get)
    return chosen


def drawn_again(patients: pd.Series, seeds: int, times: int = 1000):
    "Seeds and rows of patients, drawn with replacement"
    rows, rng = list(patients.groupby(patients.to_numpy()).indices.values()), generator(0, "little")
    for _ in range(times):
        chosen = [rows[one] for one in rng.integers(0, len(rows), len(rows))]
        yield rng.integers(0, seeds, seeds), np.concatenate(chosen)


def compared(images: pd.DataFrame, labels: np.ndarray, said: dict, data: str, measure) -> pd.DataFrame:
    "One row per comparison: both values, the difference, its interval"
    drawn: dict = {name: [] for name in said}
    for seeds, rows in drawn_again(images["patient_id"], len(said["reference"])):
        for name, answers in said.items():
            scores = {seed: measure(labels[rows], answers[seed][rows]) for seed in set(seeds)}
            drawn[name].append(np.mean([scores[seed] for seed in seeds]))
    table = []
    for kind, change, with_it, without in COMPARISONS:
        if kind == data:
            values = [np.mean([measure(labels, one) for one in said[name]]) for name in (without, with_it)]
            low, high = np.percentile(np.array(drawn[with_it]) - drawn[without], (2.5, 97.5))
            table.append([data, change, *values, values[1] - values[0], low, high, len(said[with_it])])
    names = ["data", "change", "without", "with", "difference", "low", "high", "seeds"]
    return pd.DataFrame(table, columns=names)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, default=Path("runs/little"))
    options.add_argument("--seeds", type=int, default=3, help="simulated X-rays: how many seeds")
    options.add_argument("--deals", type=int, default=2, help="real X-rays: how often patients are dealt into folds")
    real = Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    options.add_argument("--real", type=Path, default=real, help="real X-rays; left out where absent")
    options.add_argument("--tiny", action="store_true", help="one epoch, few images: does all of it work?")
    options = options.parse_args()
    torch.set_num_threads(1)
    settings, has_real = SETTINGS, (options.real / "images.csv").exists()
    if options.tiny:
        small = {"simulated": {"epochs": 1, "images": 48, "size": 64}, "real": {"epochs": 1, "size": 64}}
        settings = {data: {name: plan | small[data] for name, plan in SETTINGS[data].items()} for data in SETTINGS}
    kept, test = Trainings(options.out), course_images("test")
    test = test.head(100) if options.tiny else test
    labels = test["label"].map(APPEARANCES.index).to_numpy()
    images, boxes = real_tables(options.real) if has_real else (None, None)
    rates = chosen_rates(kept, settings)
    print("learning rates, chosen by simulated validation images:", rates, flush=True)
    said: dict = {"simulated": {}, "real": {}}
    seeds = {"simulated": options.seeds, "real": options.deals * has_real}
    for seed in range(max(seeds.values())):
        for data in [data for data in seeds if seed < seeds[data]]:
            for name, plan in settings[data].items():
                rate = rates[plan["arch"], plan["start"]]
                if data == "simulated":
                    work, tell = partial(simulated_answers, plan, rate, seed, "test"), partial(measured, labels)
                else:
                    work = partial(real_answers, plan, rate, seed, images, boxes)
                    tell = partial(measured_real, images["opacity"].to_numpy())
                facts = {"data": data, "setting": name, "seed": seed, "rate": rate}
                said[data].setdefault(name, []).append(kept.once(facts, plan, work, tell)[0])
    tables = [compared(test, labels, said["simulated"], "simulated", mean_ap)]
    if said["real"]:
        tables.append(compared(images, images["opacity"].to_numpy(), said["real"], "real", roc_auc_score))
    table = pd.concat(tables, ignore_index=True)
    write_table(table.round(3), options.out / "little.csv")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
