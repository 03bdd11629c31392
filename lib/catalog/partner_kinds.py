"""Which kinds of items go together, by labelled pairs of items; a kind is a department with a category.

The compatibility head scores two items whatever their kinds are, and a cosine cannot say that a blouse does not go
with a blouse. Whoever shows what goes with an item shows items of its partner kinds only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from lib.base.artifacts import read_json, verified, with_manifest, write_json
from lib.base.errors import IntegrityError

Kind: TypeAlias = tuple[str | None, str | None]
"""`category1` and `category2`."""
PARTNERS = "partners.json"
MIN_PAIRS = 5
"""Labelled pairs of two kinds that are needed before anything is said of them."""
MIN_SHARE = 0.5
"""Of the share that goes together among all pairs: labels err, so that two kinds that never go together have some."""


def partner_kinds(pairs: pd.DataFrame, items: pd.DataFrame) -> dict[Kind, set[Kind]]:
    """Kinds that go together: of at least `MIN_PAIRS` pairs, a share of at least `MIN_SHARE` times that of all pairs.

    Args:
        pairs: `a_id`, `b_id` and `label`, 1 for what goes together; the order of a pair means nothing.
        items: `item_id`, `category1` and `category2` of every item that a pair names.

    Returns:
        The partners of every kind that has some; no pairs give none.
    """
    kinds: dict[str, Kind] = {
        item_id: (None if pd.isna(first) else str(first), None if pd.isna(second) else str(second))
        for item_id, first, second in zip(items["item_id"], items["category1"], items["category2"], strict=True)
    }
    labels: dict[frozenset[Kind], list[int]] = {}
    for a_id, b_id, label in zip(pairs["a_id"], pairs["b_id"], pairs["label"], strict=True):
        labels.setdefault(frozenset((kinds[a_id], kinds[b_id])), []).append(int(label))
    least = MIN_SHARE * float(pairs["label"].mean()) if len(pairs) else 0.0
    partners: dict[Kind, set[Kind]] = {}
    for both, found in labels.items():
        if len(found) >= MIN_PAIRS and sum(found) >= least * len(found) and any(found):
            one, other = (*both, *both)[:2]
            partners.setdefault(one, set()).add(other)
            partners.setdefault(other, set()).add(one)
    return partners


def save_partner_kinds(path: Path, partners: Mapping[Kind, set[Kind]]) -> None:
    """Write partner kinds with a manifest beside them."""

    def ordered(kinds: Iterable[Kind]) -> list[Kind]:
        return sorted(kinds, key=lambda kind: [part or "" for part in kind])

    rows = [{"kind": kind, "partners": ordered(partners[kind])} for kind in ordered(partners)]
    with with_manifest(path, facts={}) as fresh:
        write_json(fresh, rows)


def load_partner_kinds(path: Path) -> dict[Kind, set[Kind]]:
    """Read what `save_partner_kinds` wrote.

    Raises:
        IntegrityError: the file or its manifest is missing or damaged, or it is no such file.
    """
    rows = read_json(verified(path, facts={}))
    try:
        return {_kind(row["kind"]): {_kind(kind) for kind in row["partners"]} for row in rows}
    except (TypeError, KeyError, ValueError) as error:
        raise IntegrityError(f"{path}: not partner kinds ({error}); run `dvc repro train_compatibility`") from None


def _kind(parts: list[str | None]) -> Kind:
    department, category = parts
    return department, category
