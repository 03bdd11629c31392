"""Kinds that go together, from labelled pairs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lib.base.errors import IntegrityError
from lib.catalog.partner_kinds import MIN_PAIRS, load_partner_kinds, partner_kinds, save_partner_kinds

TEE, SKIRT, DRESS, NOTHING = ("women", "tees"), ("women", "skirts"), ("women", "dresses"), (None, None)
KINDS = {"t": TEE, "s": SKIRT, "d": DRESS, "n": NOTHING}


def items() -> pd.DataFrame:
    rows = [(f"{letter}{i}", *kind) for letter, kind in KINDS.items() for i in range(20)]
    return pd.DataFrame(rows, columns=["item_id", "category1", "category2"])


def pairs(counts: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """`{"ts": (3, 1)}`: of tees and skirts, three pairs that go together, one that does not; every other turned."""
    rows = []
    for (one, other), (good, bad) in counts.items():
        for i, label in enumerate([1] * good + [0] * bad):
            both = (f"{one}{i}", f"{other}{i + 1}")
            rows.append((*(both if i % 2 else both[::-1]), label))
    return pd.DataFrame(rows, columns=["a_id", "b_id", "label"])


def test_kinds_go_together_when_their_pairs_do_about_as_often_as_all() -> None:
    # of all pairs 16 of 32 go together: a share of one quarter is needed
    found = partner_kinds(pairs({"ts": (12, 2), "td": (1, 9), "sd": (2, 6), "tt": (1, 0)}), items())
    assert found == {TEE: {SKIRT}, SKIRT: {TEE, DRESS}, DRESS: {SKIRT}}


@pytest.mark.parametrize(("good", "expected"), [(MIN_PAIRS - 1, {}), (MIN_PAIRS, {TEE: {TEE}})])
def test_few_pairs_say_nothing_and_a_kind_may_go_with_itself(good: int, expected: object) -> None:
    assert partner_kinds(pairs({"tt": (good, 0)}), items()) == expected


def test_pairs_that_never_go_together_and_none_at_all() -> None:
    assert partner_kinds(pairs({"ts": (0, 9)}), items()) == {}
    assert partner_kinds(pairs({}), items()) == {}


def test_an_unknown_kind_is_a_kind(tmp_path: Path) -> None:
    found = partner_kinds(pairs({"nt": (6, 0), "ts": (6, 0)}), items())
    assert found == {NOTHING: {TEE}, TEE: {NOTHING, SKIRT}, SKIRT: {TEE}}
    save_partner_kinds(tmp_path / "partners.json", found)
    assert load_partner_kinds(tmp_path / "partners.json") == found
    first = (tmp_path / "partners.json").read_bytes()
    save_partner_kinds(tmp_path / "partners.json", dict(reversed(found.items())))
    assert (tmp_path / "partners.json").read_bytes() == first


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "partners.json"
    save_partner_kinds(path, {TEE: {SKIRT}})
    path.write_text(path.read_text().replace("skirts", "shirts"))
    with pytest.raises(IntegrityError, match=r"partners.json: damaged"):
        load_partner_kinds(path)
    with pytest.raises(IntegrityError, match="missing"):
        load_partner_kinds(tmp_path / "other.json")
