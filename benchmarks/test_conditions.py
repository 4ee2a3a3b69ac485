"""Do the tests pass on any machine? The test command's pytest under one condition after the other, on this one.

    python benchmarks/test_conditions.py [--only half-speed …] [--repeat 1] [-- tests/boxes/test_x.py -m "not slow" …]

- as it is: README's `pytest -n auto`;
- plain code: PyTorch without the processor's wide instructions (`ATEN_CPU_CAPABILITY=default`), which rounds otherwise;
- one thread, two threads: of every testing process and of what it starts (`OMP_NUM_THREADS`);
- busy neighbour: one process for each core that does nothing but compute;
- half speed: every process is stopped half of the time, 10 of 20 milliseconds.

Conditions are joined by a plus sign where they shall hold at once: `--only plain-code+two-threads`. What stands behind
`--` goes to pytest. Prints a table of minutes, passed and failed tests, and each failure's name and first words. The
exit code is 1 where a test failed.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import psutil

from covidxr.base.process import cores

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def neighbours(number: int) -> Iterator[None]:
    "Some processes that compute for nothing"
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def signalled(whole: list[psutil.Process], number: int) -> None:
    "Send a signal to processes; some have ended"
    for process in whole:
        with contextlib.suppress(psutil.Error, OSError):
            process.send_signal(number)


def slowed(pid: int, ended: threading.Event) -> None:
    "Stop a process and all that it starts half of the time, until it has ended"
    whole: list[psutil.Process] = []
    while not ended.is_set():
        with contextlib.suppress(psutil.Error):
            whole = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for _ in range(10):  # looking for processes takes a while
            signalled(whole, signal.SIGSTOP)
            time.sleep(0.01)
            signalled(whole, signal.SIGCONT)
            time.sleep(0.01)


def tested(words: list[str], environment: dict[str, str], half: bool) -> tuple[float, int, list[str]]:
    "Run pytest once: minutes, how many tests passed, the names of those that did not"
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", f"--junitxml={table}", *words]
        started = time.monotonic()
        with open(Path(folder) / "log.txt", "w+", encoding="utf-8") as log:
            process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log)
            ended = threading.Event()
            if half:
                threading.Thread(target=slowed, args=(process.pid, ended)).start()
            process.wait()
            ended.set()
            minutes = (time.monotonic() - started) / 60
            if not table.exists():
                log.seek(0)
                raise SystemExit(f"pytest gave no answer: {log.read()[-3000:]}")
        cases = list(ElementTree.parse(table).getroot().iter("testcase"))
        if not cases:
            raise SystemExit(f"no test was found: {' '.join(words)}")
        failed = [
            f"{case.get('classname')}::{case.get('name')}: {child.get('message') or child.text or '':.300}"
            for case in cases
            for child in case
            if child.tag in ("failure", "error")
        ]
        return minutes, sum(1 for case in cases if not _tags(case) & {"failure", "error", "skipped"}), failed


def _tags(case: ElementTree.Element) -> set[str]:
    "What a test's record holds: nothing where it passed"
    return {child.tag for child in case}


CONDITIONS = {  # name to environment, neighbours a core, half speed
    "as-it-is": ({}, 0, False),
    "plain-code": ({"ATEN_CPU_CAPABILITY": "default"}, 0, False),
    "one-thread": ({"OMP_NUM_THREADS": "1"}, 0, False),
    "two-threads": ({"OMP_NUM_THREADS": "2"}, 0, False),
    "busy-neighbour": ({}, 1, False),
    "half-speed": ({}, 0, True),
}


def joined(
    name: str,  # one condition, or several with a plus sign between them
) -> tuple[dict[str, str], int, bool]:  # environment, neighbours a core, half speed
    "What holds where several conditions do at once; raises KeyError for one that is not known"
    parts = [CONDITIONS[part] for part in name.split("+")]
    environment = {key: value for settings, _, _ in parts for key, value in settings.items()}
    return environment, max(busy for _, busy, _ in parts), any(half for _, _, half in parts)


def main() -> int:
    "Run every condition"
    given = argparse.ArgumentParser(description="The tests under one condition after the other")
    given.add_argument("--only", nargs="+", default=list(CONDITIONS), help=f"of {', '.join(CONDITIONS)}")
    given.add_argument("--repeat", type=int, default=1, help="times that each condition is tried")
    own, words = sys.argv[1:], []
    if "--" in own:
        own, words = own[: own.index("--")], own[own.index("--") + 1 :]
    options = given.parse_args(own)
    unknown = [part for name in options.only for part in name.split("+") if part not in CONDITIONS]
    if unknown:
        given.error(f"no condition: {', '.join(unknown)}; there are {', '.join(CONDITIONS)}")
    print(f"{cores()} cores\n\n| condition | minutes | passed | failed |\n|---|---|---|---|")
    faults: dict[str, list[str]] = {}
    for name in [name for name in options.only for _ in range(options.repeat)]:
        environment, busy, half = joined(name)
        with neighbours(busy * cores()):
            minutes, passed, failed = tested(words, environment, half)
        print(f"| {name} | {minutes:.1f} | {passed} | {len(failed)} |", flush=True)
        for one in failed:
            faults.setdefault(one, []).append(name)
    for one, names in faults.items():
        print(f"\n{one}: {', '.join(names)}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
