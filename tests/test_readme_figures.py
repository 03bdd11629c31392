"""What README says of the sample is what the committed artifacts say."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def committed(path: str) -> str:
    """The file as it was committed: a run on another processor writes others."""
    done = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("no git history here")
    return done.stdout


def test_the_two_tower_models_recall() -> None:
    row = json.loads(committed("artifacts/two_tower/metrics.json"))["recall@10"]
    said = re.search(r"recall@10 among 7,492 candidates is (.*?) \(`artifacts/two_tower", README, re.S)
    assert said is not None
    figures = [f"{float(figure):.3f}" for figure in re.findall(r"\d\.\d+", said[1])]
    names = ("trained", "trained_low", "trained_high", "frozen", "frozen_low", "frozen_high")
    assert figures == [f"{row[name]:.3f}" for name in names]


def test_the_scoreboard() -> None:
    """Every row that README shows stands so in `scoreboard.txt`."""
    board = [line.rstrip() for line in committed("artifacts/scoreboard/scoreboard.txt").splitlines()]
    shown = [line.rstrip() for line in README.splitlines() if line.startswith(("▲", "▼", "= "))]
    assert len(shown) > 10 and [line for line in shown if line not in board] == []
