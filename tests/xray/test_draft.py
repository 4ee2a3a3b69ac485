"JPEG 2000 decoded no finer than needed: the same place and nearly the same picture, and never where values could change their meaning."

from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from covidxr.base.errors import DataError
from covidxr.dicom import TRANSFER_SYNTAXES, XrayFacts, read_checked, read_xray, write_dicom
from covidxr.phantom import simulate
from covidxr.prepare import fit_square, prepare, read_prepared

FACTS = XrayFacts("image", "study", "series", "patient", bits_stored=12, transfer_syntax=TRANSFER_SYNTAXES["jpeg-2000"])


def _blobs(rows: int, columns: int) -> np.ndarray:
    "A smooth picture without noise, so that only its place can make a difference"
    down, across = np.mgrid[:rows, :columns]
    wave = np.sin(down / rows * 17 + 0.3) * np.cos(across / columns * 13 + 0.7)
    return np.round(2000 + 1900 * wave).astype(int)


def _written(path: Path, rows: int = 600, columns: int = 500, **facts) -> Path:
    write_dicom(path, _blobs(rows, columns) << (facts.get("bits_stored", 12) - 12), replace(FACTS, **facts))
    return path


def _moved(picture: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    "How far a picture is moved down and across, in its pixels: what fits its difference best along the slopes"
    slopes = [slope.ravel() for slope in np.gradient(wanted.astype(float))]
    return tuple(np.linalg.lstsq(np.stack(slopes, 1), (wanted - picture.astype(float)).ravel(), rcond=None)[0])


def _changed(path: Path, change) -> Path:
    ds = pydicom.dcmread(path)
    change(ds)
    ds.save_as(path)
    return path


@pytest.mark.parametrize("rows", [600, 601, 602, 603, 605])
@pytest.mark.parametrize("columns", [496, 497, 499, 505])
def test_a_draft_lies_where_the_exact_picture_does_whatever_the_size(tmp_path, rows, columns):
    path = _written(tmp_path / "x.dcm", rows, columns)
    exact = read_xray(path).pixels
    for shortest, step in ((128, 2), (100, 4), (60, 8)):
        draft = read_checked(path, as_stored=True, shortest=shortest)[0]
        assert draft.pixels.shape == (-(-rows // step), -(-columns // step)), "the sides are halved and rounded up"
        assert (draft.facts.height, draft.facts.width) == (rows, columns)
        wanted, place = fit_square(exact, shortest, "stretch")
        made, same = fit_square(draft.pixels, shortest, "stretch", shape=(rows, columns))
        assert place == same
        assert np.abs(_moved(made, wanted)).max() < 0.02, "a fiftieth of a small pixel"
        assert np.abs(made.astype(int) - wanted).mean() < 1
        for half in (np.s_[: shortest // 4], np.s_[-shortest // 4 :]):  # a wrong ratio would pull the edges apart
            assert np.abs(_moved(made[half, half], wanted[half, half])).max() < 0.05


def test_without_its_correction_a_draft_would_be_moved(tmp_path):
    from io import BytesIO

    from PIL import Image
    from pydicom.encaps import generate_frames

    path = _written(tmp_path / "x.dcm", 600, 496)
    wanted = fit_square(read_xray(path).pixels, 100, "stretch")[0]
    with Image.open(BytesIO(next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)))) as picture:
        picture.reduce = 2
        plain = fit_square(np.asarray(picture) / 16 / 4095, 100, "stretch")[0]
    down, across = _moved(plain, wanted)
    assert down == pytest.approx(1.5 * 100 / 600, abs=0.02) and across == pytest.approx(1.5 * 100 / 496, abs=0.02)


def test_no_side_becomes_shorter_than_asked_for(tmp_path):
    path = _written(tmp_path / "x.dcm")
    sides = [
        min(read_checked(path, as_stored=True, shortest=shortest)[0].pixels.shape)
        for shortest in (501, 500, 251, 250, 126, 125, 1)
    ]
    assert sides[:-1] == [500, 500, 500, 250, 250, 125]
    assert sides[-1] == 16, "a stream of five layers can be halved five times"


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_every_depth_and_both_ways_of_storing(tmp_path, bits, photometric):
    scene = _blobs(600, 500) >> 4 if bits == 8 else _blobs(600, 500) << (bits - 12)
    write_dicom(tmp_path / "x.dcm", scene, replace(FACTS, bits_stored=bits, photometric=photometric))
    wanted = fit_square(read_xray(tmp_path / "x.dcm").pixels, 120)[0].astype(int)
    draft = read_checked(tmp_path / "x.dcm", as_stored=True, shortest=120)[0].pixels
    assert draft.shape == (150, 125)
    assert np.abs(fit_square(draft, 120, shape=(600, 500))[0] - wanted).max() <= 4


@pytest.mark.parametrize("name", [name for name in TRANSFER_SYNTAXES if name != "jpeg-2000"])
def test_other_codings_are_read_whole(tmp_path, name):
    path = _written(tmp_path / "x.dcm", transfer_syntax=TRANSFER_SYNTAXES[name])
    assert np.array_equal(read_checked(path, as_stored=True, shortest=16)[0].pixels, read_xray(path).pixels)


def _signed(ds) -> None:
    ds.PixelRepresentation = 1
    values = (_blobs(600, 500) - 2000).astype(np.int16)
    ds.PixelData = encapsulate(
        [imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", reversible=True, bitspersample=12)]
    )
    ds.WindowCenter, ds.WindowWidth = 0, 4000


def _signed_by_the_header_alone(ds) -> None:
    "Values below 0 as twelve unsigned bits: their averages are those of other numbers"
    _signed(ds)
    values = ((_blobs(600, 500) - 2000) & 0xFFF).astype(np.uint16)
    ds.PixelData = encapsulate(
        [imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", reversible=True, bitspersample=12)]
    )


def _deeper_than_it_says(ds) -> None:
    "Twelve bits in a stream of sixteen: an overlay may be in the four above"
    ds.PixelData = encapsulate(
        [
            imagecodecs.jpeg2k_encode(
                _blobs(600, 500).astype(np.uint16), level=0, codecformat="j2k", reversible=True, bitspersample=16
            )
        ]
    )


def _stores_nonsense(ds) -> None:
    ds.BitsStored = 300


def _padded(ds) -> None:
    ds.add_new("PixelPaddingValue", "US", 4095)


def _in_boxes(ds) -> None:
    "The stream inside a JP2 file"
    ds.PixelData = encapsulate(
        [
            imagecodecs.jpeg2k_encode(
                _blobs(600, 500).astype(np.uint16), level=0, codecformat="jp2", reversible=True, bitspersample=12
            )
        ]
    )


@pytest.mark.parametrize(
    "change", [_signed, _signed_by_the_header_alone, _deeper_than_it_says, _stores_nonsense, _padded, _in_boxes]
)
def test_where_an_average_could_mean_something_else_the_picture_is_read_whole(tmp_path, change):
    path = _changed(_written(tmp_path / "x.dcm"), change)
    whole = read_xray(path).pixels
    assert whole.shape == (600, 500) and whole.std() > 0.1
    assert np.array_equal(read_checked(path, as_stored=True, shortest=16)[0].pixels, whole)


def test_a_decoder_that_cannot_halve_is_replaced_by_one_that_reads_the_whole(tmp_path, monkeypatch):
    from PIL import Jpeg2KImagePlugin

    path = _written(tmp_path / "x.dcm")

    def broken(*_, **__):
        raise OSError("broken data stream when reading image file")

    monkeypatch.setattr(Jpeg2KImagePlugin, "Jpeg2KImageFile", broken)
    assert read_checked(path, as_stored=True, shortest=64)[0].pixels.shape == (600, 500)


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
def test_the_index_of_a_draft_is_that_of_the_exact_cache(tmp_path, fit):
    (tmp_path / "in").mkdir()
    for number, side in enumerate((701, 640)):
        xray = simulate(number, "typical", side)
        facts = replace(FACTS, image_id=f"x{number}", photometric="MONOCHROME1")
        write_dicom(tmp_path / "in" / f"x{number}.dcm", np.round(4095 * xray.pixels).astype(int), facts)
    exact = prepare(tmp_path / "in", tmp_path / "exact", size=128, fit=fit)
    draft = prepare(tmp_path / "in", tmp_path / "draft", size=128, fit=fit, draft=True)
    assert exact.drop(columns=["draft", "bytes", "sha256"]).equals(draft.drop(columns=["draft", "bytes", "sha256"]))
    assert draft["draft"].all() and not exact["draft"].any()
    for row in exact.itertuples():
        one, other = (read_prepared(tmp_path / way / row.file).astype(int) for way in ("exact", "draft"))
        assert 0 < np.abs(one - other).mean() < 1.5


def test_drafts_and_exact_copies_do_not_share_a_cache(tmp_path, covidxr):
    (tmp_path / "in").mkdir()
    _written(tmp_path / "in" / "x.dcm")
    source, out = str(tmp_path / "in"), str(tmp_path / "out")
    assert covidxr("prepare", source, out, "--size", "64", "--draft").returncode == 0
    before = (tmp_path / "out" / "x.png").read_bytes()
    assert covidxr("prepare", source, out, "--size", "64", "--draft").returncode == 0
    refused = covidxr("prepare", source, out, "--size", "64")
    assert refused.returncode == 2 and "made with --draft" in refused.stderr and "another folder" in refused.stderr
    assert (tmp_path / "out" / "x.png").read_bytes() == before
    prepare(source, tmp_path / "exact", size=64)
    before = (tmp_path / "exact" / "x.png").read_bytes()
    with pytest.raises(DataError, match="made without --draft"):
        prepare(source, tmp_path / "exact", size=64, draft=True)
    assert (tmp_path / "exact" / "x.png").read_bytes() == before
