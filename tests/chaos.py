"""Kill `prepare` or `simulate_dataset` at random moments, damage and mend what lies around between the calls, and compare what is
left with one undisturbed call.

    python tests/chaos.py prepare|parts|simulate FOLDER KILLS [SEED]

`parts` is `prepare` with an index of many parts, as a cache of a hundred thousand X-rays has.

A process of its own, as it forks: a warm child begins to work at once, and so the kills meet the work and not the imports."""

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import filelock  # noqa: F401  (this and the next: so that no child has to import them)
import numpy as np
import psutil  # noqa: F401
import pyarrow.dataset  # noqa: F401
import pyarrow.parquet  # noqa: F401

from covidxr.cache import parts, workers
from covidxr.dicom import TRANSFER_SYNTAXES, read_xray, write_dicom
from covidxr.hospital import simulate_dataset
from covidxr.phantom import simulate
from covidxr.prepare import prepare


def _hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _xrays(store: Path) -> list[Path]:
    "Small X-rays in several codings, in two folders"
    codings = list(TRANSFER_SYNTAXES.values())
    for number in range(12):
        xray = simulate(number, "typical", 64)
        place = store / f"{'ab'[number % 2]}/x{number}.dcm"
        stored = np.round(xray.pixels * 4095).astype(np.uint16)
        xray.facts.image_id, xray.facts.study_id = f"x{number}", f"s{number}"
        xray.facts.bits_stored, xray.facts.transfer_syntax = 12, codings[number % len(codings)]
        write_dicom(place, stored, xray.facts)
        if number % 3 == 0:
            cv2.imwrite(str(store / f"p{number}.png"), (255 * xray.pixels).astype(np.uint8))
    files = sorted(path for path in store.rglob("*") if path.is_file())
    for path in files:  # a child finds the codecs imported
        read_xray(path)
    return files


def _started(work: Callable[[], object]) -> int:
    "Work in a child and its own process group; its number"
    child = os.fork()
    if child:
        return child
    os.setsid()
    try:
        work()
    except BaseException as error:  # told to the parent by the exit code, to the reader by a line
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def _whole(work: Callable[[], object]) -> float:
    "Work in a child to the end; the seconds that it took"
    started = time.monotonic()
    assert os.waitpid(_started(work), 0)[1] == 0
    return time.monotonic() - started


def _killed(work: Callable[[], object], after: float) -> bool:
    "Work in a child that is killed after some seconds; was it still at work?"
    child = _started(work)
    time.sleep(after)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has not got so far as to make its group
        os.kill(child, signal.SIGKILL)
    ended = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    with contextlib.suppress(ProcessLookupError):
        for _ in range(500):  # its workers die with it, but some milliseconds later, and hold its lock until then
            os.killpg(child, 0)
            time.sleep(0.01)
    return ended


def _damage(rng: np.random.Generator, file: Path, original: Path, other: Path) -> str:
    "Something that happens to a file; what"
    kind = str(rng.choice("truncate zero delete restore restore back touch replace header flip".split()))
    file.parent.mkdir(parents=True, exist_ok=True)
    if kind == "restore" or not file.exists():
        shutil.copy(original, file)
        return "restore"
    raw = bytearray(file.read_bytes())
    if kind == "delete":
        file.unlink()
    elif kind == "back":  # with its old time, as from a backup
        shutil.copy2(original, file)
    elif kind == "touch":
        os.utime(file)
    elif kind == "replace":
        shutil.copy(other, file)
    elif kind == "truncate":
        file.write_bytes(raw[: len(raw) // 2])
    elif kind == "zero":
        file.write_bytes(bytes(len(raw)))
    elif kind == "header":
        raw[100:300] = rng.bytes(len(raw[100:300]))
        file.write_bytes(raw)
    else:
        raw[len(raw) // 2] ^= 255
        file.write_bytes(raw)
    return kind


def disturb_prepare(folder: Path, kills: int, seed: int) -> None:
    "Many disturbed calls into one cache, and one undisturbed into another"
    rng, source, out = np.random.default_rng(seed), folder / "source", folder / "cache"
    originals = _xrays(folder / "store")
    shutil.copytree(folder / "store", source)
    usual = _whole(lambda: prepare(source, folder / "first", size=32, workers=1))
    hit, calls, seen = 0, 0, {}
    while hit < kills:
        calls += 1
        assert calls < 5 * kills + 20, "the kills come too late"
        for _ in range(rng.integers(0, 4)):
            original = originals[rng.integers(len(originals))]
            other = originals[rng.integers(len(originals))]
            kind = _damage(rng, source / original.relative_to(folder / "store"), original, other)
            seen[kind] = seen.get(kind, 0) + 1
        pictures = sorted(out.glob("*.png"))
        if len(pictures) > 1 and rng.random() < 0.5:
            picture, other = rng.permutation(pictures)[:2]
            _damage(rng, Path(picture), other, other)
        workers = 2 if rng.random() < 0.05 else 1
        after = rng.uniform(0, 1.1) * usual + (workers - 1) * rng.uniform(0, 2)
        hit += _killed(lambda workers=workers: prepare(source, out, size=32, workers=workers), after)
        if calls % 10 == 0:
            _compare(folder, source, out, f"undisturbed-{calls}")
    for original in originals[:3]:  # in the end some of each are there: whole, damaged and gone
        shutil.copy(original, source / original.relative_to(folder / "store"))
    _compare(folder, source, out, "undisturbed")
    print(f"{hit} kills in {calls} calls of {usual:.2f} s; {seen}")


def _compare(folder: Path, source: Path, out: Path, name: str) -> None:
    "One more call, and one into a new folder: the index, the list of failures and every picture are the same"
    for place in (out, folder / name):
        _whole(lambda place=place: prepare(source, place, size=32, workers=1))
    mine, fresh = _hashes(out), _hashes(folder / name)
    assert mine == fresh, sorted({*mine.items()} ^ {*fresh.items()})
    assert len(mine) > 4


def disturb_simulate(folder: Path, kills: int, seed: int) -> None:
    "One dataset in many pieces, and one at once"
    rng = np.random.default_rng(seed)
    _xrays(folder / "store")  # a child finds everything imported
    work = {
        name: lambda name=name: simulate_dataset(folder / name, studies=8, size=64, seed=3, workers=1) for name in "abc"
    }
    usual = _whole(work["a"])
    whole, hit = _hashes(folder / "a"), 0
    for _ in range(kills):
        hit += _killed(work["b"], rng.uniform(0, 0.9) * usual)
        if rng.random() < 0.3:
            assert not (folder / "b" / "simulated.json").exists() or _hashes(folder / "b") == whole
            _whole(work["b"])
            assert _hashes(folder / "b") == whole
            shutil.rmtree(folder / "b")
    _whole(work["b"])
    assert _hashes(folder / "b") == whole
    print(f"{hit} kills of {kills} in the midst of {usual:.2f} s")


if __name__ == "__main__":
    cv2.setNumThreads(0)  # a fork has no threads but its own
    os.sync = lambda: None  # the whole machine's disk is not what is tried here
    if sys.argv[1] == "parts":
        parts._LARGEST, workers.GATHERED = 3, 2
    what = {"prepare": disturb_prepare, "parts": disturb_prepare, "simulate": disturb_simulate}[sys.argv[1]]
    what(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 0)
