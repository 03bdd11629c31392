"""Scoreboard rows of two models measured on the same queries: levels, and the delta with its paired interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lib.base.errors import IntegrityError
from lib.base.params import Bootstrap
from lib.evaluation.bootstrap import clustered_intervals
from lib.evaluation.measure import rounded

IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """One metric of both models per query, (n_queries,) each, NaN = does not count; mean chance and ceiling."""

    baseline: ScoreArray
    protocol: ScoreArray
    chance: float
    ceiling: float


def paired_rows(pairs: Mapping[str, Pair], clusters: IntArray, bootstrap: Bootstrap) -> dict[str, dict[str, float]]:
    """Numbers of scoreboard rows.

    Args:
        pairs: row -> `Pair`; every one has a query that counts.
        clusters: (n_queries,) codes of the products, which are drawn as a whole.
        bootstrap: resamples and seed.

    Returns:
        row -> `{"baseline", "protocol", "delta", "delta_low", "delta_high", "n_queries", "chance", "ceiling"}`; no
        pair gives no row.

    Raises:
        IntegrityError: the models count different queries.
    """
    if not pairs:
        return {}
    for name, pair in pairs.items():
        if not np.array_equal(np.isnan(pair.baseline), np.isnan(pair.protocol)):
            raise IntegrityError(f"{name}: the evaluations count different queries; run `dvc repro`")
    intervals = clustered_intervals(
        np.column_stack([pair.protocol - pair.baseline for pair in pairs.values()]),
        clusters,
        resamples=bootstrap.resamples,
        rng=np.random.default_rng(bootstrap.seed),
    )
    rows = {}
    for column, (name, pair) in enumerate(pairs.items()):
        before, after = rounded(np.nanmean(pair.baseline)), rounded(np.nanmean(pair.protocol))
        # The delta is a difference of rounded means: an interval of no width must still hold it.
        low, high, delta = rounded(intervals.low[column]), rounded(intervals.high[column]), rounded(after - before)
        rows[name] = {
            "baseline": before,
            "protocol": after,
            "delta": delta,
            "delta_low": delta if abs(low - delta) < 1e-9 else low,
            "delta_high": delta if abs(high - delta) < 1e-9 else high,
            "n_queries": int((~np.isnan(pair.baseline)).sum()),
            "chance": rounded(pair.chance),
            "ceiling": rounded(pair.ceiling),
        }
    return rows
