"""Every command that writes leaves alone what it did not write, whatever lies where it is pointed at."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
from fakes import fake_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covidxr.base.errors import CovidxrError
from covidxr.cli import main
from covidxr.hospital import simulate_dataset

FILES = {  # names by which our commands know files; a stranger may use any of them
    "data": [
        "train_study_level.csv",
        "headers.csv",
        "sample_submission.csv",
        "simulated.json",
        "truth/test_study_level.csv",
    ],
    "plain": ["images.csv", "boxes.csv", "a.png", "train/s/e/i.dcm"],
    "cache": ["images.parquet", "failed.csv", "cache/a.png", ".unfinished/a.json", ".unfinished/a.begun"],
    "run": ["config.json", "metrics.json", "steps.json", "choices.json", "scores.json", "draws.csv", "report.html"],
    "parts": [
        "submission.csv",
        "figures/grid.png",
        "predictions/ensemble.parquet",
        "submissions/ensemble.csv",
        "models/m/model.safetensors",
    ],
    "model": ["model.safetensors", "history.csv", ".work/yolo/args.yaml"],
    "eda": [
        "summary.json",
        "summary.txt",
        "studies.csv",
        "eda.png",
        "eda-images.csv",
        "eda-summary.json",
        "eda/eda.png",
    ],
    "course": ["lessons/02_dicom.ipynb", "solved/02_dicom.ipynb", "lessons/images/grid.png"],
    "ours": [
        ".covidxr.json",
        ".covidxr.lock",
        ".lock",
        ".covidxr-0123abcd-1-0123abcd.partial/file.csv",
        ".x.4711.partial/x",
    ],
    "theirs": ["thesis.txt", "notes/2021.md", ".state.partial/precious.txt"],
}
NAMES = sorted(name for names in FILES.values() for name in names)
COMMANDS = {  # {} is the folder that is pointed at
    "run": ("run", "--data", "{data}", "--out", "{}"),
    "run on itself": ("run", "--data", "{}", "--out", "{}"),
    "run phantom": ("run", "--out", "{}"),
    "data phantom": ("data", "phantom", "--studies", "4", "--size", "64", "--out", "{}"),
    "data siim": ("data", "siim", "--out", "{}"),
    "prepare": ("prepare", "{data}", "{}", "--size", "32", "--workers", "1"),
    "prepare in place": ("prepare", "{}", "{}", "--size", "32", "--workers", "1"),
    "prepare from there": ("prepare", "{}", "{new}", "--size", "32", "--workers", "1"),
    "eda": ("eda", "{data}", "--out", "{}"),
    "eda in place": ("eda", "{}", "--out", "{}"),
    "eda of it": ("eda", "{}"),
    "course": ("course", "{}"),
    "score": ("score", "{}", "{data}/sample_submission.csv"),
    "predict": ("predict", "{run}", "{data}/test", "--out", "{}/submission.csv"),
    "ensemble": ("ensemble", "{one}", "{two}", "--out", "{}/submission.csv"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Iterator[dict[str, Path]]:
    "A dataset, a finished run and two submissions, with fakes in the place of networks"
    from covidxr.pipeline import run

    folder = tmp_path_factory.mktemp("places")
    with fake_models():
        simulate_dataset(folder / "data", studies=24, seed=1, size=64, workers=1)
        run(folder / "data", folder / "run")
        pairs = [path for path in sorted((folder / "run" / "submissions").glob("*.csv")) if " " in path.stem]
        yield {"data": folder / "data", "run": folder / "run", "one": pairs[0], "two": pairs[1], "folder": folder}


def _bytes(folder: Path) -> dict[str, bytes | None]:
    "Every file of a folder with its bytes, and every folder in it"
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    return {name: path.read_bytes() if path.is_file() else None for name, path in found.items()}


def _downloaded(handle: str, **options: object) -> str:
    raise TimeoutError


def _ask(words: tuple[str, ...], folder: Path, places: dict[str, Path]) -> int:
    new = folder.parent / "new"
    shutil.rmtree(new, ignore_errors=True)
    kaggle = mock.patch("kagglehub.competition_download", _downloaded)
    with kaggle:
        return main([word.format(folder, new=new, **places) for word in words])


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    command=st.sampled_from(sorted(COMMANDS)),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True),
    content=st.sampled_from([b"", b"mine", b"{}", b"[]", b"id,PredictionString\nmine_study,\n", bytes(range(256))]),
)
def test_commands_leave_a_strangers_files_as_they_are(command, names, content, places):
    pytest.importorskip("kagglehub", reason="kagglehub is an extra: pip install 'covidxr[siim]'")
    folder = places["folder"] / "theirs"
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    before, data = _bytes(folder), _bytes(places["data"])
    _ask(COMMANDS[command], folder, places)
    after = _bytes(folder)
    assert {name: after.get(name, "gone") for name in before} == before
    assert _bytes(places["data"]) == data


@pytest.mark.parametrize("command", ["run", "data phantom", "prepare", "eda", "course"])
def test_commands_refuse_a_strangers_folder_before_a_byte_is_written(command, places, capsys):
    folder = places["folder"] / "refused"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    assert _ask(COMMANDS[command], folder, places) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("covidxr: ") and "thesis.txt" in said[-1] and "empty folder" in said[-1]
    assert _bytes(folder) == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("command", ["run", "data phantom", "prepare", "eda", "course", "predict", "ensemble"])
def test_commands_take_up_again_what_they_wrote_and_a_stranger_among_it_stays(command, places):
    folder = places["folder"] / "again"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    assert _ask(COMMANDS[command], folder, places) == 0
    (folder / "notes.txt").write_text("mine")
    assert _ask(COMMANDS[command], folder, places) == 0
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("first", ["run", "data phantom", "prepare", "eda", "course"])
@pytest.mark.parametrize("second", ["run", "data phantom", "prepare", "eda", "course"])
def test_commands_refuse_a_folder_of_another_kind(first, second, places):
    if first == second:
        pytest.skip("the same kind")
    folder = places["folder"] / "kinds" / first.replace(" ", "-")
    if not folder.exists():
        assert _ask(COMMANDS[first], folder, places) == 0
    before = _bytes(folder)
    assert _ask(COMMANDS[second], folder, places) == 2
    assert _bytes(folder) == before


def test_a_submission_that_was_changed_by_hand_is_not_written_over(places):
    from covidxr.submission import fuse_submission_files

    out = places["folder"] / "fused.csv"
    fuse_submission_files([places["one"], places["two"]], out)
    fuse_submission_files([places["one"], places["two"]], out)
    out.write_text(out.read_text() + "\n")
    changed = out.read_bytes()
    with pytest.raises(CovidxrError, match="did not write it as it is"):
        fuse_submission_files([places["one"], places["two"]], out)
    assert out.read_bytes() == changed


def _mended(data: Path) -> None:
    "Give the first study another one's class"
    table = pd.read_csv(data / "train_study_level.csv", dtype=str)
    other = next(row for row in table.index if list(table.loc[row][1:]) != list(table.loc[0][1:]))
    table.iloc[0, 1:] = table.iloc[other, 1:].to_numpy()
    table.to_csv(data / "train_study_level.csv", index=False)


def _strangers(run: Path) -> dict[Path, bytes]:
    "Put somebody's files into every folder that a run has, under every ending that it uses, and a folder of theirs"
    folders = [run, *(path for path in sorted(run.rglob("*")) if path.is_dir())]
    endings = sorted({path.suffix for path in run.rglob("*") if path.is_file() and path.name[0] != "."} | {".onnx"})
    found = {}
    for folder in folders:
        for ending in endings:
            for name in ("mine", "my own", "my + own", "mine-1", "always mine"):
                found[folder / f"{name}{ending}"] = f"{name} in {folder.name}".encode()
    found[run / "models" / "mine" / "config.json"] = b'{"model": "mine"}'
    for path, content in found.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return found


def test_a_run_that_goes_on_leaves_a_strangers_files_in_its_folders_and_tells_nothing_of_them(places, tmp_path):
    from covidxr.pipeline import run

    shutil.copytree(places["data"], tmp_path / "data")
    with fake_models():
        run(tmp_path / "data", tmp_path / "run")
        found = _strangers(tmp_path / "run")
        assert len({path.parent for path in found}) > 6 and len({path.suffix for path in found}) > 6
        fused = tmp_path / "run" / "submissions" / "fused.csv"
        assert main(["ensemble", str(places["one"]), str(places["two"]), "--out", str(fused)]) == 0
        found[fused] = fused.read_bytes()
        _mended(tmp_path / "data")
        metrics = run(tmp_path / "data", tmp_path / "run")
        alone = run(tmp_path / "data", tmp_path / "alone")
    assert {path: path.read_bytes() if path.exists() else "gone" for path in found} == found
    assert metrics["scores"] == alone["scores"] and metrics["failed"] == alone["failed"]
    assert ">mine<" not in (tmp_path / "run" / "report.html").read_text()


def test_only_models_that_covidxr_saved_are_written_as_onnx_files(places, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'covidxr[train]'")
    from covidxr.learning import onnx_export

    models = Path(shutil.copytree(places["run"] / "models", tmp_path / "models"))
    named = sorted(f"{path.name}.onnx" for path in models.iterdir() if path.is_dir())
    (models / "mine").mkdir()
    (models / "mine" / "config.json").write_text('{"kind": "classifier"}')
    (models / "theirs").mkdir()
    (models / "theirs" / "config.json").write_text('{"model_type": "bert"}')
    (models / "theirs" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(onnx_export, "export_onnx", lambda folder, out: {"file": str(out)})
    assert sorted(onnx_export.export_models(models, tmp_path / "onnx")) == named


def test_a_space_that_was_edited_is_kept_whole(tmp_path, capsys):
    for _ in range(2):
        assert main(["app", "--export", str(tmp_path / "space")]) == 0
    for name in ("README.md", "app.py"):
        shutil.rmtree(tmp_path / "space")
        assert main(["app", "--export", str(tmp_path / "space")]) == 0
        (tmp_path / "space" / name).write_text("my words")
        before = _bytes(tmp_path / "space")
        assert main(["app", "--export", str(tmp_path / "space")]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"{name}: is there already" in said and "move it away" in said
        assert {name: content for name, content in _bytes(tmp_path / "space").items() if name in before} == before


def test_a_link_in_a_results_place_is_refused_and_what_it_leads_to_stays(places, tmp_path, capsys):
    kept = tmp_path / "kept"
    for ending in (".csv", ".zip"):
        for content in (b"mine", None):
            kept.unlink(missing_ok=True)
            if content:
                kept.write_bytes(content)
            link = tmp_path / f"link{ending}"
            link.unlink(missing_ok=True)
            link.symlink_to(kept)
            words = ("pack", "{run}") if ending == ".zip" else ("ensemble", "{one}", "{two}")
            assert _ask((*words, "--out", str(link)), tmp_path / "none", places) == 2
            assert "is there already" in capsys.readouterr().err
            assert link.is_symlink() and (kept.read_bytes() if kept.exists() else None) == content


def test_a_linked_progress_file_stays_a_link(tmp_path, monkeypatch):
    from covidxr.course.progress import remember, solved

    kept, link = tmp_path / "dotfiles" / "progress.json", tmp_path / "progress.json"
    link.symlink_to(kept)
    monkeypatch.setenv("COVIDXR_PROGRESS", str(link))
    for key in ("metrics.1", "metrics.2"):
        assert remember(key) == ""
    assert link.is_symlink() and kept.is_file() and solved() == ["metrics.1", "metrics.2"]
