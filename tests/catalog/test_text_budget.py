"""What a token limit cuts, on texts short enough to count by hand and against a slow reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.catalog import text_budget
from lib.catalog.attributes import AttributeSchema, load_attribute_schema
from lib.catalog.captions import compose_caption
from lib.catalog.normal_text import normalise_text
from lib.catalog.schema import SOURCED, STRING_COLUMNS

SCHEMA = load_attribute_schema(Path(__file__).parents[2] / "lib/catalog/attributes.yaml")


PHRASES = [
    "cotton ||",
    "with stripes,",
    "v-neck and",
    "long sleeves;",
    "navy blue.",
    "Soft denim patch",
    "no hood",
    "hood",
]


class Letters:
    """Every character is a token, and two marks."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def count(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([len(text) + 2 for text in texts], dtype=np.int64)


def described(text: str | None, **columns: str) -> dict[str, Any]:
    """A processed row as `process_data` would describe it."""
    row: dict[str, Any] = dict.fromkeys(STRING_COLUMNS) | {"text": text}
    for name in SOURCED:
        said = SCHEMA[name].extract(text or "").value
        row[name] = columns.get(name, said)
        row[f"{name}_source"] = "column" if name in columns else ("text" if said else None)
    row["caption"] = compose_caption({name: row[name] for name in SOURCED}, category=None, text=text)
    return row


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows)).astype(object)
    return table.where(table.notna(), None)


def measured(rows: pd.DataFrame, schema: AttributeSchema, tokens: Letters) -> dict[str, Any]:
    return text_budget.measure_budget(rows, schema, tokens, rng=np.random.default_rng(0))


def test_by_hand() -> None:
    rows = frame(
        described("a v-neck || of wool"),  # 18 letters in one line; "v-neck" ends with the 8th, "wool" with the last
        described("a v-neck || of wool"),
        described("henley"),
        described(None, material="silk"),
    )
    report = measured(rows, SCHEMA, Letters(19))
    assert report["limit"] == 19
    assert report["full_text"] == {
        "items": 3,
        "distinct": 2,
        "tokens": {"p50": 19, "p90": 19, "p95": 19, "p99": 19, "max": 19},
        "cut": 0.0,
        "tokens_cut": "skipped: no text is cut",
    }
    report = measured(rows, SCHEMA, Letters(18))
    assert report["full_text"]["cut"] == pytest.approx(2 / 3, abs=1e-6)
    assert report["full_text"]["tokens_cut"] == {"mean": 1.0, "p95": 1}
    # captions: "v-neck, wool. a v-neck. of wool" twice, "henley. henley", "silk"
    assert report["caption"]["tokens"] == {"p50": 16, "p90": 33, "p95": 33, "p99": 33, "max": 33}
    assert report["attributes"]["neckline"] == {"n": 3, "lost_in_full_text": 0.0, "lost_in_caption": 0.0}
    assert report["attributes"]["material"] == {"n": 2, "lost_in_full_text": 1.0, "lost_in_caption": 0.0}
    assert report["attributes"]["sleeve"] == "skipped: no value was read from the text"
    json.dumps(report, allow_nan=False)


def test_the_first_phrase_that_counts_decides() -> None:
    rows = frame(described("not wool, without wool, faux wool; wool and more wool"))
    at = "not wool, without wool, faux wool; wool"
    for limit, lost in ((len(at) + 2, 0.0), (len(at) + 1, 1.0)):
        assert measured(rows, SCHEMA, Letters(limit))["attributes"]["material"]["lost_in_full_text"] == lost


@pytest.mark.parametrize("limit", [10, 24, 40, 70, 200])
def test_lost_values_equal_a_slow_reference(limit: int) -> None:
    """Cut the text letter by letter and read it again: lost is what no readable beginning names."""
    rng = np.random.default_rng(limit)
    words = ["a", "fine", "tee", "of", *PHRASES]
    rows = frame(*(described(" ".join(rng.choice(words, size=12))) for _ in range(40)))
    report = measured(rows, SCHEMA, Letters(limit))
    for name, rule in SCHEMA.items():
        told = rows[rows[f"{name}_source"] == "text"]
        if told.empty:
            continue
        for column, field in (("text", "lost_in_full_text"), ("caption", "lost_in_caption")):
            lost = []
            for text, value in zip(told[column], told[name], strict=True):
                line = " ".join(text.replace(" || ", ". ").split())
                # a beginning may end within a phrase that the whole text cancels: only those of the whole count
                whole = rule.mentions(_words(line))
                named = {m.end for m in whole if m.counts and m.value == value}
                readable = _words(_whole_words(line, limit - 2))
                lost.append(not any(end <= len(readable) for end in named))
            assert report["attributes"][name][field] == pytest.approx(np.mean(lost), abs=1e-6), (name, column)


def test_large_catalogues_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_budget, "MAX_ITEMS", 5)
    rows = frame(*(described(f"henley {number}") for number in range(20)))
    report = measured(rows, SCHEMA, Letters(10))
    assert report["full_text"]["items"] == report["attributes"]["neckline"]["n"] == 5


def test_no_texts_at_all() -> None:
    report = measured(frame(described(None), described("")), SCHEMA, Letters(10))
    assert report["full_text"] == report["caption"] == "skipped: no item has one"
    assert set(report["attributes"].values()) == {"skipped: no value was read from the text"}
    assert list(report["attributes"]) == list(SCHEMA)


def _words(text: str) -> list[str]:
    return normalise_text(text).split()


def _whole_words(line: str, letters: int) -> str:
    """The longest beginning of whole words with at most so many letters."""
    end = min(letters, len(line))
    while 0 < end < len(line) and line[end].isalnum() and line[end - 1].isalnum():
        end -= 1
    return line[:end]
