"""Time and memory of the whole sample pipeline in a fresh clone: `python -m benchmarks.pipeline [--write]`.

Clones HEAD into an empty folder, runs `dvc repro` from nothing, then again, and prints seconds and peak
memory per stage beside this machine's own float32 matrix multiplication rate. Figures of a shared machine
drift: compare ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.results import ROOT, sgemm_gflops, write_section


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        lock = (clone / "dvc.lock").read_bytes()
        seconds, peak = measured(["dvc", "repro", "-f"], clone)  # -f: reports that git brings would else be kept
        same = (clone / "dvc.lock").read_bytes() == lock
        again = [measured(["dvc", "repro"], clone)[0] for _ in range(3)]
        log = (clone / ".cache" / "stage_log.jsonl").read_text(encoding="utf-8").splitlines()
        stages = [json.loads(line) for line in log]
    text = table(stages, seconds=seconds, peak=peak, again=sorted(again)[1], same=same)
    print(text)
    if args.write:
        write_section("Whole pipeline on the embedded sample", text)
    return 0


def measured(command: list[str], folder: Path) -> tuple[float, int]:
    """Wall seconds of a command, and the largest resident memory of its whole process tree in bytes."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "PATH": path}, stdout=subprocess.DEVNULL)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, peak[0]


def _watch(pid: int, peak: list[int]) -> None:
    """Sum of proportional set sizes (shared pages counted once) over the tree, every two seconds.

    Not more often: the kernel walks every page for it, and ten times a second slowed the whole run by a fifth.
    """
    try:
        root = psutil.Process(pid)
        while root.is_running():
            total = 0
            for process in [root, *root.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total)
            time.sleep(2.0)
    except psutil.NoSuchProcess:
        return


def table(stages: list[dict[str, float]], *, seconds: float, peak: int, again: float, same: bool) -> str:
    lines = [
        f"`python -m benchmarks.pipeline --write` on {os.cpu_count()} cores, {sgemm_gflops():.0f} GFLOP/s float32 "
        "matrix multiplication.",
        "",
        "| stage | seconds in the stage | peak resident MB |",
        "|---|---:|---:|",
        *(
            f"| {s['stage']} | {s['seconds']:.1f} | {max(s['peak_kib'], s['peak_child_kib']) / 1024:.0f} |"
            for s in stages
        ),
        "",
        f"`dvc repro` from nothing: **{seconds:.0f} s** (limit 300), peak of the whole process tree "
        f"**{peak / 2**20:.0f} MB** (limit 3,000).  ",
        f"`dvc repro` again, nothing to do: **{again:.2f} s** (median of 3, limit 2).  ",
        f"`dvc.lock` after the fresh run {'equals' if same else 'DIFFERS FROM'} the committed one.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
