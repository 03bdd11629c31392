"""A server on loopback that gives photos, or misbehaves, as a test says, and counts what it was asked."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


class PhotoServer:
    """Answers by path; a path without an answer of its own is 404."""

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: Counter[str] = Counter()
        self.hosts: list[str | None] = []
        self.connections = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with outer._lock:
                    outer.connections += 1

            def do_GET(self) -> None:
                with outer._lock:
                    outer.asked[self.path] += 1
                    outer.hosts.append(self.headers["Host"])
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                try:
                    outer.answers.get(self.path, status(404))(self)
                except OSError:
                    self.close_connection = True
                finally:
                    with outer._lock:
                        outer._at_once -= 1

            def log_message(self, *words: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *words: Any) -> None:  # clients that hang up, refused certificates
                pass

        self._server = Server((host, 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(**options: Any) -> Iterator[PhotoServer]:
    server = PhotoServer(**options)
    try:
        yield server
    finally:
        server.stop()


def body(data: bytes, kind: str = "image/jpeg", length: int | None = None, **headers: str) -> Answer:
    """200 with these bytes; `length` is what it says, not what it sends."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Content-Type", kind)
        to.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        to.wfile.write(data)
        to.close_connection = length is not None

    return answer


def status(code: int, **headers: str) -> Answer:
    """A status without a photo."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        to.send_response(code)
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.send_header("Content-Length", "2")
        to.end_headers()
        to.wfile.write(b"no")

    return answer


def redirect(target: str, code: int = 302) -> Answer:
    return status(code, Location=target)


def raw(*pieces: bytes, pause: Callable[[], Any] = lambda: None, forever: bool = False) -> Answer:
    """These bytes as the whole answer, status line and all; `pause` between them, the last one again and again."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        to.close_connection = True
        for piece in pieces:
            to.wfile.write(piece)
            pause()
        while forever:
            to.wfile.write(pieces[-1])
            pause()

    return answer


def one_after_another(*answers: Answer) -> Answer:
    """The first answer for the first request, and so on; the last one from then on."""
    left = list(answers)
    lock = threading.Lock()

    def answer(to: BaseHTTPRequestHandler) -> None:
        with lock:
            now = left.pop(0) if len(left) > 1 else left[0]
        now(to)

    return answer
