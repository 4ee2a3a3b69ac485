"""The course in other languages: `python tests/catalogues.py` brings the catalogues in i18n/ up to the English lessons.

An entry of a catalogue is found by its English text. Texts that are new come in without a translation; where the English
changed, the old translation stays, marked as fuzzy, until a translator has read both (`git diff` shows what changed), mended
the translation and taken the mark away. What no lesson says any more is dropped. The script prints how many entries of
each catalogue are missing and stale; the exit code is 1 where there are any.

`python tests/catalogues.py site` writes nbs/ko/, the Korean pages of the site, before it is built; Git does not keep them.
"""

import io
import json
import shutil
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from covidxr.course.catalog import questions
from covidxr.course.translation import catalogue, lesson_texts, question_texts, site_page

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "nbs"
CATALOGUES = ROOT / "i18n"
HEADER = """msgid ""
msgstr ""
"Language: {language}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


def translated_pages() -> list[Path]:
    "The notebooks that are read in several languages"
    return [*sorted(NOTEBOOKS.glob("[0-9]*_*.ipynb")), NOTEBOOKS / "gallery.ipynb"]


def english(notebook: Path) -> list[str]:
    "What a reader reads of a notebook and of its exercises, each text once"
    texts = dict.fromkeys(lesson_texts(json.loads(notebook.read_text(encoding="utf-8"))))
    lesson = notebook.stem.partition("_")[2]
    for key, one in questions().items():
        if key.partition(".")[0] == lesson:
            texts |= dict.fromkeys(question_texts(one))
    return list(texts)


def wordless(text: str) -> bool:
    "Is there nothing to translate, as in a cell that only holds a formula or badges?"
    return not any(letter.isalpha() for letter in text) or text.startswith(("$$", "[![")) and "\n\n" not in text


def template(notebook: Path, language: str) -> Catalog:
    "A catalogue without translations"
    made = Catalog(locale=language, fuzzy=False)
    for text in english(notebook):
        if not wordless(text):
            made.add(text)
    return made


def opened(file: Path, language: str) -> Catalog:
    "A catalogue as it is; an empty one where there is none"
    if not file.exists():
        return Catalog(locale=language, fuzzy=False)
    with open(file, "rb") as stream:
        return read_po(stream, locale=language, abort_invalid=True)


def updated(held: Catalog, notebook: Path, language: str) -> Catalog:
    "A catalogue brought up to the English text"
    held.update(template(notebook, language), update_header_comment=False)
    held.obsolete.clear()
    return held


def written(held: Catalog, language: str) -> str:
    "A catalogue as its file has it; without dates and names of programs, which would differ each time"
    stream = io.BytesIO()
    write_po(stream, held, width=0, omit_header=True, ignore_obsolete=True)
    return HEADER.format(language=language) + stream.getvalue().decode("utf-8").strip("\n") + "\n"


def missing(held: Catalog) -> list[str]:
    "English texts without a translation"
    return [entry.id for entry in held if entry.id and not entry.string]


def stale(held: Catalog) -> list[str]:
    "English texts whose translation is that of another text"
    return [entry.id for entry in held if entry.id and entry.string and entry.fuzzy]


def update(language: str) -> int:
    "Bring all catalogues of a language up to the English lessons; tells how many entries are not as they should be"
    total = 0
    (CATALOGUES / language).mkdir(parents=True, exist_ok=True)
    for notebook in translated_pages():
        file = CATALOGUES / language / f"{notebook.stem}.po"
        held = updated(opened(file, language), notebook, language)
        file.write_text(written(held, language), encoding="utf-8")
        lacking = len(missing(held)), len(stale(held))
        total += sum(lacking)
        print(f"{file.relative_to(ROOT)}: {len(held)} entries, {lacking[0]} missing, {lacking[1]} stale")
    return total


def site_pages(language: str, folder: Path) -> list[Path]:
    "Write the pages of a language; returns their files"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [path.name for path in translated_pages()]
    for path in translated_pages():
        lesson = json.loads(path.read_text(encoding="utf-8"))
        page = site_page(lesson, path.name, catalogue(path.stem, language), language, names)
        text = json.dumps(page, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / path.name).write_text(text + "\n", encoding="utf-8")
    return sorted(folder.iterdir())


if __name__ == "__main__":
    if sys.argv[1:] == ["site"]:
        print(f"{len(site_pages('ko', NOTEBOOKS / 'ko'))} pages in nbs/ko")
    elif sys.argv[1:]:
        sys.exit(f"no such word: {' '.join(sys.argv[1:])}; say nothing, or site")
    else:
        sys.exit(bool(update("ko")))
