"""What this project and the plain ways do, one process each: `python -m benchmarks.own_programs TASK FOLDER`.

The counterpart of `benchmarks.peer_programs`, with the same files. Processes of their own because a peak of memory is
one of a process. `limit` in an answer is the best rate of float32 multiplication before, between and after the work.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import ROOT, sgemm_gflops
from lib.base import stage
from lib.base.artifacts import FloatArray

Answer = dict[str, Any]


def raw(folder: Path, task: Answer) -> Answer:
    """The limit of embedding: the forward passes of `embed` alone, on inputs that are ready.

    Of the images from `first` to `last`; whoever has the first one has the one caption too.
    """
    from benchmarks.peer_data import image_files
    from lib.encoding.backbone import load_backbone
    from lib.encoding.encoder import Encoder

    import torch  # isort: skip

    backbone = load_backbone(Path(task["backbone"]))
    encoder = Encoder(backbone, batch_size=task["batch_size"])
    files = image_files(Path(task["images"]))[task["first"] : task["last"]]
    ready = [encoder.preprocess(path.read_bytes()) for path in files]
    batches = [torch.stack(ready[i : i + task["batch_size"]]) for i in range(0, len(ready), task["batch_size"])]
    tokens = backbone.tokenizer([""] * task["batch_size"])
    model: Any = backbone.model
    with torch.inference_mode():
        model.encode_image(batches[0])
        started = time.perf_counter()
        for batch in batches:
            model.encode_image(batch)
        images = time.perf_counter() - started
        if task["first"] == 0:
            model.encode_text(tokens)
    return {"seconds": time.perf_counter() - started, "images": images}


def embed(folder: Path, task: Answer) -> Answer:
    """`embed_catalog` from parquet to the files of an embedded catalogue; then 1 % more images."""
    from lib.embeddings import load_embedding_set
    from lib.encoding.backbone import load_backbone
    from lib.encoding.embed import embed_catalog
    from lib.encoding.embedding_cache import EmbeddingCache
    from lib.encoding.encoder import Encoder
    from lib.encoding.engine import LocalEngine

    encoder = Encoder(load_backbone(Path(task["backbone"])), batch_size=task["batch_size"])
    encoder.encode_images([encoder.preprocess(next(Path(task["images"]).iterdir()).read_bytes())])
    seconds = []
    for name in ("processed", "grown"):
        started = time.perf_counter()
        with EmbeddingCache(folder / "cache", max_bytes=1 << 40) as cache:
            engine = LocalEngine(encoder, decode_workers=task["workers"])
            done = embed_catalog(Path(task["data"]) / name, folder / name, encoder, cache, engine)
        seconds.append(time.perf_counter() - started)
        if name == "processed":
            made = load_embedding_set(folder / name)
            np.save(folder / "rows.npy", np.concatenate([made.catalog.images, made.queries.images]))
    return {"seconds": seconds[0], "more": seconds[1], "computed": done.computed}


def loop(folder: Path, task: Answer) -> Answer:
    """What one would write first: OpenCLIP, a DataLoader over image files, `encode_image`, `np.save`."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    from benchmarks.peer_data import image_files
    from lib.encoding.backbone import load_backbone

    import torch  # isort: skip

    backbone = load_backbone(Path(task["backbone"]))
    files = image_files(Path(task["images"]))

    class Photos(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, place: int) -> torch.Tensor:
            with Image.open(files[place]) as opened:
                tensor: torch.Tensor = backbone.preprocess(opened.convert("RGB"))
            return tensor

    model: Any = backbone.model
    with torch.no_grad():
        model.encode_image(torch.zeros(task["batch_size"], 3, 224, 224))
        started = time.perf_counter()
        parts = []
        for batch in DataLoader(Photos(), batch_size=task["batch_size"], num_workers=task["workers"]):
            rows = model.encode_image(batch)
            parts.append((rows / rows.norm(dim=-1, keepdim=True)).numpy())
        np.save(folder / "rows.npy", np.concatenate(parts))
    return {"seconds": time.perf_counter() - started}


def search(folder: Path, task: Answer) -> Answer:
    """Exact top-k of queries in a gallery."""
    from lib.retrieval.search import exact_top_k

    keep_to_float32(task)
    queries, gallery = np.load(Path(task["data"]) / "searched.npy"), np.load(Path(task["data"]) / "gallery.npy")
    exact_top_k(queries[:16], gallery, k=task["k"])
    return beside_limit(lambda: exact_top_k(queries, gallery, k=task["k"]), repeats=task["repeats"])


def faiss(folder: Path, task: Answer) -> Answer:
    """The same search by faiss, which is exact up to the rounding of float32."""
    import faiss as library

    library.omp_set_num_threads(task["threads"])
    queries, gallery = np.load(Path(task["data"]) / "searched.npy"), np.load(Path(task["data"]) / "gallery.npy")
    index = library.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    index.search(queries[:16], task["k"])
    return beside_limit(lambda: index.search(queries, task["k"]), repeats=task["repeats"])


def mine(folder: Path, task: Answer) -> Answer:
    """`mine_hard_negatives` as the stage calls it, with its table and statistics."""
    from lib.base.params import load_params
    from lib.embeddings import load_embedding_set
    from lib.supervision.codes import group_pairs
    from lib.supervision.hard_negatives import READ, mine_hard_negatives

    keep_to_float32(task)
    catalog = load_embedding_set(Path(task["data"]) / "embedded", columns=READ, compact=True).catalog
    params = load_params(ROOT / "params.yaml").mine.model_copy(
        update={"max_anchors": task["anchors"], "within": task.get("within", "catalogue")}
    )
    members = catalog.meta.groupby("product_id", sort=True)["item_id"]
    groups = {str(product): sorted(items) for product, items in members}
    siblings = group_pairs(groups, catalog.meta["item_id"].tolist())
    del groups, members
    found: list[int] = []

    def work() -> None:
        table, _ = mine_hard_negatives(catalog, siblings, params=params, pattern_only=())
        found.append(len(table))

    return beside_limit(work, repeats=task["repeats"]) | {"found": found[-1]}


def evaluate(folder: Path, task: Answer) -> Answer:
    """Search, hit rate, recall, MAP and nDCG at k with chance, ceiling and clustered intervals."""
    from lib.base.params import Bootstrap
    from lib.evaluation.measure import Codes, measure_rankings, summarise
    from lib.retrieval.search import exact_top_k

    keep_to_float32(task)
    queries, gallery = np.load(Path(task["data"]) / "queries.npy"), np.load(Path(task["data"]) / "gallery.npy")
    codes = Codes(
        np.load(Path(task["data"]) / "gallery_products.npy"), np.load(Path(task["data"]) / "queries_products.npy")
    )
    wanted = [(name, task["k"]) for name in ("hit_rate", "recall", "map", "ndcg")]
    hits: list[FloatArray] = []

    def work() -> None:
        top = exact_top_k(queries, gallery, k=task["k"])["all"]
        n_relevant = np.bincount(codes.gallery, minlength=int(codes.queries.max()) + 1)[codes.queries]
        found = measure_rankings(top, codes, n_relevant, np.full(len(queries), len(gallery)), wanted=wanted)
        summarise(found, codes.queries, Bootstrap(resamples=2000, seed=42))
        hits.append(found[f"hit_rate@{task['k']}"].value)

    answer = beside_limit(work, repeats=task["repeats"])
    n = min(task["limited"], len(queries))
    return answer | {
        "n": len(queries),
        "hit_rate": float(hits[-1].mean()),
        "hit_rate_limited": float(hits[-1][:n].mean()),
    }


def pairs(folder: Path, task: Answer) -> Answer:
    """50,000 pairs of the default kinds from a mined catalogue."""
    from lib.base.params import load_params
    from lib.embeddings import load_embedding_set
    from lib.supervision.codes import group_pairs
    from lib.supervision.hard_negatives import mine_hard_negatives
    from lib.supervision.pairs import build_pairs

    catalog = load_embedding_set(Path(task["data"]) / "embedded").catalog
    params = load_params(ROOT / "params.yaml")
    members = catalog.meta.groupby("product_id", sort=True)["item_id"]
    groups = {str(product): sorted(items) for product, items in members}
    few = params.mine.model_copy(update={"max_anchors": min(task["anchors"], 2000)})
    siblings = group_pairs(groups, catalog.meta["item_id"].tolist())
    mined, _ = mine_hard_negatives(catalog, siblings, params=few, pattern_only=())
    wanted = params.pairs.model_copy(update={"n_pairs": task["pairs"]})
    made: list[int] = []

    def work() -> None:
        table, _ = build_pairs(catalog.meta, groups, mined, params=wanted, pattern_only=())
        made.append(len(table))

    return beside_limit(work, repeats=task["repeats"]) | {"made": made[-1]}


def evaluate_all(folder: Path, task: Answer) -> Answer:
    """The stage `evaluate`: every mode, label, class, interval and probe of `params.yaml`."""
    from lib.base.params import load_params
    from lib.embeddings import load_embedding_set
    from lib.evaluation.evaluate import evaluate as evaluated

    embedded = load_embedding_set(Path(task["data"]) / "embedded")
    params = load_params(ROOT / "params.yaml").evaluate
    started = time.perf_counter()
    evaluated(embedded, params, pattern_only=())
    return {"seconds": time.perf_counter() - started}


def index(folder: Path, task: Answer) -> Answer:
    """Building and writing ivf_pq, what `auto` builds of a large gallery."""
    from lib.base.params import load_params
    from lib.embeddings import load_embedding_set
    from lib.retrieval.index import build_indexes

    embedded = load_embedding_set(Path(task["data"]) / "embedded")
    params = load_params(ROOT / "params.yaml").index.model_copy(update={"build": ("ivf_pq",), "default": "ivf_pq"})
    built = build_indexes(folder / "index", embedded, params, rng=np.random.default_rng(params.seed))
    return {"seconds": built.seconds["ivf_pq"]}


def keep_to_float32(task: Answer) -> None:
    """Where `float32` is asked for, search as on a processor that does not multiply bfloat16."""
    from lib.retrieval import search

    if task.get("float32", False):
        search.bfloat16_pays = lambda n_queries, dim: False


def beside_limit(work: Callable[[], object], *, repeats: int) -> Answer:
    """The least seconds of some calls, and the greatest multiplication rate in between."""
    times, rates = [], [sgemm_gflops()]
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
        rates.append(sgemm_gflops(repeats=2))
    return {"seconds": min(times), "limit": max(rates)}


TASKS = {
    program.__name__: program
    for program in (raw, embed, loop, search, faiss, mine, evaluate, pairs, evaluate_all, index)
}


def main() -> int:
    name, folder = sys.argv[1], Path(sys.argv[2])
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    stage.pin_threads(task["threads"])
    with own_memory() as own:
        answer = TASKS[name](folder, task)
    answer |= {"peak": peak_bytes(), "own": own.peak}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0


def peak_bytes() -> int | None:
    """This program's largest resident memory; `getrusage` would count what started it. None where nothing says it."""
    return memory_of_status("VmHWM:")


def memory_of_status(name: str) -> int | None:
    """Bytes that the kernel states for this process; None where nothing says it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)


class OwnMemory:
    """Largest anonymous memory seen: what the system cannot take back, as it can the pages of a mapped gallery."""

    peak: int | None = None

    def look(self) -> None:
        """Take the present value."""
        now = memory_of_status("RssAnon:")
        if now is not None:
            self.peak = max(now, self.peak or 0)


@contextmanager
def own_memory(interval: float = 0.02) -> Iterator[OwnMemory]:
    """Look every `interval` seconds: the kernel keeps no peak of anonymous memory."""
    seen, ended = OwnMemory(), threading.Event()

    def watch() -> None:
        while not ended.wait(interval):
            seen.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        seen.look()


if __name__ == "__main__":
    sys.exit(main())
