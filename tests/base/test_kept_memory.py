"Memory that a training keeps: fewer pages from the system, all given back afterwards, nothing where it is not ours to choose."

import os
import subprocess
import sys
import threading

import pytest

from covidxr.base import process

GLIBC = pytest.mark.skipif(process._glibc() is None, reason="another C library, or its limits were chosen outside")

STEPS = """
import resource, sys
from contextlib import nullcontext
import numpy as np
from covidxr.base.process import kept_memory
def size():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before, waste = size(), 0
with (kept_memory if sys.argv[1] == "keep" else nullcontext)():
    for turn in range(30):
        asked = pages()
        arrays = [np.ones(count * 2**18, np.float32) for count in (1, 4, 8, 16, 8, 4, 1, 2)]  # 1 to 16 MB
        if turn == 15:  # this stays until the end, above the rest
            below, kept = [np.ones(2**22, np.float32) for _ in range(4)], np.ones(1000, np.float32)
            del below
        elif turn > 16:
            waste += pages() - asked
        del arrays
print(waste, size() - before)
"""


def _steps(way: str, **given: str) -> tuple[int, float]:
    "Pages that thirteen steps took from the system, and the megabytes by which the process has grown afterwards"
    own = {name: word for name, word in os.environ.items() if name not in process._CHOSEN} | given
    done = subprocess.run([sys.executable, "-c", STEPS, way], env=own, capture_output=True, text=True, check=True)
    pages, grown = done.stdout.split()
    return int(pages), float(grown)


@GLIBC
def test_steps_take_hardly_a_page_and_all_goes_back_afterwards():
    plain, _ = _steps("plain")
    kept, grown = _steps("keep")
    assert plain > 10_000, "this system gives all back by itself: nothing is shown"
    assert kept < plain / 20, f"{kept} pages kept, {plain} given back"
    assert grown < 8, f"{grown:.0f} MB stay"


@GLIBC
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_limits_that_somebody_has_chosen_stay(name):
    word = "glibc.malloc.trim_threshold=4096" if name == "GLIBC_TUNABLES" else "4096"
    assert _steps("keep", **{name: word})[0] > 10_000


@GLIBC
def test_the_last_of_several_trainings_gives_back(monkeypatch):
    calls = []

    class Library:
        def mallopt(self, limit: int, size: int) -> int:
            calls.append((limit, size))
            return int(size <= 2**25 or limit == process._TRIM)  # as an older glibc answers

        def malloc_trim(self, pad: int) -> None:
            calls.append("given back")

    monkeypatch.setattr(process, "_glibc", Library)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with process.kept_memory():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(30)
    with pytest.raises(KeyError), process.kept_memory():
        raise KeyError("a training that fails")
    assert "given back" not in calls and calls[-1] == (process._MAP, 2**25), "the other one still trains"
    leave.set()
    thread.join()
    assert calls[-3:] == [(process._MAP, 2**25), (process._TRIM, 2**26), "given back"]
    assert process._KEEPERS["now"] == 0


def test_one_step_alone_keeps_nothing(monkeypatch):
    monkeypatch.setattr(process, "_glibc", lambda: pytest.fail("the C library was asked"))
    with process.kept_memory(False):
        assert process._KEEPERS["now"] == 0


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(process.sys, "platform", "darwin")
    assert process._glibc() is None
    with process.kept_memory():
        assert process._KEEPERS["now"] == 0
