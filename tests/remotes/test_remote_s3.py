"""The same against an S3 service: a server of this test's own, on the loopback interface."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from sharing import check_complete, cloned, object_name, objects
from workspace import Workspace

pytest.importorskip("moto", reason="needs moto[server] (requirements-dev.txt)")
pytest.importorskip("dvc_s3", reason="needs dvc-s3 (requirements-dev.txt)")
boto3 = pytest.importorskip("boto3", reason="needs boto3, which comes with moto")

pytestmark = pytest.mark.s3

BUCKET = "fashion-bucket"
NOBODY = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}
"""Credentials of nobody; the user's own files are not looked at either."""


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    empty = tmp_path_factory.mktemp("aws") / "config"
    empty.write_text("")
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(empty))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (NOBODY | files).items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def endpoint(credentials: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address; it ends with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("s3") / "server.log"
    with open(log, "wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                break
            except (URLError, OSError):
                assert server.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
                time.sleep(0.2)
        yield address
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def mine(reproduced: Workspace, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """As README says: name the bucket and its address, push, commit."""
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    mine = reproduced.copied(tmp_path_factory.mktemp("s3-workspaces") / "mine")
    mine.dvc("remote", "add", "-d", "storage", f"s3://{BUCKET}/fashion")
    mine.dvc("remote", "modify", "storage", "endpointurl", endpoint)
    mine.dvc("push")
    mine.commit("remote")
    return mine


def stored(endpoint: str) -> set[str]:
    client = boto3.client("s3", endpoint_url=endpoint)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


def test_every_large_file_is_pushed_and_nothing_else(mine: Workspace, endpoint: str) -> None:
    assert stored(endpoint) == {f"fashion/{object_name(digest)}" for digest in objects(mine).values()}


def test_a_colleague_pulls_and_nothing_has_to_run(mine: Workspace, tmp_path: Path) -> None:
    theirs = cloned(mine, tmp_path / "theirs")
    theirs.dvc("pull")
    check_complete(mine, theirs)
    config = (theirs.folder / ".dvc/config").read_text(encoding="utf-8")
    assert "endpointurl" in config and "testing" not in config, "credentials are not committed"


def test_a_lost_file_is_named_and_can_be_built(mine: Workspace, endpoint: str, tmp_path: Path) -> None:
    digest = objects(mine)["artifacts/supervision/groups.json"]
    client = boto3.client("s3", endpoint_url=endpoint)
    key = f"fashion/{object_name(digest)}"
    body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    client.delete_object(Bucket=BUCKET, Key=key)
    theirs = cloned(mine, tmp_path / "theirs")
    said = theirs.dvc("pull", check=False)
    client.put_object(Bucket=BUCKET, Key=key, Body=body)
    assert "ERROR: failed to pull data from the cloud" in said and "artifacts/supervision/groups.json" in said
    assert "Traceback" not in said and theirs.repro() == ["build_groups"]


def test_a_server_that_is_not_there_is_one_message(mine: Workspace, tmp_path: Path) -> None:
    theirs = cloned(mine, tmp_path / "theirs")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens here
        theirs.dvc(
            "remote", "modify", "--local", "storage", "endpointurl", f"http://127.0.0.1:{taken.getsockname()[1]}"
        )
        theirs.dvc("remote", "modify", "--local", "storage", "connect_timeout", "1")
        said = theirs.dvc("pull", "artifacts/supervision/groups.json", check=False)
    assert "ERROR" in said and "Traceback" not in said and "127.0.0.1" in said
