"""Time and memory as a catalogue of embeddings grows to a million rows: `python -m benchmarks.scale [--write]`.

Synthetic embedded catalogues of 10,000 to 1,000,000 rows × 512 in the project's own files, kept under `.cache/scale`
(4.1 GB for a million). On each, in a process of its own: mining (10,000 anchors), drawing 50,000 pairs, evaluation
(500 queries a split) and building ivf_pq. An exponent is a slope over rows on logarithmic axes: 1 is linear.
Memory is the process's own (anonymous) at its largest, and in brackets with the pages of mapped files, those of the
gallery among them, that the system can take back at any time. What grows with
images (`process_data`, `embed_catalog`) is `benchmarks.growth`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.contenders import PEERS_PYTHON, Contender, Peers, Ran, in_turns, reason_of, seconds_of
from benchmarks.evaluation import KNOWN, VIEWS
from benchmarks.figures import KEPT, OURS, Figure, exponent, keep, markdown, median
from benchmarks.results import ROOT, sgemm_gflops, write_section
from lib.base.artifacts import FloatArray
from lib.base.errors import IntegrityError
from lib.base.params import load_params
from lib.embeddings import META_COLUMNS, META_SCHEMA, SIDES, load_embedding_set, writing_embedding_set

HOME = ROOT / ".cache" / "scale"
ROWS = (10_000, 50_000, 200_000, 1_000_000)
QUICK_ROWS = (2_000, 8_000)
DIM = 512
QUERIES = 500
SEED = 42
MOST_BYTES = 6e9
"""What mining may take at any of `ROWS`."""
FLAT, FLAT_WORK, MOST_GROWTH = (10_000, 200_000), ("mine", "evaluate"), 1.2
"""Between which rows the memory of which work may grow how much."""
RUNS = 3
"""Processes whose median is taken there: from one to the next, own memory differs by a tenth."""
_BLOCK = 3 * 16_384  # whole products
WORK = {
    "mine": "mine hard negatives of {anchors:,} anchors",
    "pairs": "build {pairs:,} pairs",
    "evaluate_all": "evaluate 2 × {queries:,} queries",
    "index": "build ivf_pq",
}
"""Task of `benchmarks.own_programs` -> what it does."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", help=f"default: {' '.join(map(str, ROWS))}")
    parser.add_argument("--quick", action="store_true", help="small catalogues")
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    sizes = sorted(set(args.rows or (QUICK_ROWS if args.quick else ROWS)))
    if len(sizes) < 2 or sizes[0] < 1000:
        parser.error("--rows needs two sizes or more, of at least 1,000")
    threads = load_params(ROOT / "params.yaml").runtime.threads
    anchors, pairs = (2000, 5000) if args.quick else (10_000, 50_000)
    figures = []
    for n_rows in sizes:
        make_catalogue(HOME / str(n_rows), n_rows)
        figures += measure(n_rows, anchors=anchors, pairs=pairs, runner=Peers(PEERS_PYTHON, threads=threads))
        print(markdown(figures[-len(WORK) :]), flush=True)
    text = report(figures, sizes)
    print(text)
    keep("scale", figures)
    if args.write:
        write_section("Growth of the embeddings", text)
        keep("scale", figures, path=KEPT)
    return 1 if "MISSED" in text else 0


def measure(n_rows: int, *, anchors: int, pairs: int, runner: Peers) -> list[Figure]:
    """Every piece of work on one catalogue; where growth is judged, the medians of `RUNS` processes."""
    task = {"data": str(HOME / str(n_rows)), "anchors": anchors, "pairs": pairs, "repeats": 1}
    figures = []
    for program, words in WORK.items():
        work = f"{words.format(anchors=anchors, pairs=pairs, queries=QUERIES)}, {n_rows:,} × {DIM}"
        runs = RUNS if n_rows in FLAT and program.startswith(FLAT_WORK) else 1
        ran = in_turns({OURS: Contender(program, task)}, runner, rounds=runs)[OURS]
        seconds = seconds_of(ran)
        if seconds is None:
            figures.append(Figure("scale", work, OURS, None, note=reason_of(ran)))
            continue
        peak, own = _bytes_of(ran, "peak"), _bytes_of(ran, "own")
        figures.append(Figure("scale", work, OURS, seconds, n_rows / seconds, "rows/s", peak, own=own))
    return figures


def _bytes_of(ran: Sequence[Ran], key: str) -> int | None:
    """The median; None where the system does not say it."""
    said = [one.answer[key] for one in ran if one.answer is not None]
    return None if None in said else int(median(said))


def report(figures: list[Figure], sizes: list[int]) -> str:
    """The section: a line per work, a column pair per number of rows, and the exponents."""
    found = by_work(figures, sizes)
    repeated = " and ".join(f"{size:,}" for size in sizes if size in FLAT)
    said = f"\nMining and evaluation of {repeated} rows: medians of {RUNS} processes each." if repeated else ""
    header = " | ".join(f"{size:,} rows | MB" for size in sizes)
    lines = [
        f"`python -m benchmarks.scale --write`, {os.cpu_count()} cores, {sgemm_gflops():.0f} GFLOP/s float32 matrix "
        f"multiplication;\nsynthetic embeddings of {DIM} dimensions. Seconds, and peak memory in MB: a process's "
        f"own, in brackets with mapped pages.{said}",
        "",
        f"| work | {header} | exponent of time | of memory |",
        "|---|" + "---:|---:|" * len(sizes) + "---:|---:|",
    ]
    for work, by_rows in found.items():
        cells = []
        for size in sizes:
            figure = by_rows[size]
            cells.append(
                "– | –"
                if figure.seconds is None
                else f"{figure.seconds:.1f} | {(figure.own or 0) / 1e6:,.0f} ({(figure.peak or 0) / 1e6:,.0f})"
            )
        done = {rows: figure for rows, figure in by_rows.items() if figure.seconds}
        slopes = "– | –"
        if len(done) > 1:
            time = exponent({rows: figure.seconds or 0.0 for rows, figure in done.items()})
            memory = exponent({rows: float(figure.own or 0) for rows, figure in done.items()})
            slopes = f"{time:.2f} | {memory:.2f}"
        lines.append(f"| {work} | {' | '.join(cells)} | {slopes} |")
    failed = [f"- {figure.work}: {figure.note}" for figure in figures if figure.seconds is None]
    largest = next(iter(found.values()))[sizes[-1]]
    if largest.peak is not None:
        held = "holds" if largest.peak <= MOST_BYTES else "MISSED"
        lines += ["", f"Mining in {sizes[-1]:,} rows within {MOST_BYTES / 1e9:g} GB: **{held}**"]
    lines += flatness(found, sizes)
    return "\n".join([*lines, *([""] if failed else []), *failed])


def flatness(found: Mapping[str, Mapping[int, Figure]], sizes: list[int]) -> list[str]:
    """Whether own memory stays the same over `FLAT`; nothing where its ends were not measured."""
    first, last = FLAT
    if first not in sizes or last not in sizes:
        return []
    lines = [""]
    for work, by_rows in found.items():
        if work.startswith(FLAT_WORK) and by_rows[first].own and by_rows[last].own:
            grown = (by_rows[last].own or 0) / (by_rows[first].own or 1)
            held = "holds" if grown <= MOST_GROWTH else "MISSED"
            lines.append(f"- {work}: own memory × {grown:.2f} from {first:,} to {last:,} rows: **{held}**")
    return lines


def by_work(figures: list[Figure], sizes: list[int]) -> Mapping[str, Mapping[int, Figure]]:
    """Work without its number of rows -> rows -> figure."""
    found: dict[str, dict[int, Figure]] = {}
    for place, figure in enumerate(figures):
        found.setdefault(figure.work.rpartition(", ")[0], {})[sizes[place // len(WORK)]] = figure
    return found


def make_catalogue(folder: Path, n_rows: int) -> None:
    """Write an embedded catalogue block by block, unless a whole one is there."""
    try:
        load_embedding_set(folder / "embedded")
        return
    except IntegrityError:
        shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(SEED)
    directions = {name: rng.normal(size=(len(values), DIM)).astype(np.float32) for name, (values, _) in KNOWN.items()}
    with writing_embedding_set(folder / "embedded", dim=DIM, fingerprint="synthetic") as writer:
        for side, n in zip(SIDES, (n_rows, 2 * QUERIES), strict=True):
            for first in range(0, n, _BLOCK):
                rows = range(first, min(first + _BLOCK, n))
                images, texts, meta = block(side, rows, n, directions, rng)
                writer.add(side, images, texts, meta)


def block(
    side: str, rows: range, n: int, directions: Mapping[str, FloatArray], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, pa.Table]:
    """Some rows: products of three views whose embeddings show their attributes, in float32 throughout."""
    product = np.array(rows) // VIEWS
    own = product - product[0]
    signal = rng.standard_normal(size=(own[-1] + 1, DIM), dtype=np.float32)
    table: dict[str, object] = dict.fromkeys(META_COLUMNS)
    for name, (values, share) in KNOWN.items():
        frequency = 1.0 / np.arange(1, len(values) + 1)
        codes = rng.choice(len(values), size=len(signal), p=frequency / frequency.sum())
        signal += np.float32(0.6) * directions[name][codes]
        known = rng.random(len(signal)) < share
        table[name] = np.where(known, np.array(values, dtype=object)[codes], None)[own]
    split = ["train" if side == "catalog" else "validation" if row < n // 2 else "test" for row in rows]
    table |= {"item_id": [f"{side} {row}" for row in rows], "split": split, "product_key": "column"}
    # a product does not straddle the two query splits
    table["product_id"] = [f"{part} {side} p{p}" for part, p in zip(split, product.tolist(), strict=True)]
    table["caption"] = [f"caption {p}" for p in product.tolist()]
    images, texts = views(signal, own, rng)
    frame = pd.DataFrame(table, columns=list(META_COLUMNS), index=range(len(rows)))
    return images, texts, pa.Table.from_pandas(frame, schema=META_SCHEMA, preserve_index=False)


def views(signal: FloatArray, own: np.ndarray, rng: np.random.Generator) -> Iterator[FloatArray]:
    """Images, then texts: unit rows around their product's signal."""
    for _ in range(2):
        rows = signal[own] + rng.standard_normal(size=(len(own), DIM), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        yield rows


if __name__ == "__main__":
    sys.exit(main())
