"""The backbone behind its queue: what is observed, what goes wrong, and how many pictures are open at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tiny_server as tiny

from lib.catalog.images import ImageError
from lib.serving import query_encoder
from lib.serving.query_encoder import DECODING, QueryEncoder, QueueFull


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryEncoder]:
    searcher = tiny.open_tiny(tiny.build(tmp_path_factory.mktemp("shop")))
    yield searcher.encoder
    searcher.encoder.close()


def test_batches_are_observed(encoder: QueryEncoder) -> None:
    sizes: list[int] = []
    encoder.observe = sizes.append
    row = encoder.text("a red dress", timeout=60)
    assert row.shape == (tiny.DIM,) and np.linalg.norm(row) == pytest.approx(1.0, abs=1e-5)
    assert encoder.text("a red dress", timeout=60) is row and sizes == [1], "a text that is known is not computed"


def test_an_error_is_the_visitors_and_the_worker_goes_on(
    encoder: QueryEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(texts: list[str]) -> np.ndarray:
        raise IndexError("nothing foreseen")

    with monkeypatch.context() as broken:
        broken.setattr(encoder._encoders[1], "encode_texts", fails)
        with pytest.raises(IndexError, match="nothing foreseen"):
            encoder.text("a blue skirt", timeout=60)
    assert encoder.text("a blue skirt", timeout=60).shape == (tiny.DIM,)


def test_few_pictures_are_decoded_at_the_same_time(encoder: QueryEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kB may be 50 million pixels: memory is bounded by how many of them are open, not by who asks."""
    normalise, lock, open_now, most = query_encoder.normalise_image, threading.Lock(), 0, 0

    def slowly(data: bytes, **limits: Any) -> Any:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        time.sleep(0.2)
        with lock:
            open_now -= 1
        return normalise(data, **limits)

    monkeypatch.setattr(query_encoder, "normalise_image", slowly)
    with ThreadPoolExecutor(6) as pool:
        rows = list(pool.map(lambda _: encoder.image(tiny.picture(1), timeout=60), range(6)))
        assert most == DECODING and all(np.allclose(row, rows[0], atol=1e-5) for row in rows)
        waiting = [pool.submit(encoder.image, tiny.picture(1), timeout=0.05) for _ in range(DECODING + 1)]
        assert any(isinstance(job.exception(), QueueFull) for job in waiting)


def test_a_picture_that_cannot_be_used_gives_its_place_back(encoder: QueryEncoder) -> None:
    for _ in range(DECODING + 1):
        with pytest.raises(ImageError):
            encoder.image(b"<html>", timeout=5)
    assert encoder.image(tiny.picture(1), timeout=60).shape == (tiny.DIM,)
