"""The text audit as people read it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from text_shop import BOOTSTRAP, SCHEMA, Reader, embed, make_rows

from lib.catalog.text_budget import measure_budget
from lib.evaluation.text_audit import markdown_report, summary_lines
from lib.evaluation.text_leakage import measure_leakage


class Words:
    limit = 4

    def count(self, texts: list[str]) -> Any:
        return np.array([len(text.split()) + 2 for text in texts], dtype=np.int64)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    rows, reader = make_rows(), Reader()
    leakage = measure_leakage(
        embed(rows, reader),
        rows,
        reader,
        SCHEMA,
        pattern_only=(),
        k=10,
        image_weight=0.5,
        bootstrap=BOOTSTRAP,
    )
    return {"leakage": leakage, "budget": measure_budget(rows, SCHEMA, Words(), rng=np.random.default_rng(0))}


def cells_of(page: str, *start: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {' | '.join(start)} |"))
    return line.strip("| ").split(" | ")


def test_every_figure_stands_in_its_table(report: dict[str, Any]) -> None:
    page = markdown_report(report)
    group = report["leakage"]["attributes"]["color"]["all"]
    search = group["fused_to_fused"]
    points = {name: f"{100 * value:.1f}" for name, value in search.items()}
    assert cells_of(page, "color", "fused_to_fused") == [
        "color",
        "fused_to_fused",
        str(group["n_queries"]),
        points["chance"],
        f"{100 * group['image_to_image']['value']:.1f}",
        points["value"],
        points["masked"],
        f"+{points['leak']}",
        f"[+{points['leak_low']}, +{points['leak_high']}]",
        f"{100 * search['beyond']:+.1f}",
        f"[{100 * search['beyond_low']:+.1f}, {100 * search['beyond_high']:+.1f}]",
    ]
    assert cells_of(page, "sleeve") == ["sleeve", "skipped: no query with a known value"]
    assert cells_of(page, "text", "color") == ["text", "color", "skipped: no query's value came from there"]
    lost = report["budget"]["attributes"]["neckline"]
    assert lost["lost_in_full_text"] > 0 and lost["lost_in_caption"] == 0
    assert cells_of(page, "neckline", str(lost["n"]))[2:] == [f"{lost['lost_in_full_text']:.1%}", "0.0%"]
    for table in page.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|") and "skipped" not in line}
        assert len(widths) <= 1


def test_the_summary_tells_leaks_from_none(report: dict[str, Any]) -> None:
    search = report["leakage"]["attributes"]["color"]["all"]["fused_to_image"]
    quiet = copy.deepcopy(report)
    quiet["leakage"]["attributes"]["color"]["all"]["fused_to_image"] |= {"leak": 0.031, "leak_low": -0.01}
    assert "color +3.1 (no leak seen)" in summary_lines(quiet)
    quiet["leakage"]["attributes"]["color"]["all"]["fused_to_image"] |= {"leak": 0.031, "leak_low": 0.01}
    assert "color +3.1," in summary_lines(quiet)
    assert len(summary_lines(report).splitlines()) == 2
    assert f"color {100 * search['leak']:+.1f}" in summary_lines(report)


def test_nothing_to_say_is_said() -> None:
    rows, reader = make_rows(caption=None, text=None, neckline_source=None), Reader()
    leakage = measure_leakage(
        embed(rows, reader), rows, reader, SCHEMA, pattern_only=(), k=10, image_weight=0.5, bootstrap=BOOTSTRAP
    )
    report = {"leakage": leakage, "budget": measure_budget(rows, SCHEMA, Words(), rng=np.random.default_rng(0))}
    assert summary_lines(report) == (
        "label read back in fused queries, points: nothing could be measured\n4 tokens: no item has a text"
    )
    page = markdown_report(report)
    assert page.count("skipped: ") > 12 and "nan" not in page.lower().replace("name", "")
