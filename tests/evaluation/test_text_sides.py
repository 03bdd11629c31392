"""Gallery and queries with captions as they are and masked."""

from __future__ import annotations

import numpy as np
import pytest
from text_shop import SCHEMA, Reader, embed, make_rows

from lib.evaluation.text_sides import TextSide, mask_sides, side_of


@pytest.fixture(scope="module")
def side() -> TextSide:
    rows = make_rows(10, caption=lambda row: None if row["item_id"] == "i001_0" else f" {row['neckline']}. Tee ")
    return side_of(embed(rows, Reader()).catalog, rows.iloc[::-1])


def test_rows_follow_the_embeddings(side: TextSide) -> None:
    assert side.rows["item_id"].tolist() == [
        f"i{product:03d}_{view}" for product in (0, 1, 2, 5, 6, 7) for view in "01"
    ]
    assert side.captions[2] == "" and side.captions[3].endswith(". Tee")
    assert side.captioned.tolist() == [True, True, False] + [True] * 9
    part = side.of_rows(np.array([3, 2]))
    assert part.rows["item_id"].tolist() == ["i001_1", "i001_0"] and part.captions == [side.captions[3], ""]


def test_what_says_nothing_is_its_image_when_fused(side: TextSide) -> None:
    fused = side.embeddings("fused", 0.5)
    np.testing.assert_allclose(fused[2], side.images[2], atol=1e-6)
    both = side.images.astype(float) + side.texts
    np.testing.assert_allclose(fused[3], both[3] / np.linalg.norm(both[3]), atol=1e-6)
    np.testing.assert_array_equal(side.embeddings("text_to_image", 0.5), side.texts)
    np.testing.assert_array_equal(side.embeddings("image_to_image", 0.5), side.images)


def test_masking_touches_only_captions_that_change() -> None:
    rows = make_rows(10, caption=lambda row: "Tee" if row["item_id"] == "i000_0" else None, text="Tee", color=None)
    rows.loc[rows["item_id"] == "i000_0", ["category2", "neckline"]] = None
    rows.loc[rows["item_id"] == "i000_1", "caption"] = "henley. Tee"
    reader = Reader()
    before = side_of(embed(rows, reader).catalog, rows).of_rows(np.array([0, 1]))
    [(after, changed)] = mask_sides(
        [before], "neckline", encoder=reader, schema=SCHEMA, pattern_only=("Tshirts", "dresses")
    )
    assert changed == 1 and reader.asked == [["Tee"]]
    assert after.captions == ["Tee", "Tee"]
    assert after.texts[0].tobytes() == before.texts[0].tobytes()
    np.testing.assert_array_equal(after.texts[1], reader.encode_texts(["Tee"])[0])


def test_a_category_that_captions_leave_out_stays_out() -> None:
    rows = make_rows(5, category2="Graphic", text="Tee", color=None, caption="henley. Tee")
    side = side_of(embed(rows, Reader()).catalog, rows)
    [(left_out, _)] = mask_sides([side], "neckline", encoder=Reader(), schema=SCHEMA, pattern_only=("graphic",))
    [(kept, _)] = mask_sides([side], "neckline", encoder=Reader(), schema=SCHEMA, pattern_only=())
    assert set(left_out.captions) == {"Tee"} and set(kept.captions) == {"Graphic. Tee"}
