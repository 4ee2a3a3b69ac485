"""Does the ensemble beat its parts, and what in it does? Three seeds of the quick profile, scored on the hidden test half.

    python benchmarks/three_seeds.py [--out runs/seeds] [--seeds 5 6 7]

Runs what is not there yet (each run resumes), then prints three tables: README's, with the ensemble's mean lead and its 95 %
interval from patients resampled within each seed's test half, the same patients for both sides; the AP of each class; and what
each step of the ensemble gives. Seeds 0 to 4 served while the ensemble was built and are not reported.

Two of the profile's models start from the network that comes with covidxr, which knows this simulator. So the last lines tell what that
network says of the test half without any training on a run's data, beside the ensemble: mean AP of the four classes.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from covidxr.learning.map_training import predict_map_views
from covidxr.metrics import score
from covidxr.pipeline import run
from covidxr.runs.evaluate import tested_images, tested_truth
from covidxr.runs.opinions import ensemble_round, read_opinions, select_weights
from covidxr.runs.run import image_parts, open_run
from covidxr.submission import read_submission


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", default="runs/seeds", type=Path)
    options.add_argument("--seeds", nargs="+", type=int, default=[5, 6, 7])
    options = options.parse_args()
    metrics = {seed: run("phantom", options.out / str(seed), seed=seed) for seed in options.seeds}
    draws = {seed: pd.read_csv(options.out / str(seed) / "draws.csv") for seed in options.seeds}
    scores = [one["scores"] for one in metrics.values()]
    print("| prediction | mean AP, by seed | mean | the ensemble's lead (95 % interval) |\n|---|---|---|---|")
    for name in scores[0]:
        values = [one[name]["map"] for one in scores]
        lead = "" if name == "ensemble" else _lead(draws, scores, name)
        print(f"| {name} | {', '.join(f'{value:.3f}' for value in values)} | {np.mean(values):.3f} | {lead} |")
    classes = {name: pd.DataFrame([one[name]["per_class"] for one in scores]).mean() for name in scores[0]}
    print("\nAP by class, mean of the seeds\n" + pd.DataFrame(classes).T.round(3).to_string())
    steps = pd.DataFrame([_steps(options.out / str(seed)) for seed in options.seeds])
    print("\nmean AP of the steps, mean of the seeds\n" + steps.mean().round(3).to_string() + "\n")
    for seed in options.seeds:
        alone, ensemble = _classes_alone(options.out / str(seed))
        print(f"seed {seed}: the four classes, the shipped network alone {alone:.3f}, the ensemble {ensemble:.3f}")
    for seed, one in metrics.items():
        minutes = sum(step["seconds"] for step in one["steps"].values()) / 60
        print(
            f"seed {seed}: {minutes:.1f} min, at most {max(step['peak_mb'] for step in one['steps'].values()) / 1024:.1f} GiB"
        )


def _classes_alone(folder: Path) -> tuple[float, float]:
    "Mean AP of the four classes on the test half: the shipped network as it is, and the run's ensemble"
    this = open_run(folder)
    images, classes = image_parts(this, this.rounds[0]).query("part == 'test'"), list(this.dataset.classes)
    truth = tested_truth(this, tested_images(this))
    labels = truth[truth["id"].str.endswith("_study")].set_index("id")["label"]
    shipped = str(files("covidxr.learning") / "shipped")
    said = predict_map_views(shipped, images)[1].merge(images[["image_id", "study_id"]], on="image_id")
    alone = said.groupby(said["study_id"] + "_study")[classes].mean().reindex(labels.index)
    ensemble = read_submission(folder / "submission.csv")
    ensemble = ensemble[ensemble["label"].isin(classes)].pivot_table("confidence", "id", "label").reindex(labels.index)
    areas = [
        [average_precision_score(labels == name, table[name].fillna(0)) for name in classes]
        for table in (alone, ensemble)
    ]
    return float(np.mean(areas[0])), float(np.mean(areas[1]))


def _lead(draws: dict, scores: list[dict], name: str) -> str:
    "The ensemble's mean lead over the seeds, with its interval"
    gaps = np.mean([draw["ensemble"] - draw[name] for draw in draws.values()], axis=0)
    lead = np.mean([one["ensemble"]["map"] - one[name]["map"] for one in scores])
    low, high = np.percentile(gaps, (2.5, 97.5))
    return f"{lead:+.3f} ({low:+.3f} to {high:+.3f})"


def _steps(folder: Path) -> dict[str, float]:
    "The test score of one run, step by step from single models to the ensemble; weights are chosen on the validation part each time"
    this = open_run(folder)
    truth = tested_truth(this, tested_images(this))
    views = {mirror: read_opinions(this, 1, mirror) for mirror in (False, True)}
    kinds = {
        kind: [plan.name for plan in this.profile.models if plan.kind == kind] for kind in ("classifier", "detector")
    }
    pairs = [([classifier], [detector]) for classifier in kinds["classifier"] for detector in kinds["detector"]]

    def mean_score(models: list[tuple[list[str], list[str]]], mirror: bool, revise: bool) -> float:
        scores = []
        for names in models:
            choice = select_weights(views[mirror]["valid"], this.dataset, *names)
            scores.append(score(truth, ensemble_round(views[mirror]["test"], choice, revise)).map)
        return float(np.mean(scores))

    every = [(kinds["classifier"], kinds["detector"])]
    return {
        "a pair of single models (mean of all pairs)": mean_score(pairs, mirror=False, revise=False),
        "the same, classes revised by the boxes": mean_score(pairs, mirror=False, revise=True),
        "all models fused": mean_score(every, mirror=False, revise=False),
        "all models fused, and mirror images": mean_score(every, mirror=True, revise=False),
        "all models fused, mirror images, classes revised": mean_score(every, mirror=True, revise=True),
    }


if __name__ == "__main__":
    main()
