"Whose row is it? Unknown patients are nobody, one patient is one however a table writes it, and rows keep their order."

import cv2
import numpy as np
import pandas as pd
import pytest

from covidxr.base.errors import DataError
from covidxr.base.terms import APPEARANCES, BOX_COLUMNS
from covidxr.calibrate import calibrate, conformal, operating_point, reliability
from covidxr.dataset import open_dataset
from covidxr.ensemble import nms
from covidxr.ensemble_boxes import weighted_boxes_fusion
from covidxr.metrics import auc_difference, bootstrap_scores, confusion_table, roc_auc
from covidxr.runs.evaluate import _owners as run_owners
from covidxr.shortcuts import flip_test, subgroups
from covidxr.tables.readers import drawn_icc, pair_agreement, weighted_kappa
from covidxr.tables.submission_comparing import patients_of_rows
from covidxr.views import View, boxes_back

RNG = np.random.default_rng(0)
TRUE = RNG.random(200) < 0.5
SURE = TRUE + RNG.normal(0, 1.2, 200)
KNOWN = [f"p{number}" for number in range(100)]
CHANCES = pd.DataFrame(RNG.dirichlet(np.ones(4), 40), columns=APPEARANCES).assign(label=RNG.choice(APPEARANCES, 40))


@pytest.mark.parametrize(
    "word", ["", " ", "nan", "NaN", "None", "N/A", "null", "ANON", "Anonymous^^", "XXXXX", "removed", None, pd.NA]
)
def test_who_is_unknown_in_words_is_nobody(word):
    wanted = roc_auc(TRUE, SURE, [np.nan] * 100 + KNOWN, 300)
    assert roc_auc(TRUE, SURE, [word] * 100 + KNOWN, 300) == wanted
    table = CHANCES.assign(patient_id=[None] * 30 + KNOWN[:10])
    again = table.assign(patient_id=[word] * 30 + KNOWN[:10])
    assert reliability(again)["low"] == reliability(table)["low"]


def test_blanks_at_an_end_make_no_other_patient():
    patients = [f"p{number % 20}" for number in range(200)]
    spaced = [f" {name} " if number > 100 else name for number, name in enumerate(patients)]
    assert roc_auc(TRUE, SURE, spaced, 300) == roc_auc(TRUE, SURE, patients, 300)


def test_a_number_and_its_text_are_one_patient():
    patients = [number % 20 for number in range(200)]
    mixed = [str(name) if number > 100 else float(name) for number, name in enumerate(patients)]
    assert roc_auc(TRUE, SURE, mixed, 300) == roc_auc(TRUE, SURE, [str(name) for name in patients], 300)


@pytest.mark.parametrize("word", ["", "nan", None])
def test_a_submissions_unknown_patients_are_nobody(word):
    truth = pd.DataFrame({"id": [f"i{number}" for number in range(40)], "label": "x"})
    truth[BOX_COLUMNS] = [0.0, 0.0, 9.0, 9.0]
    said = truth.assign(confidence=0.5)
    said.loc[said.index % 2 == 1, ["x_min", "x_max"]] = [20.0, 30.0]
    owners = {name: number for number, name in enumerate(truth["id"])}
    alone = np.percentile(bootstrap_scores(truth, {"m": said}, owners, 300)["m"], (2.5, 97.5))
    some = {name: word if number < 39 else "p" for name, number in owners.items()}
    drawn = np.percentile(bootstrap_scores(truth, {"m": said}, some, 300)["m"], (2.5, 97.5))
    assert np.abs(drawn - alone).max() < 0.12 and drawn[1] - drawn[0] > 0.2  # as one person: the same score always


def test_groups_that_name_none_of_the_ids_are_refused():
    truth = pd.DataFrame(
        [["a_image", "x", 0, 0, 9, 9], ["b_image", "x", 0, 0, 9, 9]], columns=["id", "label", *BOX_COLUMNS]
    )
    said = {"m": truth.assign(confidence=0.5)}
    with pytest.raises(DataError, match="none of the ids has a patient, such as 'a_image', and 'a' among the groups"):
        bootstrap_scores(truth, said, {"a": 1, "b": 2}, 20)
    bootstrap_scores(truth, said, {"a_image": 1, "c": 2}, 20)  # who is not named is alone
    bootstrap_scores(truth, said, {}, 20)


@pytest.mark.parametrize(
    "names", [[str(one) for one in range(5)], [f" {one}" for one in range(5)], [float(one) for one in range(5)]]
)
def test_who_is_known_and_judged_is_found_however_a_table_writes_it(names):
    known, judged = CHANCES.assign(patient_id=range(40)), CHANCES[:5].assign(patient_id=names)
    for ask in (lambda: conformal(judged, known), lambda: calibrate(judged, known), lambda: conformal(known, judged)):
        with pytest.raises(DataError, match="is in the table and in the known table"):
            ask()
    others = CHANCES[:5].assign(patient_id=[f"other {one}" for one in range(5)])
    conformal(others, known)


def test_rows_in_another_order_are_not_paired_by_place():
    true, sure = pd.Series(TRUE), pd.Series(SURE)
    turned = sure[::-1]
    for ask in (
        lambda: roc_auc(true, turned),
        lambda: auc_difference(true, sure, turned),
        lambda: operating_point(true, turned, sensitivity=0.9),
    ):
        with pytest.raises(
            DataError, match="the same rows in another order; bring them into one, such as by .*reindex"
        ):
            ask()
    wanted = roc_auc(TRUE, SURE, draws=50)
    assert roc_auc(true, sure, draws=50) == roc_auc(true, sure.set_axis(range(1000, 1200)), draws=50) == wanted
    assert roc_auc(true, turned.to_numpy()[::-1], draws=50) == wanted


PATIENT = pd.Series(np.repeat(np.arange(20), 10))
BOXES = pd.DataFrame([[0.0, 0.0, 9.0, 9.0]] * 3, columns=BOX_COLUMNS)
WIDE = pd.Series([100.0, 200, 300])


@pytest.mark.parametrize(
    "ask",
    [
        lambda turned: roc_auc(pd.Series(TRUE), pd.Series(SURE), turned(PATIENT)),
        lambda turned: roc_auc(TRUE, pd.Series(SURE), turned(PATIENT)),  # an array before them hides neither
        lambda turned: roc_auc(pd.Series(TRUE).set_axis(range(500, 700)), pd.Series(SURE), turned(PATIENT)),
        lambda turned: auc_difference(TRUE, SURE, pd.Series(SURE), turned(PATIENT)),
        lambda turned: operating_point(pd.Series(TRUE), SURE, 0.5, groups=turned(PATIENT)),
        lambda turned: confusion_table(PATIENT, turned(PATIENT)),
        lambda turned: flip_test(PATIENT, turned(PATIENT)),
        lambda turned: weighted_kappa(PATIENT, turned(PATIENT)),
        lambda turned: pair_agreement(PATIENT, turned(PATIENT)),
        lambda turned: weighted_boxes_fusion([BOXES / 9], [turned(WIDE / 300)], [[1, 1, 1]]),
        lambda turned: boxes_back(BOXES, View(), turned(WIDE), 50.0),
        lambda turned: boxes_back(BOXES, View(), 50.0, turned(WIDE)),
    ],
)
def test_no_column_is_paired_by_place_with_one_in_another_order(ask):
    ask(lambda one: one)
    ask(lambda one: one.set_axis(range(1000, 1000 + len(one))))  # other names altogether: the caller knows the places
    with pytest.raises(DataError, match="the same rows in another order; bring them into one"):
        ask(lambda one: one[::-1])


@pytest.mark.parametrize(
    "names", [["a", 1, None, "b"], ["a", "a", "b", "b"], pd.MultiIndex.from_product([["a", "b"], [1, 2]]), list("abcd")]
)
def test_rows_of_any_name_are_known_in_another_order(names):
    one = pd.Series([0, 1, 0, 1], index=names)
    assert confusion_table(one, one).to_numpy().tolist() == [[2, 0], [0, 2]]
    with pytest.raises(DataError, match="in another order") as told:
        confusion_table(one, one[::-1])
    assert ("reindex" in str(told.value)) == one.index.is_unique  # pandas reindexes no name that is there twice


def test_the_order_of_rows_changes_no_interval():
    table = CHANCES.assign(patient_id=RNG.choice([*KNOWN[:20], None], 40))
    values, owners, change = RNG.integers(0, 9, (40, 2)).astype(float), RNG.integers(0, 12, 40), SURE - TRUE
    given = reliability(table), drawn_icc(values, owners, 200, 0), flip_test(SURE, change)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(200)
        some = order[order < 40]
        again = reliability(table.iloc[some])
        names = ("ece", "low", "high", "by_chance", "rows")
        assert [again[name] for name in names] == [given[0][name] for name in names]
        other = np.random.default_rng(seed).permutation(12)  # nor does who is numbered first
        assert drawn_icc(values[some], other[owners[some]], 200, 0) == given[1]
        assert flip_test(SURE[order], change[order]) == pytest.approx(given[2], abs=1e-15)


def test_numbers_of_another_machine_are_the_same_numbers():
    sick, said, owner = TRUE.astype(">i4"), np.round(SURE, 2).astype(">f8"), PATIENT.to_numpy().astype(">i8")
    assert roc_auc(sick, said, owner, 50) == roc_auc(TRUE, np.round(SURE, 2), PATIENT, 50)
    plain = pd.DataFrame({"owner": PATIENT % 3, "sick": TRUE, "logit": np.round(SURE, 2)})
    swapped = pd.DataFrame({"owner": owner % 3, "sick": sick, "logit": said}).astype({"owner": ">i8"})
    assert subgroups(swapped, "owner", draws=20).to_numpy() == pytest.approx(
        subgroups(plain, "owner", draws=20).to_numpy()
    )
    boxes = BOXES.assign(image_id="a", confidence=[0.5, 0.9, 0.1])
    found = nms(boxes.astype(dict.fromkeys([*BOX_COLUMNS, "confidence"], ">f8")))
    pd.testing.assert_frame_equal(found, nms(boxes))


def _plain_folder(folder, rows):
    "A plain folder of small pictures; rows are study, patient"
    lines = ["file,study_id,patient_id,label"]
    for number, (study, patient) in enumerate(rows):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((40, 40), number * 9, np.uint8))
        lines.append(f"{number}.png,{study},{patient},{'ab'[number % 2]}")
    (folder / "images.csv").write_text("\n".join(lines))
    return open_dataset(folder)


def test_a_patient_who_is_called_as_a_study_keeps_it_beside_the_others(tmp_path):
    "The study had become somebody else's for `covidxr score`, and stayed the patient's for a run"
    named = [("P0", "P0"), ("P0-2", "P0"), ("P0-3", "P0"), ("t", "study t"), ("u", "study t"), ("v", "v"), ("w", "")]
    dataset = _plain_folder(tmp_path, named)
    ids = [f"{study}_study" for study, _ in named] + [f"{image}_image" for image in dataset.images["image_id"]]
    owners, drawn = patients_of_rows([tmp_path / "images.csv"], ids, dataset.images)
    of_run = run_owners(dataset.images)[ids]
    assert pd.factorize(owners)[0].tolist() == pd.factorize(of_run)[0].tolist() == [0, 0, 0, 1, 1, 2, 3] * 2
    assert drawn == "patients and studies"


def test_what_a_de_identifier_left_beside_a_truth_is_nobody(tmp_path):
    table = tmp_path / "train_image_level.csv"
    table.write_text("id,boxes,label,StudyInstanceUID\na_image,,,s\nb_image,,,s\nc_image,,,t\n")
    for names, drawn in (("ANON^^ XXXXX removed", "studies"), ("ANON^^ p q", "patients"), ("0 0 p", "patients")):
        one, other, third = names.split()
        (tmp_path / "headers.csv").write_text(f"image_id,patient_id\na,{one}\nb,{other}\nc,{third}\n")
        assert patients_of_rows([table], ["a_image", "b_image", "c_image"])[1] == drawn, names
