"Image ids: one rule for whole batches of files, whatever they are called."

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covidxr.base.csv_files import read_table
from covidxr.base.errors import CovidxrError
from covidxr.base.files import read_json
from covidxr.dataset import image_ids, open_dataset
from covidxr.dicom import read_xray
from covidxr.pipeline import run
from covidxr.prepare import prepare, read_prepared
from covidxr.submission import read_submission


def test_image_ids_are_the_names_of_files_without_the_suffix_of_an_xray():
    files = ["x/a.dcm", "x/b.PNG", "y/1.2.840.1", "y/IM0001", "y/c.d.dicom", Path("z/NA.jpg"), "z/e.IMA"]
    assert image_ids(files) == ["a", "b", "1.2.840.1", "IM0001", "c.d", "NA", "e.IMA"]


def test_image_ids_alike_get_their_folders_before_and_then_their_suffix_behind():
    files = ["r/p/a.dcm", "r/q/a.dcm", "r/q/a.png", "r/b.dcm", "r/b.png"]
    assert image_ids(files, "r") == ["p-a", "q-a.dcm", "q-a.png", "b.dcm", "b.png"]
    assert image_ids(files[:2]) == ["p-a", "q-a"]  # without a root: from the folder that holds them all


def test_image_ids_spell_bytes_and_characters_that_tables_cannot_hold():
    files = [os.fsdecode(b"d/M\xfcller.dcm"), "d/a\nb.dcm", "d/c\\d.dcm", "d/M\u00fcller.png"]
    assert image_ids(files) == ["M%FCller", "a%0Ab", "c%5Cd", "M\u00fcller"]


def test_image_ids_of_long_names_are_cut_and_told_apart_by_a_hash():
    folders = ["1." + "4" * 62 + f"/1.{n}" + "5" * 60 + "/1." + "6" * 62 + "/1." + "7" * 62 for n in (1, 2)]
    ids = image_ids([f"r/{folder}/00000001.dcm" for folder in folders] + ["r/good.dcm", "r/" + "\u6f22" * 80], "r")
    assert ids[2] == "good" and len(set(ids)) == 4
    assert all(len(one.encode()) <= 200 for one in ids)
    again = image_ids([f"r/{folder}/00000001.dcm" for folder in folders[::-1]], "r")
    assert again == ids[1::-1]  # the hash is of the file, not of its place in the batch


def test_image_ids_keep_names_apart_that_look_like_other_ids():
    cut = image_ids(["r/" + "a" * 250])[0]
    files = [
        "r/" + "a" * 250,
        f"r/{cut}",
        "r/x/b.dcm",
        "r/y/b.dcm",
        "r/x-b.dcm",
        os.fsdecode(b"r/%FC.dcm"),
        os.fsdecode(b"r/\xfc.dcm"),
    ]
    assert len(set(image_ids(files, "r"))) == len(files)


def test_image_ids_of_a_file_given_twice_are_the_same():
    assert image_ids(("a/x.dcm", "b/x.dcm", "a/x.dcm")) == ["a-x", "b-x", "a-x"]
    assert image_ids([]) == [] and image_ids("a/x.dcm") == ["x"]


def test_image_ids_are_never_a_folder_or_empty():
    assert not {"", ".", ".."} & set(image_ids(["r/..dcm", "r/...dcm", "r/x/..", "/", "."]))


NAME = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]) | st.sampled_from("ab.-%\udcfc"),
    min_size=1,
    max_size=90,
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.lists(NAME | st.sampled_from(["a", "b.dcm", "a.png", "..dcm"]), min_size=1, max_size=4),
        min_size=1,
        max_size=8,
    )
)
def test_image_ids_are_names_of_files_whatever_the_files_are_called(ways):
    files = [Path("/r", *[part for part in way if part not in (".", "..")], "x") for way in ways] + [
        Path("/r", way[-1] + "y") for way in ways
    ]
    ids = image_ids(files, "/r")
    assert len(set(ids)) == len(set(files)) and len(ids) == len(files)
    for one in ids:
        assert 0 < len(one.encode("utf-8")) <= 200 and one not in (".", "..") and not set("/\\\0\n\r") & set(one)


def test_a_folder_that_is_called_as_an_address_begins_is_no_address():
    files = [Path("/r", "s3:", "x.png"), Path("/r", "s3:y.png")]
    assert image_ids(files, "/r") == ["x", image_ids([Path("/r/s3:y.png")], "/r")[0]]


def test_every_room_speaks_of_a_file_of_odd_bytes_in_text_that_can_be_printed(tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.csv"))
    doors = (
        lambda: open_dataset(odd),
        lambda: read_table(odd),
        lambda: read_json(odd),
        lambda: read_submission(odd),
        lambda: read_prepared(odd),
        lambda: prepare(odd, tmp_path / "out"),
        lambda: read_xray(odd),
        lambda: run(odd, tmp_path / "run"),
    )
    for door in doors:
        with pytest.raises(CovidxrError, match="M%FCller.csv") as caught:
            door()
        assert str(caught.value).encode() and repr(caught.value).encode()
        again = pickle.loads(pickle.dumps(caught.value))  # as it comes back from another process
        assert type(again) is caught.type and again.args == caught.value.args


def test_a_path_through_a_link_and_back_is_the_file_that_the_system_opens(tmp_path):
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "there" / "deep")
    back = tmp_path / "link" / ".." / "x.png"  # of `there`, where this folder has one of the same name
    assert image_ids([back, tmp_path / "x.png"]) == ["there-x", "x"]
    assert image_ids([back, tmp_path / "there" / "x.png"]) == ["x", "x"]  # one file, by two ways
