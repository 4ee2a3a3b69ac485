"""Does the ensemble beat its parts? Three seeds of the quick profile, scored on the hidden test half (seeds 0 and 1 served while it was built).

    python benchmarks/three_seeds.py [--out runs/seeds] [--seeds 2 3 4]

Runs what is not there yet (each run resumes), then prints README's results table: the mean over the seeds, and the ensemble's
lead with a 95 % interval from patients resampled within each seed's test half, the same patients for both sides.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from covidxr.pipeline import run


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", default="runs/seeds", type=Path)
    options.add_argument("--seeds", nargs="+", type=int, default=[2, 3, 4])
    options = options.parse_args()
    metrics = {seed: run("phantom", options.out / str(seed), seed=seed) for seed in options.seeds}
    draws = {seed: pd.read_csv(options.out / str(seed) / "draws.csv") for seed in options.seeds}
    first = next(iter(metrics.values()))["scores"]
    print(f"| prediction | mean AP, by seed | mean | {' | '.join(next(iter(first.values()))['per_class'])} | the ensemble's lead (95 % interval) |")
    print("|---|---|---|" + "---|" * (len(next(iter(first.values()))["per_class"]) + 1))
    for name in first:
        values = [one["scores"][name]["map"] for one in metrics.values()]
        parts = pd.DataFrame([one["scores"][name]["per_class"] for one in metrics.values()]).mean()
        lead = "" if name == "ensemble" else _lead(draws, metrics, name)
        print(f"| {name} | {', '.join(f'{value:.3f}' for value in values)} | {np.mean(values):.3f} | {' | '.join(f'{value:.3f}' for value in parts)} | {lead} |")
    for seed, one in metrics.items():
        seconds = sum(step["seconds"] for step in one["steps"].values())
        print(f"seed {seed}: {seconds / 60:.1f} min, {max(step['peak_mb'] for step in one['steps'].values()) / 1024:.1f} GiB at most")


def _lead(draws: dict, metrics: dict, name: str) -> str:
    "The ensemble's mean lead over the seeds, with its interval"
    gaps = np.mean([draw["ensemble"] - draw[name] for draw in draws.values()], axis=0)
    lead = np.mean([one["scores"]["ensemble"]["map"] - one["scores"][name]["map"] for one in metrics.values()])
    low, high = np.percentile(gaps, (2.5, 97.5))
    return f"{lead:+.3f} ({low:+.3f} to {high:+.3f})"


if __name__ == "__main__":
    main()
