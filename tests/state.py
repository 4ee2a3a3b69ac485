"""What belongs to a whole process, so that a test can tell whether a call left it as it was.

Only libraries that are loaded already are looked at: looking must not load them.
"""

import csv
import decimal
import faulthandler
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil

FUNCTIONS = {  # what libraries are known to replace by their own
    "builtins": ("open", "print", "input", "__import__"),
    "json": ("dumps", "loads"),
    "PIL.Image": ("open",),
    "cv2": ("imread", "imwrite", "imshow"),
    "numpy": ("load", "save"),
    "pickle": ("load", "loads"),
    "torch": ("load", "save"),
}


def _loggers() -> dict[str, list]:
    "Levels and handlers, by the logger's name"
    named = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    return {one.name: [one.level, one.disabled, one.propagate, len(one.handlers)] for one in [logging.root, *named]}


def _numpy(numpy: Any) -> dict[str, Any]:
    return {
        "NumPy's errors": numpy.geterr(),
        "how NumPy prints": str(numpy.get_printoptions()),
        "NumPy's random numbers": hash(str(numpy.random.get_state()[2:]) + str(numpy.random.get_state()[1].tobytes())),
    }


def _torch(torch: Any) -> dict[str, Any]:
    cudnn, printing = torch.backends.cudnn, torch._tensor_str.PRINT_OPTS
    trusted = torch.serialization.get_safe_globals()  # PyTorch's own modules add theirs when they are imported
    return {
        "PyTorch's threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "PyTorch's modes": [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()],
        "PyTorch's numbers": [str(torch.get_default_dtype()), str(torch.get_default_device())],
        "PyTorch's random numbers": hash(torch.get_rng_state().numpy().tobytes()),
        "how PyTorch computes": [
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.get_float32_matmul_precision(),
            cudnn.enabled,
            cudnn.benchmark,
            cudnn.deterministic,
        ],
        "how PyTorch prints": str(printing),
        "what PyTorch trusts in pickles": [str(one) for one in trusted if not str(one).startswith("<class 'torch.")],
    }


def _matplotlib(matplotlib: Any) -> dict[str, Any]:
    plots = sys.modules.get("matplotlib.pyplot")
    settings = {name: str(dict.get(matplotlib.rcParams, name)) for name in matplotlib.rcParams if name != "backend"}
    return {
        "matplotlib's settings": settings,
        "matplotlib's backend": str(dict.__getitem__(matplotlib.rcParams, "backend")),
        "open figures": plots.get_fignums() if plots else [],
    }


def _pandas(pandas: Any) -> dict[str, Any]:
    names = [f"display.{name}" for name in ("width", "max_rows", "max_columns", "precision", "float_format")]
    return {"pandas' options": [str(pandas.get_option(name)) for name in [*names, "plotting.backend"]]}


def _pydicom(pydicom: Any) -> dict[str, Any]:
    config = pydicom.config
    modes = [str(config.settings.reading_validation_mode), str(config.settings.writing_validation_mode)]
    return {
        "pydicom's settings": [
            *modes,
            config.convert_wrong_length_to_UN,
            config.use_DS_decimal,
            str(config.logger.level),
        ]
    }


def _joblib(joblib: Any) -> dict[str, Any]:
    from joblib.externals.loky import reusable_executor

    return {
        "joblib's pool": id(reusable_executor._executor),
        "joblib's settings": [joblib.parallel.DEFAULT_BACKEND, type(joblib.parallel.get_active_backend()[0]).__name__],
    }


LIBRARIES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "numpy": _numpy,
    "torch": _torch,
    "matplotlib": _matplotlib,
    "pandas": _pandas,
    "pydicom": _pydicom,
    "joblib": _joblib,
    "cv2": lambda cv2: {
        "OpenCV's threads": cv2.getNumThreads(),
        "OpenCV's settings": [cv2.useOptimized(), cv2.ocl.useOpenCL()],
    },
    "PIL.Image": lambda image: {"Pillow's largest image": image.MAX_IMAGE_PIXELS},
    "PIL.ImageFile": lambda files: {"Pillow's patience": files.LOAD_TRUNCATED_IMAGES},
    "sklearn": lambda sklearn: {"scikit-learn's settings": str(sklearn.get_config())},
    "numba": lambda numba: {"Numba's threads": numba.config.NUMBA_NUM_THREADS},
}


def _open_files() -> list[str]:
    "What the process holds open"
    place, found = "/proc/self/fd", []
    for number in os.listdir(place) if os.path.isdir(place) else []:
        try:
            found.append(os.readlink(f"{place}/{number}"))
        except OSError:  # the one by which the folder was listed
            continue
    return sorted(one.split(":[")[0] for one in found)


def state() -> dict[str, Any]:
    "What belongs to the whole process, by its name"
    mask = os.umask(0)
    os.umask(mask)
    signals = [one for one in signal.Signals if one not in (signal.SIGKILL, signal.SIGSTOP)]
    found = {
        "warning filters": [repr(one) for one in warnings.filters],
        "how warnings are shown": id(warnings.showwarning),
        "environment": dict(os.environ),
        "working folder": [os.getcwd(), sorted(os.listdir())],
        "where modules are found": [list(sys.path), [str(type(one)) + str(one)[:60] for one in sys.meta_path]],
        "threads": sorted(one.name for one in threading.enumerate()),
        "child processes": sorted(" ".join(one.cmdline()[:4]) for one in psutil.Process().children(recursive=True)),
        "open files": _open_files(),
        "hooks": [id(one) for one in (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook)],
        "tracing": [sys.gettrace() is None, sys.getprofile() is None, faulthandler.is_enabled()],
        "output": [id(sys.stdin), id(sys.stdout), id(sys.stderr)],
        "logging": _loggers(),
        "all logging": logging.root.manager.disable,
        "random numbers": hash(random.getstate()),
        "signals": [str(signal.getsignal(one)) for one in signals] + [signal.getitimer(signal.ITIMER_REAL)[0] > 0],
        "limits": [
            sys.getrecursionlimit(),
            csv.field_size_limit(),
            sys.getswitchinterval(),
            socket.getdefaulttimeout(),
            mask,
        ],
        "memory's collector": [gc.isenabled(), gc.get_threshold()],
        "language": [locale.setlocale(locale.LC_ALL), str(decimal.getcontext())],
        "how processes begin": multiprocessing.get_start_method(allow_none=True),
        "functions": {
            f"{module}.{name}": id(getattr(sys.modules[module], name))
            for module, names in FUNCTIONS.items()
            if module in sys.modules
            for name in names
        },
    }
    for name, look in LIBRARIES.items():
        if name in sys.modules:
            found |= look(sys.modules[name])
    return found


GROW = ("logging", "functions")  # a library that is imported adds its own, and changes nobody's


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    "What is not as it was, with what is new and what is gone"
    told = {}
    for name in before:
        old, new = before[name], after[name]
        if name in GROW:
            new = {key: value for key, value in new.items() if key in old}
        if old == new:
            continue
        if isinstance(old, dict):
            pairs = {key: (old.get(key), new.get(key)) for key in old.keys() | new.keys()}
            told[name] = str({key: pair for key, pair in pairs.items() if pair[0] != pair[1]})
        elif isinstance(old, list):
            gone, come = (
                list((Counter(map(str, one)) - Counter(map(str, other))).elements())
                for one, other in ((old, new), (new, old))
            )
            told[name] = f"gone {gone}, come {come}"
        else:
            told[name] = f"{old!r} to {new!r}"
    return told
