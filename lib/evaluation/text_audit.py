"""The text audit as a report to read: whether texts leak labels, and what the token limit costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lib.evaluation.text_leakage import SOURCES, WITH_TEXT

_LEAK_NOTE = """\
A caption names attribute values, and many values were read from the text in the first place. Every search is
measured twice: with the captions as they are (*value*) and with captions in which nothing names the attribute
(*masked*). *leak* = value − masked: what the label, read back, is worth. *beyond* = masked − image: what texts help
when they do not say the answer; that may in part be telling items whose value is known from others. *image* is the
image query against images, for the same queries.

Points (hundredths) of precision at {k}, gallery = train ({n_gallery} of {gallery_items} items), queries = {split}
({n_queries} with a caption), without the query's own product; an unknown neighbour is no match; weight of the image
in fused embeddings {image_weight}; 95 % intervals over the queries' products. `fused_to_image` is the evaluation's
mode `fused`. Of a category only its own words are masked, not its synonyms: its leak is a lower bound."""
_HEAD = ("attribute", "search", "n", "chance", "image", "value", "masked", "leak", "95 %", "beyond", "95 %")
_SOURCE_NOTE = """\
By where the query's value came from: *text* is the leak in its strict form, since the value was read from the words
that answer; a value of a *column* stands in the caption as well."""
_BUDGET_NOTE = """\
The backbone reads {limit} tokens of a text, marks for start and end included. *Full text*: the item's text as it
stands. *Caption*: the embedded text, attributes first, then the start of the text."""
_LOST_NOTE = "Values read from the text whose words the backbone would not see:"


def summary_lines(report: dict[str, Any]) -> str:
    """The result in two lines, for the stage's output."""
    leaks = []
    for label, entry in report["leakage"]["attributes"].items():
        numbers = entry["all"] if isinstance(entry, dict) else entry
        numbers = numbers["fused_to_image"] if isinstance(numbers, dict) else {}
        if "leak_low" in numbers:
            leaks.append(
                f"{label} {100 * numbers['leak']:+.1f}{'' if numbers['leak_low'] > 0 else ' (no leak seen)'}"
            )
    return (
        f"label read back in fused queries, points: {', '.join(leaks) or 'nothing could be measured'}\n"
        f"{report['budget']['limit']} tokens: {_budget_line(report['budget'])}"
    )


def markdown_report(report: dict[str, Any]) -> str:
    """The whole report as Markdown.

    Args:
        report: `leakage` as `measure_leakage` gives it, `budget` as `lib.catalog.text_budget.measure_budget`.
    """
    leakage, budget = report["leakage"], report["budget"]
    lines = ["# Text audit", "", *(f"{line}  " for line in summary_lines(report).splitlines())]
    lines += ["", "## Label leakage", "", _LEAK_NOTE.format(**leakage), "", *_table(_HEAD, text_columns=2)]
    lines += [_row(cells) for cells in _leak_rows(leakage, "all", WITH_TEXT)]
    lines += ["", _SOURCE_NOTE, "", *_table(("source", *_HEAD), text_columns=3)]
    for source in SOURCES:
        rows = _leak_rows(leakage, source, ("fused_to_image", "fused_to_fused"))
        lines += [_row((source, *cells)) for cells in rows]
    lines += ["", "## Token budget", "", _BUDGET_NOTE.format(**budget), ""]
    lines += _table(("text", "items", "distinct", "p50", "p90", "p95", "p99", "max", "cut", "mean cut off", "p95"))
    for kind, name in (("full_text", "full text"), ("caption", "caption")):
        lines.append(_row((name, *_length_cells(budget[kind]))))
    lines += ["", _LOST_NOTE, "", *_table(("attribute", "values", "lost in the full text", "lost in the caption"))]
    for name, entry in budget["attributes"].items():
        if isinstance(entry, str):
            lines.append(_row((name, entry)))
        else:
            shares = (f"{entry[f'lost_in_{kind}']:.1%}" for kind in ("full_text", "caption"))
            lines.append(_row((name, str(entry["n"]), *shares)))
    return "\n".join([*lines, ""])


def _budget_line(budget: dict[str, Any]) -> str:
    if isinstance(budget["full_text"], str):
        return "no item has a text"
    entries = [entry for entry in budget["attributes"].values() if isinstance(entry, dict)]
    line = f"{budget['full_text']['cut']:.1%} of the full texts are cut"
    if not entries:
        return line
    full, caption = (max(entry[f"lost_in_{kind}"] for entry in entries) for kind in ("full_text", "caption"))
    return f"{line}, {full:.1%} of an attribute's values lost at worst; {caption:.1%} in captions"


def _leak_rows(leakage: dict[str, Any], group: str, searches: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for label, entry in leakage["attributes"].items():
        numbers = entry[group] if isinstance(entry, dict) else entry
        if isinstance(numbers, str):
            yield label, numbers
            continue
        image = numbers["image_to_image"]["value"]
        for name in searches:
            search = numbers[name]
            cells = (label, name, str(numbers["n_queries"]), _points(search["chance"]), _points(image))
            if "masked" not in search:
                yield *cells, _points(search["value"]), "", search["leak"]
                continue
            yield (
                *cells,
                _points(search["value"]),
                _points(search["masked"]),
                f"{100 * search['leak']:+.1f}",
                _interval(search, "leak"),
                f"{100 * search['beyond']:+.1f}",
                _interval(search, "beyond"),
            )


def _length_cells(entry: dict[str, Any] | str) -> tuple[str, ...]:
    if isinstance(entry, str):
        return (entry,)
    over = entry["tokens_cut"]
    cut_off = (f"{over['mean']:.1f}", str(over["p95"])) if isinstance(over, dict) else (over,)
    counts = (entry["items"], entry["distinct"], *entry["tokens"].values())
    return (*(str(count) for count in counts), f"{entry['cut']:.1%}", *cut_off)


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _interval(search: dict[str, float], kind: str) -> str:
    return f"[{100 * search[f'{kind}_low']:+.1f}, {100 * search[f'{kind}_high']:+.1f}]"


def _table(head: Sequence[str], *, text_columns: int = 1) -> list[str]:
    return [_row(head), "|" + "---|" * text_columns + "---:|" * (len(head) - text_columns)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
