"""Choose items for a reviewer: are the attribute values that the catalogue states true of the pictures?"""

import argparse

import numpy as np

from lib.base import stage
from lib.base.artifacts import write_json, write_text
from lib.base.params import Params
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.grounding.audit import draw_audit
from lib.catalog.grounding.sheet import write_sheet
from lib.catalog.processed import read_images, read_rows
from lib.report.audit import audit_page


def run(args: argparse.Namespace, params: Params) -> str:
    audit = draw_audit(
        read_rows(args.catalog),
        load_attribute_schema(args.schema),
        params.audit,
        pattern_only_categories=params.data.pattern_only_categories,
        rng=np.random.default_rng(params.audit.seed),
    )
    images = read_images(args.catalog, audit.item_ids())
    write_sheet(args.out / "grounding_audit.csv", audit.claims)
    write_text(args.out / "grounding_audit.html", audit_page(audit.claims, audit.report, images))
    write_json(args.out / "report.json", audit.report)
    report = audit.report
    found = ", ".join(f"{name} {count}" for name, count in report["claims_by_attribute"].items())
    return f"{report['audited_items']} of {report['items']} items for review, {report['claims']} claims\n{found}"


if __name__ == "__main__":
    stage.main(run, name="grounding_audit", paths=("--catalog", "--schema", "--out"))
