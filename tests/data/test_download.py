"Downloading the competition's data: it resumes, and nothing of the user's is moved, deleted or changed."

import os
import sys
import types
from pathlib import Path

import pytest

from covidxr.base.errors import CovidxrError, DataError
from covidxr.data.download import COMPETITION, download_competition

FILES = ("sample_submission.csv", "train_image_level.csv", "train_study_level.csv", "train/s/e/i.dcm")


class _Kaggle:
    "Stands in for kagglehub: does what `plan` says, one step a call"

    class UnauthenticatedError(Exception):
        pass

    def __init__(self, monkeypatch) -> None:
        self.plan, self.caches = [], []
        hub, errors = types.ModuleType("kagglehub"), types.ModuleType("kagglehub.exceptions")
        hub.competition_download, errors.UnauthenticatedError = self.download, self.UnauthenticatedError
        monkeypatch.setitem(sys.modules, "kagglehub", hub)
        monkeypatch.setitem(sys.modules, "kagglehub.exceptions", errors)

    def download(self, name: str) -> str:
        cache = Path(os.environ["KAGGLEHUB_CACHE"])
        self.caches.append(cache)
        step = self.plan.pop(0)
        if isinstance(step, Path):
            return str(step)
        if isinstance(step, BaseException):
            raise step
        place = cache / "competitions" / name
        if step == "half":
            place.mkdir(parents=True)
            (cache / "competitions" / f"{name}.archive").write_bytes(b"half")
            raise TimeoutError()
        assert name == COMPETITION
        for file in FILES:
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_text(file)
        return str(place)


@pytest.fixture
def kaggle(monkeypatch) -> _Kaggle:
    "A kagglehub without a network"
    return _Kaggle(monkeypatch)


def _content(folder: Path) -> list[str]:
    "The files of a folder that are not hidden"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")


@pytest.mark.parametrize("before", [None, "/mine"])
def test_download_brings_the_data_and_puts_its_environment_back(kaggle, tmp_path, monkeypatch, before):
    monkeypatch.delenv("KAGGLEHUB_CACHE", raising=False)
    if before:
        monkeypatch.setenv("KAGGLEHUB_CACHE", before)
    kaggle.plan = ["whole"]
    assert download_competition(str(tmp_path / "siim")) == tmp_path / "siim"
    assert _content(tmp_path / "siim") == sorted(FILES) and not (tmp_path / "siim" / ".download").exists()
    assert os.environ.get("KAGGLEHUB_CACHE") == before
    assert download_competition(tmp_path / "siim") == tmp_path / "siim" and len(kaggle.caches) == 1  # nothing to do


def test_download_that_was_interrupted_goes_on_where_it_stopped(kaggle, tmp_path):
    kaggle.plan = ["half", "whole"]
    with pytest.raises(CovidxrError, match=r"the download stopped \(TimeoutError\); .* it resumes"):
        download_competition(tmp_path / "siim")
    assert "KAGGLEHUB_CACHE" not in os.environ
    assert list((tmp_path / "siim").rglob("*.archive"))
    download_competition(tmp_path / "siim")
    assert kaggle.caches[0] == kaggle.caches[1] and _content(tmp_path / "siim") == sorted(FILES)


def test_download_that_was_stopped_while_moving_is_finished(kaggle, tmp_path, monkeypatch):
    kaggle.plan = ["whole"]
    real, moved = os.replace, []

    def stopped(source, target):
        if "download" in str(source) and len(moved) == 2:
            raise KeyboardInterrupt
        if "download" in str(source):
            moved.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        download_competition(tmp_path / "siim")
    monkeypatch.setattr(os, "replace", real)
    kaggle.plan = [tmp_path / "siim" / ".download" / "competitions" / COMPETITION]  # kagglehub knows that it has all
    download_competition(tmp_path / "siim")
    assert _content(tmp_path / "siim") == sorted(FILES)


def test_download_without_credentials_leaves_nothing(kaggle, tmp_path):
    kaggle.plan = [kaggle.UnauthenticatedError("who?")]
    with pytest.raises(CovidxrError, match="no Kaggle credentials"):
        download_competition(tmp_path / "siim")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["train_study_level.csv", "notes.txt", ".download", "train"])
def test_download_refuses_a_folder_with_anything_of_the_users(kaggle, tmp_path, hashes, name):
    (tmp_path / "siim").mkdir()
    (tmp_path / "siim" / name).write_text("mine")
    (tmp_path / ".siim.download").mkdir()
    (tmp_path / ".siim.download" / "mine").write_text("mine")
    before = hashes(tmp_path)
    with pytest.raises(DataError, match="which covidxr did not write"):
        download_competition(tmp_path / "siim")
    assert hashes(tmp_path) == before and not kaggle.caches


def test_download_moves_over_nothing_that_came_meanwhile(kaggle, tmp_path):
    kaggle.plan = ["half", "whole"]
    with pytest.raises(CovidxrError, match="stopped"):
        download_competition(tmp_path / "siim")
    (tmp_path / "siim" / "train").mkdir()
    (tmp_path / "siim" / "train" / "mine").write_text("mine")
    with pytest.raises(DataError, match="train: is in the way of a downloaded file"):
        download_competition(tmp_path / "siim")
    assert (tmp_path / "siim" / "train" / "mine").read_text() == "mine"


def test_download_moves_nothing_that_lies_elsewhere(kaggle, tmp_path):
    (tmp_path / "input").mkdir()  # as on Kaggle's own machines
    (tmp_path / "input" / "train_study_level.csv").write_text("theirs")
    kaggle.plan = [tmp_path / "input"]
    with pytest.raises(CovidxrError, match="lies in .*input already; open that folder"):
        download_competition(tmp_path / "siim")
    assert _content(tmp_path) == ["input/train_study_level.csv"]


def test_download_into_a_simulated_dataset_is_refused(kaggle, phantom, hashes):
    before = hashes(phantom)
    with pytest.raises(DataError):
        download_competition(phantom)
    assert hashes(phantom) == before
