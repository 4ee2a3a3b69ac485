"A call that is stopped while it removes what is no longer true leaves nothing that no later call removes"

import shutil
from pathlib import Path

import pytest

import covidxr.prepare as room
from covidxr.dicom import XrayFacts, write_dicom
from covidxr.phantom import simulate
from covidxr.prepare import prepare


class _Stopped(BaseException):
    "As by a kill"


def _source(folder: Path) -> Path:
    for number in range(4):
        pixels = (simulate(number, size=64).pixels * 4095).astype("uint16")
        write_dicom(folder / f"x{number}.dcm", pixels, XrayFacts(f"x{number}", f"s{number}"))
    return folder


def _stop(*_):
    raise _Stopped


@pytest.mark.parametrize("finished", [False, True])
def test_stopped_at_any_removal_the_next_call_leaves_what_an_undisturbed_one_leaves(tmp_path, monkeypatch, finished):
    source, first = _source(tmp_path / "source"), tmp_path / "first"
    if finished:
        prepare(source, first, size=32, workers=1)
    else:
        with monkeypatch.context() as patch, pytest.raises(_Stopped):
            patch.setattr(room, "write_index", _stop)
            prepare(source, first, size=32, workers=1)
    (source / "x1.dcm").unlink()
    (source / "x2.dcm").write_bytes(b"broken")
    whole, unlink, stops = prepare(source, tmp_path / "whole", size=32, workers=1), Path.unlink, 0
    for at in range(20):
        out, count = tmp_path / f"cut-{at}", [0]
        shutil.copytree(first, out)

        def counted(path, *given, count=count, at=at, **named):
            if count[0] == at:
                raise _Stopped
            count[0] += 1
            return unlink(path, *given, **named)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", counted)
            try:
                prepare(source, out, size=32, workers=1)
            except _Stopped:
                stops += 1
        assert prepare(source, out, size=32, workers=1)["image_id"].tolist() == whole["image_id"].tolist()
        assert sorted(path.name for path in out.glob("*.png")) == ["x0.png", "x3.png"], at
        if count[0] < at:
            break
    assert stops >= 2
