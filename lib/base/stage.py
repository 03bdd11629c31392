"""What every stage command shares: paths, one readable error, exit code, lock, clean end on signals.

A stage script defines `run(args, params) -> str` and ends with `stage.main(...)`. The string that `run`
returns is the stage's two-line summary. Seconds and peak memory go to a git-ignored log, never into an out.
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import fcntl
import gc
import hashlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lib.base.errors import NO_ROOM, BusyError, PipelineError
from lib.base.params import Params, load_params

Run = Callable[[argparse.Namespace, Params], str]
STATE = Path(".cache")
"""Git-ignored folder of the working tree for locks and the log of durations."""


def main(
    run: Run,
    *,
    name: str,
    paths: Sequence[str],
    options: Sequence[str] = (),
    flags: Sequence[str] = (),
    argv: list[str] | None = None,
) -> NoReturn:
    """Run a stage command and exit with its code.

    Args:
        run: takes the parsed arguments and parameters, returns the summary to print.
        name: the stage's name, as in `dvc.yaml`.
        paths: required path arguments, for example `("--embeddings", "--out")`.
        options: optional string arguments.
        flags: optional switches.
        argv: the command line without the program; `sys.argv[1:]` when None.
    """
    _collect_garbage()
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}")
    for path in paths:
        parser.add_argument(path, type=Path, required=True)
    for option in options:
        parser.add_argument(option, default=None)
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    _end_with_parent()
    signal.signal(signal.SIGTERM, _terminate)
    started = time.perf_counter()
    try:
        params = load_params(args.params)
        out = getattr(args, "out", None)
        with _only_one(name if out is None else f"{name}-{_place(out)}"):
            print(run(args, params))
        _log(name, time.perf_counter() - started)
    except PipelineError as error:
        if args.debug:
            raise
        print(f"error: {name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # of what no `replacing` writes: the lock, the log, standard output
        if args.debug or error.errno not in NO_ROOM:
            raise
        print(f"error: {name}: no room to write ({error}); free space, run again", file=sys.stderr)
        sys.exit(BusyError.exit_code)
    sys.exit(0)


def shared_state(name: str) -> Path:
    """A git-ignored folder that outlives a run; under `dvc exp run --temp` too, DVC_ROOT is the real repository's."""
    return Path(os.environ.get("DVC_ROOT", ".")) / STATE / name


def pin_threads(threads: int) -> None:
    """Fix the thread count of every numeric library and ask torch for deterministic kernels.

    Sums split over another number of threads differ in their last bits, so the bytes of an out are
    reproducible for one value of `threads`.
    """
    import threadpoolctl
    import torch

    from lib.base.first_calls import settle_vector_math

    threadpoolctl.threadpool_limits(threads)
    torch.set_num_threads(threads)
    settle_vector_math()
    # as use_deterministic_algorithms, which also imports the compiler: 1.5 s
    torch.set_deterministic_debug_mode("error")
    # no kernel used here reads memory before it is written; filling every new tensor first costs a pass over each
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _collect_garbage() -> None:
    """From now on, of what is made from now on: `stages/__init__.py` turned it off while modules were imported.

    At the end of the process nothing is looked for at all: what refers to itself goes with the process.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)


def _end_with_parent() -> None:
    """Ask Linux to end this process when dvc dies: an orphan would be a second writer."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # a second one (a killed process group and the end of dvc send one each) would break off the cleaning up for good
    signal.signal(number, signal.SIG_IGN)
    print("error: stopped by SIGTERM; run `dvc repro` to go on", file=sys.stderr)
    sys.exit(128 + number)


def _place(out: Path) -> str:
    """One word for a folder, however it is spelt on the command line."""
    return hashlib.sha256(str(out.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@contextmanager
def _only_one(name: str) -> Iterator[None]:
    """Hold the stage's lock file; the kernel drops it with the process, however that ends."""
    folder = STATE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BusyError(f"process {holder} is writing the same out; wait for it or end it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _log(name: str, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    entry = {"stage": name, "seconds": round(seconds, 3), "peak_kib": peak, "peak_child_kib": children}
    with open(STATE / "stage_log.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
