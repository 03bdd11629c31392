"""Who computes the embeddings that the cache lacks: this process, or the workers of a Ray cluster.

An engine takes batches of contents and gives back their rows, in order. It decides nothing that the bytes depend on:
every engine runs the same `Encoder` on batches of its one shape.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from lib.base.artifacts import FloatArray
from lib.base.errors import ConfigError
from lib.base.params import Embed
from lib.encoding.encoder import Encoder

Kind = Literal["image", "text"]
Ready = TypeVar("Ready")
"""What the model takes: an image's tensor, a text."""

_AHEAD = 3
"""Batches that wait for the model while others are decoded."""
_LITTLE = 1 / 16
"""Share of the model's time below which nothing is decoded meanwhile."""


class Engine(Protocol):
    """Computes embeddings somewhere."""

    def embed(self, kind: Kind, batches: Iterable[Sequence[bytes]]) -> Iterator[FloatArray]:
        """Embed contents lazily; a bounded number of batches is asked for ahead of the rows that are given back.

        Args:
            kind: what the contents are: encoded images, or texts in UTF-8.
            batches: at most `Encoder.batch_size` contents each.

        Returns:
            Per batch, in order, (n, dim) float32 rows in the order of its contents; none for no batch.
        """
        ...


class LocalEngine:
    """Embeds in this process.

    Args:
        encoder: the frozen backbone.
        decode_workers: threads that decode images while the model computes.
    """

    def __init__(self, encoder: Encoder, *, decode_workers: int) -> None:
        self._encoder = encoder
        self._decode_workers = decode_workers

    def embed(self, kind: Kind, batches: Iterable[Sequence[bytes]]) -> Iterator[FloatArray]:
        """See `Engine`."""
        encoder = self._encoder
        if kind == "image":
            return _decoded_ahead(batches, encoder.preprocess, encoder.encode_images, self._decode_workers)
        return _decoded_ahead(batches, bytes.decode, encoder.encode_texts, self._decode_workers)


def _decoded_ahead(
    batches: Iterable[Sequence[bytes]],
    prepare: Callable[[bytes], Ready],
    encode: Callable[[Sequence[Ready]], FloatArray],
    workers: int,
) -> Iterator[FloatArray]:
    """Rows of every batch, decoded by threads while the model computes another, if that saves anything.

    On a processor both want the same cores, and the threads of a matrix product wait for the slowest one: where
    decoding takes little (2 % of ViT-B/32's time on two cores), doing it between the batches costs just that, and
    doing it meanwhile 4 to 8 %. A small backbone, whose images take as long to decode as to embed, gains a tenth by
    overlapping. The first batch tells which it is.
    """
    waiting: deque[list[Future[Ready]]] = deque()
    ahead = 1
    with ThreadPoolExecutor(workers) as pool:
        for number, batch in enumerate(batches):
            started = time.perf_counter()
            waiting.append([pool.submit(prepare, content) for content in batch])
            if len(waiting) < ahead:
                continue
            ready = [future.result() for future in waiting.popleft()]
            decoded = time.perf_counter()
            rows = encode(ready)
            if number == 0 and decoded - started > _LITTLE * (time.perf_counter() - decoded):
                ahead = _AHEAD
            yield rows
        while waiting:
            yield encode([future.result() for future in waiting.popleft()])


@contextmanager
def opened_engine(encoder: Encoder, backbone: Path, params: Embed) -> Iterator[Engine]:
    """The engine that `params.engine` names; whatever it started is ended with the block.

    Args:
        encoder: the frozen backbone.
        backbone: the folder that it was loaded from.
        params: the embed section.

    Raises:
        ConfigError: `engine` is `ray` and Ray is not installed.
    """
    if params.engine == "local":
        yield LocalEngine(encoder, decode_workers=params.decode_workers)
        return
    try:
        from lib.encoding.ray_engine import RayEngine
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "ray":
            raise
        raise ConfigError(
            "embed.engine: ray is not installed; pip install -r requirements-ray.txt -c requirements.txt"
        ) from None
    with RayEngine(
        encoder,
        backbone,
        address=params.ray_address,
        workers=params.ray_workers,
        decode_workers=params.decode_workers,
    ) as engine:
        yield engine
