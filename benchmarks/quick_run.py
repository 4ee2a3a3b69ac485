"""What does the quick run cost, step by step, in units of a bare training step measured in the same minutes?

    python benchmarks/quick_run.py [--out runs/quick_cost] [--seed 0] [--data phantom]

A bare step is PyTorch's own: `test_resnet` on 16 pictures of 128 pixels, forward, backward, AdamW, on one thread, weights and
pictures in the order that a CPU computes fastest (channels last); it is measured before the run, after it, and in between by
a process that wakes every 20 seconds, and its median counts. A slow machine has slow steps, so it neither hides nor fakes a gain.
Prints wall and processor time of the whole, both also in units, and wall time of each step of the run.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from covidxr.base.files import read_json

STEP = """
import time, torch
from timm import create_model
torch.set_num_threads(1)
net = create_model("test_resnet", in_chans=1, num_classes=4).train().to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(net.parameters())
pictures = torch.randn(16, 1, 128, 128).contiguous(memory_format=torch.channels_last)
classes = torch.randint(4, (16,))
print("ready", flush=True)
while input():
    times = []
    for _ in range(8):
        started = time.process_time()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(pictures), classes).backward()
        optimizer.step()
        times.append(time.process_time() - started)
    print(sorted(times)[len(times) // 2], flush=True)
"""


class Steps:
    "Bare steps in a process of their own, by processor time"

    def __init__(self) -> None:
        self.times: list[float] = []
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-c", STEP]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout.readline() == "ready\n"

    def take(self) -> None:
        "Measure some"
        self._process.stdin.write("more\n")
        self._process.stdin.flush()
        self.times.append(float(self._process.stdout.readline()))

    def end(self) -> None:
        "End the process"
        self._process.communicate("\n")


def main() -> None:
    "Run, and say what it cost"
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("runs/quick_cost"))
    options.add_argument("--seed", default="0")
    options.add_argument("--data", default="phantom")
    asked = options.parse_args()
    steps = Steps()
    for _ in range(5):
        steps.take()
    call = "import sys; from covidxr.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", call, "run", "--data", asked.data, "--out", str(asked.out), "--seed", asked.seed]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run, ended = subprocess.Popen(command), threading.Event()

    def watch() -> None:
        while not ended.wait(20):
            steps.take()

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = run.wait()
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    ended.set()
    watcher.join()
    for _ in range(5):
        steps.take()
    steps.end()
    if code:
        raise SystemExit(f"the run ended with {code}")
    unit = statistics.median(steps.times)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"\na bare step: {unit:.3f} s of processor time (median of {len(steps.times)}; {min(steps.times):.3f} to")
    print(f"{max(steps.times):.3f})\n\n| | s | units |\n|---|---|---|")
    for name, seconds in (("wall", wall), ("processor", processor)):
        print(f"| {name} | {seconds:.0f} | {seconds / unit:,.0f} |")
    done = read_json(asked.out / "metrics.json")["steps"]
    print("\n| step | s |\n|---|---|")
    for name, step in sorted(done.items(), key=lambda one: -one[1]["seconds"]):
        print(f"| {name} | {step['seconds']:.1f} |")


if __name__ == "__main__":
    main()
