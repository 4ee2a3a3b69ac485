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
VARIES = re.compile(r"^#\| varies *$", re.M)  # the directive of a cell whose outputs depend on the processor
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
            if _empty(output):
                found.append("an empty output, as a line of progress leaves it")
            if output.get("output_type") == "error" or output.get("name") == "stderr":
                found.append(f"an error or a word on stderr: {text[:80]}")
    return found


def outputs(cell: dict) -> list[dict]:
    "A cell's outputs: without empty ones, as a vanished line of progress leaves them; what was printed in one piece or in two is one"
    joined: list[dict] = []
    for output in cell.get("outputs", []):
        if _empty(output):
            continue
        if joined and output.get("name") and output.get("name") == joined[-1].get("name"):
            joined[-1] = {**joined[-1], "text": "".join(joined[-1]["text"]) + "".join(output["text"])}
        else:
            joined.append(output)
    return joined


def _empty(output: dict) -> bool:
    "Does an output show nothing?"
    return (
        output.get("output_type") in ("display_data", "stream")
        and not _shown_text(output).strip()
        and not _coded(output)
    )


def _coded(output: dict) -> str:
    "A picture as the notebook holds it"
    return "".join(output.get("data", {}).get("image/png", ""))


def _unit(number: str) -> float:
    "One unit in the last printed place; a whole number has none, as it counts something"
    mantissa, _, exponent = number.lower().partition("e")
    _, point, decimals = mantissa.partition(".")
    return 10.0 ** (int(exponent or 0) - len(decimals)) if point or exponent else 0.0


def _same_number(stored: str, fresh: str) -> bool:
    "Equal to the printed digits; the last of at least three may differ by one, as processors add in another order"
    one, other, unit = float(stored), float(fresh), max(_unit(stored), _unit(fresh))
    if not unit:
        return one == other
    return abs(one - other) <= 1.001 * max(min(unit, 0.01 * abs(one)), 1e-6 * abs(one), 1e-9)


def _alike(stored: str, fresh: str) -> bool:
    "The same words, and numbers that are the same as far as they are printed"
    # blanks at the ends say nothing, and a busy kernel may lose a last line's end
    words = [re.sub(r"\s+", " ", NUMBER.sub("#", text)).strip() for text in (stored, fresh)]
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(fresh), strict=False)
    return words[0] == words[1] and all(_same_number(one, other) for one, other in pairs)


def _pictures(cell: dict) -> list[np.ndarray]:
    "The pictures that a cell has drawn, as grey levels"
    coded = [one for output in outputs(cell) if (one := _coded(output))]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("L"), float) for one in coded]


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


def _of_a_kind(stored: list[np.ndarray], fresh: list[np.ndarray], tolerance: float = 25.0) -> bool:
    "As many pictures, of one size but for the width of a label, light and dark in the same parts: curves may move, a plot is no X-ray"
    if len(stored) != len(fresh):
        return False
    for one, other in zip(stored, fresh, strict=True):
        if any(abs(before - after) > 0.05 * before for before, after in zip(one.shape, other.shape, strict=True)):
            return False
        small = [np.asarray(Image.fromarray(each).resize((12, 12), Image.Resampling.BOX)) for each in (one, other)]
        if np.abs(small[0] - small[1]).mean() > tolerance:
            return False
    return True


def _shape(output: dict) -> list:
    "What stays of an output whose values vary: its tables' columns and rows, or how many lines of text it has"
    text = _shown_text(output)
    tables = []
    for table in re.findall(r"(?s)<table.*?</table>", text):
        rows = [re.findall(r"(?s)<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"(?s)<tr.*?</tr>", table)]
        tables.append(([one.strip() for one in rows[0]] if rows else [], [len(row) for row in rows]))
    return tables or [len(text.strip().splitlines())]


def stale(stored: list[dict], fresh: list[dict]) -> list[str]:
    """Cells whose stored outputs are not those of their code: kinds of output, text and pictures are compared.

    Of a cell with the directive `#| varies` only the kind and the shape: what is trained, timed or drawn from either
    depends on the processor.
    """
    wrong = []
    for before, after in zip(stored, fresh, strict=True):
        if before["cell_type"] != "code":
            continue
        source, varies = "".join(before["source"]), VARIES.search("".join(before["source"]))
        sides = [outputs(cell) for cell in (before, after)]
        kinds = [[sorted(one.get("data", {})) or [one.get("name", "")] for one in side] for side in sides]
        if kinds[0] != kinds[1]:
            wrong.append(f"{source[:80]!r} gives other kinds of output: {kinds[0]}, now {kinds[1]}")
            continue
        said = [[_shown_text(one) for one in side] for side in sides]
        shapes = [[_shape(one) for one in side] for side in sides]
        same_text = shapes[0] == shapes[1] if varies else all(map(_alike, *said))
        if not same_text:
            wrong.append(f"{source[:80]!r} says now: {' '.join(said[1])[-900:]}")
        elif not (_of_a_kind if varies else _look_alike)(_pictures(before), _pictures(after)):
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
