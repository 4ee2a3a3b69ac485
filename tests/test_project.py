"The project itself: notebooks, exported code, README, metadata and the site's sources."

import json
import re
import shutil
import subprocess
import sys
import tarfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from conftest import ROOT
from readme import readme_text

NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
BIN = Path(sys.executable).parent


def _copy(tmp_path: Path) -> Path:
    "A copy of the project in which a tool may write"
    ignore = shutil.ignore_patterns(
        ".git", ".venv", "runs", "*.egg-info", "__pycache__", "_proc", "_docs", ".pytest_cache", ".hypothesis"
    )
    return Path(shutil.copytree(ROOT, tmp_path / "copy", ignore=ignore, symlinks=True))


def _files(folder: Path) -> dict[str, bytes]:
    "What the library and the notebooks hold"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("covidxr/*.py", "nbs/*.ipynb")
        for path in sorted(folder.glob(part))
    }


@pytest.mark.parametrize("tool", ["nbdev-export", "nbdev-clean"])
def test_exported_code_and_notebooks_are_as_the_tool_leaves_them(tool, tmp_path):
    copy = _copy(tmp_path)
    before = _files(copy)
    subprocess.run([str(BIN / tool)], cwd=copy, check=True, capture_output=True)
    after = _files(copy)
    assert [name for name in before if before[name] != after.get(name)] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    client = NotebookClient(
        nbformat.read(notebook, 4), timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert not list(tmp_path.iterdir()), "a lesson writes only to temporary folders"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_figures_have_alt_text_and_outputs_hold_no_debris(notebook):
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        shown = json.dumps(cell["outputs"])
        if "image/png" in shown:
            assert "#| fig-alt:" in source, source[:80]
        text = json.dumps(
            [
                {name: value for name, value in output.get("data", output).items() if name != "image/png"}
                for output in cell["outputs"]
            ]
        )
        assert not re.search(r"/(root|home|work|tmp)/|Traceback|Warning|it/s\]", text), text[:300]
        assert not any(
            output["output_type"] == "error" or output.get("name") == "stderr" for output in cell["outputs"]
        ), source[:80]
    assert notebook.stat().st_size < 2_000_000


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_between_lessons_lead_somewhere(notebook):
    text = "".join(
        "".join(cell["source"])
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    )
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        if not target.startswith("http"):
            assert (notebook.parent / target).exists(), target


def test_every_lesson_stands_in_the_sidebar():
    import yaml

    site = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    listed = [name for section in site["website"]["sidebar"]["contents"] for name in section["contents"]]
    assert sorted(listed) == [path.name for path in NOTEBOOKS]
    assert (ROOT / "nbs" / "_quarto.yml").resolve() == (ROOT / "_quarto.yml").resolve()


def test_pages_are_processed_without_a_complaint(tmp_path):
    copy = _copy(tmp_path)
    code = "import nbdev.quarto as q; q._ensure_quarto = lambda: None; q.nbdev_proc_nbs()"
    answer = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert {path.name for path in (copy / "_proc").glob("*.ipynb")} >= {path.name for path in NOTEBOOKS}


def test_readme_is_made_from_the_index_and_short_enough():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == readme_text()
    assert len(text.splitlines()) < 150
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_command_line_is_told_as_it_is(covidxr):
    readme, told = (ROOT / "README.md").read_text(), covidxr("--help").stdout
    commands = set(re.findall(r"^    ([a-z]+) +\S", told, re.M))
    named = set(re.findall(r"`(?:\.venv/bin/)?covidxr ([a-z]+)", readme))
    assert named == commands, f"README tells of {sorted(named)}, the command line has {sorted(commands)}"
    for name in commands:
        options = set(re.findall(r"--[a-z-]+", covidxr(name, "--help").stdout))
        rows = [line for line in readme.splitlines() if line.startswith(f"| `covidxr {name}")]
        assert rows and set(re.findall(r"--[a-z-]+", " ".join(rows))) <= options | {"--out", "--size"}


def test_ci_runs_readmes_test_command_to_the_letter(tmp_path):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    readme = (ROOT / "README.md").read_text()
    command = readme.split("<!-- test command -->")[1].split("```bash\n")[1].split("```")[0].strip()
    assert command.endswith(".venv/bin/pytest")
    (tmp_path / "README.md").write_text(readme.replace(command, "echo carried out > done"))
    subprocess.run(["bash", ".ci/run"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "done").read_text() == "carried out\n"


def test_the_source_archive_holds_what_setup_reads(tmp_path):
    copy = _copy(tmp_path)
    code = "import setuptools.build_meta as b; print(b.build_sdist('dist'))"
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    names = {name.split("/", 1)[1] for name in tarfile.open(copy / "dist" / made).getnames() if "/" in name}
    assert {
        "settings.ini",
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "NOTICE",
        "covidxr/phantom.py",
    } <= names


def test_one_version_and_no_host_of_a_registry():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini")
    from covidxr import __version__

    assert __version__ == config["DEFAULT"]["version"]
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert not re.search(r"https?://", config["DEFAULT"]["requirements"])
