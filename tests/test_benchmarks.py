"""The results file keeps the sections of other benchmarks."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import INTRODUCTION, write_section


def test_a_section_takes_the_place_of_its_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    for title, body in (("One", "first"), ("Two", "second\n\n| a |\n|---|"), ("One", "third")):
        write_section(title, body, path=path)
    assert path.read_text() == INTRODUCTION + "\n## One\n\nthird\n\n## Two\n\nsecond\n\n| a |\n|---|\n"
