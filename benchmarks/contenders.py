"""Contenders in processes of their own: started in turns, each with its peak memory, a failure with its reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import median
from benchmarks.results import ROOT

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Contender:
    """A program and what it is given.

    Attributes:
        program: a task of `benchmarks.own_programs`, or of `benchmarks.peer_programs` where there is a `package`.
        task: settings, written as JSON.
        package: the peer's package; None: a program of this project's environment.
    """

    program: str
    task: Mapping[str, Any]
    package: str | None = None


@dataclass(frozen=True)
class Ran:
    """One run: the program's answer and its largest resident bytes, or why there is none."""

    answer: Mapping[str, Any] | None
    peak: int | None = None
    reason: str = ""
    rows: np.ndarray | None = None


class Peers:
    """The peers' environment: its interpreter and which versions it has; without it every peer is missing.

    Attributes:
        versions: package -> version.
        reason: why there are none; "" where there are.
    """

    def __init__(self, python: Path, *, threads: int) -> None:
        self.python = python
        self.threads = threads
        self.versions: Mapping[str, str] = {}
        self.reason = ""
        if not python.is_file():
            self.reason = "no environment of the peers, `make peers` makes it"
            return
        ran = self._start([str(python), str(ROOT / "benchmarks" / "peer_programs.py")], "versions", {})
        if ran.answer is None:
            self.reason = ran.reason
        else:
            self.versions = ran.answer["versions"]

    def run(self, contender: Contender) -> Ran:
        """Run a contender once, ours or a peer."""
        if contender.package is None:
            return self._start([sys.executable, "-m", "benchmarks.own_programs"], contender.program, contender.task)
        if contender.package not in self.versions:
            return Ran(None, reason=self.reason or f"{contender.package} is not installed, `make peers` does it")
        command = [str(self.python), str(ROOT / "benchmarks" / "peer_programs.py")]
        return self._start(command, contender.program, contender.task)

    def name(self, package: str, words: str = "") -> str:
        """A peer with its version, as far as it is known."""
        return " ".join(part for part in (package, self.versions.get(package, ""), words) if part)

    def _start(self, command: Sequence[str], program: str, task: Mapping[str, Any]) -> Ran:
        with tempfile.TemporaryDirectory(prefix="contender-") as name:
            folder = Path(name)
            text = json.dumps({**task, "threads": self.threads})
            (folder / "task.json").write_text(text, encoding="utf-8")
            with open(folder / "said", "wb") as said:
                process = subprocess.Popen(
                    [*command, program, str(folder)],
                    cwd=ROOT,
                    env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.threads))},
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
                process.wait()
            if process.returncode or not (folder / "answer.json").is_file():
                return Ran(None, reason=last_line((folder / "said").read_text(errors="replace"), process.returncode))
            answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
            rows = np.load(folder / "rows.npy") if (folder / "rows.npy").is_file() else None
            return Ran(answer, answer["peak"], rows=rows)


def last_line(said: str, code: int) -> str:
    """The end of what a program said, short enough for a table."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"ended with {code}: {lines[-1][:160] if lines else 'without a word'}".replace("|", "/")


def in_turns(contenders: Mapping[str, Contender], peers: Peers, *, rounds: int) -> dict[str, list[Ran]]:
    """Every contender once a round, each round in the other direction; who failed is not asked again."""
    ran: dict[str, list[Ran]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: 1 if number % 2 == 0 else -1]:
            if not ran[name] or ran[name][-1].answer is not None:
                print(f"  {name} …", file=sys.stderr, flush=True)
                ran[name].append(peers.run(contenders[name]))
    return ran


def seconds_of(ran: Sequence[Ran], key: str = "seconds") -> float | None:
    """Median over the rounds; None where one of them failed."""
    return _chosen_of(ran, key, median)


def least_of(ran: Sequence[Ran], key: str = "seconds") -> float | None:
    """The least of the rounds: what else runs on a shared machine only adds. None where one of them failed."""
    return _chosen_of(ran, key, min)


def greatest_of(ran: Sequence[Ran], key: str) -> float | None:
    """The greatest of the rounds, for a rate that is a limit; None where one of them failed."""
    return _chosen_of(ran, key, max)


def _chosen_of(ran: Sequence[Ran], key: str, choose: Callable[[Sequence[float]], float]) -> float | None:
    said = [one.answer[key] for one in ran if one.answer is not None]
    return choose(said) if said and len(said) == len(ran) else None


def peak_of(ran: Sequence[Ran]) -> int | None:
    """The largest of the rounds; None where there was none."""
    return max((one.peak for one in ran if one.peak is not None), default=None)


def reason_of(ran: Sequence[Ran]) -> str:
    """Why the last round failed; "" where it did not."""
    return ran[-1].reason if ran else "was not started"
