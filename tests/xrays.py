"Small DICOM files of every kind that practice brings, made here; shared by the tests, `fuzz.py` and `differential.py`."

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, itemize_fragment

CODINGS = {  # the transfer syntax of each
    "explicit": "1.2.840.10008.1.2.1",
    "implicit": "1.2.840.10008.1.2",
    "big-endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg-lossless": "1.2.840.10008.1.2.4.70",
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg-2000": "1.2.840.10008.1.2.4.90",
    "ht-jpeg-2000": "1.2.840.10008.1.2.4.201",
    "jpeg-8": "1.2.840.10008.1.2.4.50",
    "jpeg-12": "1.2.840.10008.1.2.4.51",
    "near-jpeg-ls": "1.2.840.10008.1.2.4.81",
    "lossy-jpeg-2000": "1.2.840.10008.1.2.4.91",
}
NATIVE = ("explicit", "implicit", "big-endian", "deflated")
LOSSLESS = (*NATIVE, "rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000", "ht-jpeg-2000")
LOSSY = ("jpeg-12", "near-jpeg-ls", "lossy-jpeg-2000")
COMPRESSED = (*LOSSLESS[len(NATIVE) :], *LOSSY)  # of 12 bits and more


def chest(bits: int = 12, rows: int = 72, columns: int = 60) -> np.ndarray:
    "Two dark lungs on a bright body with a little texture, and a marker of lead: white beside black"
    down, across = np.mgrid[:rows, :columns] / np.array([rows, columns]).reshape(2, 1, 1)
    lungs = sum(np.exp(-(((across - middle) / 0.15) ** 2) - ((down - 0.5) / 0.3) ** 2) for middle in (0.28, 0.72))
    body = 0.85 + 0.15 * down + 0.02 * np.sin(40 * down) - 0.75 * lungs
    values = np.round(body.clip(0, 1) * (2**bits - 1)).astype(np.int64)
    values[4:20, 40:56] = 0
    values[8:16, 44:52] = 2**bits - 1
    return values


def stored_so(pixels: np.ndarray, orientation: str) -> np.ndarray:
    "The stored pixels of an upright X-ray whose file's rows and columns run otherwise, written out case by case"
    return {
        "L\\F": pixels,
        "R\\F": np.fliplr(pixels),
        "R\\H": np.rot90(pixels, 2),
        "L\\H": np.flipud(pixels),
        "F\\L": pixels.T,
        "F\\R": np.rot90(pixels, 1),
        "H\\R": np.rot90(pixels.T, 2),
        "H\\L": np.rot90(pixels, -1),
    }[orientation]


def _compressed(words: np.ndarray, coding: str, precision: int) -> bytes:
    "One frame; the words are coded as they are, with the bits that do not count"
    if coding == "rle":
        return _run_lengths(words)
    unsigned = words.view(f"u{words.dtype.itemsize}") & (2**precision - 1)
    if coding == "jpeg-lossless":
        return imagecodecs.jpeg8_encode(unsigned, lossless=True, predictor=1, bitspersample=precision)
    if coding == "jpeg-8":
        return imagecodecs.jpeg8_encode(unsigned.astype(np.uint8), level=90)
    if coding == "jpeg-12":
        return imagecodecs.jpeg8_encode(unsigned.astype(np.uint16), level=60, bitspersample=12)
    if coding in ("jpeg-ls", "near-jpeg-ls"):
        return imagecodecs.jpegls_encode(unsigned, level=0 if coding == "jpeg-ls" else 3)
    if coding == "ht-jpeg-2000":
        return imagecodecs.htj2k_encode(words)
    lossy = coding == "lossy-jpeg-2000"
    options = {"level": 40 if lossy else 0, "reversible": not lossy, "bitspersample": precision}
    return imagecodecs.jpeg2k_encode(words, codecformat="j2k", **options)


def _run_lengths(words: np.ndarray) -> bytes:
    "RLE without a run (PS3.5 annex G): a segment for each byte of a value, the highest first"
    planes = words.astype(f">{words.dtype.str[1:]}").view("u1").reshape(-1, words.dtype.itemsize).T
    segments = []
    for plane in planes:
        raw = plane.tobytes()
        parts = [raw[first : first + 128] for first in range(0, len(raw), 128)]
        segment = b"".join(bytes([len(part) - 1]) + part for part in parts)
        segments.append(segment + b"\x80" * (len(segment) % 2))
    starts = np.cumsum([64, *map(len, segments)])[:-1].tolist()
    head = [len(segments), *starts, *[0] * (15 - len(starts))]
    return np.array(head, "<u4").tobytes() + b"".join(segments)


def in_fragments(frame: bytes, pieces: int) -> bytes:
    "One frame in several fragments, with an entry of the offset table for each, as some archives write it"
    size = -(-len(frame) // pieces // 2) * 2
    parts = [frame[first : first + size] for first in range(0, len(frame), size)]
    items = [itemize_fragment(part + b"\0" * (len(part) % 2)) for part in parts]
    offsets = np.cumsum([0, *map(len, items)])[:-1].astype("<u4").tobytes()
    table = b"\xfe\xff\x00\xe0" + len(offsets).to_bytes(4, "little") + offsets
    return table + b"".join(items)


def dataset(
    words: np.ndarray,  # as they stand in memory, bits that do not count among them
    bits: int = 12,
    allocated: int = 16,
    signed: bool = False,
    photometric: str = "MONOCHROME2",
    coding: str = "explicit",
    high: int | None = None,  # HighBit, where it is not the usual one
    precision: int | None = None,  # of the coded stream
    pieces: int = 1,  # fragments
    **header: Any,  # more of it; None takes an element out
) -> Dataset:
    "A CR of these values"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = CODINGS[coding]
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "2.25.77"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID, ds.Modality = "2.25.78", "2.25.79", "P7", "CR"
    ds.Rows, ds.Columns = words.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.BitsAllocated, ds.BitsStored, ds.PixelRepresentation = allocated, bits, int(signed)
    ds.HighBit = bits - 1 if high is None else high
    kind = f"{'i' if signed else 'u'}{allocated // 8}"
    words = words.astype(np.int64).astype(f"u{allocated // 8}").view(kind)
    if coding in NATIVE:
        ds.PixelData = words.astype(f"{'>' if coding == 'big-endian' else '<'}{kind}").tobytes()
        ds["PixelData"].VR = "OW"
    else:
        frame = _compressed(words, coding, precision or (12 if coding in LOSSY else allocated))
        ds.PixelData = in_fragments(frame, pieces) if pieces > 1 else encapsulate([frame])
        ds["PixelData"].is_undefined_length = True
    for name, value in header.items():
        if value is None:
            del ds[name]
        else:
            setattr(ds, name, value)
    return ds


def save(ds: Dataset, path: Path) -> Path:
    "Write it in its own transfer syntax"
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def with_raw(path: Path, keyword: str, value: bytes, vr: str | None = None) -> Path:
    "The file with these bytes as a value, valid or not; pydicom itself would refuse some"
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    ds = pydicom.dcmread(path)
    tag = pydicom.tag.Tag(tag_for_keyword(keyword))
    value += b" " * (len(value) % 2)
    implicit = ds.file_meta.TransferSyntaxUID == CODINGS["implicit"]
    kind = vr or dictionary_VR(tag)
    ds[tag] = pydicom.dataelem.RawDataElement(tag, kind, len(value), value, 0, implicit, True)
    return save(ds, path)


def with_character_set(path: Path, value: bytes) -> Path:
    "The file, which must have none, with these bytes as SpecificCharacterSet; pydicom can write no such thing"
    raw, value = path.read_bytes(), value + b" " * (len(value) % 2)
    ds = pydicom.dcmread(path)
    start = 144 + ds.file_meta.FileMetaInformationGroupLength
    kind = b"" if ds.file_meta.TransferSyntaxUID == CODINGS["implicit"] else b"CS"
    length = len(value).to_bytes(2 if kind else 4, "little")
    path.write_bytes(raw[:start] + b"\x08\0\x05\0" + kind + length + value + raw[start:])
    return path


def _voi_lut(first: int = 0) -> list[Dataset]:
    table = Dataset()
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [4096, first, 12])
    table.add_new("LUTData", "OW", np.arange(4095, -1, -1).astype("<u2").tobytes())
    return [table]


def _padded(value: int = -2000) -> np.ndarray:
    words = chest() - 2048
    words[:, :8] = value
    return words


WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
KINDS: dict[str, Callable[[Path], Path]] = {  # one function a kind, from where to what was written there
    f"overshoot {coding} {photometric}": lambda path, coding=coding, photometric=photometric: save(
        dataset(chest(10), 10, coding=coding, photometric=photometric, WindowCenter=512, WindowWidth=1024), path
    )
    for coding in LOSSY
    for photometric in ("MONOCHROME1", "MONOCHROME2")
}
KINDS |= {
    f"high bit {coding}": lambda path, coding=coding: save(
        dataset(chest() << 4, high=15, coding=coding, **WINDOW), path
    )
    for coding in LOSSLESS
}
KINDS |= {
    f"fragments {coding}": lambda path, coding=coding: save(dataset(chest(), coding=coding, pieces=5, **WINDOW), path)
    for coding in COMPRESSED
}
KINDS |= {
    f"padding {photometric}": lambda path, photometric=photometric: with_raw(
        save(dataset(_padded(), 16, signed=True, photometric=photometric), path),
        "PixelPaddingValue",
        (63536).to_bytes(2, "little"),
        "US",
    )
    for photometric in ("MONOCHROME1", "MONOCHROME2")
}
KINDS |= {
    "window beside": lambda path: save(dataset(chest() + 6000, 16, WindowCenter=3174, WindowWidth=2426), path),
    "VOI LUT": lambda path: save(dataset(chest(), VOILUTSequence=_voi_lut()), path),
    "VOI LUT below 0": lambda path: save(
        dataset(chest(), RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=_voi_lut(-1024)), path
    ),
    "decimal comma": lambda path: with_raw(save(dataset(chest(), **WINDOW), path), "WindowCenter", b"2047,5"),
    "second value empty": lambda path: with_raw(save(dataset(chest(), **WINDOW), path), "WindowCenter", b"2048\\"),
    "HighBit empty": lambda path: with_raw(save(dataset(chest(), **WINDOW), path), "HighBit", b""),
    "BitsStored empty": lambda path: with_raw(save(dataset(chest(), **WINDOW), path), "BitsStored", b""),
    "sign empty": lambda path: with_raw(save(dataset(chest(), **WINDOW), path), "PixelRepresentation", b""),
    "character set": lambda path: with_character_set(
        save(dataset(chest(), PatientName="Doe^Jane", **WINDOW), path), b"\t\0\x0c\0\r\0\x0b\0"
    ),
    "32 bits": lambda path: save(dataset(chest(), allocated=32, **WINDOW), path),
}
