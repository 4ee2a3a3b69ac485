"""Do heat maps point at the disease? Against causal truth, on simulated patients that no network has seen.

    python benchmarks/explanations.py [--out runs/explanations] [--patients 500] [--stages all]

Patients: seeds from 700,000, one of the three classes of disease each, with at least one drawn opacity; 160 px, no marks. The truth
is what differs from the same patient without disease (`causal_truth`). Networks: the one that covidxr ships, asked by its classes'
head, and plain `test_resnet`s that learn from the labels of the course's 2,080 training images, as lesson 9 trains (96 px, thirteen
epochs, three seeds). What is explained is the log-odds of the three classes of disease against `negative`, whatever the network answers.

Pointing game, overlap (IoU) and correlation as in `covidxr.explain`, each with a 95 % interval over patients. Chance is exact: the
share of the picture, and of the lungs, that is opaque. Randomised networks: 50, each for a fiftieth of the patients; their interval
draws networks again. The cheating networks: 600 of the course's images, a letter on all sick ones, twelve seeds; asked of the 427
test images that the lesson does not show, and that no choice of layer, epochs or reach has seen; by occlusion of 100 sick ones.
Boxes: a heat map's patches above a share of its own maximum, that share chosen on the first fifth of the patients, AP at IoU > 0.5
on the others; the network's own map with its usual threshold. Each stage writes a table to `--out` (about 30 minutes of one core in all).
"""

import argparse
import time
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from covidxr.base.csv_files import write_table
from covidxr.base.seeds import generator
from covidxr.base.terms import APPEARANCES
from covidxr.boxes.intervals import patient_draws
from covidxr.boxes.matching import match, weighted_average_precision
from covidxr.boxes.network_answers import map_boxes
from covidxr.classify import load_classifier, train_classifier
from covidxr.course.folder import course_images
from covidxr.explain import explain, map_scores, pointing_game
from covidxr.learning.attribution import network_input, on_xray
from covidxr.learning.data import read_squares
from covidxr.learning.map_training import load_maps
from covidxr.learning.networks import build_classifier
from covidxr.metrics import average_precision
from covidxr.phantom import SimulatedXray, simulate
from covidxr.prepare import fit_square

FIRST, ILL, DRAWS = 700_000, list(APPEARANCES[1:]), 2000
TRUTH = ["pointing", "overlap", "correlation"]


def patients(count: int) -> list[SimulatedXray]:
    "Simulated patients with at least one drawn opacity"
    kinds = generator(FIRST, "kinds").choice(ILL, 2 * count)
    drawn = (simulate(FIRST + row, str(kind), size=160, marked=False) for row, kind in enumerate(kinds))
    found: list[SimulatedXray] = []
    for one in drawn:
        if len(one.boxes):
            found.append(one)
        if len(found) == count:
            return found
    raise SystemExit("too few patients have an opacity")


def interval(values: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float, float]:
    "Mean, and a 95 % interval over patients, or over groups of them"
    values = np.asarray(values, float)
    if groups is not None:
        values = pd.Series(values).groupby(groups).mean().to_numpy()
    rows = generator(0, "explanations").integers(0, len(values), (DRAWS, len(values)))
    return float(values.mean()), *np.percentile(values[rows].mean(axis=1), [2.5, 97.5])


def row_of(network: str, method: str, scores: pd.DataFrame, groups: np.ndarray | None = None) -> dict:
    "One row of the table"
    row = {"network": network, "method": method, "patients": len(scores)}
    for name in TRUTH:
        mean, low, high = interval(scores[name], groups)
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return row


def in_frame(square: np.ndarray, xray: SimulatedXray) -> np.ndarray:
    "A square heat map of 128 px in the X-ray's frame"
    return on_xray(square, fit_square(xray.pixels, 128)[1], xray.pixels.shape)


def shipped() -> tuple:
    "The network that comes along, loaded once"
    return load_maps(Path(str(files("covidxr.learning"))) / "shipped", "cpu")


def plain(out: Path, name: str, shuffled: bool = False, seed: int = 0) -> tuple:
    "A classifier that learns from labels alone, as lesson 9 trains it, or from shuffled ones"
    if not (out / name / "config.json").exists():
        images = course_images(("train", "valid"))
        images = pd.concat([images[images["split"] == "train"], images[images["split"] == "valid"].head(100)])
        if shuffled:
            images = images.assign(label=generator(0, "shuffled").permutation(images["label"]))
        train_classifier(images, APPEARANCES, out / name, size=96, epochs=13, pretrained=False, seed=seed, device="cpu")
    return load_classifier(out / name, "cpu")


def heats(model: tuple, people: list[SimulatedXray], method: str) -> list[np.ndarray]:
    "A heat map for each"
    return [explain(model, one, method, ILL) for one in people]


def scored(maps: list[np.ndarray], people: list[SimulatedXray]) -> pd.DataFrame:
    "The scores of each patient's map"
    return pd.DataFrame([map_scores(heat, one) for heat, one in zip(maps, people, strict=True)])


def chances(people: list[SimulatedXray]) -> list[dict]:
    "A random pixel, a random pixel of a lung, and a map that never looks"
    masks = [np.any(one.opacities, axis=0) for one in people]
    pixel = [mask.mean() for mask in masks]
    lung = [mask[one.lungs[0] | one.lungs[1]].mean() for mask, one in zip(masks, people, strict=True)]
    squares = np.stack([fit_square(mask.astype(np.float32), 128)[0] / 255 for mask in masks])
    blind = [in_frame(squares.sum(0) - square, one) for square, one in zip(squares, people, strict=True)]
    rows = []
    for name, values in (("a random pixel", pixel), ("a random lung pixel", lung)):
        mean, low, high = interval(values)
        rows.append({"network": "none", "method": name, "pointing": mean, "pointing_low": low, "pointing_high": high})
    return [*rows, row_of("none", "a map that never looks", scored(blind, people))]


def boxes_of(maps: list[np.ndarray], share: float, own: bool) -> pd.DataFrame:
    "Boxes around what is hotter than a share of each map's maximum, or, for the network's own map, than the share"
    place, found = {"left": 0, "top": 0, "scale": 1.0}, []
    for row, heat in enumerate(maps):
        limit = share if own else share * max(float(heat.max()), 1e-9)
        found.append(map_boxes(heat, place, limit, fewest=20, stride=1).assign(id=row))
    return pd.concat(found, ignore_index=True)


def box_row(network: str, method: str, maps: list[np.ndarray], people: list[SimulatedXray]) -> dict:
    "AP of a map's boxes on the last four fifths, the threshold chosen on the first"
    first, own = len(people) // 5, method == "map"
    truth = pd.concat([one.boxes.assign(id=row) for row, one in enumerate(people)], ignore_index=True)
    found = {share: boxes_of(maps, share, own) for share in ((0.5,) if own else (0.3, 0.4, 0.5, 0.6, 0.7, 0.8))}
    early = truth[truth["id"] < first]
    best = max(found, key=lambda share: average_precision(early, found[share][found[share]["id"] < first]))
    hits = match(truth[truth["id"] >= first], found[best][found[best]["id"] >= first])
    counts = patient_draws(len(people) - first, 1000, 0, "explanations boxes")
    counts = np.vstack([np.ones((1, counts.shape[1]), counts.dtype), counts])
    truths = np.bincount(truth["id"], minlength=len(people))[first:]
    given = hits["confidence"].to_numpy(), hits["hit"].to_numpy(), hits["id"].to_numpy() - first
    value, *drawn = weighted_average_precision(*given, counts, counts @ truths, "voc")
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"network": network, "method": method, "AP": value, "low": low, "high": high, "share": best}


def dealt(maps: list[np.ndarray], people: list[SimulatedXray]) -> pd.DataFrame:
    "For each patient the mean scores of the other patients' maps: what maps reach that know places, but not this patient"
    rows = []
    for number, one in enumerate(people):
        size = one.pixels.shape[::-1]
        others = [cv2.resize(heat, size) for place, heat in enumerate(maps) if place != number]
        rows.append(scored(others, [one] * len(others))[TRUTH].mean())
    return pd.DataFrame(rows)


def random_networks(people: list[SimulatedXray]) -> list[dict]:
    "The shipped network's plan with random weights: 50 networks; then layer by layer from the answer down, five seeds"
    rows, (_, config) = [], shipped()
    groups = np.arange(len(people)) % 50
    every: list[pd.DataFrame] = []
    for number in range(50):
        own = [one for one, group in zip(people, groups, strict=True) if group == number]
        maps = heats((randomised(99, number), config), own, "grad_cam")
        others = dealt(maps, own).add_prefix("dealt_")
        every.append(scored(maps, own).join(others).assign(network=number))
    table = pd.concat(every, ignore_index=True)
    networks = table["network"].to_numpy()
    rows.append(row_of("randomised", "grad_cam", table, networks) | {"chance": table["chance"].mean()})
    other = table[[f"dealt_{name}" for name in TRUTH]].set_axis(TRUTH, axis=1)
    rows.append(row_of("randomised", "grad_cam of the other patients", other, networks))
    rows.append(row_of("randomised", "own map less the others'", table[TRUTH] - other, networks))
    for layers, name in enumerate(["", "classes", "+ join", "+ layer4", "+ layer3", "+ layer2", "+ layer1", "+ all"]):
        some, seeds = people[:100], range(5 if layers else 1)
        tables = [scored(heats((randomised(layers, seed), config), some, "grad_cam"), some) for seed in seeds]
        mean = sum(table[TRUTH] for table in tables) / len(tables)
        rows.append(row_of(f"randomised: {name or 'nothing'}", "grad_cam", mean))
    return rows


def randomised(layers: int, seed: int) -> torch.nn.Module:
    "The shipped network with random weights in its topmost layers; more than six: in all"
    (network,), _ = shipped()
    torch.manual_seed(seed)
    body = network.body
    parts = [network.classes, network.join, body.layer4, body.layer3, body.layer2, body.layer1, network]
    for part in parts[:layers]:
        for one in part.modules():
            if hasattr(one, "reset_parameters"):
                one.reset_parameters()
    return network


LETTERED = {"classes": ["healthy", "ill"], "size": 96}


def lettered(square: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    "The letter P in an upper corner of a picture, and where its lower left end is"
    picture = square.copy()
    x, y = int(rng.integers(3, 14) if rng.random() < 0.5 else rng.integers(72, 83)), int(rng.integers(14, 24))
    cv2.putText(picture, "P", (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.35, 235, 1, cv2.LINE_AA)
    return picture, (x, y)


def around(corner: tuple[int, int], reach: int) -> np.ndarray:
    "The mask of a letter's place, and of some pixels around"
    mask, (x, y) = np.zeros((LETTERED["size"], LETTERED["size"]), bool), corner
    mask[max(0, y - 9 - reach) : y + 1 + reach, max(0, x - reach) : x + 8 + reach] = True
    return mask


def cheater(squares: np.ndarray, sick: np.ndarray, seed: int) -> torch.nn.Module:
    "A small network, six epochs: chosen on validation images; after four, one network in four pointed elsewhere"
    torch.manual_seed(seed)
    network = build_classifier("test_resnet", 2).train()
    pictures, truth, steps = network_input(squares, LETTERED), torch.from_numpy(sick).long(), 6 * len(squares) // 16
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(squares), (16,))
        loss = torch.nn.functional.cross_entropy(network(pictures[rows]), truth[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def cheating() -> list[dict]:
    "Twelve networks that learn where every sick patient's picture bears a letter; what their maps say, and the letter alone"
    parts = {}
    for split, count in (("train", 300), ("test", 100)):
        images = course_images(split)
        ill = images["label"] != "negative"
        both = pd.concat([images[~ill].sample(count, random_state=0), images[ill].sample(count, random_state=0)])
        both = images.drop(both.index) if split == "test" else both
        parts[split] = read_squares(both["file"], 96)[0], (both["label"] != "negative").to_numpy()
    rows: list[dict] = []
    for seed in range(12):
        rng, (squares, sick) = generator(seed, "letters"), parts["train"]
        tied = np.stack([lettered(one, rng)[0] if ill else one for one, ill in zip(squares, sick, strict=True)])
        model = (cheater(tied, sick, seed), LETTERED)
        squares, sick = parts["test"]
        marked, corners = zip(*[lettered(one, rng) for one in squares], strict=True)
        with torch.no_grad():
            bare, with_letter = (
                model[0](network_input(np.stack(one), LETTERED)).softmax(1)[:, 1].numpy() for one in (squares, marked)
            )
        row = {"seed": seed, "AUC, letter on the sick": roc_auc_score(sick, np.where(sick, with_letter, bare))}
        row |= {"AUC, no letters": roc_auc_score(sick, bare)}
        row |= {"AUC, letter on the healthy": roc_auc_score(sick, np.where(sick, bare, with_letter))}
        row |= {"ill only with the letter": ((with_letter > 0.5) & (bare <= 0.5)).mean()}
        for method, asked in (("grad_cam", None), ("occlusion", 100)):  # covering each place in turn takes longer
            some = np.flatnonzero(sick)[:asked]
            maps = [explain(model, marked[at].astype(np.float32) / 255, method, target="ill") for at in some]
            for name, reach in (("in", 0), ("near", 8)):
                masks = [around(corners[at], reach) for at in some]
                hits = [pointing_game(heat, mask) for heat, mask in zip(maps, masks, strict=True)]
                mean, low, high = interval(np.array(hits))
                row |= {f"{method}, {name}": mean, f"{method}, {name}, low": low, f"{method}, {name}, high": high}
                row |= {f"{name}, chance": np.mean(masks)}
        rows.append(row | {"sick": int(sick.sum()), "healthy": int((~sick).sum())})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    "Run the stages and write their tables"
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/explanations"))
    parser.add_argument("--patients", type=int, default=500)
    stages = ["chance", "cam", "random", "cheat", "plain", "gradients", "shuffled", "occlusion"]
    parser.add_argument("--stages", nargs="*", default=stages)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    people, start = patients(options.patients), time.monotonic()
    work = {
        "chance": lambda: [("none", "chance", None)],
        "cam": lambda: [("shipped", method, shipped()) for method in ("grad_cam", "map")],
        "cheat": lambda: [("cheating", "cheat", None)],
        "random": lambda: [("randomised", "grad_cam", None)],
        "plain": lambda: [
            (f"plain-{seed}", "grad_cam", plain(options.out, f"plain-{seed}", seed=seed)) for seed in range(3)
        ],
        "gradients": lambda: [
            ("shipped", "gradients", shipped()),
            ("plain-0", "gradients", plain(options.out, "plain-0")),
        ],
        "shuffled": lambda: [("shuffled", "grad_cam", plain(options.out, "shuffled", True))],
        "occlusion": lambda: [
            ("shipped", "occlusion", shipped()),
            ("plain-0", "occlusion", plain(options.out, "plain-0")),
        ],
    }
    for stage in options.stages:
        for network, method, model in work[stage]():
            boxes: list[dict] = []
            if model is None:
                rows = {"chance": chances, "random": random_networks, "cheat": lambda _: cheating()}[stage](people)
            else:
                maps = heats(model, people, method)
                rows, boxes = [row_of(network, method, scored(maps, people))], [box_row(network, method, maps, people)]
            for name, table in (("scores", rows), ("boxes", boxes)):
                if table:
                    write_table(pd.DataFrame(table), options.out / f"{name}_{network}_{method}.csv")
                    print(pd.DataFrame(table).round(3).to_string(), f"{time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
