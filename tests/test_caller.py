"Importing the library says nothing and changes nothing in the process of whoever imports it, module by module."

import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "covidxr").rglob("*.py")
)

# One process loads what others wrote, which costs seconds, and then forks for each module of ours.
PROBE = """
import contextlib, importlib, io, json, logging, os, random, signal, sys, threading, traceback, warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import cv2, joblib, numba, numpy, pandas, scipy.stats, torch
    from joblib.externals.loky import reusable_executor
LOGGERS = [logging.root, *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger))]


def state():
    "What belongs to the whole process"
    return {
        "warning filters": [repr(one) for one in warnings.filters],
        "how warnings are shown": id(warnings.showwarning),
        "environment": dict(os.environ),
        "working folder": [os.getcwd(), sorted(os.listdir())],
        "threads": sorted(one.name for one in threading.enumerate()),
        "OpenCV's threads": cv2.getNumThreads(),
        "PyTorch's threads": torch.get_num_threads(),
        "hooks": [id(one) for one in (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook)],
        "output": [id(sys.stdin), id(sys.stdout), id(sys.stderr)],
        "logging": [(one.name, one.level, one.disabled, len(one.handlers)) for one in LOGGERS],
        "joblib's pool": id(reusable_executor._executor),
        "NumPy's errors": numpy.geterr(),
        "pandas' options": [pandas.get_option(name) for name in ("display.width", "display.max_rows", "display.precision")],
        "random numbers": hash((random.getstate(), numpy.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes())),
        "signals": [str(signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
    }


def look(module):
    "Import one module; what it says and changes"
    said, trouble, before = io.StringIO(), "", state()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            importlib.import_module(module)
        except BaseException:
            trouble = traceback.format_exc()
    after = state()
    return {"changed": [name for name in before if before[name] != after[name]], "said": said.getvalue() + trouble}


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
print(json.dumps(answers))
"""


SLIPS = {
    "warning filters": "import warnings; warnings.simplefilter('ignore')",
    "how warnings are shown": "import warnings; warnings.showwarning = print",
    "environment": "import os; os.environ['OF_OURS'] = '1'",
    "working folder": "open('left.txt', 'w').close()",
    "threads": "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    "OpenCV's threads": "import cv2; cv2.setNumThreads(cv2.getNumThreads() + 1)",
    "PyTorch's threads": "import torch; torch.set_num_threads(torch.get_num_threads() + 1)",
    "hooks": "import sys; sys.excepthook = print",
    "output": "import io, sys; sys.stdin = io.StringIO()",
    "logging": "import logging; logging.basicConfig()",
    "joblib's pool": "from joblib.externals.loky import get_reusable_executor; get_reusable_executor(1)",
    "NumPy's errors": "import numpy; numpy.seterr(all='raise')",
    "pandas' options": "import pandas; pandas.set_option('display.width', 77)",
    "random numbers": "import torch; torch.manual_seed(1)",
    "signals": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
}
WORDS = {
    "print('hello')": "hello\n",
    "import warnings; warnings.warn('old', DeprecationWarning)": "DeprecationWarning: old",
}

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each module would take minutes")


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> dict[str, dict]:
    "What each module of the library, and some that do what they must not, do when each is imported alone"
    place, here = tmp_path_factory.mktemp("slips"), tmp_path_factory.mktemp("here")
    slips = {f"slip{number}": code for number, code in enumerate([*SLIPS.values(), *WORDS, ""])}
    for name, code in slips.items():
        (place / f"{name}.py").write_text(code)
    command = [sys.executable, "-B", "-X", "dev", "-W", "error", "-c", PROBE, json.dumps([*MODULES, *slips])]
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])}
    answer = subprocess.run(command, cwd=here, env=own, capture_output=True, text=True)
    assert answer.returncode == 0 and answer.stderr == "", answer.stderr[-3000:]
    return {slips.get(name, name): found for name, found in json.loads(answer.stdout).items()}


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_says_nothing_and_changes_nothing(module, imported):
    assert imported[module] == {"changed": [], "said": ""}


@pytest.mark.parametrize("kind", SLIPS)
def test_each_kind_of_change_is_noticed(kind, imported):
    assert kind in imported[SLIPS[kind]]["changed"]


@pytest.mark.parametrize("slip", WORDS)
def test_a_word_and_a_warning_are_noticed(slip, imported):
    assert WORDS[slip] in imported[slip]["said"]
    assert imported[""] == {"changed": [], "said": ""}


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
