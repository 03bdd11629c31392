"""The benchmarks of everyday work, in one table: `python -m benchmarks [--quick] [--write]`.

Runs the parts one after the other, each as its own command, prints one table of what this project, the machine's
limit and the peers did, and says which targets were missed. `--quick`: small sizes, three minutes, nothing written;
`--write` renews the sections of `benchmarks/RESULTS.md` and its charts. What takes longer is `make bench-long`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.figures import LATEST, load, missed, terminal
from benchmarks.results import ROOT

COMMANDS: dict[str, tuple[str, ...]] = {
    "limits": (),
    "peers": (),
    "training": ("--runs", "1"),
    "evaluation": (),
    "index": (),
}
"""Module -> arguments at full size; of training one run, so that all fit into a quarter of an hour."""
QUICK: dict[str, tuple[str, ...]] = {
    "limits": ("--quick",),
    "peers": ("--quick",),
    "training": ("--items", "5000", "--pairs", "5000", "--epochs", "2"),
    "evaluation": ("--items", "5000", "--queries", "500"),
    "index": ("--items", "5000"),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes; writes nothing")
    parser.add_argument("--write", action="store_true", help="also write benchmarks/RESULTS.md and its charts")
    parser.add_argument("--only", nargs="+", choices=tuple(COMMANDS), default=list(COMMANDS))
    args = parser.parse_args(argv)
    if args.quick and args.write:
        parser.error("--quick measures too little to be written down")
    LATEST.unlink(missing_ok=True)
    started = time.perf_counter()
    failed = [name for name in COMMANDS if name in args.only and not run(name, quick=args.quick, write=args.write)]
    figures = load()
    print(f"\n{terminal(figures)}\n")
    notes = dict.fromkeys(f"{f.work}, {f.who}: {f.note}" for f in figures if f.note and f.seconds is not None)
    for note in notes:
        print(f"  {note}")
    for line in missed(figures):
        print(f"target missed: {line}")
    print(f"{time.perf_counter() - started:.0f} s in all{'; small sizes: shares say little' if args.quick else ''}")
    for name in failed:
        print(f"error: benchmarks.{name} failed", file=sys.stderr)
    return 1 if failed else 0


def command(name: str, *, quick: bool, write: bool) -> list[str]:
    """What runs one part."""
    extra = QUICK[name] if quick else COMMANDS[name]
    return [sys.executable, "-m", f"benchmarks.{name}", *extra, *(["--write"] if write else [])]


def run(name: str, *, quick: bool, write: bool) -> bool:
    """Run one part; what it prints goes to the terminal as it comes."""
    print(f"== {name}", flush=True)
    started = time.perf_counter()
    done = subprocess.run(command(name, quick=quick, write=write), cwd=ROOT).returncode == 0
    print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return done


if __name__ == "__main__":
    sys.exit(main())
