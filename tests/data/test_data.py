"Simulated data, reading, preparing and exploring it: the contracts between these rooms."

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from covidxr.base.errors import DataError, XrayError
from covidxr.base.terms import BOX_COLUMNS
from covidxr.dataset import open_dataset, problems
from covidxr.dicom import TRANSFER_SYNTAXES, read_xray
from covidxr.folds import patient_folds, rounds
from covidxr.hospital import simulate_dataset
from covidxr.phantom import SimulatedXray, simulate
from covidxr.prepare import prepare


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_workers(tmp_path, hashes):
    for name, workers in (("one", 1), ("two", 2)):
        simulate_dataset(tmp_path / name, studies=16, seed=7, size=96, workers=workers)
    simulate_dataset(tmp_path / "other", studies=16, seed=8, size=96)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert not set(hashes(tmp_path / "one")) & {name for name in hashes(tmp_path / "other") if name.endswith(".dcm")}


def test_a_simulated_dataset_has_the_competitions_variety(tmp_path):
    simulate_dataset(tmp_path / "data", studies=150, seed=2, size=64)
    dataset = open_dataset(tmp_path / "data")
    assert dataset.simulated and problems(dataset) == []
    headers = [
        pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((tmp_path / "data").glob("*/*/*/*.dcm"))
    ]
    assert {header.Modality for header in headers} == {"CR", "DX"}
    assert {header.PhotometricInterpretation for header in headers} == {"MONOCHROME1", "MONOCHROME2"}
    assert {header.BitsStored for header in headers} >= {12, 16}
    assert len({header.file_meta.TransferSyntaxUID for header in headers}) >= 3
    images = dataset.images
    assert (images.groupby("patient_id")["study_id"].nunique() > 1).any()
    assert (images.groupby("study_id").size() > 1).any()
    assert images.groupby("patient_id")["split"].nunique().max() == 1
    boxed = images[images["image_id"].isin(dataset.boxes["image_id"])]
    assert boxed.groupby("study_id").size().max() == 1
    assert "negative" not in set(boxed["study_id"].map(dataset.labels()))
    shares = dataset.labels().value_counts(normalize=True)
    assert (shares[["negative", "typical"]] > 0.2).all()


def test_the_test_half_hides_its_truth_and_keeps_it_in_one_place(phantom):
    dataset = open_dataset(phantom)
    hidden = dataset.images.loc[dataset.images["split"] == "test", "image_id"]
    assert len(hidden) and not set(hidden) & set(dataset.boxes["image_id"])
    truth = pd.read_csv(phantom / "truth" / "test_image_level.csv")
    assert set(truth["id"]) == {f"{image_id}_image" for image_id in hidden}
    for path in phantom.glob("test/*/*/*.dcm"):
        text = str(pydicom.dcmread(path, stop_before_pixels=True)).lower()
        assert not any(word in text for word in ("negative", "typical", "opacity"))


def _again(row: pd.Series, shape: tuple[int, int]) -> SimulatedXray:
    "The X-ray that a row of the truth tells of, simulated once more"
    return simulate(int(row["seed"]), row["appearance"], max(shape), int(row["patient"]), disease=int(row["disease"]))


@pytest.fixture(scope="module")
def truth(phantom) -> pd.DataFrame:
    return pd.read_csv(phantom / "truth" / "severity.csv", dtype={"image_id": str}).set_index("image_id")


def test_pixels_on_disk_are_the_simulated_ones_in_every_coding(phantom, truth):
    seen, syntaxes = set(), {str(uid) for uid in TRANSFER_SYNTAXES.values()}
    for path in sorted(phantom.glob("*/*/*/*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        kind = (str(header.file_meta.TransferSyntaxUID), header.PhotometricInterpretation)
        if kind in seen:
            continue
        seen.add(kind)
        pixels = read_xray(path).pixels
        wanted = _again(truth.loc[path.stem], pixels.shape).pixels
        assert pixels.dtype == np.float32 and pixels.shape == wanted.shape
        assert np.abs(pixels - wanted).max() < 1 / 2**12, kind
    assert {syntax for syntax, _ in seen} == syntaxes and {way for _, way in seen} == {"MONOCHROME1", "MONOCHROME2"}


def test_boxes_hold_what_the_truth_says(phantom, truth):
    dataset, held, negatives = open_dataset(phantom), 0, 0
    sizes = dataset.images.set_index("image_id")[["height", "width"]]
    for image_id, row in truth[truth["split"] == "train"].iterrows():
        boxes = dataset.boxes.loc[dataset.boxes["image_id"] == image_id, BOX_COLUMNS].to_numpy()
        if row["appearance"] == "negative":
            negatives += 1
            assert len(boxes) == 0 or row["finding"] == "none"
            continue
        if (
            len(boxes) == 0
        ):  # another image of the study is boxed, or the reader called it negative, or there is nothing to box
            continue
        xray = _again(row, tuple(sizes.loc[image_id].astype(int)))
        masks = [mask for mask in xray.opacities if mask.sum() >= 12]
        assert len(boxes) == len(masks)
        for mask, (x_min, y_min, x_max, y_max) in zip(masks, boxes, strict=True):
            inside = mask[round(y_min) : round(y_max), round(x_min) : round(x_max)].sum()
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            tight = (rows[-1] + 1 - rows[0]) * (columns[-1] + 1 - columns[0])
            assert inside > 0.8 * mask.sum() and 0.5 < (x_max - x_min) * (y_max - y_min) / tight < 1.8
            held += 1
    assert held > 10 and negatives > 3


@pytest.fixture(scope="module")
def whole(phantom, tmp_path_factory, hashes) -> tuple[Path, pd.DataFrame, dict[str, str]]:
    "A cache of the phantom, its index, and its files as they are; whoever damages it has it mended"
    cache = tmp_path_factory.mktemp("whole") / "cache"
    return cache, prepare(phantom, cache, size=48), hashes(cache)


@pytest.mark.parametrize("damage", ["cut off", "zeroed", "another's", "gone", "not there at all"])
def test_broken_copies_are_not_left(phantom, whole, hashes, damage):
    cache, first, before = whole
    broken, other = [cache / name for name in first["file"][:2]]
    raw = broken.read_bytes()
    broken.unlink()
    made = {"cut off": raw[:100], "zeroed": bytes(len(raw)), "another's": other.read_bytes(), "not there at all": b""}
    if damage in made:
        broken.write_bytes(made[damage])
    assert prepare(phantom, cache, size=48).equals(first)
    assert hashes(cache) == before


def test_a_plain_folder_opens_as_a_dataset(tmp_path):
    cv2 = pytest.importorskip("cv2")
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"x{number}.png"), np.full((40, 50), 10 * number, np.uint8))
    table = pd.DataFrame(
        {
            "file": [f"x{n}.png" for n in range(6)],
            "diagnosis": ["Some Thing", "Normal"] * 3,
            "patient_id": [0, 0, 1, 2, 3, 4],
        }
    )
    table.to_csv(tmp_path / "images.csv", index=False)
    pd.DataFrame({"file": ["x0.png"], "x": [5], "y": [6], "width": [10], "height": [12]}).to_csv(
        tmp_path / "boxes.csv", index=False
    )
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("normal", "some-thing") and not dataset.simulated
    assert dataset.boxes[BOX_COLUMNS].to_numpy().tolist() == [[5, 6, 15, 18]]
    assert dataset.images["width"].tolist() == [50] * 6


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("images.csv", "picture,label\nx,y\n", "file"),
        ("images.csv", "file,label\nabsent.png,a\n", "row 2"),
        ("images.csv", "file,patient_id\nx.png,1\n", "label"),
    ],
)
def test_a_wrong_table_is_named_with_its_row(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    if "absent" not in text:
        (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path)


def test_an_unreadable_box_cell_is_named_with_its_row(phantom, tmp_path):
    import shutil

    shutil.copytree(phantom, tmp_path / "data")
    path = tmp_path / "data" / "train_image_level.csv"
    table = pd.read_csv(path)
    table.loc[3, "boxes"] = "[{'x': 3"
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match="row 5"):
        open_dataset(tmp_path / "data")


def test_no_patient_stands_on_two_sides_of_any_split(phantom):
    dataset = open_dataset(phantom)
    owner = dataset.images.drop_duplicates("study_id").set_index("study_id")["patient_id"]
    fold = patient_folds(dataset, 4, seed=0)
    hidden = list(dataset.studies.loc[dataset.studies["split"] == "test", "study_id"])
    turns = rounds(fold) + rounds(fold, 2, test=hidden)
    assert len(turns) == 4 + 2
    for turn in turns:
        sides = [set(owner[list(part)]) for part in (turn.train, turn.valid, turn.test)]
        assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_preparing_twice_changes_nothing(phantom, tmp_path, hashes):
    first = prepare(phantom, tmp_path / "cache", size=48)
    before = hashes(tmp_path / "cache")
    assert prepare(phantom, tmp_path / "cache", size=48).equals(first)
    assert hashes(tmp_path / "cache") == before


def test_a_file_that_only_looks_like_dicom_is_refused_in_words(tmp_path):
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "noise.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    for path in tmp_path.iterdir():
        with pytest.raises(XrayError, match=path.name):
            read_xray(path)


def test_a_cache_never_gives_another_patients_picture_nor_an_old_one(tmp_path):
    cv2 = pytest.importorskip("cv2")
    for folder, value, shape in (("A", 255, (40, 50)), ("B", 0, (80, 20))):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "img1.png"), np.full(shape, value, np.uint8))
    prepare(tmp_path / "A", tmp_path / "cache", size=64)
    with pytest.raises(DataError, match="B/img1.png would take its place; choose another folder"):
        prepare(tmp_path / "B", tmp_path / "cache", size=64)
    assert cv2.imread(str(tmp_path / "cache" / "img1.png")).max() == 255
    other = prepare(tmp_path / "B", tmp_path / "cache B", size=64).iloc[0]
    assert (other["height"], other["width"]) == (80, 20) and other["source"] == "img1.png"
    assert cv2.imread(str(tmp_path / "cache B" / "img1.png")).max() == 0
    cv2.imwrite(str(tmp_path / "B" / "img1.png"), np.full((60, 30), 200, np.uint8))
    assert prepare(tmp_path / "B", tmp_path / "cache B", size=64).iloc[0]["height"] == 60


def test_a_damaged_jpeg_ls_header_is_an_error_and_not_the_end_of_the_process(tmp_path):
    from covidxr.dicom import write_dicom

    xray = simulate(1, "negative", size=64)
    facts = xray.facts
    facts.image_id, facts.study_id, facts.series_id, facts.patient_id = "a", "b", "c", "d"
    facts.transfer_syntax = next(uid for name, uid in TRANSFER_SYNTAXES.items() if str(uid) == "1.2.840.10008.1.2.4.80")
    write_dicom(tmp_path / "a.dcm", np.round(xray.pixels * (2**facts.bits_stored - 1)).astype(np.uint16), facts)
    damaged = pydicom.dcmread(tmp_path / "a.dcm")
    damaged.Columns = 4413
    damaged.save_as(tmp_path / "a.dcm")
    with pytest.raises(XrayError, match="a.dcm"):
        read_xray(tmp_path / "a.dcm")
