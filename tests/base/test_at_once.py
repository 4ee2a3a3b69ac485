"Processes that work at the same time: none stays when one dies, or when the caller is stopped or killed"

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from covidxr.base.process import at_once


def _dies(number: int) -> None:
    if number:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_where_the_system_ends_one_the_others_end_and_one_sentence_says_so() -> None:
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    with pytest.raises(RuntimeError, match="^one of 2 processes was ended by the system, as it does for want of mem"):
        at_once(_dies, [0, 1])
    left = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
    assert not [one for one in left if "popen_loky" in " ".join(one.cmdline())]


WAITING = """
import sys, time
from pathlib import Path
from covidxr.base.process import at_once

def work(number):
    Path(sys.argv[1], f"waits-{number}").touch()
    time.sleep(600)

try:
    at_once(work, [0, 1])
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_caller_that_is_stopped_or_killed_leaves_no_process(number: int, tmp_path: Path) -> None:
    script = WAITING.replace("sys.argv[1]", repr(str(tmp_path)))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob("waits-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    helpers = psutil.Process(process.pid).children(recursive=True)
    assert len(helpers) >= 2
    process.send_signal(number)
    assert process.wait(timeout=60) == (130 if number == signal.SIGINT else -number)
    assert not psutil.wait_procs(helpers, timeout=20)[1]
    assert "Traceback" not in process.communicate()[1]
