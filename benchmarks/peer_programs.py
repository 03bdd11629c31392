"""What the peers are asked to do, in their own environment: `python benchmarks/peer_programs.py TASK FOLDER`.

A program of its own that imports nothing of this project but the file that lets torchvision import beside CPU torch
(`make peers` makes the environment from `benchmarks/requirements.txt`). It reads `task.json` from FOLDER and writes
`answer.json` there: seconds without start, loading and warming up, and figures by which the answers are compared.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

PEERS = (
    "clip-retrieval",
    "sentence-transformers",
    "torchmetrics",
    "open-metric-learning",
    "torch",
    "open_clip_torch",
)


def versions(folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    """Versions of the peers that are installed."""
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"seconds": 0.0, "versions": found}


def clip_retrieval(folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    """Its inference worker over a folder of image files; images only, the model loaded and warm before the clock."""
    from all_clip import load_clip
    from clip_retrieval.clip_inference.worker import worker

    model = f"open_clip:ViT-B-32/{task['checkpoint']}"
    # the worker asks for the same model in the same words, and all_clip keeps it
    load_clip(clip_model=model, use_jit=False, warmup_batch_size=task["batch_size"], clip_cache_path=None)
    out = folder / "clip-retrieval"
    out.mkdir(exist_ok=True)
    started = time.perf_counter()
    worker(
        tasks=[0],
        input_dataset=task["images"],
        output_folder=str(out),
        output_partition_count=1,
        batch_size=task["batch_size"],
        num_prepro_workers=task["workers"],
        enable_text=False,
        enable_metadata=False,
        clip_model=model,
        use_jit=False,
    )
    seconds = time.perf_counter() - started
    (written,) = sorted(out.rglob("img_emb*.npy"))
    np.save(folder / "rows.npy", np.load(written).astype(np.float32))
    return {"seconds": seconds}


def sentence_transformers(folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    """`mine_hard_negatives` with a model whose `encode` looks rows up: what it takes without encoding."""
    import torch
    from datasets import Dataset
    from sentence_transformers.util import dot_score, mine_hard_negatives, pairwise_dot_score

    gallery = torch.from_numpy(np.load(Path(task["data"]) / "gallery.npy"))
    anchors, positives = np.load(Path(task["data"]) / "anchors.npy"), np.load(Path(task["data"]) / "positives.npy")

    class Card:
        base_model = "rows"

    class Rows:
        """The part of a SentenceTransformer that mining uses; a text is the number of a row."""

        device = torch.device("cpu")
        model_card_data = Card()
        similarity = staticmethod(dot_score)
        similarity_pairwise = staticmethod(pairwise_dot_score)

        def encode(self, texts: list[str], **options: Any) -> Any:
            found = gallery[[int(text.rpartition(" ")[2]) for text in texts]]
            return found if options.get("convert_to_tensor") else found.numpy()

        encode_query = encode_document = encode

        def get_embedding_dimension(self) -> int:
            return gallery.shape[1]

    corpus = [f"item {row}" for row in range(len(gallery))]
    pairs = Dataset.from_dict(
        {"anchor": [f"query {row}" for row in anchors], "positive": [f"item {row}" for row in positives]}
    )

    def mine(chosen: Any) -> Any:
        return mine_hard_negatives(
            chosen,
            Rows(),
            corpus=corpus,
            range_max=task["depth"],
            relative_margin=0.05,
            num_negatives=task["per_anchor"],
            use_faiss=task["faiss"],
            verbose=False,
        )

    mine(pairs.select(range(min(64, len(pairs)))))
    seconds, mined = best_of(lambda: mine(pairs), repeats=task["repeats"])
    return {"seconds": seconds, "found": len(mined)}


def torchmetrics(folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    """Hit rate and average precision at k, in blocks of queries: it wants a score of every query and item."""
    import torch
    from torchmetrics.retrieval import RetrievalHitRate, RetrievalMAP

    queries, gallery = (
        torch.from_numpy(np.load(Path(task["data"]) / f"{name}.npy")) for name in ("queries", "gallery")
    )
    own, products = (
        torch.from_numpy(np.load(Path(task["data"]) / f"{name}_products.npy")) for name in ("queries", "gallery")
    )
    metrics = {"hit_rate": RetrievalHitRate(top_k=task["k"]), "map": RetrievalMAP(top_k=task["k"])}
    block = 16

    def measure(rows: range) -> dict[str, float]:
        total = dict.fromkeys(metrics, 0.0)
        for start in range(rows.start, rows.stop, block):
            part = slice(start, min(start + block, rows.stop))
            scores = queries[part] @ gallery.T
            indexes = torch.arange(len(scores))[:, None].expand(scores.shape)
            target = products[None, :] == own[part, None]
            for name, metric in metrics.items():
                metric.update(scores.flatten(), target.flatten(), indexes=indexes.flatten())
                total[name] += float(metric.compute()) * len(scores)
                metric.reset()
        return {name: value / len(rows) for name, value in total.items()}

    measure(range(block))
    n = min(task["limited"], len(queries))
    seconds, values = best_of(lambda: measure(range(n)), repeats=task["repeats"])
    return {"seconds": seconds, "n": n, **values}


def open_metric_learning(folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    """Nearest neighbours, CMC (hit rate) and mean average precision at k."""
    import torch
    from oml.functional.knn import batched_knn_qg
    from oml.metrics import calc_retrieval_metrics_rr
    from oml.retrieval import RetrievalResults

    queries, gallery = (
        torch.from_numpy(np.load(Path(task["data"]) / f"{name}.npy")) for name in ("queries", "gallery")
    )
    own, products = (
        torch.from_numpy(np.load(Path(task["data"]) / f"{name}_products.npy")) for name in ("queries", "gallery")
    )

    def measure(n: int) -> dict[str, Any]:
        distances, retrieved, relevant = batched_knn_qg(
            embeddings_query=queries[:n],
            embeddings_gallery=gallery,
            ids_query=None,
            ids_gallery=None,
            labels_query=own[:n],
            labels_gallery=products,
            sequence_ids_query=None,
            sequence_ids_gallery=None,
            top_n=task["k"],
        )
        found = RetrievalResults(distances, retrieved, relevant)
        k = (task["k"],)
        return calc_retrieval_metrics_rr(found, cmc_top_k=k, precision_top_k=(), map_top_k=k, verbose=False)

    measure(16)
    seconds, values = best_of(lambda: measure(len(queries)), repeats=task["repeats"])
    return {"seconds": seconds, "n": len(queries), "hit_rate": float(values["cmc"][task["k"]])}


def best_of(work: Callable[[], Any], *, repeats: int) -> tuple[float, Any]:
    """The least seconds of some calls, and what the last one gave."""
    times, found = [], None
    for _ in range(repeats):
        started = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - started)
    return min(times), found


TASKS = {
    program.__name__: program
    for program in (versions, clip_retrieval, sentence_transformers, torchmetrics, open_metric_learning)
}


def main() -> int:
    name, folder = sys.argv[1], Path(sys.argv[2])
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    _torchvision()
    if name != "versions":
        import torch

        torch.set_num_threads(task["threads"])
    answer = {**TASKS[name](folder, task), "peak": peak_bytes()}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 0


def _torchvision() -> None:
    """Let torchvision import beside a CPU build of torch, by the file that does it for this project."""
    path = Path(__file__).resolve().parent.parent / "lib" / "encoding" / "torchvision_ops.py"
    spec = importlib.util.spec_from_file_location("torchvision_ops", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules["torchvision_ops"] = module
    spec.loader.exec_module(module)


def peak_bytes() -> int | None:
    """This program's largest resident memory; `getrusage` would count what started it. None where nothing says it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


if __name__ == "__main__":
    os.environ.setdefault("WANDB_MODE", "disabled")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
