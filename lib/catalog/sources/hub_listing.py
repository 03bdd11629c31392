"""What the Hugging Face Hub has of a data set now, written down as a pin."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, HfUri, constants, parse_hf_uri
from huggingface_hub.errors import HfUriError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from pydantic import ValidationError

from lib.base.errors import BusyError, ConfigError
from lib.catalog.sources.hub_fetch import asking, plain
from lib.catalog.sources.hub_pin import ALL_SHARDS, HubPin, PinnedShard, matches, write_pin
from lib.catalog.sources.shard_places import local_shards

FORM = "hf://owner/name, hf://owner/name@revision or hf://owner/name@revision/folder"
TIMEOUT = 30.0
"""Seconds that the hub may take to say which commit a revision is."""


def pin_dataset(uri: str, folder: Path) -> HubPin:
    """Ask the hub for the commit that a revision names and for its parquet files, and write `hub.json` into a folder.

    Args:
        uri: `hf://owner/name`, with `@revision` (a branch, tag or commit; default main; a slash in it is `%2F`, but
            `refs/convert/parquet` and `refs/pr/N` stay as they are), and with `/folder` or `/pattern` behind it to
            take only shards below that folder or like that pattern. `hf://datasets/owner/name` is the same.
        folder: for `data.raw_dir`; made if needed. A pin that is there is replaced.

    Returns:
        The pin, as it was written. It depends on nothing but the commit and the pattern.

    Raises:
        ConfigError: no such address, data set, revision or shard; no access; or the folder holds shards of its own.
        BusyError: the hub cannot be reached.
    """
    parsed = _parse(uri)
    own = local_shards(folder, ALL_SHARDS) if folder.is_dir() else []
    if own:
        raise ConfigError(f"{folder}: it holds shards of its own, such as {own[0]}; choose another folder")
    pattern = _pattern(parsed.path_in_repo)
    what = f"hf://datasets/{parsed.id}"
    api = HfApi()
    try:
        with asking(what, parsed.id):
            commit = _commit(api, parsed)
            files = [
                entry
                for entry in api.list_repo_tree(parsed.id, revision=commit, repo_type="dataset", recursive=True)
                if isinstance(entry, RepoFile)
            ]
        shards = [_pinned(file) for file in files if matches(file.path, pattern)]
        if not shards:
            raise ConfigError(_nothing_there(f"{what} at {commit[:12]}", pattern, [file.path for file in files]))
        pin = HubPin(repo=parsed.id, commit=commit, pattern=pattern, shards=tuple(shards))
    except (ValidationError, KeyError, TypeError) as error:
        raise BusyError(
            f"{what}: what {plain(constants.ENDPOINT)} answers cannot be pinned "
            f"({type(error).__name__}: {plain(str(error))}); is it a hub? Check HF_ENDPOINT"
        ) from None
    write_pin(folder, pin)
    return pin


def _parse(uri: str) -> HfUri:
    """The parts of an address; a repository without a type is a data set here."""
    try:
        parsed = parse_hf_uri(uri)
    except HfUriError as error:
        raise ConfigError(f"--hub: {plain(str(error))} It must be {FORM}") from None
    if parsed.type not in ("model", "dataset") or uri.startswith("hf://models/"):
        raise ConfigError(f"--hub: '{plain(uri)}' is no data set; it must be {FORM}")
    return parsed


def _pattern(path: str) -> str:
    """
    >>> _pattern(""), _pattern("default"), _pattern("data/train-*.parquet")
    ('**/*.parquet', 'default/**/*.parquet', 'data/train-*.parquet')
    """
    path = path.strip("/")
    if path.endswith(".parquet"):
        return path
    return f"{path}/{ALL_SHARDS}" if path else ALL_SHARDS


def _commit(api: HfApi, parsed: HfUri) -> str:
    try:
        commit = api.dataset_info(parsed.id, revision=parsed.revision, timeout=TIMEOUT).sha
    except RevisionNotFoundError:
        refs = api.list_repo_refs(parsed.id, repo_type="dataset")
        names = [ref.name for ref in (*refs.branches, *refs.tags)] + [ref.ref for ref in refs.converts]
        raise ConfigError(
            f"hf://datasets/{parsed.id}: no revision '{plain(str(parsed.revision))}'; it has {', '.join(names)}, and "
            "its commits by their 40 digits; a slash in a name is written %2F"
        ) from None
    if commit is None:
        raise KeyError("sha")
    return commit


def _pinned(file: RepoFile) -> PinnedShard:
    if file.lfs is None:
        return PinnedShard(path=file.path, size=file.size, git_blob=file.blob_id)
    return PinnedShard(path=file.path, size=file.lfs.size, sha256=file.lfs.sha256)


def _nothing_there(what: str, pattern: str, paths: list[str]) -> str:
    endings = Counter(PurePosixPath(path).suffix or PurePosixPath(path).name for path in paths)
    there = ", ".join(f"{count} × {ending}" for ending, count in endings.most_common(8)) or "nothing"
    parquet = sorted(path for path in paths if path.endswith(".parquet"))
    if parquet:
        return f"{what}: no file like '{pattern}'; its parquet files are {', '.join(parquet[:5])}" + (
            f" and {len(parquet) - 5} more" if len(parquet) > 5 else ""
        )
    return (
        f"{what}: no parquet files, there is {there}; the hub converts many data sets by itself: try revision "
        "refs/convert/parquet, as in hf://owner/name@refs/convert/parquet"
    )
