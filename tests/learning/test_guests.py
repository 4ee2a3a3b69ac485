"timm, torchvision and Ultralytics are loaded without PyTorch's compiler, which still works for whoever uses it."

import subprocess
import sys

import pytest

LOADED = """
import sys, torch
disable = torch.compiler.disable
from covidxr.learning.guests import timm_library
from covidxr.learning.yolo import ultralytics
timm_library()
{more}
heavy = {{"torch._dynamo", "torch._dynamo.utils", "torch._inductor", "sympy", "scipy.optimize", "fastai"}} & set(sys.modules)
assert not heavy, heavy
assert torch.compiler.disable is disable
"""
USED = """
import torchvision.ops
room = sys.modules["torchvision.ops.roi_align"]
from timm.models.naflexvit import NaFlexRopeIterator
assert room.is_compile_supported("cpu") is torch._dynamo.utils.is_compile_supported("cpu")
assert type(sys.modules["torch._dynamo.utils"]).__name__ == "module"
boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
assert torchvision_ops(torch.ones(1, 1, 8, 8), boxes, 2).shape == (1, 1, 2, 2)
network = timm_library().create_model("test_vit", num_classes=2).eval()
assert network(torch.zeros(1, 3, 160, 160)).shape == (1, 2)
"""


def _runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_who_only_predicts_does_not_wait_for_a_compiler():
    pytest.importorskip("ultralytics")
    _runs(LOADED.format(more="ultralytics()"))


def test_the_compiler_is_loaded_once_somebody_asks_for_it():
    pytest.importorskip("timm")
    _runs(LOADED.format(more="") + USED.replace("torchvision_ops", "room.roi_align"))


def test_a_module_of_the_compiler_that_is_wanted_meanwhile_is_the_real_one():
    pytest.importorskip("torch")
    code = """
import sys
from covidxr.learning import guests
def load():
    import torch._dynamo
    from torch._dynamo.utils import counters
    return counters
with guests.compiler_later():
    found = load()
import torch._dynamo.utils
assert found is torch._dynamo.utils.counters and type(torch._dynamo.utils).__name__ == "module"
"""
    _runs(code)
