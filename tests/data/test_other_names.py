"Folders, names and tables that were taken for something else without a word: each is told, refused or taken right."

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import covidxr.data.headers
from covidxr.base.errors import DataError, XrayError
from covidxr.base.files import owned_file
from covidxr.base.terms import BOX_COLUMNS
from covidxr.data.file_names import named_files
from covidxr.dataset import Dataset, image_ids, open_dataset, problems, scan_headers
from covidxr.dicom import XrayFacts, write_dicom
from covidxr.eda import explore, summary
from covidxr.folds import patient_folds, rounds
from covidxr.prepare import fit_square, prepare, read_failed, read_prepared

CLASSES = "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance"


def _picture(path: Path, grey: int = 99) -> None:
    "A small PNG or JPEG file"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30), grey, np.uint8)).save(path)


def _competition(root: Path, kind: str) -> Path:
    "Six studies of two images each, in the competition's layout: DICOM files whose headers name p0 to p2, or pictures"
    studies, images = [CLASSES], ["id,boxes,label,StudyInstanceUID"]
    for number in range(6):
        marks = ["0"] * 4
        marks[number % 4] = "1"
        studies.append(f"s{number}_study,{','.join(marks)}")
        for image in (f"a{number}", f"b{number}"):
            path = root / "train" / f"s{number}" / "series" / f"{image}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "png":
                _picture(path, 20 * number)
            else:
                facts = XrayFacts(image, f"s{number}", "e", f"p{number // 2}", view="AP", age=60)
                write_dicom(path, np.arange(256).reshape(16, 16), facts)
            images.append(f"{image}_image,,none 1 0 0 1 1,s{number}")
    (root / "train_study_level.csv").write_text("\n".join(studies))
    (root / "train_image_level.csv").write_text("\n".join(images))
    return root


def _as_an_earlier_version_wrote_it(root: Path) -> None:
    "A headers.csv in which each picture's name is its patient's"
    open_dataset(root)
    table = pd.read_csv(root / "headers.csv", dtype=str)
    with owned_file(root / "headers.csv") as partial:
        table.assign(patient_id=table["image_id"]).to_csv(partial, index=False)


# Pictures name no patient


def test_pictures_in_the_competitions_layout_are_no_patients_of_their_own(tmp_path):
    "Each picture's name had been a patient, so a study of two had two patients and could not be split"
    root = _competition(tmp_path, "png")
    for _ in range(2):  # the second time from headers.csv
        dataset = open_dataset(root)
        assert (dataset.images["patient_id"] == dataset.images["study_id"]).all()
        assert not summary(dataset)["patients_known"]
        assert patient_folds(dataset, 2).nunique() == 2
    assert scan_headers(root / "train" / "s0" / "series" / "a0.png")["patient_id"].tolist() == [""]


@pytest.mark.parametrize("copied", [False, True])
def test_headers_csv_of_an_earlier_version_does_not_make_patients_of_pictures(copied, tmp_path):
    root = _competition(tmp_path, "png")
    _as_an_earlier_version_wrote_it(root)
    for path in root.glob(".covidxr-file-*.json" if copied else "nothing"):  # `cp folder/*` leaves it out
        path.unlink()
    images = open_dataset(root).images
    assert (images["patient_id"] == images["study_id"]).all()


def test_patients_written_by_hand_may_be_called_as_their_first_picture(tmp_path):
    root = _competition(tmp_path, "png")
    rows = [f"{image}{number},20,30,a{number // 2}" for number in range(6) for image in "ab"]
    (root / "headers.csv").write_text("\n".join(["image_id,rows,columns,patient_id", *rows]))
    assert open_dataset(root).images["patient_id"].tolist() == [f"a{number // 4}" for number in range(12)]


def test_a_picture_that_cannot_be_looked_into_closes_no_dataset(tmp_path, monkeypatch):
    root = _competition(tmp_path, "png")
    _as_an_earlier_version_wrote_it(root)

    def refuse(path):
        raise XrayError(f"{path}: Permission denied")

    monkeypatch.setattr(covidxr.data.headers, "is_picture", refuse)
    assert len(open_dataset(root).images) == 12


@pytest.mark.parametrize(("age", "years"), [("061Y", 61), ("61,5", 61.5), ("unknown", 60), ("old", 60), ("", 60)])
def test_ages_in_headers_csv_are_read_as_anywhere(age, years, tmp_path):
    root = _competition(tmp_path, "dcm")
    (root / "headers.csv").write_text(f'image_id,patient_id,age\na0,p0,"{age}"\n')
    assert open_dataset(root).images.set_index("image_id").loc["a0", "age"] == years
    (root / "headers.csv").write_text(f'image_id,patient_id,rows,columns,age\na0,p0,16,16,"{age}"\n')
    found = open_dataset(root).images.set_index("image_id").loc["a0", "age"]
    assert found == years if years != 60 else np.isnan(found)


def test_what_headers_said_stays_where_pictures_take_the_files_places(tmp_path):
    root = _competition(tmp_path, "dcm")
    before = open_dataset(root).images.set_index("image_id")
    for path in list(root.rglob("*.dcm")):
        path.unlink()
        _picture(path.with_suffix(".png"))
    for _ in range(2):
        after = open_dataset(root).images.set_index("image_id")
        assert after["patient_id"].tolist() == before["patient_id"].tolist() == [f"p{n // 4}" for n in range(12)]
        assert after["view"].tolist() == ["AP"] * 12 and after["age"].tolist() == [60] * 12
        assert after["height"].tolist() == [20] * 12, "the size is that of the file which is there"


def test_patients_that_a_person_wrote_into_headers_csv_count_also_without_sizes(tmp_path):
    "The files were read anew for their sizes, and their headers' patients had taken the place of those written by hand"
    root = _competition(tmp_path, "dcm")
    written = [f"{image}{number},person {number % 2}," for number in range(6) for image in "ab"]
    written[-1] = "b5,,PA"
    (root / "headers.csv").write_text("\n".join(["image_id,patient_id,view", *written]))
    images = open_dataset(root).images.set_index("image_id")
    assert images.loc["a0", "patient_id"] == images.loc["b4", "patient_id"] == "person 0"
    assert images.loc[["a5", "b5"], "patient_id"].tolist() == ["person 1", "p2"]
    assert images["height"].tolist() == [16] * 12
    assert images.loc[["a0", "b5"], "view"].tolist() == ["AP", "PA"]


# A table's name of a file


@pytest.fixture
def sites(tmp_path) -> Path:
    "Pictures of one name in two folders"
    for place in ("site-a/images", "site-b/images"):
        _picture(tmp_path / place / "1.png")
    _picture(tmp_path / "top.png")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["site-c/images/1.png", "site-a/other/1.png", "site-b/1.png", "site-a/site-b/1.png", "x/y/1.png"]
)
def test_a_name_with_another_folder_is_another_file(sites, name):
    (sites / "images.csv").write_text(f"file,label\ntop.png,ill\n{name},well\n")
    with pytest.raises(DataError, match=r"row 3: no file .*; site-a/images/1.png is another"):
        open_dataset(sites)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("site-a/images/1.png", "site-a/images/1.png"),
        ("Site-A\\Images\\1.png", "site-a/images/1.png"),
        ("data/2021/site-b/images/1.png", "site-b/images/1.png"),
        ("C:\\covid\\site-b\\images\\1.png", "site-b/images/1.png"),
        ("elsewhere/top.png", "top.png"),
        ("./site-b/images/1.png", "site-b/images/1.png"),
    ],
)
def test_a_name_with_more_folders_or_other_signs_is_found(sites, name, found):
    (sites / "images.csv").write_text(f"file,label\n{name},well\n")
    assert open_dataset(sites).images["path"].tolist() == [found]


def test_absolute_names_tell_by_what_they_do_not_have_in_common(sites):
    "On the machine where the table was made, all lay below /mnt/covid"
    shutil.rmtree(sites / "site-b")
    (sites / "images.csv").write_text("file,label\n/mnt/covid/site-a/images/1.png,well\n/mnt/covid/top.png,ill\n")
    assert open_dataset(sites).images["path"].tolist() == ["site-a/images/1.png", "top.png"]
    (sites / "images.csv").write_text("file,label\n/mnt/covid/site-b/images/1.png,well\n/mnt/covid/top.png,ill\n")
    with pytest.raises(DataError, match="row 2: no file"):
        open_dataset(sites)
    (sites / "images.csv").write_text("file,label\n/mnt/covid/frontal/top.png,ill\n")  # a single folder was renamed
    (sites / "pictures").mkdir()
    (sites / "top.png").rename(sites / "pictures" / "top.png")
    assert open_dataset(sites).images["path"].tolist() == ["pictures/top.png"]


@pytest.mark.parametrize("suffix", ["png", "dcm"])
def test_boxes_of_another_folders_file_are_not_this_ones(sites, suffix):
    (sites / "images.csv").write_text("file,label\nsite-a/images/1.png,well\ntop.png,ill\n")
    (sites / "boxes.csv").write_text(f"file,x,y,width,height\nsite-c/images/1.{suffix},1,2,3,4\n")
    with pytest.raises(DataError, match=r"boxes.csv: row 2: its file .* is not in images.csv"):
        open_dataset(sites)
    (sites / "boxes.csv").write_text(f"file,x,y,width,height\nraw/site-a/images/1.{suffix},1,2,3,4\n1.dcm,5,6,7,8\n")
    assert open_dataset(sites).boxes["image_id"].nunique() == 1


def test_a_name_with_a_folder_that_is_here_is_no_file_beside_it(tmp_path):
    "Boxes of site-b/1.png, which is not there, had become those of 1.png"
    for name in ("1.png", "site-b/2.png"):
        _picture(tmp_path / name)
    (tmp_path / "images.csv").write_text("file,label\n1.png,ill\nsite-b/2.png,well\n")
    (tmp_path / "boxes.csv").write_text("file,x,y,width,height\nsite-b/1.png,1,2,3,4\n")
    with pytest.raises(DataError, match="row 2: its file 'site-b/1.png' is not in images.csv"):
        open_dataset(tmp_path)
    (tmp_path / "images.csv").write_text("file,label\nsite-b/1.png,ill\nsite-b/2.png,well\n")
    with pytest.raises(DataError, match="row 2: no file 'site-b/1.png' .*; 1.png is another"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("before", ["/x/", "D:\\x\\", "/mnt/a/b/"])
def test_an_absolute_name_with_a_folder_that_is_here_is_no_file_of_another(before, tmp_path):
    for name in ("site-a/2.png", "site-b/1.png"):
        _picture(tmp_path / name)
    (tmp_path / "images.csv").write_text(f"file,label\n{before}site-a/1.png,ill\n{before}site-a/2.png,well\n")
    with pytest.raises(DataError, match="row 2: no file"):
        open_dataset(tmp_path)
    (tmp_path / "images.csv").write_text("file,label\nsite-b/1.png,ill\nsite-a/2.png,well\n")
    for suffix in ("png", "dcm"):
        (tmp_path / "boxes.csv").write_text(f"file,x,y,width,height\n{before}site-a/1.{suffix},1,2,3,4\n")
        with pytest.raises(DataError, match="boxes.csv: row 2"):
            open_dataset(tmp_path)


def test_names_that_hold_a_files_whole_way_are_found(tmp_path):
    "Archives may put a folder into one of its own name, and a folder may be called as one above another file is"
    for name in ("chest/train/1.png", "site-a/2.png", "site-b/images/3.png"):
        _picture(tmp_path / name)
    names = ["chest/chest/train/1.png", "images/site-a/2.png", "images/site-b/images/3.png"]
    (tmp_path / "images.csv").write_text("\n".join(["file,label", *(f"{name},ill" for name in names)]))
    assert open_dataset(tmp_path).images["path"].tolist() == [
        "chest/train/1.png",
        "site-a/2.png",
        "site-b/images/3.png",
    ]


def test_two_disks_of_another_machine_have_two_beginnings(sites):
    (sites / "images.csv").write_text("file,label\nD:\\covid\\images\\top.png,ill\n/data/x/site-a/images/1.png,well\n")
    assert open_dataset(sites).images["path"].tolist() == ["top.png", "site-a/images/1.png"]


def test_files_of_one_name_in_very_many_folders_are_found_quickly(tmp_path):
    "Each name had been compared with each file: days for a hundred thousand"
    there = [tmp_path / "train" / f"patient{number}" / "study1" / "view1.jpg" for number in range(20_000)]
    names = [f"CheXpert/train/patient{number}/study1/view1.jpg" for number in range(20_000)]
    started = time.process_time()
    found = named_files(tmp_path, names, there)
    assert [files for files in found.values()] == [[path] for path in there]
    assert time.process_time() - started < 30


# Names that differ in case


def test_names_that_differ_in_case_alone_get_ids_that_any_disk_can_hold():
    ids = image_ids([Path("p1/IM1.dcm"), Path("p2/im1.dcm"), Path("p2/other.dcm")])
    assert ids == ["p1-IM1", "p2-im1", "other"]
    assert image_ids([Path("p1/IM1.dcm"), Path("p2/IM2.dcm")]) == ["IM1", "IM2"]


# Columns that tell classes


@pytest.mark.parametrize("column", ["view_position", "ViewPosition", "date", "study_date", "acquired"])
def test_a_column_of_views_or_dates_is_no_class(tmp_path, column):
    "The classes had been AP and PA where the column of marks had another number than 0 and 1"
    for number in range(4):
        _picture(tmp_path / f"{number}.png", number)
    rows = [f"{number}.png,{'AP' if number % 2 else 'PA'},{number}" for number in range(4)]
    (tmp_path / "images.csv").write_text("\n".join([f"file,{column},severity", *rows]))
    with pytest.raises(DataError, match="cannot tell which column holds the classes"):
        open_dataset(tmp_path)
    rows = [f"{row},{'acquired' if number % 2 else 'congenital'}" for number, row in enumerate(rows)]
    (tmp_path / "images.csv").write_text("\n".join([f"file,{column},severity,finding", *rows]))
    assert open_dataset(tmp_path).classes == ("acquired", "congenital")


# Datasets made by hand


def _by_hand(root: Path, boxes: pd.DataFrame, **columns) -> Dataset:
    "Two studies with an image each"
    images = pd.DataFrame({"image_id": ["a", "b"], "study_id": ["s", "t"], "patient_id": ["p", "q"], "split": "train"})
    studies = pd.DataFrame({"study_id": ["s", "t"], "split": "train", "x": [1, 0], "y": [0, 1]})
    return Dataset(root, False, ("x", "y"), studies, images.assign(height=20, width=30, **columns), boxes)


@pytest.mark.parametrize("corner", [np.nan, np.inf, "wide", None])
def test_a_box_without_corners_is_refused(tmp_path, corner):
    "A merge with how='left' gives such rows, and images without boxes had counted as boxed"
    boxes = pd.DataFrame([["a", 1, 2, 3, 4], ["b", 1, 2, 3, corner]], columns=["image_id", *BOX_COLUMNS])
    with pytest.raises(DataError, match="a box of image b has no four finite numbers"):
        _by_hand(tmp_path, boxes)


def test_corners_as_text_are_numbers(tmp_path):
    boxes = pd.DataFrame([["a", "1", "2", "3.5", "4"]], columns=["image_id", *BOX_COLUMNS])
    dataset = _by_hand(tmp_path, boxes)
    assert dataset.boxes[BOX_COLUMNS].to_numpy().tolist() == [[1, 2, 3.5, 4]]
    assert problems(dataset) == [] or all("box" not in said for said in problems(dataset))


@pytest.mark.parametrize("absent", [np.nan, None, pd.NA, ""])
def test_a_path_may_be_missing_or_a_path(tmp_path, absent):
    _picture(tmp_path / "a.png")
    dataset = _by_hand(tmp_path, pd.DataFrame(), path=pd.Series([Path("a.png"), absent], dtype=object))
    assert dataset.images["path"].tolist() == ["a.png", ""]
    index = prepare(dataset, tmp_path / "cache", size=16)
    assert index["image_id"].tolist() == ["a"] and len(read_failed(tmp_path / "cache")) == 1
    told = explore(dataset, tmp_path / "eda")
    assert told["images"] == 2 and (tmp_path / "eda" / "eda-figure.png").stat().st_size > 1000


def test_classes_may_be_numbers(tmp_path):
    dataset = _by_hand(tmp_path, pd.DataFrame())
    studies = dataset.studies.rename(columns={"x": 0, "y": 1})
    numbered = Dataset(tmp_path, False, (0, 1), studies, dataset.images, pd.DataFrame())
    assert explore(numbered, tmp_path / "eda")["classes"] == {"0": 1, "1": 1}


# Parts of a dataset


def test_preparing_the_other_half_keeps_this_one(tmp_path):
    "Each half's call had removed the other's small copies, as if their X-rays were gone"
    for number in range(4):
        _picture(tmp_path / "data" / f"{number}.png", 30 * number)
    rows = [f"{number}.png,{'ab'[number % 2]}" for number in range(4)]
    (tmp_path / "data" / "images.csv").write_text("\n".join(["file,label", *rows]))
    whole, cache = open_dataset(tmp_path / "data"), tmp_path / "cache"
    halves = [replace(whole, images=whole.images.iloc[part]) for part in (slice(0, 2), slice(2, 4))]
    first, second = (prepare(half, cache, size=16) for half in halves)
    assert [index["image_id"].tolist() for index in (first, second)] == [["0", "1"], ["2", "3"]]
    for file in [*first["file"], *second["file"]]:
        assert read_prepared(cache / file).shape == (16, 16)
    (tmp_path / "data" / "0.png").unlink()  # now one is gone
    prepare(halves[1], cache, size=16)
    assert not (cache / first["file"].iloc[0]).exists() and (cache / first["file"].iloc[1]).exists()


def test_a_dataset_may_name_its_files_by_absolute_paths(tmp_path):
    for number in range(2):
        _picture(tmp_path / "data" / f"{number}.png", 90 * number)
    (tmp_path / "data" / "images.csv").write_text("file,label\n0.png,a\n1.png,b\n")
    whole = open_dataset(tmp_path / "data")
    for way in (str(tmp_path / "data"), str(tmp_path / "data" / ".." / "data")):
        paths = [os.path.join(way, name) for name in whole.images["path"]]
        absolute = replace(whole, images=whole.images.assign(path=paths))
        for part in (slice(0, 1), slice(0, 2), slice(1, 2)):
            index = prepare(replace(absolute, images=absolute.images.iloc[part]), tmp_path / "cache", size=16)
            assert index["image_id"].tolist() == ["0", "1"][part]


def test_an_xray_that_got_another_id_has_one_small_copy(tmp_path):
    _picture(tmp_path / "data" / "site-a" / "1.png")
    prepare(tmp_path / "data", tmp_path / "cache", size=16)
    _picture(tmp_path / "data" / "site-b" / "1.png", 50)
    index = prepare(tmp_path / "data", tmp_path / "cache", size=16)
    assert index["image_id"].tolist() == ["site-a-1", "site-b-1"]
    assert sorted(path.name for path in (tmp_path / "cache").glob("*.png")) == ["site-a-1.png", "site-b-1.png"]
    assert len(pd.read_parquet(tmp_path / "cache" / "images.parquet")) == 2


def test_no_files_are_no_cache(tmp_path):
    with pytest.raises(DataError, match="no X-rays"):
        prepare([], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_index_of_a_cache_given_without_its_folder_is_told_the_cure(tmp_path):
    _picture(tmp_path / "a.png")
    index = prepare(tmp_path / "a.png", tmp_path / "cache", size=16)
    with pytest.raises(DataError, match="no such file; .* from the cache's folder on"):
        read_prepared(index["file"].iloc[0])
    assert read_prepared(tmp_path / "cache" / index["file"].iloc[0]).shape == (16, 16)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_floats_of_eight_bits_are_no_picture(kind, fit):
    "They had become a white picture"
    with pytest.raises(DataError, match="a pixel is 200"):
        fit_square(np.full((30, 20), 200, kind), 10, fit)
    with pytest.raises(DataError, match="-0.5"):
        fit_square(np.linspace(-0.5, 0.5, 600, dtype=kind).reshape(30, 20), 600, fit)
    assert fit_square(np.full((30, 20), 1.0 + 1e-6, kind), 10, fit)[0].max() == 255


# Rounds


def test_a_study_of_several_images_is_tested_once():
    fold = pd.Series([0, 1, 0, 1], index=list("abcd"))
    assert rounds(fold, test=pd.Series(["x", "x", "y"]))[0].test == ("x", "y")


def test_folds_called_by_dates_are_told_at_once():
    with pytest.raises(DataError, match="fold 0 of 20200302 has no study"):
        rounds(pd.Series([20200301, 20200228], index=["a", "b"]))
