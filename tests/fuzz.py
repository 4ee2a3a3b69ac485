"""Damaged X-ray files by chance: nothing but an image or an XrayError may come of them.

    python tests/fuzz.py [--count 20000] [--seed 0]

Small files (DICOM in all codings, CR and DX, 8 to 16 bits, with and without window, LUT and file meta, and every kind of `xrays.py`:
overshoot, values in high bits, frames in fragments, padding, odd header values and character sets; PNG, JPEG; where real files lie
beside the checkout, odd ones of a folder `cases` next to them) are mutated: bytes flipped, the file cut, a part repeated, an element
dropped, a size blown up, a value replaced by nonsense. Prints what came of it, with the slowest file and the memory; exit code 1 and
a traceback where anything else was raised.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import xrays
from measure import own_peak

from covidxr.base.errors import XrayError
from covidxr.base.extras import opencv
from covidxr.dicom import (
    TRANSFER_SYNTAXES,
    XrayFacts,
    deidentify,
    identifying_elements,
    read_checked,
    read_facts,
    read_xray,
    write_dicom,
)

warnings.simplefilter("ignore")


def seeds(folder: Path) -> list[bytes]:
    "Small files, each of another kind"
    import imagecodecs
    import pydicom
    from pydicom.encaps import encapsulate

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:72, :60]
    scene = (
        (2000 + 1500 * np.sin(rows / 9) * np.cos(columns / 7) + rng.normal(0, 20, rows.shape)).clip(0, 4095).astype(int)
    )
    facts = XrayFacts("image", "study", "series", "patient", view="PA", sex="F", age=50, pixel_spacing=0.2)
    files = []
    for number, syntax in enumerate(TRANSFER_SYNTAXES.values()):
        kind = replace(facts, transfer_syntax=syntax, modality=("CR", "DX")[number % 2])
        kind = replace(
            kind, photometric=("MONOCHROME1", "MONOCHROME2")[number // 2 % 2], bits_stored=12 + 4 * (number % 2)
        )
        write_dicom(folder / "seed.dcm", scene << (kind.bits_stored - 12), kind)
        files.append((folder / "seed.dcm").read_bytes())
    write_dicom(folder / "seed.dcm", scene, facts)

    def variant(change) -> bytes:
        ds = pydicom.dcmread(folder / "seed.dcm")
        change(ds)
        target = io.BytesIO()
        ds.save_as(target, enforce_file_format="TransferSyntaxUID" in ds.file_meta)
        return target.getvalue()

    def baseline(ds) -> None:
        ds.BitsAllocated = ds.BitsStored = 8
        ds.WindowCenter, ds.WindowWidth = 128, 256
        ds.HighBit, ds.PixelData = 7, encapsulate([imagecodecs.jpeg8_encode((scene >> 4).astype(np.uint8), level=90)])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"

    def lut(ds) -> None:
        table = pydicom.Dataset()
        table.LUTDescriptor = [4096, 0, 12]
        table.LUTData = np.arange(4095, -1, -1, dtype="<u2").tobytes()
        ds.VOILUTSequence = [table]

    def no_window(ds) -> None:
        del ds.WindowCenter, ds.WindowWidth
        ds.PatientAge = "006M"
        ds.add_new("PixelPaddingValue", "US", 0)

    def deflated(ds) -> None:
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"

    files += [variant(change) for change in (baseline, lut, no_window, deflated)]
    files.append(files[0][132:])  # without preamble
    cv2 = opencv()
    for name, picture in (
        ("png", (scene * 16).astype(np.uint16)),
        ("png", (scene >> 4).astype(np.uint8)),
        ("jpg", (scene >> 4).astype(np.uint8)),
    ):
        files.append(cv2.imencode(f".{name}", picture)[1].tobytes())
    files += [make(folder / "seed.dcm").read_bytes() for make in xrays.KINDS.values()]
    return files + [path.read_bytes() for path in sorted(_cases().glob("*.dcm"))]


def _cases() -> Path:
    "Odd files beside the real ones, where there are any"
    real = os.environ.get("COVIDXR_REAL", Path(__file__).parents[2] / "shared" / "real")
    return Path(real).parent / "cases"


def look_through(path: Path) -> None:
    "What else is done with a DICOM file that pydicom reads; raises nothing but XrayError"
    import pydicom

    try:
        ds = pydicom.dcmread(path, force=True)
    except Exception:  # not ours to read
        return
    for work in (identifying_elements, lambda header: deidentify(header, "key")):
        try:
            work(ds)
        except XrayError as error:
            assert "\n" not in str(error), error


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    "One or several kinds of damage"
    raw = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        kind = rng.choice(["flip", "header", "cut", "repeat", "large", "element", "value"])
        place = int(rng.integers(0, max(len(raw), 1)))
        if kind == "flip":
            for one in rng.integers(0, max(len(raw), 1), rng.integers(1, 30)):
                raw[one : one + 1] = bytes([rng.integers(256)])
        elif kind == "header":  # most decisions fall in the first kilobyte
            for one in rng.integers(0, max(min(len(raw), 1200), 1), rng.integers(1, 12)):
                raw[one : one + 1] = bytes([rng.integers(256)])
        elif kind == "cut":
            raw = raw[:place]
        elif kind == "repeat":
            raw[place:place] = raw[place : place + int(rng.integers(1, 400))]
        elif kind == "large":  # lengths and sizes
            raw[place : place + 4] = bytes(rng.choice([0, 127, 255], 4).astype(np.uint8))
        else:
            raw = bytearray(_changed(bytes(raw), rng, drop=kind == "element"))
    return bytes(raw)


def _changed(data: bytes, rng: np.random.Generator, drop: bool) -> bytes:
    "An element dropped, or its value replaced by one that is too large or makes no sense"
    import pydicom

    try:
        ds = pydicom.dcmread(io.BytesIO(data), force=True)
        names = [element.keyword for element in [*ds, *ds.file_meta] if element.keyword]
        name = str(rng.choice(names))
        if drop:
            (ds.file_meta if name in ds.file_meta else ds).__delattr__(name)
        elif name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelRepresentation"):
            setattr(ds, name, int(rng.choice([0, 1, 7, 33, 4413, 65535])))
        else:
            setattr(
                ds,
                name,
                rng.choice(["", "-1", "0", "1e9", "nan", "abc", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"]),
            )
        target = io.BytesIO()
        ds.save_as(target)
        return target.getvalue()
    except Exception:  # some nonsense cannot even be written
        return data


def _shown(number: int, seed: int) -> int:
    "What was raised, and by which mutant"
    print(f"mutant {number} of seed {seed}:", file=sys.stderr)
    traceback.print_exc()
    return 1


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    told = {"images": 0, "errors": 0, "slowest_s": 0.0}
    with tempfile.TemporaryDirectory() as name:
        files, path = seeds(Path(name)), Path(name) / "mutant"
        for file in files:
            path.write_bytes(file)
            assert read_xray(path).pixels.max() > 0.5
        told["seeds"] = len(files)
        for number in range(options.count):
            rng = np.random.default_rng([options.seed, number])
            path.write_bytes(mutate(files[number % len(files)], rng))
            started = time.monotonic()
            try:
                draft = number // len(files) % 2 == 1  # every other time as `covidxr prepare --draft` reads
                pixels = (read_checked(path, as_stored=True, shortest=16)[0] if draft else read_xray(path)).pixels
                assert pixels.dtype == np.float32 and pixels.ndim == 2 and np.isfinite(pixels).all()
                assert pixels.min() >= 0 and pixels.max() <= 1
                told["images"] += 1
            except XrayError as error:
                assert str(path) in str(error) and "\n" not in str(error), error
                told["errors"] += 1
            except BaseException:
                return _shown(number, options.seed)
            try:
                try:
                    read_facts(path)
                except XrayError:
                    pass
                if number % 5 == 0:
                    look_through(path)
            except BaseException:
                return _shown(number, options.seed)
            told["slowest_s"] = max(told["slowest_s"], round(time.monotonic() - started, 2))
    told["memory_mb"] = round(own_peak())
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
