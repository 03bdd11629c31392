"""`gallery.html`: what one model retrieves, weak classes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.report.cards import Deck, make_deck
from lib.report.page import LABELS, render, thumbnails

SPLIT, MODE = "test", "image_to_image"
TEMPLATE, MACROS = "gallery.html.j2", "item.html.j2"
CLASS_COLUMNS = ("category2", *(column for column in LABELS.values() if column != "category2"))
"""The first of these that any test query knows divides the queries into classes."""
WEIGHT_OF_MEAN = 5
"""A class is ranked as if it had so many more queries of average precision: one bad query makes no weak class."""


def rank_classes(per_query: pd.DataFrame) -> pd.DataFrame:
    """The classes of the test queries, weak ones first.

    The precision of a class is the mean over its queries and the labels that they know; classes are ordered by it
    after `WEIGHT_OF_MEAN` queries of average precision were added to each, and by name where that is equal. Queries
    whose class is not known come last.

    Args:
        per_query: `per_query` of an evaluation.

    Returns:
        A row per class: `class_column` (a meta column), `class_name`, `precision` (fraction), `n_queries`. No test
        query gives no row.
    """
    table = _class_of(per_query)
    if table.empty:
        return pd.DataFrame(columns=["class_column", "class_name", "precision", "n_queries"])
    hits = table[[f"{label}_hits" for label in LABELS]].to_numpy(dtype=np.float64, na_value=np.nan)
    lengths = np.maximum(table["retrieved_ids"].map(len).to_numpy(), 1)
    counted = ~np.isnan(hits)
    shares = np.where(counted, hits, 0.0).sum(axis=1) / lengths / np.maximum(counted.sum(axis=1), 1)
    grouped = pd.Series(shares).groupby([table["class_column"], table["class_name"]])
    classes = grouped.agg(precision="mean", n_queries="size").reset_index()
    n = classes["n_queries"]
    rank = (n * classes["precision"] + WEIGHT_OF_MEAN * shares.mean()) / (n + WEIGHT_OF_MEAN)
    nameless = classes["class_name"] == _nameless(classes["class_column"].iloc[0])
    classes = classes.assign(rank=rank.round(9), precision=classes["precision"].round(9), nameless=nameless)
    order = classes.sort_values(["nameless", "rank", "class_name"], kind="stable")
    return order.drop(columns=["rank", "nameless"]).reset_index(drop=True)


def choose_queries(per_query: pd.DataFrame, *, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Choose test queries to show: one of each class in turn, weak classes first, until `count` are chosen.

    Within a class they are drawn at random; the result is sorted by class, weak ones first.

    Returns:
        Rows of `per_query` with `class_column` and `class_name`.
    """
    table = _class_of(per_query)
    if table.empty or not count:
        return table.head(0)
    places = {name: place for place, name in enumerate(rank_classes(per_query)["class_name"])}
    table = table.iloc[rng.permutation(len(table))]
    table = table.assign(turn=table.groupby("class_name").cumcount(), place=table["class_name"].map(places))
    table = table.sort_values(["turn", "place"], kind="stable").head(count)
    return table.sort_values(["place", "turn"], kind="stable").drop(columns=["turn", "place"]).reset_index(drop=True)


def shown_items(chosen: pd.DataFrame) -> list[str]:
    """Ids of every picture on the page, sorted."""
    return sorted({*chosen["query_id"], *(i for ids in chosen["retrieved_ids"] for i in ids)})


def gallery_page(
    chosen: pd.DataFrame,
    *,
    name: str,
    per_query: pd.DataFrame,
    metrics: Mapping[str, Any],
    items: pd.DataFrame,
    images: Mapping[str, bytes],
    pattern_only: Sequence[str],
) -> str:
    """The page as HTML.

    Args:
        chosen: what `choose_queries` returned.
        name: of the model.
        per_query: of the evaluation, for the ranking of the classes.
        metrics: `metrics.json`; its test numbers of image-to-image stand on top.
        items: a row per item with `item_id`, `text` and the label columns.
        images: encoded pictures of `shown_items`.
        pattern_only: categories that say nothing about the category.
    """
    deck = make_deck(items, shown_items(chosen), thumbnails(images), pattern_only=pattern_only)
    classes = rank_classes(per_query)
    numbers = metrics.get(SPLIT, {}).get(MODE, {})
    parts = {str(key): part for key, part in chosen.groupby("class_name", sort=False)}
    values = {
        "title": f"Evaluation gallery: {name}",
        "n_shown": len(chosen),
        "n_queries": int(classes["n_queries"].sum()),
        "metrics": [_metric_row(metric, number) for metric, number in numbers.items()],
        "skipped": _by_reason(metrics.get("skipped", {}).get(SPLIT, {}).get(MODE, {})),
        "class_label": _label_of(classes["class_column"].iloc[0]) if len(classes) else "",
        "weight_of_mean": WEIGHT_OF_MEAN,
        "classes": [_class_row(row, place, parts) for place, row in enumerate(classes.itertuples(index=False))],
        "groups": [_group(place, row, parts, deck) for place, row in enumerate(classes.itertuples(index=False))],
    }
    return render(TEMPLATE, values)


def _class_of(per_query: pd.DataFrame) -> pd.DataFrame:
    """The test queries with their class."""
    table = per_query[(per_query["split"] == SPLIT) & (per_query["mode"] == MODE)].reset_index(drop=True)
    known = (column for column in CLASS_COLUMNS if column in table and table[column].notna().any())
    column = next(known, CLASS_COLUMNS[0])
    return table.assign(class_column=column, class_name=table[column].fillna(_nameless(column)))


def _nameless(column: str) -> str:
    return f"no {_label_of(column)}"


def _label_of(column: str) -> str:
    return next(label for label, name in LABELS.items() if name == column)


def _metric_row(name: str, numbers: Mapping[str, float]) -> dict[str, str]:
    def points(value: float) -> str:
        return f"{100 * value:.1f}"

    return {
        "name": name,
        "value": points(numbers["value"]),
        "interval": f"{points(numbers['low'])}–{points(numbers['high'])}",
        "low": points(numbers["low"]),
        "width": points(numbers["high"] - numbers["low"]),
        "n": str(numbers["n_queries"]),
        "chance": points(numbers["chance"]),
        "ceiling": points(numbers["ceiling"]),
    }


def _by_reason(skipped: Mapping[str, str]) -> list[dict[str, str]]:
    """What could not be measured, each reason once."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return [{"names": ", ".join(found), "reason": reason} for reason, found in names.items()]


def _class_row(row: Any, place: int, parts: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    shown = len(parts.get(str(row.class_name), ()))
    precision = f"{100 * row.precision:.1f}"
    return {"name": row.class_name, "place": place, "shown": shown, "precision": precision, "n": row.n_queries}


def _group(place: int, row: Any, parts: Mapping[str, pd.DataFrame], deck: Deck) -> dict[str, Any]:
    name = str(row.class_name)
    cards = []
    for _, query in parts[name].iterrows() if name in parts else ():
        cards.append(deck.compare(str(query["query_id"]), list(query["retrieved_ids"]), list(query["scores"])))
    return _class_row(row, place, parts) | {"cards": cards}
