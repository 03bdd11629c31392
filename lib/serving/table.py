"""An answer as a table for the terminal."""

from __future__ import annotations

from lib.serving.catalogue import FACETS
from lib.serving.query import Answer

_WIDTH = 40


def table(answer: Answer) -> str:
    """One line per result, matched values marked with `*`, and a line on what was searched."""
    columns = ["", "score", "item", *FACETS, "caption"]
    rows = [columns]
    for result in answer.results:
        values = [f"{result.item[name] or '–'}{'*' if name in result.matched else ''}" for name in FACETS]
        caption = (result.item["caption"] or "")[:_WIDTH]
        rows.append([str(result.rank), f"{result.score:.3f}", str(result.item["item_id"]), *values, caption])
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    wanted = ", ".join(f"{name} {value}" for name, value in answer.wanted.items() if value) or "nothing by name"
    how = f"model {answer.model}, index {answer.index}, re-ranked by {answer.rerank}"
    return "\n".join([*lines, f"{answer.total} items allowed; {how}; asked for: {wanted} (* = borne)"])
