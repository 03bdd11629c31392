"""Shards of the Hugging Face Hub, brought into the user's Hugging Face cache and compared with their pin.

`huggingface_hub` does the transfer: its cache, its login, its retries. Only a run that finds a pin imports it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lib.base.artifacts import file_sha256
from lib.base.errors import BusyError, ConfigError, IntegrityError, PipelineError
from lib.catalog.sources.hub_pin import PIN, HubPin, PinnedShard

LOGIN = "`hf auth login`, or set HF_TOKEN"
_LOGIN_PAGE = "is there a login page between here and it? Check the network and HF_ENDPOINT"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_FOLDER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_LATER = (408, 429)


def fetch_shard(pin: HubPin, shard: PinnedShard) -> Path:
    """A pinned shard as a local file: from the cache, or else from the hub; its bytes are those of the pin.

    A shard that is in the cache needs no network. Every call reads the whole file once, to compare it with the pin.

    Raises:
        BusyError: the hub cannot be reached, or there is no room; what was fetched before is kept.
        ConfigError: the hub refuses access, or the cache cannot be written.
        IntegrityError: the shard is not what was pinned, or the hub no longer has it.
    """
    address = pin.address(shard)
    with asking(address, pin.repo):
        try:
            path = Path(hf_hub_download(pin.repo, shard.path, repo_type="dataset", revision=pin.commit))
        except (RevisionNotFoundError, RemoteEntryNotFoundError):
            raise IntegrityError(
                f"{address}: the hub has no such file at commit {pin.commit}: the history there was rewritten, or "
                f"{PIN} was edited; restore it, or pin again with `python -m stages.pin_hub`"
            ) from None
        _check(path, shard, address)
    return path


def _check(path: Path, shard: PinnedShard, address: str) -> None:
    expected, got = f"{shard.size} bytes", f"{path.stat().st_size} bytes"
    if got == expected and shard.sha256 is not None:
        expected, got = f"sha256 {shard.sha256}", f"sha256 {file_sha256(path)}"
    elif got == expected:
        expected, got = f"git blob {shard.git_blob}", f"git blob {_git_blob(path)}"
    if got != expected:
        raise IntegrityError(
            f"{address}: not what {PIN} pins: expected {expected}, got {got}; delete {path.resolve()} and run again; "
            "if that does not help, the hub serves other bytes than were pinned: look at the data set, then pin it "
            "again with `python -m stages.pin_hub`"
        )


def _git_blob(path: Path) -> str:
    """Git's id of a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def asking(what: str, repo: str) -> Iterator[None]:
    """Turn everything that goes wrong between here and the hub into one readable error about `what`.

    Raises:
        BusyError: trying again later may help.
        ConfigError: it will not: the name, the login or the cache folder must change.
    """
    try:
        yield
    except PipelineError:
        raise
    # RuntimeError: what hf_xet, which carries large files, raises when its storage servers refuse
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, RuntimeError, ValueError) as error:
        raise _explained(error, what, repo) from None


def _explained(error: BaseException, what: str, repo: str) -> PipelineError:
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return _explained(error.__cause__, what, repo)  # neither in the cache nor to be had: the cause says why
    if isinstance(error, HfHubHTTPError):
        return _refused(error, what, repo)
    if isinstance(error, json.JSONDecodeError):
        return BusyError(f"{what}: what {_endpoint()} answers is not a hub's; {_LOGIN_PAGE}")
    if isinstance(error, ValueError):  # what the library will not do
        return ConfigError(f"{what}: {plain(str(error))}")
    if isinstance(error, OfflineModeIsEnabled):
        return BusyError(f"{what}: not in the Hugging Face cache, and HF_HUB_OFFLINE is set; run once without it")
    if isinstance(error, RuntimeError):
        return BusyError(
            f"{what}: the hub's storage does not deliver it ({plain(str(error))}); run again later; if a firewall is "
            "in the way, HF_HUB_DISABLE_XET=1 takes another one"
        )
    cache = f"the Hugging Face cache {constants.HF_HUB_CACHE}"
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL:
        return BusyError(f"{what}: no room in {cache}; free space, or set HF_HOME to a folder on another disk")
    if number in _NO_FOLDER:
        return ConfigError(f"{what}: {cache} cannot be written ({plain(str(error))}); set HF_HOME to another folder")
    return BusyError(
        f"{what}: the hub at {_endpoint()} cannot be reached ({plain(str(error)) or type(error).__name__}); check "
        "the network and run again; shards that are in the Hugging Face cache are kept and need no network"
    )


def _refused(error: HfHubHTTPError, what: str, repo: str) -> PipelineError:
    status = error.response.status_code
    sent = error.response.request.headers.get("authorization", "").removeprefix("Bearer ")
    said = plain(error.server_message or "", secret=sent)
    said = f" ({status}: {said})" if said else f" ({status})"
    if isinstance(error, GatedRepoError):
        page = f"{_endpoint()}/datasets/{repo}"
        return ConfigError(f"{what}: access is restricted{said}; accept its terms at {page}, then {LOGIN}")
    if isinstance(error, RepositoryNotFoundError):
        return ConfigError(f"{what}: no such data set{said}; check owner and name; if it is private: {LOGIN}")
    if status in (401, 403):
        return ConfigError(f"{what}: the hub refuses access{said}; is the token right? {LOGIN}")
    if status in _LATER or status >= 500:
        return BusyError(f"{what}: the hub cannot answer now{said}; run again later")
    return ConfigError(f"{what}: the hub at {_endpoint()} refuses the request{said}; check the name and HF_ENDPOINT")


def _endpoint() -> str:
    return plain(constants.ENDPOINT)


def plain(text: str, *, secret: str = "") -> str:
    """A foreign message in one line of at most 300 characters, without tokens and without what signs an address.

    >>> plain("no such token hf_abcdefghij at\\n https://x.y/z?Signature=1", secret="")
    'no such token hf_… at https://x.y/z'
    """
    if secret:
        text = text.replace(secret, "…")
    text = re.sub(r"hf_[A-Za-z0-9]{4,}", "hf_…", text)
    text = re.sub(r"(https?://)[^\s/@]*@", r"\1", text)
    text = re.sub(r"(https?://[^\s?]+)\?[^\s'\")]*", r"\1", text)
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))[:300]
