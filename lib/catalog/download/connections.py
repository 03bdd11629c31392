"""Connections of which one knows where they go and how long they may take.

urllib3 speaks HTTP; here stands what it leaves open. A connection goes to an IP address that was judged, and not to
what a second look-up of the host would give, while TLS still verifies the host's name. And every wait for bytes, of
headers and of TLS as well, is cut to what is left of the whole request's time, so that a server cannot hold on by
sending a byte now and then. Proxies of the environment are not used: behind one, this machine would not know whom it
talks to.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import IncompleteRead
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING
from weakref import WeakSet

import urllib3.exceptions as broken
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import BaseHTTPResponse
from urllib3.util import Url

from lib.catalog.download.addresses import IPAddress, Judge, Resolver, judged
from lib.catalog.download.failures import FetchError, TransientError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

POOLS = 64
"""Hosts whose connections are kept open at most."""


class Patience(threading.local):
    """How long the current thread still waits: `silence_s` at a time, and until `_until` in all."""

    silence_s = 0.0
    total_s = 0.0
    connected = False  # whether the current request opened its connection itself
    _until = 0.0

    def start(self, *, total_s: float, silence_s: float) -> None:
        """A new request begins."""
        self.total_s, self.silence_s = total_s, silence_s
        self._until = time.monotonic() + total_s

    def left(self) -> float:
        """Seconds left of the whole request.

        Raises:
            TimeoutError: none.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def seconds(self) -> float:
        """How long the next wait for bytes may be; see `left`."""
        return min(self.left(), self.silence_s)

    def failure(self) -> FetchError:
        """What a wait that was too long is called: silence may pass, a request that drags on will again."""
        if time.monotonic() >= self._until:
            return FetchError("deadline", f"not finished after {self.total_s:g} s")
        return TransientError("timeout", f"the server was silent for {self.silence_s:g} s")


class _PatientSocket(socket.socket):
    patience: Patience

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        self.settimeout(self.patience.seconds())
        return super().recv_into(buffer, nbytes, flags)


class _PatientTLSSocket(ssl.SSLSocket):
    patience: Patience

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        self.settimeout(self.patience.seconds())
        return super().recv_into(buffer, nbytes, flags)


class Network:
    """Open connections to judged addresses, `per_host` at most to each host; for any number of threads.

    Args:
        per_host: connections to one scheme, host and port; whoever needs another one waits.
        judge: says which IP addresses may be asked.
        resolve: finds the IP addresses of a host.
        tls: what certificates are verified with; None for the system's authorities (`SSL_CERT_FILE` names others).
    """

    def __init__(self, *, per_host: int, judge: Judge, resolve: Resolver, tls: ssl.SSLContext | None = None) -> None:
        self.patience = Patience()
        self._judge = judge
        self._resolve = resolve
        self._stopped = threading.Event()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = threading.Lock()
        context = tls or ssl.create_default_context()
        context.sslsocket_class = _PatientTLSSocket
        self._pools = PoolManager(num_pools=POOLS, maxsize=per_host, block=True, ssl_context=context)
        self._pools.pool_classes_by_scheme = _pool_classes(self)

    def ask(self, url: Url, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """GET an address, within this thread's patience; redirects are not followed, the body is not read.

        The caller reads the body in `explained()` and gives the connection back with `release`.

        Raises:
            FetchError: see `explained`; also for the host's addresses, see `judged`.
        """
        while True:
            self.patience.connected = False
            with self.explained():
                try:
                    return self._ask(url, headers)
                except (broken.ProtocolError, broken.SSLError) as error:
                    # A kept connection that the server closed meanwhile says nothing about the photo: the next one is
                    # taken, at last a new one.
                    if self.patience.connected or not isinstance(_cause(error), ConnectionError | ssl.SSLError):
                        raise

    def _ask(self, url: Url, headers: Mapping[str, str]) -> BaseHTTPResponse:
        pool = self._pools.connection_from_host(url.host, url.port, scheme=url.scheme)
        return pool.urlopen(
            "GET",
            url.request_uri,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=self.patience.silence_s, read=self.patience.silence_s),
            pool_timeout=self.patience.left(),  # type: ignore[arg-type]  # annotated int; any number of seconds will do
            preload_content=False,
            decode_content=False,
        )

    @staticmethod
    def release(response: BaseHTTPResponse) -> None:
        """Give a connection back for the next request; it is closed where something was left unread."""
        response.close()
        response.release_conn()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what goes wrong on the way into `FetchError`.

        Raises:
            FetchError: `timeout` (transient), `deadline`, `tls_failed`, `short_body`, `no_connection` or
                `bad_response`.
        """
        try:
            yield
        except (TimeoutError, broken.TimeoutError, broken.EmptyPoolError):
            raise self.patience.failure() from None
        except broken.SSLError as error:
            raise FetchError("tls_failed", _tls_reason(error)) from None
        except broken.ProtocolError as error:
            cause = _cause(error)
            if isinstance(cause, IncompleteRead):
                raise FetchError("short_body", "the answer ended before it was complete") from None
            if isinstance(cause, ConnectionError):
                raise FetchError("no_connection", f"the server broke it off ({type(cause).__name__})") from None
            raise FetchError("bad_response", f"the answer is no proper HTTP ({type(cause).__name__})") from None
        except (broken.HTTPError, OSError) as error:
            raise FetchError("bad_response", f"the answer is no proper HTTP ({type(error).__name__})") from None

    def sleep(self, seconds: float) -> None:
        """Wait, unless the network is stopped."""
        self._stopped.wait(seconds)

    def check(self) -> None:
        """After a body was read: one without a declared length ends like a whole one when `stop` breaks it off.

        Raises:
            FetchError: `stopped`.
        """
        if self._stopped.is_set():
            raise FetchError("stopped", "the run was stopped")

    def stop(self) -> None:
        """Break off every request that is under way; new ones fail."""
        self._stopped.set()
        with self._lock:
            open_now = list(self._sockets)
        for sock in open_now:
            with suppress(OSError):  # not connected yet, or not any more
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._pools.clear()

    def track(self, sock: socket.socket | None) -> None:
        """A connection's socket, after TLS where there is any: waits are cut, `stop` knows it."""
        if isinstance(sock, _PatientSocket | _PatientTLSSocket):
            sock.patience = self.patience
            with self._lock:
                self._sockets.add(sock)

    def connect(self, host: str, port: int) -> socket.socket:
        """A socket to the first of the host's addresses that answers.

        Raises:
            FetchError: see `judged`; `unknown_host`, `no_connection`, and what `Patience.failure` says.
        """
        self.patience.connected = True
        failure = FetchError("no_connection", f"{host} has no address that answers")
        for address in judged(host, self._look_up(host, port), self._judge):
            if self._stopped.is_set():
                break
            try:
                return self._connect_to(address, port)
            except TimeoutError:
                failure = self.patience.failure()
            except OSError as error:
                failure = FetchError("no_connection", f"{host}: {error.strerror or type(error).__name__}")
        raise failure

    def _connect_to(self, address: IPAddress, port: int) -> socket.socket:
        sock = _PatientSocket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        self.track(sock)
        try:
            sock.settimeout(self.patience.seconds())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((str(address), port))
        except OSError:
            sock.close()
            raise
        return sock

    def _look_up(self, host: str, port: int) -> list[str]:
        """Ask the resolver in a thread of its own: it cannot be broken off."""
        answers: SimpleQueue[list[str] | OSError | UnicodeError] = SimpleQueue()

        def look() -> None:
            try:
                answers.put(self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                answers.put(error)

        threading.Thread(target=look, daemon=True).start()
        try:
            found = answers.get(timeout=self.patience.seconds())
        except (Empty, TimeoutError):
            raise TransientError("timeout", f"nobody answered where {host} is") from None
        if isinstance(found, OSError | UnicodeError):
            raise FetchError("unknown_host", f"{host} is not known")
        return found


def _pool_classes(network: Network) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools with connections that open their sockets through the network."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return network.connect(self._dns_host, self.port)

    class Encrypted(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return network.connect(self._dns_host, self.port)

        def connect(self) -> None:
            super().connect()
            network.track(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


def _cause(error: broken.HTTPError) -> object:
    return error.args[-1] if error.args else error


def _tls_reason(error: broken.SSLError) -> str:
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {cause.verify_message}"
    return f"no encrypted connection ({getattr(cause, 'reason', None) or type(cause).__name__})"
