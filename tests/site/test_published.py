"""What the processed pages must not hold, kind by kind: each check, and a slip that it finds. No Quarto is needed.

tests/site/test_project.py holds all processed pages to these checks; here one lesson goes through the same step.
"""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import lessons
import pages
import pytest
import yaml
from conftest import ROOT
from PIL import Image
from readme import readme_text

from covidxr.course.site import SitePage, wide_tables

STORED = json.loads((ROOT / "nbs" / "08_metrics.ipynb").read_text(encoding="utf-8"))
SITE = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))


def _processed(notebook: dict) -> dict:
    "A notebook as Quarto gets it, as far as its outputs go"
    made = copy.deepcopy(notebook)
    process = SitePage(made)
    for cell in made["cells"]:
        process(cell)
    return made


def _markdown(text: str) -> dict:
    "A page of one cell of Markdown"
    return {"cells": [{"cell_type": "markdown", "source": text, "metadata": {}}]}


def _output(**data: str) -> dict:
    "A page of one cell of code, with an output"
    kinds = {kind.replace("_", "/", 1): text for kind, text in data.items()}
    output = {"output_type": "execute_result", "data": kinds, "metadata": {}}
    return {"cells": [{"cell_type": "code", "source": "table", "metadata": {}, "outputs": [output]}]}


@pytest.fixture
def faults(tmp_path) -> Callable[[Callable, dict], list[str]]:
    "What a check finds in a page"

    def find(check: Callable, page: dict) -> list[str]:
        path = tmp_path / "page.ipynb"
        path.write_text(json.dumps(page), encoding="utf-8")
        return check(path)

    return find


CHECKS = (
    pages.from_elsewhere,
    pages.nameless_columns,
    pages.too_wide,
    pages.skipped_headings,
    pages.unlinkable_headings,
)
TABLE = "| word | what it is |\n|---|---|\n| study | images of one visit |"


def test_a_lesson_with_tables_has_faults_before_the_step_and_none_after(faults):
    before = {check.__name__ for check in CHECKS if faults(check, STORED)}
    assert before == {"from_elsewhere", "nameless_columns", "too_wide"}
    after = _processed(STORED)
    assert [fault for check in CHECKS for fault in faults(check, after)] == []
    tables = ["".join(output["data"]["text/html"]) for cell in STORED["cells"] for output in _tables(cell)]
    shown = ["".join(output["data"]["text/markdown"]) for cell in after["cells"] for output in _tables(cell)]
    assert len(tables) == len(shown) > 3
    for html, plain in zip(tables, shown, strict=True):  # no value is lost
        assert re.findall(r"<td>(.*?)</td>", html) == [one for one in re.findall(r"<td>(.*?)</td>", plain) if one]


def _tables(cell: dict) -> list[dict]:
    "A cell's outputs that are tables"
    return [one for one in cell.get("outputs", []) if "<table" in json.dumps(one.get("data", {}))]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (_output(text_html="<table></table>", text_plain="a"), "text/html"),
        (_output(**{"application_vnd.jupyter.widget-view+json": "{}"}), "widget-view"),
        (_output(text_markdown='<script src="https://cdn.example.org/x.js"></script>'), "<script> fetches https"),
        (_markdown('<script src="//cdn.example.org/x.js"></script>'), "<script> fetches //cdn"),
        (_markdown("<script>import('https://cdn.example.org/x.js')</script>"), "<script> fetches import"),
        (_markdown('<link rel="stylesheet" href="https://cdn.example.org/x.css">'), "<link> fetches"),
        (_markdown("<style>@import 'https://cdn.example.org/x.css';</style>"), "<style> fetches"),
        (_markdown('<iframe src="https://video.example.org/1"></iframe>'), "<iframe> fetches"),
        (_markdown("![a badge](https://img.example.org/badge.svg)"), "a picture from"),
    ],
)
def test_what_loads_from_another_host_is_found(page, said, faults):
    found = faults(pages.from_elsewhere, page)
    assert len(found) == 1 and said in found[0], found


def test_a_link_that_a_reader_may_follow_loads_nothing(faults):
    page = _markdown('[nbdev](https://nbdev.fast.ai), <a href="https://quarto.org">Quarto</a>, ![own](images/grid.png)')
    assert faults(pages.from_elsewhere, page) == []


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (_markdown("| | two |\n|---|---|\n| 1 | 2 |"), 1),
        (_markdown("| one | |\n|---|---|\n| 1 | 2 |"), 1),
        (_output(text_markdown="```{=html}\n<table><tr><th></th><th>a</th></tr></table>\n```"), 1),
        (_output(text_markdown='```{=html}\n<th scope="row"> <b></b></th>\n```'), 1),
        (_output(text_markdown="```{=html}\n<table><tr><td></td><th>a</th></tr></table>\n```"), 0),
        (_markdown(TABLE), 0),
    ],
)
def test_a_column_without_a_name_is_found(page, found, faults):
    assert len(faults(pages.nameless_columns, page)) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TABLE, "does not scroll"),
        ("<table><tr><th>a</th></tr></table>", "does not scroll"),
        (wide_tables(TABLE).replace(' tabindex="0"', ""), "keyboard"),
        (re.sub(r' aria-label="[^"]+"', "", wide_tables(TABLE)), "no name"),
        (wide_tables(TABLE.replace("study", "Radiofrequenzspektroskopieuntersuchungsbefund")), "a long word"),
        ('<img alt="wide" src="images/grid.png" width="800">', "800 pixels"),
        ('<div style="min-width: 600px">wide</div>', "600 pixels"),
        ("![wide](images/grid.png){width=1116px}", "1116 pixels"),
    ],
)
def test_what_is_wider_than_a_phone_is_found(text, said, faults):
    found = faults(pages.too_wide, _markdown(text))
    assert len(found) == 1 and said in found[0], found


@pytest.mark.parametrize("text", [wide_tables(TABLE), f"```\n{TABLE}\n```", "![grid](images/grid.png){width=80%}"])
def test_what_fits_a_phone_is_no_fault(text, faults):
    assert faults(pages.too_wide, _markdown(text)) == []


def test_a_heading_that_skips_a_level_is_found(faults):
    assert faults(pages.skipped_headings, _markdown("### three\n\n## two\n\n### three\n\n#### four")) == ["### three"]
    shown = _output(text_markdown="---\n\n### f\n\n```python\n# f\n```")
    shown["cells"][0]["source"] = "show_doc(f)"
    assert faults(pages.skipped_headings, shown) == ["### f"]
    assert faults(pages.skipped_headings, _processed(shown)) == []


def test_a_heading_that_no_link_finds_is_found(faults):
    assert faults(pages.unlinkable_headings, _markdown("## 결과")) == ["## 결과"]
    assert faults(pages.unlinkable_headings, _markdown("## 결과 {#results}\n\n## Results")) == []


def test_the_korean_page_has_the_anchors_of_the_english_one_and_the_readme_has_none():
    korean = (ROOT / "README.ko.md").read_text(encoding="utf-8")
    page = (ROOT / "nbs" / "ko.qmd").read_text(encoding="utf-8")
    english = re.sub(r"(?ms)^```.*?^```", "", readme_text())
    names = [lessons.anchor(words) for words in re.findall(r"(?m)^## (.+)", english)]
    assert re.findall(r"(?m)^## .+ \{#([\w-]+)\}$", page) == names and "begin" in names
    assert "{#" not in korean and ":::" not in korean
    assert pages.unlinkable_headings(ROOT / "nbs" / "ko.qmd") == []


def test_a_table_of_a_page_written_by_hand_is_put_in_a_block_that_scrolls_and_only_once(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    (tmp_path / "more.qmd").write_text(f"## One part\n\n{TABLE}\n", encoding="utf-8")
    (tmp_path / "more_ko.qmd").write_text(f"## 하나\n\n{TABLE}\n", encoding="utf-8")
    for _ in range(2):
        for path, text in lessons.own_pages().items():
            path.write_text(text, encoding="utf-8")
            assert text.count("::: {.wide ") == 1 and pages.too_wide(path) == []
    assert "## 하나 {#one-part}" in (tmp_path / "more_ko.qmd").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "directives",
    [
        "#| fig-alt: 'a curve': a slip",  # no YAML
        "#| fig-alt:",
        "x = 1\n#| fig-alt: A curve.",  # Quarto reads what stands at the top of a cell
    ],
)
def test_an_alt_text_that_quarto_does_not_read_is_found(directives, faults):
    page = _output(**{"image_png": "iVBORw0KGgo="})
    page["cells"][0]["source"] = f"{directives}\nplot()"
    assert len(faults(pages.without_words, page)) == 1
    page["cells"][0]["source"] = '#| varies\n#| fig-alt: "A curve: it rises."\nplot()'
    assert faults(pages.without_words, page) == []


def test_what_each_page_gets_is_there_and_loads_from_nowhere_else():
    html, site = SITE["format"]["html"], SITE["website"]
    own = [html["css"], html["include-before-body"], html["include-after-body"], site["favicon"]]
    for name in [*own, *SITE["project"]["resources"]]:
        assert (ROOT / "nbs" / name).exists(), name
    for name in own:
        text = (ROOT / "nbs" / name).read_text(encoding="utf-8")
        assert not re.search(r"//(?!www\.w3\.org/2000/svg)[\w.-]+\.\w", text), f"{name} names another host"
        assert pages.fetched(f"<style>{text}</style>" if name.endswith("css") else text) == []
    begin, end = ((ROOT / "nbs" / html[f"include-{place}-body"]).read_text() for place in ("before", "after"))
    assert 'class="skip" href="#quarto-document-content"' in begin
    for named in ("#quarto-sidebar", ".quarto-secondary-nav", "#TOC", ".page-navigation"):  # Quarto's, without names
        assert f'["{named}", "' in end
    style = (ROOT / "nbs" / html["css"]).read_text()
    assert re.search(r"main \{[^}]*overflow-wrap: anywhere", style), "a long word in the text makes the page wider"
    assert re.search(r"\.wide \{[^}]*overflow-x: auto", style)


def test_the_site_says_where_it_is_and_has_a_picture_of_its_own():
    html, site = SITE["format"]["html"], SITE["website"]
    assert html["canonical-url"] is True
    assert site["site-url"] == "https://covidxr.github.io/covidxr", "Quarto puts a slash between this and a path"
    card = site["open-graph"]["image"]
    assert card.startswith("/") and card[1:] in SITE["project"]["resources"], "else it is looked for beside each page"
    assert Image.open(ROOT / "nbs" / card[1:]).size == (1200, 630) and len(site["open-graph"]["image-alt"]) > 40
    assert site["favicon"] in SITE["project"]["resources"]
    assert site["sidebar"]["collapse-level"] == 1, "or the tab key stops at each page of the site before the text"


def test_what_readers_look_for_stands_in_the_text_of_a_lesson():
    text = pages.prose(ROOT / "nbs" / "02_dicom.ipynb")
    for phrase in ("DICOM windowing", "VOI LUT", "De-identification", "transfer syntax", "level"):
        assert re.search(re.escape(phrase), text), f"the site's search looks for the letters of {phrase!r}"


HEAD = """<html><head><link rel="icon" href="site/favicon.svg"><link rel="canonical" href="https://covidxr.github.io/covidxr/x.html">
<meta property="og:image" content="https://covidxr.github.io/covidxr/site/card.png"></head></html>"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("icon", "icon", ""),
        ('<link rel="icon" href="site/favicon.svg">', "", "no icon"),
        ("canonical", "alternate", "no canonical link"),
        ("og:image", "og:title", "no picture for links to it"),
        ("/site/card.png", "//site/card.png", "two slashes"),
    ],
)
def test_a_page_without_what_its_head_must_say_is_found(old, new, said):
    assert pages.headless(HEAD.replace(old, new)) == ([said] if said else [])


def test_a_page_of_the_site_map_is_as_old_as_its_source():
    url = "<url><loc>https://covidxr.github.io/covidxr/{}</loc>{}</url>"
    given = [("metrics.html", "<lastmod>2020-01-01T00:00:00Z</lastmod>"), ("faq.html", ""), ("api/metrics.html", "")]
    made = lessons.with_dates("".join(url.format(*one) for one in given), lambda path: f"[{path.name}]")
    assert re.findall(r"<lastmod>(.*?)</lastmod>", made) == ["[08_metrics.ipynb]", "[faq.qmd]", "[metrics.py]"]
    for page in pages.listed(ROOT / "_quarto.yml"):
        assert lessons.source(re.sub(r"^\d+_|\.\w+$", "", page) + ".html").exists(), page
    assert lessons.source("") == ROOT / "nbs" / "index.ipynb"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        lessons.source("nowhere.html")


def test_the_workflow_dates_the_site_by_git():
    steps = (ROOT / ".github" / "workflows" / "pages.yml").read_text()
    assert "fetch-depth: 0" in steps, "or each page is as old as the last commit"
    places = [steps.index(f"run: {one}") for one in ("nbdev-docs", "python tests/lessons.py dates", "python -m pytest")]
    assert places == sorted(places)


def test_nbdev_does_the_step_for_each_notebook():
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["nbdev"]
    assert settings["doc_procs"] == f"{SitePage.__module__}:{SitePage.__name__}"
    assert Path(ROOT / "nbs" / "engine" / "course_site.ipynb").exists()
