"""What a training run remembers of itself: log, curves, best epoch, and how to go on from a checkpoint."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lib.base.errors import IntegrityError
from lib.base.params import Validation
from lib.training.checkpoint import STAGE, load_checkpoint


class Mixture(NamedTuple):
    """How much of the trained head is used, and of the whitening that evens out views of one product.

    Attributes:
        whitened: 0 (the embedding's own part is the baseline's) to 1.
        interpolation: 0 (the baseline) to 1 (the head as trained), or more.
    """

    whitened: float
    interpolation: float


History = list[dict[str, Any]]
"""A row per epoch, epoch 0 first: `epoch`, `loss` (by part), `validation`, `distribution`."""


def selection_score(rows: Mapping[str, float], rule: Validation) -> float:
    """Mean of the validation rows named in `rule.select_by`; absent rows are ignored, 0 when none is there."""
    values = [rows[name] for name in rule.select_by if name in rows]
    return sum(values) / len(values) if values else 0.0


def best_epoch(history: History, rule: Validation) -> int:
    """Epoch with the highest selection score; the earlier one of equals."""
    scores = [selection_score(row["validation"], rule) for row in history]
    return int(history[scores.index(max(scores))]["epoch"])


def last_epochs(history: History, n: int) -> list[int]:
    """Numbers of the last `n` epochs that were trained, or of all where there are fewer."""
    return [int(row["epoch"]) for row in history if row["epoch"] > 0][-n:]


def best_mixture(
    tried: Mapping[Mixture, Mapping[str, float]], start: Mapping[str, float], rule: Validation
) -> Mixture:
    """What serves best of baseline and trained head without buying a gain with another row's fall.

    Args:
        tried: mixture -> validation rows, in fractions.
        start: the untouched baseline's rows.
        rule: a row that falls by more than `max_fall` points costs the excess in full.

    Returns:
        The mixture with the highest selection score less these costs; of equals the one nearest to the baseline,
        which is itself `Mixture(0, 0)` with the rows `start`.
    """

    def score(rows: Mapping[str, float]) -> float:
        falls = [start[name] - rows[name] - rule.max_fall / 100.0 for name in start if name in rows]
        return selection_score(rows, rule) - sum(fall for fall in falls if fall > 0)

    return min(tried, key=lambda mixture: (-score(tried[mixture]), mixture))


def stale_epochs(history: History, rule: Validation) -> int:
    """Epochs since the best one."""
    return int(history[-1]["epoch"]) - best_epoch(history, rule)


def log_lines(history: History) -> str:
    """`train_log.jsonl`; holds no durations, so that two runs write the same bytes."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in history)


def curves_csv(history: History) -> str:
    """`train_curves.csv` for `dvc plots`: a row per epoch, a column per loss part and validation row."""
    flat = [
        {
            "epoch": row["epoch"],
            **{f"loss_{name}": value for name, value in row["loss"].items()},
            **row["validation"],
        }
        for row in history
    ]
    columns = sorted({name for row in flat for name in row} - {"epoch"})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["epoch", *columns], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return stream.getvalue()


def last_checkpoint(out: Path) -> Path:
    """The checkpoint of the latest epoch under a training folder.

    Raises:
        IntegrityError: there is none.
    """
    found = sorted((out / "checkpoints").glob("epoch_*.pt"), key=lambda path: int(path.stem[6:]))
    if not found:
        raise IntegrityError(f"{out}/checkpoints: no epoch to resume from; run without --resume")
    return found[-1]


def open_resumable(
    path: Path,
    *,
    facts: dict[str, Any],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    stage: str = STAGE,
) -> History:
    """Load weights and optimizer of a checkpoint into `model` and `optimizer`; return its history.

    Raises:
        IntegrityError: the checkpoint was made from other data, another backbone or other parameters.
    """
    content = load_checkpoint(path, stage=stage)
    for name, expected in facts.items():
        found = content.get(name)
        if found != expected:
            keys = [k for k in expected if not isinstance(found, dict) or found.get(k) != expected[k]]
            shown = found if not isinstance(found, dict) else {k: found.get(k) for k in keys}
            raise IntegrityError(
                f"{path}: expected {name} { ({k: expected[k] for k in keys}) }, got {shown}; "
                f"re-run stage {stage} without --resume"
            )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    history: History = content["history"]
    return history


def check_validation(
    path: Path, logged: Mapping[str, float], found: Mapping[str, float], *, stage: str = STAGE
) -> None:
    """Refuse to go on where the same weights now validate otherwise: epochs could not be compared.

    Raises:
        IntegrityError: the validation queries, or their embeddings, are not those of the checkpoint.
    """
    for name in sorted(logged.keys() | found.keys()):
        if logged.get(name) != found.get(name):
            raise IntegrityError(
                f"{path}: expected {name} {logged.get(name)} on validation, got {found.get(name)}: the validation "
                f"queries are others than when it was saved; re-run stage {stage} without --resume"
            )


def delta_table(baseline: dict[str, float], model: dict[str, float]) -> str:
    """Validation rows of a model beside the baseline's, with the difference in points (hundredths).

    >>> print(delta_table({"neckline@10": 0.25}, {"neckline@10": 0.375}))
    validation          baseline   model   points
    neckline@10            0.250   0.375   +12.50
    """
    lines = [f"{'validation':<19} {'baseline':>8} {'model':>7} {'points':>8}"]
    for name, value in model.items():
        points = 100.0 * (value - baseline[name])
        lines.append(f"{name:<19} {baseline[name]:>8.3f} {value:>7.3f} {points:>+8.2f}")
    return "\n".join(lines)


def summary(history: History, rule: Validation, config: Mapping[str, Any]) -> str:
    """What of a run was kept, and its validation against epoch 0.

    Args:
        history: the rows of `train_log.jsonl`.
        rule: which rows chose.
        config: the content of `config.json`.

    >>> rule = Validation(gallery=1, queries=1, select_by=("neckline@10",), max_fall=0.0, seed=1)
    >>> nothing = {"whitened": 0.0, "interpolation": 1.0, "validation": {}}
    >>> config = {"best_epoch": 0, "averaged_epochs": [], "tried": [nothing], **nothing}
    >>> print(summary([{"epoch": 0, "validation": {}}], rule, config))
    best of 0 epochs by validation: epoch 0
    validation has too few results of any row to choose by: nothing of the head is used
    """
    said = f"best of {len(history) - 1} epochs by validation: epoch {config['best_epoch']}"
    averaged = config["averaged_epochs"]
    if averaged:
        said += f"; the mean of epochs {averaged[0]} to {averaged[-1]} is better"
    mixture = Mixture(config["whitened"], config["interpolation"])
    kept = next(one for one in config["tried"] if (one["whitened"], one["interpolation"]) == mixture)["validation"]
    if not kept.keys() & set(rule.select_by):
        return f"{said}\nvalidation has too few results of any row to choose by: nothing of the head is used"
    said += f"\nkept: {mixture.interpolation:g} of the head, views of a product evened out by {mixture.whitened:g}"
    return f"{said}\n{delta_table(history[0]['validation'], kept)}"
