"""Where the shards of a source in Hugging Face form lie: files under a folder, or shards of the hub that it pins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lib.base.errors import ConfigError
from lib.catalog.sources.hub_pin import ALL_SHARDS, PIN, HubPin, PinnedShard, matches, read_pin


@dataclass(frozen=True)
class ShardPlace:
    """A shard that was not opened yet.

    Attributes:
        key: its path under the raw folder, or in the pinned repository.
        name: for messages.
        is_here: whether `path` answers at once, with no network.
        path: its file; of a pinned shard, fetched and compared with the pin first.
    """

    key: str
    name: str
    is_here: bool
    path: Callable[[], Path]


def find_shards(raw: Path, pattern: str) -> list[ShardPlace]:
    """The shards under a folder, or those that its `hub.json` pins, sorted by key.

    Args:
        raw: `data.raw_dir`.
        pattern: `data.metadata`, as for `Path.glob` under `raw`.

    Raises:
        ConfigError: no folder, no shard, a pin beside shards, or a damaged pin.
    """
    if not raw.is_dir():
        raise ConfigError(f"{raw}: no such folder; data.raw_dir names it")
    pin = read_pin(raw)
    local = local_shards(raw, pattern)
    if pin is not None:
        also = local or local_shards(raw, ALL_SHARDS)
        if also:
            raise ConfigError(
                f"{raw}: it holds both {PIN} and shards of its own, such as {also[0]}; delete {PIN} to read the "
                f"files, or the files to read what is pinned"
            )
        return _pinned_places(raw / PIN, pin, pattern)
    if not local:
        raise ConfigError(f"{raw}: no file like '{pattern}' under it; data.raw_dir and data.metadata name the shards")
    return [ShardPlace(key, str(raw / key), True, partial(raw.joinpath, key)) for key in local]


def local_shards(raw: Path, pattern: str) -> list[str]:
    """Paths under `raw` of the files that match a pattern, sorted; hidden files and folders are passed over.

    Raises:
        ConfigError: the pattern is none.
    """
    try:
        found = [path.relative_to(raw) for path in raw.glob(pattern) if path.is_file()]
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"data.metadata: no pattern of files under data.raw_dir ({error}): {pattern!r}") from None
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def _pinned_places(file: Path, pin: HubPin, pattern: str) -> list[ShardPlace]:
    chosen = [shard for shard in pin.shards if matches(shard.path, pattern)]
    if not chosen:
        raise ConfigError(
            f"{file}: no shard like '{pattern}' among the {len(pin.shards)} that it pins, such as "
            f"{pin.shards[0].path}; data.metadata names them"
        )
    return [ShardPlace(shard.path, pin.address(shard), False, partial(_fetched, pin, shard)) for shard in chosen]


def _fetched(pin: HubPin, shard: PinnedShard) -> Path:
    from lib.catalog.sources.hub_fetch import fetch_shard  # imports huggingface_hub: not for who has files

    return fetch_shard(pin, shard)
