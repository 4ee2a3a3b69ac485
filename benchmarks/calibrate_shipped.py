"""How sure is the shipped network, and when may it answer? Measures what `covidxr app` and its refusals rest on.

    python benchmarks/calibrate_shipped.py [--known 1000] [--new 2000] [--write]

Simulated patients that the network has never seen (seeds from 1,300,000), the classes as frequent as in the competition, at
256 pixels: as files come, larger than the 128 pixels that the network takes.
From the known ones come a temperature (Guo 2017) and the limit of split conformal sets that hold the true class in 90 % of
patients; on the new ones it counts how often they do, how often a set names one class, and the calibration error before and
after. `--write` puts both numbers into covidxr/learning/shipped/calibration.json.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from covidxr.base.files import write_json
from covidxr.base.progress import progress
from covidxr.base.terms import APPEARANCES
from covidxr.boxes.calibration import conformal_limit, fit_temperature, tempered
from covidxr.calibrate import reliability
from covidxr.learning.shipped_reader import interpret
from covidxr.phantom import simulate

FIRST, SHARES, ERROR = 1_300_000, (0.28, 0.47, 0.17, 0.08), 0.1
FILE = Path(__file__).parent.parent / "covidxr" / "learning" / "shipped" / "calibration.json"


def asked(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    "Probabilities of simulated patients (patients, classes), and the number of each one's true class"
    labels = np.random.default_rng(first).choice(4, count, p=SHARES)
    rows = []
    for place in progress(range(count), "patients"):
        chances = interpret(simulate(first + place, APPEARANCES[labels[place]], size=256)).probabilities
        rows.append([chances[name] for name in APPEARANCES])
    return np.array(rows), labels


def template() -> np.ndarray:
    "The mean of 160 simulated chests in 16 x 16 squares, without its mean"
    chests = [simulate(FIRST + 500_000 + row, APPEARANCES[row % 4], size=128).pixels for row in range(160)]
    small = np.stack([cv2.resize(one, (16, 16), interpolation=cv2.INTER_AREA) for one in chests])
    small = small - small.mean(axis=(1, 2), keepdims=True)
    mean = (small / np.linalg.norm(small, axis=(1, 2), keepdims=True)).mean(axis=0)
    return (mean - mean.mean()) / np.linalg.norm(mean - mean.mean())


def main() -> None:
    "Measure, print, and write if asked to"
    given = argparse.ArgumentParser(description="Temperature and conformal limit of the shipped network")
    given.add_argument("--known", type=int, default=1000)
    given.add_argument("--new", type=int, default=2000)
    given.add_argument("--write", action="store_true")
    options = given.parse_args()
    seen, labels = asked(FIRST, options.known)
    temperature = float(fit_temperature(seen, labels))
    limit = float(conformal_limit(1 - tempered(seen, temperature)[np.arange(len(labels)), labels], ERROR))
    new, truth = asked(FIRST + 100_000, options.new)
    for name, chances in (("as it is", new), ("after scaling", tempered(new, temperature))):
        table = pd.DataFrame(chances, columns=APPEARANCES).assign(label=[APPEARANCES[one] for one in truth])
        found = reliability(table)
        print(f"ECE {name}: {found['ece']:.3f} ({found['low']:.3f} to {found['high']:.3f})")
    sets = 1 - tempered(new, temperature) <= limit
    held, one = sets[np.arange(len(truth)), truth], sets.sum(axis=1) == 1
    right = tempered(new, temperature).argmax(axis=1) == truth
    print(f"temperature {temperature:.3f}, limit {limit:.3f} from {options.known} known patients")
    print(
        f"of {options.new} new patients the set holds the truth in {held.mean():.3f}, names one class in {one.mean():.3f}"
    )
    print(f"right where it names one class {right[one].mean():.3f}, where it names several {right[~one].mean():.3f}")
    if options.write:
        found = {"temperature": round(temperature, 4), "limit": round(limit, 4), "known": options.known}
        write_json(found | {"template": template().astype(float).round(3).tolist()}, FILE)


if __name__ == "__main__":
    main()
