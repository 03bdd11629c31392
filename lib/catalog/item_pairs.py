"""Labelled pairs of items, as a stylist or a shop's orders give them: a table with `a_id`, `b_id` and `label`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lib.base.errors import ConfigError, DataError
from lib.catalog.bad_rows import BadRows
from lib.catalog.schema import SPLITS
from lib.catalog.sources.cells import DELIMITERS, CellRow, CellTable

COLUMNS = ("a_id", "b_id", "label")
LABELS = {"0": 0, "1": 1}
_ENDINGS = (*DELIMITERS, ".parquet", ".pq")


@dataclass(frozen=True)
class ItemPairs:
    """Pairs that can be used, and what became of the others.

    Attributes:
        pairs: `a_id`, `b_id`, `label` (1 goes together, 0 does not) and `split`, in the order of the file.
        report: counts; for each reason why a row cannot be used, the first ones as `file:line: detail`.
    """

    pairs: pd.DataFrame
    report: dict[str, Any]

    def of_split(self, split: str) -> pd.DataFrame:
        """The pairs of one split, with a fresh index."""
        return self.pairs[self.pairs["split"] == split].reset_index(drop=True)


class _Row(NamedTuple):
    line: int
    a_id: str
    b_id: str
    label: int

    @property
    def items(self) -> tuple[str, str]:
        """Both items; the order in which a row names them means nothing."""
        return min(self.a_id, self.b_id), max(self.a_id, self.b_id)


def read_item_pairs(path: Path, items: pd.DataFrame, *, max_bad_fraction: float) -> ItemPairs:
    """Read a table of labelled pairs.

    A row cannot be used when it is ragged, lacks an id, names an item that is not in the catalogue or the same item
    twice, has a label other than 0 and 1, repeats an earlier row (in either order: the first one counts), or when
    rows contradict each other (none of them counts). A pair belongs to a split when both items do; pairs across
    splits are left out and counted, but there is nothing wrong with them. Ids are taken as they stand.

    Args:
        path: CSV, TSV or parquet with the columns `COLUMNS`; other columns are not read.
        items: `item_id` and `split` of every item of the catalogue.
        max_bad_fraction: largest share of rows that cannot be used.

    Raises:
        ConfigError: no such file, or one that is no table.
        DataError: a column is missing; too many rows cannot be used; no pair is left within a split.
    """
    table, splits = _open(path), dict(zip(items["item_id"], items["split"], strict=True))
    at = [table.columns.index(name) for name in COLUMNS]
    width, n_rows, bad = len(table.columns), 0, BadRows(path.name)
    by_items: dict[tuple[str, str], list[_Row]] = defaultdict(list)
    for cells in table.rows():
        n_rows += 1
        row = _checked(cells, at, width, splits, bad)
        if row is not None:
            by_items[row.items].append(row)
    rows = [row for same in by_items.values() if (row := _one_of(same, bad)) is not None]
    if bad.count > max_bad_fraction * n_rows:
        raise DataError(
            f"{path}: {bad.count} of {n_rows} rows ({bad.count / n_rows:.1%}) cannot be used, more than "
            f"compatibility.max_bad_fraction {max_bad_fraction:g} allows:\n{bad.lines()}\n"
            "Mend the pairs, or allow more with compatibility.max_bad_fraction."
        )
    kept = [(*row[1:], splits[row.a_id]) for row in rows if splits[row.a_id] == splits[row.b_id]]
    if not kept:
        raise DataError(
            f"{path}: no pair is left: {n_rows} rows, {bad.count} of them unusable, {len(rows)} across splits; "
            'both items of a pair must be in one split. Add pairs, or set compatibility.pairs to ""'
        )
    pairs = pd.DataFrame(kept, columns=["a_id", "b_id", "label", "split"])
    report = {
        "file": path.name,
        "rows": n_rows,
        "used": len(pairs),
        "across_splits": len(rows) - len(pairs),
        "unusable": bad.count,
        "unusable_by_reason": bad.report(),
        "splits": {
            split: {
                name: int(((pairs["split"] == split) & (pairs["label"] == label)).sum())
                for name, label in (("goes_together", 1), ("does_not", 0))
            }
            for split in SPLITS
        },
        "notes": table.notes,
    }
    return ItemPairs(pairs, report)


def _open(path: Path) -> CellTable:
    if not path.is_file():
        raise ConfigError(
            f'{path}: no such file; compatibility.pairs names it under data.raw_dir. Set it to "" when there is none'
        )
    if path.suffix.lower() not in _ENDINGS:
        raise ConfigError(f"{path}: compatibility.pairs must end with one of {', '.join(_ENDINGS)}")
    table = CellTable(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"{path}:1: column {', '.join(missing)} is missing; expected {', '.join(COLUMNS)}; "
            f"got {', '.join(table.columns)}"
        )
    return table


def _checked(row: CellRow, at: list[int], width: int, splits: Mapping[str, str], bad: BadRows) -> _Row | None:
    if len(row.cells) != width:
        bad.add("ragged_row", row.number, f"expected {width} cells, got {len(row.cells)}")
        return None
    a_id, b_id, label = (row.cells[place] for place in at)
    unknown = [item for item in (a_id, b_id) if item not in splits]
    if not a_id or not b_id:
        bad.add("empty_id", row.number, "a pair needs two ids")
    elif unknown:
        bad.add("unknown_id", row.number, f"item '{unknown[0]}' is not in the processed catalogue")
    elif a_id == b_id:
        bad.add("same_item", row.number, f"item '{a_id}' with itself")
    elif label.strip() not in LABELS:
        bad.add("bad_label", row.number, f"expected label 0 or 1, got {label!r}")
    else:
        return _Row(row.number, a_id, b_id, LABELS[label.strip()])
    return None


def _one_of(same: list[_Row], bad: BadRows) -> _Row | None:
    """The row that speaks for all rows of the same two items, None when they contradict each other."""
    if len({row.label for row in same}) > 1:
        for row in same:
            others = ", ".join(str(other.line) for other in same if other.label != row.label)
            bad.add(
                "contradiction", row.line, f"'{row.a_id}' with '{row.b_id}': {row.label} here, not in line {others}"
            )
        return None
    for row in same[1:]:
        bad.add("duplicate", row.line, f"'{row.a_id}' with '{row.b_id}' stands in line {same[0].line} already")
    return same[0]
