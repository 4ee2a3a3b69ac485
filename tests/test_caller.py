"Importing the library, and calling it, says nothing and changes nothing in the process of whoever does so."

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from calls import NAMES
from conftest import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "covidxr").rglob("*.py")
)

# One process loads what others wrote, which costs seconds, and then forks for each module of ours.
PROBE = """
import contextlib, importlib, io, json, os, sys, traceback, warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import cv2, joblib, matplotlib.pyplot, numba, numpy, pandas, PIL.Image, PIL.ImageFile, pydicom, scipy.stats, sklearn, torch
from state import changes, state


def look(module):
    "Import one module; what it says and changes"
    said, trouble, before = io.StringIO(), "", state()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            importlib.import_module(module)
        except BaseException:
            trouble = traceback.format_exc()
    return {"changed": changes(before, state()), "said": said.getvalue() + trouble}


answers = {}
for module in json.loads(sys.argv[1]):
    back, forth = os.pipe()
    if os.fork() == 0:
        with open(forth, "w") as answer:
            json.dump(look(module), answer)
        os._exit(0)
    os.close(forth)
    with open(back) as answer:
        answers[module] = json.load(answer)
    os.wait()
answers["kinds"] = list(state())
print(json.dumps(answers))
"""


SLIPS = {  # each kind of thing that belongs to the process, and code that changes it
    "warning filters": "import warnings; warnings.simplefilter('ignore')",
    "how warnings are shown": "import warnings; warnings.showwarning = print",
    "environment": "import os; os.environ['OF_OURS'] = '1'",
    "working folder": "open('left.txt', 'w').close()",
    "where modules are found": "import sys; sys.path.insert(0, 'ours')",
    "threads": "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    "child processes": "import subprocess; subprocess.Popen(['sleep', '3'])",
    "open files": "kept = open('/dev/null')",
    "hooks": "import sys; sys.excepthook = print",
    "tracing": "import sys; sys.settrace(lambda *rest: None)",
    "output": "import io, sys; sys.stdin = io.StringIO()",
    "logging": "import logging; logging.basicConfig()",
    "all logging": "import logging; logging.disable()",
    "random numbers": "import random; random.random()",
    "signals": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "limits": "import sys; sys.setrecursionlimit(4321)",
    "memory's collector": "import gc; gc.disable()",
    "language": "import decimal; decimal.getcontext().prec = 5",
    "how processes begin": "import multiprocessing; multiprocessing.set_start_method('spawn')",
    "functions": "import torch; torch.save = print",
    "NumPy's errors": "import numpy; numpy.seterr(all='raise')",
    "how NumPy prints": "import numpy; numpy.set_printoptions(precision=3)",
    "NumPy's random numbers": "import numpy; numpy.random.rand()",
    "PyTorch's threads": "import torch; torch.set_num_threads(torch.get_num_threads() + 1)",
    "PyTorch's modes": "import torch; torch.set_grad_enabled(False)",
    "PyTorch's numbers": "import torch; torch.set_default_dtype(torch.float64)",
    "PyTorch's random numbers": "import torch; torch.manual_seed(1)",
    "how PyTorch computes": "import torch; torch.use_deterministic_algorithms(True)",
    "how PyTorch prints": "import torch; torch.set_printoptions(precision=3)",
    "what PyTorch trusts in pickles": "import fractions, torch; torch.serialization.add_safe_globals([fractions.Fraction])",
    "OpenCV's threads": "import cv2; cv2.setNumThreads(cv2.getNumThreads() + 1)",
    "OpenCV's settings": "import cv2; cv2.setUseOptimized(False)",
    "Pillow's largest image": "import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = None",
    "Pillow's patience": "import PIL.ImageFile; PIL.ImageFile.LOAD_TRUNCATED_IMAGES = True",
    "pandas' options": "import pandas; pandas.set_option('display.width', 77)",
    "pydicom's settings": "import pydicom; pydicom.config.use_DS_decimal = True",
    "matplotlib's settings": "import matplotlib; matplotlib.rcParams['axes.grid'] = True",
    "matplotlib's backend": "import matplotlib; matplotlib.use('svg')",
    "open figures": "import matplotlib.pyplot; matplotlib.pyplot.figure()",
    "scikit-learn's settings": "import sklearn; sklearn.set_config(assume_finite=True)",
    "Numba's threads": "import numba; numba.config.NUMBA_NUM_THREADS = 99",
    "joblib's pool": "from joblib.externals.loky import get_reusable_executor; get_reusable_executor(1)",
    "joblib's settings": "import joblib; joblib.parallel.parallel_config('threading')",
}
WORDS = {
    "print('hello')": "hello\n",
    "import warnings; warnings.warn('old', DeprecationWarning)": "DeprecationWarning: old",
}

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each module would take minutes")


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> dict[str, dict]:
    "What each module of the library, and some that do what they must not, do when each is imported alone"
    place, here = tmp_path_factory.mktemp("slips"), tmp_path_factory.mktemp("here")
    slips = {f"slip{number}": code for number, code in enumerate([*SLIPS.values(), *WORDS, ""])}
    for name, code in slips.items():
        (place / f"{name}.py").write_text(code)
    command = [sys.executable, "-B", "-X", "dev", "-W", "error", "-c", PROBE, json.dumps([*MODULES, *slips])]
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT), str(ROOT / "tests")])}
    answer = subprocess.run(command, cwd=here, env=own, capture_output=True, text=True)
    assert answer.returncode == 0 and answer.stderr == "", answer.stderr[-3000:]
    return {slips.get(name, name): found for name, found in json.loads(answer.stdout).items()}


@forks
@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_says_nothing_and_changes_nothing(module, imported):
    assert imported[module] == {"changed": {}, "said": ""}


@forks
@pytest.mark.parametrize("kind", SLIPS)
def test_each_kind_of_change_is_noticed(kind, imported):
    assert kind in imported[SLIPS[kind]]["changed"]


@forks
def test_there_is_a_slip_for_each_kind_of_change(imported):
    assert sorted(imported["kinds"]) == sorted(SLIPS)


@forks
@pytest.mark.parametrize("slip", WORDS)
def test_a_word_and_a_warning_are_noticed(slip, imported):
    assert WORDS[slip] in imported[slip]["said"]
    assert imported[""] == {"changed": {}, "said": ""}


HELPERS = r"gone \[\], come \['[^']*resource_tracker[^']*', '[^']*resource_tracker[^']*'\]"
LEFT = {  # what libraries keep from their first call on, and why
    (
        "prepare_prepare_in_processes",
        "child processes",
    ): HELPERS,  # joblib's and Python's, which clean up behind processes
    ("prepare_prepare_in_processes", "open files"): r"gone \[\], come \['pipe', 'pipe'\]",  # to those two
    ("eda_explore", "open files"): r"gone \[\], come \[('[^']*\.ttf'(, )?)+\]",  # matplotlib's fonts
}


@pytest.mark.parametrize("call", NAMES)
def test_a_call_leaves_the_process_as_it_was(call, called):
    found = called[call]["changed"]
    others = {kind: told for kind, told in found.items() if not re.fullmatch(LEFT.get((call, kind), "(?!)"), told)}
    assert others == {}


STOPPED = """
import sys, threading, time
from contextlib import suppress
from covidxr.base.process import in_processes


def work(number):
    time.sleep(0.01)
    return number


def some(how):
    "A few answers of many, and then no more"
    for number in in_processes(work, list(range(100_000)), 2):
        if number == 5 and how == "Ctrl-C":
            print("stop me", flush=True)
        if number == 5 and how == "an error":
            raise ValueError
        if number == 5 and how == "no more asked":
            return


if __name__ == "__main__":
    for _ in range(10):
        with suppress(ValueError, KeyboardInterrupt):
            some(sys.argv[1])
    for _ in range(100):  # what feeds the processes ends a moment after them
        if threading.active_count() > 1:
            time.sleep(0.1)
    print(*sorted(one.name for one in threading.enumerate()))
"""


@pytest.mark.parametrize("how", ["Ctrl-C", "an error", "no more asked"])
def test_a_call_with_processes_that_is_stopped_says_nothing_ten_times(how, tmp_path):
    "Ctrl-C as a terminal sends it: to this process and to all that it started"
    (tmp_path / "stopped.py").write_text(STOPPED)
    command = [sys.executable, "stopped.py", how]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=own, **pipes) as process:
        for _ in range(10 * (how == "Ctrl-C")):
            assert process.stdout.readline() == "stop me\n"
            os.killpg(process.pid, signal.SIGINT)
        said, trouble = process.communicate(timeout=300)
    assert (process.returncode, said.split(), trouble) == (0, ["MainThread"], "")
