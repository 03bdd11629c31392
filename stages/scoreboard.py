"""Compare both models attribute by attribute, with intervals, against the declared targets."""

import argparse

import numpy as np

from lib.base import stage
from lib.base.artifacts import write_bytes, write_json, write_text
from lib.base.params import Params
from lib.catalog.processed import read_images, read_rows
from lib.evaluation.evaluation import load_evaluation
from lib.evaluation.scoreboard import board_rows, build_scoreboard, headline_label
from lib.evaluation.scoreboard_text import markdown_table, summary_lines, text_table
from lib.report.changes import changes_page, choose_changes, find_all_changes, shown_items
from lib.report.plots import plot_scoreboard


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    baseline, protocol = load_evaluation(args.baseline), load_evaluation(args.protocol)
    items = read_rows(args.images)
    board = build_scoreboard(baseline, protocol, params.scoreboard)
    summary = summary_lines(board, params.scoreboard)
    label = headline_label(params.scoreboard)
    changes = find_all_changes(baseline.per_query, protocol.per_query, items)
    rng = np.random.default_rng(params.scoreboard.bootstrap.seed)
    chosen = choose_changes(changes[label], count=params.scoreboard.changes_shown, rng=rng)
    page = changes_page(
        changes,
        chosen,
        label=label,
        items=items,
        images=read_images(args.images, shown_items(chosen)),
        pattern_only=params.data.pattern_only_categories,
    )
    targets = {target.row: target.points for target in params.scoreboard.targets}
    rows = board_rows(board, "test", params.scoreboard.targets)
    write_json(args.out / "scoreboard.json", board)
    write_text(args.out / "scoreboard.txt", text_table(board, params.scoreboard))
    write_text(args.out / "scoreboard.md", markdown_table(board, params.scoreboard))
    write_bytes(args.out / "scoreboard.png", plot_scoreboard(rows, title=summary, targets=targets))
    write_text(args.out / "changes.html", page)
    return summary


if __name__ == "__main__":
    stage.main(run, name="scoreboard", paths=("--baseline", "--protocol", "--images", "--out"))
