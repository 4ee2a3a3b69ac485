"The lessons in Korean: nothing missing, nothing stale, the same in form, and the same code."

import json
import re
from collections import Counter

import catalogues
import pytest
from conftest import ROOT
from korean import KINDS, MISLEADING

from covidxr.base.errors import DataError
from covidxr.base.extras import MissingExtra
from covidxr.course import exercise, write_course
from covidxr.course.catalog import questions
from covidxr.course.translation import catalogue, lesson_texts, site_page, translated

PAGES = {path.stem: path for path in catalogues.translated_pages()}
SPELLED = {
    word: str(number)
    for number, word in enumerate(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(), 10
    )
} | {
    word: str(10 * number)
    for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
FORMS = {
    **{kind: counted for kind, counted in KINDS.items() if kind != "numbers"},
    "items": lambda text: len(re.findall(r"(?m)^(?:- |\d+\. )", text)),
    "quotes": lambda text: len(re.findall(r"(?m)^> ", text)),
    "formulas": lambda text: Counter(re.findall(r"\$[^$\n]+\$", text)),
    "fields": lambda text: text.count("{time}"),
}


def _held(name):
    return catalogues.opened(ROOT / "i18n" / "ko" / f"{name}.po", "ko")


def _said(held):
    "English texts with their translations"
    return [(entry.id, entry.string) for entry in held if entry.id and entry.string]


@pytest.fixture(scope="module", params=PAGES)
def page(request):
    "The name of a page and its catalogue"
    return request.param, _held(request.param)


def test_nothing_is_missing_or_stale(page):
    name, held = page
    assert (catalogues.missing(held), catalogues.stale(held)) == ([], [])
    told = [entry.id for entry in held if entry.id]
    assert sorted(told) == sorted(text for text in catalogues.english(PAGES[name]) if not catalogues.wordless(text))


def test_the_script_would_write_what_is_there(page):
    name, held = page
    file = ROOT / "i18n" / "ko" / f"{name}.po"
    assert catalogues.written(catalogues.updated(held, PAGES[name], "ko"), "ko") == file.read_text(encoding="utf-8")


def test_each_text_has_the_same_form(page):
    both = [(text, said, kind, count) for text, said in _said(page[1]) for kind, count in FORMS.items()]
    assert [(kind, text[:80]) for text, said, kind, count in both if count(text) != count(said)] == []


def _other_numbers(english, korean):
    "Numbers that only one of two texts has; what English spells out may be a figure in Korean"
    count = KINDS["numbers"]
    spelled = {SPELLED[word] for word in re.findall(r"[a-z]+", english.lower()) if word in SPELLED}
    lost, new = count(english) - count(korean), count(korean) - count(english)
    return [*lost, *(one for one in new if one.partition(": ")[2] not in spelled)]


def test_each_text_has_the_same_numbers(page):
    assert [(text, other) for text, said in _said(page[1]) if (other := _other_numbers(text, said))] == []


@pytest.mark.parametrize(
    ("korean", "other"),
    [
        ("사본 40장, 0.74", []),
        ("사본 마흔 장, 0.74", []),
        ("사본 50장, 0.74", ["0: 50"]),
        ("사본 40장, 0.47", ["0: 0.74", "0: 0.47"]),
    ],
)
def test_a_slip_in_a_number_is_noticed(korean, other):
    assert _other_numbers("Forty copies, 0.74", korean) == other


def test_each_text_is_korean_and_emphasis_closes(page):
    said = _said(page[1])
    assert [english[:80] for english, korean in said if not re.search("[가-힣]", korean)] == []
    # CommonMark does not close emphasis between a mark of punctuation and a letter: **보정(calibration)**은
    assert [
        re.search(r"[)\]”'%.]\*{1,2}[가-힣]", korean)[0]
        for _, korean in said
        if re.search(r"[)\]”'%.]\*{1,2}[가-힣]", korean)
    ] == []


@pytest.mark.parametrize(("pattern", "why"), MISLEADING)
def test_words_that_mislead_are_not_used(page, pattern, why):
    found = [entry.string for entry in page[1] if entry.id and re.search(pattern, re.sub(r"`[^`]*`", "", entry.string))]
    assert found == [], why


def test_a_text_that_changed_is_stale_and_one_that_went_is_dropped(tmp_path):
    lesson = json.loads(PAGES["01_start"].read_text(encoding="utf-8"))
    texts = lesson_texts(lesson)
    changed, gone = texts[4], texts[6]
    cells = []
    for cell in lesson["cells"]:
        source = "".join(cell["source"])
        if source == changed:
            cells.append({**cell, "source": [source + " And one more sentence."]})
        elif source != gone:
            cells.append(cell)
    copy = tmp_path / "01_start.ipynb"
    copy.write_text(json.dumps({**lesson, "cells": cells}), encoding="utf-8")
    held = catalogues.updated(_held("01_start"), copy, "ko")
    assert catalogues.stale(held) == [changed + " And one more sentence."]
    assert gone not in [entry.id for entry in held] and "#~" not in catalogues.written(held, "ko")
    text = catalogues.written(held, "ko")
    assert text.count("#, fuzzy") == 1
    assert catalogues.written(catalogues.updated(held, copy, "ko"), "ko") == text  # once is enough


def test_a_stale_text_is_shown_in_english(tmp_path, monkeypatch):
    held = _held("01_start")
    first = next(entry for entry in held if entry.id)
    first.flags.add("fuzzy")
    (tmp_path / "01_start.po").write_text(catalogues.written(held, "ko"), encoding="utf-8")
    monkeypatch.setattr("covidxr.course.translation.catalogue_file", lambda name, language: tmp_path / f"{name}.po")
    catalogue.cache_clear()
    texts = catalogue("01_start", "ko")
    catalogue.cache_clear()
    assert first.id not in texts and len(texts) == len([entry for entry in held if entry.id]) - 1


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"hello"])
def test_a_damaged_catalogue_is_named(tmp_path, monkeypatch, damage):
    (tmp_path / "01_start.po").write_bytes(damage)
    monkeypatch.setattr("covidxr.course.translation.catalogue_file", lambda name, language: tmp_path / f"{name}.po")
    catalogue.cache_clear()
    with pytest.raises(
        DataError, match=r"01_start\.po: this catalogue of texts cannot be read .*install covidxr again"
    ):
        catalogue("01_start", "ko")
    catalogue.cache_clear()


def test_without_babel_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("covidxr.base.extras._is_there", lambda name: name != "babel")
    catalogue.cache_clear()
    with pytest.raises(MissingExtra, match=r"babel is not installed; `pip install 'covidxr\[course\]'`"):
        catalogue("01_start", "ko")
    assert exercise("start.1").title  # English needs no catalogue


def test_code_and_outputs_are_the_same(page):
    lesson = json.loads(PAGES[page[0]].read_text(encoding="utf-8"))
    made = translated(lesson, catalogue(page[0], "ko"), "ko")
    for old, new in zip(lesson["cells"], made["cells"], strict=True):
        assert old.get("outputs") == new.get("outputs") and old["id"] == new["id"]
        if old["cell_type"] == "code":
            code = [
                "\n".join(
                    line
                    for line in "".join(cell["source"]).splitlines()
                    if not re.match(r"#\| (fig-alt|code-summary)", line)
                )
                for cell in (old, new)
            ]
            assert code[1].replace(', language="ko")', ")") == code[0]


def test_every_exercise_is_asked_in_korean_and_checks_the_same():
    for key, english in questions().items():
        korean = exercise(key, "ko")
        assert (korean.stub, korean.code, korean.name) == (english.stub, english.code, english.name)
        for text in (korean.title, korean.question, *korean.hints):
            assert re.search("[가-힣]", text), f"{key}: {text}"
    assert exercise("metrics.1").title == questions()["metrics.1"].title


def test_the_course_is_written_in_korean_beside_the_english_one(tmp_path, hashes):
    write_course(tmp_path / "mine")
    before = hashes(tmp_path / "mine")
    found = write_course(tmp_path / "mine", "ko")
    assert found["kept"] == [] and before.items() <= hashes(tmp_path / "mine").items()
    lesson = json.loads((tmp_path / "mine" / "lessons_ko" / "01_start.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in lesson["cells"]]
    assert re.search("[가-힣]", sources[0])
    assert 'ask = exercise("start.1", language="ko")\nask' in sources
    assert (tmp_path / "mine" / "solved_ko" / "01_start.ipynb").exists()
    assert (tmp_path / "mine" / "lessons_ko" / "images").is_dir()
    with pytest.raises(DataError, match="the course has no language 'fr'; it has en"):
        write_course(tmp_path / "other", "fr")
    assert not (tmp_path / "other").exists()


def test_site_pages_lead_somewhere_and_export_nothing(tmp_path):
    names = [path.name for path in PAGES.values()]
    for path in catalogues.site_pages("ko", tmp_path / "nbs" / "ko"):
        page = json.loads(path.read_text(encoding="utf-8"))
        sources = ["".join(cell["source"]) for cell in page["cells"]]
        assert sources[0] == "---\nlang: ko\n---" and sources[2] == f"[English](../{path.name}) · 한국어"
        assert not re.search(r"^#\| *(default_exp|export)", "\n".join(sources), re.M)
        words = "\n".join(
            source for cell, source in zip(page["cells"], sources, strict=True) if cell["cell_type"] == "markdown"
        )
        for target in re.findall(r"\]\(([\w./-]+?)(?:#[^)]*)?\)", words):
            there = target in names or (ROOT / "nbs" / "ko" / target).resolve().exists() or target.startswith("../api/")
            assert there, f"{path.name}: {target}"


def test_a_heading_keeps_the_name_by_which_links_find_it():
    text = "## When it goes wrong\n\n[x](08_metrics.ipynb#the-score) [y](faq.qmd#a) ![z](images/z.png) [w](https://a.b/c.ipynb)"
    lesson = {"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# A\n", "> b"]}]}
    lesson["cells"].append(
        {"cell_type": "markdown", "id": "b", "metadata": {}, "source": text.splitlines(keepends=True)}
    )
    korean = {text: text.replace("When it goes wrong", "잘못되는 경우")}
    made = "".join(site_page(lesson, "01_start.ipynb", korean, "ko", ["08_metrics.ipynb"])["cells"][3]["source"])
    assert made == (
        "## 잘못되는 경우 {#when-it-goes-wrong}\n\n"
        "[x](08_metrics.ipynb#the-score) [y](../faq.qmd#a) ![z](../images/z.png) [w](https://a.b/c.ipynb)"
    )
