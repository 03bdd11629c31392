"""Parts of numpy's work side by side: numpy lets go of the interpreter in every step."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
R = TypeVar("R")

_NAME = "search-part"


def each(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Do work for several parts, on as many threads as torch has; what it returns, in their order.

    Work that comes back here does its own parts one after the other: it would wait for threads that wait for it.
    """
    if len(parts) == 1 or threading.current_thread().name.startswith(_NAME):
        return [work(part) for part in parts]
    return list(_pool(torch.get_num_threads(), os.getpid()).map(work, parts))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay, one set in a process: what new ones ask for does not come back from their heaps."""
    return ThreadPoolExecutor(threads, thread_name_prefix=_NAME)


def slices(n: int, work: int, *, least: int) -> list[slice]:
    """Equal slices of n, one at least: as many as torch has threads, while each has `least` of the work."""
    count = max(min(torch.get_num_threads(), work // least), 1)
    ends = np.linspace(0, n, count + 1).astype(int).tolist()
    return [slice(first, last) for first, last in pairwise(ends)]
