"""What a backbone in training reads beside a batch of images: whole captions, and the known attribute values.

The captions train the contrast between images and texts, as for any CLIP. The values train throw-away classifiers
on the image tower's last feature map. On captions alone, which say colour and category first and repeat rarely, a
small tower trained on a few thousand images hardly learns to see a collar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from lib.base.params import ATTRIBUTES

NAMED = (*ATTRIBUTES, "color", "category2")


@dataclass(frozen=True)
class TextBatch:
    """Captions of a batch of images and which of them are true.

    Attributes:
        captions: (n_texts,) int64 different places in `TrainingTexts.captions`.
        matches: (n_texts, n_images) bool; the image has this caption.
        differs: (n_texts, n_images) bool; the image is known to differ in an attribute from those that have the
            caption; where both are False nothing is known.
        codes: (n_images, len(NAMED)) int64 value codes, -1 unknown.
    """

    captions: torch.Tensor
    matches: torch.Tensor
    differs: torch.Tensor
    codes: torch.Tensor


class TrainingTexts:
    """Composes the texts for batches of catalogue rows.

    Attributes:
        captions: the different captions.
    """

    def __init__(self, rows: pd.DataFrame, *, pattern_only: Sequence[str]) -> None:
        """Prepare codes.

        Args:
            rows: the train split with `caption` and the columns `NAMED`; unknown is None.
            pattern_only: categories that say nothing about the category.
        """
        known = rows[list(NAMED)].copy()
        known["category2"] = known["category2"].where(~known["category2"].isin(pattern_only), None)
        coded = [pd.factorize(known[name], sort=True) for name in NAMED]
        self._codes = np.stack([codes for codes, _ in coded], axis=1).astype(np.int64)  # (n_items, n_named)
        self._counts = [np.bincount(codes[codes >= 0], minlength=len(values)) for codes, values in coded]
        captions = pd.Series([caption or None for caption in rows["caption"]], dtype=object)
        codes, values = pd.factorize(captions, sort=True)
        self._caption_codes, self.captions = codes.astype(np.int64), [str(value) for value in values]

    def value_weights(self) -> list[torch.Tensor]:
        """Per attribute of `NAMED` what an item of each value counts, (n_values,) each, 1 on average over items.

        Inverse square roots of the frequencies: rare values (leather, cardigans) are seen, frequent ones not
        forgotten. Empty where nothing is known.
        """
        weights = []
        for counts in self._counts:
            raw = 1.0 / np.sqrt(np.maximum(counts, 1))
            balanced = raw * counts.sum() / max(float((raw * counts).sum()), 1e-9)
            weights.append(torch.from_numpy(balanced.astype(np.float32)))
        return weights

    def usable(self) -> npt.NDArray[np.int64]:
        """Rows with a caption."""
        return np.flatnonzero(self._caption_codes >= 0)

    def compose(self, rows: npt.NDArray[np.int64]) -> TextBatch:
        """Captions and codes of the images of `rows`, (n_images,), all of them usable."""
        codes, captions = self._codes[rows], self._caption_codes[rows]
        different = (
            (codes[:, None, :] != codes[None, :, :]) & (codes[:, None, :] >= 0) & (codes[None, :, :] >= 0)
        ).any(2)
        distinct, first = np.unique(captions, return_index=True)
        matches = captions[None, :] == distinct[:, None]
        return TextBatch(
            torch.from_numpy(distinct),
            torch.from_numpy(matches),
            torch.from_numpy(different[first] & ~matches),
            torch.from_numpy(codes),
        )
