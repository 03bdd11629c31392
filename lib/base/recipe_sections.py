"""Sections of `params.yaml` that make up the recipe: supervision, and training of what reads the embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lib.base.sections import Attribute, Bootstrap, Fraction, IndexKind, PairKind, Positive, Section


class Groups(Section):
    """Which derived product groups are good enough to train on."""

    min_confidence: Fraction
    max_size: Annotated[int, Field(ge=2)]
    spot_check: Annotated[int, Field(ge=0)]
    seed: int


class Mine(Section):
    """Attribute-controlled hard negatives from the baseline's own mistakes."""

    max_anchors: Positive
    depth: Positive
    within: Literal["catalogue", "category"]
    per_anchor: Positive
    max_positive_ratio: Annotated[float, Field(gt=0, le=1)] | None
    attributes: tuple[Attribute, ...]
    suspects: Annotated[int, Field(ge=0)]
    seed: int


class PairShares(Section):
    """Shares of the five kinds of pair; they add up to 1."""

    strong: Fraction
    medium: Fraction
    weak: Fraction
    hard: Fraction
    easy: Fraction

    @model_validator(mode="after")
    def _sum(self) -> PairShares:
        total = self.strong + self.medium + self.weak + self.hard + self.easy
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the five shares must add up to 1, got {total:g}")
        return self


class Pairs(Section):
    """Training pairs."""

    n_pairs: Positive
    shares: PairShares
    graphic_policy: Literal["pattern_only", "ordinary"] = "pattern_only"
    seed: int


class Head(Section):
    """The residual head on frozen embeddings; identity at initialisation."""

    kind: Literal["linear", "mlp", "prototype"]
    hidden: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Loss(Section):
    """Weights of the parts of the training loss; 0 switches a part off."""

    contrastive: Annotated[float, Field(ge=0)]
    image_text: Annotated[float, Field(ge=0)]
    attribute_contrastive: Annotated[float, Field(ge=0)]
    attribute_heads: Annotated[float, Field(ge=0)]
    attribute_weights: Mapping[str, float]
    logit_adjustment: Annotated[float, Field(ge=0)] = 0.0
    identity: Annotated[float, Field(ge=0)]
    fusion: Annotated[float, Field(ge=0)] = 0.1
    kind_weights: Mapping[PairKind, float]
    batch_positives: Literal["strong", "own"] = "strong"
    batch_negatives: Literal["different", "all"] = "different"
    temperature: Literal["learned", "fixed"] = "learned"
    initial_temperature: Annotated[float, Field(gt=0)]
    attribute_temperature: Annotated[float, Field(gt=0)]


class Boost(Section):
    """Rows whose `column` equals one of `values` (any known value when empty) are drawn `weight` times as often."""

    column: str
    values: tuple[str, ...] = ()
    weight: Annotated[float, Field(gt=0)]


class Cap(Section):
    """Rows whose `column` equals one of `values` make up at most `max_share` of a batch."""

    column: str
    values: tuple[str, ...]
    max_share: Annotated[float, Field(gt=0, le=1)]


class Sampler(Section):
    """Composition of training batches."""

    boosts: tuple[Boost, ...]
    caps: tuple[Cap, ...]


class Validation(Section):
    """The quick validation after each epoch."""

    gallery: Positive
    queries: Positive
    select_by: tuple[str, ...]
    max_fall: Annotated[float, Field(ge=0)]
    seed: int


class Train(Section):
    """The protocol model."""

    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    epochs: Annotated[int, Field(ge=0)]
    patience: Annotated[int, Field(ge=0)]
    average: Positive
    interpolation: tuple[Annotated[float, Field(gt=0)], ...]
    whitening: tuple[Annotated[float, Field(gt=0, le=1)], ...]
    seed: int
    head: Head
    loss: Loss
    sampler: Sampler
    validation: Validation


class Compatibility(Section):
    """The compatibility head: what goes with what."""

    pairs: str
    max_bad_fraction: Fraction
    inputs: Literal["embeddings", "images"]
    augment: Literal["none", "crops"]
    views: Literal["product", "item"]
    loss: Literal["triplet", "infonce"]
    margin: Annotated[float, Field(gt=0, le=2)]
    temperature: Annotated[float, Field(gt=0)]
    neg_pool_ratio: Annotated[float, Field(gt=0, le=64)]
    head_out_dim: Positive
    hidden: Annotated[int, Field(ge=0)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    lr_head: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    batch_size: Positive
    epochs: Positive
    seed: int
    bootstrap: Bootstrap

    @model_validator(mode="after")
    def _images_are_augmented(self) -> Compatibility:
        if self.augment != "none" and self.inputs != "images":
            raise ValueError(f"augment: {self.augment} changes images; it needs inputs: images")
        return self


class TowerHead(Section):
    """What is trained on top of the frozen backbone, of either side; identity at initialisation."""

    kind: Literal["linear", "mlp"]
    hidden: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]


class TowerNetwork(Section):
    """A network that is trained as a whole: `tower: resnet18` and `vit_b_16`."""

    pretrained: bool
    image_size: Annotated[int, Field(ge=32, le=1024)]
    dim: Positive
    min_area: Annotated[float, Field(gt=0, le=1)]
    mirror: Fraction
    colour: Fraction
    device: Literal["auto", "cpu", "cuda"]


class TwoTower(Section):
    """The two-tower model: photos of one side find those of the other."""

    pairs: str
    candidates: str
    query_gt: str
    images_root: str
    max_bad_fraction: Fraction
    tower: Literal["backbone", "resnet18", "vit_b_16"]
    shared: bool
    head: TowerHead
    network: TowerNetwork
    batch_size: Annotated[int, Field(ge=2)]
    accumulate: Positive
    epochs: Positive
    patience: Annotated[int, Field(ge=0)]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    initial_temperature: Annotated[float, Field(ge=0.01, le=1)]
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: int
    bootstrap: Bootstrap
    gallery_queries: Annotated[int, Field(ge=0)]
    index: tuple[IndexKind, ...]

    @model_validator(mode="after")
    def _whole(self) -> TwoTower:
        if self.pairs and not (self.candidates and self.query_gt):
            raise ValueError('pairs need candidates and query_gt beside them; without any say pairs: ""')
        if not self.index or len(set(self.index)) < len(self.index):
            raise ValueError("index must name one or more kinds, each once")
        if self.tower == "vit_b_16" and self.network.image_size % 16:
            raise ValueError(
                f"image_size {self.network.image_size} is no multiple of 16, the side of vit_b_16's patches"
            )
        return self
