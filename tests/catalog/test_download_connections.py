"""Where connections go, how long they are kept, and TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from fetching import fetcher, reason
from photo_server import body, one_after_another, raw, redirect, serving

from lib.catalog.download.addresses import public_only
from lib.catalog.download.failures import FetchError

OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def photo(encode, draw):
    return encode(draw(1))


def test_a_name_is_looked_up_once_and_connected_to_what_was_judged(server, photo):
    """The second answer of a rebinding resolver is never asked for: between judging and connecting is no look-up."""
    server.answers["/a"] = body(photo)
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    one = fetcher(resolve=resolve)
    assert one.fetch(server.url("/a", "shop.example"))[0] == photo
    assert asked == ["shop.example"] and server.hosts == [f"shop.example:{server.port}"]
    server.answers["/b"] = redirect("http://other.example/x")
    with pytest.raises(FetchError, match=r"other.example is 169\.254\.169\.254") as caught:
        one.fetch(server.url("/b", "shop.example"))
    assert caught.value.reason == "refused_address", "each new connection is judged anew"


def test_public_first_then_private():
    answers = [["93.184.216.34", "127.0.0.1"], ["127.0.0.1"]]
    found = reason("http://shop.example/", judge=public_only, resolve=lambda host, port: answers.pop(0))
    assert found == "refused_address"
    assert len(answers) == 1


def test_a_second_address_is_tried_when_the_first_is_dead(server, photo):
    server.answers["/a"] = body(photo)
    with socket.socket() as unused:
        unused.bind(("127.0.0.3", 0))
        resolved = ["127.0.0.3", "127.0.0.1"]
        one = fetcher(judge=lambda ip: None, resolve=lambda host, port: resolved)
        assert one.fetch(server.url("/a", "shop.example"))[0] == photo


def test_hosts_that_nobody_knows():
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert reason("http://nowhere.invalid/a.jpg", resolve=unknown) == "unknown_host"
    assert reason("http://nowhere.invalid/a.jpg", resolve=lambda host, port: []) == "unknown_host"
    assert reason(f"http://{'x' * 64}.invalid/a.jpg") == "unknown_host"
    stuck = threading.Event()
    assert reason("http://slow.invalid/", resolve=lambda host, port: stuck.wait(2) and [], attempts=1) == "timeout"
    stuck.set()


def test_proxies_of_the_environment_are_not_used(server, photo, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.answers["/a"] = body(photo)
    assert fetcher().fetch(server.url("/a"))[0] == photo


def test_connections_are_kept_and_hosts_limited(server, photo):
    for number in range(20):
        server.answers[f"/{number}"] = lambda to: (time.sleep(0.01), body(photo)(to))
    one = fetcher()
    threads = [threading.Thread(target=one.fetch, args=(server.url(f"/{number}"),)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked.total() == 20
    assert server.connections <= 2 and server.most_at_once == 2, "per_host is 2"


def test_a_kept_connection_that_the_server_closed_is_opened_again(server, photo):
    def once(to) -> None:
        body(photo)(to)
        to.close_connection = True  # without saying so

    server.answers["/a"] = once
    one = fetcher()
    for _ in range(3):
        assert one.fetch(server.url("/a"))[0] == photo
        time.sleep(0.05)


def test_a_kept_connection_that_is_closed_on_the_next_request_says_nothing_about_the_photo(server, photo):
    hang_up = raw(b"")
    server.answers["/a"] = one_after_another(body(photo), hang_up, body(photo), hang_up, hang_up)
    one = fetcher()
    for _ in range(2):
        assert one.fetch(server.url("/a"))[0] == photo
    assert server.asked["/a"] == 3 and server.connections == 2
    assert reason(server.url("/a")) == "no_connection", "but a new one that is closed is a failure"
    assert server.asked["/a"] == 4


def test_stopping_breaks_off_what_is_under_way(server, photo):
    server.answers["/a"] = raw(OK + b"\r\n" + photo, b"", pause=lambda: time.sleep(0.05), forever=True)
    one = fetcher(deadline_s=20, silence_s=20)
    found: list[str] = []

    def fetch() -> None:
        with pytest.raises(FetchError) as caught:
            one.fetch(server.url("/a"))
        found.append(caught.value.reason)

    thread = threading.Thread(target=fetch)
    thread.start()
    time.sleep(0.2)
    one._network.stop()
    thread.join(timeout=2)
    assert found == ["stopped"], "what came so far is no whole photo, although it looks like one"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate of shop.example, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example")])
    now = datetime.now(UTC)
    serial, until = x509.random_serial_number(), now + timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, now, until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "shop.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def tls_server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(tls=context) as server:
        yield server


def test_tls_verifies_the_name_although_the_connection_goes_to_a_number(tls_server, certificate, photo):
    tls_server.answers["/a"] = body(photo)
    tls_server.answers["/slow"] = raw(OK + b"\r\n", b"x", pause=lambda: time.sleep(0.05), forever=True)
    options = {"resolve": lambda host, port: ["127.0.0.1"]}

    def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=certificate)

    port = tls_server.port
    one = fetcher(tls=trusting(), **options)
    for _ in range(3):
        assert one.fetch(f"https://shop.example:{port}/a")[0] == photo
    assert tls_server.connections == 1
    with pytest.raises(FetchError, match="certificate is not accepted: Hostname mismatch"):
        fetcher(tls=trusting(), **options).fetch(f"https://other.example:{port}/a")
    with pytest.raises(FetchError, match="certificate is not accepted: self"):
        fetcher(**options).fetch(f"https://shop.example:{port}/a")
    assert reason(f"https://shop.example:{port}/slow", tls=trusting(), **options) == "deadline"
    assert reason(f"http://shop.example:{port}/a", **options) in ("no_connection", "bad_response")


def test_a_server_that_speaks_no_tls(server):
    assert reason(server.url("/a").replace("http:", "https:")) == "tls_failed"
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        assert reason(f"https://127.0.0.1:{deaf.getsockname()[1]}/", attempts=1) == "timeout"
