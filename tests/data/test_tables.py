"The tables of a dataset as real people write them: they open, or one line names the file, the line and the trouble."

import multiprocessing
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import covidxr.data.headers
from covidxr.base.errors import DataError
from covidxr.base.terms import BOX_COLUMNS
from covidxr.dataset import Dataset, open_dataset, parse_boxes, problems, scan_headers, xray_files
from covidxr.dicom import XrayFacts, read_facts, write_dicom


def _xray(path: Path, patient: str = "p") -> None:
    "A tiny DICOM file"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(path, np.arange(256).reshape(16, 16), XrayFacts("i", "s", "e", patient))


@pytest.fixture
def folder(tmp_path) -> Path:
    "A folder with four small pictures"
    from PIL import Image

    for name in ("a1.png", "a2.png", "a3.png", "images/b1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 30), 99, np.uint8)).save(tmp_path / name)
    return tmp_path


def _write(folder: Path, text: str, name: str = "images.csv") -> None:
    "Write a table as it stands"
    (folder / name).write_bytes(text.encode())


@pytest.fixture
def competition(tmp_path) -> Path:
    "Two training studies with an image each, and one of the test half, in the competition's layout"
    for half, number in (("train", 0), ("train", 1), ("test", 2)):
        _xray(tmp_path / half / f"s{number}" / "series" / f"i{number}.dcm", f"p{number}")
    header = "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance\n"
    _write(tmp_path, header + "s0_study,1,0,0,0\ns1_study,0,1,0,0\n", "train_study_level.csv")
    _write(tmp_path, "id,boxes,label,StudyInstanceUID\ni0_image,,,s0\ni1_image,,,s1\n", "train_image_level.csv")
    return tmp_path


# Rows, columns, separators


@pytest.mark.parametrize(
    "text",
    [
        "file,label,patient_id\na1.png,normal,p1,\na2.png,covid,p2,\n",
        "file, label, patient_id\na1.png, normal, p1\na2.png, covid, p2\n",
        "file,label, patient_id\r\n\r\na1.png,normal,p1\r\na2.png,covid,p2\r\n",
        "file;label;patient_id\na1.png;normal;p1\na2.png;covid;p2\n",
        "file\tlabel\tpatient_id\na1.png\tnormal\tp1\na2.png\tcovid\tp2\n",
        ",file,label,patient_id,\n0,a1.png,normal,p1,\n1,a2.png,covid,p2,\n",
    ],
    ids=["rows end in a comma", "blanks", "blank line", "semicolons", "tabs", "nameless columns"],
)
def test_open_dataset_takes_a_table_as_spreadsheets_write_it(folder, text):
    for name in ("a3.png", "images/b1.png"):  # `problems` tells of X-rays that the table does not name
        (folder / name).unlink()
    _write(folder, text)
    dataset = open_dataset(folder)
    assert dataset.images[["image_id", "patient_id"]].to_numpy().tolist() == [["a1", "p1"], ["a2", "p2"]]
    assert dataset.labels().to_dict() == {"a1": "normal", "a2": "covid"} and problems(dataset) == []
    assert dataset.images.index.tolist() == dataset.studies.index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\n\na1.png,normal\n\na2.png,\n", "row 5: the label is empty"),
        ("file,label\n\na1.png,normal\n\nlost.png,covid\n", "row 5: no file 'lost.png' in this folder"),
        ("file,label\na1.png,normal\n a2.png,covid\n", "row 3: no file ' a2.png' .*; there is one without the blanks"),
        ("file,label,patient_id\na1.png,normal,p1\na2.png,covid\n", "row 3: 2 columns instead of 3; .* cut off here"),
        ("file,label\na1.png,normal\n\na1.png,covid\n", "row 4: file 'a1.png' appears twice"),
        ("file,label\na1.png,normal\n./a1.png,covid\n", "row 3: file './a1.png' appears twice"),
        ("file,label,study_id\na1.png,x,v\n\na2.png,y, v\n", "row 4: its study 'v' has another label"),
        (f"file,label\n{'x' * 300}.png,x\n", "row 2: no file 'xxx"),
    ],
)
def test_open_dataset_names_the_files_own_line_and_quotes_the_value(folder, text, said):
    _write(folder, text)
    with pytest.raises(DataError, match=f"images.csv: {said}"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("train_study_level.csv", " s2_study,1,0,0,0", "row 5: id ' s2' begins or ends with a blank"),
        ("train_study_level.csv", "s2_study ,1,0,0,0", "row 5: id 's2_study ' begins or ends with a blank"),
        ("train_study_level.csv", "../s2_study,1,0,0,0", "row 5: id '../s2' cannot be a file's name"),
        ("train_image_level.csv", "../../i3_image,,,s1", "row 5: id '../../i3' cannot be a file's name"),
        ("train_image_level.csv", "i3_image,,,s1 ", "row 5: its study 's1 ' is not in train_study_level.csv"),
        ("train_image_level.csv", 'i3_image,"[{1}]",,s1', r"row 5: the boxes are not a list .*: '\[\{1\}\]'"),
        ("train_image_level.csv", "i3_image,,", "row 5: 3 columns instead of 4"),
    ],
)
def test_open_dataset_names_the_line_of_the_competitions_tables(competition, name, line, said):
    with open(competition / name, "a") as file:
        file.write(f"\n{line}\n")  # a blank line before
    with pytest.raises(DataError, match=f"{name}: {said}"):
        open_dataset(competition)


def test_parse_boxes_of_a_frame_made_by_hand_counts_its_rows_from_the_header():
    with pytest.raises(DataError, match="t.csv: row 3"):
        parse_boxes(pd.DataFrame({"image_id": ["a", "b"], "boxes": [None, "1is"]}), "t.csv")
    with pytest.raises(DataError, match="t.csv: column boxes is missing"):
        parse_boxes(pd.DataFrame({"image_id": ["a"]}), "t.csv")


@pytest.mark.parametrize(
    "text", ["[{'x': 1e308, 'y': 0, 'width': 1e308, 'height': 1}]", f"[{{'x': {'9' * 400}}}]", "(" * 5000]
)
def test_parse_boxes_refuses_numbers_that_are_none_and_text_without_end(text):
    with pytest.raises(DataError, match="t.csv: row 2"):
        parse_boxes(pd.DataFrame({"image_id": ["a"], "boxes": [text]}), "t.csv")


# Files that tables name


@pytest.mark.parametrize("name", ["images\\b1.png", "images/b1.png", "b1.png", "C:\\data\\b1.png"])
def test_a_file_is_found_with_backslashes_as_folders_and_by_its_name_alone(folder, name):
    _write(folder, f"file,label\na1.png,x\n{name},y\n")
    _write(folder, f"file,x,y,width,height\n{name},1,2,3,4\n", "boxes.csv")
    dataset = open_dataset(folder)
    assert dataset.images["path"].tolist() == ["a1.png", os.path.join("images", "b1.png")]
    assert dataset.boxes["image_id"].tolist() == ["b1"]


def test_images_named_by_uids_have_the_whole_names_as_ids(tmp_path):
    for number in (1, 2):
        _xray(tmp_path / f"1.2.840.113.5.{number}")
    _write(tmp_path, "file,label\n1.2.840.113.5.1,normal\n1.2.840.113.5.2,covid\n")
    _write(tmp_path, "file,x,y,width,height,\n1.2.840.113.5.2,1,2,3,4,\n", "boxes.csv")
    dataset = open_dataset(tmp_path)
    assert dataset.images["image_id"].tolist() == ["1.2.840.113.5.1", "1.2.840.113.5.2"]
    assert dataset.boxes["image_id"].tolist() == ["1.2.840.113.5.2"] and dataset.images["height"].tolist() == [16, 16]


def test_an_image_may_be_called_na(tmp_path):
    _xray(tmp_path / "NA")
    _xray(tmp_path / "null.dcm")
    _write(tmp_path, "file,label,patient_id\nNA,NA,p1\nnull.dcm,x,p2\n")
    _write(tmp_path, "file,x,y,width,height\nNA,1,2,3,4\n", "boxes.csv")
    dataset = open_dataset(tmp_path)
    assert dataset.images["image_id"].tolist() == ["NA", "null"] and dataset.classes == ("na", "x")
    assert dataset.boxes["image_id"].tolist() == ["NA"]


def test_boxes_go_to_the_file_that_they_name_and_not_to_another_of_that_name(folder):
    shutil.copytree(folder / "images", folder / "more")
    _write(folder, "file,label\na1.png,x\nimages/b1.png,y\nmore/b1.png,y\n")
    _write(folder, "file,x,y,width,height\nmore/b1.png,1,2,3,4\na1.dcm,5,6,7,8\n", "boxes.csv")
    dataset = open_dataset(folder)
    assert dataset.images["image_id"].tolist() == ["a1", "images-b1", "more-b1"]
    assert dataset.boxes["image_id"].tolist() == ["more-b1", "a1"]  # a1 was drawn on a copy in another format
    for name in ("b1.png", "a2.png", " a1.png", "", "a\0.png"):
        _write(folder, f"file,x,y,width,height\n\n{name},1,2,3,4\n", "boxes.csv")
        told = re.escape(f"boxes.csv: row 3: its file {name!r} is not in images.csv")
        with pytest.raises(DataError, match=told):
            open_dataset(folder)


# Patients


def test_patients_unknown_in_some_rows_are_counted_and_told(folder):
    _write(folder, "file,label,patient_id\na1.png,x,p1\na2.png,y,N/A\na3.png,x, p1\nimages/b1.png,y,\n")
    dataset = open_dataset(folder)
    assert dataset.images["patient_id"].tolist() == ["p1", "a2", "p1", "b1"]
    assert [said for said in problems(dataset) if said.startswith("2 of 4 studies have no patient id, first a2")]


def test_patients_whose_ids_are_their_studies_are_not_taken_for_unknown_ones(folder):
    (folder / "images" / "b1.png").unlink()  # `problems` tells of X-rays that the table does not name
    _write(folder, "file,label,patient_id\na1.png,x,a1\na2.png,y,a1\na3.png,x,a3\n")
    assert problems(open_dataset(folder)) == []


def test_patients_unknown_in_some_headers_are_counted_and_told(competition):
    _xray(competition / "train" / "s1" / "series" / "i1.dcm", "")
    for _ in range(2):  # the second time from headers.csv
        assert [said.split(":")[0] for said in problems(open_dataset(competition))] == [
            "1 of 3 studies has no patient id, first s1"
        ]


# Files that are X-rays


def test_xray_files_are_found_with_any_suffix_by_their_bytes_and_a_dicomdir_is_skipped(tmp_path):
    for name in ("a.dcm", "b.IMA", "c.img", "d.dc3", "IM0001", "sub/1.2.840.1"):
        _xray(tmp_path / name)
    pydicom = pytest.importorskip("pydicom")
    disc = pydicom.dcmread(tmp_path / "a.dcm")
    disc.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    disc.save_as(tmp_path / "contents.bin")  # a DICOMDIR by another name
    shutil.copy(tmp_path / "a.dcm", tmp_path / "DICOMDIR")
    for name, content in {"e.png": b"", "notes.txt": b"DICM", "long.csv": b"x" * 500, "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    names = [str(path.relative_to(tmp_path)) for path in xray_files(tmp_path)]
    assert names == ["IM0001", "a.dcm", "b.IMA", "c.img", "d.dc3", "e.png", "sub/1.2.840.1"]


def test_xray_files_opens_what_is_none_once_and_reads_little(tmp_path, monkeypatch):
    for number in range(50):
        (tmp_path / f"{number}.txt").write_bytes(b"x" * 4000)
    read, real = [], os.read
    monkeypatch.setattr(os, "read", lambda file, count: read.append(count) or real(file, count))
    assert xray_files(tmp_path) == [] and read == [4] * 50


def test_scan_headers_gives_the_columns_that_its_readers_are_told_of(tmp_path):
    _xray(tmp_path / "1.2.840.1", "ann")
    columns = ["image_id", "patient_id", "rows", "columns", "view", "sex", "age"]
    for files in ([tmp_path / "1.2.840.1"], (str(tmp_path / "1.2.840.1"),), tmp_path / "1.2.840.1"):
        table = scan_headers(files)
        assert list(table) == columns
        assert table.iloc[0, :4].tolist() == ["1.2.840.1", "ann", 16, 16]
    (tmp_path / "junk.dcm").write_bytes(b"junk")
    assert scan_headers([tmp_path / "junk.dcm"])["rows"].isna().all() and len(scan_headers([])) == 0


def test_scan_headers_puts_each_fact_into_its_own_column(tmp_path):
    facts = XrayFacts("v", "s", "e", "ann", view="AP", sex="F", age=61)
    write_dicom(tmp_path / "v.dcm", np.zeros((16, 24), int), facts)
    assert scan_headers([tmp_path / "v.dcm"]).iloc[0].tolist() == ["v", "ann", 16, 24, "AP", "F", 61]


def test_an_odd_name_in_the_test_half_does_not_close_the_dataset(competition):
    odd = competition / "test" / "s3" / "series" / os.fsdecode(b"M\xfcller.dcm")
    _xray(odd, "q")
    for _ in range(2):
        images = open_dataset(competition).images
        assert images["image_id"].tolist() == ["i0", "i1", "i2", "M%FCller"]
        assert (competition / images["path"].iloc[-1]).read_bytes() == odd.read_bytes()
        assert images["patient_id"].iloc[-1] == "q"


# headers.csv


def test_headers_of_somebody_else_are_read_and_never_written_over(competition):
    text = "image_id,patient_id,rows,columns,height,file,note\ni0,ann,32,24,full,x,mine\n"
    _write(competition, text, "headers.csv")
    dataset = open_dataset(competition)
    assert dataset.images["patient_id"].tolist() == ["ann", "p1", "p2"]
    assert dataset.images["height"].tolist() == [32, 16, 16] and "file" not in dataset.images
    assert (competition / "headers.csv").read_text() == text
    told = [said for said in problems(dataset) if "headers.csv" in said]
    assert len(told) == 1 and "not as covidxr wrote it" in told[0] and "2 images" in told[0]


def test_headers_that_were_changed_by_hand_are_read_and_never_written_over(competition):
    open_dataset(competition)
    path = competition / "headers.csv"
    path.write_text(path.read_text().replace("p1", "ann"))
    changed = path.read_bytes()
    dataset = open_dataset(competition)
    assert (
        dataset.images["patient_id"].tolist() == ["p0", "ann", "p2"] and problems(dataset) == []
    )  # nothing is lacking
    _xray(competition / "test" / "s3" / "series" / "i3.dcm", "p3")
    dataset = open_dataset(competition)
    assert dataset.images["patient_id"].tolist() == ["p0", "ann", "p2", "p3"]
    assert path.read_bytes() == changed and len(problems(dataset)) == 1


def test_headers_as_we_wrote_them_get_the_images_that_they_lack(competition):
    open_dataset(competition)
    _xray(competition / "test" / "s3" / "series" / "i3.dcm", "p3")
    assert problems(open_dataset(competition)) == []
    assert pd.read_csv(competition / "headers.csv")["patient_id"].tolist() == ["p0", "p1", "p2", "p3"]


@pytest.mark.parametrize("text", ["name,value\nx,1\n", "image_id,note\ni0,mine\n", "image_id,rows,columns\ni0,9,9\n"])
def test_headers_csv_that_lacks_our_columns_is_left_and_the_files_are_read(competition, text):
    _write(competition, text, "headers.csv")
    dataset = open_dataset(competition)
    assert dataset.images["patient_id"].tolist() == ["p0", "p1", "p2"] and dataset.images["height"].tolist() == [16] * 3
    assert (competition / "headers.csv").read_text() == text and len(problems(dataset)) == 1


def test_headers_without_patients_still_tell_sizes_where_the_images_are_not_there(competition):
    _write(competition, "image_id,rows,columns\ni0,9,8\ni1,7,6\n", "headers.csv")
    shutil.rmtree(competition / "train")
    shutil.rmtree(competition / "test")
    images = open_dataset(competition).images
    assert images["height"].tolist() == [9, 7] and images["patient_id"].tolist() == ["s0", "s1"]


def test_headers_that_cannot_be_written_are_read_at_every_opening(competition, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr(covidxr.data.headers, "owned_file", refuse)
    for _ in range(2):
        dataset = open_dataset(competition)
        assert dataset.images["patient_id"].tolist() == ["p0", "p1", "p2"] and problems(dataset) == []
    assert not (competition / "headers.csv").exists()


def _open_together(root: Path, barrier, answers) -> None:
    "Open a dataset at the same moment as others do"
    barrier.wait()
    for _ in range(5):
        dataset = open_dataset(root)
        answers.put((dataset.images["patient_id"].tolist(), problems(dataset)))


def test_headers_are_right_where_several_processes_open_a_dataset_at_once(competition):
    for number in range(3, 12):
        _xray(competition / "test" / f"s{number}" / "series" / f"i{number}.dcm", f"p{number}")
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_open_together, args=(competition, barrier, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    told = [answers.get(timeout=60) for _ in range(20)]
    for worker in workers:
        worker.join()
    images = open_dataset(competition).images
    assert all(one == (images["patient_id"].tolist(), []) for one in told)
    assert sorted(pd.read_csv(competition / "headers.csv")["image_id"]) == sorted(images["image_id"])
    (competition / "test" / "s3" / "series" / "i3.dcm").rename(competition / "test" / "s3" / "series" / "j3.dcm")
    open_dataset(competition)
    assert "j3" in set(pd.read_csv(competition / "headers.csv")["image_id"])  # still ours, so it is kept up to date


def test_a_dataset_opens_without_touching_the_callers_warnings(competition):
    import warnings

    before = list(warnings.filters)
    open_dataset(competition)
    assert (
        warnings.filters == before and read_facts(competition / "train" / "s0" / "series" / "i0.dcm").patient_id == "p0"
    )


# Datasets made by hand


def _by_hand(**changes) -> Dataset:
    "A dataset of two images, with some values exchanged"
    tables = {
        "studies": pd.DataFrame({"study_id": ["s", "t"], "split": "train", "x": [1, 0], "y": [0, 1]}),
        "images": pd.DataFrame(
            {"image_id": ["a", "b"], "study_id": ["s", "t"], "patient_id": ["p", "q"], "split": "train"}
        ),
        "boxes": pd.DataFrame(),
    }
    return Dataset(**({"root": "here", "simulated": False, "classes": ["x", "y"]} | tables | changes))


def test_a_dataset_by_hand_may_leave_out_what_is_unknown():
    dataset = _by_hand()
    assert dataset.root == Path("here") and dataset.classes == ("x", "y") and len(dataset.boxes) == 0
    assert problems(dataset)[0].startswith("2 images have no file here")
    none = _by_hand(studies=dataset.studies.assign(split="test"), images=dataset.images.assign(split="test"))
    assert len(none.labels()) == 0 and none.unboxed().all()


@pytest.mark.parametrize("image_id", ["../escaped", "/etc/x", "a\\b", "..", ".", "", "a\0b", "x" * 250, 7, None])
def test_a_dataset_by_hand_has_no_image_id_that_leads_out_of_a_folder(image_id):
    images = _by_hand().images.astype({"image_id": object})
    images.loc[1, "image_id"] = image_id
    with pytest.raises(DataError, match="image id .* cannot be a file's name"):
        _by_hand(images=images)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ("x", "z")}, "the table of studies has no column z"),
        (
            {"images": pd.DataFrame({"image_id": ["a"]})},
            "the table of images has no column study_id, patient_id, split",
        ),
        (
            {"boxes": pd.DataFrame({"image_id": ["a"], "x_min": [1]})},
            "the table of boxes has no column y_min, x_max, y_max",
        ),
    ],
)
def test_a_dataset_by_hand_names_the_column_that_is_missing(changes, said):
    with pytest.raises(DataError, match=said):
        _by_hand(**changes)


def test_problems_say_which_id_appears_twice():
    images = _by_hand().images.assign(image_id="a")
    assert "1 image id appears twice, first a" in problems(_by_hand(images=images))


def test_problems_say_which_boxes_are_odd_and_nothing_of_one_that_ends_at_the_edge():
    images = pd.DataFrame(
        [("a", "s", "p", "train", 80, 100)], columns=["image_id", "study_id", "patient_id", "split", "height", "width"]
    )
    studies = pd.DataFrame({"study_id": ["s"], "split": "train", "x": 1})

    def told(*corners: float) -> list[str]:
        boxes = pd.DataFrame([("a", *corners)], columns=["image_id", *BOX_COLUMNS])
        return problems(Dataset(Path("here"), False, ("x",), studies, images.assign(path="a.png"), boxes))

    assert told(0, 0, 100, 80) == []
    for corners, said in (
        ((-0.5, 0, 100, 80), "negative coordinate"),
        ((0, -0.5, 100, 80), "negative coordinate"),
        ((0, 0, 100.5, 80), "beyond the image's edge"),
        ((0, 0, 100, 80.5), "beyond the image's edge"),  # that is wider than high
        ((5, 5, 5, 80), "without area"),
        ((5, 9, 80, 9), "without area"),
    ):
        (line,) = told(*corners)
        assert said in line and line.startswith("1 box ") and "image a" in line
