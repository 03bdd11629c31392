"""`changes.html`: which queries the protocol model fixed, broke, or left as they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.report.cards import Card, Deck, make_deck
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
) -> str:
    """The page as HTML.

    Args:
        counts: label -> what `find_changes` returned, for the table.
        chosen: what `choose_changes` returned, for the cards.
        label: that of `chosen`.
        items: a row per item with `item_id`, `text` and the label columns.
        images: encoded pictures of `shown_items`.
    """
    deck = make_deck(items[items["item_id"].isin(set(shown_items(chosen)))], thumbnails(images))
    sections = []
    for kind, note in KINDS.items():
        part = chosen[chosen["kind"] == kind]
        total = int((counts[label]["kind"] == kind).sum())
        cards = [_card(row, deck, label) for _, row in part.iterrows()]
        sections.append({"name": f"{label}: {kind}", "note": f"{len(cards)} of {total}; {note}", "cards": cards})
    values = {
        "title": "What the protocol model changed",
        "subtitle": "Test queries: the baseline's results above, the protocol model's below; first ones outlined.",
        "counts": [_count_row(name, changes) for name, changes in counts.items()],
        "sections": sections,
        "legend_labels": list(LABELS),
    }
    return render(TEMPLATE, values)


def _count_row(label: str, changes: pd.DataFrame) -> dict[str, Any]:
    found = changes["kind"].value_counts()
    names = {"fixed": "fixed", "broken": "broken", "right": "still right", "wrong": "still wrong"}
    return {"label": label, "n": len(changes)} | {key: int(found.get(kind, 0)) for key, kind in names.items()}


def _card(change: pd.Series, deck: Deck, label: str) -> dict[str, Any]:
    query_id = str(change["query_id"])
    sides: list[dict[str, Any]] = []
    first: dict[str, str] = {}
    for name in ("baseline", "protocol"):
        pairs = list(zip(change[f"{name}_ids"], change[f"{name}_scores"], strict=True))[:SHOWN]
        results = [deck.result(item_id, query_id, float(score)) for item_id, score in pairs]
        hits = f"{change[f'{name}_hits']} of {len(change[f'{name}_ids'])}"
        sides.append({"name": name, "hits": hits, "results": results})
        first[name] = _value(results, label)
    return {
        "verdict": _verdict(str(change["kind"]), first, str(deck.items.at[query_id, LABELS[label]])),
        "text": deck.text(query_id),
        "query": deck.query(query_id),
        "sides": sides,
    }


def _value(results: list[Card], label: str) -> str:
    """What the first result shows for a label that the query has."""
    for chip in results[0].chips if results else ():
        if chip.label == label and chip.kind != "unknown":
            return chip.value
    return f"one of unknown {label}"


def _verdict(kind: str, first: Mapping[str, str], own: str) -> str:
    """One sentence that names the confuser."""
    if kind == "fixed":
        return f"Fixed: {first['baseline']} lost to {own}."
    if kind == "broken":
        return f"Broken: {first['protocol']} won over {own}."
    if kind == "still wrong":
        return f"Still wrong: {first['baseline']}, then {first['protocol']}, for {own}."
    return f"Still right: {own}."
