"The examples in docstrings: each name at the top has one, and it runs as it stands."

import ast
import doctest
import importlib
import inspect
import time

import pandas as pd
import pydicom
import pytest
from measure import in_time
from public_names import public_names

import covidxr

LONG = {"predict", "predict_classifier", "predict_detector", "run", "train_classifier", "train_detector"}
GIVEN = {"covidxr": covidxr, "pd": pd, "pydicom": pydicom}


def _place(folder):
    "Where an example runs: an X-ray and a small dataset lie there"
    folder.mkdir()
    one = covidxr.simulate(7, size=128)
    covidxr.write_dicom(folder / "one.dcm", (one.pixels * 4095).astype("uint16"), one.facts)
    covidxr.simulate_dataset(folder / "data", studies=12, size=64, workers=1)
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    "Two of them: what is run the first time also loads what it needs"
    folder = tmp_path_factory.mktemp("examples")
    return _place(folder / "first"), _place(folder / "second")


def _function(name: str) -> object:
    "What a name at the top stands for"
    return getattr(importlib.import_module(f"covidxr.{covidxr._MODULES[name]}"), name)


def _example(function) -> doctest.DocTest:
    "The examples in a docstring"
    name = function.__name__
    return doctest.DocTestParser().get_doctest(inspect.getdoc(function) or "", dict(GIVEN), name, None, 0)


def _carried_out(function) -> list[str]:
    "What is wrong with the examples of a docstring when they run in this folder"
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(_example(function), out=said.append)
    return said


@pytest.mark.parametrize("name", sorted(covidxr._MODULES))
def test_the_example_of_each_name_at_the_top_runs_at_once(name, places, monkeypatch):
    function = _function(name)
    test = _example(function)
    assert test.examples, f"{name} has no example"
    for example in test.examples:
        assert len(example.source) <= 114  # a page shows them without a scroll bar
    if name in LONG:  # not run here; a call must at least be one that the function takes
        for example in test.examples:
            for call in [node for node in ast.walk(ast.parse(example.source)) if isinstance(node, ast.Call)]:
                if ast.unparse(call.func) == f"covidxr.{name}":
                    assert example.options == {doctest.SKIP: True}
                    inspect.signature(function).bind(*call.args, **{one.arg: one.value for one in call.keywords})
                    return
        raise AssertionError(f"the example does not call covidxr.{name}")
    asked = "open_dataset" if name == "Dataset" else name  # how one gets a Dataset
    assert any(f"covidxr.{asked}(" in example.source for example in test.examples)
    for place in places:
        monkeypatch.chdir(place)
        start = time.perf_counter()
        assert _carried_out(function) == []
        seconds = time.perf_counter() - start
    assert in_time(seconds, 1)


def test_other_examples_of_the_doors_run_too(places, monkeypatch):
    monkeypatch.chdir(places[0])
    for door, names in public_names().items():
        module = importlib.import_module(f"covidxr.{door}")
        for name in names:
            function = getattr(module, name)
            if covidxr._MODULES.get(name) != door and inspect.isroutine(function) and ">>>" in (function.__doc__ or ""):
                assert _carried_out(function) == []


def test_an_example_that_gives_something_else_is_found():
    def wrong():
        """Adds

        Example:

            >>> 1 + 1
            3
        """

    assert "Expected:\n    3\nGot:\n    2" in _carried_out(wrong)[0]
