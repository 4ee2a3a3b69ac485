"Whom the page answers: its own visitors, within bounds; not the pages of other sites, and nobody through gradio's doors."

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from covidxr.runs import guard
from covidxr.runs.guard import MOST, Guarded, is_local

pytest.importorskip("starlette", reason="the extra app is not installed")
HERE = {"host": "127.0.0.1:7860"}
UPLOAD, JOIN = "/gradio_api/upload", "/gradio_api/queue/join"


async def _fills(scope: dict, receive, send) -> None:
    "An application that reads all it is sent, and answers with the number of bytes"
    total, more = 0, True
    while more:
        message = await receive()
        total, more = total + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(total).encode()})


def _ask(guarded: Guarded, path: str, headers: dict, method: str = "POST", parts: tuple = (b"",)) -> tuple[int, str]:
    "The status and the words that a request is answered with"
    said: list[dict] = []
    chunks: Iterator[tuple[int, bytes]] = iter(enumerate(parts, 1))

    async def receive() -> dict:
        found = next(chunks, None)
        assert found, "more is asked of the visitor than he has sent: he would wait for good"
        return {"type": "http.request", "body": found[1], "more_body": found[0] < len(parts)}

    async def send(message: dict) -> None:
        said.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = guarded({"type": "http", "method": method, "path": path, "headers": pairs}, receive, send)
    with ThreadPoolExecutor(1) as pool:  # a browser that another test has opened runs a loop in this one
        pool.submit(asyncio.run, request).result()
    assert any(name == b"content-security-policy" for name, _ in said[0]["headers"])
    return said[0]["status"], b"".join(one.get("body", b"") for one in said).decode()


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(_fills, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "localhost:8000"])
def test_this_machine_may_be_called_by_all_its_own_names(host, guarded):
    assert _ask(guarded, "/", {"host": host}, "GET")[0] == 200
    assert _ask(guarded, UPLOAD, {"host": host, "origin": f"http://{host}"})[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example:7860", "127.0.0.1.evil.example", "", "[", "localhost.evil.example:7860"]
)
def test_a_name_that_only_leads_to_this_machine_is_refused(host, guarded):
    for path, method in (("/", "GET"), ("/config", "HEAD"), (UPLOAD, "POST")):
        status, said = _ask(guarded, path, {"host": host, "origin": f"http://{host}"}, method)
        assert status == 403 and "127.0.0.1" in said and "ssh -L" in said


@pytest.mark.parametrize(
    "told",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"origin": "https://127.0.0.1:7860.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
    ],
)
def test_the_pages_of_other_sites_are_refused(told, guarded):
    for path in (UPLOAD, JOIN, "/gradio_api/call/read"):
        status, said = _ask(guarded, path, HERE | told, parts=(b"0" * 1000, b"0" * 1000))
        assert status == 403 and "other web sites" in said


def test_a_link_on_another_site_opens_the_page(guarded):
    assert _ask(guarded, "/", HERE | {"sec-fetch-site": "cross-site"}, "GET")[0] == 200


def test_behind_a_proxy_the_page_goes_on_working(tmp_path, monkeypatch):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "JUPYTERHUB_SERVICE_PREFIX", "CODESPACES"):
        monkeypatch.delenv(name, raising=False)
    assert is_local("127.0.0.1") and is_local("localhost") and not is_local("0.0.0.0") and not is_local("10.0.0.5")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab-1")
    assert not is_local("127.0.0.1")
    guarded = Guarded(_fills, tmp_path, local=False)
    theirs = {"host": "me-xray.hf.space", "origin": "https://me-xray.hf.space", "sec-fetch-site": "same-origin"}
    assert _ask(guarded, UPLOAD, theirs)[0] == 200
    assert _ask(guarded, UPLOAD, theirs | {"host": "localhost:7860"})[0] == 200, "a proxy that tells the host anew"
    assert _ask(guarded, UPLOAD, theirs | {"origin": "https://evil.example", "sec-fetch-site": "cross-site"})[0] == 403


def test_an_upload_has_bounds_whether_it_tells_its_size_or_not(guarded):
    much = (b"0" * (MOST // 4),) * 5
    for told in ({"content-length": str(5 * (MOST // 4))}, {}):
        status, said = _ask(guarded, UPLOAD, HERE | told, parts=much)
        assert status == 413 and said == "A file may have 100 MB: this request has more."
    assert _ask(guarded, UPLOAD, HERE, parts=much[:4]) == (200, str(MOST))
    assert guarded.under_way == 0
    for path in (JOIN, "/gradio_api/call/read"):
        assert _ask(guarded, path, HERE, parts=(b"0" * 600_000,) * 3)[0] == 413


def test_all_uploads_together_have_bounds(guarded, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "_ROOM", 1000)
    size = {"content-length": "400"}
    assert _ask(guarded, UPLOAD, HERE | size, parts=(b"0" * 400,)) == (200, "400")
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "x.dcm").write_bytes(bytes(700))  # not yet read
    status, said = _ask(guarded, UPLOAD, HERE | size, parts=(b"0" * 400,))
    assert status == 413 and "try again in a minute" in said
    (tmp_path / "ab" / "x.dcm").unlink()
    guarded.under_way = 700  # others are still sending
    assert _ask(guarded, UPLOAD, HERE | size, parts=(b"0" * 400,))[0] == 413


def test_an_input_names_an_upload_or_nothing(guarded, tmp_path):
    (tmp_path / "ab").mkdir()
    (tmp_path / "link").symlink_to(Path(__file__))
    fine = {
        "path": str(tmp_path / "ab" / "x.dcm"),
        "url": "http://127.0.0.1:7860/x",
        "meta": {"_type": "gradio.FileData"},
    }
    for data in ([fine], ["typical"], [None], []):
        body = json.dumps({"data": data}).encode()
        assert _ask(guarded, JOIN, HERE, parts=(body[:5], body[5:])) == (200, str(len(body)))
    for path in (
        "http://example.invalid/x",
        "/etc/passwd",
        f"{tmp_path}/../x",
        f"{tmp_path}/link",
        "x",
        "a\0b",
        5,
        None,
    ):
        for given in ([fine | {"path": path}], [[{"value": fine | {"path": path}}]], {"file": fine | {"path": path}}):
            for door in (JOIN, "/gradio_api/call/sample", "/gradio_api/call/v2/read", "/gradio_api/run/read"):
                status, said = _ask(guarded, door, HERE, parts=(json.dumps({"data": given}).encode(),))
                assert status in (400, 403) and said.endswith("."), (path, given, door)
    for body in (b"{", b"[" * 100_000, b"\xff\xfe"):
        assert _ask(guarded, JOIN, HERE, parts=(body,))[0] == 400


@pytest.mark.parametrize(
    "door",
    [
        "GET /gradio_api/file=http://example.invalid/x",
        "GET /gradio_api/file=/etc/passwd",
        "GET /gradio_api/proxy=http://example.invalid/x",
        "GET /gradio_api/run-history/buckets",
        "GET /gradio_api/deep_link",
        "POST /gradio_api/run-history/connect",
        "POST /gradio_api/process_recording",
        "POST /gradio_api/component_server",
        "POST /gradio_api/upload/more",
        "PUT /gradio_api/upload",
        "POST /login",
    ],
)
def test_doors_of_gradio_that_the_page_does_not_need_are_closed(door, guarded):
    method, path = door.split()
    assert _ask(guarded, path, HERE, method)[0] == 404
