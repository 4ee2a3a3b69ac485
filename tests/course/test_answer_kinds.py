"Answers of all kinds: those that change what they get, name their rows, go class by class, write NumPy's text."

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from exercise_answers import ANSWERS

from covidxr.base.seeds import generator
from covidxr.base.terms import APPEARANCES, BOX_COLUMNS
from covidxr.course import exercise
from covidxr.course.catalog import questions
from covidxr.course.checking import TRIALS, Exercise, same
from covidxr.course.sandbox import call, copied

EXERCISES = {key: exercise(key) for key in questions()}
ASKED = [key for key, one in EXERCISES.items() if one.contest or one.inputs]
NEVER = {("phantom.2", 0)}  # the known X-rays are the same ones each time


def _made(code: str, name: str) -> Callable:
    "What a learner's code defines"
    own: dict[str, Any] = {"np": np, "pd": pd}
    exec(code, own)
    return own[name]


def _solved(key: str) -> Callable:
    "The solution that an exercise shows"
    return _made(EXERCISES[key].code, EXERCISES[key].name)


def _drawn(one: Exercise, number: int) -> tuple:
    "Inputs as a check draws them"
    rng = generator(number, one.key)
    return one.contest.draw(rng)[0] if one.contest else one.inputs(rng, number * 10 // TRIALS)


def _content(value: Any) -> Any:
    "All that lies in a value, as plain tuples"
    if isinstance(value, pd.DataFrame | pd.Series):
        cells = value.tolist() if isinstance(value, pd.Series) else value.to_dict("list")
        return type(value).__name__, tuple(value.index), _content(cells)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.shape, value.tobytes()
    if isinstance(value, dict):
        return tuple((name, _content(one)) for name, one in value.items())
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(_content(one) for one in value)
    return repr(value)


def _spoil(value: Any) -> None:
    "Change in place whatever can be changed, as deep as it goes"
    if isinstance(value, pd.DataFrame):
        for name in list(value.columns):
            _spoil(value[name].tolist())
            value[name] = 0
    elif isinstance(value, np.ndarray | pd.Series):
        if value.dtype == object:
            _spoil(list(value))
        elif isinstance(value, np.ndarray):
            value.fill(0)
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            _spoil(one)
        if not isinstance(value, tuple):
            value.clear()


@pytest.mark.parametrize("key", ASKED)
def test_what_an_answer_does_to_its_inputs_reaches_no_later_ones(key):
    one = EXERCISES[key]
    drawn, practised = _drawn(one, 5), one.data()
    before, given = _content(drawn), _content(practised)
    call(lambda *inputs: _spoil(inputs), drawn)
    assert _content(drawn) == before, "the call got the check's own data"
    _spoil(practised)
    assert _content(one.data()) == given and _content(_drawn(one, 5)) == before


def test_a_right_answer_is_right_after_a_learner_has_changed_the_pictures_in_place():
    one = EXERCISES["phantom.2"]

    def clumsy(known: pd.DataFrame, new: pd.DataFrame) -> np.ndarray:
        for table in (known, new):
            for pixels in table["pixels"]:
                pixels *= 0
        return np.zeros(6)

    for pixels in one.data()[0]["pixels"]:
        pixels -= pixels.mean()
    assert not one.check(clumsy).right
    assert one.check(_solved("phantom.2")).right


@pytest.mark.parametrize(
    "wrap",
    [
        lambda pixels: pd.DataFrame({"pixels": [pixels, pixels]}),
        lambda pixels: pd.Series([pixels], index=["a"], name="pixels"),
        lambda pixels: {"one": [(pd.DataFrame({"a": [1], "pixels": [[pixels]]}),)]},
        lambda pixels: pd.DataFrame({"table": [pd.Series([{"a": pixels}])]}),
        lambda pixels: np.array([pixels, None], dtype=object),
    ],
)
def test_a_copy_shares_nothing_however_deep_a_picture_lies(wrap):
    pixels = np.ones((2, 2))
    value = wrap(pixels)
    other = copied(value)
    assert _content(other) == _content(value) and type(other) is type(value)
    _spoil(other)
    assert pixels.all()


def test_a_copied_table_is_the_same_table():
    table = pd.DataFrame({"a": ["x", None], "b": [1, 2], "c": pd.Categorical(["u", "v"])}, index=[3, 5])
    pd.testing.assert_frame_equal(copied(table), table)
    twice = pd.DataFrame([[np.ones(1), "x"]], columns=["a", "a"], index=pd.Index([7], name="id"))
    pd.testing.assert_frame_equal(copied(twice), twice)


def test_an_answer_that_fills_one_array_again_and_again_hides_no_leak():
    one, kept = EXERCISES["metrics.2"], np.empty(500)

    def rank(known: pd.DataFrame, new: pd.DataFrame) -> np.ndarray:
        kept[:] = new["in_truth"]
        return kept

    verdict = one.check(rank)
    assert not verdict.right and one.verdicts["in_truth"] in verdict.text


def test_what_comes_back_after_a_change_may_be_of_another_kind_and_is_a_leak():
    one = EXERCISES["pipeline.2"]
    seen: list[int] = []

    def report(valid: pd.DataFrame, test: pd.DataFrame) -> Any:
        seen.append(1)
        return ("model 1", 0.5) if len(seen) < 3 else 7

    verdict = one.check(report)
    assert not verdict.right and one.verdicts["test"] in verdict.text


SHIFTS = "[(down, across) for down in (-2, 0, 2) for across in (-2, 0, 2)]"
BY_CLASS = {  # what is done to a picture does not depend on its label; only the order does
    "grid": f"""
def augment(pictures, labels):
    made = []
    for label in (1, 0):
        for picture in pictures[labels == label]:
            made += [(np.roll(picture, shift, (0, 1)), label) for shift in {SHIFTS}]
    return np.array([one for one, _ in made]), np.array([label for _, label in made])
""",
    "numbers": """
def augment(pictures, labels):
    rng, made, told = np.random.default_rng(0), [], []
    for label in np.unique(labels):
        for picture in pictures[labels == label]:
            for _ in range(20):
                made.append(np.roll(picture, rng.integers(-3, 4, 2), (0, 1)) * rng.uniform(0.8, 1.2))
                told.append(label)
    return np.array(made), np.array(told)
""",
    "rounds": """
def augment(pictures, labels):
    rng, made, told = np.random.default_rng(0), [], []
    for label in (0, 1):
        for _ in range(20):
            for picture in pictures[labels == label]:
                made.append(np.roll(picture, rng.integers(-3, 4, 2), (0, 1)) * rng.uniform(0.8, 1.2))
                told.append(label)
    return np.array(made), np.array(told)
""",
    "at once": """
def augment(pictures, labels):
    rng, made, told = np.random.default_rng(0), [], []
    for label in (0, 1):
        own = pictures[labels == label]
        for down in (-2, 0, 2):
            for across in (-2, 0, 2):
                made.append(np.roll(own, (down, across), (1, 2)) * rng.uniform(0.8, 1.2, (len(own), 1, 1)))
                told.append(np.full(len(own), label))
    return np.concatenate(made), np.concatenate(told)
""",
}
LEAKS = {  # what is done to a picture depends on its label
    "brighter": f"""
def augment(pictures, labels):
    made = []
    for label in (0, 1):
        for picture in pictures[labels == label]:
            made += [(np.roll(picture, shift, (0, 1)) + 0.05 * label, label) for shift in {SHIFTS}]
    return np.array([one for one, _ in made]), np.array([label for _, label in made])
""",
    "farther": """
def augment(pictures, labels):
    rng, made, told = np.random.default_rng(0), [], []
    for label in (0, 1):
        for picture in pictures[labels == label]:
            for _ in range(20):
                made.append(np.roll(picture, rng.integers(-3 - label, 4 + label, 2), (0, 1)))
                told.append(label)
    return np.array(made), np.array(told)
""",
    "seeded": """
def augment(pictures, labels):
    made, told = [], []
    for label in (0, 1):
        rng = np.random.default_rng(label)
        for picture in pictures[labels == label]:
            for _ in range(20):
                made.append(np.roll(picture, rng.integers(-3, 4, 2), (0, 1)))
                told.append(label)
    return np.array(made), np.array(told)
""",
    "mean of a class": """
def augment(pictures, labels):
    made = [pictures]
    for shift in ((0, 2), (2, 0), (-2, 0), (0, -2)):
        means = np.array([pictures[labels == label].mean(axis=0) for label in labels])
        made.append(np.roll((pictures + means) / 2, shift, (1, 2)))
    return np.concatenate(made), np.tile(labels, 5)
""",
    "mixed in a class": """
def augment(pictures, labels):
    rng, made, told = np.random.default_rng(0), [], []
    for label in (0, 1):
        own = pictures[labels == label]
        for _ in range(20):
            for picture in own:
                share = rng.uniform(0.2, 0.8)
                made.append(share * picture + (1 - share) * own[rng.integers(len(own))])
                told.append(label)
    return np.array(made), np.array(told)
""",
    "other shifts": """
def augment(pictures, labels):
    rng, made, told = np.random.default_rng(0), [], []
    for label in (0, 1):
        for _ in range(9):
            made.append(np.roll(pictures[labels == label], rng.integers(-3, 4, 2), (1, 2)))
            told.append(np.full(len(made[-1]), label))
    return np.concatenate(made), np.concatenate(told)
""",
    "one class": """
def augment(pictures, labels):
    more = np.concatenate([np.roll(pictures[labels == 1], shift, (1, 2)) for shift in ((0, 2), (2, 0))])
    return np.concatenate([pictures, more]), np.concatenate([labels, np.ones(len(more), int)])
""",
}


def _shorter(key: str) -> Exercise:
    "An exercise with few data sets"
    one = EXERCISES[key]
    return replace(one, contest=replace(one.contest, rounds=4))


def _augmented(code: str) -> Any:
    "The verdict on a third of the data sets"
    return _shorter("transfer.2").check(_made(code, "augment"))


@pytest.mark.parametrize("name", BY_CLASS)
def test_who_takes_one_class_after_the_other_does_not_leak(name):
    verdict = _augmented(BY_CLASS[name])
    assert verdict.right, verdict.text


@pytest.mark.parametrize("name", LEAKS)
def test_who_treats_the_classes_in_different_ways_leaks_in_any_order(name):
    verdict = _augmented(LEAKS[name])
    assert not verdict.right and EXERCISES["transfer.2"].verdicts["label"] in verdict.text, verdict.text


def _boxes(known: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    "The solution as a table, with the names and the index of its rows"
    return pd.DataFrame(np.asarray(_solved("dataset.2")(known, new)), columns=BOX_COLUMNS, index=new.index)


def _chances(known: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    "The solution as a table with the names of the classes"
    return pd.DataFrame(np.asarray(_solved("calibrate.2")(known, new)), columns=list(APPEARANCES), index=new.index)


@pytest.mark.parametrize(("key", "table"), [("dataset.2", _boxes), ("calibrate.2", _chances)])
def test_a_table_is_taken_by_the_names_of_its_columns_and_rows(key, table):
    one = _shorter(key)
    ways = {
        "as it is": lambda given: given,
        "other columns first": lambda given: given[sorted(given.columns)[::-1]],
        "other rows first": lambda given: given.sample(frac=1, random_state=0),
        "both": lambda given: given[list(given.columns)[::-1]].iloc[::-1],
        "without names": lambda given: given.set_axis(list("abcd"), axis=1),
        "with rows of another numbering": lambda given: given.set_axis(range(7, 7 + len(given))),
        "an array": lambda given: given.to_numpy(),
    }
    for name, way in ways.items():
        verdict = one.check(lambda known, new, way=way: way(table(known, new)))
        assert verdict.right, (name, verdict.text)
    wrong = {
        "an array in another order": lambda given: given.to_numpy()[:, ::-1],
        "names in another order": lambda given: given.set_axis(list(given.columns)[::-1], axis=1),
        "rows in another order": lambda given: given.iloc[::-1].reset_index(drop=True),
        "a column that is missing": lambda given: given.iloc[:, :3],
        "rows twice": lambda given: given.iloc[[0, *range(len(given) - 1)]],
    }
    for name, way in wrong.items():
        assert not one.check(lambda known, new, way=way: way(table(known, new))).right, name


ROWS = ["app.2", "folds.2", "metrics.2", "phantom.2", "scale.2", "severity.2"]
ROWS += ["shortcuts.2", "stacking.2", "start.2", "submission.2", "views.2"]


@pytest.mark.parametrize("key", ROWS)
def test_a_series_is_taken_by_its_index_and_a_list_by_place(key):
    one, solution = EXERCISES[key], _solved(key)

    def turned(*inputs: Any) -> pd.Series:
        table = [value for value in inputs if isinstance(value, pd.DataFrame)][-1]
        return pd.Series(list(solution(*inputs)), index=table.index).iloc[::-1]

    assert one.check(turned).right
    assert not one.check(lambda *inputs: turned(*inputs).tolist()).right


@pytest.mark.parametrize(
    ("answer", "expected", "alike"),
    [
        ([np.str_("a"), np.str_("b")], ["a", "b"], True),
        (np.array(["a", "b"]), ["a", "b"], True),
        (np.array(["a", "b"], dtype=object), ["a", "b"], True),
        (pd.Series(["a", "b"]), ("a", "b"), True),
        (pd.Index(["a", "b"]), ["a", "b"], True),
        (np.array("a"), "a", True),
        (type("Name", (str,), {})("a"), "a", True),
        (type("Any", (str,), {"__eq__": lambda *_: True, "__hash__": str.__hash__})("b"), "a", False),
        ([(np.str_("a"), np.float32(0.5))], [("a", 0.5)], True),
        ({np.str_("a"): np.str_("b")}, {"a": "b"}, True),
        (np.array(["a", "b"]), {"b", "a"}, True),
        (np.bytes_(b"a"), b"a", True),
        (np.bool_(True), True, True),
        ([np.bool_(True), np.bool_(False)], [True, False], True),
        (np.array(["a", "c"]), ["a", "b"], False),
        (np.str_("a"), b"a", False),
        (np.bytes_(b"a"), "a", False),
        ("ab", ["a", "b"], False),
        (["a"], "a", False),
        (np.array(["1"]), [1], False),
        (np.str_("1"), 1, False),
        (1, "1", False),
        (np.array([["a", "0.5"]]), [("a", 0.5)], False),
        ("None", None, False),
        (np.array(None), None, False),
    ],
)
def test_text_of_numpy_counts_as_text_of_python(answer, expected, alike):
    assert same(answer, expected) is alike


NUMPY = {
    "folds.1": """
def leaks(fold, owner):
    owners, folds = np.array(list(owner.values())), np.array([fold[study] for study in owner])
    return [one for one in np.unique(owners) if len(np.unique(folds[owners == one])) > 1]
""",
    "submission.1": """
def read(string):
    rows = np.array(string.split()).reshape(-1, 6)
    return [(row[0], *row[1:].astype(float)) for row in rows]
""",
    "app.1": """
def safe(text):
    from html import escape
    return np.str_(escape(text))
""",
}


@pytest.mark.parametrize("key", NUMPY)
def test_an_answer_in_numpy_is_as_right_as_one_in_python(key):
    assert EXERCISES[key].check(_made(NUMPY[key], EXERCISES[key].name)).right


@pytest.mark.parametrize("key", ASKED)
def test_every_argument_has_more_than_one_value(key):
    one = EXERCISES[key]
    drawn = [_drawn(one, number) for number in (range(6) if one.contest else range(TRIALS))]
    for place, values in enumerate(zip(*drawn, strict=True)):
        assert (len({_content(value) for value in values}) > 1) is ((key, place) not in NEVER), place


DEAF = {  # right but for one argument, for which they take what was always drawn
    "views.1, width": """
def from_half(boxes, width, height):
    return [[40 - c / 2, b / 2, 40 - a / 2, d / 2] for a, b, c, d in boxes]
""",
    "views.1, height for width": """
def from_half(boxes, width, height):
    return [[height / 2 - c / 2, b / 2, height / 2 - a / 2, d / 2] for a, b, c, d in boxes]
""",
    "eda.1, cells": """
def cover(boxes, cells):
    covered = np.zeros((4, 4), int)
    for x_min, y_min, x_max, y_max in np.round(np.array(boxes).reshape(-1, 4) * 4).astype(int):
        covered[y_min:y_max, x_min:x_max] += 1
    return covered
""",
    "transfer.1, stride": """
def covered(boxes, cells, stride):
    inside = np.zeros((cells * 4, cells * 4))
    for x_min, y_min, x_max, y_max in boxes:
        inside[y_min:y_max, x_min:x_max] = 1
    return inside.reshape(cells, 4, cells, 4).mean(axis=(1, 3))
""",
    "classify.1, classes": """
def confusion(truth, predicted, classes):
    pairs, names = list(zip(truth, predicted)), ["negative", "typical", "atypical"]
    return [[pairs.count((right, other)) for other in names] for right in names]
""",
    "prepare.2, side": """
from covidxr.prepare import fit_square
def copies(pictures, side):
    made = []
    for one in pictures:
        low, high = np.percentile(one, [2, 98])
        made.append(fit_square(np.clip((one - low) / (high - low), 0, 1), 16)[0] / 255)
    return np.array(made)
""",
}


@pytest.mark.parametrize("name", DEAF)
def test_an_answer_that_ignores_an_argument_fails(name):
    one = EXERCISES[name.split(",")[0]]
    assert not one.check(_made(DEAF[name], one.name)).right
    assert one.check(_made(ANSWERS[one.key]["other"], one.name)).right and one.check(_solved(one.key)).right


def test_the_boxes_of_a_map_lie_on_the_borders_of_its_cells():
    for number in range(TRIALS):
        boxes, cells = _drawn(EXERCISES["eda.1"], number)
        assert all(int(value * cells) == round(value * cells, 9) for box in boxes for value in box)
        assert all(box[0] < box[2] <= 1 and box[1] < box[3] <= 1 for box in boxes)


CARELESS = {  # wrong where a question names a case: just at a border, or where dictionaries and tables differ in order
    "phantom.1, from 25 %": """
def extent(lung, opacity):
    return int(np.ceil(4 * (lung & opacity).sum() / max(lung.sum(), 1)))
""",
    "phantom.1, to 50 %": """
def extent(lung, opacity):
    share = (lung & opacity).sum() / max(lung.sum(), 1)
    return 0 if share == 0 else 1 + int(share >= 0.25) + int(share >= 0.5) + int(share > 0.75)
""",
    "phantom.1, to 75 %": """
def extent(lung, opacity):
    share = (lung & opacity).sum() / max(lung.sum(), 1)
    return 0 if share == 0 else 1 + int(share >= 0.25) + int(share > 0.5) + int(share >= 0.75)
""",
    "explain.1, at the end of the reach": """
def points(heat, mask, reach):
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    rows, columns = np.nonzero(mask)
    return bool((np.maximum(abs(rows - row), abs(columns - column)) < max(reach, 0.5)).any())
""",
    "explain.1, along a diagonal": """
def points(heat, mask, reach):
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    rows, columns = np.nonzero(mask)
    return bool((np.hypot(rows - row, columns - column) <= reach).any())
""",
    "metrics.1, no area": """
def iou(first, second):
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0) * max(height, 0)
    return both / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - both)
""",
    "scale.1, slower": """
def speedup(alone, shared, start, cores):
    return 1.0 if cores == 1 else max(1.0, (alone + shared) / (alone + start + shared / cores))
""",
    "folds.1, by place": """
def leaks(fold, owner):
    seen = {}
    for number, patient in zip(fold.values(), owner.values()):
        seen.setdefault(patient, set()).add(number)
    return sorted(patient for patient, folds in seen.items() if len(folds) > 1)
""",
    "pipeline.1, by place": """
def empty(chances, shares):
    return sum(chance * share for chance, share in zip(chances.values(), shares.values()))
""",
    "ensemble.2, by place": """
from covidxr.ensemble import choose_class_weights
def weights(tables, truth, seen):
    honest = {name: table.assign(study_id=truth.index) for name, table in tables.items() if name not in seen}
    return dict.fromkeys(seen, 0.0) | choose_class_weights(honest, truth)
""",
}


@pytest.mark.parametrize("name", CARELESS)
def test_an_answer_that_errs_where_a_question_names_a_case_fails(name):
    one = EXERCISES[name.split(",")[0]]
    assert not one.check(_made(CARELESS[name], one.name)).right
    assert one.check(_solved(one.key)).right


def test_every_border_of_the_extent_is_reached_and_missed_by_a_pixel():
    shares = []
    for number in range(TRIALS):
        lung, opacity = _drawn(EXERCISES["phantom.1"], number)
        shares.append((int((lung & opacity).sum()), int(lung.sum())))
    for quarters in (1, 2, 3):
        apart = [4 * opaque - quarters * lung for opaque, lung in shares if lung]
        assert apart.count(0) >= 6 and -4 in apart and 4 in apart, quarters
    assert any(not lung for _, lung in shares) and any(0 < 4 * opaque < lung for opaque, lung in shares)


@pytest.mark.parametrize("key", ["folds.1", "pipeline.1", "detect.2", "ensemble.2"])
def test_what_is_joined_by_a_key_lies_in_different_orders(key):
    orders = set()
    for number in range(0, 8) if EXERCISES[key].contest else range(30, TRIALS):
        inputs = _drawn(EXERCISES[key], number)
        if key == "ensemble.2":
            keys = [table["study_id"].tolist() for table in inputs[0].values()] + [inputs[1].index.tolist()]
            assert all(sorted(one) == sorted(keys[0]) for one in keys) and len(set(map(tuple, keys))) == 5
            continue
        first, second = (list(one.keys() if isinstance(one, dict) else []) for one in inputs)
        orders.add(tuple(second) if not first else first == second)
    assert key == "ensemble.2" or (False in orders if key.endswith(".1") else len(orders) > 1)


EMPTY = ["app.1", "classify.1", "dataset.1", "eda.1", "folds.1", "transfer.1", "views.1"]  # no question speaks of none


@pytest.mark.parametrize("key", EMPTY)
def test_no_input_is_empty_where_no_question_says_so(key):
    one = EXERCISES[key]
    assert all(len(_drawn(one, number)[0]) for number in range(TRIALS))
    assert one.check(_solved(key)).right


def test_the_call_of_scikit_learn_is_a_right_confusion_table():
    from sklearn.metrics import confusion_matrix

    one = EXERCISES["classify.1"]
    verdict = one.check(lambda truth, predicted, classes: confusion_matrix(truth, predicted, labels=classes))
    assert verdict.right, verdict.text


def _patients_dealt(table: pd.DataFrame) -> pd.Series:
    "Patients dealt out at random, whoever is ill"
    names = np.random.default_rng(0).permutation(table["patient_id"].unique())
    return table["patient_id"].map({name: number % 5 for number, name in enumerate(names)})


def _in_groups(table: pd.DataFrame, **choices: Any) -> np.ndarray:
    "Folds of scikit-learn's GroupKFold"
    from sklearn.model_selection import GroupKFold

    answer = np.zeros(len(table), int)
    for number, (_, held_out) in enumerate(GroupKFold(5, **choices).split(table, groups=table["patient_id"])):
        answer[held_out] = number
    return answer


def _only_ill(table: pd.DataFrame) -> pd.Series:
    "Patients who are always ill in the last fold, the others in the first four"
    always = table.groupby("patient_id")["ill"].min()
    place = {name: 4 if ill else number % 4 for number, (name, ill) in enumerate(always.items())}
    return table["patient_id"].map(place)


def test_every_split_by_patient_with_ill_and_healthy_in_each_fold_is_right():
    one = EXERCISES["folds.2"]
    for answer in (_in_groups, lambda table: _in_groups(table, shuffle=True, random_state=1), _patients_dealt):
        verdict = one.check(answer)
        assert verdict.right, verdict.text
    verdict = _shorter("folds.2").check(_only_ill)
    assert not verdict.right and one.verdicts["fault"] in verdict.text
