"""`gallery.html` of the two-tower model: what it finds and misses, beside the frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.report.page import render, thumbnails

TEMPLATE, MACROS, LAYOUT = "picture_gallery.html.j2", "item.html.j2", "page.html.j2"
HIT = "hit_rate@10"


def choose_shown(per_query: pd.DataFrame, *, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """At most `count` queries, half of them hits of the trained model where there are so many, the others misses.

    Args:
        per_query: a row per query and model, see `lib.evaluation.picture_recall.per_query_table`.
        count: queries to show.
        rng: source of randomness.

    Returns:
        Rows of the trained model, hits first.
    """
    trained = per_query[per_query["model"] == "trained"].reset_index(drop=True)
    parts = [trained[trained[HIT] > 0], trained[trained[HIT] == 0]]
    n_hits = min(max(count - count // 2, count - len(parts[1])), len(parts[0]))
    chosen = [
        part.iloc[np.sort(rng.permutation(len(part))[:n])]
        for part, n in zip(parts, (n_hits, count - n_hits), strict=True)
    ]
    return pd.concat(chosen, ignore_index=True)


def shown_pictures(chosen: pd.DataFrame, per_query: pd.DataFrame) -> list[str]:
    """Names of every picture on the page, sorted."""
    rows = per_query[per_query["query"].isin(chosen["query"])]
    lists = (name for column in ("truths", "retrieved") for names in rows[column] for name in names)
    return sorted({*rows["query"], *lists})


def picture_gallery(
    chosen: pd.DataFrame,
    per_query: pd.DataFrame,
    *,
    metrics: Mapping[str, Mapping[str, float]],
    images: Mapping[str, bytes],
    n_candidates: int,
) -> str:
    """The page as HTML.

    Args:
        chosen: what `choose_shown` returned.
        per_query: of the evaluation.
        metrics: metric -> numbers.
        images: encoded pictures of `shown_pictures`.
        n_candidates: what can be found.
    """
    pictures = thumbnails(images)
    trained = per_query[per_query["model"] == "trained"]
    by_query = {(row["query"], row["model"]): row for row in _records(per_query)}

    def shown(name: str, *, score: float | None = None, hit: bool = False) -> dict[str, Any]:
        return {"item_id": name, "picture": pictures.get(name), "alt": name, "text": "", "score": score, "hit": hit}

    def results(query: str, model: str) -> dict[str, Any]:
        row = by_query[query, model]
        wanted = set(row["truths"])
        found = zip(row["retrieved"], row["scores"], strict=True)
        return {"name": model, "found": [shown(name, score=score, hit=name in wanted) for name, score in found]}

    def cards(rows: pd.DataFrame) -> list[dict[str, Any]]:
        return [
            {
                "query": shown(row["query"]),
                "truths": [shown(name) for name in row["truths"]],
                "results": [results(row["query"], model) for model in ("trained", "frozen")],
            }
            for row in _records(rows)
        ]

    found, shown_hits = trained[HIT] > 0, chosen[HIT] > 0
    groups = [
        {"name": "Found", "n": int(found.sum()), "cards": cards(chosen[shown_hits])},
        {"name": "Missed", "n": int((~found).sum()), "cards": cards(chosen[~shown_hits])},
    ]
    values = {
        "title": "Two-tower gallery",
        "n_shown": len(chosen),
        "n_queries": len(trained),
        "n_candidates": f"{n_candidates:,}",
        "metrics": [_numbers(name, row) for name, row in metrics.items()],
        "groups": groups,
    }
    return render(TEMPLATE, values)


def nothing_to_show(reason: str) -> str:
    """The page where nothing was evaluated."""
    values: dict[str, Sequence[Any] | str | int] = {"n_shown": 0, "n_queries": 0, "n_candidates": "0"}
    return render(TEMPLATE, {"title": f"Two-tower gallery: {reason}", "metrics": [], "groups": [], **values})


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _numbers(name: str, row: Mapping[str, float]) -> dict[str, str]:
    def points(value: float, sign: str = "") -> str:
        return f"{100 * value:{sign}.1f}"

    numbers = {"name": name, "chance": points(row["chance"]), "ceiling": points(row["ceiling"])}
    for model, sign in (("trained", ""), ("frozen", ""), ("delta", "+")):
        numbers[model] = points(row[model], sign)
        numbers[f"{model}_interval"] = f"{points(row[f'{model}_low'], sign)} to {points(row[f'{model}_high'], sign)}"
    return numbers
