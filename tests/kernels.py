"""Notebook kernels that begin with the libraries imported: a process imports them once, and each kernel is a fork of it.

A kernel and its imports cost two to fifteen seconds of processor time, and the engine room has 120 notebooks. The fork runs what
`python -m ipykernel_launcher` runs, in a session of its own, with the environment and the working folder that it is told.

Ultralytics is not among the libraries, as it writes files when it is imported, nor what starts threads, nor fastcore, which asks
at its import whether it is in a notebook. What looks at imports or at their time needs a kernel of the usual kind; so do lessons.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import psutil

LIBRARIES = """
    numpy pandas pyarrow.parquet scipy.interpolate scipy.ndimage scipy.optimize scipy.stats
    sklearn.isotonic sklearn.linear_model sklearn.metrics sklearn.model_selection
    cv2 pydicom joblib filelock psutil matplotlib.pyplot seaborn IPython.display ipykernel.kernelapp ipykernel.ipkernel
    ipykernel.debugger IPython.core.completerlib IPython.extensions.storemagic tornado.platform.asyncio
    covidxr.pipeline covidxr.classify covidxr.detect covidxr.explain covidxr.severity
""".split()


class Fork:
    "A kernel as Jupyter wants to have it: what it uses of `subprocess.Popen`"

    stdin = stdout = stderr = returncode = None

    def __init__(self, pid: int) -> None:
        self.pid, self._process = pid, None
        with suppress(psutil.NoSuchProcess):  # it may have ended already
            self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        "None while it runs; its exit code is known to its parent alone"
        with suppress(psutil.NoSuchProcess):  # it may end between the two questions
            if self._process and self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
                return None
        return 0

    def wait(self, timeout: float | None = None) -> int:
        "Wait for its end"
        if self._process:
            with suppress(psutil.NoSuchProcess):
                self._process.wait(timeout)
        return 0

    def send_signal(self, number: int) -> None:
        "As its name says"
        if self._process:
            with suppress(psutil.NoSuchProcess):
                self._process.send_signal(number)

    def kill(self) -> None:
        "End it at once"
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        "Ask it to end"
        self.send_signal(signal.SIGTERM)


class Nest:
    "The process that has imported the libraries"

    def __init__(self) -> None:
        command = [sys.executable, "-P", __file__]  # -P: the tests' folder is not on the path of a notebook
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout.readline() == "ready\n", "the libraries could not be imported"

    def launch(self, command: list[str], env: dict[str, str], cwd: str = ".", **_: Any) -> Fork:
        "As `jupyter_client.launcher.launch_kernel`"
        self._process.stdin.write(
            json.dumps({"arguments": command[command.index("-f") :], "env": env, "cwd": cwd}) + "\n"
        )
        self._process.stdin.flush()
        return Fork(int(self._process.stdout.readline()))

    def close(self) -> None:
        "End it; its kernels have ended before"
        self._process.stdin.close()
        self._process.wait()


def _hatch(arguments: list[str], env: dict[str, str], cwd: str) -> None:
    "Be a kernel"
    import numpy as np
    import pandas
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    print(os.getpid(), flush=True)  # not before: a signal to this kernel's group would reach the testing process
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # those by which the nest is spoken to
        os.dup2(nothing, number)
    pandas.set_option("display.max_columns", 20)  # as in a notebook; it was imported as in a terminal
    np.random.seed()  # NumPy's common numbers are each kernel's own, as in a new process
    gone = f"--IPKernelApp.parent_handle={os.getppid()}"  # a kernel whose nest is gone ends
    sys.argv = ["ipykernel_launcher.py", *arguments, gone]
    IPKernelApp.launch_instance()


def main() -> None:
    "Import the libraries, then make a kernel of each line that is read"
    os.environ["MPLBACKEND"] = (
        "module://matplotlib_inline.backend_inline"  # as a kernel does before anything is imported
    )
    for name in LIBRARIES:
        with suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    assert threading.active_count() == 1, "a thread would be missing in every fork"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a kernel's exit code
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if not os.fork():
            sys.stdin = open(os.devnull)  # noqa: SIM115
            _hatch(**asked)
            os._exit(0)


if __name__ == "__main__":
    main()
