"The page for one X-ray: odd files get a sentence, nothing is kept, nobody else is asked, and all can use it."

import contextlib
import importlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from conftest import ROOT

from covidxr.base.errors import DataError
from covidxr.boxes.network_answers import map_boxes
from covidxr.dicom import XrayFacts, write_dicom
from covidxr.learning import shipped_reader
from covidxr.phantom import simulate
from covidxr.prepare import fit_square
from covidxr.runs.answer import (
    SAMPLES,
    PageAnswer,
    answer_file,
    answer_sample,
    answer_xray,
    calibrated,
    looks_like_chest,
)
from covidxr.runs.page import answer_html, read_and_forget, upload_folder

pytest.importorskip("gradio", reason="the extra app is not installed")
START = "import sys; from covidxr.cli import main; sys.exit(main())"
HASTY = f"import covidxr.runs.page as page; page._PATIENCE = 2.0; {START}"  # for who cuts an upload off


def _dicom(folder: Path, **changes: object) -> bytes:
    "A simulated X-ray as the bytes of a DICOM file, its header changed"
    pixels = np.round(simulate(70, "typical", size=96).pixels * 4095).astype(np.uint16)
    write_dicom(folder / "x.dcm", pixels, XrayFacts(patient_id="Kim^Jiwoo", view="PA", modality="DX", age=61))
    ds = pydicom.dcmread(folder / "x.dcm")
    for name, value in changes.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    held = io.BytesIO()
    ds.save_as(held)
    return held.getvalue()


def _png(pixels: np.ndarray) -> bytes:
    "A picture as the bytes of a PNG file"
    return cv2.imencode(".png", pixels)[1].tobytes()


def _zip() -> bytes:
    "A zip archive"
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.txt", "a")
    return held.getvalue()


def _odd(folder: Path) -> dict[str, bytes]:
    "Thirty files that somebody may drop onto a page"
    rng, whole = np.random.default_rng(0), _dicom(folder)
    chest = np.round(simulate(70, "typical", size=128).pixels * 255).astype(np.uint8)
    return {
        "empty.dcm": b"",
        "one byte.dcm": b"\x00",
        "text.dcm": b"Dear doctor",
        "letter.pdf": b"%PDF-1.4 1 0 obj",
        "letter.png": b"%PDF-1.4 1 0 obj",
        "archive.zip": _zip(),
        "animation.gif": b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;",
        "cut.dcm": whole[: len(whole) // 2],
        "head only.dcm": whole[:200],
        "table.dcm": b"id,PredictionString\n1,none 1 0 0 1 1\n",
        "damaged.dcm": whole[:300] + bytes(rng.integers(0, 256, 400, dtype=np.uint8)) + whole[700:],
        "no pixels.dcm": _dicom(folder, PixelData=None),
        "no rows.dcm": _dicom(folder, Rows=None),
        "too many rows.dcm": _dicom(folder, Rows=60000),
        "ct.dcm": _dicom(folder, Modality="CT"),
        "ultrasound.dcm": _dicom(folder, Modality="US"),
        "lateral.dcm": _dicom(folder, ViewPosition="LL"),
        "frames.dcm": _dicom(folder, NumberOfFrames=5),
        "negative.png": _png(255 - chest),
        "turned.png": _png(np.ascontiguousarray(np.rot90(chest))),
        "on its head.png": _png(np.ascontiguousarray(chest[::-1])),
        "black.png": _png(np.zeros((200, 200), np.uint8)),
        "noise.png": _png(rng.integers(0, 256, (200, 200), dtype=np.uint8)),
        "tiny.png": _png(np.full((3, 3), 9, np.uint8)),
        "photo.png": _png(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
        "large.png": _png(np.zeros((10_000, 10_000), np.uint8)),
        "long.png": _png(rng.integers(0, 256, (2, 5000), dtype=np.uint8)),
        "cut.png": _png(chest)[:500],
        "<script>alert(1)<script>.png": b"no picture",
        "한글 이름.dcm": b"\xff\xd8\xff\x00",
    }


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> dict[str, bytes]:
    "The odd files by name"
    return _odd(tmp_path_factory.mktemp("odd"))


def test_thirty_odd_files_get_a_sentence_and_no_class(odd, tmp_path):
    assert len(odd) == 30
    for name, content in odd.items():
        (tmp_path / name).write_bytes(content)
        answer = answer_file(tmp_path / name)
        assert answer.heading == "No answer" and not answer.probabilities, name
        assert len(answer.reasons[0]) > 20 and "\n" not in answer.reasons[0], name
        page = answer_html(answer)
        assert "Traceback" not in page and str(tmp_path) not in page and "<script>" not in page, name


def test_a_real_x_ray_gets_a_map_and_an_extent_and_no_class(tmp_path):
    (tmp_path / "a.dcm").write_bytes(_dicom(tmp_path, Manufacturer="Hospital's own"))
    answer = answer_file(tmp_path / "a.dcm")
    assert answer.heading == "No class is named" and not answer.probabilities
    assert (
        "271 real ones" in answer.reasons[0] and answer.severity.low <= answer.severity.extent <= answer.severity.high
    )
    page = answer_html(answer)
    assert "Kim" not in page and page.count("<img alt=") == 2 and "61 years" in page and "clinical use" in page


def test_what_says_that_it_is_simulated_gets_its_probabilities(tmp_path):
    (tmp_path / "a.dcm").write_bytes(_dicom(tmp_path, Manufacturer="covidxr simulator"))
    answer = answer_file(tmp_path / "a.dcm")
    assert answer.probabilities and sum(answer.probabilities.values()) == pytest.approx(1)
    assert "simulated chest X-ray" in answer_html(answer)


def test_where_several_classes_are_left_none_is_named():
    sure, left = calibrated({"negative": 0.97, "typical": 0.01, "indeterminate": 0.01, "atypical": 0.01})
    assert left == ["negative"] and list(sure)[0] == "negative" and sure["negative"] > 0.97  # it was too shy
    _, left = calibrated({"negative": 0.4, "typical": 0.4, "indeterminate": 0.15, "atypical": 0.05})
    assert set(left) >= {"negative", "typical"}
    named = [answer_sample(name) for name in SAMPLES]
    assert all(answer.severity and len(answer.pictures) == 2 for answer in named)
    with pytest.raises(DataError, match="there is no sample 'x'; there are no disease"):
        answer_sample("x")


def test_chests_look_like_chests():
    chests = [simulate(seed, "typical" if seed % 2 else "negative", size=128).pixels for seed in range(30)]
    assert min(map(looks_like_chest, chests)) > 0.5
    assert max(looks_like_chest(1 - one) for one in chests) < -0.5
    assert answer_xray(simulate(3, "negative", size=64), simulated=True).heading


def test_an_upload_is_removed_whatever_it_is(tmp_path):
    with upload_folder() as folder:
        for name, content in {"a.dcm": b"no X-ray", "b.dcm": _dicom(tmp_path)}.items():
            place = folder / "0123" / name
            place.parent.mkdir()
            place.write_bytes(content)
            assert read_and_forget(place, folder).reasons
            assert list(folder.iterdir()) == []
        (tmp_path / "mine.dcm").write_bytes(b"not an upload")
        read_and_forget(tmp_path / "mine.dcm", folder)
        assert (tmp_path / "mine.dcm").exists()
    assert not folder.exists()


def test_what_a_cut_off_upload_leaves_is_removed_whatever_its_size(tmp_path):
    with upload_folder() as folder:
        for name, age in {"tmpempty": 90, "tmplarge": 90, "tmpnew": 0, "tmpalive": 30}.items():
            (folder / name).write_bytes(bytes(0 if name == "tmpempty" else 3_000_000))
            os.utime(folder / name, (time.time() - age,) * 2)
        (folder / "0123").mkdir()
        (folder / "0123" / "a.dcm").write_bytes(b"no X-ray")
        read_and_forget(folder / "0123" / "a.dcm", folder)
        assert sorted(path.name for path in folder.iterdir()) == ["tmpalive", "tmpnew"]


def test_a_killed_pages_uploads_are_removed_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    old, alive = tmp_path / f"covidxr-app-{gone.stdout.strip()}-x1", tmp_path / f"covidxr-app-{os.getpid()}-x2"
    foreign = tmp_path / "covidxr-app-thesis-1"
    for folder in (old, alive, foreign):
        folder.mkdir()
        (folder / "a.dcm").write_text("a")
    with upload_folder():
        assert not old.exists() and alive.exists() and foreign.exists()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    "A page's address and its folder for temporary files"
    place = tmp_path_factory.mktemp("uploads")
    settings = {**os.environ, "TMPDIR": str(place)}
    command = [sys.executable, "-c", HASTY, "app", "--port", "0"]
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        said = []
        for line in server.stdout:
            said.append(line)
            if line.startswith("http"):
                break
        assert said and said[-1].startswith("http://127.0.0.1:"), said
        yield said[-1].strip(), place
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert not list(place.glob("covidxr-app-*")), "a page that is closed leaves nothing"


def _files(folder: Path) -> list[Path]:
    "Files with anything in them; gradio leaves an empty one beside each upload for a minute"
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


def test_the_server_answers_thirty_odd_files_and_keeps_none(page, odd, tmp_path):
    from gradio_client import Client, handle_file

    address, place = page
    client = Client(address, verbose=False, download_files=False)
    for name, content in odd.items():
        if "<" in name or not content:  # gradio's client renames the first; the second it refuses itself
            continue
        (tmp_path / name).write_bytes(content)
        told = client.predict(handle_file(tmp_path / name), api_name="/read")[1]
        assert "No answer" in told and "Traceback" not in told, name
    assert _files(place) == []


def _until(done: Callable[[], bool]) -> None:
    "Wait for it, 20 seconds at most"
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


HEAD = (
    b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: %d\r\n\r\n"
)
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n'


def _half_sent(folder: Path) -> list[Path]:
    "What the uploads under way have sent"
    found = []
    for path in folder.glob("tmp*"):
        with contextlib.suppress(FileNotFoundError):  # it is removed meanwhile
            found += [path] if path.stat().st_size else []
    return found


def _sending(address: str, body: bytes, size: int) -> socket.socket:
    "A connection over which a part of an upload has been sent"
    one = socket.create_connection(("127.0.0.1", int(address.rstrip("/").rpartition(":")[2])))
    one.sendall(HEAD % size + body)
    return one


def test_the_page_keeps_nothing_of_uploads_that_are_cut_off_and_waits_for_slow_ones(page):
    address, place = page
    folder = next(place.glob("covidxr-app-*"))
    body, end = PART + b"0" * 3_000_000, b"\r\n--x--\r\n"
    cut_off = [_sending(address, body, 50_000_000) for _ in range(3)]
    slow = _sending(address, body, len(body) + 12 * 100_000 + len(end))
    _until(lambda: len(_half_sent(folder)) == 4)
    for one in cut_off:
        one.close()
    for _ in range(12):  # longer than the page's patience
        slow.sendall(b"0" * 100_000)
        time.sleep(0.25)
    slow.sendall(end)
    assert slow.recv(100).startswith(b"HTTP/1.1 200"), "what is under way is not touched"
    _until(lambda: not _half_sent(folder))
    slow.close()
    shutil.rmtree(next(folder.rglob("a.dcm")).parent)  # nobody reads it
    assert _files(place) == []


def test_the_server_answers_no_other_site_and_asks_no_other_host(page):
    import httpx

    address, place = page
    with httpx.Client(base_url=address, timeout=60) as visitor:
        file = {"files": ("a.dcm", b"0" * 1000)}
        assert visitor.get("/", headers={"host": "evil.example:7860"}).status_code == 403
        refused = visitor.post("/gradio_api/upload", files=file, headers={"origin": "https://evil.example"})
        assert refused.status_code == 403 and "other web sites" in refused.text
        large = visitor.post("/gradio_api/upload", files={"files": ("a.dcm", bytes(101 * 1024**2))})
        assert large.status_code == 413 and large.text.startswith("A file may have 100 MB")
        given = {"path": "http://example.invalid/x.dcm", "meta": {"_type": "gradio.FileData"}}
        for door in ("call/read", "call/sample", "run/read", "queue/join"):
            told = visitor.post(f"/gradio_api/{door}", json={"data": [given], "session_hash": "a"})
            assert told.status_code == 403 and "no address" in told.text, door
        assert visitor.get("/gradio_api/file=http://example.invalid/x.dcm").status_code == 404
    assert _files(place) == []


def test_a_server_that_says_much_does_not_wait_for_a_reader(tmp_path, monkeypatch):
    door = importlib.import_module("covidxr.app")
    lines = [
        "import pathlib, sys, time",
        "print('http://127.0.0.1:1/', flush=True)",
        "print('Traceback\\n' * 200_000, flush=True)",  # 2 MB; a pipe takes 64 KB
        f"pathlib.Path({str(tmp_path / 'said')!r}).touch()",
        "time.sleep(60)",
    ]
    start = subprocess.Popen
    chatty = [sys.executable, "-c", "\n".join(lines)]
    monkeypatch.setattr(door.subprocess, "Popen", lambda command, **how: start(chatty, **how))
    with door.app() as address:
        assert address == "http://127.0.0.1:1/"
        _until((tmp_path / "said").exists)


def test_two_users_at_once_get_their_own_answers(page):
    from gradio_client import Client

    address, _ = page
    wanted = {"no disease": "negative", "typical for COVID-19": "typical"}
    told: dict[str, list[str]] = {name: [] for name in wanted}

    def ask(name: str) -> None:
        client = Client(address, verbose=False)
        for _ in range(5):
            told[name].append(client.predict(name, api_name="/sample"))

    users = [threading.Thread(target=ask, args=(name,)) for name in wanted]
    for user in users:
        user.start()
    for user in users:
        user.join()
    for name, word in wanted.items():
        assert len(told[name]) == 5 and all(f"Most probable: {word}" in text for text in told[name])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_use_it_and_nobody_else_is_asked(browser, page, tmp_path, width, dark):
    from axe_playwright_python.sync_playwright import Axe

    address, place = page
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    window, asked, faults = context.new_page(), [], []
    window.on("request", lambda one: asked.append(one.url))
    window.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    window.goto(address)
    window.get_by_label("typical for COVID-19").focus()
    window.keyboard.press("Space")  # by keyboard alone
    window.get_by_role("heading", name="Most probable: typical").wait_for()
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    window.wait_for_timeout(600)  # the answer fades in
    found = [(one["id"], one["nodes"][0]["html"][:120]) for one in Axe().run(window).response["violations"]]
    assert found == []
    (tmp_path / "letter.dcm").write_text("Dear doctor")
    window.locator("input[type=file]").set_input_files(tmp_path / "letter.dcm")
    window.get_by_role("heading", name="No answer").wait_for()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert faults == [] and _files(place) == []
    context.close()


def test_a_taken_port_is_said_in_words(page):
    port = page[0].rstrip("/").rpartition(":")[2]
    answer = subprocess.run([sys.executable, "-c", START, "app", "--port", port], capture_output=True, text=True)
    assert answer.returncode == 2 and f"port {port} cannot be used" in answer.stderr and "--port 0" in answer.stderr


def test_an_answers_words_are_escaped():
    page = answer_html(PageAnswer("<b>", ["<script>alert(1)</script>"], facts=[("machine", "<img src=x>")]))
    assert "<b>" not in page and "<script>" not in page and "<img" not in page


def test_a_space_starts_with_what_it_lists(tmp_path):
    from covidxr.runs.space import write_space

    program, packages, card = write_space(tmp_path / "space")
    assert "serve(7860" in program.read_text() and packages.read_text().startswith(
        "covidxr[app] @ git+https://github.com/"
    )
    head = card.read_text().split("---")[1]
    assert "sdk: gradio" in head and "app_file: app.py" in head and "license: apache-2.0" in head
    settings = (ROOT / "settings.ini").read_text()
    assert "app_requirements" in settings and "gradio" in settings


def test_the_reader_loads_no_pytorch_where_onnxruntime_is_there_and_leaves_no_trace(tmp_path):
    (tmp_path / "a.dcm").write_bytes(_dicom(tmp_path))
    home = tmp_path / "home"  # onnxruntime would note a number of this machine there, for its makers
    home.mkdir()
    settings = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "CI")}
    settings |= {"HOME": str(home), "TMPDIR": str(home)}
    lines = [
        "import sys",
        "from covidxr.runs.page import answer_html, gradio_library",
        "from covidxr.runs.answer import answer_file",
        "gradio_library()",
        f"answer = answer_file({str(tmp_path / 'a.dcm')!r})",
        "assert answer.severity, answer",
        "answer_html(answer)",
        "print(sorted({'torch', 'timm', 'scipy', 'numba'} & set(sys.modules)))",
    ]
    pytest.importorskip("onnxruntime", reason="the extra serve is not installed")
    told = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, env=settings)
    assert told.stdout.strip() == "[]", told.stdout + told.stderr[-500:]
    assert list(home.rglob("*")) == []


def test_onnxruntime_is_imported_in_one_place_where_it_is_silenced():
    modules = [path for path in (ROOT / "covidxr").rglob("*.py") if "import onnxruntime\n" in path.read_text()]
    assert [path.name for path in modules] == ["extras.py"]


def test_answers_are_the_same_without_onnxruntime(monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra serve is not installed")
    quick = [answer_sample(name) for name in SAMPLES]
    shipped_reader._network.cache_clear()
    with monkeypatch.context() as only:
        only.setitem(sys.modules, "onnxruntime", None)
        slow = [answer_sample(name) for name in SAMPLES]
    shipped_reader._network.cache_clear()
    for one, other in zip(quick, slow, strict=True):
        assert (one.heading, one.reasons, one.facts) == (other.heading, other.reasons, other.facts)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
        parts = [[answer.severity.extent, answer.severity.low, answer.severity.high] for answer in (one, other)]
        assert parts[0] == pytest.approx(parts[1], abs=1e-4)
        assert [words for words, _ in one.pictures] == [words for words, _ in other.pictures]


def test_onnxruntime_and_pytorch_read_a_hundred_x_rays_alike():
    pytest.importorskip("onnxruntime", reason="the extra serve is not installed")
    ways, worst, boxes = [shipped_reader._by_onnxruntime(), shipped_reader._by_pytorch()], 0.0, 0
    for seed in range(100):
        xray = simulate(seed, ("negative", "typical", "indeterminate", "atypical")[seed % 4], size=160)
        square, place = fit_square(xray.pixels, 128)
        one, other = (way(square) for way in ways)
        worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)))
        found = [map_boxes(way[0], place, stride=8) for way in (one, other)]
        assert len(found[0]) == len(found[1]) and np.allclose(found[0], found[1], atol=1e-4), seed
        boxes += len(found[0])
    assert 0 < worst < 1e-4 and boxes > 50


def test_gradio_is_left_as_it_was(tmp_path):
    lines = [
        "import sys",
        "from covidxr.runs.page import gradio_library",
        "finders = list(sys.meta_path)",
        "gradio = gradio_library()",
        "assert sys.meta_path == finders",
        "print(gradio.component_meta.create_or_modify_pyi.__name__, gradio.events.EventListener.set_doc.__name__)",
    ]
    told = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert told.stdout.split() == ["create_or_modify_pyi", "set_doc"], told.stdout + told.stderr[-500:]
