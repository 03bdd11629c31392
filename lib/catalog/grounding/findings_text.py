"""The findings of a completed audit as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lib.catalog.grounding.findings import LOW_PRECISION, MIN_JUDGED

_SPECIAL = re.compile(r"([\\`*_\[\]|#~!])")
_COUNTED = ("judged", "correct", "wrong", "not_visible")
_COUNTS = ("judged", "correct", "wrong", "not visible", "precision")


def findings_markdown(findings: Mapping[str, Any]) -> str:
    """Fill in what `analyse` returned; texts of the catalogue and the reviewer are escaped."""
    missing, advice = findings["missing"], findings["advice"]
    lines = ["# Grounding audit: findings", ""]
    lines += [f"{findings['judged']} of {findings['claims']} claims were judged."]
    if missing["claims"]:
        by_attribute = ", ".join(f"{name} {count}" for name, count in missing["by_attribute"].items() if count)
        lines += [f"**Not complete:** {missing['claims']} are missing ({by_attribute})."]
    lines += [
        "",
        "Precision is correct / (correct + wrong), with Wilson's 95 % interval; values that the picture does not "
        "show are in neither. Intervals take claims for independent.",
    ]
    lines += _section("Per attribute", _counted(findings["by_attribute"], ("attribute",)))
    lines += _section("Per source", _counted(findings["by_source"], ("attribute", "source")))
    lines += _section("Where wrong values come from", _contamination(findings["contamination"]))
    lines += _section("Stated and true", _confusions(findings["confusions"]))
    lines += _section("What the reviewer noted", _notes(findings["notes"]))
    lines += ["", "## Advice for the attribute schema"]
    lines += _section(
        f"Phrases with a precision below {LOW_PRECISION:.0%} ({MIN_JUDGED} or more judged)",
        _counted(advice["low_precision"], ("attribute", "value", "rule")),
        level=3,
    )
    lines += _section(
        "Wider phrases that were never right: candidates for `ignore`", _ignored(advice["ignore"]), level=3
    )
    lines += _section("True values that the schema lacks", _lacking(advice["missing_values"]), level=3)
    lines += _section(
        "Attributes that a category does not show or have (`not_for` is for those that do not exist)",
        _hidden(advice["not_visible"]),
        level=3,
    )
    lines += _section("Every phrase that led to a value", _counted(findings["rules"], ("attribute", "value", "rule")))
    lines += _section("Per category", _counted(findings["by_category"], ("category", "attribute")))
    return "\n".join([*lines, ""])


def escaped(text: str) -> str:
    """A text as it stands, whatever Markdown or HTML it looks like.

    >>> escaped("a|b <i>_c_</i>")
    'a\\\\|b &lt;i&gt;\\\\_c\\\\_&lt;/i&gt;'
    """
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def share(counts: Mapping[str, Any], name: str) -> str:
    """`93.1 % [84.0, 97.2]`, or why there is no such share."""
    value = counts[name]
    if isinstance(value, str):
        return value
    return f"{100 * value:.1f} % [{100 * counts[f'{name}_low']:.1f}, {100 * counts[f'{name}_high']:.1f}]"


def _section(title: str, table: Sequence[str], *, level: int = 2) -> list[str]:
    return ["", f"{'#' * level} {title}", "", *(table or ["Nothing."])]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: int) -> list[str]:
    """Rows under a head; the last `numbers` columns are set to the right. No rows, no table."""
    body = ["| " + " | ".join(escaped(str(cell)) for cell in row) + " |" for row in rows]
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *body] if body else []


def _counted(rows: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> list[str]:
    cells = [
        [*(row[name] for name in names), *(row[name] for name in _COUNTED), share(row, "precision")] for row in rows
    ]
    return _table([*names, *_COUNTS], cells, numbers=len(_COUNTS))


def _contamination(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        origin = f"text, by “{escaped(row['rule'])}”" if row["source"] == "text" else "column"
        if row["source"] == "column" and row["rule"]:
            origin = escaped(row["rule"])
        truths = ", ".join(f"{escaped(value)} {count}" for value, count in row["true_values"].items())
        lines.append(
            f"- **{row['attribute']}: {escaped(row['value'])}** from {origin}: {row['wrong']} wrong, "
            f"{row['correct']} correct; in truth {truths}"
        )
        lines += [
            f"  - around it: “{escaped(near['words'])}”, {near['wrong']} wrong, {near['correct']} correct"
            for near in row["surroundings"]
        ]
        for example in row["examples"]:
            note = f" ({escaped(example['note'])})" if example["note"] else ""
            text = escaped(example["context"]) or "no text"
            lines.append(f"  - row {example['row']}, item {escaped(example['item_id'])}: {text}{note}")
    return lines


def _confusions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ("attribute", "stated", "true", "claims", "from column", "from text")
    names = ("attribute", "stated", "true", "claims", "from_column", "from_text")
    return _table(head, [[row[name] for name in names] for row in rows], numbers=3)


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return _table(
        ("note", "attribute", "claims"), [[r["note"], r["attribute"], r["claims"]] for r in rows], numbers=1
    )


def _ignored(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [[r["attribute"], r["value"], r["words"], r["wrong"], r["correct"]] for r in rows]
    return _table(("attribute", "value", "words", "wrong", "correct"), cells, numbers=2)


def _lacking(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [
        [r["attribute"], r["true"], ", ".join(f"{v} {n}" for v, n in r["stated"].items()), r["claims"]] for r in rows
    ]
    return _table(("attribute", "true value", "stated instead", "claims"), cells, numbers=1)


def _hidden(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [
        [r["category"], r["attribute"], r["judged"], r["not_visible"], r["does_not_exist"], share(r, "share")]
        for r in rows
    ]
    head = ("category", "attribute", "judged", "not visible", "does not exist", "share of the two")
    return _table(head, cells, numbers=4)
