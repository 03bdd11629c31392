"""Parquet shards in Hugging Face form, in the schema of `Marqo/deepfashion-inshop`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from marqo_shards import COLUMNS, SCHEMA, Shards, fingerprints, photo, row

from lib.base.artifacts import read_parquet
from lib.base.errors import ConfigError, DataError
from lib.catalog.images import ImageError
from lib.catalog.process import process_catalog
from lib.catalog.processed import read_images, read_rows
from lib.catalog.schema import BadRow
from lib.catalog.sources import huggingface
from lib.catalog.sources.huggingface import read_listed_text
from lib.catalog.sources.registry import open_source


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    (tmp_path / "raw" / "data").mkdir(parents=True)
    return Shards(tmp_path / "raw")


def test_rows_of_the_real_schema(shards, tmp_path):
    shards.write()
    report = shards.process(tmp_path / "hf")
    assert (report["rows"], report["ok"], report["quarantined"]) == (len(shards.rows), len(shards.rows), 0)
    assert report["images_without_row"]["count"] == 0
    rows = read_rows(tmp_path / "hf").set_index("item_id")
    blouse = rows.loc["WOMEN_Blouses_Shirts_id_00000000_02_1_front"]
    assert blouse[["category1", "category2", "category3", "color"]].tolist() == [
        "women",
        "blouses",
        "shirts",
        "black",
    ]
    assert blouse["text"] == (
        "blouses || a garment of WOMEN_Blouses_Shirts || Crinkled cotton blouse. || It's got a V-neckline"
    )
    assert blouse[["neckline", "material"]].tolist() == ["v-neck", "cotton"]
    assert rows.loc["WOMEN_Cardigans_id_00000000_01_1_front", ["category3", "material"]].tolist() == [None, "wool"]
    tee = rows.loc["WOMEN_Graphic_Tees_id_00000000_01_1_front"]
    assert tee[["category2", "pattern", "neckline"]].tolist() == ["graphic", "graphic print", "round neck"]
    assert read_images(tmp_path / "hf", rows.index) == {r["item_ID"]: r["image"]["bytes"] for r in shards.rows}
    stored = pq.read_table(tmp_path / "hf/train-00000-of-00001.parquet", columns=["image", "item_id"]).to_pylist()
    assert all(entry["image"]["path"] == f"{entry['item_id']}.jpg" for entry in stored)


def test_products_are_folder_and_id_with_all_colourways(shards, tmp_path):
    shards.write()
    shards.process(tmp_path / "hf")
    rows = read_rows(tmp_path / "hf")
    expected = rows["item_id"].str.extract(r"^(.*_id_\d{8})_")[0]
    assert rows["product_id"].tolist() == expected.tolist()
    assert rows["product_id"].nunique() == 20
    assert rows.groupby("product_id")["split"].nunique().max() == 1
    assert set(rows["split"]) == {"train", "validation", "test"}
    assert "WOMEN_Blouses_Shirts_id_00000002" in set(rows["product_id"])


def test_a_product_of_many_photos_is_still_one(tmp_path, shards):
    many = [row(f"MEN_Pants_id_00004045_{i:02d}_1_front", i, category2="pants") for i in range(1, 55)]
    others = [row(f"MEN_Pants_id_{i:08d}_01_1_front", i, category2="pants") for i in range(10_000, 15_400)]
    for entry in others:  # 1 % of all items is 54
        entry["image"]["bytes"] = b""
    shards.rows = many + others
    shards.write(group=2000, cut=3000)
    report = shards.process(tmp_path / "hf", max_bad_fraction=1.0, splits={"train": 1, "validation": 0, "test": 0})
    assert report["products"]["largest"] == 54
    assert report["quarantined_by_reason"] == {"zero_bytes": 5400}


def test_row_groups_and_shards_do_not_change_a_byte(shards, tmp_path, monkeypatch):
    shards.write(group=7)
    shards.process(tmp_path / "a")
    shards.write(group=1000)
    shards.process(tmp_path / "b")
    shards.write(group=1, cut=3)
    monkeypatch.setattr(huggingface, "BLOCK", 2)
    monkeypatch.setattr(huggingface, "CHUNK", 3)
    shards.process(tmp_path / "c")
    assert fingerprints(tmp_path / "a") == fingerprints(tmp_path / "b") == fingerprints(tmp_path / "c")


def test_bad_photos_go_to_quarantine_and_harm_no_neighbour(shards, tmp_path):
    good = {entry["item_ID"] for entry in shards.rows}
    whole = photo(99, side=60)
    for name, image in {
        "null": None,
        "bytes": {"bytes": None, "path": "elsewhere.jpg"},
        "zero": {"bytes": b"", "path": None},
        "cut": {"bytes": whole[: len(whole) // 2], "path": "cut.jpg"},
        "html": {"bytes": b"<html></html>", "path": "html.jpg"},
    }.items():
        shards.rows.append({"image": image, "item_ID": f"MEN_Bad_id_00000001_01_{name}", "category2": "pants"})
    shards.rows.insert(0, {"image": {"bytes": photo(98), "path": "x.jpg"}, "item_ID": "  "})
    shards.write()
    report = shards.process(tmp_path / "hf")
    assert set(read_rows(tmp_path / "hf")["item_id"]) == good
    assert report["images_without_row"]["count"] == 0
    frame = read_parquet(tmp_path / "hf/quarantine.parquet")
    assert frame["reason"].tolist() == ["empty_id", "no_image", "no_image", "zero_bytes", "truncated", "not_an_image"]
    last = len(shards.rows)
    assert frame["row"].tolist() == [1, *range(last - 4, last + 1)]  # over both shards
    assert frame["path"].tolist()[0] == "data/data-00000-of-00002.parquet#1"
    assert frame["path"].tolist()[-1] == f"data/data-00001-of-00002.parquet#{last - 20}"


def test_identical_photos_in_different_shards_are_one_product(shards, tmp_path):
    shards.rows[-1]["image"]["bytes"] = shards.rows[0]["image"]["bytes"]
    shards.write()
    shards.process(tmp_path / "hf")
    rows = read_rows(tmp_path / "hf").set_index("item_id")
    ends = rows.loc[[shards.rows[0]["item_ID"], shards.rows[-1]["item_ID"]]]
    assert ends["product_id"].nunique() == ends["split"].nunique() == 1
    assert "same_image" in set(ends["product_key"])


def test_duplicate_rows(shards, tmp_path):
    shards.rows.append(dict(shards.rows[0]))
    shards.write()
    assert shards.process(tmp_path / "hf")["quarantined_by_reason"] == {"duplicate_row": 1}
    shards.rows[-1]["image"] = {"bytes": photo(7), "path": "another.jpg"}
    shards.write()
    with pytest.raises(DataError, match=rf"rows 1 and {len(shards.rows)} have the same id"):
        shards.process(tmp_path / "hf")


def test_rows_are_the_same_only_with_the_same_photo(shards, tmp_path):
    """Photos without file names: no cell tells them apart."""
    for entry in shards.rows:
        entry["image"]["path"] = None
    shards.rows.append(dict(shards.rows[0]))
    shards.write()
    assert shards.process(tmp_path / "hf")["quarantined_by_reason"] == {"duplicate_row": 1}
    shards.rows[-1]["image"] = {"bytes": photo(7777), "path": None}
    shards.write()
    with pytest.raises(DataError, match=rf"rows 1 and {len(shards.rows)} have the same id"):
        shards.process(tmp_path / "hf")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("['a', \"it's\", ' ', 'b ']", "a || it's || b"),
        ("[]", ""),
        (" ['a'] ", "a"),
        ("['a', 1]", "['a', 1]"),
        ("['a', ['b']]", "['a', ['b']]"),
        ("('a', 'b')", "('a', 'b')"),
        ("['a' + 'b']", "['a' + 'b']"),
        ("['open", "['open"),
        ("['a'] and more", "['a'] and more"),
        ("[new] tee [sale]", "[new] tee [sale]"),
        ("[__import__('pathlib').Path('evaluated').touch()]", "[__import__('pathlib').Path('evaluated').touch()]"),
        ("['a'\0]", "['a'\0]"),
        ("[" * 20_000 + "]" * 20_000, "[" * 20_000 + "]" * 20_000),
    ],
    ids=lambda value: value[:20].replace("\0", "NUL"),
)
def test_lists_as_text(cell, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_listed_text(cell) == text
    assert not Path("evaluated").exists()


def test_photos_are_read_in_blocks_and_never_with_the_cells(shards, monkeypatch):
    shards.write(group=1000, cut=4)
    reads: list[tuple[str, int]] = []

    class Spy(pq.ParquetFile):
        def iter_batches(self, batch_size, columns, **options):
            for batch in super().iter_batches(batch_size=batch_size, columns=columns, **options):
                reads.append((",".join(columns), len(batch)))
                yield batch

        def read(self, *args, **options):
            raise AssertionError("a whole shard at once")

        read_row_group = read_row_groups = read

    monkeypatch.setattr(huggingface.pq, "ParquetFile", Spy)
    monkeypatch.setattr(huggingface, "BLOCK", 8)
    source = open_source(shards.raw, shards.data())
    photos = [found.image for found in source.rows()]
    assert reads
    assert not any("image.bytes" in columns or "image" in columns.split(",") for columns, _ in reads)
    reads.clear()
    assert [source.image_size(name) for name in photos] == [len(entry["image"]["bytes"]) for entry in shards.rows]
    once = [("image.bytes", 4), *[("image.bytes", 8)] * ((len(photos) - 4) // 8)]
    assert reads[: len(once)] == once
    assert sum(count for _, count in reads) == len(photos)
    reads.clear()
    for name, entry in zip(photos, shards.rows, strict=True):
        assert source.image_bytes(name) == entry["image"]["bytes"]
    assert sum(count for _, count in reads) == len(photos)  # in order, each block is read once
    shards.write(group=10, cut=4)
    source = open_source(shards.raw, shards.data())
    source.image_bytes(photos[4])
    reads.clear()
    source.image_bytes(photos[-1])
    assert sum(count for _, count in reads) <= 10  # from the start of its row group, not of the shard
    rng = np.random.default_rng(0)
    for i in rng.permutation(len(photos)):  # in any order it is slower and the same
        assert source.image_bytes(photos[i]) == shards.rows[i]["image"]["bytes"]
    assert len(source._recent) <= huggingface.BLOCKS_KEPT


def test_ids_from_file_names(shards):
    shards.rows[1]["image"]["path"] = None
    shards.write()
    columns = {"image": "image", "category2": "category2"}
    first, second = list(open_source(shards.raw, shards.data(columns=columns)).rows())[:2]
    assert first.item_id == shards.rows[0]["item_ID"]
    assert isinstance(second, BadRow) and second.reason == "empty_id"


def test_a_sku_is_never_looked_for_in_the_name_of_a_shard(shards, tmp_path):
    shards.rows = shards.rows[:30]  # a value that more than 50 share would be ignored anyway
    shards.write()
    shards.process(tmp_path / "hf", sku_pattern=r"(of-00002)", product_keys=["sku"])
    assert set(read_rows(tmp_path / "hf")["product_key"]) == {"single"}


def test_a_shard_without_a_mapped_column(shards):
    shards.write()
    path = shards.raw / "data/data-00001-of-00002.parquet"
    table = pq.read_table(path)
    pq.write_table(table.rename_columns([n.replace("color", "colour") for n in table.column_names]), path)
    with pytest.raises(
        ConfigError, match=r"columns\.color: no column 'color' in .*data-00001.*Did you mean 'colour'"
    ):
        open_source(shards.raw, shards.data())
    pq.write_table(table.drop_columns(["image"]), path)
    with pytest.raises(ConfigError, match=r"columns\.image: no column 'image' in .*data-00001"):
        open_source(shards.raw, shards.data())
    pq.write_table(pa.table({**{n: table[n] for n in COLUMNS}, "image": ["a.jpg"] * len(table)}), path)
    with pytest.raises(
        ConfigError, match=r"column 'image' in .*data-00001.* is string; expected struct<bytes, path>"
    ):
        open_source(shards.raw, shards.data())


def test_columns_may_stand_in_any_order(shards, tmp_path):
    shards.write()
    shards.process(tmp_path / "a")
    path = shards.raw / "data/data-00001-of-00002.parquet"
    table = pq.read_table(path)
    extra = table.select(table.column_names[::-1]).append_column("extra", pa.array([[1]] * len(table)))
    pq.write_table(extra, path)
    shards.process(tmp_path / "b")
    assert fingerprints(tmp_path / "a") == fingerprints(tmp_path / "b")


def test_what_is_no_shard(shards, tmp_path):
    with pytest.raises(ConfigError, match="no file like"):
        open_source(shards.raw, shards.data())
    with pytest.raises(ConfigError, match="no such folder"):
        open_source(tmp_path / "none", shards.data())
    shards.write()
    hidden = shards.raw / ".cache/huggingface"
    hidden.mkdir(parents=True)
    (hidden / "half.parquet").write_bytes(b"PAR1")
    open_source(shards.raw, shards.data())
    for pattern in ("*.parquet", "/etc/*", "../raw/data/*.parquet"):
        with pytest.raises(ConfigError, match=r"data\.metadata"):
            open_source(shards.raw, shards.data(metadata=pattern))
    with pytest.raises(ConfigError, match=r"data\.columns\.image must name"):
        open_source(shards.raw, shards.data(columns={"item_id": "item_ID"}))
    (shards.raw / "data/lfs.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"lfs\.parquet: not a readable parquet file"):
        open_source(shards.raw, shards.data())
    open_source(shards.raw, shards.data(metadata="data/data-*.parquet"))


def test_a_damaged_shard_is_named(shards, tmp_path):
    shards.write()
    path = shards.raw / "data/data-00001-of-00002.parquet"
    chunk = pq.read_metadata(path).row_group(2).column(0)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 64] = b"\xff" * 64
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"data-00001-of-00002\.parquet: not a readable"):
        shards.process(tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_an_unreadable_photo_says_so(shards):
    shards.rows[3]["image"] = None
    shards.write()
    source = open_source(shards.raw, shards.data())
    assert source.image_size("data/data-00000-of-00002.parquet#4") is None
    with pytest.raises(ImageError, match="no bytes"):
        source.image_bytes("data/data-00000-of-00002.parquet#4")


def test_the_processed_catalogue_is_a_source_itself(shards, tmp_path):
    shards.write()
    shards.process(tmp_path / "first")
    attributes = ("color", "neckline", "sleeve", "pattern", "material")
    same = ("item_id", "product_id", "category1", "category2", "category3", *attributes)
    columns = {"image": "image", "text": ["text"], **{name: name for name in same}}
    again = shards.data(columns=columns, metadata="*-of-*.parquet", product_keys=["column"], sku_pattern=None)
    process_catalog(tmp_path / "first", SCHEMA, tmp_path / "second", again, workers=2)
    first, second = (
        read_rows(tmp_path / name).sort_values("item_id", ignore_index=True) for name in ("first", "second")
    )
    kept = ["split", *same, "text", "caption"]
    assert second[kept].equals(first[kept])
    assert read_images(tmp_path / "second", first["item_id"]) == read_images(tmp_path / "first", first["item_id"])
