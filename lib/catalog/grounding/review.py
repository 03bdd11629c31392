"""A completed audit sheet, checked against the audit it was made from."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from lib.base.errors import DataError
from lib.catalog.attributes import AttributeSchema
from lib.catalog.grounding.choice import UNKNOWN_CATEGORY
from lib.catalog.grounding.claims import SEPARATOR
from lib.catalog.grounding.sheet import SheetRow, read_sheet

Verdict = Literal["correct", "wrong", "not_visible"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
NONE = "none"
"""The `true_value` of an item that does not have the attribute at all (the neckline of shorts)."""
MAX_PROBLEMS = 10
_AS_STATED = ("item_id", "product_id", "attribute", "value", "source")


@dataclass(frozen=True)
class Judgement:
    """A claim of the audit with what the reviewer says about it.

    Attributes:
        rules: entries of the schema that led to the value; empty for a value from a column.
        verdict: None where the reviewer has not judged it.
        true_value: in the schema's words where it knows it, `none`, or None for a verdict other than `wrong`.
    """

    row: int
    item_id: str
    category: str
    text: str
    attribute: str
    value: str
    source: str
    phrases: tuple[str, ...]
    rules: tuple[str, ...]
    verdict: Verdict | None
    true_value: str | None
    note: str


def read_review(completed: Path, audit: Path, schema: AttributeSchema) -> list[Judgement]:
    """Read a completed sheet: every claim of the audit, judged or not.

    Rows are told by `row`; what the audit says about them stands, whatever a spreadsheet made of it. A number may
    be written otherwise (`1` for `001`); any other change of an id, attribute, value or source is an error, since
    it may mean that rows were mixed up. Missing rows are claims that were not judged.

    Args:
        completed: the reviewer's sheet.
        audit: the sheet it was made from.
        schema: to read `true_value`.

    Raises:
        DataError: the sheet cannot be read, rows do not belong to the audit or are there twice, a verdict is
            unknown, a `true_value` is missing or contradicts the verdict, or nothing was judged; it names file,
            line and column of up to ten problems.
    """
    claims = {row.cells["row"]: row for row in read_sheet(audit)}
    for number, claim in claims.items():
        if not number.isdecimal() or claim.cells["attribute"] not in schema:
            raise DataError(
                f"{audit}:{claim.line}: no row of an audit; make the sheet again: dvc repro grounding_audit"
            )
    problems: list[str] = []
    judged: dict[str, SheetRow] = {}
    for row in read_sheet(completed):
        found = _problem_of_place(row, claims, judged, audit) or _problem_of_verdict(row, claims, schema)
        if found is not None:
            column, problem = found
            problems.append(f"{completed}:{row.line}: {column}: {problem}")
        else:
            judged[_row_number(row)] = row
    if problems:
        shown = "\n  ".join(problems[:MAX_PROBLEMS])
        more = f"\n  … and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise DataError(f"the completed audit has {len(problems)} row(s) that cannot be used:\n  {shown}{more}")
    if not any(_verdict(row) for row in judged.values()):
        raise DataError(
            f"{completed}: column verdict: no row is filled in; write {', '.join(VERDICTS)} there and run again"
        )
    return [_judgement(claim, judged.get(number), schema) for number, claim in claims.items()]


def _problem_of_place(
    row: SheetRow, claims: dict[str, SheetRow], judged: dict[str, SheetRow], audit: Path
) -> tuple[str, str] | None:
    """Column and problem of a row that is not the audit's row of its number."""
    number = _row_number(row)
    claim = claims.get(number)
    if claim is None:
        return "row", (
            f"'{number}' (item '{row.cells['item_id']}') is not in {audit}; if that was made again since, name the "
            "sheet that was reviewed with --audit"
        )
    if number in judged:
        return "row", f"'{number}' stands in line {judged[number].line} already; delete one of the two"
    for column in _AS_STATED:
        got, stated = row.cells[column], claim.cells[column]
        if got != stated and not _same_number(got, stated):
            remedy = (
                "corrections go to true_value"
                if column in ("value", "source", "attribute")
                else "the row belongs to another audit, or a spreadsheet changed it: import this column as text"
            )
            return column, f"'{got}' is not in the audit there: row {number} has '{stated}'; {remedy}"
    return None


def _problem_of_verdict(
    row: SheetRow, claims: dict[str, SheetRow], schema: AttributeSchema
) -> tuple[str, str] | None:
    """Column and problem of a verdict that says nothing or contradicts itself."""
    claim = claims[_row_number(row)].cells
    verdict, true_value = _verdict(row), row.cells["true_value"].strip()
    if verdict and verdict not in VERDICTS:
        nearest = difflib.get_close_matches(verdict, VERDICTS, n=1)
        meant = f"; did you mean '{nearest[0]}'?" if nearest else ""
        return "verdict", f"expected {', '.join(VERDICTS)} or nothing, got '{row.cells['verdict']}'{meant}"
    if verdict == "wrong" and not true_value:
        return "true_value", f"missing; a wrong value needs the right one, or '{NONE}' where there is none"
    same = bool(true_value) and _canonical(true_value, claim["attribute"], schema) == claim["value"]
    if verdict == "wrong" and same:
        return "true_value", (
            f"'{true_value}' means '{claim['value']}', which the catalogue states; then the verdict is correct"
        )
    if verdict != "wrong" and true_value and not (verdict == "correct" and same):
        return "true_value", f"'{true_value}' is for the verdict wrong; the verdict is '{verdict or 'empty'}'"
    return None


def _judgement(claim: SheetRow, row: SheetRow | None, schema: AttributeSchema) -> Judgement:
    cells = claim.cells
    verdict = _verdict(row) if row is not None else ""
    true_value = row.cells["true_value"].strip() if row is not None and verdict == "wrong" else ""
    return Judgement(
        row=int(cells["row"]),
        item_id=cells["item_id"],
        category=cells["category"] or UNKNOWN_CATEGORY,
        text=cells["text"],
        attribute=cells["attribute"],
        value=cells["value"],
        source=cells["source"],
        phrases=_parts(cells["phrase"]),
        rules=_parts(cells["rule"]),
        verdict=cast("Verdict | None", verdict or None),
        true_value=_canonical(true_value, cells["attribute"], schema) if true_value else None,
        note=" ".join(row.cells["note"].split()) if row is not None else "",
    )


def _canonical(true_value: str, attribute: str, schema: AttributeSchema) -> str:
    if true_value.lower() == NONE:
        return NONE
    return schema[attribute].canonical(true_value)[0]


def _verdict(row: SheetRow) -> str:
    return "_".join(row.cells["verdict"].lower().replace("-", " ").replace("_", " ").split())


def _row_number(row: SheetRow) -> str:
    number = row.cells["row"].strip()
    return number.removesuffix(".0")  # a column of whole numbers with a gap


def _same_number(got: str, stated: str) -> bool:
    """Whether a spreadsheet may have written `stated` as `got`: it keeps fifteen digits of a number."""
    try:
        return math.isclose(float(got), float(stated), rel_tol=1e-14)
    except ValueError:
        return False


def _parts(cell: str) -> tuple[str, ...]:
    return tuple(part for part in cell.split(SEPARATOR) if part)


def judged(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Those with a verdict."""
    return [judgement for judgement in judgements if judgement.verdict is not None]
