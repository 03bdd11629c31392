"""The two-tower model's tables: what can be used, what cannot and why, what leaks, and what is held out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_towers import add_row, draw_shop, keep_pictures, tiny_two_tower, write_table

from lib.base.errors import ConfigError, DataError
from lib.catalog.picture_products import held_out, products_of, validation_gallery
from lib.catalog.picture_store import PictureTables, load_picture_tables


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    draw_shop(tmp_path / "raw", n_products=12, n_asked=4)
    return tmp_path / "raw"


def read(raw: Path, **changed: object) -> PictureTables:
    """The tables, as `process_data` keeps them and the stages after it open them."""
    out = raw.parent / "photos"
    keep_pictures(raw, out, tiny_two_tower(**{"max_bad_fraction": 0.5} | changed))
    tables = load_picture_tables(out)
    assert tables is not None
    return tables


def test_whole_tables(raw: Path) -> None:
    tables = read(raw, max_bad_fraction=0.0)
    names = tables.pictures.names
    assert len(names) == len(set(names)) == 36
    assert [names[n] for n in tables.candidates] == [f"shop/c{i}_{v}.png" for i in range(12) for v in range(2)]
    assert [tuple(names[n] for n in row) for row in tables.truths[:2]] == [
        ("street/q0.png", "shop/c0_0.png"),
        ("street/q0.png", "shop/c0_1.png"),
    ]
    assert len(tables.pairs) == 16 and len(tables.truths) == 8
    assert {name: part["used"] for name, part in tables.report.items()} == {
        "pairs": 16,
        "candidates": 24,
        "query_gt": 8,
    }
    assert tables.pictures.read(int(tables.candidates[0])) == (raw / "shop" / "c0_0.png").read_bytes()


def test_photos_in_archives_make_the_same_tables(raw: Path) -> None:
    found = [(path.name, path.read_bytes()) for path in kept(raw)]
    for name in ("shop", "street"):
        shutil.make_archive(str(raw / name), "zip", raw / name)
        shutil.rmtree(raw / name)
    assert [(path.name, path.read_bytes()) for path in kept(raw)] == found


def kept(raw: Path) -> list[Path]:
    """The files that `process_data` keeps."""
    read(raw)
    return sorted((raw.parent / "photos").iterdir())


def test_every_reason_with_its_count_and_line(raw: Path, tmp_path: Path) -> None:
    photo = (raw / "shop" / "c5_0.png").read_bytes()
    (raw / "empty.png").write_bytes(b"")
    (raw / "cut.png").write_bytes(photo[: len(photo) // 2])
    (raw / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "outside.png").write_bytes(photo)
    (raw / "link.png").symlink_to(tmp_path / "outside.png")
    wrong = {
        "missing_file": "street/none.png",
        "zero_bytes": "empty.png",
        "truncated": "cut.png",
        "not_an_image": "page.jpg",
        "path_escape": "../outside.png",
        "not_a_file": "shop",
    }
    lines = {reason: add_row(raw, "pairs", name, "shop/c5_0.png") for reason, name in wrong.items()}
    add_row(raw, "pairs", str(tmp_path / "outside.png"), "shop/c5_0.png")
    add_row(raw, "pairs", "link.png", "shop/c5_0.png")
    lines["ragged_row"] = add_row(raw, "pairs", "street/q5.png")
    lines["empty_path"] = add_row(raw, "pairs", "street/q5.png", "")
    lines["duplicate"] = add_row(raw, "pairs", "street/q5.png", "shop/c5_0.png")
    lines["same_photo"] = add_row(raw, "pairs", "shop/c5_0.png", "shop/c5_0.png")
    lines["not_a_candidate"] = add_row(raw, "query_gt", "street/q0.png", "street/q1.png")
    report = read(raw).report
    found = report["pairs"]["unusable_by_reason"] | report["query_gt"]["unusable_by_reason"]
    assert {reason: part["count"] for reason, part in found.items()} == dict.fromkeys(lines, 1) | {"path_escape": 3}
    for reason, line in lines.items():
        table = "query_gt" if reason == "not_a_candidate" else "pairs"
        assert found[reason]["first"][0].startswith(f"{table}.csv:{line}: "), reason
    assert found["missing_file"]["first"] == [
        f"pairs.csv:{lines['missing_file']}: street/none.png: no such file under two_tower.images_root"
    ]
    assert report["pairs"]["used"] == 16 and report["pairs"]["unusable"] == 14 - 2
    assert report["pairs"]["rows"] == 28


def test_too_many_unusable_rows_stop_with_the_reasons(raw: Path) -> None:
    line = add_row(raw, "candidates", "shop/none.png")
    with pytest.raises(
        DataError, match=rf"1 of 25 rows .*max_bad_fraction 0.039 (.|\n)*candidates.csv:{line}: shop/none"
    ):
        read(raw, max_bad_fraction=0.039)
    assert read(raw, max_bad_fraction=0.04).report["candidates"]["unusable"] == 1


def test_what_is_evaluated_on_must_not_be_learnt_from(raw: Path) -> None:
    """By name, and by what a file shows: a copy under another name leaks as well."""
    line = add_row(raw, "query_gt", "street/q5.png", "shop/c0_0.png")
    with pytest.raises(DataError, match=rf"1 of 9 rows .*\n  query_gt.csv:{line}: street/q5.png is in pairs.csv:4"):
        read(raw)


def test_a_copy_leaks_too(raw: Path) -> None:
    shutil.copy(raw / "shop" / "c7_1.png", raw / "copy.png")
    add_row(raw, "candidates", "copy.png")
    add_row(raw, "query_gt", "street/q0.png", "copy.png")
    with pytest.raises(DataError, match=r"copy.png is in pairs.csv:9 under the name shop/c7_1.png"):
        read(raw)


def test_copies_among_the_candidates_count_once(raw: Path) -> None:
    shutil.copy(raw / "shop" / "c7_1.png", raw / "copy.png")
    add_row(raw, "candidates", "copy.png")
    tables = read(raw, max_bad_fraction=0.0)
    assert len(tables.candidates) == 24 and tables.report["candidates"]["copies"] == 1


def test_files_and_columns_that_are_not_there(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.csv: no such file; two_tower.pairs"):
        read(raw, pairs="none.csv")
    with pytest.raises(ConfigError, match=r"no such folder or ZIP archive under .*two_tower.images_root"):
        read(raw, images_root="nowhere")
    with pytest.raises(ConfigError, match=r"no such folder or ZIP archive under"):
        read(raw, images_root="..")
    write_table(raw / "two_tower" / "pairs.csv", "candidates", [["shop/c5_0.png"]])
    with pytest.raises(DataError, match=r"pairs.csv:1: column query_path is missing"):
        read(raw)
    write_table(raw / "two_tower" / "pairs.csv", "pairs", [])
    with pytest.raises(DataError, match=r"no row is left of 0"):
        read(raw)


def test_a_validation_searches_the_pairs_candidates_and_others_but_nothing_that_is_asked_for(raw: Path) -> None:
    write_table(raw / "two_tower" / "query_gt.csv", "query_gt", [["street/q0.png", "shop/c0_0.png"]])
    tables = read(raw)
    named, asked = set(tables.pairs[:, 1].tolist()), set(tables.truths[:, 1].tolist())
    for limit, expected in ((3, 16), (20, 20), (1000, 23)):
        found = validation_gallery(tables, limit=limit, rng=np.random.default_rng(0)).tolist()
        assert len(found) == expected and found == sorted(set(found))
        assert named <= set(found) <= set(tables.candidates.tolist()) - asked


def test_whole_products_are_held_out() -> None:
    rng = np.random.default_rng(0)
    pairs = np.array([[q, 100 + 3 * (q // 2) + v] for q in range(40) for v in range(3)])  # two queries per product
    products = products_of(pairs)
    assert products.tolist() == (pairs[:, 0] // 2).tolist()
    held = held_out(pairs, fraction=0.2, rng=rng)
    assert len(set(products[held])) == 4
    assert not set(pairs[held].ravel()) & set(pairs[~held].ravel())
    assert (held_out(pairs, fraction=0.2, rng=np.random.default_rng(1)) != held).any()
    with pytest.raises(DataError, match="at least 3 are needed"):
        held_out(pairs[:6], fraction=0.2, rng=rng)
    assert len(set(products_of(pairs[:9])[held_out(pairs[:18], fraction=0.9, rng=rng)[:9]])) <= 2
