"""Photos from a server that means no good: every answer it can give ends in time, in few bytes, with a reason."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from fetching import LIMITS, fetcher, reason
from photo_server import body, one_after_another, raw, redirect, serving, status

from lib.catalog.download.failures import FetchError


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def photo(encode, draw):
    return encode(draw(1))


@pytest.mark.parametrize(
    ("form", "ending"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tif")]
)
def test_a_photo_comes_as_it_is_and_its_format_names_the_ending(server, encode, draw, form, ending):
    data = encode(draw(2), form)
    server.answers["/a.php?x=1"] = body(data, kind="text/html")
    assert fetcher().fetch(server.url("/a.php?x=1")) == (data, ending)
    assert server.hosts == [f"127.0.0.1:{server.port}"]


def test_redirects_are_followed_and_judged(server, photo):
    server.answers["/a"] = redirect("/b?c=d", 301)
    server.answers["/b?c=d"] = redirect(server.url("/e"), 307)
    server.answers["/e"] = redirect("f/../g.jpg", 308)
    server.answers["/g.jpg"] = body(photo)
    assert fetcher().fetch(server.url("/a"))[0] == photo


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://169.254.169.254/latest/meta-data/", "refused_address"),
        ("http://127.0.0.2/x.jpg", "refused_address"),
        ("http://[::1]/x.jpg", "refused_address"),
        ("http://10.0.0.1/x.jpg", "refused_address"),
        ("//localhost.localdomain@10.0.0.1/", "address_with_password"),
        ("file:///etc/hostname", "refused_scheme"),
        ("ftp://shop.example/x", "refused_scheme"),
        ("http://[broken", "bad_redirect"),
        ("http://x:y:z/", "bad_address"),
    ],
)
def test_redirects_to_where_nobody_may_go(server, target, expected):
    server.answers["/a"] = redirect(target)
    assert reason(server.url("/a")) == expected
    assert server.asked.total() == 1


def test_redirects_without_end(server):
    server.answers["/a"] = redirect("/b")
    server.answers["/b"] = redirect("/a")
    assert reason(server.url("/a")) == "redirect_loop"
    assert server.asked == {"/a": 1, "/b": 1}
    for number in range(20):
        server.answers[f"/{number}"] = redirect(f"/{number + 1}")
    assert reason(server.url("/0")) == "too_many_redirects"
    assert server.asked["/5"] == 1 and not server.asked["/6"]
    server.answers["/c"] = status(302)
    assert reason(server.url("/c")) == "bad_redirect"


@pytest.mark.parametrize("code", [201, 204, 300, 304, 400, 401, 403, 404, 410])
def test_what_is_not_there_is_asked_once(server, code):
    server.answers["/a"] = status(code)
    assert reason(server.url("/a")) == f"http_{code}"
    assert server.asked["/a"] == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, photo, code):
    server.answers["/a"] = one_after_another(status(code), status(code), body(photo))
    assert fetcher().fetch(server.url("/a"))[0] == photo
    assert server.asked["/a"] == 3
    server.answers["/b"] = status(code)
    with pytest.raises(FetchError, match="asked 3 times") as caught:
        fetcher().fetch(server.url("/b"))
    assert caught.value.reason == f"http_{code}" and server.asked["/b"] == 3


@pytest.mark.parametrize(
    ("asked", "least", "most"), [("0", 0, 0.9), ("1", 1, 3), ("99999", 1.2, 5), ("soon", 0, 0.9)]
)
def test_retry_after_is_respected_up_to_a_limit(server, photo, asked, least, most):
    server.answers["/a"] = one_after_another(status(429, Retry_After=asked), body(photo))
    started = time.monotonic()
    fetcher(max_backoff_s=1.2).fetch(server.url("/a"))
    assert least <= time.monotonic() - started < most


def test_retry_after_as_a_date():
    when = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    with serving() as server:
        server.answers["/a"] = status(429, Retry_After=when)
        started = time.monotonic()
        reason(server.url("/a"), attempts=2, max_backoff_s=10)
        assert 0.9 <= time.monotonic() - started < 5


def test_waits_double_with_jitter_up_to_a_limit():
    one = fetcher(backoff_s=1.0, max_backoff_s=3.0)
    pauses = [[one._pause(attempt, None) for _ in range(50)] for attempt in (1, 2, 3, 9)]
    for found, longest in zip(pauses, (1.0, 2.0, 3.0, 3.0), strict=True):
        assert longest / 2 <= min(found) < 0.6 * longest and 0.9 * longest < max(found) <= longest


OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


@pytest.mark.parametrize(
    "start", [OK + b"\r\n", OK + b"X-Slow: ", b"HTTP/1.1 ", OK + b"Transfer-Encoding: chunked\r\n\r\n1;x="], ids=str
)
def test_a_dribble_ends_with_the_deadline(server, start):
    server.answers["/a"] = raw(start, b"x", pause=lambda: time.sleep(0.05), forever=True)
    started = time.monotonic()
    assert reason(server.url("/a")) == "deadline"
    assert 0.7 < time.monotonic() - started < 3
    assert server.asked["/a"] == 1, "a server that drags on is not asked again at once"


def test_the_deadline_covers_redirects(server):
    for number in range(5):
        slow = raw(b"HTTP/1.1 302 Found\r\nLocation: /%d\r\nContent-Length: 0\r\n" % (number + 1), b"\r\n")
        server.answers[f"/{number}"] = lambda to, slow=slow: (time.sleep(0.25), slow(to))
    assert reason(server.url("/0")) == "deadline"
    assert server.asked["/4"] == 0


def test_silence_is_asked_again(server, photo):
    hanging = raw(b"", pause=lambda: time.sleep(2))
    server.answers["/a"] = one_after_another(hanging, body(photo))
    assert fetcher().fetch(server.url("/a"))[0] == photo
    server.answers["/b"] = raw(OK + b"Content-Length: 9\r\n\r\n", b"12", pause=lambda: time.sleep(0.9))
    assert reason(server.url("/b")) == "timeout"
    assert server.asked["/b"] == 3


def test_a_server_that_never_answers_a_connection():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}/a.jpg"
        assert reason(address, attempts=2) == "timeout"
        fillers = []
        try:
            for _ in range(4):  # the kernel answers for it until its queue is full
                fillers.append(socket.socket())
                fillers[-1].setblocking(False)
                fillers[-1].connect_ex(deaf.getsockname())
            assert reason(address, attempts=1) == "timeout"
        finally:
            for filler in fillers:
                filler.close()


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert reason(f"http://127.0.0.1:{port}/") == "no_connection"


@pytest.mark.parametrize("data", [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
                                  b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
                                  OK + b"Content-Length: 5, 6\r\n\r\nhello",
                                  OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"])  # fmt: skip
def test_answers_that_are_no_http(server, data):
    server.answers["/a"] = raw(data)
    assert reason(server.url("/a")) in ("bad_response", "no_connection", "short_body")
    assert server.asked["/a"] == 1


def test_bytes_are_bounded_whatever_is_declared(server, photo):
    sent: list[int] = []
    endless = raw(OK + b"\r\n", b"x" * 50_000, pause=lambda: sent.append(1), forever=True)
    server.answers["/endless"] = endless
    server.answers["/declared"] = body(b"", length=10**12)
    server.answers["/lie"] = raw(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n")
    server.answers["/chunked"] = raw(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n", forever=True
    )
    for path in ("/endless", "/declared", "/lie", "/chunked"):
        assert reason(server.url(path)) == "too_large", path
    assert len(sent) < 200, "it hung up"
    exact = photo + bytes(LIMITS.max_bytes - len(photo))
    server.answers["/exact"] = body(exact)
    assert len(fetcher().fetch(server.url("/exact"))[0]) == LIMITS.max_bytes


def test_more_than_the_declared_length_is_not_read(server, photo):
    server.answers["/a"] = body(photo + b"HTTP/1.1 200 OK\r\n\r\n", length=len(photo))
    one = fetcher()
    for _ in range(3):
        assert one.fetch(server.url("/a"))[0] == photo


def test_less_than_the_declared_length(server, photo):
    server.answers["/a"] = body(photo, length=len(photo) + 10)
    assert reason(server.url("/a")) == "short_body"
    server.answers["/b"] = raw(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc")
    assert reason(server.url("/b")) == "short_body"


def test_compressed_answers_are_refused_unread(server, photo):
    bomb = gzip.compress(photo + bytes(10**7))
    server.answers["/gzip"] = body(bomb, Content_Encoding="gzip")
    server.answers["/deflate"] = body(zlib.compress(photo), Content_Encoding="deflate")
    for path in ("/gzip", "/deflate"):
        assert reason(server.url(path)) == "compressed"
    server.answers["/identity"] = body(photo, Content_Encoding="identity")
    assert fetcher().fetch(server.url("/identity"))[0] == photo


def bomb() -> bytes:
    """A PNG of 144 megapixels in a few kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (12_000).to_bytes(4, "big") * 2 + bytes((1, 0, 0, 0, 0))
    pixels = zlib.compress(bytes(1501 * 12_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_what_is_no_photo(server, encode, draw):
    photo = encode(draw(4, (60, 60)))
    html = b"<!doctype html><title>Please log in</title>"
    for path, data in {"/html": html, "/cut": photo[: len(photo) // 2], "/empty": b"", "/bomb": bomb()}.items():
        server.answers[path] = body(data)
    found = [reason(server.url(path)) for path in ("/html", "/cut", "/empty", "/bomb")]
    assert found == ["not_an_image", "truncated", "zero_bytes", "too_many_pixels"]
    assert set(server.asked.values()) == {1}


def test_photos_are_read_into_memory_once(server, encode, draw):
    """A few copies, the server's among them, and nothing that grows with the number of blocks."""
    import tracemalloc

    data = encode(draw(3)) + bytes(8 * 10**6)
    server.answers["/a"] = body(data)
    one = fetcher(max_bytes=10**7)
    tracemalloc.start()
    assert len(one.fetch(server.url("/a"))[0]) == len(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(data)
