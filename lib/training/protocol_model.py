"""The protocol model: small residual heads on the frozen backbone's embeddings.

`y = x + a f(x)` with `f` zero before training, so that an untrained model *is* the baseline, to the byte. The
interpolation `a` between baseline and trained head is chosen on validation (WiSE-FT, Wortsman et al. 2022), and so is
how much of `x` is seen through the map that evens out the differences between views of one product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.base.artifacts import FloatArray
from lib.base.errors import IntegrityError
from lib.training.checkpoint import REMEDY
from lib.training.heads import (
    AttributeHead,
    HeadKind,
    Prototypes,
    ResidualHead,
    linear,
    unit_sum,
    within_product_whitening,
)

BATCH = 1024
"""Rows per inference batch; the last one is padded, so that a row's bytes do not depend on its neighbours."""
UNIT_TOLERANCE = 1e-6
MAX_LOG_SCALE = math.log(100.0)


@dataclass(frozen=True)
class ModelConfig:
    """What must be known to build the model before its weights are loaded.

    Attributes:
        dim: size of the backbone's embeddings, in and out.
        backbone: fingerprint of the embeddings it was trained on.
        kind: `linear` or `mlp` residual, or `prototype`: a residual made of believed attribute values.
        hidden: width of the hidden layer of `mlp` and `prototype`.
        dropout: on the hidden layer (on the input of `linear`), while training only.
        vocabularies: per attribute its known values, in the order of the classifier's outputs; one more output
            stands for items that have no such attribute.
        importance: per attribute how much agreement in it counts (`prototype` only).
        initial_temperature: of the contrastive loss; learnable.
        image_weight: where the learnable weight of the image in fused queries starts, inside (0, 1).
    """

    dim: int
    backbone: str
    kind: HeadKind
    hidden: int
    dropout: float
    vocabularies: Mapping[str, tuple[str, ...]]
    importance: Mapping[str, float]
    initial_temperature: float
    image_weight: float = 0.5

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON and checkpoints."""
        vocabularies = {name: list(values) for name, values in self.vocabularies.items()}
        return {**asdict(self), "vocabularies": vocabularies, "importance": dict(self.importance)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `as_dict`."""
        return cls(**{**raw, "vocabularies": {name: tuple(v) for name, v in raw["vocabularies"].items()}})


class _Shape(TypedDict):
    hidden: int
    dropout: float
    generator: torch.Generator


class ProtocolModel(nn.Module):
    """Image and text heads, attribute classifiers, interpolation, temperature and fusion weight."""

    interpolation: Tensor
    whitening: Tensor
    whitened: Tensor
    places: Tensor
    values: Tensor

    def __init__(self, config: ModelConfig, *, generator: torch.Generator) -> None:
        """Build an untrained model; `generator` draws the first layers' weights."""
        super().__init__()
        self.config = config
        self.attributes = sorted(config.vocabularies)
        sizes = [len(config.vocabularies[name]) + 1 for name in self.attributes]  # the known values, and "has none"
        n_values, self.most_values = sum(sizes), max(sizes, default=0)
        # where each logit and each value stands in rows of `most_values` places per attribute
        starts = [self.most_values * number for number in range(len(sizes))]
        places = [start + place for start, size in zip(starts, sizes, strict=True) for place in range(size)]
        values = [start + place for start, size in zip(starts, sizes, strict=True) for place in range(size - 1)]
        self.register_buffer("places", torch.tensor(places, dtype=torch.int64), persistent=False)
        self.register_buffer("values", torch.tensor(values, dtype=torch.int64), persistent=False)
        shape = _Shape(hidden=config.hidden, dropout=config.dropout, generator=generator)
        self.image_head: nn.Module
        self.text_head: nn.Module
        self.prototypes: Prototypes | None = None
        self.attribute_heads: nn.Linear | None = None
        if config.kind == "prototype":
            self.image_head = AttributeHead(config.dim, n_values, **shape)
            self.text_head = AttributeHead(config.dim, n_values, **shape)
            importance = [config.importance[name] for name in self.attributes for _ in config.vocabularies[name]]
            self.prototypes = Prototypes(config.dim, importance, generator)
        else:
            self.image_head = ResidualHead(config.dim, kind=config.kind, **shape)
            self.text_head = ResidualHead(config.dim, kind=config.kind, **shape)
            # one matrix for all attributes, in the order of `attributes`: one product instead of six
            self.attribute_heads = linear(config.dim, n_values, generator)
        self._kept: dict[int, tuple[FloatArray, list[tuple[Tensor, Tensor, Tensor | None]]]] | None = None
        self.register_buffer("interpolation", torch.ones(()))
        self.register_buffer("whitening", torch.eye(config.dim))
        self.register_buffer("whitened", torch.zeros(()))
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.initial_temperature)))
        self.fusion_logit = nn.Parameter(torch.tensor(math.log(config.image_weight / (1.0 - config.image_weight))))

    def fit_statistics(self, images: Tensor, texts: Tensor, products: Tensor) -> None:
        """Take what is computed, not learnt, from the training catalogue; once, before training.

        Args:
            images: (n, dim); mean and deviation of what the image head reads, and the scatter of products' views.
            texts: (n, dim); mean and deviation of what the text head reads.
            products: (n,) codes.
        """
        for head, x in ((self.image_head, images), (self.text_head, texts)):
            if isinstance(head, AttributeHead):
                head.standardise(x)
        self.whitening.copy_(within_product_whitening(images, products))

    def mix(self, whitened: float, interpolation: float) -> None:
        """Use this much of the whitening (0 to 1) and of the trained head (0: nothing of it)."""
        self.whitened.fill_(whitened)
        self.interpolation.fill_(interpolation)

    @property
    def logit_scale(self) -> Tensor:
        """1 / temperature, clamped to [1, 100] as CLIP does."""
        return self.log_scale.clamp(0.0, MAX_LOG_SCALE).exp()

    @property
    def image_weight(self) -> Tensor:
        """Weight of the image in a fused query, in (0, 1); the text has the rest."""
        return torch.sigmoid(self.fusion_logit)

    def encode_images(self, x: Tensor, dropout: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Differentiable image head: (n, dim) -> (n, dim) unit rows and what it reads off them.

        The second are log probabilities, (n, n_attributes, most_values), in the order of `attributes`: the values in
        the order of the vocabulary, then "has none", then places that no value has (-inf). None without attributes.
        """
        embedded, read = self._embedded(self.image_head, x, dropout)
        if self.attribute_heads is not None:
            # unit rows have entries near 1/sqrt(dim): scaled to entries near 1, the usual input of a linear layer
            read = self._log_probabilities(self.attribute_heads(embedded * math.sqrt(self.config.dim)))
        return embedded, read

    def encode_texts(self, x: Tensor, dropout: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """As `encode_images`; only the prototype head reads attributes off a text, for the others it is None."""
        return self._embedded(self.text_head, x, dropout)

    def _embedded(self, head: nn.Module, x: Tensor, dropout: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
        """(n, dim) -> (n, dim) unit rows, and the log probabilities that a prototype head made on the way."""
        added, read = self._added(head, x, dropout)
        own = self._own(x, self._evened(x) if self.whitened else x)
        return F.normalize(own, dim=1) if added is None else unit_sum(own, added, self.interpolation), read

    def _apply_head(self, head: nn.Module, x: Tensor) -> Tensor:
        """(n, dim) -> (n, dim), not normalised."""
        added, _ = self._added(head, x, None)
        return self._mixed(x, self._evened(x) if self.whitened else x, added)

    def _added(
        self, head: nn.Module, x: Tensor, dropout: torch.Generator | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """What the head adds to a row, None for nothing, and what it reads off it."""
        if self.prototypes is None:
            return head(x, dropout), None
        read = self._log_probabilities(head(x, dropout))
        if read is None:
            return None, None
        return self.prototypes(read.flatten(1).index_select(1, self.values)), read

    def _evened(self, x: Tensor) -> Tensor:
        """Rows whitened, of length 1."""
        return F.normalize(x @ self.whitening, dim=1)

    def _mixed(self, x: Tensor, evened: Tensor, added: Tensor | None) -> Tensor:
        """The sum of a row's own part, between `x` and `evened`, and of what the head adds; not normalised."""
        own = self._own(x, evened)
        return own if added is None else own + self.interpolation * added

    def _own(self, x: Tensor, evened: Tensor) -> Tensor:
        """A row's own part, between `x` and `evened`."""
        return torch.lerp(x, evened, self.whitened) if self.whitened else x

    def _log_probabilities(self, logits: Tensor) -> Tensor | None:
        """(n, n_logits), attribute after attribute -> (n, n_attributes, most_values); one softmax for all of them."""
        if not self.attributes:
            return None
        rows = logits.new_full((len(logits), len(self.attributes) * self.most_values), float("-inf"))
        rows = rows.index_copy(1, self.places, logits)
        return rows.view(len(logits), len(self.attributes), self.most_values).log_softmax(dim=2)

    def fuse_scores(self, of_images: Tensor, of_texts: Tensor, cosines: Tensor) -> Tensor:
        """Scores of queries that have an image and a text: of `weight * image + (1 - weight) * text` as a unit row.

        Args:
            of_images: (n, n_items) scores of the queries' images, unit rows.
            of_texts: (n, n_items) scores of their texts, unit rows.
            cosines: (n,) score of each query's image and text; the fused row's length follows from it.

        Returns:
            (n, n_items).
        """
        image, text = self.image_weight, 1.0 - self.image_weight
        squared = image**2 + text**2 + 2.0 * image * text * cosines
        lengths = squared.clamp(min=1e-12).sqrt()  # opposite embeddings of equal weight cancel out
        return (image / lengths)[:, None] * of_images + (text / lengths)[:, None] * of_texts

    def encode_image_numpy(self, x: FloatArray) -> FloatArray:
        """Apply the image head to baseline embeddings.

        Args:
            x: (n, dim) float32, unit rows.

        Returns:
            (n, dim) float32, unit rows, C-contiguous. An untrained model returns the bytes of `x`. A row's
            result does not depend on the other rows. Empty in, empty out.
        """
        if self._kept is None:
            return self._in_batches(x, self.image_head)
        if id(x) not in self._kept:  # kept with its parts, so that its id is not given to another array
            with torch.no_grad():
                parts = [
                    (batch, self._evened(batch), self._added(self.image_head, batch, None)[0])
                    for batch in self._batches(x)
                ]
            self._kept[id(x)] = x, parts
        with torch.no_grad():
            return _joined(x, (self._mixed(*part) for part in self._kept[id(x)][1]))

    @contextmanager
    def trying_mixtures(self) -> Iterator[None]:
        """Within it, what of an encoded array does not depend on the mixture is computed once and kept.

        For the same arrays at one mixture after another; the weights must not change meanwhile. Bytes are as ever.
        """
        self._kept = {}
        try:
            yield
        finally:
            self._kept = None

    def encode_text_numpy(self, x: FloatArray) -> FloatArray:
        """Apply the text head to baseline embeddings; as `encode_image_numpy`."""
        return self._in_batches(x, self.text_head)

    def _in_batches(self, x: FloatArray, head: nn.Module) -> FloatArray:
        with torch.no_grad():
            return _joined(x, (self._apply_head(head, batch) for batch in self._batches(x)))

    def _batches(self, x: FloatArray) -> Iterator[Tensor]:
        """Rows as (BATCH, dim) tensors, the last one padded with zeros: a row's bytes depend on no other row."""
        if x.ndim != 2 or x.shape[1] != self.config.dim:
            raise IntegrityError(
                f"protocol model: expected embeddings (n, {self.config.dim}), got {x.shape}; {REMEDY}"
            )
        for start in range(0, len(x), BATCH):
            padded = torch.zeros(BATCH, self.config.dim)
            rows = x[start : start + BATCH]
            padded[: len(rows)] = torch.from_numpy(np.array(rows))  # a copy: a memory map may not be written to
            yield padded


def _joined(x: FloatArray, encoded: Iterable[Tensor]) -> FloatArray:
    """Encoded batches as unit rows; an entry that did not change keeps the bytes of `x`."""
    out = np.empty(x.shape, dtype=np.float32)
    for number, batch in enumerate(encoded):
        rows = x[number * BATCH : (number + 1) * BATCH]
        changed = batch.numpy()[: len(rows)]
        # -0.0 + 0.0 is +0.0: an entry that did not change keeps its sign bit too
        out[number * BATCH : (number + 1) * BATCH] = unit_rows(np.where(changed == rows, rows, changed))
    return out


def unit_rows(x: FloatArray) -> FloatArray:
    """Scale rows to length 1; rows within 1e-6 of it keep their bytes, so that doing it twice changes nothing.

    Raises:
        IntegrityError: a row is zero or not finite.
    """
    norms = np.sqrt(np.einsum("ne,ne->n", x, x, dtype=np.float64))  # e: embedding axis, n: rows
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise IntegrityError(f"protocol model: row {bad[0]} of a batch has length {norms[bad[0]]}; {REMEDY}")
    scaled = (x / norms[:, None]).astype(np.float32)
    result: FloatArray = np.where((np.abs(norms - 1.0) <= UNIT_TOLERANCE)[:, None], x, scaled)
    return result
