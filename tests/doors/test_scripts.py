"The scripts of benchmarks/ take hours, so no test runs them: what they ask of the library must at least be there."

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


def _module(name: str) -> ModuleType | None:
    "A module of the package, imported; None where there is none of this name"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        return None


def _own_names(script: Path) -> set[str]:
    "What stands at the top of a script that others may import"
    names = set()
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.ImportFrom | ast.Import):
            found = ast.walk(node)
            names |= {one.id for one in found if isinstance(one, ast.Name)}
            names |= {one.asname or one.name for one in getattr(node, "names", [])}
    return names


def _faults(code: str) -> Iterator[str]:
    "What a script imports, reads or calls that is not there, or not that way"
    tree, known, siblings = ast.parse(code), {}, {script.stem: script for script in SCRIPTS}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        for one in node.names:
            place = f"line {node.lineno}: {node.module}.{one.name}"
            if node.module in siblings and one.name not in _own_names(siblings[node.module]):
                yield place
            if node.module.split(".")[0] != "covidxr":
                continue
            module = _module(node.module)
            found = getattr(module, one.name, None)
            found = _module(f"{node.module}.{one.name}") if found is None else found
            if found is None:
                yield place
            known[one.asname or one.name] = found
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = known.get(node.value.id)
            if isinstance(owner, ModuleType) and not hasattr(owner, node.attr):
                yield f"line {node.lineno}: {owner.__name__}.{node.attr}"
        if isinstance(node, ast.Call):
            called = _called(node.func, known)
            if callable(called):
                yield from _unfit(called, node)


def _called(name: ast.expr, known: dict[str, object]) -> object:
    "The function that a call means: a name, or a module's attribute"
    if isinstance(name, ast.Name):
        return known.get(name.id)
    if isinstance(name, ast.Attribute) and isinstance(name.value, ast.Name):
        owner = known.get(name.value.id)
        return getattr(owner, name.attr, None) if isinstance(owner, ModuleType) else None
    return None


def _unfit(called: object, node: ast.Call) -> Iterator[str]:
    "A call with arguments that the function does not take"
    starred = any(isinstance(one, ast.Starred) for one in node.args) or any(one.arg is None for one in node.keywords)
    try:
        signature = inspect.signature(called)
    except ValueError:  # some classes written in C have none
        return
    bind = signature.bind_partial if starred else signature.bind
    given = [one for one in node.args if not isinstance(one, ast.Starred)]
    try:
        bind(*given, **{one.arg: one.value for one in node.keywords if one.arg})
    except TypeError as error:
        yield f"line {node.lineno}: {ast.unparse(node.func)}: {error}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_asks_the_library_for_what_is_there(script):
    assert list(_faults(script.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "from covidxr.learning.maps import surest",
        "from covidxr.no_room import anything",
        "from covidxr.cache import index as room\nroom._no_such_name = None",
        "from covidxr.metrics import score\nscore(1, 2, not_there=3)",
        "from covidxr.metrics import score\nscore()",
        "from covidxr import metrics\nmetrics.no_score(1, 2)",
        "from real import no_such_name",
    ],
)
def test_a_script_that_asks_for_more_would_be_found(code):
    assert len(list(_faults(code))) == 1
