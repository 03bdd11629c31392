"""The scoreboard's rows of a data set's official protocol (`lib.evaluation.official`), from what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lib.evaluation.paired import Pair, ScoreArray

BOARD_KS = (1, 10)
"""Those of the official k that the scoreboard shows."""


def official_pairs(before: pd.DataFrame, after: pd.DataFrame, measured: dict[str, Any]) -> dict[str, Pair]:
    """The rows of both models.

    Args:
        before, after: the rows of `per_query` in mode `official`, of the same queries, baseline and protocol.
        measured: the baseline's metrics in that mode; a row that they lack is left out.
    """
    pairs = {}
    for k in BOARD_KS:
        numbers = measured.get(f"official_hit_rate@{k}")
        if numbers is not None:
            pairs[f"official_hit_rate@{k}"] = Pair(
                _hits(before["official_rank"], k),
                _hits(after["official_rank"], k),
                numbers["chance"],
                numbers["ceiling"],
            )
    return pairs


def _hits(ranks: pd.Series, k: int) -> ScoreArray:
    """(n_queries,) 1 where the first right image is among the top k, else 0; NaN where the query does not count."""
    numbers = ranks.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isnan(numbers), np.nan, ((numbers >= 1) & (numbers <= k)).astype(np.float64))
