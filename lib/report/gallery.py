"""`gallery.html`: what one model retrieves, weak classes first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.report.cards import Deck, make_deck
from lib.report.page import LABELS, render, thumbnails

SPLIT, MODE = "test", "image_to_image"
TEMPLATE, MACROS = "gallery.html.j2", "item.html.j2"


def choose_queries(per_query: pd.DataFrame, *, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Choose test queries to show, classes (`category2`) with the lowest precision first.

    One query of each class in turn, drawn at random within the class, until `count` are chosen; the result
    is sorted by class, weak ones first. The precision of a class is the mean over its queries and the labels
    that they know.

    Returns:
        Rows of `per_query` with two more columns: `class_name` and `class_precision` (fraction).
    """
    table = per_query[(per_query["split"] == SPLIT) & (per_query["mode"] == MODE)].reset_index(drop=True)
    if table.empty or not count:
        return table.head(0).assign(class_name="", class_precision=0.0)
    hits = table[[f"{label}_hits" for label in LABELS]].to_numpy(dtype=np.float64, na_value=np.nan)
    lengths = np.maximum(table["retrieved_ids"].map(len).to_numpy(), 1)
    table["class_name"] = table["category2"].fillna("no category")
    counted = ~np.isnan(hits)
    shares = np.where(counted, hits, 0.0).sum(axis=1) / lengths / np.maximum(counted.sum(axis=1), 1)
    table["class_precision"] = pd.Series(shares).groupby(table["class_name"]).transform("mean").round(9)
    table["turn"] = 0
    table = table.iloc[rng.permutation(len(table))]
    table["turn"] = table.groupby("class_name").cumcount()
    table = table.sort_values(["turn", "class_precision", "class_name"], kind="stable").head(count)
    table = table.sort_values(["class_precision", "class_name", "turn"], kind="stable")
    return table.drop(columns="turn").reset_index(drop=True)


def shown_items(chosen: pd.DataFrame) -> list[str]:
    """Ids of every picture on the page, sorted."""
    return sorted({*chosen["query_id"], *(i for ids in chosen["retrieved_ids"] for i in ids)})


def gallery_page(
    chosen: pd.DataFrame,
    *,
    name: str,
    metrics: Mapping[str, Any],
    items: pd.DataFrame,
    images: Mapping[str, bytes],
) -> str:
    """The page as HTML.

    Args:
        chosen: what `choose_queries` returned.
        name: of the model.
        metrics: `metrics.json`; its test numbers of image-to-image stand on top.
        items: a row per item with `item_id`, `text` and the label columns.
        images: encoded pictures of `shown_items`.
    """
    deck = make_deck(items[items["item_id"].isin(set(shown_items(chosen)))], thumbnails(images))
    numbers = metrics.get(SPLIT, {}).get(MODE, {})
    values = {
        "title": f"Evaluation gallery: {name}",
        "subtitle": f"{len(chosen)} of the test queries with their first results; the gallery is the train split, "
        "without the query's own product.",
        "metrics": [_metric_row(metric, number) for metric, number in numbers.items()],
        "skipped": metrics.get("skipped", {}).get(SPLIT, {}).get(MODE, {}),
        "groups": [_group(str(key), part, deck) for key, part in chosen.groupby("class_name", sort=False)],
        "legend_labels": list(LABELS),
    }
    return render(TEMPLATE, values)


def _metric_row(name: str, numbers: Mapping[str, float]) -> dict[str, str]:
    def points(value: float) -> str:
        return f"{100 * value:.1f}"

    return {
        "name": name,
        "value": points(numbers["value"]),
        "interval": f"{points(numbers['low'])} – {points(numbers['high'])}",
        "low": points(numbers["low"]),
        "width": points(numbers["high"] - numbers["low"]),
        "n": str(numbers["n_queries"]),
        "chance": points(numbers["chance"]),
        "ceiling": points(numbers["ceiling"]),
    }


def _group(name: str, queries: pd.DataFrame, deck: Deck) -> dict[str, Any]:
    precision = 100 * float(queries["class_precision"].iloc[0])
    cards = [
        {
            "query": deck.query(str(row["query_id"])),
            "text": deck.text(str(row["query_id"])),
            "results": deck.results(row, shown=len(row["retrieved_ids"])),
        }
        for _, row in queries.iterrows()
    ]
    return {"name": name, "note": f"{precision:.1f} % of the values in its results match", "cards": cards}
