"""Are simulated X-rays worth training on? Opacity, yes or no, on real chest X-rays.

    python benchmarks/transfer.py [--real ../shared/real/cxr_boxes] [--images 4000] [--seeds 0 1 2] [--part report]

Three questions, every network from random weights:

- a classifier trained on simulated X-rays alone and applied unchanged to real ones: ROC AUC with a 95 % interval from resampled
  patients. The network also draws a map of the opacities, which it can learn as the simulator knows each pixel's truth, and sees
  each patient with and without the disease. Its answer is the mean of the map's surest 40 cells, or the classifier's own;
- a detector (the library's, YOLO) trained on simulated X-rays alone: an image's answer is its surest box;
- the classifier trained on simulated X-rays, then fine-tuned on real patients' folds, against the same on the same folds from scratch.

Half of the real patients (`--part choose`) served to choose: the simulator's anatomy, how pictures are varied, the answer. The other
half (`--part report`) served for nothing. Beside all stands logistic regression on 32 x 32 thumbnails that learnt from real X-rays.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as functional
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn

from covidxr.base.csv_files import write_table
from covidxr.base.extras import opencv
from covidxr.base.parallel import parallel
from covidxr.base.progress import progress
from covidxr.base.seeds import generator
from covidxr.base.terms import BOX_COLUMNS
from covidxr.metrics import roc_auc
from covidxr.phantom import random_pose, simulate
from covidxr.runs.baselines import thumbnail_floor

SIZE = 96
CLASSES = {"negative": 0.2, "typical": 0.3, "indeterminate": 0.35, "atypical": 0.15}
PNEUMONIA = ("bilateral", "unilateral", "upper-lung", "central", "lobar")  # what the real readers were asked for
SUREST = 40  # cells of the map, of 24 x 24
HEALTHY = 16  # twins without disease beside each 32 pictures


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    return opencv().resize(pixels.astype(np.float32), (SIZE, SIZE), interpolation=opencv().INTER_AREA)


def _simulated(task: tuple[int, str | None]) -> dict:
    "One simulated X-ray, its healthy twin, the map of its opacities; and a file for the detector where a folder is named"
    seed, folder = task
    rng = generator(seed, "transfer")
    appearance = str(rng.choice(list(CLASSES), p=list(CLASSES.values())))
    pose = replace(random_pose(seed), aspect=float(np.clip(rng.normal(1, 0.06), 0.85, 1.15)))
    xray = simulate(seed, appearance, 256, pose=pose, marked=False)
    sick = xray.finding.startswith(PNEUMONIA)
    mask = np.any([np.zeros(xray.pixels.shape, bool), *(xray.opacities if sick else [])], axis=0)
    row = {
        "picture": _shrunk(xray.pixels),
        "twin": _shrunk(xray.healthy),
        "mask": _shrunk(mask),
        "sick": float(sick),
        "boxes": xray.boxes if sick else xray.boxes.iloc[:0],
    }
    if folder:
        row["file"] = f"{folder}/{seed}.png"
        opencv().imwrite(row["file"], np.round(xray.pixels * 255).astype(np.uint8))
    return row


def _tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.tensor(np.array(pictures), dtype=torch.float32)[:, None]


def _standard(pictures: torch.Tensor) -> torch.Tensor:
    "Each picture with mean 0 and spread 1 in its middle: what no vendor's brightness can change"
    edge = SIZE // 10
    middle = pictures[:, :, edge:-edge, edge:-edge]
    return (pictures - middle.mean((1, 2, 3), keepdim=True)) / (middle.std((1, 2, 3), keepdim=True) + 1e-3)


def _between(low: float, high: float, count: int) -> torch.Tensor:
    return torch.empty(count).uniform_(low, high)


def _varied(pictures: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    "Zoom, stretch, turn, shift, mirror, another gamma, and soft shades; masks move along"
    count = len(pictures)
    zoom, turn = torch.exp(_between(-0.25, 0.25, count)), _between(-0.15, 0.15, count)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    tall = zoom * torch.exp(_between(-0.12, 0.12, count))
    across = torch.stack([mirror * zoom * turn.cos(), -tall * turn.sin(), _between(-0.2, 0.2, count)], 1)
    down = torch.stack([mirror * zoom * turn.sin(), tall * turn.cos(), _between(-0.2, 0.2, count)], 1)
    grid = functional.affine_grid(torch.stack([across, down], 1), list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures, grid, align_corners=False).clamp(0, 1)
    shade = functional.interpolate(torch.randn(count, 1, 4, 4), (SIZE, SIZE), mode="bicubic", align_corners=False)
    gamma = torch.exp(_between(-0.5, 0.5, count))[:, None, None, None]
    return moved**gamma * torch.exp(0.15 * shade), functional.grid_sample(masks, grid, align_corners=False)


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    layers = []
    for channels, step in ((before, stride), (after, 1)):
        layers += [nn.Conv2d(channels, after, 3, step, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class Network(nn.Module):
    "Four steps down, two up again: a map of the opacities (24 x 24 cells), and one answer for the picture"

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [_block(1, width, 2), _block(width, 2 * width, 2), _block(2 * width, 4 * width, 2)]
            + [_block(4 * width, 6 * width, 2)]
        )
        self.up = nn.ModuleList([_block(10 * width, 4 * width), _block(6 * width, 3 * width)])
        self.map = nn.Conv2d(3 * width, 1, 1)
        self.answer = nn.Sequential(nn.Dropout(0.2), nn.Linear(10 * width, 1))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept = [pictures]
        for step in self.down:
            kept.append(step(kept[-1]))
        joined = lambda small, large: torch.cat([functional.interpolate(small, large.shape[2:]), large], 1)  # noqa: E731
        middle = self.up[0](joined(kept[4], kept[3]))
        fine = self.up[1](joined(middle, kept[2]))
        return self.map(fine), self.answer(torch.cat([kept[4].mean((2, 3)), middle.amax((2, 3))], 1))[:, 0]


def _train(data: dict, epochs: int, seed: int, start: dict | None = None, rate: float = 4e-3) -> Network:
    "The answer and the map are learnt together; `twin` may be missing"
    torch.manual_seed(seed)
    rng, network = np.random.default_rng(seed), Network()
    if start:
        network.load_state_dict(start)
    count = len(data["picture"])
    batch = 32 if count > 400 else 16
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * (count // batch))
    for _ in progress(range(epochs), "train"):
        order = rng.permutation(count)
        for number in range(count // batch):
            chosen = order[number * batch : (number + 1) * batch]
            pictures, masks, sick = data["picture"][chosen], data["mask"][chosen], data["sick"][chosen]
            if "twin" in data:
                pictures = torch.cat([pictures, data["twin"][chosen[:HEALTHY]]])
                masks, sick = torch.cat([masks, 0 * masks[:HEALTHY]]), torch.cat([sick, 0 * sick[:HEALTHY]])
            pictures, masks = _varied(pictures, masks)
            opaque, answer = network(_standard(pictures))
            masks = functional.interpolate(masks, opaque.shape[2:], mode="area")
            loss = functional.binary_cross_entropy_with_logits(answer, sick * 0.94 + 0.03)
            loss = loss + functional.binary_cross_entropy_with_logits(opaque, masks, pos_weight=torch.tensor(3.0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def _predict(network: Network, pictures: torch.Tensor) -> dict[str, np.ndarray]:
    "Both answers to each picture, mean of the picture and its mirror image"
    surest, own = [], []
    for part in pictures.split(64):
        (plain, one), (mirrored, other) = network(_standard(part)), network(_standard(part.flip(-1)))
        opaque = (plain.sigmoid() + mirrored.flip(-1).sigmoid()) / 2
        surest.append(opaque.flatten(1).topk(SUREST, 1)[0].mean(1))
        own.append((one + other) / 2)
    return {"map": torch.cat(surest).numpy(), "classifier": torch.cat(own).numpy()}


def _real(folder: Path, part: str) -> tuple[pd.DataFrame, dict]:
    "The real X-rays of one half of the patients: a table; and pictures, masks made from boxes, truth"
    table = pd.read_csv(folder / "images.csv", dtype={"patient_id": str})
    table["opacity"], table["image_id"] = table["n_boxes"] > 0, table["file"].str.removesuffix(".png")
    patients = sorted(table["patient_id"].unique())
    chosen = set(generator(7, "halves").permutation(patients)[: len(patients) // 2])
    if part != "all":
        table = table[table["patient_id"].isin(chosen) == (part == "choose")].reset_index(drop=True)
    masks = {name: np.zeros((512, 512), np.float32) for name in table["file"]}
    boxes = pd.read_csv(folder / "boxes.csv")
    for box in boxes[boxes["file"].isin(masks)].itertuples():
        masks[box.file][int(box.y) : int(box.y + box.height), int(box.x) : int(box.x + box.width)] = 1
    data = {"mask": _tensor([_shrunk(masks[name]) for name in table["file"]])}
    table["file"] = [str(folder / "images_512" / name) for name in table["file"]]
    pictures = [opencv().imread(name, opencv().IMREAD_GRAYSCALE) / 255 for name in table["file"]]
    data["picture"] = _tensor([_shrunk(one) for one in pictures])
    data["sick"] = torch.tensor(table["opacity"].to_numpy(np.float32))
    return table, data


def _said(name: str, table: pd.DataFrame, answers: list[np.ndarray]) -> dict:
    "Each seed's AUC, and that of the mean of all seeds with its interval; also against Normal alone, and within each view"
    target = table["opacity"].to_numpy()
    rank = np.mean([pd.Series(one).rank().to_numpy() / len(one) for one in answers], axis=0)
    together = roc_auc(target, rank, table["patient_id"])
    seeds = [roc_auc_score(target, one) for one in answers]
    groups = {
        "against Normal": (table["rsna_class"] == "Normal") | target,
        "AP": table["view"] == "AP",
        "PA": table["view"] == "PA",
    }
    within = {label: roc_auc_score(target[rows], rank[rows]) for label, rows in groups.items()}
    print(
        f"{name}: seeds {', '.join(f'{one:.3f}' for one in seeds)} (mean {np.mean(seeds):.3f}); together "
        f"{together['auc']:.3f} ({together['low']:.3f} to {together['high']:.3f}); "
        + ", ".join(f"{label} {value:.3f}" for label, value in within.items()),
        flush=True,
    )
    return {"what": name, "mean of seeds": np.mean(seeds), **together, **within}


def _detector(rows: list[dict], table: pd.DataFrame, seeds: list[int], out: Path) -> list[np.ndarray]:
    "The surest box on each real X-ray, of YOLO detectors that learnt from simulated ones"
    from covidxr.detect import predict_detector, train_detector

    images = pd.DataFrame({"image_id": [Path(row["file"]).stem for row in rows], "file": [row["file"] for row in rows]})
    images["valid"] = np.arange(len(images)) % 20 == 0
    boxes = [
        row["boxes"][BOX_COLUMNS].assign(image_id=name) for row, name in zip(rows, images["image_id"], strict=True)
    ]
    answers = []
    for seed in seeds:
        if not (out / f"detector-{seed}" / "config.json").exists():
            train_detector(images, pd.concat(boxes), out / f"detector-{seed}", epochs=8, seed=seed)
        found = predict_detector(out / f"detector-{seed}", table, confidence=0.001, flip_tta=True)
        surest = found.groupby("image_id")["confidence"].max()
        answers.append(surest.reindex(table["image_id"]).fillna(0).to_numpy())
    return answers


def _folds(table: pd.DataFrame, data: dict, starts: list[Network], seeds: list[int]) -> list[dict]:
    "Five folds of real patients: from scratch, from the simulated start, and the thumbnails' floor"
    answers = {
        (name, kind): [np.zeros(len(table)) for _ in seeds]
        for name in ("from scratch", "fine-tuned")
        for kind in ("map", "classifier")
    }
    floor = np.zeros(len(table))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for train, test in folds.split(table, table["opacity"], table["patient_id"]):
        floor[test] = thumbnail_floor(table.iloc[train], table.iloc[test])
        learnt = {name: value[train] for name, value in data.items()}
        for number, seed in enumerate(seeds):
            networks = {
                "from scratch": _train(learnt, 60, seed),
                "fine-tuned": _train(learnt, 15, seed, starts[number].state_dict(), 1e-3),
            }
            for name, network in networks.items():
                for kind, answer in _predict(network, data["picture"][test]).items():
                    answers[name, kind][number][test] = answer
    rows = [_said(f"{name} on real folds, {kind}'s answer", table, one) for (name, kind), one in answers.items()]
    return rows + [_said("logistic regression on thumbnails, real folds", table, [floor])]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--real", type=Path, default=Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    )
    options.add_argument("--images", type=int, default=4000)
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--part", choices=("choose", "report", "all"), default="report")
    options.add_argument("--only", choices=("classifier", "detector", "folds"), nargs="+")
    options.add_argument("--out", type=Path, default=Path("runs/transfer"))
    options = options.parse_args()
    if not (options.real / "images.csv").exists():
        raise SystemExit(f"{options.real}: no images.csv here; name the folder with --real")
    wanted = options.only or ["classifier", "detector", "folds"]
    table, data = _real(options.real, options.part)
    folder = options.out / "simulated"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [(seed, str(folder)) for seed in range(300_000, 300_000 + options.images)]
    rows, said = list(parallel(_simulated, tasks, "simulated X-rays")), []
    print(
        f"{options.images} simulated X-rays; {options.part}: {len(table)} real ones, {table['opacity'].sum()} with an opacity"
    )
    if "classifier" in wanted or "folds" in wanted:
        simulated = {name: _tensor([row[name] for row in rows]) for name in ("picture", "twin", "mask")}
        simulated["sick"] = torch.tensor([row["sick"] for row in rows])
        starts = [_train(simulated, options.epochs, seed) for seed in options.seeds]
        answers = [_predict(network, data["picture"]) for network in starts]
        for kind in ("map", "classifier"):
            said.append(_said(f"simulated only, {kind}'s answer", table, [one[kind] for one in answers]))
    if "detector" in wanted:
        found = _detector(rows[:1200], table, options.seeds, options.out)
        said.append(_said("simulated only, detector's surest box", table, found))
    if "folds" in wanted:
        said += _folds(table, data, starts, options.seeds)
    write_table(pd.DataFrame(said).round(4), options.out / f"transfer-{options.part}.csv")


if __name__ == "__main__":
    main()
