"Truth is what a dataset has, whatever its tables hold besides; what never meets is told."

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.base.terms import BOX_COLUMNS
from covidxr.dataset import open_dataset
from covidxr.dicom import XrayFacts, write_dicom
from covidxr.ensemble import none_confidence
from covidxr.submission import compare_submissions, read_truth, score_submission, submission_table
from covidxr.tables.submission_truth import truth_table

STUDIES = """id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance
s0_study,1,0,0,0
s1_study,0,1,0,0
s2_study,0,0,1,0
"""
BOX = "\"[{'x': 10, 'y': 20, 'width': 30, 'height': 40}]\""


def _tables(root: Path, images: str, studies: str = STUDIES) -> Path:
    "The competition's two tables"
    (root / "train_study_level.csv").write_text(studies)
    (root / "train_image_level.csv").write_text(images)
    return root


def _sorted(table: pd.DataFrame) -> list:
    "A truth as rows in a fixed order"
    return sorted(table[["id", "label", *BOX_COLUMNS]].to_numpy(object).tolist())


OLD = "opacity 1 1 2 3 4"
TABLES = {
    "label is empty": f"id,boxes,label,StudyInstanceUID\ni0_image,,,s0\ni1_image,{BOX},,s1\ni2_image,,,s2\n",
    "no label": f"id,boxes,StudyInstanceUID\ni0_image,,s0\ni1_image,{BOX},s1\ni2_image,,s2\n",
    "boxes are newer": f"id,boxes,label,StudyInstanceUID\ni0_image,,none 1 0 0 1 1,s0\ni1_image,{BOX},{OLD},s1\n"
    f"i2_image,,{OLD},s2\n",
    "an index of pandas": f",id,boxes,label,StudyInstanceUID\n0,i0_image,,,s0\n1,i1_image,{BOX},,s1\n2,i2_image,,,s2\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_score_reads_the_truth_that_open_dataset_reads(kind, tmp_path):
    root = _tables(tmp_path, TABLES[kind])
    dataset = open_dataset(root)
    wanted = truth_table(dataset, dataset.images)
    assert (wanted["label"] == "opacity").sum() == 1 and (wanted["label"] == "none").sum() == 2
    assert _sorted(read_truth(root)) == _sorted(wanted)


def test_a_truth_of_labels_alone_is_read_from_these(tmp_path):
    rows = ["i0_image,,none 1 0 0 1 1,s0", f"i1_image,,{OLD},s1", "i2_image,,none 1 0 0 1 1,s2"]
    root = _tables(tmp_path, "\n".join(["id,boxes,label,StudyInstanceUID", *rows]))
    found = read_truth(root)
    assert found.loc[found["label"] == "opacity", BOX_COLUMNS].to_numpy().tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("more", ["fold", "Unnamed: 0", "", "site"])
def test_a_table_of_studies_may_have_more_columns(more, tmp_path):
    lines = STUDIES.splitlines()
    studies = "\n".join([f"{more},{lines[0]}", *(f"{number},{line}" for number, line in enumerate(lines[1:]))])
    root = _tables(tmp_path, TABLES["no label"], studies)
    assert len(open_dataset(root).studies) == 3
    assert set(read_truth(root)["label"]) == {"negative", "typical", "indeterminate", "none", "opacity"}
    cells = [f"{name}_study,negative 0.5 0 0 1 1" for name in ("s0", "s1", "s2")]
    cells += [f"i{number}_image,none 0.5 0 0 1 1" for number in range(3)]
    (root / "sub.csv").write_text("\n".join(["id,PredictionString", *cells]))
    assert 0 < score_submission(root, root / "sub.csv").map < 1


def test_a_study_is_predicted_once():
    studies = pd.DataFrame({"study_id": ["s", "s", "t"], "negative": [0.2, 0.4, 0.1], "typical": [0.8, 0.6, 0.9]})
    boxes = pd.DataFrame(columns=["image_id", *BOX_COLUMNS, "confidence"])
    with pytest.raises(DataError, match="study s is predicted twice; give one row"):
        submission_table(studies, boxes, {"a": 0.5, "b": 0.5})
    assert len(submission_table(studies.iloc[1:], boxes, {"a": 0.5, "b": 0.5})) == 6


@pytest.mark.parametrize(("image", "other"), [("a", "a_image"), ("a", "a.dcm"), ("a.png", "a"), ("a_image", "a.DCM")])
def test_images_that_are_called_otherwise_among_the_boxes_are_told(image, other):
    "They had counted as no box in any image"
    boxes = pd.DataFrame({"image_id": [other, "more"], "confidence": [0.9, 0.8]})
    with pytest.raises(DataError, match=f"the image '{image}' is called '{other}' among the boxes"):
        none_confidence({image: 0.4, "b": 0.4}, boxes)
    assert none_confidence({other: 0.4, "b": 0.4}, boxes).round(3).tolist() == [0.2, 0.632]
    assert none_confidence({"b": 0.4}, boxes).round(3).tolist() == [0.632], "an image without boxes, asked for alone"
    assert none_confidence({}, boxes).empty
    some = {"more": 0.4, image: 0.4}  # one is called alike, the other is not
    with pytest.raises(DataError, match="is called"):
        none_confidence(some, boxes)


@pytest.mark.parametrize("beside", ["nothing", "a headers.csv of another dataset"])
def test_one_patient_in_all_headers_is_nobody_also_when_asked_twice(beside, tmp_path):
    "The first call drew studies; it wrote headers.csv, from which the second one drew the one patient"
    root = _tables(tmp_path / "data" if (tmp_path / "data").mkdir() is None else tmp_path, TABLES["no label"])
    for number in range(3):
        path = root / "train" / f"s{number}" / "series" / f"i{number}.dcm"
        path.parent.mkdir(parents=True)
        facts = XrayFacts(f"i{number}", f"s{number}", "e", "SITE01")
        write_dicom(path, np.arange(256).reshape(16, 16), facts)
    if beside != "nothing":
        (tmp_path / "headers.csv").write_text("image_id,patient_id\ni0,x\ni1,x\ni2,x\n")
    for name in ("one", "two"):
        cells = [f"s{number}_study,{name == 'one' and 'negative' or 'typical'} 0.5 0 0 1 1" for number in range(3)]
        cells += [f"i{number}_image,none 0.5 0 0 1 1" for number in range(3)]
        (root / f"{name}.csv").write_text("\n".join(["id,PredictionString", *cells]))
    both = {name: root / f"{name}.csv" for name in ("one", "two")}
    first, second = (compare_submissions(root, both, draws=20) for _ in range(2))
    assert (root / "headers.csv").exists() and first["drawn"] == second["drawn"] == "studies"
    pd.testing.assert_frame_equal(first["draws"], second["draws"])
