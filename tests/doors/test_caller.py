"Importing the library, and calling it, says nothing and changes nothing in the process of whoever does so."

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from calls import NAMES
from conftest import ROOT

CLASSES = ["negative", "typical"]  # those of `pictures`
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "covidxr").rglob("*.py")
)

# One process loads what others wrote, which costs seconds, and then forks for each module of ours.
PROBE = """
import contextlib, importlib, io, json, os, sys, traceback, warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import cv2, joblib, matplotlib.pyplot, numba, numpy, pandas, PIL.Image, PIL.ImageFile, pydicom, scipy.stats
    import sklearn, torch
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
        "base_parallel",
        "child processes",
    ): HELPERS,  # joblib's and Python's, which clean up behind processes
    ("base_parallel", "open files"): r"gone \[\], come \['pipe', 'pipe'\]",  # to those two
    ("eda_explore", "open files"): r"gone \[\], come \[('[^']*\.ttf'(, )?)+\]",  # matplotlib's fonts
}


@pytest.mark.parametrize("call", NAMES)
def test_a_call_leaves_the_process_as_it_was(call, called):
    found = called[call]["changed"]
    others = {kind: told for kind, told in found.items() if not re.fullmatch(LEFT.get((call, kind), "(?!)"), told)}
    assert others == {}


STOPPED = """
import signal, sys, threading, time
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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
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


def _learn(kind: str, pictures: tuple, out: Path, seed: int) -> dict:
    "A model's weights after one epoch"
    from covidxr.classify import train_classifier
    from covidxr.detect import train_detector
    from covidxr.learning.models import read_model

    options = {"epochs": 1, "batch_size": 4, "seed": seed, "device": "cpu"}
    if kind == "classifier":
        train_classifier(pictures[0], CLASSES, out, size=32, pretrained=False, **options)
    else:
        train_detector(*pictures, out, model="yolov8n", size=64, **options)
    return read_model(out, kind)[1]


@pytest.fixture(scope="module")
def learned(pictures, tmp_path_factory) -> tuple[Path, dict[tuple, dict]]:
    "Four models that were trained one after another; their folder, and their weights"
    folder = tmp_path_factory.mktemp("learned")
    plans = [(kind, seed) for kind in ("classifier", "detector") for seed in (1, 2)]
    return folder, {(kind, seed): _learn(kind, pictures, folder / f"{kind}{seed}", seed) for kind, seed in plans}


def _same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(bool((value == other[name]).all()) for name, value in one.items())


def test_trainings_at_once_give_the_models_that_trainings_one_after_another_give(pictures, learned, tmp_path):
    _, before = learned
    assert not _same(before["classifier", 1], before["classifier", 2])  # a seed matters
    with ThreadPoolExecutor(4) as pool:
        jobs = {
            plan: pool.submit(_learn, plan[0], pictures, tmp_path / f"{plan[0]}{plan[1]}", plan[1]) for plan in before
        }
    assert [plan for plan, job in jobs.items() if not _same(before[plan], job.result())] == []


def test_eight_threads_predict_as_one_does_also_while_another_trains(pictures, learned, tmp_path):
    from covidxr.classify import predict_classifier
    from covidxr.detect import predict_detector

    folder, before = learned

    def answers(number: int) -> str:
        chances = predict_classifier(folder / "classifier1", pictures[0], flip_tta=True, device="cpu")
        boxes = predict_detector(folder / "detector1", pictures[0], confidence=1e-5, flip_tta=True, device="cpu")
        return chances.to_csv() + boxes.to_csv()

    first = answers(0)
    with ThreadPoolExecutor(9) as pool:
        training = pool.submit(_learn, "detector", pictures, tmp_path / "again", 1)
        said = list(pool.map(answers, range(8)))
    assert set(said) == {first} and first.count("\n") > 16
    assert _same(before["detector", 1], training.result())


ULTRALYTICS = """
import hashlib, json, os, pathlib, sys
import cv2, numpy, PIL.Image, torch, warnings

home = pathlib.Path(os.environ["YOLO_CONFIG_DIR"])
order, table, boxes, out = sys.argv[1:]
FACTS = ["USER_CONFIG_DIR", "SETTINGS_FILE", "DATASETS_DIR", "WEIGHTS_DIR", "RUNS_DIR"]
FACTS += ["ONLINE", "AUTOINSTALL", "VERBOSE"]


def theirs():
    "What belongs to a user of Ultralytics"
    from ultralytics import utils
    from ultralytics.nn.modules.conv import Conv
    from ultralytics.utils import callbacks, checks

    files = [path for path in sorted(home.rglob("*")) if path.is_file()]
    words = utils.LOGGER
    return {
        "settings": dict(utils.SETTINGS),
        "file": str(utils.SETTINGS.file),
        "kept": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "facts": {name: str(getattr(utils, name)) for name in FACTS},
        "elsewhere": [str(checks.ONLINE), str(checks.AUTOINSTALL), str(checks.USER_CONFIG_DIR)],
        "defaults": str(utils.DEFAULT_CFG_DICT),
        "activation": str(Conv.default_act),
        "callbacks": {name: len(calls) for name, calls in callbacks.default_callbacks.items()},
        "words": [words.level, words.disabled, len(words.handlers), len(words.filters)],
        "functions": [id(one) for one in (torch.save, torch.load, PIL.Image.open, cv2.imread, cv2.imwrite)],
        "printing": [str(numpy.get_printoptions()), str(torch._tensor_str.PRINT_OPTS)],
        "threads": [cv2.getNumThreads(), torch.get_num_threads()],
        "environment": dict(os.environ),
        "filters": [repr(one) for one in warnings.filters],
    }


def ours():
    "Build, train and predict"
    import pandas as pd

    from covidxr.detect import predict_detector, train_detector
    from covidxr.learning.yolo_detector import build_detector

    build_detector("yolo11n")
    if table:
        images = pd.read_csv(table)
        train_detector(images, pd.read_csv(boxes), out, model="yolov8n", size=64, epochs=1, device="cpu")
        predict_detector(out, images)


if order == "theirs first":
    import logging
    from ultralytics import utils
    from ultralytics.nn.modules.conv import Conv

    utils.SETTINGS.update({"runs_dir": "my/runs", "sync": False})
    for name, module in list(sys.modules.items()):  # as on a machine with a network
        if name.startswith("ultralytics") and hasattr(module, "ONLINE"):
            module.ONLINE = True
    Conv.default_act = torch.nn.Mish()
    utils.LOGGER.setLevel(logging.WARNING)
    utils.LOGGER.addHandler(logging.NullHandler())
    before = theirs()
    ours()
    print(json.dumps([before, theirs()]))
else:
    ours()
    before = list(home.rglob("*"))
    from ultralytics import utils
    print(json.dumps([list(map(str, before)), theirs()]))
    utils.SETTINGS.update({"runs_dir": "my/runs"})
    assert json.loads((home / "Ultralytics" / "settings.json").read_text())["runs_dir"] == "my/runs"
"""


def _with_ultralytics(order: str, home: Path, *words: str) -> list:
    "What a program that uses Ultralytics, too, finds before and after"
    own = {name: value for name, value in os.environ.items() if not name.startswith("YOLO")}
    own |= {"YOLO_CONFIG_DIR": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ULTRALYTICS, order, *map(str, words)]
    done = subprocess.run(command, cwd=home.parent, env=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_who_uses_ultralytics_too_finds_it_as_it_was(pictures, tmp_path):
    (tmp_path / "home").mkdir()
    files = [tmp_path / name for name in ("images.csv", "boxes.csv", "model")]
    for table, file in zip(pictures, files, strict=False):
        table.to_csv(file, index=False)
    before, after = _with_ultralytics("theirs first", tmp_path / "home", *files)
    assert before["settings"]["runs_dir"] == "my/runs" and before["facts"]["ONLINE"] == "True" and before["kept"]
    assert {name: after[name] for name in before} == before


def test_who_uses_ultralytics_afterwards_finds_the_own_settings(tmp_path):
    folder = tmp_path / "home" / "Ultralytics"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"runs_dir": "elsewhere", "api_key": "mine"}), encoding="utf-8")
    found, after = _with_ultralytics("ours first", tmp_path / "home", "", "", "")
    assert sorted(found) == sorted([str(folder), str(folder / "settings.json")])  # nothing was written
    assert after["settings"]["runs_dir"] == "elsewhere" and after["settings"]["api_key"] == "mine"
    facts = after["facts"]
    assert (facts["USER_CONFIG_DIR"], facts["SETTINGS_FILE"]) == (str(folder), str(folder / "settings.json"))
    assert after["file"] == facts["SETTINGS_FILE"] and facts["RUNS_DIR"] == "elsewhere"
    assert {facts["ONLINE"], facts["AUTOINSTALL"], facts["VERBOSE"]} == {"True"}
