"Reading by the letter: every odd file is refused in one line that names the row an editor shows."

import pandas as pd
import pytest

from covidxr.base.errors import DataError, SubmissionError
from covidxr.base.terms import BOX_COLUMNS
from covidxr.submission import (
    compare_submissions,
    fuse_submission_files,
    read_ids,
    read_submission,
    read_truth,
    score_submission,
    submission_table,
    write_submission,
)

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
    "a blank in the header": (HEADER.replace(",", ", ") + STUDY, "row 1: column ' PredictionString' has blanks"),
    "a blank in the header below a blank line": ("\nid ,PredictionString\n" + STUDY, "row 2: column 'id ' has blanks"),
    "a spreadsheet's own encoding": ((HEADER + STUDY).encode("utf-16"), "row 1: not a readable CSV file (UTF-16"),
    "tabs": ((HEADER + STUDY).replace(",", "\t"), "row 1: column id, PredictionString is missing"),
    "a blank behind an id": (HEADER + STUDY.replace("s_study", "s_study "), "row 2: id 's_study ' must end in"),
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
        (("s_study", "\ud800", 0.5, 0, 0, 1, 1), "no text that UTF-8 can hold"),
    ],
)
def test_nothing_is_written_that_could_not_be_read(tmp_path, row, said):
    with pytest.raises(SubmissionError, match=said):
        write_submission(pd.DataFrame([row], columns=COLUMNS, dtype=object), ["a_image", "s_study"], tmp_path / "s.csv")
    assert not list(tmp_path.iterdir())


def test_an_id_is_written_once(tmp_path):
    with pytest.raises(SubmissionError, match="twice"):
        write_submission(pd.DataFrame(columns=COLUMNS), ["a_image", "a_image"], tmp_path / "s.csv")


def test_ids_to_submit_are_some_and_end_as_the_reader_expects_and_a_folder_is_no_file(tmp_path):
    nothing = pd.DataFrame(columns=COLUMNS)
    odd = ["M\udcfcller_image"]
    for ids, said in (
        ([], "no id to submit"),
        (["a"], "id a must end in"),
        ([1], "id 1 must end in"),
        (odd, "is no text that UTF-8 can hold"),
    ):
        with pytest.raises(SubmissionError, match=said):
            write_submission(nothing, ids, tmp_path / "s.csv")
    for folder in (tmp_path, "."):
        with pytest.raises(SubmissionError, match="is a folder"):
            write_submission(nothing, ["a_image"], folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a\rb", "\ra", "a\r\nb", "a\nb", '"', ",", " a", "a\x00", "a\u2028b", "a\x85b"])
def test_an_id_of_any_signs_is_read_as_it_was_written(tmp_path, name):
    ids = [f"{name}_study", "s_study"]
    table = pd.DataFrame([(one, "typical", 0.5, 0, 0, 1, 1) for one in ids], columns=COLUMNS)
    write_submission(table, ids, tmp_path / "s.csv")
    assert read_submission(tmp_path / "s.csv")["id"].tolist() == ids == read_ids(tmp_path / "s.csv")
    assert pd.read_csv(tmp_path / "s.csv")["id"].tolist() == ids


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
    from covidxr.tables.submission_comparing import patients_of_rows

    rows = (
        "1_image,,none 1 0 0 1 1,2\n2_image,,none 1 0 0 1 1,1\n3_image,,none 1 0 0 1 1,2\n4_image,,none 1 0 0 1 1,3\n"
    )
    (tmp_path / "train_image_level.csv").write_text("id,boxes,label,StudyInstanceUID\n" + rows)
    ids = ["1_image", "2_image", "3_image", "4_image", "1_study", "2_study", "3_study"]
    owners, drawn = patients_of_rows([tmp_path / "train_image_level.csv"], ids)
    assert drawn == "studies" and owners["1_image"] == owners["3_image"] == owners["2_study"] != owners["1_study"]
    (tmp_path / "headers.csv").write_text("name,value\nx,1\n")  # somebody else's table
    assert patients_of_rows([tmp_path / "train_image_level.csv"], ids)[1] == "studies"
    (tmp_path / "headers.csv").write_text("image_id,patient_id\n1,p\n2,q\n")
    owners, drawn = patients_of_rows([tmp_path / "train_image_level.csv"], ids)
    assert drawn == "patients and studies"
    assert owners["1_image"] == owners["2_study"] == owners["3_image"] == "patient p"  # an image goes with its study
    assert owners["2_image"] == owners["1_study"] == "patient q" and owners["4_image"] == owners["3_study"] == "study 3"
    (tmp_path / "headers.csv").write_text("image_id,patient_id\n1,p\n2,q\n3,p\n4,r\n")
    assert patients_of_rows([tmp_path / "train_image_level.csv"], ids)[1] == "patients"


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
    with pytest.raises(SubmissionError, match="by commas, not by semicolons"):
        read_submission(tmp_path / "s.csv")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace("\n", ",\n"),
        lambda text: "\n" + text.replace("\n", "\n\n"),
        lambda text: "\ufeff" + text,
    ],
)
def test_a_truth_is_read_as_spreadsheets_write_it(tmp_path, change):
    (tmp_path / "plain.csv").write_text(HEADER + STUDY + "NA_image,none 1 0 0 1 1\n")
    (tmp_path / "changed.csv").write_text(change(HEADER + STUDY + "NA_image,none 1 0 0 1 1\n"))
    assert read_truth(tmp_path / "changed.csv").equals(read_truth(tmp_path / "plain.csv"))
    assert read_truth(tmp_path / "plain.csv")["id"].tolist() == ["s_study", "NA_image"]


def test_a_truth_is_a_name_a_path_or_some_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.csv").write_text(HEADER + STUDY)
    (tmp_path / "sub.csv").write_text(HEADER + STUDY)
    for truth in ("truth.csv", tmp_path / "truth.csv", ["truth.csv"], (tmp_path / "truth.csv",)):
        assert score_submission(truth, "sub.csv").map == 1.0
        assert read_truth(truth)["label"].tolist() == ["typical"]
        assert compare_submissions(truth, {"a": "sub.csv"}, draws=5)["scores"]["a"].map == 1.0
    for truth in ([], (), None, 5, [None], "", "a\0b"):
        for work in (lambda one: score_submission(one, "sub.csv"), read_truth):
            with pytest.raises(DataError, match="no truth|must be a list|not a file's name|no such file"):
                work(truth)
    with pytest.raises(DataError, match="no truth"):
        read_truth()
    with pytest.raises(SubmissionError, match="at least one name and its file"):
        compare_submissions("truth.csv", {})
    for path in (None, 5, "", "a\0b"):
        for work in (read_submission, read_ids, lambda one: score_submission("truth.csv", one)):
            with pytest.raises(SubmissionError, match="not a file's name"):
                work(path)


def test_a_submission_is_never_written_over_a_file_that_covidxr_did_not_write_as_it_is(tmp_path):
    nothing, path = pd.DataFrame(columns=COLUMNS), tmp_path / "s.csv"
    path.write_text("mine\n")
    with pytest.raises(SubmissionError, match="s.csv: is there already, and covidxr did not write it"):
        write_submission(nothing, ["a_image"], path)
    assert path.read_text() == "mine\n" and [one.name for one in tmp_path.iterdir()] == ["s.csv"]
    path.unlink()
    for ids in (["a_image"], ["b_image"], ["b_image"]):  # our own may be written anew
        write_submission(nothing, ids, str(path))
        assert read_ids(path) == ids
    path.write_text(path.read_text() + "c_image,\n")  # until somebody works on it
    with pytest.raises(SubmissionError, match="did not write it as it is"):
        write_submission(nothing, ["a_image"], path)
    assert read_ids(path) == ["b_image", "c_image"]
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(SubmissionError, match="is there already"):
        write_submission(nothing, ["a_image"], tmp_path / "link.csv")
    assert not (tmp_path / "elsewhere.csv").exists()


def test_fused_files_are_never_written_over_one_of_them_however_it_is_spelt(tmp_path, monkeypatch, hashes):
    import os

    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    one = pd.DataFrame([("a_image", "none", 0.5, 0, 0, 1, 1)], columns=COLUMNS)
    for name in ("a.csv", "b.csv"):
        write_submission(one, ["a_image"], name)  # our own, so that only their being read protects them
    os.link("a.csv", "hard.csv")
    os.symlink("a.csv", "soft.csv")
    os.symlink(tmp_path, "folder")
    before = hashes(tmp_path)
    for out in ("a.csv", "./a.csv", "below/../a.csv", tmp_path / "b.csv", "hard.csv", "soft.csv", "folder/b.csv"):
        with pytest.raises(SubmissionError, match="is one of the submissions to fuse .* choose another name"):
            fuse_submission_files(["a.csv", "b.csv"], out)
    with pytest.raises(SubmissionError, match="is one of"):
        fuse_submission_files(["soft.csv", "b.csv"], "a.csv")
    assert hashes(tmp_path) == before
    for _ in range(2):
        fuse_submission_files(("a.csv", "b.csv"), "out.csv", weights=(1, 2))
    assert read_ids("out.csv") == ["a_image"]


def test_a_foreign_file_in_the_results_place_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "out.csv").write_text("mine\n")
    with pytest.raises(SubmissionError, match="out.csv: is there already"):
        fuse_submission_files([tmp_path / "absent.csv", tmp_path / "absent too.csv"], tmp_path / "out.csv")
    with pytest.raises(SubmissionError, match="give two or more"):
        fuse_submission_files(str(tmp_path / "absent.csv"), tmp_path / "other.csv")
    assert (tmp_path / "out.csv").read_text() == "mine\n"


def test_the_command_line_does_not_write_a_fusion_over_its_input(covidxr, tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(HEADER + STUDY)
    answer = covidxr("ensemble", "a.csv", "b.csv", "--out", "./a.csv", cwd=tmp_path)
    assert answer.returncode == 2 and "is one of the submissions" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1 and (tmp_path / "a.csv").read_text() == HEADER + STUDY


@pytest.mark.parametrize("work", [read_submission, read_ids, read_truth])
def test_the_longest_field_of_csv_is_as_it_was_after_each_reader_also_a_failing_one(tmp_path, work):
    import csv

    (tmp_path / "good.csv").write_text(HEADER + STUDY)
    (tmp_path / "bad.csv").write_text(HEADER + 's_study,"typical\n')
    before = csv.field_size_limit(4321)
    try:
        work(tmp_path / "good.csv")
        with pytest.raises((DataError, SubmissionError)):
            work(tmp_path / "bad.csv")
        assert csv.field_size_limit() == 4321
    finally:
        csv.field_size_limit(before)


def test_a_study_or_image_without_an_id_makes_no_row_of_that_name():
    from covidxr.submission import submission_ids

    studies = pd.DataFrame({"study_id": ["s", None], "typical": [0.5, 0.5]})
    boxes = pd.DataFrame(columns=["image_id", *BOX_COLUMNS, "confidence"])
    with pytest.raises(DataError, match="row 1 .* has no study_id"):
        submission_table(studies, boxes, {})
    with pytest.raises(DataError, match="row 0 .* has no image_id"):
        submission_ids(pd.DataFrame({"image_id": [float("nan")], "study_id": ["s"]}))


def test_files_to_fuse_are_two_and_name_each_other(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + STUDY)
    (tmp_path / "b.csv").write_text(HEADER + STUDY.replace("s_study", "t_study"))
    with pytest.raises(SubmissionError, match="give two or more"):
        fuse_submission_files([tmp_path / "a.csv"], tmp_path / "out.csv")
    with pytest.raises(SubmissionError, match=r"b\.csv: row 2: unknown id t_study; .*a\.csv has no such id"):
        fuse_submission_files([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    fuse_submission_files([tmp_path / "a.csv", tmp_path / "a.csv"], tmp_path / "out.csv")
    assert read_submission(tmp_path / "out.csv").equals(read_submission(tmp_path / "a.csv"))


def test_a_folder_that_holds_the_two_tables_of_a_truth_is_one(finished, tmp_path):
    import shutil

    whole = score_submission([finished / "data"], finished / "submission.csv")
    for level in ("study", "image"):
        shutil.copy(finished / "data" / "truth" / f"test_{level}_level.csv", tmp_path)
    assert score_submission([tmp_path], finished / "submission.csv").map == whole.map
