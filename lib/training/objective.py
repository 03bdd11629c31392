"""What a batch of examples costs: the training loss in its parts, over the catalogue as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.base.errors import ConfigError
from lib.base.params import PAIR_KINDS, Loss
from lib.embeddings import Embeddings
from lib.training.losses import (
    Roles,
    attribute_contrastive,
    attribute_cross_entropy,
    identity_distance,
    info_nce,
    log_shares,
    logit_adjusted,
    one_hot,
    symmetric_info_nce,
)
from lib.training.protocol_model import ProtocolModel
from lib.training.sampler import Examples

SILENT = 5.0
"""Where so many items of a category ought to state an attribute and none does, the category does not have it.

By chance a category is that silent in exp(-5), less than one case in a hundred.
"""
STRONG_EQUAL = 2
"""So many equal attributes within a category make a strong positive, in a batch as in pairs.parquet."""


@dataclass(frozen=True)
class TrainingData:
    """The catalogue as tensors.

    Attributes:
        images: (n, dim) float32 baseline embeddings.
        texts: (n, dim) float32.
        codes: name -> (n,) int64 value code, -1 unknown; the category of a pattern-only item is unknown.
        absent: name -> (n,) bool; the item is of a category that does not have this attribute.
        vocabularies: name -> values in the order of the codes.
        categories: (n,) int64, -1 unknown; all 0 where nobody has one: a catalogue of a single category.
        products: (n,) int64.
        captions: (n,) int64, equal for equal captions, -1 for an empty one.
        item_ids: n ids.
    """

    images: Tensor
    texts: Tensor
    codes: dict[str, Tensor]
    absent: dict[str, Tensor]
    vocabularies: dict[str, tuple[str, ...]]
    categories: Tensor
    products: Tensor
    captions: Tensor
    item_ids: list[str]

    @classmethod
    def of(cls, catalog: Embeddings, *, attributes: Sequence[str], pattern_only: Sequence[str]) -> TrainingData:
        """Code the columns named in `attributes`."""
        codes, vocabularies = {}, {}
        for name in attributes:
            if name not in catalog.meta.columns:
                raise ConfigError(f"train.loss.attribute_weights: no column '{name}' in the catalogue")
            column = catalog.meta[name]
            if name == "category2":
                column = column.where(~column.isin(pattern_only), None)
            codes[name], vocabularies[name] = _codes(column)
        kinds = catalog.meta["category2"]
        categories, _ = _codes(kinds.where(~kinds.isin(pattern_only), None))
        absent = {name: _absent(values, categories) for name, values in codes.items()}
        captions, _ = _codes(catalog.meta["caption"].replace("", None))
        products, _ = _codes(catalog.meta["product_id"])
        return cls(
            torch.from_numpy(np.array(catalog.images)),
            torch.from_numpy(np.array(catalog.texts)),
            codes,
            absent,
            vocabularies,
            torch.zeros_like(categories) if kinds.isna().all() else categories,
            products,
            captions,
            catalog.meta["item_id"].tolist(),
        )


def _codes(column: pd.Series[Any]) -> tuple[Tensor, tuple[str, ...]]:
    codes, values = pd.factorize(column, sort=True)
    return torch.from_numpy(codes.astype(np.int64)), tuple(str(value) for value in values)


def _absent(codes: Tensor, categories: Tensor) -> Tensor:
    """(n,) bool: items of a category whose silence about an attribute is no accident; see `SILENT`.

    Silence alone says nothing: where one item in twenty states its neckline, twenty items without one are no news.
    """
    known = (codes >= 0).double()
    counts = torch.bincount(categories + 1).double()  # place 0 holds the items of unknown category
    stated = torch.bincount(categories + 1, weights=known)
    never = (stated == 0) & (counts * known.mean() >= SILENT)
    never[0] = False
    return never[categories + 1]


class BatchLoss:
    """The parts of the training loss of one batch of examples, each already multiplied by its weight."""

    def __init__(self, data: TrainingData, examples: Examples, params: Loss) -> None:
        self.data = data
        self.params = params
        self.rows = torch.from_numpy(
            np.stack([examples.anchors, examples.positives, examples.negatives], axis=1)
        )  # (n_examples, 3)
        # index -1 (no pair, or the anchor itself) reads the last entry
        weights = torch.tensor([params.kind_weights.get(kind, 1.0) for kind in PAIR_KINDS])
        positive_kinds, negative_kinds = (
            torch.from_numpy(kinds) for kinds in (examples.positive_kinds, examples.negative_kinds)
        )
        self.negative_weights = torch.cat([weights, torch.zeros(1)])[negative_kinds]
        self.positive_weights = torch.where(positive_kinds >= 0, weights[positive_kinds], self.negative_weights)
        names = sorted(data.codes)
        self.codes = torch.stack([data.codes[name] for name in names], dim=1)  # (n, n_attributes)
        self.names = names
        # what the classifiers learn: the value, the place after the last one for "has none", or -1
        self.targets = torch.stack(
            [torch.where(data.absent[name], len(data.vocabularies[name]), data.codes[name]) for name in names],
            dim=1,
        )
        most = max((len(vocabulary) for vocabulary in data.vocabularies.values()), default=0)
        self.adjustment = params.logit_adjustment * log_shares(self.targets, most + 1)
        self.attribute_weights = torch.tensor([params.attribute_weights[name] for name in names])
        self.categories = data.categories.int()
        designs = [column for column, name in enumerate(names) if name not in ("category2", "color")]
        # one-hot, the designs in front, so that they are a slice
        order = [*designs, *(column for column in range(len(names)) if column not in designs)]
        sizes = [len(data.vocabularies[names[column]]) for column in order]
        self.hot, self.n_design_values = one_hot(self.codes[:, order], sizes), sum(sizes[: len(designs)])
        self.known = (self.codes >= 0).float()

    def __call__(self, model: ProtocolModel, batch: Tensor, *, dropout: torch.Generator | None) -> dict[str, Tensor]:
        """Loss parts of the examples numbered in `batch`, (size,) int64."""
        params, data = self.params, self.data
        anchors, positives, negatives = self.rows[batch].unbind(dim=1)
        has_negative = negatives >= 0
        items = torch.cat([anchors, positives, negatives[has_negative]])
        inputs = data.images.index_select(0, items)  # in half of the time of data.images[items]
        images, read_images = model.encode_images(inputs, dropout)
        text_inputs = data.texts.index_select(0, anchors)
        texts, read_texts = model.encode_texts(text_inputs, dropout)
        size = len(anchors)
        parts = {}
        # taken apart once: each part that is cut out by itself gets a gradient of the size of the whole
        shown, candidates = images.split([size, len(items) - size])
        roles = self._roles(items, batch, has_negative)
        scale = model.logit_scale if params.temperature == "learned" else model.logit_scale.detach()
        logits = (scale * shown) @ candidates.T
        if params.contrastive > 0:
            parts["contrastive"] = params.contrastive * info_nce(logits, roles)
        if params.fusion > 0:
            # only the weight learns here: the embeddings have their own losses
            with torch.no_grad():
                cosines = torch.linalg.vecdot(shown, texts)
                of_texts = (scale * texts) @ candidates.T
            fused = model.fuse_scores(logits.detach(), of_texts, cosines)
            parts["fusion"] = params.fusion * info_nce(fused, roles)
        if params.image_text > 0:
            captions = data.captions[anchors]
            same_text = (captions[:, None] == captions[None, :]) & (captions >= 0)[:, None]
            parts["image_text"] = params.image_text * symmetric_info_nce(shown, texts, scale, same_text)
        if params.attribute_contrastive > 0:
            products = data.products[items]
            parts["attribute_contrastive"] = params.attribute_contrastive * attribute_contrastive(
                images,
                self.codes[items],
                weights=self.attribute_weights,
                temperature=params.attribute_temperature,
                excluded=products[:, None] == products[None, :],  # siblings never count in the evaluation
            )
        if params.attribute_heads > 0:
            columns = [self.names.index(name) for name in model.attributes]
            targets, weights = self.targets[items][:, columns], self.attribute_weights[columns]
            adjustment = self.adjustment[columns, : model.most_values] if params.logit_adjustment > 0 else None
            losses = [
                attribute_cross_entropy(
                    read if adjustment is None else logit_adjusted(read, adjustment), known, weights
                )
                for read, known in ((read_images, targets), (read_texts, targets[:size]))
                if read is not None
            ]
            total = torch.stack(losses).sum() if losses else torch.zeros(())
            parts["attribute_heads"] = params.attribute_heads * total
        if params.identity > 0:
            distance = identity_distance(images, inputs) + identity_distance(texts, text_inputs)
            parts["identity"] = params.identity * distance
        return parts

    def _roles(self, items: Tensor, batch: Tensor, has_negative: Tensor) -> Roles:
        """Roles of the candidates, (size, n_candidates), for the anchors.

        Candidates are the positives and negatives of the whole batch. An anchor's own positive and negative are
        what their pair says. Another candidate is a negative when it is known to differ and of another product;
        a positive when it would make a strong pair and differs in nothing known; else left out, as a suspected
        false negative. With `batch_positives: own` no other candidate is a positive, with `batch_negatives: all`
        each that is no positive is a negative: both together are plain InfoNCE.
        """
        size = len(batch)
        rows = torch.arange(size)
        own_positive = rows, rows
        own_negative = rows[has_negative], size + torch.arange(len(items) - 2 * size)
        strong, different = self._agreement(items, size)
        products = self.data.products[items]
        other_product = products[:size, None] != products[None, size:]
        negatives = different.logical_and_(other_product)
        negatives[own_negative] = True
        negatives[own_positive] = False
        if self.params.batch_positives == "strong":
            positives = strong.logical_and_(other_product)
            positives[own_negative] = False
        else:
            positives = torch.zeros_like(negatives)
        positives[own_positive] = True
        if self.params.batch_negatives == "all":
            negatives = ~positives
        log_weights = torch.zeros(positives.shape)
        log_weights[own_negative] = self.negative_weights[batch][has_negative].log()  # log 0 = -inf leaves it out
        return Roles.of(
            positives, negatives, row_weights=self.positive_weights[batch], column_log_weights=log_weights
        )

    def _agreement(self, items: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Whether the first `size` of these items and the others would be a strong pair, and whether they differ.

        Args:
            items: (n_items,) rows of the catalogue.
            size: number of rows; the other items are the columns.

        Returns:
            Two arrays (size, n_items - size) bool. A strong pair is of one category, whether or not categories are
            learnt, equal in at least `STRONG_EQUAL` designs and not known to differ in anything.
        """
        # counted by matrix products: a few calls, however many attributes there are
        hot, known = self.hot.index_select(0, items), self.known.index_select(0, items)
        equal = hot[:size] @ hot[size:].T
        different = known[:size] @ known[size:].T > equal
        designs = hot[:, : self.n_design_values]
        strong = (designs[:size] @ designs[size:].T >= STRONG_EQUAL).logical_and_(~different)
        category = self.categories[items]
        strong &= category[:size, None] == category[size:].masked_fill(category[size:] < 0, -2)[None, :]
        return strong, different
