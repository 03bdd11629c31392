"""The scoreboard for a terminal and as Markdown, in points (hundredths)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib.base.params import Scoreboard, Target
from lib.evaluation.scoreboard import SPLITS, BoardRow, board_rows

MARKS = {"rose": "▲", "fell": "▼", "unchanged": "="}
NEAR_CHANCE = 0.05
"""A probe that gains less than this over chance, as accuracy and as balanced accuracy, is called near chance."""
_HEAD = ("row", "n", "chance", "baseline", "protocol", "delta", "95 % interval", "ceiling")
_WIDTHS = (18, 6, 7, 9, 9, 7, 16, 8)
_NOTE = (
    "Points (hundredths). Precision among the top results without the query's own product; known_: gallery\n"
    "restricted to items whose value is known; unseen_: the other query split as gallery, whose pictures and\n"
    "labels no model was trained on; product_: other views of the query's product among the others of its split.\n"
    "Chance: a random ranking; ceiling: the best possible one.\n"
    "Intervals: paired bootstrap over the queries' products. They say how the delta would vary with other\n"
    "queries, for this gallery and these two models; another gallery or training seed varies it further."
)


_BALANCED_NOTE = "Balanced: mean over the values of the share found, so that rare values count as frequent ones do."
_OFFICIAL_NOTE = (
    "official_hit_rate@k: share of the official queries with an image of their item among the top k of the official\n"
    "gallery, which the literature calls Recall@k; its intervals are clustered by official item."
)


def summary_lines(board: dict[str, Any], params: Scoreboard) -> str:
    """The result in at most two lines, for the stage's output."""
    rows = {row.name: row for row in board_rows(board, "test", params.targets)}
    heads = [_headline(target, rows) for target in params.targets if target.headline]
    overall = "SUCCESS" if board["success"] else "NOT A SUCCESS"
    lines = ["; ".join(heads) or "no headline target declared"]
    lines.append(f"{overall}: {board['targets_met']} of {len(params.targets)} targets met")
    return "\n".join(lines)


def text_table(board: dict[str, Any], params: Scoreboard) -> str:
    """Fixed-width text: the result, a table per split, probes, what was skipped."""
    lines = [summary_lines(board, params)]
    lost = [row.name for row in board_rows(board, "test", params.targets) if row.tone == "fell"]
    lines.append(f"fell on test: {', '.join(lost) or 'nothing'}")
    for split in SPLITS:
        rows = board_rows(board, split, params.targets)
        width = max([_WIDTHS[0], *(len(row.name) for row in rows)])
        lines += ["", split.upper(), "  " + _fixed(_HEAD, width) + "  verdict"]
        for row in rows:
            lines.append(f"{MARKS[row.tone]} {_fixed(_cells(row), width)}  {row.verdict}")
        for name, reason in board.get("skipped", {}).get(split, {}).items():
            lines.append(f"- {name:<{_WIDTHS[0]}} skipped: {reason}")
    lines += ["", "LINEAR PROBES on the baseline's frozen image embeddings: can they tell the values apart at all?"]
    lines.append(f"  {'label':<10}{'split':<11} {'n':>6} {'chance':>7} {'accuracy':>9} {'chance':>9} {'balanced':>9}")
    for label, split, probe, balanced in _probes(board):
        chance, *others = _levels(probe, balanced)
        levels = " ".join([f"{chance:>7}", *(f"{level:>9}" for level in others)])
        lines.append(f"  {label:<10}{split:<11} {probe['n']:>6} {levels}{_probe_note(probe, balanced)}")
    return "\n".join([*lines, _BALANCED_NOTE, "", *_notes(board), ""])


def markdown_table(board: dict[str, Any], params: Scoreboard) -> str:
    """The same as Markdown."""
    lines = ["# Scoreboard", "", *(f"**{line}**  " for line in summary_lines(board, params).splitlines())]
    for split in SPLITS:
        lines += ["", f"## {split.capitalize()}", "", f"| | {' | '.join(_HEAD)} | verdict |"]
        lines.append("|---|---|" + "---:|" * (len(_HEAD) - 1) + "---|")
        for row in board_rows(board, split, params.targets):
            name, *cells = _cells(row)
            lines.append(f"| {MARKS[row.tone]} | {_escaped(name)} | {' | '.join(cells)} | {row.verdict} |")
        for name, reason in board.get("skipped", {}).get(split, {}).items():
            lines.append(f"| – | {_escaped(name)} |{' |' * (len(_HEAD) - 1)} skipped: {_escaped(reason)} |")
    lines += ["", "## Linear probes", "", "On the baseline's frozen image embeddings.", ""]
    lines += ["| label | split | n | chance | accuracy | chance | balanced |", "|---|---|---:|---:|---:|---:|---|"]
    for label, split, probe, balanced in _probes(board):
        levels = " | ".join([str(probe["n"]), *_levels(probe, balanced)])
        lines.append(f"| {label} | {split} | {levels}{_probe_note(probe, balanced)} |")
    notes = [note.replace("\n", " ") for note in _notes(board)]
    return "\n".join([*lines, "", _BALANCED_NOTE, "", *notes, ""])


def _headline(target: Target, rows: dict[str, BoardRow]) -> str:
    row = rows.get(target.row)
    if row is None:
        return f"{target.row}: skipped, target {target.points:+g} not met"
    numbers = row.numbers
    return (
        f"{row.name} {100 * numbers['baseline']:.1f} → {100 * numbers['protocol']:.1f} "
        f"({100 * numbers['delta']:+.1f} points, 95 % {_interval(numbers)}): {row.verdict}"
    )


def _interval(numbers: dict[str, float]) -> str:
    return f"[{100 * numbers['delta_low']:+.1f}, {100 * numbers['delta_high']:+.1f}]"


def _cells(row: BoardRow) -> list[str]:
    numbers = row.numbers
    levels = [f"{100 * numbers[name]:.1f}" for name in ("chance", "baseline", "protocol")]
    delta, ceiling = f"{100 * numbers['delta']:+.1f}", f"{100 * numbers['ceiling']:.1f}"
    return [row.name, str(numbers["n_queries"]), *levels, delta, _interval(numbers), ceiling]


def _fixed(cells: Sequence[str], width: int) -> str:
    first, *others = cells
    aligned = [f"{first:<{width}}"]
    aligned += [f"{cell:>{width}}" for cell, width in zip(others, _WIDTHS[1:], strict=True)]
    return " ".join(aligned)


def _notes(board: dict[str, Any]) -> list[str]:
    return [_NOTE, _OFFICIAL_NOTE] if any(name.startswith("official_") for name in board["test"]) else [_NOTE]


def _probes(board: dict[str, Any]) -> list[tuple[str, str, dict[str, float], dict[str, float]]]:
    """(label, split, accuracy, balanced accuracy), label by label."""
    labels = dict.fromkeys(label for split in SPLITS for label in board["probe"][split])
    return [
        (label, split, board["probe"][split][label], board["balanced_probe"][split][label])
        for label in labels
        for split in SPLITS
        if label in board["probe"][split]
    ]


def _levels(probe: dict[str, float], balanced: dict[str, float]) -> list[str]:
    levels = (probe["chance"], probe["accuracy"], balanced["chance"], balanced["balanced_accuracy"])
    return [f"{100 * level:.1f}" for level in levels]


def _probe_note(probe: dict[str, float], balanced: dict[str, float]) -> str:
    """Where one value is nearly everybody's, accuracy cannot gain; balanced accuracy can."""
    gains = probe["accuracy"] - probe["chance"], balanced["balanced_accuracy"] - balanced["chance"]
    near = max(gains) < NEAR_CHANCE
    return "  near chance: hardly in the embeddings" if near else ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_")
