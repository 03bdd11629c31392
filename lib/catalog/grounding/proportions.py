"""Counts as shares with intervals."""

from __future__ import annotations

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)
DIGITS = 4


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion: the score interval without continuity correction (Wilson 1927, JASA 22).

    Unlike the textbook interval it has a width at 0 of n and n of n, and keeps within 0 and 1. It takes the n
    cases for independent.

    Args:
        successes: at least 0, at most `n`.
        n: at least 1.

    Returns:
        Lower and upper end, as fractions.

    Raises:
        ValueError: the counts are no proportion.

    >>> [round(end, 4) for end in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"wilson_interval: expected 0 <= successes <= n and n >= 1, got {successes} of {n}")
    share = successes / n
    middle = share + Z * Z / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    # At the ends one of the two is 0 or 1 but for the last bits.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == n else (middle + half) / scale
    return low, high


def proportion(successes: int, n: int, *, name: str, empty: str) -> dict[str, float | str]:
    """A share with its interval for a report: `name`, `name_low`, `name_high`; without cases `skipped: <empty>`."""
    if n == 0:
        return {name: f"skipped: {empty}"}
    low, high = wilson_interval(successes, n)
    return {
        name: round(successes / n, DIGITS),
        f"{name}_low": round(low, DIGITS),
        f"{name}_high": round(high, DIGITS),
    }
