"What limits a row of steps that run side by side."

import logging
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidxr.base.errors import DataError
from covidxr.scale import run_many, throughput

SECONDS = st.floats(1e-6, 1e4)


def test_steps_that_need_the_same_share_it_and_what_limits_comes_first():
    steps = {"read": (0.01, "disk"), "decode": (0.2, "core"), "shrink": (0.05, "core"), "ask": (0.002, "gpu")}
    table = throughput(steps, {"core": 4, "gpu": 1, "disk": 1, "nobody needs it": 7})
    assert table.index.tolist() == ["core", "disk", "gpu"]
    assert table["steps"].tolist() == ["decode, shrink", "read", "ask"]
    assert np.allclose(table["rate"], [16, 100, 500]) and np.allclose(table["busy"], [1, 0.16, 0.032])


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(SECONDS, st.sampled_from(["core", "gpu"])), min_size=1))
def test_nothing_works_more_than_all_the_time_and_twice_of_everything_is_twice_as_fast(steps):
    one, two = (throughput(steps, {"core": cores, "gpu": gpus}) for cores, gpus in ((3, 1), (6, 2)))
    assert one["busy"].iloc[0] == 1 and (one["busy"] <= 1).all() and one["rate"].is_monotonic_increasing
    assert np.allclose(two["rate"], 2 * one["rate"]) and np.allclose(two["busy"], one["busy"])


@pytest.mark.parametrize(
    ("steps", "have", "said"),
    [
        ({}, {"core": 1}, "no step"),
        ([], {"core": 1}, "no step"),
        ({"ask": (0.1, "core")}, {}, "no thing"),
        ({"ask": (0.1, "core")}, 3, "no thing"),
        ({"ask": (0.1, "cpu")}, {"core": 1, "gpu": 2}, "step 'ask' must be a pair of seconds and one of core, gpu"),
        ({"ask": (0.1, ["core"])}, {"core": 1}, "step 'ask' must be a pair"),
        ({"ask": 0.1}, {"core": 1}, "step 'ask' must be a pair"),
        ({"ask": "ab"}, {"core": 1}, "step 'ask' must be a pair"),
        ({"ask": (0, "core")}, {"core": 1}, "the seconds of 'ask'"),
        ({"ask": (float("nan"), "core")}, {"core": 1}, "the seconds of 'ask'"),
        ({"ask": ("0.1", "core")}, {"core": 1}, "the seconds of 'ask'"),
        ({"ask": (0.1, "core")}, {"core": 0}, "the number of core"),
        ({"ask": (0.1, "core")}, {"core": 1, "gpu": "x"}, "the number of gpu"),
        ({"ask": (0.1, "core")}, {"core": float("inf")}, "the number of core"),
        ({"ask": (float("inf"), "core")}, {"core": 1}, "the seconds of 'ask'"),
        ({1: (0.1, "cpu")}, {2: 1}, "step 1 must be a pair of seconds and one of 2"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(steps, have, said):
    with pytest.raises(DataError, match=said):
        throughput(steps, have)


def _work(item: int) -> float:
    if item == 7:
        os._exit(7)  # without a word
    return 1 / item


@pytest.mark.parametrize(("items", "workers"), [([1, 0, 7], 1), ([1, 0, 7, 2, 4], 2), ([7], None)])
def test_each_item_has_an_answer_also_where_one_raises_or_ends_its_process(items, workers):
    answers = dict(run_many(_work, items, lambda item, why: why, workers=workers))
    fine = {item: 1 / item for item in items if item not in (0, 7)}
    assert {item: answer for item, answer in answers.items() if item in fine} == fine
    assert answers.get(0, "ZeroDivisionError: division by zero") == "ZeroDivisionError: division by zero"
    assert "ended the process" in answers[7] and len(answers) == len(items)


class _Untold(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class _Unopened:
    "Can be packed, and not unpacked"

    def __reduce__(self) -> tuple:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("not here")


class _Panic(BaseException):
    "As libraries in Rust raise it"


def _odd(item: object) -> object:
    match item:
        case "exits":
            sys.exit(3)
        case "panics":
            raise _Panic("out of bounds")
        case "tells nothing":
            raise _Untold
        case "cannot be packed":
            return (one for one in ())
        case "cannot be unpacked":
            return _Unopened()
    return item


_ODD = {
    "exits": "SystemExit: 3",
    "panics": "_Panic: out of bounds",
    "tells nothing": "_Untold: _Untold",
    "cannot be packed": "the answer cannot be sent: TypeError: cannot pickle 'generator' object",
    "cannot be unpacked": "the answer cannot be sent: RuntimeError: not here",
}


@pytest.mark.parametrize("on_cluster", [False, True])
def test_an_item_that_cannot_be_answered_or_sent_takes_no_other_with_it(on_cluster, request):
    how = {"scheduler": request.getfixturevalue("cluster")} if on_cluster else {"workers": 2}
    generator, unopened = (one for one in ()), _Unopened()
    items = [*range(6), *_ODD, generator, unopened, *range(6, 20)]
    answers = dict(run_many(_odd, items, lambda item, why: (item, why), **how))
    assert {number: answers[number] for number in range(20)} == {number: number for number in range(20)}
    assert {item: answers[item] for item in _ODD} == {item: (item, why) for item, why in _ODD.items()}
    assert answers[generator] == (generator, "the item cannot be sent: TypeError: cannot pickle 'generator' object")
    assert answers[unopened] == (unopened, "the item cannot be sent: RuntimeError: not here")


def test_a_scheduler_that_is_killed_is_said_in_one_sentence_and_dasks_log_is_as_it_was(capfd):
    distributed = pytest.importorskip("distributed", reason="the extra 'scale' is not installed")
    log = logging.getLogger("distributed.client")
    before = (log.level, list(log.handlers), list(log.filters))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    begin = "from distributed.cli.dask_{0} import main; main()"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", begin.format(kind), *words, "--no-dashboard"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for kind, words in (
            ("scheduler", ["--host", "127.0.0.1", "--port", str(port)]),
            ("worker", [address, "--nthreads", "1", "--no-nanny"]),
        )
    ]
    assert distributed
    try:
        with pytest.raises(DataError, match=rf"^{address}: the scheduler is gone") as told:
            for number, _ in enumerate(run_many(time.sleep, [0.2] * 99, max, scheduler=address)):
                if number == 2:
                    started[0].kill()
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert "\n" not in str(told.value) and "Traceback" not in capfd.readouterr().err
    assert (log.level, list(log.handlers), list(log.filters)) == before


def test_nothing_to_work_on_is_no_fault():
    assert list(run_many(abs, [], lambda item, why: why)) == []


@pytest.mark.parametrize(
    ("given", "how", "said"),
    [
        ((3, [1], str), {}, "work must be a function"),
        ((abs, [1], None), {}, "lost must be a function"),
        ((abs, "abc", str), {}, "items must be a list"),
        ((abs, (one for one in [1]), str), {}, "items must be a list"),
        ((abs, [1], str), {"workers": -1}, "workers must be a whole number from 1"),
        ((abs, [1], str), {"workers": "2"}, "workers must be a whole number from 1"),
    ],
)
def test_what_cannot_be_worked_on_is_refused_before_any_work(given, how, said):
    with pytest.raises(DataError, match=said):
        run_many(*given, **how)
