"""The whole way from raw files to the processed catalogue, faults included."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lib.base.artifacts import read_manifest, read_parquet
from lib.base.errors import ConfigError, DataError
from lib.catalog.processed import read_images, read_rows

ROOT = Path(__file__).parents[2]


def fingerprints(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def quarantine(folder):
    frame = read_parquet(folder / "quarantine.parquet")
    return dict(zip(frame["item_id"], frame["reason"], strict=True))


def test_every_row_is_somewhere(shop, tmp_path):
    out = tmp_path / "hf"
    report = shop.process(out)
    rows = read_rows(out)
    assert (report["rows"], report["ok"], report["quarantined"]) == (40, 40, 0)
    assert sorted(rows["item_id"]) == sorted(row[0] for row in shop.rows)
    assert rows.groupby("product_id")["split"].nunique().max() == 1
    assert set(rows["split"]) == {"train", "validation", "test"}
    assert set(rows["product_key"]) == {"item_id"}
    first = rows.set_index("item_id").loc["P000_front"]
    assert (first["neckline"], first["neckline_source"], first["pattern"]) == ("v-neck", "text", "striped")
    assert (first["color"], first["color_source"], first["material"]) == (None, None, None)
    assert first["caption"] == "v-neck, striped, tees. Striped v-neck tee"
    assert rows.set_index("item_id").loc["P001_back", ["color", "color_source"]].tolist() == ["navy blue", "column"]
    assert json.loads((out / "report.json").read_text()) == report
    assert set(read_manifest(out)["files"]) == {path.name for path in out.iterdir()} - {"manifest.json"}


def test_rows_keep_the_order_of_the_source(shop, tmp_path):
    shop.process(tmp_path / "hf")
    rows = read_rows(tmp_path / "hf")
    order = [row[0] for row in shop.rows]
    for _, split in rows.groupby("split"):
        places = [order.index(item_id) for item_id in split["item_id"]]
        assert places == sorted(places)


def test_same_input_same_bytes_whatever_the_threads(shop, tmp_path):
    shop.process(tmp_path / "a", workers=1)
    shop.process(tmp_path / "b", workers=4)
    assert fingerprints(tmp_path / "a") == fingerprints(tmp_path / "b")
    before = fingerprints(tmp_path / "a")
    shop.process(tmp_path / "a")
    assert fingerprints(tmp_path / "a") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "raw"]


def test_photos_in_an_archive_make_the_same_catalogue(shop, tmp_path):
    shop.process(tmp_path / "a")
    shutil.make_archive(str(shop.raw / "images"), "zip", shop.raw, "images")
    shutil.rmtree(shop.raw / "images")
    shop.process(tmp_path / "b")
    assert fingerprints(tmp_path / "b") == fingerprints(tmp_path / "a")


def test_pattern_only_categories(shop, tmp_path):
    shop.process(tmp_path / "hf", pattern_only_categories=["graphic"])
    rows = read_rows(tmp_path / "hf").set_index("item_id")
    assert rows.loc["P003_front", ["category2", "pattern", "pattern_source"]].tolist() == [
        "graphic",
        "graphic print",
        "column",
    ]
    assert rows.loc["P003_front", "caption"] == "graphic print, navy blue. Band tee"
    shop.process(tmp_path / "hf")
    assert read_rows(tmp_path / "hf").set_index("item_id").loc["P003_front", "pattern"] is None


def test_bad_photos_go_to_quarantine_and_harm_no_neighbour(shop, tmp_path, encode, draw):
    good = {row[0] for row in shop.rows}
    shop.add_photo("zero", b"")
    shop.add_photo("html", b"<html></html>")
    whole = encode(draw(99, (60, 60)))
    shop.add_photo("cut", whole[: len(whole) // 2])
    shop.add("gone", image="gone.jpg")
    shop.add("up", image="../items.csv")
    shop.add("absolute", image="/etc/hostname")
    shop.add("long", image="x" * 300 + ".jpg")
    shop.add("nul", image="a\0b.jpg")
    shop.add("noname", image="")
    (shop.raw / "images/folder.jpg").mkdir()
    shop.add("folder", image="folder.jpg")
    os.mkfifo(shop.raw / "images/pipe.jpg")
    shop.add("pipe", image="pipe.jpg")
    (shop.raw / "images/link.jpg").symlink_to("/etc/hostname")
    shop.add("link", image="link.jpg")
    report = shop.process(tmp_path / "hf")
    assert report["ok"] + report["quarantined"] == report["rows"] == 52
    assert set(read_rows(tmp_path / "hf")["item_id"]) == good
    assert quarantine(tmp_path / "hf") == {
        "zero": "zero_bytes",
        "html": "not_an_image",
        "cut": "truncated",
        "gone": "missing_file",
        "up": "path_escape",
        "absolute": "path_escape",
        "long": "name_too_long",
        "nul": "bad_path",
        "noname": "no_image",
        "folder": "not_a_file",
        "pipe": "not_a_file",
        "link": "path_escape",
    }
    frame = read_parquet(tmp_path / "hf" / "quarantine.parquet")
    assert frame["row"].tolist() == list(range(42, 54))  # lines of the file, the header is line 1
    assert frame["path"].tolist()[3] == "gone.jpg"


def test_a_batch_of_nothing_but_bad_photos(shop, tmp_path):
    for number in range(300):  # more than are read at once
        shop.add(f"bad{number}", image="nothing.jpg")
    report = shop.process(tmp_path / "hf")
    assert (report["ok"], report["quarantined"]) == (40, 300)


def test_too_many_bad_rows_stop_and_leave_what_was_there(shop, tmp_path):
    shop.process(tmp_path / "hf")
    before = fingerprints(tmp_path / "hf")
    for number in range(9):
        shop.add(f"bad{number}", image="nothing.jpg")
    with pytest.raises(
        DataError, match=r"9 of 49 rows \(18.4%\).*(?s:.*)9 × missing_file, first in row 42, id 'bad0'"
    ):
        shop.process(tmp_path / "hf", max_bad_fraction=0.1)
    assert fingerprints(tmp_path / "hf") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "raw"]


def test_nothing_left_to_train_on(catalogue, tmp_path):
    (catalogue.raw / "items.csv").write_text("id,image,category,title,color,neckline\n")
    with pytest.raises(DataError, match="no rows"):
        catalogue.process(tmp_path / "hf")
    catalogue.add("only")
    with pytest.raises(DataError, match="train"):
        catalogue.process(tmp_path / "hf", splits={"train": 0.0, "validation": 0.5, "test": 0.5})


def test_an_empty_split_is_a_file_without_rows(catalogue, tmp_path):
    catalogue.add("only")
    catalogue.process(tmp_path / "hf", splits={"train": 1.0, "validation": 0.0, "test": 0.0})
    assert pq.read_table(tmp_path / "hf/validation-00000-of-00001.parquet").num_rows == 0
    assert read_rows(tmp_path / "hf", "test").empty


def test_duplicates(shop, tmp_path):
    shop.rows.append(list(shop.rows[3]))
    report = shop.process(tmp_path / "hf")
    assert report["quarantined_by_reason"] == {"duplicate_row": 1}
    shop.rows.append([*shop.rows[3][:3], "Another title", "", ""])
    with pytest.raises(DataError, match="rows 5 and 43 have the same id 'P001_back'"):
        shop.process(tmp_path / "hf")
    report = shop.process(tmp_path / "hf", duplicate_ids="keep_first")
    assert report["quarantined_by_reason"] == {"duplicate_id": 1, "duplicate_row": 1}
    assert "Denim pants" in read_rows(tmp_path / "hf").set_index("item_id").loc["P001_back", "text"]


def test_identical_photos_are_one_product(shop, tmp_path, encode, draw):
    data = encode(draw(777))
    for name in ("red", "green", "blue"):
        shop.add_photo(name, data)
    shop.process(tmp_path / "hf")
    rows = read_rows(tmp_path / "hf").set_index("item_id").loc[["red", "green", "blue"]]
    assert rows["product_id"].tolist() == ["blue"] * 3
    assert set(rows["product_key"]) == {"same_image"}
    assert rows["split"].nunique() == 1


def test_only_an_address(catalogue, tmp_path):
    catalogue.header = ("id", "url", "category", "title", "color", "neckline", "image")
    catalogue.add("a")
    catalogue.add("b", image="", url="https://shop.example/b.jpg")
    catalogue.write()
    columns = {"item_id": "id", "image": "image", "image_url": "url"}
    catalogue.process(tmp_path / "hf", columns=columns, splits={"train": 1.0, "validation": 0.0, "test": 0.0})
    assert quarantine(tmp_path / "hf") == {"b": "not_downloaded"}


def test_photos_without_a_row_are_named(shop, tmp_path):
    shop.add("gone", image="gone.jpg")
    (shop.raw / "images/orphan.jpg").write_bytes(b"")
    (shop.raw / "images/notes.txt").write_bytes(b"")
    assert shop.process(tmp_path / "hf")["images_without_row"] == {"count": 1, "first": ["orphan.jpg"]}


def test_corrupt_exif_is_noted_in_the_report(shop, tmp_path, encode, draw):
    shop.add_photo("odd", encode(draw(5), exif=b"Exif\0\0garbage"))
    report = shop.process(tmp_path / "hf")
    assert report["photos"]["notes"] == {"corrupt_exif": {"count": 1, "first": ["odd"]}}


def test_columns_win_over_text_and_agreement_is_counted(catalogue, tmp_path):
    catalogue.add("a", title="v-neck tee", neckline="V Neck")
    catalogue.add("b", title="v-neck tee", neckline="Crew")
    catalogue.add("c", title="collar", neckline="Waterfall")
    catalogue.add("d", title="v-neck, round neck", neckline="#N/A")
    catalogue.add("e", title="v-neck flip flops", category="Flip Flops")
    report = catalogue.process(tmp_path / "hf", splits={"train": 1.0, "validation": 0.0, "test": 0.0})
    rows = read_rows(tmp_path / "hf").set_index("item_id")
    assert rows["neckline"].tolist() == ["v-neck", "round neck", "waterfall", None, None]
    entry = report["attributes"]["neckline"]
    assert (entry["column_and_text"], entry["agreement"], entry["ambiguous_text"], entry["not_applicable"]) == (
        2,
        0.5,
        1,
        1,
    )
    assert entry["outside_schema"] == {"waterfall": 1}
    assert report["attributes"]["sleeve"]["agreement"].startswith("skipped")


def test_huggingface_metadata(shop, tmp_path):
    shop.process(tmp_path / "hf")
    schema = pq.read_schema(tmp_path / "hf/train-00000-of-00001.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert list(features) == schema.names
    assert str(schema.field("image").type) == "struct<bytes: binary, path: string>"


def test_bad_configuration(shop, tmp_path):
    with pytest.raises(ConfigError, match="sku_pattern"):
        shop.process(tmp_path / "hf", sku_pattern="(")
    assert not (tmp_path / "hf").exists()


def test_shards_hold_the_same_rows(shop, tmp_path, monkeypatch):
    shop.process(tmp_path / "one")
    monkeypatch.setattr("lib.catalog.shards.ROW_GROUP", 4)
    monkeypatch.setattr("lib.catalog.shards.MAX_SHARD_BYTES", 6000)
    shop.process(tmp_path / "many")
    assert len(list((tmp_path / "many").glob("train-*-of-*.parquet"))) > 2
    assert read_rows(tmp_path / "many").equals(read_rows(tmp_path / "one"))


def test_an_error_is_one_line_and_an_exit_code(shop, tmp_path):
    shop.write()
    (shop.raw / "items.csv").write_text("id,id\n1,2\n")
    file = tmp_path / "params.yaml"
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    file.write_text(params.replace("metadata: catalogue.csv", "metadata: items.csv"), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "stages.process_data",
        "--raw",
        str(shop.raw),
        "--schema",
        "lib/catalog/attributes.yaml",
    ]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "hf"), "--params", str(file)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error: process_data: ")
    assert "items.csv:1: the header names 'id' twice" in done.stderr
    assert "Traceback" not in done.stderr


def test_photos_stay_with_their_rows_byte_for_byte(shop, tmp_path):
    shop.process(tmp_path / "hf")
    ids = [row[0] for row in shop.rows]
    stored = read_images(tmp_path / "hf", ids)
    assert stored == {item_id: (shop.raw / "images" / f"{item_id}.jpg").read_bytes() for item_id in ids}
