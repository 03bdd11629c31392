"""The parts of `benchmarks.peers`: who does the same work, how often, and what counts as its rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import Contender, Peers, Ran, greatest_of, in_turns, least_of, peak_of, reason_of
from benchmarks.figures import LIMIT, OURS, Figure
from benchmarks.results import ROOT
from lib.base.params import load_params
from lib.retrieval.fast_scores import bfloat16_pays

BATCH = 64
K = 10
DIM = 512
SHORT, MIDDLING = 5, 2
"""Times that a search, and an evaluation, is repeated for each of a longer work: others' work misses some."""


PLAIN = f"{OURS}, float32 alone"
"""Ours as it is on a processor without instructions for bfloat16."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        images: embedded, once; a multiple of 4 × `BATCH`, so that no batch is padded.
        rounds: of the processes of everything else, in turns.
        items: rows of the gallery that is searched, mined and evaluated.
        searched: queries of the search.
        anchors: of mining.
        queries: of the evaluation; `limited` of them where a peer needs a score of every query and item.
        pairs: that are drawn.
        repeats: within a process; more of what is short.
    """

    images: int = 2048
    rounds: int = 2
    items: int = 52_591
    searched: int = 1024
    anchors: int = 10_000
    queries: int = 5000
    limited: int = 256
    pairs: int = 50_000
    repeats: int = 2


def embedding(sizes: Sizes, peers: Peers, home: Path, *, backbone: Path, checkpoint: Path) -> list[Figure]:
    """Images a second of a whole embedding run, and of one batch more with the cache of that run.

    The limit takes a quarter of the images before the contenders and another one after them: what the machine does
    meanwhile falls on both sides.
    """
    work, more = f"embed {sizes.images:,} images, ViT-B/32", f"embed {BATCH} images more"
    task: dict[str, Any] = {
        "data": str(home),
        "images": str(home / "images"),
        "backbone": str(backbone),
        "checkpoint": str(checkpoint),
        "batch_size": BATCH,
        "workers": load_params(ROOT / "params.yaml").embed.decode_workers,
    }
    clip = peers.name("clip-retrieval")
    plain = f"open_clip {version('open_clip_torch')} + DataLoader"
    part = max(sizes.images // 4, BATCH)
    before, after = f"{LIMIT}, before", f"{LIMIT}, after"
    contenders = {
        before: Contender("raw", {**task, "first": 0, "last": part}),
        OURS: Contender("embed", task),
        plain: Contender("loop", task),
        clip: Contender("clip_retrieval", task, "clip-retrieval"),
    }
    if sizes.rounds > 1:  # at small sizes once must do
        contenders[after] = Contender("raw", {**task, "first": sizes.images - part, "last": sizes.images})
    ran = in_turns(contenders, peers, rounds=1)
    limits = [ran.pop(name) for name in (before, after) if name in ran]
    raw, all_of_it = _sum_of(limits, "images"), _sum_of(limits, "seconds")
    each = None if raw is None else raw / (len(limits) * part)
    # the rest is the one caption
    limit = None if raw is None or each is None or all_of_it is None else each * sizes.images + all_of_it - raw
    notes = {
        LIMIT: "the same forward passes, inputs ready, before and after the others",
        OURS: "from parquet, with decoding, cache and files",
    }
    for name in (plain, clip):
        closeness = smallest_cosine(ran[OURS], ran[name])
        notes[name] = "" if closeness is None else f"from files; smallest cosine with our embedding {closeness:.6f}"
    figures = []
    failed = next((reason_of(of_half) for of_half in limits if reason_of(of_half)), "")
    for name in (LIMIT, *ran):
        seconds = limit if name == LIMIT else least_of(ran[name])
        reason = failed if name == LIMIT else reason_of(ran[name])
        figures.append(
            Figure(
                "embedding",
                work,
                name,
                seconds,
                sizes.images / seconds if seconds else None,
                "images/s",
                None if name == LIMIT else peak_of(ran[name]),
                least_of_limit=0.93 if name == OURS else None,
                note=notes[name] if seconds else reason,
            )
        )
    added = least_of(ran[OURS], "more")
    batch = None if each is None else each * BATCH
    said = "with the cache of the run before; 1/3 of the limit is 1 % of rows in 3 % of the time"
    figures += [
        Figure("embedding", more, LIMIT, batch, BATCH / batch if batch else None, "images/s", note=failed),
        Figure(
            "embedding",
            more,
            OURS,
            added,
            BATCH / added if added else None,
            "images/s",
            least_of_limit=1 / 3,
            note=said if added else reason_of(ran[OURS]),
        ),
    ]
    return figures


def _sum_of(parts: Sequence[Sequence[Ran]], key: str) -> float | None:
    """Seconds of work that was done in parts; None where one of them failed."""
    seconds = [least_of(ran, key) for ran in parts]
    known = [number for number in seconds if number is not None]
    return sum(known) if len(known) == len(seconds) else None


def search(sizes: Sizes, peers: Peers, rows: Path) -> list[Figure]:
    """Multiplications a second of an exact search."""
    work = f"exact top {K}, {sizes.searched:,} queries × {sizes.items:,}"
    task = {"data": str(rows), "k": K, "repeats": SHORT * sizes.repeats}
    contenders = {
        OURS: Contender("search", task),
        **in_float32("search", task, sizes.searched, sizes),
        f"faiss {version('faiss-cpu')} IndexFlatIP": Contender("faiss", task),
    }
    ran = in_turns(contenders, peers, rounds=sizes.rounds)
    products = 2.0 * sizes.searched * sizes.items * DIM / 1e9
    return [
        limit_of("search", work, ran[OURS], products),
        *(
            of_products(
                "search",
                work,
                name,
                ran[name],
                products,
                least_of_limit=0.8 if name == OURS else None,
                note=chosen_in(sizes.searched) if name == OURS else "",
            )
            for name in contenders
        ),
    ]


def in_float32(program: str, task: dict[str, Any], n_queries: int, sizes: Sizes) -> dict[str, Contender]:
    """Ours without bfloat16, where it would be used; not at small sizes, whose shares say little anyway."""
    wanted = sizes.rounds > 1 and bfloat16_pays(n_queries, DIM)
    return {PLAIN: Contender(program, {**task, "float32": True})} if wanted else {}


def chosen_in(n_queries: int) -> str:
    """By which products our search chooses the candidates that it scores exactly, where these are not float32."""
    return "candidates by products in bfloat16, exact scores decide" if bfloat16_pays(n_queries, DIM) else ""


def mining(sizes: Sizes, peers: Peers, rows: Path) -> list[Figure]:
    """Hard negative mining with everything that belongs to it, and the peer's without its encoding.

    Twice beside the same peer and limit, the product of all anchors with all items: with ranks among the whole
    catalogue, and with those within a category, where an anchor is multiplied with the items of its category only.
    """
    asked = f"{sizes.anchors:,} anchors × {sizes.items:,}"
    works = {f"mine hard negatives, {asked}": "catalogue", f"mine within categories, {asked}": "category"}
    task = {"data": str(rows), "anchors": sizes.anchors, "depth": 100, "per_anchor": 8, "repeats": sizes.repeats}
    package = "sentence-transformers"
    theirs = {
        peers.name(package): Contender("sentence_transformers", {**task, "faiss": False}, package),
        peers.name(package, "with faiss"): Contender("sentence_transformers", {**task, "faiss": True}, package),
    }
    ours = {work: Contender("mine", {**task, "within": within}) for work, within in works.items()}
    plain = in_float32("mine", {**task, "within": "catalogue"}, sizes.anchors, sizes)
    ran = in_turns({**ours, **plain, **theirs}, peers, rounds=sizes.rounds)
    products = 2.0 * sizes.anchors * sizes.items * DIM / 1e9
    figures = []
    for work, within in works.items():
        said = (
            "every anchor with every item; ours multiplies those of its category alone"
            if within == "category"
            else ""
        )
        figures.append(limit_of("mining", work, ran[work], products, note=said))
        own = chosen_in(sizes.anchors) if within == "catalogue" else ""
        figures.append(of_products("mining", work, OURS, ran[work], products, least_of_limit=0.8, note=own))
        if within == "catalogue":
            figures += [of_products("mining", work, name, ran[name], products) for name in plain]
        for name in theirs:
            figures.append(
                of_products(
                    "mining",
                    work,
                    name,
                    ran[name],
                    products,
                    least_gain=3.0 if name == peers.name(package) else None,  # faiss is too near the limit for that
                    note="without encoding; knows no attributes",
                )
            )
    return figures


def evaluation(sizes: Sizes, peers: Peers, rows: Path) -> list[Figure]:
    """Queries a second of hit rate and MAP by product; ours with chance, ceiling and 2,000 resamples besides."""
    work = f"evaluate {sizes.queries:,} queries × {sizes.items:,}"
    task = {"data": str(rows), "k": K, "limited": sizes.limited, "repeats": MIDDLING * sizes.repeats}
    metrics, oml = "torchmetrics", "open-metric-learning"
    contenders = {
        OURS: Contender("evaluate", task),
        **in_float32("evaluate", task, sizes.queries, sizes),
        peers.name(metrics): Contender("torchmetrics", task, metrics),
        peers.name(oml): Contender("open_metric_learning", task, oml),
    }
    ran = in_turns(contenders, peers, rounds=sizes.rounds)
    products = 2.0 * sizes.items * DIM / 1e9  # of a query
    figures = []
    limit = greatest_of(ran[OURS], "limit")
    if limit is not None:
        figures.append(
            Figure("evaluation", work, LIMIT, sizes.queries * products / limit, limit / products, "queries/s")
        )
    for name in contenders:
        seconds = least_of(ran[name])
        n = None if seconds is None else least_of(ran[name], "n")
        figures.append(
            Figure(
                "evaluation",
                work,
                name,
                seconds,
                n / seconds if n and seconds else None,
                "queries/s",
                peak_of(ran[name]) if seconds else None,
                least_of_limit=0.8 if name == OURS else None,
                note=said_of_hits(ran[OURS], ran[name], name) if seconds else reason_of(ran[name]),
            )
        )
    return figures


def pairs(sizes: Sizes, peers: Peers, rows: Path) -> list[Figure]:
    """Pair building; nobody else has it."""
    task = {"data": str(rows), "anchors": sizes.anchors, "pairs": sizes.pairs, "repeats": sizes.repeats}
    ran = in_turns({OURS: Contender("pairs", task)}, peers, rounds=sizes.rounds)[OURS]
    seconds = least_of(ran)
    rate = sizes.pairs / seconds if seconds else None
    work = f"build {sizes.pairs:,} pairs of {sizes.items:,} items"
    note = "" if seconds else reason_of(ran)
    return [Figure("pairs", work, OURS, seconds, rate, "pairs/s", peak_of(ran) if seconds else None, note=note)]


def limit_of(part: str, work: str, ran: Sequence[Ran], products: float, *, note: str = "") -> Figure:
    """What the products alone would take; `products` in GFLOP."""
    limit = greatest_of(ran, "limit")
    said = note if limit else reason_of(ran)
    return Figure(part, work, LIMIT, products / limit if limit else None, limit, "GFLOP/s", note=said)


def of_products(
    part: str,
    work: str,
    who: str,
    ran: Sequence[Ran],
    products: float,
    *,
    least_of_limit: float | None = None,
    least_gain: float | None = None,
    note: str = "",
) -> Figure:
    """A contender whose rate is that of its matrix products, in GFLOP."""
    seconds = least_of(ran)
    return Figure(
        part,
        work,
        who,
        seconds,
        products / seconds if seconds else None,
        "GFLOP/s",
        peak_of(ran) if seconds else None,
        least_of_limit=least_of_limit,
        least_gain=least_gain,
        note=note if seconds else reason_of(ran),
    )


def smallest_cosine(ours: Sequence[Ran], theirs: Sequence[Ran]) -> float | None:
    """The smallest cosine of two contenders' rows of the same images; None where one has none."""
    if not ours or not theirs or ours[0].rows is None or theirs[0].rows is None:
        return None
    return float((ours[0].rows.astype(np.float64) * theirs[0].rows).sum(axis=1).min())


def said_of_hits(ours: Sequence[Ran], theirs: Sequence[Ran], name: str) -> str:
    """Whether a peer measures the same hit rate of the same queries."""
    own, other = ours[-1].answer, theirs[-1].answer
    if other is None or own is None:
        return ""
    if name == PLAIN:
        return f"hit rate {other['hit_rate']:.6f}" + (
            "" if other["hit_rate"] == own["hit_rate"] else ", NOT the same"
        )
    if name == OURS:
        said = f"hit rate, recall, MAP and nDCG with chance, ceiling and intervals; hit rate {own['hit_rate']:.6f}"
        return "; ".join(part for part in (said, chosen_in(int(own["n"]))) if part)
    same = own["hit_rate" if other["n"] == own["n"] else "hit_rate_limited"]
    said = "the same" if abs(same - other["hit_rate"]) < 1e-6 else f"NOT ours, {same:.6f}"
    return f"hit rate and MAP; {other['n']:,} queries; hit rate {other['hit_rate']:.6f}, {said}"
