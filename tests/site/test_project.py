"The project itself: notebooks, exported code, README, metadata and the site's sources."

import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import catalogues
import kernels
import lessons
import pages
import psutil
import pytest
from conftest import ENVIRONMENT, ROOT, copy_project
from filelock import FileLock
from measure import steps_beside, trains_in_time
from readme import readme_text

from covidxr.base.process import _SET_BY_LIBRARIES

MADE = {".ipynb_checkpoints", "api", "ko"}  # folders in nbs/ that Git does not keep
NOTEBOOKS = sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if not MADE & set(path.relative_to(ROOT).parts))
BIN = Path(sys.executable).parent


def _name(notebook: Path) -> str:
    "A notebook's name among all, such as 08_metrics or engine/files"
    return notebook.relative_to(ROOT / "nbs").with_suffix("").as_posix()


def _files(folder: Path) -> dict[str, bytes]:
    "What the library's folder and the notebooks' hold, what Python and Jupyter leave there put aside"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("covidxr", "nbs")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
    }


@pytest.mark.parametrize("tool", ["nbdev-export", "nbdev-clean"])
def test_exported_code_and_notebooks_are_as_the_tool_leaves_them(tool, tmp_path):
    copy = copy_project(tmp_path)
    before = _files(copy)
    assert {"covidxr/base/files.py", "nbs/engine/files.ipynb"} <= set(before)
    subprocess.run([str(BIN / tool)], cwd=copy, check=True, capture_output=True)
    after = _files(copy)
    assert sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)) == []


def test_each_module_is_exported_from_one_notebook_and_nothing_else_lies_there():
    exported = []
    for notebook in NOTEBOOKS:
        exported += re.findall(r"#\| default_exp ([\w.]+)", notebook.read_text(encoding="utf-8"))
    modules = [path.relative_to(ROOT / "covidxr") for path in (ROOT / "covidxr").rglob("*.py")]
    names = [path.with_suffix("").as_posix().replace("/", ".") for path in modules if path.stem != "__init__"]
    assert sorted(exported) == sorted(set(names) - {"_modidx"})
    for folder in {path.parent for path in modules}:
        assert (ROOT / "covidxr" / folder / "__init__.py").exists(), f"{folder} is no package"
    engine = [path.name for path in (ROOT / "nbs" / "engine").iterdir() if path.name != ".ipynb_checkpoints"]
    assert [name for name in engine if not name.endswith(".ipynb")] == []


def _family(pid: int) -> list[int]:
    "A process and all that it started; where the system does not list a process's children, all processes are looked through"
    if not Path(f"/proc/{pid}/task/{pid}/children").exists():
        return [pid, *(one.pid for one in psutil.Process(pid).children(recursive=True))]
    found = [pid]
    for one in found:  # it grows meanwhile
        with suppress(OSError):  # it has ended
            for task in os.listdir(f"/proc/{one}/task"):
                found += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
    return found


def _peak(pid: int) -> float:
    "The largest size that a process had, in bytes; where the system does not tell, its size now"
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return psutil.Process(pid).memory_info().rss
    return next((int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line), 0)


@contextmanager
def _watched(pid: int) -> Iterator[dict[int, float]]:
    """Look at a process and those that it starts, ten times a second: process to its largest size, in bytes.

    What getrusage(2) tells of a child begins with the size of the process that started it, and counts that twice. A
    new look replaces the last: a process that has just been forked still bears its parent's size.
    """
    sizes: dict[int, float] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            try:
                whole = _family(pid)
            except psutil.Error:
                continue
            for one in whole:
                try:
                    size = _peak(one)
                except (psutil.Error, OSError):  # it has ended
                    continue
                if size:  # one that is ending has none left
                    sizes[one] = max(size, 0 if Path("/proc").exists() else sizes.get(one, 0))

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield sizes
    finally:
        done.set()
        watch.join()


def test_the_memory_of_a_process_is_its_own_and_not_that_of_its_parent(tmp_path):
    code = "import time; held = bytearray(%d * 1024**2); held[::4096] = bytes(len(held[::4096])); %s"
    small = code % (30, "time.sleep(1.5)")
    large = code % (400, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {small!r}])")
    process = subprocess.Popen([sys.executable, "-c", large])
    with _watched(process.pid) as sizes:
        process.wait()
    assert 400 < sizes.pop(process.pid) / 1024**2 < 500
    assert [30 < size / 1024**2 < 130 for size in sizes.values()] == [True]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    "Sums in another order round otherwise, and what is trained then differs: so sums are made in one order here"
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)


def _processor_time(process: psutil.Process) -> float:
    "Seconds that a process and all that it started have computed, those too that have ended"
    seconds = 0.0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it has just ended, and is counted in its parent
            seconds += sum(one.cpu_times()[:4])  # own and ended children's, each in user code and in the kernel
    return seconds


@pytest.fixture(scope="session")  # not the module's: a process that tests goes from module to module and back
def nest() -> Iterator[kernels.Nest]:
    "Where kernels begin that have the libraries imported"
    made = kernels.Nest()
    yield made
    made.close()


def _from_nest(notebook: Path) -> bool:
    "May a notebook's kernel begin with the libraries imported? Lessons run as learners run them, and imports as they are"
    forks = hasattr(os, "fork") and sys.platform != "darwin"
    return forks and "engine" in notebook.parts and "sys.modules" not in notebook.read_text(encoding="utf-8")


def _environment() -> dict[str, str]:
    "What a kernel gets: not what libraries have set in the process that tests, which a learner's does not have"
    kept = {name: word for name, word in os.environ.items() if name not in _SET_BY_LIBRARIES}
    given = {name: word for name, word in ENVIRONMENT.items() if name in _SET_BY_LIBRARIES}
    return kept | given | {"OMP_NUM_THREADS": "1"}


@contextmanager
def _prompt(kernel: Any) -> Iterator[None]:
    """Spare each notebook a third of a second in which nothing happens.

    jupyter_client waits 0.2 s for more words of a kernel's start, which belong to no cell and are passed over, and looks for
    a kernel's end every 0.1 s.
    """
    from jupyter_client.channels import AsyncZMQSocketChannel

    heard = AsyncZMQSocketChannel.get_msg

    async def sooner(channel: Any, timeout: float | None = None) -> dict:
        return await heard(channel, 0.02 if timeout == 0.2 else timeout)

    ended = partial(kernel._async_finish_shutdown, pollinterval=0.01)
    with patch.object(AsyncZMQSocketChannel, "get_msg", sooner), patch.object(kernel, "_async_finish_shutdown", ended):
        yield


def _run(notebook: Path, folder: Path, nest: kernels.Nest | None = None) -> tuple[list[dict], float, float]:
    """A notebook's cells with fresh outputs, its seconds, megabytes of its process and of the largest that it started

    Seconds are those from its start to its end; where tests run in parallel, its processor time: what other tests take
    meanwhile is not the notebook's.
    """
    import nbformat
    from jupyter_client.provisioning import local_provisioner
    from nbclient import NotebookClient

    book = nbformat.read(notebook, 4)
    client = NotebookClient(book, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    kernel = client.create_kernel_manager()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as short:  # a socket's path may have 100 characters
        if sys.platform != "win32":  # ports would be looked for by chance, and another testing process may be quicker
            kernel.transport, kernel.connection_file = "ipc", f"{short}/kernel.json"
        launched = patch.object(local_provisioner, "launch_kernel", nest.launch) if nest else nullcontext()
        with (
            launched,
            _prompt(kernel),
            client.setup_kernel(env=_environment()),
            _watched(kernel.provisioner.pid) as sizes,
        ):
            for number, cell in enumerate(book.cells):
                client.execute_cell(cell, number)
            used = _processor_time(psutil.Process(kernel.provisioner.pid))
    seconds = used if "PYTEST_XDIST_WORKER" in os.environ else time.monotonic() - start
    own = sizes.pop(kernel.provisioner.pid, 0)
    return json.loads(nbformat.writes(book))["cells"], seconds, (own + max(sizes.values(), default=0)) / 1024**2


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=_name)
def test_a_notebook_runs_from_top_to_bottom_and_says_what_it_says(notebook, tmp_path, request):
    if "course.folder import" in notebook.read_text(encoding="utf-8") and "engine" not in notebook.parts:
        request.getfixturevalue("course")  # what the lessons share is not this lesson's time
    nest = request.getfixturevalue("nest") if _from_nest(notebook) else None
    with steps_beside() as steps:
        fresh, seconds, megabytes = _run(notebook, tmp_path, nest)
    assert not list(tmp_path.iterdir()), "a lesson writes only to temporary folders"
    assert trains_in_time(seconds, 180, steps) and megabytes < 4096, f"{seconds:.0f} s and {megabytes:.0f} MB"
    if "COVIDXR_TIMES" in os.environ and "/" not in _name(notebook):
        table = Path(os.environ["COVIDXR_TIMES"])
        with FileLock(f"{table}.lock"):
            known = json.loads(table.read_text()) if table.exists() else {}
            known[notebook.stem] = {"seconds": round(seconds, 1), "megabytes": round(megabytes)}
            table.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        Path(f"{table}.lock").unlink(missing_ok=True)
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):  # where the stored outputs were made
        assert pages.stale(pages.cells(notebook), fresh) == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=_name)
def test_figures_have_alt_text_and_outputs_hold_no_debris(notebook):
    assert pages.without_words(notebook) == []
    assert pages.debris(notebook) == []
    assert notebook.stat().st_size < 2_000_000


def test_stored_outputs_stay_small():
    kept = [
        path for path in (ROOT / "nbs").rglob("*") if path.is_file() and not MADE & set(path.relative_to(ROOT).parts)
    ]
    assert sum(path.stat().st_size for path in kept) < 12_000_000


def test_what_scripts_write_is_what_they_would_write_now():
    old = [
        path.name
        for path, text in lessons.written().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert old == [], "run `python tests/lessons.py`"
    known = json.loads(lessons.TIMES.read_text())
    assert [path.stem for path in lessons.lessons() if path.stem not in known] == []
    assert sum(known[path.stem]["seconds"] for path in lessons.lessons()) < 20 * 60


def test_every_page_stands_in_the_sidebar_and_lessons_in_their_order():
    import yaml

    site = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    assert site["website"]["page-navigation"], "each lesson leads to the previous and to the next"
    named = pages.listed(ROOT / "_quarto.yml")
    there = [path for pattern in ("*.ipynb", "*.qmd") for path in (ROOT / "nbs").rglob(pattern)]
    names = [path.relative_to(ROOT / "nbs").as_posix() for path in there if ".ipynb_checkpoints" not in path.parts]
    kept = [name for name in names if not name.startswith(("api/", "ko/"))]
    made = ["api/index.qmd", *(f"api/{name}.qmd" for name in lessons.modules())]
    made += [f"ko/{path.name}" for path in catalogues.translated_pages()]
    assert sorted(named) == sorted([*kept, *made])
    ordered = [name for name in named if name[0].isdigit()]
    assert ordered == sorted(ordered)
    library = next(one for one in site["website"]["sidebar"]["contents"] if one["section"] == "Library")["contents"]
    assert library == sorted(name for name in named if name.startswith("engine/"))
    assert (ROOT / "nbs" / "_quarto.yml").resolve() == (ROOT / "_quarto.yml").resolve()


@pytest.fixture(scope="module")
def processed(tmp_path_factory) -> Path:
    "The pages as nbdev hands them to Quarto"
    copy = copy_project(tmp_path_factory.mktemp("site"))
    lessons.write_api(copy / "nbs")
    catalogues.site_pages("ko", copy / "nbs" / "ko")
    code = (  # one process, as the other cores are testing; the settings are read once and not for each cell
        "import functools, nbdev.processors as p, nbdev.quarto as q; q._ensure_quarto = lambda: None\n"
        "p.get_config = functools.cache(p.get_config); q.nbdev_proc_nbs(n_workers=0)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return copy / "_proc"


def _pages(folder: Path) -> list[Path]:
    "The pages of a site"
    return sorted(path for pattern in ("*.ipynb", "*.qmd") for path in folder.rglob(pattern))


def test_processed_pages_are_whole(processed):
    made = {path.relative_to(processed).as_posix() for path in _pages(processed)}
    # lessons, engine room, API pages, and what is written by hand
    assert made == set(pages.listed(ROOT / "_quarto.yml"))
    for page in _pages(processed):
        assert pages.dead_links(page, processed) == [], page.name
        assert pages.without_words(page) == [], page.name
        assert pages.debris(page) == [], page.name
        assert pages.from_elsewhere(page) == [], page.name
        assert pages.nameless_columns(page) == [], page.name
        assert pages.too_wide(page) == [], page.name
        assert pages.skipped_headings(page) == [], page.name
        assert pages.unlinkable_headings(page) == [], page.name
    assert (processed / "site" / "site.css").exists(), "nbdev hands Quarto what each page gets"


def test_the_pages_of_the_modules_name_what_each_offers_and_are_made_before_the_site_is_built(tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "gone.qmd").write_text("a module that is no more")
    lessons.write_api(tmp_path)
    made = {path.name for path in (tmp_path / "api").iterdir()}
    assert made == {"index.qmd", *(f"{name}.qmd" for name in lessons.modules())}
    for name in lessons.modules():
        text = (tmp_path / "api" / f"{name}.qmd").read_text(encoding="utf-8")
        for one in importlib.import_module(f"covidxr.{name}").__all__:
            assert f"\n## {one}\n" in text, f"{name}: {one}"
    index = (tmp_path / "api" / "index.qmd").read_text(encoding="utf-8")
    assert all(f"../engine/{path.name}" in index for path in lessons.engine())
    steps = (ROOT / ".github" / "workflows" / "pages.yml").read_text()
    assert steps.index("run: python tests/lessons.py api") < steps.index("run: nbdev-docs")
    assert "nbs/api/" in (ROOT / ".gitignore").read_text().splitlines()
    if (ROOT / ".git").exists():  # a branch that is merged may bring them back
        kept = subprocess.run(["git", "ls-files", "nbs/api"], cwd=ROOT, check=True, capture_output=True, text=True)
        assert kept.stdout == ""


def _broken(page: Path, change: Callable[[dict], None]) -> None:
    "Change a page as a slip of the hand would"
    book = json.loads(page.read_text(encoding="utf-8"))
    change(book)
    page.write_text(json.dumps(book), encoding="utf-8")


def _add(text: str) -> Callable[[dict], None]:
    "A slip in a lesson's prose"
    return lambda book: book["cells"].append({"cell_type": "markdown", "source": text, "metadata": {}})


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("[gone](99_nowhere.ipynb)", "99_nowhere.ipynb"),
        ("[gone](engine/nowhere.ipynb)", "engine/nowhere.ipynb"),
        ("[no such part](08_metrics.ipynb#nowhere)", "08_metrics.ipynb#nowhere"),
        ("[nor here](#nowhere)", "#nowhere"),
        ("![a picture](images/gone.png)", "images/gone.png"),
        ('<a href="99_nowhere.ipynb">gone</a>', "99_nowhere.ipynb"),
        ("[not safe](http://example.org)", "http://example.org"),
    ],
)
def test_a_dead_link_is_found(text, target, tmp_path):
    folder = Path(shutil.copytree(ROOT / "nbs", tmp_path / "nbs", symlinks=True))
    page = folder / "12_ensemble.ipynb"
    assert pages.dead_links(page, folder) == []
    _broken(page, _add(text))
    assert pages.dead_links(page, folder) == [target]


@pytest.mark.parametrize(
    "text", ["![](images/grid.png)", '<img src="images/grid.png">', '<img alt="" src="images/grid.png">']
)
def test_a_picture_without_words_is_found(text, tmp_path):
    page = Path(shutil.copy(ROOT / "nbs" / "12_ensemble.ipynb", tmp_path))
    assert pages.without_words(page) == []
    _broken(page, _add(text))
    assert pages.without_words(page) == ["images/grid.png"]


def test_a_figure_without_words_is_found(tmp_path):
    page = Path(shutil.copy(ROOT / "nbs" / "12_ensemble.ipynb", tmp_path))

    def forget(book: dict) -> None:
        for cell in book["cells"]:
            cell["source"] = [line for line in cell["source"] if "fig-alt" not in line]

    figures = [cell for cell in pages.cells(page) if any(map(pages._coded, cell.get("outputs", [])))]
    assert figures and pages.without_words(page) == []
    _broken(page, forget)
    assert len(pages.without_words(page)) == len(figures)


def _png(draw: Callable) -> dict:
    "An output with a picture"
    import base64
    import io

    from matplotlib.figure import Figure

    page = Figure(figsize=(6, 3), dpi=80)
    draw(page.subplots())
    buffer = io.BytesIO()
    page.savefig(buffer, format="png")
    picture = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": "<Figure>"}
    return {"output_type": "display_data", "data": picture}


def _curve(shift: float) -> dict:
    "A picture of a curve"
    return _png(lambda ax: ax.plot([0, 1, 2, 3], [1, 3, 2 + shift, 4]))


def _xray(shift: float) -> dict:
    "A picture that is dark in the middle"
    return _png(lambda ax: ax.imshow([[0.9, 0.1 + shift, 0.9]], cmap="gray", vmin=0, vmax=1, aspect="auto"))


def _said(text: str) -> dict:
    "An output of text"
    return {"output_type": "stream", "name": "stdout", "text": text}


def _table(columns: list[str], rows: list[list]) -> dict:
    "An output of a table, as pandas writes it"
    import pandas as pd

    frame = pd.DataFrame(rows, columns=columns)
    return {"output_type": "execute_result", "data": {"text/plain": str(frame), "text/html": frame.to_html()}}


EMPTY = {"output_type": "display_data", "data": {"text/plain": ""}}


def _compared(stored: list[dict], fresh: list[dict], varies: bool) -> list[str]:
    "What is found where a cell's stored outputs and its fresh ones differ"
    source = "#| varies\nfit()" if varies else "fit()"
    return pages.stale(*([{"cell_type": "code", "source": source, "outputs": side}] for side in (stored, fresh)))


@pytest.mark.parametrize("varies", [False, True], ids=["exact", "varies"])
@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ([_said("3 of 4: 0.638")], [_said("3 of 4: 0.639")]),  # a sum in another order: one unit in the last place
        ([_said("12.31 and 1.234e-05")], [_said("12.30 and 1.235e-05")]),
        ([_said("[0.30000000000000004]")], [_said("[0.3]")]),
        ([_said("loss 0.25"), EMPTY], [_said("loss  0.25")]),  # a line of progress has vanished, a column is wider
        ([_said("loss 0.25")], [EMPTY, _said("loss 0.25")]),
        ([_said("first\nsecond\n")], [_said("first\n"), _said("second\n")]),  # printed in one piece, or in two
        ([_curve(0), _xray(0)], [_curve(0), _xray(0)]),
        ([_table(["epoch", "loss"], [[0, 0.5], [1, 0.2512]])], [_table(["epoch", "loss"], [[0, 0.5], [1, 0.2513]])]),
    ],
)
def test_what_is_the_same_is_not_stale(stored, fresh, varies):
    assert _compared(stored, fresh, varies) == []


@pytest.mark.parametrize(
    ("stored", "fresh", "said"),
    [
        ([_said("accuracy 0.38")], [_said("accuracy 0.40")], "says now"),
        ([_said("accuracy 0.9")], [_said("accuracy 1.0")], "says now"),  # nearly all of what is printed
        ([_said("accuracy 0.638")], [_said("accuracy 0.641")], "says now"),
        ([_said("40 of 60")], [_said("41 of 60")], "says now"),
        ([_said("1234567 of 9")], [_said("1234568 of 9")], "says now"),
        ([_said("p = 2e-08")], [_said("p = 5e-08")], "says now"),
        ([_said("ours is faster")], [_said("theirs is faster")], "says now"),
        ([_curve(0)], [_curve(1)], "another picture"),
        ([_xray(0)], [_xray(0.3)], "another picture"),
        ([_table(["a"], [[1]])], [_table(["a"], [[2]])], "says now"),
    ],
)
def test_another_value_is_stale_in_an_ordinary_cell_and_not_in_one_that_varies(stored, fresh, said):
    found = _compared(stored, fresh, varies=False)
    assert len(found) == 1 and said in found[0]
    assert _compared(stored, fresh, varies=True) == []


@pytest.mark.parametrize("varies", [False, True], ids=["exact", "varies"])
@pytest.mark.parametrize(
    ("stored", "fresh", "said"),
    [
        ([_said("a"), _curve(0)], [_said("a")], "other kinds"),  # the picture is gone
        ([_said("a")], [], "other kinds"),
        ([], [_said("a")], "other kinds"),
        ([_said("a")], [{**_said("a"), "name": "stderr"}], "other kinds"),
        ([_said("fold 0: 0.3\nfold 1: 0.4")], [_said("fold 0: 0.3")], "says now"),
        ([_curve(0), _xray(0)], [_xray(0), _curve(0)], "another picture"),  # swapped
        ([_table(["epoch", "loss"], [[0, 0.5]])], [_table(["epoch", "time"], [[0, 0.5]])], "says now"),
        ([_table(["epoch", "loss"], [[0, 0.5]])], [_table(["epoch", "loss"], [[0, 0.5], [1, 0.4]])], "says now"),
        ([_table(["epoch", "loss"], [[0, 0.5]])], [_table(["epoch"], [[0]])], "says now"),
    ],
)
def test_another_kind_or_shape_is_stale_in_every_cell(stored, fresh, said, varies):
    found = _compared(stored, fresh, varies)
    assert len(found) == 1 and said in found[0]


def test_a_line_of_progress_comes_and_goes_where_a_cell_varies():
    line = {"output_type": "display_data", "data": {"text/plain": "a process has ended; 16 items are left"}}
    whole, parts = [_said("4: 16\n5: 25\n")], [_said("4: 16\n"), line, _said("5: 25\n")]
    assert _compared(parts, whole, True) == _compared(whole, parts, True) == []
    assert _compared(parts, whole, False) and _compared(whole, parts, False)


def test_only_a_line_of_its_own_says_that_a_cell_varies():
    for source in ("fit()  # varies from run to run", 'print("#| varies")', "#| variesx", "# | varies"):
        cells = [[{"cell_type": "code", "source": source, "outputs": [_said(text)]}] for text in ("0.38", "0.40")]
        assert len(pages.stale(*cells)) == 1, source


def test_a_stale_output_is_found():
    stored = pages.cells(ROOT / "nbs" / "engine" / "ensemble_boxes.ipynb")
    assert pages.stale(stored, stored) == []
    slips = 0
    for number, cell in enumerate(stored):
        for output in cell.get("outputs", []):
            plain = output.get("data", {}).get("text/plain") or output.get("text")
            numbers = list(pages.NUMBER.finditer("".join(plain or "")))
            other = [dict(one) for one in stored]
            if numbers:  # one number differs
                text, last = "".join(plain), numbers[-1]
                text = f"{text[: last.start()]}{float(last[0]) + 1:g}{text[last.end() :]}"
                other[number]["outputs"] = [
                    {**output, "data": {**output["data"], "text/plain": text}}
                    if "data" in output
                    else {**output, "text": text}
                ]
                assert pages.stale(other, stored), text[:200]
                slips += 1
            other[number]["outputs"] = []  # the output is gone
            assert pages.stale(other, stored)
    assert slips


@pytest.mark.parametrize(
    "text",
    [
        "see /private/x.dcm",
        "UserWarning: no",
        "Traceback (most recent call last)",
        "12%|█ | 3/25 [00:01<00:07, 3.1it/s]",
        "<object at 0x7f8df6596f50>",
        "train: 3 of 4, 2 s left",
        "",
    ],
)
def test_debris_is_found(text, tmp_path):
    page = Path(shutil.copy(ROOT / "nbs" / "engine" / "ensemble_boxes.ipynb", tmp_path))
    assert pages.debris(page) == []
    output = {"output_type": "stream", "name": "stdout", "text": [text]} if text else EMPTY
    _broken(
        page,
        lambda book: book["cells"].append({"cell_type": "code", "source": "", "metadata": {}, "outputs": [output]}),
    )
    assert len(pages.debris(page)) == 1


def test_readme_is_made_from_the_index_and_short_enough():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == readme_text()
    assert len(text.splitlines()) < 120
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
    assert command.endswith(" && .venv/bin/pytest -n auto")
    (tmp_path / "README.md").write_text(readme.replace(command, "echo carried out > done"))
    subprocess.run(["bash", ".ci/run"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "done").read_text() == "carried out\n"


def test_the_source_archive_holds_what_setup_reads_and_the_wheel_made_of_it_every_module(tmp_path):
    copy = copy_project(tmp_path)
    code = "import setuptools.build_meta as b; print(b.build_sdist('dist'))"
    made = subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True, text=True)
    with tarfile.open(copy / "dist" / made.stdout.split()[-1]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
        archive.extractall(tmp_path / "source", filter="data")
    held = [path for pattern in ("*.py", "*.toml", "py.typed") for path in (ROOT / "covidxr").rglob(pattern)]
    own = {f"covidxr/{path.relative_to(ROOT / 'covidxr').as_posix()}" for path in held}
    own |= {f"covidxr/templates/{path.name}" for path in (ROOT / "covidxr" / "templates").iterdir()}
    shipped = (ROOT / "covidxr" / "learning" / "shipped").iterdir()  # the network that the first lesson reads with
    own |= {f"covidxr/learning/shipped/{path.name}" for path in shipped}
    assert {"covidxr/templates/report.html.j2", "covidxr/py.typed"} <= own  # the second: type checkers read our hints
    written = {f"nbs/{_name(path)}.ipynb" for path in NOTEBOOKS}
    assert {"settings.ini", "setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"} | own | written <= names
    code = "import setuptools.build_meta as b; print(b.build_wheel('dist'))"
    (source,) = (tmp_path / "source").iterdir()
    made = subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, text=True)
    with zipfile.ZipFile(source / "dist" / made.stdout.split()[-1]) as wheel:
        assert own <= set(wheel.namelist())
        assert f"covidxr/lessons/{NOTEBOOKS[0].name}" in wheel.namelist()


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
