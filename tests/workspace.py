"""A private copy of the project as its own git and DVC repository, with tiny settings, for end-to-end tests."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
TINY: dict[str, Any] = {
    "sample": {"n_products": 120, "image_size": 64},
    "backbone": {
        "train": {
            "epochs": 1,
            "batch_size": 32,
            "image_size": 64,
            "vision_width": 8,
            "text_width": 32,
            "embed_dim": 48,
            "fixed_dim": 16,
        }
    },
    "embed": {"batch_size": 32},
    "evaluate": {"bootstrap": {"resamples": 100}, "gallery_queries": 4},
    "mine": {"max_anchors": 60, "depth": 30},
    "pairs": {"n_pairs": 400},
    "train": {"epochs": 2, "head": {"hidden": 16}, "validation": {"gallery": 100, "queries": 40}},
    "compatibility": {"epochs": 2, "hidden": 16, "bootstrap": {"resamples": 100}},
    "scoreboard": {"bootstrap": {"resamples": 100}, "changes_shown": 2},
    "embedding_map": {"items": 60},
    "index": {"card": {"queries": 20}},
    "two_tower": {"epochs": 2, "bootstrap": {"resamples": 100}, "gallery_queries": 2},
}


class Workspace:
    """A folder with a copy of the tracked files, its own git history and its own DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first_run: list[str] = []
        names = _git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        for name in names:
            source = ROOT / name
            if source.is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / name)
        # the committed results belong to the full settings
        (folder / "dvc.lock").unlink(missing_ok=True)
        shutil.rmtree(folder / "artifacts", ignore_errors=True)
        _git(folder, "init", "-q", "-b", "main")
        _git(folder, "config", "user.name", "test")
        _git(folder, "config", "user.email", "test@example.invalid")
        self.change_params(TINY)
        self.commit("tiny settings")

    @classmethod
    def in_folder(cls, folder: Path) -> Workspace:
        """What is there already: nothing is copied or run."""
        other = cls.__new__(cls)
        other.folder, other.first_run = folder, []
        return other

    def copied(self, folder: Path) -> Workspace:
        """The same files, history and DVC cache in another folder, which must not be there yet."""
        other = copy.copy(self)
        other.folder = Path(shutil.copytree(self.folder, folder, symlinks=True))
        shutil.rmtree(other.folder / ".cache" / "locks", ignore_errors=True)  # they are called after the folder
        return other

    def change_params(self, changes: dict[str, Any]) -> None:
        """Merge nested changes into params.yaml."""
        file = self.folder / "params.yaml"
        params = yaml.safe_load(file.read_text(encoding="utf-8"))
        _merge(params, changes)
        file.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def set_param(self, path: tuple[str, ...], value: Any) -> None:
        """Replace one key of params.yaml as a whole."""
        file = self.folder / "params.yaml"
        params = yaml.safe_load(file.read_text(encoding="utf-8"))
        inner = params
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def commit(self, message: str) -> None:
        _git(self.folder, "add", "-A")
        _git(self.folder, "commit", "-qm", message)

    def dvc(self, *words: str, check: bool = True, timeout: int = 1200) -> str:
        """Run dvc in the workspace with this interpreter's tools; returns stdout."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / "dvc"), *words],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"dvc {' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout + ("" if check else done.stderr)

    def repro(self, *words: str) -> list[str]:
        """`dvc repro`; returns the stages that ran, in order."""
        return re.findall(r"^Running stage '([^']+)'", self.dvc("repro", *words), flags=re.MULTILINE)

    def changed_stages(self) -> set[str]:
        """Stages with a changed dep or parameter, by `dvc status`."""
        status: dict[str, Any] = json.loads(self.dvc("status", "--json"))
        return set(status)

    def restore(self) -> None:
        """Back to the committed parameters and results."""
        _git(self.folder, "checkout", "-q", ".")
        self.dvc("checkout")

    def lock(self) -> bytes:
        return (self.folder / "dvc.lock").read_bytes()

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text(encoding="utf-8"))

    def environment(self) -> dict[str, str]:
        """This environment's tools first; bytecode is written as for a user, so that its effects are seen."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "DVC_ROOT")}
        # nothing may be fetched while the pipeline runs on the sample
        return {**kept, "PATH": path, "HF_HUB_OFFLINE": "1", "DVC_NO_ANALYTICS": "1"}


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def _merge(into: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
