"Checks of what the site would show: links, pictures' words, outputs that are those of the code, no debris."

import base64
import io
import json
import re
from functools import cache
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


@cache
def _headings(page: Path, changed: int) -> set[str]:
    "As `headings`, of a page as it was at some time: hundreds of links point into the same few pages"
    names = set(re.findall(r"\{[^}]*#([\w-]+)[^}]*\}", prose(page)))
    for line in re.findall(r"(?m)^#+ +(.+?)(?: *\{.*\})?$", "\n".join("".join(cell["source"]) for cell in cells(page))):
        plain = re.sub(r"[`*\[\]]|\([^)]*\)(?=$)", "", line).lower()
        names.add(re.sub(r"^[^a-z]+", "", re.sub(r"[^\w\s.-]", "", plain).strip().replace(" ", "-")))
    return names


def headings(page: Path) -> set[str]:
    "The names that a link can point to in a page, as Pandoc makes them"
    return _headings(page, page.stat().st_mtime_ns)


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


def _said_of_figures(source: str) -> str:
    "The alt text that Quarto reads: that of the directives at the top of a cell, which have to be YAML"
    top = re.match(r"(?:#\|.*(?:\n|\Z))*", source)[0]
    lines = [line[3:] for line in top.splitlines() if re.match(r"#\| [\w-]+: ", line)]  # nbdev's own have no colon
    try:
        said = yaml.safe_load("\n".join(lines)) or {}
    except yaml.YAMLError:
        return ""
    return " ".join(map(str, said["fig-alt"])) if isinstance(said.get("fig-alt"), list) else said.get("fig-alt") or ""


def without_words(page: Path) -> list[str]:
    "Pictures of a page that have no alt text"
    wordless = [source[:60] for words, source in _references(page)[1] if not words.strip()]
    for cell in cells(page):
        source = "".join(cell["source"])
        drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        if drawn and len(str(_said_of_figures(source)).strip()) < 3:
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


def _is_progress(output: dict) -> bool:
    "Is it a line of progress? On a slow machine another line replaces it, and is wiped at its end"
    return output["output_type"] == "display_data" and list(output["data"]) == ["text/plain"]


def stale(stored: list[dict], fresh: list[dict]) -> list[str]:
    """Cells whose stored outputs are not those of their code: kinds of output, text and pictures are compared.

    Of a cell with the directive `#| varies` only the kind and the shape: what is trained, timed or drawn from either
    depends on the processor. Lines of progress do not count there.
    """
    wrong = []
    for before, after in zip(stored, fresh, strict=True):
        if before["cell_type"] != "code":
            continue
        source, varies = "".join(before["source"]), VARIES.search("".join(before["source"]))
        kept = [[one for one in cell["outputs"] if not (varies and _is_progress(one))] for cell in (before, after)]
        sides = [outputs({"outputs": one}) for one in kept]
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


SCRIPTED = ("text/html", "application/javascript", "application/vnd.jupyter.widget-view+json")
# What a browser fetches by itself, unlike a link that a reader may follow.
FETCHED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
LINKED = ("stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "manifest")


class _Fetches(HTMLParser):
    "What an HTML page fetches from elsewhere, in tags, in styles and in scripts of its own"

    def __init__(self) -> None:
        super().__init__()
        self.hosts: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        target = given.get(FETCHED.get(tag, "")) or (given.get("data") if tag == "object" else "") or ""
        if tag == "link" and {*(given.get("rel") or "").split()} & {*LINKED}:
            target = given.get("href") or ""
        if re.match(r"(?:https?:)?//", target):
            self.hosts.append(f"<{tag}> fetches {target}")
        self.inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, text: str) -> None:
        pattern = {
            "style": r"(?:@import|url\()[^;)]*//[^;)]*",
            "script": r"(?:import|fetch)\b[^;\n]*['\"`]https?://[^;\n]*",
        }
        self.hosts += [f"<{self.inside}> fetches {one}" for one in re.findall(pattern.get(self.inside, "(?!)"), text)]


def fetched(html: str) -> list[str]:
    "What a page of HTML fetches from another host"
    parser = _Fetches()
    parser.feed(html)
    return parser.hosts


def headless(html: str) -> list[str]:
    "What the head of a built page leaves out"
    wanted = {
        "no icon": r'<link[^>]*rel="(?:shortcut )?icon"',
        "no canonical link": r'<link[^>]*rel="canonical"',
        "no picture for links to it": r'<meta[^>]*property="og:image"',
    }
    lacking = [fault for fault, pattern in wanted.items() if not re.search(pattern, html)]
    return lacking + ["two slashes"] * bool(re.search(r'(?:content|href)="https://[^"]*[^:"]//', html))


def from_elsewhere(page: Path) -> list[str]:
    "What would load from another host once Quarto has made a page of this"
    found = []
    for cell in cells(page):
        for output in cell.get("outputs", []):
            kinds = [kind for kind in output.get("data", {}) if kind in SCRIPTED]
            found += [f"an output of the kind {kind}: Quarto loads jQuery and RequireJS for it" for kind in kinds]
            found += fetched(_shown_text(output))
        if cell["cell_type"] in ("markdown", "raw"):
            found += fetched("".join(cell["source"]))
            pictures = re.findall(r"!\[[^\]]*\]\(((?:https?:)?//[^)\s]+)", "".join(cell["source"]))
            found += [f"a picture from {one}" for one in pictures]
    return found


def _markdown(page: Path) -> list[str]:
    "All Markdown of a page, text by text: that of its cells, and what code puts there, as Markdown or as HTML"
    texts = ["".join(cell["source"]) for cell in cells(page) if cell["cell_type"] == "markdown"]
    outputs = [output.get("data", {}) for cell in cells(page) for output in cell.get("outputs", [])]
    return texts + ["".join(data.get(kind, "")) for data in outputs for kind in ("text/markdown", "text/html")]


RULE = r"\|[ :|-]*-[ :|-]*\|? *$"  # the line under the heads of a table


def _heads(line: str) -> list[str]:
    "The heads of a table in Markdown"
    return [head.strip() for head in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def nameless_columns(page: Path) -> list[str]:
    "Tables with a head that says nothing"
    found = []
    for text in _markdown(page):
        plain = re.sub(r"(?ms)^```(?!\{=html\}).*?^```", "", text)
        found += [line for line in re.findall(rf"(?m)^(\|.*)\n{RULE}", plain) if not all(_heads(line))]
        found += [one for one in re.findall(r"<th\b[^>]*>.*?</th>", plain, re.S) if not re.sub(r"<[^>]+>|\s", "", one)]
    return found


PHONE = 340  # pixels that a phone of 390 leaves for the text
LONGEST = 40  # letters of one word in a table: more, and a table of two columns cannot be read on a phone


def _too_long(row: str) -> list[str]:
    "Words of a table's row that no line takes"
    bare = re.sub(r"\]\([^)]*\)|<[^>]*>", " ", row)
    return [word for word in re.split(r"[\s|/_-]+", bare) if len(word) > LONGEST]


def too_wide(page: Path) -> list[str]:
    "What is wider than a phone: tables that do not scroll by themselves, words without an end, fixed widths"
    found = []
    for text in _markdown(page):
        plain = re.sub(r"(?ms)^```(?!\{=html\}).*?^```", "", text)
        inside = re.findall(r"(?ms)^::: \{\.wide .*?^:::$", plain)
        for block in inside:
            if not re.match(r'::: \{\.wide role="group" tabindex="0" aria-label="[^":]+: [^"]+" ', block):
                found.append(f"a block that scrolls has no name, or the keyboard does not reach it: {block[:80]}")
            found += [f"a long word in a table: {word}" for row in block.splitlines()[2:] for word in _too_long(row)]
        outside = re.sub(r"(?ms)^::: \{\.wide .*?^:::$", "", plain)
        found += [f"a table that does not scroll: {one}" for one in re.findall(rf"(?m)^(\|.*)\n{RULE}", outside)]
        found += [f"a table that does not scroll: {one}" for one in re.findall(r"<table\b[^>]*>", outside)]
        widths = re.findall(r"\b(?:min-)?width\s*[:=]\s*[\"']?(\d+)(?:px)?(?![\d%.]|\s*(?:em|rem|in|cm|vw))", plain)
        found += [f"a width of {width} pixels" for width in widths if int(width) > PHONE]
    return found


def skipped_headings(page: Path) -> list[str]:
    "Headings that are more than one level below the one before them; the page's title is the first"
    before, found = 1, []
    for marks, words in re.findall(r"(?m)^(#+) (.+)", prose(page)):
        if len(marks) > before + 1:
            found.append(f"{marks} {words}")
        before = len(marks)
    return found


def unlinkable_headings(page: Path) -> list[str]:
    "Headings with other letters than a to z, and no name of their own: Quarto writes the link to them in another way"
    lines = re.findall(r"(?m)^#{2,} .+", prose(page))
    return [line for line in lines if re.search(r"[^\W\d_a-zA-Z]", line) and not re.search(r"\{#[\w-]+\}$", line)]


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
