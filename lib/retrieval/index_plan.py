"""Which indexes are built over a gallery, with which numbers, and why: from parameters, rows and dimensions alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lib.base.errors import ConfigError
from lib.base.params import INDEX_KINDS, Index, IndexKind

Settings = dict[str, int]
"""The numbers of one kind: m, ef_construction, ef_search; nlist, m, bits, nprobe, rerank; none of flat."""

FLAT_ROWS = 20_000
"""Below this `auto` builds flat alone: it takes some milliseconds there, about a thirtieth of what ViT-B/32 takes to
embed the text of a query on the same two cores (`python -m benchmarks.index` has flat beside hnsw by size)."""

_ROWS_PER_LIST = 39  # faiss asks for so many training rows per cluster


@dataclass(frozen=True)
class IndexPlan:
    """What `build_index` builds.

    Attributes:
        settings: kind -> its numbers, in the order of `INDEX_KINDS`.
        default: the kind that serves.
        reason: why, for people.
    """

    settings: dict[IndexKind, Settings]
    default: IndexKind
    reason: str


def plan_indexes(n_items: int, dim: int, params: Index) -> IndexPlan:
    """Decide what is built.

    `auto` goes by size: flat alone up to `FLAT_ROWS`; flat and hnsw while the rows and links of hnsw fit into
    `memory_gb`; else ivf_pq alone. The default is the first built kind of the size's order of preference.

    Args:
        n_items: rows of the gallery, at least 1.
        dim: dimensions of an embedding.
        params: the section `index`.

    Raises:
        ConfigError: a number does not fit the rows or dimensions.
    """
    order, reason = _preference(n_items, dim, params)
    built = set(_automatic(order) if params.build == "auto" else params.build)
    if params.build != "auto":
        reason = f"index.build names what is built; {reason}"
    if params.default != "auto":
        built.add(params.default)
        reason = f"index.default names what serves; {reason}"
    default = next(kind for kind in order if kind in built) if params.default == "auto" else params.default
    settings = {kind: _settings(kind, n_items, dim, params) for kind in INDEX_KINDS if kind in built}
    return IndexPlan(settings, default, reason)


def _preference(n_items: int, dim: int, params: Index) -> tuple[tuple[IndexKind, ...], str]:
    gigabytes = hnsw_bytes(n_items, dim, params.hnsw.m) / 1e9
    if n_items < FLAT_ROWS:
        return (
            "flat",
            "hnsw",
            "ivf_pq",
        ), f"{n_items:,} rows, fewer than {FLAT_ROWS:,}: flat is exact and fast enough"
    if gigabytes <= params.memory_gb:
        fits = f"hnsw needs {gigabytes:.1f} GB of memory, at most index.memory_gb {params.memory_gb:g}"
        return ("hnsw", "flat", "ivf_pq"), f"{n_items:,} rows, {FLAT_ROWS:,} or more: {fits}"
    needs = f"hnsw needs {gigabytes:.1f} GB of memory, more than index.memory_gb {params.memory_gb:g}"
    return ("ivf_pq", "hnsw", "flat"), f"{n_items:,} rows: {needs}"


def _automatic(order: tuple[IndexKind, ...]) -> tuple[IndexKind, ...]:
    return ("flat", "hnsw") if order[0] == "hnsw" else order[:1]


def hnsw_bytes(n_items: int, dim: int, m: int) -> int:
    """About what hnsw keeps in memory: the rows, and 2 m links of an item on the lowest level, fewer above.

    >>> hnsw_bytes(1_000_000, 512, 32) / 1e9
    2.32
    """
    return n_items * (4 * dim + 4 * 2 * m + 16)


def _settings(kind: IndexKind, n_items: int, dim: int, params: Index) -> Settings:
    if kind == "hnsw":
        return {
            "m": params.hnsw.m,
            "ef_construction": params.hnsw.ef_construction,
            "ef_search": params.hnsw.ef_search,
        }
    if kind == "ivf_pq":
        given = params.ivf_pq
        nlist = automatic_lists(n_items) if given.nlist == "auto" else given.nlist
        m = automatic_parts(dim) if given.m == "auto" else given.m
        if nlist > n_items:
            raise ConfigError(f"index.ivf_pq.nlist: expected at most {n_items}, the rows, got {nlist}; or say auto")
        if dim % m:
            near = automatic_parts(dim, wanted=m)
            raise ConfigError(f"index.ivf_pq.m: expected a divisor of the {dim} dimensions, got {m}; nearest: {near}")
        return {
            "nlist": nlist,
            "m": m,
            "bits": given.bits,
            "nprobe": min(given.nprobe, nlist),
            "rerank": given.rerank,
        }
    return {}


def automatic_lists(n_items: int) -> int:
    """4 times the root of the rows, but no fewer than 39 rows for a list to learn from.

    >>> [automatic_lists(n) for n in (1, 100, 4488, 50_000, 1_000_000)]
    [1, 2, 115, 894, 4000]
    """
    return max(min(round(4 * math.sqrt(n_items)), n_items // _ROWS_PER_LIST), 1)


def automatic_parts(dim: int, *, wanted: float | None = None) -> int:
    """The divisor of `dim` nearest to `wanted` by ratio, the larger of two; None: an eighth of `dim`, at least 16.

    >>> [automatic_parts(dim) for dim in (512, 384, 100, 48, 7, 1)]
    [64, 48, 20, 16, 7, 1]
    """
    aim = max(dim / 8, min(dim, 16)) if wanted is None else wanted
    divisors = [part for part in range(1, dim + 1) if dim % part == 0]
    return min(divisors, key=lambda part: (abs(math.log(part / aim)), -part))
