"""DeepFashion In-shop's original release: its rows, its official partition, and what its lists get wrong."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from inshop_release import Release, write_release

from lib.base.artifacts import read_parquet
from lib.base.errors import ConfigError, DataError
from lib.base.params import Data, load_params
from lib.catalog.partition import split_by_partition
from lib.catalog.process import process_catalog
from lib.catalog.processed import read_images, read_rows
from lib.catalog.schema import RawRow
from lib.catalog.sources.inshop import read_descriptions, read_list
from lib.catalog.sources.registry import open_source

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "lib/catalog/attributes.yaml"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Drawn once; tests work on copies."""
    return write_release(tmp_path_factory.mktemp("release"), seed=3)


@pytest.fixture
def release(drawn: Release, tmp_path: Path) -> Release:
    raw = tmp_path / "raw"
    shutil.copytree(drawn.raw, raw)
    return Release(raw, list(drawn.lines), [dict(entry) for entry in drawn.descriptions], dict(drawn.colors))


def section(**changes: Any) -> Data:
    profile = load_params(ROOT / "profiles/deepfashion_inshop.yaml").data.model_dump()
    return Data.model_validate({**profile, "max_bad_fraction": 0.5, **changes})


def process(release: Release, out: Path, *, workers: int = 2, **changes: Any) -> dict[str, Any]:
    return process_catalog(release.raw, SCHEMA, out, section(**changes), workers=workers)


def item_id(name: str) -> str:
    return name.removeprefix("img/").removesuffix(".jpg").replace("/", "_")


def fingerprints(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def quarantine(folder: Path) -> list[tuple[int, str]]:
    frame = read_parquet(folder / "quarantine.parquet")
    return list(zip(frame["row"], frame["reason"], strict=True))


def test_every_row_is_what_its_line_says(release, tmp_path):
    report = process(release, tmp_path / "hf")
    rows = read_rows(tmp_path / "hf").set_index("item_id")
    assert (report["rows"], report["ok"], report["quarantined"]) == (len(release.lines),) * 2 + (0,)
    assert report["images_without_row"]["count"] == 0
    described = {entry["item"]: entry for entry in release.descriptions}
    for name, item, status in release.lines:
        _, gender, folder, _, _ = name.split("/")
        row = rows.loc[item_id(name)]
        assert row["product_id"] == f"{gender}_{folder}_{item}"
        assert (row["partition"], row["partition_item"]) == (status, item)
        assert row["category1"] == gender.lower()
        assert (row["category2"], row["category3"] or "") == folder.lower().partition("_")[::2]
        assert row["text"] == " || ".join(line.strip() for line in described[item]["description"])
    cells = rows.loc["WOMEN_Graphic_Tees_id_00000001_01_7_additional"]
    assert cells[["category2", "category3", "pattern", "neckline", "color", "color_source"]].tolist() == [
        "graphic",
        "tees",
        "graphic print",
        "round neck",
        "yellow",
        "column",
    ]
    assert rows["text"].str.contains("Voilà!").any()
    photos = read_images(tmp_path / "hf", [item_id(name) for name, _, _ in release.lines])
    assert photos == {item_id(name): (release.raw / name).read_bytes() for name, _, _ in release.lines}


def test_ids_and_products_are_those_of_the_hugging_face_form():
    profile = load_params(ROOT / "profiles/deepfashion.yaml").data
    match = re.search(profile.sku_pattern, item_id("img/WOMEN/Blouses_Shirts/id_00002558/02_1_front.jpg"))
    assert match is not None and match[1] == "WOMEN_Blouses_Shirts_id_00002558"


def test_query_and_gallery_are_the_test_split(release, tmp_path):
    report = process(release, tmp_path / "hf")
    rows = read_rows(tmp_path / "hf")
    assert set(rows.loc[rows["partition"].isin(["query", "gallery"]), "split"]) == {"test"}
    assert set(rows.loc[rows["partition"] == "train", "split"]) == {"train", "validation"}
    repeated = rows.groupby("partition_item")["product_id"].nunique()
    assert (repeated == 2).sum() >= 3  # ids that stand in two folders
    for unit in ("product_id", "partition_item"):
        assert rows.groupby(unit)["split"].nunique().max() == 1, unit
    counts = {
        part: {
            "images": sum(status == part for _, _, status in release.lines),
            "items": len({item for _, item, status in release.lines if status == part}),
        }
        for part in ("train", "query", "gallery")
    }
    assert report["partition"] == counts


def test_train_and_validation_keep_the_proportion_of_the_shares():
    n = 1000
    ids = [f"p{i:04d}" for i in range(n)]
    arguments = {"partitions": ["train"] * n, "partition_items": ids, "seed": 1}
    for shares, expected in (((0.6, 0.2, 0.2), 0.25), ((0.8, 0.2, 0.0), 0.2), ((0.3, 0.0, 0.7), 0.0)):
        named = dict(zip(("train", "validation", "test"), shares, strict=True))
        splits = split_by_partition(ids, ["tees"] * n, shares=named, **arguments)
        assert abs(splits.count("validation") / n - expected) < 0.002
        assert "test" not in splits
    with pytest.raises(ConfigError, match="train and validation are both 0"):
        split_by_partition(ids, ["tees"] * n, shares={"train": 0, "validation": 0, "test": 1}, **arguments)
    assert split_by_partition([], [], partitions=[], partition_items=[], shares=named, seed=1) == []


def test_ties_across_the_border_go_to_test_and_are_reported(release, tmp_path):
    photo = {status: next(line for line in release.lines if line[2] == status) for status in ("train", "query")}
    shutil.copy(release.raw / photo["query"][0], release.raw / photo["train"][0])  # one photo in both parts
    by_item = {item: [line for line in release.lines if line[1] == item] for item in release.item_ids()}
    torn = next(lines for item, lines in by_item.items() if lines[0][2] == "train" and item != photo["train"][1])
    place = release.lines.index(torn[0])
    release.lines[place] = (torn[0][0], torn[0][1], "gallery")  # an item that the file puts in both
    release.write()
    report = process(release, tmp_path / "hf")
    rows = read_rows(tmp_path / "hf").set_index("item_id")
    moved = {item_id(name) for name, item, status in release.lines if item == photo["train"][1]}
    moved |= {item_id(name) for name, item, status in release.lines if item == torn[0][1] and status == "train"}
    assert len(moved) >= 3
    assert set(rows.loc[list(moved), "split"]) == {"test"}
    assert rows["partition"].to_dict() == {item_id(name): status for name, _, status in release.lines}
    others = rows[(rows["partition"] == "train") & ~rows.index.isin(moved)]
    assert set(others["split"]) == {"train", "validation"}
    note = next(note for note in report["notes"] if "official train partition" in note)
    assert note.startswith(f"{len(moved)} items") and all(name in note for name in moved)
    assert rows.groupby("product_id")["split"].nunique().max() == 1
    assert rows.groupby("partition_item")["split"].nunique().max() == 1


def test_same_input_same_bytes_whatever_the_threads(release, tmp_path):
    process(release, tmp_path / "a", workers=1)
    process(release, tmp_path / "b", workers=4)
    assert fingerprints(tmp_path / "a") == fingerprints(tmp_path / "b")


def test_bad_lines_are_quarantined_and_the_others_read(release, tmp_path):
    name, item, _ = release.lines[0]
    extra = [
        f"{name.replace('01_', '91_')} {item}",
        f"{name.replace('01_', '92_')} {item} train and more",
        f"{item} {item} train",
        f"img/KIDS/Tees/{item}/01_1_front.jpg {item} train",
        f"{name.replace('01_', '93_')} id_00099999 train",
        f"{name.replace('01_', '94_')} {item} Train",
        f"{name.replace('01_', '95_')} {item} train",
        f"img/WOMEN/../{item}/../../../../secret.jpg {item} train",
        f"img/WOMEN/../../../{item}/01_1_front.jpg {item} train",
    ]
    text = release.partition.read_text()
    release.partition.write_text(text + "\n \n" + "\n".join(extra))  # blank lines, no end of line at the end
    report = process(release, tmp_path / "hf")
    first = len(release.lines) + 5
    assert quarantine(tmp_path / "hf") == [
        (first, "malformed_line"),
        (first + 1, "malformed_line"),
        (first + 2, "bad_image_name"),
        (first + 3, "bad_image_name"),
        (first + 4, "item_mismatch"),
        (first + 5, "unknown_status"),
        (first + 6, "missing_file"),
        (first + 7, "bad_image_name"),
        (first + 8, "bad_image_name"),
    ]
    lines = release.partition.read_text().split("\n")
    assert lines[first + 5].split()[0].endswith("95_7_additional.jpg")  # row n is line n
    assert report["ok"] == len(release.lines) and report["rows"] == len(release.lines) + len(extra)
    assert (
        f"list_eval_partition.txt:1: says {len(release.lines)} entries, there are {report['rows']}" in report["notes"]
    )
    details = read_parquet(tmp_path / "hf/quarantine.parquet")["detail"].tolist()
    assert details[4] == f"the image lies in {item}, the line says id_00099999"
    assert "got 'Train'" in details[5]


def test_a_photo_that_escapes_is_refused(release, tmp_path):
    (tmp_path / "secret.jpg").write_bytes((release.raw / release.lines[0][0]).read_bytes())
    name = release.lines[0][0]
    (release.raw / name).unlink()
    (release.raw / name).symlink_to(tmp_path / "secret.jpg")
    process(release, tmp_path / "hf")
    assert [reason for _, reason in quarantine(tmp_path / "hf")] == ["path_escape"]


def test_photos_without_a_line_and_lines_without_a_photo(release, tmp_path):
    gone = release.lines.pop(5)
    (release.raw / release.lines[8][0]).unlink()
    release.write()
    report = process(release, tmp_path / "hf")
    assert report["images_without_row"] == {"count": 1, "first": [gone[0].removeprefix("img/")]}
    assert quarantine(tmp_path / "hf") == [(11, "missing_file")]


def test_repeated_lines(release, tmp_path):
    release.lines.append(release.lines[3])
    release.write()
    assert process(release, tmp_path / "hf")["quarantined_by_reason"] == {"duplicate_row": 1}
    name, item, status = release.lines[3]
    release.lines[-1] = (name, item, "gallery" if status == "train" else "train")
    release.write()
    with pytest.raises(DataError, match=rf"rows 6 and {len(release.lines) + 2} have the same id '{item_id(name)}'"):
        process(release, tmp_path / "hf")
    report = process(release, tmp_path / "hf", duplicate_ids="keep_first")
    assert report["quarantined_by_reason"] == {"duplicate_id": 1}


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16", "crlf"])
def test_bytes_of_the_lists_do_not_matter(release, tmp_path, form):
    process(release, tmp_path / "plain")
    for path in [*release.raw.glob("Eval/*.txt"), *release.raw.glob("Anno/list_*")]:
        text = path.read_text(encoding="utf-8")
        if form == "crlf":
            path.write_bytes(text.replace("\n", "\r\n").encode())
        else:
            path.write_bytes(text.encode(form))
    process(release, tmp_path / "other")
    assert fingerprints(tmp_path / "plain") == fingerprints(tmp_path / "other")


def test_latin_1(release, tmp_path):
    path = release.raw / "Anno/list_description_inshop.json"
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    old, new = release.raw / "img/MEN/Denim", release.raw / "img/MEN/D\xe9nim"
    old.rename(new)
    text = (
        release.partition.read_text(encoding="utf-8")
        .replace("MEN/Denim", "MEN/D\xe9nim")
        .replace("WOMEN/D\xe9nim", "WOMEN/Denim")
    )
    release.partition.write_bytes(text.encode("latin-1"))
    report = process(release, tmp_path / "hf")
    rows = read_rows(tmp_path / "hf")
    assert report["ok"] == len(release.lines)
    assert "d\xe9nim" in set(rows["category2"]) and rows["text"].str.contains("Voil\xe0!").any()
    names = ("list_eval_partition.txt", "list_description_inshop.json")
    assert {f"{name}: not UTF-8, read as latin-1" for name in names} <= set(report["notes"])


@pytest.mark.parametrize(
    ("start", "note"),
    [
        ("131\nimage_name item_id evaluation_status\n", None),
        ("130\nimage_name item_id evaluation_status\n", "says 130 entries, there are 131"),
        ("image_name item_id evaluation_status\n", "does not say how many entries there are (131)"),
        ("131\n", "no line names the columns"),
        ("\n\n131\n\nimage_name\titem_id   evaluation_status  \n", None),
    ],
)
def test_first_lines(release, tmp_path, start, note):
    body = release.partition.read_text().split("\n", 2)[2]
    release.partition.write_text(start + body)
    report = process(release, tmp_path / "hf")
    assert report["rows"] == report["ok"] == 131
    found = [text for text in report["notes"] if "list_eval_partition.txt" in text]
    assert len(found) == (note is not None) and (note is None or note in found[0])


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("1\nitem_id image_name evaluation_status\nid_1 img/x train\n")
    with pytest.raises(DataError, match=r"list\.txt:2: expected the columns image_name, item_id"):
        read_list(path, ("image_name", "item_id", "evaluation_status"))
    path.write_text("")
    assert read_list(path, ("image_name",))[0] == []


def test_lists_that_disagree_are_told(release, tmp_path):
    item = release.lines[0][1]
    items = [*release.item_ids()[1:], "id_00000777", "id_00000777", "seven"]
    release.write_list("Anno/list_item_inshop.txt", items, 999)
    lost, *_, torn = release.descriptions
    release.descriptions = [
        *release.descriptions[1:],
        {"item": "id_00000888", "color": None, "description": None},
        {"item": torn["item"], "color": "Rust", "description": "other words"},
        {"item": "id_00000999", "color": 7, "description": [1]},
        "nothing",
    ]
    path = release.raw / "Anno/list_description_inshop.json"
    path.write_text(json.dumps(release.descriptions), encoding="utf-8")
    report = process(release, tmp_path / "hf")
    notes = "\n".join(report["notes"])
    n = len(release.descriptions)
    for words in (
        f"list_item_inshop.txt:1: says 999 entries, there are {len(items)}",
        "list_item_inshop.txt: 1 ids are listed again",
        f"list_item_inshop.txt:{len(items) + 1}: no item id: 'seven'",
        "1 items of list_item_inshop.txt have no row in list_eval_partition.txt: id_00000777",
        f"1 items of list_eval_partition.txt are not in list_item_inshop.txt: {item}",
        "2 items of list_description_inshop.json have no row in list_eval_partition.txt: id_00000888, id_00000999",
        f"1 items of list_eval_partition.txt are not in list_description_inshop.json: {lost['item']}",
        f"entry {n - 2} says something else about {torn['item']}",
        f"entry {n - 1}, id_00000999: color is no text: '7'",
        f"entry {n - 1}, id_00000999: description is no list of texts: '[1]'",
        f"entry {n} has no item id: 'nothing'",
    ):
        assert words in notes, words
    assert report["ok"] == len(release.lines)
    rows = read_rows(tmp_path / "hf")
    assert rows.loc[rows["partition_item"] == lost["item"], ["text", "color"]].isna().all().all()
    assert not rows["text"].fillna("").str.contains("other words").any()


def test_no_more_than_twenty_notes_of_a_kind(tmp_path):
    path = tmp_path / "list_description_inshop.json"
    path.write_text(json.dumps([{"item": "x"}] * 50), encoding="utf-8")
    _, notes = read_descriptions(path)
    assert len(notes) == 21 and notes[-1] == "… and 30 more of this kind"


def test_half_characters_and_missing_values(release, tmp_path):
    path = release.raw / "Anno/list_description_inshop.json"
    item = release.lines[0][1]
    path.write_text(rf'[{{"item": "{item}", "color": "#N/A", "description": ["a \ud83d", "#N/A", " "]}}]')
    process(release, tmp_path / "hf")
    rows = read_rows(tmp_path / "hf")
    own = rows[rows["partition_item"] == item]
    assert set(own["text"]) == {"a ?"} and own["color"].isna().all()
    assert rows.loc[rows["partition_item"] != item, "text"].isna().all()


@pytest.mark.parametrize("text", ["{}", "[", "[" * 100_000, ""])
def test_descriptions_that_are_no_list(release, tmp_path, text):
    (release.raw / "Anno/list_description_inshop.json").write_text(text)
    with pytest.raises(DataError, match=r"list_description_inshop\.json: (not valid JSON|expected a list)"):
        process(release, tmp_path / "hf")


def test_without_descriptions_and_items(release, tmp_path):
    shutil.rmtree(release.raw / "Anno")
    report = process(release, tmp_path / "hf")
    rows = read_rows(tmp_path / "hf")
    assert report["ok"] == len(rows) and rows[["text", "color"]].isna().all().all()
    assert report["notes"] == ["list_description_inshop.json: not there; no item has a text"]
    assert rows["caption"].notna().all()


def test_a_colour_for_every_photo_wins(release, tmp_path):
    report = process(release, tmp_path / "by_item")
    by_item = read_rows(tmp_path / "by_item").set_index("item_id")["color"]
    assert any("bear the one colour of their description" in note for note in report["notes"])
    name = release.lines[0][0]
    left_out = release.colors.pop(name)
    release.colors["img/MEN/Pants/id_00004444/01_1_front.jpg"] = "Heather grey"
    release.write_colors()
    report = process(release, tmp_path / "by_photo")
    by_photo = read_rows(tmp_path / "by_photo").set_index("item_id")["color"]
    words = {"Navy": "navy blue", "Heather grey": "grey"}
    expected = {item_id(n): words.get(c, c.lower()) for n, c in release.colors.items() if (release.raw / n).is_file()}
    assert by_photo.drop(item_id(name)).to_dict() == expected
    assert by_photo[item_id(name)] == by_item[item_id(name)] and left_out
    assert (by_photo != by_item).sum() > 10
    assert not any("bear the one colour" in note for note in report["notes"])
    assert any(note.startswith("1 images of list_color_cloth.txt have no row") for note in report["notes"])


def test_where_the_files_may_lie(release, tmp_path):
    process(release, tmp_path / "folders")
    for path in [*release.raw.glob("Eval/*"), *release.raw.glob("Anno/list_*")]:
        path.rename(release.raw / path.name)
    (release.raw / "Img").mkdir()
    (release.raw / "img").rename(release.raw / "Img/img")
    process(release, tmp_path / "flat", image_root="Img/img")
    (release.raw / "list_eval_partition.txt").rename(release.raw / "own.txt")
    process(release, tmp_path / "named", image_root="Img/img", metadata="own.txt")
    assert fingerprints(tmp_path / "folders") == fingerprints(tmp_path / "flat") == fingerprints(tmp_path / "named")


def test_photos_as_they_were_downloaded(release, tmp_path):
    process(release, tmp_path / "folder")
    shutil.make_archive(str(release.raw / "img"), "zip", release.raw, "img")
    shutil.rmtree(release.raw / "img")
    process(release, tmp_path / "archive")
    assert fingerprints(tmp_path / "folder") == fingerprints(tmp_path / "archive")


def test_bad_configuration(release):
    raw = release.raw
    for changes, words in (
        ({"columns": {"color": "colour"}}, r"data\.columns\.color: the columns .* write columns: \{\}"),
        ({"columns": {"text": ["a"]}}, r"data\.columns\.text"),
        ({"metadata": "none.txt"}, r"none\.txt: no such file; data\.raw_dir and data\.metadata"),
        ({"image_root": "Img"}, r"no folder MEN or WOMEN in it, nor in Img\.zip; data\.image_root"),
    ):
        with pytest.raises(ConfigError, match=words):
            open_source(raw, section(**changes))
    shutil.copy(release.partition, raw / "list_eval_partition.txt")
    with pytest.raises(ConfigError, match="only one of them can be meant"):
        open_source(raw, section())
    with pytest.raises(ConfigError, match=r"list_eval_partition\.txt \(nor in Eval or Anno\): no such file"):
        open_source(raw / "img", section())


def test_other_sources_have_no_partition(shop, tmp_path):
    report = shop.process(tmp_path / "hf")
    rows = read_rows(tmp_path / "hf")
    assert rows[["partition", "partition_item"]].isna().all().all()
    assert "partition" not in report


def test_rows_can_be_read_twice(release):
    source = open_source(release.raw, section())
    notes = list(source.notes)
    first, second = list(source.rows()), list(source.rows())
    assert first == second and all(isinstance(row, RawRow) for row in first)
    assert source.notes == notes
    assert sorted(source.photos()) == sorted(name.removeprefix("img/") for name, _, _ in release.lines)
    assert source.image_size("WOMEN/none.jpg") is None
