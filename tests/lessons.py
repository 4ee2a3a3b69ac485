"""What scripts write into the lessons and pages, so that no hand has to: `python tests/lessons.py`.

- each lesson's head: how long it takes, how it opens elsewhere, a first cell that installs what is missing there; the
  library's long cells are folded on the site
- one name per lesson: its title up to the colon, also in nbs/index.ipynb, and where a lesson says what it needs and what
  comes next; in README.ko.md the name of its table of parts
- the table of times in nbs/index.ipynb, and README.md from that notebook
- the same table in README.ko.md
- nbs/changelog.qmd from CHANGELOG.md; tables of all pages in blocks that scroll on a phone
- stored pictures without an alpha channel that says nothing
- the Korean lessons, the modules and the engine room's notebooks in the sidebar of _quarto.yml

`python tests/lessons.py api` makes nbs/api/ before the site is built, which Git does not keep: a page per module, with
signatures, tables of arguments and links to the source, and a list of all modules, those of the engine room too.

`python tests/lessons.py dates` writes into the site map of the built site when each page's source was last changed, by Git.

Times come from tests/lesson_times.json, which a test run writes where COVIDXR_TIMES names it:

    COVIDXR_TIMES=tests/lesson_times.json pytest tests/site/test_project.py -k top_to_bottom

They are measured one after the other (without -n), while nothing else runs.
"""

import ast
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from datetime import date
from pathlib import Path

from readme import readme_text
from stored_pictures import packed

from covidxr.course.site import wide_tables

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "nbs"
TIMES = Path(__file__).with_name("lesson_times.json")
ENGLISH = ("lesson", "seconds", "memory, MB", "all", "at most")
KOREAN = ("강의", "초", "메모리, MB", "전체", "최대")
HOME = "https://github.com/covidxr/covidxr"
LONG = 25  # lines of a cell of the library that the site shows unfolded


def version() -> str:
    "The package's version"
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]["version"]


def lessons() -> list[Path]:
    "The lesson notebooks, in the course's order"
    return sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def title(path: Path) -> str:
    "A lesson's title: its name, and after a colon its subject"
    return "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()[0][2:]


def lesson_names() -> dict[str, str]:
    "What a lesson is called wherever it is linked as a lesson, by file name: its title up to the colon"
    names = {path.name: title(path).partition(":")[0] for path in lessons()}
    return {file: name[0].lower() + name[1:] for file, name in names.items()}


def named(text: str, names: dict[str, str]) -> str:
    "A text whose links to lessons bear the lessons' names"
    return re.sub(
        r"\[[^\[\]]*\]\(((?:nbs/)?(\d\d_\w+\.ipynb))\)",
        lambda link: f"[{names[link[2]]}]({link[1]})" if link[2] in names else link[0],
        text,
    )


def with_names(text: str, names: dict[str, str]) -> str:
    "A text in which the lesson that is needed, the next one, and those in the table of parts are called by their names"
    text = re.sub(r"\*\*Needs:\*\*[^\n]*", lambda line: named(line[0], names), text)
    text = re.sub(r"\bNext:[^\n]*", lambda line: named(line[0], names), text)
    return re.sub(r"(?m)^\| (?!\[)[^|\n]+ \| \[.*\|$", lambda row: named(row[0], names), text)


def spoken(seconds: float) -> str:
    "A measured time as a learner needs it: never less than it was"
    for limit in (5, 10, 15, 20, 30, 45, 60, 90, 120, 180):
        if round(seconds) < limit:  # as the table rounds, too
            return f"under {limit} s" if limit < 90 else f"under {limit / 60:g} minutes"
    return f"{seconds / 60:.0f} minutes"


def links(stem: str) -> str:
    "How a lesson opens elsewhere"
    path = f"nbs/{stem}.ipynb"
    tag = f"v{version()}"
    colab = f"https://colab.research.google.com/github/covidxr/covidxr/blob/{tag}/{path}"
    kaggle = f"https://kaggle.com/kernels/welcome?src={HOME}/blob/{tag}/{path}"
    return (
        f"[![Open in Colab](images/colab.svg)]({colab}) [![Open in Kaggle](images/kaggle.svg)]({kaggle}) "
        f"[![Download the notebook](images/download.svg)]({HOME}/raw/{tag}/{path})"
    )


def install_cell(stem: str) -> dict:
    "The first cell: nothing happens where covidxr is installed"
    source = f"""#| hide
# Colab and Kaggle come without covidxr: this installs it there. Elsewhere nothing happens.
from importlib.util import find_spec

if find_spec("covidxr") is None:
    import subprocess
    import sys

    package = "covidxr[all] @ git+{HOME}@v{version()}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", package], check=True)"""
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"{stem.split('_')[0]}-install",
        "metadata": {},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


def with_head(notebook: dict, stem: str, times: dict) -> dict:
    "A lesson with its head as it should be"
    cells = [cell for cell in notebook["cells"] if not cell["id"].endswith("-install")]
    cells.insert(1, install_cell(stem))
    names = lesson_names()
    for cell in cells:
        if cell["cell_type"] == "markdown":
            cell["source"] = with_names("".join(cell["source"]), names).splitlines(keepends=True)
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and "**Time:**" in text:
            text = text.split("\n\n[![")[0]
            time = spoken(times[stem]["seconds"]) if stem in times else "not measured"
            text = re.sub(
                r"\*\*Time:\*\* .*? \*\*Needs:", f"**Time:** {time} on two CPU cores. **Needs:", text, flags=re.S
            )
            cell["source"] = f"{text}\n\n{links(stem)}".splitlines(keepends=True)
            break
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["source"] = folded("".join(cell["source"])).splitlines(keepends=True)
    return {**notebook, "cells": cells}


def folded(source: str) -> str:
    "A cell of the library, folded on the site where it is long: a reader opens what interests"
    lines = source.splitlines()
    if not lines or lines[0] != "#| export":
        return source
    code = [line for line in lines[1:] if not line.startswith(("#| code-fold", "#| code-summary"))]
    body = ast.parse("\n".join(code)).body
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    imports = bool(body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)
    if not imports and (len(code) <= LONG or not names):
        return "\n".join([lines[0], *code])
    summary = "What the library imports" if imports else f"Code of {', '.join(names)}"
    fold = ["#| code-fold: true", f'#| code-summary: "{summary}"']
    return "\n".join([lines[0], *fold, *code])


def time_table(
    times: dict, folder: str = "", words: tuple[str, ...] = ENGLISH, names: dict[str, str] | None = None
) -> str:
    "What each lesson takes, as a table; the test run's numbers; the lessons' titles where there are no other names"
    lesson, seconds, memory, every, at_most = words
    rows = [f"| {lesson} | {seconds} | {memory} |", "|---|---|---|"]
    for path in lessons():
        if path.stem in times:
            one = times[path.stem]
            number, name = path.stem.split("_")[0], (names or {}).get(path.name) or title(path)
            cost = f"{one['seconds']:.0f} | {one['megabytes']:.0f}"
            rows.append(f"| [{number} {name}]({folder}{path.name}) | {cost} |")
    whole = sum(times[path.stem]["seconds"] for path in lessons() if path.stem in times)
    most = max((one["megabytes"] for one in times.values()), default=0)
    return "\n".join([*rows, f"| {every} | {whole:.0f} | {at_most} {most:.0f} |"])


def between_marks(text: str, table: str) -> str:
    "A text with its table of times"
    start, end = text.index("<!-- times -->"), text.index("<!-- end of times -->")
    return f"{text[:start]}<!-- times -->\n\n{table}\n\n{text[end:]}"


def with_times(notebook: dict, times: dict) -> dict:
    "The index with its table of times and the lessons' names"
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if "<!-- times -->" in text:
            text = with_names(between_marks(text, time_table(times)), lesson_names())
            cell["source"] = text.splitlines(keepends=True)
    return notebook


def korean_names(text: str) -> dict[str, str]:
    "The lessons' Korean names by file name: those of the table of parts in README.ko.md"
    return {
        file: name
        for name, file in re.findall(
            r"\[([^\[\]]+)\]\(nbs/(\d\d_\w+\.ipynb)\)(?=,| \|)", text.split("<!-- times -->")[0]
        )
    }


def anchor(heading: str) -> str:
    "The name of a heading in links, of letters that each tool writes alike"
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def with_anchors(text: str, english: str) -> str:
    """A text whose headings bear the anchors of another's, heading by heading.

    Quarto writes the Korean name of a heading in one way and the link to it in its table of contents in another.
    """
    fences = r"(?ms)^```.*?^```|^(#{2,} )([^\n]+?)(?: \{#[\w-]+\})?$"
    named = iter(anchor(found[2]) for found in re.finditer(fences, english) if found[2])
    return re.sub(fences, lambda found: f"{found[1]}{found[2]} {{#{next(named)}}}" if found[2] else found[0], text)


def korean_page(text: str, english: str) -> str:
    "README.ko.md as a page of the site; its headings bear the anchors of README.md"
    body = text.split("\n", 1)[1].lstrip().replace("](nbs/", "](").replace("](README.md)", "](index.ipynb)")
    body = wide_tables(with_anchors(body, english), "표")
    return f"---\ntitle: covidxr\nlang: ko\n---\n\n{body}"


def own_pages() -> dict[Path, str]:
    "The pages that are written by hand, with tables that scroll, and the anchors of a Korean one's English twin"
    texts = {}
    for path in sorted({*NOTEBOOKS.glob("*.qmd")} - {NOTEBOOKS / "ko.qmd", NOTEBOOKS / "changelog.qmd"}):
        text = path.read_text(encoding="utf-8")
        if path.stem.endswith("_ko"):
            twin = path.with_name(path.name.replace("_ko.", "."))
            text = with_anchors(text, twin.read_text(encoding="utf-8"))
        texts[path] = wide_tables(text, "표" if path.stem.endswith("_ko") else "Table")
    return texts


def engine() -> list[Path]:
    "The notebooks of the engine room: each is the page of its module"
    return sorted((NOTEBOOKS / "engine").glob("*.ipynb"))


def exported(notebook: Path) -> str | None:
    "The module that a notebook exports, such as base.files"
    found = re.search(r"#\| default_exp ([\w.]+)", notebook.read_text(encoding="utf-8"))
    return found[1] if found else None


def modules() -> list[str]:
    "The modules that lessons export, in the course's order"
    return [name for path in lessons() if (name := exported(path))]


def _cell(text: str) -> str:
    "Text that is safe in a cell of a Markdown table"
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


_STARS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _annotation(value: object) -> str:
    "A type as the source writes it"
    if value is inspect.Parameter.empty or value is inspect.Signature.empty:
        return ""
    return re.sub(
        r"\b(?:pandas|numpy|pathlib|collections\.abc|typing|covidxr(?:\.\w+)+)\.", "", inspect.formatannotation(value)
    )


def _member(name: str, value: object, stem: str) -> str:
    "One public name: its signature, what it does, its arguments and where it stands"
    from fastcore.docments import docments

    if isinstance(value, (set, frozenset)):
        value = sorted(value)  # a set has no order of its own
    value = getattr(value, "py_func", value)  # what Numba has compiled
    code = inspect.isclass(value) or inspect.isroutine(value)
    if code and (value.__module__ or "").startswith("covidxr."):  # a lesson opens also on what lies in the engine room
        stem = value.__module__.removeprefix("covidxr.").replace(".", "/")
    first = inspect.getsourcelines(inspect.unwrap(value))[1] if code else 0
    if code:  # a door also lists what it takes from the engine room
        stem = value.__module__.removeprefix("covidxr.").replace(".", "/")
    where = f"{HOME}/blob/v{version()}/covidxr/{stem}.py" + (f"#L{first}" if first else "")
    parts = [f"## {name}", f"[source]({where})"]
    if not code:
        return "\n\n".join(
            [
                *parts,
                f"```python\n{name} = {value!r}\n```"
                if len(repr(value)) < 400 and " at 0x" not in repr(value)
                else f"A {type(value).__name__}.",
            ]
        )
    try:
        signature = inspect.signature(value)
    except ValueError:
        signature = inspect.Signature()
    shown = [parameter for name, parameter in signature.parameters.items() if not name.startswith("_")]
    given = ", ".join(
        _STARS.get(parameter.kind, "")
        + parameter.name
        + ("" if parameter.default is parameter.empty else f"={parameter.default!r}")
        for parameter in shown
    )
    kind = "class " if inspect.isclass(value) else ""
    parts.append(f"```python\n{kind}{name}({given})\n```")
    parts.append(inspect.cleandoc(value.__doc__ or ""))
    told = docments(value, full=True, returns=True) if signature.parameters or not inspect.isclass(value) else {}
    rows = ["| argument | type | default | what it is |", "|---|---|---|---|"]
    for parameter in shown:
        comment = (told.get(parameter.name) or {}).get("docment") or ""
        default = "" if parameter.default is parameter.empty else f"`{parameter.default!r}`"
        kind_of = _annotation(parameter.annotation)
        rows.append(
            f"| `{parameter.name}` | {f'`{_cell(kind_of)}`' if kind_of else ''} | {_cell(default)} | {_cell(comment)} |"
        )
    back = told.get("return") or {}
    answer = _annotation(signature.return_annotation)
    if answer and answer != "None" and not inspect.isclass(value):
        rows.append(f"| *gives* | `{_cell(answer)}` | | {_cell(back.get('docment') or '')} |")
    if len(rows) > 2:
        parts.append("\n".join(rows))
    if inspect.isclass(value):
        for one, method in vars(value).items():
            if inspect.isfunction(method) and not one.startswith("_"):
                asked = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
                parts.append(
                    f"`.{one}({', '.join(asked)})`: {inspect.cleandoc(method.__doc__ or '').partition(chr(10))[0]}"
                )
    return "\n\n".join(parts)


def api_page(name: str) -> str:
    "The page of one module"
    module = importlib.import_module(f"covidxr.{name}")
    lesson = next(path.name for path in lessons() if exported(path) == name)
    about = inspect.cleandoc(module.__doc__ or "").splitlines()[0]
    head = f'---\ntitle: covidxr.{name}\ndescription: "{about}"\n---\n\nBuilt up step by step in [its lesson](../{lesson}).'
    return "\n\n".join([head, *(_member(one, getattr(module, one), name) for one in module.__all__)]) + "\n"


def api_index() -> str:
    "The list of all modules"
    pages = [(name, f"{name}.qmd") for name in modules()]
    room = [(exported(path), f"../engine/{path.name}") for path in engine()]
    parts = ["---\ntitle: All modules\n---", "What the lessons export, a page a module.", _module_table(pages)]
    parts += ["What the library stands on, and a learner need not read; the notebook is the page.", _module_table(room)]
    return "\n\n".join(parts) + "\n"


def _module_table(named: list[tuple[str, str]]) -> str:
    "Modules with their pages, and what each is for"
    rows = ["| module | what it is for |", "|---|---|"]
    for name, page in named:
        about = inspect.cleandoc(importlib.import_module(f"covidxr.{name}").__doc__ or "").splitlines()[0]
        rows.append(f"| [covidxr.{name}]({page}) | {_cell(about)} |")
    return "\n".join(rows)


def sidebar() -> str:
    "_quarto.yml with the Korean lessons, the modules' pages under API, and the notebooks of the engine room under Library"
    text = (ROOT / "_quarto.yml").read_text(encoding="utf-8")
    listed = {
        "한국어 강의": [f"ko/{path.name}" for path in [*lessons(), NOTEBOOKS / "gallery.ipynb"]],
        "API": [f"api/{name}.qmd" for name in ("index", *modules())],
        "Library": [f"engine/{path.name}" for path in engine()],
    }
    for section, names in listed.items():
        entries = "".join(f"          - {name}\n" for name in names)
        text = re.sub(rf"(      - section: {section}\n        contents:\n)(?:          - .*\n)*", rf"\1{entries}", text)
    return text


def changelog_page() -> str:
    "CHANGELOG.md as a page"
    body = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n", 1)[1].lstrip()
    return f"---\ntitle: Changelog\n---\n\n{wide_tables(body)}"


def api_pages() -> dict[str, str]:
    "The pages of nbs/api/, by file name: a page per module, and the list of all"
    pages = {"index.qmd": api_index(), **{f"{name}.qmd": api_page(name) for name in modules()}}
    return {name: wide_tables(text) for name, text in pages.items()}


def write_api(
    notebooks: Path,  # the folder nbs/ of the project, or of a copy
) -> None:
    "Make the pages of the modules anew; what stood there before is gone"
    folder = notebooks / "api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in api_pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def source(
    page: str,  # a page of the built site, such as metrics.html or engine/files.html
) -> Path:
    "The file that a page is made of"
    folder, _, name = page.removesuffix(".html").rpartition("/")
    name = name or "index"
    found = [NOTEBOOKS / folder / f"{name}.ipynb", NOTEBOOKS / folder / f"{name}.qmd"]
    if folder == "ko":  # made of a lesson and its catalogue, which changes with it
        found = [*(ROOT / "i18n" / "ko").glob(f"[0-9]*_{name}.po"), ROOT / "i18n" / "ko" / f"{name}.po"]
    if folder == "api":  # made of the modules
        found = [ROOT / "covidxr" / f"{'__init__' if name == 'index' else name}.py"]
    elif not folder:
        found += NOTEBOOKS.glob(f"[0-9]*_{name}.ipynb")
    for path in found:
        if path.exists():
            return path
    raise FileNotFoundError(f"{page}: made of nothing that is known")


def changed(path: Path) -> str:
    "The day on which a file was last changed, by Git; today if Git does not know it yet"
    command = ["git", "log", "-1", "--format=%cs", "--", str(path)]
    day = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    return day or date.today().isoformat()


def with_dates(
    sitemap: str,
    day: Callable[[Path], str] = changed,  # of a file
) -> str:
    "A site map that says when each page was last changed; Quarto knows only when the file was checked out"
    return re.sub(
        r"(<loc>https://covidxr\.github\.io/covidxr/([^<]*)</loc>)(\s*)(?:<lastmod>[^<]*</lastmod>)?",
        lambda found: f"{found[1]}{found[3]}<lastmod>{day(source(found[2]))}</lastmod>",
        sitemap,
    )


def written() -> dict[Path, str]:
    "Every file that this script writes and Git keeps, with its text"
    times = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.exists() else {}
    files = {}
    for path in lessons():
        files[path] = with_head(json.loads(path.read_text(encoding="utf-8")), path.stem, times)
    index = NOTEBOOKS / "index.ipynb"
    files[index] = with_times(json.loads(index.read_text(encoding="utf-8")), times)
    for path in [NOTEBOOKS / "gallery.ipynb", *sorted((NOTEBOOKS / "engine").glob("*.ipynb"))]:
        files[path] = json.loads(path.read_text(encoding="utf-8"))
    texts = {
        path: json.dumps(packed(notebook), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        for path, notebook in files.items()
    }
    texts |= own_pages()
    texts[ROOT / "_quarto.yml"] = sidebar()
    texts[NOTEBOOKS / "changelog.qmd"] = changelog_page()
    korean = (ROOT / "README.ko.md").read_text(encoding="utf-8")
    korean = between_marks(korean, time_table(times, "nbs/", KOREAN, korean_names(korean)))
    texts |= {ROOT / "README.ko.md": korean, NOTEBOOKS / "ko.qmd": korean_page(korean, readme_text())}
    return texts


if __name__ == "__main__":
    if sys.argv[1:] == ["api"]:
        write_api(NOTEBOOKS)
        sys.exit()
    if sys.argv[1:] == ["dates"]:
        place = ROOT / "_docs" / "sitemap.xml"
        place.write_text(with_dates(place.read_text(encoding="utf-8")), encoding="utf-8")
        sys.exit()
    for path, text in written().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
    (ROOT / "README.md").write_text(readme_text(), encoding="utf-8")
