"""Detecting COVID-19 findings in chest X-rays: a course, a library, and an X-ray simulator inside.

The names below are loaded when they are first used, so `import covidxr` is quick; each comes from the module beside it.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_MODULES = {  # name to the module that holds it
    "Dataset": "dataset",
    "bootstrap_scores": "metrics",
    "deidentify": "dicom",
    "open_dataset": "dataset",
    "patient_folds": "folds",
    "predict": "pipeline",
    "predict_classifier": "classify",
    "predict_detector": "detect",
    "prepare": "prepare",
    "read_submission": "submission",
    "read_xray": "dicom",
    "run": "pipeline",
    "score": "metrics",
    "score_submission": "submission",
    "simulate": "phantom",
    "simulate_dataset": "hospital",
    "train_classifier": "classify",
    "train_detector": "detect",
    "weighted_boxes_fusion": "ensemble",
    "write_dicom": "dicom",
}
__all__ = ["__version__", *sorted(_MODULES)]

if TYPE_CHECKING:  # for editors and type checkers, which do not run `__getattr__`
    from .classify import predict_classifier as predict_classifier, train_classifier as train_classifier
    from .dataset import Dataset as Dataset, open_dataset as open_dataset
    from .detect import predict_detector as predict_detector, train_detector as train_detector
    from .dicom import deidentify as deidentify, read_xray as read_xray, write_dicom as write_dicom
    from .ensemble import weighted_boxes_fusion as weighted_boxes_fusion
    from .folds import patient_folds as patient_folds
    from .hospital import simulate_dataset as simulate_dataset
    from .metrics import bootstrap_scores as bootstrap_scores, score as score
    from .phantom import simulate as simulate
    from .pipeline import predict as predict, run as run
    from .prepare import prepare as prepare
    from .submission import read_submission as read_submission, score_submission as score_submission


def __getattr__(name: str) -> object:
    "Load a public name from its module"
    if name not in _MODULES:
        raise AttributeError(f"module 'covidxr' has no attribute {name!r}")
    from importlib import import_module

    if _MODULES[name] == "detect":
        from .base.extras import require

        require("detect", "torch", "fastai")  # not Ultralytics: other kinds of detectors do without
    module = import_module(f"covidxr.{_MODULES[name]}")
    # A module that is named as its one function is that function, too (it can be called): Python itself sets the module
    # as the package's attribute as soon as somebody imports it, so this name must mean the same before.
    return module if name == _MODULES[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
