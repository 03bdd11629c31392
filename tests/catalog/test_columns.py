"""Columns of texts against lists of them, and what came before against a dictionary."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.catalog import columns
from lib.catalog.columns import FirstSeen, TextColumn, text_column, text_number

TEXTS = st.lists(st.none() | st.text(st.characters(), max_size=4) | st.sampled_from(["a", "b", "ab", "é", "\ud800"]))


@given(TEXTS)
def test_a_column_is_the_list_of_its_texts(texts: list[str | None]) -> None:
    column = text_column(texts)
    assert len(column) == len(texts) and list(column) == texts
    assert column[1:] == texts[1:] and column[::-2] == texts[::-2]
    assert [column[-1 - place] for place in range(len(texts))] == texts[::-1]
    assert text_column(column) is column
    for place in (len(texts), -len(texts) - 1):
        with pytest.raises(IndexError, match=f"of {len(texts)}"):
            column[place]


@given(TEXTS)
def test_codes_count_texts_as_they_first_occur(texts: list[str | None]) -> None:
    known = list(dict.fromkeys(text for text in texts if text))
    expected = [known.index(text) if text else -1 for text in texts]
    codes = text_column(texts).codes()
    assert codes.dtype == np.int64 and codes.tolist() == expected


@given(TEXTS)
def test_ranks_are_those_of_sorted_texts(texts: list[str | None]) -> None:
    ranks = text_column(texts).ranks()
    assert sorted(ranks.tolist()) == list(range(len(texts)))
    in_order = [texts[place] for place in np.argsort(ranks)]
    known = [text for text in in_order if text is not None]
    assert known == sorted(known) and in_order == known + [None] * (len(texts) - len(known))


def test_a_column_that_was_read_can_grow() -> None:
    """Arrow's view of it must not lock the buffer."""
    column = text_column(["b", "a"])
    assert column.codes().tolist() == [0, 1] and column.ranks().tolist() == [1, 0]
    column.append("b")
    assert column.codes().tolist() == [0, 1, 0] and isinstance(column, TextColumn)


@pytest.mark.parametrize("recent", [1, 7, 10_000])
def test_what_came_before_is_known_by_its_place(monkeypatch: pytest.MonkeyPatch, recent: int) -> None:
    monkeypatch.setattr(columns, "_RECENT", recent)
    rng = random.Random(recent)
    seen, expected = FirstSeen(), dict[str, int]()
    for _ in range(3_000):
        text = str(rng.randrange(800))
        assert seen.add(text) == expected.get(text)
        expected.setdefault(text, len(expected))
    assert len(seen._runs) <= 12


def test_texts_of_one_number_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_RECENT", 2)
    monkeypatch.setattr(columns, "text_number", lambda text: 5)
    seen = FirstSeen()
    assert [seen.add(text) for text in "abcabdc"] == [None, None, None, 0, 1, None, 2]


def test_numbers_are_the_same_in_every_process() -> None:
    assert text_number("images/é.jpg") == text_number("images/é.jpg") < 2**64
    assert len({text_number(str(i)) for i in range(1000)}) == 1000
