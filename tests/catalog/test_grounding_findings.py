"""A completed audit: what is refused, and what is concluded, by hand."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from lib.base.artifacts import read_json
from lib.base.errors import DataError
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.grounding.claims import CLAIM_COLUMNS
from lib.catalog.grounding.findings import analyse, context, wider_phrases
from lib.catalog.grounding.findings_text import findings_markdown
from lib.catalog.grounding.proportions import wilson_interval
from lib.catalog.grounding.review import Judgement, read_review
from lib.catalog.grounding.sheet import SHEET_COLUMNS, neutralise, write_sheet

ROOT = Path(__file__).parents[2]
EVIL = "<script>alert(1)</script> | _x_"
# category, text, attribute, value, source, phrase, rule, then the reviewer: verdict, true value, note
ROWS = [
    ("tees", "the contrast collar print", "neckline", "collar", "text", "collar", "collar", "wrong", "crew", "print"),
    ("tees", "Contrast Collar print", "neckline", "collar", "text", "Collar", "collar", "wrong", "Crew", "Print"),
    ("tees", "a collar", "neckline", "collar", "text", "collar", "collar", "correct", "", ""),
    ("tees", "Wear with denim jeans", "material", "denim", "text", "denim", "denim", "wrong", "cotton", "jeans"),
    ("tees", "pure cotton", "material", "cotton", "text", "pure cotton", "pure cotton", "not_visible", "", ""),
    ("tees", "", "color", "red", "column", "", "", "correct", "", ""),
    ("tees", EVIL, "color", "blue", "column", "", "", "wrong", "petrol | dark", EVIL),
    ("shorts", "v-neck", "neckline", "v-neck", "text", "v-neck", "v neck", "wrong", "none", ""),
    ("shorts", "v-neck", "neckline", "v-neck", "text", "v-neck", "v neck", "not_visible", "", ""),
    ("shorts", "v-neck", "neckline", "v-neck", "text", "v-neck", "v neck", "Not visible", "", ""),
    ("", "crew and v necked", "neckline", "round neck", "text", "crew", "crew", "", "", ""),
]  # fmt: skip


@pytest.fixture(scope="module")
def schema():
    return load_attribute_schema(ROOT / "lib/catalog/attributes.yaml")


class Sheets:
    """An audit and its completed copy, as files."""

    def __init__(self, folder):
        self.audit, self.completed = folder / "audit.csv", folder / "completed.csv"
        names = ("row", "item_id", "product_id", *CLAIM_COLUMNS[3:])
        stated = [(str(n + 1), f"{n + 1:03d}", f"-P{n}", *row[:7]) for n, row in enumerate(ROWS)]
        write_sheet(self.audit, pd.DataFrame(stated, columns=names))
        self.rows = [dict(zip(SHEET_COLUMNS, (*stated[n], *row[7:]), strict=True)) for n, row in enumerate(ROWS)]
        self.write()

    def write(self):
        with open(self.completed, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, SHEET_COLUMNS)
            writer.writeheader()
            writer.writerows([{name: neutralise(cell) for name, cell in row.items()} for row in self.rows])

    def read(self, schema):
        self.write()
        return read_review(self.completed, self.audit, schema)


@pytest.fixture
def sheets(tmp_path):
    return Sheets(tmp_path)


def test_judgements(sheets, schema):
    found = sheets.read(schema)
    assert [j.row for j in found] == list(range(1, 12))
    assert found[0].item_id == "001" and found[0].true_value == "round neck"
    assert found[9].verdict == "not_visible" and found[9].true_value is None
    assert found[10].verdict is None and found[10].category == "(unknown)"
    assert found[6].true_value == "petrol | dark" and found[7].true_value == "none"


def test_what_a_spreadsheet_does_is_undone(sheets, schema):
    expected = sheets.read(schema)
    for n, row in enumerate(sheets.rows):
        row["item_id"] = str(n + 1)  # 001 became 1
        row["row"] = f"{n + 1}.0"
        row["text"] = "mangled"
    sheets.rows.reverse()  # sorted otherwise
    assert sheets.read(schema) == expected


def test_missing_rows_are_not_judged(sheets, schema):
    sheets.rows = sheets.rows[:2]
    found = sheets.read(schema)
    assert len(found) == len(ROWS)
    assert [j.verdict for j in found].count(None) == len(ROWS) - 2


@pytest.mark.parametrize(
    ("line", "changes", "says"),
    [
        (2, {"verdict": "rong"}, r"completed\.csv:2: verdict: expected .*'rong'; did you mean 'wrong'"),
        (3, {"verdict": "x"}, r":3: verdict: .*got 'x'"),
        (2, {"true_value": ""}, r":2: true_value: missing"),
        (2, {"true_value": "Collared"}, r":2: true_value: 'Collared' means 'collar', which the catalogue states"),
        (4, {"true_value": "hood"}, r":4: true_value: 'hood' is for the verdict wrong; the verdict is 'correct'"),
        (6, {"true_value": "silk"}, r":6: true_value: 'silk' is for the verdict wrong; the verdict is 'not_visible'"),
        (12, {"true_value": "hood"}, r":12: true_value: .* the verdict is 'empty'"),
        (2, {"row": "99"}, r":2: row: '99' \(item '001'\) is not in .*audit\.csv.*--audit"),
        (2, {"row": ""}, r":2: row: ''"),
        (3, {"row": "1", "item_id": "001", "product_id": "-P0"}, r":3: row: '1' stands in line 2 already"),
        (2, {"item_id": "777"}, r":2: item_id: '777' is not in the audit there: row 1 has '001'.*column as text"),
        (2, {"item_id": "one"}, r":2: item_id: 'one'"),
        (2, {"value": "hood"}, r":2: value: 'hood' .* row 1 has 'collar'; corrections go to true_value"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(sheets, schema, line, changes, says):
    sheets.rows[line - 2] |= changes
    with pytest.raises(DataError, match=says):
        sheets.read(schema)


def test_at_most_ten_problems_are_listed(sheets, schema):
    for row in sheets.rows:
        row["verdict"] = "?"
    with pytest.raises(DataError, match=r"^the completed audit has 11 row\(s\) that cannot be used") as caught:
        sheets.read(schema)
    assert str(caught.value).count(": verdict: ") == 10 and "… and 1 more" in str(caught.value)


def test_nothing_filled_in(sheets, schema):
    for row in sheets.rows:
        row |= {"verdict": " ", "true_value": "", "note": ""}
    with pytest.raises(DataError, match="column verdict: no row is filled in"):
        sheets.read(schema)
    with pytest.raises(DataError, match="no row is filled in"):
        read_review(sheets.audit, sheets.audit, schema)


def test_a_correct_value_may_be_repeated(sheets, schema):
    sheets.rows[2] |= {"true_value": "collared"}
    assert sheets.read(schema)[2].true_value is None


def test_another_table_is_no_audit(sheets, schema, tmp_path):
    sheets.audit.write_text(",".join(SHEET_COLUMNS) + "\n1,a,b,c,d,colour,red,column,,,,,\n")
    with pytest.raises(DataError, match=r"audit\.csv:2: no row of an audit"):
        sheets.read(schema)


def shares(correct, n, name="precision"):
    low, high = wilson_interval(correct, n)
    return {name: round(correct / n, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}


def test_findings_by_hand(sheets, schema):
    found = analyse(sheets.read(schema), schema)
    assert (found["claims"], found["judged"]) == (11, 10)
    assert found["missing"]["claims"] == 1 and found["missing"]["by_attribute"]["neckline"] == 1
    by_attribute = {row["attribute"]: row for row in found["by_attribute"]}
    assert list(by_attribute) == ["neckline", "material", "color"]
    assert by_attribute["neckline"] == {
        "attribute": "neckline", "judged": 6, "correct": 1, "wrong": 3, "not_visible": 2, **shares(1, 4),
    }  # fmt: skip
    assert [(r["attribute"], r["source"], r["judged"]) for r in found["by_source"]] == [
        ("neckline", "text", 6), ("material", "text", 2), ("color", "column", 2),
    ]  # fmt: skip
    assert [(r["category"], r["attribute"], r["judged"]) for r in found["by_category"]] == [
        ("shorts", "neckline", 3), ("tees", "neckline", 3), ("tees", "material", 2), ("tees", "color", 2),
    ]  # fmt: skip
    assert found["confusions"][0] == {
        "attribute": "neckline", "stated": "collar", "true": "round neck", "claims": 2,
        "from_column": 0, "from_text": 2,
    }  # fmt: skip
    assert len(found["confusions"]) == 4
    assert [(r["rule"], r["wrong"], r["correct"]) for r in found["rules"]] == [
        ("collar", 2, 1), ("v neck", 1, 0), ("denim", 1, 0), ("pure cotton", 0, 0),
    ]  # fmt: skip
    assert found["rules"][3]["precision"].startswith("skipped: ")
    assert found["notes"][0] == {"note": "print", "attribute": "neckline", "claims": 2}


def test_contamination_by_hand(sheets, schema):
    first, *others = analyse(sheets.read(schema), schema)["contamination"]
    assert (first["rule"], first["source"], first["wrong"], first["correct"]) == ("collar", "text", 2, 1)
    assert first["true_values"] == {"round neck": 2}
    assert first["surroundings"] == [
        {"words": "collar print", "wrong": 2, "correct": 0},
        {"words": "contrast collar", "wrong": 2, "correct": 0},
    ]
    assert [e["context"] for e in first["examples"]] == [
        "the contrast [collar] print", "Contrast [Collar] print",
    ]  # fmt: skip
    assert {(o["attribute"], o["source"], o["rule"]) for o in others} == {
        ("material", "text", "denim"), ("color", "column", ""), ("neckline", "text", "v neck"),
    }  # fmt: skip


def test_words_around_a_phrase_that_are_as_often_right_are_not_named(schema):
    def say(text, verdict):
        return replace(judgement(text, "hood"), verdict=verdict, true_value="none" if verdict == "wrong" else None)

    group = [say("men hood", "wrong")] * 2 + [say("men hood", "correct")] * 6 + [say("hood ornament", "wrong")] * 2
    (found,) = analyse(group, schema)["contamination"]
    assert found["surroundings"] == [{"words": "hood ornament", "wrong": 2, "correct": 0}]


def test_advice_by_hand(sheets, schema):
    advice = analyse(sheets.read(schema), schema)["advice"]
    assert [(r["rule"], r["correct"], r["wrong"]) for r in advice["low_precision"]] == [("collar", 1, 2)]
    assert [r["words"] for r in advice["ignore"]] == ["collar print", "contrast collar"]
    assert advice["missing_values"] == [
        {"attribute": "color", "true": "petrol | dark", "claims": 1, "stated": {"blue": 1}}
    ]
    assert advice["not_visible"] == [
        {
            "category": "shorts", "attribute": "neckline", "judged": 3, "not_visible": 2, "does_not_exist": 1,
            **shares(3, 3, "share"),
        }
    ]  # fmt: skip


def judgement(text, *phrases):
    return Judgement(1, "a", "tees", text, "neckline", "hood", "text", phrases, ("hood",), "wrong", "none", "")


def test_wider_phrases():
    assert wider_phrases(judgement("A Hood, red hood print", "Hood")) == {"a hood", "red hood", "hood print"}
    assert wider_phrases(judgement("hood", "hood")) == set()
    assert wider_phrases(judgement("childhood", "hood")) == set()


def test_context_is_short_and_finds_the_whole_word():
    text = "x" * 60 + " childhood with hood " + "y" * 60
    assert context(judgement(text, "hood")) == f"…{'x' * 24} childhood with [hood] {'y' * 39}…"
    assert context(judgement("z" * 100)) == "z" * 80 + "…"


def test_markdown(sheets, schema):
    page = findings_markdown(analyse(sheets.read(schema), schema))
    assert "10 of 11 claims were judged." in page and "**Not complete:** 1 are missing (neckline 1)." in page
    assert "| neckline | 6 | 1 | 3 | 2 | 25.0 % \\[4.6, 69.9\\] |" in page
    assert "“collar print”, 2 wrong, 0 correct" in page
    assert "<script" not in page and "&lt;script&gt;" in page
    width = 0
    for line in page.splitlines():
        if line.startswith("|"):  # every row has the columns of its head
            cells = line.replace("\\|", "").count("|")
            width = cells if line.startswith(("| attribute", "| note", "| category")) else width
            assert cells == width, line


def run(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "stages.analyze_grounding", *words, "--params", str(ROOT / "params.yaml")],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


def test_command(sheets, tmp_path):
    (tmp_path / "lib").symlink_to(ROOT / "lib")
    paths = ["--completed", "completed.csv", "--audit", "audit.csv", "--out", "out"]
    done = run(tmp_path, *paths)
    assert done.returncode == 0, done.stderr
    assert "10 of 11 claims judged, 1 missing" in done.stdout
    assert read_json(tmp_path / "out" / "findings.json")["judged"] == 10
    first = (tmp_path / "out" / "findings.md").read_bytes()
    assert run(tmp_path, *paths).returncode == 0
    assert (tmp_path / "out" / "findings.md").read_bytes() == first
    sheets.rows[0]["verdict"] = "maybe"
    sheets.write()
    done = run(tmp_path, *paths)
    assert done.returncode == 3 and "completed.csv:2: verdict" in done.stderr and "Traceback" not in done.stderr
    done = run(tmp_path, "--completed", "completed.csv", "--out", "out")
    assert done.returncode == 3 and "artifacts/audit/grounding_audit.csv: no such file" in done.stderr
