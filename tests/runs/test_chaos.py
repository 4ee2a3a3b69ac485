"""A run that is killed, whose files are damaged and mended, and that is started again, ends as one that nobody disturbed.

The number of disturbances comes from COVIDXR_KILLS; the point that 50 are asked for is measured with 50.
"""

import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import QUICKEST, fake_models

from covidxr.hospital import simulate_dataset

DISTURBANCES = int(os.environ.get("COVIDXR_KILLS", "8"))


def _in_child(work: Callable[[], object]) -> int:
    "Start work in a copy of this process; its number"
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)
        work()
        code = 0
    finally:
        os._exit(code)  # nothing of pytest's goes on in the copy


def _run(data: Path, out: Path) -> None:
    from covidxr.pipeline import run

    with fake_models():
        run(data, out, profile=QUICKEST)


def _killed_run(data: Path, out: Path, seconds: float) -> bool:
    "A run that is killed after a while, with all its processes; True where it had not ended by then"
    child = _in_child(lambda: _run(data, out))
    time.sleep(seconds)
    ended, _ = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return not ended


def _run_killed_at_a_write(data: Path, out: Path, writes: int) -> bool:
    "A run that is killed while it writes its n-th file: a moment that does not depend on the machine's speed"

    def work() -> None:
        replace, left = os.replace, [writes]

        def counted(source: Path, target: Path) -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = counted  # in the copy of this process only
        _run(data, out)

    return os.WIFSIGNALED(os.waitpid(_in_child(work), 0)[1])


def _damage(data: Path, run: Path, chance: random.Random, whole: dict[Path, bytes]) -> str:
    "Change one thing of the input, or of what the run has written"
    file = chance.choice(sorted(whole))
    raw = whole[file]
    kind = chance.choice(["cut off", "no header", "zeros", "gone", "another", "touched", "mended", "label", "output"])
    if kind == "cut off":
        file.write_bytes(raw[: len(raw) - chance.randrange(200, len(raw) // 2)])
    elif kind == "no header":
        file.write_bytes(raw[:300])
    elif kind == "zeros":
        file.write_bytes(bytes(len(raw)))
    elif kind == "gone":
        file.unlink(missing_ok=True)
    elif kind == "another":
        file.write_bytes(whole[chance.choice(sorted(whole))])
    elif kind == "touched" and file.exists():
        file.touch()
    elif kind == "mended":
        for other in chance.sample(sorted(whole), len(whole) // 2):
            other.write_bytes(whole[other])
    elif kind == "label":
        table = data / "train_study_level.csv"
        head, *rows = table.read_text().splitlines()
        one, two = chance.sample(range(len(rows)), 2)
        first, second = (rows[number].split(",", 1) for number in (one, two))
        rows[one], rows[two] = f"{first[0]},{second[1]}", f"{second[0]},{first[1]}"
        table.write_text("\n".join([head, *rows]) + "\n")
    elif kind == "output":
        written = [path for path in run.rglob("*") if path.is_file() and not path.name.startswith(".covidxr")]
        written = [path for path in written if path.name != "steps.json"]
        if written:
            chance.choice(sorted(written)).unlink()
    return kind


def _answer(run: Path) -> dict[str, object]:
    "All that a run answers, without what it cost"
    kept = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_file() and not path.name.startswith(".") and name not in ("steps.json", "cache/images.parquet"):
            kept[name] = path.read_bytes()
    metrics = json.loads(kept["metrics.json"])
    kept["metrics.json"] = {name: value for name, value in metrics.items() if name != "steps"}
    kept["report.html"] = re.sub(rb"(?s)<h2>Cost</h2>.*?<h2>", b"<h2>", kept["report.html"])
    return kept


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test copies its process, which this system cannot do")
@pytest.mark.parametrize("seed", [0])
def test_run_answers_as_if_nobody_had_disturbed_it(seed, tmp_path):
    data, out, chance = tmp_path / "data", tmp_path / "run", random.Random(seed)
    simulate_dataset(data, studies=24, seed=seed, size=64, workers=1)
    whole = {path: path.read_bytes() for path in data.rglob("*.dcm")}
    _run(data, tmp_path / "warm")  # loads and compiles what the copies of this process then have
    started = time.monotonic()
    assert os.waitpid(_in_child(lambda: _run(data, tmp_path / "quiet")), 0)[1] == 0
    seconds = time.monotonic() - started
    killed, done = 0, []
    for number in range(DISTURBANCES):
        if number % 2:
            killed += _killed_run(data, out, chance.uniform(0, 1.1 * seconds))
        else:
            killed += _run_killed_at_a_write(data, out, chance.randrange(1, 5))
        done.append(_damage(data, out, chance, whole))
    for _ in range(2):  # the second of them does nothing, and changes nothing
        assert os.waitpid(_in_child(lambda: _run(data, out)), 0)[1] == 0, done
    assert os.waitpid(_in_child(lambda: _run(data, tmp_path / "undisturbed")), 0)[1] == 0
    disturbed, undisturbed = _answer(out), _answer(tmp_path / "undisturbed")
    assert sorted(disturbed) == sorted(undisturbed), done
    assert [name for name in undisturbed if disturbed[name] != undisturbed[name]] == [], done
    assert killed >= DISTURBANCES // 3, "too few were killed before they ended: the test proves little"
    assert not list(out.rglob(".covidxr-*.partial"))
    shutil.rmtree(out)
