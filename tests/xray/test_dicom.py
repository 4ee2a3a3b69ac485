"Reading X-ray files: right pixels from every coding, one clear error for all else, and no name that leaves."

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from measure import TESTS, in_time

from covidxr.base.errors import XrayError
from covidxr.dicom import (
    TRANSFER_SYNTAXES,
    XrayFacts,
    apply_window,
    deidentify,
    identifying_elements,
    percentile_window,
    read_checked,
    read_facts,
    read_xray,
    write_dicom,
)
from covidxr.xray.facts import image_name
from covidxr.xray.standard import valid_uid

FACTS = XrayFacts("image", "study", "series", "patient", view="PA", sex="F", age=50, pixel_spacing=0.2)


@pytest.fixture
def scene() -> np.ndarray:
    rows, columns = np.mgrid[:80, :60]
    return (2000 + 1900 * np.sin(rows / 9) * np.cos(columns / 7)).astype(int)


def _edited(path: Path, **values) -> Path:
    "The file with other values in its header; None takes an element out"
    ds = pydicom.dcmread(path)
    for name, value in values.items():
        if value is None:
            del ds[name]
        else:
            setattr(ds, name, value)
    ds.save_as(path)
    return path


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("name", TRANSFER_SYNTAXES)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_every_coding_gives_back_what_was_written(tmp_path, scene, name, photometric, bits):
    values = scene >> (12 - bits) if bits < 12 else scene << (bits - 12)
    facts = replace(FACTS, transfer_syntax=TRANSFER_SYNTAXES[name], photometric=photometric, bits_stored=bits)
    write_dicom(tmp_path / "a.dcm", values, facts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = pydicom.dcmread(tmp_path / "a.dcm")
        stored = 2**bits - 1 - values if photometric == "MONOCHROME1" else values
        assert np.array_equal(ds.pixel_array, stored)
    assert np.allclose(read_xray(tmp_path / "a.dcm").pixels, values / (2**bits - 1), atol=2e-3 if bits == 8 else 6e-4)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_jpeg_ls_is_written_without_pyjpegls_too(tmp_path, scene, bits, monkeypatch):
    pixels = scene >> (12 - bits) if bits < 12 else scene << (bits - 12)
    facts = XrayFacts("x", bits_stored=bits, transfer_syntax=TRANSFER_SYNTAXES["jpeg-ls"])
    write_dicom(tmp_path / "with.dcm", pixels, facts)
    monkeypatch.setattr("covidxr.xray.writing.find_spec", lambda name: None)
    write_dicom(tmp_path / "without.dcm", pixels, facts)
    assert (tmp_path / "with.dcm").read_bytes() != (tmp_path / "without.dcm").read_bytes()  # another encoder wrote it
    for name in ("with.dcm", "without.dcm"):
        assert np.array_equal(pydicom.dcmread(tmp_path / name).pixel_array, pixels), name
        assert np.array_equal(read_xray(tmp_path / name).pixels, read_xray(tmp_path / "with.dcm").pixels)


def test_the_look_up_equals_the_chain_pixel_by_pixel(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    _edited(tmp_path / "a.dcm", WindowCenter=None, WindowWidth=None, RescaleSlope=2, RescaleIntercept=-1024)
    values = scene * 2.0 - 1024
    assert np.allclose(read_xray(tmp_path / "a.dcm").pixels, percentile_window(values), atol=1e-5)
    _edited(tmp_path / "a.dcm", WindowCenter=[2000, 500], WindowWidth=[3000, 600])
    first, second = read_xray(tmp_path / "a.dcm").pixels, read_xray(tmp_path / "a.dcm", window=1).pixels
    for shown, center, width in ((first, 2000, 3000), (second, 500, 600)):
        assert np.allclose(shown, np.clip((values - center + 0.5) / (width - 1) + 0.5, 0, 1), atol=1e-5)
    assert np.allclose(read_xray(tmp_path / "a.dcm", window="percentile").pixels, percentile_window(values), atol=1e-5)
    with pytest.raises(XrayError, match="no window 2"):
        read_xray(tmp_path / "a.dcm", window=2)


def test_padding_is_black_and_says_nothing_about_the_window(tmp_path, scene):
    scene = scene + 100
    scene[:, :10] = 0
    write_dicom(tmp_path / "a.dcm", np.minimum(scene, 4095), replace(FACTS, photometric="MONOCHROME2"))
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    del ds.WindowCenter, ds.WindowWidth
    ds.add_new("PixelPaddingValue", "US", 0)
    ds.save_as(tmp_path / "a.dcm")
    pixels = read_xray(tmp_path / "a.dcm").pixels
    assert (pixels[:, :10] == 0).all()
    assert np.allclose(pixels[:, 10:], percentile_window(np.minimum(scene, 4095)[:, 10:]), atol=1e-5)


def test_a_signed_12_bit_picture_with_spare_bits_is_read_as_pydicom_reads_it(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.PixelRepresentation, ds.PixelData = 1, ((scene - 2048) & 0xFFF | 0x5000).astype("<u2").tobytes()
    ds.WindowCenter, ds.WindowWidth = 0, 4096
    ds.save_as(tmp_path / "a.dcm")
    assert np.array_equal(pydicom.dcmread(tmp_path / "a.dcm").pixel_array, scene - 2048)
    assert np.allclose(read_xray(tmp_path / "a.dcm").pixels, scene / 4095, atol=6e-4)


def test_orientation_and_aspect_are_followed_unless_boxes_must_fit(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    _edited(tmp_path / "a.dcm", PatientOrientation=["R", "F"], PixelAspectRatio=[2, 1])
    with pytest.warns(UserWarning, match="orientation R"):
        shown = read_xray(tmp_path / "a.dcm")
    assert shown.pixels.shape == (160, 60) == (shown.facts.height, shown.facts.width)
    with pytest.warns(UserWarning, match="left as stored"):
        stored = read_xray(tmp_path / "a.dcm", as_stored=True)
    assert stored.pixels.shape == (80, 60)
    assert np.abs(shown.pixels[::2, ::-1] - stored.pixels).mean() < 0.02


def _said(path: Path) -> str:
    with pytest.raises(XrayError) as told:
        read_xray(path)
    message = str(told.value)
    assert str(path) in message and "\n" not in message and len(message) < 500
    return message


def test_what_is_no_grey_picture_says_what_it_is(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    whole = (tmp_path / "a.dcm").read_bytes()
    for values, said in (
        ({"PixelData": None}, "no pixel data"),
        ({"NumberOfFrames": 3}, "3 frames"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "a colour image"),
        ({"Rows": 65000, "Columns": 65000}, "more than any X-ray detector has"),
        ({"Rows": 0}, "damaged"),
        ({"Rows": 81}, "cut off"),
    ):
        (tmp_path / "a.dcm").write_bytes(whole)
        assert said in _said(_edited(tmp_path / "a.dcm", **values))
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    ds.PixelData = pydicom.encaps.encapsulate([b"no video"])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    assert "MPEG" in _said(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ["jpeg-lossless", "jpeg-ls", "jpeg-2000", "rle"])
def test_a_coded_picture_that_claims_another_size_or_is_cut_off_is_refused(tmp_path, scene, name):
    from pydicom.encaps import encapsulate, generate_frames

    write_dicom(tmp_path / "a.dcm", scene, replace(FACTS, transfer_syntax=TRANSFER_SYNTAXES[name]))
    whole = (tmp_path / "a.dcm").read_bytes()
    _said(_edited(tmp_path / "a.dcm", Columns=4413))
    (tmp_path / "a.dcm").write_bytes(whole)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    stream = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([stream[: int(len(stream) * 0.7)]])
    ds.save_as(tmp_path / "a.dcm")
    _said(tmp_path / "a.dcm")
    (tmp_path / "a.dcm").write_bytes(whole[: int(len(whole) * 0.8)])
    assert "cut off" in _said(tmp_path / "a.dcm")


def _peak(path: Path) -> tuple[int, str]:
    "Memory that a fresh process needs to read a file, in megabytes, and what it said"
    code = (
        f"import sys\nsys.path.append({TESTS!r})\nfrom measure import own_peak\n"
        "from covidxr.base.errors import XrayError\nfrom covidxr.dicom import read_xray\n"
        "try: print(read_xray(sys.argv[1]).pixels.shape)\nexcept XrayError as error: print(error)\n"
        "print(int(own_peak()))"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    said, peak = answer.stdout.strip().splitlines()
    return int(peak), said


def _as_png(*parts: tuple[bytes, bytes]) -> bytes:
    "A PNG file of such chunks"
    import struct
    import zlib

    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def test_an_over_large_claim_takes_no_memory(tmp_path, scene):
    import struct
    import zlib

    size = struct.pack(">2I5B", 13000, 13000, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", size), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    (tmp_path / "bomb.png").write_bytes(_as_png(*parts))
    write_dicom(tmp_path / "usual.dcm", scene, FACTS)
    usual, _ = _peak(tmp_path / "usual.dcm")
    peak, said = _peak(tmp_path / "bomb.png")
    assert peak - usual < 100 and "more than any X-ray detector has" in said


def test_a_deflated_file_is_read_and_a_flood_is_refused_before_it_takes_memory(tmp_path, scene):
    import zlib

    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    ds.save_as(tmp_path / "a.dcm")
    assert np.allclose(read_xray(tmp_path / "a.dcm").pixels, scene / 4095, atol=6e-4)
    usual, _ = _peak(tmp_path / "a.dcm")
    raw = (tmp_path / "a.dcm").read_bytes()
    start = 144 + pydicom.dcmread(tmp_path / "a.dcm").file_meta.FileMetaInformationGroupLength
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    flood = packer.compress(
        zlib.decompress(raw[start:], -15) + b"\x00\x7f\x10\x00OB\0\0" + (10**9).to_bytes(4, "little")
    )
    flood += b"".join(packer.compress(bytes(50_000_000)) for _ in range(20)) + packer.flush()
    (tmp_path / "flood.dcm").write_bytes(raw[:start] + flood)
    peak, said = _peak(tmp_path / "flood.dcm")
    assert peak - usual < 100 and "inflates to more than any X-ray detector has" in said


def test_the_largest_picture_that_is_read_takes_under_one_gigabyte(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    large = np.zeros((10_000, 10_000), np.int16)
    large[::7], large[::11] = -2000, 1500
    ds.Rows = ds.Columns = 10_000
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit, ds.PixelData = 1, 16, 15, large.tobytes()
    del ds.WindowCenter, ds.WindowWidth
    ds.save_as(tmp_path / "a.dcm")
    peak, said = _peak(tmp_path / "a.dcm")
    assert peak < 900 and said == "(10000, 10000)"  # 200 as stored, 400 as shown, 100 for the libraries


def test_pictures_of_8_and_16_bits_grey_and_colour(tmp_path, scene):
    import cv2
    from PIL import Image

    for name, picture in (
        ("eight.png", (scene >> 4).astype(np.uint8)),
        ("sixteen.png", (scene << 4).astype(np.uint16)),
        ("twelve.png", scene.astype(np.uint16)),
        ("colour.png", np.repeat((scene >> 4).astype(np.uint8)[..., None], 3, -1)),
        ("lossy.jpg", (scene >> 4).astype(np.uint8)),
    ):
        cv2.imwrite(str(tmp_path / name), picture)
        assert np.abs(read_xray(tmp_path / name).pixels - scene / 4095).mean() < 0.01, name
    turned = Image.fromarray((scene >> 4).astype(np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    facts = read_facts(tmp_path / "turned.jpg")
    assert (facts.height, facts.width) == (80, 60) == read_xray(tmp_path / "turned.jpg", as_stored=True).pixels.shape
    shown = read_xray(tmp_path / "turned.jpg")
    assert shown.pixels.shape == (60, 80) == (shown.facts.height, shown.facts.width)


def test_hashed_ids_and_dates_of_the_competition_raise_nothing_and_warn_of_nothing(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _edited(tmp_path / "a.dcm", StudyInstanceUID="ff0879eb20ed", StudyDate="0a1b2c3d", PatientAge="006M")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_xray(tmp_path / "a.dcm").facts.study_id == "ff0879eb20ed"
    assert read_facts(tmp_path / "a.dcm").age == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("ImagerPixelSpacing", "abc"), ("NumberOfFrames", "ab"), ("WindowWidth", 0), ("PatientAge", "x")],
)
def test_nonsense_in_a_header_is_an_xray_error_or_left_out(tmp_path, scene, name, value):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.VOILUTFunction = "LINEAR_EXACT"
    raw = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(name), "LO", 4, str(value).encode(), 0, False, True)
    ds._dict[pydicom.tag.Tag(name)] = raw
    ds.save_as(tmp_path / "a.dcm")
    for read in (lambda path: read_xray(path).pixels, lambda path: np.zeros(read_facts(path).height)):
        try:
            assert np.isfinite(read(tmp_path / "a.dcm")).all()
        except XrayError as error:
            assert "a.dcm" in str(error)


def test_no_name_leaves(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    secret = ["Doe^Jane", "MRN123456", "St. Nowhere", "19610203", "Dr. Who", "1.2.3.4.5"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _edited(
            tmp_path / "a.dcm",
            PatientName=secret[0],
            PatientID=secret[1],
            InstitutionName=secret[2],
            PatientBirthDate=secret[3],
            ReferringPhysicianName=secret[4],
            StudyInstanceUID=secret[5],
            PatientAge="093Y",
        )
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.private_block(0x0009, "A VENDOR", create=True).add_new(1, "LO", "note on Doe^Jane")
    clean, again, other = deidentify(ds, "key"), deidentify(ds, "key"), deidentify(ds, "another key")
    clean.save_as(tmp_path / "clean.dcm", enforce_file_format=True)
    raw = (tmp_path / "clean.dcm").read_bytes()
    assert not [text for text in [*secret, "Jane", "093Y"] if text.encode() in raw]
    assert clean.PatientID == again.PatientID != other.PatientID and clean.PatientAge == "090Y"
    assert np.array_equal(read_xray(tmp_path / "clean.dcm").pixels, read_xray(tmp_path / "a.dcm").pixels)
    assert ds.PatientName == secret[0]  # the original is as it was
    found = identifying_elements(ds)
    assert {"PatientName in the header", "InstitutionName in the header", "private elements in the header"} <= set(
        found
    )
    assert identifying_elements(clean) == ["text is burnt into the picture, by the header's word"]


def test_no_free_text_date_or_uid_leaves_whatever_element_holds_it(tmp_path, scene):
    "Of all elements that the standard has, not of those that somebody thought of"
    from pydicom.datadict import DicomDictionary

    told = {"DA": "19610203", "TM": "115533.77", "DT": "19610203115533", "UI": "1.2.3.4.5", "UR": "http://doe.jane"}
    told |= dict.fromkeys(("PN", "LO", "LT", "SH", "ST", "UC", "UT"), "DOEJANE")
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    ds, filled = pydicom.dcmread(tmp_path / "a.dcm"), 0
    for tag, (kind, *_) in DicomDictionary.items():
        if kind in told and tag >> 16 not in (0x0000, 0x0002, 0x0006) and tag != 0x00080016:  # a SOP class is no one's
            ds.add_new(tag, kind, told[kind])
            filled += 1
    assert filled > 1000
    clean = deidentify(ds, "key")
    kept = {element.keyword for element in clean.iterall() if str(element.value) in told.values()}
    assert kept == {"Manufacturer", "RescaleType"}, "the one is studied, the other a unit"


def test_different_ids_never_share_a_uid():
    names = ["patientA_frontal_image", "patientB_frontal_image", "a", ""]
    assert len({valid_uid(name) for name in names}) == len(names)


def test_write_dicom_refuses_what_it_cannot_write(tmp_path, scene):
    with pytest.raises(XrayError, match="CR or DX"):
        write_dicom(tmp_path / "a.dcm", scene, replace(FACTS, modality="CT"))
    with pytest.raises(XrayError, match="jpeg-lossless"):
        write_dicom(tmp_path / "a.dcm", scene, replace(FACTS, transfer_syntax="1.2.840.10008.1.2.4.50"))
    assert not list(tmp_path.iterdir())


def test_damage_by_chance_gives_an_image_or_an_error():
    "A bounded part of `python tests/fuzz.py`, in a process of its own, as a decoder could end it"
    script = Path(TESTS) / "fuzz.py"
    answer = subprocess.run([sys.executable, script, "--count", "1500"], capture_output=True, text=True, timeout=600)
    assert answer.returncode == 0, answer.stderr[-3000:]
    told = json.loads(answer.stdout)
    assert told["images"] + told["errors"] == 1500 and min(told["images"], told["errors"]) > 100
    assert in_time(told["slowest_s"], 5) and told["memory_mb"] < 2000


def _with_table(path: Path, scene: np.ndarray, bits: int, data: bytes | list[int], count: int = 4096) -> Path:
    "A file whose VOI LUT has such entries"
    write_dicom(path, scene, FACTS)
    ds = pydicom.dcmread(path)
    item = pydicom.Dataset()
    item.LUTDescriptor = [count, 0, bits]
    item.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    ds.VOILUTSequence = [item]
    ds.save_as(path)
    return path


def test_a_voi_lut_is_read_however_its_entries_are_packed(tmp_path, scene):
    twelve, eight = np.arange(4096), np.arange(4096) >> 4
    for number, (bits, data, wanted) in enumerate(
        [
            (12, twelve.tolist(), scene / 4095),
            (12, twelve.astype("<u2").tobytes(), scene / 4095),
            (16, twelve.tolist(), scene / 4095),  # says 16 bits, fills 12
            (16, (twelve * 16 + 15).tolist(), (scene * 16 + 15) / 65535),
            (8, eight.tolist(), (scene >> 4) / 255),  # a word for each entry
            (8, eight.astype("<u2").tobytes(), (scene >> 4) / 255),
            (8, eight.astype("u1").tobytes(), (scene >> 4) / 255),  # two entries a word
            (8, np.frombuffer(eight.astype("u1").tobytes(), "<u2").tolist(), (scene >> 4) / 255),
        ]
    ):
        path = _with_table(tmp_path / f"{number}.dcm", scene, bits, data)
        assert np.allclose(read_xray(path).pixels, wanted, atol=1e-4), number
    few = _with_table(tmp_path / "few.dcm", scene, 12, twelve[:100].tolist())
    assert np.array_equal(read_xray(few).pixels, read_xray(few, window=0).pixels), "the window stands in"
    with pytest.raises(XrayError, match="100 entries instead of 4096"):
        read_xray(_edited(few, WindowCenter=None, WindowWidth=None))


def test_a_window_of_one_level_is_a_step_and_its_function_may_be_in_small_letters(tmp_path, scene):
    values = np.array([1999.0, 2000.0, 2001.0])
    assert apply_window(values, 2000.5, 1).tolist() == [0, 0, 1]
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    for name in ("SIGMOID", "LINEAR", "LINEAR_EXACT"):
        read = [
            read_xray(_edited(tmp_path / "a.dcm", WindowCenter=2000, WindowWidth=40, VOILUTFunction=spelled)).pixels
            for spelled in (name, name.lower(), f" {name}")
        ]
        assert np.array_equal(read[0], read[1]) and np.array_equal(read[0], read[2]), name


def test_values_in_the_high_bits_and_pairs_of_bytes_turned_round(tmp_path, scene):
    write_dicom(tmp_path / "high.dcm", scene, FACTS)
    pixels = (scene << 4 | 5).astype("<u2").tobytes()
    assert np.allclose(
        read_xray(_edited(tmp_path / "high.dcm", HighBit=15, PixelData=pixels)).pixels, scene / 4095, atol=6e-4
    )
    eight = (scene >> 4).astype("u1")
    write_dicom(tmp_path / "big.dcm", eight.astype(int), replace(FACTS, bits_stored=8))
    ds = pydicom.dcmread(tmp_path / "big.dcm")
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    ds.PixelData = np.frombuffer(eight.tobytes(), "<u2").astype(">u2").tobytes()
    ds["PixelData"].VR = "OW"
    pydicom.dcmwrite(tmp_path / "big.dcm", ds, implicit_vr=False, little_endian=False, force_encoding=True)
    assert np.allclose(read_xray(tmp_path / "big.dcm").pixels, eight / 255, atol=2e-3)


def test_zeros_after_the_end_of_a_coded_picture_are_no_damage(tmp_path, scene):
    from pydicom.encaps import encapsulate, generate_frames

    write_dicom(tmp_path / "a.dcm", scene, replace(FACTS, transfer_syntax=TRANSFER_SYNTAXES["jpeg-lossless"]))
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    stream = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([stream + bytes(300)])
    ds.save_as(tmp_path / "a.dcm")
    assert np.allclose(read_xray(tmp_path / "a.dcm").pixels, scene / 4095, atol=6e-4)


def test_nothing_hides_in_spare_bits_or_in_the_words_of_a_table(tmp_path, scene):
    ds = pydicom.dcmread(_with_table(tmp_path / "a.dcm", scene, 12, np.arange(4096).tolist()))
    ds.VOILUTSequence[0].LUTExplanation = "for Jane Doe"
    name = np.zeros(scene.shape, int)
    name[30:40, 10:50] = 1  # an overlay, as files of the nineties keep it
    ds.PixelData = (scene | name << 12).astype("<u2").tobytes()
    clean = deidentify(ds, "key")
    assert "Jane" not in str(clean)
    assert np.array_equal(np.frombuffer(clean.PixelData, "<u2").reshape(scene.shape), scene)
    assert "Jane" in str(ds) and np.frombuffer(ds.PixelData, "<u2").max() >= 4096, "the original stays as it is"
    del ds.file_meta.TransferSyntaxUID
    assert deidentify(ds, "key").file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"


def test_the_last_number_of_a_uid_is_no_ending():
    assert [image_name(name) for name in ("x/a.dcm", "b.PNG", "1.2.840.1", "IM0001", "c.d.dicom")] == [
        "a",
        "b",
        "1.2.840.1",
        "IM0001",
        "c.d",
    ]


def test_what_is_written_says_that_names_are_gone_only_where_they_are(tmp_path, scene):
    facts = replace(FACTS, patient_id="MRN123456", orientation="R\\F")
    write_dicom(tmp_path / "a.dcm", scene, facts)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    assert "PatientIdentityRemoved" not in ds and "PatientID in the header" in identifying_elements(ds)
    assert read_facts(tmp_path / "a.dcm").orientation == "R\\F"
    write_dicom(tmp_path / "a.dcm", scene, facts, pseudonymous=True)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    assert identifying_elements(ds) == ["text is burnt into the picture, by the header's word"]
    for name in ("Doe^Jane", "Jane"):  # whatever the header says about itself
        ds.PatientName = name
        assert "PatientName in the header" in identifying_elements(ds)


def test_names_are_found_however_deep_they_are(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS, pseudonymous=True)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    photo, request, icon = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    photo.PatientName, request.RequestedProcedureDescription, icon.Rows = "Doe^Jane", "for Jane Doe", 4
    request.RequestAttributesSequence = [photo]
    ds.RequestAttributesSequence, ds.IconImageSequence = [request], [icon]
    ds.ResponsiblePerson, ds.AdmissionID, ds.ReviewerName = "Doe^Mary", "77", "Who^Dr"
    for implicit in (False, True):
        ds.file_meta.TransferSyntaxUID = TRANSFER_SYNTAXES["implicit" if implicit else "explicit"]
        ds.save_as(tmp_path / "b.dcm", implicit_vr=implicit, little_endian=True)
        wanted = {"PatientName", "RequestedProcedureDescription", "ResponsiblePerson", "AdmissionID", "ReviewerName"}
        found = identifying_elements(pydicom.dcmread(tmp_path / "b.dcm"))
        assert {f"{name} in the header" for name in wanted} | {"a small copy of the picture in the header"} <= set(
            found
        )


def test_texts_beside_a_picture_are_told(tmp_path, scene):
    from PIL import Image, PngImagePlugin

    picture = Image.fromarray((scene >> 4).astype(np.uint8))
    exif = picture.getexif()
    exif[0x010E] = "Jane Doe"
    exif.get_ifd(0x8769)[0x9286] = "MRN 1234"
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "a viewer")
    picture.save(tmp_path / "clean.png", pnginfo=text)
    text.add_text("Patient", "Jane Doe")
    picture.save(tmp_path / "text.png", pnginfo=text)
    picture.save(tmp_path / "exif.jpg", exif=exif)
    picture.save(tmp_path / "exif.png", exif=exif)
    picture.save(tmp_path / "comment.jpg", comment=b"Jane Doe")
    in_exif = ["ImageDescription in the picture's EXIF", "UserComment in the picture's EXIF"]
    for name, wanted in (
        ("clean.png", []),
        ("text.png", ["a text in the picture's file"]),
        ("exif.jpg", in_exif),
        ("exif.png", in_exif),
        ("comment.jpg", ["a comment in the picture's file"]),
    ):
        assert read_checked(tmp_path / name)[1] == wanted, name


def test_nothing_hides_behind_the_pixels_or_above_signed_ones(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    ds.PixelData += b"DOE^JANE 1961   "
    assert deidentify(ds, "key").PixelData == scene.astype("<u2").tobytes()
    ds.PixelRepresentation, ds.PixelData = 1, ((scene - 2048) & 0xFFF | 0x5000).astype("<u2").tobytes()
    assert np.array_equal(np.frombuffer(deidentify(ds, "key").PixelData, "<i2").reshape(scene.shape), scene - 2048)
    ds.PixelRepresentation, ds.HighBit, ds.PixelData = 0, 15, (scene << 4 | 5).astype("<u2").tobytes()
    assert deidentify(ds, "key").PixelData == (scene << 4).astype("<u2").tobytes()
    with pytest.raises(XrayError, match="secret key"):
        deidentify(ds, "")


@pytest.mark.parametrize("name", ["jpeg-lossless", "jpeg-ls", "jpeg-2000"])
def test_nothing_hides_in_a_coded_picture(tmp_path, scene, name):
    from pydicom.encaps import encapsulate, generate_frames

    write_dicom(tmp_path / "a.dcm", scene, replace(FACTS, transfer_syntax=TRANSFER_SYNTAXES[name]))
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    stream = next(generate_frames(ds.PixelData, number_of_frames=1))
    secret = b"DOE^JANE"
    if name == "jpeg-2000":
        place = stream.index(b"\xff\x90")  # where the first tile begins
        comment = b"\xff\x64" + (4 + len(secret)).to_bytes(2, "big") + b"\0\1" + secret
        length = int.from_bytes(stream[place + 6 : place + 10], "big") + len(comment)
        tile = stream[place : place + 6] + length.to_bytes(4, "big") + stream[place + 10 : place + 12]
        stream = stream[:place] + comment + tile + comment + stream[place + 12 :]
    else:
        parts = [mark + (2 + len(secret)).to_bytes(2, "big") + secret for mark in (b"\xff\xfe", b"\xff\xe5")]
        stream = stream[:2] + b"".join(parts) + stream[2:]
    ds.PixelData = encapsulate([stream.rstrip(b"\0") + secret + b"\xff\xd9"])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "told.dcm")
    assert np.allclose(read_xray(tmp_path / "told.dcm").pixels, scene / 4095, atol=6e-4)
    clean = deidentify(pydicom.dcmread(tmp_path / "told.dcm"), "key")
    clean.save_as(tmp_path / "clean.dcm", enforce_file_format=True)
    assert (tmp_path / "told.dcm").read_bytes().count(secret) == 3
    assert secret not in (tmp_path / "clean.dcm").read_bytes()
    assert np.array_equal(read_xray(tmp_path / "clean.dcm").pixels, read_xray(tmp_path / "told.dcm").pixels)


def _big_endian(path: Path, scene: np.ndarray, **values) -> Path:
    "The scene in big endian, with other values in its header"
    write_dicom(path, scene, FACTS)
    ds = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(ds, name, value)
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    ds.PixelData = scene.astype(">u2").tobytes()
    ds["PixelData"].VR = "OW"
    pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=False, force_encoding=True)
    return path


def test_big_endian_files_with_a_table_or_without_file_meta(tmp_path, scene):
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 12]
    table.add_new("LUTData", "OW", np.arange(4096).astype(">u2").tobytes())
    path = _big_endian(tmp_path / "a.dcm", scene, VOILUTSequence=[table])
    assert np.allclose(read_xray(path).pixels, scene / 4095, atol=6e-4)
    raw = _big_endian(path, scene).read_bytes()
    start = 144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    path.write_bytes(raw[start:])
    assert np.allclose(read_xray(path).pixels, scene / 4095, atol=6e-4)


def test_coded_pixels_without_a_word_on_how_are_refused(tmp_path, scene):
    noise = np.random.default_rng(0).integers(0, 65536, scene.shape)  # coded, it is larger than as it is
    write_dicom(tmp_path / "a.dcm", noise, replace(FACTS, bits_stored=16, transfer_syntax=TRANSFER_SYNTAXES["rle"]))
    raw = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(raw[144 + pydicom.dcmread(tmp_path / "a.dcm").file_meta[0x00020000].value :])
    assert "transfer syntax" in _said(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ["implicit", "explicit"])
def test_a_voi_lut_may_begin_below_zero_where_the_rescale_leads_there(tmp_path, scene, name):
    write_dicom(tmp_path / "a.dcm", scene, replace(FACTS, transfer_syntax=TRANSFER_SYNTAXES[name]))
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "SS", [4096, -1024, 12])
    table.add_new("LUTData", "OW", np.arange(4096).astype("<u2").tobytes())
    _edited(tmp_path / "a.dcm", RescaleIntercept=-1024, RescaleSlope=1, VOILUTSequence=[table])
    assert np.allclose(read_xray(tmp_path / "a.dcm").pixels, scene / 4095, atol=6e-4)


def test_the_window_that_is_asked_for_is_the_one_that_is_taken(tmp_path, scene):
    path = _with_table(tmp_path / "a.dcm", scene, 12, np.arange(4095, -1, -1).tolist())
    assert np.allclose(read_xray(path).pixels, 1 - scene / 4095, atol=6e-4)  # the curve, where nothing is asked for
    assert np.allclose(read_xray(path, window=0).pixels, scene / 4095, atol=6e-4)
    assert np.allclose(read_xray(path, window="percentile").pixels, percentile_window(scene), atol=1e-5)
    with pytest.raises(XrayError, match="no window 1; the file has 2048 / 4096 and a VOI LUT"):
        read_xray(path, window=1)
    for window in ("lung", -1, 1.5, True):
        with pytest.raises(XrayError, match="is unknown"):
            read_xray(path, window=window)
    _edited(path, WindowCenter=None, WindowWidth=None)
    with pytest.raises(XrayError, match="the file has none"):
        read_xray(path, window=0)


_LIES = ("L\\F", "R\\F", "R\\H", "L\\H", "F\\L", "F\\R", "H\\R", "H\\L")


@pytest.mark.parametrize("lies", _LIES)
def test_every_way_that_a_frontal_view_can_lie_is_turned_upright(tmp_path, scene, lies):
    from PIL import Image, ImageOps

    stored = (scene >> 4).astype(np.uint8)
    picture = Image.fromarray(stored)
    exif = picture.getexif()
    exif[0x0112] = _LIES.index(lies) + 1
    picture.save(tmp_path / "a.png", exif=exif)
    picture.save(tmp_path / "a.jpg", exif=exif, quality=100)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))) / 255  # Pillow is the judge
    write_dicom(tmp_path / "a.dcm", scene, replace(FACTS, orientation=lies))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, close in (("a.png", 1e-6), ("a.jpg", 0.02), ("a.dcm", 0.005)):
            shown, kept = read_xray(tmp_path / name), read_xray(tmp_path / name, as_stored=True)
            assert shown.pixels.shape == upright.shape and np.abs(shown.pixels - upright).max() < close, name
            assert (shown.facts.orientation, kept.facts.orientation) == ("L\\F", lies)
            assert (shown.facts.height, shown.facts.width) == upright.shape and kept.pixels.shape == stored.shape
            assert ("orientation" in read_checked(tmp_path / name, as_stored=True)[2]) == (lies != "L\\F")


def test_a_lateral_view_is_left_as_it_is_and_said(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)
    _edited(tmp_path / "a.dcm", PatientOrientation=["A", "F"])
    with pytest.warns(UserWarning, match="left as stored, though its header says orientation A"):
        assert np.allclose(read_xray(tmp_path / "a.dcm").pixels, scene / 4095, atol=6e-4)
    _edited(tmp_path / "a.dcm", PatientOrientation=["RA", "F"])  # chiefly right, a little to the front
    assert read_facts(tmp_path / "a.dcm").orientation == "R\\F"


def test_the_facts_are_those_of_the_pixels_after_turning_and_stretching(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, replace(FACTS, orientation="F\\L"))
    _edited(tmp_path / "a.dcm", ImagerPixelSpacing=[0.4, 0.2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = read_xray(tmp_path / "a.dcm")
    assert shown.pixels.shape == (60, 160)
    assert (shown.facts.aspect, shown.facts.orientation, shown.facts.pixel_spacing) == (1, "L\\F", 0.2)


def test_the_distance_of_pixels_is_that_in_the_patient_else_that_on_the_detector(tmp_path, scene):
    write_dicom(tmp_path / "a.dcm", scene, FACTS)  # writes ImagerPixelSpacing, 0.2
    assert read_facts(tmp_path / "a.dcm").pixel_spacing == 0.2
    _edited(tmp_path / "a.dcm", PixelSpacing=[0.15, 0.15])  # magnification was taken off (PS3.3 10.7.1.3)
    assert read_facts(tmp_path / "a.dcm").pixel_spacing == 0.15
    _edited(tmp_path / "a.dcm", PixelSpacing=[0, 0])
    assert read_facts(tmp_path / "a.dcm").pixel_spacing == 0.2


def test_an_orientation_in_xmp_turns_neither_the_picture_nor_its_facts(tmp_path, scene):
    from PIL import Image

    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray((scene >> 4).astype(np.uint8)).save(tmp_path / "a.jpg", xmp=xmp)
    xray = read_xray(tmp_path / "a.jpg")
    assert xray.pixels.shape == (80, 60) == (xray.facts.height, xray.facts.width)


def test_what_a_camera_writes_behind_a_picture_is_no_damage(tmp_path, scene):
    from PIL import Image

    picture = Image.fromarray((scene >> 4).astype(np.uint8))
    picture.save(tmp_path / "small.jpg", quality=50)
    exif = b"Exif\0\0MM\0*" + (tmp_path / "small.jpg").read_bytes()  # a thumbnail has an end mark of its own
    picture.save(tmp_path / "a.jpg", progressive=True, quality=95, exif=exif)
    raw = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(raw + bytes(range(255)) * 12)
    assert np.abs(read_xray(tmp_path / "a.jpg").pixels - scene / 4095).mean() < 0.01
    for part in (0.5, 0.9):
        (tmp_path / "a.jpg").write_bytes(raw[: int(len(raw) * part)])
        assert "cut off" in _said(tmp_path / "a.jpg")


def test_the_facts_of_a_picture_cost_no_decoding(tmp_path):
    import struct

    parts = ((b"IHDR", struct.pack(">2I5B", 300, 200, 16, 0, 0, 0, 0)), (b"IDAT", b"not to be decoded"), (b"IEND", b""))
    (tmp_path / "a.png").write_bytes(_as_png(*parts))
    facts = read_facts(tmp_path / "a.png")
    assert (facts.height, facts.width, facts.bits_stored) == (200, 300, 16)
    _said(tmp_path / "a.png")


def test_a_pipe_a_loop_and_a_folder_are_no_xrays(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.dcm").symlink_to("loop.dcm")
    (tmp_path / "folder.dcm").mkdir()
    for name in ("pipe.png", "loop.dcm", "folder.dcm"):
        _said(tmp_path / name)
