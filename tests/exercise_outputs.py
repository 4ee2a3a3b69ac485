"""Stores the questions of exercises as the lessons show them, without running a lesson: `python tests/exercise_outputs.py`,
or `python tests/exercise_outputs.py 03_phantom` for some.

A question's words come from covidxr/course/questions/, and its picture is drawn. The words for the picture, which the
site needs in the cell, are written there, too.
"""

import json
import re
import sys
from pathlib import Path

from covidxr.course import exercise
from covidxr.course.checking import Exercise
from covidxr.course.choices import drawn

NOTEBOOKS = Path(__file__).parent.parent / "nbs"
ASKED = re.compile(r'(?:#\| .*\n)*exercise\("([^"]+)"\)\s*')


def source(one: Exercise) -> str:
    "The cell that asks an exercise"
    said = f"#| fig-alt: {json.dumps(one.picture['alt'], ensure_ascii=False)}\n" if one.shows else ""
    return f'{said}exercise("{one.key}")'


def shown(one: Exercise) -> list[dict]:
    "What this cell shows, as a notebook stores it"
    words = {"text/markdown": one._repr_markdown_(), "text/plain": repr(one)}
    texts = {kind: text.splitlines(keepends=True) for kind, text in words.items()}
    if not one.shows:
        return [{"data": texts, "execution_count": None, "metadata": {}, "output_type": "execute_result"}]
    picture = {"image/png": drawn(one.shows, one.picture), "text/plain": [f"[{one.picture['alt']}]"]}
    return [{"data": one, "metadata": {}, "output_type": "display_data"} for one in (texts, picture)]


def stored(notebook: dict) -> dict:
    "A lesson with its questions as they are now"
    for cell in notebook["cells"]:
        asked = ASKED.fullmatch("".join(cell["source"])) if cell["cell_type"] == "code" else None
        if asked:
            one = exercise(asked[1])
            cell["source"] = source(one).splitlines(keepends=True)
            cell["outputs"] = shown(one)
    return notebook


def main() -> None:
    "Write the lessons"
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            made = stored(json.loads(path.read_text(encoding="utf-8")))
            text = json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
