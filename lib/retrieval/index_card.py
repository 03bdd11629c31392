"""What an index is worth: how much of the exact search it finds, and what a query costs, for images and texts apart.

A text lies elsewhere than the images an index is made of, so its neighbours are harder to find: one figure for both
would hide it. Costs in a card are counts, the same on every run; `measure_latency` is for logs and benchmarks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from lib.base.artifacts import FloatArray
from lib.base.params import IndexCard, IndexKind
from lib.embeddings import Embeddings
from lib.retrieval.index import SearchIndex
from lib.retrieval.index_plan import IndexPlan
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import TopK

EFFORT: dict[IndexKind, str] = {"hnsw": "ef_search", "ivf_pq": "nprobe"}
"""The number that a search may choose; flat has none."""

_TIMED = 32  # queries of a modality
_SWEEP: dict[IndexKind, tuple[int, ...]] = {"hnsw": (32, 64, 128, 256, 512), "ivf_pq": (1, 2, 4, 8, 16, 32, 64)}


def card_queries(queries: Embeddings, params: IndexCard, *, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Queries of either modality from the test split, at most `params.queries` of each, in the order of the rows.

    Returns:
        `image` -> (n, dim) images; `text` -> (m, dim) texts of distinct captions. None of a kind gives no rows.
    """
    test = queries.of_split("test")
    captions = test.meta["caption"].fillna("").str.strip()
    said = np.flatnonzero(((captions != "") & ~captions.duplicated()).to_numpy())
    chosen = {"image": np.arange(len(test)), "text": said}
    for name, rows in chosen.items():
        if len(rows) > params.queries:
            chosen[name] = np.sort(rng.choice(rows, size=params.queries, replace=False))
    return {"image": test.images[chosen["image"]], "text": test.texts[chosen["text"]]}


def index_card(
    folder: Path,
    indexes: Mapping[IndexKind, SearchIndex],
    gallery: FloatArray,
    queries: Mapping[str, FloatArray],
    *,
    plan: IndexPlan,
    k: int,
) -> dict[str, Any]:
    """Measure every index against exact search, as it serves and over a sweep of its effort.

    Args:
        folder: of the indexes, for the sizes of their files.
        indexes: kind -> the index.
        gallery: (n_items, dim) float32 that they were built of.
        queries: modality -> (n_queries, dim) float32, unit rows.
        plan: what was built and why.
        k: items per query.

    Returns:
        JSON-ready. Of each kind its settings, bytes, and by modality `ann_recall@k`, `distances_per_query` and
        `kilobytes_per_query`, with a `sweep` of the same where the kind has an effort. A modality without a query
        stands under `skipped` with the reason.
    """
    flat_bytes = 4 * gallery.size
    skipped = {name: "the test split has none" for name, embeddings in queries.items() if not len(embeddings)}
    measured = {name: embeddings for name, embeddings in queries.items() if len(embeddings)}
    exact = {name: exact_top_k(embeddings, gallery, k=k)["all"] for name, embeddings in measured.items()}
    kinds: dict[str, Any] = {}
    for kind, index in sorted(indexes.items()):
        size = (folder / f"{kind}.faiss").stat().st_size
        kinds[kind] = {
            "settings": index.settings,
            "bytes": size,
            "bytes_per_item": round(size / len(gallery), 1),
            "share_of_the_rows": round(size / flat_bytes, 4),
        }
        for name, embeddings in measured.items():
            kinds[kind][name] = _measure(index, embeddings, exact[name], k=k, effort=None)
            if kind in EFFORT:
                sweep = [_measure(index, embeddings, exact[name], k=k, effort=effort) for effort in efforts(index)]
                kinds[kind][name]["sweep"] = sweep
    return {
        "rows": len(gallery),
        "dim": gallery.shape[1],
        "metric": "cosine",
        "k": k,
        "serves": plan.default,
        "reason": plan.reason,
        "queries": {name: len(embeddings) for name, embeddings in queries.items()},
        "skipped": skipped,
        "kinds": kinds,
    }


def efforts(index: SearchIndex) -> list[int]:
    """The efforts of a sweep, ascending, among them the one that serves; none for flat."""
    if index.kind not in EFFORT:
        return []
    served = index.settings[EFFORT[index.kind]]
    largest = index.settings.get("nlist", len(index))
    return sorted({served, *(effort for effort in _SWEEP[index.kind] if effort <= largest)})


def ann_recall_at_k(found: TopK, exact: TopK) -> float:
    """Mean share of the exact k nearest that were found; a found item that ties with the k-th nearest counts.

    Args:
        found, exact: of the same queries, with the same k; at least one query and one item.
    """
    available = (exact.rows >= 0).sum(axis=1)
    threshold = exact.scores[np.arange(len(available)), available - 1]
    hits = ((found.scores >= threshold[:, None]) & (found.rows >= 0)).sum(axis=1)
    return float((hits / available).mean())


def _measure(index: SearchIndex, queries: FloatArray, exact: TopK, *, k: int, effort: int | None) -> dict[str, float]:
    graph, lists = faiss.cvar.hnsw_stats, faiss.cvar.indexIVF_stats
    graph.reset()
    lists.reset()
    found = index.search(queries, k=k, effort=effort)
    distances, kilobytes = _cost(index, k, graph.ndis / len(queries), lists.ndis / len(queries))
    chosen = {} if effort is None else {EFFORT[index.kind]: effort}
    return {
        **chosen,
        f"ann_recall@{k}": round(ann_recall_at_k(found, exact), 4),
        "distances_per_query": round(distances),
        "kilobytes_per_query": round(kilobytes, 1),
    }


def _cost(index: SearchIndex, k: int, of_graph: float, of_codes: float) -> tuple[float, float]:
    """Distances computed, and kilobytes of rows and codes read for them; faiss does not count those of a scan."""
    row = 4 * index.dim
    if index.kind == "ivf_pq" and of_codes:
        whole = index.settings["nlist"] + min(index.settings["rerank"] * k, len(index))
        code = index.settings["m"] * index.settings["bits"] / 8
        return whole + of_codes, (whole * row + of_codes * code) / 1e3
    distances = of_graph or len(index)
    return distances, distances * row / 1e3


def index_speed(
    indexes: Mapping[IndexKind, SearchIndex],
    queries: Mapping[str, FloatArray],
    *,
    seconds: Mapping[IndexKind, float],
    k: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What a card leaves out: `build_seconds` by kind, median `milliseconds` of a query by modality and kind."""
    milliseconds = {
        name: measure_latency(
            {kind: partial(index.search, k=k) for kind, index in indexes.items()},
            embeddings[:_TIMED],
            rng=rng,
        )
        for name, embeddings in queries.items()
        if len(embeddings)
    }
    return {"build_seconds": dict(seconds), "milliseconds": milliseconds}


def measure_latency(
    searches: Mapping[str, Callable[[FloatArray], object]], queries: FloatArray, *, rng: np.random.Generator
) -> dict[str, float]:
    """Median milliseconds of one query at a time; the searches take turns, so that a busy machine hits them alike.

    Every query has its own order of turns: after a scan of all rows, whoever comes next finds the cache emptied.

    Args:
        searches: name -> a search of a (1, dim) query.
        queries: (n_queries, dim) float32, at least one.
        rng: draws the orders.
    """
    taken: dict[str, list[float]] = {name: [] for name in searches}
    for search in searches.values():
        search(queries[:1])
    names = list(searches)
    for row in range(len(queries)):
        for turn in rng.permutation(len(names)).tolist():
            started = time.perf_counter()
            searches[names[turn]](queries[row : row + 1])
            taken[names[turn]].append(time.perf_counter() - started)
    return {name: 1e3 * float(np.median(seconds)) for name, seconds in taken.items()}
