"""What a catalogue of 10 thousand to 100 million items costs: `python -m benchmarks.sizing [--write]`.

Computes from the rates that `make bench` kept in `benchmarks/figures.json` and from the formulas below; prints the
table as Markdown, and with `--write` puts it into README.md between its markers. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import KEPT, OURS, Figure, load
from benchmarks.results import ROOT
from lib.base.params import Index, load_params
from lib.retrieval.index_plan import automatic_lists, automatic_parts, hnsw_bytes, plan_indexes

ITEMS = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
README = ROOT / "README.md"
BEGIN, END = "<!-- sizing: python -m benchmarks.sizing --write -->", "<!-- end of sizing -->"

DIM = 512
IMAGE_GFLOP, TEXT_GFLOP = 8.82, 5.96
"""Of one image and one caption in ViT-B/32, as open_clip's profile counts them."""
CAPTIONS = 1 / 3
"""Distinct captions per item: the views of a product share theirs."""
PHOTO_BYTES = 15_000
"""Of a 256-pixel JPEG."""
ROW_BYTES = 1_000
"""Of an item's strings in memory."""
BASE_BYTES = 1e9
"""Python, the libraries, the backbone and a block of scores."""
ANCHORS, QUERIES, MODES = 10_000, 5_000, 4
NIGHT_HOURS = 12
"""Embedding that takes longer on one machine wants several."""
MEMORY_GB = (4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Attributes:
        images: embedded in a second, with decoding.
        mining: GFLOP/s of a whole mining run, counting its matrix products only.
        evaluation: GFLOP/s of a whole evaluation, counting its matrix products only.
        pairs: items a second of drawing the default number of pairs.
        training: seconds of the default recipe, which does not depend on the items.
        hnsw, ivf_pq: seconds to build over `indexed` rows.
        indexed: rows that they were measured on.
        flat, hnsw_query, ivf_pq_query: seconds of one query over `indexed` rows.
    """

    images: float
    mining: float
    evaluation: float
    pairs: float
    training: float
    hnsw: float
    ivf_pq: float
    indexed: int
    flat: float
    hnsw_query: float
    ivf_pq_query: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="also put the table into README.md")
    args = parser.parse_args()
    text = table(rates_of(load(KEPT)), load_params(ROOT / "params.yaml").index)
    print(text)
    if args.write:
        README.write_text(put(README.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 0


def rates_of(figures: Sequence[Figure]) -> Rates:
    """The rates of the figures that were kept.

    Raises:
        SystemExit: one is missing; the message names it and the command that measures it.
    """
    evaluated = _find(figures, "whole evaluation", "whole evaluation")
    queries, items = _numbers(evaluated.work)
    built = _find(figures, "index", "build hnsw")
    drawn = _find(figures, "pairs", "build")
    return Rates(
        images=_find(figures, "embedding", "embed").rate or 0.0,
        mining=_find(figures, "mining", "mine").rate or 0.0,
        evaluation=evaluation_gflop(items, queries=queries) / (evaluated.seconds or 1.0),
        pairs=_numbers(drawn.work)[1] / (drawn.seconds or 1.0),
        training=_find(figures, "training", "train").seconds or 0.0,
        hnsw=built.seconds or 0.0,
        ivf_pq=_find(figures, "index", "build ivf_pq").seconds or 0.0,
        indexed=_numbers(built.work)[0],
        flat=_find(figures, "index", "one query of flat").seconds or 0.0,
        hnsw_query=_find(figures, "index", "one query of hnsw").seconds or 0.0,
        ivf_pq_query=_find(figures, "index", "one query of ivf_pq").seconds or 0.0,
    )


def _find(figures: Sequence[Figure], part: str, beginning: str) -> Figure:
    for figure in figures:
        if figure.part == part and figure.who == OURS and figure.work.startswith(beginning) and figure.seconds:
            return figure
    raise SystemExit(f"sizing needs a figure of '{part}' ({beginning} …) in {KEPT.name}: run `make bench` first")


def _numbers(work: str) -> list[int]:
    """Numbers of a figure's words, those with a comma in them: 5,000 is one, 512 is not."""
    return [int(number.replace(",", "")) for number in re.findall(r"\d{1,3}(?:,\d{3})+", work)]


def embedding_seconds(items: int, rates: Rates) -> float:
    """Images at the measured rate; captions at the same GFLOP/s, each distinct one once."""
    return items / rates.images * (1 + CAPTIONS * TEXT_GFLOP / IMAGE_GFLOP)


def mining_seconds(items: int, rates: Rates) -> float:
    """2 · anchors · items · dim floating point operations."""
    return 2.0 * min(ANCHORS, items) * items * DIM / 1e9 / rates.mining


def evaluation_gflop(items: int, *, queries: int = QUERIES) -> float:
    """Products of the searches: per mode the queries search the gallery, and once more the other half of them."""
    return 2.0 * queries * (MODES * items + queries) * DIM / 1e9


def evaluation_seconds(items: int, rates: Rates) -> float:
    """`QUERIES` queries whatever the catalogue: were they a share of it, this would be quadratic."""
    queries = min(QUERIES, items // 5)
    return evaluation_gflop(items, queries=queries) / rates.evaluation


def pairs_seconds(items: int, rates: Rates) -> float:
    """Linear in the items."""
    return items / rates.pairs


def index_seconds(items: int, kind: str, rates: Rates) -> float:
    """flat is a copy; hnsw n · log n; ivf_pq by the distances that clustering, assigning and coding take."""
    if kind == "hnsw":
        return rates.hnsw * items * math.log(items) / (rates.indexed * math.log(rates.indexed))
    if kind == "ivf_pq":
        return rates.ivf_pq * _distances(items) / _distances(rates.indexed)
    return 0.0


def _distances(items: int) -> float:
    """Distances between rows and centroids: 10 rounds of learning lists and codes, then every item once."""
    lists, codes = automatic_lists(items), 256
    learnt = min(max(64 * lists, 256 * codes), items)
    return 10.0 * learnt * (lists + codes) + float(items) * (lists + codes)


def query_milliseconds(items: int, kind: str, rates: Rates) -> float:
    """flat reads every row; hnsw takes log n steps; ivf_pq looks into 16 of about 4 · √n lists."""
    if kind == "flat":
        return 1000 * rates.flat * items / rates.indexed
    if kind == "hnsw":
        return 1000 * rates.hnsw_query * math.log(items) / math.log(rates.indexed)
    return 1000 * rates.ivf_pq_query * math.sqrt(items / rates.indexed)


def disk_bytes(items: int) -> float:
    """Photos as they came and processed; image and caption rows of two models and of the cache with its keys."""
    return items * (2.0 * PHOTO_BYTES + 3 * 2 * 4 * DIM + 64)


def index_bytes(items: int, kind: str) -> float:
    """What a server keeps in memory of the index."""
    if kind == "hnsw":
        return float(hnsw_bytes(items, DIM, 32))
    if kind == "ivf_pq":
        return items * (automatic_parts(DIM) + 8.0) + automatic_lists(items) * 4.0 * DIM
    return items * 4.0 * DIM


def memory_bytes(items: int, kind: str) -> float:
    """The larger of a stage's memory and a server's: the items' strings, and what the index needs."""
    return BASE_BYTES + items * ROW_BYTES + index_bytes(items, kind)


def machine(items: int, kind: str) -> str:
    """The smallest usual memory with a quarter to spare."""
    wanted = 1.25 * memory_bytes(items, kind) / 1e9
    return next((f"{size} GB" for size in MEMORY_GB if size >= wanted), f"{wanted:,.0f} GB")


def engine(items: int, rates: Rates) -> str:
    """`local` for what a night is enough for; else as many machines as make it a night."""
    nights = embedding_seconds(items, rates) / 3600 / NIGHT_HOURS
    return "local" if nights <= 1 else f"ray, {math.ceil(nights):,} ×"


def spoken(seconds: float) -> str:
    """Seconds, minutes, hours or days, with two digits."""
    for size, unit in ((86_400 * 2, "days"), (3600 * 2, "h"), (120, "min")):
        if seconds >= size:
            each = {"days": 86_400, "h": 3600, "min": 60}[unit]
            return f"{_rounded(seconds / each)} {unit}"
    return f"{_rounded(seconds)} s"


def _rounded(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{round(value, -max(int(math.log10(value)) - 1, 0)):,.0f}"


def size_of(number: float) -> str:
    """Bytes as MB, GB or TB, with two digits."""
    for size, unit in ((1e12, "TB"), (1e9, "GB")):
        if number >= size:
            return f"{_rounded(number / size)} {unit}"
    return f"{_rounded(number / 1e6)} MB"


def table(rates: Rates, params: Index) -> str:
    """The table as Markdown, a column per number of items."""
    kinds = {items: plan_indexes(items, DIM, params).default for items in ITEMS}
    rows = {
        "embedding": [spoken(embedding_seconds(n, rates)) for n in ITEMS],
        "`embed.engine`": [engine(n, rates) for n in ITEMS],
        "mining, 10,000 anchors": [spoken(mining_seconds(n, rates)) for n in ITEMS],
        "50,000 pairs": [spoken(pairs_seconds(n, rates)) for n in ITEMS],
        "training": [spoken(rates.training) for _ in ITEMS],
        "evaluation, at most 5,000 queries": [spoken(evaluation_seconds(n, rates)) for n in ITEMS],
        "index that `auto` serves with": [str(kinds[n]) for n in ITEMS],
        "building it": [spoken(index_seconds(n, kinds[n], rates)) for n in ITEMS],
        "one query": [f"{_rounded(query_milliseconds(n, kinds[n], rates))} ms" for n in ITEMS],
        "index in memory": [size_of(index_bytes(n, kinds[n])) for n in ITEMS],
        "memory of the machine": [machine(n, kinds[n]) for n in ITEMS],
        "disk": [size_of(disk_bytes(n)) for n in ITEMS],
    }
    lines = [f"| items | {' | '.join(f'{n:,}' for n in ITEMS)} |", "|---|" + "---:|" * len(ITEMS)]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())])


def put(readme: str, text: str) -> str:
    """The README with the table between its markers.

    Raises:
        SystemExit: it has no such markers.
    """
    before, found, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"README.md has no place for the table: '{BEGIN}' … '{END}'")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
