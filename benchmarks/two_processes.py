"""Do two processes train the network that one trains? Three seeds on the course's simulated X-rays, on the processor.

    python benchmarks/two_processes.py [--images 400] [--size 64] [--epochs 6] [--batch-size 16] [--seeds 1 2 3]

A small classifier (timm's test_resnet, from random weights) learns with each seed once in one process and once in two, which share
every batch. The course's test half tests. Prints accuracy and log loss of each network, and the difference of two processes to one
with its 95 % interval, from patients resampled 2,000 times, the same for both, in the mean over the seeds. What two networks of the
same kind differ by is told beside it: the same difference between the seeds of one process. On the processor two processes are not
meant to be faster than one with two threads; nothing is said of speed.
"""

import argparse
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from covidxr.base.terms import APPEARANCES
from covidxr.classify import predict_classifier, train_classifier
from covidxr.course.folder import course_images


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", default=400, type=int, help="of the course's X-rays, to learn from")
    options.add_argument("--size", default=64, type=int)
    options.add_argument("--epochs", default=6, type=int)
    options.add_argument("--batch-size", default=16, type=int)
    options.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    "Train all, and print the table"
    learning, test = _images(options)
    classes, patients = list(APPEARANCES), test["patient_id"].to_numpy()
    print(
        f"{len(learning)} images to learn from and to choose by, {len(test)} of {len(set(patients))} patients to test"
    )
    found: dict[str, list] = {"one": [], "two": []}
    for seed in options.seeds:
        for name, device in (("one", "cpu"), ("two", "cpu,cpu")):
            named = {"size": options.size, "epochs": options.epochs, "batch_size": options.batch_size, "seed": seed}
            train_classifier(learning, classes, folder / name, pretrained=False, device=device, **named)
            found[name].append(_answers(predict_classifier(folder / name, test, device="cpu"), test))
            right, loss = found[name][-1].mean(0)
            print(f"seed {seed}, {name}: accuracy {right:.3f}, log loss {loss:.3f}", flush=True)
    one, two = np.stack(found["one"]), np.stack(found["two"])  # (seeds, images, accuracy and loss)
    for place, what in enumerate(("accuracy", "log loss")):
        said = _interval((two - one)[..., place].mean(0), patients)
        between = [abs((one[a] - one[b])[:, place].mean()) for a, b in combinations(range(len(one)), 2)]
        print(f"{what}: one {one[..., place].mean():.3f}, two {two[..., place].mean():.3f}, difference {said}")
        print(f"  between two seeds of one process: {', '.join(f'{value:.3f}' for value in between)}")


def _images(options: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    "The course's X-rays: some to learn from and to choose by, and those to test with"
    table = course_images()
    learnt, chosen, test = (table[table["split"] == name] for name in ("train", "valid", "test"))
    return pd.concat([learnt[: options.images], chosen[: options.images // 8]]), test.reset_index(drop=True)


def _answers(
    table: pd.DataFrame,  # image_id and a probability per class
    test: pd.DataFrame,  # image_id, label
) -> np.ndarray:  # (images, 2): is the class right, and the log loss
    "How good each answer is"
    chances = table.set_index("image_id").loc[test["image_id"]]
    truth = np.array([chances.columns.get_loc(name) for name in test["label"]])
    values = chances.to_numpy()
    return np.stack([values.argmax(1) == truth, -np.log(values[np.arange(len(truth)), truth].clip(1e-7))], 1)


def _interval(
    differences: np.ndarray,  # per image
    patients: np.ndarray,  # of each image
) -> str:
    "The mean and its 95 % interval over patients drawn again"
    parts = pd.DataFrame({"sum": differences, "count": 1}).groupby(patients).sum().to_numpy()
    draws = np.random.default_rng(0).integers(len(parts), size=(2000, len(parts)))
    sums = parts[draws].sum(1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return f"{differences.mean():+.3f} ({low:+.3f} to {high:+.3f})"


if __name__ == "__main__":
    main()
