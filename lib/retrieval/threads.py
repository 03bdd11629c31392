"""Parts of numpy's work side by side: numpy lets go of the interpreter in every step."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Do work for several parts, on as many threads as torch has; what it returns, in their order.

    `work` must not come back here with several parts: it would wait for itself.
    """
    if len(parts) == 1:
        return [work(parts[0])]
    return list(_pool(torch.get_num_threads(), os.getpid()).map(work, parts))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay, one set in a process: what new ones ask for does not come back from their heaps."""
    return ThreadPoolExecutor(threads, thread_name_prefix="exact")


def slices(n: int, work: int, *, least: int, threads: int | None = None) -> list[slice]:
    """Equal slices of n, one at least: as many as `threads`, or torch's, while each has `least` of the work."""
    count = max(min(threads or torch.get_num_threads(), work // least), 1)
    ends = np.linspace(0, n, count + 1).astype(int).tolist()
    return [slice(first, last) for first, last in pairwise(ends)]
