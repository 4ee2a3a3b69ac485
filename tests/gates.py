"Work that waits for the test, so that no machine is too quick or too slow for it. Light, as worker processes import it."

import os
import signal
import time
from pathlib import Path

from covidxr.cache.pictures import prepare_one as _usual

BEFORE = 9  # pictures that are made before the gate
CALL = (  # the command line, with its work gated; for `python -c`, with this folder as its first argument
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import gates; from covidxr.cache import workers\n"
    "workers.prepare_one = gates.gated\nfrom covidxr.cli import main\nsys.exit(main())"
)


def gated(task):
    "The usual work, but once some pictures are there every process waits until the file `open` lies beside the cache"
    out, until = Path(task.out), time.monotonic() + 300
    while len(list(out.glob("*.png"))) >= BEFORE and not (out.parent / "open").exists():
        (out.parent / f"waits-{os.getpid()}").touch()
        if time.monotonic() > until:
            os._exit(3)  # nobody waits any more
        time.sleep(0.02)
    return _usual(task)


def poisoned(task):
    "What a decoder that crashes would do"
    if task.image_id == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return _usual(task)


def killed(task):
    "What too little memory does"
    os.kill(os.getpid(), signal.SIGKILL)


def killed_once(task):
    "What the system does where memory is short for a moment: some images end their process, but only the first time"
    from covidxr.base.files import atomic_path
    from covidxr.hospital import _write_image

    mark = Path(task[0]).parent / f"killed-{task[1].image_id}"
    if task[1].image_id[-1] in "048" and not mark.exists():
        mark.touch()
        with atomic_path(Path(task[0]) / "train" / "half.dcm") as partial:  # in the midst of writing
            partial.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    return _write_image(task)
