"""The shape of every lesson, as a table: `python tests/shape.py`, or `python tests/shape.py nbs/04_dataset.ipynb` for one.

A lesson is read from top to bottom, so its size is limited (tests/doors/test_house.py holds the limits):

- code cells: at most 30, the median of their lines at most 8; hidden cells and directives (`#|`) do not count
- an exported cell has at most 30 lines; what is longer belongs into nbs/engine/
- words of prose: 900 to 2,500
- exported lines: at most 40 % of the lesson's lines of code
"""

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

NOTEBOOKS = Path(__file__).parent.parent / "nbs"


@dataclass(frozen=True)
class Shape:
    "What is measured of one lesson"

    cells: int  # code cells that a reader sees
    median: float  # lines of the middle one
    longest: int  # lines of the longest one
    exported: int  # lines of the longest exported one
    words: int  # of prose
    share: float  # exported lines of all lines of code, 0 to 1

    def faults(self) -> list[str]:
        "What is outside the limits, in words"
        checks = [
            (self.cells <= 30, f"{self.cells} code cells, 30 at most"),
            (self.median <= 8, f"the median cell has {self.median:g} lines, 8 at most"),
            (self.exported <= 30, f"an exported cell has {self.exported} lines, 30 at most"),
            (900 <= self.words <= 2500, f"{self.words} words, 900 to 2,500"),
            (self.share <= 0.4, f"{self.share:.0%} of the lines are exported, 40 % at most"),
        ]
        return [said for fine, said in checks if not fine]


def code_lines(source: str) -> int:
    "Lines of a cell without directives and blank lines"
    return sum(1 for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#|"))


def shape(notebook: Path) -> Shape:
    "Measure one lesson"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = [("code" == cell["cell_type"], "".join(cell["source"])) for cell in cells]
    code = [text for is_code, text in texts if is_code and not text.startswith(("#| hide", "#| default_exp"))]
    lengths = [code_lines(text) for text in code if code_lines(text)]
    exported = [code_lines(text) for text in code if text.startswith("#| export")]
    words = sum(len(text.split()) for is_code, text in texts if not is_code)
    middle = statistics.median(lengths)
    return Shape(
        len(lengths), middle, max(lengths), max(exported, default=0), words, sum(exported) / max(sum(lengths), 1)
    )


def lessons() -> list[Path]:
    "The lessons' notebooks, in the course's order"
    return sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def main() -> None:
    "Print the table"
    print("| lesson | code cells | median | longest | longest exported | words | exported | outside the limits |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    for path in [Path(one) for one in sys.argv[1:]] or lessons():
        one = shape(path)
        print(
            f"| {path.stem} | {one.cells} | {one.median:g} | {one.longest} | {one.exported} | {one.words} | "
            f"{one.share:.0%} | {'; '.join(one.faults())} |"
        )


if __name__ == "__main__":
    main()
