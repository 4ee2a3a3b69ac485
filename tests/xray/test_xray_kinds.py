"Kinds of files that adversarial readers brought: what hides beside coded pixels, and headers that leave a word out."

import inspect
import re
import struct
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom._uid_dict import UID_dictionary
from pydicom.encaps import encapsulate, generate_frames
from xrays import CODINGS, LOSSY, NATIVE, WINDOW, chest, dataset, in_fragments, save

from covidxr.base.errors import DataError, XrayError
from covidxr.dicom import XrayFacts, deidentify, identifying_elements, read_facts, read_xray, write_dicom
from covidxr.phantom import simulate
from covidxr.xray import codecs
from covidxr.xray.codecs import decode
from covidxr.xray.confidential import HARMLESS, IDENTIFYING, KEPT
from covidxr.xray.facts import not_frontal_chest
from covidxr.xray.headers import read_dataset
from covidxr.xray.standard import CODECS, HTJ2K, TRANSFER_SYNTAXES
from covidxr.xray.standard import NATIVE as NATIVE_SYNTAXES

CODED = ("rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000", "ht-jpeg-2000")
NAME = b"DOE^JANE 1950 "


def _frame(ds: pydicom.Dataset) -> bytes:
    return next(generate_frames(ds.PixelData, number_of_frames=1))


def _values(path: Path) -> np.ndarray:
    return decode(read_dataset(path), path).astype(np.int64)


def _cleaned(ds: pydicom.Dataset, path: Path) -> Path:
    "The file without names, written and ready to be read"
    deidentify(ds, "a secret").save_as(path, enforce_file_format=True)
    return path


def _all_bits(path: Path, signed: bool = False) -> np.ndarray:
    "Every bit that a file holds of its values, whatever its header says"
    ds = pydicom.dcmread(path)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = ds.BitsAllocated, ds.BitsAllocated - 1, int(signed)
    return ds.pixel_array.astype(np.int64)


# -- what hides beside coded pixels -------------------------------------------------------------------------------


def _rle_with_texts(frame: bytes, behind: bytes) -> bytes:
    "A text behind the head, one behind each segment, and numbers in the head that nobody needs"
    count, *starts = struct.unpack("<16L", frame[:64])
    starts = [*starts[:count], len(frame)]
    segments = [frame[first:last] + behind for first, last in zip(starts, starts[1:], strict=False)]
    places = [64 + len(NAME)]
    for segment in segments[:-1]:
        places.append(places[-1] + len(segment))
    head = [count, *places, *struct.unpack("<3L", NAME[:12])]
    return struct.pack("<16L", *head, *[0] * (16 - len(head))) + NAME + b"".join(segments)


@pytest.mark.parametrize("behind", [NAME, b"\x0d" + NAME, b"\0\0" + NAME])  # no runs, a run, runs and more
@pytest.mark.parametrize("frames", [1, 3])
def test_no_text_stays_behind_or_between_the_segments_of_run_lengths(tmp_path, frames, behind):
    ds = dataset(chest(), coding="rle", **WINDOW)
    whole = _frame(ds)
    for told in (_rle_with_texts(whole, behind), whole + behind):
        ds.PixelData, ds.NumberOfFrames = encapsulate([told] * frames), frames
        assert NAME[:12] in ds.PixelData
        path = _cleaned(ds, tmp_path / "a.dcm")
        assert b"DOE" not in path.read_bytes() and b"JANE" not in path.read_bytes()
        clean = pydicom.dcmread(path)
        assert clean.file_meta.TransferSyntaxUID == CODINGS["rle"]
        assert np.array_equal(clean.pixel_array, np.squeeze(np.stack([chest()] * frames)))


def test_run_lengths_of_colours_and_of_other_depths_stay_what_they_are(tmp_path):
    for bits, allocated in ((8, 8), (12, 32), (16, 16)):
        path = _cleaned(dataset(chest(bits), bits, allocated=allocated, coding="rle"), tmp_path / "a.dcm")
        assert np.array_equal(_values(path), chest(bits))
    colours = np.stack([chest(8), chest(8)[::-1], chest(8)[:, ::-1]], -1).astype(np.uint8)
    ds = dataset(chest(8), 8, allocated=8)
    ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.PlanarConfiguration = "RGB", 3, 0
    ds.PixelData = colours.tobytes()
    ds.compress(CODINGS["rle"], generate_instance_uid=False)
    ds.PixelData = encapsulate([_frame(ds) + NAME])
    clean = deidentify(ds, "a secret")
    clean.PlanarConfiguration = 0
    assert NAME not in clean.PixelData and np.array_equal(clean.pixel_array, colours)


def test_run_lengths_that_end_too_early_are_refused_rather_than_filled_up():
    ds = dataset(chest(), coding="rle")
    ds.PixelData = encapsulate([_frame(ds)[:-60]])
    with pytest.raises(XrayError, match="is the file whole"):
        deidentify(ds, "a secret")


def _drawn(signed: bool) -> tuple[np.ndarray, np.ndarray]:
    "Values, and the same with a drawing in bit 14"
    values = chest() - 2048 * signed
    drawing = np.zeros(values.shape, np.int64)
    drawing[30:40, 10:50] = 1 << 14
    return values, values & 0xFFF | drawing


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("coding", [*NATIVE, *CODED])
def test_a_drawing_above_the_stored_bits_stays_behind_in_every_coding(tmp_path, coding, signed, frames):
    values, words = _drawn(signed)
    ds = dataset(words, signed=signed, coding=coding, **WINDOW)
    if frames > 1:
        ds.PixelData = ds.PixelData * frames if coding in NATIVE else encapsulate([_frame(ds)] * frames)
        ds.NumberOfFrames = frames
    path = _cleaned(ds, tmp_path / "a.dcm")
    assert np.array_equal(_all_bits(path, signed), np.squeeze(np.stack([values] * frames)))
    if frames == 1:
        assert np.array_equal(_values(path), values)
    kept = coding in (*NATIVE, "rle")  # these can be written again as they were
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == CODINGS[coding if kept else "explicit"]


@pytest.mark.parametrize("coding", CODED)
def test_what_stands_below_the_stored_bits_stays_behind_too(tmp_path, coding):
    words = chest() << 4 | 5
    path = _cleaned(dataset(words, high=15, coding=coding, **WINDOW), tmp_path / "a.dcm")
    assert np.array_equal(_all_bits(path), chest() << 4) and np.array_equal(_values(path), chest())


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("coding", CODED)
def test_a_sign_or_nothing_above_the_stored_bits_is_no_drawing(tmp_path, coding, signed):
    values = chest() - 2048 * signed
    for words in (values, values & 0xFFF, (values & 0xFFF) << 4):
        high = 15 if words.max() > 4095 else 11
        ds = dataset(words, signed=signed, coding=coding, high=high, **WINDOW)
        coded, path = _frame(ds), _cleaned(ds, tmp_path / "a.dcm")
        assert np.array_equal(_values(path), values)
        clean = pydicom.dcmread(path)
        assert clean.file_meta.TransferSyntaxUID == CODINGS[coding]
        assert coding == "rle" or len(_frame(clean)) == len(coded), "comments are emptied in their place"


@pytest.mark.parametrize("coding", LOSSY)
def test_what_overshoots_in_a_lossy_coding_is_no_drawing(tmp_path, coding):
    ds = dataset(chest(10), 10, coding=coding, WindowCenter=512, WindowWidth=1024)
    path = _cleaned(ds, tmp_path / "a.dcm")
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == CODINGS[coding]
    assert np.array_equal(_values(path), _values(save(ds, tmp_path / "b.dcm")))


@pytest.mark.parametrize("coding", ["near-jpeg-ls", "lossy-jpeg-2000"])
def test_a_drawing_in_a_lossy_coding_is_refused_with_a_cure_that_helps(coding):
    values, words = _drawn(False)
    ds = dataset(words, coding=coding, precision=16)
    with pytest.raises(XrayError, match="decompress the file first, then it is cleaned"):
        deidentify(ds, "a secret")
    ds.decompress(generate_instance_uid=False)
    clean = deidentify(ds, "a secret")
    assert np.frombuffer(clean.PixelData, "<u2").max() <= 4095


@pytest.mark.parametrize("coding", ["explicit", *CODED])
def test_padding_that_needs_the_bits_above_is_kept_and_hides_nothing(tmp_path, coding):
    words = chest()
    words[:, :8], words[40, 30] = 63536, 2096  # masked, padding would be 2096
    ds = dataset(words, coding=coding, PixelPaddingValue=63536, **WINDOW)
    ds["PixelPaddingValue"].VR = "US"
    path = _cleaned(ds, tmp_path / "a.dcm")
    assert np.array_equal(_all_bits(path), words)
    assert np.array_equal(read_xray(path).pixels, read_xray(save(ds, tmp_path / "b.dcm")).pixels)
    ds.add_new("PixelPaddingRangeLimit", "US", 65535)
    words[:, 4:8] = 65000  # with a range, a drawing could be in the padding
    again = dataset(words, coding=coding)
    ds.PixelData = again.PixelData
    path = _cleaned(ds, tmp_path / "c.dcm")
    assert set(np.unique(_all_bits(path)[:, :8])) == {63536}


@pytest.mark.parametrize("coding", ["jpeg-lossless", "jpeg-ls", "jpeg-2000"])
def test_a_coding_without_room_for_more_bits_is_not_decoded(monkeypatch, coding):
    ds = dataset(chest(), coding=coding, precision=12)
    if coding == "jpeg-ls":  # the encoder takes 16 bits as they come
        ds.BitsStored, ds.HighBit = 16, 15
    monkeypatch.setattr(codecs, "_decoded", lambda *_: pytest.fail("decoded"))
    assert len(_frame(deidentify(ds, "a secret"))) == len(_frame(ds))


def test_coded_colours_with_more_bits_than_the_header_says_are_refused_with_a_cure():
    colours = np.stack([chest()] * 3, -1).astype(np.uint16)
    ds = dataset(chest(), coding="jpeg-2000", PhotometricInterpretation="RGB", SamplesPerPixel=3)
    ds.PixelData = encapsulate([imagecodecs.jpeg2k_encode(colours, level=0, reversible=True, codecformat="j2k")])
    with pytest.raises(XrayError, match="decompress the file first"):
        deidentify(ds, "a secret")


def test_nothing_stays_behind_the_end_of_a_jpeg_2000_tile_that_does_not_say_how_long_it_is(tmp_path):
    ds = dataset(chest(), coding="jpeg-2000", precision=12, **WINDOW)
    stream = _frame(ds).rstrip(b"\0")
    place = stream.index(b"\xff\x90")
    assert stream.count(b"\xff\x90") == 1, "one tile, so that it may leave its length out"
    unknown = stream[: place + 6] + bytes(4) + stream[place + 10 :]
    ds.PixelData = encapsulate([unknown + NAME + b"\xff\xd9"])
    path = _cleaned(ds, tmp_path / "a.dcm")
    assert NAME not in path.read_bytes() and np.array_equal(_values(path), chest())


# -- which way the values run -------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[np.ndarray, list[str]]:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        pixels = read_xray(path).pixels
    return pixels, [str(one.message) for one in heard]


@pytest.mark.parametrize(
    ("said", "shape", "taken"),
    [
        ("MONOCHROME 1", None, 1),
        ("MONOCHROME_1", "INVERSE", 1),
        ("MONOCHROME_2", "INVERSE", 2),
        ("Mono-chrome2", None, 2),
        ("MONOCROME1", None, 1),
        (None, "INVERSE", 1),
        (None, "IDENTITY", 2),
        (None, None, 2),
        ("", "INVERSE", 1),
        ("GREY", "INVERSE", 1),
        ("GREY", None, 2),
        ("MONOCHROME", "INVERSE", 1),
        ("MONOCHROME12", None, 2),
    ],
)
def test_a_misspelled_or_missing_photometric_interpretation_is_understood_and_said(tmp_path, said, shape, taken):
    ds = dataset(chest(), **WINDOW)
    with warnings.catch_warnings(action="ignore"):
        ds.PhotometricInterpretation = said
        if shape:
            ds.PresentationLUTShape = shape
        if said is None:
            del ds.PhotometricInterpretation
    path = save(ds, tmp_path / "a.dcm")
    wanted = chest() / 4095
    for file in (path, _cleaned(pydicom.dcmread(path), tmp_path / "b.dcm")):
        pixels, heard = _read(file)
        assert np.allclose(pixels, 1 - wanted if taken == 1 else wanted, atol=1e-3)
        note = f"PhotometricInterpretation is missing or wrong in its header, MONOCHROME{taken} was taken"
        assert heard == [f"{file.name}: {note}"]
        facts = read_facts(file)
        assert facts.photometric == f"MONOCHROME{taken}"
        write_dicom(tmp_path / "c.dcm", chest(), facts)


@pytest.mark.parametrize(("said", "taken"), [("monochrome1", 1), (" MONOCHROME1", 1), ("MONOCHROME2 ", 2)])
def test_small_letters_and_blanks_around_are_no_fault(tmp_path, said, taken):
    ds = dataset(chest(), **WINDOW, PresentationLUTShape="INVERSE")
    with warnings.catch_warnings(action="ignore"):
        ds.PhotometricInterpretation = said
    path = save(ds, tmp_path / "a.dcm")
    wanted = chest() / 4095
    pixels, heard = _read(path)
    assert heard == [] and np.allclose(pixels, 1 - wanted if taken == 1 else wanted, atol=1e-3)
    assert read_facts(path).photometric == f"MONOCHROME{taken}"


def test_colours_and_palettes_stay_colours_and_palettes(tmp_path):
    for said in ("PALETTE COLOR", "palette_color"):
        with warnings.catch_warnings(action="ignore"):
            path = save(dataset(chest(), photometric=said), tmp_path / "a.dcm")
        with pytest.raises(XrayError, match="a colour image"):
            read_xray(path)
        assert read_facts(path).photometric == said
    path = save(dataset(chest(), photometric="RGB", PresentationLUTShape="INVERSE", **WINDOW), tmp_path / "a.dcm")
    pixels, heard = _read(path)  # one value a pixel: shown as it was, and in silence
    assert heard == [] and np.allclose(pixels, chest() / 4095, atol=1e-3)


# -- more pictures than the header says ---------------------------------------------------------------------------

MORE = "it holds colours or more frames than its header says, export it again"


@pytest.mark.parametrize("fill", [0, 2, 50])
@pytest.mark.parametrize("coding", [*CODED, *LOSSY, "jpeg-8"])
def test_a_second_coded_picture_is_refused_as_an_uncompressed_one_is(tmp_path, coding, fill):
    bits = 8 if coding == "jpeg-8" else 12
    ds = dataset(chest(bits), bits, allocated=8 if bits == 8 else 16, coding=coding)
    frame = _frame(ds)
    frame += b"\0" * (len(frame) % 2)
    ds.PixelData = encapsulate([frame + bytes(fill), frame])
    one = in_fragments(frame + bytes(fill) + frame, 5)
    for frames in (None, 1, "two"):
        if frames:
            with warnings.catch_warnings(action="ignore"):
                ds.add_new("NumberOfFrames", "IS" if frames == 1 else "LO", frames)
        for content in (ds.PixelData, one):
            ds.PixelData = content
            path = save(ds, tmp_path / "a.dcm")
            with pytest.raises(XrayError, match=MORE) as refused:
                read_xray(path)
            assert "\n" not in str(refused.value)


def test_a_second_picture_in_boxes_is_seen_too(tmp_path):
    ds = dataset(chest(), coding="jpeg-2000")
    boxes = imagecodecs.jpeg2k_encode(chest().astype(np.uint16), level=0, reversible=True, codecformat="jp2")
    assert boxes[4:8] == b"jP  "
    for frames in ([boxes], [boxes, boxes], [_frame(ds), boxes]):
        ds.PixelData = encapsulate(frames)
        path = save(ds, tmp_path / "a.dcm")
        if len(frames) == 1:
            assert np.array_equal(_values(path), chest())
        else:
            with pytest.raises(XrayError, match=MORE):
                read_xray(path)


@pytest.mark.parametrize("coding", CODED)
def test_fragments_zeros_and_a_makers_text_behind_the_end_are_no_second_picture(tmp_path, coding):
    ds = dataset(chest(), coding=coding)
    frame = _frame(ds)
    frame += b"\0" * (len(frame) % 2)
    behind = [b"", bytes(2), bytes(400)]
    behind += [b"made by a maker "] if coding != "rle" else [frame[:8] + bytes(10)]  # a head without its segments
    for more in behind:
        ds.PixelData = in_fragments(frame + more, 6)
        assert np.array_equal(_values(save(ds, tmp_path / "a.dcm")), chest())


def test_thumbnails_inside_a_picture_are_no_second_picture(tmp_path):
    small = imagecodecs.jpeg8_encode(chest(8, 20, 16).astype(np.uint8))
    inside = small + small + b"\0"  # two, one right behind the other
    for coding in ("jpeg-lossless", "jpeg-ls", "jpeg-8"):
        bits = 8 if coding == "jpeg-8" else 12
        ds = dataset(chest(bits), bits, allocated=8 if bits == 8 else 16, coding=coding)
        path = save(ds, tmp_path / "a.dcm")
        wanted, frame = _values(path), _frame(ds)
        segment = b"\xff\xe1" + (2 + len(inside)).to_bytes(2, "big") + inside
        ds.PixelData = encapsulate([frame[:2] + segment + frame[2:]])
        assert np.array_equal(_values(save(ds, path)), wanted)
    ds = dataset(chest(), coding="jpeg-2000")
    frame = _frame(ds)
    place = frame.index(b"\xff\x90")
    comment = b"\xff\x64" + (4 + len(inside)).to_bytes(2, "big") + b"\0\0" + inside
    ds.PixelData = encapsulate([frame[:place] + comment + frame[place:]])
    assert np.array_equal(_values(save(ds, tmp_path / "a.dcm")), chest())


# -- PNG ----------------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def _turned(path: Path, late: bool, turn: int = 6) -> Path:
    "A PNG of many small parts, with a camera's orientation before or behind them"
    lines = zlib.compress(b"".join(b"\0" + line.tobytes() for line in chest(8).astype(np.uint8)))
    exif = _chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0" + bytes([turn]) + bytes(6))
    parts = [_chunk(b"IDAT", lines[first : first + 99]) for first in range(0, len(lines), 99)]
    parts.insert(len(parts) if late else 0, exif)
    head = _chunk(b"IHDR", struct.pack(">2I5B", *chest().shape[::-1], 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(parts) + _chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_orientation_behind_the_pixels_of_a_png_is_followed_as_one_before_them(tmp_path, turn):
    late, early = _turned(tmp_path / "a.png", True, turn), _turned(tmp_path / "b.png", False, turn)
    assert read_facts(late).orientation == read_facts(early).orientation
    with warnings.catch_warnings(action="ignore"):
        assert np.array_equal(read_xray(late).pixels, read_xray(early).pixels)
        assert (read_xray(late).pixels.shape == chest().shape) == (turn < 5)


def test_a_damaged_or_cut_png_is_treated_as_before(tmp_path):
    whole = _turned(tmp_path / "a.png", True).read_bytes()
    place = whole.index(b"eXIf")
    for broken in (whole[:place], whole[: place + 20], whole[: place + 8] + b"X" + whole[place + 9 :], whole[:-30]):
        (tmp_path / "a.png").write_bytes(broken)
        assert read_facts(tmp_path / "a.png").orientation == "L\\F"
        with pytest.raises(XrayError, match="copy it again"):
            read_xray(tmp_path / "a.png")


def test_sixteen_bits_of_colours_are_told_as_sixteen(tmp_path):
    import cv2

    grey = (chest() << 4).astype(np.uint16)
    for name, picture, bits in (
        ("rgb.png", np.dstack([grey] * 3), 16),
        ("alpha.png", np.dstack([grey] * 3 + [np.full_like(grey, 65535)]), 16),
        ("grey.png", grey, 16),
        ("eight.png", np.dstack([grey >> 8] * 3).astype(np.uint8), 8),
        ("eight.jpg", (grey >> 8).astype(np.uint8), 8),
    ):
        cv2.imwrite(str(tmp_path / name), picture)
        xray = read_xray(tmp_path / name)
        assert xray.facts.bits_stored == bits == read_facts(tmp_path / name).bits_stored
        assert np.allclose(xray.pixels, (grey >> 8) / 255, atol=0.03)
    write_dicom(tmp_path / "a.dcm", grey, XrayFacts("a", bits_stored=read_facts(tmp_path / "rgb.png").bits_stored))


@pytest.mark.parametrize("coding", TRANSFER_SYNTAXES)
def test_an_array_is_written_however_it_lies_in_memory(tmp_path, coding):
    picture = np.random.default_rng(0).integers(0, 4096, (70, 80)).astype(np.uint16)
    facts = XrayFacts("x", bits_stored=12, transfer_syntax=TRANSFER_SYNTAXES[coding])
    for number, kept in enumerate(
        [
            np.ascontiguousarray(picture.T).T,
            np.ascontiguousarray(picture[:, ::-1])[:, ::-1],
            np.repeat(picture, 2, 1)[:, ::2],
            picture.astype(">u2"),
        ]
    ):
        write_dicom(tmp_path / f"{number}.dcm", kept, facts)
        assert (pydicom.dcmread(tmp_path / f"{number}.dcm").pixel_array == picture).all()


# -- nothing is passed on that was not looked through -------------------------------------------------------------

CODED_SYNTAXES = (*CODECS, *HTJ2K, TRANSFER_SYNTAXES["rle"])
UNKNOWN = [
    uid
    for uid, (_, kind, *_) in UID_dictionary.items()
    if kind == "Transfer Syntax" and uid not in (*CODED_SYNTAXES, *NATIVE_SYNTAXES)
]


@pytest.mark.parametrize("syntax", [*UNKNOWN, "1.2.276.0.99.1", "1.2.840.113619.5.2", "1.2.840.10008.1.2.4.110"])
def test_a_coding_that_nobody_here_knows_is_refused_with_the_file_and_the_cure(syntax):
    ds = dataset(chest(8), 8, allocated=8, coding="jpeg-8")
    frame = _frame(ds)
    ds.PixelData = encapsulate([frame[:2] + b"\xff\xfe\0\x10" + NAME + frame[2:]])
    ds.file_meta.TransferSyntaxUID, ds.filename = syntax, "a.dcm"
    with pytest.raises(XrayError, match=r"a\.dcm: pixels coded as .* cannot be looked through.*gdcmconv --raw"):
        deidentify(ds, "a secret")


def test_the_list_of_unknown_codings_is_long():
    assert len(UNKNOWN) > 35 and "1.2.840.10008.1.2.4.52" in UNKNOWN and "1.2.840.10008.1.2.4.92" in UNKNOWN


@pytest.mark.parametrize("missing", [True, False])
def test_a_coded_picture_whose_file_does_not_say_how_is_refused(missing):
    ds = dataset(chest(8), 8, allocated=8, coding="jpeg-8")
    if missing:
        del ds.file_meta.TransferSyntaxUID
    else:
        ds.file_meta.TransferSyntaxUID = CODINGS["explicit"]
    with pytest.raises(XrayError, match="does not say how"):
        deidentify(ds, "a secret")


def test_cut_pixels_and_streams_of_another_kind_are_refused():
    ds = dataset(chest())
    ds.PixelData = NAME + ds.PixelData[:100]
    with pytest.raises(XrayError, match="the file was cut off"):
        deidentify(ds, "a secret")
    for coding in ("jpeg-8", "jpeg-2000"):
        ds = dataset(chest(8), 8, allocated=8, coding=coding)
        for frame in (NAME * 20, _frame(ds).rstrip(b"\0")[:-2] + NAME):
            ds.PixelData = encapsulate([frame])
            with pytest.raises(XrayError, match="cannot be looked through"):
                deidentify(ds, "a secret")


def test_nothing_stays_between_the_segments_of_a_jpeg_or_in_marks_that_are_free(tmp_path):
    ds = dataset(chest(8), 8, allocated=8, coding="jpeg-8")
    frame, wanted = _frame(ds), _values(save(ds, tmp_path / "b.dcm"))
    for more in (NAME, b"\xff\xf0\0\x10" + NAME, b"\xff\xbf\0\x10" + NAME):
        ds.PixelData = encapsulate([frame[:2] + more + frame[2:]])
        path = _cleaned(ds, tmp_path / "a.dcm")
        assert NAME not in path.read_bytes()
        if more is NAME:  # decoders know none of the free marks
            assert np.array_equal(_values(path), wanted)


# -- what could tell who it is ------------------------------------------------------------------------------------


def _with(name: str, value: str) -> pydicom.Dataset:
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    with warnings.catch_warnings(action="ignore"):
        setattr(ds, name, value)
    return ds


SAYS = {"DA": "20200401", "TM": "101010", "DT": "20200401101010", "AS": "095Y", "DS": "61", "IS": "3", "US": 4}
SAYS |= {"OB": b"Jane", "UN": b"Jane", "AE": "HOSPITAL"}


def test_all_that_the_table_of_the_standard_names_is_told_at_any_depth():
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tried = 0
    for name in IDENTIFYING:
        tag = tag_for_keyword(name)
        kind = dictionary_VR(tag) if tag else "SQ"
        if kind == "SQ" or name in (*KEPT, *HARMLESS):
            continue
        ds, outer = _with(name, SAYS.get(kind, "Smith")), pydicom.Dataset()
        outer.RequestAttributesSequence = [ds]
        for one in (ds, outer):
            assert identifying_elements(one) == [f"{name} in the header"]
            assert not identifying_elements(deidentify(one, "a secret"))
        tried += 1
    assert tried > 450


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PatientName", "ANONYMIZED"),
        ("PatientName", "XXXXX^XXX"),
        ("PatientID", "0"),
        ("InstitutionName", "not available"),
        ("StudyDate", "19000101"),
        ("StudyDate", "1b6fa2c9d0e3"),
        ("StudyTime", "000000.00"),
        ("PatientAge", "089Y"),
        ("PatientSex", "F"),
        ("StudyInstanceUID", "1.2.3"),
        ("ManufacturerModelName", "Zapper"),
    ],
)
def test_what_deidentifiers_leave_and_what_every_file_has_is_not_told(name, value):
    assert identifying_elements(_with(name, value)) == []


def test_texts_that_no_list_knows_curves_and_the_files_own_header_are_told():
    assert identifying_elements(_with("TextValue", "Smith")) == ["TextValue in the header"]
    ds = _with("Rows", 4)
    ds.add_new(0x50000020, "CS", "ECG")
    ds.add_new(0x00081990, "LO", "Smith")
    ds.file_meta.SourceApplicationEntityTitle = "HOSPITAL"
    wanted = ["SourceApplicationEntityTitle", "a curve", "elements that no dictionary has"]
    assert identifying_elements(ds) == [f"{what} in the header" for what in wanted]


@pytest.mark.parametrize(
    "said, kept",
    [
        ("HAND", "HAND"),
        ("CHEST PA/LAT 2VIEW", "CHEST"),
        ("Tórax", "TORAX"),
        ("Hand", "HAND"),
        ("HAND, LEFT", "HAND LEFT"),
        ("LOWER EXTREMITY, LEFT KNEE", ""),
        ("", "CHEST"),
        (["CHEST", "ABDOMEN"], "CHEST\\ABDOMEN"),
        (["HAND", "WRIST"], "HAND\\WRIST"),
    ],
)
def test_a_body_part_is_read_as_it_is_and_written_as_the_standard_has_it(tmp_path, said, kept):
    path, again = tmp_path / "a.dcm", tmp_path / "b.dcm"
    write_dicom(path, np.arange(4096, dtype=np.uint16).reshape(64, 64), XrayFacts("a", "s"))
    ds = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom tells what is no code string
        ds.BodyPartExamined = said
        ds.save_as(path)
        xray = read_xray(path)
    assert xray.facts.body_part == ("\\".join(said) if isinstance(said, list) else said)
    assert bool(not_frontal_chest(xray.facts)) == (said in ("HAND", "Hand", ["HAND", "WRIST"]))
    write_dicom(again, np.arange(4096, dtype=np.uint16).reshape(64, 64), xray.facts)
    assert read_facts(again).body_part == kept
    assert bool(not_frontal_chest(read_facts(again))) == bool(not_frontal_chest(xray.facts))
    assert bool(pydicom.dcmread(again).AnatomicRegionSequence) == ("CHEST" in kept)


@pytest.mark.parametrize(
    "told, said",
    [
        ({"PatientOrientation": ["A", "F"]}, "the orientation is A\\F; only frontal views"),
        ({"PatientOrientation": ["PL", "F"], "ViewPosition": "PA"}, "the orientation is P\\F; only frontal views"),
        ({"ViewPosition": "LAT"}, "the view is LAT; only frontal views"),
        ({"ViewPosition": "L_LAT"}, "the view is L_LAT; only frontal views"),
        ({"ViewPosition": "RAO"}, "the view is RAO; only frontal views"),
        ({"ViewPosition": "PA OBLIQUE"}, "the view is PA OBLIQUE; only frontal views"),
        ({"Modality": "RF"}, "of the kind RF, and a chest X-ray is CR or DX"),
        ({"BodyPartExamined": ["SHOULDER", ""]}, "the body part SHOULDER\\, not a chest"),
        ({"PatientOrientation": ["F", "L"]}, ""),
        ({"PatientOrientation": ""}, ""),
        ({"ViewPosition": "LLD"}, ""),  # who lies on the left side is seen from the front or from behind
        ({"ViewPosition": "RT LAT DECUB"}, ""),
        ({"ViewPosition": "AP"}, ""),
        ({"ViewPosition": "LORDOTIC"}, ""),
        ({"ViewPosition": ""}, ""),
        ({"Modality": "DR"}, ""),
    ],
)
def test_a_view_that_is_not_frontal_is_refused_whichever_element_tells(tmp_path, told, said):
    from covidxr.severity import severity

    path = tmp_path / "a.dcm"
    write_dicom(path, (simulate(3, size=96).pixels * 4095).astype(np.uint16), XrayFacts("a"))
    ds = pydicom.dcmread(path)
    for name, value in told.items():
        setattr(ds, name, value)
    ds.save_as(path)
    xray = read_xray(path)
    assert said in not_frontal_chest(xray.facts) and bool(said) == bool(not_frontal_chest(xray.facts))
    if said:
        with pytest.raises(DataError, match=re.escape(said)):
            severity(xray)
    else:
        assert 0 <= severity(xray).extent <= 8


def test_a_picture_is_shown_over_the_whole_range_of_its_bits_as_the_help_says(tmp_path):
    "The help had promised the middle 99 % for whatever has no window"
    pixels = (300 + np.arange(60 * 60).reshape(60, 60) / 4).astype(np.uint16)  # 11 of 16 bits
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shown = read_xray(tmp_path / "a.png").pixels
    assert shown.min() == pytest.approx(300 / 2047, abs=1e-4) and shown.max() == pytest.approx(1199 / 2047, abs=1e-4)
    middle = read_xray(tmp_path / "a.png", window="percentile").pixels
    assert (middle.min(), middle.max()) == (0, 1)
    assert "of PNG and JPEG, which have none, the whole range of the bits that occur" in inspect.getsource(read_xray)


@pytest.mark.parametrize("nobody", ["UNKNOWN", " n/a ", "Anonymous", "--", "not known"])
def test_a_patient_whom_nobody_knows_stays_nobody_in_the_copy(nobody):
    ds = dataset(chest(), **WINDOW)
    ds.PatientID = nobody
    assert deidentify(ds, "a secret").PatientID == deidentify(ds, "a secret").PatientName == ""
    ds.PatientID = "unknown soldier"
    assert len(deidentify(ds, "a secret").PatientID) == 12


def test_uids_that_say_only_that_they_are_unknown_are_made_from_the_content():
    copies = []
    for rows in (chest(), chest()[::-1]):
        ds = dataset(np.ascontiguousarray(rows), **WINDOW)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds.StudyInstanceUID = ds.SOPInstanceUID = "UNKNOWN"
        copies.append(deidentify(ds, "a secret"))
    assert copies[0].StudyInstanceUID != copies[1].StudyInstanceUID
    assert copies[0].SOPInstanceUID != copies[1].SOPInstanceUID
