"""Scores the product groups that `process_data` derived, and keeps those worth training on.

`product_id` ties items at any confidence, so that no two views straddle a split. Training asks for more: a
group is kept when its key is trustworthy *and* its items agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lib.base.params import Groups

KEY_CONFIDENCE = {"column": 1.0, "same_image": 0.95, "sku": 0.9, "item_id": 0.8, "image_url": 0.7}
"""How far a kind of key is trusted before looking at the data: a product column is a statement, one image
listed twice is nearly one, an SKU is a code made for the purpose, an id suffix a convention, a URL stem a guess.
A key of another name has 0.5; `single` marks items without a sibling."""
OTHER_CONFIDENCE = 0.5
AGREEING = ("category2", "color")
"""Views of one product share these; material or neckline may be unknown in one view and known in another."""


def build_groups(meta: pd.DataFrame, *, params: Groups) -> dict[str, Any]:
    """Audit product groups and choose those to train on.

    The confidence of a group is the base confidence of its key (the weakest one among its items) times its
    agreement: over `category2` and `color`, the mean share of the items with a known value that have the most
    frequent one (a column with fewer than two known values says nothing; a group without any such column has
    its key's mean agreement). The confidence of a key is its base confidence times the mean agreement of its
    groups of two or more.

    A group is kept when its key and itself reach `min_confidence` and it has 2 to `max_size` items.

    Args:
        meta: the train split, with item_id, product_id, product_key, category2, color.
        params: the section `groups`.

    Returns:
        `{"min_confidence", "n_items", "n_groups_kept", "n_items_kept", "keys": {key: audit}, "groups":
        {product_id: [item_ids]}}`, everything sorted; an empty catalogue has no keys and no groups.
    """
    table = _group_table(meta)
    keys = {}
    kept_products: list[str] = []
    for key, part in table.groupby("key", sort=True):
        audit, kept = _audit(str(key), part, params=params)
        keys[str(key)] = audit
        kept_products += kept
    members = meta[meta["product_id"].isin(kept_products)].groupby("product_id", sort=True)["item_id"]
    groups = {str(product): sorted(items) for product, items in members}
    rng = np.random.default_rng(params.seed)
    for key, audit in keys.items():
        audit["spot_check"] = _spot_check(meta, table[table["key"] == key], params=params, rng=rng)
    return {
        "min_confidence": params.min_confidence,
        "n_items": len(meta),
        "n_groups_kept": len(groups),
        "n_items_kept": sum(len(items) for items in groups.values()),
        "keys": keys,
        "groups": groups,
    }


def _group_table(meta: pd.DataFrame) -> pd.DataFrame:
    """A row per product: key, size, and the agreement of each column (NaN where it says nothing)."""
    weakest = meta["product_key"].map(lambda key: (KEY_CONFIDENCE.get(key, OTHER_CONFIDENCE), str(key)))
    by_product = meta.assign(key=weakest).groupby("product_id", sort=True)
    table = pd.DataFrame(
        {"key": by_product["key"].min().map(lambda pair: pair[1]), "size": by_product["item_id"].size()}
    )
    for column in AGREEING:
        counts = meta.dropna(subset=[column]).groupby(["product_id", column], sort=True).size()
        known, most = counts.groupby("product_id").sum(), counts.groupby("product_id").max()
        table[column] = (most / known).where(known >= 2).reindex(table.index)
    table["agreement"] = table[list(AGREEING)].mean(axis=1)  # of the columns that say something
    return table


def _audit(key: str, table: pd.DataFrame, *, params: Groups) -> tuple[dict[str, Any], list[str]]:
    """The audit of one key, and the products of the groups to keep."""
    base = KEY_CONFIDENCE.get(key, OTHER_CONFIDENCE)
    several = table[table["size"] >= 2]
    # no group of two says anything: nothing speaks against the key either
    agreement = several["agreement"].mean() if several["agreement"].notna().any() else 1.0
    confidence = base * float(agreement)
    trusted = confidence >= params.min_confidence
    own = base * several["agreement"].fillna(agreement)
    too_large = several["size"] > params.max_size
    unsure = own < params.min_confidence
    kept = several.index[~too_large & ~unsure] if trusted else several.index[:0]
    dropped = {"single item": int((table["size"] == 1).sum())}
    if trusted:
        dropped |= {"larger than max_size": int(too_large.sum()), "items disagree": int((unsure & ~too_large).sum())}
    else:
        dropped |= {"key below min_confidence": len(several)}
    sizes = table["size"].value_counts().sort_index()
    audit: dict[str, Any] = {
        "groups": len(table),
        "items": int(table["size"].sum()),
        "sizes": {str(size): int(count) for size, count in sizes.items()},
        "agreement": {column: _mean(several[column]) for column in AGREEING},
        "base_confidence": base,
        "confidence": round(confidence, 4),
        "kept": len(kept),
        "dropped": {reason: count for reason, count in dropped.items() if count},
        "recommendation": _recommendation(key, confidence, len(several), len(kept), params=params),
    }
    return audit, [str(product) for product in kept]


def _recommendation(key: str, confidence: float, several: int, kept: int, *, params: Groups) -> dict[str, str]:
    if several == 0:
        return {"verdict": "do not use", "why": f"'{key}' never ties two items together"}
    if confidence < params.min_confidence:
        why = f"confidence {confidence:.2f} is below groups.min_confidence {params.min_confidence:g}"
        return {"verdict": "do not use", "why": why}
    if kept == 0:
        return {"verdict": "do not use", "why": "no group of a usable size whose items agree is left"}
    return {"verdict": "use", "why": f"confidence {confidence:.2f}, {kept} of {several} groups of two or more kept"}


def _mean(column: pd.Series[float]) -> float | str:
    return round(float(column.mean()), 4) if column.notna().any() else "skipped: known in no group of two"


def _spot_check(
    meta: pd.DataFrame, table: pd.DataFrame, *, params: Groups, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Groups for a person to look at: half the least agreeing ones, half drawn at random."""
    several = table[table["size"] >= 2]
    worst = several.sort_values("agreement", kind="stable", na_position="last").index[: params.spot_check // 2]
    others = several.index.difference(worst)
    n_drawn = min(params.spot_check - len(worst), len(others))
    drawn = others[np.sort(rng.choice(len(others), size=n_drawn, replace=False))]
    chosen = [*worst, *drawn]
    rows = meta[meta["product_id"].isin(chosen)].sort_values("item_id").groupby("product_id")
    members = dict(list(rows))
    return [
        {
            "product_id": str(product),
            "drawn_as": "least agreeing" if place < len(worst) else "random",
            "items": [
                {"item_id": row.item_id, "category2": row.category2, "color": row.color}
                for row in members[product][["item_id", *AGREEING]].itertuples()
            ],
        }
        for place, product in enumerate(chosen)
    ]
