"""A fetcher with small limits, and what it says of an address."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lib.base.params import Download
from lib.catalog.download.addresses import public_or_test_server, system_resolver
from lib.catalog.download.connections import Network
from lib.catalog.download.failures import FetchError
from lib.catalog.download.fetch import Fetcher
from lib.catalog.images import ImageError

LIMITS = Download(
    workers=2,
    per_host=2,
    silence_s=0.3,
    deadline_s=0.8,
    max_bytes=100_000,
    attempts=3,
    backoff_s=0.01,
    max_backoff_s=0.2,
)


def fetcher(judge=public_or_test_server, resolve=system_resolver, tls=None, **changes) -> Fetcher:
    limits = LIMITS.model_copy(update=changes)
    network = Network(per_host=limits.per_host, judge=judge, resolve=resolve, tls=tls)
    return Fetcher(network, limits, max_pixels=1_000_000, decoders=1, rng=np.random.default_rng(0))


def reason(address: str, **options) -> str:
    started = time.monotonic()
    with pytest.raises((FetchError, ImageError)) as caught:
        fetcher(**options).fetch(address)
    assert time.monotonic() - started < 10, "nothing may hold a worker for long"
    assert str(caught.value) and "0x" not in str(caught.value), "no addresses of objects: it goes into files"
    return caught.value.reason
