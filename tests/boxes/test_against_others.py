"The metric and the fusion beside other people's implementations, on random cases; and where those are wrong, what is right."

import contextlib
import io
import os
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covidxr import ensemble, ensemble_boxes
from covidxr.base.errors import DataError
from covidxr.base.terms import BOX_COLUMNS
from covidxr.metrics import average_precision, bootstrap_scores, score

CASES = int(os.environ.get("COVIDXR_CASES", 2000))  # of each kind; fewer for a quick look
MANY = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
LABELS = ["a", "b", "c", "d", "e", "f"]


@st.composite
def boxes(draw, images: int = 4):
    "Whole corners, so that ties of overlap, duplicates and boxes without area are common"
    x, y = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    return (
        f"i{draw(st.integers(0, images - 1))}",
        x,
        y,
        x + draw(st.integers(0, 4)),
        y + draw(st.integers(0, 4)),
    )


def _tables(truth: list, guesses: list) -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = ["id", *BOX_COLUMNS, "label"]
    return pd.DataFrame(truth, columns=columns), pd.DataFrame(guesses, columns=[*columns, "confidence"])


@st.composite
def scored(draw, distinct: bool = False):
    "A truth and a prediction of one to six classes; ids of the prediction may be unknown to the truth"
    labels = st.sampled_from(LABELS[: draw(st.integers(1, 6))])
    truth = draw(st.lists(st.tuples(boxes(), labels), min_size=1, max_size=14))
    guesses = draw(st.lists(st.tuples(boxes(5), labels, st.integers(0, 5)), max_size=30))
    order = draw(st.permutations(range(len(guesses)))) if distinct else [sure for _, _, sure in guesses]
    return _tables(
        [(*box, label) for box, label in truth],
        [(*box, label, sure / 40) for (box, label, _), sure in zip(guesses, order, strict=True)],
    )


def _plain_iou(one: tuple, other: tuple) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(area) - width * height)


def _plain(truth: pd.DataFrame, prediction: pd.DataFrame, threshold: float) -> float:
    "VOC's average precision as its text says it, with lists and loops"
    drawn = [list(zip(*(table[side] for side in BOX_COLUMNS), strict=True)) for table in (truth, prediction)]
    true = sorted(zip(truth["id"], drawn[0], strict=True))
    said = sorted(zip(-prediction["confidence"], prediction["id"], drawn[1], strict=True))
    taken, steps = set(), {}
    for minus, name, box in said:
        best = None
        for number, (place, other) in enumerate(true):
            value = _plain_iou(box, other)
            if place == name and value > threshold:
                rank = (value, number not in taken, -number)
                best = rank if best is None or rank > best else best
        hit = best is not None and best[1]
        if hit:
            taken.add(-best[2])
        right, seen = steps.get(minus, (0, 0))
        steps[minus] = (right + hit, seen + 1)
    curve, right, seen = [], 0, 0
    for minus in sorted(steps):
        right, seen = right + steps[minus][0], seen + steps[minus][1]
        curve.append((right / len(true), right / seen))
    area, before = 0.0, 0.0
    for number, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[number:])
        before = recall
    return area


@MANY
@given(scored(), st.sampled_from([0.0, 0.3, 0.5, 0.75]), st.randoms())
def test_average_precision_equals_a_plain_implementation_and_rows_have_no_order(tables, threshold, random):
    truth, prediction = tables
    result = score(truth, prediction, iou_threshold=threshold)
    for label, value in result.per_class.items():
        mine = truth[truth["label"] == label]
        if not len(mine):
            assert np.isnan(value) and label in result.without_truth
            continue
        assert value == pytest.approx(_plain(mine, prediction[prediction["label"] == label], threshold), abs=1e-12)
    mixed = [table.sample(frac=1, random_state=random.randint(0, 999)) for table in tables]
    assert score(*mixed, iou_threshold=threshold).per_class == pytest.approx(result.per_class, nan_ok=True, abs=0)


def _coco(truth: pd.DataFrame, prediction: pd.DataFrame, threshold: float, fast: bool = False) -> dict[str, float]:
    "What pycocotools says, or faster-coco-eval"
    if fast:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

    ids = {name: number for number, name in enumerate(sorted(set(truth["id"]) | set(prediction["id"])), 1)}
    labels = {name: number for number, name in enumerate(sorted(set(truth["label"]) | set(prediction["label"])), 1)}

    def rows(table: pd.DataFrame) -> list[dict]:
        columns = [table[name] for name in ("id", *BOX_COLUMNS, "label")]
        columns.append(table["confidence"] if "confidence" in table else table["label"])
        return [
            {
                "id": number,
                "image_id": ids[name],
                "category_id": labels[label],
                "bbox": [float(x), float(y), float(right - x), float(below - y)],
                "area": float((right - x) * (below - y)),
                "iscrowd": 0,
                **({"score": sure} if "confidence" in table else {}),
            }
            for number, (name, x, y, right, below, label, sure) in enumerate(
                sorted(zip(*columns, strict=True), key=lambda row: row[:5]), 1
            )
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "info": {},
            "images": [{"id": number} for number in ids.values()],
            "categories": [{"id": number} for number in labels.values()],
            "annotations": rows(truth),
        }
        known.createIndex()
        said = known.loadRes(rows(prediction)) if len(prediction) else None
        if said is None:
            return {name: 0.0 for name in labels if (truth["label"] == name).any()}
        run = COCOeval(known, said, "bbox")
        run.params.iouThrs, run.params.maxDets = np.array([threshold]), [1, 10, 1000]
        run.params.areaRng, run.params.areaRngLbl = [[-1, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][0, :, :, 0, 2]
    return {name: float(precision[:, number - 1].mean()) for name, number in labels.items()}


@MANY
@given(scored(distinct=True), st.sampled_from([0.3, 0.5, 0.75]))
def test_cocos_average_precision_equals_pycocotools_and_faster_coco_eval(tables, threshold):
    truth, prediction = tables
    result = score(truth, prediction, iou_threshold=threshold, method="coco").per_class
    for fast in (False, True):
        for label, value in _coco(truth, prediction, threshold, fast).items():
            if value >= 0:  # both mark a class without truth by -1
                assert result[label] == pytest.approx(value, abs=1e-9)
            else:
                assert np.isnan(result[label])


def test_where_confidences_tie_pycocotools_depends_on_the_names_of_images_and_this_score_does_not():
    def tables(hit: str, alarm: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        return _tables(
            [(hit, 0, 0, 4, 4, "a"), ("unseen", 0, 0, 4, 4, "a")],
            [(hit, 0, 0, 4, 4, "a", 0.5), (alarm, 0, 0, 4, 4, "a", 0.5)],
        )

    assert _coco(*tables("i1", "i2"), 0.5)["a"] > 1.5 * _coco(*tables("i2", "i1"), 0.5)["a"]
    assert score(*tables("i1", "i2"), method="coco").map == score(*tables("i2", "i1"), method="coco").map


@settings(parent=MANY, max_examples=max(CASES // 5, 20))
@given(scored(), st.sampled_from(["voc", "coco"]))
def test_each_draw_of_the_bootstrap_is_the_score_of_the_patients_drawn(tables, method):
    from covidxr.base.seeds import generator

    truth, prediction = tables
    owner = pd.Series({"i0": "p", "i1": "p", "i2": "q", "i3": "r", "i4": "s"})
    draws = bootstrap_scores(truth, {"one": prediction}, owner, draws=5, seed=1, method=method)["one"]
    ids = pd.unique(pd.concat([truth["id"], prediction["id"]]))
    patients = sorted(set(owner[ids]))
    counts = generator(1, "bootstrap").multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=5)
    images = [{name: table[table["id"] == name] for name in ids} for table in tables]
    for value, count in zip(draws, counts, strict=True):
        copies = [(name, turn) for name in ids for turn in range(count[patients.index(owner[name])])]
        parts = [
            pd.concat([table.iloc[:0], *(own[name].assign(id=f"{name} {turn}") for name, turn in copies)])
            for table, own in zip(tables, images, strict=True)
        ]
        if set(parts[0]["label"]) != set(truth["label"]):
            assert np.isnan(value)
        else:
            assert value == pytest.approx(
                score(*parts, labels=sorted(set(truth["label"])), method=method).map, abs=1e-12
            )


# Fusing beside ensemble-boxes 1.0.9


@st.composite
def opinions(draw, alone: bool = False):
    "Normalised boxes of one to four models on one image, with distinct scores; `alone`: a model's boxes do not meet"
    models = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lists = [], [], []
    for _ in range(models):
        count = draw(st.integers(0, 6))
        place = rng.permutation(9)[:count] if alone else rng.integers(0, 3, count)
        low = np.column_stack([place % 3, place // 3]) / 3 + rng.random((count, 2)) * 0.06
        size = 0.1 + rng.random((count, 2)) * (0.12 if alone else 0.2)
        lists[0].append(np.hstack([low, np.minimum(low + size, 1)]).tolist())
        lists[1].append((0.05 + 0.9 * rng.random(count)).tolist())
        lists[2].append(rng.integers(0, 2 if not alone else 1, count).tolist())
    return (*lists, (rng.integers(1, 9, models) / 4).tolist())


def _same(mine: tuple, theirs: tuple) -> None:
    order = [np.lexsort((*np.asarray(one[0]).reshape(-1, 4).T.round(5), one[2])) for one in (mine, theirs)]
    assert len(mine[1]) == len(theirs[1])
    for part in range(3):
        assert np.allclose(np.asarray(mine[part])[order[0]], np.asarray(theirs[part])[order[1]], rtol=0, atol=1e-6), (
            part
        )


@MANY
@given(
    opinions(), st.sampled_from([0.3, 0.55]), st.sampled_from(["max", "box_and_model_avg", "absent_model_aware_avg"])
)
def test_weighted_boxes_fusion_equals_ensemble_boxes(lists, threshold, kind):
    import ensemble_boxes as theirs

    boxes_, scores, labels, weights = lists
    for share in (None, weights):
        options = dict(weights=share, iou_thr=threshold, skip_box_thr=0.1, conf_type=kind)
        _same(
            ensemble_boxes.weighted_boxes_fusion(boxes_, scores, labels, **options),
            theirs.weighted_boxes_fusion(boxes_, scores, labels, **options),
        )
    options = dict(weights=weights, iou_thr=threshold, conf_type="avg", allows_overflow=True)
    _same(
        ensemble_boxes.weighted_boxes_fusion(boxes_, scores, labels, **options),
        theirs.weighted_boxes_fusion(boxes_, scores, labels, **options),
    )


@MANY
@given(opinions(alone=True), st.sampled_from([0.3, 0.55]))
def test_its_plain_average_is_the_same_where_no_model_draws_a_box_twice(lists, threshold):
    import ensemble_boxes as theirs

    boxes_, scores, labels, weights = lists
    options = dict(weights=weights, iou_thr=threshold, conf_type="avg")
    _same(
        ensemble_boxes.weighted_boxes_fusion(boxes_, scores, labels, **options),
        theirs.weighted_boxes_fusion(boxes_, scores, labels, **options),
    )


@MANY
@given(opinions(), st.sampled_from([0.3, 0.5, 0.55]))
def test_suppression_and_non_maximum_weighted_equal_ensemble_boxes(lists, threshold):
    import ensemble_boxes as theirs

    boxes_, scores, labels, weights = lists
    for share in (None, weights):
        options = dict(weights=share, iou_thr=threshold, skip_box_thr=0.1)
        _same(
            ensemble_boxes.non_maximum_weighted(boxes_, scores, labels, **options),
            theirs.non_maximum_weighted(boxes_, scores, labels, **options),
        )
        if not all(boxes_):
            continue  # issue 54: it takes no model without boxes
        copies = lambda: [np.array(part) for part in boxes_], [list(part) for part in scores], labels  # noqa: E731
        _same(
            ensemble_boxes.nms(*(copies[0](), scores, labels), iou_thr=threshold, weights=share),
            theirs.nms(copies[0](), [list(part) for part in scores], labels, iou_thr=threshold, weights=share),
        )
        for method in (1, 2):
            kept = ensemble_boxes.soft_nms(boxes_, scores, labels, method, threshold, 0.5, 0.05, share)
            wanted = theirs.soft_nms(
                copies[0](), [list(part) for part in scores], labels, method, threshold, 0.5, 0.05, share
            )
            _same((kept[0], kept[1] * 0, kept[2]), (wanted[0], wanted[1] * 0, wanted[2]))  # its scores are the old ones


def _plain_soft_nms(lists: list, scores: list, sigma: float, least: float) -> list[tuple]:
    "Gaussian soft-NMS of one class as its paper says it: take the surest, lower all others, take the surest of what is left"
    waiting, kept = [[sure, *box] for box, sure in zip(lists, scores, strict=True)], []
    while waiting:
        chosen = max(waiting)
        waiting.remove(chosen)
        kept.append(tuple(chosen))
        for other in waiting:
            other[0] *= np.exp(-(_plain_iou(tuple(chosen[1:]), tuple(other[1:])) ** 2) / sigma)
    return sorted(one for one in kept if one[0] > least)


@MANY
@given(opinions(), st.sampled_from([0.2, 0.5, 1.0]))
def test_gaussian_soft_suppression_lowers_confidences_as_a_plain_version_does(lists, sigma):
    boxes_, scores = [box for part in lists[0] for box in part], [sure for part in lists[1] for sure in part]
    found, sure, _ = ensemble_boxes.soft_nms([boxes_], [scores], [[0] * len(boxes_)], 2, sigma=sigma, thresh=0.01)
    mine, plain = sorted(zip(sure, *found.T, strict=True)), _plain_soft_nms(boxes_, scores, sigma, 0.01)
    assert np.allclose(np.array(mine).reshape(-1, 5), np.array(plain).reshape(-1, 5), rtol=0, atol=1e-12)


@MANY
@given(opinions(), st.sampled_from(["wbf", "nmw", "nms", "soft-nms"]))
def test_tables_in_pixels_are_fused_as_lists_from_0_to_1_are(lists, method):
    boxes_, scores, labels, weights = lists
    rows = [
        ("x", *np.multiply(box, [640, 480, 640, 480]), sure, label, model)
        for model, parts in enumerate(zip(boxes_, scores, labels, strict=True))
        for box, sure, label in zip(*parts, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["image_id", *BOX_COLUMNS, "confidence", "label", "model"])
    named = dict(enumerate(weights))
    mine = ensemble.fuse_boxes(table, method, None if "nms" in method else named, iou_threshold=0.4)
    call = {
        "wbf": lambda: ensemble_boxes.weighted_boxes_fusion(
            boxes_, scores, labels, weights, 0.4, conf_type="box_and_model_avg"
        ),
        "nmw": lambda: ensemble_boxes.non_maximum_weighted(boxes_, scores, labels, weights, 0.4),
        "nms": lambda: ensemble_boxes.nms(boxes_, scores, labels, 0.4),
        "soft-nms": lambda: ensemble_boxes.soft_nms(boxes_, scores, labels, iou_thr=0.4),
    }
    lists_ = call[method]()
    scaled = (
        mine[BOX_COLUMNS].to_numpy(float) / [640, 480, 640, 480],
        mine["confidence"].to_numpy(float),
        mine["label"].to_numpy(float),
    )
    _same(scaled, (lists_[0], lists_[1], np.asarray(lists_[2], float)))


# Where ensemble-boxes 1.0.9 is wrong; each case shows its answer and the right one


def _theirs(*lists, **options):
    import ensemble_boxes as theirs

    with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return theirs.weighted_boxes_fusion(*lists, **options)


def test_issues_25_and_40_a_model_that_draws_a_box_twice_has_one_vote_and_no_score_exceeds_1():
    lists = [[[0.1, 0.1, 0.2, 0.2]] * 2, [[0.3, 0.3, 0.4, 0.4]]], [[1.0, 1.0], [0.5]], [[0, 0], [0]]
    assert _theirs(*lists, weights=[2, 1])[1].max() > 1.3
    assert ensemble_boxes.weighted_boxes_fusion(*lists, weights=[2, 1])[1] == pytest.approx([2 / 3, 1 / 6])
    doubled = [[[0.1, 0.1, 0.2, 0.2]] * 2, [[0.1, 0.1, 0.2, 0.2]]], [[0.9, 0.9], [0.3]], [[0, 0], [0]]
    once = [[[0.1, 0.1, 0.2, 0.2]], [[0.1, 0.1, 0.2, 0.2]]], [[0.9], [0.3]], [[0], [0]]
    assert _theirs(*doubled)[1] != pytest.approx(_theirs(*once)[1], abs=1e-3)
    fused = [ensemble_boxes.weighted_boxes_fusion(*part)[1] for part in (doubled, once)]
    assert fused[0].tolist() == pytest.approx([0.6]) and fused[1].tolist() == pytest.approx([0.6])


def test_issue_44_a_model_of_weight_0_is_left_out_and_nothing_is_nan():
    lists = [[[0.1, 0.1, 0.2, 0.2]], [[0.5, 0.5, 0.8, 0.8]] * 2], [[0.9], [0.8, 0.7]], [[0], [0, 0]]
    assert np.isnan(_theirs(*lists, weights=[1, 0])[0]).any()
    found, sure, _ = ensemble_boxes.weighted_boxes_fusion(*lists, weights=[1, 0])
    assert found.tolist() == [[0.1, 0.1, 0.2, 0.2]] and sure.tolist() == [0.9]


def test_issue_34_small_boxes_keep_their_area():
    low, high = 0.9, 0.9 + 2e-8
    lists = [[[low, low, high, high]], [[low, low, high, high]]], [[0.9], [0.8]], [[0], [0]]
    assert (_theirs(*lists)[0][:, 2] == _theirs(*lists)[0][:, 0]).any()
    found = ensemble_boxes.weighted_boxes_fusion(*lists)[0]
    assert found[0, 2] - found[0, 0] == pytest.approx(2e-8, rel=1e-6)


@pytest.mark.parametrize(
    "box, said",
    [
        ([30, 40, 90, 120], "divide corners"),
        ([0.5, 0.1, 0.2, 0.4], "swapped"),
        ([0.1, 0.1, 0.2, float("nan")], "number"),
    ],
)
def test_issues_3_9_and_56_pixels_and_swapped_corners_are_refused_in_words(box, said):
    for fuse in (
        ensemble_boxes.weighted_boxes_fusion,
        ensemble_boxes.non_maximum_weighted,
        ensemble_boxes.nms,
        ensemble_boxes.soft_nms,
    ):
        with pytest.raises(DataError, match=said):
            fuse([[[0.1, 0.1, 0.2, 0.2]], [box]], [[0.9], [0.8]], [[0], [0]])


def test_issue_9_pixels_come_back_as_nothing_there():
    assert len(_theirs([[[30, 40, 90, 120]]], [[0.9]], [[1]])[0]) == 0


def test_issue_54_a_model_without_boxes_does_not_stop_suppression():
    import ensemble_boxes as theirs

    lists = [[[0.1, 0.1, 0.2, 0.2]], []], [[0.9], []], [[0], []]
    with pytest.raises(ValueError):
        theirs.nms(*lists)
    for suppress in (ensemble_boxes.nms, ensemble_boxes.soft_nms):
        assert suppress(*lists)[1].tolist() == [0.9]
    for fuse in (ensemble_boxes.weighted_boxes_fusion, ensemble_boxes.non_maximum_weighted, ensemble_boxes.nms):
        assert [len(part) for part in fuse([[], []], [[], []], [[], []])] == [0, 0, 0]


def test_soft_suppression_gives_back_the_lowered_scores_and_lists_stay_as_they_were():
    import ensemble_boxes as theirs

    lists = [np.array([[0.1, 0.1, 0.5, 0.5]]), np.array([[0.1, 0.1, 0.5, 0.45]])], [[0.9], [0.8]], [[0], [0]]
    kept = theirs.soft_nms(*lists, method=1, iou_thr=0.5)
    assert sorted(kept[1]) == [0.8, 0.9]
    assert ensemble_boxes.soft_nms(*lists, method=1, iou_thr=0.5)[1] == pytest.approx([0.9, 0.8 * (1 - 0.35 / 0.4)])
    scores = [[0.9], [0.8]]
    ensemble_boxes.nms(lists[0], scores, lists[2], weights=[1, 3])
    assert scores == [[0.9], [0.8]]
    theirs.nms(lists[0], scores, lists[2], weights=[1, 3])
    assert scores != [[0.9], [0.8]]


def test_no_weights_no_votes_and_wrong_numbers_are_said():
    lists = [[[0.1, 0.1, 0.2, 0.2]]], [[0.9]], [[0]]
    for options, said in (
        ({"weights": [1, 2]}, "one for each of 1"),
        ({"weights": [0]}, "not all 0"),
        ({"conf_type": "mean"}, "conf_type"),
    ):
        with pytest.raises(DataError, match=said):
            ensemble_boxes.weighted_boxes_fusion(*lists, **options)
    with pytest.raises(DataError, match="as many"):
        ensemble_boxes.weighted_boxes_fusion([[[0.1, 0.1, 0.2, 0.2]]], [[0.9, 0.8]], [[0]])
    assert (
        average_precision(
            *[table.drop(columns="label") for table in _tables([("i", 0, 0, 1, 1, "")], [("i", 0, 0, 1, 1, "", 1.0)])]
        )
        == 1
    )
