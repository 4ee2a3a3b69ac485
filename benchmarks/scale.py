"""How do time and memory grow with the number of X-rays, and what do kills cost?

    python benchmarks/scale.py [--quick] [--large] [--kills 20] [--out runs/scale] [--parts simulate open prepare score index kills]

Each step runs in a process of its own, on one core, at several sizes: `simulate_dataset` (64 pixels), `open_dataset` (the first time,
when headers are read, and again), `prepare` (to 32 pixels, and again with nothing to do), `score`, and the index of a cache alone
(made, opened, resumed, appended to by one in a hundred) with invented entries, where every picture counts as it was. X-rays for
opening and preparing are copies of 50 simulated ones. Prints seconds of processor time and of the clock, the largest memory, and
slopes on log-log axes, by least squares over all sizes and of the last two sizes alone. Slopes are of processor time, as other
programs may run beside; 1 is linear, and less where starting up still counts.

Then kills: `simulate_dataset` and `prepare` with two workers are disturbed at random moments, every second time by SIGKILL of a
worker, every other time of the whole call, which is started again. Every file that is left is compared, byte for byte, with what
undisturbed calls leave; of the index all but the times and places of the X-rays.

`--quick` takes small sizes (a minute or two), `--large` adds 10,000 simulated, and 100,000 opened and prepared X-rays.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

SETTINGS = {"size": 512, "fit": "pad", "format": "png", "draft": False}
SIZES = {  # quick, usual, large
    "simulate": ([30, 100, 300], [100, 300, 1000, 3000], [100, 1000, 3000, 10_000]),
    "open": ([100, 300, 1000], [100, 1000, 10_000], [100, 1000, 10_000, 100_000]),
    "prepare": ([100, 300, 1000], [100, 1000, 10_000], [100, 1000, 10_000, 100_000]),
    "score": ([100, 1000, 10_000], [100, 1000, 10_000, 100_000], [100, 1000, 10_000, 100_000]),
    "index": ([1000, 10_000, 100_000], [10_000, 100_000, 1_000_000], [10_000, 100_000, 1_000_000]),
}
STEPS = {
    "simulate": ["simulate"],
    "open": ["copies", "open", "open again"],
    "prepare": ["copies", "prepare", "prepare again"],
    "score": ["score"],
    "index": ["index made", "index opened", "index resumed", "index appended"],
}


def _copies(size: int, folder: Path) -> None:
    "A dataset of so many images whose files are copies of 50 simulated ones"
    from covidxr import hospital

    some = hospital.simulate_dataset(folder.parent / "some", studies=50, size=64, workers=1)
    raws = [path.read_bytes() for path in sorted(some.glob("*/*/*/*.dcm"))]

    def write(task: tuple) -> dict:
        out, plan, _ = task
        file = Path(out, plan.split, plan.study_id, plan.series_id, f"{plan.image_id}.dcm")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raws[plan.seed % len(raws)])
        return {"boxes": [], "finding": "typical", "right_percent": 1.0, "left_percent": 2.0, "extent": 1}

    hospital._write_image = write
    hospital.simulate_dataset(folder / "copies", studies=round(size / 1.04), size=64, workers=1)


def _entry(number: int, out: Path) -> tuple:
    "An invented image: what is asked for, and its row"
    from covidxr.cache.pictures import Task

    name = f"{number * 2654435761 % 2**48:012x}"
    source = f"train/{name[::-1]}/{name[3:]}{name[:3]}/{name}.dcm"
    task = Task(name, f"/data/{source}", source, str(out), **SETTINGS, root="0a1b2c3d")
    place = {"height": 2800, "width": 2400, "scale": 0.18, "scale_y": 0.18, "left": 40, "top": 0, "orientation": "L\\F"}
    digest = hashlib.sha256(name.encode()).hexdigest()
    facts = {"source": source, "stamp": STAMP, "bytes": 120_000, "sha256": digest, "root": task.root, "checks": ""}
    return task, {"image_id": name, "file": f"{name}.png", **place, **facts}


STAMP = "0a1b2c3d-1234567-1700000000000000000"


def _index(step: str, size: int, out: Path) -> Callable[[], object]:
    "A step on the index alone: no picture is looked at"
    from covidxr.cache import index as room
    from covidxr.cache import notes

    room._is_current, room.file_stamp = (lambda *_: True), (lambda _: STAMP)
    out.mkdir(exist_ok=True)
    if step == "index opened":
        return lambda: pd.read_parquet(out / "images.parquet")
    asked, new = size, range(0)
    if step == "index made":
        new = range(size)
    elif step == "index appended":
        asked, new = size + size // 100, range(size, size + size // 100)
    held = [[_entry(number, out)[0] for number in range(asked)]]

    def work() -> None:
        tasks = held.pop()
        todo, rows, gone, since = room.look_at_cache(out, tasks, SETTINGS)
        assert len(todo) == len(new)
        for first in range(new.start, new.stop, notes.GATHERED):
            more = [_entry(number, out)[1] for number in range(first, min(first + notes.GATHERED, new.stop))]
            notes.gather(out, more, SETTINGS)
        del tasks, todo
        assert len(room.write_index(out, rows, [], SETTINGS, since, gone)) == asked

    return work


def _work(step: str, size: int, folder: Path) -> Callable[[], object]:
    "One step at one size, ready to be begun"
    from covidxr.dataset import open_dataset
    from covidxr.hospital import simulate_dataset
    from covidxr.prepare import prepare

    data, cache = folder / "copies", folder / "cache"
    if step == "copies":
        return lambda: _copies(size, folder)
    if step == "simulate":
        return lambda: simulate_dataset(folder / "simulated", studies=round(size / 1.04), size=64, workers=1)
    if step.startswith("open"):
        return lambda: open_dataset(data)
    if step.startswith("prepare"):
        return lambda: prepare(data, cache, size=32, workers=1)
    if step == "score":
        from score_speed import tables

        from covidxr.metrics import score

        score(*tables(1000, 50))  # so many that loops are compiled
        truth, said = tables(size, 10)
        return lambda: score(truth, said)
    return _index(step, size, cache)


def _measured(step: str, size: int, folder: Path) -> dict:
    "One step in a process of its own"
    command = [sys.executable, __file__, "--step", step, "--size", str(size), "--out", str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if answer.returncode:
        raise SystemExit(f"{step} at {size}:\n{answer.stderr}")
    return {"step": step, "size": size} | json.loads(answer.stdout.splitlines()[-1])


def _table(parts: list[str], which: int, out: Path) -> pd.DataFrame:
    "Seconds and memory of each step at each size"
    rows = []
    for part in [part for part in STEPS if part in parts]:
        for size in SIZES[part][which]:
            folder = out / f"{part}-{size}"
            folder.mkdir(parents=True)
            for step in STEPS[part]:
                rows.append(_measured(step, size, folder))
                print(
                    "| {step} | {size:,} | {processor:.2f} | {wall:.2f} | {memory:.0f} |".format(**rows[-1]), flush=True
                )
            shutil.rmtree(folder)
    return pd.DataFrame(rows)


def _slopes(table: pd.DataFrame) -> None:
    "How processor time grows, on log-log axes"
    print("\n| step | slope over all sizes | slope of the last two |\n|---|---|---|")
    for step, rows in table.groupby("step", sort=False):
        size, seconds = np.log(rows["size"].to_numpy()), np.log(rows["processor"].to_numpy())
        if step != "copies":
            last = (seconds[-1] - seconds[-2]) / (size[-1] - size[-2])
            print(f"| {step} | {np.polyfit(size, seconds, 1)[0]:.2f} | {last:.2f} |")


def _hashes(folder: Path) -> dict[str, str]:
    "What each file of a folder holds; of an index, all but where and when its X-rays were written"
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        raw = path.read_bytes()
        if path.suffix == ".parquet":
            raw = pd.read_parquet(path).drop(columns=["stamp", "root"]).to_csv().encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(raw).hexdigest()
    return found


def _compare(folder: Path, whole: dict[str, str]) -> None:
    "End where a folder differs from one that nothing disturbed"
    found = _hashes(folder)
    differ = sorted(name for name in {*found, *whole} if found.get(name) != whole.get(name))
    if differ:
        raise SystemExit(f"{folder}: {len(differ)} files differ: {', '.join(differ[:9])}")


WORK = (
    "import sys\nfrom covidxr.hospital import simulate_dataset\nfrom covidxr.prepare import prepare\n"
    "simulate_dataset(sys.argv[1] + '/data', studies=int(sys.argv[2]), size=64, workers=2)\n"
    "prepare(sys.argv[1] + '/data', sys.argv[1] + '/cache', size=32, workers=2)\n"
)


def _begun(folder: Path, studies: int) -> subprocess.Popen:
    "A call at work, in a group of processes of its own"
    command = [sys.executable, "-c", WORK, str(folder), str(studies)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)


def _struck(call: subprocess.Popen, whole: bool) -> bool:
    "End a call, or one of its workers; was there one?"
    import psutil

    if call.poll() is not None:
        return False
    if whole:
        os.killpg(call.pid, signal.SIGKILL)
        call.wait()
        return True
    workers = [one for one in psutil.Process(call.pid).children() if "popen_loky" in " ".join(one.cmdline())]
    if workers:
        workers[-1].kill()
    return bool(workers)


def _kills(count: int, studies: int, out: Path) -> None:
    "Disturb calls until so many kills have struck, and compare what is left"
    rng, struck, calls, folders = np.random.default_rng(0), {"worker": 0, "call": 0}, 1, 1
    assert _begun(out / "whole", studies).wait() == 0
    whole, call = _hashes(out / "whole"), _begun(out / "cut-1", studies)
    while sum(struck.values()) < count:
        time.sleep(rng.uniform(2, 6))
        kind = "call" if struck["call"] < struck["worker"] else "worker"
        struck[kind] += _struck(call, kind == "call")
        if call.poll() == 0:  # it has ended well: what is left counts, and the next folder is begun
            _compare(out / f"cut-{folders}", whole)
            folders += 1
        if call.poll() is not None:
            call, calls = _begun(out / f"cut-{folders}", studies), calls + 1
    while call.wait():
        assert call.returncode == -signal.SIGKILL, "a call gave up"
        call, calls = _begun(out / f"cut-{folders}", studies), calls + 1
    _compare(out / f"cut-{folders}", whole)
    print(
        f"\n{struck['worker']} workers and {struck['call']} calls were killed, in {calls} calls for {folders} folders of {studies} "
        f"studies; all {len(whole):,} files of each are those of an undisturbed call"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true")
    options.add_argument("--large", action="store_true")
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--out", type=Path, default=Path("runs/scale"))
    options.add_argument("--parts", nargs="+", choices=[*STEPS, "kills"], default=[*STEPS, "kills"])
    options.add_argument("--step", help=argparse.SUPPRESS)
    options.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.step:
        work = _work(options.step, options.size, options.out)
        clock, before = time.monotonic(), time.process_time()
        work()
        used = resource.getrusage(resource.RUSAGE_SELF)
        told = {"processor": time.process_time() - before, "wall": time.monotonic() - clock}
        print(json.dumps(told | {"memory": used.ru_maxrss / 1024}))
        return
    shutil.rmtree(options.out, ignore_errors=True)
    print("| step | X-rays | processor, s | clock, s | memory, MB |\n|---|---|---|---|---|")
    table = _table(options.parts, 2 if options.large else 0 if options.quick else 1, options.out)
    if len(table):
        _slopes(table)
    if "kills" in options.parts:
        _kills(options.kills, 60 if options.quick else 300, options.out)
    shutil.rmtree(options.out, ignore_errors=True)


if __name__ == "__main__":
    main()
