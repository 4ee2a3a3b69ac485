"Many X-rays: no step grows faster than their number, an index of parts is as safe as one file, and kills cost nothing."

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import gates
import numpy as np
import pandas as pd
import pytest
from measure import TESTS

from covidxr import hospital
from covidxr.base.errors import DataError
from covidxr.cache import index as index_room
from covidxr.cache import notes, parts, pictures
from covidxr.cache import workers as workers_room
from covidxr.cache.pictures import Task
from covidxr.dataset import open_dataset
from covidxr.hospital import simulate_dataset
from covidxr.prepare import prepare

SETTINGS = {"size": 16, "fit": "pad", "format": "png", "draft": False}


def _source(folder: Path, numbers: range) -> Path:
    "Small grey pictures"
    folder.mkdir(exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"i{number:04}.png"), np.full((20, 16), number % 250, np.uint8))
    return folder


def _row(number: int, out: Path) -> tuple[Task, dict]:
    "An invented image: what is asked for, and its row"
    name = f"{number * 2654435761 % 2**48:012x}"
    task = Task(name, f"/data/{name}.dcm", f"{name}.dcm", str(out), **SETTINGS, root="0a1b2c3d")
    place = {"height": 20, "width": 16, "scale": 0.8, "scale_y": 0.8, "left": 1, "top": 0, "orientation": "L\\F"}
    facts = {"source": task.source, "stamp": "", "bytes": 99, "sha256": name, "root": task.root, "checks": ""}
    return task, {"image_id": name, "file": f"{name}.png", **place, **facts}


def _calls(work: Callable[[], object]) -> int:
    "How many functions are called: what grows with the work, whatever else the machine does"
    count = 0

    def seen(frame: object, event: str, what: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_an_index_of_four_times_the_images_takes_four_times_the_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_LARGEST", 100)
    monkeypatch.setattr(index_room, "_is_current", lambda *_: True)
    counted = {"resume": {}, "append": {}}
    for size in (500, 2000):
        out = tmp_path / str(size)
        (out / ".unfinished").mkdir(parents=True)
        tasks, rows = zip(*(_row(number, out) for number in range(size + size // 10)), strict=True)
        index_room.write_index(out, list(rows[:size]), [], SETTINGS, 1)
        for kind, asked in (("resume", size), ("append", len(tasks))):

            def work(asked: int = asked, out: Path = out, tasks: tuple = tasks, rows: tuple = rows) -> None:
                todo, noted, gone, since = index_room.look_at_cache(out, list(tasks[:asked]), SETTINGS)
                new = [rows[number] for number in range(asked) if number >= asked - len(todo)]
                index_room.write_index(out, noted + new, [], SETTINGS, since, gone)

            counted[kind][size] = _calls(work)
        assert len(parts.read_index(out)) == len(tasks)
    for kind, calls in counted.items():
        assert calls[2000] / calls[500] < 4.4, kind


def test_one_more_image_writes_one_part_and_not_the_whole_index(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_LARGEST", 100)
    written = []
    write = parts.write_part
    monkeypatch.setattr(parts, "write_part", lambda part, *more: (written.append(len(part)), write(part, *more)))
    rows = [_row(number, tmp_path)[1] for number in range(3001)]
    index_room.write_index(tmp_path, rows[:3000], [], SETTINGS, 1)
    assert len(written) == 32 and sum(written) == 3000
    index_room.write_index(tmp_path, rows[3000:], [], SETTINGS, 2)
    assert len(written) == 33 and written[-1] < 200
    assert len(pd.read_parquet(tmp_path / "images.parquet")) == 3001  # what others read it with


def test_simulating_opening_and_preparing_four_times_the_images_take_four_times_the_calls(tmp_path, monkeypatch):
    row = {"boxes": [[1, 2, 3, 4]], "finding": "typical", "right_percent": 1.0, "left_percent": 2.0, "extent": 1}
    raw = (simulate_dataset(tmp_path / "one", studies=2, size=64) / "train").rglob("*.dcm").__next__().read_bytes()

    def write(task: tuple) -> dict:
        out, plan, _ = task
        file = Path(out, plan.split, plan.study_id, plan.series_id, f"{plan.image_id}.dcm")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw)
        return row

    monkeypatch.setattr(hospital, "_write_image", write)
    counted = {"simulate": {}, "open": {}, "open again": {}, "prepare": {}, "prepare again": {}}
    for studies in (60, 240):
        data, cache = tmp_path / f"d{studies}", tmp_path / f"c{studies}"
        works = {
            "simulate": lambda data=data, studies=studies: simulate_dataset(data, studies=studies, size=64, workers=1),
            "open": lambda data=data: open_dataset(data),
            "open again": lambda data=data: open_dataset(data),
            "prepare": lambda data=data, cache=cache: prepare(data, cache, size=16, workers=1),
            "prepare again": lambda data=data, cache=cache: prepare(data, cache, size=16, workers=1),
        }
        for name, work in works.items():
            counted[name][len(list(data.rglob("*.dcm"))) or studies] = _calls(work)
    for name, calls in counted.items():
        (few, small), (many, large) = calls.items()
        assert large / small < 1.1 * many / few, name


def test_a_large_index_in_parts_is_the_same_whether_it_grew_at_once_or_in_pieces(tmp_path, monkeypatch, hashes):
    source = _source(tmp_path / "src", range(30))
    out = tmp_path / "grown"
    first = prepare(source, out, size=16, workers=1)
    assert (out / "images.parquet").is_file()  # as an earlier version leaves it
    monkeypatch.setattr(parts, "_LARGEST", 10)
    monkeypatch.setattr(workers_room, "GATHERED", 7)
    assert prepare(source, out, size=16, workers=1).equals(first) and len(list((out / "images.parquet").iterdir())) == 4
    for last in (31, 47, 90):
        index = prepare(_source(source, range(last)), out, size=16, workers=1)
        assert len(index) == last and index["image_id"].is_monotonic_increasing
    prepare(source, tmp_path / "whole", size=16, workers=1)
    assert hashes(out) == hashes(tmp_path / "whole")
    for path in sorted(source.glob("*.png"))[5:]:
        path.unlink()
    assert len(prepare(source, out, size=16, workers=1)) == 5 and (out / "images.parquet").is_file()


def test_rows_that_a_stopped_call_had_gathered_are_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_LARGEST", 10)
    monkeypatch.setattr(workers_room, "GATHERED", 4)
    source, out, made, write = _source(tmp_path / "src", range(20)), tmp_path / "out", [], pictures._write_picture

    def stopped(coded: bytes, path: Path) -> None:
        if len(made) == 10:
            raise KeyboardInterrupt
        made.append(path.name)
        write(coded, path)

    monkeypatch.setattr(pictures, "_write_picture", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out, size=16, workers=1)
    assert [len(pd.read_parquet(path)) for path in notes.gathered_files(out)] == [4, 4]
    assert len(notes.noted_rows(out)) == 2
    (out / "i0001.png").write_bytes(b"damaged")
    monkeypatch.setattr(pictures, "_write_picture", lambda coded, path: (made.append(path.name), write(coded, path)))
    index = prepare(source, out, size=16, workers=1)
    assert len(index) == 20 and sorted(made) == sorted([*index["file"], "i0001.png"])
    assert not (out / ".unfinished").exists()


def test_a_part_that_a_power_cut_broke_is_made_again_and_a_strangers_file_is_spared(tmp_path, monkeypatch, hashes):
    monkeypatch.setattr(parts, "_LARGEST", 10)
    source, out = _source(tmp_path / "src", range(35)), tmp_path / "out"
    prepare(source, out, size=16, workers=1)
    whole, part = hashes(out), sorted((out / "images.parquet").iterdir())[1]
    for broken in (b"", part.read_bytes()[:100], None):
        part.write_bytes(broken) if broken is not None else part.unlink()
        assert len(prepare(source, out, size=16, workers=1)) == 35 and hashes(out) == whole
    (out / "images.parquet" / "mine.txt").write_text("a stranger's")
    prepare(_source(source, range(38)), out, size=16, workers=1)  # as many parts as before
    with pytest.raises(DataError, match="mine.txt: lies in the cache's index"):
        prepare(_source(source, range(99)), out, size=16, workers=1)
    assert (out / "images.parquet" / "mine.txt").read_text() == "a stranger's"


def test_a_part_that_loses_its_images_is_the_same_as_one_that_never_had_any(tmp_path, monkeypatch, hashes):
    monkeypatch.setattr(parts, "_LARGEST", 10)
    source, out = _source(tmp_path / "src", range(35)), tmp_path / "out"
    prepare(source, out, size=16, workers=1)
    part = sorted((out / "images.parquet").iterdir())[1]
    for image_id in pd.read_parquet(part)["image_id"]:
        (source / f"{image_id}.png").unlink()
    part.write_bytes(b"")  # a power cut
    prepare(source, out, size=16, workers=1)
    prepare(source, tmp_path / "fresh", size=16, workers=1)
    assert hashes(out / "images.parquet") == hashes(tmp_path / "fresh" / "images.parquet")
    _, row = _row(0, out)
    parts.write_part(parts.row_table([], SETTINGS), tmp_path / "none")
    parts.write_part(parts.row_table([row], SETTINGS).iloc[:0], tmp_path / "one less")
    assert (tmp_path / "none").read_bytes() == (tmp_path / "one less").read_bytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_chaos_of_an_index_in_parts(tmp_path):
    kills = os.environ.get("COVIDXR_KILLS", "8")
    command = [sys.executable, str(Path(TESTS) / "chaos.py"), "parts", str(tmp_path), kills]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("step", ["old goes", "new comes"])
def test_a_kill_while_the_parts_are_exchanged_loses_nothing(tmp_path, monkeypatch, hashes, step):
    source, out = _source(tmp_path / "src", range(30)), tmp_path / "out"
    prepare(source, out, size=16, workers=1)
    monkeypatch.setattr(parts, "_LARGEST", 10)
    with monkeypatch.context() as patch:
        if step == "old goes":
            patch.setattr(parts, "_give_way", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        else:
            rename = os.replace

            def killed(old: Path, new: Path) -> None:
                if Path(new).name == "images.parquet" and Path(old).is_dir():
                    raise KeyboardInterrupt
                rename(old, new)

            patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out, size=16, workers=1)
    made = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert len(prepare(source, out, size=16, workers=1)) == 30
    assert made == {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    prepare(source, tmp_path / "whole", size=16, workers=1)
    assert hashes(out) == hashes(tmp_path / "whole")


def test_processes_that_are_killed_cost_a_simulated_dataset_nothing(tmp_path, monkeypatch, hashes):
    whole = hashes(simulate_dataset(tmp_path / "whole", studies=24, size=64, seed=2, workers=1))
    monkeypatch.setattr(hospital, "_write_image", gates.killed_once)
    (tmp_path / "cut").mkdir()
    simulate_dataset(tmp_path / "cut" / "data", studies=24, size=64, seed=2, workers=2)
    assert len(list((tmp_path / "cut").glob("killed-*"))) > 1
    assert hashes(tmp_path / "cut" / "data") == whole


def test_a_cluster_simulates_the_very_same_dataset(tmp_path, hashes, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra 'scale' is not installed")
    whole = hashes(simulate_dataset(tmp_path / "here", studies=12, size=64, workers=1))
    monkeypatch.chdir(tmp_path)  # the workers were started elsewhere
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None, "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=1, **options) as cluster:
        simulate_dataset("there", studies=12, size=64, scheduler=cluster.scheduler_address)
    assert hashes(tmp_path / "there") == whole
