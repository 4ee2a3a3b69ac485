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
import pytest
from conftest import ROOT, copy_project

WIDTHS = (390, 1280)  # a phone, a laptop
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


class _Silent(http.server.SimpleHTTPRequestHandler):
    "A web server that keeps its log to itself"

    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    "A folder as a web site on this machine"
    handler = functools.partial(_Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
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


def walk(browser, folder: Path, start: str = "index.html", dark: bool = False) -> list[str]:
    "Follow every link from a page on; what is wrong, a line each"
    from axe_playwright_python.sync_playwright import Axe

    faults: list[str] = []
    at = {"page": ""}  # where the browser is; what listens below reads it
    with _served(folder) as home:
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
            waiting, seen = [urljoin(home, start)], set()
            while waiting:
                here = waiting.pop()
                if here in seen:
                    continue
                seen.add(here)
                at["page"] = here
                page.goto(here, wait_until="networkidle")
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
                answer = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
                for broken in answer.response["violations"]:
                    faults.append(
                        f"{here}: {broken['id']} at {width} pixels: {broken['help']}: {broken['nodes'][0]['html'][:120]}"
                    )
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
    ],
)
def test_the_walk_sees_each_kind_of_fault(browser, tmp_path, slip, said):
    (tmp_path / "index.html").write_text(GOOD % slip)
    faults = walk(browser, tmp_path)
    assert faults == [] if said is None else any(said in fault for fault in faults), faults


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
    return copy / "_docs"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_site_is_whole_and_readable_by_all(browser, built, dark):
    assert walk(browser, built, dark=dark) == []
