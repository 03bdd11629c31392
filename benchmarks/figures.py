"""What a benchmark measured, as one row of one table: ours, the machine's limit, a peer, or a peer that is missing.

Every part keeps its rows in `.cache/benchmarks/figures.json`; `python -m benchmarks` prints those of a run together.
With `--write` they also go to `benchmarks/figures.json`, from which `python -m benchmarks.sizing` computes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.results import ROOT

LATEST = ROOT / ".cache" / "benchmarks" / "figures.json"
KEPT = ROOT / "benchmarks" / "figures.json"
OURS = "this project"
LIMIT = "limit"
COLUMNS = ("work", "who", "seconds", "rate", "of limit", "ours is", "peak MB", "target")


@dataclass(frozen=True)
class Figure:
    """One contender at one piece of work.

    Attributes:
        part: the benchmark that measured it, for example `embedding`.
        work: what was done, the same words for every contender of it.
        who: `OURS`, `LIMIT`, or a peer with its version.
        seconds: of the work, the best or the median of several; None where there is no figure, and `note` says why.
        rate: how much of the work in a second, in `unit`; None where a time says it all.
        peak: largest resident bytes of the contender's own process; None where it was not measured.
        least_of_limit: share of the limit that ours has to reach; None: no such target.
        least_gain: how many times faster than this peer ours has to be; None: no such target.
        most_seconds: what ours may take; None: no such target.
        note: of the table's foot: what was left out, why a peer is missing.
        own: largest bytes of the process that are its own: without pages of mapped files, which the system can take
            back; None where it was not measured.
    """

    part: str
    work: str
    who: str
    seconds: float | None
    rate: float | None = None
    unit: str = ""
    peak: int | None = None
    least_of_limit: float | None = None
    least_gain: float | None = None
    most_seconds: float | None = None
    note: str = ""
    own: int | None = None


def keep(part: str, figures: Sequence[Figure], *, path: Path = LATEST) -> None:
    """Put a part's figures in the place of its earlier ones."""
    others = [figure for figure in load(path) if figure.part != part]
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(figure) for figure in (*others, *figures)]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path = LATEST) -> list[Figure]:
    """Figures that were kept; none where there is no file."""
    if not path.is_file():
        return []
    return [Figure(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def share_of_limit(figure: Figure, figures: Iterable[Figure]) -> float | None:
    """The figure's rate over that of the limit of the same work and unit; None where there is none."""
    for other in figures:
        if (other.part, other.work, other.who, other.unit) == (figure.part, figure.work, LIMIT, figure.unit):
            if figure.rate is None or not other.rate:
                return None
            return figure.rate / other.rate
    return None


def gain_of_ours(figure: Figure, figures: Iterable[Figure]) -> float | None:
    """How many times faster ours did the same work; None where one of the two has no figure."""
    if figure.who in (OURS, LIMIT) or figure.seconds is None:
        return None
    for other in figures:
        if (other.part, other.work, other.who) == (figure.part, figure.work, OURS) and other.seconds:
            if figure.rate is not None and other.rate is not None:
                return other.rate / figure.rate
            return figure.seconds / other.seconds
    return None


def verdict(figure: Figure, figures: Sequence[Figure]) -> str:
    """What was promised of a figure and whether it holds; "" where nothing was, or nothing can be said."""
    share, gain = share_of_limit(figure, figures), gain_of_ours(figure, figures)
    said = []
    if figure.least_of_limit is not None and share is not None:
        said.append(_held(f"≥ {figure.least_of_limit:.2g} of limit", share >= figure.least_of_limit))
    if figure.least_gain is not None and gain is not None:
        said.append(_held(f"≥ {figure.least_gain:g} ×", gain >= figure.least_gain))
    if figure.most_seconds is not None and figure.seconds is not None:
        said.append(_held(f"≤ {figure.most_seconds:g} s", figure.seconds <= figure.most_seconds))
    return "; ".join(said)


def _held(target: str, held: bool) -> str:
    return f"{target}: {'holds' if held else 'MISSED'}"


def cells(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """The table's rows under `COLUMNS`; a contender without a figure has "–" and its reason in the last cell."""
    rows = []
    for figure in figures:
        if figure.seconds is None:
            rows.append((figure.work, figure.who, "–", "–", "", "", "", f"not measured: {figure.note}"))
            continue
        share, gain = share_of_limit(figure, figures), gain_of_ours(figure, figures)
        rows.append(
            (
                figure.work,
                figure.who,
                f"{figure.seconds:.3g}" if figure.seconds < 100 else f"{figure.seconds:,.0f}",
                "" if figure.rate is None else f"{figure.rate:,.4g} {figure.unit}",
                "" if share is None or figure.who == LIMIT else f"{share:.2f}",
                "" if gain is None else f"{gain:.1f} × as fast",
                "" if figure.peak is None else f"{figure.peak / 1e6:,.0f}",
                verdict(figure, figures),
            )
        )
    return rows


def markdown(figures: Sequence[Figure]) -> str:
    """The table for `RESULTS.md`, with the notes below it."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|---:|---:|---:|---:|---:|---|"]
    lines += [f"| {' | '.join(row)} |" for row in cells(figures)]
    notes = dict.fromkeys(f"{f.work}, {f.who}: {f.note}" for f in figures if f.note and f.seconds is not None)
    return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)])


def terminal(figures: Sequence[Figure]) -> str:
    """The same table in columns of even width."""
    rows = [COLUMNS, *cells(figures)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS) - 1)]
    right = (False, False, True, True, True, True, True)
    lines = []
    for row in rows:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=False)
        )
        lines.append(f"{'  '.join(padded)}  {row[-1]}".rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def missed(figures: Sequence[Figure]) -> list[str]:
    """One line for every target that did not hold."""
    return [f"{f.work}, {f.who}: {said}" for f in figures if "MISSED" in (said := verdict(f, figures))]


def median(values: Sequence[float]) -> float:
    """Of at least one value."""
    return float(np.median(values))


def exponent(cost_by_rows: Mapping[int, float]) -> float:
    """Slope of cost over rows where both axes are logarithmic, by least squares: 1 is linear, 2 quadratic.

    >>> round(exponent({10: 3.0, 100: 30.0, 1000: 300.0}), 6)
    1.0
    """
    if len(cost_by_rows) < 2 or any(rows <= 0 or cost <= 0 for rows, cost in cost_by_rows.items()):
        raise ValueError(f"exponent: expected two sizes or more with positive costs, got {dict(cost_by_rows)}")
    x = np.array([math.log(rows) for rows in cost_by_rows])
    y = np.array([math.log(cost) for cost in cost_by_rows.values()])
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())
