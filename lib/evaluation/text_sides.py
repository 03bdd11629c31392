"""Gallery and queries as images and texts: with their captions as they are, or with an attribute's words masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd

from lib.base.artifacts import FloatArray
from lib.base.errors import IntegrityError
from lib.base.params import QueryMode
from lib.catalog.attributes import AttributeSchema
from lib.catalog.masking import mask_caption
from lib.catalog.schema import SOURCED
from lib.embeddings import Embeddings
from lib.evaluation.evaluate import query_embeddings
from lib.evaluation.measure import BoolArray, IntArray


class TextEncoder(Protocol):
    """The text side of the backbone that embedded the catalogue."""

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """n texts -> (n, dim) float32 unit rows."""
        ...


@dataclass(frozen=True)
class TextSide:
    """Gallery or queries.

    Attributes:
        images, texts: (n_items, dim) float32, unit rows.
        captions: what `texts` embeds, without outer blanks; "" where nothing is said.
        rows: the processed rows in the same order.
    """

    images: FloatArray
    texts: FloatArray
    captions: Sequence[str]
    rows: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def captioned(self) -> BoolArray:
        """(n_items,) whether anything is said."""
        return np.array([caption != "" for caption in self.captions], dtype=np.bool_)

    def of_rows(self, chosen: IntArray) -> TextSide:
        """Some of the items."""
        captions = [self.captions[row] for row in chosen.tolist()]
        return TextSide(self.images[chosen], self.texts[chosen], captions, self.rows.iloc[chosen])

    def embeddings(self, mode: QueryMode, image_weight: float) -> FloatArray:
        """What stands for the items in one mode, (n_items, dim) float32 unit rows.

        As `query_embeddings`, but an item of which nothing is said is its image alone when fused.
        """
        texts = np.where(self.captioned[:, None], self.texts, self.images) if mode == "fused" else self.texts
        side = Embeddings(self.images, texts, self.rows)
        return query_embeddings(side, np.arange(len(self)), mode, image_weight=image_weight)


def side_of(embedded: Embeddings, rows: pd.DataFrame) -> TextSide:
    """Join embedded items with their processed rows.

    Raises:
        IntegrityError: an embedded item is not among the rows.
    """
    ids = embedded.meta["item_id"]
    missing = ids[~ids.isin(rows["item_id"])]
    if len(missing):
        raise IntegrityError(
            f"item '{missing.iloc[0]}' ({len(missing)} in all) is embedded but not in the processed catalogue; "
            "the embeddings are older: run `dvc repro`"
        )
    captions = [(caption or "").strip() for caption in embedded.meta["caption"]]
    joined = rows.set_index("item_id", drop=False).loc[ids]
    return TextSide(np.asarray(embedded.images), np.asarray(embedded.texts), captions, joined)


def mask_sides(
    sides: Sequence[TextSide],
    label: str,
    *,
    encoder: TextEncoder,
    schema: AttributeSchema,
    pattern_only: Sequence[str],
) -> list[tuple[TextSide, int]]:
    """Sides in whose captions nothing names an attribute; each distinct new caption is embedded once.

    Args:
        sides: with captions as `compose_caption` wrote them.
        label: a key of `schema`, or `category`.
        encoder: what embedded the captions.
        schema: what the texts were read with.
        pattern_only: categories that captions leave out.

    Returns:
        Per side the masked one and the number of captions that changed.
    """
    captions = [_masked_captions(side, label, schema, pattern_only) for side in sides]
    changed = [
        np.flatnonzero([old != new for old, new in zip(side.captions, masked, strict=True)])
        for side, masked in zip(sides, captions, strict=True)
    ]
    wanted = sorted({masked[row] for masked, rows in zip(captions, changed, strict=True) for row in rows.tolist()})
    place = {caption: row for row, caption in enumerate(wanted)}
    embedded = encoder.encode_texts(wanted)
    result = []
    for side, masked, rows in zip(sides, captions, changed, strict=True):
        texts = np.array(side.texts)
        texts[rows] = embedded[[place[masked[row]] for row in rows.tolist()]]
        result.append((replace(side, texts=texts, captions=masked), len(rows)))
    return result


def _masked_captions(side: TextSide, label: str, schema: AttributeSchema, pattern_only: Sequence[str]) -> list[str]:
    left_out = {name.lower() for name in pattern_only}
    known: dict[tuple[str | None, ...], str] = {}
    masked = []
    for row in side.rows[[*SOURCED, "category2", "text"]].itertuples(index=False, name=None):
        if row not in known:
            *values, category, text = row
            if category is not None and category.lower() in left_out:
                category = None
            said = dict(zip(SOURCED, values, strict=True))
            known[row] = mask_caption(said, label, category=category, text=text, rule=schema.get(label)).strip()
        masked.append(known[row])
    return masked
