"""Tables of labelled pairs: every row is used, or counted under a reason with its line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lib.base.errors import ConfigError, DataError
from lib.catalog.item_pairs import read_item_pairs

ITEMS = pd.DataFrame(
    [(f"t{n}", "train") for n in range(8)]
    + [("v1", "validation"), ("v2", "validation"), ("001", "test"), ("NA", "test"), ("5.0", "test"), ("é1", "train")],
    columns=["item_id", "split"],
)


def write(folder: Path, text: str, *, encoding: str = "utf-8", name: str = "outfits.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path, *, max_bad_fraction: float = 1.0):  # type: ignore[no-untyped-def]
    return read_item_pairs(path, ITEMS, max_bad_fraction=max_bad_fraction)


def test_pairs_belong_to_the_split_of_both_items(tmp_path: Path) -> None:
    found = read(write(tmp_path, "a_id,b_id,label\nt1,t2,1\nv1,v2,0\n001,NA,1\n5.0,001,0\nt3,v1,1\n"))
    assert found.pairs.values.tolist() == [
        ["t1", "t2", 1, "train"],
        ["v1", "v2", 0, "validation"],
        ["001", "NA", 1, "test"],
        ["5.0", "001", 0, "test"],
    ]
    assert found.of_split("test")["a_id"].tolist() == ["001", "5.0"] and len(found.of_split("train")) == 1
    assert found.report["rows"] == 5 and found.report["used"] == 4
    assert found.report["across_splits"] == 1 and found.report["unusable"] == 0
    assert found.report["splits"] == {
        "train": {"goes_together": 1, "does_not": 0},
        "validation": {"goes_together": 0, "does_not": 1},
        "test": {"goes_together": 1, "does_not": 1},
    }


def test_every_bad_row_is_listed_with_its_line(tmp_path: Path) -> None:
    lines = [
        "a_id,b_id,label",
        "t1,t2,1",  # 2
        "t1,t9,1",  # 3: unknown
        "t1,,1",  # 4: no id
        "t3,t3,0",  # 5: itself
        "t1,t3,2",  # 6: label
        "t1,t3,",  # 7: label
        "t2,t1,1",  # 8: repeats line 2, turned
        "t4,t5,1",  # 9: contradicted by 10 and 12
        "t5,t4,0",  # 10
        "t6,t7",  # 11: ragged
        "t4,t5,1",  # 12
        "",
        "t6,t7, 0 ",  # 14
    ]
    found = read(write(tmp_path, "\r\n".join(lines) + "\r\n"))
    assert found.pairs[["a_id", "b_id", "label"]].values.tolist() == [["t1", "t2", 1], ["t6", "t7", 0]]
    reasons = found.report["unusable_by_reason"]
    places = {reason: [text.split(": ")[0] for text in entry["first"]] for reason, entry in reasons.items()}
    assert places == {
        "bad_label": ["outfits.csv:6", "outfits.csv:7"],
        "contradiction": ["outfits.csv:9", "outfits.csv:10", "outfits.csv:12"],
        "duplicate": ["outfits.csv:8"],
        "empty_id": ["outfits.csv:4"],
        "ragged_row": ["outfits.csv:11"],
        "same_item": ["outfits.csv:5"],
        "unknown_id": ["outfits.csv:3"],
    }
    assert reasons["bad_label"]["count"] == 2
    assert (
        found.report["unusable"] + found.report["used"] + found.report["across_splits"] == found.report["rows"] == 12
    )
    assert "'t9' is not in the processed catalogue" in reasons["unknown_id"]["first"][0]
    assert reasons["contradiction"]["first"][0].endswith("'t4' with 't5': 1 here, not in line 10")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_and_separators(tmp_path: Path, encoding: str, separator: str) -> None:
    text = "label,note,b_id,a_id\n1,x,é1,t1\n0,y,t3,t2\n".replace(",", separator)
    found = read(write(tmp_path, text, encoding=encoding))
    assert found.pairs[["a_id", "b_id", "label"]].values.tolist() == [["t1", "é1", 1], ["t2", "t3", 0]]


def test_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"a_id": ["t1"], "b_id": ["t2"], "label": [0]}).to_parquet(tmp_path / "pairs.parquet")
    assert read(tmp_path / "pairs.parquet").pairs["label"].tolist() == [0]


def test_too_many_bad_rows_stop_the_run_and_name_the_reasons(tmp_path: Path) -> None:
    path = write(tmp_path, "a_id,b_id,label\n" + "t1,t2,1\nt1,zz,1\nt3,t4,0\nt5,t6,0\n")
    assert read(path, max_bad_fraction=0.25).report["unusable"] == 1
    with pytest.raises(
        DataError, match=r"1 of 4 rows \(25\.0%\).*\n  1 × unknown_id, first outfits\.csv:3: item 'zz'"
    ):
        read(path, max_bad_fraction=0.24)


@pytest.mark.parametrize("text", ["a_id,b_id,label\n", "a_id,b_id,label\nt1,v1,1\n", "a_id,b_id,label\nzz,t1,1\n"])
def test_nothing_left(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="no pair is left"):
        read(write(tmp_path, text))


def test_columns_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"outfits\.csv:1: column b_id, label is missing; .* got a_id, b"):
        read(write(tmp_path, "a_id,b\nt1,t2\n"))
    with pytest.raises(DataError, match="twice"):
        read(write(tmp_path, "a_id,b_id,b_id,label\nt1,t2,t2,1\n"))


def test_a_file_that_is_not_there_or_no_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; compatibility\.pairs"):
        read(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match=r"must end with"):
        read(write(tmp_path, "{}", name="pairs.json"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError):
        read(tmp_path / "folder.csv")


def test_long_lists_are_cut(tmp_path: Path) -> None:
    rows = "".join(f"t1,x{n},1\n" for n in range(50))
    entry = read(write(tmp_path, f"a_id,b_id,label\n{rows}t1,t2,1\n")).report["unusable_by_reason"]["unknown_id"]
    assert entry["count"] == 50 and len(entry["first"]) == 20 and entry["first"][0].startswith("outfits.csv:2:")
