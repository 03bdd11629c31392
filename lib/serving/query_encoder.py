"""Texts and pictures of queries to embeddings: one worker, small batches, texts remembered."""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from lib.base.artifacts import FloatArray
from lib.base.errors import BusyError
from lib.catalog.images import normalise_image
from lib.encoding.backbone import Backbone
from lib.encoding.encoder import Encoder

BATCHES = (1, 2, 4, 8)
"""Sizes that the model is run with; a batch of n queries takes the smallest that holds it."""
GATHER_SECONDS = 0.002
"""How long the worker waits for company after the first query of a batch."""
TEXTS_KEPT = 10_000
MAX_SIDE = 512
MAX_PIXELS = 50_000_000
DECODING = 2
"""Pictures decoded at the same time: one of `MAX_PIXELS` takes some 600 MB, however few bytes it came in."""

Kind = Literal["text", "image"]


class QueueFull(BusyError):
    """More queries wait than the server is willing to hold."""


@dataclass
class _Job:
    kind: Kind
    ready: str | torch.Tensor
    result: Future[FloatArray]


class QueryEncoder:
    """The backbone behind a queue. Thread-safe.

    Args:
        backbone: in evaluation mode.
        max_waiting: jobs that may wait; one more raises `QueueFull`.

    Attributes:
        observe: told the size of every batch, for measures; may be set at any time.
    """

    def __init__(self, backbone: Backbone, *, max_waiting: int = 64) -> None:
        self._encoders = {size: Encoder(backbone, batch_size=size) for size in BATCHES}
        self.dim = self._encoders[1].dim
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=max_waiting)
        self.observe: Callable[[int], object] = lambda size: None
        self._decoding = threading.BoundedSemaphore(DECODING)
        self._texts: OrderedDict[str, FloatArray] = OrderedDict()
        self._lock = threading.Lock()
        self.text_hits, self.text_misses = 0, 0
        self._worker = threading.Thread(target=self._work, name="query-encoder", daemon=True)
        self._worker.start()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._jobs.qsize()

    def text(self, text: str, *, timeout: float) -> FloatArray:
        """(dim,) float32 unit row of a text; texts asked for lately are not computed again.

        Raises:
            QueueFull: too many wait.
            TimeoutError: not computed in time.
        """
        with self._lock:
            known = self._texts.get(text)
            if known is not None:
                self._texts.move_to_end(text)
                self.text_hits += 1
                return known
            self.text_misses += 1
        row = self._ask("text", text, timeout)
        with self._lock:
            self._texts[text] = row
            while len(self._texts) > TEXTS_KEPT:
                self._texts.popitem(last=False)
        return row

    def image(self, data: bytes, *, timeout: float) -> FloatArray:
        """(dim,) float32 unit row of an encoded picture, made upright first as the catalogue's are.

        Raises:
            ImageError: it cannot be decoded, or has too many pixels.
            QueueFull: too many wait.
            TimeoutError: not computed in time.
        """
        deadline = time.monotonic() + timeout
        if not self._decoding.acquire(timeout=timeout):
            raise QueueFull("other pictures are being decoded still; try again in a moment")
        try:
            upright = normalise_image(data, max_side=MAX_SIDE, max_pixels=MAX_PIXELS)
            ready = self._encoders[1].preprocess(upright.data)
        finally:
            self._decoding.release()
        return self._ask("image", ready, max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Finish what waits and end the worker."""
        self._jobs.put(None)
        self._worker.join()

    def _ask(self, kind: Kind, ready: str | torch.Tensor, timeout: float) -> FloatArray:
        job = _Job(kind, ready, Future())
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise QueueFull(f"{self._jobs.maxsize} queries wait already; try again in a moment") from None
        return job.result.result(timeout)

    def _work(self) -> None:
        going = True
        while going:
            jobs: list[_Job] = []
            deadline = 0.0
            while len(jobs) < BATCHES[-1]:
                try:
                    wait = None if not jobs else max(0.0, deadline - time.monotonic())
                    job = self._jobs.get(timeout=wait)
                except queue.Empty:
                    break
                if job is None:
                    going = False
                    break
                jobs.append(job)
                deadline = deadline or time.monotonic() + GATHER_SECONDS
            for kind in ("text", "image"):
                self._compute([job for job in jobs if job.kind == kind])

    def _compute(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        self.observe(len(jobs))
        encoder = self._encoders[next(size for size in BATCHES if size >= len(jobs))]
        try:
            if jobs[0].kind == "text":
                rows = encoder.encode_texts([str(job.ready) for job in jobs])
            else:
                rows = encoder.encode_images([job.ready for job in jobs if isinstance(job.ready, torch.Tensor)])
        except Exception as error:  # each visitor is told; the worker goes on with the next ones
            for job in jobs:
                job.result.set_exception(error)
            return
        for job, row in zip(jobs, rows, strict=True):
            job.result.set_result(np.ascontiguousarray(row))
