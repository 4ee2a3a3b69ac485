"""How much lung is opaque: three estimates of the 0 to 8 extent, beside readers, on simulated and on real X-rays.

    python benchmarks/severity.py simulated [--out runs/severity]
    python benchmarks/severity.py real [--real ../shared/real/severity] [--boxes ../shared/real/cxr_boxes] [--out runs/severity]

**simulated**: the course's X-rays, none of which the shipped network has seen. What turns its answers into grades is fitted on the
splits train and valid (no patient of them is in test) and printed as the constants of `covidxr/learning/extents.py`; the errors are those
of test. Beside them stand ten simulated readers (covidxr/tables/readers.py), whose noise was set so that their ICC is that of real
ones (0.87, Au-Yong 2021). Then the same patients in another pose, and with disease of other strengths.

**real**: X-rays with Cohen's extent (55 images of 38 patients), which are reported; those of other patients with COVID-Net's scores
(the same raters' numbers) served to choose. What was learnt from real scores was learnt in folds by patient, near copies together; features
and penalty were chosen by inner folds. All intervals draw patients again.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from real import frozen_features, real_tables
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from covidxr.base.extras import opencv
from covidxr.base.progress import progress
from covidxr.base.seeds import generator
from covidxr.base.terms import BOX_COLUMNS
from covidxr.boxes.network_answers import map_boxes
from covidxr.course import folder
from covidxr.course.folder import course_images
from covidxr.learning.data import read_squares
from covidxr.learning.extents import mean_halves
from covidxr.learning.map_training import ask_maps, load_maps, train_map_classifier
from covidxr.learning.maps import MapNetwork, standardised
from covidxr.learning.shipped_reader import interpret
from covidxr.phantom import SimulatedXray, simulate
from covidxr.tables.readers import Reader, extent_grades, intraclass_correlation, read_lungs

LEVELS = [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6]  # of the network's extent, where its quantiles are told
STRENGTHS = [0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.3, 1.6]
PENALTIES = [100, 1000, 10_000, 100_000]


def drawn(measure, patients, *values: np.ndarray, times: int = 2000) -> str:
    "A figure of some arrays with its 95 % interval; patients are drawn again"
    values = [np.asarray(one) for one in values]
    groups = list(pd.Series(range(len(values[0]))).groupby(np.asarray(patients)).indices.values())
    rng, again = generator(0, "severity"), []
    for _ in range(times):
        rows = np.concatenate([groups[one] for one in rng.integers(0, len(groups), len(groups))])
        again.append(measure(*(one[rows] for one in values)))
    low, high = np.nanquantile(again, [0.025, 0.975])
    return f"{measure(*values):.3f} ({low:.3f} to {high:.3f})"


def rank(one: np.ndarray, other: np.ndarray) -> float:
    return spearmanr(one, other).statistic


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


# --- simulated ---------------------------------------------------------------------------------------------------------


def box_percents(boxes: pd.DataFrame, xray: SimulatedXray) -> list[float]:
    "Per cent of each lung that lies in a box"
    inside = np.zeros(xray.pixels.shape, bool)
    for x_min, y_min, x_max, y_max in boxes[BOX_COLUMNS].round().astype(int).to_numpy():
        inside[max(y_min, 0) : max(y_max, 0), max(x_min, 0) : max(x_max, 0)] = True
    return [100 * float((lung & inside).sum() / max(lung.sum(), 1)) for lung in xray.lungs]


def answers(xrays: list[SimulatedXray]) -> pd.DataFrame:
    "Truth and what the shipped network says, a row per X-ray"
    rows = []
    for xray in progress(xrays, "ask"):
        said, true = interpret(xray), xray.severity()
        row = {"right": true["right_percent"], "left": true["left_percent"], "extent": true["extent"]}
        parts = {"found": box_percents(said.boxes, xray), "reader": box_percents(xray.boxes, xray)}
        for name, pair in (parts | {"half": mean_halves(said.opacity_map)}).items():
            row |= {f"{name}_right": pair[0], f"{name}_left": pair[1]}
        rows.append(row | {"network": said.extent})
    return pd.DataFrame(rows)


def fit_extents(images: pd.DataFrame) -> list[list[float]]:
    "5, 50 and 95 % of the true extents near each level of the network's, which must not fall"
    said = np.array(
        [interpret(one / np.float32(255)).extent for one in progress(read_squares(images["file"], 128)[0], "fit")]
    )
    true, rows = images["extent"].to_numpy(float), []
    for level in LEVELS:
        near = true[np.abs(said - level) <= (0.25 if level <= 4 else 0.5)]
        if len(near) >= 15:
            rows.append([level, *np.quantile(near, [0.05, 0.5, 0.95])])
    table = np.array(rows)
    table[:, 1:] = np.maximum.accumulate(table[:, 1:], axis=0)
    return [*table.round(2).tolist(), [8, float(table[-1, 1]), 8, 8]]  # an assumption: hardly anybody is that ill


def fit_halves(known: pd.DataFrame) -> tuple[float, float]:
    "The line from half a map to per cent of a lung"
    halves = np.concatenate([known["half_right"], known["half_left"]])
    slope, offset = np.polyfit(halves, np.concatenate([known["right"], known["left"]]), 1)
    return round(float(slope), 2), round(float(offset), 2)


def estimates(rows: pd.DataFrame, told: dict) -> dict[str, np.ndarray]:
    "The extent by each way"
    halves = rows[["half_right", "half_left"]].to_numpy() * told["slope"] + told["offset"]
    table = np.array(told["extents"])
    return {
        "always the median": np.full(len(rows), rows["extent"].median()),
        "reader's boxes over lungs": extent_grades(rows[["reader_right", "reader_left"]]).sum(1),
        "network's boxes over lungs": extent_grades(rows[["found_right", "found_left"]]).sum(1),
        "integral of the map": extent_grades(np.where(halves < 5, 0, halves).clip(0, 100)).sum(1),
        "regression: the network's extent": rows["network"].to_numpy(),
        "severity(): the same, calibrated": np.interp(rows["network"], table[:, 0], table[:, 2]),
    }


def simulated(options: argparse.Namespace) -> None:
    "Errors beside readers, test-retest, and the smallest disease"
    images, plans = course_images(), {plan.image_id: plan for plan in folder._plans(3000)}
    test, valid = (images[images["split"] == one].reset_index(drop=True) for one in ("test", "valid"))
    known = answers([folder._simulated(plans[one]) for one in progress(valid["image_id"][:150], "simulate")])
    slope, offset = fit_halves(known)
    told = {"extents": fit_extents(images[images["split"] != "test"].head(1800)), "slope": slope, "offset": offset}
    print(json.dumps(told), flush=True)
    known.to_parquet(options.out / "valid.parquet")
    rows = answers([folder._simulated(plans[one]) for one in progress(test["image_id"], "simulate")])
    rows.assign(patient_id=test["patient_id"], image_id=test["image_id"]).to_parquet(options.out / "simulated.parquet")
    report(rows, told, test["patient_id"].to_numpy())
    poses(options, told)
    sweep(options)


def report(rows: pd.DataFrame, told: dict, patients: np.ndarray) -> None:
    "The table of errors on the test split, and the readers"
    true, rng, ways = rows["extent"].to_numpy(), generator(0, "readers"), estimates(rows, told)
    for name, said in ways.items():
        print(f"{name}: MAE {drawn(error, patients, said, true)}", flush=True)
    table = np.array(told["extents"])
    low, high = (np.interp(rows["network"], table[:, 0], table[:, k]) for k in (1, 3))
    print(f"interval holds the truth: {drawn(np.mean, patients, (low <= true) & (true <= high))}")
    halves = rows[["half_right", "half_left"]].to_numpy() * told["slope"] + told["offset"]
    wrong = np.abs(halves.clip(0, 100) - rows[["right", "left"]].to_numpy()).mean(1)
    print(f"per cent of a lung by the map: MAE {drawn(np.mean, patients, wrong)}")
    team = [Reader(bias, 9) for bias in rng.normal(0, 4, 10)]
    said = np.array([extent_grades(read_lungs(rows[["right", "left"]], one, rng)).sum(1) for one in team], float).T
    print(f"ten readers: ICC {drawn(intraclass_correlation, patients, said, times=300)}")
    pairs = np.mean([np.abs(said[:, a] - said[:, b]) for a in range(10) for b in range(a)], axis=0)
    print(f"two of them differ by {drawn(np.mean, patients, pairs)}")
    print(f"one of them errs by {drawn(np.mean, patients, np.abs(said - true[:, None]).mean(1))}")
    against = np.abs(list(ways.values())[-1][:, None] - said).mean(1)
    print(f"severity() and a reader differ by {drawn(np.mean, patients, against)}")
    gap = drawn(np.mean, patients, against - pairs)
    print(f"severity() and a reader, less two readers: {gap}")


def poses(options: argparse.Namespace, told: dict) -> None:
    "The same patient and disease in two poses, and the same patient with another disease"
    rng, pairs = generator(0, "poses"), []
    for number in progress(range(options.pairs), "poses"):
        patient, one, two = 1_200_000 + number, 1_300_000 + number, 1_400_000 + number
        kinds = [str(kind) for kind in rng.choice(["negative", "typical", "indeterminate"], 2, p=[0.2, 0.5, 0.3])]
        plans = ((2 * one, kinds[0], one), (2 * one + 1, kinds[0], one), (2 * two, kinds[1], two))
        pairs += [simulate(seed, kind, 224, patient, disease) for seed, kind, disease in plans]
    rows = answers(pairs)
    said = estimates(rows, told)
    for name in list(said)[2:]:
        first, again, later = (said[name][start::3] for start in range(3))
        spread = float((again - first).std() / np.sqrt(2))
        true = rows["extent"].to_numpy(float)
        change, real = later - first, true[2::3] - true[::3]
        told_change = drawn(rank, np.arange(len(change)), change, real)
        print(
            f"{name}: retest spread {spread:.2f}, detectable change {2.77 * spread:.2f}, change Spearman {told_change}"
        )
    both = rows["extent"].to_numpy(float)
    print(f"the truth itself differs between two poses by {np.abs(both[1::3] - both[::3]).mean():.2f}")
    rows.to_parquet(options.out / "poses.parquet")


def sweep(options: argparse.Namespace) -> None:
    "The same patients with one disease of other strengths: how much of it is seen?"
    xrays = [
        simulate(1_500_000 + number, "typical", 224, strength=strength)
        for number in progress(range(options.sweep), "strengths")
        for strength in STRENGTHS
    ]
    healthy = answers([simulate(1_600_000 + number, "negative", 224) for number in range(4 * options.sweep)])
    rows = answers(xrays).assign(strength=STRENGTHS * options.sweep)
    rows["patient"] = np.repeat(range(options.sweep), len(STRENGTHS))
    border = float(np.quantile(healthy["network"], 0.95))
    print(f"95 % of {len(healthy)} healthy ones lie below {border:.2f}")
    seen = rows.assign(seen=rows["network"] > border, percent=rows[["right", "left"]].mean(axis=1))
    print(seen.groupby("strength")[["seen", "network", "percent", "extent"]].mean().round(3).to_string())
    seen.to_parquet(options.out / "sweep.parquet")


# --- real --------------------------------------------------------------------------------------------------------------


def real_images(folder: Path, out: Path) -> pd.DataFrame:
    "The table of scores with `path`, `crop` (a picture cut to the lungs where boxes are known) and `group`"
    table, boxes, cv2 = pd.read_csv(folder / "severity.csv"), pd.read_csv(folder / "lung_boxes.csv"), opencv()
    table["path"] = [str(folder / "images" / name) for name in table["file"]]
    (out / "crops").mkdir(parents=True, exist_ok=True)
    table["crop"], thumbs = table["path"], []
    for row, (name, path) in enumerate(zip(table["file"], table["path"], strict=True)):
        picture, lungs = cv2.imread(path, cv2.IMREAD_GRAYSCALE), boxes[boxes["file"] == name]
        thumb = cv2.resize(picture, (24, 24), interpolation=cv2.INTER_AREA).astype(float).ravel()
        thumbs.append((thumb - thumb.mean()) / (thumb.std() + 1e-6))
        if len(lungs):
            corners = [lungs["x"].min(), lungs["y"].min()]
            corners += [(lungs["x"] + lungs["width"]).max(), (lungs["y"] + lungs["height"]).max()]
            rim = 0.06 * np.array([corners[2] - corners[0], corners[3] - corners[1]])
            left, top = np.maximum(np.array(corners[:2]) - rim, 0).astype(int)
            right, bottom = (np.array(corners[2:]) + rim).astype(int)
            table.loc[row, "crop"] = str(out / "crops" / f"{row}.png")
            cv2.imwrite(table.loc[row, "crop"], picture[top:bottom, left:right])
    table["group"] = joined_groups(table["patient_id"].to_numpy(), np.array(thumbs))
    return table


def joined_groups(patients: np.ndarray, thumbs: np.ndarray) -> np.ndarray:
    "Patients whose pictures are nearly the same are one group"
    group, alike = patients.copy(), thumbs @ thumbs.T / thumbs.shape[1]
    for one, other in np.argwhere(np.triu(alike > 0.985, 1)):
        group[group == group[other]] = group[one]
    print(f"{len(set(patients))} patients in {len(set(group))} groups without near copies across them")
    return group


def joined_features(network: MapNetwork, batch: torch.Tensor) -> torch.Tensor:
    "What the map and the extent are drawn from"
    kept = []
    hook = network.join.register_forward_hook(lambda _network, _given, joined: kept.append(joined))
    network(batch)
    hook.remove()
    return kept[0]


@torch.no_grad()
def network_features(networks, files: list[str], size: int) -> dict[str, np.ndarray]:
    "Map, extent and pooled features of networks with a map, mean of both mirror views"
    squares, _ = read_squares(files, size)
    maps, extents, pooled = [], [], []
    for start in range(0, len(squares), 32):
        part = squares[start : start + 32]
        said = ask_maps(networks, part)
        maps.append(said[0])
        extents.append(said[2])
        batch = standardised(torch.tensor(part)[:, None].float() / 255)
        views = [joined_features(one, view) for one in networks for view in (batch, batch.flip(3))]
        pooled.append(sum(torch.cat([one.mean((2, 3)), one.amax((2, 3))], 1) for one in views) / len(views))
    return {"map": np.concatenate(maps), "extent": np.concatenate(extents), "pooled": torch.cat(pooled).numpy()}


def real_features(table: pd.DataFrame, options: argparse.Namespace) -> dict[str, np.ndarray]:
    "All that is looked at, per image; kept in --out, as it takes minutes"
    kept = options.out / "real.npz"
    if kept.exists():
        return dict(np.load(kept))
    learnt, shipped = options.out / "map-of-real-boxes", Path(__file__).parents[1] / "covidxr" / "learning" / "shipped"
    if not (learnt / "config.json").exists():
        images, boxes = real_tables(options.boxes)
        train_map_classifier(images.assign(valid=images.index % 20 == 0), boxes, learnt, networks=1, seed=0)
    found = {}
    for view in ("path", "crop"):
        files = list(table[view])
        for name, place in (("shipped", shipped), ("boxes", learnt)):
            networks, config = load_maps(place, "cpu")
            told = network_features(networks, files, config["size"])
            found |= {f"{name} {view} {part}": values for part, values in told.items()}
        found[f"photographs {view}"] = frozen_features(files)
    np.savez(kept, **found)
    return found


def boxed_area(opaque: np.ndarray) -> float:
    "The share of the square that lies in a box around a patch of the map"
    inside, place = np.zeros(opaque.shape, bool), {"left": 0, "top": 0, "scale": 1}
    for x_min, y_min, x_max, y_max in map_boxes(opaque, place, stride=1)[BOX_COLUMNS].astype(int).to_numpy():
        inside[y_min:y_max, x_min:x_max] = True
    return float(inside.mean())


def fixed_ways(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    "What has seen no severity score of a real X-ray"
    ways = {}
    for view, words in (("path", "whole picture"), ("crop", "cut to the lungs")):
        ways[f"simulation: the network's extent, {words}"] = found[f"shipped {view} extent"]
        ways[f"simulation: integral of the map, {words}"] = found[f"shipped {view} map"].mean((1, 2))
        ways[f"simulation: area of the boxes, {words}"] = np.array(
            [boxed_area(one) for one in found[f"shipped {view} map"]]
        )
        ways[f"271 other real X-rays with boxes: integral of the map, {words}"] = found[f"boxes {view} map"].mean(
            (1, 2)
        )
    return ways


def feature_sets(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    "What a regression may learn from"
    parts = {}
    for view in ("path", "crop"):
        shipped, photographs, boxed = (
            found[f"shipped {view} pooled"],
            found[f"photographs {view}"],
            found[f"boxes {view} pooled"],
        )
        parts |= {f"shipped, {view}": shipped, f"photographs, {view}": photographs, f"boxes, {view}": boxed}
        parts |= {f"shipped and photographs, {view}": np.hstack([shipped, photographs])}
        parts |= {f"all, {view}": np.hstack([shipped, photographs, boxed])}
    return parts


def ridge(penalty: float):
    return make_pipeline(StandardScaler(), Ridge(alpha=penalty))


def inner_score(values: np.ndarray, target: np.ndarray, groups: np.ndarray, penalty: float) -> float:
    "Mean absolute error in five folds by patient"
    said = np.zeros(len(target))
    for train, test in GroupKFold(5).split(values, target, groups):
        said[test] = ridge(penalty).fit(values[train], target[train]).predict(values[test])
    return float(np.abs(said.clip(0, 8) - target).mean())


def learnt_way(
    found: dict[str, np.ndarray], table: pd.DataFrame, view: str, without: tuple[str, ...] = (), group: str = "group"
) -> tuple[np.ndarray, list[str]]:
    "Out-of-fold answers for all images of a ridge regression whose features and penalty inner folds chose"
    sets = {name: one for name, one in feature_sets(found).items() if view in name and not name.startswith(without)}
    target, groups = table["covidnet_geographic"].to_numpy(), table[group].to_numpy()
    said, chosen = np.zeros(len(table)), []
    for train, test in GroupKFold(10, shuffle=True, random_state=0).split(groups, groups=groups):
        train = train[~np.isnan(target[train])]
        tried = {
            (name, penalty): inner_score(values[train], target[train], groups[train], penalty)
            for name, values in sets.items()
            for penalty in PENALTIES
        }
        name, penalty = min(tried, key=tried.get)
        chosen.append(f"{name} {penalty}")
        said[test] = ridge(penalty).fit(sets[name][train], target[train]).predict(sets[name][test]).clip(0, 8)
    return said, chosen


def publications(table: pd.DataFrame) -> np.ndarray:
    "Groups that hold a publication's patients together, as far as the files' names tell: their first twelve letters"
    stems = (
        table["file"].str.replace(r"[^A-Za-z]", "", regex=True).str.removesuffix("jpg").str.removesuffix("png").str[:12]
    )
    linked = table["group"].astype(str).where(stems.str.len() < 12, stems)
    for patient in table["group"].unique():  # a patient with two names joins both
        mine = linked[table["group"] == patient].unique()
        linked = linked.where(~linked.isin(mine), mine[0])
    return linked.to_numpy()


def real(options: argparse.Namespace) -> None:
    "Rank correlations with Cohen's extent, and what readers reach"
    table = real_images(options.real, options.out)
    found = real_features(table, options)
    cohen = table["geographic_mean"].notna().to_numpy()
    seen = table.loc[cohen, "group"].unique()
    choose = (table["covidnet_geographic"].notna() & ~table["group"].isin(seen)).to_numpy()
    brixia = table["brixia_s_global"].notna().to_numpy()
    print(f"report {cohen.sum()} images, choose {choose.sum()}, Brixia {brixia.sum()}")
    ways = fixed_ways(found)
    table["publication"] = publications(table)
    print(f"{table['publication'].nunique()} publications or patients of unknown ones")
    plans = {"whole picture": ("path",), "cut to the lungs": ("crop",)}
    plans["cut to the lungs, without the map of real boxes"] = ("crop", ("boxes", "all"))
    plans["cut to the lungs, folds by publication"] = ("crop", (), "publication")
    plans["whole picture, folds by publication"] = ("path", (), "publication")
    for words, plan in plans.items():
        name = f"ridge on COVID-Net's scores of other patients, {words}"
        ways[name], chosen = learnt_way(found, table, *plan)
        print(name, pd.Series(chosen).value_counts().to_dict(), flush=True)
    both = table["covidnet_geographic"].notna().to_numpy()
    columns = (("Cohen", cohen, "geographic_mean"), ("choose", choose, "covidnet_geographic"))
    columns += (("all", both, "covidnet_geographic"), ("Brixia S", brixia, "brixia_s_global"))
    for name, said in ways.items():
        parts = []
        for who, rows, column in columns:
            part = table[rows]
            parts.append(f"{who} {drawn(rank, part['group'], said[rows], part[column])}")
        print(f"{name}: {'; '.join(parts)}", flush=True)
        if name.startswith("ridge"):
            part = table[cohen]
            print(f"    MAE of 8: {drawn(error, part['group'], said[cohen], part['geographic_mean'])}", flush=True)
    kept = ["file", "group", "geographic_mean", "covidnet_geographic", "brixia_s_global", "brixia_j_global"]
    pd.concat([table[kept], pd.DataFrame(ways)], axis=1).to_parquet(options.out / "real.parquet")
    for name in [
        name for name in ways if "whole picture" in name and name.replace("whole picture", "cut to the lungs") in ways
    ]:
        crop, part = ways[name.replace("whole picture", "cut to the lungs")], table[both]
        lead = drawn(
            lambda a, b, true: rank(a, true) - rank(b, true),
            part["group"],
            crop[both],
            ways[name][both],
            part["covidnet_geographic"],
        )
        print(f"{name}: the cut gains {lead} on all", flush=True)
    readers(table)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return pearsonr(one, other).statistic


def readers(table: pd.DataFrame) -> None:
    "How far Brixia's two readers agree, and Brixia's with Cohen's"
    for first, second in (("brixia_s_global", "brixia_j_global"), ("geographic_mean", "brixia_s_global")):
        part = table.dropna(subset=[first, second])
        given = (part["group"], part[first], part[second])
        print(f"{first} and {second}, {len(part)}: {drawn(rank, *given)}, Pearson {drawn(correlation, *given)}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    base = Path(os.environ.get("COVIDXR_REAL", "../shared/real"))
    options.add_argument("part", choices=["simulated", "real"])
    options.add_argument("--real", type=Path, default=base / "severity")
    options.add_argument("--boxes", type=Path, default=base / "cxr_boxes")
    options.add_argument("--out", type=Path, default=Path("runs/severity"))
    options.add_argument("--pairs", type=int, default=150, help="patients in two poses and at follow-up")
    options.add_argument("--sweep", type=int, default=50, help="patients with disease of several strengths")
    options = options.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part == "real" and not (options.real / "severity.csv").exists():
        raise SystemExit(f"{options.real}: no severity.csv here, so nothing is measured; name the folder with --real")
    {"simulated": simulated, "real": real}[options.part](options)


if __name__ == "__main__":
    main()
