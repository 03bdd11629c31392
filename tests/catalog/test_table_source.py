"""Tables as shops export them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib.base.errors import ConfigError, DataError
from lib.catalog.schema import BadRow, RawRow
from lib.catalog.sources.cells import CellTable
from lib.catalog.sources.registry import open_source


@pytest.fixture
def table(tmp_path):
    def make(data: bytes, name: str = "t.csv") -> CellTable:
        (tmp_path / name).write_bytes(data)
        return CellTable(tmp_path / name)

    return make


def cells(table: CellTable) -> list[tuple[int, tuple[str, ...]]]:
    return [(row.number, row.cells) for row in table.rows()]


def test_ids_survive(table):
    found = cells(table(b"id,x\n001,1\nNA,2\nnan,3\n5.0,4\n,5\n1e3,\n"))
    assert [row[0] for _, row in found] == ["001", "NA", "nan", "5.0", "", "1e3"]


def test_bom_latin_1_and_utf_16(table):
    assert table(b"\xef\xbb\xbfid\n1\n").columns == ("id",)
    latin = table("id,t\n1,Größe\n".encode("latin-1"))
    assert cells(latin) == [(2, ("1", "Größe"))]
    assert "latin-1" in latin.notes[0]
    assert cells(table("id,t\n1,Größe\n".encode("utf-16"))) == [(2, ("1", "Größe"))]
    assert cells(table("id,t\n1,Größe\n".encode())) == [(2, ("1", "Größe"))]


def test_delimiters(table):
    assert cells(table(b"id\tt\n1\ta,b\n", "t.tsv")) == [(2, ("1", "a,b"))]
    semicolon = table(b"id;t\n1;a\n")
    assert cells(semicolon) == [(2, ("1", "a"))]
    assert "';'" in semicolon.notes[0]
    assert table(b"id\n1\n").columns == ("id",)


def test_line_numbers_with_blank_lines_and_cells_of_several_lines(table):
    assert cells(table(b'id,t\r\n1,"a\r\nb"\r\n\r\n2,c\r\n')) == [(2, ("1", "a\r\nb")), (5, ("2", "c"))]
    assert cells(table(b'"id\n2",t\n1,a\n')) == [(3, ("1", "a"))]


def test_quotes_in_the_middle_are_text(table):
    assert cells(table(b'id,t\n1,5" heel\n2,"say ""hi"", now"\n')) == [
        (2, ("1", '5" heel')),
        (3, ("2", 'say "hi", now')),
    ]


def test_an_open_quote_swallows_no_rows(table):
    for tail in (b"", b'4,"d\n', b'4,x" y\n'):
        found = cells(table(b'id,t\n1,"a\n2,b\n3,c\n' + tail))
        assert [number for number, _ in found][:3] == [2, 3, 4]
        assert dict(found)[3] == ("2", "b")
    long = b'id,t\n1,"a\n' + b"2,b\n" * 60_000  # past the limit of a cell
    assert len(cells(table(long))) == 60_001


def test_headers(table):
    with pytest.raises(DataError, match=r"t.csv:1: the header names 'x' twice \(columns 2, 3\)"):
        table(b"id,x,x\n1,2,3\n")
    for empty in (b"", b"\n", b",,\n"):
        with pytest.raises(DataError, match="no header"):
            table(empty)
    assert table(b",id , x\n0,1,2\n").columns == ("", "id", "x")


def test_what_is_no_table(tmp_path, table):
    with pytest.raises(ConfigError, match="no such file"):
        CellTable(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="must end with"):
        table(b"", "t.xlsx")
    with pytest.raises(DataError, match="not a readable parquet"):
        table(b"nonsense", "t.parquet")


def test_parquet(tmp_path):
    columns = {"id": ["001", None], "n": [1, 2], "f": [5.0, None], "blob": [b"x", b"y"], "list": [[1], [2]]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = CellTable(tmp_path / "t.parquet")
    assert table.columns == ("id", "n", "f")
    assert cells(table) == [(1, ("001", "1", "5.0")), (2, ("", "2", ""))]
    assert "blob, list" in table.notes[0]


def rows(catalogue, text: str, **changes) -> list[RawRow | BadRow]:
    (catalogue.raw / "items.csv").write_text(text, encoding="utf-8")
    return list(open_source(catalogue.raw, catalogue.data(**changes)).rows())


def test_missing_values_touch_attributes_and_text_but_not_ids(catalogue):
    columns = {
        "item_id": "id",
        "image": "image",
        "text": ["a", "b"],
        "category2": "c",
        "product_id": "p",
        "neckline": "n",
    }
    row = rows(
        catalogue,
        "id,image,a,b,c,p,n\nNA,NA.jpg,NA, hello ,NA,NA,NA\n",
        columns=columns,
        missing_values=["", "NA"],
    )[0]
    assert (row.item_id, row.image, row.product_id) == ("NA", "NA.jpg", "NA")
    assert (row.text, row.category2, row.attributes["neckline"]) == ("hello", None, None)


def test_templates_and_derived_ids(catalogue):
    row = rows(catalogue, "sku,view\n7,front\n", columns={"item_id": "sku", "image": "{sku}/{view}.jpg"})[0]
    assert (row.item_id, row.image) == ("7", "7/front.jpg")
    row = rows(catalogue, "image\nwomen/7_front.v2.jpg\n", columns={"image": "image"})[0]
    assert row.item_id == "7_front.v2"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"item_id": "idd", "image": "image"},
            r"columns.item_id: no column 'idd'.*Did you mean 'id'\?.*id, image, title",
        ),
        ({"item_id": "id", "image": "{idx}.jpg"}, "columns.image: no column 'idx'"),
        ({"item_id": "id", "image": "image", "text": ["title", "descr"]}, r"columns.text\[1\]: no column 'descr'"),
        ({"item_id": "id", "image": "image", "neckline": "neck"}, "columns.neckline"),
        ({"text": ["title"]}, "needs 'item_id', or 'image'"),
    ],
)
def test_a_column_that_is_not_there(catalogue, columns, message):
    with pytest.raises(ConfigError, match=message):
        rows(catalogue, "id,image,title\n", columns=columns)


def test_a_folder_that_is_not_there(catalogue):
    with pytest.raises(ConfigError, match="image_root"):
        rows(catalogue, "id,image\n", columns={"image": "image"}, image_root="fotos")


def test_ragged_rows_and_rows_without_id(catalogue):
    found = rows(
        catalogue, "id,image\na\nb,b.jpg,c\n,x.jpg\n  ,x.jpg\nd,d.jpg\n", columns={"item_id": "id", "image": "image"}
    )
    assert [(row.row, getattr(row, "reason", "")) for row in found] == [
        (2, "ragged_row"),
        (3, "ragged_row"),
        (4, "empty_id"),
        (5, "empty_id"),
        (6, ""),
    ]
    assert found[0].detail == "expected 2 cells, got 1"
    assert found[1].item_id == "b"
