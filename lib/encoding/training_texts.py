"""What a backbone in training reads beside a batch of images: every attribute phrase, and some whole captions.

With whole captions only, almost every product has a text of its own, and a small model trained on a few thousand
images tells products apart by colour and background: on the sample its neckline precision stayed at chance. A
phrase such as "v-neck" is true of many images and known to be false of others, which differ in all else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from lib.params import ATTRIBUTES

NAMED = (*ATTRIBUTES, "color", "category2")
WHOLE = len(NAMED)
"""Group number of whole captions; attribute phrases are grouped by their place in `NAMED`."""


@dataclass(frozen=True)
class TextBatch:
    """Texts of a batch of images and which of them are true.

    Attributes:
        texts: n_texts texts, all different within a group.
        groups: (n_texts,) int64, index into `NAMED` or `WHOLE`.
        matches: (n_texts, n_images) bool; the text is true of the image.
        differs: (n_texts, n_images) bool; it is known to be false; where both are False nothing is known.
        codes: (n_images, len(NAMED)) int64 value codes, -1 unknown.
    """

    texts: list[str]
    groups: torch.Tensor
    matches: torch.Tensor
    differs: torch.Tensor
    codes: torch.Tensor


class TrainingTexts:
    """Composes the texts for batches of catalogue rows."""

    def __init__(self, rows: pd.DataFrame, *, pattern_only: Sequence[str], whole_share: float) -> None:
        """Prepare codes.

        Args:
            rows: the train split with `caption` and the columns `NAMED`; unknown is None.
            pattern_only: categories that say nothing about the category.
            whole_share: share of the images whose whole caption is read as well, 0 to 1.
        """
        known = rows[list(NAMED)].copy()
        known["category2"] = known["category2"].where(~known["category2"].isin(pattern_only), None)
        coded = [pd.factorize(known[name], sort=True) for name in NAMED]
        self._codes = np.stack([codes for codes, _ in coded], axis=1).astype(np.int64)  # (n_items, n_named)
        self._phrases = [[str(value) for value in values] for _, values in coded]
        captions = pd.Series([caption or None for caption in rows["caption"]], dtype=object)
        codes, values = pd.factorize(captions, sort=True)
        self._caption_codes, self._captions = codes.astype(np.int64), [str(value) for value in values]
        self._whole_share = whole_share

    def n_values(self) -> list[int]:
        """How many values each of `NAMED` has."""
        return [len(phrases) for phrases in self._phrases]

    def usable(self) -> npt.NDArray[np.int64]:
        """Rows with a caption."""
        return np.flatnonzero(self._caption_codes >= 0)

    def compose(self, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> TextBatch:
        """Texts for the images of `rows`, (n_images,): all phrases that are true of one, and some captions."""
        codes = self._codes[rows]
        texts: list[str] = []
        groups: list[int] = []
        matches, differs = [], []
        for group in range(len(NAMED)):
            column = codes[:, group]
            for value in np.unique(column[column >= 0]).tolist():
                texts.append(self._phrases[group][value])
                groups.append(group)
                matches.append(column == value)
                differs.append((column >= 0) & (column != value))
        different = (
            (codes[:, None, :] != codes[None, :, :]) & (codes[:, None, :] >= 0) & (codes[None, :, :] >= 0)
        ).any(2)
        captions = self._caption_codes[rows]
        read = rng.random(len(rows)) < self._whole_share
        if not texts:  # nothing but free text is known of these images
            read[:] = True
        for caption in np.unique(captions[read & (captions >= 0)]).tolist():
            same = captions == caption
            texts.append(self._captions[caption])
            groups.append(WHOLE)
            matches.append(same)
            differs.append(different[np.argmax(same)] & ~same)
        return TextBatch(
            texts,
            torch.tensor(groups, dtype=torch.int64),
            torch.from_numpy(np.array(matches, dtype=bool).reshape(len(texts), len(rows))),
            torch.from_numpy(np.array(differs, dtype=bool).reshape(len(texts), len(rows))),
            torch.from_numpy(codes),
        )
