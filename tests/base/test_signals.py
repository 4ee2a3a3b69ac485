"A signal that another thread receives, as after Ctrl-Z and in programs with many threads, is heard all the same."

import subprocess
import sys
import time

import pytest

CALL = """
import signal, sys, threading, time
from covidxr.base.process import at_once, in_processes

def long(item):
    time.sleep(100)

def stop():
    time.sleep(2)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # not to the thread that waits

def stopped(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, stopped)
threading.Thread(target=stop, daemon=True).start()
try:
    {call}
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals to threads are Unix's")
@pytest.mark.parametrize("call", ["list(in_processes(long, range(4), 2))", "at_once(long, range(2))"])
def test_who_waits_for_processes_hears_a_signal_that_another_thread_got(call):
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CALL.format(call=call)], capture_output=True, text=True, timeout=90)
    assert (done.stdout, done.returncode) == ("stopped\n", 0), done.stderr
    assert time.monotonic() - started < 60
