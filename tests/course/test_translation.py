"The lessons in Korean: nothing missing, nothing stale, the same in form, and the same code."

import json
import re
import tomllib
from collections import Counter
from string import Formatter

import catalogues
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from korean import KINDS, MISLEADING

from covidxr.base.errors import DataError
from covidxr.base.extras import MissingExtra
from covidxr.course import exercise, write_course
from covidxr.course.catalog import questions
from covidxr.course.checking import Exercise
from covidxr.course.choices import choice_verdict
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

SENTENCES = tomllib.loads((ROOT / "covidxr" / "course" / "words.toml").read_text(encoding="utf-8"))
BOTH = {
    f"{kind}.{name}": said for kind, own in SENTENCES.items() if kind != "picture" for name, said in own.items()
}  # what a picture says is drawn, without Hangul
PARTICLES = (
    r"\}[`\"]?(?:은|는|이|가|을|를|과|와|로|으로|라|이라)(?![가-힣])"  # which one is right depends on the word before
)


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
    notes = [source.partition("  # ")[2] for source in sources if source.startswith("ask.check(")]
    assert notes == [SENTENCES["edition"]["stuck"]["ko"]] * 3
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
        shown = json.dumps([cell.get("outputs") for cell in page["cells"]], ensure_ascii=False)
        assert not re.search(r"Exercise \w+\.\d", shown)
        assert len(re.findall(r"\*\*연습 문제 \w+\.\d", shown)) == (0 if path.stem == "gallery" else 3), path.name
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


def _fields(text):
    "What is filled in, and in which form"
    return sorted((name, form) for _, name, form, _ in Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("name", BOTH)
def test_what_the_checker_says_stands_in_both_languages_with_the_same_fields(name):
    english, korean = BOTH[name]["en"], BOTH[name]["ko"]
    assert set(BOTH[name]) == {"en", "ko"} and _fields(english) == _fields(korean)
    assert re.search("[가-힣]", korean) or name == "function.fault"  # all of it is filled in
    assert not re.search(PARTICLES, korean), "no particle after what is filled in"
    assert not any(re.search(pattern, re.sub(r"`[^`]*`", "", korean)) for pattern, _ in MISLEADING)


def test_a_particle_that_depends_on_what_is_filled_in_is_noticed():
    for korean in ("{given}은 답이 아닙니다", "`{name}`를 정의", "{low}와 {high} 사이"):
        assert re.search(PARTICLES, korean)
    assert not re.search(PARTICLES, "{rounds}벌, {margin}보다, `{name}` 함수를, {given} 이내")


def _english(text):
    "Words of English sentences of the checker in what it says"
    parts = {part for said in BOTH.values() for part, *_ in Formatter().parse(said["en"])}
    words = {part.strip(" .:;()|") for part in parts}
    return [part for part in words if len(part) > 3 and " " in part and part in text] + re.findall(
        "Not yet|Right|Hint|Exercise|yours:|expected:", text
    )


def _solved(one):
    "What the code of an exercise's solution defines"
    own = {"np": np, "pd": pd}
    exec(one.code, own)
    return own[one.name]


def _fails(*_):
    raise ValueError("세 번째 행")


def _prints(*_):
    print(1)


@pytest.mark.parametrize(
    ("key", "answer", "told"),
    [
        ("metrics.1", None, "아직 함수가 없습니다. 먼저 `iou` 함수를 정의하십시오."),
        ("metrics.1", 0.5, "함수 자체를 넣으십시오: `.check(iou)`. 넣은 값: 0.5"),
        ("metrics.1", lambda *_: 7, "아직 정답이 아닙니다.*내 답: 7\n정답:  "),
        ("metrics.1", lambda *_: None, "`return`이 빠지지 않았습니까?"),
        ("metrics.1", _fails, "함수에서 오류가 났습니다. ValueError: 세 번째 행\n정답:  "),
        ("metrics.1", _prints, "`print` 대신 `return`을 쓰십시오."),
        ("metrics.1", lambda *_: iter([1]), "아직 값이 없습니다(list_iterator)."),
        ("metrics.2", ..., "먼저 `rank` 함수를 정의하십시오."),
        ("metrics.2", _fails, "데이터로 시험한 결과입니다. 함수에서 오류가 났습니다. ValueError: 세 번째 행"),
        ("metrics.2", lambda *_: None, "함수가 None을 돌려줍니다.*유한한 숫자 500개입니다."),
        ("metrics.2", lambda *_: [1], "함수가 돌려준 값: [1]\n답은 `new`의 행마다"),
        ("metrics.2", lambda known, new: new["confidence"], "*내 답 0.*비교 기준(*95% 신뢰구간*신뢰도를 그대로 쓰면"),
        ("metrics.2", lambda known, new: new["in_truth"], "써서는 안 되는 정보*`in_truth`를 읽고 있습니다."),
        ("metrics.2", lambda known, new: np.random.default_rng().random(len(new)), "난수의 시드를 고정하십시오."),
        ("metrics.3", ..., "아직 답이 없습니다. 먼저 `answer`에 답을 넣으십시오."),
        ("metrics.3", "E", '쓰십시오: "A", "B", "C", "D". 넣은 값: \'E\''),
        ("metrics.3", _fails, "다음 가운데 하나를 쓰십시오"),
        ("metrics.3", "B", "아직 정답이 아닙니다. 넣은 답: B. 모든 예측이 맞지만"),
    ],
)
def test_an_exercise_that_was_opened_in_korean_says_in_korean_what_is_wrong(key, answer, told):
    verdict = exercise(key, "ko").check(answer)
    assert not verdict.right and _english(verdict.text) == []
    assert re.search(".*".join(map(re.escape, told.split("*"))), verdict.text, re.S), verdict.text
    other = exercise(key).check(answer).text
    assert _english(other) and not re.search("[가-힣]", other.replace("세 번째 행", "")), "English stays English"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("metrics.1", "정답입니다. 입력 60개에서 모두 맞았습니다. (metrics.1: IoU(교집합과 합집합의 비))"),
        ("metrics.2", "통과했습니다. 신뢰구간 전체가 0보다 큽니다.\n평균 정밀도(AP): 내 답 "),
        ("metrics.3", "정답입니다: A. 먼저 두 개를 맞히고"),
    ],
)
def test_an_exercise_that_was_opened_in_korean_says_in_korean_what_is_right(key, told, monkeypatch, tmp_path):
    monkeypatch.setenv("COVIDXR_PROGRESS", str(tmp_path / "progress.json"))
    one = exercise(key, "ko")
    verdict = one.check(_solved(one))
    assert verdict.right and verdict.text.startswith(told) and _english(verdict.text) == []
    (tmp_path / "progress.json").write_text("my own notes")
    text = one.check(_solved(one)).text
    assert "진행 상황을 저장하지 못했습니다. 원인: " in text and "손상되었습니다" in text and _english(text) == []


def test_questions_hints_and_solutions_are_headed_in_korean():
    for key in ("metrics.1", "metrics.2", "metrics.3"):
        one = exercise(key, "ko")
        one._asked["hints"] = 0
        said = [one.hint().text for _ in one.hints]
        assert [text.partition(": ")[0] for text in said] == ["힌트 1/3", "힌트 2/3", "힌트 3/3"]
        told = [*said, one.solution().text, repr(one), one._repr_markdown_()]
        assert [words for text in told if (words := _english(text.replace(one.code, "")))] == []
        assert f"연습 문제 {key}: {one.title}" in repr(one) and f"**연습 문제 {key}: " in one._repr_markdown_()


def test_a_wrong_answer_that_is_drawn_is_told_in_korean():
    one = exercise("detect.1", "ko")
    verdict = one.check(lambda boxes, side: [[0.5, 0.5, 0.1, 0.1]] * len(boxes))
    assert verdict.picture and 'alt="내 답(yours)과 정답(expected)을 나란히 그린 그림"' in verdict._repr_html_()


def test_numbers_are_checked_in_korean():
    one = Exercise(
        key="00.9", title="비율", question="어떤 비율입니까?", name="share", stub="share = ...", code="share = 0.3",
        hints=("", "", ""), expected=lambda: 0.3, language="ko",
    )  # fmt: skip
    told = [one.check(answer).text for answer in (None, _fails, 30, 0.4, 0.3)]
    assert [text for text in told if _english(text) or not re.search("[가-힣]", text)] == []
    assert "0부터 1까지의 숫자" in told[2] and "0부터 1까지" not in told[3] and told[4] == "정답입니다. (00.9: 비율)"
    why = {"below": "질환자를 생각하십시오.", "above": "건강한 사람을 생각하십시오.", "right": "대부분 오경보입니다."}
    told = [choice_verdict(0.16, 0.02, why, "share", answer, "ko")[1] for answer in ("x", 0.95, 0.17)]
    assert told == [
        "아직 정답이 아닙니다. 숫자를 넣으십시오. 넣은 값: 'x'",
        "아직 정답이 아닙니다. 넣은 답: 0.95. 건강한 사람을 생각하십시오.",
        "정답입니다: 0.17 (참값 0.16, 허용 오차 0.02). 대부분 오경보입니다.",
    ]


@pytest.mark.parametrize(
    ("key", "told"), [("metrics.9", "metrics 강의의 연습 문제: metrics.1"), ("07.1", "강의 이름과")]
)
def test_an_exercise_that_does_not_exist_is_told_in_korean(key, told):
    with pytest.raises(DataError, match=f"{key}: 이런 연습 문제는 없습니다.*{told}"):
        exercise(key, "ko")
