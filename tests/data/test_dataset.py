"Opening a dataset: bad tables are named with their row, bad files do not close it, and two openings say the same."

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from measure import in_time

import covidxr.data.headers
from covidxr.base.errors import DataError
from covidxr.base.files import atomic_path, owned_file
from covidxr.base.progress import progress
from covidxr.base.terms import BOX_COLUMNS
from covidxr.data.labels import class_word
from covidxr.dataset import image_ids, open_dataset, parse_boxes, problems, xray_files
from covidxr.dicom import XrayFacts, read_facts, write_dicom

STUDY_HEADER = "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance\n"


def _dicom(folder: Path, study: str, image: str, patient: str = "p", size: int = 16) -> Path:
    "A tiny DICOM file in the competition's layout"
    path = folder / study / "series" / f"{image}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(size * size).reshape(size, size)
    write_dicom(path, pixels, XrayFacts(image_id=image, study_id=study, series_id="1", patient_id=patient))
    return path


@pytest.fixture
def competition(tmp_path) -> Path:
    "Three training studies s0, s1, s2 with one image each, and a test study"
    root = tmp_path / "data"
    for number in range(3):
        _dicom(root / "train", f"s{number}", f"i{number}", f"p{number}")
    _dicom(root / "test", "t0", "j0", "q")
    rows = "".join(f"s{number}_study,{int(number == 0)},{int(number > 0)},0,0\n" for number in range(3))
    (root / "train_study_level.csv").write_text(STUDY_HEADER + rows)
    box = "\"[{'x': 1, 'y': 2, 'width': 3, 'height': 4}]\""
    rows = "".join(f"i{number}_image,{box if number else ''},,s{number}\n" for number in range(3))
    (root / "train_image_level.csv").write_text("id,boxes,label,StudyInstanceUID\n" + rows)
    return root


@pytest.fixture
def plain(tmp_path) -> Path:
    "A folder with four pictures and a table"
    root = tmp_path / "plain"
    for number in range(4):
        _picture(root / f"x{number}.png")
    _table(root, [f"x{number}.png,{'sick' if number % 2 else 'well'}" for number in range(4)])
    return root


def _picture(path: Path) -> None:
    "A small grey PNG"
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30), 99, np.uint8)).save(path)


def _table(root: Path, lines: list[str], header: str = "file,label", name: str = "images.csv") -> None:
    "Write a table by hand"
    (root / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def _append(path: Path, line: str) -> None:
    "Add a row to a table"
    path.write_text(path.read_text() + line + "\n")


# Two openings say the same


def test_the_second_opening_gives_the_first_ones_tables_also_where_patients_are_nameless(competition):
    for study, image in (("s0", "i0"), ("t0", "j0")):
        _dicom(competition / ("test" if study == "t0" else "train"), study, image, patient="")
    first, second = open_dataset(competition), open_dataset(competition)
    assert (competition / "headers.csv").exists()
    for name in ("studies", "images", "boxes"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))
    assert first.images["image_id"].tolist() == ["i0", "i1", "i2", "j0"]
    assert first.images["patient_id"].tolist() == ["s0", "p1", "p2", "t0"]


def test_a_plain_folders_nameless_patients_are_their_studies(plain):
    lines = ["x0.png,well,v1,ann", "x1.png,well,v1,", "x2.png,sick,v2,", "x3.png,sick,,NA"]
    _table(plain, lines, "file,label,study_id,patient_id")
    images = open_dataset(plain).images
    assert images["study_id"].tolist() == ["v1", "v1", "v2", "x3"]
    assert images["patient_id"].tolist() == ["ann", "ann", "v2", "x3"]


# Files that cannot be read, or are not meant to be


def test_one_unreadable_file_does_not_close_the_dataset(competition):
    junk = competition / "train" / "s1" / "series" / "i1.dcm"
    whole = junk.read_bytes()
    junk.write_bytes(b"junk")
    for _ in range(2):
        dataset = open_dataset(competition)
        assert dataset.images["height"].isna().tolist() == [False, True, False, False]
        assert dataset.images["patient_id"].tolist() == ["p0", "s1", "p2", "q"]
        assert any("1 image file cannot be read, first" in said and "i1.dcm" in said for said in problems(dataset))
    junk.write_bytes(whole)
    dataset = open_dataset(competition)
    assert problems(dataset) == [] and dataset.images["patient_id"].tolist() == ["p0", "p1", "p2", "q"]


def test_one_broken_picture_does_not_close_a_plain_folder(plain):
    (plain / "x2.png").write_bytes(b"junk")
    dataset = open_dataset(plain)
    assert dataset.images["width"].isna().tolist() == [False, False, True, False]
    assert [said for said in problems(dataset) if "x2.png" in said]


def test_headers_that_were_read_before_an_interruption_are_not_read_again(competition, monkeypatch):
    read = []

    def interrupted(path):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(path)
        return read_facts(path)

    monkeypatch.setattr(covidxr.data.headers, "read_facts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_dataset(competition)
    assert len(pd.read_csv(competition / "headers.csv")) == 2
    again = []
    monkeypatch.setattr(covidxr.data.headers, "read_facts", lambda path: again.append(path) or read_facts(path))
    assert problems(open_dataset(competition)) == []
    assert len(again) == 2 and not set(again) & set(read)


def _reads(monkeypatch) -> list[str]:
    "The names of the files whose headers are read from now on"
    read = []
    monkeypatch.setattr(covidxr.data.headers, "read_facts", lambda path: read.append(path.name) or read_facts(path))
    return read


def _other_times(root: Path) -> None:
    "As a copy or an archive leaves files"
    for path in root.rglob("*"):
        os.utime(path, ns=(1, 1))


def test_an_image_that_was_replaced_by_another_is_read_again_and_only_that_one(competition, monkeypatch):
    open_dataset(competition)
    path = competition / "train" / "s1" / "series" / "i1.dcm"
    times = path.stat()
    _dicom(competition / "train", "s1", "i1", patient="new", size=24)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # times can be kept, and say nothing
    read = _reads(monkeypatch)
    for _ in range(2):
        dataset = open_dataset(competition)
        images = dataset.images.set_index("image_id")
        assert images.loc["i1", ["height", "patient_id"]].tolist() == [24, "new"] and problems(dataset) == []
    assert read == ["i1.dcm"]
    assert images["patient_id"].tolist() == ["p0", "new", "p2", "q"]


def test_another_patient_in_a_file_of_the_same_size_is_noticed(competition):
    open_dataset(competition)
    path = competition / "train" / "s1" / "series" / "i1.dcm"
    size = path.stat().st_size
    _dicom(competition / "train", "s1", "i1", patient="p7")
    assert path.stat().st_size == size
    assert open_dataset(competition).images["patient_id"].tolist() == ["p0", "p7", "p2", "q"]


def test_a_copy_of_a_dataset_believes_its_headers_and_they_are_the_same_bytes(competition, tmp_path, monkeypatch):
    first = open_dataset(competition)
    shutil.copytree(competition, tmp_path / "copy")
    bare = shutil.copytree(competition, tmp_path / "bare", ignore=shutil.ignore_patterns("headers.csv", ".covidxr*"))
    for folder in (tmp_path / "copy", bare):
        _other_times(folder)
    open_dataset(bare)
    assert (bare / "headers.csv").read_bytes() == (competition / "headers.csv").read_bytes()
    read = _reads(monkeypatch)
    pd.testing.assert_frame_equal(open_dataset(tmp_path / "copy").images, first.images)
    assert read == [] and "stamp" not in first.images


def test_an_image_that_was_replaced_by_junk_is_told_and_its_old_size_is_not_believed(competition):
    open_dataset(competition)
    path = competition / "train" / "s1" / "series" / "i1.dcm"
    whole = path.read_bytes()
    path.write_bytes(b"junk")
    for _ in range(2):
        dataset = open_dataset(competition)
        assert dataset.images["height"].isna().tolist() == [False, True, False, False]
        assert any("1 image file cannot be read, first" in said and "i1.dcm" in said for said in problems(dataset))
    path.write_bytes(whole)
    assert problems(open_dataset(competition)) == []


def _without_stamps(competition: Path) -> None:
    "headers.csv as an earlier version of covidxr wrote it"
    path = competition / "headers.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns="stamp")
    with owned_file(path) as partial:
        table.replace("p1", "old").to_csv(partial, index=False)


def test_headers_of_an_earlier_version_are_read_again_once_and_then_bear_stamps(competition, monkeypatch):
    open_dataset(competition)
    stamped = (competition / "headers.csv").read_bytes()
    _without_stamps(competition)
    read = _reads(monkeypatch)
    for _ in range(2):
        assert open_dataset(competition).images["patient_id"].tolist() == ["p0", "p1", "p2", "q"]
    assert len(read) == 4 and (competition / "headers.csv").read_bytes() == stamped


def test_headers_without_stamps_are_believed_where_they_cannot_be_written(competition, monkeypatch):
    "As a dataset on Kaggle lies: reading thousands of headers at every opening would take minutes"
    open_dataset(competition)
    _without_stamps(competition)
    monkeypatch.setattr(covidxr.data.headers.os, "access", lambda *_: False)
    read = _reads(monkeypatch)
    assert open_dataset(competition).images["patient_id"].tolist() == ["p0", "old", "p2", "q"] and read == []


def test_a_run_reads_the_headers_of_a_folder_that_cannot_be_written_once(competition, monkeypatch, tmp_path):
    from contextlib import contextmanager

    from covidxr import pipeline

    @contextmanager
    def refused(*_, **__):
        raise OSError(30, "Read-only file system")
        yield

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(covidxr.data.headers, "owned_file", refused)
    monkeypatch.setattr(pipeline, "prepare_data", stop)
    read = _reads(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(competition, tmp_path / "run")
    assert len(read) == 4


def test_headers_that_a_person_made_are_believed_without_a_stamp_and_corrected_with_one(competition):
    open_dataset(competition)
    path = competition / "headers.csv"
    path.write_text(path.read_text().replace("p1", "ann").replace("p2", "bob"))
    _dicom(competition / "train", "s1", "i1", patient="new", size=24)  # the person spoke of another file
    dataset = open_dataset(competition)
    assert dataset.images["patient_id"].tolist() == ["p0", "new", "bob", "q"]
    assert any("1 images that it lacks, or whose files have changed" in said for said in problems(dataset))
    path.write_text("image_id,patient_id,rows,columns\ni1,ann,9,9\n")
    assert open_dataset(competition).images["patient_id"].tolist() == ["p0", "ann", "p2", "q"]


def test_headers_of_images_that_are_links_to_nowhere_are_believed(competition):
    "As data under version control lie before they are fetched"
    open_dataset(competition)
    path = competition / "train" / "s1" / "series" / "i1.dcm"
    path.unlink()
    path.symlink_to("nowhere.dcm")
    assert open_dataset(competition).images["patient_id"].tolist() == ["p0", "p1", "p2", "q"]


def test_a_killed_write_leaves_nothing_that_looks_like_an_image(competition):
    target = competition / "test" / "t0" / "series" / "j9.dcm"
    code = (
        "import os, sys, shutil; from covidxr.base.files import atomic_path\n"
        "with atomic_path(sys.argv[2]) as partial: shutil.copy(sys.argv[1], partial); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, target.with_name("j0.dcm"), target])
    assert killed.returncode == 9
    assert [path.name for path in competition.glob("test/*/*/*.dcm")] == ["j0.dcm"]
    assert len(xray_files(competition)) == 4
    assert len(open_dataset(competition).images) == 4


def test_an_unfinished_file_keeps_its_ending_and_is_gone_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="half"), atomic_path(tmp_path / "new" / "a.png") as partial:
        _picture(partial)  # the ending tells the format
        assert partial.suffix == ".png" and not list((tmp_path / "new").glob("*.png"))
        raise ValueError("half a file")
    assert not list((tmp_path / "new").iterdir())


def test_hidden_files_and_folders_are_no_images(competition):
    source = competition / "test" / "t0" / "series" / "j0.dcm"
    shutil.copy(source, source.with_name(".j1.123.partial.dcm"))
    shutil.copytree(competition / "test" / "t0", competition / "test" / ".t1")
    assert len(xray_files(competition)) == 4
    assert open_dataset(competition).images["image_id"].tolist() == ["i0", "i1", "i2", "j0"]


def test_progress_needs_no_length(capfd, monkeypatch):
    assert list(progress(iter("abc"), "spell")) == ["a", "b", "c"]
    assert list(progress(iter(""), "spell")) == []
    assert list(progress(iter("abcd"), "spell", every=-1)) == ["a", "b", "c", "d"]
    assert "spell: 2\n" in (said := capfd.readouterr().err) and "None" not in said
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress(iter("abc"), "spell")) == ["a", "b", "c"]


# Names of images


@pytest.mark.parametrize(
    ("names", "ids"), [(("p1/1.png", "p2/1.png"), ["p1-1", "p2-1"]), (("x.png", "x.jpg"), ["x.png", "x.jpg"])]
)
def test_two_files_of_one_name_are_told_apart_as_prepare_does(tmp_path, names, ids):
    for name in names:
        _picture(tmp_path / name)
    _table(tmp_path, [f"{names[0]},well", f"{names[1]},sick"])
    dataset = open_dataset(tmp_path)
    assert dataset.images["image_id"].tolist() == ids == image_ids([tmp_path / name for name in names], tmp_path)
    assert dataset.labels().to_dict() == dict(zip(ids, ["well", "sick"], strict=True))


def test_a_name_that_two_subfolders_have_is_not_guessed(tmp_path):
    for name in ("test/1.png", "train/1.png", "train/2.png"):
        _picture(tmp_path / name)
    _table(tmp_path, ["1.png,well", "2.png,sick"])
    with pytest.raises(DataError, match="row 2: 1.png may be test/1.png or train/1.png"):
        open_dataset(tmp_path)
    _table(tmp_path, ["train/1.png,well", "2.png,sick"])
    assert open_dataset(tmp_path).images["path"].tolist() == ["train/1.png", "train/2.png"]


@pytest.mark.parametrize("outside", ["../out.png", "{root}/../out.png"])
def test_a_file_outside_of_the_folder_is_refused(plain, outside):
    _picture(plain.parent / "out.png")
    _append(plain / "images.csv", f"{outside.format(root=plain)},well")
    with pytest.raises(DataError, match="row 6: .*outside"):
        open_dataset(plain)


def test_an_absolute_path_into_the_folder_is_taken_through_links_too(plain):
    _table(plain, [f"{plain / 'x0.png'},well", "x1.png,sick"])
    assert open_dataset(plain).images["path"].tolist() == ["x0.png", "x1.png"]
    (plain.parent / "link").symlink_to(plain)
    assert open_dataset(plain.parent / "link").images["path"].tolist() == ["x0.png", "x1.png"]


def test_an_image_in_both_halves_is_refused(competition):
    _dicom(competition / "test", "t0", "i1")
    with pytest.raises(DataError, match=r"i1\.dcm.*i1\.dcm"):
        open_dataset(competition)
    (competition / "train" / "s1" / "series" / "i1.dcm").unlink()
    with pytest.raises(DataError, match=r"i1\.dcm: .*one half"):
        open_dataset(competition)


def test_a_study_in_both_halves_is_refused(competition):
    _dicom(competition / "test", "s1", "j9")  # an image that no table knows, of a study that is learnt from
    with pytest.raises(DataError, match=r"j9\.dcm: .*its study is in the training tables, too"):
        open_dataset(competition)


# Labels


@pytest.mark.parametrize("label", ["NA", "N/A", "null", "nan"])
def test_a_label_is_taken_at_its_word(plain, label):
    _table(plain, ["x0.png,well", f"x1.png,{label}"])
    assert set(open_dataset(plain).classes) == {"well", class_word(label)}
    assert class_word(label) in ("na", "n-a", "null", "nan")


def test_labels_in_any_script_stay_apart(plain):
    _table(plain, ["x0.png,正常", "x1.png,肺炎", "x2.png,Lungenentzündung", "x3.png,No Lung Opacity / Not_Normal"])
    dataset = open_dataset(plain)
    assert set(dataset.classes) == {"正常", "肺炎", "lungenentzündung", "no-lung-opacity-not-normal"}
    assert dataset.labels()["x1"] == "肺炎"
    assert class_word("निमोनिया") == "निमोनिया"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["well", ""], "row 3: the label is empty"),
        (["well", "???"], r"row 3: the label '\?\?\?' has no letter"),
        (["well", "none"], "row 3: the label 'none' has a meaning"),
        (["None", "sick"], "row 2: the label 'None' has a meaning"),
        (["Opacity", "well"], "row 2: the label 'Opacity' has a meaning"),
        (["split", "well"], "row 2: the label 'split' has a meaning"),
        (["well", "Fold"], "row 3: the label 'Fold' has a meaning"),
        (["0.0", "0.6000000000000001"], "row 3: the label '0.6000000000000001' is a measure and no class"),
        (["Not well", "not-well"], "'Not well' and 'not-well' would both be the class not-well"),
    ],
)
def test_a_label_that_cannot_be_a_class_is_named(plain, labels, said):
    _table(plain, [f"x{number}.png,{label}" for number, label in enumerate(labels)])
    with pytest.raises(DataError, match=said):
        open_dataset(plain)


def test_whole_numbers_that_a_gap_made_decimals_are_the_classes_they_were(plain):
    _table(plain, ["x0.png,0.0", "x1.png,1.0", "x2.png,1.", "x3.png,12.0"])
    assert open_dataset(plain).classes == ("0", "1", "12")


def test_labels_with_a_decimal_comma_are_told_as_those_with_a_point(plain):
    _table(plain, ["x0.png;1,5", "x1.png;2,5"], "file;label")
    with pytest.raises(DataError, match="row 2: the label '1,5' is a measure and no class; put it into classes first"):
        open_dataset(plain)
    _table(plain, ["x0.png;0,0", "x1.png;1,0", "x2.png;1", "x3.png;12,0"], "file;label")
    assert open_dataset(plain).classes == ("0", "1", "12")
    _table(plain, ["x0.png;well;0,25", "x1.png;sick;0,75"], "file;finding;score")
    assert open_dataset(plain).classes == ("sick", "well")
    _table(plain, ["x0.png;1,5,2", "x1.png;grade 2,5"], "file;label")  # no numbers
    assert open_dataset(plain).classes == ("1-5-2", "grade-2-5")


def test_the_label_column_is_found_beside_numbers_and_flags_with_gaps(plain):
    lines = ["x0.png,well,1,True,40", "x1.png,sick,NA,False,", "x2.png,well,,True,45", "x3.png,sick,3,,61"]
    _table(plain, lines, "file,finding,score,device,age")
    dataset = open_dataset(plain)
    assert dataset.classes == ("sick", "well")
    assert dataset.images["age"].isna().tolist() == [False, True, False, False]


def test_a_study_has_one_label(plain):
    _table(plain, ["x0.png,well,v", "x1.png,well,v", "x2.png,sick,v", "x3.png,sick,w"], "file,label,study_id")
    with pytest.raises(DataError, match="row 4: its study 'v' has another label"):
        open_dataset(plain)


# Rows


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("train_study_level.csv", "s1_study,0,1,0,0", "row 5: id 's1' appears twice"),
        ("train_study_level.csv", "s3_study,0,0.5,0.5,0", "row 5: exactly one of the four"),
        ("train_study_level.csv", "s3_study,2,-1,0,0", "row 5: exactly one of the four"),
        ("train_study_level.csv", "s3_study,0,yes,0,0", "row 5: .*Typical Appearance must be a number, not 'yes'"),
        ("train_study_level.csv", "_study,0,1,0,0", "row 5: the id is empty"),
        ("train_image_level.csv", "i1_image,,,s1", "row 5: id 'i1' appears twice"),
        ("train_image_level.csv", "i3_image,,,s3", "row 5: its study 's3' is not in train_study_level.csv"),
        ("headers.csv", "i1,p1,16,16,,,,", "row 6: image 'i1' appears twice"),
        ("headers.csv", "i9,p9,many,16,,,,", "row 6: rows must be a number of pixels, not 'many'"),
        ("headers.csv", "i9,p9,16,0,,,,", "row 6: columns must be a number of pixels, not '0'"),
    ],
)
def test_a_bad_row_of_the_competitions_tables_is_named(competition, table, line, said):
    open_dataset(competition)  # writes headers.csv
    _append(competition / table, line)
    with pytest.raises(DataError, match=f"{table}: {said}"):
        open_dataset(competition)


@pytest.mark.parametrize(
    "text",
    [
        "[{'x': '1', 'y': '2', 'width': '3', 'height': '4'}]",
        "[{'x': 1, 'y': 2, 'width': 1e999, 'height': 4}]",
        "[{'x': 1, 'y': 2, 'width': None, 'height': 4}]",
        "[{'x': True, 'y': 2, 'width': 3, 'height': 4}]",
        "{'x': 1, 'y': 2, 'width': 3, 'height': 4}",
        "7",
    ],
)
def test_a_box_is_four_numbers(text):
    with pytest.raises(DataError, match="a.csv: row 3"):
        parse_boxes(pd.DataFrame({"image_id": ["a", "b"], "boxes": [np.nan, text]}), "a.csv")


@pytest.mark.parametrize("width", ["abc", "", "nan", "inf"])
def test_a_width_that_is_no_number_is_named_with_its_row(plain, width):
    _table(plain, ["x1.png,1,2,3,4", f"x3.png,1,2,{width},4"], "file,x,y,width,height", "boxes.csv")
    with pytest.raises(DataError, match=f"boxes.csv: row 3: width must be a number, not '{width}'"):
        open_dataset(plain)


def test_a_table_of_boxes_may_be_empty_and_its_numbers_are_numbers(plain):
    _table(plain, [], "file,x,y,width,height", "boxes.csv")
    assert len(open_dataset(plain).boxes) == 0
    _table(plain, ["x1.png,1,2,3.5,4"], "file,x,y,width,height", "boxes.csv")
    boxes = open_dataset(plain).boxes
    assert boxes[BOX_COLUMNS].to_numpy().tolist() == [[1, 2, 4.5, 6]]
    assert set(boxes[BOX_COLUMNS].dtypes) == {np.dtype(float)}


@pytest.mark.parametrize("name", ["images.csv", "train_study_level.csv", "train_image_level.csv"])
def test_a_table_without_rows_is_refused(competition, plain, name):
    path = (plain if name == "images.csv" else competition) / name
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match=f"{name}: row 2: there is no row below the header"):
        open_dataset(path.parent)


def test_an_empty_file_cell_is_named_with_its_row(plain):
    _append(plain / "images.csv", ",well")
    with pytest.raises(DataError, match="row 6: the file is empty"):
        open_dataset(plain)


def test_the_real_tables_open_in_about_a_second(real):
    from time import process_time

    started = process_time()
    dataset = open_dataset(real / "siim_tables")
    assert in_time(process_time() - started, 3)  # 0.3 s where nothing else runs
    assert len(dataset.images) == 6334 and dataset.images["patient_id"].nunique() == 3261
