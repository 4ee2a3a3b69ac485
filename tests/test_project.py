"The project itself: notebooks, exported code, README, metadata and the site's sources."

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import pages
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


USED = """
import resource
from pathlib import Path
status = Path("/proc/self/status")  # ru_maxrss begins with the size of the process that started this one
peak = [int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.exists() else []
own = peak[0] if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""  # the largest size of the notebook's process, and of the largest one that it started


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    "Sums in another order round otherwise, and what is trained then differs: so sums are made in one order here"
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)


def _run(notebook: Path, folder: Path) -> tuple[list[dict], float, float]:
    "A notebook's cells with fresh outputs, seconds from its start to its end, megabytes"
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(notebook, 4)
    book.cells.append(nbformat.v4.new_code_cell(USED))
    start = time.monotonic()
    client = NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    seconds, used = time.monotonic() - start, book.cells.pop()
    unit = 1024**2 if sys.platform == "darwin" else 1024  # getrusage(2) counts bytes there, kilobytes elsewhere
    return json.loads(nbformat.writes(book))["cells"], seconds, float(used.outputs[0].text) / unit


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_and_says_what_it_says(notebook, tmp_path):
    fresh, seconds, megabytes = _run(notebook, tmp_path)
    assert not list(tmp_path.iterdir()), "a lesson writes only to temporary folders"
    assert seconds < 180 and megabytes < 4096, f"{seconds:.0f} s and {megabytes:.0f} MB"
    if "COVIDXR_TIMES" in os.environ:
        table = Path(os.environ["COVIDXR_TIMES"])
        known = json.loads(table.read_text()) if table.exists() else {}
        known[notebook.stem] = {"seconds": round(seconds, 1), "megabytes": round(megabytes)}
        table.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    if (sys.platform, platform.machine()) == (
        "linux",
        "x86_64",
    ):  # where the stored outputs were made; others round otherwise
        assert pages.stale(pages.cells(notebook), fresh) == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_figures_have_alt_text_and_outputs_hold_no_debris(notebook):
    assert pages.without_words(notebook) == []
    assert pages.debris(notebook) == []
    assert notebook.stat().st_size < 2_000_000


def test_stored_outputs_stay_small():
    assert sum(path.stat().st_size for path in (ROOT / "nbs").rglob("*") if path.is_file()) < 12_000_000


def test_what_scripts_write_is_what_they_would_write_now():
    import lessons

    old = [
        path.name
        for path, text in lessons.written().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert old == [], "run `python tests/lessons.py`"
    known = json.loads(lessons.TIMES.read_text())
    assert [path.stem for path in lessons.lessons() if path.stem not in known] == []
    assert sum(known[path.stem]["seconds"] for path in lessons.lessons()) < 20 * 60


def test_every_lesson_stands_in_the_sidebar():
    import yaml

    site = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    assert site["website"]["page-navigation"], "each lesson leads to the previous and to the next"
    named = [name for name in pages.listed(ROOT / "_quarto.yml") if not name.startswith("api/")]
    assert sorted(named) == sorted(
        path.name for pattern in ("*.ipynb", "*.qmd") for path in (ROOT / "nbs").glob(pattern)
    )
    assert {path.name for path in (ROOT / "nbs" / "api").iterdir()} == {
        name[4:] for name in pages.listed(ROOT / "_quarto.yml") if name.startswith("api/")
    }
    ordered = [name for name in named if name[0].isdigit()]
    assert ordered == sorted(ordered)
    assert (ROOT / "nbs" / "_quarto.yml").resolve() == (ROOT / "_quarto.yml").resolve()


@pytest.fixture(scope="module")
def processed(tmp_path_factory) -> Path:
    "The pages as nbdev hands them to Quarto"
    copy = _copy(tmp_path_factory.mktemp("site"))
    code = "import nbdev.quarto as q; q._ensure_quarto = lambda: None; q.nbdev_proc_nbs()"
    answer = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return copy / "_proc"


def _pages(folder: Path) -> list[Path]:
    "The pages of a site"
    return sorted(path for pattern in ("*.ipynb", "*.qmd") for path in folder.rglob(pattern))


def test_processed_pages_are_whole(processed):
    assert {path.name for path in _pages(processed)} >= {path.name for path in NOTEBOOKS}
    for page in _pages(processed):
        assert pages.dead_links(page, processed) == [], page.name
        assert pages.without_words(page) == [], page.name
        assert pages.debris(page) == [], page.name


def _broken(page: Path, change: Callable[[dict], None]) -> None:
    "Change a page as a slip of the hand would"
    book = json.loads(page.read_text(encoding="utf-8"))
    change(book)
    page.write_text(json.dumps(book), encoding="utf-8")


def _add(text: str) -> Callable[[dict], None]:
    "A slip in a lesson's prose"
    return lambda book: book["cells"].append({"cell_type": "markdown", "source": text, "metadata": {}})


@pytest.mark.parametrize(
    "text",
    [
        "[gone](99_nowhere.ipynb)",
        "[no such part](07_metrics.ipynb#nowhere)",
        "[nor here](#nowhere)",
        "![a picture](images/gone.png)",
        '<a href="99_nowhere.ipynb">gone</a>',
        "[not safe](http://example.org)",
    ],
)
def test_a_dead_link_is_found(text, tmp_path):
    copy = _copy(tmp_path) / "nbs"
    assert pages.dead_links(copy / "10_ensemble.ipynb", copy) == []
    _broken(copy / "10_ensemble.ipynb", _add(text))
    assert len(pages.dead_links(copy / "10_ensemble.ipynb", copy)) == 1


@pytest.mark.parametrize(
    "text", ["![](images/grid.png)", '<img src="images/grid.png">', '<img alt="" src="images/grid.png">']
)
def test_a_picture_without_words_is_found(text, tmp_path):
    page = shutil.copy(ROOT / "nbs" / "10_ensemble.ipynb", tmp_path)
    _broken(Path(page), _add(text))
    assert len(pages.without_words(Path(page))) == 1


def test_a_figure_without_words_is_found(tmp_path):
    page = Path(shutil.copy(ROOT / "nbs" / "10_ensemble.ipynb", tmp_path))

    def forget(book: dict) -> None:
        for cell in book["cells"]:
            cell["source"] = [line for line in cell["source"] if "fig-alt" not in line]

    _broken(page, forget)
    assert pages.without_words(page)


def _drawing(shift: int) -> list[dict]:
    "A notebook's cell with a picture of a curve"
    import base64
    import io

    from matplotlib.figure import Figure

    page = Figure(figsize=(6, 3), dpi=80)
    page.subplots().plot([0, 1, 2, 3], [1, 3, 2 + shift, 4])
    buffer = io.BytesIO()
    page.savefig(buffer, format="png")
    picture = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": "<Figure>"}
    return [{"cell_type": "code", "source": "draw()", "outputs": [{"output_type": "display_data", "data": picture}]}]


def test_a_stale_picture_is_found():
    assert pages.stale(_drawing(0), _drawing(0)) == []
    assert "another picture" in pages.stale(_drawing(0), _drawing(1))[0]


def test_a_stale_output_is_found(tmp_path):
    page = Path(shutil.copy(ROOT / "nbs" / "10d_ensemble_boxes.ipynb", tmp_path))
    fresh = _run(page, tmp_path)[0]
    assert pages.stale(pages.cells(page), fresh) == []
    slips = 0
    for number, cell in enumerate(pages.cells(page)):
        for output in cell.get("outputs", []):
            plain = output.get("data", {}).get("text/plain") or output.get("text")
            numbers = list(pages.NUMBER.finditer("".join(plain or "")))
            other = [dict(one) for one in pages.cells(page)]
            if numbers:  # one number differs
                text, last = "".join(plain), numbers[-1]
                text = f"{text[: last.start()]}{float(last[0]) + 1:g}{text[last.end() :]}"
                other[number]["outputs"] = [
                    {**output, "data": {**output["data"], "text/plain": text}}
                    if "data" in output
                    else {**output, "text": text}
                ]
                assert pages.stale(other, fresh), text[:200]
                slips += 1
            other[number]["outputs"] = []  # the output is gone
            assert pages.stale(other, fresh)
    assert slips


@pytest.mark.parametrize(
    "text",
    [
        "see /home/kim/x.dcm",
        "UserWarning: no",
        "Traceback (most recent call last)",
        "12%|█ | 3/25 [00:01<00:07, 3.1it/s]",
        "<object at 0x7f8df6596f50>",
        "train: 3 of 4, 2 s left",
    ],
)
def test_debris_is_found(text, tmp_path):
    page = Path(shutil.copy(ROOT / "nbs" / "10d_ensemble_boxes.ipynb", tmp_path))
    output = {"output_type": "stream", "name": "stdout", "text": [text]}
    _broken(
        page,
        lambda book: book["cells"].append({"cell_type": "code", "source": "", "metadata": {}, "outputs": [output]}),
    )
    assert len(pages.debris(page)) == 1


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


def test_the_version_is_the_same_wherever_it_is_cited():
    from covidxr import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"version = {{{__version__}}}" in (ROOT / "nbs" / "cite.qmd").read_text()


def _luminance(color: str) -> float:
    "Relative luminance of #rrggbb (WCAG 2.2)"
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_of_the_site_stand_out_from_their_ground(theme):
    text = (ROOT / "nbs" / f"{theme}.scss").read_text()
    colors = dict(re.findall(r"\$([\w-]+): (#[0-9a-f]{6});", text))
    for word, ground in (
        ("body-color", "body-bg"),
        ("link-color", "body-bg"),
        ("text-muted", "body-bg"),
        ("code-color", "code-bg"),
    ):
        high, low = sorted((_luminance(colors[word]), _luminance(colors[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{word} on {ground}"
    assert "$web-font-path: false;" in text, "or the theme fetches its font from another host"


@pytest.mark.parametrize("name", ["tests", "pages"])
def test_workflows_are_pinned_and_may_do_little(name):
    import yaml

    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
    flow = yaml.safe_load(text)
    assert flow["permissions"] == {"contents": "read"}
    for line in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40} # v[\d.]+", line), line
    for job in flow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert set(job.get("permissions", {})) <= {"pages", "id-token"}
    if name == "tests":
        config = ConfigParser(delimiters=["="])
        config.read(ROOT / "settings.ini")
        matrix = flow["jobs"]["tests"]["strategy"]["matrix"]
        assert matrix["python"][0] == config["DEFAULT"]["min_python"]
        assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos"}
        assert ".ci/run" in text
