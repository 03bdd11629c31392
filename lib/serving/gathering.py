"""Searches of several visitors at once: an index reads its rows once for eight queries as for one."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lib.base.artifacts import FloatArray
from lib.retrieval.search import BoolArray
from lib.retrieval.top_k import TopK


class Index(Protocol):
    """What the searcher needs of an index over the gallery's images."""

    def search(self, queries: FloatArray, *, k: int, allowed: BoolArray | None = None) -> TopK:
        """The best rows of each query, best first; -1 where there are fewer than k."""


@dataclass
class _Job:
    queries: FloatArray
    k: int
    found: TopK | None = None
    error: Exception | None = None


class GatheringIndex:
    """An index that answers together what was asked while it was at work. Thread-safe.

    While one search runs, others wait; the first of them to go on searches for all that want the same number of
    results. Nobody waits for company: alone, a query is searched at once. What is found is what each would find
    alone. Searches among some of the items are not gathered, as those items differ.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._waiting: list[_Job] = []
        self._list = threading.Lock()
        self._turn = threading.Lock()

    def search(self, queries: FloatArray, *, k: int, allowed: BoolArray | None = None) -> TopK:
        """As the index itself."""
        if allowed is not None:
            return self._index.search(queries, k=k, allowed=allowed)
        job = _Job(queries, k)
        with self._list:
            self._waiting.append(job)
        with self._turn:
            if job.found is None and job.error is None:
                with self._list:
                    together = [other for other in self._waiting if other.k == k]
                    self._waiting = [other for other in self._waiting if other.k != k]
                self._answer(together)
        if job.found is None:
            raise job.error or RuntimeError("a search was not answered")
        return job.found

    def _answer(self, jobs: list[_Job]) -> None:
        try:
            found = self._index.search(np.concatenate([job.queries for job in jobs]), k=jobs[0].k)
        except Exception as error:  # everybody's own search says whose it is
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                for job in jobs:
                    self._answer([job])
            return
        start = 0
        for job in jobs:
            part = slice(start, start + len(job.queries))
            job.found = TopK(found.rows[part], found.scores[part])
            start += len(job.queries)
