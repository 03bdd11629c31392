"""`hub.json`: a data set of the Hugging Face Hub, pinned to a commit and to the bytes of its shards.

DVC tracks folders, no `hf://` addresses. The pin is a small file in `data.raw_dir` that git keeps: as long as it
stays the same, so does the data set; a newer one is taken by pinning again. Nothing here needs the network.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lib.base.artifacts import write_json
from lib.base.errors import ConfigError

PIN = "hub.json"
ALL_SHARDS = "**/*.parquet"

Hex40 = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PinnedShard(BaseModel):
    """A parquet file of the pinned commit: its path in the repository, its bytes, and one checksum of them.

    `sha256` is of the content, as the hub has it of large files; `git_blob` is git's id of a file that is not one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Hex64 | None = None
    git_blob: Hex40 | None = None

    @field_validator("path")
    @classmethod
    def _is_inside(cls, path: str) -> str:
        if not path.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError("must be a plain path inside the repository")
        return path

    @model_validator(mode="after")
    def _has_one_checksum(self) -> PinnedShard:
        if (self.sha256 is None) == (self.git_blob is None):
            raise ValueError("must have either sha256 or git_blob")
        return self


class HubPin(BaseModel):
    """A data set of the hub at one commit. Shards are sorted by path; `pattern` is what chose them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    commit: Hex40
    pattern: str
    shards: Annotated[tuple[PinnedShard, ...], Field(min_length=1)]

    @field_validator("shards")
    @classmethod
    def _is_sorted(cls, shards: tuple[PinnedShard, ...]) -> tuple[PinnedShard, ...]:
        twice = [path for path, count in Counter(shard.path for shard in shards).items() if count > 1]
        if twice:
            raise ValueError(f"'{twice[0]}' is listed twice")
        return tuple(sorted(shards, key=lambda shard: shard.path))

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size for shard in self.shards)

    def address(self, shard: PinnedShard) -> str:
        """A shard's address, for messages."""
        return f"hf://datasets/{self.repo}@{self.commit[:12]}/{shard.path}"


def read_pin(folder: Path) -> HubPin | None:
    """The pin in a folder; None where there is none.

    Raises:
        ConfigError: the file is damaged, or was edited into something that is no pin.
    """
    file = folder / PIN
    remedy = f"restore it, or pin again: python -m stages.pin_hub --hub hf://owner/name --out {folder}"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not a readable pin ({error}); {remedy}") from None
    try:
        return HubPin.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        received = "" if first["type"] == "missing" else f"; got {str(first['input'])[:80]!r}"
        raise ConfigError(
            f"{file}: {place or 'the file'}: {first['msg'].removeprefix('Value error, ')}{received}; {remedy}"
        ) from None


def write_pin(folder: Path, pin: HubPin) -> None:
    """Write `hub.json`; the same pin gives the same bytes."""
    write_json(folder / PIN, pin.model_dump(exclude_none=True))


def matches(path: str, pattern: str) -> bool:
    """Whether a path in a repository matches a pattern, read as `Path.glob` reads it under a folder.

    Hidden files and files in hidden folders never match.

    >>> matches("data/train-0.parquet", "data/*.parquet"), matches("data/old/train-0.parquet", "data/*.parquet")
    (True, False)
    >>> matches("train-0.parquet", "**/*.parquet"), matches(".cache/train-0.parquet", "**/*.parquet")
    (True, False)
    """
    parts = path.split("/")
    return not any(part.startswith(".") for part in parts) and _parts_match(parts, pattern.split("/"))


def _parts_match(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_parts_match(parts[start:], patterns[1:]) for start in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _parts_match(parts[1:], patterns[1:])
