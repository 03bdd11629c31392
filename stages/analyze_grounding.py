"""Sum up a completed grounding audit; for people, no DVC stage.

python -m stages.analyze_grounding --completed data/audit/completed.csv --out data/audit
"""

import argparse
from pathlib import Path

from lib.base import stage
from lib.base.artifacts import write_json, write_text
from lib.base.params import Params
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.grounding.findings import analyse
from lib.catalog.grounding.findings_text import findings_markdown, share
from lib.catalog.grounding.review import read_review

AUDIT = "artifacts/audit/grounding_audit.csv"
"""The sheet that was reviewed, unless --audit names another."""


def run(args: argparse.Namespace, params: Params) -> str:
    schema = load_attribute_schema(Path(params.data.attribute_schema))
    findings = analyse(read_review(args.completed, Path(args.audit or AUDIT), schema), schema)
    write_json(args.out / "findings.json", findings)
    write_text(args.out / "findings.md", findings_markdown(findings))
    right = ", ".join(f"{row['attribute']} {share(row, 'precision')}" for row in findings["by_attribute"])
    return (
        f"{findings['judged']} of {findings['claims']} claims judged, {findings['missing']['claims']} missing; "
        f"details in {args.out / 'findings.md'}\ncorrect: {right}"
    )


if __name__ == "__main__":
    stage.main(run, name="analyze_grounding", paths=("--completed", "--out"), options=("--audit",))
