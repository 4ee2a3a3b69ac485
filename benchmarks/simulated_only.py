"""Learnt from simulated X-rays alone, from ImageNet's weights or from nothing: opacity, yes or no, on real X-rays.

    python benchmarks/simulated_only.py --data DIR [--start imagenet] [--shards 8] [--epochs 2] [--arch tf_efficientnet_lite0]

DIR holds shards of simulated X-rays (NNN.npz: `picture` and `twin`, the same patient without disease, uint8 128 x 128; `mask` of the
opacities, uint8 32 x 32; `finding`). Findings that the real readers were not asked for count as none, as in transfer.py. The real X-rays
are those of transfer.py, in the same two halves of the patients: one to choose by, one that serves for nothing but the report.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
import transfer
from sklearn.metrics import roc_auc_score

from covidxr.base.extras import opencv
from covidxr.base.progress import progress
from covidxr.boxes.network_answers import surest
from covidxr.learning.map_training import ask_maps
from covidxr.learning.maps import MapNetwork, map_loss, standardised, start_from
from covidxr.learning.weights import find_weights, read_weights

SIZE, BATCH, TWINS = 128, 24, 8


def simulated(folder: Path, shards: int) -> dict[str, np.ndarray]:
    "Pictures, their healthy twins, masks of the opacities, and whether there is one"
    parts: dict[str, list] = {"picture": [], "twin": [], "mask": [], "sick": []}
    for file in sorted(folder.glob("0*.npz"))[:shards]:
        shard = np.load(file)
        sick = np.array([str(name).startswith(transfer.PNEUMONIA) for name in shard["finding"]])
        parts["picture"].append(shard["picture"])
        parts["twin"].append(shard["twin"])
        parts["mask"].append(shard["mask"] * sick[:, None, None])
        parts["sick"].append(sick)
    return {name: np.concatenate(values) for name, values in parts.items()}


def cropped(picture: np.ndarray, twin: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    "Cut off black margins, which real X-rays of this set hardly have, and stretch the rest to the square"
    light = picture > 4
    down, across = np.flatnonzero(light.mean(1) > 0.3), np.flatnonzero(light.mean(0) > 0.3)
    if min(len(down), len(across)) < 40:
        return [picture, twin, mask]
    inside, cv2 = np.s_[down[0] : down[-1] + 1, across[0] : across[-1] + 1], opencv()
    large = cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    parts = [cv2.resize(one[inside], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for one in (picture, twin, large)]
    return [*parts[:2], cv2.resize(parts[2], mask.shape, interpolation=cv2.INTER_AREA)]


def equalised(pictures: np.ndarray) -> np.ndarray:
    "Every grey level equally often: takes out what differs between the simulator's and the detectors' curves"
    return np.array([opencv().equalizeHist(one) for one in pictures])


def batch(data: dict[str, np.ndarray], chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    "Pictures with and without disease, changed as in transfer.py; masks; and the answers"
    twins = chosen[:TWINS]
    pictures = np.concatenate([data["picture"][chosen], data["twin"][twins]])[:, None]
    masks = np.concatenate([data["mask"][chosen], 0 * data["mask"][twins]])[:, None]
    sick = np.concatenate([data["sick"][chosen], np.zeros(len(twins), bool)])
    large = functional.interpolate(torch.from_numpy(masks).float() / 255, (SIZE, SIZE))
    pictures, masks = transfer._varied(torch.from_numpy(pictures).float() / 255, large)
    return standardised(pictures), masks, torch.from_numpy(sick).long()


def report(network: MapNetwork, real: dict, epoch: int) -> None:
    "ROC AUC of the map's answer in both halves"
    told = []
    for half, (table, data) in real.items():
        squares = (data["picture"][:, 0].numpy() * 255).round().astype(np.uint8)
        maps, _, _ = ask_maps(torch.nn.ModuleList([network.eval()]), squares)
        told.append(f"{half} {roc_auc_score(table['opacity'], surest(maps)):.3f}")
    print(f"epoch {epoch}: {', '.join(told)}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    options.add_argument("--real", type=Path, default=folder)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--start", choices=("imagenet", "random"), default="imagenet")
    options.add_argument("--arch", default="tf_efficientnet_lite0")
    options.add_argument("--shards", type=int, default=8)
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--rate", type=float, default=1e-3)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--crop", action="store_true", help="cut off the simulated X-rays' black margins")
    options.add_argument("--equalise", action="store_true", help="equalise the histograms of both kinds")
    options = options.parse_args()
    if not (options.real / "images.csv").exists():
        raise SystemExit(f"{options.real}: no images.csv here, so nothing is measured; name the folder with --real")
    transfer.SIZE = SIZE
    torch.manual_seed(options.seed)
    rng, data = np.random.default_rng(options.seed), simulated(options.data, options.shards)
    real = {half: transfer._real(options.real, half) for half in ("choose", "report")}
    if options.crop:
        rows = [cropped(*row) for row in zip(data["picture"], data["twin"], data["mask"], strict=True)]
        data |= dict(zip(("picture", "twin", "mask"), map(np.array, zip(*rows, strict=True)), strict=True))
    if options.equalise:
        data |= {name: equalised(data[name]) for name in ("picture", "twin")}
        for _, one in real.values():
            squares = equalised((one["picture"][:, 0].numpy() * 255).round().astype(np.uint8))
            one["picture"] = torch.from_numpy(squares).float()[:, None] / 255
    network = MapNetwork(options.arch, 2)
    if options.start == "imagenet":
        start_from(network, read_weights(find_weights(options.arch)[0], options.arch))
    learning, steps = [one for one in network.parameters() if one.requires_grad], len(data["sick"]) // BATCH
    optimizer = torch.optim.AdamW(learning, options.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, options.epochs * steps, pct_start=0.2)
    for epoch in range(options.epochs):
        order, unknown = rng.permutation(len(data["sick"])), torch.full((BATCH + TWINS,), float("nan"))
        network.train()
        for step in progress(range(steps), "train"):
            pictures, masks, sick = batch(data, order[step * BATCH : (step + 1) * BATCH])
            loss = map_loss(network(pictures), masks, sick, unknown)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        report(network, real, epoch + 1)


if __name__ == "__main__":
    main()
