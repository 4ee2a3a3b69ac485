"What an English text and its Korean one must have in common, and words that mislead."

import re
from collections import Counter

BETWEEN = {"README.md", "README.ko.md", "results.qmd", "results_ko.qmd"}  # links between the two languages


def _code(text: str) -> list[str]:
    "Blocks of code, to the letter"
    return re.findall(r"(?ms)^```\w*\n(.*?)^```", text)


def _commands(text: str) -> Counter:
    "Code within lines"
    return Counter(re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text)))


def _links(text: str) -> Counter:
    "Where links and pictures lead, a Korean page counted as its English one; links between the two languages are left out"
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if target not in BETWEEN]
    return Counter(target.replace("_ko.qmd", ".qmd") for target in targets)


def _numbers(text: str) -> Counter:
    "Every figure with a decimal point or of two digits and more, section by section"
    text = re.sub(r"\]\([^)]*\)|`[^`\n]*`", "", re.sub(r"(?ms)^```.*?^```", "", text))
    return Counter(
        f"{place}: {number.rstrip('.,')}"
        for place, part in enumerate(re.split(r"(?m)^## ", text))
        for number in re.findall(r"(?<![\w.])[+-]?\d[\d,]*\.?\d*(?:e-\d+)?", part)
        if len(number.strip("+-.,")) > 1
    )


def _tables(text: str) -> list[int]:
    "Cells of each row of a table"
    return [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in text.splitlines() if line.startswith("|")]


def _sections(text: str) -> list[int]:
    "How deep each heading is"
    return [len(marks) for marks in re.findall(r"(?m)^(#+) ", re.sub(r"(?ms)^```.*?^```", "", text))]


KINDS = {
    "code": _code,
    "commands": _commands,
    "links": _links,
    "numbers": _numbers,
    "tables": _tables,
    "sections": _sections,
}


MISLEADING = [
    (r"(?<!주피터 )노트북", "노트북 alone is a laptop: 주피터 노트북"),
    (r"상자", "practitioners say 박스 (bounding box)"),
    (r"부호화|복호화", "복호화 is decrypting: 인코딩, 디코딩"),
    (r"\d %", "Korean writes 95% without a space"),
    (r"내보내기", "Ship is 배포; 내보내기 is to export"),
    (r"사전 비율", "사전 is a dictionary, too: 사전확률"),
]
