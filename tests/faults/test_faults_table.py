"""README.md of this folder against the tests: what it names exists, and what exists it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROWS = {
    row[1]: row[2]
    for row in re.finditer(
        r"^\| (\d+) \|(.*)\|$", (HERE / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
}
NAMED = {name for text in ROWS.values() for name in re.findall(r"`([\w/]+\.py::\w+)`", text)}


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_fault_has_its_row() -> None:
    assert list(ROWS) == [str(row) for row in range(1, 27)]
    for row, text in ROWS.items():
        assert "::" in text, row


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED) > 60
    for name in sorted(NAMED):
        file, function = name.split("::")
        assert (HERE.parent / file).is_file() and function in functions_of(HERE.parent / file), name


def test_every_test_of_this_folder_is_named() -> None:
    made = {
        f"faults/{file.name}::{name}" for file in sorted(HERE.glob("test_fault_*.py")) for name in functions_of(file)
    }
    assert made - NAMED == set()
