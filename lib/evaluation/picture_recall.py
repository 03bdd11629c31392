"""How well photos of one side find those of the other, beside the frozen backbone and chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.base.artifacts import FloatArray
from lib.base.params import Bootstrap
from lib.catalog.picture_products import products_of
from lib.evaluation.bootstrap import clustered_intervals
from lib.evaluation.measure import rounded
from lib.evaluation.metrics import (
    full_ceiling,
    hit_rate_at_k,
    hit_rate_chance,
    recall_at_k,
    recall_ceiling,
    recall_chance,
)
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import TopK

IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]
KS = (1, 5, 10)
METRICS = tuple(f"{name}@{k}" for name in ("recall", "hit_rate") for k in KS)
MODELS = ("trained", "frozen")
_COLUMNS = ("query", "model", "truths", "retrieved", "scores")


class Encode(Protocol):
    """Embeds pictures of one side."""

    def __call__(self, side: Any, numbers: IntArray, /) -> FloatArray:
        """("query" or "candidate", (n,) picture numbers) -> (n, dim) float32 unit rows."""
        ...


@dataclass(frozen=True)
class PictureTask:
    """What has to be found where; a query never finds its own picture.

    Attributes:
        queries: (n_queries,) picture numbers, each once.
        candidates: (n_candidates,) picture numbers, each once.
        relevant: (n_truths, 2) places in `queries` and `candidates`.
        clusters: (n_queries,) codes of the products that are asked for, which a bootstrap draws as a whole.
    """

    queries: IntArray
    candidates: IntArray
    relevant: IntArray
    clusters: IntArray

    @classmethod
    def of(cls, truths: IntArray, candidates: IntArray) -> PictureTask:
        """From (n_truths, 2) picture numbers of query and candidate; every candidate is among `candidates`."""
        queries, first, places = np.unique(truths[:, 0], return_index=True, return_inverse=True)
        order = np.argsort(candidates, kind="stable")
        found = order[np.searchsorted(candidates[order], truths[:, 1])]
        return cls(queries, candidates, np.column_stack([places, found]), products_of(truths)[first])

    @property
    def n_relevant(self) -> IntArray:
        """(n_queries,) candidates that a query has to find."""
        return np.bincount(self.relevant[:, 0], minlength=len(self.queries)).astype(np.int64)

    @property
    def n_allowed(self) -> IntArray:
        """(n_queries,) candidates that a query may find: all but its own picture."""
        return len(self.candidates) - np.isin(self.queries, self.candidates).astype(np.int64)

    def rank(self, queries: FloatArray, candidates: FloatArray, *, k: int = max(KS)) -> TopK:
        """The k best candidates of each query, as `exact_top_k` orders them."""
        return exact_top_k(queries, candidates, k=k, query_products=self.queries, gallery_products=self.candidates)[
            "all"
        ]

    def hits(self, top: TopK) -> npt.NDArray[np.bool_]:
        """(n_queries, k) whether the result at that rank is one to be found."""
        width = len(self.candidates)
        wanted = self.relevant[:, 0] * width + self.relevant[:, 1]
        keys = np.arange(len(top.rows))[:, None] * width + top.rows
        return np.isin(keys, wanted) & (top.rows >= 0)

    def scores(self, top: TopK) -> ScoreArray:
        """(n_queries, len(METRICS)) per query."""
        hits, n = self.hits(top), self.n_relevant
        return np.column_stack(
            [*(recall_at_k(hits[:, :k], n) for k in KS), *(hit_rate_at_k(hits[:, :k], n) for k in KS)]
        )


def validation_recall(task: PictureTask) -> Callable[[Encode], dict[str, float]]:
    """A function from an encoder to its mean metrics on a task."""

    def validate(encode: Encode) -> dict[str, float]:
        top = task.rank(encode("query", task.queries), encode("candidate", task.candidates))
        return {name: rounded(value) for name, value in zip(METRICS, task.scores(top).mean(axis=0), strict=True)}

    return validate


def measure_recall(task: PictureTask, tops: Mapping[str, TopK], *, bootstrap: Bootstrap) -> dict[str, Any]:
    """Numbers of the trained model beside the frozen backbone's.

    Args:
        task: what was asked.
        tops: results of `trained` and of `frozen`, at least 10 each.
        bootstrap: resamples and seed.

    Returns:
        metric -> `trained`, `frozen` and `delta`, each with `_low` and `_high` (95 %, products drawn as a whole, the
        same ones for all three), `chance` (a random ranking), `ceiling` (where a query has more to find than k) and
        `n_queries`; fractions.
    """
    scores = [task.scores(tops[model]) for model in MODELS]
    values = np.column_stack([*scores, scores[0] - scores[1]])
    intervals = clustered_intervals(
        values, task.clusters, resamples=bootstrap.resamples, rng=np.random.default_rng(bootstrap.seed)
    )
    n, allowed = task.n_relevant, task.n_allowed
    chances = [recall_chance(n, allowed, k=k) for k in KS] + [hit_rate_chance(n, allowed, k=k) for k in KS]
    ceilings = [recall_ceiling(n, k=k) for k in KS] + [full_ceiling(n) for _ in KS]
    figures: dict[str, Any] = {}
    for place, metric in enumerate(METRICS):
        row: dict[str, float] = {}
        for number, name in enumerate((*MODELS, "delta")):
            column = number * len(METRICS) + place
            row[name] = rounded(values[:, column].mean())
            row[f"{name}_low"], row[f"{name}_high"] = (
                rounded(end[column]) for end in (intervals.low, intervals.high)
            )
        row |= {"chance": rounded(chances[place].mean()), "ceiling": rounded(ceilings[place].mean())}
        figures[metric] = row | {"n_queries": len(task.queries)}
    return figures


def per_query_table(task: PictureTask, tops: Mapping[str, TopK], names: Sequence[str]) -> pd.DataFrame:
    """A row per query and model: `query`, `model`, `truths`, `retrieved`, `scores` and the metrics.

    Args:
        task: what was asked.
        tops: model -> its results.
        names: of all pictures, by number.
    """
    rows: list[dict[str, Any]] = []
    truths = task.candidates[task.relevant[:, 1]]
    for model, top in tops.items():
        scores = task.scores(top)
        for query, number in enumerate(task.queries.tolist()):
            there = top.rows[query] >= 0
            rows.append(
                {
                    "query": names[number],
                    "model": model,
                    "truths": [names[one] for one in truths[task.relevant[:, 0] == query].tolist()],
                    "retrieved": [names[one] for one in task.candidates[top.rows[query][there]].tolist()],
                    "scores": top.scores[query][there].tolist(),
                    **dict(zip(METRICS, scores[query].tolist(), strict=True)),
                }
            )
    return pd.DataFrame(rows, columns=[*_COLUMNS, *METRICS])


def no_table() -> pd.DataFrame:
    """`per_query_table` where nothing was asked."""
    return pd.DataFrame(columns=[*_COLUMNS, *METRICS])


def summary(figures: Mapping[str, Any]) -> str:
    """Two lines: Recall@10 of both, and the difference with chance."""
    row = figures["recall@10"]
    both = "; ".join(
        f"{model} {row[model]:.3f}, 95 % [{row[f'{model}_low']:.3f}, {row[f'{model}_high']:.3f}]" for model in MODELS
    )
    delta = f"{row['delta']:+.3f}, 95 % [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
    return f"recall@10: {both}\ndelta {delta} on {row['n_queries']} queries; chance {row['chance']:.4f}"
