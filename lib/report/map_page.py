"""`embedding_map.html`: both maps side by side, with the picture and the neighbours of what one points at."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import pandas as pd
from markupsafe import Markup

from lib.report.map_values import (
    COLOURS,
    OTHER,
    OTHER_COLOUR,
    UNKNOWN,
    UNKNOWN_COLOUR,
    DrawnMap,
    colour_labels,
    other_name,
)
from lib.report.page import LABELS, render, shorten
from lib.report.sprite import make_sprite

TEMPLATE, SCRIPT = "embedding_map.html.j2", "embedding_map.js"


def map_page(
    items: pd.DataFrame,
    maps: Mapping[str, DrawnMap],
    figures: Mapping[str, Any],
    *,
    texts: Mapping[str, str | None],
    images: Sequence[bytes],
) -> str:
    """The page as HTML. Its one script is named by its hash in the page's policy, so that no other can run.

    Args:
        items: a row per drawn item: `item_id` and the columns of `LABELS`.
        maps: model -> its map; none gives a page that says why.
        figures: those of `map_embeddings`.
        texts: item id -> its text.
        images: encoded pictures, in the order of `items`.
    """
    script = resources.files("lib.report").joinpath("templates", SCRIPT).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    values = {
        "title": "Embedding map",
        "figures": figures,
        "models": list(maps),
        "labels": list(colour_labels(items, figures)),
        "believed": {name: _percent(numbers) for name, numbers in figures.get("models", {}).items()},
        "shares": [_share_row(label, numbers, list(maps)) for label, numbers in figures.get("labels", {}).items()],
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
        "data": _embedded(_data(items, maps, texts, figures)) if maps else Markup("null"),
        "sprite": make_sprite(images),
    }
    return render(TEMPLATE, values)


def _data(
    items: pd.DataFrame, maps: Mapping[str, DrawnMap], texts: Mapping[str, str | None], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """What the script reads; places in ten-thousandths."""
    labels = {}
    for label, coloured in colour_labels(items, figures).items():
        column = items[LABELS[label]]
        labels[label] = {
            "values": coloured.values,
            "counts": coloured.counts,
            "other": [other_name(coloured), coloured.n_other[0]],
            "unknown": coloured.n_unknown,
            "codes": coloured.codes.tolist(),
            # a rarer value has no place in `values`: it is written out
            "rare": {str(i): column[i] for i in range(len(items)) if coloured.codes[i] == OTHER},
        }
    ids = items["item_id"].tolist()
    return {
        "ids": ids,
        "texts": [shorten(texts.get(item_id) or "") for item_id in ids],
        "labels": labels,
        "maps": {
            name: {
                "places": (drawn.places * 10_000).round().astype(int).tolist(),
                "near": [[row for row in rows if row >= 0] for rows in drawn.neighbours.tolist()],
            }
            for name, drawn in maps.items()
        },
        "colours": [*COLOURS, OTHER_COLOUR, UNKNOWN_COLOUR],
        "other": OTHER,
        "unknown": UNKNOWN,
    }


def _embedded(value: Any) -> Markup:
    """JSON that may stand between script tags: nothing in it can end them or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _percent(numbers: Mapping[str, float]) -> dict[str, str]:
    return {
        "trustworthiness": f"{numbers['trustworthiness']:.3f}",
        "neighbours_kept": f"{100 * numbers['neighbours_kept']:.1f}",
    }


def _share_row(label: str, numbers: Mapping[str, Any], models: Sequence[str]) -> dict[str, Any]:
    cells = [{kind: f"{100 * numbers[name][kind]:.1f}" for kind in ("embedding", "map")} for name in models]
    return {"label": label, "n": numbers["n_items"], "chance": f"{100 * numbers['chance']:.1f}", "cells": cells}
