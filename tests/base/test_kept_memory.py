"Memory that a network keeps between its steps: few pages from the system, all given back, nothing where it is not ours to choose."

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
def handed_out():  # megabytes that the system has handed out so far
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize() / 1024**2
before, again = size(), 0
with (kept_memory if sys.argv[1] == "keep" else nullcontext)():
    for turn in range(30):
        asked = handed_out()
        arrays = [np.ones(count * 2**18, np.float32) for count in (1, 4, 8, 16, 8, 4, 1, 2)]  # 1 to 16 MB
        if turn == 15:  # this stays until the end, above the rest
            below, kept = [np.ones(2**22, np.float32) for _ in range(4)], np.ones(1000, np.float32)
            del below
        elif turn > 16:
            again += handed_out() - asked
        del arrays
print(again, size() - before)
"""

FORK = """
import os, sys, threading
from covidxr.base import process
def forked():  # how many blocks a child counts that begins while another thread is in one
    child = os.fork()
    if child == 0:
        with process.quiet(), process.kept_memory():
            pass
        os._exit(len(process._KEEPERS))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
ready, leave = threading.Event(), threading.Event()
def other():
    with process.kept_memory(), process._GUARD, process._MEMORY:
        ready.set()
        leave.wait(60)
thread = threading.Thread(target=other)
thread.start()
ready.wait(60)
answer = forked()
leave.set()
thread.join()
sys.exit(answer)
"""


def _run(code: str, *words: str, **given: str) -> str:
    "What a new Python says, which begins without limits of the C library but those that are given"
    own = {name: word for name, word in os.environ.items() if name not in process._NAMES}
    own |= {"NUMPY_MADVISE_HUGEPAGE": "0"} | given  # a large page would be one where 512 are meant
    return subprocess.run(
        [sys.executable, "-c", code, *words], env=own, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def _steps(way: str, **given: str) -> tuple[float, float]:
    "Megabytes that thirteen steps took from the system, and those by which the process has grown afterwards"
    again, grown = _run(STEPS, way, **given).split()
    return float(again), float(grown)


@GLIBC
def test_steps_take_hardly_a_page_and_what_is_free_goes_back_afterwards():
    plain, _ = _steps("plain")
    if plain < 40:
        pytest.skip(f"this system hands out large pages, or keeps them by itself: {plain:.0f} MB in thirteen steps")
    again, grown = _steps("keep")
    assert again < plain / 20, f"{again:.0f} MB again where memory is kept, {plain:.0f} MB where it is given back"
    assert grown < 8, f"{grown:.0f} MB stay"


@GLIBC
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_limits_that_somebody_has_chosen_stay(name):
    word = "glibc.malloc.trim_threshold=4096" if name == "GLIBC_TUNABLES" else "4096"
    plain, kept = (_steps(way, **{name: word})[0] for way in ("plain", "keep"))
    assert kept == pytest.approx(plain, rel=0.2, abs=4)


class Library:
    "A C library that notes what it is told; its largest limits are those of an old glibc"

    def __init__(self) -> None:
        self.told: list = []

    def mallopt(self, limit: int, size: int) -> int:
        self.told.append((limit, size))
        return int(size <= 2**25 or limit == process._TRIM)

    def malloc_trim(self, pad: int) -> None:
        self.told.append("given back")


def test_the_last_of_several_gives_back(monkeypatch):
    library = Library()
    monkeypatch.setattr(process, "_glibc", lambda: library)
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
    assert "given back" not in library.told and library.told[-1] == (process._MAP, 2**25), "the other one still trains"
    leave.set()
    thread.join()
    assert library.told[-3:] == [(process._MAP, 2**25), (process._TRIM, 2**26), "given back"]
    assert not process._KEEPERS


def test_who_stops_it_at_its_first_step_leaves_nothing_behind(monkeypatch):
    class Stopped(Library):
        def mallopt(self, limit: int, size: int) -> int:
            if not self.told:
                self.told.append("stopped")
                raise KeyboardInterrupt
            return super().mallopt(limit, size)

    library = Stopped()
    monkeypatch.setattr(process, "_glibc", lambda: library)
    with pytest.raises(KeyboardInterrupt), process.kept_memory():
        pytest.fail("it went on")
    assert library.told == ["stopped", (process._MAP, 2**25), (process._TRIM, 2**26), "given back"]
    assert not process._KEEPERS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system knows no fork")
def test_a_fork_waits_for_no_thread_of_its_parent():
    _run(FORK)  # it would hang, or end with the number of blocks that it counts


def test_one_step_alone_keeps_nothing(monkeypatch):
    monkeypatch.setattr(process, "_glibc", lambda: pytest.fail("the C library was asked"))
    with process.kept_memory(several=False):
        assert not process._KEEPERS


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(process.sys, "platform", "darwin")
    assert process._glibc() is None
    with process.kept_memory():
        assert not process._KEEPERS


@pytest.mark.parametrize(("device", "kept"), [("cpu", True), ("cpu,cpu", True), ("cuda:0", False)])
def test_every_training_on_a_cpu_keeps_memory_and_no_other(tmp_path, monkeypatch, device, kept):
    from covidxr.base.errors import ModelError
    from covidxr.learning.models import train_into

    library, found = Library(), []
    monkeypatch.setattr(process, "_glibc", lambda: library)

    def fit(folder, plan) -> None:
        found.append(bool(process._KEEPERS))
        raise RuntimeError("that is enough")

    plan = {"device": device, "batch_size": 16, "train_images": 64}
    with pytest.raises(ModelError, match="that is enough"):
        train_into(tmp_path / "model", plan, fit, "a network", "none")
    assert found == [kept] and library.told[-1:] == ["given back"] * kept
