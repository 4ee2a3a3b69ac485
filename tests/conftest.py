"Shared data of the tests, made once for all processes that test; how tests are spread over them; how long things may take."

import atexit
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # a process for each core tests already; set before anything loads NumPy
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil
import pytest
import spread
from filelock import FileLock
from spread import pytest_xdist_make_scheduler  # noqa: F401  (a hook of this file)

from covidxr.base.process import cores
from covidxr.runs.profiles import QUICK, ModelPlan

ROOT = Path(__file__).parent.parent
ENVIRONMENT = dict(os.environ)  # before any library has set variables of its own in the process that tests
os.environ["COVIDXR_PROGRESS"] = "off"  # a test solves nothing for the person who runs it
MODELS = (
    ModelPlan("classifier", "test_resnet", size=64, epochs=10, batch_size=16, learning_rate=1e-2),
    ModelPlan("classifier", "test_efficientnet", size=64, epochs=4, batch_size=16, learning_rate=1e-2),
    ModelPlan("detector", "yolo11n", size=64, epochs=2),
    ModelPlan("detector", "yolov8n", size=64, epochs=2),
)
TINY = replace(QUICK, name="tiny", studies=60, simulated_size=96, cache_size=64, draws=200, models=MODELS)
TEST_TIMES = Path(__file__).with_name("test_times.json")  # seconds of each test that takes one or more
SLOW = 4.0  # seconds from which a test is left out by -m "not slow"
# Fixtures that take longer to make
COSTLY = {"finished", "learnable", "many", "processed", "built", "called", "learned", "course"}


def pytest_xdist_auto_num_workers() -> int:
    "A process for each core that we may use, as far as memory goes: the largest lesson takes 3 GB"
    return max(1, min(cores(), psutil.virtual_memory().available // (3 * 1024**3)))


def _without_folder(nodeid: str) -> str:
    "A test's name in tests/test_times.json: its file and itself, wherever the file lies"
    file, _, rest = nodeid.partition("::")
    return f"{Path(file).name}::{rest}"


@pytest.hookimpl(tryfirst=True)  # before -m reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    "Mark what is slow; tests of one file run in one process, and what takes longest begins first, lest it be left alone"
    known = json.loads(TEST_TIMES.read_text(encoding="utf-8"))
    weights: dict[str, float] = {}
    for item in items:
        seconds = known.get(_without_folder(item.nodeid), 0.2)
        if seconds > SLOW or COSTLY & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        weights[spread.group(item.nodeid)] = weights.get(spread.group(item.nodeid), 0.0) + seconds
    items.sort(key=lambda item: -weights[spread.group(item.nodeid)])


class _Times:
    "Notes what each test takes: `COVIDXR_TEST_TIMES=1 pytest -n auto`, the whole, writes tests/test_times.json anew"

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = _without_folder(report.nodeid)
        if report.when == "call":
            self.seconds[name] = round(report.duration, 1)

    def pytest_sessionfinish(self) -> None:
        kept = {name: seconds for name, seconds in sorted(self.seconds.items()) if seconds >= 1}
        TEST_TIMES.write_text(json.dumps(kept, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    "Before the testing processes begin: keep byte code, and note the times where that is asked for"
    if os.environ.get("PYTHONDONTWRITEBYTECODE") and "PYTEST_XDIST_WORKER" not in os.environ:
        # Tests start hundreds of processes, each of which would compile all that it imports
        del os.environ["PYTHONDONTWRITEBYTECODE"]
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = tempfile.mkdtemp(prefix="covidxr-byte-code-")
        sys.dont_write_bytecode = False
        atexit.register(shutil.rmtree, sys.pycache_prefix, ignore_errors=True)
    spread.watch(config)
    if "COVIDXR_TEST_TIMES" in os.environ and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(_Times())


def copy_project(folder: Path) -> Path:
    "A copy of the project in which a tool may write, without what Git does not keep"
    anywhere = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.egg-info")

    def left_out(place: str, names: list[str]) -> set[str]:
        top = {
            ".git",
            ".venv",
            "runs",
            "build",
            "dist",
            "_proc",
            "_docs",
            ".pytest_cache",
            ".hypothesis",
            ".ruff_cache",
        }
        if Path(place) == ROOT / "nbs":
            return anywhere(place, names) | {"api", "ko"}  # made before the site is built
        return anywhere(place, names) | (top if Path(place) == ROOT else set())  # covidxr/runs is no folder of runs

    return Path(shutil.copytree(ROOT, folder / "copy", ignore=left_out, symlinks=True))


@pytest.fixture(autouse=True)
def same_draws() -> None:
    "Random weights and numbers are those of this test, whichever tests ran before it in the same process"
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def hashes() -> Callable[[Path], dict[str, str]]:
    "A hash of every file of a folder: hashes(folder) gives path in the folder to SHA-256"
    return _hashes


def _hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _content(folder: Path) -> dict[str, str]:
    "As `_hashes`, without locks and unfinished files, which come and go"
    return {name: sha for name, sha in _hashes(folder).items() if ".covidxr" not in name}


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "The folder of this run of pytest, the same for all testing processes"
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _course_place(tmp_path_factory) -> None:
    "The lessons' X-rays and models of this run of pytest, in place of the user's own; nothing is made yet"
    os.environ.setdefault("COVIDXR_COURSE", str(_shared(tmp_path_factory) / "course"))


@pytest.fixture(scope="session")
def course() -> Iterator[Path]:
    "The course's X-rays, in full: the first testing process that asks makes them for all, the others wait for it"
    from covidxr.course.folder import course_folder, course_images

    course_images()
    for _ in _untouched(course_folder() / "images"):
        yield course_folder()


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    "A folder that all testing processes share: once(name, make) gives it; the first that asks calls make(folder)"

    def call(name: str, make: Callable[[Path], None]) -> Path:
        shared = _shared(tmp_path_factory)
        note = shared / f"{name}.ready"
        with FileLock(shared / f"{name}.lock"):
            if not note.exists():
                folder = tmp_path_factory.mktemp(name) / name  # a new one each time: the last attempt may have failed
                make(folder)
                note.write_text(str(folder))
        return Path(note.read_text())

    return call


def _untouched(folder: Path) -> Iterator[Path]:
    "A shared folder, and at the end a look whether a test changed it under the others' hands"
    before = _content(folder)
    yield folder
    after = _content(folder)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    assert changed == [], f"a test changed what all tests share: {changed}"


@pytest.fixture(scope="session")
def phantom(once) -> Iterator[Path]:
    "A small simulated dataset in the competition's layout; not to be changed"
    from covidxr.dataset import open_dataset
    from covidxr.hospital import simulate_dataset

    def make(folder: Path) -> None:
        simulate_dataset(folder, studies=40, seed=1, size=128)
        open_dataset(folder)  # writes headers.csv, as the first command that opens a dataset does

    yield from _untouched(once("phantom", make))


@pytest.fixture(scope="session")
def real() -> Path:
    "Real X-rays and label tables, where a checkout has them beside it"
    folder = Path(os.environ.get("COVIDXR_REAL", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip("no real data here; set COVIDXR_REAL to its folder")
    return folder


@pytest.fixture(scope="session")
def covidxr():
    "Run the command line as a process: covidxr('score', …) gives returncode, stdout, stderr"

    def call(*words, timeout: float = 600, **options) -> subprocess.CompletedProcess:
        command = [str(Path(sys.executable).with_name("covidxr")), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)

    return call


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> tuple:
    "Eight small pictures of two classes, and a box in each: a table of images and one of boxes; not to be changed"
    import numpy as np
    import pandas as pd

    from covidxr.base.extras import opencv
    from covidxr.base.terms import BOX_COLUMNS

    folder, rows, boxes = tmp_path_factory.mktemp("pictures"), [], []
    for number in range(8):
        file = folder / f"i{number}.png"
        opencv().imwrite(str(file), np.random.default_rng(number).integers(0, 255, (64, 64)).astype(np.uint8))
        rows.append((file.stem, str(file), ["negative", "typical"][number % 2], number >= 6))
        boxes.append((file.stem, 10, 10, 40, 40))
    images = pd.DataFrame(rows, columns=["image_id", "file", "label", "valid"])
    return images, pd.DataFrame(boxes, columns=["image_id", *BOX_COLUMNS])


@pytest.fixture(scope="session")
def called(once) -> dict[str, dict]:
    "What each call of calls.py changed in its process, and which files it opened in a folder full of payloads"

    def make(folder: Path) -> None:
        from payloads import lay

        (folder / "here").mkdir(parents=True)
        lay(folder / "here", folder / "RUN")
        command = [sys.executable, str(ROOT / "tests" / "calls.py"), str(folder), str(folder / "answer.json")]
        own = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder / "here", env=own, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        assert not (folder / "RUN").exists(), "a payload was run"

    return json.loads((once("called", make) / "answer.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def finished(once) -> Iterator[Path]:
    "A finished run of the tiny profile; not to be changed"
    from covidxr.pipeline import run

    yield from _untouched(once("run", lambda folder: run("phantom", folder, profile=TINY)))


@pytest.fixture(scope="session")
def browser():
    "Headless Chromium: the machine's own, or Playwright's"
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(
        (path for name in ("chromium", "google-chrome", "chromium-browser") if (path := shutil.which(name))), None
    )
    with playwright.sync_playwright() as engine:
        try:
            window = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield window
        window.close()


@pytest.fixture(scope="module")
def cluster():
    "The address of a cluster of two workers"
    distributed = pytest.importorskip("distributed", reason="the extra 'scale' is not installed")
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with distributed.LocalCluster(**how) as made:
        yield made.scheduler_address
