"""Training of the protocol model on cached embeddings; reads from top to bottom.

Everything lives in memory as tensors, so an epoch takes seconds. Every random draw comes from (seed, epoch):
a resumed run continues to the bytes of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from lib.artifacts import sequence_sha256, write_bytes, write_json, write_manifest, write_text
from lib.embeddings import Embeddings
from lib.errors import ConfigError
from lib.params import PAIR_KINDS, Loss, Train
from lib.training.checkpoint import save_checkpoint
from lib.training.history import best_epoch, curves_csv, log_lines, open_resumable
from lib.training.losses import (
    attribute_contrastive,
    identity_distance,
    image_text_contrastive,
    known_difference,
    masked_cross_entropy,
    multi_positive_info_nce,
    n_equal,
)
from lib.training.protocol_model import ModelConfig, ProtocolModel
from lib.training.sampler import BalancedBatches, Examples, build_examples

Validate = Callable[[ProtocolModel], dict[str, float]]

STRONG_EQUAL = 2
"""So many equal attributes within a category make a strong positive, in a batch as in pairs.parquet."""


@dataclass(frozen=True)
class TrainingData:
    """The catalogue as tensors.

    Attributes:
        images: (n, dim) float32 baseline embeddings.
        texts: (n, dim) float32.
        codes: name -> (n,) int64 value code, -1 unknown; the category of a pattern-only item is unknown.
        vocabularies: name -> values in the order of the codes.
        products: (n,) int64.
        captions: (n,) int64, equal for equal captions, -1 for an empty one.
        item_ids: n ids.
    """

    images: Tensor
    texts: Tensor
    codes: dict[str, Tensor]
    vocabularies: dict[str, tuple[str, ...]]
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
        captions, _ = _codes(catalog.meta["caption"].replace("", None))
        products, _ = _codes(catalog.meta["product_id"])
        return cls(
            torch.from_numpy(np.array(catalog.images)),
            torch.from_numpy(np.array(catalog.texts)),
            codes,
            vocabularies,
            products,
            captions,
            catalog.meta["item_id"].tolist(),
        )


def _codes(column: pd.Series[Any]) -> tuple[Tensor, tuple[str, ...]]:
    codes, values = pd.factorize(column, sort=True)
    return torch.from_numpy(codes.astype(np.int64)), tuple(str(value) for value in values)


def train(
    catalog: Embeddings,
    pairs: pd.DataFrame,
    *,
    backbone: str,
    params: Train,
    pattern_only: Sequence[str],
    validate: Validate,
    out: Path,
    resume: Path | None = None,
) -> list[dict[str, Any]]:
    """Train the heads and write config, log, curves and checkpoints under `out`.

    Args:
        catalog: the train split with its baseline embeddings.
        pairs: `pairs.parquet`.
        backbone: fingerprint of the embeddings.
        params: the section `train`.
        pattern_only: categories that say nothing about the category.
        validate: quick validation, called before the first step and after each epoch.
        out: folder to write to.
        resume: a checkpoint of an earlier run with these data and parameters, None to start afresh.

    Returns:
        The rows of `train_log.jsonl`, epoch 0 (the untouched baseline) first.

    Raises:
        IntegrityError: pairs or checkpoint do not belong to these embeddings.
        DataError: there is no pair.
    """
    data = TrainingData.of(catalog, attributes=sorted(params.loss.attribute_weights), pattern_only=pattern_only)
    examples = build_examples(pairs, data.item_ids)
    batches = BalancedBatches(
        examples, catalog.meta, params=params.sampler, batch_size=params.batch_size, seed=params.seed
    )
    config = ModelConfig(
        dim=data.images.shape[1],
        backbone=backbone,
        kind=params.head.kind,
        hidden=params.head.hidden,
        dropout=params.head.dropout,
        vocabularies={name: values for name, values in data.vocabularies.items() if len(values) > 1},
        initial_temperature=params.loss.initial_temperature,
    )
    model = ProtocolModel(config, generator=_generator(params.seed, 0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True)
    facts = {
        "model_config": config.as_dict(),
        "train_config": params.model_dump(mode="json", exclude={"epochs"}),
        "inputs": {"backbone": backbone, "pairs": _pairs_sha256(pairs)},
    }
    history: list[dict[str, Any]] = []
    if resume is not None:
        history = open_resumable(resume, facts=facts, model=model, optimizer=optimizer)
    else:
        for stale in sorted((out / "checkpoints").glob("epoch_*.pt")):
            stale.unlink()
        history.append({"epoch": 0, "loss": {}, "validation": validate(model), "distribution": {}})
        _save(out, facts, model, optimizer, history)
    loss_of = BatchLoss(data, examples, params.loss)
    for epoch in range(len(history), params.epochs + 1):
        drawn = batches.epoch(epoch)
        dropout = _generator(params.seed, epoch)
        totals: dict[str, Tensor] = {}
        for batch in tqdm(drawn, desc=f"epoch {epoch}/{params.epochs}", mininterval=1, leave=False):
            parts = loss_of(model, torch.from_numpy(batch), dropout=dropout)
            total = torch.stack(list(parts.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            for name, part in {"total": total, **parts}.items():
                totals[name] = totals.get(name, torch.zeros(())) + part.detach()
        history.append(
            {
                "epoch": epoch,
                "loss": {name: round(float(value) / len(drawn), 6) for name, value in totals.items()},
                "validation": validate(model),
                "distribution": batches.distribution(drawn),
                "temperature": round(1.0 / float(model.logit_scale.detach()), 6),
                "image_weight": round(float(model.image_weight.detach()), 6),
            }
        )
        _save(out, facts, model, optimizer, history)
    _finish(out, facts, history, select_by=params.validation.select_by)
    return history


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
        self.attribute_weights = torch.tensor([params.attribute_weights[name] for name in names])
        self.category = names.index("category2") if "category2" in names else None
        designs = [column for column, name in enumerate(names) if name not in ("category2", "color")]
        self.designs = torch.tensor(designs, dtype=torch.int64)

    def __call__(self, model: ProtocolModel, batch: Tensor, *, dropout: torch.Generator | None) -> dict[str, Tensor]:
        """Loss parts of the examples numbered in `batch`, (size,) int64."""
        params, data = self.params, self.data
        anchors, positives, negatives = self.rows[batch].unbind(dim=1)
        has_negative = negatives >= 0
        items = torch.cat([anchors, positives, negatives[has_negative]])
        inputs = data.images[items]
        images = model.encode_images(inputs, dropout)
        text_inputs = data.texts[anchors]
        texts = model.encode_texts(text_inputs, dropout)
        size = len(anchors)
        parts = {}
        if params.contrastive > 0:
            weights = self.negative_weights[batch]
            parts["contrastive"] = params.contrastive * self._contrastive(
                model, images, items, has_negative, self.positive_weights[batch], weights
            )
        if params.image_text > 0:
            captions = data.captions[anchors]
            same_text = (captions[:, None] == captions[None, :]) & (captions >= 0)[:, None]
            parts["image_text"] = params.image_text * image_text_contrastive(
                images[:size], texts, model.logit_scale, same_text
            )
        codes = self.codes[items]
        if params.attribute_contrastive > 0:
            products = data.products[items]
            parts["attribute_contrastive"] = params.attribute_contrastive * attribute_contrastive(
                images,
                codes,
                weights=self.attribute_weights,
                temperature=params.attribute_temperature,
                excluded=products[:, None] == products[None, :],  # siblings never count in the evaluation
            )
        if params.attribute_heads > 0:
            losses = [
                params.attribute_weights[name] * masked_cross_entropy(logits, codes[:, self.names.index(name)])
                for name, logits in model.attribute_logits(images).items()
            ]
            total = torch.stack(losses).sum() if losses else torch.zeros(())
            parts["attribute_heads"] = params.attribute_heads * total
        if params.identity > 0:
            distance = identity_distance(images, inputs) + identity_distance(texts, text_inputs)
            parts["identity"] = params.identity * distance
        return parts

    def _contrastive(
        self,
        model: ProtocolModel,
        images: Tensor,
        items: Tensor,
        has_negative: Tensor,
        positive_weights: Tensor,
        negative_weights: Tensor,
    ) -> Tensor:
        """Anchors against all positives and negatives of the batch, false negatives left out."""
        size = len(has_negative)
        anchors, candidates = items[:size], items[size:]
        rows = torch.arange(size)
        own_positive = torch.zeros(size, len(candidates), dtype=torch.bool)
        own_positive[rows, rows] = True
        own_negative = torch.zeros_like(own_positive)
        own_negative[rows[has_negative], size + torch.arange(int(has_negative.sum()))] = True
        codes, others = self.codes[anchors], self.codes[candidates]
        different = known_difference(codes, others)
        same_product = self.data.products[anchors][:, None] == self.data.products[candidates][None, :]
        strong = ~different & (n_equal(codes[:, self.designs], others[:, self.designs]) >= STRONG_EQUAL)
        if self.category is not None:
            category, other = codes[:, self.category], others[:, self.category]
            strong &= (category[:, None] == other[None, :]) & (category >= 0)[:, None]
        negatives = (different & ~same_product | own_negative) & ~own_positive
        negatives &= ~(own_negative & (negative_weights == 0)[:, None])
        positives = own_positive | (strong & ~same_product & ~own_negative)
        log_weights = torch.zeros(size, len(candidates))
        log_weights[own_negative] = negative_weights[has_negative].clamp(min=1e-12).log()
        logits = model.logit_scale * images[:size] @ images[size:].T
        return multi_positive_info_nce(
            logits, positives, negatives, row_weights=positive_weights, column_log_weights=log_weights
        )


def _generator(seed: int, epoch: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, epoch]).generate_state(2, dtype=np.uint32).tolist()
    return torch.Generator().manual_seed((state[0] << 31) ^ state[1])


def _pairs_sha256(pairs: pd.DataFrame) -> str:
    return sequence_sha256(value for name in ("a_id", "b_id", "kind") for value in pairs[name])


def _save(
    out: Path,
    facts: dict[str, Any],
    model: ProtocolModel,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
) -> None:
    """One checkpoint per epoch and the log so far."""
    epoch = history[-1]["epoch"]
    content = {
        **facts,
        "epoch": epoch,
        "model": dict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "history": history,
    }
    save_checkpoint(out / "checkpoints" / f"epoch_{epoch:02d}.pt", content)
    write_text(out / "train_log.jsonl", log_lines(history))


def _finish(out: Path, facts: dict[str, Any], history: list[dict[str, Any]], *, select_by: Sequence[str]) -> None:
    """best.pt and final.pt as copies of their epoch's checkpoint; config, curves, manifest."""
    folder = out / "checkpoints"
    names = [f"checkpoints/epoch_{row['epoch']:02d}.pt" for row in history]
    best = best_epoch(history, select_by=select_by)
    for name, epoch in (("best", best), ("final", history[-1]["epoch"])):
        write_bytes(folder / f"{name}.pt", (folder / f"epoch_{epoch:02d}.pt").read_bytes())
        names.append(f"checkpoints/{name}.pt")
    write_json(out / "config.json", {**facts, "epochs": history[-1]["epoch"], "best_epoch": best})
    write_text(out / "train_log.jsonl", log_lines(history))
    write_text(out / "train_curves.csv", curves_csv(history))
    write_manifest(out, [*names, "config.json", "train_log.jsonl", "train_curves.csv"], facts=facts["inputs"])
