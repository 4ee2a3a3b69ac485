"""Ours beside pydicom's own: where the two differ, it is because the standard says so, and each reason is listed here.

    python tests/differential.py [FOLDER ...]

Files of every coding, depth, sign, photometric interpretation and way of showing are made (and those of FOLDER are taken, too), read by
`read_xray` and by pydicom's `pixel_array`, `apply_modality_lut` and `apply_voi_lut`. Each rule of REASONS changes pydicom's picture as the
section of the standard asks; after the rules that apply to a file, both must be equal. Prints how many files needed which rule; exit
code 1 where a file differs without a reason.
"""

import copy
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
import xrays
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from covidxr.base.errors import CovidxrError
from covidxr.dicom import percentile_window, read_checked
from covidxr.xray.codecs import decode
from covidxr.xray.headers import read_dataset

TOLERANCE = 2e-3  # of brightness: half a grey level of 8 bits


class Reason(NamedTuple):
    "Why our picture is another than pydicom's"

    name: str
    section: str  # of the standard
    said: str  # what it says, in short
    applies: Callable[[Dataset], bool]
    change: Callable  # pydicom's (stored values or brightness, dataset, stored values) as the section asks


def _signed(ds: Dataset) -> bool:
    return ds.PixelRepresentation == 1


def _range(ds: Dataset) -> tuple[int, int]:
    low = -(2 ** (ds.BitsStored - 1)) if _signed(ds) else 0
    return low, low + 2**ds.BitsStored - 1


def _lossy(ds: Dataset) -> bool:
    lossy_jpeg = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 81, 91))
    return ds.file_meta.TransferSyntaxUID in lossy_jpeg


def _above(ds: Dataset) -> bool:
    "Does a lossless coded picture hold bits above the stored ones?"
    return ds.file_meta.TransferSyntaxUID.is_encapsulated and not _lossy(ds) and ds.BitsStored < ds.BitsAllocated


def _masked(values: np.ndarray, ds: Dataset, _) -> np.ndarray:
    spare = 64 - ds.BitsStored
    values = values.astype(np.int64) << spare >> spare
    return values if _signed(ds) else values & (2**ds.BitsStored - 1)


def _shifted(values: np.ndarray, ds: Dataset, _) -> np.ndarray:
    whole = copy.deepcopy(ds)  # all bits of a word, so that no decoder takes any off
    whole.BitsStored, whole.HighBit = ds.BitsAllocated, ds.BitsAllocated - 1
    return _masked(pixel_array(whole).astype(np.int64) >> (ds.HighBit + 1 - ds.BitsStored), ds, None)


def _pad(ds: Dataset) -> tuple[int, int]:
    limits = [ds.PixelPaddingValue, ds.get("PixelPaddingRangeLimit", ds.PixelPaddingValue)]
    limits = [one - 65536 if _signed(ds) and one > 32767 else one for one in limits]
    return min(limits), max(limits)


def _padded(stored: np.ndarray, ds: Dataset) -> np.ndarray:
    if "PixelPaddingValue" not in ds:
        return np.zeros(stored.shape, bool)
    low, high = _pad(ds)
    return (stored >= low) & (stored <= high)


def _has_window(ds: Dataset) -> bool:
    return "WindowCenter" in ds and "WindowWidth" in ds


def _by_percentiles(_, ds: Dataset, stored: np.ndarray) -> np.ndarray:
    return percentile_window(apply_modality_lut(stored, ds), ~_padded(stored, ds))


def _unless_plain(shown: np.ndarray, ds: Dataset, stored: np.ndarray) -> np.ndarray:
    picture = ~_padded(stored, ds)
    plain = np.ptp(shown[picture]) == 0 and np.ptp(stored[picture]) > 0
    return _by_percentiles(shown, ds, stored) if plain else shown


def _filled_bits(ds: Dataset) -> int:
    "How many bits a VOI LUT's entries fill"
    item = ds.VOILUTSequence[0]
    data = np.frombuffer(item.LUTData, "<u2") if isinstance(item.LUTData, bytes) else np.asarray(item.LUTData)
    return int(data.max()).bit_length()


IN_STORED = [  # what changes stored values
    Reason(
        "high bit",
        "PS3.5 8.1.1",
        "HighBit says where the highest bit of a value stands; pydicom takes it for BitsStored - 1",
        lambda ds: ds.HighBit != ds.BitsStored - 1,
        _shifted,
    ),
    Reason(
        "lossy overshoot",
        "PS3.5 8.1.1, 8.2",
        "a value has BitsStored bits; a lossy decoder's goes beyond, and its nearest valid value is the end of the range",
        lambda ds: _lossy(ds) and ds.BitsStored < ds.BitsAllocated,
        lambda values, ds, _: values.astype(np.int64).clip(*_range(ds)),
    ),
    Reason(
        "bits above",
        "PS3.5 8.1.1",
        "bits above the stored ones are no part of the value, also in a coded picture",
        _above,
        _masked,
    ),
]
IN_SHOWN = [  # what changes brightness
    Reason(
        "window beside",
        "none",
        "a window beside all values would show one plain grey; we take the middle 99 % and warn, as viewers do",
        lambda ds: _has_window(ds) and "VOILUTSequence" not in ds,
        _unless_plain,
    ),
    Reason(
        "no window",
        "PS3.3 C.11.2",
        "where a file names no VOI transformation, the application chooses one: the middle 99 % of the values",
        lambda ds: not _has_window(ds) and "VOILUTSequence" not in ds,
        _by_percentiles,
    ),
    Reason(
        "bits of a VOI LUT",
        "PS3.3 C.11.2.1.1",
        "the third value of LUT Descriptor is the number of bits of its entries; where they fill fewer, white is their highest",
        lambda ds: "VOILUTSequence" in ds and _filled_bits(ds) < ds.VOILUTSequence[0].LUTDescriptor[2],
        lambda shown, ds, _: shown * (2.0 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1) / (2.0 ** _filled_bits(ds) - 1),
    ),
    Reason(
        "MONOCHROME1",
        "PS3.3 C.7.6.3.1.2",
        "the lowest value is shown white, after the VOI transformation; apply_voi_lut leaves that to its caller",
        lambda ds: ds.PhotometricInterpretation == "MONOCHROME1",
        lambda shown, ds, _: 1 - shown,
    ),
    Reason(
        "padding",
        "PS3.3 C.7.5.1.1.2",
        "padding is no picture: it does not count for the display, and is shown black",
        lambda ds: "PixelPaddingValue" in ds,
        lambda shown, ds, stored: np.where(_padded(stored, ds), 0, shown),
    ),
]
REASONS = [*IN_STORED, *IN_SHOWN]


def _pydicoms(stored: np.ndarray, ds: Dataset) -> np.ndarray:
    "Brightness by pydicom's own chain: its output, from 0 to 1 over the range that it maps to"
    shown = apply_voi_lut(apply_modality_lut(stored, ds), ds).astype(float)
    if "VOILUTSequence" in ds:
        return shown / (2.0 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1)
    if not _has_window(ds):
        return shown
    ends = np.array(_range(ds), float)
    if "ModalityLUTSequence" in ds:
        ends = np.array([0, 2.0 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1])
    elif "RescaleSlope" in ds:
        ends = ends * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    return (shown - ends[0]) / (ends[1] - ends[0])


def compare(path: Path) -> tuple[list[str], float, float]:
    "The names of the reasons that made a difference; what is left in stored values and in brightness"
    ds, used = pydicom.dcmread(path, force=True), []
    theirs = pixel_array(ds).astype(np.int64)
    for reason in IN_STORED:
        if reason.applies(ds):
            changed = reason.change(theirs, ds, None)
            used += [reason.name] * bool((changed != theirs).any())
            theirs = changed
    ours = decode(read_dataset(path), path).astype(np.int64)
    left = float(np.abs(ours - theirs).max())
    shown = _pydicoms(ours, ds)
    for reason in IN_SHOWN:
        if reason.applies(ds):
            changed = reason.change(shown, ds, ours)
            used += [reason.name] * bool((changed != shown).any())
            shown = changed
    return used, left, float(np.abs(read_checked(path, as_stored=True)[0].pixels - shown.clip(0, 1)).max())


def _table(entries: int, first: int, bits: int, top: int) -> list[Dataset]:
    table = Dataset()
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [entries, first, bits])
    curve = np.round(top * (np.arange(entries) / (entries - 1)) ** 1.5)
    table.add_new("LUTData", "US", curve.astype(int).tolist())
    return [table]


def ways_to_show(bits: int, signed: bool) -> dict[str, dict]:
    "Headers that say how values of so many bits are shown"
    size, low = 2**bits, -(2 ** (bits - 1)) if signed else 0
    middle = {"WindowCenter": low + size // 2, "WindowWidth": size // 2}
    return {
        "a window": middle,
        "two windows": {"WindowCenter": [low + size // 3, 0], "WindowWidth": [size // 2, 9]},
        "an exact window": middle | {"VOILUTFunction": "LINEAR_EXACT"},
        "a sigmoid": middle | {"VOILUTFunction": "SIGMOID"},
        "no window": {},
        "rescale and window": {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": size, "WindowWidth": size},
        "falling rescale": {"RescaleSlope": -1, "RescaleIntercept": 50, "WindowCenter": 0, "WindowWidth": size},
        "a VOI LUT": {"VOILUTSequence": _table(min(size, 4096), low if bits < 16 else 0, 12, 4095)},
        "a VOI LUT that fills 10 of 12 bits": {"VOILUTSequence": _table(min(size, 4096), 0, 12, 1023)},
        "a modality LUT": {
            "WindowCenter": 30000,
            "WindowWidth": 40000,
            "ModalityLUTSequence": _table(min(size, 4096), low if bits < 16 else 0, 16, 65535),
        },
        "a window beside": middle | {"WindowCenter": low - size},
        "padding": middle | {"PixelPaddingValue": 0},
    }


def combinations() -> Iterator[tuple[str, int, bool]]:
    "Codings with the depths and signs that they can hold, and that pydicom can decode"
    for coding in xrays.CODINGS:
        for bits in (8, 10, 12, 16):
            if coding == "jpeg-12" or (coding == "jpeg-8" and bits > 8):
                continue  # of JPEG with 12 bits, pydicom's decoders here know nothing
            yield coding, bits, False
            if coding not in ("jpeg-8", "near-jpeg-ls"):  # a lossy coding that knows no sign tears values apart at 0
                yield coding, bits, True


def made(folder: Path, every: bool) -> Iterator[tuple[str, Path]]:
    "Undamaged files: of each coding with each way to show (`every`), or each coding with a few"
    number = 0
    for coding, bits, signed in combinations():
        for way, header in ways_to_show(bits, signed).items():
            number += 1
            if not every and coding != "explicit" and number % 7:
                continue
            photometric = f"MONOCHROME{1 + number % 2}"
            words = xrays.chest(bits) - signed * 2 ** (bits - 1)
            form = {"signed": signed, "coding": coding, "photometric": photometric}
            if coding == "jpeg-8":
                form["allocated"] = 8
            if coding in xrays.LOSSY:
                form["precision"] = max(bits, 12)
            path = xrays.save(xrays.dataset(words, bits, **form, **header), folder / f"{number}.dcm")
            yield f"{coding}, {bits} bits, {'signed' if signed else 'unsigned'}, {photometric}, {way}", path
    for coding in xrays.LOSSLESS:
        ds = xrays.dataset(xrays.chest() << 4, high=15, coding=coding, **xrays.WINDOW)
        yield f"{coding}, 12 bits, HighBit 15", xrays.save(ds, folder / f"high-{coding}.dcm")
        ds = xrays.dataset(xrays.chest() | 1 << 13, coding=coding, **xrays.WINDOW)
        yield f"{coding}, 12 bits, an overlay above", xrays.save(ds, folder / f"above-{coding}.dcm")


def given(folders: list[Path]) -> Iterator[tuple[str, Path]]:
    "Files of folders that both of us read as one grey picture"
    for path in sorted(one for folder in folders for one in folder.rglob("*") if one.is_file()):
        try:
            read_checked(path)
            ds = pydicom.dcmread(path, force=True)
            pixel_array(ds)
            apply_voi_lut(apply_modality_lut(np.arange(9), ds), ds)
        except (CovidxrError, Exception):  # damaged, in colour, not for pydicom: no undamaged file for both
            continue
        if "PixelData" in ds and ds.get("HighBit") is not None:
            yield path.name, path


def check(files: Iterator[tuple[str, Path]]) -> tuple[Counter, list[str]]:
    "How many files needed which reason, and what differs without one"
    needed, strange = Counter(), []
    for name, path in files:
        used, left, shown = compare(path)
        needed.update(["all files", *(used or ["no difference"])])
        one = _lossy(pydicom.dcmread(path, force=True))  # two lossy decoders may differ by a grey level (ITU-T T.83)
        if left > one or shown > TOLERANCE:
            strange.append(f"{name}: stored values differ by {left:g}, brightness by {shown:.4f}; reasons {used}")
    return needed, strange


def main() -> int:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        simulated, strange = check(made(Path(folder), every=True))
    real, others = check(given([Path(one) for one in sys.argv[1:]]))
    print(f"{'made':>6} {'given':>6}  what makes pydicom's picture ours")
    for name in ("all files", "no difference", *(reason.name for reason in REASONS)):
        reason = next((one for one in REASONS if one.name == name), None)
        print(f"{simulated[name]:>6} {real[name]:>6}  {name}{f': {reason.section}, {reason.said}' if reason else ''}")
    for one in [*strange, *others]:
        print(f"without a reason: {one}")
    return 1 if strange or others else 0


if __name__ == "__main__":
    sys.exit(main())
