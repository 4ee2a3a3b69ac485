"Files that covidxr writes: each with a UID of its own, no claim that nobody made, and nothing lost on the way back."

import numpy as np
import pydicom
import pytest

from covidxr.base.errors import XrayError
from covidxr.dicom import XrayFacts, deidentify, read_facts, read_xray, write_dicom
from covidxr.phantom import simulate
from covidxr.xray.reading import read_checked

UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def test_files_without_ids_have_uids_of_their_own(tmp_path):
    "All simulated X-rays that were written as the example shows had one UID, and an archive keeps one of these"
    seen = set()
    for seed in range(4):
        one = simulate(seed, size=64)
        for name in ("a", "b"):  # the same picture with the same facts is the same file
            write_dicom(tmp_path / f"{seed}{name}.dcm", (one.pixels * 4095).astype("uint16"), one.facts)
        assert (tmp_path / f"{seed}a.dcm").read_bytes() == (tmp_path / f"{seed}b.dcm").read_bytes()
        ds = pydicom.dcmread(tmp_path / f"{seed}a.dcm")
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        seen |= {str(ds[name].value) for name in UIDS}
    assert len(seen) == 4 * len(UIDS)


def test_ids_that_are_given_stay_and_the_rest_is_made(tmp_path):
    pixels = np.arange(256).reshape(16, 16)
    for number in range(2):
        write_dicom(tmp_path / f"{number}.dcm", pixels + number, XrayFacts("", "visit"))
    first, second = (pydicom.dcmread(tmp_path / f"{number}.dcm") for number in range(2))
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


@pytest.mark.parametrize("word", ["no", "False", "", None, 2])
def test_whether_ids_are_pseudonyms_is_true_or_false(word, tmp_path):
    "A text counted as true, and the header then claimed that the identity was removed"
    with pytest.raises(XrayError, match="pseudonymous must be True or False"):
        write_dicom(tmp_path / "a.dcm", np.zeros((8, 8), int), XrayFacts("i", patient_id="Doe"), pseudonymous=word)
    assert not (tmp_path / "a.dcm").exists()


@pytest.mark.parametrize("aspect", [2.0, 0.5, 1.3333, np.float32(0.75), 1])
@pytest.mark.parametrize("spacing", [None, 0.2])
def test_the_shape_of_pixels_comes_back(aspect, spacing, tmp_path):
    write_dicom(
        tmp_path / "a.dcm", np.arange(800).reshape(20, 40), XrayFacts("i", aspect=aspect, pixel_spacing=spacing)
    )
    assert read_facts(tmp_path / "a.dcm").aspect == pytest.approx(float(aspect), rel=1e-4)
    ratio = np.divide(*read_xray(tmp_path / "a.dcm").pixels.shape)
    assert ratio == pytest.approx(0.5 * float(aspect), rel=0.1)


def _with_table(path, entries: int, window: bool) -> None:
    "A file with a VOI LUT of so many entries where 4,096 are said, and perhaps a window"
    write_dicom(path, np.linspace(0, 4095, 1024).astype(int).reshape(32, 32), XrayFacts("i"))
    ds = pydicom.dcmread(path)
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 12], np.arange(entries, dtype="<u2").tobytes()
    ds.VOILUTSequence = [table]
    if window:
        ds.WindowCenter, ds.WindowWidth = 2048, 1000
    else:
        del ds.WindowCenter, ds.WindowWidth
    ds.save_as(path)


@pytest.mark.parametrize("entries", [4095, 3000, 2000])  # of two bytes each: a table of bytes would have 4,096
def test_a_window_stands_in_for_a_broken_table(entries, tmp_path):
    _with_table(tmp_path / "a.dcm", entries, True)
    shown, _, notes = read_checked(tmp_path / "a.dcm")
    assert f"LUTData has {entries} entries" in notes and "window was taken" in notes
    _with_table(tmp_path / "b.dcm", 4096, True)
    wanted = read_xray(tmp_path / "b.dcm", window=0)
    assert np.array_equal(shown.pixels, wanted.pixels)
    assert np.array_equal(read_xray(tmp_path / "a.dcm", window=0).pixels, wanted.pixels)
    _with_table(tmp_path / "c.dcm", entries, False)
    with pytest.raises(XrayError, match=f"LUTData has {entries} entries instead of 4096"):
        read_xray(tmp_path / "c.dcm")


def test_a_manufacturers_name_keeps_its_letters(tmp_path):
    write_dicom(tmp_path / "a.dcm", np.arange(256).reshape(16, 16), XrayFacts("i", patient_id="p"))
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.Manufacturer = "富士フイルム"
    ds.save_as(tmp_path / "a.dcm")
    deidentify(pydicom.dcmread(tmp_path / "a.dcm"), "key").save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert pydicom.dcmread(tmp_path / "b.dcm").Manufacturer == "富士フイルム"
