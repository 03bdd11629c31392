"""The encoder under Ray Data: the same batches and the same bytes, computed by the workers of a cluster.

The only module that imports Ray (`requirements-ray.txt`), and only `embed.engine: ray` imports it. What a worker
needs travels through Ray: the code of `lib`, the backbone's files, the contents; no disk is shared. A worker is a
process that keeps its encoder from one batch to the next. It computes nothing unless the facts of its encoder, on
which the bytes depend (`Encoder.facts`), are those of the process that asks: another processor or library would give
other bytes.

Batches are tasks of Ray Data and not calls of an actor pool: a pool ends with its data set, so that every window of
batches would load the encoder anew (seen: 12 s instead of 0.5 s for 16 batches of a tiny model), and a batch that
lies with an actor of a lost node waits until there is room for that actor again.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data
import ray.exceptions
import torch
from ray.data import DataContext, TaskPoolStrategy

from lib.base import stage
from lib.base.artifacts import FloatArray
from lib.base.errors import BusyError, ConfigError, IntegrityError
from lib.encoding.backbone import load_backbone
from lib.encoding.encoder import Encoder
from lib.encoding.engine import Kind, LocalEngine

_WINDOW = 16
"""Batches per worker that are in flight: few enough for memory, enough that workers seldom wait for the last one."""

_RETRIES = 10
"""How often a batch may lose its worker or node; something that always ends the worker must not be tried for ever."""


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know to embed like the process that asks."""

    files: ray.ObjectRef  # of the backbone's files by name, as uint8 arrays
    batch_size: int
    threads: int
    decode_workers: int
    facts: tuple[tuple[str, Any], ...]


class RayEngine:
    """Embeds on a Ray cluster; a context manager that ends what it started.

    Nothing is started before there is something to embed.

    Args:
        encoder: the frozen backbone; its facts are those that every worker must have.
        backbone: the folder that it was loaded from.
        address: of a running cluster, as `ray.init` takes it; "" starts a private one on this machine.
        workers: batches that are computed at the same time, each on as many processors as torch has threads here.
        decode_workers: threads of a worker that decode images.

    Attributes:
        nodes: ids of the nodes that embedded something.
    """

    def __init__(self, encoder: Encoder, backbone: Path, *, address: str, workers: int, decode_workers: int) -> None:
        self.nodes: set[str] = set()
        self._encoder = encoder
        self._backbone = backbone
        self._address = address
        self._workers = workers
        self._decode_workers = decode_workers
        self._threads = torch.get_num_threads()
        self._started = ExitStack()
        self._job: _Job | None = None

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *reason: object) -> None:
        self._job = None
        self._started.close()

    def embed(self, kind: Kind, batches: Iterable[Sequence[bytes]]) -> Iterator[FloatArray]:
        """See `lib.encoding.engine.Engine`; `workers` times 16 batches are asked for at a time.

        A batch whose worker or node is lost is computed by another one. An error of the encoder itself comes back as
        it was raised.

        Raises:
            ConfigError: there is no such cluster, no node has enough processors, or a worker would give other bytes.
            BusyError: the cluster was lost; run again to go on.
        """
        remaining = iter(batches)
        while window := list(islice(remaining, _WINDOW * self._workers)):
            if self._job is None:
                self._job = self._connected()
            try:
                yield from self._window(kind, window, self._job)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ray.exceptions.RayError):
                    raise BusyError(f"embed.engine: a worker of the Ray cluster failed: {error}; run again") from None
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise BusyError(f"embed.engine: the Ray cluster was lost: {error}; run again to go on") from None

    def _window(self, kind: Kind, window: Sequence[Sequence[bytes]], job: _Job) -> Iterator[FloatArray]:
        """Rows of the batches in order, as soon as those before are there; Ray gives them back as they are done."""
        # the one source that takes blocks as they are: others ask the cluster for their number of rows first
        embedded = ray.data.from_blocks([_block(number, batch) for number, batch in enumerate(window)]).map_batches(
            _embed_block,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"kind": kind, "job": job},
            compute=TaskPoolStrategy(size=self._workers),
            num_cpus=self._threads,
            max_retries=_RETRIES,
        )
        early: dict[int, FloatArray] = {}
        due = 0
        for table in embedded.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for number, node, rows in zip(
                *(table.column(name).to_pylist() for name in table.column_names), strict=True
            ):
                self.nodes.add(node)
                early[number] = np.frombuffer(rows, dtype="<f4").reshape(-1, self._encoder.dim)
            while due in early:
                yield early.pop(due)
                due += 1
        if due != len(window):
            raise IntegrityError(f"embed.engine: Ray gave back {due} of {len(window)} batches; run again")

    def _connected(self) -> _Job:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it logs with traceback what it raises anyway
        code = {"py_modules": [str(Path(__file__).parents[1])]}
        main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            if self._address:
                _check_somebody_listens(self._address)
                ray.init(address=self._address, runtime_env=code, log_to_driver=False, logging_level=logging.ERROR)
            else:
                # it listens on every interface and runs what it is sent; without this the token is kept in ~/.ray
                os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
                ray.init(
                    address="local",  # never one that happens to run here
                    num_cpus=self._workers * self._threads,
                    include_dashboard=False,
                    _temp_dir=self._started.enter_context(
                        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
                    ),
                    runtime_env=code,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"embed.ray_address: no Ray cluster at '{self._address}': {error}") from None
        finally:
            if main:  # Ray puts its own in place, which would end the stage with another exit code
                signal.signal(signal.SIGTERM, handler)
        self._started.callback(ray.shutdown)
        self._check_processors()
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.raise_original_map_exception = True
        files = {path.name: np.fromfile(path, dtype=np.uint8) for path in sorted(self._backbone.iterdir())}
        facts = tuple(sorted(self._encoder.facts.items()))
        return _Job(ray.put(files), self._encoder.batch_size, self._threads, self._decode_workers, facts)

    def _check_processors(self) -> None:
        """Ray would wait for ever for a node that is large enough."""
        largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
        if largest < self._threads:
            raise ConfigError(
                f"embed.engine: no node of the Ray cluster has {self._threads} processors, the largest has "
                f"{largest:g}; start larger nodes, or lower runtime.threads (on which the bytes depend)"
            )


def _check_somebody_listens(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _block(number: int, contents: Sequence[bytes]) -> pa.Table:
    return pa.table(
        {
            "number": pa.array([number] * len(contents), pa.int64()),
            "content": pa.array(contents, pa.large_binary()),
        }
    )


def _embed_block(block: pa.Table, *, kind: Kind, job: _Job) -> pa.Table:
    """Runs in a worker: one batch in, one row with its embeddings out."""
    engine = _engine(job)
    torch.set_num_threads(job.threads)  # it belongs to the thread, and tasks may come in another one
    (rows,) = engine.embed(kind, [block.column("content").to_pylist()])
    return pa.table(
        {
            "number": block.column("number").slice(0, 1),
            "node": [ray.get_runtime_context().get_node_id()],
            "rows": pa.array([rows.astype("<f4").tobytes()], pa.large_binary()),
        }
    )


@lru_cache(maxsize=1)
def _engine(job: _Job) -> LocalEngine:
    """The worker's encoder, loaded once in the life of its process.

    Raises:
        ConfigError: it would give other bytes than the process that asks.
    """
    stage.pin_threads(job.threads)
    files: Mapping[str, npt.NDArray[np.uint8]] = ray.get(job.files)
    with tempfile.TemporaryDirectory(prefix="backbone-") as folder:
        for name, data in files.items():
            data.tofile(Path(folder) / name)
        encoder = Encoder(load_backbone(Path(folder)), batch_size=job.batch_size)
    own = encoder.facts
    differing = [
        f"{name} is '{own.get(name)}' and not '{value}'" for name, value in job.facts if own.get(name) != value
    ]
    if differing:
        raise ConfigError(
            f"embed.engine: the Ray node {ray.util.get_node_ip_address()} would give other bytes: "
            f"{'; '.join(differing)}. Use nodes of one kind with the libraries of requirements.txt"
        )
    return LocalEngine(encoder, decode_workers=job.decode_workers)
