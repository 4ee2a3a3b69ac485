"Shared data of the tests: one small simulated dataset, made once."

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from covidxr.core import QUICK, ModelPlan

ROOT = Path(__file__).parent.parent
os.environ["COVIDXR_PROGRESS"] = "off"  # a test solves nothing for the person who runs it
MODELS = (
    ModelPlan("classifier", "test_resnet", size=64, epochs=10, batch_size=16, learning_rate=1e-2),
    ModelPlan("classifier", "test_efficientnet", size=64, epochs=4, batch_size=16, learning_rate=1e-2),
    ModelPlan("detector", "yolo11n", size=64, epochs=2),
    ModelPlan("detector", "yolov8n", size=64, epochs=2),
)
TINY = replace(QUICK, name="tiny", studies=60, simulated_size=96, cache_size=64, draws=200, models=MODELS)


@pytest.fixture(scope="session")
def hashes():
    "A hash of every file of a folder: hashes(folder) gives path in the folder to SHA-256"

    def call(folder: Path) -> dict[str, str]:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return call


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    "A small simulated dataset in the competition's layout"
    from covidxr.phantom import simulate_dataset

    folder = tmp_path_factory.mktemp("phantom") / "data"
    simulate_dataset(folder, studies=40, seed=1, size=128)
    return folder


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
def finished(tmp_path_factory) -> Path:
    "A finished run of the tiny profile"
    from covidxr.pipeline import run

    folder = tmp_path_factory.mktemp("runs") / "run"
    run("phantom", folder, profile=TINY)
    return folder
