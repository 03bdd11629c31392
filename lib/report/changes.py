"""`changes.html`: which queries the protocol model fixed, broke, or left as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.report.cards import Deck, make_deck
from lib.report.page import LABELS, render, thumbnails

SPLIT, MODE = "test", "image_to_image"
TEMPLATE, MACROS = "changes.html.j2", "item.html.j2"
SHOWN = 5
"""Results shown per model."""

KINDS = {
    "fixed": "the baseline's first result was a confuser, which lost to a right one",
    "broken": "a confuser won over the baseline's right first result",
    "still wrong": "both models put a confuser first",
    "still right": "both models put a right result first",
}


def find_changes(baseline: pd.DataFrame, protocol: pd.DataFrame, items: pd.DataFrame, *, label: str) -> pd.DataFrame:
    """Compare the first results of two models on the test queries whose value of a label is known.

    Args:
        baseline: `per_query` of the baseline.
        protocol: `per_query` of the protocol model, the same queries in the same order.
        items: a row per item with `item_id` and the label columns.
        label: a name in `LABELS`. A query with null hits does not count.

    Returns:
        A row per counted query, in order: `query_id`; per model (`baseline`, `protocol`) `_ids`, `_scores`
        and `_hits`; `kind` (a key of `KINDS`); `gain` (protocol hits - baseline hits).
    """
    parts = []
    for table in (baseline, protocol):
        chosen = table[(table["split"] == SPLIT) & (table["mode"] == MODE) & table[f"{label}_hits"].notna()]
        parts.append(chosen.reset_index(drop=True))
    before, after = parts
    values = dict(zip(items["item_id"], items[LABELS[label]], strict=True))
    own = before["query_id"].map(values)
    right = [
        np.array([len(ids) > 0 and values[ids[0]] == v for ids, v in zip(t["retrieved_ids"], own, strict=True)])
        for t in (before, after)
    ]
    kinds = {
        (False, True): "fixed",
        (True, False): "broken",
        (False, False): "still wrong",
        (True, True): "still right",
    }
    changes = pd.DataFrame({"query_id": before["query_id"]})
    for name, table in (("baseline", before), ("protocol", after)):
        changes[f"{name}_ids"], changes[f"{name}_scores"] = table["retrieved_ids"], table["scores"]
        changes[f"{name}_hits"] = table[f"{label}_hits"].astype(np.int64)
    changes["kind"] = [kinds[bool(b), bool(a)] for b, a in zip(*right, strict=True)]
    changes["gain"] = changes["protocol_hits"] - changes["baseline_hits"]
    return changes


def find_all_changes(baseline: pd.DataFrame, protocol: pd.DataFrame, items: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`find_changes` of every label."""
    return {label: find_changes(baseline, protocol, items, label=label) for label in LABELS}


def choose_changes(changes: pd.DataFrame, *, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """At most `count` queries of each kind of change, drawn at random, those that changed most first."""
    shuffled = changes.iloc[rng.permutation(len(changes))]
    drawn = shuffled.groupby("kind", sort=False).head(count).reset_index(drop=True)
    order = drawn.assign(size=-drawn["gain"].abs()).sort_values(["size", "query_id"], kind="stable")
    return order.drop(columns="size").reset_index(drop=True)


def shown_items(chosen: pd.DataFrame) -> list[str]:
    """Ids of every picture on the page, sorted."""
    shown = set(chosen["query_id"])
    for column in ("baseline_ids", "protocol_ids"):
        shown |= {i for ids in chosen[column] for i in ids[:SHOWN]}
    return sorted(shown)


def changes_page(
    counts: Mapping[str, pd.DataFrame],
    chosen: pd.DataFrame,
    *,
    label: str,
    items: pd.DataFrame,
    images: Mapping[str, bytes],
    pattern_only: Sequence[str],
) -> str:
    """The page as HTML.

    Args:
        counts: label -> what `find_changes` returned, for the table.
        chosen: what `choose_changes` returned, for the cards.
        label: that of `chosen`.
        items: a row per item with `item_id`, `text` and the label columns.
        images: encoded pictures of `shown_items`.
        pattern_only: categories that say nothing about the category.
    """
    deck = make_deck(items, shown_items(chosen), thumbnails(images), pattern_only=pattern_only)
    values = {
        "title": "What the protocol model changed",
        "label": label,
        "shown": SHOWN,
        "counts": [_count_row(name, changes) for name, changes in counts.items() if len(changes)],
        "unknown": [name for name, changes in counts.items() if not len(changes)],
        "sections": [_section(kind, counts[label], chosen, deck, label) for kind in KINDS],
    }
    return render(TEMPLATE, values)


def _section(kind: str, changes: pd.DataFrame, chosen: pd.DataFrame, deck: Deck, label: str) -> dict[str, Any]:
    part = chosen[chosen["kind"] == kind]
    return {
        "name": kind,
        "note": KINDS[kind],
        "total": int((changes["kind"] == kind).sum()),
        "cards": [_card(row, deck, label) for _, row in part.iterrows()],
    }


def _count_row(label: str, changes: pd.DataFrame) -> dict[str, Any]:
    found = changes["kind"].value_counts()
    names = {"fixed": "fixed", "broken": "broken", "right": "still right", "wrong": "still wrong"}
    return {"label": label, "n": len(changes)} | {key: int(found.get(kind, 0)) for key, kind in names.items()}


def _card(change: pd.Series, deck: Deck, label: str) -> dict[str, Any]:
    query_id = str(change["query_id"])
    sides: list[dict[str, Any]] = []
    for name in ("baseline", "protocol"):
        ids, scores = list(change[f"{name}_ids"]), list(change[f"{name}_scores"])
        compared = deck.compare(query_id, ids[:SHOWN], scores[:SHOWN])
        sides.append({"name": name, "hits": int(change[f"{name}_hits"]), "n": len(ids), "compared": compared})
    return {"moves": _moves(change, deck, query_id, label), "query": sides[0]["compared"].query, "sides": sides}


def _moves(change: pd.Series, deck: Deck, query_id: str, label: str) -> list[dict[str, Any]]:
    """Where the first result of each model stood in the other's ranking: the confuser and who took its place."""
    ids = {name: list(change[f"{name}_ids"]) for name in ("baseline", "protocol")}
    first = dict.fromkeys(found[0] for found in ids.values() if found)
    moves = []
    for item_id in first:
        mark = deck.compare(query_id, [item_id], [0.0]).mark(0, label)
        ranks = {name: found.index(item_id) + 1 if item_id in found else 0 for name, found in ids.items()}
        beyond = {name: len(found) for name, found in ids.items()}
        right = mark.kind == "hit"
        moves.append({"id": item_id, "mark": mark, "right": right, "ranks": ranks, "beyond": beyond})
    return moves
