"Time and memory, so that a test passes on any machine: limits grow where the machine is slow, a process's memory is its own."

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

UNIT = "import numpy, pandas"  # what every user of the library pays, too
UNIT_SECONDS = 0.9  # on an idle core of the machine on which limits were set
# A step of training, which machines with other instructions, or more threads, pay differently; prints processor time
STEP = """
import time, torch
from timm import create_model
net = create_model("test_resnet", in_chans=1, num_classes=4).train()
optimizer = torch.optim.AdamW(net.parameters())
pictures, classes, times = torch.randn(16, 1, 96, 96), torch.randint(4, (16,)), []
for _ in range(12):
    started = time.process_time()
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(pictures), classes).backward()
    optimizer.step()
    times.append(time.process_time() - started)
print(sorted(times)[len(times) // 2])
"""
STEP_SECONDS = 0.08  # on the machine on which lesson 09 takes 150 s, on one thread
TESTS = str(Path(__file__).parent)  # where code that a test starts as a process finds this module


def seconds_of(code: str, times: int = 3) -> float:
    "The best time that a fresh Python process takes for some code"
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        best = min(best, time.perf_counter() - started)
    return best


def in_time(seconds: float, limit: float) -> bool:
    "Is a time within a limit, made longer as this machine is now slower than the one on which the limit was set?"
    return seconds < limit or seconds < limit * seconds_of(UNIT) / UNIT_SECONDS


@contextmanager
def steps_beside(
    after: float = 150.0,  # seconds; what ends before needs no measuring, or is measured at its end
    every: float = 60.0,  # seconds from the end of a measurement to the next
) -> Iterator[list[float]]:
    "The processor time of a step of training, taken now and then while something runs: it has the same neighbours on its cores"
    steps: list[float] = []
    done = threading.Event()

    def look() -> None:
        wait = after
        while not done.wait(wait):
            steps.append(_step())
            wait = every

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield steps
    finally:
        done.set()
        watch.join()


def _step() -> float:
    "The processor time of a step of training, in a process of its own"
    return float(subprocess.run([sys.executable, "-c", STEP], check=True, capture_output=True, text=True).stdout)


def trains_in_time(
    seconds: float,  # of processor time
    limit: float,
    steps: Sequence[float] = (),  # `steps_beside` it; none: a step is measured now
) -> bool:
    "As `in_time`, for processor time that goes mostly into training"
    if in_time(seconds, limit):
        return True
    return seconds < limit * median(steps or [_step()]) / STEP_SECONDS


def own_peak() -> float:
    "The largest size of this process, in megabytes; what getrusage(2) tells begins with the size of the process that started it"
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    import resource

    unit = 1024**2 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
