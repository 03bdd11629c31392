"""A private copy of the project in which DVC experiments run: the user's own workspace is only read.

The copy is a git and DVC repository of its own, with a cache of its own, under `.cache/`, which git and DVC ignore;
deleting that folder deletes everything. Outs that the user's cache has are pulled from it instead of built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lib.base.errors import ConfigError, PipelineError
from lib.base.params import Params

_CODE = ("lib/", "stages/", "dvc.yaml")
_RESULTS = ("artifacts/", "dvc.lock")
SCOREBOARD = "scoreboard"
"""The stage that a variant is run up to."""
_FOREIGN = ("DVC_ROOT", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


class StepFailed(PipelineError):
    """A command in the copy failed; its output stands in the log that the message names."""


class Clone:
    """The copy; every method leaves it as a killed run may leave it and starts by putting that right."""

    def __init__(self, folder: Path, *, root: Path, logs: Path) -> None:
        self.folder = folder
        self._root = root
        self._logs = logs

    def prepare(self, recipe: str, *, raw_dir: str, data: Path | None, image_cache: str, weights: str) -> None:
        """Bring the copy to the state of the user's working tree, with these parameters, and build the pipeline.

        Args:
            recipe: the parameter file of the full recipe, as text.
            raw_dir: where in the copy the raw catalogue stands (`data.raw_dir`).
            data: folder of the raw catalogue, shown at `raw_dir`; None for one that a stage makes.
            image_cache: the user's folder of downloaded photos (`data.image_cache`), shown at the same place.
            weights: the user's weights, or the folder that stands for none (`backbone.checkpoint`), shown likewise.

        Raises:
            StepFailed: `dvc repro` failed.
        """
        fresh = not (self.folder / ".git").is_dir()
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._git("init", "-q", "-b", "main")
            self._git("config", "user.name", "ablation")
            self._git("config", "user.email", "ablation@localhost")
        else:
            self._git("reset", "-q", "--hard")
            (self.folder / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)
        same = yaml.safe_load(recipe) == yaml.safe_load((self._root / "params.yaml").read_text(encoding="utf-8"))
        self._copy_files(with_results=fresh and same)
        (self.folder / "params.yaml").write_text(recipe, encoding="utf-8")
        if data is not None:
            self._show(self.folder / raw_dir, data)
        for own in (image_cache, weights):
            if not Path(own).is_absolute():  # as it is, from the copy too
                self._show(self.folder / own, self._root / own)
        self._commit("the full recipe")
        if fresh and same:
            cache = self._dvc("cache", "dir", cwd=self._root).strip()
            self._dvc("remote", "add", "--local", "-d", "workspace", cache)
            self._dvc("pull", "-q", "--allow-missing", check=False)
        self._dvc("checkout", "-q", check=False)
        self._dvc("repro", log="full")
        self._commit("results of the full recipe")

    def run(self, name: str, options: Sequence[str], *, target: str = SCOREBOARD) -> None:
        """`dvc exp run` with `-S` options, up to a stage; the copy then holds the results until the next call.

        Raises:
            StepFailed: the experiment failed.
        """
        self.restore()
        self._dvc("exp", "remove", name, check=False)
        self._dvc("exp", "run", "-n", name, *options, target, log=name)

    def restore(self) -> None:
        """Back to the full recipe and its results."""
        self._git("reset", "-q", "--hard")
        self._dvc("checkout", "-q", check=False)

    def key(self, params: Params) -> str:
        """Names code, raw data, weights and parameters: results under another key are not of this recipe."""
        digest = hashlib.sha256()
        for name in self._git("ls-files", *_CODE).splitlines():
            digest.update(f"{name}\n".encode() + (self.folder / name).read_bytes())
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text(encoding="utf-8"))
        deps = [dep for stage in ("process_data", "prepare_backbone") for dep in lock["stages"][stage]["deps"]]
        read = [dep for dep in deps if not dep["path"].startswith(_CODE)]
        digest.update(json.dumps([read, params.model_dump(mode="json")], sort_keys=True).encode())
        return digest.hexdigest()

    def _copy_files(self, *, with_results: bool) -> None:
        """The user's files that git does not ignore; committed results only to start from."""
        listed = self._git("ls-files", "--cached", "--others", "--exclude-standard", cwd=self._root).splitlines()
        wanted = {name for name in listed if (self._root / name).is_file()}
        if not with_results:
            wanted = {name for name in wanted if not name.startswith(_RESULTS)}
        wanted = {name for name in wanted if not name.startswith("data/")}  # shown, not tracked
        for name in self._git("ls-files").splitlines():
            if name not in wanted and not name.startswith(_RESULTS):
                _remove(self.folder / name)
        for name in sorted(wanted):
            source, target = self._root / name, self.folder / name
            content = source.read_bytes()
            if not target.is_file() or target.read_bytes() != content:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)

    def _show(self, place: Path, data: Path) -> None:
        if not data.exists():
            raise ConfigError(
                f"{data}: not there; DATA names the raw catalogue, data.image_cache the downloads, "
                "backbone.checkpoint the weights"
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove(place)
        place.symlink_to(data.resolve(), target_is_directory=True)

    def _commit(self, message: str) -> None:
        self._git("add", "-A")
        if self._git("status", "--porcelain"):
            self._git("commit", "-qm", message)

    def _git(self, *words: str, cwd: Path | None = None) -> str:
        return self._call(["git", *words], cwd=cwd or self.folder, check=True, log=None)

    def _dvc(self, *words: str, check: bool = True, cwd: Path | None = None, log: str | None = None) -> str:
        program = str(Path(sys.executable).parent / "dvc")
        return self._call([program, *words], cwd=cwd or self.folder, check=check, log=log)

    def _call(self, command: Sequence[str], *, cwd: Path, check: bool, log: str | None) -> str:
        done = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True)
        said = done.stdout + done.stderr
        where = ""
        if log is not None:
            self._logs.mkdir(parents=True, exist_ok=True)
            (self._logs / f"{log}.txt").write_text(said, encoding="utf-8")
            where = f" (all of it in {self._logs / f'{log}.txt'})"
        if check and done.returncode != 0:
            errors = [line for line in said.splitlines() if line.lower().startswith("error")]
            reason = "\n".join(errors or said.splitlines()[-3:])
            raise StepFailed(f"{Path(command[0]).name} {' '.join(command[1:3])} failed{where}:\n{reason}")
        return done.stdout


def _remove(path: Path) -> None:
    """A file, a link, or the folder that an experiment which was killed put in a link's place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _environment() -> Mapping[str, str]:
    """This interpreter's tools first, and nothing that points git or dvc at another repository."""
    kept: dict[str, Any] = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
