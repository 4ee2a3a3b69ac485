"""Are simulated X-rays worth training on? Opacity, yes or no, on real chest X-rays.

    python benchmarks/transfer.py [--real ../shared/real/cxr_boxes] [--images 2000] [--seeds 0 1 2] [--part all]

Two questions, each with a small residual network (timm's test_resnet, 96 pixels) from random weights:

- trained on simulated X-rays alone and applied unchanged to real ones: ROC AUC with a 95 % interval from resampled patients;
- trained on simulated X-rays, then fine-tuned on real patients' folds, against the same network on the same folds from scratch.

Half of the real patients (`--part choose`) served to choose how training pictures are varied; the other half (`--part report`)
served for nothing. Beside both stands logistic regression on 32 x 32 thumbnails that was trained on real X-rays.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
import torch.nn.functional as functional
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from covidxr.core import generator, opencv, parallel, progress, write_table
from covidxr.metrics import roc_auc
from covidxr.phantom import draw_pose, simulate
from covidxr.pipeline import thumbnail_floor

SIZE = 96
CLASSES = {"negative": 0.5, "typical": 0.28, "indeterminate": 0.14, "atypical": 0.08}
PNEUMONIA = ("bilateral", "unilateral", "upper-lung", "central", "lobar")  # what the real readers were asked for


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    return opencv().resize(pixels.astype(np.float32), (SIZE, SIZE), interpolation=opencv().INTER_AREA)


def _simulated(seed: int) -> tuple[np.ndarray, float]:
    rng = generator(seed, "transfer")
    appearance = str(rng.choice(list(CLASSES), p=list(CLASSES.values())))
    pose = replace(draw_pose(seed), aspect=float(np.clip(rng.normal(1, 0.06), 0.85, 1.15)))
    xray = simulate(seed, appearance, 256, pose=pose, marked=False)
    return _shrunk(xray.pixels), float(xray.finding.startswith(PNEUMONIA))


def _tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.tensor(np.array(pictures), dtype=torch.float32)[:, None]


def _standard(pictures: torch.Tensor) -> torch.Tensor:
    "Each picture with mean 0 and spread 1 in its middle: what no vendor's brightness can change"
    edge = SIZE // 10
    middle = pictures[:, :, edge:-edge, edge:-edge]
    return (pictures - middle.mean((1, 2, 3), keepdim=True)) / (middle.std((1, 2, 3), keepdim=True) + 1e-3)


def _between(low: float, high: float, count: int) -> torch.Tensor:
    return torch.empty(count).uniform_(low, high)


def _varied(pictures: torch.Tensor) -> torch.Tensor:
    "Zoom, stretch, turn, shift, mirror, and another gamma"
    count = len(pictures)
    zoom, turn, mirror = (
        torch.exp(_between(-0.22, 0.22, count)),
        _between(-0.15, 0.15, count),
        torch.where(torch.rand(count) < 0.5, -1.0, 1.0),
    )
    tall = zoom * torch.exp(_between(-0.1, 0.1, count))
    across = torch.stack([mirror * zoom * turn.cos(), -tall * turn.sin(), _between(-0.2, 0.2, count)], 1)
    down = torch.stack([mirror * zoom * turn.sin(), tall * turn.cos(), _between(-0.2, 0.2, count)], 1)
    grid = functional.affine_grid(torch.stack([across, down], 1), list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures, grid, align_corners=False)
    return moved.clamp(0, 1) ** torch.exp(_between(-0.5, 0.5, count))[:, None, None, None]


def _train(
    pictures: torch.Tensor, target: torch.Tensor, epochs: int, seed: int, start: dict | None = None, rate: float = 1e-2
) -> torch.nn.Module:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = timm.create_model("test_resnet", num_classes=1, in_chans=1, drop_rate=0.2)
    if start:
        model.load_state_dict(start)
    batch = 32 if len(pictures) > 400 else 16
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * (len(pictures) // batch))
    for _ in progress(range(epochs), "train"):
        order = rng.permutation(len(pictures))
        for number in range(len(pictures) // batch):
            chosen = order[number * batch : (number + 1) * batch]
            answer = model(_standard(_varied(pictures[chosen])))[:, 0]
            loss = functional.binary_cross_entropy_with_logits(answer, target[chosen] * 0.94 + 0.03)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def _predict(model: torch.nn.Module, pictures: torch.Tensor) -> np.ndarray:
    return np.concatenate(
        [(model(_standard(part)) + model(_standard(part.flip(-1))))[:, 0].numpy() for part in pictures.split(64)]
    )


def _real(folder: Path, part: str) -> tuple[pd.DataFrame, torch.Tensor]:
    table = pd.read_csv(folder / "images.csv", dtype={"patient_id": str})
    table["file"], table["opacity"] = (
        [str(folder / "images_512" / name) for name in table["file"]],
        table["n_boxes"] > 0,
    )
    patients = sorted(table["patient_id"].unique())
    chosen = set(generator(7, "halves").permutation(patients)[: len(patients) // 2])
    if part != "all":
        table = table[table["patient_id"].isin(chosen) == (part == "choose")].reset_index(drop=True)
    return table, _tensor([_shrunk(opencv().imread(name, opencv().IMREAD_GRAYSCALE) / 255) for name in table["file"]])


def _said(name: str, table: pd.DataFrame, answers: list[np.ndarray]) -> dict:
    "Each seed's AUC, and that of the mean of all seeds with its interval"
    target = table["opacity"].to_numpy()
    together = roc_auc(
        target, np.mean([one.argsort().argsort() / len(one) for one in answers], axis=0), table["patient_id"]
    )
    seeds = [roc_auc_score(target, one) for one in answers]
    print(
        f"{name}: seeds {', '.join(f'{one:.3f}' for one in seeds)} (mean {np.mean(seeds):.3f}); their mean answer {together['auc']:.3f} ({together['low']:.3f} to {together['high']:.3f})",
        flush=True,
    )
    return {"what": name, "mean of seeds": np.mean(seeds), **together}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--real", type=Path, default=Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    )
    options.add_argument("--images", type=int, default=2000)
    options.add_argument("--epochs", type=int, default=15)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--part", choices=("choose", "report", "all"), default="all")
    options.add_argument("--only-applied", action="store_true", help="skip fine-tuning")
    options.add_argument("--out", type=Path, default=Path("runs/transfer"))
    options = options.parse_args()
    if not (options.real / "images.csv").exists():
        raise SystemExit(f"{options.real}: no images.csv here; name the folder with --real")
    table, pictures = _real(options.real, options.part)
    drawn = list(parallel(_simulated, list(range(200_000, 200_000 + options.images)), "simulated X-rays"))
    simulated, target = _tensor([one for one, _ in drawn]), torch.tensor([label for _, label in drawn])
    starts = [_train(simulated, target, options.epochs, seed) for seed in options.seeds]
    rows = [
        _said(
            f"simulated only, {options.part} {len(table)} real X-rays",
            table,
            [_predict(model, pictures) for model in starts],
        )
    ]
    if not options.only_applied:
        rows += _folds(table, pictures, starts, options.seeds)
    write_table(pd.DataFrame(rows).round(4), options.out / "transfer.csv")


def _folds(table: pd.DataFrame, pictures: torch.Tensor, starts: list[torch.nn.Module], seeds: list[int]) -> list[dict]:
    "Five folds of real patients: from scratch, from the simulated start, and the thumbnails' floor"
    truth = torch.tensor(table["opacity"].to_numpy(np.float32))
    answers = {name: [np.zeros(len(table)) for _ in seeds] for name in ("from scratch", "fine-tuned")}
    floor = np.zeros(len(table))
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(
        table, table["opacity"], table["patient_id"]
    ):
        floor[test] = thumbnail_floor(table.iloc[train], table.iloc[test])
        for number, seed in enumerate(seeds):
            scratch = _train(pictures[train], truth[train], 40, seed)
            tuned = _train(pictures[train], truth[train], 20, seed, starts[number].state_dict(), 2e-3)
            for name, model in (("from scratch", scratch), ("fine-tuned", tuned)):
                answers[name][number][test] = _predict(model, pictures[test])
    return [_said(f"{name}, real folds", table, one) for name, one in answers.items()] + [
        _said("logistic regression on thumbnails, real folds", table, [floor])
    ]


if __name__ == "__main__":
    main()
