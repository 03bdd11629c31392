"""The ablation for real on the tiny workspace: right figures, nothing left behind, nothing run twice."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from workspace import Workspace

pytestmark = pytest.mark.slow

NAMES = ("bold", "no-hard-pairs")
# two gentle epochs leave the tiny model at its baseline; bolder ones do not
VARIANTS = """
seeds: [1]
seed_keys: [train.seed]
parts:
  - title: Parts
    variants:
      - {name: bold, what: caution, set: {train.lr: 0.03, train.epochs: 6}}
      - {name: no-hard-pairs, what: hard negatives, without_share: hard}
"""


def ablation(workspace: Workspace, *words: str) -> str:
    file = workspace.folder / ".cache" / "variants.yaml"
    file.write_text(VARIANTS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ablation", "--out", ".cache/found", "--variants", str(file), *words],
        cwd=workspace.folder,
        env={**workspace.environment(), "PYTHONPATH": str(workspace.folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run_once(reproduced: Workspace) -> tuple[Workspace, str, bytes]:
    before = reproduced.lock()
    said = ablation(reproduced, "--only", *NAMES)
    assert reproduced.lock() == before
    return reproduced, said, (reproduced.folder / ".cache" / "found" / "ABLATION.json").read_bytes()


def test_the_workspace_is_left_as_it_was(run_once: tuple[Workspace, str, bytes]) -> None:
    workspace, _, _ = run_once

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=workspace.folder, capture_output=True, text=True).stdout

    assert git("status", "--porcelain") == "" and git("for-each-ref", "refs/exps") == ""
    assert workspace.changed_stages() == set()
    in_copy = workspace.folder / ".cache" / "ablation" / "params" / "clone"
    refs = subprocess.run(["git", "for-each-ref", "refs/exps"], cwd=in_copy, capture_output=True, text=True).stdout
    assert all(f"/{name}\n" in refs for name in NAMES), "they are DVC experiments"


def test_what_the_cache_has_is_not_built_again(run_once: tuple[Workspace, str, bytes]) -> None:
    workspace, said, _ = run_once
    logs = workspace.folder / ".cache" / "ablation" / "params" / "logs"
    assert "Running stage" not in (logs / "full.txt").read_text(encoding="utf-8")
    assert "Running stage 'build_pairs'" in (logs / "no-hard-pairs.txt").read_text(encoding="utf-8")
    assert "Running stage 'build_pairs'" not in (logs / "bold.txt").read_text(encoding="utf-8")
    assert "3 of " in said.splitlines()[-1]


def test_figures_are_those_of_an_experiment_by_hand(run_once: tuple[Workspace, str, bytes]) -> None:
    workspace, _, found = run_once
    table = json.loads(found)
    board = workspace.json("artifacts/scoreboard/scoreboard.json")["validation"]
    for name in ("category@10", "color@10"):
        assert table["full"][name] == pytest.approx(board[name]["protocol"], abs=1e-6)
        assert table["baseline"][name] == pytest.approx(board[name]["baseline"], abs=1e-6)
    entry = next(entry for entry in table["variants"] if entry["name"] == "bold")
    assert entry["command"] == "dvc exp run -n bold -S train.lr=0.03 -S train.epochs=6"
    workspace.dvc(*entry["command"].split()[1:])
    by_hand = workspace.json("artifacts/scoreboard/scoreboard.json")["validation"]
    workspace.dvc("exp", "remove", "bold")
    workspace.restore()
    for name in ("category@10", "color@10"):
        row = entry["rows"][name]
        assert row["value"] == pytest.approx(by_hand[name]["protocol"], abs=1e-6)
        assert row["delta"] == pytest.approx(by_hand[name]["protocol"] - board[name]["protocol"], abs=2e-6)
    assert any(abs(row["delta"]) > 0.001 for row in entry["rows"].values())
    assert table["not_there"] == {"seed-1": "not run yet"}


def test_finished_variants_are_not_run_again_and_a_changed_line_runs_them(
    run_once: tuple[Workspace, str, bytes],
) -> None:
    workspace, _, found = run_once
    said = ablation(workspace, "--only", *NAMES)
    assert said.count("finished earlier") == 3 and "…" not in said
    assert (workspace.folder / ".cache" / "found" / "ABLATION.json").read_bytes() == found
    file = workspace.folder / "lib" / "evaluation" / "scoreboard_text.py"
    original = file.read_bytes()
    file.write_bytes(original + b"\n_TOUCHED = 1\n")
    try:
        assert "bold …" in ablation(workspace, "--only", "bold")
    finally:
        file.write_bytes(original)
