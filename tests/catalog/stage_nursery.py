"""Stage commands as processes of their own that start quickly: forked from one that has imported what is slow.

The process reads a job a line from its standard input and writes the exit code a line. What depends on the
environment, `huggingface_hub` above all, is imported by the forks. Nobody waits: `time.sleep` returns at once.
"""

import importlib.util
import json
import os
import resource
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import httpcore2  # noqa: F401
import httpx2  # noqa: F401


def work(job: dict[str, Any]) -> None:
    """Become the stage: its folder, environment, output files and limits."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if job["max_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["max_bytes"], job["max_bytes"]))
    sys.argv = job["argv"]
    runpy.run_module(job["argv"][0], run_name="__main__")


def main() -> None:
    assert importlib.util.find_spec("huggingface_hub") and "huggingface_hub" not in sys.modules
    time.sleep = lambda seconds: None
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.stdin.close()
            work(json.loads(line))  # ends with SystemExit
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
