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
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import yaml

from benchmarks.results import ROOT, sgemm_gflops, write_section


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        committed = locked(clone)
        seconds, peak = measured(["dvc", "repro", "-f"], clone)  # -f: reports that git brings would else be kept
        changed = origins(committed, locked(clone))
        again = [measured(["dvc", "repro"], clone)[0] for _ in range(3)]
        log = (clone / ".cache" / "stage_log.jsonl").read_text(encoding="utf-8").splitlines()
        stages = [json.loads(line) for line in log]
    text = table(stages, seconds=seconds, peak=peak, again=sorted(again)[1], changed=changed)
    print(text)
    if args.write:
        write_section("Whole pipeline on the embedded sample", text)
    return 0


def locked(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Checksums in `dvc.lock`: stage -> `deps` and `outs` -> path -> md5."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return {
        name: {side: {entry["path"]: entry["md5"] for entry in stage.get(side, [])} for side in ("deps", "outs")}
        for name, stage in stages.items()
    }


def origins(
    before: Mapping[str, Mapping[str, Mapping[str, str]]], after: Mapping[str, Mapping[str, Mapping[str, str]]]
) -> list[str]:
    """Stages that made other outs of the same deps; `dvc.lock` itself where only something else differs."""
    changed = [
        name
        for name in after
        if name not in before
        or (before[name]["deps"] == after[name]["deps"] and before[name]["outs"] != after[name]["outs"])
    ]
    return changed or ([] if before == after else ["dvc.lock"])


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


def table(stages: list[dict[str, float]], *, seconds: float, peak: int, again: float, changed: Sequence[str]) -> str:
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
        f"Outs after the fresh run, against the committed `dvc.lock`: {said_of(changed)}.",
    ]
    return "\n".join(lines)


def said_of(changed: Sequence[str]) -> str:
    """What a fresh run made other than the recorded one."""
    if not changed:
        return "all the same bytes"
    return f"{', '.join(changed)} MADE OTHERS of the same deps, and so what follows; the rest are the same bytes"


if __name__ == "__main__":
    sys.exit(main())
