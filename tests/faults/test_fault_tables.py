"""Tables as shops export them: ids survive, what is wrong is named with its file and line, nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from damage import flipped_bit, stamps
from raw_shop import RawShop, encoded, picture
from stage_server import StageServer

from lib.base.artifacts import read_parquet
from lib.catalog.processed import read_rows

ODD_IDS = ("NA", "nan", "001", "5.0", "1e5", "None", "#N/A", "null", "-0", "True", " 7")


@pytest.fixture
def shop(stages: StageServer, tmp_path: Path) -> RawShop:
    made = RawShop(tmp_path, stages)
    made.fill()
    return made


def process_text(shop: RawShop, text: str, *, encoding: str = "utf-8") -> tuple[int, str]:
    (shop.folder / "raw" / "items.csv").write_bytes(text.encode(encoding))
    ended = shop.process()
    assert "Traceback" not in ended.said
    return ended.code, ended.said


def table(rows: list[str], *, header: str = "id,image,category,title,color") -> str:
    good = [f"P{number:03d}_front,P{number:03d}_front.jpg,tees,A tee,red" for number in range(10)]
    return "\n".join([header, *good, *rows]) + "\n"


def test_one_id_on_two_rows_stops_and_names_both(shop: RawShop) -> None:
    shop.add("P003_front", image="P004_back.jpg", title="Another")
    shop.write()
    ended = shop.process()
    assert ended.code == 3 and "Traceback" not in ended.said
    assert "raw/items.csv: rows 8 and 22 have the same id 'P003_front'" in ended.said
    assert "keep_first" in ended.said and not (shop.folder / "hf").exists()
    shop.set_data(duplicate_ids="keep_first")
    assert shop.process().code == 0 and shop.reasons() == {"P003_front": "duplicate_id"}


def test_equal_photos_are_one_product_in_one_split(shop: RawShop) -> None:
    for name in ("red", "green", "blue", "white"):
        shop.add(name, photo=encoded(picture(777)))
    shop.write()
    assert shop.process().code == 0
    rows = read_rows(shop.folder / "hf").set_index("item_id").loc[["red", "green", "blue", "white"]]
    assert rows["product_id"].nunique() == rows["split"].nunique() == 1
    assert set(rows["product_key"]) == {"same_image"} and not shop.reasons()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_odd_ids_survive_in_every_encoding(shop: RawShop, encoding: str) -> None:
    rows = [f"{item_id},P000_back.jpg,tees,Größe {number},blå" for number, item_id in enumerate(ODD_IDS)]
    code, said = process_text(shop, table(rows), encoding=encoding)
    assert code == 0, said
    found = read_rows(shop.folder / "hf").set_index("item_id")
    assert set(ODD_IDS) <= set(found.index) and len(found) == 10 + len(ODD_IDS)
    assert found.loc["NA", "text"] == "Größe 0" and found.loc["NA", "color"] == "blå"
    assert any("latin-1" in note for note in shop.report()["notes"]) == (encoding == "latin-1")


def test_ragged_rows_are_set_aside_with_their_line(shop: RawShop) -> None:
    rows = ["short,P000_back.jpg", "long,P000_back.jpg,tees,a,red,one,two", "fine,P000_back.jpg,tees,a,red"]
    code, said = process_text(shop, table(rows))
    assert code == 0, said
    assert shop.reasons() == {"short": "ragged_row", "long": "ragged_row"}
    bad = read_parquet(shop.folder / "hf" / "quarantine.parquet")
    assert bad["row"].tolist() == [12, 13]
    assert bad["detail"].tolist() == ["expected 5 cells, got 2", "expected 5 cells, got 7"]
    assert len(shop.items()) == 11
    shop.set_data(max_bad_fraction=0.1)
    code, said = process_text(shop, table(rows))
    assert code == 3 and "2 of 13 rows" in said and "2 × ragged_row, first in row 12, id 'short'" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            table([], header="id,image,category,id,x"),
            "raw/items.csv:1: the header names 'id' twice (columns 1, 4)",
        ),
        ("", "raw/items.csv:1: no header"),
        (",,,\n1,2,3,4\n", "raw/items.csv:1: no header"),
        ("x" * 140_000 + ",image\n1,2\n", "raw/items.csv:1: no header that can be read"),
        ("id,image,category,title,color\n", "raw/items.csv: it has no rows"),
    ],
)
def test_a_header_that_cannot_be_used_is_named_with_its_line(shop: RawShop, text: str, says: str) -> None:
    code, said = process_text(shop, text)
    assert code == 3 and f"error: process_data: {says}" in said
    assert not (shop.folder / "hf").exists()


@pytest.mark.parametrize("harm", ["half a character", "a lone surrogate"])
def test_a_damaged_wide_table_is_named(shop: RawShop, harm: str) -> None:
    data = table([]).encode("utf-16")
    data = data[:-1] if harm == "half a character" else data[:40] + b"\x00\xd8" + data[42:]
    (shop.folder / "raw" / "items.csv").write_bytes(data)
    ended = shop.process()
    assert ended.code == 3 and "Traceback" not in ended.said
    assert "raw/items.csv: damaged UTF-16" in ended.said and not (shop.folder / "hf").exists()


def test_an_address_that_is_none_sets_no_row_aside(shop: RawShop) -> None:
    """Brackets, a wide colon, nothing but a dot: no key of a product, and no reason to stop."""
    columns = {"item_id": "id", "image": "image", "category2": "category", "text": ["title"], "image_url": "address"}
    shop.set_data(columns=columns)
    odd = [
        "http://[broken/1.jpg",
        "http://img.shop.cn\uff1a8080/p3.jpg",
        "https://x.y/.",
        "https://img.shop.cn/9.jpg",
    ]
    rows = [f"odd{number},P000_back.jpg,tees,A tee,red,{address}" for number, address in enumerate(odd)]
    text = table(rows, header="id,image,category,title,color,address").replace(",A tee,red\n", ",A tee,red,\n")
    code, said = process_text(shop, text)
    assert code == 0, said
    assert {f"odd{number}" for number in range(len(odd))} <= set(read_rows(shop.folder / "hf")["item_id"])


def test_unknown_cells_are_unknown_in_attributes_and_nowhere_else(shop: RawShop) -> None:
    code, said = process_text(shop, table(["#N/A,P000_back.jpg,#N/A,A #N/A tee,#N/A"]))
    assert code == 0, said
    row = read_rows(shop.folder / "hf").set_index("item_id").loc["#N/A"]
    assert row["category2"] is None and row["color"] is None and row["text"] == "A #N/A tee"


def test_a_damaged_parquet_table_is_named_and_the_old_out_stays(shop: RawShop) -> None:
    """One flipped bit, or a cut: one readable message wherever in the file it is. A shop's own file has no checksum,
    so a flipped letter may pass; a traceback may not."""
    shop.set_data(metadata="items.parquet")
    shop.write_parquet()
    assert shop.process().code == 0
    before = stamps(shop.folder / "hf")
    file = shop.folder / "raw" / "items.parquet"
    whole = file.read_bytes()
    for data in (whole[:-20], whole[: len(whole) // 2], whole[:200] + bytes(100) + whole[300:], b""):
        file.write_bytes(data)
        ended = shop.process()
        assert ended.code == 3 and "raw/items.parquet: not a readable parquet file" in ended.said, ended.said
        assert "Traceback" not in ended.said and stamps(shop.folder / "hf") == before
    file.write_bytes(whole)
    with flipped_bit(file):
        assert shop.process().code in (0, 3)
