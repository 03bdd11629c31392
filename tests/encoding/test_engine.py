"""The local engine: what it decodes while the model computes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lib.encoding import engine
from lib.encoding.engine import LocalEngine


class Slow:
    """An encoder whose every step takes the given seconds, and that notes how many were decoded at every batch."""

    def __init__(self, *, decode: float, compute: float) -> None:
        self._decode, self._compute = decode, compute
        self.decoded = 0
        self.decoded_meanwhile: list[int] = []

    def preprocess(self, content: bytes) -> int:
        time.sleep(self._decode)
        self.decoded += 1
        return int(content)

    def encode_images(self, images: list[int]) -> np.ndarray:
        before = self.decoded
        time.sleep(self._compute)
        self.decoded_meanwhile.append(self.decoded - before)
        return np.array([[number] for number in images], dtype=np.float32)


def embed(encoder: Slow, *, batches: int) -> list[list[float]]:
    contents = [[b"%d" % (2 * number), b"%d" % (2 * number + 1)] for number in range(batches)]
    local = LocalEngine(encoder, decode_workers=1)  # type: ignore[arg-type]
    return [rows[:, 0].tolist() for rows in local.embed("image", contents)]


def test_slow_decoding_goes_on_while_the_model_computes() -> None:
    encoder = Slow(decode=0.02, compute=0.1)
    assert embed(encoder, batches=6) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert encoder.decoded_meanwhile[0] == 0  # the first batch tells
    assert sum(encoder.decoded_meanwhile) > 4


def test_little_decoding_leaves_the_cores_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_LITTLE", 1.0)  # a thread may start late on a busy machine
    encoder = Slow(decode=0.0, compute=0.2)
    assert embed(encoder, batches=4) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert encoder.decoded_meanwhile == [0, 0, 0, 0]


@pytest.mark.parametrize("compute", [0.0, 0.1])
@pytest.mark.parametrize("batches", [0, 1, 2])
def test_few_batches(compute: float, batches: int) -> None:
    assert embed(Slow(decode=0.005, compute=compute), batches=batches) == [[0, 1], [2, 3]][:batches]
