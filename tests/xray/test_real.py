"Real X-rays and label tables, where they lie beside the checkout; skipped with a reason elsewhere."

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from measure import TESTS, in_time

from covidxr.base.errors import CovidxrError
from covidxr.dicom import read_xray


def test_the_competitions_tables_give_the_known_numbers(covidxr, real):
    answer = covidxr("eda", real / "siim_tables", "--json")
    numbers = json.loads(answer.stdout)
    assert numbers["studies"] == 6054
    assert list(numbers["classes"].values()) == [1676, 2855, 1049, 474]
    assert (numbers["images"], numbers["boxes"], numbers["none"]) == (6334, 7853, 2040)
    assert numbers["non_negative_without_box"] == 304
    assert (numbers["patients"], numbers["patients_with_several_studies"]) == (3261, 1200)
    assert any("negative coordinate" in warning for warning in numbers["warnings"])


def test_the_real_truth_scores_one_against_itself(covidxr, real, tmp_path):
    import pandas as pd

    studies = pd.read_csv(real / "siim_tables" / "train_study_level.csv").set_index("id")
    words = {
        "Negative for Pneumonia": "negative",
        "Typical Appearance": "typical",
        "Indeterminate Appearance": "indeterminate",
        "Atypical Appearance": "atypical",
    }
    strings = studies.idxmax(axis=1).map(words) + " 1 0 0 1 1"
    images = pd.read_csv(real / "siim_tables" / "train_image_level.csv").set_index("id")["label"]
    pd.concat([strings, images]).rename("PredictionString").rename_axis("id").to_csv(tmp_path / "truth.csv")
    for truth in (
        [real / "siim_tables"],
        [real / "siim_tables" / "train_image_level.csv", real / "siim_tables" / "train_study_level.csv"],
        [tmp_path / "truth.csv"],
    ):
        answer = covidxr("score", *truth, tmp_path / "truth.csv", "--json")
        assert answer.returncode == 0, answer.stderr
        classes = ("negative", "typical", "indeterminate", "atypical", "none", "opacity")
        assert json.loads(answer.stdout) == {"map": 1.0, "per_class": dict.fromkeys(classes, 1.0)}


LEAST = {  # share of the files that are images: of "odd", many are none, or hold colours or several frames
    "chest": 0.9,
    "radiograph_all_syntaxes": 0.9,
    "luts": 0.9,
    "odd": 0.3,
    "ct_same_image_all_syntaxes": 0.9,
}


@pytest.mark.parametrize("place", LEAST)
def test_every_real_dicom_gives_an_image_or_one_clear_error(real, place):
    files, images = sorted((real / "dicom" / place).iterdir()), 0
    for path in files:
        try:
            pixels = read_xray(path).pixels
        except CovidxrError as error:
            assert path.name in str(error)
        else:
            assert pixels.ndim == 2 and 0 <= pixels.min() <= pixels.max() <= 1
            images += 1
    assert images > len(files) * LEAST[place], f"only {images} of {len(files)}"


def test_pixels_are_those_of_pydicom_with_plug_ins(real):
    "By the manifest's SHA-256; lossy JPEG may differ by a grey level from decoder to decoder (ITU-T T.83), so its statistics count"
    import csv
    import hashlib
    import time

    from covidxr.xray.codecs import decode
    from covidxr.xray.headers import read_dataset

    files = {path.name: path for path in (real / "dicom").rglob("*") if path.is_file()}
    compared = lossy = 0
    for row in csv.DictReader(open(real / "dicom" / "manifest.csv", encoding="utf-8")):
        path = files[row["file"].split("/")[-1]]
        grey = row["SamplesPerPixel"] == "1.0" and (row["NumberOfFrames"] or "1.0") == "1.0"
        if row["pydicom_decodes"] != "True" or not grey:
            continue
        started = time.monotonic()
        read_xray(path)
        stored = decode(read_dataset(path), path)
        assert in_time(time.monotonic() - started, 5), path
        if row["transfer_syntax"].endswith((".4.50", ".4.51")):
            known = [float(row[name]) for name in ("pmin", "pmax", "pmean")]
            assert abs(stored.min() - known[0]) <= 1 and abs(stored.max() - known[1]) <= 1
            assert abs(stored.mean() - known[2]) < 0.05, path
            lossy += 1
        else:
            hashes = {
                hashlib.sha256(stored.astype(kind).tobytes()).hexdigest()[:16] for kind in (stored.dtype, row["dtype"])
            }
            assert row["pixel_sha256"] in hashes, path
            compared += 1
    assert compared >= 25 and lossy == 4


READ_ALL = f"""
import sys, warnings
from pathlib import Path
sys.path.append({TESTS!r})
from measure import own_peak
from covidxr.base.errors import CovidxrError
from covidxr.dicom import read_xray
warnings.simplefilter("ignore")
read = 0
for path in sorted(Path(sys.argv[1]).rglob("*")):
    if path.is_file():
        try:
            read_xray(path)
            read += 1
        except CovidxrError:
            pass
print(own_peak(), read)
"""


def test_reading_all_of_them_takes_little_memory(real):
    answer = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(real / "dicom")], capture_output=True, text=True, check=True, timeout=600
    )
    megabytes, read = map(float, answer.stdout.split())
    assert megabytes < 2000 and read >= 25


@pytest.fixture
def cases(real):
    folder = real.parent / "cases"
    if not (folder / "mk.py").is_file():
        pytest.skip("no folder of odd files beside the real ones")
    return folder


def _scene(cases) -> np.ndarray:
    "The picture that most of the odd files show"
    import importlib.util

    place = importlib.util.spec_from_file_location("mk", cases / "mk.py")
    maker = importlib.util.module_from_spec(place)
    place.loader.exec_module(maker)
    return maker.chest()


@pytest.mark.parametrize("name", ["hb15_rle", "hb15_jpegll", "bot_perfrag", "rle_frag_bot", "highbit_empty", "cs_bad0"])
def test_odd_files_of_twelve_bits_hold_the_values_that_were_meant(cases, name):
    from covidxr.dicom import read_checked
    from covidxr.xray.codecs import decode
    from covidxr.xray.headers import read_dataset

    path = cases / f"{name}.dcm"
    assert np.array_equal(decode(read_dataset(path), path), _scene(cases))
    assert np.allclose(read_checked(path)[0].pixels, _scene(cases) / 4095, atol=1e-3)


@pytest.mark.parametrize(("name", "center"), [("wc_deccomma", 2047.5), ("wc_multi_bad", 2048)])
def test_odd_files_keep_the_usable_window(cases, name, center):
    from covidxr.dicom import apply_window, read_checked

    assert np.allclose(
        read_checked(cases / f"{name}.dcm")[0].pixels, apply_window(_scene(cases), center, 4096), atol=1e-5
    )


@pytest.mark.parametrize("name", ["jpeg12_hdr10", "dcm4che504"])
def test_odd_files_that_overshoot_have_no_black_in_their_white(cases, name):
    from imagecodecs import jpeg8_decode
    from pydicom.encaps import generate_frames

    from covidxr.xray.codecs import decode
    from covidxr.xray.headers import read_dataset

    path = cases / f"{name}.dcm"
    ds = read_dataset(path)
    coded = jpeg8_decode(next(generate_frames(ds.PixelData, number_of_frames=1)))  # as the stream has it
    assert coded.max() > 1023, "the case shows an overshoot"
    np.testing.assert_array_equal(decode(ds, path), np.minimum(coded, 1023))


@pytest.mark.parametrize("name", ["pad_us_signed", "pad_us_signed_m1"])
def test_odd_files_with_padding_have_a_black_border(cases, name):
    from covidxr.dicom import read_checked
    from covidxr.xray.codecs import decode
    from covidxr.xray.headers import read_dataset

    path = cases / f"{name}.dcm"
    padding = decode(read_dataset(path), path) == -2000
    pixels = read_checked(path)[0].pixels
    assert padding.any() and (pixels[padding] == 0).all() and np.ptp(pixels[~padding]) == 1


def test_the_odd_file_with_a_window_beside_its_values_is_shown_and_said(cases):
    with pytest.warns(UserWarning, match="beside all values"):
        pixels = read_xray(cases / "flat_white.dcm").pixels
    assert np.ptp(pixels) == 1 and 0.2 < pixels.mean() < 0.8


def test_real_files_differ_from_pydicoms_picture_for_listed_reasons_only(real):
    import differential

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        needed, strange = differential.check(differential.given([real / "dicom"]))
    assert needed["all files"] >= 25 and not strange


def test_four_codings_of_one_radiograph_look_the_same(real):
    pictures = [read_xray(path).pixels for path in sorted((real / "dicom" / "radiograph_all_syntaxes").iterdir())]
    assert len(pictures) == 4
    assert all((picture == pictures[0]).all() for picture in pictures)
