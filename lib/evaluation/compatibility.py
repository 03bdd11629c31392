"""Quick evaluation of a compatibility head: does it tell held-out pairs apart, and better than the embeddings do?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.base.artifacts import FloatArray
from lib.base.params import Bootstrap
from lib.evaluation.pair_auc import auc_intervals, auc_within, pair_auc

IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]

SCORE_DECIMALS = 9
DECIMALS = 6
"""Written numbers are rounded: the last bits of a sum depend on the number of threads."""


class PairEncoder(Protocol):
    """Anything that re-encodes embeddings."""

    def encode(self, embeddings: FloatArray) -> FloatArray:
        """(n, in_dim) -> (n, out_dim) float32 unit rows."""
        ...


@dataclass(frozen=True)
class HeldOutPairs:
    """The labelled pairs of one split with their embeddings.

    Attributes:
        a, b: (n_pairs, dim) float32, unit rows, of both items of each pair.
        labels: (n_pairs,) 1 goes together, 0 does not.
        products: (n_pairs, 2) codes of both items' products.
        categories: (n_pairs,) a code for the two categories, whichever comes first.
    """

    a: FloatArray
    b: FloatArray
    labels: IntArray
    products: IntArray
    categories: IntArray

    @property
    def has_both_labels(self) -> bool:
        """Whether there is anything to tell apart."""
        return 0 < int(self.labels.sum()) < len(self.labels)

    def auc(self, encoder: PairEncoder) -> float | None:
        """Area under the ROC curve of the encoder's cosines, None without pairs of both labels."""
        return pair_auc(self.cosines(encoder), self.labels) if self.has_both_labels else None

    def cosines(self, encoder: PairEncoder | None) -> ScoreArray:
        """(n_pairs,) cosines of the encoder's outputs, of the embeddings themselves when it is None."""
        a, b = (self.a, self.b) if encoder is None else (encoder.encode(self.a), encoder.encode(self.b))
        cosines: ScoreArray = np.round(np.multiply(a, b, dtype=np.float64).sum(axis=1), SCORE_DECIMALS)
        return cosines + 0.0  # no negative zero


def held_out_pairs(
    pairs: pd.DataFrame, items: pd.DataFrame, embed: Callable[[Sequence[str], int], FloatArray]
) -> HeldOutPairs:
    """Look up what belongs to the pairs of a split.

    Args:
        pairs: `a_id`, `b_id`, `label`; may be empty.
        items: `item_id`, `product_id`, `category2` of that split at least.
        embed: (item ids, epoch 0) -> their embeddings.
    """
    both = [items.set_index("item_id").loc[pairs[column]] for column in ("a_id", "b_id")]
    products = pd.factorize(pd.concat([part["product_id"] for part in both], ignore_index=True))[0]
    names = [part["category2"].fillna("").tolist() for part in both]
    combinations = ["\0".join(sorted(two)) for two in zip(*names, strict=True)]
    return HeldOutPairs(
        embed(pairs["a_id"].tolist(), 0),
        embed(pairs["b_id"].tolist(), 0),
        pairs["label"].to_numpy(dtype=np.int64),
        products.astype(np.int64).reshape(2, -1).T,
        pd.factorize(np.array(combinations, dtype=object))[0].astype(np.int64),
    )


def measure_head(
    held_out: Mapping[str, HeldOutPairs], encoder: PairEncoder, *, bootstrap: Bootstrap
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Compare the head's cosines with those of the embeddings themselves, split by split.

    Returns:
        What `metrics.json` holds of each split, or `{"skipped": reason}` for one without pairs of both labels:
        `auc` of the head, `baseline_auc` of the embeddings and `delta`, each with `_low` and `_high` (95 %, by
        product, see `lib.evaluation.pair_auc`); `within_categories_auc` and its baseline, which compare only
        pairs of the same two categories, where there are such (`comparisons_within_categories`); the mean
        cosine of either label; and the number of pairs of either label. And for the picture, per split that was
        not skipped: `labels`, `baseline` and `head`, an array each.
    """
    figures: dict[str, Any] = {}
    shown: dict[str, dict[str, Any]] = {}
    for split, pairs in held_out.items():
        n_positive = int(pairs.labels.sum())
        if not pairs.has_both_labels:
            n_negative = len(pairs.labels) - n_positive
            reason = f"{n_positive} pairs go together and {n_negative} do not; both are needed"
            figures[split] = {"skipped": reason}
            continue
        baseline, head = pairs.cosines(None), pairs.cosines(encoder)
        figures[split] = _measure(pairs, baseline, head, bootstrap)
        shown[split] = {"labels": pairs.labels, "baseline": baseline, "head": head}
    return figures, shown


def _measure(pairs: HeldOutPairs, baseline: ScoreArray, head: ScoreArray, bootstrap: Bootstrap) -> dict[str, float]:
    labels = pairs.labels
    areas = [pair_auc(scores, labels) for scores in (head, baseline)]
    rng = np.random.default_rng(bootstrap.seed)
    intervals = auc_intervals(head, baseline, labels, pairs.products, resamples=bootstrap.resamples, rng=rng)
    numbers: dict[str, float] = {}
    for name, value, (low, high) in (
        ("auc", areas[0], intervals.first),
        ("baseline_auc", areas[1], intervals.second),
        ("delta", areas[0] - areas[1], intervals.delta),
    ):
        numbers |= {name: value, f"{name}_low": low, f"{name}_high": high}
    within, comparisons = auc_within(head, labels, pairs.categories)
    if comparisons:
        numbers["within_categories_auc"] = within
        numbers["within_categories_baseline_auc"] = auc_within(baseline, labels, pairs.categories)[0]
    numbers["mean_cosine_goes_together"] = float(head[labels == 1].mean())
    numbers["mean_cosine_does_not"] = float(head[labels == 0].mean())
    rounded = {name: round(value, DECIMALS) + 0.0 for name, value in numbers.items()}
    counts = {"comparisons_within_categories": comparisons, "n_goes_together": int(labels.sum())}
    return rounded | counts | {"n_does_not": int((1 - labels).sum())}


def summary(report: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Two lines: the pairs that were used, and test in figures; one when nothing was trained."""
    if "skipped" in report:
        return f"nothing trained: {report['skipped']}"
    used = f"{report['used']} of {report['rows']} pairs used, {report['across_splits']} across splits"
    test = figures["test"]
    if "skipped" in test:
        return f"{used}, {report['unusable']} unusable\ntest: skipped: {test['skipped']}"
    delta = f"{test['delta']:+.3f}, 95 % [{test['delta_low']:+.3f}, {test['delta_high']:+.3f}]"
    area = f"test AUC {test['baseline_auc']:.3f} -> {test['auc']:.3f} ({delta})"
    return f"{used}, {report['unusable']} unusable\n{area} on {test['n_goes_together'] + test['n_does_not']} pairs"
