"""Checkpoints that check themselves: plain tensors and containers with a digest of their own content.

`torch.load` opens a file with a flipped bit without a word; the digest does not.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import torch

from lib.base.artifacts import MANIFEST, check_file, damaged, open_manifest, read_torch, write_torch
from lib.base.errors import IntegrityError

DIGEST = "content_sha256"
STAGE = "train_protocol"
REMEDY = f"re-run stage {STAGE}"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain containers atomically, with a digest of what they hold."""
    write_torch(path, _canonical({**content, DIGEST: content_sha256(content)}))


def load_checkpoint(path: Path, *, stage: str = STAGE) -> dict[str, Any]:
    """Read and verify a checkpoint.

    Where the training's `manifest.json` stands two folders up and names the file, its bytes are checked too.

    Args:
        path: a file of `save_checkpoint`.
        stage: the one that writes it, for messages.

    Raises:
        IntegrityError: the file is missing, damaged, no checkpoint of this project, or holds code.
    """
    folder, name = path.parent.parent, f"{path.parent.name}/{path.name}"
    if (folder / MANIFEST).is_file() and path.is_file():
        manifest = open_manifest(folder / MANIFEST)
        if name in manifest["files"]:
            check_file(folder, name, manifest)
    content = read_torch(path)
    if not isinstance(content, dict) or DIGEST not in content:
        raise IntegrityError(f"{path}: not a checkpoint of {stage}; re-run stage {stage}")
    expected = content.pop(DIGEST)
    found = content_sha256(content)
    if found != expected:
        raise damaged(path, f"expected content {str(expected)[:12]}…, got {found[:12]}…")
    return content


def remove_half_written(folder: Path) -> None:
    """Remove what a killed run left of checkpoints: it would become part of the out."""
    for half_written in sorted(folder.glob(".*.pt.*")):
        half_written.unlink()


def content_sha256(value: Any) -> str:
    """Hex sha256 of nested dicts, lists, tensors and plain values, in their order."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _canonical(value: Any) -> Any:
    """Equal content in the same objects: pickle writes a repeated object as a reference to the first.

    Without this a resumed run, whose strings came out of a file, would write other bytes.
    """
    if isinstance(value, dict):
        return {_canonical(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return sys.intern(value) if isinstance(value, str) else value


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(f"tensor {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        digest.update(f"dict {len(value)}\n".encode())
        for key, item in value.items():
            _feed(digest, key)
            _feed(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}\n".encode())
        for item in value:
            _feed(digest, item)
    else:
        text = repr(value)
        digest.update(f"{type(value).__name__} {len(text)}\n{text}\n".encode("utf-8", "surrogatepass"))
