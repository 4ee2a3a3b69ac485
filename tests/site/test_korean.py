"The Korean pages say the same as the English ones: commands, figures, links and tables."

import re
from collections import Counter

import lessons
import pytest
from conftest import ROOT
from korean import KINDS, MISLEADING

PAGES = {"README": ("README.md", "README.ko.md"), "results": ("nbs/results.qmd", "nbs/results_ko.qmd")}


def _both(page: str) -> tuple[str, str]:
    "The English and the Korean text, without the front matter"
    texts = ((ROOT / name).read_text(encoding="utf-8") for name in PAGES[page])
    return tuple(re.sub(r"(?s)\A---\n.*?\n---\n", "", text) for text in texts)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_korean_page_is_equal_in(kind, page):
    english, korean = map(KINDS[kind], _both(page))
    if isinstance(english, Counter):
        assert english - korean == Counter() and korean - english == Counter()
    assert english == korean


@pytest.mark.parametrize(
    ("page", "kind", "old", "new"),
    [
        ("README", "code", "covidxr run\n```", "covidxr run --seed 1\n```"),
        ("README", "commands", "`covidxr doctor`", "`covidxr doktor`"),
        ("README", "links", "nbs/08_metrics.ipynb", "nbs/09_classify.ipynb"),
        ("results", "numbers", "0.638", "0.683"),
        ("results", "numbers", "6,334", "6,343"),
        ("results", "tables", "| test_resnet-map-128 + yolo11n-160 | ", "| test_resnet-map-128 | yolo11n-160 | "),
        ("README", "sections", "## 강의", "### 강의"),
    ],
)
def test_a_slip_is_noticed(page, kind, old, new):
    english, korean = _both(page)
    assert old in korean
    assert KINDS[kind](korean.replace(old, new, 1)) != KINDS[kind](english)


@pytest.mark.parametrize("page", PAGES)
def test_it_is_korean(page):
    letters = re.findall(r"[가-힣]", _both(page)[1])
    assert len(letters) > 1500


def test_a_lesson_has_one_korean_name():
    korean = _both("README")[1]
    named = lessons.korean_names(korean)
    assert list(named) == [path.name for path in lessons.lessons()]
    table = korean.partition("<!-- times -->")[2].partition("<!-- end of times -->")[0]
    assert re.findall(r"\| \[\d\d ([^\]]+)\]\(nbs/([^)]+)\)", table) == [(name, file) for file, name in named.items()]


@pytest.mark.parametrize(("pattern", "why"), MISLEADING)
def test_words_that_mislead_do_not_come_back(pattern, why):
    assert all(re.search(pattern, _both(page)[1]) is None for page in PAGES), why
