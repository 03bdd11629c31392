"""A small hand-made catalogue whose texts would break a careless page."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from PIL import Image

INJECTION = "window.injected = true"
TEXTS = (
    f"<script>{INJECTION}</script>",
    f'"><img src="x" onerror="{INJECTION}">',
    f"' onmouseover='{INJECTION}' x='",
    f"</script><script>{INJECTION}</script>",
    f"javascript:{INJECTION}",
    "{{ 7 * 7 }} {% raw %} ${7 * 7}",
    "Donaudampfschifffahrtsgesellschaft" * 12,
    "قميص أبيض بأكمام طويلة " * 20,
    "\u202ebackwards\u202c and forwards",
    "🧥👗 👩\u200d🦰 " + "🧣" * 90,
    "a < b && c > d; &lt;b&gt; &amp;amp;",
    "  many\n\tspaces  ",
)

LABELS = ("neckline", "sleeve", "pattern", "material", "color", "category")


def picture(place: int) -> bytes:
    """A portrait, a landscape or a square, each in a colour of its own."""
    size = ((90, 120), (120, 80), (64, 64))[place % 3]
    stream = io.BytesIO()
    Image.new("RGB", size, ((37 * place) % 256, (91 * place) % 256, 130)).save(stream, "PNG")
    return stream.getvalue()


def catalogue(n_items: int = 36) -> pd.DataFrame:
    """Items whose ids, texts and values are hostile in turn; every third value is unknown."""
    rows = []
    for place in range(n_items):
        text = TEXTS[place % len(TEXTS)]
        row: dict[str, str | None] = {"item_id": f"{place}-{text[:60]}", "text": text, "product_id": f"p{place // 2}"}
        for shift, column in enumerate(("neckline", "sleeve", "pattern", "material", "color", "category2")):
            value = TEXTS[(place // 3 + shift) % 7] if shift % 2 else f"value {(place + shift) % 4}"
            row[column] = None if (place + shift) % 3 == 0 else value
        rows.append(row)
    table = pd.DataFrame(rows).astype(object)
    return table.where(table.notna(), None)


def per_query(items: pd.DataFrame, *, seed: int, n_results: int = 10) -> pd.DataFrame:
    """Results of the first eight items among the others, drawn at random."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(8):
        found = rng.permutation(np.arange(8, len(items)))[:n_results]
        row = {"split": "test", "mode": "image_to_image", "query_id": items["item_id"][place]}
        row |= {"category2": items["category2"][place], "neckline": items["neckline"][place]}
        row |= {
            "retrieved_ids": items["item_id"][found].tolist(),
            "scores": np.linspace(0.9, 0.5, n_results).tolist(),
        }
        for label in LABELS:
            column = items["category2" if label == "category" else label]
            row[f"{label}_hits"] = None if column[place] is None else int((column[found] == column[place]).sum())
        rows.append(row)
    return pd.DataFrame(rows).astype({f"{label}_hits": "Int64" for label in LABELS})
