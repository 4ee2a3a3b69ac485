"""Opacity boxes on real chest X-rays: YOLO from scratch, YOLO after simulated X-rays, FCOS with ImageNet weights.

    python benchmarks/real_detectors.py [--real ../shared/real/cxr_boxes] [--folds 5] [--out runs/real_detectors]

First, on simulated X-rays (478 to learn from, 200 to choose by; 320 px, prepared at 256 px, as the quick profile has them): seconds and
AP of `yolo11n` and of `fcos-lite0` with two learning rates, all at 160 px, with epochs that take about the same time. The better rate
serves below; it is chosen on simulated X-rays, so no real one is touched by the choice.

Then five folds by patient of the real X-rays. In each fold three detectors learn from the other patients and answer, with the mirror
image, for this one's: `yolo11n` from random weights, `yolo11n` from the weights learnt on the simulated X-rays above, `fcos-lite0` from
ImageNet's. Sizes and epochs were fixed before the first fold was trained, so that each detector has about 90 s of one core per fold;
25 minutes in all. Trained models are kept in --out, and the same command goes on where it stopped.

AP is that of all folds' boxes together at IoU > 0.5, with a 95 % interval from resampled patients; the lead over YOLO from scratch is on
the same resamples. One seed.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from real import real_tables
from sklearn.model_selection import StratifiedGroupKFold

from covidxr.base.csv_files import write_table
from covidxr.base.extras import opencv
from covidxr.base.files import write_json
from covidxr.base.parallel import parallel
from covidxr.base.terms import BOX_COLUMNS
from covidxr.boxes.intervals import patient_draws
from covidxr.boxes.matching import weighted_average_precision
from covidxr.detect import predict_detector, train_detector
from covidxr.hospital import ImagePlan, plan_dataset
from covidxr.metrics import average_precision, match
from covidxr.phantom import simulate
from covidxr.prepare import fit_square

SIZE = 160  # the side of every detector's input, pixels
LEARN, CHOOSE = 450, 200  # simulated studies to plan, and X-rays to choose by; the rest, 478 X-rays, is learnt from
SIMULATED = {
    "yolo11n": {"model": "yolo11n", "epochs": 12},
    "fcos-lite0, rate 0.001": {"model": "fcos-lite0", "epochs": 6, "learning_rate": 1e-3},
    "fcos-lite0, rate 0.003": {"model": "fcos-lite0", "epochs": 6, "learning_rate": 3e-3},
}
YOLO_EPOCHS, FCOS_EPOCHS = 12, 8  # on real X-rays


def _simulated(task: tuple[ImagePlan, Path]) -> tuple[dict, list]:
    "One simulated X-ray, prepared; and its boxes in pixels of the prepared picture"
    plan, folder = task
    xray = simulate(plan.seed, plan.appearance, plan.size, patient=plan.patient, disease=plan.disease)
    pixels, place = fit_square(xray.pixels, 256)
    file = folder / f"{plan.image_id}.png"
    opencv().imwrite(str(file), pixels)
    shift = [place["left"], place["top"]] * 2
    corners = xray.boxes[BOX_COLUMNS].to_numpy(float) * place["scale"] + shift if plan.boxed else []
    row = {"image_id": plan.image_id, "patient_id": plan.patient_id, "file": str(file)}
    return row, [(plan.image_id, *one) for one in corners]


def simulated_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Images with `valid`, and boxes; the last patients are those to choose by"
    tables = [folder / "images.csv", folder / "boxes.csv"]
    if not all(table.exists() for table in tables):
        folder.mkdir(parents=True, exist_ok=True)
        plans = plan_dataset(LEARN + CHOOSE, 16, 320)
        made = list(parallel(_simulated, [(plan, folder) for plan in plans], "simulate"))
        boxes = [box for _, found in made for box in found]
        write_table(pd.DataFrame(boxes, columns=["image_id", *BOX_COLUMNS]), tables[1])
        write_table(pd.DataFrame([row for row, _ in made]), tables[0])
    images = pd.read_csv(tables[0], dtype={"patient_id": str})
    last = images["patient_id"].drop_duplicates()[::-1]
    counts = images.groupby("patient_id").size().reindex(last).cumsum()
    return images.assign(valid=images["patient_id"].isin(counts.index[counts <= CHOOSE])), pd.read_csv(tables[1])


def trained(images: pd.DataFrame, boxes: pd.DataFrame, out: Path, **options: object) -> float:
    "Train what is not there yet; seconds of processor time that it took"
    times = out.with_name(f"{out.name}.json")
    if not (out / "config.json").exists():
        started = time.process_time()
        train_detector(images, boxes, out, size=SIZE, device="cpu", **options)
        write_json({"seconds": time.process_time() - started}, times)
    return float(pd.read_json(times, typ="series")["seconds"]) if times.exists() else np.nan


def on_simulated(out: Path) -> tuple[Path, float]:
    "Compare the detectors on simulated X-rays; YOLO's weights, and the better learning rate for FCOS"
    images, boxes = simulated_tables(out / "simulated")
    chosen, rows = images[images["valid"]], []
    truth = boxes[boxes["image_id"].isin(chosen["image_id"])].rename(columns={"image_id": "id"})
    for name, options in SIMULATED.items():
        folder = out / f"simulated-{name.replace(', rate ', '-')}"
        seconds = trained(images, boxes, folder, **options)
        found = predict_detector(folder, chosen, flip_tta=True).rename(columns={"image_id": "id"})
        rows.append({"detector": name, "epochs": options["epochs"], "seconds": seconds})
        rows[-1]["AP"] = average_precision(truth, found)
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False), flush=True)
    write_table(pd.DataFrame(rows).round(4), out / "simulated.csv")
    best = max((row for row in rows if "rate" in row["detector"]), key=lambda row: row["AP"])["detector"]
    print(f"chosen: {best}; {len(chosen)} simulated X-rays to choose by, {len(truth)} boxes")
    return out / "simulated-yolo11n" / "model.safetensors", float(best.split("rate ")[1])


def on_real(images: pd.DataFrame, boxes: pd.DataFrame, options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    "What each detector draws on the patients that it has not learnt from"
    weights, rate = on_simulated(options.out)
    ways = {
        "YOLO from scratch": {"model": "yolo11n", "epochs": YOLO_EPOCHS},
        "YOLO after simulation": {"model": "yolo11n", "epochs": YOLO_EPOCHS, "weights": weights},
        "FCOS from ImageNet": {"model": "fcos-lite0", "epochs": FCOS_EPOCHS, "learning_rate": rate},
    }
    said: dict[str, list] = {name: [] for name in ways}
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    parts = list(folds.split(images, images["opacity"], images["patient_id"]))[: options.folds]
    for fold, (train, test) in enumerate(parts):
        for name, plan in ways.items():
            folder = options.out / f"fold-{fold}-{name.replace(' ', '-')}"
            seconds = trained(images.iloc[train].assign(valid=False), boxes, folder, seed=fold, **plan)
            found = predict_detector(folder, images.iloc[test], flip_tta=True).rename(columns={"image_id": "id"})
            truth = boxes[boxes["image_id"].isin(images["image_id"].iloc[test])].rename(columns={"image_id": "id"})
            print(f"fold {fold}, {name}: {seconds:.0f} s, AP {average_precision(truth, found):.3f}", flush=True)
            said[name].append(found.assign(fold=fold))
    tested = images.iloc[np.concatenate([test for _, test in parts])]
    print(f"{len(tested)} real X-rays tested, {len(parts)} of 5 folds")
    return {"tested": tested} | {name: pd.concat(found, ignore_index=True) for name, found in said.items()}


def resampled(said: dict[str, pd.DataFrame], boxes: pd.DataFrame, draws: int = 2000) -> pd.DataFrame:
    "AP of each detector and its lead over the first, with intervals from the same resampled patients"
    tested = said["tested"].set_index("image_id")
    owner = pd.Series(pd.factorize(tested["patient_id"])[0], index=tested.index)
    truth = boxes[boxes["image_id"].isin(tested.index)].rename(columns={"image_id": "id"})
    counts = np.vstack([np.ones((1, owner.nunique()), int), patient_draws(owner.nunique(), draws, 0, "detectors")])
    totals = counts[:, owner[truth["id"]].to_numpy()].sum(1)
    values, table = {}, []
    for name in [name for name in said if name != "tested"]:
        matched = match(truth, said[name])
        columns = [matched["confidence"].to_numpy(), matched["hit"].to_numpy(bool), owner[matched["id"]].to_numpy()]
        values[name] = weighted_average_precision(*columns, counts, totals, "voc")
        lead = values[name] - next(iter(values.values()))
        row = {"detector": name, "AP": values[name][0], "lead": lead[0]}
        for column, drawn in (("AP", values[name][1:]), ("lead", lead[1:])):
            row[f"{column}_low"], row[f"{column}_high"] = np.nanquantile(drawn, [0.025, 0.975])
        table.append(row)
    return pd.DataFrame(table)[["detector", "AP", "AP_low", "AP_high", "lead", "lead_low", "lead_high"]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real = Path(os.environ.get("COVIDXR_REAL", "../shared/real")) / "cxr_boxes"
    options.add_argument("--real", type=Path, default=real)
    options.add_argument("--folds", type=int, default=5, help="how many of the five folds are trained")
    options.add_argument("--out", type=Path, default=Path("runs/real_detectors"))
    options = options.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.real / "images.csv").exists():
        on_simulated(options.out)
        raise SystemExit(f"{options.real}: no images.csv here, so no real X-rays; name the folder with --real")
    images, boxes = real_tables(options.real)
    said = on_real(images, boxes, options)
    table = resampled(said, boxes)
    write_table(table.round(4), options.out / "real_detectors.csv")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
