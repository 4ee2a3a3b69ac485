"Stored values as the standard means them, whatever the header's writer made of it; and the caller's process as it was."

import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import differential
import imagecodecs
import numpy as np
import pydicom
import pytest
import xrays
from pydicom.encaps import encapsulate
from xrays import CODINGS, LOSSLESS, LOSSY, WINDOW, chest, dataset, save, with_character_set, with_raw

from covidxr.base.errors import XrayError
from covidxr.dicom import (
    TRANSFER_SYNTAXES,
    XrayFacts,
    apply_window,
    deidentify,
    identifying_elements,
    percentile_window,
    pseudonym,
    read_checked,
    read_facts,
    read_xray,
    write_dicom,
)
from covidxr.xray.codecs import decode
from covidxr.xray.facts import image_name, is_picture
from covidxr.xray.headers import read_dataset
from covidxr.xray.standard import valid_uid


def _values(path: Path) -> np.ndarray:
    return decode(read_dataset(path), path).astype(np.int64)


def _shown(path: Path) -> np.ndarray:
    "What is read, where nothing is to be warned of"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_xray(path).pixels


# -- bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("coding", LOSSY)
def test_overshoot_of_a_lossy_coding_is_clamped_so_that_white_stays_white(tmp_path, coding, photometric):
    ds = dataset(chest(10), 10, coding=coding, photometric=photometric, WindowCenter=512, WindowWidth=1024)
    frame = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    codec = {"jpeg-12": "jpeg8", "near-jpeg-ls": "jpegls", "lossy-jpeg-2000": "jpeg2k"}[coding]
    decoded = getattr(imagecodecs, f"{codec}_decode")(frame).astype(int)
    assert decoded.max() > 1023, "else the file shows nothing"
    path = save(ds, tmp_path / "a.dcm")
    assert np.array_equal(_values(path), decoded.clip(0, 1023))
    wanted = decoded.clip(0, 1023) / 1023
    assert np.allclose(_shown(path), 1 - wanted if photometric == "MONOCHROME1" else wanted, atol=2e-3)


def test_overshoot_of_signed_values_is_clamped_at_both_ends(tmp_path):
    signed = (chest(10) - 512).astype(np.int16)
    frame = imagecodecs.jpeg2k_encode(signed, level=40, codecformat="j2k", reversible=False, bitspersample=12)
    decoded = imagecodecs.jpeg2k_decode(frame).astype(int)
    assert decoded.max() > 511 and decoded.min() < -512, "else the file shows nothing"
    ds = dataset(signed, 10, signed=True, coding="lossy-jpeg-2000", WindowCenter=0, WindowWidth=1024)
    ds.PixelData = encapsulate([frame])
    assert np.array_equal(_values(save(ds, tmp_path / "a.dcm")), decoded.clip(-512, 511))


@pytest.mark.parametrize("coding", [*LOSSLESS])
@pytest.mark.parametrize("signed", [False, True])
def test_what_stands_above_the_stored_bits_of_a_lossless_coding_is_masked(tmp_path, coding, signed):
    values = chest() - 2048 * signed
    overlay = np.zeros(values.shape, np.int64)
    overlay[30:40, 10:50] = 1 << 14
    path = save(dataset((values & 0xFFF) | overlay, signed=signed, coding=coding), tmp_path / "a.dcm")
    assert np.array_equal(_values(path), values)


def test_jpeg_2000_in_the_lossy_syntax_is_masked_only_where_it_says_that_nothing_was_lost(tmp_path):
    values = chest()
    overlay = np.where(np.arange(60) < 8, 1 << 14, 0)
    ds = dataset(values | overlay, coding="jpeg-2000")
    ds.file_meta.TransferSyntaxUID = CODINGS["lossy-jpeg-2000"]
    assert np.array_equal(_values(save(ds, tmp_path / "a.dcm")), (values | overlay).clip(0, 4095))
    ds.LossyImageCompression = "00"
    assert np.array_equal(_values(save(ds, tmp_path / "a.dcm")), values)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("coding", LOSSLESS)
def test_values_in_the_high_bits_are_shifted_down_in_every_coding(tmp_path, coding, signed):
    values = chest() - 2048 * signed
    for high, spare in ((15, 9), (13, 1)):  # something stands in the spare bits below, too
        words = values << (high - 11) | (spare & (2 ** (high - 11) - 1))
        path = save(dataset(words, signed=signed, high=high, coding=coding), tmp_path / "a.dcm")
        assert np.array_equal(_values(path), values), high


@pytest.mark.parametrize("coding", ["jpeg-lossless", "jpeg-2000"])
def test_a_stream_that_is_too_narrow_for_the_high_bit_was_shifted_by_who_coded_it(tmp_path, coding):
    path = save(dataset(chest(), high=15, coding=coding, precision=12), tmp_path / "a.dcm")
    assert np.array_equal(_values(path), chest())


@pytest.mark.parametrize("coding", ["jpeg-lossless", "jpeg-ls", "jpeg-2000"])
def test_the_sign_is_that_of_the_header_where_the_stream_knows_none_or_another(tmp_path, coding):
    values = chest() - 2048
    unsigned = values & 0xFFF
    ds = dataset(unsigned, coding=coding, precision=12)
    ds.PixelRepresentation = 1
    assert np.array_equal(_values(save(ds, tmp_path / "a.dcm")), values)
    if coding == "jpeg-2000":
        ds = dataset(values, signed=True, coding=coding, precision=12)
        ds.PixelRepresentation = 0
        assert np.array_equal(_values(save(ds, tmp_path / "a.dcm")), unsigned)


@pytest.mark.parametrize("allocated", [8, 16, 32])
@pytest.mark.parametrize("coding", [*xrays.NATIVE, "rle"])
def test_eight_sixteen_and_thirty_two_bits(tmp_path, coding, allocated):
    bits = min(allocated, 12)
    words = chest(bits)
    ds = dataset(words, bits, allocated=allocated, coding=coding)
    if allocated == 8 and coding == "big-endian":
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    assert np.array_equal(_values(save(ds, tmp_path / "a.dcm")), words)


@pytest.mark.parametrize("pieces", [2, 7])
@pytest.mark.parametrize("coding", xrays.COMPRESSED)
def test_one_frame_in_many_fragments_is_one_frame_whatever_the_offset_table_says(tmp_path, coding, pieces):
    whole = _values(save(dataset(chest(), coding=coding), tmp_path / "a.dcm"))
    ds = dataset(chest(), coding=coding, pieces=pieces)
    path = save(ds, tmp_path / "b.dcm")
    assert np.array_equal(_values(path), whole)
    clean = deidentify(pydicom.dcmread(path), "key")
    clean.save_as(tmp_path / "clean.dcm", enforce_file_format=True)
    assert np.array_equal(_values(tmp_path / "clean.dcm"), whole)


# -- padding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("written", ["US", "SS"])
@pytest.mark.parametrize(("bits", "value"), [(16, -2000), (12, -2000)])
def test_padding_is_read_with_the_sign_of_the_pixels_and_is_black(tmp_path, bits, value, written, photometric):
    values = chest() - 1500 if bits == 16 else (chest() - 2048).clip(-1500)
    values[:, :8] = value
    path = save(dataset(values, bits, signed=True, photometric=photometric), tmp_path / "a.dcm")
    with_raw(path, "PixelPaddingValue", (value & 0xFFFF).to_bytes(2, "little"), written)
    pixels = _shown(path)
    assert (pixels[:, :8] == 0).all()
    wanted = percentile_window(values[:, 8:])
    assert np.allclose(pixels[:, 8:], 1 - wanted if photometric == "MONOCHROME1" else wanted, atol=1e-5)


def test_padding_of_twelve_signed_bits_may_be_written_as_twelve_unsigned_ones(tmp_path):
    values = (chest() - 2048).clip(-1500)
    values[:, :8] = -2000
    path = save(dataset(values, signed=True, PixelPaddingValue=2096), tmp_path / "a.dcm")
    assert (_shown(path)[:, :8] == 0).all() and (_shown(path)[30:, 8:] > 0).mean() > 0.9


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_range_of_padding_is_read_with_the_sign_at_both_ends(tmp_path, photometric):
    values = chest() - 1500
    values[:, :4], values[:, 4:8] = -2000, -1900
    path = save(dataset(values, 16, signed=True, photometric=photometric), tmp_path / "a.dcm")
    for first, last in ((-2000, -1900), (-1900, -2000)):
        with_raw(path, "PixelPaddingValue", (first & 0xFFFF).to_bytes(2, "little"), "US")
        with_raw(path, "PixelPaddingRangeLimit", (last & 0xFFFF).to_bytes(2, "little"), "US")
        pixels = _shown(path)
        assert (pixels[:, :8] == 0).all()
        wanted = percentile_window(values[:, 8:])
        assert np.allclose(pixels[:, 8:], 1 - wanted if photometric == "MONOCHROME1" else wanted, atol=1e-5)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_in_the_middle_of_the_range_says_nothing_about_the_window(tmp_path, photometric):
    values = chest() // 4 + 3000  # 3000 to 4023
    values[:, :30] = 2000
    path = save(dataset(values, photometric=photometric, PixelPaddingValue=2000), tmp_path / "a.dcm")
    wanted = percentile_window(values[:, 30:])
    pixels = _shown(path)
    assert np.allclose(pixels[:, 30:], 1 - wanted if photometric == "MONOCHROME1" else wanted, atol=1e-5)
    assert (pixels[:, :30] == 0).all()


def test_a_window_that_reaches_only_the_padding_lies_beside_the_picture(tmp_path):
    values = chest() // 4 + 3000
    values[:, :30] = 100
    header = {"PixelPaddingValue": 100, "WindowCenter": 500, "WindowWidth": 1000}
    path = save(dataset(values, **header), tmp_path / "a.dcm")
    with pytest.warns(UserWarning, match="window 0 lies beside all values"):
        pixels = read_xray(path).pixels
    assert np.allclose(pixels[:, 30:], percentile_window(values[:, 30:]), atol=1e-5) and (pixels[:, :30] == 0).all()


@pytest.mark.parametrize(("allocated", "value", "word"), [(8, 4095, 4095), (16, -1, 65535)])
def test_padding_that_no_pixel_can_have_takes_nothing_away(tmp_path, allocated, value, word):
    bits = min(allocated, 12)
    values = chest(bits)
    values[0, 0] = 255 if bits == 8 else 0
    path = save(dataset(values, bits, allocated=allocated), tmp_path / "a.dcm")
    with_raw(path, "PixelPaddingValue", (value & 0xFFFF).to_bytes(2, "little"), "SS" if value < 0 else "US")
    assert np.allclose(_shown(path), percentile_window(values), atol=1e-5)


def test_padding_that_needs_the_bits_above_the_stored_ones_keeps_them(tmp_path):
    words = chest()
    words[:, :8] = 63536  # masked, these would be 2096, a value in the middle of the picture
    words[40, 30] = 2096
    path = save(dataset(words, PixelPaddingValue=63536, **WINDOW), tmp_path / "a.dcm")
    pixels = _shown(path)
    assert (pixels[:, :8] == 0).all() and pixels[40, 30] == pytest.approx(2096 / 4095, abs=1e-3)


# -- windows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("center", [200, 30000])
def test_a_window_beside_the_values_gives_way_to_percentiles_and_says_so(tmp_path, function, center):
    values = chest() + 6000
    header = {"WindowCenter": center, "WindowWidth": 400, "VOILUTFunction": function}
    path = save(dataset(values, 16, **header), tmp_path / "a.dcm")
    assert "beside all values, so the middle 99 % of them is shown" in read_checked(path)[2]
    with pytest.warns(UserWarning, match="a.dcm: its window 0 lies beside all values"):
        xray = read_xray(path)
    assert np.allclose(xray.pixels, percentile_window(values), atol=1e-5)


def test_the_next_window_is_taken_where_the_first_lies_beside_the_values(tmp_path):
    values = chest() + 6000
    path = save(dataset(values, 16, WindowCenter=[200, 8048], WindowWidth=[400, 4096]), tmp_path / "a.dcm")
    with pytest.warns(UserWarning, match="window 0 lies beside all values, so its window 1 is shown"):
        pixels = read_xray(path).pixels
    assert np.allclose(pixels, apply_window(values, 8048, 4096), atol=1e-5)


def test_a_window_that_is_asked_for_is_shown_though_it_lies_beside_and_says_so(tmp_path):
    path = save(dataset(chest() + 6000, 16, WindowCenter=200, WindowWidth=400), tmp_path / "a.dcm")
    with pytest.warns(UserWarning, match="so the picture is plain"):
        assert (read_xray(path, window=0).pixels == 1).all()


def test_a_voi_lut_beside_the_values_gives_way_to_the_window(tmp_path):
    values = chest() + 6000
    ds = dataset(values, 16, VOILUTSequence=xrays._voi_lut(), WindowCenter=8048, WindowWidth=4096)
    with pytest.warns(UserWarning, match="VOI LUT lies beside all values, so its window 0 is shown"):
        pixels = read_xray(save(ds, tmp_path / "a.dcm")).pixels
    assert np.allclose(pixels, apply_window(values, 8048, 4096), atol=1e-5)


@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (4095, 2), (6000, 4000), (1, 2.5), (2048, 10**6)])
def test_a_window_that_touches_the_values_is_shown_as_it_is(tmp_path, center, width):
    path = save(dataset(chest(), WindowCenter=center, WindowWidth=width), tmp_path / "a.dcm")
    assert np.allclose(_shown(path), apply_window(chest(), center, width), atol=1e-5)


def test_one_grey_all_over_is_no_fault_of_the_window(tmp_path):
    path = save(dataset(np.full((9, 9), 5000), 16, **WINDOW), tmp_path / "a.dcm")
    assert (_shown(path) == 1).all()


# -- header values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "raw", "center"),
    [
        ("WindowCenter", b"2047,5", 2047.5),
        ("WindowCenter", b"2048\\", 2048),
        ("WindowCenter", b" 2048 \\abc", 2048),
        ("WindowCenter", b"2.048e3", 2048),
        ("WindowWidth", b"4096,0", 2048),
        ("WindowWidth", b"4096\\\\7", 2048),
    ],
)
def test_a_usable_value_beside_a_bad_one_is_kept(tmp_path, name, raw, center):
    path = with_raw(save(dataset(chest(), **WINDOW), tmp_path / "a.dcm"), name, raw)
    assert np.allclose(_shown(path), apply_window(chest(), center, 4096), atol=1e-5)


def test_the_second_window_is_taken_where_the_first_is_no_number(tmp_path):
    path = save(dataset(chest(), WindowCenter=[1, 2048], WindowWidth=[2, 4096]), tmp_path / "a.dcm")
    with_raw(path, "WindowCenter", b"\\2048")
    assert np.allclose(_shown(path), apply_window(chest(), 2048, 4096), atol=1e-5)
    with pytest.raises(XrayError, match="no window 0; the file has one that cannot be used, 2048 / 4096"):
        read_xray(path, window=0)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("WindowCenter", b"abc"),
        ("WindowCenter", b"nan"),
        ("WindowCenter", b"2,048.5"),
        ("WindowCenter", b""),
        ("WindowWidth", b"0"),
        ("WindowWidth", b"-5"),
        ("WindowWidth", b"1e999"),
        ("RescaleSlope", b"abc"),
        ("RescaleSlope", b"0"),
        ("RescaleSlope", b"1e308"),
        ("RescaleIntercept", b"x"),
    ],
)
def test_percentiles_are_shown_where_the_window_or_its_units_are_no_numbers_and_it_says_so(tmp_path, name, raw):
    ds = dataset(chest(), RescaleSlope=1, RescaleIntercept=0, **WINDOW)
    path = with_raw(save(ds, tmp_path / "a.dcm"), name, raw)
    with pytest.warns(UserWarning, match="window"):
        pixels = read_xray(path).pixels
    assert np.allclose(pixels, percentile_window(chest()), atol=1e-5)


def test_a_decimal_comma_is_read_in_slope_and_spacing_too(tmp_path):
    ds = dataset(chest(), RescaleSlope=1, RescaleIntercept=0, WindowCenter=1024, WindowWidth=2048)
    ds.VOILUTFunction = "LINEAR_EXACT"
    path = with_raw(save(ds, tmp_path / "a.dcm"), "RescaleSlope", b"0,5")
    with_raw(path, "PixelSpacing", b"0,25\\0,25")
    assert np.allclose(_shown(path), apply_window(chest() / 2, 1024, 2048, "LINEAR_EXACT"), atol=1e-5)
    assert read_facts(path).pixel_spacing == 0.25


@pytest.mark.parametrize("raw", [b"", b"\x07\x07", b"\x0b", b"\xff\xff\x00"])
@pytest.mark.parametrize("coding", ["explicit", "implicit", "rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000"])
@pytest.mark.parametrize("name", ["HighBit", "BitsStored", "PixelRepresentation", "BitsAllocated"])
def test_a_bad_value_of_the_pixels_form_is_inferred_and_said(tmp_path, name, coding, raw):
    path = with_raw(save(dataset(chest(), coding=coding, **WINDOW), tmp_path / "a.dcm"), name, raw)
    with pytest.warns(UserWarning, match=f"{name} is missing or wrong"):
        assert np.allclose(read_xray(path).pixels, chest() / 4095, atol=6e-4)
    assert read_facts(path).height == 72


def test_the_sign_is_taken_from_a_stream_that_knows_it(tmp_path):
    values = chest() - 2048
    ds = dataset(values, signed=True, coding="jpeg-2000", precision=12, PixelRepresentation=None)
    assert np.array_equal(_values(save(ds, tmp_path / "a.dcm")), values)


@pytest.mark.parametrize("name", ["Rows", "Columns"])
@pytest.mark.parametrize("raw", [b"", b"abc"])
def test_what_cannot_be_inferred_is_named(tmp_path, name, raw):
    path = with_raw(save(dataset(chest()), tmp_path / "a.dcm"), name, raw, "LO")
    for read in (read_xray, read_facts):
        with pytest.raises(XrayError, match=f"a.dcm: {name} is .*no whole number"):
            read(path)


def test_a_broken_table_is_named(tmp_path):
    table = xrays._voi_lut()
    del table[0].LUTData
    ds = dataset(chest(), VOILUTSequence=table, **WINDOW)
    assert np.allclose(_shown(save(ds, tmp_path / "a.dcm")), chest() / 4095, atol=6e-4), (
        "a table of nothing says nothing"
    )
    table = xrays._voi_lut()
    table[0].LUTDescriptor = [4096, 0]
    with pytest.raises(XrayError, match="LUTDescriptor"):
        read_xray(save(dataset(chest(), VOILUTSequence=table), tmp_path / "a.dcm"))


def test_a_rest_of_a_sequence_behind_the_pixels_costs_nothing(tmp_path):
    path = save(dataset(chest(), coding="jpeg-ls", **WINDOW), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes() + b"\xfe\xff\xdd\xe0\0\0\0\0")
    assert np.allclose(_shown(path), chest() / 4095, atol=6e-4)


GARBAGE = {
    "controls": b"\t\0\x0c\0\r\0\x0b\0",
    "no text": b"hex",
    "undefined": b"undefined",
    "names of hosts": b"idna",
    "two bytes": b"utf_16",
    "high bytes": b"\xff\xfe" * 9,
    "one of three": b"ISO 2022 IR 100\\base64\\ISO 2022 IR 149",
    "backslashes": b"\\\\\\",
    "long": b"x" * 3000,
}


@pytest.mark.parametrize("coding", ["explicit", "implicit", "deflated"])
@pytest.mark.parametrize("kind", GARBAGE)
def test_any_garbage_for_a_character_set_is_read_over_also_for_names(tmp_path, kind, coding):
    ds = dataset(chest(), PatientName="Doe^Jane", InstitutionName="A hospital", **WINDOW)
    path = with_character_set(save(ds, tmp_path / "a.dcm"), GARBAGE[kind])
    if coding != "explicit":
        raw = path.read_bytes()
        ds = read_dataset(path)
        ds.file_meta.TransferSyntaxUID = CODINGS[coding]
        del ds.SpecificCharacterSet
        if coding == "implicit":
            path = with_character_set(save(ds, path), GARBAGE[kind])
        else:
            path.write_bytes(_deflate(raw))
    assert np.allclose(_shown(path), chest() / 4095, atol=6e-4)
    assert {"PatientName in the header", "InstitutionName in the header"} <= set(read_checked(path)[1])
    assert read_facts(path).patient_id == "P7"


def _deflate(raw: bytes) -> bytes:
    "An explicit file in the deflated syntax; pydicom would look at the character set"
    import zlib

    start = 144 + int.from_bytes(raw[140:144], "little")
    meta = raw[132:start].replace(b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.1.99")
    meta = meta[:8] + (len(meta) - 12).to_bytes(4, "little") + meta[12:]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return raw[:132] + meta + packer.compress(raw[start:]) + packer.flush()


def test_names_are_found_in_a_header_that_somebody_elses_pydicom_has_read(tmp_path):
    path = save(dataset(chest(), PatientName="Doe^Jane"), tmp_path / "a.dcm")
    ds = pydicom.dcmread(with_character_set(path, b"hex"))
    assert "PatientName in the header" in identifying_elements(ds)
    assert "Jane" not in str(deidentify(ds, "key"))


# -- doors --------------------------------------------------------------------------------------------------------


NO_TEXT = [None, 5, 5.5, b"x", {}, object(), np.array([]), ["a"], np.ones((9, 9, 9))]
NO_NUMBERS = [None, [], np.array([]), [[1], [1, 2]], [float("nan")], np.array([np.inf]), ["a"], "a", {}, [1j], [True]]
NO_NUMBER = [None, float("nan"), float("inf"), "a", [1, 2], 1j, True, object(), np.array([])]
WRONG = {  # what cannot be right, by the kind of parameter
    "path": [*NO_TEXT, "a\0b", "\ud800", "", "."],
    "name": [*NO_TEXT, "a\0b", "\ud800"],
    "text": NO_TEXT,
    "key": [*NO_TEXT, ""],
    "numbers": NO_NUMBERS,
    "center": NO_NUMBER,
    "width": [*NO_NUMBER, 0, -1],
    "function": [*NO_TEXT, "", "CUBIC", "LINEAR EXACT"],
    "mask": [[True], [[1], [1, 2]], np.ones((72, 60)), np.ones((60, 72), bool), "a"],
    "dataset": [None, {}, 5, "a", b"x", [1], np.ones((9, 9, 9)), pydicom],
    "window": [1.0, -1, True, "lung", b"x", [0], np.array([0, 1]), np.array([]), {}, object(), float("nan")],
    "shortest": [0, -1, 1.5, True, "a", [16], np.array([16, 16]), float("nan")],
    "pixels": [*NO_NUMBERS, np.ones((2, 2, 2), int), np.ones((9, 9)), 5, np.array([["a"]]), np.ones((9, 9), complex)],
    "facts": [None, {}, "a", 5, XrayFacts, pydicom.Dataset(), np.ones((9, 9, 9))],
}


@pytest.fixture
def calls(tmp_path):
    "Every public function, with arguments that are right and the kind of each"
    write_dicom(tmp_path / "a.dcm", chest(), XrayFacts("a"))
    ds, path = pydicom.dcmread(tmp_path / "a.dcm"), tmp_path / "a.dcm"
    return [
        (valid_uid, {"text": "a"}),
        (image_name, {"name": path}),
        (is_picture, {"path": path}),
        (read_facts, {"path": path}),
        (apply_window, {"numbers": chest(), "center": 2048.0, "width": 4096.0, "function": "LINEAR"}),
        (percentile_window, {"numbers": chest(), "mask": chest() > 0}),
        (pseudonym, {"text": "a", "key": "key"}),
        (deidentify, {"dataset": ds, "key": "key"}),
        (identifying_elements, {"dataset": ds}),
        (read_checked, {"path": path, "window": 0, "stored": False, "shortest": 16}),
        (read_xray, {"path": path, "window": 0}),
        (write_dicom, {"path": tmp_path / "b.dcm", "pixels": chest(), "facts": XrayFacts("b")}),
    ]


def test_arguments_that_cannot_be_right_give_an_xray_error_of_one_line(calls):
    tried = 0
    for function, right in calls:
        for kind in set(right) & set(WRONG):
            for bad in WRONG[kind]:
                with pytest.raises(XrayError) as told:
                    function(*(right | {kind: bad}).values())
                    pytest.fail(f"{function.__name__} took {bad!r} as {kind}")
                assert "\n" not in str(told.value) and str(told.value).encode()
                tried += 1
    assert tried > 150


def test_files_may_be_texts_or_paths_in_every_function(calls):
    for function, right in calls:
        function(*right.values())
        if "path" in right or "name" in right:
            function(*(str(value) if isinstance(value, Path) else value for value in right.values()))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(1, 0), (1, -1), (float("nan"), 1), (1, float("inf")), (None, 1)])
def test_a_window_that_is_none_is_refused(function, center, width):
    with pytest.raises(XrayError, match="width one above 0"):
        apply_window([1.0, 2.0], center, width, function)


def test_sequences_of_numbers_may_be_lists_tuples_or_arrays():
    for kind in (list, tuple, np.array):
        assert apply_window(kind([0, 50, 100]), 50, 100, "LINEAR_EXACT").tolist() == [0, 0.5, 1]
        assert percentile_window(kind([0, 1, 2]), kind([True, True, True]))[1] == pytest.approx(0.5)
    assert apply_window([1], np.float64(1), np.int64(2)).dtype == np.float32


@pytest.mark.parametrize(
    ("pixels", "bits", "said"),
    [
        (np.full((8, 8), 100, np.uint32), 18, "from 1 to 16"),
        (np.full((8, 8), 100), 0, "from 1 to 16"),
        (np.full((8, 8), 100), 12.0, "from 1 to 16"),
        (np.zeros((0, 8), np.uint16), 12, "grey image of integers"),
        (np.full((8, 8), 0.5), 12, "grey image of integers"),
        (np.full((8, 8), -1), 12, "grey image of integers"),
        (np.full((8, 8), 4096), 12, "grey image of integers"),
        (np.full((8, 8), True), 12, "grey image of integers"),
        (np.zeros((1, 70000), int), 12, "at most 65535"),
    ],
)
def test_pixels_that_do_not_fit_are_not_written(tmp_path, pixels, bits, said):
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        with pytest.raises(XrayError, match=said):
            write_dicom(tmp_path / "a.dcm", pixels, XrayFacts("a", bits_stored=bits, photometric=photometric))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int64, list])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_pixels_are_inverted_whatever_their_kind_of_number(tmp_path, kind, photometric):
    pixels = chest() // 40
    given = pixels.tolist() if kind is list else pixels.astype(kind)
    write_dicom(str(tmp_path / "a.dcm"), given, XrayFacts("a", photometric=photometric))
    stored = 4095 - pixels if photometric == "MONOCHROME1" else pixels
    assert np.array_equal(pydicom.dcmread(tmp_path / "a.dcm").pixel_array, stored)
    assert np.allclose(read_xray(str(tmp_path / "a.dcm")).pixels, pixels / 4095, atol=6e-4)


@pytest.mark.parametrize("coding", TRANSFER_SYNTAXES)
@pytest.mark.parametrize("bits", range(1, 17))
def test_any_number_of_bits_is_written_or_refused_and_never_changed(tmp_path, coding, bits):
    facts = XrayFacts("a", bits_stored=bits, transfer_syntax=TRANSFER_SYNTAXES[coding])
    try:
        write_dicom(tmp_path / "a.dcm", chest(bits), facts)
    except XrayError as error:
        assert bits == 1 and "cannot be written" in str(error)
    else:
        assert np.array_equal(_values(tmp_path / "a.dcm"), chest(bits))


@pytest.mark.parametrize(
    "wrong",
    [
        {"photometric": "RGB"},
        {"photometric": "monochrome1"},
        {"modality": "CT"},
        {"sex": "female"},
        {"age": -1},
        {"age": 61.5},
        {"age": 1000},
        {"pixel_spacing": 0},
        {"pixel_spacing": float("nan")},
        {"aspect": 0},
        {"aspect": float("inf")},
        {"orientation": "L"},
        {"orientation": "X\\F"},
        {"patient_id": None},
        {"patient_id": "a\\b"},
        {"patient_id": "x" * 65},
        {"image_id": 7},
        {"view": "PA\n"},
        {"transfer_syntax": "1.2.840.10008.1.2.4.50"},
    ],
    ids=str,
)
def test_facts_that_no_header_can_hold_are_not_written(tmp_path, wrong):
    with pytest.raises(XrayError, match="a.dcm"):
        write_dicom(tmp_path / "a.dcm", chest(), replace(XrayFacts("a"), **wrong))
    assert not list(tmp_path.iterdir())


# -- names --------------------------------------------------------------------------------------------------------


def test_a_name_of_odd_bytes_is_an_id_and_a_message_that_can_be_printed(tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.dcm"))
    assert image_name(odd) == "M%FCller"
    write_dicom(odd, chest(), XrayFacts(image_name(odd), patient_id=image_name(odd)))
    assert read_facts(odd).image_id == read_xray(odd).facts.image_id == "M%FCller"
    write_dicom(tmp_path / "copy.dcm", chest(), read_facts(odd))  # its facts can be written
    ds = pydicom.dcmread(odd)
    ds.PatientOrientation = ["R", "F"]
    ds.save_as(odd)
    with pytest.warns(UserWarning) as told:
        read_xray(odd)
    told = [str(told[0].message)]
    odd.write_bytes(b"nothing of the kind")
    gone = odd.with_name(odd.name + "2")
    attempts = (
        lambda: read_xray(odd),
        lambda: read_facts(odd),
        lambda: read_checked(odd),
        lambda: read_xray(gone),
        lambda: is_picture(gone),
        lambda: write_dicom(gone, chest() * 99, XrayFacts("a")),
        lambda: read_xray(odd, window="\udcfc"),
    )
    for attempt in attempts:
        with pytest.raises(XrayError) as error:
            attempt()
        told.append(str(error.value))
    for message in told:
        assert "M%FCller.dcm" in message and message.encode()


def test_odd_bytes_in_ids_give_uids_and_pseudonyms_of_their_own():
    assert valid_uid("\udcfc") != valid_uid("\udcfd") and valid_uid("\udcfc").startswith("2.25.")
    assert pseudonym("\udcfc", "key") != pseudonym("\udcfd", "key") != pseudonym("%FD", "key")


# -- who is it ----------------------------------------------------------------------------------------------------


def _without(path: Path, number: int, *names: str) -> pydicom.Dataset:
    write_dicom(path, chest() - (chest() > number), XrayFacts(f"i{number}", f"s{number}", f"e{number}", f"p{number}"))
    ds = pydicom.dcmread(path)
    for name in names:
        if name == "PatientID":
            ds.PatientID = None
        elif name in ds:
            del ds[name]
    del ds.file_meta.MediaStorageSOPInstanceUID
    return ds


UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def test_files_without_ids_share_no_uid_and_no_patient(tmp_path):
    lacking = [_without(tmp_path / "a.dcm", number, "PatientID", *UIDS) for number in (100, 200)]
    one, other = (deidentify(ds, "key") for ds in lacking)
    assert one.PatientID == other.PatientID == "" == str(one.PatientName), "nobody, not the same somebody"
    made = [clean[name].value for clean in (one, other) for name in UIDS]
    assert len(set(made)) == 6 and all(value.is_valid for value in made)
    again = deidentify(_without(tmp_path / "a.dcm", 100, "PatientID", *UIDS), "key")
    assert [again[name].value for name in UIDS] == made[:3], "the same file, the same ids"
    assert deidentify(lacking[0], "other").SOPInstanceUID != one.SOPInstanceUID
    for clean in (one, other):
        clean.save_as(tmp_path / "clean.dcm", enforce_file_format=True)
        assert read_facts(tmp_path / "clean.dcm").patient_id == ""


def test_ids_of_blanks_are_none(tmp_path):
    ds = _without(tmp_path / "a.dcm", 100)
    ds.PatientID = "  "
    assert deidentify(ds, "key").PatientID == ""


# -- the caller's process -----------------------------------------------------------------------------------------


def _process() -> dict:
    import cv2
    from PIL import Image
    from pydicom import config

    settings = config.settings
    return {
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "opencv": cv2.getNumThreads(),
        "threads": {one.name for one in threading.enumerate()},
        "pydicom": {name: value for name, value in vars(config).items() if isinstance(value, bool | int | str | None)},
        "pydicom's settings": (settings.reading_validation_mode, settings.writing_validation_mode),
        "pillow": Image.MAX_IMAGE_PIXELS,
        "numpy": np.geterr(),
    }


def test_every_public_call_leaves_the_process_as_it_was(calls, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), chest(8).astype(np.uint8))
    broken = tmp_path / "broken.dcm"
    broken.write_bytes((tmp_path / "a.dcm").read_bytes()[:-999])
    more = [(read_xray, {"path": tmp_path / "a.png"}), (read_facts, {"path": tmp_path / "a.png"})]
    more.append((read_xray, {"path": broken}))
    for function, right in [*calls, *more]:
        before = _process()
        try:
            function(*right.values())
        except XrayError:
            assert right == {"path": broken}
        assert _process() == before, function.__name__


def test_threads_that_read_leave_warnings_to_be_heard(tmp_path):
    files = []
    for number in range(8):
        files.append(tmp_path / f"{number}.dcm")
        write_dicom(files[-1], chest(), XrayFacts(str(number)))
        ds = pydicom.dcmread(files[-1])
        if number % 2:
            ds.PatientOrientation = ["R", "F"]
        ds["StudyDate"]._value = "no date"  # pydicom warns when it is read
        ds.save_as(files[-1])
    before = list(warnings.filters)
    with pytest.warns(UserWarning) as told:
        heard = []
        with ThreadPoolExecutor(8) as pool:
            for xray in pool.map(read_xray, files * 20):
                heard.append(xray.pixels.shape)
        warnings.warn("does anybody hear me?", stacklevel=1)
    assert warnings.filters == before and len(heard) == 160
    messages = [str(one.message) for one in told]
    assert messages.count("does anybody hear me?") == 1
    assert sum("orientation R" in one for one in messages) == 80, "each thread's own warnings are heard, too"
    assert len(messages) == 81, "and nobody else's"


def test_importing_says_nothing_and_loads_little():
    code = "import sys, covidxr.dicom; print([name for name in ('cv2', 'torch', 'pandas', 'pydicom') if name in sys.modules])"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (answer.stdout.strip(), answer.stderr) == ("[]", "")


# -- beside pydicom -----------------------------------------------------------------------------------------------


def test_our_picture_differs_from_pydicoms_for_listed_reasons_only(tmp_path):
    "A part of `python tests/differential.py`, which makes files of all kinds and prints the table"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        needed, strange = differential.check(differential.made(tmp_path, every=False))
    assert not strange
    assert needed["all files"] > 200 and needed["no difference"] > 50
    assert all(needed[reason.name] for reason in differential.REASONS), "each reason is one that some file needs"


# -- memory -------------------------------------------------------------------------------------------------------


PEAK = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from covidxr.dicom import read_xray
print(read_xray(sys.argv[1], window=sys.argv[2] or None).pixels.shape)
status = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's own peak is told by Linux only")
@pytest.mark.parametrize("kind", ["turned", "32 bits", "png", "png by percentiles"])
def test_the_largest_picture_takes_no_copy_that_it_can_do_without(tmp_path, kind):
    "A hundred million pixels: 400 MB of brightness, and what the file itself takes"
    import cv2

    large = np.zeros((10_000, 10_000), np.uint16)
    large[::7], large[::11] = 2000, 3500
    path = tmp_path / "a.dcm"
    if kind.startswith("png"):
        path = tmp_path / "a.png"
        cv2.imwrite(str(path), large, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    else:
        write_dicom(path, np.ones((8, 8), int), XrayFacts("a", orientation="F\\L" if kind == "turned" else "L\\F"))
        ds = pydicom.dcmread(path)
        ds.Rows, ds.Columns = large.shape
        ds.PixelData = (large.astype(np.uint32) if kind == "32 bits" else large).tobytes()
        ds.BitsAllocated = 32 if kind == "32 bits" else 16
        ds.save_as(path)
    window = "percentile" if "percentiles" in kind else ""
    command = [sys.executable, "-c", PEAK, str(path), window]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    shape, peak = answer.stdout.splitlines()
    assert shape == "(10000, 10000)"
    assert int(peak) < {"turned": 1100, "32 bits": 1150}.get(kind, 850)
