"""The reading side of a processed catalogue."""

import pytest

from lib.base.errors import IntegrityError
from lib.catalog.processed import iter_images, read_images, read_rows
from lib.catalog.schema import STRING_COLUMNS


@pytest.fixture
def folder(shop, tmp_path):
    shop.process(tmp_path / "hf")
    return tmp_path / "hf"


def test_rows(folder):
    rows = read_rows(folder)
    assert list(rows.columns) == ["split", *STRING_COLUMNS]
    assert rows["split"].tolist() == sorted(rows["split"], key=["train", "validation", "test"].index)
    assert rows.index.tolist() == list(range(40))
    train = read_rows(folder, "train", ["caption", "split", "color"])
    assert list(train.columns) == ["caption", "split", "color"]
    assert len(train) == (rows["split"] == "train").sum()
    assert set(map(type, train["color"])) == {str, type(None)}


def test_images_stream_in_row_order_in_batches(folder, monkeypatch):
    ids = read_rows(folder, "train", ["item_id"])["item_id"].tolist()
    for size in (1, 7, 100):
        batches = list(iter_images(folder, "train", size))
        assert [item_id for batch in batches for item_id, _ in batch] == ids
        assert all(len(batch) == size for batch in batches[:-1])
        assert all(data[:2] == b"\xff\xd8" for batch in batches for _, data in batch)


def test_images_by_id(folder):
    stream = dict(
        pair for split in ("train", "validation", "test") for batch in iter_images(folder, split, 8) for pair in batch
    )
    wanted = ["P019_back", "P000_front", "P007_back", "P000_front"]
    found = read_images(folder, wanted)
    assert list(found) == ["P019_back", "P000_front", "P007_back"]
    assert found == {item_id: stream[item_id] for item_id in found}
    assert read_images(folder, []) == {}
    with pytest.raises(IntegrityError, match="item 'nobody'"):
        read_images(folder, ["P000_front", "nobody"])


def test_an_unknown_split(folder):
    with pytest.raises(ValueError, match="train, validation, test"):
        read_rows(folder, "dev")  # type: ignore[arg-type]


def test_one_flipped_bit_is_seen_even_after_a_good_read(folder):
    read_rows(folder)
    path = folder / "train-00000-of-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for read in (
        lambda: read_rows(folder),
        lambda: list(iter_images(folder, "train", 8)),
        lambda: read_images(folder, ["P000_front"]),
    ):
        with pytest.raises(IntegrityError, match="damaged"):
            read()
    path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        read_rows(folder)
