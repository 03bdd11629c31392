"""Recall and latency of the indexes over a large catalogue: `python -m benchmarks.index [--write]`.

The sample's gallery, embedded by the protocol model, is enlarged (`enlarged` says how), indexed, and searched with
the sample's own test images and texts, one query at a time, the kinds taking turns. `--write` also draws
`benchmarks/index_latency.png`. Needs a pipeline that has run (`dvc repro`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.figures import KEPT, OURS, Figure, keep
from benchmarks.results import ROOT, sgemm_gflops, write_section
from lib.base import stage
from lib.base.artifacts import FloatArray, write_bytes
from lib.base.errors import DataError, PipelineError
from lib.base.params import INDEX_KINDS, Index, IndexCard, IndexKind, load_params
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet, load_embedding_set
from lib.report.index_plot import Point, plot_recall
from lib.retrieval.index import BuiltIndexes, SearchIndex, build_indexes, load_indexes
from lib.retrieval.index_card import EFFORT, ann_recall_at_k, card_queries, efforts, measure_latency
from lib.retrieval.search import exact_top_k

CHART = ROOT / "benchmarks" / "index_latency.png"
K = 10
SEED = 42
SMALLER = (5_000, 20_000)
"""Galleries that show from how many rows on flat is slow."""
TIMED = 100
FILTERS = (0.5, 0.05)
LEAST_RECALL: dict[IndexKind, float] = {"hnsw": 0.98, "ivf_pq": 0.95}
LARGEST_LATENCY, LARGEST_BYTES = 1 / 5, 1 / 8
PROMISED_ROWS = 50_000
"""Nothing is promised of fewer."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embeddings", type=Path, default=ROOT / "artifacts" / "retrieval" / "protocol")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    try:
        text, chart, held, figures = report(args.embeddings, n_items=args.items, dim=args.dim)
    except PipelineError as error:
        print(f"error: index: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    keep("index", figures)
    if args.write:
        write_section("Index", text)
        write_bytes(CHART, chart)
        keep("index", figures, path=KEPT)
    return 0 if held or args.items < PROMISED_ROWS else 1


def report(folder: Path, *, n_items: int, dim: int) -> tuple[str, bytes, bool, list[Figure]]:
    """The section, the chart, whether every limit holds, and the figures for the table of all."""
    params = load_params(ROOT / "params.yaml")
    stage.pin_threads(params.runtime.threads)
    rate = sgemm_gflops()
    rng = np.random.default_rng(SEED)
    source = load_embedding_set(folder)
    gallery, turned = enlarged(source, n_items, dim, rng=rng)
    queries = {
        name: turned(rows)
        for name, rows in card_queries(source.queries, IndexCard(queries=2000, k=K), rng=rng).items()
    }
    every = params.index.model_copy(update={"build": INDEX_KINDS})
    with tempfile.TemporaryDirectory(prefix="index-") as name:
        small = [size for size in SMALLER if size < n_items]
        by_size = {size: smaller(Path(name) / str(size), gallery[:size], every, queries["image"]) for size in small}
        built, indexes, sizes = indexed(Path(name) / "all", gallery, every)
        recalls = {modality: recall(indexes, gallery, rows) for modality, rows in queries.items()}
        speeds = {modality: speed(indexes, rows[:TIMED]) for modality, rows in queries.items()}
        narrowed = dict(filtered(indexes, queries["image"][:TIMED], rng=rng))
    by_size[n_items] = {kind: speeds["image"][kind] for kind in ("flat", "hnsw")}
    served = {kind: index.settings.get(EFFORT.get(kind, ""), 0) for kind, index in indexes.items()}
    lines = [
        f"`python -m benchmarks.index --write`: the sample's {len(source.catalog):,} gallery items enlarged to "
        f"{n_items:,} rows, dim {dim},",
        f"searched for {K} by {len(queries['image']):,} images and {len(queries['text']):,} texts of its test split; "
        f"milliseconds of one query, medians of {TIMED}.",
        f"{os.cpu_count()} cores, {params.runtime.threads} threads, {rate:.0f} GFLOP/s float32 matrix "
        "multiplication.",
        "",
        "| index | serves with | recall, images | texts | ms, images | texts | of flat's, images | texts "
        "| MB | of flat's | built in |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for kind in INDEX_KINDS:
        found = [recalls[modality][kind][served[kind]] for modality in queries]
        taken = [speeds[modality][kind] for modality in queries]
        share = [speeds[modality][kind] / speeds[modality]["flat"] for modality in queries]
        label = f"`{EFFORT[kind]}` {served[kind]}" if kind in EFFORT else ""
        cells = [*(f"{value:.4f}" for value in found), *(f"{value:.2f}" for value in taken)]
        cells += [f"1/{1 / value:.1f}" for value in share]
        cells += [f"{sizes[kind] / 1e6:.1f}", f"1/{sizes['flat'] / sizes[kind]:.1f}", f"{built.seconds[kind]:.0f} s"]
        lines.append(f"| {kind} | {label} | {' | '.join(cells)} |")
    verdicts = list(limits(recalls, speeds, sizes, served))
    lines += [
        "",
        *(f"- {text}: **{'holds' if held else 'FAILS'}**" for text, held in verdicts),
        "",
        "MB are those of the index file; ivf_pq scores its candidates again from the embeddings, which stay on disk.",
        "",
        "![Recall against latency](index_latency.png)",
        "",
        "| | " + " | ".join(f"{size:,} rows" for size in by_size) + " |",
        "|---|" + "---:|" * len(by_size),
        *(
            f"| {kind}, ms of an image query | " + " | ".join(f"{row[kind]:.2f}" for row in by_size.values()) + " |"
            for kind in ("flat", "hnsw")
        ),
        "",
        "| ms of an image query when a filter allows, at random (recall) | " + " | ".join(INDEX_KINDS) + " |",
        "|---|" + "---:|" * len(INDEX_KINDS),
        *(
            f"| {100 * share:g} % of {n_items:,} rows | "
            + " | ".join(f"{taken[kind]:.2f} ({found[kind]:.3f})" for kind in INDEX_KINDS)
            + " |"
            for share, (taken, found) in narrowed.items()
        ),
    ]
    panels = {modality: curves(indexes, rows[:TIMED], recalls[modality]) for modality, rows in queries.items()}
    title = f"{n_items:,} rows of {dim} dimensions"
    chart = plot_recall(panels, title=title, cost="milliseconds of one query", recall=f"ann_recall@{K}")
    return (
        "\n".join(lines),
        chart,
        all(held for _, held in verdicts),
        figures_of(built, speeds["image"], n_items, dim),
    )


def figures_of(built: BuiltIndexes, milliseconds: dict[IndexKind, float], n_items: int, dim: int) -> list[Figure]:
    """Building and one image query of every kind."""
    figures = []
    for kind in INDEX_KINDS:
        seconds = built.seconds[kind]
        rate = n_items / seconds if seconds else None
        figures.append(Figure("index", f"build {kind}, {n_items:,} × {dim}", OURS, seconds, rate, "rows/s"))
    for kind in INDEX_KINDS:
        taken = milliseconds[kind] / 1000
        figures.append(
            Figure("index", f"one query of {kind}, {n_items:,} × {dim}", OURS, taken, 1 / taken, "queries/s")
        )
    return figures


class Turned:
    """Rows brought to more dimensions by an orthogonal matrix, which keeps every inner product."""

    def __init__(self, dim_from: int, dim: int, *, rng: np.random.Generator) -> None:
        if dim_from > dim:
            raise DataError(f"embeddings have {dim_from} dimensions, more than --dim {dim}")
        self._matrix = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:dim_from]

    def __call__(self, rows: FloatArray) -> FloatArray:
        turned = np.asarray(rows, dtype=np.float64) @ self._matrix
        unit: FloatArray = (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)
        return unit


def enlarged(source: EmbeddingSet, n_items: int, dim: int, *, rng: np.random.Generator) -> tuple[FloatArray, Turned]:
    """A larger gallery like the one there is, and what brings queries into its dimensions.

    The gallery's own rows come first. Every further row starts at a random item, goes up to half the way to one of
    its ten nearest items of other products, and is shifted by the difference between two views of a random product:
    new products lie where the catalogue has products, and vary as its pictures do. Then all rows are turned into
    `dim` dimensions by one random orthogonal matrix.

    Returns:
        (n_items, dim) float32 unit rows in a random order, and the turning.
    """
    own = np.asarray(source.catalog.images)
    products = pd.factorize(source.catalog.meta["product_id"], sort=True)[0].astype(np.int64)
    near = exact_top_k(own, own, k=10, query_products=products, gallery_products=products)["all"].rows
    order = np.argsort(products, kind="stable")
    views = np.flatnonzero(products[order[1:]] == products[order[:-1]])
    if not len(views) or (near < 0).any():
        raise DataError("the catalogue is too small: expected products of several views and ten others near each")
    start = rng.integers(len(own), size=max(n_items - len(own), 0))
    goal = near[start, rng.integers(10, size=len(start))]
    way = rng.uniform(0.0, 0.5, size=(len(start), 1))
    pair = rng.choice(views, size=len(start))
    sign = rng.choice([-1.0, 1.0], size=(len(start), 1))
    shift = sign * (own[order[pair]] - own[order[pair + 1]])
    new = own[start] + way * (own[goal] - own[start]) + shift
    turned = Turned(own.shape[1], dim, rng=rng)
    rows = turned(np.concatenate([own, new])[:n_items])
    return np.ascontiguousarray(rows[rng.permutation(len(rows))]), turned


def indexed(
    folder: Path, gallery: FloatArray, params: Index
) -> tuple[BuiltIndexes, dict[IndexKind, SearchIndex], dict[IndexKind, int]]:
    """Every kind built, loaded as a server would, and its bytes."""
    folder.mkdir()
    np.save(folder / "gallery.npy", gallery)
    meta = pd.DataFrame(dict.fromkeys(META_COLUMNS), index=range(len(gallery)))
    meta["item_id"] = [f"item-{row}" for row in range(len(gallery))]
    side = Embeddings(np.load(folder / "gallery.npy", mmap_mode="r"), gallery, meta)
    embedded = EmbeddingSet(side, side, "benchmark")
    built = build_indexes(folder, embedded, params, rng=np.random.default_rng(params.seed))
    sizes = {kind: (folder / f"{kind}.faiss").stat().st_size for kind in INDEX_KINDS}
    return built, load_indexes(folder, embedded), sizes


def smaller(folder: Path, gallery: FloatArray, params: Index, queries: FloatArray) -> dict[IndexKind, float]:
    """Milliseconds of flat and hnsw over a part of the gallery."""
    indexes = indexed(folder, gallery, params.model_copy(update={"build": ("flat", "hnsw")}))[1]
    return speed(indexes, queries[:TIMED])


def recall(
    indexes: dict[IndexKind, SearchIndex], gallery: FloatArray, queries: FloatArray
) -> dict[IndexKind, dict[int, float]]:
    """Kind -> effort -> recall; the effort of flat is 0."""
    exact = exact_top_k(queries, gallery, k=K)["all"]
    return {
        kind: {
            effort: ann_recall_at_k(index.search(queries, k=K, effort=effort or None), exact)
            for effort in efforts(index) or [0]
        }
        for kind, index in indexes.items()
    }


def speed(indexes: dict[IndexKind, SearchIndex], queries: FloatArray) -> dict[IndexKind, float]:
    """Kind -> median milliseconds of a query, as it serves."""
    searches = {kind: partial(index.search, k=K) for kind, index in indexes.items()}
    taken = measure_latency(searches, queries, rng=np.random.default_rng(SEED))
    return {kind: taken[kind] for kind in indexes}


def filtered(
    indexes: dict[IndexKind, SearchIndex], queries: FloatArray, *, rng: np.random.Generator
) -> Iterator[tuple[float, tuple[dict[str, float], dict[IndexKind, float]]]]:
    """Share of the rows that a filter allows -> milliseconds and recall by kind."""
    for share in FILTERS:
        allowed = rng.random(len(indexes["flat"])) < share
        exact = indexes["flat"].search(queries, k=K, allowed=allowed)
        searches = {kind: partial(index.search, k=K, allowed=allowed) for kind, index in indexes.items()}
        found = {kind: ann_recall_at_k(search(queries), exact) for kind, search in searches.items()}
        yield share, (measure_latency({str(kind): s for kind, s in searches.items()}, queries, rng=rng), found)


def limits(
    recalls: dict[str, dict[IndexKind, dict[int, float]]],
    speeds: dict[str, dict[IndexKind, float]],
    sizes: dict[IndexKind, int],
    served: dict[IndexKind, int],
) -> Iterator[tuple[str, bool]]:
    """What was promised, and whether it holds for images and texts alike."""
    for kind, least in LEAST_RECALL.items():
        found = min(by_kind[kind][served[kind]] for by_kind in recalls.values())
        yield f"{kind}: recall of at least {least}", found >= least
    slowest = max(by_kind["hnsw"] / by_kind["flat"] for by_kind in speeds.values())
    yield f"hnsw: at most 1/{1 / LARGEST_LATENCY:.0f} of flat's latency", slowest <= LARGEST_LATENCY
    yield (
        f"ivf_pq: at most 1/{1 / LARGEST_BYTES:.0f} of flat's bytes",
        sizes["ivf_pq"] <= LARGEST_BYTES * sizes["flat"],
    )


def curves(
    indexes: dict[IndexKind, SearchIndex], queries: FloatArray, recalls: dict[IndexKind, dict[int, float]]
) -> dict[str, list[Point]]:
    """Kind -> its points by milliseconds, every effort taking turns with every other."""
    searches = {
        f"{kind} {effort}": partial(indexes[kind].search, k=K, effort=effort or None)
        for kind in INDEX_KINDS
        for effort in recalls[kind]
    }
    taken = measure_latency(searches, queries, rng=np.random.default_rng(SEED))
    return {
        kind: [
            Point(
                cost=taken[f"{kind} {effort}"],
                recall=found,
                label=str(effort) if effort else "",
                serves=effort in (0, indexes[kind].settings.get(EFFORT.get(kind, ""))),
            )
            for effort, found in recalls[kind].items()
        ]
        for kind in INDEX_KINDS
    }


if __name__ == "__main__":
    sys.exit(main())
