"""How many X-rays a second does `predict` read? Through onnxruntime, through PyTorch, and beside the bare networks.

    python benchmarks/predict_speed.py --run RUN [--xrays 1000] [--size 320] [--rounds 3]

RUN is the folder of a finished run with ONNX files. The X-rays are simulated DICOMs. "bare" is what onnxruntime takes for the
networks alone, on pictures that are ready in memory, both views, in the same batches: nothing that predicts with these networks
can be faster. "decode" is what reading the files and fitting them to the networks' sizes takes alone, in the same threads. One
X-ray is timed in a process that has predicted before (the imports are in benchmarks/cold.py); medians over the rounds.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from covidxr.base.process import cores
from covidxr.dicom import XrayFacts, write_dicom
from covidxr.phantom import simulate
from covidxr.runs import inference
from covidxr.runs.packed_files import open_files
from covidxr.runs.run_files import model_kinds, read_choices
from covidxr.runs.serving import NotServed, open_networks
from covidxr.runs.streaming import BATCH, decoded_batches


def write_xrays(folder: Path, count: int, size: int) -> list[Path]:
    "Simulated DICOMs; a few are simulated, the others are their copies under other names"
    files = []
    for number in range(count):
        files.append(folder / f"x{number}.dcm")
        if number < 20:
            xray = simulate(number, ("negative", "typical")[number % 2], size=size)
            pixels = np.round(4095 * xray.pixels).astype(np.uint16)
            write_dicom(files[-1], pixels, XrayFacts(f"i{number}", f"s{number}", "chest", f"p{number}", view="PA"))
        else:
            files[-1].write_bytes(files[number % 20].read_bytes())
    return files


def taken(work: Callable[[], object], rounds: int) -> tuple[float, float]:  # seconds, processor seconds
    "Medians of some rounds"
    rows = []
    for _ in range(rounds):
        wall, used = time.perf_counter(), time.process_time()
        work()
        rows.append((time.perf_counter() - wall, time.process_time() - used))
    return statistics.median(row[0] for row in rows), statistics.median(row[1] for row in rows)


def ways(run: str, files: list[Path], out: Path, torch: bool) -> dict[str, Callable[[], object]]:
    "What is timed, by name; the bare networks first"
    with open_files(run) as opened:
        choices, side = read_choices(opened)
        networks = open_networks(opened, model_kinds(choices))
    sides = {network.size for network in networks.values()}
    images = pd.DataFrame({"image_id": [file.stem for file in files], "path": files})
    batches = list(decoded_batches(images, side, sides))
    ready = [{one: np.stack([image.squares[one][0] for image in part]) for one in sides} for part in batches]

    def unserved(*given: object) -> None:
        raise NotServed("PyTorch is asked", expected=True)

    def predict(way: Callable) -> object:
        inference.open_networks = way
        return inference.predict(run, files, out)

    work: dict[str, Callable[[], object]] = {
        "bare networks": lambda: [one.views(part[one.size]) for part in ready for one in networks.values()],
        "decode and fit": lambda: sum(len(part) for part in decoded_batches(images, side, sides)),
        "predict, onnxruntime": lambda: predict(open_networks),
    }
    return work | ({"predict, PyTorch": lambda: predict(unserved)} if torch else {})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--run", required=True, help="the folder of a finished run")
    options.add_argument("--xrays", type=int, default=1000)
    options.add_argument("--size", type=int, default=320, help="the longer side of the simulated X-rays, pixels")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    options = options.parse_args()
    print(f"{cores()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}; batches of {BATCH}")
    print("| X-rays | what | a second | processor s each | share of bare |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        files = write_xrays(Path(place), options.xrays, options.size)
        for count in dict.fromkeys((1, len(files))):
            unit = 0.0
            for name, work in ways(options.run, files[:count], Path(place) / "s.csv", not options.no_torch).items():
                if count == 1:
                    work()  # what is made at a first call
                wall, used = taken(work, 1 if count > 1 and "PyTorch" in name else options.rounds)
                unit = unit or wall
                print(f"| {count} | {name} | {count / wall:.1f} | {used / count:.4f} | {unit / wall:.2f} |", flush=True)


if __name__ == "__main__":
    main()
