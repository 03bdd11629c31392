"""DVC experiments in a clone, offline: run, queue, show, metrics diff, plots diff."""

from __future__ import annotations

import json

import pytest
from workspace import Workspace

BOARD = "artifacts/scoreboard/scoreboard.json"


@pytest.fixture(scope="module")
def with_experiments(reproduced: Workspace) -> Workspace:
    reproduced.dvc("exp", "run", "-S", "train.lr=3e-4", "-n", "direct")
    reproduced.dvc("exp", "run", "--queue", "-S", "train.lr=1e-3,3e-3", "scoreboard")
    reproduced.dvc("queue", "start")
    _wait(reproduced)
    reproduced.restore()
    return reproduced


def _wait(workspace: Workspace) -> None:
    import time

    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        said = workspace.dvc("queue", "status")
        if not any(word in said for word in ("Running", "Queued")):
            return
        time.sleep(2)
    raise AssertionError(workspace.dvc("queue", "status"))


def test_exp_show_lists_all_with_the_scoreboards_figures(with_experiments: Workspace) -> None:
    shown = with_experiments.dvc(
        "exp", "show", "--csv", "--drop", "^(?!.*(neckline@10.delta$|train.lr|Experiment)).*"
    )
    full = with_experiments.dvc("exp", "show", "--json")
    assert "neckline@10" in full and shown
    rates = set()
    for revision in json.loads(full):
        for experiment in revision.get("experiments") or []:
            data = experiment["revs"][0]["data"]
            rates.add(float(data["params"]["params.yaml"]["data"]["train"]["lr"]))
            assert data["metrics"][BOARD]["data"]["test"]["neckline@10"]["n_queries"] > 0
    assert rates == {3e-4, 1e-3, 3e-3}


def test_metrics_diff_compares_scoreboards(with_experiments: Workspace) -> None:
    diff = json.loads(with_experiments.dvc("metrics", "diff", "--all", "--json", "HEAD", "direct"))
    rows = diff[BOARD]
    board = with_experiments.json(BOARD)  # of HEAD: the workspace is restored
    for name in ("category@10", "color@10"):
        for column in ("baseline", "protocol", "delta_low"):
            assert rows[f"test.{name}.{column}"]["old"] == board["test"][name][column]
        assert rows[f"test.{name}.baseline"]["diff"] == 0, "training must not change the baseline"


def test_plots_diff_is_offline(with_experiments: Workspace) -> None:
    with_experiments.dvc("plots", "diff", "HEAD", "direct", "-o", "dvc_plots")
    page = (with_experiments.folder / "dvc_plots" / "index.html").read_text(encoding="utf-8")
    assert "https://" not in page.replace("https://vega.github.io/schema", "")
    assert "scoreboard.png" in page or "scoreboard" in page
    assert list((with_experiments.folder / "dvc_plots").rglob("*.png"))
