"""How fast is the simulator? Images a second at 512 pixels on all cores, seconds for one at 3,000, and memory.

python benchmarks/simulator_speed.py
"""

import resource
import statistics
import time

from covidxr.base.parallel import parallel
from covidxr.base.process import cores, one_opencv_thread
from covidxr.base.terms import APPEARANCES
from covidxr.phantom import simulate

IMAGES = 300  # a turn


def _one(seed: int) -> int:
    return len(simulate(seed, APPEARANCES[seed % 4], 512).boxes)


def main() -> None:
    list(parallel(_one, list(range(16)), "warm up", start=one_opencv_thread))
    rates = []
    for turn in range(3):
        started = time.monotonic()
        seeds = list(range(IMAGES * turn, IMAGES * (turn + 1)))
        list(parallel(_one, seeds, "simulate", start=one_opencv_thread))
        rates.append(IMAGES / (time.monotonic() - started))
    large = []
    for seed in range(5):
        started = time.monotonic()
        simulate(seed, APPEARANCES[1 + seed % 3], 3000)
        large.append(time.monotonic() - started)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"512 pixels, {cores()} cores, starting the processes included: {statistics.median(rates):.1f} images a second"
    )
    print(f"3,000 pixels, one core: {statistics.median(large):.2f} s; peak memory of the process {memory:.0f} MB")


if __name__ == "__main__":
    main()
