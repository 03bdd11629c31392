"""The pages that the browser opens, built from `hostile`. A new page is one more line in `PAGES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from hostile import LABELS, catalogue, per_query, picture

from lib.report import changes, gallery, picture_gallery
from lib.report.audit import audit_page
from lib.report.map_page import map_page


def gallery_html() -> str:
    items, found = catalogue(), per_query(catalogue(), seed=0)
    numbers = {"value": 0.4, "low": 0.3, "high": 1.0, "n_queries": 12345, "chance": 0.0, "ceiling": 1.0}
    metrics = {
        "test": {"image_to_image": {f"known_{label}@10": numbers for label in LABELS}},
        "skipped": {"test": {"image_to_image": {"recall@10": "no query's product has an item in the gallery"}}},
    }
    chosen = gallery.choose_queries(found, count=6, rng=np.random.default_rng(0))
    images = {item_id: picture(place) for place, item_id in enumerate(items["item_id"]) if place % 7}
    return gallery.gallery_page(
        chosen, name="baseline", per_query=found, metrics=metrics, items=items, images=images, pattern_only=()
    )


def changes_html() -> str:
    items = catalogue()
    tables = [per_query(items, seed=seed) for seed in (0, 1)]
    found = changes.find_all_changes(*tables, items)
    chosen = changes.choose_changes(found["sleeve"], count=3, rng=np.random.default_rng(0))
    images = {item_id: picture(place) for place, item_id in enumerate(items["item_id"])}
    return changes.changes_page(found, chosen, label="sleeve", items=items, images=images, pattern_only=())


@dataclass(frozen=True)
class Drawn:
    places: np.ndarray
    neighbours: np.ndarray


def map_html() -> str:
    items = catalogue(60)
    rng = np.random.default_rng(0)
    maps = {
        name: Drawn(rng.random((60, 2)), np.stack([rng.permutation(60)[:10] for _ in range(60)]))
        for name in ("baseline", "protocol")
    }
    share = {"embedding": 1.0, "map": 0.0}
    figures = {
        "n_items": 60,
        "models": {name: {"trustworthiness": 0.987, "neighbours_kept": 1.0} for name in maps},
        "labels": {label: {"n_items": 12345, "chance": 0.1} | dict.fromkeys(maps, share) for label in LABELS},
    }
    texts = dict(zip(items["item_id"], items["text"], strict=True))
    return map_page(items, maps, figures, texts=texts, images=[picture(place) for place in range(60)])


def audit_html() -> str:
    items = catalogue(24)
    rows = [
        (
            item.item_id,
            item.product_id,
            item.category2 or "",
            item.text,
            label,
            value,
            "text",
            item.text[:5],
            ((0, 5),),
        )
        for item in items.itertuples()
        for label in ("neckline", "sleeve", "color")
        if (value := getattr(item, label)) is not None
    ]
    columns = ["item_id", "product_id", "category", "text", "attribute", "value", "source", "phrase", "spans"]
    claims = pd.DataFrame(rows, columns=columns)
    claims.insert(0, "row", [str(number + 1) for number in range(len(claims))])
    counts: dict[str, object] = dict.fromkeys(
        ("from_column", "from_text", "column_and_text", "ambiguous_text"), 12345
    )
    counts |= {"coverage": 0.5, "coverage_where_applicable": 0.75}
    counts |= {"agreement": 0.75, "agreement_low": 0.3, "agreement_high": 0.95}
    counts["disagreements"] = [{"column": text, "text": "blue", "items": 7} for text in items["text"][:6]]
    report = {
        "items": 9999,
        "audited_items": claims["item_id"].nunique(),
        "claims": len(claims),
        "categories_left_out": list(items["text"][:3]),
        "attributes": dict.fromkeys(("neckline", "sleeve", "color"), counts),
    }
    images = {item_id: picture(place) for place, item_id in enumerate(items["item_id"])}
    return audit_page(claims, report, images)


def two_tower_html() -> str:
    items = catalogue()
    rng = np.random.default_rng(0)
    rows = [
        {
            "query": items["item_id"][place],
            "model": model,
            "truths": [items["item_id"][place + 8]],
            "retrieved": list(items["item_id"][np.sort(rng.permutation(np.arange(8, len(items)))[:10])]),
            "scores": [0.9 - 0.05 * rank for rank in range(10)],
            picture_gallery.HIT: float(place % 2),
        }
        for place in range(8)
        for model in ("trained", "frozen")
    ]
    found = pd.DataFrame(rows)
    numbers = {"chance": 0.0, "ceiling": 1.0}
    for name in ("trained", "frozen", "delta"):
        numbers |= {name: 0.4, f"{name}_low": 0.3, f"{name}_high": 1.0}
    chosen = picture_gallery.choose_shown(found, count=6, rng=rng)
    images = {item_id: picture(place) for place, item_id in enumerate(items["item_id"]) if place % 7}
    return picture_gallery.picture_gallery(
        chosen, found, metrics={"hit_rate@10": numbers}, images=images, n_candidates=12345
    )


PAGES: dict[str, Callable[[], str]] = {
    "gallery": gallery_html,
    "changes": changes_html,
    "embedding map": map_html,
    "grounding audit": audit_html,
    "two-tower gallery": two_tower_html,
}
