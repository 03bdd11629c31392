"""The sheet: no formulas, every string back, whatever a spreadsheet makes of the file."""

import csv

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.base.errors import DataError
from lib.catalog.grounding.claims import CLAIM_COLUMNS
from lib.catalog.grounding.sheet import SHEET_COLUMNS, neutralise, read_sheet, restore, write_sheet

FORMULAS = ['=HYPERLINK("http://x")', "+1", "-1+1", "@SUM(A1)", "\tx", "\rx", "\n=x", "＝1", "'=1", "''-x"]
PLAIN = ["001", "NA", "nan", "5.0", "1e5", "#N/A", "null", "", " ", "'90s", "a=b", 'say "x", y', "two\nlines", "é|;"]


def claims(*ids, **columns):
    base = {name: name for name in CLAIM_COLUMNS}
    return pd.DataFrame([base | {"row": str(n + 1), "item_id": i} | columns for n, i in enumerate(ids)])


def test_cells_come_back_as_they_were(tmp_path):
    file = tmp_path / "sheet.csv"
    write_sheet(file, claims(*FORMULAS, *PLAIN, text="=cmd|' /C calc'!A0"))
    rows = read_sheet(file)
    assert [row.cells["item_id"] for row in rows] == FORMULAS + PLAIN
    assert {row.cells["text"] for row in rows} == {"=cmd|' /C calc'!A0"}
    assert {row.cells["verdict"] for row in rows} == {""}
    with open(file, encoding="utf-8", newline="") as stream:
        raw = list(csv.DictReader(stream))
    assert tuple(raw[0]) == SHEET_COLUMNS
    for row in raw:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
    assert [row["item_id"] for row in raw[len(FORMULAS) :]] == PLAIN, "a plain id is written as it is"


@given(st.text(st.sampled_from("'=+-@ab1\t\n＠"), max_size=6))
def test_neutralising_can_be_undone(cell):
    safe = neutralise(cell)
    assert restore(safe) == cell
    assert not safe.startswith(("=", "+", "-", "@", "\t", "\n", "＠"))


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_spreadsheets_own_form_of_csv(tmp_path, form, separator):
    file = tmp_path / "completed.csv"
    write_sheet(tmp_path / "sheet.csv", claims("001", "-x", text="crème; brûlée, “two”\nlines".replace("“two”", "2")))
    with open(tmp_path / "sheet.csv", encoding="utf-8", newline="") as stream:
        raw = list(csv.reader(stream))
    with open(file, "w", encoding=form, newline="") as stream:
        csv.writer(stream, delimiter=separator, lineterminator="\r\n").writerows([*raw, [""] * len(raw[0])])
    assert [row.cells for row in read_sheet(file)] == [row.cells for row in read_sheet(tmp_path / "sheet.csv")]
    assert [row.line for row in read_sheet(file)] == [2, 4]


def test_more_columns_another_order_and_short_rows(tmp_path):
    file = tmp_path / "completed.csv"
    columns = [*reversed(SHEET_COLUMNS), "reviewer"]
    file.write_text(",".join(columns) + "\n,wrong\n\n")
    (row,) = read_sheet(file)
    assert row.line == 2 and row.cells["true_value"] == "wrong" and row.cells["row"] == ""


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("none.csv", None, r"none\.csv: no such file; `dvc repro grounding_audit`"),
        ("book.xlsx", "x", r"book\.xlsx: expected a CSV, got '\.xlsx'; save the spreadsheet as CSV"),
        ("less.csv", "row,item_id\n", r"less\.csv:1: column product_id, .*verdict, true_value, note is missing"),
        ("twice.csv", "row,row\n", r"twice\.csv:1: the header names 'row' twice"),
        ("empty.csv", "", r"empty\.csv:1: no header"),
        ("wide.csv", ",".join(SHEET_COLUMNS) + "\n" + "a," * 13 + "b,c\n", r"wide\.csv:2: more cells.*'b'"),
    ],
)
def test_what_is_no_sheet(tmp_path, name, text, says):
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(DataError, match=says):
        read_sheet(file)
