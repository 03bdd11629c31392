"""The server really running: limits, headers, keys, health, hostile requests, and its end under load."""

from __future__ import annotations

import base64
import concurrent.futures
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from small_catalogue import ROOT, picture

from lib.serving.__main__ import KEY_VARIABLE
from lib.serving.app import Loading
from lib.serving.measures import Measures
from lib.serving.searcher import Searcher

HERE = Path(__file__).parent


class Server:
    """A server process on a port of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)

    def search(self, **body: Any) -> httpx2.Response:
        return self.client.post("/api/search", json=body)

    def upload(self, data: bytes, name: str = "x.png", **options: Any) -> httpx2.Response:
        files = {"image": (name, data, "image/png")}
        return self.client.post("/api/search/image", files=files, data={"options": json.dumps(options)})

    def raw(self, body: bytes, *, path: str = "/api/search", kind: str = "application/json") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, body=body, headers={"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read()


@contextmanager
def running(folder: Path, *reason: str, key: str | None = None) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    environment = {**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"} | ({KEY_VARIABLE: key} if key else {})
    process = subprocess.Popen(
        [sys.executable, str(HERE / "serve_small.py"), str(port), str(folder), *reason],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process, port)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline
            try:
                ready = server.client.get("/readyz")
            except httpx2.ConnectError:
                time.sleep(0.05)
                continue
            if ready.status_code == 200 or (reason and reason[0] in ready.text):
                break
            time.sleep(0.05)
        yield server
    finally:
        server.client.close()
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as one:
        yield one


def test_a_search_by_text_by_item_by_picture_and_by_vector(server: Server) -> None:
    by_text = server.search(text="blue cardigan", model="baseline").json()
    assert by_text["results"][0]["color"] == "blue" and by_text["wanted"]["category"] == "cardigans"
    by_item = server.search(item="p00_A", k=3, filters={"color": ["black"]}).json()
    assert [r["color"] for r in by_item["results"]] == ["black"] * 3
    by_picture = server.upload(picture("red"), model="baseline", k=2).json()
    assert by_picture["results"][0]["color"] == "red" and len(by_picture["results"]) == 2
    by_vector = server.search(vector=[0, 1, 0, 0.8, 0], model="baseline", k=1).json()
    assert by_vector["results"][0]["color"] == "blue"


def test_items_and_pictures(server: Server) -> None:
    assert (
        server.client.get("/api/item", params={"id": "p03_A"}).json()["caption"].endswith("<script>alert(1)</script>")
    )
    answer = server.client.get("/api/picture", params={"id": "p03_A"})
    assert answer.headers["content-type"] == "image/png" and answer.content == picture("red")
    for path in ("/api/item", "/api/picture"):
        assert server.client.get(path, params={"id": "../../etc/passwd"}).status_code == 404
    catalogue = server.client.get("/api/catalogue").json()
    assert catalogue["items"] == 20 and catalogue["dims"] == {"protocol": 5, "baseline": 5}


def test_every_answer_bears_the_headers(server: Server) -> None:
    answers = [
        server.client.get("/"),
        server.client.get("/livez"),
        server.client.get("/nowhere"),
        server.search(text="red"),
        server.search(text=""),
        server.client.post("/api/search", content=b"x" * 300_000),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 200, 422, 413]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert answer.headers["referrer-policy"] == "no-referrer" and len(answer.headers["x-request-id"]) == 32
        assert "access-control-allow-origin" not in answer.headers and "server" not in answer.headers
    asked = server.client.get("/livez", headers={"X-Request-ID": "trace-7"})
    assert asked.headers["x-request-id"] == "trace-7"
    odd = server.client.get("/livez", headers={"X-Request-ID": "a b\tc"})
    assert len(odd.headers["x-request-id"]) == 32, "an id that is none is not repeated"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "JSON"),
        (b"[]", "dictionary"),
        (b'{"text": "x", "k": 0}', "k: "),
        (b'{"text": "x", "k": -1}', "k: "),
        (b'{"text": "x", "k": 1000000000}', "k: "),
        (b'{"text": "x", "offset": 100}', "offset: "),
        (b'{"text": "x", "colour": 1}', "colour: "),
        (b'{"text": 5}', "text: "),
        (b'{"text": "x", "image_weight": NaN}', "image_weight: "),
        (b'{"vector": [NaN, 1, 1, 1, 1]}', "vector.0: "),
        (b'{"vector": [Infinity, 1, 1, 1, 1]}', "vector.0: "),
        (b'{"vector": [1e400, 1, 1, 1, 1]}', "vector.0: "),
        (b'{"vector": [1, 1]}', "expected 5 finite numbers"),
        (b'{"vector": [0, 0, 0, 0, 0]}', "expected 5 finite numbers"),
        (b'{"vector": [1e39, 1, 1, 1, 1]}', "expected 5 finite numbers"),
        (b"{}", "got nothing"),
        (b'{"text": "x", "filters": {"color": ["mauve"]}}', "no color 'mauve'"),
        (b'{"text": "x", "rerank": "magic"}', "rerank: "),
        (b'{"text": "x", "index": "hnsw"}', "no index 'hnsw'"),
        (b'{"text": "\\ud800"}', ""),
        (b"\xff\xfe", ""),
        (b'{"text": "' + b"a" * 1001 + b'"}', "1000 characters"),
        (b"[" * 100_000, ""),
        (b'{"text": "x", "k": ' + b"9" * 5000 + b"}", ""),
        (b'{"text": "x", "filters": {"color": ["no item"]}}', "no color 'no item'"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_malformed_requests_are_told_what_is_wrong(server: Server, body: bytes, words: str) -> None:
    status, said = server.raw(body)
    assert status == 422 and words in json.loads(said)["detail"], (status, said)


def test_uploads_that_are_no_pictures(server: Server) -> None:
    bomb = picture("red", (9000, 9000))
    cases = {b"": "empty", b"<html>": "HTML", picture("red")[:60]: "", bomb: "pixels"}
    for data, words in cases.items():
        answer = server.upload(data)
        assert answer.status_code == 422 and words.lower() in answer.text.lower(), answer.text
    assert server.upload(picture("red"), "../../evil.sh").status_code == 200, "a client's file names are ignored"
    assert server.upload(picture("red"), rerank="magic").status_code == 422
    assert server.raw(b"x", path="/api/search/image", kind="multipart/form-data")[0] == 422


def test_too_large_bodies_are_refused_and_memory_stays(server: Server) -> None:
    before = _resident(server.process.pid)
    assert server.upload(b"x" * 11_000_000).status_code == 413
    assert server.raw(b'{"text": "' + b"a" * 300_000 + b'"}')[0] == 413
    for _ in range(3):
        status = _endless(server.port)
        assert status == 413
    assert _resident(server.process.pid) < before + 60e6
    assert server.client.get("/livez").status_code == 200


def _endless(port: int) -> int:
    """Send a chunked body without an end until the server answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/search HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        block = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        try:
            for _ in range(200):
                connection.sendall(block)
        except OSError:
            pass
        try:
            return int(connection.makefile("rb").readline().split()[1])
        except (OSError, IndexError):
            return 413 if _alive(port) else 0


def _alive(port: int) -> bool:
    return httpx2.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_hostile_texts_come_back_as_data(server: Server) -> None:
    text = '<script>alert(1)</script>" onerror="x\' javascript:'
    answer = server.search(text=text)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert server.client.get("/").headers["content-type"].startswith("text/html")


def test_a_full_queue_and_too_many_at_once_say_when_to_come_back(server: Server) -> None:
    full = server.search(text="overload")
    assert full.status_code == 503 and full.headers["retry-after"] == "1"
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda i: server.search(text=f"sleep 1 {i}"), range(20)))
        codes = sorted(answer.status_code for answer in answers)
    assert codes.count(200) >= 8 and codes.count(503) >= 1 and set(codes) == {200, 503}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
    assert server.search(text="red").status_code == 200


def test_measures_count_requests(server: Server) -> None:
    server.search(text="red")
    text = server.client.get("/metrics").text
    assert 'search_requests_total{method="POST",route="/api/search",status="200"}' in text
    assert "search_catalogue_items 20.0" in text and "search_request_seconds_bucket" in text
    server.client.get("/made/up/path/1")
    server.client.request("MADEUP", "/api/search")
    assert "made" not in server.client.get("/metrics").text.lower(), (
        "what visitors make up does not grow the measures"
    )


def test_openapi_has_examples_and_needs_nothing_from_elsewhere(server: Server) -> None:
    described = server.client.get("/openapi.json").json()
    assert {"/api/search", "/api/search/image", "/api/item", "/api/picture", "/livez", "/readyz", "/metrics"} <= set(
        described["paths"]
    )
    assert described["components"]["schemas"]["SearchBody"]["examples"]
    assert server.client.get("/docs").status_code == 404


def test_a_key_is_asked_for_everywhere_but_at_the_health_checks(tmp_path: Path) -> None:
    with running(tmp_path, key="s3cret") as locked:
        basic = base64.b64encode(b"anyone:s3cret").decode()
        for path in ("/", "/api/catalogue", "/metrics", "/openapi.json", "/page.js"):
            refused = locked.client.get(path)
            assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic")
            assert locked.client.get(path, headers={"X-API-Key": "s3cre"}).status_code == 401
            for header in (
                {"X-API-Key": "s3cret"},
                {"Authorization": "Bearer s3cret"},
                {"Authorization": f"Basic {basic}"},
            ):
                assert locked.client.get(path, headers=header).status_code == 200
        assert locked.client.get("/", headers={"Authorization": "Basic ???"}).status_code == 401
        assert locked.client.get("/livez").status_code == 200 and locked.client.get("/readyz").status_code == 200


def test_a_catalogue_that_cannot_be_loaded_leaves_the_process_alive(tmp_path: Path) -> None:
    reason = "artifacts/index/flat.faiss: damaged: expected sha256 12…, got 34…"
    with running(tmp_path, reason) as broken:
        assert broken.client.get("/livez").status_code == 200
        ready = broken.client.get("/readyz")
        assert ready.status_code == 503 and reason in ready.json()["detail"]
        assert broken.search(text="red").status_code == 503
        assert broken.client.get("/").status_code == 200 and broken.client.get("/metrics").status_code == 200


def test_whatever_stops_the_loading_is_said() -> None:
    def opener() -> Searcher:
        raise ImportError("libfaiss.so: cannot open shared object file")

    loading = Loading(opener, Measures())
    loading.start().join(30)
    assert loading.searcher is None and "libfaiss.so" in loading.reason


def test_the_encoders_batches_are_measured() -> None:
    measures, searcher = Measures(), SimpleNamespace(encoder=SimpleNamespace())
    Loading(lambda: searcher, measures).start().join(30)  # type: ignore[arg-type, return-value]
    searcher.encoder.observe(4)
    assert b"search_encoder_batch_size_sum 4.0" in measures.text()


def test_pictures_that_are_gone_are_said_with_the_remedy(tmp_path: Path) -> None:
    with running(tmp_path) as one:
        shutil.rmtree(tmp_path / "hf")
        answer = one.client.get("/api/picture", params={"id": "p00_A"})
        assert answer.status_code == 503 and "dvc repro" in answer.json()["detail"], answer.text
        assert one.search(text="red").status_code == 200


def test_sigterm_under_load_finishes_what_is_at_work_and_takes_no_more(tmp_path: Path) -> None:
    with running(tmp_path) as one, concurrent.futures.ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(one.search, text=f"sleep 3 {i}") for i in range(5)]
        deadline = time.monotonic() + 30
        while "in_flight 6.0" not in one.client.get("/metrics").text:  # five and this one
            assert time.monotonic() < deadline
            time.sleep(0.02)
        one.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"http://127.0.0.1:{one.port}/livez", trust_env=False)
        assert [future.result().status_code for future in waiting] == [200] * 5
        started = time.monotonic()
        assert one.process.wait(25) in (0, -signal.SIGTERM) and time.monotonic() - started < 25


def test_other_addresses_need_a_key() -> None:
    environment = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    command = [sys.executable, "-m", "lib.serving", "serve", "--host", "0.0.0.0", "--port", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and KEY_VARIABLE in done.stderr and "Traceback" not in done.stderr
