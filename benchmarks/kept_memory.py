"""What does it save to keep freed memory while a network works, in place of giving it to the system at the end of each step?

    python benchmarks/kept_memory.py [--rounds 5] [--steps 20] [--only test_resnet …]

Bare steps of the networks that the course and the runs use on a CPU, in fresh processes of one thread: as PyTorch is, and
inside `kept_memory`, in turn. A step of training is forward, backward and Adam; one of answering is forward alone, for four
times as many images. Prints a step's milliseconds (the median of the rounds), the pages of memory that the system hands out
in a step, and the largest size of the process.
"""

import argparse
import json
import os
import subprocess
import sys
from itertools import product
from statistics import median

CASES = {  # name to side in pixels and images per step
    "test_resnet": (96, 16),
    "test_resnet at 128 px": (128, 16),
    "yolo11n": (128, 16),
    "tf_efficientnet_lite0": (160, 16),
    "resnet34": (224, 8),
}

CHILD = """
import json, resource, sys, time
from contextlib import nullcontext
import torch
from covidxr.base.process import kept_memory
name, size, images, steps, training, keep = json.loads(sys.argv[1])
torch.manual_seed(0)
if name == "yolo11n":
    from ultralytics.nn.tasks import DetectionModel
    model, channels = DetectionModel("yolo11n.yaml", nc=1, verbose=False), 3
else:
    import timm
    model, channels = timm.create_model(name, in_chans=1, num_classes=4), 1
model.to(memory_format=torch.channels_last).train(training)
pictures = torch.randn(images, channels, size, size).to(memory_format=torch.channels_last)
optimizer = torch.optim.Adam(model.parameters())

def numbers(answer):  # a detector's answers lie in lists and dictionaries
    if torch.is_tensor(answer):
        return [answer]
    parts = answer.values() if isinstance(answer, dict) else answer
    return [one for part in parts for one in numbers(part)]

def step():
    if not training:
        with torch.no_grad():
            return model(pictures)
    optimizer.zero_grad()
    sum(one.float().square().mean() for one in numbers(model(pictures))).backward()
    optimizer.step()

with (kept_memory if keep else nullcontext)():
    for _ in range(4):
        step()
    pages, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    for _ in range(steps):
        step()
    took = (time.perf_counter() - began) / steps
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([took * 1e3, (used.ru_minflt - pages) / steps, used.ru_maxrss / 1024]))
"""


def measured(name: str, steps: int, training: bool, keep: bool) -> list[float]:
    "Milliseconds and pages of a step, megabytes of its process"
    size, images = CASES[name]
    words = json.dumps([name.split(" ")[0], size, images * (1 if training else 4), steps, training, keep])
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.run([sys.executable, "-c", CHILD, words], env=own, check=True, capture_output=True, text=True)
    return json.loads(said.stdout.splitlines()[-1])


def main() -> None:
    "Measure every network both ways"
    given = argparse.ArgumentParser(description="Steps of training with memory given back and kept")
    given.add_argument("--rounds", type=int, default=5, help="processes for each network and each way")
    given.add_argument("--steps", type=int, default=20, help="in each process")
    given.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    options = given.parse_args()
    print("| network | step of | ms, given back | ms, kept | ratio | pages, given back | pages, kept | MB | MB, kept |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, training in product(options.only, (True, False)):
        ways = {keep: [] for keep in (False, True)}
        for _ in range(options.rounds):
            for keep, rows in ways.items():
                rows.append(measured(name, options.steps, training, keep))
        back, kept = ([median(column) for column in zip(*rows, strict=True)] for rows in ways.values())
        ratio = median(new[0] / old[0] for old, new in zip(*ways.values(), strict=True))
        cells = [f"{back[0]:.0f}", f"{kept[0]:.0f}", f"{ratio:.2f}", f"{back[1]:,.0f}", f"{kept[1]:,.0f}"]
        cells += [f"{back[2]:.0f}", f"{kept[2]:.0f}"]
        print(f"| {name} | {'training' if training else 'answering'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
