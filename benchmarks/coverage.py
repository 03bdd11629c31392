"""What is known of the attributes: `python -m benchmarks.coverage --data FOLDER [--write]`.

Of the sample, which the pipeline must have processed, and of the two catalogues of photographs that
`benchmarks.photographs` measures: how many items have a value, and how often a column and the text say the same.
`--write` keeps the table in `benchmarks/PHOTOGRAPHS.md`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.photographs import CATALOGUES, INTRODUCTION, PHOTOGRAPHS
from benchmarks.results import ROOT, write_section
from lib.base.errors import PipelineError
from lib.base.params import load_params
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.grounding.coverage import attribute_coverage
from lib.catalog.process import process_catalog
from lib.catalog.processed import read_rows

Counts = Mapping[str, Mapping[str, Any]]
"""Attribute -> what `attribute_coverage` counts of it."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("REAL_DATA_DIR"), help="default: $REAL_DATA_DIR")
    parser.add_argument("--write", action="store_true", help="also write benchmarks/PHOTOGRAPHS.md")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("--data: the folder of both catalogues, or set REAL_DATA_DIR")
    try:
        text = f"`python -m benchmarks.coverage --data FOLDER`\n\n{table(measure(args.data))}"
    except PipelineError as error:
        print(f"error: coverage: {error}", file=sys.stderr)
        return error.exit_code
    title = "What is known of the attributes"
    print(f"## {title}\n\n{text}\n")
    if args.write:
        write_section(title, text, path=PHOTOGRAPHS, introduction=INTRODUCTION)
    return 0


def measure(data: Path) -> dict[str, Counts]:
    """Catalogue -> attribute -> counts; the photographs are processed in a temporary folder.

    Raises:
        PipelineError: the sample has not been processed, or a catalogue of photographs cannot be.
    """
    sample = load_params(ROOT / "params.yaml").data
    found = {"Sample": _counts(ROOT / "data" / "processed" / "hf", ROOT / sample.attribute_schema)}
    for catalogue in CATALOGUES:
        params = load_params(catalogue.recipe)
        schema = ROOT / params.data.attribute_schema
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "hf"
            process_catalog(data / catalogue.folder, schema, out, params.data, workers=params.runtime.threads)
            found[catalogue.title] = _counts(out, schema)
    return found


def _counts(processed: Path, schema: Path) -> Counts:
    return attribute_coverage(read_rows(processed), load_attribute_schema(schema))


def table(found: Mapping[str, Counts]) -> str:
    """A row per attribute, a column per catalogue."""
    sizes = {name: next(iter(counts.values()))["items"] for name, counts in found.items()}
    lines = [
        "Share of the items whose value is known, in brackets of those whose category can have one. Then, of the",
        "items that have it from a column and whose text names one value too, how many have the same from both, with",
        "the Wilson interval of that share; nothing where there are no such items.",
        "",
        f"| attribute | {' | '.join(f'{name}, {n:,} items' for name, n in sizes.items())} |",
        "|---|" + "---|" * len(found),
    ]
    for attribute in next(iter(found.values())):
        lines.append(f"| {attribute} | {' | '.join(_cell(counts[attribute]) for counts in found.values())} |")
    return "\n".join(lines)


def _cell(counts: Mapping[str, Any]) -> str:
    shares = [counts["coverage"], counts["coverage_where_applicable"]]
    known = "{} ({})".format(*(share if isinstance(share, str) else f"{100 * share:.1f} %" for share in shares))
    if not counts["column_and_text"]:
        return known
    same, low, high = (f"{100 * counts[key]:.1f}" for key in ("agreement", "agreement_low", "agreement_high"))
    return f"{known}; {counts['agree']:,} of {counts['column_and_text']:,} the same: {same} % [{low}, {high}]"


if __name__ == "__main__":
    sys.exit(main())
