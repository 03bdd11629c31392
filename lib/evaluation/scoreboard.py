"""The protocol model against the baseline, row by row, with paired intervals and declared targets.

All rows are `image_to_image`, in fractions; targets are in points (hundredths). `unseen_` rows search the other query
split in place of the train split: a gallery whose pictures and labels no model was trained on. `product_` rows search
the query's own split for other views of its product, where there are any. `official_` rows, on
test only, are those of the data set's own protocol, where it brings one.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.base.errors import ConfigError, IntegrityError
from lib.base.params import Bootstrap, Scoreboard, Target
from lib.evaluation.evaluation import (
    LABELS,
    OFFICIAL,
    PRECISION_NAMES,
    PRODUCT_NAMES,
    QUERY_COLUMNS,
    UNSEEN,
    Evaluation,
    product_columns,
)
from lib.evaluation.official_rows import official_pairs
from lib.evaluation.paired import IntArray, Pair, ScoreArray, paired_rows

Tone = Literal["rose", "fell", "unchanged"]

SPLITS = ("test", "validation")
MODE = "image_to_image"
MIN_QUERIES = 10
"""Queries of a row below which its interval says nothing: resampling a handful cannot show what others would do."""
TOLERANCE = 1e-9  # points; a gain of exactly the target must not fail on a rounding error
ROW_ORDER = ("neckline", "category", "color", "material", "pattern", "sleeve")


@dataclass(frozen=True)
class BoardRow:
    """A scoreboard row as it is shown.

    Attributes:
        name: `neckline@10`, …
        numbers: what `scoreboard.json` holds for the row.
        verdict: what to say about it, interval and target considered.
        tone: direction of the delta.
        target_met: None without a target.
    """

    name: str
    numbers: dict[str, float]
    verdict: str
    tone: Tone
    target_met: bool | None


def build_scoreboard(baseline: Evaluation, protocol: Evaluation, params: Scoreboard) -> dict[str, Any]:
    """Compare two evaluations of the same queries.

    Args:
        baseline: evaluation of the frozen backbone.
        protocol: evaluation of the trained model.
        params: class rows, targets, bootstrap.

    Returns:
        `{"test": {row: {"baseline", "protocol", "delta", "delta_low", "delta_high", "n_queries", "chance",
        "ceiling"}}, "validation": {…}, "targets_met", "success", "probe": {split: {label: {"accuracy",
        "low", "high", "n", "chance", "ceiling"}}}, "balanced_probe": {…}}` and, when not empty,
        `"skipped": {split: {row: reason}}`. The probes are the baseline's: what its frozen embeddings hold. Success
        is 1 when the headline target is met on
        test and every class row gains; a row that was skipped is neither.

    Raises:
        IntegrityError: the evaluations are not of the same queries.
        ConfigError: a target names no row, or the headline mode was not evaluated.
    """
    _check_targets(params, k=baseline.k)
    before, after = _paired(baseline, protocol, mode=MODE)
    unseen = _paired(baseline, protocol, mode=UNSEEN)
    official = _paired(baseline, protocol, mode=OFFICIAL)
    board: dict[str, Any] = {split: {} for split in SPLITS}
    skipped: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    for split in SPLITS:
        chosen = (before["split"] == split).to_numpy()
        reasons = baseline.metrics.get("skipped", {}).get(split, {}).get(MODE, {})
        rows = _rows_of(before[chosen], params)
        board[split], skipped[split] = _compare(
            before[chosen], after[chosen], rows, params.bootstrap, k=baseline.k, reasons=reasons
        )
        board[split] |= _product_rows(before[chosen], after[chosen], params.bootstrap, k=baseline.k)
        found, missing = _unseen(*unseen, split, baseline, params.bootstrap)
        board[split] |= found
        skipped[split] |= missing
    measured = baseline.metrics.get("test", {}).get(OFFICIAL, {})
    board["test"] |= paired_rows(
        official_pairs(*official, measured), _clusters(official[0]["partition_item"]), params.bootstrap
    )
    met = [target_met(board, target) for target in params.targets]
    headline = [one for one, target in zip(met, params.targets, strict=True) if target.headline]
    classes = [board["test"].get(f"{name}@{baseline.k}") for name in params.classes]
    gains = all(row is not None and row["delta"] > 0 for row in classes)
    board["targets_met"] = sum(met)
    board["success"] = int(bool(headline) and all(headline) and gains)
    for name in ("probe", "balanced_probe"):
        board[name] = {split: baseline.metrics[name][split] for split in SPLITS}
    if any(skipped.values()):
        board["skipped"] = {split: reasons for split, reasons in skipped.items() if reasons}
    return board


def target_met(board: dict[str, Any], target: Target) -> bool:
    """Whether the test delta reaches a target; a row that was skipped does not."""
    row = board["test"].get(target.row)
    return row is not None and 100.0 * row["delta"] >= target.points - TOLERANCE


def headline_label(params: Scoreboard) -> str:
    """The label that the headline target is about; neckline when no target is the headline."""
    for target in params.targets:
        name = target.row.partition("@")[0].removeprefix("known_")
        if target.headline:
            labels = {column: label for label, column in LABELS.items()}
            return labels[params.classes[name].column] if name in params.classes else name
    return ROW_ORDER[0]


def board_rows(board: dict[str, Any], split: str, targets: Sequence[Target]) -> list[BoardRow]:
    """The rows of one split with their verdicts, in the order of the board; targets judge test only."""
    declared = {target.row: target for target in targets} if split == "test" else {}
    rows = []
    for name, numbers in board[split].items():
        target = declared.get(name)
        delta = numbers["delta"]
        tone: Tone = "rose" if delta > 0 else "fell" if delta < 0 else "unchanged"
        unsure = numbers["delta_low"] <= 0 <= numbers["delta_high"] and tone != "unchanged"
        met = None if target is None else target_met(board, target)
        verdict = _verdict(target, 100.0 * delta, tone, met)
        if met is False and 100.0 * (numbers["ceiling"] - numbers["baseline"]) < declared[name].points:
            verdict += f" (the ceiling leaves {100.0 * (numbers['ceiling'] - numbers['baseline']):.1f})"
        if numbers["n_queries"] < MIN_QUERIES:
            verdict += ", but of too few queries to tell" if met else "; too few queries to tell"
        elif unsure:
            verdict += ", but the interval includes zero" if met else "; interval includes zero"
        rows.append(BoardRow(name, numbers, verdict, tone, met))
    return rows


def _verdict(target: Target | None, points: float, tone: Tone, met: bool | None) -> str:
    if target is None or met is None:
        return tone.upper() if tone != "unchanged" else tone
    if not met:
        verb = "MISSED" if tone != "fell" else "FELL, MISSED"
        return f"{verb} target {target.points:+g}"
    if target.stretch is not None and points >= target.stretch - TOLERANCE:
        return f"MET target {target.points:+g} and stretch {target.stretch:+g}"
    return f"MET target {target.points:+g}"


def _check_targets(params: Scoreboard, *, k: int) -> None:
    names = [f"{name}@{k}" for name in (*PRECISION_NAMES, *params.classes)]
    for target in params.targets:
        if target.row not in names:
            near = difflib.get_close_matches(target.row, names, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"scoreboard.targets: no row '{target.row}'.{hint} Rows: {', '.join(names)} (k = evaluate.k)"
            )
    clash = sorted(set(params.classes) & set(PRECISION_NAMES))
    if clash:
        raise ConfigError(f"scoreboard.classes: '{clash[0]}' is the name of a fixed row; choose another name")


def _paired(baseline: Evaluation, protocol: Evaluation, *, mode: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    if baseline.k != protocol.k:
        raise IntegrityError(f"k differs: baseline {baseline.k}, protocol {protocol.k}; run `dvc repro`")
    parts = []
    for evaluation in (baseline, protocol):
        table = evaluation.per_query
        parts.append(table[table["mode"] == mode].reset_index(drop=True))
    before, after = parts
    if len(before) != len(after):
        raise IntegrityError(
            f"the evaluations are not of the same queries: {len(before)} baseline, {len(after)} protocol; "
            "run `dvc repro`"
        )
    for column in QUERY_COLUMNS:
        differ = before[column].fillna("") != after[column].fillna("")
        if differ.any():
            row = int(np.flatnonzero(differ)[0])
            raise IntegrityError(
                f"the evaluations are not of the same queries: row {row} has {column} "
                f"'{before[column][row]}' in the baseline and '{after[column][row]}' in the protocol; "
                "run `dvc repro`"
            )
    if before.empty and mode == MODE:
        raise ConfigError(f"evaluate.modes: the scoreboard needs '{MODE}', which was not evaluated")
    return before, after


Rows = dict[str, tuple[str, npt.NDArray[np.bool_]]]
"""Row name without @k -> (name of the precision, which queries count)."""


def _rows_of(queries: pd.DataFrame, params: Scoreboard) -> Rows:
    everything = np.ones(len(queries), dtype=np.bool_)
    known = (f"known_{label}" for label in ROW_ORDER)
    rows = {name: (name, everything) for name in (*ROW_ORDER, *known)}
    labels = {column: label for label, column in LABELS.items()}
    for name, row in params.classes.items():
        rows[name] = (labels[row.column], (queries[row.column] == row.value).to_numpy(dtype=np.bool_))
    return rows


def _unseen_rows(queries: pd.DataFrame) -> Rows:
    everything = np.ones(len(queries), dtype=np.bool_)
    return {f"unseen_{label}": (label, everything) for label in ROW_ORDER}


def _unseen(
    before: pd.DataFrame, after: pd.DataFrame, split: str, baseline: Evaluation, bootstrap: Bootstrap
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """The rows whose gallery is the other query split, and why others are not there."""
    said = baseline.metrics.get("skipped", {}).get(split, {}).get(UNSEEN, {})
    chosen = (before["split"] == split).to_numpy()
    rows = _unseen_rows(before[chosen])
    if not chosen.any():
        return {}, {f"{name}@{baseline.k}": said["*"] for name in rows if "*" in said}
    reasons = {f"unseen_{name}": reason for name, reason in said.items()}
    return _compare(before[chosen], after[chosen], rows, bootstrap, k=baseline.k, reasons=reasons)


def _compare(
    before: pd.DataFrame,
    after: pd.DataFrame,
    wanted: Rows,
    bootstrap: Bootstrap,
    *,
    k: int,
    reasons: dict[str, str],
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Every wanted row that can be computed, and why the others cannot."""
    pairs: dict[str, Pair] = {}
    skipped: dict[str, str] = {}
    for name, (label, chosen) in wanted.items():
        values, others = (_fractions(table[f"{label}_hits"], chosen, divisor=k) for table in (before, after))
        counted = ~np.isnan(values)
        if not counted.any() and np.isnan(others).all():
            reason = "no query with a known value" if name == label else "no query of this class whose value counts"
            skipped[f"{name}@{k}"] = reasons.get(f"{name}@{k}", reason)
            continue
        chance, ceiling = (
            before[f"{label}_{level}"].to_numpy(dtype=np.float64)[counted] for level in ("chance", "ceiling")
        )
        pairs[f"{name}@{k}"] = Pair(values, others, float(np.mean(chance)), float(np.mean(ceiling)))
    return paired_rows(pairs, _clusters(before["product_id"]), bootstrap), skipped


def _product_rows(before: pd.DataFrame, after: pd.DataFrame, bootstrap: Bootstrap, *, k: int) -> dict[str, Any]:
    """Finding other views of the query's own product; no rows where no product has any."""
    pairs = {}
    for name in PRODUCT_NAMES:
        value, *levels = product_columns(name)
        ours, others = (table[value].to_numpy(dtype=np.float64) for table in (before, after))
        counted = ~(np.isnan(ours) & np.isnan(others))
        if counted.any():
            chance, ceiling = (float(before[level].to_numpy(dtype=np.float64)[counted].mean()) for level in levels)
            pairs[name.format(k=k)] = Pair(ours, others, chance, ceiling)
    return paired_rows(pairs, _clusters(before["product_id"]), bootstrap)


def _clusters(ids: pd.Series) -> IntArray:
    return pd.factorize(ids)[0].astype(np.int64)


def _fractions(hits: pd.Series, chosen: npt.NDArray[np.bool_], *, divisor: int) -> ScoreArray:
    values = hits.to_numpy(dtype=np.float64, na_value=np.nan) / divisor
    return np.where(chosen, values, np.nan)
