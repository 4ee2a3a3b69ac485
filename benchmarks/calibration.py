"""How often is the shipped network right when it is sure? Measured on 20,000 simulated patients that nobody has learnt from.

    python benchmarks/calibration.py [--work runs/calibration] [--patients 20000] [--out runs/calibration/pool.parquet]
                                     [--real ../shared/real/cxr_boxes]

1. Simulates 20,000 patients, one X-ray each, as the course's X-rays are made (seed 17,017, used nowhere else), in pieces that an
   interrupted call finds again, and asks the shipped network (about 15 minutes of one core). The table of answers and truth is `--out`.
2. Learns the scaling from the course's validation patients (one X-ray each), and prints what it does to the 20,000: calibration
   error and Brier score, how both depend on the number of known patients, other shares of the sick, operating points, sets.
3. Asks the network about the real X-rays of `--real`, where that folder is there: is its probability of disease true there?
"""

import argparse
import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import betabinom, kstest

from covidxr.base.extras import opencv
from covidxr.base.files import atomic_path
from covidxr.base.progress import progress
from covidxr.base.seeds import generator
from covidxr.base.terms import APPEARANCES
from covidxr.boxes.calibration import chances_of, fit_temperature, labels_of
from covidxr.boxes.network_answers import surest
from covidxr.calibrate import calibrate, conformal, operating_points, reliability
from covidxr.course.folder import course_images
from covidxr.hospital import ImagePlan, Shares, plan_dataset
from covidxr.learning import shipped_reader
from covidxr.learning.map_training import ask_maps, load_maps, predict_maps
from covidxr.phantom import simulate
from covidxr.prepare import fit_square

CLASSES = list(APPEARANCES)
SHIPPED = Path(shipped_reader.__file__).parent / "shipped"
SEED, LONGEST, SQUARE, PIECE = 17_017, 224, 128, 500  # LONGEST and SQUARE are the course's: pixels


def simulated(plan: ImagePlan) -> tuple[np.ndarray, dict]:
    "The picture as the network sees it, and what is true of it"
    xray = simulate(plan.seed, plan.appearance, max(64, plan.size), patient=plan.patient, disease=plan.disease)
    facts = {name: getattr(plan, name) for name in ("patient_id", "patient", "seed", "disease", "appearance", "label")}
    facts |= {"finding": xray.finding, "view": xray.pose.view, "sex": xray.patient.sex, "age": xray.patient.age}
    facts |= {"tubes": xray.pose.tubes, "leads": xray.pose.leads}
    return fit_square(xray.pixels, SQUARE)[0], facts | xray.severity()


def one_piece(path: Path, plans: list[ImagePlan], network: tuple) -> pd.DataFrame:
    "Simulate some X-rays and ask the network, unless the file is there"
    if path.exists():
        return pd.read_parquet(path)
    pictures, facts = zip(*[simulated(plan) for plan in plans], strict=True)
    answers = [ask_maps(network[0], np.stack(pictures[at : at + 50])) for at in range(0, len(pictures), 50)]
    maps, chances, extents = (np.concatenate(part) for part in zip(*answers, strict=True))
    said = pd.DataFrame(chances, columns=network[1]["classes"])
    said = said.assign(map_opacity=surest(maps), map_extent=extents, map_cells=maps.sum((1, 2)))
    table = pd.concat([pd.DataFrame(facts), said], axis=1)
    with atomic_path(path) as partial:
        table.to_parquet(partial, index=False)
    np.save(path.with_suffix(".npy"), np.round(255 * maps).astype(np.uint8))  # for other questions
    return table


def kind_of(model: Path) -> str:
    "Eight digits that change with the simulator and with the network, so that old pieces are not taken for new ones"
    pixels = simulate(SEED, "typical", LONGEST).pixels
    return hashlib.sha256(pixels.tobytes() + (model / "model.safetensors").read_bytes()).hexdigest()[:8]


def simulated_pool(work: Path, patients: int) -> pd.DataFrame:
    "One row per patient: truth and answers"
    work.mkdir(parents=True, exist_ok=True)
    plans = plan_dataset(20_000, SEED, LONGEST, Shares(returning=0, several_images=0))[:patients]
    network, kind, parts = load_maps(SHIPPED, "cpu"), kind_of(SHIPPED), []
    for start in progress(range(0, len(plans), PIECE), "simulate patients, 500 at a time"):
        chosen = plans[start : start + PIECE]
        parts.append(one_piece(work / f"{kind}-{start:06d}-{len(chosen)}.parquet", chosen, network))
    return pd.concat(parts, ignore_index=True)


def course_patients() -> pd.DataFrame:
    "The course's validation patients, an X-ray each: answers beside the truth"
    images = course_images("valid").drop_duplicates("patient_id")
    answers = predict_maps(SHIPPED, images[["image_id", "file"]]).table
    return images.drop(columns="label").merge(answers, on="image_id").rename(columns={"appearance": "label"})


def told(name: str, found: dict) -> None:
    "A line of the table"
    said = f"ECE {found['ece']:.4f} ({found['low']:.4f} to {found['high']:.4f}), by chance {found['by_chance']:.4f}"
    print(f"{name:<34} {said}, Brier {found['brier']:.4f}, {found['rows']} patients")


def scaling(known: pd.DataFrame, pool: pd.DataFrame) -> None:
    "What the course's validation patients teach, on the pool"
    print("temperature", round(fit_temperature(chances_of(known, CLASSES), labels_of(known, CLASSES)), 3))
    told("as trained", reliability(pool))
    for method in ("temperature", "isotonic"):
        told(f"{method}, {len(known)} known", reliability(calibrate(pool, known, method)))
    for method in ("temperature", "isotonic"):
        for count in (50, 200, 1000, 5000):
            errors = []
            for draw in range(10):
                order = generator(draw, "known patients").permutation(len(pool))
                some, others = pool.iloc[order[:count]], pool.iloc[order[-5000:]]
                errors.append(reliability(calibrate(others, some, method), draws=1)["ece"])
            print(f"{method}, {count} known: mean ECE {np.mean(errors):.4f} on 5,000 others")


def bias(known: pd.DataFrame, pool: pd.DataFrame) -> None:
    "The ECE of few patients against that of all, and how often the interval holds the latter"
    for name, table in (("as trained", pool), ("scaled", calibrate(pool, known))):
        true = reliability(table, draws=1)["ece"]
        for count in (100, 400):
            rows = [generator(draw, "few").choice(len(table), count, replace=False) for draw in range(100)]
            found = [reliability(table.iloc[one], draws=300) for one in rows]
            held = np.mean([one["low"] <= true <= one["high"] for one in found])
            mean = np.mean([one["ece"] for one in found])
            print(f"{name}: ECE of {count} patients {mean:.4f}, of all {true:.4f}; intervals that hold it: {held:.0%}")


def shares(known: pd.DataFrame, pool: pd.DataFrame) -> None:
    "How many sick are expected, where another share is sick"
    sick, own = (pool["label"] != "negative").to_numpy(), known["label"].value_counts(normalize=True)
    for prevalence in (0.3, 0.1, 0.01):
        here = (own * prevalence / (1 - own["negative"])).to_dict() | {"negative": 1 - prevalence}
        weights = np.where(sick, prevalence / sick.mean(), (1 - prevalence) / (1 - sick.mean()))
        tables = (calibrate(pool, known), calibrate(pool, known, shares=here))
        before, after = (np.average(1 - one["negative"], weights=weights) for one in tables)
        print(f"{prevalence:.0%} sick: expected {before:.3f}, corrected {after:.3f}")
    points = operating_points(calibrate(pool, known), calibrate(known, known))
    print(points.round(3).T.to_string())


def sets(known: pd.DataFrame, pool: pd.DataFrame) -> None:
    "Coverage of 200 shuffles against its law; class by class; by view"
    labels, covered = labels_of(pool, CLASSES), []
    for draw in range(200):
        order = generator(draw, "sets").permutation(len(pool))
        inside = conformal(pool.iloc[order[500:]], pool.iloc[order[:500]]).to_numpy()
        covered.append(inside[np.arange(len(inside)), labels[order[500:]]].sum())
    law = betabinom(len(pool) - 500, 451, 50)  # 451: the rank, of 501; a whole number, so its steps are tiny
    fit = kstest(covered, law.cdf)
    print(
        f"coverage {np.mean(covered) / (len(pool) - 500):.4f}; Kolmogorov-Smirnov against its law: p = {fit.pvalue:.2f}"
    )
    order = generator(0, "sets").permutation(len(pool))
    some, others = pool.iloc[order[:2000]], pool.iloc[order[2000:]].reset_index(drop=True)
    for by_class in (False, True):
        inside = conformal(others, some, by_class=by_class)
        held = pd.Series(inside.to_numpy()[np.arange(len(others)), labels_of(others, CLASSES)])
        size, one = inside.sum(axis=1).mean(), (inside.sum(axis=1) == 1).mean()
        print("class by class" if by_class else "together", held.groupby(others["label"]).mean().round(3).to_dict())
        print(f"  all {held.mean():.3f}, {size:.2f} classes per set, {one:.0%} single")
        print("  by view", held.groupby(others["view"]).mean().round(3).to_dict())


def real(folder: Path, known: pd.DataFrame) -> None:
    "The probability of disease for real X-rays, an opacity's box or none; nothing is chosen by them"
    table = pd.read_csv(folder / "images.csv", dtype={"patient_id": str})
    table["image_id"], opacity = table["file"].str.removesuffix(".png"), table["n_boxes"] > 0
    table["file"] = [str(folder / "images_512" / name) for name in table["file"]]
    answers = predict_maps(SHIPPED, table[["image_id", "file"]]).table.merge(table[["image_id", "patient_id"]])
    for name, said in (("as trained", answers), ("scaled on simulated", calibrate(answers, known))):
        sick = 1 - said["negative"]
        two = pd.DataFrame({"no": 1 - sick, "yes": sick, "label": np.where(opacity, "yes", "no")})
        found = reliability(two.assign(patient_id=answers["patient_id"]), "yes", ["no", "yes"])
        told(f"real, {name}", found)
        print(f"  expected {sick.mean():.3f}, true {opacity.mean():.3f}")
        print(found["bins"].round(3).to_string(index=False))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--work", type=Path, default=Path("runs/calibration"), help="where the pieces are kept")
    options.add_argument("--patients", type=int, default=20_000)
    options.add_argument("--out", type=Path, default=Path("runs/calibration/pool.parquet"))
    folder = Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    options.add_argument("--real", type=Path, default=folder, help="real X-rays; left out where absent")
    options = options.parse_args()
    torch.set_num_threads(1)
    opencv().setNumThreads(1)
    pool = simulated_pool(options.work, options.patients)
    with atomic_path(options.out) as partial:
        pool.to_parquet(partial, index=False)
    pool, known = pool.rename(columns={"label": "reader", "appearance": "label"}), course_patients()
    for work in (scaling, bias, shares, sets):
        work(known, pool.drop(columns="patient_id"))
    if (options.real / "images.csv").exists():
        real(options.real, known)


if __name__ == "__main__":
    main()
