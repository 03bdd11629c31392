"""Texts for backbone training: which are true of which image, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.encoding.training_texts import NAMED, WHOLE, TrainingTexts

ROWS = pd.DataFrame(
    {
        "caption": [
            "v-neck, red, tees. A",
            "round neck, red, tees. B",
            "red, graphic. C",
            None,
            "v-neck, red, tees. A",
        ],
        "neckline": ["v-neck", "round neck", None, None, "v-neck"],
        "sleeve": [None] * 5,
        "pattern": [None] * 5,
        "material": [None] * 5,
        "color": ["red", "red", "red", None, "blue"],
        "category2": ["tees", "tees", "graphic", None, "tees"],
    },
    dtype=object,
)


def _texts(whole_share: float) -> TrainingTexts:
    return TrainingTexts(ROWS, pattern_only=["graphic"], whole_share=whole_share)


def test_phrases_match_differ_or_leave_open() -> None:
    batch = _texts(0.0).compose(np.arange(5), np.random.default_rng(0))
    found = {
        (NAMED[group], text): ("".join("+" if m else "-" if d else "?" for m, d in zip(match, differ, strict=True)))
        for text, group, match, differ in zip(
            batch.texts, batch.groups.tolist(), batch.matches.tolist(), batch.differs.tolist(), strict=True
        )
    }
    assert found == {
        ("neckline", "v-neck"): "+-??+",
        ("neckline", "round neck"): "-+??-",
        ("color", "red"): "+++?-",
        ("color", "blue"): "---?+",
        ("category2", "tees"): "++??+",  # graphic says nothing about the category
    }


def test_whole_captions_are_positive_for_all_who_share_them() -> None:
    batch = _texts(1.0).compose(np.arange(5), np.random.default_rng(0))
    whole = batch.groups == WHOLE
    texts = [text for text, chosen in zip(batch.texts, whole.tolist(), strict=True) if chosen]
    assert texts == ["red, graphic. C", "round neck, red, tees. B", "v-neck, red, tees. A"]
    assert batch.matches[whole].tolist() == [
        [False, False, True, False, False],
        [False, True, False, False, False],
        [True, False, False, False, True],
    ]
    # caption B against the others: another neckline at both A, nothing known to differ at C, nothing known at all
    assert batch.differs[whole][1].tolist() == [True, False, False, False, True]
    assert not (batch.matches & batch.differs).any()


def test_rows_without_a_caption_are_not_usable() -> None:
    assert _texts(0.5).usable().tolist() == [0, 1, 2, 4]


def test_a_batch_without_attributes_reads_whole_captions() -> None:
    rows = ROWS.assign(**dict.fromkeys(NAMED))
    batch = TrainingTexts(rows, pattern_only=[], whole_share=0.0).compose(np.arange(4), np.random.default_rng(0))
    assert set(batch.groups.tolist()) == {WHOLE} and len(batch.texts) == 3


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_same_generator_same_batch(share: float) -> None:
    first, second = (_texts(share).compose(np.arange(5), np.random.default_rng(3)) for _ in range(2))
    assert first.texts == second.texts and first.matches.equal(second.matches)
