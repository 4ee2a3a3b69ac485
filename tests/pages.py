"Checks of what the site would show: links, pictures' words, outputs that are those of the code, no debris."

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w])")
DEBRIS = {
    "a path of the machine": r"(?<![\w.])/(?:root|home|work|tmp|Users|private|var/folders)/",
    "an address in memory": r" at 0x[0-9a-f]{6,}",
    "a warning": r"\b\w*Warning\b",
    "a traceback": r"Traceback \(most recent call last\)",
    "a progress bar": r"it/s\]|s/it\]|\d+%\|| (?:s|min|h) left\b|\r",
}


def cells(page: Path) -> list[dict]:
    "The cells of a notebook; a page of text is one cell"
    if page.suffix == ".ipynb":
        return json.loads(page.read_text(encoding="utf-8"))["cells"]
    return [{"cell_type": "markdown", "source": page.read_text(encoding="utf-8"), "outputs": []}]


def _shown_text(output: dict) -> str:
    "What an output says, without its pictures"
    data = output.get("data", {})
    parts = [output.get("text", "")] + [value for kind, value in data.items() if not kind.startswith("image/")]
    return "\n".join("".join(part) if isinstance(part, list) else str(part) for part in parts)


def prose(page: Path) -> str:
    "What a page says in Markdown, code left out: its own text and what its code puts there as Markdown"
    parts = []
    for cell in cells(page):
        if cell["cell_type"] == "markdown":
            parts.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            markdown = output.get("data", {}).get("text/markdown", "")
            parts.append("".join(markdown) if isinstance(markdown, list) else markdown)
    text = re.sub(r"(?ms)^```.*?^```", "", "\n\n".join(parts))
    return re.sub(r"`[^`\n]*`", "``", text)


def headings(page: Path) -> set[str]:
    "The names that a link can point to in a page, as Pandoc makes them"
    names = set(re.findall(r"\{[^}]*#([\w-]+)[^}]*\}", prose(page)))
    for line in re.findall(r"(?m)^#+ +(.+?)(?: *\{.*\})?$", "\n".join("".join(cell["source"]) for cell in cells(page))):
        plain = re.sub(r"[`*\[\]]|\([^)]*\)(?=$)", "", line).lower()
        names.add(re.sub(r"^[^a-z]+", "", re.sub(r"[^\w\s.-]", "", plain).strip().replace(" ", "-")))
    return names


class _Tags(HTMLParser):
    "Links and pictures that are written as HTML"

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img":
            self.images.append((given.get("alt") or "", given.get("src") or ""))


def _references(page: Path) -> tuple[list[str], list[tuple[str, str]]]:
    "Links, and pictures with their words"
    text = prose(page)
    images = re.findall(r"!\[((?:[^\[\]]|\\[\[\]])*)\]\(([^)\s]+)[^)]*\)", text)
    bare = re.sub(r"!\[((?:[^\[\]]|\\[\[\]])*)\]\([^)]*\)", "picture", text)
    tags = _Tags()
    tags.feed("\n".join([bare, *(_shown_text(output) for cell in cells(page) for output in cell.get("outputs", []))]))
    return re.findall(r"\[[^\[\]]*\]\(([^)\s]+)[^)]*\)", bare) + tags.links, images + tags.images


def dead_links(page: Path, root: Path) -> list[str]:
    "Links and pictures of a page that lead nowhere; other hosts are not asked"
    links, images = _references(page)
    dead = []
    for target in [*links, *(source for _, source in images)]:
        if target.startswith(("data:", "mailto:")):
            continue
        if re.match(r"[a-z]+:", target):
            if not re.fullmatch(r"https://[\w.-]+(?:/[^\s]*)?", target):
                dead.append(target)
            continue
        path, _, name = target.partition("#")
        place = (
            page if not path else (root / path.lstrip("/") if path.startswith("/") else page.parent / path).resolve()
        )
        if not place.exists() or (name and place.suffix in (".ipynb", ".qmd") and name not in headings(place)):
            dead.append(target)
    return dead


def without_words(page: Path) -> list[str]:
    "Pictures of a page that have no alt text"
    wordless = [source[:60] for words, source in _references(page)[1] if not words.strip()]
    for cell in cells(page):
        source = "".join(cell["source"])
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])) and not re.search(
            r'#\| fig-alt: *\S{3,}|#\| fig-alt: *".{3,}"', source
        ):
            wordless.append(source[:60])
    return wordless


def debris(page: Path) -> list[str]:
    "What outputs must not hold"
    found = []
    for cell in cells(page):
        for output in cell.get("outputs", []):
            text = _shown_text(output)
            found += [
                f"{what}: {match[0]!r}" for what, pattern in DEBRIS.items() if (match := re.search(pattern, text))
            ]
            if output.get("output_type") == "error" or output.get("name") == "stderr":
                found.append(f"an error or a word on stderr: {text[:80]}")
    return found


def _alike(stored: str, fresh: str, tolerance: float) -> bool:
    "The same words, and numbers that are equal but for rounding"
    if NUMBER.sub("#", stored) != NUMBER.sub("#", fresh):
        return False
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(fresh), strict=True)
    return all(abs(float(one) - float(other)) <= tolerance * max(1.0, abs(float(one))) for one, other in pairs)


def _pictures(cell: dict) -> list[np.ndarray]:
    "The pictures that a cell has drawn, as grey levels"
    coded = [output.get("data", {}).get("image/png") for output in cell.get("outputs", [])]
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode("".join(one)))).convert("L"), float) for one in coded if one
    ]


def _look_alike(stored: list[np.ndarray], fresh: list[np.ndarray], tolerance: float = 25.0) -> bool:
    "Pictures of one size in which no square of 8 pixels differs by more grey levels in the mean: a letter's edge may differ, a curve may not move"
    if [one.shape for one in stored] != [one.shape for one in fresh]:
        return False
    for one, other in zip(stored, fresh, strict=True):
        height, width = (side // 8 * 8 for side in one.shape)
        squares = np.abs(one - other)[:height, :width].reshape(height // 8, 8, width // 8, 8).mean((1, 3))
        if squares.max() > tolerance:
            return False
    return True


def stale(stored: list[dict], fresh: list[dict], tolerance: float = 1e-6) -> list[str]:
    "Cells whose stored outputs are not those of their code: kinds of output, text and pictures are compared"
    wrong = []
    for before, after in zip(stored, fresh, strict=True):
        source = "".join(before["source"])
        if before["cell_type"] != "code" or "# varies from run to run" in source:
            continue
        shown = [
            [(sorted(output.get("data", {})), _shown_text(output)) for output in cell.get("outputs", [])]
            for cell in (before, after)
        ]
        kinds = [[kind for kind, _ in side] for side in shown]
        if kinds[0] != kinds[1]:
            wrong.append(f"{source[:80]!r} gives other kinds of output: {kinds[0]}, now {kinds[1]}")
        elif not all(_alike(one, other, tolerance) for (_, one), (_, other) in zip(*shown, strict=True)):
            wrong.append(f"{source[:80]!r} says now: {' '.join(text for _, text in shown[1])[-900:]}")
        elif not _look_alike(_pictures(before), _pictures(after)):
            wrong.append(f"{source[:80]!r} draws another picture now; run the notebook again")
    return wrong


def listed(site: Path) -> list[str]:
    "The pages that the sidebar of a _quarto.yml names"

    def walk(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [name for one in entry.get("contents", []) for name in walk(one)] + (
            [entry["href"]] if "href" in entry else []
        )

    sidebar = yaml.safe_load(site.read_text(encoding="utf-8"))["website"]["sidebar"]
    return [name for one in sidebar["contents"] for name in walk(one)]
