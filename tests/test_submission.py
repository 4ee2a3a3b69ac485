"Reading by the letter: every odd file is refused in one line that names the row an editor shows."

import pandas as pd
import pytest

from covidxr.core import BOX_COLUMNS, DataError, SubmissionError
from covidxr.submission import read_submission, read_truth, score_submission, submission_table, write_submission

HEADER = "id,PredictionString\n"
STUDY = "s_study,typical 1 0 0 1 1\n"
ODD = {
    "an empty file": ("", "row 1: the file is empty"),
    "nothing below the header": (HEADER, "row 2: there is no row"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\xff", "row 1: not a readable CSV file"),
    "another encoding": (HEADER.encode() + STUDY.encode() + b"\xe9_image,\n", "row 3: not a readable CSV file"),
    "semicolons": ((HEADER + STUDY).replace(",", ";"), "row 1: column id, PredictionString is missing"),
    "a column twice": ("id,id,PredictionString\n", "row 1: column id appears twice"),
    "a comma at each end": (HEADER + STUDY.replace("\n", ",\n"), "row 2: 3 columns instead of 2"),
    "a row cut off": (HEADER + STUDY + "a_image\n", "row 3: 1 column instead of 2"),
    "a quote that never ends": (HEADER + STUDY + 'a_image,"none 1 0 0 1 1\n', "row 3: not a readable CSV file"),
    "a fault below a blank line": (HEADER + STUDY + "\na_image,none 2 0 0 1 1\n", "row 4: confidence 2"),
    "a fault below a row of two lines": (
        HEADER + 's_study,"typical 1\n0 0 1 1"\na_image,none 2 0 0 1 1\n',
        "row 4: confidence 2",
    ),
    "an image's label in a study": (
        HEADER + STUDY.replace("typical", "opacity"),
        "row 2: label opacity belongs to an image",
    ),
    "a number only Python reads": (
        HEADER + STUDY.replace("typical 1", "typical 0_1"),
        "row 2: confidence 0_1 is not a number",
    ),
    "an endless box": (HEADER + "a_image,opacity 1 0 0 inf 1\n", "row 2: x_max inf"),
}


@pytest.mark.parametrize("oddity", ODD)
def test_an_odd_file_is_refused_in_one_line_that_names_its_row(tmp_path, oddity):
    content, said = ODD[oddity]
    path = tmp_path / "odd.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SubmissionError) as caught:
        read_submission(path)
    assert str(caught.value).startswith(f"{path}: {said}") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [str, lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n"), lambda text: text + "\n\n"]
)
def test_what_editors_and_spreadsheets_add_does_no_harm(tmp_path, change):
    (tmp_path / "s.csv").write_bytes(change(HEADER + STUDY + "a_image,\n").encode())
    assert read_submission(tmp_path / "s.csv", ids=["s_study", "a_image"])["label"].tolist() == ["typical"]


COLUMNS = ["id", "label", "confidence", *BOX_COLUMNS]


@pytest.mark.parametrize(
    "row, said",
    [
        (("a_image", "none", float("nan"), 0, 0, 1, 1), "0 to 1"),
        (("a_image", "none", 1.1, 0, 0, 1, 1), "0 to 1"),
        (("a_image", "opacity", 0.5, 0, 0, float("nan"), 1), "not a number"),
        (("a_image", "opacity", 0.5, 5, 0, 1, 1), "swapped"),
        (("a_image", "two words", 0.5, 0, 0, 1, 1), "one word"),
        (("a_image", None, 0.5, 0, 0, 1, 1), "one word"),
        (("a_image", "typical", 0.5, 0, 0, 1, 1), "another kind of row"),
        (("s_study", "none", 0.5, 0, 0, 1, 1), "another kind of row"),
        ((None, "none", 0.5, 0, 0, 1, 1), "not among the ids"),
    ],
)
def test_nothing_is_written_that_could_not_be_read(tmp_path, row, said):
    with pytest.raises(SubmissionError, match=said):
        write_submission(pd.DataFrame([row], columns=COLUMNS), ["a_image", "s_study"], tmp_path / "s.csv")
    assert not list(tmp_path.iterdir())


def test_an_id_is_written_once(tmp_path):
    with pytest.raises(SubmissionError, match="twice"):
        write_submission(pd.DataFrame(columns=COLUMNS), ["a_image", "a_image"], tmp_path / "s.csv")


def test_ids_to_submit_are_some_and_end_as_the_reader_expects_and_a_folder_is_no_file(tmp_path):
    nothing = pd.DataFrame(columns=COLUMNS)
    for ids, said in (([], "no id to submit"), (["a"], "id a must end in"), ([1], "id 1 must end in")):
        with pytest.raises(SubmissionError, match=said):
            write_submission(nothing, ids, tmp_path / "s.csv")
    for folder in (tmp_path, "."):
        with pytest.raises(SubmissionError, match="is a folder"):
            write_submission(nothing, ["a_image"], folder)
    assert not list(tmp_path.iterdir())


def test_an_image_of_thousands_of_boxes_is_read_and_the_limit_of_csv_stays_as_it_was(tmp_path):
    import csv

    before = csv.field_size_limit()
    many = pd.DataFrame({"id": "a_image", "label": "opacity", "confidence": 0.5}, index=range(5000))
    many = many.assign(x_min=0.25, y_min=0.25, x_max=[1000.25 + row for row in many.index], y_max=1000.75)
    write_submission(many, ["a_image"], tmp_path / "s.csv")
    assert (tmp_path / "s.csv").stat().st_size > before == 131_072
    assert len(read_submission(tmp_path / "s.csv")) == 5000 and csv.field_size_limit() == before


def test_a_truth_without_rows_is_blamed_itself(tmp_path):
    (tmp_path / "t.csv").write_text(HEADER)
    (tmp_path / "s.csv").write_text(HEADER + STUDY)
    with pytest.raises(DataError, match=r"t\.csv: row 2: there is no row below the header"):
        score_submission([tmp_path / "t.csv"], tmp_path / "s.csv")


def test_an_image_and_a_study_of_one_name_keep_their_own_patients(tmp_path):
    from covidxr.submission import _patients

    rows = (
        "1_image,,none 1 0 0 1 1,2\n2_image,,none 1 0 0 1 1,1\n3_image,,none 1 0 0 1 1,2\n4_image,,none 1 0 0 1 1,3\n"
    )
    (tmp_path / "train_image_level.csv").write_text("id,boxes,label,StudyInstanceUID\n" + rows)
    ids = ["1_image", "2_image", "3_image", "4_image", "1_study", "2_study", "3_study"]
    owners, drawn = _patients([tmp_path / "train_image_level.csv"], ids)
    assert drawn == "studies" and owners["1_image"] == owners["3_image"] == owners["2_study"] != owners["1_study"]
    (tmp_path / "headers.csv").write_text("image_id,patient_id\n1,p\n2,q\n")
    owners, drawn = _patients([tmp_path / "train_image_level.csv"], ids)
    assert drawn == "patients and studies"
    assert owners["1_image"] == owners["2_study"] == owners["3_image"] == "patient p"  # an image goes with its study
    assert owners["2_image"] == owners["1_study"] == "patient q" and owners["4_image"] == owners["3_study"] == "study 3"
    (tmp_path / "headers.csv").write_text("image_id,patient_id\n1,p\n2,q\n3,p\n4,r\n")
    assert _patients([tmp_path / "train_image_level.csv"], ids)[1] == "patients"


def test_no_predictions_make_an_empty_table_and_rows_without_a_string(tmp_path):
    nothing = submission_table(
        pd.DataFrame({"study_id": []}),
        pd.DataFrame(columns=["image_id", *BOX_COLUMNS, "confidence"]),
        pd.Series(dtype=float),
    )
    write_submission(nothing, ["a_image"], tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == "id,PredictionString\na_image,\n"
    assert list(read_submission(tmp_path / "s.csv").columns) == list(nothing.columns)


ONE_HOT = "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance\n"


def test_a_study_table_may_hold_decimals_but_exactly_one_class(tmp_path):
    (tmp_path / "t.csv").write_text(ONE_HOT + "a_study,1.0,0.0,0.0,0.0\nb_study,0,0,1,0\n")
    assert read_truth(tmp_path / "t.csv")["label"].tolist() == ["negative", "indeterminate"]
    for row in ("0,0,0,0", "1,1,0,0", "1,0,,0"):
        (tmp_path / "t.csv").write_text(ONE_HOT + f"a_study,0,1,0,0\nb_study,{row}\n")
        with pytest.raises(DataError, match="t.csv: row 3: exactly one"):
            read_truth(tmp_path / "t.csv")


def test_classes_of_other_datasets_are_scored_by_their_own_names(tmp_path):
    (tmp_path / "t.csv").write_text(HEADER + "s_study,no-lung-opacity 1 0 0 1 1\na_image,none 1 0 0 1 1\n")
    result = score_submission([tmp_path / "t.csv"], tmp_path / "t.csv")
    assert result.per_class == {"no-lung-opacity": 1.0, "none": 1.0}


def test_a_submission_in_the_truths_place_is_noticed(tmp_path):
    (tmp_path / "submission.csv").write_text(HEADER + "a_image,none 0.9 0 0 1 1\n")
    with pytest.raises(DataError, match="row 2.*swapped"):
        read_truth(tmp_path / "submission.csv")


def test_semicolons_are_named_as_the_cause(tmp_path):
    (tmp_path / "s.csv").write_text((HEADER + STUDY).replace(",", ";"))
    with pytest.raises(SubmissionError, match="semicolon"):
        read_submission(tmp_path / "s.csv")


def test_files_to_fuse_are_two_and_name_each_other(tmp_path):
    from covidxr.submission import fuse_files

    (tmp_path / "a.csv").write_text(HEADER + STUDY)
    (tmp_path / "b.csv").write_text(HEADER + STUDY.replace("s_study", "t_study"))
    with pytest.raises(SubmissionError, match="give two or more"):
        fuse_files([tmp_path / "a.csv"], tmp_path / "out.csv")
    with pytest.raises(SubmissionError, match=r"b\.csv: row 2: unknown id t_study; .*a\.csv has no such id"):
        fuse_files([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    fuse_files([tmp_path / "a.csv", tmp_path / "a.csv"], tmp_path / "out.csv")
    assert read_submission(tmp_path / "out.csv").equals(read_submission(tmp_path / "a.csv"))


def test_a_folder_that_holds_the_two_tables_of_a_truth_is_one(finished, tmp_path):
    import shutil

    whole = score_submission([finished / "data"], finished / "submission.csv")
    for level in ("study", "image"):
        shutil.copy(finished / "data" / "truth" / f"test_{level}_level.csv", tmp_path)
    assert score_submission([tmp_path], finished / "submission.csv").map == whole.map
