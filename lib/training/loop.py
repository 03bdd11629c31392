"""Training of the protocol model on cached embeddings; reads from top to bottom.

Everything lives in memory as tensors, so an epoch takes seconds. Every random draw comes from (seed, epoch):
a resumed run continues to the bytes of an uninterrupted one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.util import hash_pandas_object
from torch import Tensor
from tqdm import tqdm

from lib.base.artifacts import MANIFEST, sequence_sha256, write_bytes, write_json, write_manifest, write_text
from lib.base.params import Train
from lib.embeddings import META_COLUMNS, Embeddings
from lib.training.checkpoint import load_checkpoint, remove_half_written, save_checkpoint
from lib.training.heads import seeded_generator
from lib.training.history import (
    Mixture,
    best_epoch,
    best_mixture,
    check_validation,
    curves_csv,
    last_epochs,
    log_lines,
    open_resumable,
    selection_score,
    stale_epochs,
)
from lib.training.objective import BatchLoss, TrainingData
from lib.training.protocol_model import ModelConfig, ProtocolModel
from lib.training.sampler import BalancedBatches, build_examples

Validate = Callable[[ProtocolModel], dict[str, float]]


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
        IntegrityError: pairs do not belong to these embeddings; or the checkpoint to resume from was made from
            another catalogue, other pairs, parameters or validation queries.
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
        importance=dict(params.loss.attribute_weights),
        initial_temperature=params.loss.initial_temperature,
    )
    model = ProtocolModel(config, generator=seeded_generator(params.seed, 0))
    model.fit_statistics(data.images, data.texts, data.products)
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True)
    facts = {
        "model_config": config.as_dict(),
        "train_config": _train_config(params),
        "inputs": {"backbone": backbone, "catalog": _catalog_sha256(catalog), "pairs": _pairs_sha256(pairs)},
    }
    history: list[dict[str, Any]] = []
    remove_half_written(out / "checkpoints")
    if resume is not None:
        history = open_resumable(resume, facts=facts, model=model, optimizer=optimizer)
        check_validation(resume, history[-1]["validation"], validate(model))
    else:
        for stale in sorted((out / "checkpoints").glob("epoch_*.pt")):
            stale.unlink()
        (out / MANIFEST).unlink(missing_ok=True)  # an earlier run's: it would call every new checkpoint damaged
        history.append({"epoch": 0, "loss": {}, "validation": validate(model), "distribution": {}})
        _save(out, facts, model, optimizer, history)
    loss_of = BatchLoss(data, examples, params.loss)
    for epoch in range(len(history), params.epochs + 1):
        if params.patience and stale_epochs(history, params.validation) >= params.patience:
            break
        drawn = batches.epoch(epoch)
        dropout = seeded_generator(params.seed, epoch)
        parts: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        for batch in tqdm(drawn, desc=f"epoch {epoch}/{params.epochs}", mininterval=1, leave=False):
            parts = loss_of(model, torch.from_numpy(batch), dropout=dropout)
            values = torch.stack(list(parts.values()))
            optimizer.zero_grad(set_to_none=True)
            values.sum().backward()
            optimizer.step()
            losses.append(values.detach())
        history.append(
            {
                "epoch": epoch,
                "loss": _mean_losses(list(parts), losses),
                "validation": validate(model),
                "distribution": batches.distribution(drawn),
                "temperature": round(1.0 / float(model.logit_scale.detach()), 6),
                "image_weight": round(float(model.image_weight.detach()), 6),
            }
        )
        _save(out, facts, model, optimizer, history)
    best = best_epoch(history, params.validation)
    content = load_checkpoint(_checkpoint(out, best))
    model.load_state_dict(content["model"])
    row = next(row for row in history if row["epoch"] == best)
    validation, averaged = row["validation"], []
    last = last_epochs(history, params.average)
    if best and len(last) > 1:
        model.load_state_dict(mean_weights([load_checkpoint(_checkpoint(out, epoch))["model"] for epoch in last]))
        of_mean = validate(model)
        if selection_score(of_mean, params.validation) > selection_score(validation, params.validation):
            validation, averaged = of_mean, last
        else:
            model.load_state_dict(content["model"])
    tried, start = {Mixture(0.0, 1.0): validation}, history[0]["validation"]
    if best:
        tried |= try_mixtures(model, params, validate=validate)
        # the baseline is a choice too; of the same rule, so that a head whose every share costs more is not used
        untouched = Mixture(0.0, 0.0)
        if best_mixture({**tried, untouched: start}, start, params.validation) == untouched:
            tried[untouched] = start
    chosen = best_mixture(tried, start, params.validation)
    model.mix(*chosen)
    save_checkpoint(out / "checkpoints" / "best.pt", {**content, "model": dict(model.state_dict())})
    _finish(
        out,
        facts,
        history,
        chosen={
            "best_epoch": best,
            "averaged_epochs": averaged,
            **chosen._asdict(),
            "tried": [{**mixture._asdict(), "validation": rows} for mixture, rows in tried.items()],
        },
    )
    return history


def try_mixtures(model: ProtocolModel, params: Train, *, validate: Validate) -> dict[Mixture, dict[str, float]]:
    """Quick validation at each weight of the trained head beside 1, with each amount of whitening beside 0."""
    tried = {}
    with model.trying_mixtures():
        for whitened in (0.0, *params.whitening):
            for interpolation in (*params.interpolation, 1.0):
                if (whitened, interpolation) != (0.0, 1.0):  # that is the epoch as it was validated
                    model.mix(whitened, interpolation)
                    tried[Mixture(whitened, interpolation)] = validate(model)
    return tried


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several models' weights, name by name, in float64 (SWA, Izmailov et al. 2018)."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(weight.dtype)
        for name, weight in states[0].items()
    }


def _train_config(params: Train) -> dict[str, Any]:
    """What a resumed run must agree on; a part of the loss that came later and is off is as if there were none."""
    config = params.model_dump(mode="json", exclude={"epochs"})
    if not params.loss.logit_adjustment:
        del config["loss"]["logit_adjustment"]
    return config


def _checkpoint(out: Path, epoch: int) -> Path:
    return out / "checkpoints" / f"epoch_{epoch:02d}.pt"


def _mean_losses(names: Sequence[str], losses: Sequence[Tensor]) -> dict[str, float]:
    """Means over the steps of an epoch, of the total and of each part; empty without any step."""
    if not losses:
        return {}
    means = torch.stack(list(losses)).double().mean(dim=0)
    return {
        "total": round(float(means.sum()), 6),
        **{name: round(float(mean), 6) for name, mean in zip(names, means, strict=True)},
    }


def _catalog_sha256(catalog: Embeddings) -> str:
    """Names the embeddings and every column that training may read: labels, captions, products, ids."""
    digest = hashlib.sha256()
    for array in (catalog.images, catalog.texts):
        digest.update(np.ascontiguousarray(array).data)
    digest.update(hash_pandas_object(catalog.meta[list(META_COLUMNS)], index=False).to_numpy().tobytes())
    return digest.hexdigest()


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
    save_checkpoint(_checkpoint(out, epoch), content)
    write_text(out / "train_log.jsonl", log_lines(history))


def _finish(out: Path, facts: dict[str, Any], history: list[dict[str, Any]], *, chosen: dict[str, Any]) -> None:
    """final.pt as a copy of its epoch's checkpoint; config, log, curves, manifest."""
    folder = out / "checkpoints"
    last = f"epoch_{history[-1]['epoch']:02d}.pt"
    write_bytes(folder / "final.pt", (folder / last).read_bytes())
    names = [f"checkpoints/epoch_{row['epoch']:02d}.pt" for row in history]
    names += ["checkpoints/best.pt", "checkpoints/final.pt"]
    write_json(out / "config.json", {**facts, "epochs": history[-1]["epoch"], **chosen})
    write_text(out / "train_log.jsonl", log_lines(history))
    write_text(out / "train_curves.csv", curves_csv(history))
    write_manifest(out, [*names, "config.json", "train_log.jsonl", "train_curves.csv"], facts=facts["inputs"])
