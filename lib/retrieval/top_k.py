"""What a search found: who only reads results needs no library that searches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TopK:
    """The best items of each query, best first.

    Attributes:
        rows: (n_queries, k) int64 gallery rows; -1 where fewer than k items are allowed.
        scores: (n_queries, k) float64; -inf where the row is -1.
    """

    rows: IntArray
    scores: ScoreArray
