"""Training of the two-tower model with in-batch InfoNCE; reads from top to bottom.

Every random draw comes from (seed, epoch): a resumed run continues to the bytes of an uninterrupted one. Only two
checkpoints are kept, because those of a network are large: `last.pt` to go on from and `best.pt` to use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from lib.base.artifacts import MANIFEST, sequence_sha256, write_json, write_manifest, write_text
from lib.base.params import TwoTower
from lib.training.checkpoint import remove_half_written, save_checkpoint
from lib.training.heads import seeded_generator
from lib.training.history import History, check_validation, curves_csv, log_lines, open_resumable
from lib.training.losses import symmetric_info_nce
from lib.training.two_tower import STAGE, Inputs, IntArray, TwoTowerModel

Validate = Callable[[TwoTowerModel], dict[str, float]]
SELECT = "recall@10"
CHECKPOINTS = "checkpoints"
BEST, LAST = f"{CHECKPOINTS}/best.pt", f"{CHECKPOINTS}/last.pt"
LOG, CURVES, CONFIG = "train_log.jsonl", "train_curves.csv", "config.json"
FIELDS_OF_LENGTH = {"epochs", "patience"}


def train_two_tower(
    model: TwoTowerModel,
    pairs: IntArray,
    *,
    inputs: Inputs,
    pictures: Sequence[str],
    params: TwoTower,
    validate: Validate,
    out: Path,
    resume: Path | None = None,
) -> History:
    """Train both towers and write config, log, curves, checkpoints and manifest under `out`.

    Args:
        model: untrained.
        pairs: (n_pairs, 2) picture numbers of query and candidate.
        inputs: of the pictures.
        pictures: the sha256 of every picture in hex, by number; what a checkpoint belongs to.
        params: the section `two_tower`.
        validate: rows by name, `recall@10` among them, which chooses the epoch; called before the first step and
            after each epoch.
        out: folder to write to.
        resume: `last.pt` of an earlier run with these data and parameters, None to start afresh.

    Returns:
        The rows of `train_log.jsonl`, epoch 0 (the untrained towers) first. `best.pt` is the epoch of the highest
        `recall@10` on validation, the earlier one of equals; epoch 0 is among them for towers of the backbone.

    Raises:
        IntegrityError: the checkpoint to resume from was made from other data, parameters or another backbone.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True)
    named = [f"{pictures[query]} {pictures[candidate]}" for query, candidate in pairs.tolist()]
    facts = {
        "model_config": model.config.as_dict(),
        "train_config": params.model_dump(mode="json", exclude=FIELDS_OF_LENGTH),
        "inputs": {"backbone": model.config.backbone, "pairs": sequence_sha256(named)},
    }
    remove_half_written(out / CHECKPOINTS)
    history: History = []
    if resume is None:
        (out / LAST).unlink(missing_ok=True)
        (out / BEST).unlink(missing_ok=True)
        (out / MANIFEST).unlink(missing_ok=True)  # an earlier run's: it would call every new checkpoint damaged
        history.append({"epoch": 0, "loss": {}, "validation": validate(model)})
        _save(out, facts, model, optimizer, history)
    else:
        history = open_resumable(resume, facts=facts, model=model, optimizer=optimizer, stage=STAGE)
        check_validation(resume, history[-1]["validation"], validate(model), stage=STAGE)
        (out / MANIFEST).unlink(missing_ok=True)
    belong = Belonging(pairs)
    for epoch in range(len(history), params.epochs + 1):
        if params.patience and epoch - 1 - best_epoch(history) >= params.patience:
            break
        loss = _one_epoch(model, optimizer, pairs, belong, inputs=inputs, params=params, epoch=epoch)
        temperature = round(1.0 / float(model.logit_scale.detach()), 6)
        row = {"epoch": epoch, "loss": {"info_nce": loss}, "validation": validate(model), "temperature": temperature}
        history.append(row)
        _save(out, facts, model, optimizer, history)
    write_json(out / CONFIG, {**facts, "epochs": history[-1]["epoch"], "best_epoch": best_epoch(history)})
    write_text(out / CURVES, curves_csv(history))
    write_manifest(out, [BEST, LAST, CONFIG, LOG, CURVES], facts=facts["inputs"])
    return history


def train_nothing(out: Path, reason: str) -> dict[str, str]:
    """Write what a training leaves, without checkpoints; returns what reports say instead of figures."""
    (out / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    remove_half_written(out / CHECKPOINTS)
    for stale in (BEST, LAST):
        (out / stale).unlink(missing_ok=True)
    skipped = {"skipped": reason}
    write_json(out / CONFIG, skipped)
    write_text(out / LOG, "")
    write_text(out / CURVES, "epoch\n")
    write_manifest(out, [CONFIG, LOG, CURVES], facts=skipped)
    return skipped


class Belonging:
    """Which queries and candidates of a batch belong together: every pair that the table names does.

    So two pairs of one candidate, or of one query, are not negatives of each other.
    """

    def __init__(self, pairs: IntArray) -> None:
        self._width = int(pairs.max(initial=0)) + 1
        self._keys = np.unique(pairs[:, 0] * self._width + pairs[:, 1])

    def of(self, batch: IntArray) -> npt.NDArray[np.bool_]:
        """(n, 2) pairs -> (n, n): query i and candidate j."""
        keys = batch[:, 0, None] * self._width + batch[None, :, 1]
        places = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        return np.asarray(self._keys[places] == keys)


def batches_of(
    n_pairs: int, *, batch_size: int, accumulate: int, rng: np.random.Generator
) -> Iterator[list[IntArray]]:
    """Every pair once in random order: steps of `accumulate` batches, whose sizes differ by one at most.

    >>> steps = batches_of(9, batch_size=4, accumulate=2, rng=np.random.default_rng(0))
    >>> [[len(batch) for batch in step] for step in steps]
    [[3, 3], [3]]
    """
    parts = np.array_split(rng.permutation(n_pairs), -(-n_pairs // batch_size))
    for start in range(0, len(parts), accumulate):
        yield parts[start : start + accumulate]


def best_epoch(history: History) -> int:
    """Epoch with the highest `recall@10` on validation; the earlier one of equals."""
    return int(max(history, key=lambda row: float(row["validation"][SELECT]))["epoch"])


def _one_epoch(
    model: TwoTowerModel,
    optimizer: torch.optim.Optimizer,
    pairs: IntArray,
    belong: Belonging,
    *,
    inputs: Inputs,
    params: TwoTower,
    epoch: int,
) -> float:
    """Returns the mean loss of the batches."""
    rng = np.random.default_rng([params.seed, epoch])
    dropout = seeded_generator(params.seed, epoch)
    steps = list(batches_of(len(pairs), batch_size=params.batch_size, accumulate=params.accumulate, rng=rng))
    total = torch.zeros((), device=model.device)
    model.train()
    for step in tqdm(steps, desc=f"epoch {epoch}/{params.epochs}", mininterval=1, leave=False):
        optimizer.zero_grad(set_to_none=True)
        for rows in step:
            loss = _loss(model, pairs[rows], belong, inputs=inputs, rng=rng, dropout=dropout)
            (loss / len(step)).backward()
            total += loss.detach()
        optimizer.step()
    model.eval()
    return round(float(total) / sum(map(len, steps)), 6)


def _loss(
    model: TwoTowerModel,
    batch: IntArray,
    belong: Belonging,
    *,
    inputs: Inputs,
    rng: np.random.Generator,
    dropout: torch.Generator,
) -> Tensor:
    seen = [inputs(batch[:, column], rng).to(model.device) for column in (0, 1)]
    # half precision only where the processor has it; the loss itself is always computed in float32
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.device.type == "cuda"):
        queries, candidates = model("query", seen[0], dropout), model("candidate", seen[1], dropout)
    return symmetric_info_nce(
        queries, candidates, model.logit_scale, torch.from_numpy(belong.of(batch)).to(model.device)
    )


def _save(
    out: Path,
    facts: dict[str, Any],
    model: TwoTowerModel,
    optimizer: torch.optim.Optimizer,
    history: History,
) -> None:
    """`best.pt` first: a run that is killed between the two repeats the epoch and writes it again."""
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    epoch = history[-1]["epoch"]
    if best_epoch(history) == epoch:
        save_checkpoint(out / BEST, {**facts, "epoch": epoch, "model": weights})
    content = {
        **facts,
        "epoch": epoch,
        "model": weights,
        "optimizer": _on_cpu(optimizer.state_dict()),
        "history": history,
    }
    save_checkpoint(out / LAST, content)
    write_text(out / LOG, log_lines(history))


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list | tuple) else value
