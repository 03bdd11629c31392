"""How well scores tell pairs that go together from those that do not: the area under the ROC curve.

It is the chance that a random pair that goes together scores higher than a random one that does not, ties counting
half (Hanley and McNeil 1982): 1/2 for scores that say nothing. Labels are 1 and 0.

A pair has two products, and pairs that share one are not independent. The interval is therefore drawn twice,
clustered by the product of each pair's first item and by that of its second, and the wider end of the two counts. On
synthetic pairs (600 to 950 among 100 to 600 products, with and without effects of products) 95 % intervals held the
true value in 92 to 97 % of 250 draws; clustered by the first item alone, in 90 to 96 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lib.base.errors import ConfigError
from lib.evaluation.bootstrap import LEVEL, draw_counts

IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]

_BLOCK_CELLS = 1 << 21  # weights held at once (16 MiB)


@dataclass(frozen=True)
class AucIntervals:
    """95 % percentile intervals, each (low, high)."""

    first: tuple[float, float]
    second: tuple[float, float]
    delta: tuple[float, float]


def pair_auc(scores: ScoreArray, labels: IntArray) -> float:
    """Area under the ROC curve.

    Args:
        scores: (n_pairs,) float64, higher is better.
        labels: (n_pairs,) 1 or 0.

    Returns:
        In [0, 1]; NaN when one of the labels is missing.

    >>> pair_auc(np.array([0.9, 0.2, 0.2, 0.1]), np.array([1, 1, 0, 0]))
    0.875
    """
    return float(weighted_aucs(scores, labels, np.ones((1, len(scores))))[0])


def auc_within(scores: ScoreArray, labels: IntArray, groups: IntArray) -> tuple[float, int]:
    """The same over comparisons of two pairs of one group only.

    Args:
        scores, labels: as in `pair_auc`.
        groups: (n_pairs,) the group of each pair, for example the two categories.

    Returns:
        The area, NaN without a comparison; and the number of comparisons.
    """
    won, compared = 0.0, 0
    for group in np.unique(groups):
        here = groups == group
        n = int(labels[here].sum()) * int((1 - labels[here]).sum())
        if n:
            won += n * pair_auc(scores[here], labels[here])
            compared += n
    return (won / compared if compared else float("nan")), compared


def auc_intervals(
    first: ScoreArray,
    second: ScoreArray,
    labels: IntArray,
    products: IntArray,
    *,
    resamples: int,
    rng: np.random.Generator,
) -> AucIntervals:
    """Intervals of two scores of the same pairs, and of first minus second: the same products are drawn for both.

    Args:
        first, second: (n_pairs,) scores of two models.
        labels: (n_pairs,) 1 or 0, of either at least one.
        products: (n_pairs, 2) codes of the products of both items.
        resamples: draws per clustering.
        rng: source of randomness.

    Raises:
        ConfigError: shapes that do not fit.
    """
    if products.shape != (len(labels), 2) or not len(first) == len(second) == len(labels):
        raise ConfigError(f"products: expected two codes per pair, ({len(labels)}, 2), got {products.shape}")
    lows, highs = np.full(3, np.inf), np.full(3, -np.inf)
    for column in range(2):
        _, codes = np.unique(products[:, column], return_inverse=True)
        drawn = _resampled((first, second), labels, codes, resamples=resamples, rng=rng)
        drawn = np.column_stack([drawn, drawn[:, 0] - drawn[:, 1]])
        drawn = drawn[~np.isnan(drawn).any(axis=1)]
        if len(drawn):
            low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
            lows, highs = np.minimum(lows, low), np.maximum(highs, high)
    ends = [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]
    return AucIntervals(*ends)


def weighted_aucs(scores: ScoreArray, labels: IntArray, weights: ScoreArray) -> ScoreArray:
    """The area for each of many weightings of the pairs.

    Args:
        scores, labels: (n_pairs,) as in `pair_auc`.
        weights: (n_weightings, n_pairs), at least 0.

    Returns:
        (n_weightings,); NaN where a label has no weight.
    """
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], labels[order] == 1
    weights = weights[:, order]
    # weight of the negatives before each place
    before = np.zeros((len(weights), len(scores) + 1))
    np.cumsum(np.where(positive, 0.0, weights), axis=1, out=before[:, 1:])
    lower = before[:, np.searchsorted(ordered, ordered[positive], side="left")]
    not_higher = before[:, np.searchsorted(ordered, ordered[positive], side="right")]
    won = np.einsum("wp,wp->w", weights[:, positive], (lower + not_higher) / 2.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        areas: ScoreArray = won / (weights[:, positive].sum(axis=1) * before[:, -1])
    return areas


def _resampled(
    scores: tuple[ScoreArray, ScoreArray],
    labels: IntArray,
    clusters: IntArray,
    *,
    resamples: int,
    rng: np.random.Generator,
) -> ScoreArray:
    """(resamples, 2): both areas in each draw of clusters."""
    n_clusters, parts = int(clusters.max()) + 1, []
    step = max(_BLOCK_CELLS // len(labels), 1)
    for start in range(0, resamples, step):
        weights = draw_counts(n_clusters, min(step, resamples - start), rng)[:, clusters]
        parts.append(np.column_stack([weighted_aucs(of_model, labels, weights) for of_model in scores]))
    return np.concatenate(parts)
