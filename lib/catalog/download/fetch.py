"""One address, fetched: redirects judged hop by hop, time and bytes bounded, failures told apart."""

from __future__ import annotations

import threading
from http import HTTPStatus
from urllib.parse import urljoin

import numpy as np
from urllib3.exceptions import InvalidHeader
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry, Url

from lib.base.params import Download
from lib.catalog.download.addresses import parse_address
from lib.catalog.download.connections import Network
from lib.catalog.download.failures import FetchError, TransientError
from lib.catalog.download.file_names import ENDINGS
from lib.catalog.images import image_format

MAX_REDIRECTS = 5
BLOCK = 2**16
"""Bytes read at once."""
HEADERS = {
    "User-Agent": "fashion-retrieval/0.1",
    "Accept": "image/jpeg,image/png,image/*;q=0.8",
    "Accept-Encoding": "identity",  # a compressed answer could be larger than the bytes that are counted
}
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class Fetcher:
    """Fetches photos by address; for any number of threads.

    Args:
        network: connects to judged addresses.
        limits: the section of the parameters.
        max_pixels: of a photo, see `lib.catalog.images.image_format`.
        decoders: photos that are decoded at the same time; each may need some bytes per pixel.
        rng: of the jitter in the waits between attempts.
    """

    def __init__(
        self, network: Network, limits: Download, *, max_pixels: int, decoders: int, rng: np.random.Generator
    ) -> None:
        self._network = network
        self._limits = limits
        self._max_pixels = max_pixels
        self._decoders = threading.BoundedSemaphore(decoders)
        self._rng = rng
        self._rng_lock = threading.Lock()

    def fetch(self, address: str) -> tuple[bytes, str]:
        """The photo at an address, as it came, and the file ending of its format.

        A time-out, 429 and 5xx are asked again, `attempts` times in all, after waits that double, or that the server
        names. Nothing else is: a photo that is not there will not be there in a second.

        Raises:
            FetchError: there is none to be had; see `Network.explained`, `lib.catalog.download.addresses`, and
                `http_<status>`, `redirect_loop`, `too_many_redirects`, `bad_redirect`, `compressed`, `too_large`.
            ImageError: what came is no photo that can be decoded completely.
        """
        url = parse_address(address)
        for attempt in range(1, self._limits.attempts + 1):
            try:
                data = self._attempt(url)
                break
            except TransientError as error:
                if attempt == self._limits.attempts:
                    raise FetchError(error.reason, f"{error}; asked {attempt} times") from None
                self._network.sleep(self._pause(attempt, error.wait_s))
        with self._decoders:
            return data, ENDINGS[image_format(data, max_pixels=self._max_pixels)]

    def _pause(self, attempt: int, asked_s: float | None) -> float:
        """Seconds before the next attempt: never all photos of a host at the same moment."""
        with self._rng_lock:
            jitter = float(self._rng.uniform(0.5, 1.0))
        longest = self._limits.max_backoff_s
        if asked_s is not None:
            return min(longest, asked_s + jitter * self._limits.backoff_s)
        return jitter * min(longest, self._limits.backoff_s * 2.0 ** (attempt - 1))

    def _attempt(self, url: Url) -> bytes:
        """Follow the address to a body, all within one deadline."""
        self._network.patience.start(total_s=self._limits.deadline_s, silence_s=self._limits.silence_s)
        seen = {url}
        for _ in range(MAX_REDIRECTS + 1):
            response = self._network.ask(url, HEADERS)
            try:
                if response.status == HTTPStatus.OK:
                    return self._body(response)
                if response.status not in _REDIRECTS:
                    raise _status_error(response)
                url = self._redirected(url, response)
            finally:
                self._network.release(response)
            if url in seen:
                raise FetchError("redirect_loop", f"it is sent back to {url.host}, where it came from")
            seen.add(url)
        raise FetchError("too_many_redirects", f"sent on more than {MAX_REDIRECTS} times")

    def _redirected(self, url: Url, response: BaseHTTPResponse) -> Url:
        location = response.headers.get("Location")
        if not location:
            raise FetchError("bad_redirect", "sent on, but not told where to")
        try:
            target = urljoin(url.url, location)
        except ValueError:
            raise FetchError("bad_redirect", "sent on to what cannot be read as an address") from None
        try:
            return parse_address(target)
        except FetchError as error:
            raise FetchError(error.reason, f"where it is sent on to: {error}") from None

    def _body(self, response: BaseHTTPResponse) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise FetchError("compressed", f"compressed ({encoding[:20]!r}) although that was not asked for")
        longest = self._limits.max_bytes
        too_large = FetchError("too_large", f"more than {longest} bytes (download.max_bytes)")
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and (len(declared) > 15 or int(declared) > longest):
            raise too_large
        body = bytearray()
        with self._network.explained():
            while block := response.read(BLOCK, decode_content=False):
                body += block
                if len(body) > longest:
                    raise too_large
        self._network.check()
        return bytes(body)


def _status_error(response: BaseHTTPResponse) -> FetchError:
    status = response.status
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    reason, detail = f"http_{status}", f"the server answers {status}{phrase}"
    if status == HTTPStatus.TOO_MANY_REQUESTS or 500 <= status < 600:
        return TransientError(reason, detail, wait_s=_asked_wait(response))
    return FetchError(reason, detail)


def _asked_wait(response: BaseHTTPResponse) -> float | None:
    asked = response.headers.get("Retry-After")
    if asked is None:
        return None
    try:
        return Retry().parse_retry_after(asked)
    except (InvalidHeader, OverflowError, ValueError):  # neither seconds nor a date
        return None
