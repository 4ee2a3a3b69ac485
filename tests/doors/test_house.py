"The house: who imports whom, what stands at the front door, and what works without the extras."

import ast
import re
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from public_names import LIMIT, public_names
from shape import lessons, shape

import covidxr
from covidxr.base.errors import CovidxrError

PACKAGE = ROOT / "covidxr"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "_modidx.py"
}
EXTRAS = ("torch", "torchvision", "fastai", "timm", "safetensors", "ultralytics", "seaborn", "nbdev", "jupyterlab")


def _imported(name: str, everywhere: bool) -> list[tuple[str, str]]:
    "What a module imports of the package: (module, name) pairs; those inside functions too where everywhere is true"
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    room = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom):
            above = room.rsplit(".", node.level - 1)[0] if node.level > 1 else room
            module = ".".join(part for part in (above if node.level else "", node.module or "") if part)
            found += [(module, one.name) for one in node.names]
        elif isinstance(node, ast.Import):
            found += [(one.name, "") for one in node.names]
    pairs = []
    for module, one in found:
        if f"{module}.{one}" in MODULES:
            pairs.append((f"{module}.{one}", ""))
        elif module in MODULES:
            pairs.append((module, one))
    return pairs


def test_modules_import_in_one_direction():
    graph = {name: {module for module, _ in _imported(name, everywhere=False)} - {name, "covidxr"} for name in MODULES}
    assert sum(map(len, graph.values())) > 50
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError and names the circle


def test_no_module_imports_a_private_name_of_another():
    private = {
        f"{name}: {module}.{one}"
        for name in MODULES
        for module, one in _imported(name, everywhere=True)
        if one.startswith("_") and not one.startswith("__")
    }
    assert not private


def test_every_name_at_the_top_is_there_and_is_the_one_of_its_module():
    names = [name for name in covidxr.__all__ if name != "__version__"]
    assert len(names) == 20 and set(covidxr.__all__) <= set(dir(covidxr))
    for name in names:
        module = __import__(f"covidxr.{covidxr._MODULES[name]}", fromlist=[name])
        assert getattr(covidxr, name) in (getattr(module, name), module)
        assert callable(getattr(covidxr, name)), name
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        covidxr.no_such_name  # noqa: B018


def test_few_names_are_public_and_those_at_the_top_are_among_them():
    names = public_names()
    assert sum(map(len, names.values())) <= LIMIT, "run `python tests/public_names.py` and keep back what no user calls"
    for name, module in covidxr._MODULES.items():
        assert name in names[module]
    for module, offered in names.items():
        assert len(set(offered)) == len(offered) and not [name for name in offered if name.startswith("_")], module


def test_prepare_is_a_function_however_it_is_imported():
    for code in (
        "import covidxr; prepare = covidxr.prepare",
        "from covidxr import prepare",
        "import covidxr.prepare; prepare = covidxr.prepare",
        "from covidxr.prepare import prepare",
    ):
        names: dict = {}
        exec(code, names)
        with pytest.raises(CovidxrError, match="no such file or folder"):
            names["prepare"]("no such folder", "out")


def test_importing_covidxr_loads_nothing_of_weight():
    code = "import sys, covidxr; print([name for name in ('numpy', 'pandas', 'torch', 'matplotlib') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import covidxr
from covidxr.eda import explore
data, out = sys.argv[1:]
dataset = covidxr.open_dataset(data)
assert len(explore(dataset, out + "/eda"))
assert covidxr.read_xray(dataset.root / dataset.images["path"].iloc[0]).pixels.ndim == 2
covidxr.prepare(data, out + "/cache", size=32, workers=1)
assert covidxr.patient_folds(dataset, 3).nunique() == 3
print(covidxr.score_submission(data + "/truth", data + "/sample_submission.csv").map)
for name in ("train_classifier", "predict_classifier", "train_detector", "predict_detector"):
    try:
        getattr(covidxr, name)
    except ImportError as error:
        print(name, error)
"""


def test_without_the_extras_everything_but_networks_works_and_networks_say_what_to_install(phantom, tmp_path):
    code = WITHOUT.format(absent=set(EXTRAS))
    answer = subprocess.run([sys.executable, "-c", code, phantom, tmp_path], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()[-5:]
    assert 0 <= float(lines[0]) <= 1
    for line, extra in zip(lines[1:], ("train", "train", "detect", "detect"), strict=True):
        assert f"pip install 'covidxr[{extra}]'" in line


BROUGHT = {  # used only beside what brings it; IPython only inside a notebook, which has it
    "IPython": "",
    "fasttransform": "fastai",
    "huggingface_hub": "timm",
    "yaml": "ultralytics",
}


def test_what_the_package_imports_is_required_by_name_and_not_only_by_something_else():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    listed = [text for name, text in config["DEFAULT"].items() if name.endswith("requirements") and name[:3] != "dev"]
    required = {re.split(r"[<>=;\[ ]", line)[0].lower() for line in "\n".join(listed).splitlines() if line.strip()}
    imported = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.partition(".")[0] for name in names}
    owners = packages_distributions()
    others = {name: owners.get(name, [name]) for name in imported - {"covidxr"} if name not in sys.stdlib_module_names}
    assert len(others) > 20
    missing = {name for name, owner in others.items() if not required & {one.lower() for one in owner}}
    assert missing <= BROUGHT.keys(), "name it in settings.ini"
    assert required >= {*BROUGHT.values()} - {""}


def test_the_extras_are_all_in_all_and_all_is_in_dev():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    base = config["DEFAULT"]["requirements"]
    assert not [name for name in EXTRAS if f"\n{name}" in base]
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["build-backend"]
    from importlib.metadata import requires

    listed = requires("covidxr")
    for name in (*EXTRAS, "kagglehub", "distributed"):
        assert any(line.startswith(name) and "extra ==" in line for line in listed), name
    assert any(line.startswith("covidxr[all]") and "dev" in line for line in listed)


def test_modules_and_lines_are_short_enough_to_be_read():
    long_lines, long_modules = [], set()
    for path in MODULES.values():
        lines = path.read_text(encoding="utf-8").splitlines()
        long_lines += [
            f"{path}:{number}"
            for number, line in enumerate(lines, 1)
            if len(line) > 120 and not line.startswith(("__all__", "           '"))  # those that nbdev writes
        ]
        if len(lines) > 400:
            long_modules.add(path.relative_to(PACKAGE).with_suffix("").as_posix())
    assert long_lines == []
    assert long_modules == set()


QUESTION = r"(?:How|What|Which|Who|Whose|Why|When|Where|Whether|Can|Could|Does|Do|Is|Are|Will|Would)\b"


def test_a_module_says_in_its_first_sentence_what_it_does():
    wrong = []
    for path in MODULES.values():
        said = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
        first = re.match(r".*?[.?!](?= |$)", said)
        empty = path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip()
        room = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if not empty and (not first or first[0][-1] != "." or re.match(QUESTION, first[0])):
            wrong.append(f"{room}: {said}")
    assert wrong == []


@pytest.mark.parametrize("lesson", lessons(), ids=lambda path: path.stem)
def test_a_lesson_is_short_enough_to_be_read(lesson):
    assert shape(lesson).faults() == []


def test_lessons_give_a_learner_that_may_be_on_a_gpu_no_tensor_of_the_processor():
    found = []
    given = re.compile(r"(?:learn|tuned)\w*\.model\b[^\n]*\(torch\.(?:zeros|ones|rand|randn|tensor|from_numpy|empty)\(")
    for path in lessons():
        for line in path.read_text(encoding="utf-8").splitlines():
            found += [f"{path.stem}: {line.strip()}" for _ in given.finditer(line) if "device=" not in line]
    assert found == []


def test_lessons_have_numbers_of_their_own_and_no_letters():
    numbers = [path.stem.partition("_")[0] for path in lessons()]
    assert all(number.isdigit() for number in numbers) and len(set(numbers)) == len(numbers)


def test_ruff_finds_nothing_in_notebooks_and_tests():
    for command in (["check", "."], ["format", "--check", "."]):
        answer = subprocess.run([sys.executable, "-m", "ruff", *command], cwd=ROOT, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stdout


def _ty(*words: object) -> subprocess.CompletedProcess:
    "The type checker, where it and all that the modules import are installed"
    command = Path(sys.executable).with_name("ty")
    lacking = [name for name in EXTRAS if find_spec(name) is None]
    if not command.exists() or lacking:
        pytest.skip(f"not installed here: {', '.join(lacking) or 'ty'}; pip install 'covidxr[dev]'")
    own = ["--python", sys.prefix, "--output-format", "concise", "--color", "never"]
    return subprocess.run([command, "check", *own, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_type_checker_finds_nothing_in_what_users_import():
    answer = _ty()
    assert answer.returncode == 0, answer.stdout + answer.stderr


USE = """
import covidxr

dataset = covidxr.open_dataset("data")
images: int = len(covidxr.prepare(dataset, "cache", size=256))
sum_of_one = covidxr.read_xray("x.dcm").pixels.sum()
covidxr.prepare("data", "cache", size="large")
covidxr.patient_folds(dataset, count=5)
"""


def test_a_type_checker_knows_what_stands_at_the_top(tmp_path):
    user = tmp_path / "user.py"
    user.write_text(USE.lstrip())
    lines = _ty("--extra-search-path", ROOT, user).stdout.splitlines()
    wrong = [line.partition("user.py:")[2] for line in lines if "user.py:" in line]
    assert [line.split(":")[0] for line in wrong] == ["6", "7"], lines
    assert "expected `int`" in wrong[0].lower() and "count" in wrong[1]


def test_editors_are_told_of_each_name_at_the_top():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {one.asname: node.module for node in block.body for one in node.names if one.asname == one.name}
    assert told == covidxr._MODULES
