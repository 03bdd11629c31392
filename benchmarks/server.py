"""The search server under load: `python -m benchmarks.server [--seconds 60] [--write]`.

52,591 × 512 embeddings like a catalogue's (the sample's, enlarged as `benchmarks.index` does), eight clients on kept
connections, vector queries and texts that were asked before. Beside it, in the same run, what one would write first:
FastAPI with a flat faiss index and nothing around it. Clients and server share the machine. Needs a pipeline that has
run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from fastapi import FastAPI, Request

from benchmarks.index import enlarged
from benchmarks.results import ROOT, sgemm_gflops, write_section
from lib.base.artifacts import FloatArray
from lib.embeddings import Embeddings, EmbeddingSet, load_embedding_set

N_ITEMS = 52_591
DIM = 512
CLIENTS = 8
K = 20
TEXTS = [
    f"{color} {kind}"
    for color in ("red", "blue", "black", "white")
    for kind in ("cardigan", "tee", "dress", "shorts")
]


@dataclass
class Load:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    parser.add_argument("--serve", choices=("ours", "naive"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        (_serve_ours if args.serve == "ours" else _serve_naive)(args.port)
        return 0
    vectors = large_catalogue().queries.images
    bodies = {
        "vectors": [
            json.dumps({"vector": row.tolist(), "k": K, "model": "baseline"}).encode() for row in vectors[:200]
        ],
        "texts asked before": [json.dumps({"text": text, "k": K, "model": "baseline"}).encode() for text in TEXTS],
    }
    lines = [
        f"`python -m benchmarks.server --seconds {args.seconds:g} --write`: {N_ITEMS:,} × {DIM}, {CLIENTS} clients, "
        f"{os.cpu_count()} cores, {sgemm_gflops():.0f} GFLOP/s float32.",
        "",
        "| server | queries | requests/s | p50 ms | p95 ms | p99 ms | not 200 | 5xx |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for server, kinds in (("naive", ["vectors"]), ("ours", list(bodies)), ("naive", ["vectors"])):
        with _running(server) as port:
            for kind in kinds:
                attack(port, bodies[kind], seconds=2.0)  # warms caches up
                load = attack(port, bodies[kind], seconds=args.seconds)
                lines.append(load_line(server, kind, load, args.seconds))
                print(lines[-1], flush=True)
    text = "\n".join(lines)
    print(text)
    if args.write:
        write_section("Search server", text)
    return 0


def large_catalogue() -> EmbeddingSet:
    """`N_ITEMS` gallery rows of `DIM` dimensions with the sample's attributes again and again, and its queries."""
    small = load_embedding_set(ROOT / "artifacts" / "retrieval" / "protocol")
    gallery, turned = enlarged(small, N_ITEMS, DIM, rng=np.random.default_rng(5))
    copy, row = np.divmod(np.arange(N_ITEMS), len(small.catalog))
    meta = small.catalog.meta.iloc[row].reset_index(drop=True)
    for name in ("item_id", "product_id"):
        meta[name] = pd.Series(copy).astype(str) + "-" + meta[name].astype(str)
    asked = np.ascontiguousarray(turned(np.asarray(small.queries.images)), dtype=np.float32)
    return EmbeddingSet(Embeddings(gallery, gallery, meta), Embeddings(asked, asked, small.queries.meta), "enlarged")


def attack(port: int, bodies: list[bytes], *, seconds: float, clients: int = CLIENTS) -> Load:
    """`clients` threads ask one query after the other for some seconds."""
    load, lock = Load(), threading.Lock()
    end = time.perf_counter() + seconds

    def ask(number: int) -> None:
        rng = np.random.default_rng(number)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        own: list[float] = []
        statuses: Counter[int] = Counter()
        while (started := time.perf_counter()) < end:
            body = bodies[int(rng.integers(len(bodies)))]
            connection.request("POST", "/api/search", body=body, headers={"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            own.append(time.perf_counter() - started)
            statuses[answer.status] += 1
        with lock:
            load.seconds += own
            load.statuses += statuses

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def load_line(server: str, kind: str, load: Load, seconds: float) -> str:
    """A row of the table."""
    p50, p95, p99 = np.percentile(load.seconds, [50, 95, 99]) * 1000
    bad = sum(count for status, count in load.statuses.items() if status != 200)
    broken = sum(count for status, count in load.statuses.items() if status >= 500)
    rate = len(load.seconds) / seconds
    return f"| {server} | {kind} | {rate:.0f} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {bad} | {broken} |"


class _running:
    """A server process on a free port, ended afterwards."""

    def __init__(self, server: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.server", "--serve", server, "--port", str(self._port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)

    def __enter__(self) -> int:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return self._port
            except OSError:
                pass
            time.sleep(0.2)
        raise SystemExit("the server did not become ready")

    def __exit__(self, *reason: object) -> None:
        self._process.terminate()
        self._process.wait()


def _serve_ours(port: int) -> None:
    from lib.base.params import load_params
    from lib.catalog.attributes import load_attribute_schema
    from lib.encoding.backbone import load_backbone, save_backbone
    from lib.retrieval.index import build_indexes, load_indexes
    from lib.serving.__main__ import listen
    from lib.serving.app import create_app
    from lib.serving.catalogue import ServedCatalogue
    from lib.serving.query_encoder import QueryEncoder
    from lib.serving.searcher import Searcher

    import open_clip  # isort: skip

    def opener() -> Searcher:
        made = large_catalogue()
        params = load_params(ROOT / "params.yaml").index.model_copy(update={"build": ("flat",), "default": "flat"})
        build_indexes(folder / "index", made, params, rng=np.random.default_rng(0))
        model = open_clip.create_model("ViT-B-32")  # random weights: a text costs what it costs
        save_backbone(
            folder / "backbone", model, model_config=open_clip.get_model_config("ViT-B-32"), source="checkpoint"
        )
        schema = load_attribute_schema(ROOT / "lib" / "catalog" / "attributes.yaml")
        return Searcher(
            ServedCatalogue(made, ROOT / "data" / "processed" / "hf", schema),
            {"baseline": made},
            QueryEncoder(load_backbone(folder / "backbone")),
            indexes=load_indexes(folder / "index", made),
            index_model="baseline",
            default_index="flat",
        )

    with tempfile.TemporaryDirectory(prefix="server-") as name:
        folder = Path(name)
        listen(create_app(opener), host="127.0.0.1", port=port)


def _serve_naive(port: int) -> None:
    import faiss
    import uvicorn

    made = large_catalogue()
    index = faiss.IndexFlatIP(DIM)
    index.add(made.catalog.images)
    ids = made.catalog.meta["item_id"].tolist()
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/api/search")
    async def search(request: Request) -> dict[str, list[dict[str, object]]]:
        body = await request.json()
        query: FloatArray = np.array([body["vector"]], dtype=np.float32)
        scores, rows = index.search(query, body["k"])
        found = zip(rows[0], scores[0], strict=True)
        return {"results": [{"item_id": ids[row], "score": float(score)} for row, score in found]}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    sys.exit(main())
