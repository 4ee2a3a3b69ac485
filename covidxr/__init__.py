"""Detecting COVID-19 findings in chest X-rays: a course, a library, and an X-ray simulator inside.

The names below are loaded when they are first used, so `import covidxr` is quick; each comes from the module beside it.
"""

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
