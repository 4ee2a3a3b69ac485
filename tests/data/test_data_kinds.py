"Kinds of data that passed in silence, and meant something else than was read: each gets the right value, or a sentence."

import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from xrays import chest, stored_so

from covidxr.base.errors import DataError
from covidxr.base.terms import BOX_COLUMNS, UNKNOWN
from covidxr.boxes.intervals import number_patients
from covidxr.cache.pictures import read_prepared
from covidxr.cli import main
from covidxr.data.cells import is_unknown
from covidxr.data.competition import _only_published
from covidxr.data.ids import spell_name
from covidxr.dataset import Dataset, open_dataset, problems, xray_files
from covidxr.dicom import XrayFacts, read_xray, write_dicom
from covidxr.eda import summary
from covidxr.folds import patient_folds
from covidxr.hospital import simulate_dataset
from covidxr.prepare import count_findings, from_cache, prepare, read_failed, to_cache
from covidxr.runs.inference import given_files
from covidxr.submission import (
    compare_submissions,
    score_submission,
    submission_ids,
    submission_table,
    write_submission,
)
from covidxr.xray.deidentify import pseudonym
from covidxr.xray.standard import TURNS

STUDIES = "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance\n"
IMAGES = "id,boxes,label,StudyInstanceUID\n"


def _placed(path: Path) -> Path:
    "The same, in a folder that is there"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _dicom(path: Path, grey: int = 7, patient: str = "p") -> Path:
    "A small DICOM file, of one grey level but for a corner"
    pixels = np.full((32, 32), grey, np.uint16)
    pixels[0, 0], pixels[0, 1] = 0, 4095
    write_dicom(_placed(path), pixels, XrayFacts("i", "s", "e", patient, bits_stored=12))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    "Four small pictures, a to d"
    from PIL import Image

    for name in "abcd":
        Image.fromarray(np.full((60, 50), 99, np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def _opened(folder: Path, images: str, boxes: str | None = None) -> Dataset:
    "A plain folder with these tables"
    (folder / "images.csv").write_text(images)
    if boxes is not None:
        (folder / "boxes.csv").write_text(boxes)
    return open_dataset(folder)


def _competition(folder: Path, studies: str, images: str) -> Path:
    "A folder in the competition's layout, without files"
    folder.mkdir(exist_ok=True)
    (folder / "train_study_level.csv").write_text(STUDIES + studies)
    (folder / "train_image_level.csv").write_text(IMAGES + images)
    return folder


# Files


def test_pictures_of_two_files_of_one_size_and_time_that_changed_names_are_made_anew(tmp_path):
    for name, grey in {"a": 100, "b": 4000}.items():
        os.utime(_dicom(tmp_path / "src" / f"{name}.dcm", grey), (1.7e9, 1.7e9))
    assert len({path.stat().st_size for path in (tmp_path / "src").iterdir()}) == 1

    def greys() -> list[bool]:
        prepare(tmp_path / "src", tmp_path / "out", size=16, workers=1)
        return [read_prepared(tmp_path / "out" / f"{name}.png").mean() > 100 for name in "ab"]

    assert greys() == [False, True]
    for old, new in (("a", "t"), ("b", "a"), ("t", "b")):
        (tmp_path / "src" / f"{old}.dcm").rename(tmp_path / "src" / f"{new}.dcm")
    assert greys() == [True, False]


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_cache_loses_no_folders_picture_to_another_folder(one_by_one, tmp_path, hashes):
    for folder, grey in {"A": 100, "B": 4000}.items():
        for name in (folder, "x", "y"):
            _dicom(tmp_path / folder / f"{name}.dcm", grey)

    def source(folder: str) -> Path | list[Path]:
        return sorted((tmp_path / folder).iterdir()) if one_by_one else tmp_path / folder

    def pictures() -> dict[str, str]:
        return {name: told for name, told in hashes(tmp_path / "out").items() if name[0] != "."}

    index = prepare(source("A"), tmp_path / "out", size=16, workers=1)
    before = pictures()
    with pytest.raises(DataError, match=r"out: holds the small copy of another X-ray under the id x, and .*B/x\.dcm"):
        prepare(source("B"), tmp_path / "out", size=16, workers=1)
    assert pictures() == before
    for name in ("x", "y"):
        (tmp_path / "B" / f"{name}.dcm").unlink()
    assert len(prepare(source("B"), tmp_path / "out", size=16, workers=1)) == 1
    assert prepare(source("A"), tmp_path / "out", size=16, workers=1).equals(index)


def test_a_stopped_call_loses_no_picture_to_another_folder(tmp_path, monkeypatch, hashes):
    from covidxr import prepare as door

    for folder, grey in {"A": 100, "B": 4000}.items():
        _dicom(tmp_path / folder / "x.dcm", grey)
    with monkeypatch.context() as patch:
        patch.setattr(door, "write_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(tmp_path / "A", tmp_path / "out", size=16, workers=1)
    before = hashes(tmp_path / "out")
    assert any(name.endswith("x.json") for name in before)
    with pytest.raises(DataError, match="another X-ray under the id x"):
        prepare(tmp_path / "B", tmp_path / "out", size=16, workers=1)
    assert hashes(tmp_path / "out") == before
    assert len(prepare(tmp_path / "A", tmp_path / "out", size=16, workers=1)) == 1


@pytest.mark.parametrize("way", ["moved", "copied", "changed", "linked", "named one by one"])
def test_what_is_the_same_folder_is_prepared_into_its_cache_again(way, tmp_path):
    for name, grey in {"x": 100, "y": 4000}.items():
        _dicom(tmp_path / "A" / f"{name}.dcm", grey)
    first, again = prepare(tmp_path / "A", tmp_path / "out", size=16, workers=1), tmp_path / "B"
    if way == "moved":
        (tmp_path / "A").rename(again)
    elif way == "copied":
        shutil.copytree(tmp_path / "A", again)
    elif way == "changed":
        again = _dicom(tmp_path / "A" / "x.dcm", 3000).parent
    elif way == "linked":
        again.symlink_to(tmp_path / "A")
    index = prepare(
        sorted((tmp_path / "A").iterdir()) if way[0] == "n" else again, tmp_path / "out", size=16, workers=1
    )
    same = (index["sha256"] == first["sha256"]).tolist()
    assert index["image_id"].tolist() == ["x", "y"] and same == [way != "changed", True]


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("way", ["into a subfolder", "exported again", "linked elsewhere", "named one by one"])
def test_a_folders_own_xray_that_was_moved_is_prepared_anew(way, stopped, tmp_path, monkeypatch):
    from PIL import Image

    from covidxr import prepare as door

    files = [_dicom(tmp_path / "src" / f"{name}.dcm", grey) for name, grey in {"x": 100, "y": 4000}.items()]
    if way[0] == "l":
        _dicom(tmp_path / "kept" / "x.dcm", 100)
        files[0].unlink()
        files[0].symlink_to(tmp_path / "kept" / "x.dcm")
    with monkeypatch.context() as patch:
        if stopped:
            patch.setattr(door, "write_index", lambda *told: pd.DataFrame({"image_id": []}))
        prepare(files if way[0] == "n" else tmp_path / "src", tmp_path / "out", size=16, workers=1)
    files[0].unlink()
    if way[0] == "i":
        _dicom(tmp_path / "src" / "ward" / "x.dcm", 3000)
    elif way[0] == "l":
        files[0].symlink_to(_dicom(tmp_path / "other" / "z.dcm", 3000))
    else:
        files[0] = files[0].with_suffix(".png")
        Image.fromarray(np.full((32, 32), 187, np.uint8)).save(files[0])
    index = prepare(files if way[0] == "n" else tmp_path / "src", tmp_path / "out", size=16, workers=1)
    assert index["image_id"].tolist() == ["x", "y"] and read_failed(tmp_path / "out").empty
    shown = [read_prepared(tmp_path / "out" / name)[12, 12] for name in index["file"]]
    assert shown == pytest.approx([187, 249], abs=1)


def test_a_picture_whose_xray_is_still_there_is_not_lost_to_another_of_its_folder(tmp_path):
    source = tmp_path / "src"
    simulate_dataset(source, studies=4, size=64, seed=3, workers=1)
    lone = next((source / "test").rglob("*.dcm"))
    beside = lone.rename(source / "test" / lone.name)
    prepare(source, tmp_path / "out", size=16, workers=1)
    held = tmp_path / "out" / f"{lone.stem}.png"
    before = held.read_bytes()
    _dicom(lone)  # lies as the competition's files do, and so has the id now
    with pytest.raises(DataError, match=f"holds the small copy of another X-ray under the id {lone.stem}"):
        prepare(source, tmp_path / "out", size=16, workers=1)
    assert held.read_bytes() == before
    beside.unlink()
    index = prepare(source, tmp_path / "out", size=16, workers=1).set_index("image_id")
    assert index.loc[lone.stem, "source"] == lone.relative_to(source).as_posix()


def test_a_cache_with_stamps_of_an_earlier_version_is_prepared_anew(tmp_path):
    from covidxr.cache.parts import index_parts, read_part, write_part

    _dicom(tmp_path / "src" / "a.dcm")
    before = prepare(tmp_path / "src", tmp_path / "out", size=16, workers=1)
    (part,), _ = index_parts(tmp_path / "out")
    table = read_part(part)
    write_part(table.assign(stamp=table["stamp"].str.rpartition("-")[0]), part)
    after = prepare(tmp_path / "src", tmp_path / "out", size=16, workers=1)
    assert after["stamp"].tolist() == before["stamp"].tolist() and read_failed(tmp_path / "out").empty


def _plain(orientation: str) -> str:
    return orientation.replace("\\", "")


def _lying(folder: Path, pixels: np.ndarray, kind: str) -> Path:
    "One X-ray eight times, each time stored otherwise, as the header says"
    folder.mkdir()
    for orientation in TURNS:
        name, stored = _plain(orientation), np.ascontiguousarray(stored_so(pixels, orientation))
        if kind == "png":
            from PIL import Image

            picture = Image.fromarray((stored >> 4).astype(np.uint8))
            exif = picture.getexif()
            exif[0x0112] = TURNS.index(orientation) + 1
            picture.save(folder / f"{name}.png", exif=exif)
        else:
            facts = XrayFacts(name, name, name, name, bits_stored=12, orientation=orientation)
            write_dicom(folder / f"{name}.dcm", stored, facts)
    return folder


@pytest.mark.parametrize("kind", ["dicom", "png"])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("size", [48, 71])
def test_however_an_xray_is_stored_its_small_picture_is_upright_and_boxes_lie_on_the_same_tissue(
    tmp_path, kind, fit, size
):
    pixels = chest(12, 113, 90)
    index = prepare(_lying(tmp_path / "src", pixels, kind), tmp_path / "out", size=size, fit=fit, workers=1)
    index = index.set_index("image_id", drop=False)
    usual = read_prepared(tmp_path / "out" / "LF.png").astype(int)
    box = (20, 31, 52, 70)  # of the upright X-ray
    rows = []
    for orientation in TURNS:
        small = read_prepared(tmp_path / "out" / f"{_plain(orientation)}.png").astype(int)
        assert np.abs(small - usual).max() <= 1, orientation
        marked = np.zeros_like(pixels)
        marked[box[1] : box[3], box[0] : box[2]] = 1
        down, across = np.nonzero(stored_so(marked, orientation))
        rows.append((_plain(orientation), across.min(), down.min(), across.max() + 1, down.max() + 1))
        row = index.loc[_plain(orientation)]
        assert row["orientation"] == orientation
        assert (row["height"], row["width"]) == stored_so(pixels, orientation).shape, "the file's own"
    boxes = pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS], index=[7] * 8)
    there = to_cache(boxes, index)
    assert np.abs(there[BOX_COLUMNS].to_numpy() - there[BOX_COLUMNS].to_numpy()[0]).max() < 1e-6
    back = from_cache(there, index)
    assert np.abs(back[BOX_COLUMNS].to_numpy() - boxes[BOX_COLUMNS].to_numpy()).max() < 1e-6
    middle = there[BOX_COLUMNS].iloc[0].to_numpy() / size
    assert (0 <= middle).all() and (middle <= 1).all()
    beyond = boxes.assign(x_min=-50, y_min=-50, x_max=500, y_max=500)  # cut at the edge of the file's own picture
    whole = from_cache(to_cache(beyond, index), index)
    if fit != "crop":
        assert np.abs(whole["x_max"].to_numpy() - index["width"].loc[whole["image_id"]].to_numpy()).max() < 1
        assert np.abs(whole["y_max"].to_numpy() - index["height"].loc[whole["image_id"]].to_numpy()).max() < 1


def test_what_a_crop_cuts_off_is_the_same_however_the_file_lies(tmp_path):
    pixels = chest(12, 120, 60)
    index = prepare(_lying(tmp_path / "src", pixels, "dicom"), tmp_path / "out", size=32, fit="crop", workers=1)
    rows = []
    for orientation in TURNS:
        marked = np.zeros_like(pixels)
        marked[2:20, 10:30] = 1  # above what is left
        down, across = np.nonzero(stored_so(marked, orientation))
        rows.append((_plain(orientation), across.min(), down.min(), across.max() + 1, down.max() + 1))
    assert to_cache(pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS]), index).empty


@pytest.mark.parametrize("coding", ["", "jpeg-2000"])
def test_a_draft_is_turned_as_the_whole_picture_is(tmp_path, coding):
    from covidxr.dicom import TRANSFER_SYNTAXES

    pixels = chest(12, 480, 400)
    (tmp_path / "src").mkdir()
    syntax = {"transfer_syntax": TRANSFER_SYNTAXES[coding]} if coding else {}
    for orientation in ("L\\F", "F\\R"):
        name, stored = _plain(orientation), np.ascontiguousarray(stored_so(pixels, orientation))
        facts = XrayFacts(name, name, name, name, bits_stored=12, orientation=orientation, **syntax)
        write_dicom(tmp_path / "src" / f"{name}.dcm", stored, facts)
    index = prepare(tmp_path / "src", tmp_path / "out", size=48, draft=True, workers=1).set_index("image_id")
    assert index.loc["FR", ["height", "width"]].tolist() == [400, 480]
    one, other = (read_prepared(tmp_path / "out" / f"{name}.png").astype(int) for name in ("LF", "FR"))
    assert np.abs(one - other).mean() < 1 and index.loc["LF", "scale"] == index.loc["FR", "scale"]


def test_processes_resuming_and_appending_keep_how_a_file_lies_and_a_lateral_view_stays(tmp_path):
    import pydicom

    folder = _lying(tmp_path / "src", chest(12, 72, 60), "dicom")
    shutil.copy(folder / "LF.dcm", folder / "lateral.dcm")
    ds = pydicom.dcmread(folder / "lateral.dcm")
    ds.PatientOrientation = ["A", "F"]
    ds.save_as(folder / "lateral.dcm")
    for copy in ("x1.dcm", "x2.dcm"):  # more than are done in one process
        shutil.copy(folder / "RH.dcm", folder / copy)
    shutil.move(folder / "HL.dcm", tmp_path / "HL.dcm")
    first = prepare(folder, tmp_path / "out", size=32, workers=2)
    shutil.move(tmp_path / "HL.dcm", folder / "HL.dcm")
    (tmp_path / "out" / "RH.png").unlink()
    prepare(folder, tmp_path / "out", size=32, workers=1)
    index = pd.read_parquet(tmp_path / "out" / "images.parquet")
    wanted = {_plain(one): one for one in TURNS} | {"lateral": "L\\F", "x1": "R\\H", "x2": "R\\H"}
    assert dict(zip(index["image_id"], index["orientation"], strict=True)) == wanted
    assert len(first) == len(index) - 1 and index["sha256"].nunique() == 1
    told = count_findings(index)
    assert told["turned to the usual view, as its header says orientation R\\H"] == 3
    assert told["left as stored, though its header says orientation A\\F"] == 1
    row = index.drop(columns="orientation")  # of an earlier state: its pictures lie as their files do
    box = pd.DataFrame([("RH", 1.0, 2.0, 3.0, 4.0)], columns=["image_id", *BOX_COLUMNS])
    upright = to_cache(box, index.assign(orientation="L\\F"))
    for same in (row, index.assign(orientation=None), index.assign(orientation="")):
        pd.testing.assert_frame_equal(to_cache(box, same), upright)
    with pytest.raises(DataError, match="the index: the orientation of image RH is not one of"):
        to_cache(box, index.assign(orientation="up"))


def test_a_cache_whose_index_does_not_say_how_files_lie_is_prepared_anew(tmp_path):
    from covidxr.cache.parts import index_parts, read_part, write_part

    folder = _lying(tmp_path / "src", chest(12, 72, 60), "dicom")
    before = prepare(folder, tmp_path / "out", size=32, workers=1)
    (part,), _ = index_parts(tmp_path / "out")
    write_part(read_part(part).drop(columns="orientation"), part)
    (tmp_path / "out" / "RH.png").write_bytes(b"as stored")
    after = prepare(folder, tmp_path / "out", size=32, workers=1)
    pd.testing.assert_frame_equal(after, before)
    assert read_prepared(tmp_path / "out" / "RH.png").shape == (32, 32)


def test_pictures_of_kinds_that_are_not_read_are_told_by_everything_that_takes_a_folder(folder):
    for name in ("e.tif", "more/f.BMP", "g.webp"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    told = f"{folder}: 3 pictures of a kind that covidxr does not read (.bmp, .tif, .webp), first {folder}/e.tif"
    with pytest.warns(UserWarning, match=re.escape(told)):
        assert len(xray_files(folder)) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for ask in (xray_files, given_files):
            closed = []
            assert len(ask(folder, closed)) == 4 and [said.startswith(told) for said in closed] == [True]
        prepare(folder, folder.parent / "out", size=16, workers=1)
        assert [said.startswith(told) for said in read_failed(folder.parent / "out")["error"]] == [True]
        dataset = _opened(folder, "file,label\na.png,x\nb.png,y\nc.png,x\nd.png,y\n")
        assert sum(said.startswith(told) for said in problems(dataset)) == 1
    for source in (prepare, lambda source, _: given_files(source, [])):
        with pytest.raises(DataError, match="more: 1 picture of a kind that covidxr does not read"):
            source(folder / "more", folder.parent / "out2")


def test_what_no_table_names_is_counted_with_the_first_of_it(folder, tmp_path):
    dataset = _opened(folder, "file,label\na.png,x\nb.png,y\n")
    assert "2 X-ray files are not in images.csv, and so left out, first c.png" in problems(dataset)
    root = _competition(tmp_path / "comp", "s1_study,1,0,0,0\ns2_study,0,1,0,0\n", "i1_image,,,s1\n")
    for number in (1, 2, 3):
        _dicom(root / "train" / f"s{number}" / "e" / f"i{number}.dcm", patient=f"p{number}")
    _dicom(root / "test" / "t" / "e" / "j.dcm", patient="q")
    assert problems(open_dataset(root)) == [
        "1 study has no image in train_image_level.csv, first s2",
        "2 DICOM files in train/ are not in train_image_level.csv, and so left out, first train/s2/e/i2.dcm",
    ]


def test_files_of_one_name_that_no_table_names_are_left_out_of_train_and_told_apart_in_test(tmp_path):
    root = _sampled(tmp_path / "comp")
    _dicom(root / "test" / "t" / "e" / "j.dcm", patient="q")
    before = open_dataset(root)
    (train, other), test = sorted((root / "train").iterdir()), next((root / "test").iterdir())
    for study in (train, other, other / "e"):
        shutil.copy(root / "train" / "s1" / "e" / "i1.dcm", study / "thumb.png")
    shutil.copy(next(test.rglob("*.dcm")), train / "e" / "j.dcm")  # the name of an image of the test half
    dataset = open_dataset(root)
    assert dataset.images["path"].tolist() == before.images["path"].tolist()
    why = "4 X-ray files in train/ are not in train_image_level.csv, and so left out, first train/s1/"
    assert [said[: len(why)] for said in problems(dataset)] == [why]
    for place in (test, test / "e"):
        shutil.copy(root / "train" / "s1" / "e" / "i1.dcm", place / "thumb.png")
    with pytest.raises(DataError, match=r"test/.*thumb\.png: its name is that of .*test/.*thumb\.png, and names are"):
        open_dataset(root)
    for place in (test, test / "e"):
        (place / "thumb.png").unlink()
    shutil.copy(root / "train" / "s1" / "e" / "i1.dcm", other / "e" / "i1.dcm")  # which of them does the table mean?
    with pytest.raises(DataError, match="names are image ids; remove or rename one"):
        open_dataset(root)


def test_an_xray_that_a_table_names_by_a_link_is_not_left_out(folder):
    (folder / "link.png").symlink_to(folder / "d.png")
    assert problems(_opened(folder, "file,label,patient_id\na.png,x,1\nb.png,y,2\nc.png,x,3\nlink.png,y,4\n")) == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("word", "told"), [("PatientID", "p\rq"), ("ViewPosition", "A\rP"), ("PatientSex", "M\rF"), ("PatientID", "\r,\r")]
)
def test_a_dataset_stays_open_whatever_signs_a_header_holds(word, told, tmp_path):
    import pydicom

    root = _competition(tmp_path / "comp", "s1_study,1,0,0,0\ns2_study,0,1,0,0\n", "i1_image,,,s1\ni2_image,,,s2\n")
    files = [_dicom(root / "train" / f"s{number}" / "e" / f"i{number}.dcm", patient="p") for number in (1, 2)]
    header = pydicom.dcmread(files[0])
    setattr(header, word, told)
    header.save_as(files[0])
    first, again = open_dataset(root).images, open_dataset(root).images
    pd.testing.assert_frame_equal(first, again)
    assert len(pd.read_csv(root / "headers.csv")) == 2


@pytest.mark.parametrize("name", ["st\rdy", "st\ndy", "st\udcffdy", "st\x1bdy"])
def test_a_study_is_called_by_a_folder_of_any_name_as_its_images_are(name, tmp_path):
    for other in ("a", "b"):
        write_dicom(
            _placed(tmp_path / "train" / name / other / f"{other}.dcm"), np.eye(8, dtype=int), XrayFacts(other, "s")
        )
    given = given_files(tmp_path)
    (study,) = set(given["study_id"])
    assert study == spell_name(name) != name and given["image_id"].tolist() == ["a", "b"]
    write_dicom(_placed(tmp_path / "test" / study / "c" / "c.dcm"), np.eye(8, dtype=int), XrayFacts("c", "t"))
    given = given_files(tmp_path).set_index("image_id")["study_id"]
    assert given.nunique() == 3, "two folders whose names are spelled alike are not one study"


def test_one_file_has_one_id_for_whatever_takes_its_folder(tmp_path):
    root = tmp_path / "data"
    for place in ("images/p1/IM1", "images/p2/IM1", "images/p3/IM2"):
        _dicom(root / f"{place}.dcm")
    (root / "images.csv").write_text("file,label\nimages/p1/IM1.dcm,x\nimages/p3/IM2.dcm,y\n")
    (root / "boxes.csv").write_text("file,x,y,width,height\nIM2.png,1,1,4,4\n")
    for folder in (root, root / "images", root / "images" / "p1"):
        given = given_files(folder, []).set_index("path")["image_id"]
        assert given_files([str(folder)], [])["image_id"].tolist() == given.tolist()
        if folder != root:
            names = prepare(folder, tmp_path / f"out-{folder.name}", size=16, workers=1)["image_id"]
            assert sorted(names) == sorted(given)
    given = given_files(root).set_index("path")["image_id"]
    assert given.tolist() == ["images-p1-IM1", "images-p2-IM1", "IM2"]
    dataset = open_dataset(root)  # whose table does not name the second, which is there nevertheless
    assert dataset.images["image_id"].tolist() == ["images-p1-IM1", "IM2"]
    assert dataset.boxes["image_id"].tolist() == ["IM2"]
    assert prepare(root, tmp_path / "out", size=16, workers=1)["image_id"].tolist() == ["IM2", "images-p1-IM1"]
    (root / "boxes.csv").write_text("file,x,y,width,height\nIM1.png,1,1,4,4\n")  # of a copy: one IM1 is in the table
    assert open_dataset(root).boxes["image_id"].tolist() == ["images-p1-IM1"]


def _sampled(folder: Path, *ids: str) -> Path:
    "A dataset of the competition's layout with two studies, whose sample has these ids"
    root = _competition(folder, "s1_study,1,0,0,0\ns2_study,0,1,0,0\n", "i1_image,,,s1\ni2_image,,,s2\n")
    for number in (1, 2):
        _dicom(root / "train" / f"s{number}" / "e" / f"i{number}.dcm", patient=f"p{number}")
    rows = "".join(f"{name},none 1 0 0 1 1\n" for name in ids)
    if ids:
        (root / "sample_submission.csv").write_text(f"id,PredictionString\n{rows}")
    return root


@pytest.mark.parametrize("half", ["train", "test"])
@pytest.mark.parametrize("way", ["{0}/e/{1}.DCM", "{0}/e/{1}", "{0}/{1}.dcm", "more/{0}/e/{1}.dicom"])
def test_the_competitions_files_are_found_as_everywhere_else(half, way, tmp_path):
    root = _sampled(tmp_path / "comp", "t_study", "j_image")
    _dicom(root / "test" / "t" / "e" / "j.dcm", patient="q")
    study, image = ("s1", "i1") if half == "train" else ("t", "j")
    (root / half / study / "e" / f"{image}.dcm").rename(_placed(root / half / way.format(study, image)))
    dataset = open_dataset(root)
    assert problems(dataset) == [] and dataset.images["image_id"].tolist() == ["i1", "i2", "j"]
    assert dataset.images["study_id"].tolist() == ["s1", "s2", "t"] and (dataset.images["path"] != "").all()


def test_a_picture_beside_a_dicom_file_of_its_name_is_told_and_left_out(tmp_path):
    root = _sampled(tmp_path / "comp")
    shutil.copy(root / "train" / "s1" / "e" / "i1.dcm", root / "train" / "s1" / "e" / "i1.png")
    (said,) = problems(open_dataset(root))
    assert said.startswith("1 X-ray file has the name of a DICOM file in STUDY/SERIES, and so left out, first train/s1")
    (root / "train" / "s1" / "e" / "i1.dcm").rename(root / "train" / "s1" / "e" / "i1.DCM")
    with pytest.raises(DataError, match="names are image ids; remove or rename one"):
        open_dataset(root)


@pytest.mark.parametrize("folders", [("0_jpg", "0_png"), ("zz_jpg", "zz_png"), ("0_jpg", "zz_png")])
def test_two_conversions_beside_the_competitions_files_are_told_wherever_they_sort(folders, tmp_path):
    root = _sampled(tmp_path / "comp")
    for name in folders:
        for number in (1, 2):
            target = _placed(root / "train" / name / f"i{number}.png")
            shutil.copy(root / "train" / f"s{number}" / "e" / f"i{number}.dcm", target)
    dataset = open_dataset(root)
    (said,) = problems(dataset)
    assert said.startswith("4 X-ray files have the name of a DICOM file in STUDY/SERIES, and so left out")
    assert sorted(dataset.images["path"]) == ["train/s1/e/i1.dcm", "train/s2/e/i2.dcm"]


def test_what_the_sample_asks_for_and_no_file_gives_is_told_and_guessed(tmp_path):
    from types import SimpleNamespace

    from covidxr.runs.baselines import prior_submission
    from covidxr.runs.inputs import prepare_data, tables_key
    from covidxr.runs.opinions import _write_final
    from covidxr.runs.report import _missing_text
    from covidxr.runs.run import Steps

    ids = ["t_study", "u_study", "j_image", "k_image"]
    root = _sampled(tmp_path / "comp", *ids)
    for name in "tv":
        _dicom(root / "test" / name / "e" / f"{'j' if name == 't' else 'l'}.dcm", patient=name)
    dataset = open_dataset(root)
    said = [
        "sample_submission.csv: 2 ids without a file in test/, first u_study; `covidxr run` only guesses there",
        "sample_submission.csv: 2 ids of files in test/ not among its own, first v_study; `covidxr run` leaves them out of "
        "submission.csv",
    ]
    assert problems(dataset) == said
    (tmp_path / "run").mkdir()
    steps, profile = Steps(tmp_path / "run"), SimpleNamespace(cache_size=16)
    _, notes = prepare_data(steps, dataset, tmp_path / "run", profile)
    assert notes == {"failed": [], "missing": ["u_study", "k_image"]}, "what is not there cannot be damaged"
    why = "1 image and 1 study of sample_submission.csv have no file in test/, first u_study"
    assert _missing_text(notes["missing"]) == why and _missing_text([]) == ""
    hidden = dataset.images[dataset.images["split"] == "test"]
    told = prior_submission(dataset, ("s1",), hidden)
    run = SimpleNamespace(dataset=dataset, folder=tmp_path / "run", hidden=False)
    for tables in ({"ensemble": told, "extra": told}, {"ensemble": told}):  # without a test half nothing but guesses
        _write_final(run, tables)
        table = pd.read_csv(tmp_path / "run" / "submission.csv").set_index("id")["PredictionString"]
        assert sorted(table.index) == sorted(ids) and table["u_study"].startswith("negative 0.5 0 0 1 1 typical 0.5")
        assert table["k_image"] == "none 1 0 0 1 1" and ("negative 1 " in table["t_study"]) == ("extra" in tables)
    key = tables_key(dataset)
    (root / "sample_submission.csv").write_text("id,PredictionString\nt_study,\nv_study,\nj_image,\nl_image,\n")
    assert problems(open_dataset(root)) == [] and tables_key(dataset) != key


@pytest.mark.parametrize("text", ["name,x\na,b\n", "id,PredictionString\na,b\n", "id\na_image\na_image\n"])
def test_a_sample_that_cannot_be_one_is_told_and_closes_no_dataset(text, tmp_path):
    root = _sampled(tmp_path / "comp")
    (root / "sample_submission.csv").write_text(text)
    (said,) = problems(open_dataset(root))
    assert "sample_submission.csv: row " in said and "is not compared with the files" in said


def test_an_image_in_the_folder_of_another_study_is_told(tmp_path):
    root = _sampled(tmp_path / "comp")
    (root / "train_image_level.csv").write_text(IMAGES + "i1_image,,,s2\ni2_image,,,s2\n")
    said = "train_image_level.csv: 1 image lies in the folder of another study, first i1: StudyInstanceUID is s2, its folder s1"
    assert problems(open_dataset(root))[1:] == [f"{said}; an image takes the class of the table"]
    (root / "train_image_level.csv").write_text(IMAGES + "i1_image,,,s1\ni2_image,,,s2\n")
    for name in ("s1", "s2"):  # folders may be called otherwise than studies
        (root / "train" / name).rename(root / "train" / f"exam {name}")
    assert problems(open_dataset(root)) == []


# Columns


@pytest.mark.parametrize("name", ["split", "Fold", "set", "subset", "hospital", "Site", "patient", "study"])
def test_a_column_that_tells_of_an_image_what_is_no_class_is_not_taken_for_the_classes(folder, name):
    rows = "".join(f"{file}.png,{mark},{other}\n" for file, mark, other in zip("abcd", "1010", "uvvu", strict=True))
    assert _opened(folder, f"file,target,{name}\n{rows}").labels().to_dict() == dict(zip("abcd", "1010", strict=True))
    with pytest.raises(DataError, match=r"cannot tell which column holds the classes \(covid\); name it `label`"):
        _opened(folder, f"file,covid,{name}\n{rows}")


def test_a_column_of_0_and_1_beside_the_only_text_column_makes_one_ask_which_holds_the_classes(folder):
    rows = "".join(f"{file}.png,{mark},{other}\n" for file, mark, other in zip("abcd", "1010", "uvvu", strict=True))
    with pytest.raises(DataError, match=r"holds the classes \(device, covid\); name it `label`"):
        _opened(folder, f"file,covid,device\n{rows}")
    assert _opened(folder, f"file,label,device\n{rows}").classes == ("0", "1"), "the cure works"
    assert _opened(folder, f"file,label,diagnosis\n{rows}").classes == ("0", "1"), "also beside another such name"
    assert _opened(folder, f"file,Target,class\n{rows}").classes == ("u", "v"), "a named text column goes first"


@pytest.mark.parametrize("name", ["split", "Subset", "data_set", "partition"])
def test_a_column_that_tells_halves_apart_is_told_as_a_plain_folder_has_none(folder, name):
    rows = "a.png,x,{},1\nb.png,y,{},2\nc.png,x,{},3\nd.png,y,{},4\n"
    head = f"file,label,{name},patient_id\n"
    (said,) = problems(_opened(folder, head + rows.format("train", "train", "test", "test")))
    assert said.startswith(
        f"images.csv: the column {name} (test, train) is not read, so every image counts as training"
    )
    assert problems(_opened(folder, head + rows.format(*["train"] * 4))) == []


def test_a_class_of_boxes_is_told_as_all_boxes_are_opacities(folder):
    images = "file,label,patient_id\na.png,x,1\nb.png,y,2\nc.png,x,3\nd.png,y,4\n"
    boxes = "file,x,y,width,height,{},file_name\na.png,1,2,30,40,{},u\nb.png,1,2,30,40,{},v\n"
    for name in ("label", "class", "Class_Name", "name", "category_id", "finding"):
        (said,) = problems(_opened(folder, images, boxes.format(name, "nodule", "opacity")))
        assert said.startswith(f"boxes.csv: the column {name} (nodule, opacity) is not read, so every box counts")
    assert problems(_opened(folder, images, boxes.format("label", "opacity", "opacity"))) == []
    assert problems(_opened(folder, images, boxes.format("width_class_of_device_x", "m", "n"))) == []


# Boxes


def test_boxes_in_shares_of_the_picture_and_boxes_listed_twice_are_told(folder):
    images = "file,label,patient_id\na.png,x,1\nb.png,y,2\nc.png,x,3\nd.png,y,4\n"
    head = "file,x,y,width,height\n"
    (said,) = problems(_opened(folder, images, head + "a.png,0.5,0.4,0.2,0.1\nb.png,0.9,0.9,0.8,1\n"))
    assert said.startswith(
        "2 boxes in the first pixel and no larger than it, first in image a: 0.5, 0.4, 0.7, 0.5; are x"
    )
    (said,) = problems(_opened(folder, images, head + "a.png,1,2,30,40\nb.png,1,2,30,40\na.png,1,2,30,40\n"))
    assert said == "1 box listed twice, first in image a: 1.0, 2.0, 31.0, 42.0"
    assert problems(_opened(folder, images, head + "a.png,1,2,30,40\na.png,1,2,30,41\n")) == []


def _contradictions(folder: Path, boxes: str, label: str, study: str = "0,1,0,0") -> list[str]:
    "What `problems` says of one image's boxes and label, but for its file"
    root = _competition(folder / "comp", f"s_study,{study}\n", f'i_image,"{boxes}",{label},s\n')
    _dicom(root / "train" / "s" / "e" / "i.dcm")
    return problems(open_dataset(root))


TWO = "[{'x': 1.0, 'y': 2.0, 'width': 20.0, 'height': 10.0}, {'x': 5.0, 'y': 6.0, 'width': 7.0, 'height': 8.0}]"


@pytest.mark.parametrize(
    ("boxes", "label"),
    [
        (TWO, "opacity 1 1 2 21 12 opacity 1 5 6 12 14"),
        (TWO, "opacity 1 5.4 6 12 14 opacity 1 1 2 21 11.6"),  # in another order, and rounded
        ("", "none 1 0 0 1 1"),
        (TWO, ""),
        (TWO, "one two"),
        (TWO, "opacity 1 a b c d"),
        (TWO, "typical 1 0 0 1 1"),
    ],
)
def test_boxes_and_labels_that_say_the_same_or_cannot_be_compared_are_not_told(tmp_path, boxes, label):
    assert _contradictions(tmp_path, boxes, label) == []


@pytest.mark.parametrize(
    ("boxes", "label"),
    [
        (TWO, "none 1 0 0 1 1"),
        ("", "opacity 1 1 2 21 12"),
        (TWO, "opacity 1 1 2 21 12"),
        (TWO, "opacity 1 1 2 21 12 opacity 1 1 2 21 12"),
        (TWO, "opacity 1 1 2 21 12 opacity 1 5 6 7 8"),  # width taken for x_max
    ],
)
def test_boxes_and_labels_that_contradict_each_other_are_told(tmp_path, boxes, label):
    (said,) = _contradictions(tmp_path, boxes, label)
    assert said.startswith(
        "train_image_level.csv: the columns boxes and label of 1 image contradict each other, first i"
    )


def test_a_box_in_a_negative_study_is_told(tmp_path):
    (said,) = _contradictions(tmp_path, TWO, "", "1,0,0,0")
    assert (
        said == "1 image with boxes in a study that is called negative, first i; is the class wrong, or are the boxes?"
    )


def test_nothing_is_odd_in_simulated_datasets(tmp_path):
    for seed, site in ((3, None), (4, "B")):
        folder = simulate_dataset(tmp_path / f"{seed}", studies=8, seed=seed, size=64, workers=1, site=site)
        assert problems(open_dataset(folder)) == []


def test_in_the_real_tables_only_the_known_box_is_odd():
    real = Path(os.environ.get("COVIDXR_REAL", Path(__file__).resolve().parents[2].parent / "shared" / "real"))
    if not (real / "siim_tables").is_dir():
        pytest.skip("the real tables are not here")
    said = problems(open_dataset(real / "siim_tables"))
    assert len(said) == 2 and "negative coordinate" in said[0] and "6334 images have no file here" in said[1]


@pytest.mark.parametrize("way", [to_cache, from_cache])
def test_mapped_boxes_are_numbers_in_their_order_or_the_image_is_named(way):
    place = {"scale": 0.5, "scale_y": 0.5, "left": 0, "top": 0, "height": 100, "width": 100, "size": 50}
    index = pd.DataFrame([{"image_id": name} | place for name in "ab"])
    rows = [("b", 0.0, 0.0, 50.0, 50.0), ("a", 10.0, 10.0, 50.0, 50.0)]
    boxes = pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS], index=[5, 5])
    wanted = way(boxes, index)
    for same in (boxes.astype(dict.fromkeys(BOX_COLUMNS, str)), boxes.astype(dict.fromkeys(BOX_COLUMNS, object))):
        pd.testing.assert_frame_equal(way(same, index), wanted)
    pd.testing.assert_frame_equal(way(boxes, index.astype({"scale": str, "left": str})), wanted)
    for wrong, said in (
        (boxes.assign(x_min=["0", "left"]), "a box of image a has a corner that is not a finite number"),
        (boxes.assign(y_max=[50, np.nan]), "a box of image a has a corner that is not a finite number"),
        (boxes.assign(x_max=[np.inf, 50]), "a box of image b has a corner that is not a finite number"),
        (boxes.assign(x_min=[0, 90]), "a box of image a has its corners swapped"),
        (pd.concat([boxes, boxes[["x_min"]]], axis=1), "the table of boxes has two columns x_min"),
        (boxes.to_dict(), "the table of boxes must be a pandas table"),
    ):
        with pytest.raises(DataError, match=said):
            way(wrong, index)
    for bad in ("half", 0, None):
        with pytest.raises(DataError, match="the index: the place of image b is no number, or its scale is 0"):
            way(boxes, index.assign(scale=pd.Series([0.5, bad], dtype=object)))
    with pytest.raises(DataError, match="the table of index must be a pandas table"):
        way(boxes, {})


# Patients and studies


def test_a_patient_in_both_halves_is_told(tmp_path):
    root = _competition(tmp_path / "comp", "s1_study,1,0,0,0\n", "i1_image,,none 1 0 0 1 1,s1\n")
    for half, number in (("train", 1), ("test", 2), ("test", 3)):
        _dicom(root / half / f"s{number}" / "e" / f"i{number}.dcm", patient="" if number == 3 else "p1")
    told = [said for said in problems(open_dataset(root)) if "half" in said]
    assert [said.partition(":")[0] for said in told] == [
        "1 patient is in the training half and in the test half, first p1"
    ]


def test_an_unknown_patient_gets_a_name_that_no_patient_has(folder):
    dataset = _opened(
        folder, "file,label,study_id,patient_id\na.png,x,1,3\nb.png,y,2,study 3\nc.png,x,3,\nd.png,y,4,\n"
    )
    assert dataset.images["patient_id"].tolist() == ["3", "study 3", "study study 3", "4"]
    dataset = _opened(
        folder,
        "file,label,study_id,patient_id\na.png,x,1,study 2\nb.png,y,2,2\nc.png,x,3,\nd.png,y,3,\n".replace(
            "d.png,y", "d.png,x"
        ),
    )
    assert dataset.images["patient_id"].tolist() == ["study 2", "2", "3", "3"]


def test_an_image_without_a_study_joins_no_study_that_is_called_as_it_is(folder):
    dataset = _opened(
        folder, "file,label,study_id,patient_id\na.png,x,,p1\nb.png,y,a,p2\nc.png,y,image-a,p3\nd.png,x,,p4\n"
    )
    assert dataset.images["study_id"].tolist() == ["image-image-a", "a", "image-a", "d"]
    assert dataset.labels().to_dict() == {"image-image-a": "x", "a": "y", "image-a": "y", "d": "x"}


def _by_hand(**changes) -> Dataset:
    "A dataset of two studies with an image each and a box, and a test study, with some tables exchanged"
    studies = pd.DataFrame({"study_id": ["s", "t", "u"], "split": ["train", "train", "test"]})
    tables = {
        "studies": studies.assign(x=[1, 0, np.nan], y=[0, 1, np.nan]),
        "images": studies[["study_id", "split"]].assign(image_id=["a", "b", "c"], patient_id=["p", "q", "r"]),
        "boxes": pd.DataFrame([("a", 1.0, 2.0, 30.0, 40.0)], columns=["image_id", *BOX_COLUMNS]),
    }
    return Dataset(**({"root": "here", "simulated": False, "classes": ("x", "y")} | tables | changes))


def test_a_dataset_by_hand_invents_no_class_and_holds_nothing_that_belongs_to_nothing():
    whole = _by_hand()
    assert whole.labels().to_dict() == {"s": "x", "t": "y"}
    studies, images, boxes = whole.studies, whole.images, whole.boxes
    for marks in ([0, 0], [1, 1], [0.5, 0.5], [2, -1], [np.nan, 1], ["one", 1]):
        wrong = studies.astype({"x": object, "y": object})
        wrong.loc[1, ["x", "y"]] = marks
        with pytest.raises(DataError, match="here: study t must have a 1 for exactly one of the classes x, y"):
            _by_hand(studies=wrong)
    for changes, said in (
        ({"studies": pd.concat([studies, studies[:1]])}, "study s appears twice in the table of studies"),
        ({"images": images.assign(study_id=["s", "lost", "u"])}, "the study of image b is not in the table of studies"),
        ({"images": images.assign(study_id=["s", None, "u"])}, "the study of image b is not in the table of studies"),
        ({"boxes": boxes.assign(image_id="zzz")}, "a box is of image zzz, which is not in the table of images"),
    ):
        with pytest.raises(DataError, match=f"here: {said}"):
            _by_hand(**changes)


@pytest.mark.parametrize("kind", ["bool", "Int64", "str", "float"])
def test_a_dataset_by_hand_may_hold_its_classes_as_any_kind_of_number(kind):
    studies = _by_hand().studies[:2].astype({"x": int, "y": int}).astype({"x": kind, "y": kind})
    dataset = _by_hand(studies=studies, images=_by_hand().images[:2])
    assert dataset.labels().to_dict() == {"s": "x", "t": "y"}


def test_a_class_called_by_braces_is_told_as_any_other():
    studies = pd.DataFrame({"study_id": ["a"], "split": "train", "{x}": [1], "{}": [1]})
    images = pd.DataFrame({"image_id": ["a"], "study_id": ["a"], "patient_id": ["p"], "split": "train"})
    with pytest.raises(DataError, match="study a must have a 1 for exactly one of the classes"):
        Dataset(".", False, ("{x}", "{}"), studies, images, pd.DataFrame())


def test_files_that_lie_as_published_come_in_the_order_of_their_folders(tmp_path):
    # blanks, hyphens and dots sort before the slash, so that whole paths as text come in another order
    names = ["a", "a b", "a-b", "a.b", "ab", "a\x01", "é"]
    for name in names:
        file = tmp_path / "train" / name / f"{name}s" / f"{name}i.dcm"
        file.parent.mkdir(parents=True)
        file.touch()
    found = _only_published(tmp_path / "train")
    assert found == sorted((tmp_path / "train").rglob("*.dcm"), key=lambda path: path.parts)
    assert [path.parts[-3] for path in found] == sorted(names) != [path.parts[-3] for path in sorted(found, key=str)]
    (tmp_path / "train" / "a" / "as" / "b.png").touch()
    assert _only_published(tmp_path / "train") is None


@pytest.mark.parametrize("boxes", [None, "file,x,y,width,height\na.png,1,2,20,20\n"])
def test_a_plain_folder_is_the_truth_of_its_submissions(folder, tmp_path, boxes):
    "Its own submission scores 1, and patients are drawn as its table has them"
    dataset = _opened(folder, "file,label,patient_id\na.png,ill,p\nb.png,well,q\n", boxes)
    certain = pd.DataFrame({"study_id": ["a", "b"], "ill": [1.0, 0.0], "well": [0.0, 1.0]})
    table = submission_table(certain, dataset.boxes.assign(confidence=1.0), dataset.unboxed().astype(float))
    out = tmp_path / "own.csv"
    write_submission(table, submission_ids(dataset.images), out)
    for truth in (folder, folder / "images.csv"):
        assert score_submission(truth, out).map == 1
    assert compare_submissions(folder, {"own": out}, draws=5)["drawn"] == "patients"
    (folder / "images.csv").write_text("file,label\na.png,ill\nb.png,well\n")
    assert compare_submissions(folder, {"own": out}, draws=5)["drawn"] == "studies"
    assert main(["score", str(folder), str(out), "--versus", str(out), "--draws", "5"]) == 0


def test_predict_calls_the_studies_of_a_plain_folder_as_the_dataset_does(folder):
    shutil.copy(folder / "a.png", folder / "c.png")
    dataset = _opened(folder, "file,label,study_id\na.png,ill,c\nb.png,ill,c\nc.png,ill,\n")
    given = given_files(folder).set_index("image_id")["study_id"]
    assert given.drop("d").to_dict() == dataset.images.set_index("image_id")["study_id"].to_dict()
    (folder / "images.csv").write_text("somebody,else\n1,2\n")
    assert given_files(folder)["study_id"].tolist() == ["a", "b", "c", "d"]


def test_the_patients_of_a_plain_folder_of_dicom_files_are_those_of_their_headers(tmp_path):
    "Each file had been a patient of its own, and one person stood in both folds"
    for number in range(8):
        facts = XrayFacts(f"i{number}", patient_id=f"P{number // 4}", bits_stored=12, view="PA", sex="F", age=50)
        write_dicom(tmp_path / f"i{number}.dcm", np.arange(1024).reshape(32, 32), facts)
    lines = [f"i{number}.dcm,{'ill' if number % 2 else 'well'}," for number in range(8)]
    (tmp_path / "images.csv").write_text("\n".join(["file,label,patient_id", *lines[:7], lines[7] + "own"]))
    dataset = open_dataset(tmp_path)
    # who is P1 in a header is "own" in the table
    assert dataset.images["patient_id"].tolist() == ["P0"] * 4 + ["own"] * 4
    assert dataset.images[["view", "sex", "age"]].drop_duplicates().to_numpy().tolist() == [["PA", "F", 50]]
    assert problems(dataset) == [
        "images.csv names no patient there: the patients of 7 images are those of their headers"
    ]
    fold = patient_folds(dataset, 2)
    assert pd.Series(dataset.images["patient_id"].to_numpy()).groupby(fold.to_numpy()).unique().map(len).sum() == 2


def _headed(folder, names, rows, columns="file,study_id,patient_id,label"):
    "A plain folder of DICOM files i0.dcm, …, whose headers bear these names"
    for number, name in enumerate(names):
        facts = XrayFacts(f"i{number}", patient_id=name, bits_stored=12)
        write_dicom(folder / f"i{number}.dcm", np.arange(1024).reshape(32, 32) + number, facts)
    (folder / "images.csv").write_text("\n".join([columns, *rows]))
    return open_dataset(folder)


def test_ages_are_read_as_half_of_the_world_writes_them_and_odd_ones_are_told(tmp_path):
    "61,5 had become an unknown age without a word"
    from PIL import Image

    ages = ["61", " 061Y", "006M", "61,5", "0.25", "unknown", "", "about sixty", "-3", "999"]
    for number in range(len(ages)):
        Image.fromarray(np.full((20, 20), number, np.uint8)).save(tmp_path / f"i{number}.png")
    rows = [f"i{number}.png;{'ab'[number % 2]};{age}" for number, age in enumerate(ages)]
    (tmp_path / "images.csv").write_text("\n".join(["file;label;age", *rows]))
    dataset = open_dataset(tmp_path)
    assert dataset.images["age"].fillna(-1).tolist() == [61, 61, 0, 61.5, 0.25, -1, -1, -1, -1, -1]
    told = [said for said in problems(dataset) if "age" in said.split("images.csv: ")[-1][:9]]
    assert told == [
        "images.csv: 3 ages are no years from 0 to 150, first 'about sixty' in row 9; "
        "they count as unknown, write a number"
    ]


def test_headers_split_no_study_whose_patient_the_table_names(tmp_path):
    "P0 and MRN1000 had been two patients of one study, which patient_folds refused"
    names = [f"MRN{1000 + number // 2}" for number in range(8)]
    told = ["P0", "", "", "P1", "", "", "P3", ""]
    rows = [f"i{number}.dcm,s{number // 2},{one},{'ab'[number // 2 % 2]}" for number, one in enumerate(told)]
    dataset = _headed(tmp_path, names, rows)
    assert dataset.images["patient_id"].tolist() == [*["P0"] * 2, *["P1"] * 2, *["MRN1002"] * 2, *["P3"] * 2]
    assert patient_folds(dataset, 2).nunique() == 2
    assert [said for said in problems(dataset) if "the patients of 2 images are those of their headers" in said]


def test_a_patient_of_the_table_is_the_same_in_studies_where_only_headers_speak(tmp_path):
    "One person was 7 in the study that the table names and MRN0 in the next, and stood in both folds"
    names = ["MRN0", "MRN0", "MRN1", "MRN2", "MRN3", "MRN3", "7", "MRN3"]
    told = ["7", "", "", "8", "9", "10", "", ""]
    rows = [f"i{number}.dcm,s{number},{one},{'ab'[number % 2]}" for number, one in enumerate(told)]
    found = _headed(tmp_path, names, rows).images["patient_id"].tolist()
    assert found[:6] == ["7", "7", "MRN1", "8", "9", "10"]
    assert found[6] == "header 7", "the hospital's 7 is not the table's"
    assert found[7] == "MRN3", "the table calls MRN3 by two names, so neither can be told"


def test_headers_that_disagree_about_a_study_name_nobody(tmp_path):
    rows = [f"i{number}.dcm,s{number // 2},,{'ab'[number // 2 % 2]}" for number in range(6)]
    dataset = _headed(tmp_path, ["p", "q", "p", "", "r", "r"], rows)
    assert dataset.images["patient_id"].tolist() == ["s0", "s0", "p", "p", "r", "r"]
    assert problems(dataset)[0] == (
        "the headers of 1 study name several patients, first s0: none of them is taken; name the patient in images.csv"
    )


@pytest.mark.parametrize("word", ["0", "ANON", "REMOVED", "Anonymous^^", "XXXXX", "DEIDENTIFIED", "P7"])
def test_one_name_in_all_headers_is_nobody(word, tmp_path):
    "Twelve patients had become one, and patient_folds refused them"
    rows = [f"i{number}.dcm,{'ab'[number % 2]}" for number in range(6)]
    dataset = _headed(tmp_path, [word] * 6, rows, "file,label")
    assert dataset.images["patient_id"].nunique() == 6 and patient_folds(dataset, 3).nunique() == 3
    shared = f"the headers of all 6 studies name one patient, {word!r}, which tells nobody apart"
    wanted = ["no patient ids (column patient_id)", shared] if word in ("0", "P7") else ["no patient ids (column"]
    assert all(one.startswith(said) for one, said in zip(sorted(problems(dataset))[::-1], wanted[::-1], strict=True))
    rows[0] += ",own"  # what the table names stays
    dataset = _headed(tmp_path, [word] * 6, [rows[0], *[row + "," for row in rows[1:]]], "file,label,patient_id")
    assert dataset.images["patient_id"].tolist() == ["own", *[f"i{number}" for number in range(1, 6)]]


def test_a_headers_7_is_not_the_tables_where_they_count_otherwise(tmp_path):
    told = ["1", "2", "3", "", "", "", ""]
    rows = [f"i{number}.dcm,s{number},{one},{'ab'[number % 2]}" for number, one in enumerate(told)]
    names = ["1", "2", "9", "1", "3", "1", "4"]
    found = _headed(tmp_path, names, rows).images["patient_id"].tolist()
    assert found == [
        "1",
        "2",
        "3",
        "1",
        "header 3",
        "1",
        "4",
    ]  # of 1 both tell in the first study, of the headers' 3 not
    names[2] = "3"  # both count alike, and one person stays one
    assert _headed(tmp_path, names, rows).images["patient_id"].tolist() == ["1", "2", "3", "1", "3", "1", "4"]


def test_one_name_in_all_headers_of_a_competition_folder_is_nobody(tmp_path):
    from covidxr.hospital import simulate_dataset

    simulate_dataset(tmp_path, studies=6, size=64, workers=1)
    kept = tmp_path / "headers.csv"
    images = open_dataset(tmp_path).images
    table = images.rename(columns={"height": "rows", "width": "columns"})
    table.assign(patient_id="0")[["image_id", "patient_id", "rows", "columns"]].to_csv(kept, index=False)
    dataset = open_dataset(tmp_path)
    assert (dataset.images["patient_id"] == dataset.images["study_id"]).all()
    assert [said for said in problems(dataset) if "studies name one patient, '0', which tells nobody apart" in said]


def test_a_picture_without_a_header_is_no_patient_called_by_its_file(folder):
    assert problems(_opened(folder, "file,label,study_id\na.png,x,s\nb.png,x,s\nc.png,y,t\nd.png,y,t\n"))[0].startswith(
        "no patient ids"
    )


@pytest.mark.parametrize("word", ["unknown", "-", "?", "N.A.", "anonymous", "Missing"])
def test_patients_called_unknown_are_not_one_person(folder, word):
    dataset = _opened(folder, f"file,label,patient_id\na.png,x,{word}\nb.png,y,{word}\nc.png,x,p\nd.png,y,q\n")
    assert dataset.images["patient_id"].tolist() == ["a", "b", "p", "q"]
    assert "2 of 4 studies have no patient id" in problems(dataset)[0]
    dataset.images["patient_id"] = [word, word, "p", "q"]
    with pytest.raises(DataError, match="image a has no patient_id"):
        patient_folds(dataset, 2)


def test_patients_named_by_numbers_and_by_text_are_text_for_all(folder):
    "patient_folds ended in a TypeError"
    dataset = _by_hand()
    images = pd.concat([dataset.images] * 2, ignore_index=True)
    count = len(images)
    images = images.assign(image_id=[f"i{row}" for row in range(count)], study_id=[f"s{row}" for row in range(count)])
    images = images.assign(patient_id=[7, "7", *range(2, count)], split="train")
    studies = pd.DataFrame({"study_id": images["study_id"], "split": "train", "a": [0, 1] * (count // 2)})
    mixed = Dataset(folder, False, ("a", "b"), studies.assign(b=1 - studies["a"]), images, pd.DataFrame())
    fold = patient_folds(mixed, 2)
    assert fold["s0"] == fold["s1"] and summary(mixed)["patients"] == count - 1


def test_a_whole_number_with_decimals_is_the_same_patient(folder):
    "A column of numbers with a gap is one of 7.0, and 7.0 was not the patient 7: one person stood in two folds"
    numbers = pd.Series([float(row) for row in range(12)] + [None]).astype(object)
    names = pd.concat([numbers, pd.Series([str(row) for row in range(12)] + ["7.5"])], ignore_index=True)
    names[12] = "own"
    ids = [f"s{row}" for row in range(len(names))]
    images = pd.DataFrame({"image_id": ids, "study_id": ids, "patient_id": names, "split": "train"})
    studies = pd.DataFrame({"study_id": ids, "split": "train", "a": [row % 2 for row in range(len(ids))]})
    dataset = Dataset(folder, False, ("a", "b"), studies.assign(b=1 - studies["a"]), images, pd.DataFrame())
    assert set(dataset.images["patient_id"]) == {*map(str, range(12)), "own", "7.5"}
    fold = patient_folds(dataset, 3)
    assert [row for row in range(12) if fold[f"s{row}"] != fold[f"s{row + 13}"]] == []


@pytest.mark.parametrize("name", ["b.jfif", "b.jpe", "b.JFIF", "IM0001", "1.2.840.77"])
def test_whatever_can_be_read_is_found_in_its_folder(name, tmp_path):
    "JPEG as browsers save it, and DICOM without preamble and ending, were left out without a word"
    from PIL import Image

    path = tmp_path / name
    if name.startswith("b"):
        Image.fromarray(np.arange(6400, dtype=np.uint8).reshape(80, 80)).save(path, "JPEG")
    else:
        whole = _dicom(tmp_path / "whole.dcm")
        path.write_bytes(whole.read_bytes()[132:])
        whole.unlink()
    assert read_xray(path).pixels.ndim == 2
    assert xray_files(tmp_path) == given_files(tmp_path)["path"].tolist() == [path]
    (tmp_path / "notes").write_text("\b no X-ray")
    (tmp_path / "raw.bin").write_bytes(path.read_bytes())
    assert xray_files(tmp_path) == [path]


def test_whom_one_room_does_not_know_no_other_room_knows():
    words = [spelling for word in sorted(UNKNOWN) for spelling in (word, f" {word.upper()} ", f"{word.title()}^^")]
    assert len(words) > 100
    assert is_unknown(pd.Series(words)).all() and (number_patients(pd.Series(words)) == -1).all()
    assert {pseudonym(word, "key") for word in words} == {""}
    known = ["p", "0", "x", "xx", "Anon Y.", "7"]
    assert not is_unknown(pd.Series(known)).any() and (number_patients(pd.Series(known)) >= 0).all()
    assert len({pseudonym(word, "key") for word in known}) == len(known)
    assert is_unknown(pd.Series([], dtype=object)).tolist() == [] and not is_unknown(pd.Series([None, np.nan])).any()
