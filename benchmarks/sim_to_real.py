"""Learnt from simulated X-rays alone, shown real ones: what brings the shipped network nearer to them?

    python benchmarks/sim_to_real.py [--real ../shared/real/cxr_boxes] [--work runs/sim_to_real] [--part views lungs]

Opacity, yes or no, ROC AUC on real chest X-rays, in the two halves of the patients of transfer.py: one to choose by,
one that serves for nothing but the report. Five parts, the cheapest first:

- views: the shipped network as it is, by other summaries of its map, and on pictures changed beforehand;
- lungs: a network learns from simulated X-rays where lungs are; real X-rays are cut so that their lungs lie where
  those of simulated ones do;
- train: the shipped network goes on learning from 1,250 new simulated X-rays, varied in several ways (FDA swaps the
  coarsest part of the Fourier amplitude with that of real X-rays of the half to choose
  by, whose labels are not looked at);
- together: all networks of `train` and the shipped one, each on the real X-rays as they are and cut in two ways;
- paint: simulated opacities painted on real X-rays of the half to choose by. **This part learns from real X-rays and
  from their label, no opacity.** In the half to choose by it is scored out of fold, in two folds of its patients.

About 2 minutes of one quiet core to simulate, in pieces that an interrupted call finds again; about 12 for the rest.
"""

import argparse
import hashlib
import os
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as functional
from sklearn.metrics import roc_auc_score
from transfer import PNEUMONIA

from covidxr.base.extras import opencv
from covidxr.base.files import atomic_path
from covidxr.base.seeds import generator
from covidxr.learning.map_training import ask_maps, load_maps
from covidxr.learning.maps import MapNetwork, map_loss, standardised
from covidxr.metrics import roc_auc
from covidxr.phantom import random_patient, random_pose
from covidxr.prepare import fit_square
from covidxr.thorax.canvas import Canvas
from covidxr.thorax.disease import chest_with_disease
from covidxr.thorax.physics import expose, exposure_noise, finish
from covidxr.thorax.truth import opacity_extent

SIZE, CELL, STRIDE, PIECE, FIRST, PIECES = 128, 4, 8, 250, 1_300_000, 5
SHARES = {"negative": 0.15, "typical": 0.35, "indeterminate": 0.3, "atypical": 0.2}
CLASSES = list(SHARES)
PARTS = ("views", "lungs", "train", "together", "paint")
BATCH, STEPS, PAINT_STEPS = 48, 100, 60

# ---------------------------------------------------------------- simulated X-rays


def _square(layer: np.ndarray) -> np.ndarray:
    "A layer in the network's square"
    cv2, scale = opencv(), SIZE / max(layer.shape)
    width, height = (max(1, round(side * scale)) for side in layer.shape[::-1])
    square, top, left = np.zeros((SIZE, SIZE), np.float32), (SIZE - height) // 2, (SIZE - width) // 2
    small = cv2.resize(layer.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    square[top : top + height, left : left + width] = small
    return square


def _share(layer: np.ndarray) -> np.ndarray:
    "The share of each cell that a mask covers, 0 to 255"
    cells = SIZE // CELL
    return np.round(255 * _square(layer).reshape(cells, CELL, cells, CELL).mean((1, 3))).astype(np.uint8)


def one_xray(seed: int) -> dict:
    "A simulated X-ray and its healthy twin as the network sees them; opacities, lungs, and what the disease adds"
    appearance = str(generator(seed, "to real").choice(CLASSES, p=list(SHARES.values())))
    pose = replace(random_pose(seed), aspect=float(np.clip(generator(seed, "aspect").normal(1, 0.06), 0.85, 1.15)))
    canvas = Canvas(random_patient(seed), pose, 160)
    chest, finding = chest_with_disease(canvas, appearance, seed, seed)
    noise = exposure_noise(canvas, seed)
    reference = expose(canvas, chest.attenuation, seed, noise=noise)
    raw = expose(canvas, chest.attenuation + finding.attenuation, seed, noise=noise)
    pictures = [finish(canvas, one, chest, reference, seed, False) for one in (raw, reference)]
    covered = np.any([np.zeros(canvas.shape, bool), *finding.opacities], axis=0)
    return {
        "picture": fit_square(pictures[0], SIZE)[0],
        "twin": fit_square(pictures[1], SIZE)[0],
        "mask": _share(covered),
        "lungs": _share(chest.lungs[0] | chest.lungs[1]),
        "added": _square(finding.attenuation).astype(np.float16),
        "label": CLASSES.index(appearance),
        "extent": np.float32(sum(opacity_extent(lung, covered) for lung in chest.lungs)),
        "pneumonia": finding.name.startswith(PNEUMONIA),
    }


def simulated(folder: Path) -> dict[str, np.ndarray]:
    "New simulated X-rays, in pieces that an interrupted call finds again"
    folder.mkdir(parents=True, exist_ok=True)
    kind, parts = hashlib.sha256(f"{SIZE} {CELL} {SHARES} {PIECE} {FIRST}".encode()).hexdigest()[:8], []
    for place in range(PIECES):
        path = folder / f"simulated-{kind}-{place:03d}.npz"
        if not path.exists():
            rows = [one_xray(FIRST + PIECE * place + one) for one in range(PIECE)]
            with atomic_path(path) as partial, open(partial, "wb") as out:
                np.savez_compressed(out, **{name: np.array([row[name] for row in rows]) for name in rows[0]})
        with np.load(path) as data:
            parts.append(dict(data))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# ---------------------------------------------------------------- real X-rays, and what is said of them


class Real(NamedTuple):
    "The real X-rays"

    table: pd.DataFrame
    large: np.ndarray  # uint8, 512 x 512
    squares: np.ndarray  # uint8, 128 x 128
    sick: np.ndarray  # True with an opacity
    choose: np.ndarray  # True in the half to choose by


def read_real(folder: Path) -> Real:
    "All real X-rays, in the halves of transfer.py"
    cv2, table = opencv(), pd.read_csv(folder / "images.csv", dtype={"patient_id": str})
    patients = sorted(table["patient_id"].unique())
    chosen = set(generator(7, "halves").permutation(patients)[: len(patients) // 2])
    large = np.array([cv2.imread(str(folder / "images_512" / name), cv2.IMREAD_GRAYSCALE) for name in table["file"]])
    squares = np.array([cv2.resize(one, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for one in large])
    return Real(table, large, squares, (table["n_boxes"] > 0).to_numpy(), table["patient_id"].isin(chosen).to_numpy())


def tell(real: Real, name: str, answer: np.ndarray, all_of: bool = True) -> None:
    "ROC AUC in the half to choose by, in the half to report, and of all where none of them was learnt from"
    areas = [roc_auc_score(real.sick[half], answer[half]) for half in (real.choose, ~real.choose)]
    rows = np.ones(len(answer), bool) if all_of else ~real.choose
    whole = roc_auc(real.sick[rows], answer[rows], real.table["patient_id"][rows])
    print(
        f"{name}: choose {areas[0]:.3f}, report {areas[1]:.3f}, {'all' if all_of else 'report'} {whole['auc']:.3f} "
        f"({whole['low']:.3f} to {whole['high']:.3f})",
        flush=True,
    )


def highest(maps: np.ndarray, count: int) -> np.ndarray:
    "The mean of each map's highest cells"
    return np.sort(maps.reshape(len(maps), -1), axis=1)[:, -count:].mean(1)


def shipped() -> MapNetwork:
    "The network that the package brings"
    return load_maps(Path(str(files("covidxr.learning"))) / "shipped", "cpu")[0][0]


def ask(network: MapNetwork, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Maps, classes and extents, mean of each picture and its mirror image"
    networks = torch.nn.ModuleList([network.eval()])
    parts = [ask_maps(networks, squares[start : start + 64]) for start in range(0, len(squares), 64)]
    return tuple(np.concatenate(one) for one in zip(*parts, strict=True))


# ---------------------------------------------------------------- part 1: the shipped network, other views


def zoomed(large: np.ndarray, zoom: float, border: str = "black") -> np.ndarray:
    "Pictures made smaller (zoom under 1) or larger in the square"
    cv2, move = opencv(), np.array([[zoom / 4, 0, 64 - 64 * zoom], [0, zoom / 4, 64 - 64 * zoom]])
    kind = cv2.BORDER_CONSTANT if border == "black" else cv2.BORDER_REPLICATE
    return np.array(
        [
            cv2.warpAffine(cv2.GaussianBlur(one, (0, 0), 1.6 / zoom), move, (SIZE, SIZE), borderMode=kind)
            for one in large
        ]
    )


def without_margins(one: np.ndarray) -> np.ndarray:
    "Cut off black margins"
    light = one > 10
    down, across = np.flatnonzero(light.mean(1) > 0.3), np.flatnonzero(light.mean(0) > 0.3)
    if min(len(down), len(across)) >= 200:
        one = one[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    return fit_square(np.float32(one) / 255, SIZE)[0]


def like_simulated(squares: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    "The histogram of each picture's middle made that of the mean simulated X-ray"
    levels, middle = np.linspace(0, 1, 65), np.s_[:, 12:-12, 12:-12]
    wanted = np.quantile(pictures[middle].reshape(len(pictures), -1), levels, axis=1).mean(1)
    own = np.quantile(squares[middle].reshape(len(squares), -1), levels, axis=1).T + 1e-3 * np.arange(65)
    return np.array(
        [np.interp(one, grey, wanted).round().astype(np.uint8) for one, grey in zip(squares, own, strict=True)]
    )


def changed(real: Real, data: dict) -> dict[str, np.ndarray]:
    "The real X-rays, changed beforehand"
    cv2, squares = opencv(), real.squares
    clahe = cv2.createCLAHE(2.0, (4, 4))
    views = {f"zoom {zoom}": zoomed(real.large, zoom) for zoom in (0.7, 0.8, 0.9, 1.1)}
    views["zoom 0.8, edges go on"] = zoomed(real.large, 0.8, "edge")
    views |= {f"gamma {one}": np.round(255 * (squares / 255) ** one).astype(np.uint8) for one in (0.7, 1.4)}
    views |= {f"blur {one} pixels": np.array([cv2.GaussianBlur(x, (0, 0), one) for x in squares]) for one in (0.6, 1.2)}
    views["equal histogram"] = np.array([cv2.equalizeHist(one) for one in squares])
    views["local contrast (CLAHE)"] = np.array([clahe.apply(one) for one in squares])
    views["histogram of simulated X-rays"] = like_simulated(squares, data["picture"][::4])
    views["black margins cut off"] = np.array([without_margins(one) for one in real.large])
    return views


def part_views(real: Real, data: dict) -> None:
    "The shipped network by other summaries, and on changed pictures"
    network = shipped()
    maps, chances, extents = ask(network, real.squares)
    for count in (1, 2, 4, 8, 16, 32, 64, 256):
        tell(real, f"shipped, {count} highest cells", highest(maps, count))
    tell(real, "shipped, 8 highest cells of the middle", highest(maps[:, 3:13, 2:14], 8))
    tell(real, "shipped, 1 - negative", 1 - chances[:, 0])
    tell(real, "shipped, extent", extents)
    ranks = [pd.Series(one).rank().to_numpy() for one in (highest(maps, 8), 1 - chances[:, 0], extents)]
    tell(real, "shipped, mean rank of the three", np.sum(ranks, axis=0))
    everything = [(maps, chances, extents)]
    for name, squares in changed(real, data).items():
        everything.append(ask(network, squares))
        tell(real, f"shipped, {name}, map", highest(everything[-1][0], 8))
        tell(real, f"shipped, {name}, extent", everything[-1][2])
    tell(real, "shipped, all views, map", np.mean([highest(one[0], 8) for one in everything], axis=0))
    tell(real, "shipped, all views, extent", np.mean([one[2] for one in everything], axis=0))


# ---------------------------------------------------------------- parts 2 and 3: learning on


def _between(low: float, high: float, count: int) -> torch.Tensor:
    return torch.empty(count).uniform_(low, high)[:, None, None, None]


def blurred(pictures: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = int(3 * sigma + 1)
    curve = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    curve = (curve / curve.sum())[None, None]
    across = functional.conv2d(functional.pad(pictures, (reach, reach, 0, 0), "replicate"), curve[:, :, None])
    return functional.conv2d(functional.pad(across, (0, 0, reach, reach), "replicate"), curve[..., None])


def framed(pictures: torch.Tensor, masks: torch.Tensor, zoom: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    "Zoom (logarithms; under 0 is nearer), stretch, turn, shift, mirror; masks move along"
    count = len(pictures)
    wide, turn = (_between(*one, count).flatten() for one in (zoom, (-0.15, 0.15)))
    wide, mirror = wide.exp(), torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    tall = wide * _between(-0.12, 0.12, count).flatten().exp()
    across = torch.stack([mirror * wide * turn.cos(), -tall * turn.sin(), _between(-0.15, 0.15, count).flatten()], 1)
    down = torch.stack([mirror * wide * turn.sin(), tall * turn.cos(), _between(-0.2, 0.2, count).flatten()], 1)
    frames, moved = torch.stack([across, down], 1), []
    for one in (pictures, masks):
        grid = functional.affine_grid(frames, list(one.shape), align_corners=False)
        moved.append(functional.grid_sample(one, grid, align_corners=False).clamp(0, 1))
    return moved[0], moved[1]


def swapped(pictures: torch.Tensor, amplitudes: torch.Tensor) -> torch.Tensor:
    "The coarsest part of the Fourier amplitude mixed with that of real X-rays (FDA), in half of the pictures"
    count, waves = len(pictures), torch.fft.fft2(pictures[:, 0])
    own, real = waves.abs(), amplitudes[torch.randint(len(amplitudes), (count,))]
    steps = torch.fft.fftfreq(SIZE).abs()
    coarse = torch.maximum(steps[:, None], steps[None]) < _between(0.005, 0.06, count)[:, 0]
    mix = coarse * (torch.rand(count) < 0.5)[:, None, None] * _between(0.3, 1, count)[:, 0]
    return torch.fft.ifft2(torch.polar((1 - mix) * own + mix * real, waves.angle())).real[:, None].clamp(0, 1)


def toned(pictures: torch.Tensor) -> torch.Tensor:
    "Another background, a random tone curve, soft shades"
    count = len(pictures)
    often = (torch.rand(count) < 0.4).float()[:, None, None, None]
    pictures = pictures + often * blurred((pictures < 0.06).float(), 1.0) * _between(0, 0.6, count)
    pictures = pictures.clamp(1e-4, 1) ** _between(-0.6, 0.6, count).exp()
    steep, middle = _between(0.5, 5, count), _between(0.3, 0.7, count)
    low, value, high = (torch.sigmoid(steep * (one - middle)) for one in (0.0, pictures, 1.0))
    shade = functional.interpolate(torch.randn(count, 1, 4, 4), (SIZE, SIZE), mode="bicubic", align_corners=False)
    return (value - low) / (high - low) * torch.exp(0.15 * shade)


def textured(pictures: torch.Tensor) -> torch.Tensor:
    "Local contrast, blur, noise, sharper edges"
    count = len(pictures)
    coarse, fine = blurred(pictures, float(_between(3, 14, 1))), blurred(pictures, float(_between(0.3, 1.3, 1)))
    pictures = pictures + (torch.rand(count) < 0.5).float()[:, None, None, None] * (fine - pictures)
    pictures = pictures + _between(-0.4, 0.8, count) * (pictures - coarse)
    pictures = pictures + _between(0, 0.04, count) * torch.randn_like(pictures)
    return pictures + _between(0, 0.8, count) * (pictures - blurred(pictures, 0.8))


def erased(pictures: torch.Tensor) -> torch.Tensor:
    "A grey or grainy rectangle in half of the pictures"
    for one in pictures:
        if torch.rand(1) < 0.5:
            height, width = torch.randint(6, 36, (2,)).tolist()
            top, left = (int(torch.randint(0, SIZE - side, (1,))) for side in (height, width))
            grain = 0.1 * torch.randn(height, width) * (torch.rand(1) < 0.5)
            one[:, top : top + height, left : left + width] = 0.9 * torch.rand(1) + grain
    return pictures


HARD = {"zoom": (-0.45, 0.1), "tone": True, "texture": True, "erase": True, "fda": True}
WAYS = {  # how the pictures are varied; which findings are to be found
    "as shipped": ({"zoom": (-0.15, 0.15)}, False),
    "nearer": ({"zoom": (-0.45, 0.1)}, False),
    "nearer, tone": ({"zoom": (-0.45, 0.1), "tone": True}, False),
    "all but FDA": (HARD | {"fda": False}, False),
    "all": (HARD, False),
    "all, pneumonia only": (HARD, True),
}


def varied(pictures: torch.Tensor, way: dict, amplitudes: torch.Tensor) -> torch.Tensor:
    "One way's changes"
    if way.get("fda"):
        pictures = swapped(pictures, amplitudes)
    if way.get("tone"):
        pictures = toned(pictures)
    else:
        count = len(pictures)
        pictures = pictures ** _between(-0.3, 0.3, count).exp() * _between(-0.1, 0.1, count).exp()
    if way.get("texture"):
        pictures = textured(pictures)
    return erased(pictures) if way.get("erase") else pictures


def with_twins(data: dict, pneumonia: bool = False, twins: float = 0.3) -> dict[str, np.ndarray]:
    "X-rays to learn from and their healthy twins, with weights; other findings than pneumonia can count as none"
    seen = data["pneumonia"] if pneumonia else np.ones(len(data["label"]), bool)
    mask, extent = data["mask"] * seen[:, None, None], data["extent"] * seen
    return {
        "picture": np.concatenate([data["picture"], data["twin"]]),
        "mask": np.concatenate([mask, 0 * mask]),
        "lungs": np.concatenate([data["lungs"]] * 2),
        "label": np.concatenate([data["label"], 0 * data["label"]]),
        "extent": np.concatenate([extent, 0 * extent]).astype(np.float32),
        "weight": np.repeat([1.0, twins], len(seen)),
    }


def fit(pool: dict, way: dict, real: Real, rate: float = 1e-3, steps: int = STEPS, seed: int = 0) -> MapNetwork:
    "The shipped network, having learnt on"
    torch.manual_seed(seed)
    rng, network, lungs = np.random.default_rng(seed), shipped().train(), way.get("lungs", False)
    amplitudes = torch.fft.fft2(torch.from_numpy(real.squares[real.choose]).float() / 255).abs()
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.2)
    for _ in range(steps):
        rows = rng.choice(len(pool["label"]), BATCH, p=pool["weight"] / pool["weight"].sum())
        pictures, masks = (
            torch.from_numpy(pool[name][rows]).float()[:, None] / 255
            for name in ("picture", "lungs" if lungs else "mask")
        )
        pictures, masks = framed(pictures, masks, way["zoom"])
        answers = network(standardised(varied(pictures, way, amplitudes)).contiguous(memory_format=torch.channels_last))
        if lungs:
            truth = functional.interpolate(masks, answers[0].shape[1:], mode="area")[:, 0]
            loss = functional.binary_cross_entropy_with_logits(answers[0], truth)
        else:
            labels, extents = torch.from_numpy(pool["label"][rows]).long(), torch.from_numpy(pool["extent"][rows])
            loss = map_loss(answers, masks, labels, extents)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def box(lungs: np.ndarray, unit: int) -> np.ndarray | None:
    "Left, top, right, bottom of what is surely lung, in pixels of the square"
    down, across = np.flatnonzero(lungs.max(1) > 0.5), np.flatnonzero(lungs.max(0) > 0.5)
    if min(len(down), len(across)) < 3:
        return None
    return unit * np.array([across[0], down[0], across[-1] + 1, down[-1] + 1], float)


def cut(real: Real, boxes: list, wanted: np.ndarray, same_shape: bool) -> np.ndarray:
    "Real X-rays moved so that their lungs lie where simulated ones do"
    cv2, usual, out = opencv(), np.median([one for one in boxes if one is not None], axis=0), []
    for large, own in zip(real.large, boxes, strict=True):
        own = usual if own is None else own
        scale = (wanted[2:] - wanted[:2]) / (own[2:] - own[:2])
        scale = np.clip(np.full(2, np.sqrt(scale.prod())) if same_shape else scale, 0.6, 1.6)
        shift = (wanted[2:] + wanted[:2]) / 2 - scale * (own[2:] + own[:2]) / 2
        move = np.array([[scale[0] / 4, 0, shift[0]], [0, scale[1] / 4, shift[1]]])
        out.append(cv2.warpAffine(cv2.GaussianBlur(large, (0, 0), 1.7), move, (SIZE, SIZE)))
    return np.array(out)


def find_lungs(real: Real, data: dict, work: Path, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    "Maps of the lungs, real ones and of 300 simulated X-rays; kept for the next call"
    path = work / f"lungs-{seed}.npz"
    if not path.exists():
        network = fit(with_twins(data), HARD | {"erase": False, "lungs": True}, real, 2e-3, 80, seed)
        np.savez(path, real=ask(network, real.squares)[0], simulated=ask(network, data["picture"][:300])[0])
    with np.load(path) as kept:
        return kept["real"], kept["simulated"]


def lung_places(lungs: np.ndarray, known: np.ndarray) -> tuple[list, np.ndarray]:
    "Where lungs lie in each real X-ray, and where they usually lie in simulated ones"
    places = [box(one, STRIDE) for one in known]
    return [box(one, STRIDE) for one in lungs], np.median([one for one in places if one is not None], axis=0)


def lead(real: Real, name: str, answer: np.ndarray, floor: np.ndarray) -> None:
    "How much better one answer is than another, with an interval from resampled patients"
    for half, rows in {"choose": real.choose, "report": ~real.choose, "all": np.ones(len(answer), bool)}.items():
        places = [
            np.flatnonzero(rows & (real.table["patient_id"] == one)) for one in real.table["patient_id"][rows].unique()
        ]
        rng, draws = np.random.default_rng(0), []
        for _ in range(500):
            drawn = np.concatenate([places[one] for one in rng.integers(0, len(places), len(places))])
            draws.append(roc_auc_score(real.sick[drawn], answer[drawn]) - roc_auc_score(real.sick[drawn], floor[drawn]))
        value = roc_auc_score(real.sick[rows], answer[rows]) - roc_auc_score(real.sick[rows], floor[rows])
        low, high = np.percentile(draws, (2.5, 97.5))
        print(
            f"{name}: lead over the shipped network's map, {half}: {value:+.3f} ({low:+.3f} to {high:+.3f})", flush=True
        )


def part_lungs(real: Real, data: dict, work: Path, seeds: list[int]) -> None:
    "Lungs found in real X-rays: where they lie, and what the shipped network says when they lie elsewhere"
    network = shipped()
    plain = ask(network, real.squares)
    for seed in seeds:
        lungs, known = find_lungs(real, data, work, seed)
        places, wanted = lung_places(lungs, known)
        found = np.median([one for one in places if one is not None], axis=0)
        print(f"seed {seed}: lungs in simulated X-rays {wanted}, in real ones {found}", flush=True)
        tell(real, "shipped, sum over the lungs", (plain[0] * lungs).sum((1, 2)))
        tell(real, "shipped, mean over the lungs", (plain[0] * lungs).sum((1, 2)) / lungs.sum((1, 2)))
        tell(real, "shipped, 8 highest cells of the lungs", highest(plain[0] * lungs, 8))
        views = {"plain": plain}
        for name, same_shape in (("cut by lungs", True), ("cut by lungs, stretched", False)):
            views[name] = maps, chances, extents = ask(network, cut(real, places, wanted, same_shape))
            tell(real, f"shipped, {name}, map", highest(maps, 8))
            tell(real, f"shipped, {name}, 1 - negative", 1 - chances[:, 0])
            tell(real, f"shipped, {name}, extent", extents)
            lead(real, f"shipped, {name}, map", highest(maps, 8), highest(plain[0], 8))
        means = {
            "map": np.mean([highest(maps, 8) for maps, _, _ in views.values()], axis=0),
            "extent": np.mean([extents for _, _, extents in views.values()], axis=0),
        }
        means["map and extent by rank"] = np.sum([pd.Series(one).rank().to_numpy() for one in means.values()], axis=0)
        for kind, answer in means.items():
            tell(real, f"shipped, three views, {kind}", answer)
            lead(real, f"shipped, three views, {kind}", answer, highest(plain[0], 8))


def say(real: Real, name: str, network: MapNetwork, all_of: bool = True) -> dict:
    "A network's answers, told"
    maps, chances, extents = ask(network, real.squares)
    answers = {
        "map": highest(maps, 8),
        "40 cells": highest(maps, 40),
        "1 - negative": 1 - chances[:, 0],
        "extent": extents,
    }
    for kind, answer in answers.items():
        tell(real, f"{name}, {kind}", answer, all_of)
    return answers


def part_train(real: Real, data: dict, ways: list[str], seeds: list[int], work: Path) -> None:
    "The shipped network goes on learning from new simulated X-rays"
    for name in ways:
        way, pneumonia = WAYS[name]
        for seed in seeds:
            started, path = time.process_time(), work / f"{name}-{seed}.pt".replace(", ", "-").replace(" ", "-")
            network = shipped()
            if path.exists():
                network.load_state_dict(torch.load(path, weights_only=True))
            else:
                network = fit(with_twins(data, pneumonia), way, real, seed=seed)
                torch.save(network.state_dict(), path)
            say(real, f"{name}, seed {seed}", network)
            print(f"    {time.process_time() - started:.0f} s", flush=True)


def part_together(real: Real, data: dict, work: Path) -> None:
    "The shipped network and all that learnt on, each on three views: what each says so, and their mean"
    places, wanted = lung_places(*find_lungs(real, data, work))
    views = {"plain": real.squares}
    views |= {name: cut(real, places, wanted, same) for name, same in (("cut", True), ("stretched", False))}
    networks, spoken, plain = {"shipped": shipped()}, [], highest(ask(shipped(), real.squares)[0], 8)
    for path in sorted(work.glob("*.pt")):
        networks[path.stem] = shipped()
        networks[path.stem].load_state_dict(torch.load(path, weights_only=True))
    for name, network in networks.items():
        answers = [ask(network, squares) for squares in views.values()]
        for view, (maps, _, extents) in zip(views, answers, strict=True):
            tell(real, f"{name}, {view}, map", highest(maps, 8))
            tell(real, f"{name}, {view}, extent", extents)
        kinds = {
            "map": np.mean([highest(maps, 8) for maps, _, _ in answers], axis=0),
            "1 - negative": np.mean([1 - chances[:, 0] for _, chances, _ in answers], axis=0),
            "extent": np.mean([extents for _, _, extents in answers], axis=0),
        }
        spoken.append(kinds)
        for kind, answer in kinds.items():
            tell(real, f"{name}, three views, {kind}", answer)
    means = {kind: np.mean([one[kind] for one in spoken], axis=0) for kind in spoken[0]}
    for kind, answer in means.items():
        tell(real, f"mean of {len(spoken)} networks, three views, {kind}", answer)
    ranks = [pd.Series(one).rank().to_numpy() for one in means.values()]
    tell(real, "mean of all networks, three views, map, 1 - negative and extent by rank", np.mean(ranks, axis=0))
    for kind in ("map", "extent"):
        lead(real, f"mean of {len(spoken)} networks, three views, {kind}", means[kind], plain)


# ---------------------------------------------------------------- part 4: painted on real X-rays


def _logit(value: np.ndarray) -> np.ndarray:
    value = np.clip(value, 0.02, 0.98)
    return np.log(value / (1 - value))


class Painter:
    "Paints simulated opacities on real X-rays, where a network finds lungs"

    def __init__(self, real: Real, data: dict, lungs: np.ndarray) -> None:
        self.real, self.data, self.lungs = real, data, lungs
        added = data["added"].astype(np.float32)
        self.ill = np.flatnonzero((data["label"] > 0) & (added.max((1, 2)) > 0.05) & (data["mask"].max((1, 2)) > 200))
        some = self.ill[:200]
        inside = added[some] > 0.1
        change = _logit(data["picture"][some] / 255) - _logit(data["twin"][some] / 255)
        self.slope = float((change * added[some])[inside].sum() / (added[some] ** 2)[inside].sum())
        self.usable = np.array([(one > 0.5).sum() > 15 and box(one, STRIDE) is not None for one in lungs])

    def paint(self, to: int, source: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        "A real X-ray with a simulated disease, and its mask: attenuation adds to the logarithm of the odds of grey"
        cv2 = opencv()
        lung = cv2.resize(self.lungs[to], (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        own, other = box(self.lungs[to], STRIDE), box(self.data["lungs"][source] / 255, CELL)
        scale = (own[2:] - own[:2]) / (other[2:] - other[:2])
        shift = own[:2] - scale * other[:2]
        move = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
        added = cv2.warpAffine(self.data["added"][source].astype(np.float32), move, (SIZE, SIZE))
        added = added * np.clip(1.6 * lung, 0, 1)
        move[:, 2] /= CELL
        cells = (SIZE // CELL, SIZE // CELL)
        mask = cv2.warpAffine(self.data["mask"][source], move, cells)
        inside = cv2.resize((lung > 0.3).astype(np.float32), cells, interpolation=cv2.INTER_AREA)
        grey = self.real.squares[to] / 255
        new = 1 / (1 + np.exp(-(_logit(grey) + self.slope * rng.uniform(0.7, 1.3) * added)))
        return np.round(255 * np.where(added > 0.01, new, grey)).astype(np.uint8), (mask * inside).astype(np.uint8)

    def pool(self, clear: np.ndarray, count: int = 600) -> dict[str, np.ndarray]:
        "Painted X-rays and as many without, half and half with simulated ones"
        rng, clear = np.random.default_rng(0), np.flatnonzero(clear)
        sources = rng.choice(self.ill, count)
        painted = [self.paint(int(rng.choice(clear)), source, rng) for source in sources]
        simulated, none = with_twins(self.data), len(clear)
        share = simulated["weight"].sum()
        return {
            "picture": np.concatenate([simulated["picture"], [one[0] for one in painted], self.real.squares[clear]]),
            "mask": np.concatenate(
                [simulated["mask"], [one[1] for one in painted], np.zeros((none, 32, 32), np.uint8)]
            ),
            "label": np.concatenate([simulated["label"], self.data["label"][sources], np.zeros(none, int)]),
            "extent": np.concatenate(
                [simulated["extent"], self.data["extent"][sources], np.zeros(none, np.float32)]
            ).astype(np.float32),
            "weight": np.concatenate(
                [simulated["weight"], np.full(count, 0.5 * share / count), np.full(none, 0.5 * share / none)]
            ),
        }


def part_paint(real: Real, data: dict, work: Path, kinds: list[str]) -> None:
    "Painted on Normal X-rays of the half to choose by, or on all of that half that have no opacity"
    painter, way = Painter(real, data, find_lungs(real, data, work)[0]), HARD | {"zoom": (-0.3, 0.1), "fda": False}
    patients = sorted(real.table["patient_id"][real.choose].unique())
    first = (
        real.table["patient_id"].isin(np.random.default_rng(3).permutation(patients)[: len(patients) // 2]).to_numpy()
    )
    normal = (real.table["rsna_class"] == "Normal").to_numpy()
    for name in kinds:
        clear = {"Normal": normal, "no opacity": ~real.sick}[name] & real.choose & painter.usable
        print(f"painted on {clear.sum()} real X-rays ({name}); {painter.slope:.2f} per unit of attenuation", flush=True)
        folds = [
            say(
                real,
                f"painted on {name}, fold {place}",
                fit(painter.pool(clear & rows), way, real, steps=PAINT_STEPS),
                all_of=False,
            )
            for place, rows in enumerate((first, ~first))
        ]
        whole = say(
            real, f"painted on {name}, both", fit(painter.pool(clear), way, real, steps=PAINT_STEPS), all_of=False
        )
        for kind, answer in whole.items():
            parts = [
                roc_auc_score(real.sick[rows], folds[place][kind][rows])
                for place, rows in enumerate((real.choose & ~first, real.choose & first))
            ]
            print(
                f"painted on {name}, {kind}: out of fold in the half to choose by {parts[0]:.3f} and {parts[1]:.3f}, "
                f"report {roc_auc_score(real.sick[~real.choose], answer[~real.choose]):.3f}",
                flush=True,
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    options.add_argument("--real", type=Path, default=folder)
    options.add_argument("--work", type=Path, default=Path("runs/sim_to_real"), help="where simulated X-rays are kept")
    options.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    options.add_argument("--on", nargs="+", choices=("Normal", "no opacity"), default=["Normal", "no opacity"])
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = options.parse_args()
    if not (options.real / "images.csv").exists():
        raise SystemExit(f"{options.real}: no images.csv here, so nothing is measured; name the folder with --real")
    torch.set_num_threads(1)
    real, data = read_real(options.real), simulated(options.work)
    print(
        f"{len(data['label'])} simulated X-rays; real: choose {real.choose.sum()}, report {(~real.choose).sum()}",
        flush=True,
    )
    if "views" in options.part:
        part_views(real, data)
    if "lungs" in options.part:
        part_lungs(real, data, options.work, options.seeds)
    if "train" in options.part:
        part_train(real, data, options.ways, options.seeds, options.work)
    if "together" in options.part:
        part_together(real, data, options.work)
    if "paint" in options.part:
        part_paint(real, data, options.work, options.on)


if __name__ == "__main__":
    main()
