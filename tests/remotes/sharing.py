"""What is pushed to a remote, and a colleague who clones and pulls."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from workspace import Workspace


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def cached_outs(workspace: Workspace) -> dict[str, str]:
    """Path -> md5 of every out that DVC keeps, from dvc.yaml and dvc.lock."""
    stages = yaml.safe_load((workspace.folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    uncached = {
        next(iter(out)).replace("${item.model}", model)
        for stage in stages.values()
        for model in stage.get("matrix", {}).get("model", [""])
        for out in stage["outs"] + stage.get("metrics", [])
        if isinstance(out, dict)
    }
    lock = yaml.safe_load(workspace.lock())["stages"]
    outs: list[dict[str, Any]] = [out for stage in lock.values() for out in stage["outs"]]
    return {out["path"]: out["md5"] for out in outs if out["path"] not in uncached}


def objects(workspace: Workspace) -> dict[str, str]:
    """Path -> md5 of every single file that has to be pushed, the lists of folders (`.dir`) among them."""
    found = {}
    for path, digest in cached_outs(workspace).items():
        found[path] = digest
        if digest.endswith(".dir"):
            listing = workspace.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
            for entry in json.loads(listing.read_text(encoding="utf-8")):
                found[f"{path}/{entry['relpath']}"] = entry["md5"]
    return found


def object_name(digest: str) -> str:
    """Where an object lies in a remote."""
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def cloned(workspace: Workspace, folder: Path) -> Workspace:
    """What a colleague has after `git clone`."""
    git(folder.parent, "clone", "-q", str(workspace.folder), str(folder))
    return Workspace.in_folder(folder)


def check_complete(mine: Workspace, theirs: Workspace) -> None:
    """Every file as the owner has it, DVC content, and nothing to run."""
    for path in objects(mine):
        if (mine.folder / path).is_file():
            assert (theirs.folder / path).read_bytes() == (mine.folder / path).read_bytes(), path
    assert theirs.changed_stages() == set()
    before = theirs.lock()
    assert theirs.repro() == []
    assert theirs.lock() == before == mine.lock()
    assert git(theirs.folder, "status", "--porcelain") == ""
