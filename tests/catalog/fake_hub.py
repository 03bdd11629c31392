"""A Hugging Face Hub on loopback: what `huggingface_hub` asks a hub for when it lists and fetches data sets.

Large files (parquet) are redirected to a store under another host name, as the real hub does; others are served
by the hub itself. Faults are injected by setting the public attributes.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

ROOT = Path(__file__).parents[2]
PAGE = 2  # entries of a listing at once: every listing here has several pages
SIGNATURE = "of-the-store"
TOKEN = "hf_NobodyMayEverSeeThis0123456789"


@dataclass
class Repo:
    """A data set: commits by id, each with files by path; `refs` name commits."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False


@dataclass
class FakeHub:
    """The hub's state, its faults, and what it was asked.

    Attributes:
        answer: a status to answer everything with.
        page: an HTML page to answer everything with, as a portal does.
        cut: bytes after which the connection is cut, once, by path.
        lies: other contents than those of the commit, by path.
        small: files that are not stored as large ones, although they are parquet.
        xet: let large files be fetched from a chunk storage, which answers everything with this status.
        echo: tell the token in the message of every refusal.
        asked: method, path and headers (names in lower case) of every request.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    answer: int | None = None
    page: str | None = None
    cut: dict[str, int] = field(default_factory=dict)
    lies: dict[str, bytes] = field(default_factory=dict)
    small: set[str] = field(default_factory=set)
    xet: int | None = None
    echo: bool = False
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    def commit(self, repo: str, files: Mapping[str, bytes], ref: str = "main") -> str:
        """Add a commit with these files and let `ref` point at it."""
        entry = self.repos.setdefault(repo, Repo())
        commit = hashlib.sha1(f"{repo} {len(entry.commits)}".encode()).hexdigest()
        entry.commits[commit] = dict(files)
        entry.refs[ref] = commit
        return commit

    def fetched(self) -> list[str]:
        """Paths of the shards whose bytes were asked for, in order."""
        return [unquote(path.split("?")[0].split("/", 3)[3]) for how, path, _ in self.asked if _is_store(how, path)]


def _is_store(method: str, path: str) -> bool:
    return method == "GET" and path.startswith("/store/")


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving(hub: FakeHub) -> Iterator[None]:
    """Serve until the block ends; the hub's address is `http://127.0.0.1:<port>`, its store's `localhost`."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(
        target=server.serve_forever, args=(0.02,), daemon=True
    )  # how often it looks for the end
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Done:
    """How a stage command ended."""

    returncode: int
    stdout: str
    stderr: str


class Stages:
    """Stage commands, each a process of its own; see `stage_nursery.py`. A context manager."""

    def __enter__(self) -> Stages:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(Path(__file__).with_name("stage_nursery.py"))]
        self._nursery = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._nursery.communicate(timeout=60)

    def run(
        self,
        name: str,
        *words: str | Path,
        port: int,
        home: Path,
        cwd: Path,
        max_bytes: int | None = None,
        **env: str,
    ) -> Done:
        """Run a stage that knows no hub but the one on `port`, with `home` for Hugging Face's cache.

        `max_bytes` bounds the size of every file that it writes, as a full disk does.
        """
        kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "HUGGING"))}
        own = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home), "NO_PROXY": "*", **env}
        argv = [f"stages.{name}", *map(str, words), "--params", str(cwd / "params.yaml")]
        out, err = cwd.with_name(f"{cwd.name}.stdout"), cwd.with_name(f"{cwd.name}.stderr")
        job = {"argv": argv, "cwd": str(cwd), "env": kept | own, "max_bytes": max_bytes}
        assert self._nursery.stdin is not None and self._nursery.stdout is not None
        print(json.dumps({**job, "stdout": str(out), "stderr": str(err)}), file=self._nursery.stdin, flush=True)
        code = int(self._nursery.stdout.readline())
        return Done(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub = self.hub
        hub.asked.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        if hub.answer is not None:
            return self._refuse(hub.answer, "", "out of order")
        if hub.page is not None:
            return self._send(200, hub.page.encode(), {"Content-Type": "text/html"})
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[0] == "store":
            return self._store(parts[1], "/".join(parts[2:]))
        if parts[0] == "xet":
            return self._refuse(hub.xet or 500, "", "no chunks")
        if parts[0] == "xet-token":
            chunks = f"http://localhost:{hub.port}/xet"
            access = {"X-Xet-Cas-Url": chunks, "X-Xet-Access-Token": "of-the-chunks"}
            return self._json({}, {**access, "X-Xet-Token-Expiration": "4000000000"})
        api = parts[:2] == ["api", "datasets"]
        at = 2 if api else 1
        if not api and parts[0] != "datasets":
            return self._refuse(404, "", "not here")
        name = "/".join(parts[at : at + 2])
        repo = hub.repos.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if "Authorization" in self.headers and not known:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if repo is None:
            return self._refuse(404 if known else 401, "RepoNotFound", "Repository not found")
        what, rest = (parts[at + 2] if len(parts) > at + 2 else "revision"), parts[at + 3 :]
        if what == "refs":
            return self._refs(repo)
        revision = rest[0] if rest else "main"
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if what == "revision":
            return self._json({"id": name, "sha": commit, "gated": "auto" if repo.gated else False})
        if what == "tree":
            return self._tree(repo.commits[commit])
        if repo.gated:
            message = f"Access to dataset {name} is restricted and you are not in the authorized list."
            return self._refuse(403 if known else 401, "GatedRepo", message)
        return self._resolve(name, repo.commits[commit], commit, "/".join(rest[1:]))

    def _refs(self, repo: Repo) -> None:
        listed = [{"name": ref.split("/")[-1], "ref": ref, "targetCommit": at} for ref, at in repo.refs.items()]
        converts = [entry for entry in listed if entry["ref"].startswith("refs/convert/")]
        branches = [entry | {"name": entry["ref"]} for entry in listed if entry not in converts]
        self._json({"branches": branches, "converts": converts, "tags": []})

    def _tree(self, files: Mapping[str, bytes]) -> None:
        folders = {parent.as_posix() for path in files for parent in Path(path).parents} - {"."}
        entries: list[dict[str, Any]] = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in sorted(folders)
        ]
        for path, data in sorted(files.items(), reverse=True):  # the hub promises no order
            entry = {"type": "file", "oid": git_blob(data), "size": len(data), "path": path}
            if self._is_large(path):
                oid = hashlib.sha256(data).hexdigest()
                entry |= {"oid": "1" * 40, "lfs": {"oid": oid, "size": len(data), "pointerSize": 130}}
            entries.append(entry)
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(entries):
            place = urlsplit(self.path).path
            address = f"http://127.0.0.1:{self.hub.port}{place}?recursive=True&cursor={start + PAGE}"
            headers["Link"] = f'<{address}>; rel="next"'
        self._json(entries[start : start + PAGE], headers)

    def _resolve(self, name: str, files: Mapping[str, bytes], commit: str, path: str) -> None:
        if path not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        data = self.hub.lies.get(path, files[path])
        if not self._is_large(path):
            return self._content(path, data, {"ETag": f'"{git_blob(data)}"', "X-Repo-Commit": commit})
        chunks = {"X-Xet-Hash": "a" * 64, "X-Xet-Refresh-Route": f"http://127.0.0.1:{self.hub.port}/xet-token"}
        store = f"http://localhost:{self.hub.port}/store/{quote(f'{name}@{commit}', safe='')}/{quote(path)}"
        self._send(
            302,
            b"",
            {
                "Location": f"{store}?Signature={SIGNATURE}",
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Linked-Size": str(len(data)),
                **(chunks if self.hub.xet else {}),
            },
        )

    def _store(self, place: str, path: str) -> None:
        name, _, commit = place.partition("@")
        data = self.hub.lies.get(path, self.hub.repos[name].commits[commit][path])
        self._content(path, data, {"ETag": '"of the store"'})

    def _content(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        status, wanted = 200, self.headers.get("Range")
        total = len(data)
        if wanted:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            status, data = 206, data[start:]
            headers = headers | {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        cut = self.hub.cut.pop(path, None) if self.command == "GET" else None
        if cut is None:
            return self._send(status, data, headers | {"Accept-Ranges": "bytes"})
        self._head(status, headers | {"Content-Length": str(len(data))})
        self.wfile.write(data[:cut])
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _is_large(self, path: str) -> bool:
        return path.endswith(".parquet") and path not in self.hub.small

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        if self.hub.echo:
            message += f" for {self.headers.get('Authorization')}"
        named = {"X-Error-Code": code} if code else {}
        self._json({"error": message}, {**named, "X-Error-Message": message, **(headers or {})}, status)

    def _json(self, value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": str(len(data))})
        if self.command == "GET":
            self.wfile.write(data)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
