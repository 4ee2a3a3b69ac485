"""What does a command cost at the door? Its first call on a new installation, and every later one.

    python benchmarks/cold.py [--run RUN] [--rounds 5] [--only score,eda]

Prints a table of medians: processor time of each command, divided by that of `python -c "import pandas"` in the same minute. The
first call finds no compiled loops (an empty NUMBA_CACHE_DIR), the later ones what the first has left. All modules are there as
byte code, as pip leaves them (a call before the others writes it, into a folder of this benchmark); where an installer or
PYTHONDONTWRITEBYTECODE leaves none, `--no-bytecode` tells what that costs. The submissions have 6,117 rows; the X-ray is a simulated
one; RUN is the folder of a finished quick run, without which `predict` is left out.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from covidxr import simulate_dataset

ROWS = 6117  # studies and images
CLASSES = ("negative", "typical", "indeterminate", "atypical")


def submission(path: Path, rng: np.random.Generator, truth: bool = False) -> None:
    "A CSV of so many rows: about half are studies; an image has none, or one to four boxes"
    names, strings = [], []
    for number in range(ROWS):
        if number % 2 == 0:
            names.append(f"{number:06x}_study")
            chances = np.eye(4)[rng.integers(4)] if truth else rng.dirichlet(np.ones(4))
            said = [(word, chance) for word, chance in zip(CLASSES, chances, strict=True) if chance or not truth]
            strings.append(" ".join(f"{word} {chance:.6g} 0 0 1 1" for word, chance in said))
            continue
        names.append(f"{number:06x}_image")
        low = np.random.default_rng(number).integers(0, 1500, (4, 2))  # where truth and predictions both look
        low = low + (0 if truth else rng.integers(-60, 60, (4, 2)))
        count = rng.integers(0, 3) if truth else rng.integers(1, 5)
        boxes = [
            f"opacity {1 if truth else rng.random():.4g} {x} {y} {x + 400} {y + 600}" for x, y in low.clip(0)[:count]
        ]
        none = [f"none {1 if truth else rng.random():.4g} 0 0 1 1"] if not truth or not boxes else []
        strings.append(" ".join([*none, *boxes]))
    pd.DataFrame({"id": names, "PredictionString": strings}).to_csv(path, index=False)


def commands(folder: Path, run: str | None) -> dict[str, list[str]]:
    "Each command, by what the table calls it"
    rng = np.random.default_rng(0)
    truth, one, two = (folder / f"{name}.csv" for name in ("truth", "one", "two"))
    submission(truth, rng, truth=True)
    submission(one, rng)
    submission(two, rng)
    simulate_dataset(folder / "data", studies=8, seed=0, size=512)
    xray = next((folder / "data" / "test").rglob("*.dcm"))
    own = [sys.executable, "-c", "import sys; from covidxr.cli import main; sys.exit(main())"]
    asked = {
        "--help": ["--help"],
        "score": ["score", truth, one],
        "ensemble": ["ensemble", one, two, "--out", folder / "fused.csv"],
        "eda": ["eda", folder / "data"],
        "eda --out": ["eda", folder / "data", "--out", folder / "eda"],
        "progress": ["progress"],
        "doctor --json": ["doctor", "--json"],
        "severity": ["severity", xray],
    }
    if run:
        asked["predict"] = ["predict", run, xray, "--out", folder / "predicted.csv"]
    return {name: [*own, *map(str, words)] for name, words in asked.items()}


def seconds(command: list[str], kept: Path, settings: dict[str, str]) -> float:
    "Processor time of a command and what it starts, which keeps its compiled loops in a folder"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"NUMBA_CACHE_DIR": str(kept), **settings}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):  # 1: `doctor` where something is missing
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--run", help="the folder of a finished quick run")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--only", default="", help="names of commands, a comma between them")
    options.add_argument(
        "--no-bytecode", action="store_true", help="compile every module from its source, at every call"
    )
    options = options.parse_args()
    unit = [sys.executable, "-c", "import pandas"]
    print("| command | first call | later calls | seconds, later |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings = {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        if options.no_bytecode:
            settings["PYTHONDONTWRITEBYTECODE"] = "1"
        for name, command in commands(folder, options.run).items():
            if options.only and name not in options.only.split(","):
                continue
            for words in (unit, command):  # writes byte code
                seconds(words, folder / "unmeasured", settings)
            rows = []
            for number in range(options.rounds):
                kept = folder / f"{name}-{number}"
                kept.mkdir()
                rows.append([seconds(words, kept, settings) for words in (unit, command, command)])
            first, later = (statistics.median(row[part] / row[0] for row in rows) for part in (1, 2))
            taken = statistics.median(row[2] for row in rows)
            print(f"| {name} | {first:.1f} | {later:.1f} | {taken:.1f} |", flush=True)


if __name__ == "__main__":
    main()
