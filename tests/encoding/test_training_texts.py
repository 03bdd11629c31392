"""Texts for backbone training: which captions are true of which image, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.encoding.training_texts import NAMED, TrainingTexts

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


TEXTS = TrainingTexts(ROWS, pattern_only=["graphic"])


def test_captions_are_positive_for_all_who_share_them_and_negative_only_where_known_to_differ() -> None:
    batch = TEXTS.compose(np.array([0, 1, 2, 4]))
    assert [TEXTS.captions[caption] for caption in batch.captions] == [
        "red, graphic. C",
        "round neck, red, tees. B",
        "v-neck, red, tees. A",
    ]
    assert batch.matches.tolist() == [
        [False, False, True, False],
        [False, True, False, False],
        [True, False, False, True],
    ]
    # caption B: another neckline at both A; nothing is known to differ at C, whose category says only a pattern
    assert batch.differs[1].tolist() == [True, False, False, True]
    # caption C: the last A is blue
    assert batch.differs[0].tolist() == [False, False, False, True]
    assert not (batch.matches & batch.differs).any()


def test_rows_without_a_caption_are_not_usable() -> None:
    assert TEXTS.usable().tolist() == [0, 1, 2, 4]


def test_rare_values_weigh_more_and_items_one_on_average() -> None:
    weights = dict(zip(NAMED, TEXTS.value_weights(), strict=True))
    assert weights["sleeve"].tolist() == []  # nothing known
    assert weights["category2"].tolist() == [1.0]  # tees; graphic is none
    round_neck, v_neck = weights["neckline"].tolist()  # one item and two
    assert round_neck / v_neck == pytest.approx(2**0.5)
    assert (round_neck + 2 * v_neck) / 3 == pytest.approx(1.0)


def test_unknown_values_have_no_code() -> None:
    codes = TEXTS.compose(np.array([2, 4])).codes
    assert codes[:, NAMED.index("sleeve")].tolist() == [-1, -1]
    assert codes[:, NAMED.index("category2")].tolist() == [-1, 0]
    assert codes[:, NAMED.index("neckline")].tolist() == [-1, 1]
