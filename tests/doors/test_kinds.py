"Kinds of input that nobody had tried until somebody did: each gets the right value, or one sentence."

import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from covidxr.base.arguments import check_each, check_number, check_path
from covidxr.base.errors import CovidxrError, DataError, XrayError
from covidxr.base.extras import opencv
from covidxr.base.files import check_file, check_folder, owned_file, owned_folder
from covidxr.base.terms import BOX_COLUMNS
from covidxr.base.words import filled
from covidxr.calibrate import reliability
from covidxr.cli import parser
from covidxr.data.files import xray_files
from covidxr.dataset import open_dataset, problems
from covidxr.dicom import XrayFacts, read_facts, read_xray, write_dicom
from covidxr.eda import figure, summary
from covidxr.ensemble import class_score, revise_classes, weighted_boxes_fusion
from covidxr.folds import patient_folds, rounds
from covidxr.hospital import simulate_dataset
from covidxr.metrics import bootstrap_scores, paired_difference, score
from covidxr.phantom import simulate
from covidxr.prepare import prepare
from covidxr.runs.inference import given_files, predict
from covidxr.runs.packing import pack_run
from covidxr.runs.profiles import PROFILES
from covidxr.runs.run import open_run
from covidxr.shortcuts import only_changed, subgroups
from covidxr.submission import submission_table, write_submission


def _pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        drawn = opencv().imencode(".png", np.full((40, 40), 20 + 10 * number, np.uint8))[1]
        (folder / name).write_bytes(drawn.tobytes())


# Folders and files


def test_what_we_made_of_xrays_is_no_xray_of_the_folder_it_lies_in(tmp_path):
    _pictures(tmp_path / "s" / "im", "x.png", "y.png")
    (tmp_path / "s" / "images.csv").write_text("file,label\nx.png,a\ny.png,b\n")
    for size in (32, 48):
        for _ in range(2):
            assert len(prepare(tmp_path / "s", tmp_path / "s" / f"cache{size}", size=size)) == 2
    assert len(open_dataset(tmp_path / "s").images) == 2 and len(xray_files(tmp_path / "s")) == 2
    assert len(xray_files(tmp_path / "s" / "cache32")) == 2, "who asks for the copies gets them"


def test_a_file_that_somebody_writes_meanwhile_stays(tmp_path):
    path = tmp_path / "out.csv"
    with pytest.raises(DataError, match="is there already"), owned_file(path) as partial:
        partial.write_text("ours")
        path.write_text("theirs")
    assert path.read_text() == "theirs" and os.listdir(tmp_path) == ["out.csv"]
    path.unlink()
    for text in ("one", "two"):
        with owned_file(path) as partial:
            partial.write_text(text)
    assert path.read_text() == "two"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system knows no named pipes")
def test_a_pipe_is_no_file_to_write(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no plain file"):
        check_file(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["s3://bucket/x", "gs:/tmp/x", "https://x.org/a.png", "file:///tmp/x"])
def test_an_address_is_no_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grey = np.zeros((64, 64), np.uint16)
    for call in (
        check_path,
        lambda one: prepare("x.png", one),
        open_dataset,
        read_xray,
        read_facts,
        xray_files,
        lambda one: write_dicom(one, grey, XrayFacts("a")),
    ):
        for one in (name, Path(name)):
            with pytest.raises(CovidxrError, match="an address, not a file of this machine"):
                call(one)
    assert os.listdir(tmp_path) == []


def test_an_address_in_the_environment_is_no_folder_either(tmp_path, monkeypatch):
    from covidxr.course.folder import course_folder
    from covidxr.course.progress import remember, solved

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COVIDXR_COURSE", "gs://bucket/c")
    monkeypatch.setenv("COVIDXR_PROGRESS", "s3://bucket/p.json")
    with pytest.raises(DataError, match="COVIDXR_COURSE is gs://bucket/c: an address"):
        course_folder()
    with pytest.raises(DataError, match="COVIDXR_PROGRESS is s3://bucket/p.json: an address"):
        solved()
    assert "COVIDXR_PROGRESS is s3://bucket/p.json: an address" in remember("metrics.1")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["run", "eda", "model", "space"])
def test_plots_that_we_drew_are_no_xrays_even_where_their_folder_is_named(kind, tmp_path):
    place = tmp_path / "ours"
    with owned_folder(place, kind):
        _pictures(place, "eda-figure.png")
        _pictures(place / "figures", "curves.png")
    for named in (place, place / "figures"):
        for call in (xray_files, lambda one: prepare(one, tmp_path / "small"), given_files):
            with pytest.raises(DataError, match="that covidxr wrote, and holds plots; name a folder of X-rays"):
                call(named)
    with owned_folder(place / "data", "data"):
        _pictures(place / "data" / "train", "x.png")
    _pictures(place / "mine", "y.png")
    assert len(xray_files(place / "data")) == len(xray_files(place / "data" / "train")) == 1, "a dataset in a run"
    assert len(xray_files(place / "mine")) == 1, "somebody's own X-rays beside them"


def test_a_command_in_a_message_can_be_typed_as_it_stands(tmp_path):
    for name in ("my xrays", "it's", "$HOME"):
        with pytest.raises(DataError) as told:
            open_dataset(tmp_path / name)
        command = re.search("`(.*)`", str(told.value))[1]
        assert shlex.split(command) == ["covidxr", "data", "phantom", "--out", str(tmp_path / name)]
    (tmp_path / "table.csv").write_text("id\n")
    with pytest.raises(DataError, match="table.csv: is a file; give the folder of a dataset"):
        open_dataset(tmp_path / "table.csv")


def _begun(folder: Path, **changes) -> Path:
    "A run that was begun and stopped"
    claim = {"data": "phantom", "seed": 6, "profile": PROFILES["quick"].decisive()} | changes
    with owned_folder(folder, "run", claim):
        pass
    return folder


@pytest.mark.parametrize("changes", [{}, {"data": "/my data"}, {"profile": PROFILES["full"].decisive()}])
def test_the_cure_for_an_unfinished_run_is_one_that_its_folder_takes(changes, tmp_path):
    folder = _begun(tmp_path / "a run", **changes)
    for ask in (lambda: predict(folder, "x.dcm", tmp_path / "s.csv"), lambda: pack_run(folder, tmp_path / "m.zip")):
        with pytest.raises(DataError, match="a run: not a finished run; `covidxr run .*` finishes it") as told:
            ask()
    words = parser(False).parse_args(shlex.split(re.search("`covidxr (.*)`", str(told.value))[1]))
    asked = {"data": words.data, "seed": words.seed, "profile": PROFILES[words.profile].decisive()}
    check_folder(words.out, "run", asked)  # would refuse another claim
    assert Path(words.out) == folder


def test_where_no_command_finishes_a_run_none_is_named(tmp_path):
    own = _begun(tmp_path / "own", profile=replace(PROFILES["quick"], draws=7).decisive())
    with pytest.raises(DataError, match="`covidxr.run` in Python finishes it, with the profile quick as it was then"):
        predict(own, "x.dcm", tmp_path / "s.csv")
    (tmp_path / "xrays").mkdir()
    with pytest.raises(DataError, match="xrays: not a finished run; give the folder of a run, or the file"):
        predict(tmp_path / "xrays", "x.dcm", tmp_path / "s.csv")
    for ask in (predict, pack_run, lambda run, *_: open_run(run)):
        with pytest.raises(DataError, match="model_v2.zip: no such f"):
            ask(tmp_path / "model_v2.zip", *([["x.dcm"]] if ask is predict else []), tmp_path / "s.zip")


def test_a_seed_is_a_whole_number_wherever_chance_decides(tmp_path):
    from covidxr.base.seeds import generator
    from covidxr.pipeline import run

    for seed in (float("nan"), 1.5, None, "7", -1):
        for call in (lambda one: generator(one, "x"), lambda one: run("phantom", tmp_path / "r", seed=one)):
            with pytest.raises(DataError, match="seed"):
                call(seed)
        with pytest.raises(DataError, match="seed"):
            only_changed(seed, {"letter": "R"}, size=64)
    assert os.listdir(tmp_path) == []


def test_a_folder_stands_for_its_dataset_wherever_one_is_taken(tmp_path):
    simulate_dataset(tmp_path / "d", studies=30, seed=1, size=64)
    dataset = open_dataset(tmp_path / "d")
    for call in (summary, problems, lambda one: patient_folds(one, 2).to_dict()):
        assert call(dataset) == call(tmp_path / "d") == call(str(tmp_path / "d"))
    figure(str(tmp_path / "d"))
    for call in (summary, problems, figure, patient_folds):
        for other in (7, None, tmp_path / "nowhere"):
            with pytest.raises(DataError):
                call(other)


def test_columns_may_be_called_by_numbers():
    table = pd.DataFrame({1: list("aabb") * 5, 2: [True, False] * 10, 0: range(20), 3: range(20)})
    found = subgroups(table, [1], target=2, value=3, patient=0, draws=20)
    assert list(found["pictures"]) == [20, 10, 10]
    with pytest.raises(DataError, match="has no column 5; add it, as it needs 1, 5, 2, 3"):
        subgroups(table, [1, 5], target=2, value=3)
    chances = pd.DataFrame(np.full((4, 3), 1 / 3)).assign(label=[0, 1, 2, 0])
    with pytest.raises(DataError, match="has no column 3"):
        reliability(chances, classes=[0, 1, 2, 3])


@pytest.mark.parametrize("number", [Decimal("0.5"), Fraction(1, 2), np.float32(0.5), np.array(0.5)])
def test_numbers_of_every_kind_are_numbers(number):
    assert check_number(number, "it", 0, 1) == 0.5 and check_each(number, 2, "it").tolist() == [0.5, 0.5]
    for odd in (Decimal("NaN"), Decimal("sNaN"), Decimal(2), Fraction(3, 2), 10**400, True, "0.5", None):
        with pytest.raises(DataError, match="it must lie from 0 to 1"):
            check_number(odd, "it", 0, 1)


def test_a_drive_is_no_address_and_home_is_spelled_out_in_a_terminal(monkeypatch):
    assert check_path("C:/scans").name == "scans" and check_path("a:b").name == "a:b"
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    assert filled("~/x") == os.path.expanduser("~/x") != "~/x" and filled("~x") == "~x" and filled("a~/b") == "a~/b"


def test_a_name_in_parts_is_the_same_name(tmp_path):
    name = "흉부é.png"
    whole, parts = unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)
    for on_disk, told in ((parts, whole), (whole, parts)):
        folder = tmp_path / str(len(on_disk))
        _pictures(folder, on_disk, "other.png")
        (folder / "images.csv").write_text(f"file,label\n{told},a\nother.png,b\n", encoding="utf-8")
        assert len(open_dataset(folder).images) == 2
    _pictures(tmp_path / "both" / "one", parts)
    _pictures(tmp_path / "both" / "two", whole)
    (tmp_path / "both" / "images.csv").write_text(f"file,label\n{whole},a\n", encoding="utf-8")
    if len(xray_files(tmp_path / "both")) == 2:
        with pytest.raises(DataError, match="may be"):
            open_dataset(tmp_path / "both")


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zip", "csv.zst", "csv"])
def test_a_submission_is_text_whatever_its_name_ends_in(ending, tmp_path):
    row = {"id": "a_image", "label": "none", "confidence": 0.5, "x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1}
    write_submission(pd.DataFrame([row]), ["a_image"], tmp_path / f"s.{ending}")
    assert (tmp_path / f"s.{ending}").read_text().startswith("id,PredictionString\na_image,none 0.5")


def test_a_mark_that_somebody_changed_is_told(tmp_path):
    with owned_folder(tmp_path / "run", "run", {"seed": 1}):
        pass
    mark = tmp_path / "run" / ".covidxr.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"claim": [1]}))
    with pytest.raises(DataError, match="another seed"), owned_folder(tmp_path / "run", "run", {"seed": 1}):
        pass


def test_only_the_word_phantom_means_simulated_xrays(tmp_path, monkeypatch):
    from covidxr.pipeline import run

    monkeypatch.chdir(tmp_path)
    for path in (Path("phantom"), "./phantom"):
        with pytest.raises(DataError, match="phantom"):
            run(path, "out")
    assert os.listdir(tmp_path) == []


def test_a_name_gives_a_terminal_no_commands(tmp_path):
    from covidxr.base.errors import printable

    assert printable("a\x1b[31mX\x9b\x7f\t\n\udcfc") == "a%1B[31mX%9B%7F\t\n%FC"
    with pytest.raises(DataError) as said:
        open_dataset(tmp_path / "a\x1b[31m")
    assert "\x1b" not in str(said.value) and "%1B[31m" in str(said.value)


# The command line


def _command(words: str, **given: str) -> subprocess.CompletedProcess:
    "What the shell says of a command, its output buffered as in a user's terminal"
    own = {name: word for name, word in os.environ.items() if name != "PYTHONUNBUFFERED"} | given
    start = f"{sys.executable} -c 'import sys; from covidxr.cli import main; sys.exit(main())'"
    line = words.replace("covidxr", start)
    return subprocess.run(["bash", "-c", line], env=own, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix")
@pytest.mark.parametrize("words", ["progress", "--help", "score --help", "--version"])
def test_a_reader_that_has_gone_is_no_fault(words):
    done = _command(f"covidxr {words} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("words", ["progress", "--help", "--version"])
def test_a_full_disk_is_told_once(words):
    done = _command(f"covidxr {words} > /dev/full")
    assert done.returncode == 2 and done.stderr == "covidxr: the system: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix")
def test_help_is_given_where_the_terminal_has_few_letters():
    for given in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = _command("covidxr ensemble --help", **given)
        assert done.returncode == 0 and "weighted boxes" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(("words", "said"), [(["app", "--port", "65536"], "65536 is not a port")])
def test_a_number_that_is_none_is_told(words, said, capsys):
    from covidxr.cli import main

    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


# Tables and scores

TRUTH = pd.DataFrame([["a", "x", 0, 0, 9, 9], ["b", "x", 0, 0, 9, 9]], columns=["id", "label", *BOX_COLUMNS])
STUDIES = pd.DataFrame({"study_id": list("abcd"), "negative": [0.9, 0.1, 0.2, 0.3], "typical": [0.1, 0.9, 0.3, 0.2]})


def test_more_draws_than_a_number_holds_are_refused():
    with pytest.raises(DataError, match="do not fit in memory"):
        bootstrap_scores(TRUTH, {"one": TRUTH.assign(confidence=0.5)}, {}, draws=10**20)


def test_one_patient_gives_no_interval():
    said = TRUTH.assign(confidence=0.9)
    draws = bootstrap_scores(TRUTH, {"one": said, "two": said[:1]}, {"a": "p", "b": "p"}, 50)
    found = paired_difference(draws, "one", "two")
    assert found["mean"] == 0.5 and np.isnan([found[name] for name in ("low", "high", "probability")]).all()
    draws = bootstrap_scores(TRUTH, {"one": said, "two": said}, {"a": "p", "b": "q"}, 50)
    assert paired_difference(draws, "one", "two")["low"] == 0


def test_a_true_class_that_nobody_said_counts():
    labels = {"a": "negative", "b": "typical", "c": "atypical", "d": "negative"}
    melted = STUDIES.melt("study_id", None, "label", "confidence").rename(columns={"study_id": "id"})
    truth = pd.DataFrame({"id": labels.keys(), "label": labels.values()})
    one = dict.fromkeys(BOX_COLUMNS[:2], 0) | dict.fromkeys(BOX_COLUMNS[2:], 1)
    wanted = score(truth.assign(**one), melted.assign(**one)).map
    assert class_score(STUDIES, labels) == pytest.approx(wanted) == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", [str, "category", "string", float])
def test_folds_of_text_are_the_same_folds(kind):
    fold = pd.Series([0, 1, 2, 0, 1, 2], index=list("abcdef"))
    text = fold.astype(str if kind == "category" else object).astype(kind) if kind is not float else fold.astype(float)
    assert rounds(text) == rounds(fold) and all(one.test and one.valid for one in rounds(text))
    for wrong in (None, 3):
        with pytest.raises(DataError, match="test half's studies"):
            rounds(fold, test=wrong)


def test_classes_may_be_called_by_numbers_and_not_like_columns():
    shares = {0: 1.0, 1: 0.1}
    studies = pd.DataFrame({"study_id": ["a", "b"], 0: [0.5, 0.2], 1: [0.5, 0.8]})
    found = revise_classes(studies, shares, {"a": 0.9, "b": 0.1})
    assert list(found) == ["study_id", 0, 1] and np.allclose(found[[0, 1]].sum(axis=1), 1) and found[0][0] > 0.5
    with pytest.raises(DataError, match="a column confidence, which is no class"):
        submission_table(STUDIES.assign(confidence=1), TRUTH.assign(image_id="a", confidence=1), {"a": 0.5})


@pytest.mark.parametrize("values", [pd.to_datetime(["2020-01-01"] * 2), pd.to_timedelta([1, 2], "s"), [1j, 0.5]])
def test_dates_and_complex_numbers_are_no_confidences(values):
    for given in (values, np.array(list(values), object)):
        with pytest.raises(DataError, match="confidence"):
            score(TRUTH, TRUTH.assign(confidence=given))


def test_ages_are_read_as_headers_say_them_and_boxes_end_somewhere(tmp_path):
    ages = ["061Y", "45", "45.5", "006M", "-5", "inf", "1e9", "old", ""]
    _pictures(tmp_path, *[f"i{number}.png" for number in range(len(ages))])
    rows = "".join(f"i{number}.png,a,{age}\n" for number, age in enumerate(ages))
    (tmp_path / "images.csv").write_text(f"file,label,age\n{rows}")
    found = open_dataset(tmp_path).images.sort_values("path")["age"].to_numpy(float)
    assert np.array_equal(found, [61, 45, 45.5, 0, *[np.nan] * 5], equal_nan=True)
    (tmp_path / "boxes.csv").write_text("file,x,y,width,height\ni0.png,1e308,1,1e308,5\n")
    with pytest.raises(DataError, match=r"boxes\.csv: row 2.*too large"):
        open_dataset(tmp_path)


def test_patients_that_are_unknown_in_words_are_nobody(tmp_path):
    from covidxr.hospital import simulate_dataset
    from covidxr.tables.submission_comparing import _known_patients

    simulate_dataset(tmp_path, studies=6, size=64, workers=1)
    images = open_dataset(tmp_path).images
    for words in (["nan", "None", "NA", " p1 ", "p1", ""], ["", "N/A", "null", "unknown", "p1", " p1"]):
        table = images[:6].assign(patient_id=words)[["image_id", "patient_id"]]
        (tmp_path / "headers.csv").write_text(table.to_csv(index=False))
        known = _known_patients([tmp_path / "train_study_level.csv"])
        assert list(known.values()).count("p1") == 2 and not ({*words, "unknown"} - {"p1"}) & set(known.values()), known


@pytest.mark.parametrize("word", ["no", "False", None, 2, [True]])
def test_a_switch_is_true_or_false(word, tmp_path):
    _pictures(tmp_path, "x.png")
    boxes = TRUTH.assign(image_id="a", confidence=0.5, model="m")
    calls = (
        lambda: read_xray(tmp_path / "x.png", as_stored=word),
        lambda: weighted_boxes_fusion(boxes, allows_overflow=word),
        lambda: bootstrap_scores(TRUTH, {"one": boxes}, {}, 5, by_class=word),
        lambda: prepare(tmp_path, tmp_path / "out", draft=word),
    )
    for call in calls:
        with pytest.raises(CovidxrError, match="must be True or False"):
            call()


# Pixels


def _written(folder: Path, **changes: object) -> Path:
    "A DICOM of 64 x 64 whose header somebody changed"
    import pydicom

    path = folder / "x.dcm"
    write_dicom(path, np.arange(4096, dtype=np.uint16).reshape(64, 64), XrayFacts("i", "s", "chest", "p"))
    ds = pydicom.dcmread(path)
    for name, value in changes.items():
        delattr(ds, name) if value is None else setattr(ds, name, value)
    ds.save_as(path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {
            "PhotometricInterpretation": "RGB",
            "SamplesPerPixel": None,
            "BitsAllocated": 8,
            "BitsStored": 8,
            "HighBit": 7,
        },
        {"SamplesPerPixel": None, "PhotometricInterpretation": None, "PixelData": bytes(64 * 64 * 6)},
        {"NumberOfFrames": None, "PixelData": bytes(64 * 64 * 4)},
        {"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11, "PixelData": bytes(64 * 64 * 3 // 2)},
    ],
)
def test_pixels_of_another_layout_are_refused(changes, tmp_path):
    changes = {name: value for name, value in changes.items() if name != "NumberOfFrames"}
    with pytest.raises(XrayError, match="belong to one grey frame|BitsAllocated"):
        read_xray(_written(tmp_path, **changes))


def test_a_window_far_from_zero_tells_grey_levels_apart():
    from covidxr.xray.display import apply_window

    values = np.arange(2**30, 2**30 + 10)
    assert np.allclose(apply_window(values, 2**30 + 5, 10), apply_window(np.arange(10), 5, 10), atol=1e-6)
    assert apply_window(values, 2**30 + 5, 10).dtype == np.float32


def test_a_voi_table_behind_a_modality_table_has_no_sign(tmp_path):
    import pydicom
    from pydicom.pixels import apply_voi_lut

    values = np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64)
    path = _written(tmp_path, PixelRepresentation=1, PixelData=values.tobytes(), BitsStored=16, HighBit=15)
    ds = pydicom.dcmread(path)
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "42048", "1", "US"
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 40000, 12], list(range(4096))
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    ds.VOILUTSequence = [table]
    for name in ("WindowCenter", "WindowWidth"):
        ds.pop(name, None)
    ds.save_as(path)
    theirs = apply_voi_lut(values.astype(np.int64) + 42048, ds) / 4095
    assert np.allclose(read_xray(path, as_stored=True).pixels, theirs, atol=1e-3)


@pytest.fixture
def latin(tmp_path) -> Path:
    "A folder whose name is Latin-1, as old archives have them; pandas' text and Arrow's names are UTF-8"
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9sultats"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this system has no such names")
    return folder


def test_a_folder_may_have_a_name_that_is_no_text(latin):
    from fakes import fake_models

    from covidxr.pipeline import run
    from covidxr.runs.run import image_parts

    simulate_dataset(latin / "data", studies=24, seed=1, size=64, workers=1)
    index = prepare(latin / "data", latin / "cache", size=32, workers=1)
    assert prepare(latin / "data", latin / "cache", size=32, workers=1).equals(index)
    with fake_models():
        told = run(latin / "data", latin / "run")
        assert run(latin / "data", latin / "run")["scores"] == told["scores"]
    this = open_run(latin / "run")
    assert all(Path(file).is_file() for file in image_parts(this, this.rounds[0])["file"])


def test_a_file_whose_name_is_no_text_costs_no_grade(latin):
    pytest.importorskip("onnxruntime", reason="onnxruntime is an extra: pip install 'covidxr[serve]'")
    from covidxr.runs.grading import read_severities

    files = [latin / "x.png", latin.parent / "y.png"]
    opencv().imwrite(str(files[1]), np.round(255 * simulate(3, size=160).pixels).astype(np.uint8))
    files[0].write_bytes(files[1].read_bytes())
    (latin / "broken.png").write_bytes(b"no picture")
    table, failed = read_severities([latin, files[1]], workers=1)
    assert len(table) == 2 and sum("r%E9sultats/x.png" in path for path in table["path"]) == 1
    assert len(failed) == 1 and failed[0].count("broken.png") == 1 and "r%E9sultats" in failed[0]
