"""The site in a browser: links, console, requests to other hosts, accessibility, at 390 and 1280 pixels.

Needs Chromium. The whole site needs Quarto as well (or `_docs/`, as `nbdev-docs` leaves it); the report of a run does not.
"""

import contextlib
import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import lessons
import pages
import pytest
from conftest import ROOT, copy_project

WIDTHS = (390, 1280)  # a phone, a laptop
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

BEST = ("landmark-unique", "empty-table-header", "heading-order", "skip-link")  # good practice, held on the site


class _Silent(http.server.SimpleHTTPRequestHandler):
    "A web server that keeps its log to itself"

    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    "A folder as a web site on this machine"
    handler = functools.partial(_Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()  # its end waits as long
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


# Blocks that scroll and that the tab key does not reach in every browser (Chromium reaches them by itself since 130, and axe
# no longer says anything there)
OUT_OF_REACH = """() => [...document.querySelectorAll("body *")].filter(one =>
    one.scrollWidth > one.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(one).overflowX) &&
    one.tabIndex < 0 && !one.querySelector("a[href], button, input, select, textarea, [tabindex]:not([tabindex='-1'])")
).map(one => one.outerHTML.slice(0, 120))"""


def walk(browser, folder: Path, start: str = "index.html", dark: bool = False, best: tuple[str, ...] = ()) -> list[str]:
    "Follow every link from a page on; what is wrong, a line each; `best` names axe's rules beyond those of WCAG"
    from axe_playwright_python.sync_playwright import Axe

    faults: list[str] = []
    at = {"page": ""}  # where the browser is; what listens below reads it
    with _served(folder) as home:
        windows = {}
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
            page.on(
                "console",
                lambda said: faults.append(f"{at['page']}: console: {said.text}") if said.type == "error" else None,
            )
            page.on("pageerror", lambda error: faults.append(f"{at['page']}: script: {error}"))
            page.on(
                "request",
                lambda asked: (
                    None
                    if asked.url.startswith((home, "data:", "blob:", "about:"))
                    else faults.append(f"{at['page']}: asks another host: {asked.url}")
                ),
            )
            page.on(
                "response",
                lambda back: faults.append(f"{at['page']}: {back.status}: {back.url}") if back.status >= 400 else None,
            )
            windows[width] = page
        waiting, seen = [urljoin(home, start)], set()
        while waiting:
            here = waiting.pop()
            if here in seen:
                continue
            seen.add(here)
            at["page"] = here
            for page in windows.values():
                page.goto(here)
            for page in windows.values():  # half a second of silence, for all at once
                page.wait_for_load_state("networkidle")
            for width, page in windows.items():
                names = set(page.eval_on_selector_all("[id]", "all => all.map(one => one.id)"))
                for link in page.eval_on_selector_all("a[href]", "all => all.map(one => one.getAttribute('href'))"):
                    target, name = urldefrag(urljoin(here, link))
                    if target == here and name and name not in names:
                        faults.append(f"{here}: no such place: #{name}")
                    if not target.startswith(home):
                        continue
                    place = folder / urlsplit(target).path.lstrip("/")
                    if not (place / "index.html" if place.is_dir() else place).exists():
                        faults.append(f"{here}: dead link: {link}")
                    elif target.endswith((".html", "/")):
                        waiting.append(target)
                if page.evaluate("document.documentElement.scrollWidth") > width + 1:
                    faults.append(f"{here}: wider than {width} pixels")
                for block in page.evaluate(OUT_OF_REACH) if best else []:
                    faults.append(f"{here}: scrollable-region-focusable at {width} pixels: {block}")
                options = {
                    "runOnly": {"type": "tag", "values": RULES},
                    "rules": {rule: {"enabled": True} for rule in best},
                }
                answer = Axe().run(page, options=options)
                for broken in answer.response["violations"]:
                    faults.append(
                        f"{here}: {broken['id']} at {width} pixels: {broken['help']}: {broken['nodes'][0]['html'][:120]}"
                    )
        for page in windows.values():
            page.close()
    return faults


GOOD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><h1 id="top">A page</h1><p><a href="#top">up</a></p>%s</main></body></html>"""


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        ("<p>nothing is wrong</p>", None),
        ('<a href="gone.html">gone</a>', "dead link"),
        ('<a href="#gone">gone</a>', "no such place"),
        ("<script>console.error('broken')</script>", "console"),
        ("<script>throw new Error('broken')</script>", "script"),
        ('<img alt="x" src="https://example.invalid/x.png">', "asks another host"),
        ('<script src="missing.js"></script>', "404"),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">', "image-alt"),
        ('<p style="color:#aaa;background:#fff">pale</p>', "color-contrast"),
        ('<p style="width:2000px">wide</p>', "wider than"),
        ('<nav><a href="#top">one</a></nav><nav><a href="#top">two</a></nav>', "landmark-unique"),
        ("<table><tr><th></th><th>a</th></tr><tr><th>b</th><td>1</td></tr></table>", "empty-table-header"),
        ("<h3>three</h3>", "heading-order"),
        (
            '<div style="width:200px;overflow-x:auto"><p style="width:900px">wide</p></div>',
            "scrollable-region-focusable",
        ),
        (
            '<p><a href="#top" style="display:inline-block;width:9px;height:9px;overflow:hidden">a</a><a href="#top" '
            'style="display:inline-block;width:9px;height:9px;overflow:hidden">b</a></p>',
            "target-size",
        ),
    ],
)
def test_the_walk_sees_each_kind_of_fault(browser, tmp_path, slip, said):
    (tmp_path / "index.html").write_text(GOOD % slip)
    faults = walk(browser, tmp_path, best=BEST)
    assert faults == [] if said is None else any(said in fault for fault in faults), faults


# As Quarto writes a page: two navigations without names, a wide table as the step before Quarto makes it, wide output.
QUARTO = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"><style>%s</style></head><body>
<nav id="quarto-sidebar"><ul><li><a href="#text">Lessons</a></li></ul></nav>
<main id="quarto-document-content"><h1 id="text">A page</h1>%s<p>%s</p>
<div class="wide" role="group" tabindex="0" aria-label="Table: a"><table class="dataframe"><tr><td></td>%s</tr></table></div>
<div class="cell-output"><pre style="overflow-x:auto"><code>%s</code></pre></div></main>
<nav class="page-navigation"><a href="#text">Next</a></nav>%s</body></html>"""


@pytest.mark.parametrize("whole", [True, False], ids=["with", "without"])
def test_what_the_site_adds_to_quartos_pages_cures_them(browser, tmp_path, whole):
    style, begin, end = ((ROOT / "nbs" / "site" / name).read_text() for name in ("site.css", "begin.html", "end.html"))
    heads = "".join(f'<th scope="col">{name}</th>' for name in ["appearance"] * 30)
    page = QUARTO % (style * whole, begin * whole, "long" * 200, heads, "0.25 " * 200, end * whole)
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    faults = walk(browser, tmp_path, best=BEST)
    if whole:
        assert faults == []
        window = browser.new_page()
        window.goto((tmp_path / "index.html").as_uri())
        window.keyboard.press("Tab")
        assert window.evaluate("document.activeElement.className") == "skip", "the first stop leads to the text"
        window.close()
    else:
        for said in ("landmark-unique", "wider than 390", "wider than 1280"):
            assert any(said in fault for fault in faults), faults


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_report_of_a_run_is_readable_by_all(browser, finished, tmp_path, dark):
    shutil.copy(finished / "report.html", tmp_path / "index.html")
    assert walk(browser, tmp_path, dark=dark) == []


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    "The site: as it was built in _docs/, or built now"
    if (ROOT / "_docs" / "index.html").exists():
        return ROOT / "_docs"
    if not shutil.which("quarto"):
        pytest.skip("Quarto is not installed here; https://quarto.org/docs/get-started")
    copy = copy_project(tmp_path_factory.mktemp("site"))
    lessons.write_api(copy / "nbs")
    nbdev = Path(sys.executable).with_name("nbdev-docs")
    subprocess.run(
        [str(nbdev)], cwd=copy, check=True, env={**os.environ, "PATH": f"{nbdev.parent}:{os.environ['PATH']}"}
    )
    sitemap = copy / "_docs" / "sitemap.xml"
    sitemap.write_text(lessons.with_dates(sitemap.read_text(encoding="utf-8")), encoding="utf-8")
    return copy / "_docs"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_site_is_whole_and_readable_by_all(browser, built, dark):
    assert walk(browser, built, dark=dark, best=BEST) == []


def test_the_built_pages_fetch_nothing_from_elsewhere_and_say_where_they_are(built):
    found = sorted(built.rglob("*.html"))
    whole = [path for path in found if "<main" in path.read_text(encoding="utf-8")]  # the rest only leads on
    assert len(whole) > 40
    for path in found:
        assert pages.fetched(path.read_text(encoding="utf-8")) == [], path.name
    for path in whole:
        assert pages.headless(path.read_text(encoding="utf-8")) == [], path.name
    sitemap = (built / "sitemap.xml").read_text(encoding="utf-8")
    assert sitemap.count("<loc>") == sitemap.count("<lastmod>") > 40
