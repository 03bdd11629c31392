"""Training of the compatibility head; reads from top to bottom.

A pair speaks of two products: with `views: product` any of their images stands in for the one that the row names,
which shows the head more pictures than pairs. Every random draw comes from (seed, epoch).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from lib.base.artifacts import FloatArray, write_bytes, write_manifest, write_text
from lib.base.errors import DataError, IntegrityError
from lib.base.params import Compatibility
from lib.embeddings import EmbeddingSet
from lib.training.checkpoint import remove_half_written
from lib.training.compatibility_head import CompatibilityHead, load_head, save_head
from lib.training.heads import seeded_generator
from lib.training.pair_losses import info_nce, triplet

IntArray = npt.NDArray[np.int64]
Embed = Callable[[Sequence[str], int], FloatArray]
"""(item ids, epoch) -> (n, in_dim) float32, unit rows. Epoch 0 is the items as they are; others may be augmented."""
Validate = Callable[[CompatibilityHead], float | None]
CHECKPOINTS = "checkpoints"


def cached_rows(embedded: EmbeddingSet) -> Embed:
    """Items' image embeddings as `embed_catalog` left them, whatever the epoch."""
    sides = (embedded.catalog, embedded.queries)
    indices = [pd.Index(side.meta["item_id"]) for side in sides]

    def rows(item_ids: Sequence[str], epoch: int) -> FloatArray:
        out = np.empty((len(item_ids), sides[0].images.shape[1]), dtype=np.float32)
        found = [index.get_indexer(pd.Index(item_ids)) for index in indices]
        missing = np.flatnonzero(np.all([places < 0 for places in found], axis=0))
        if len(missing):
            raise IntegrityError(f"item '{item_ids[missing[0]]}' has no embedding; run `dvc repro embed_catalog`")
        for side, places in zip(sides, found, strict=True):
            here = np.flatnonzero(places >= 0)
            out[here] = side.images[places[here]]
        return out

    return rows


def train_compatibility(
    pairs: pd.DataFrame,
    items: pd.DataFrame,
    *,
    embed: Embed,
    backbone: str,
    params: Compatibility,
    validate: Validate,
    out: Path,
) -> CompatibilityHead:
    """Train a head and write checkpoints, log and manifest under `out`.

    Args:
        pairs: of the train split, with `a_id`, `b_id` and `label`.
        items: `item_id` and `product_id` of the train split.
        embed: gives items' embeddings.
        backbone: fingerprint of these embeddings.
        params: the section `compatibility`.
        validate: area under the ROC curve on validation pairs, None when they have none; chooses the epoch.
        out: folder to write to: `checkpoints/epoch_NN.pt` and `best.pt`, `train_log.jsonl`, `manifest.json`.

    Returns:
        The head of the best epoch (the earlier one of equals; the last one without validation), as loaded.

    Raises:
        DataError: the pairs are not of both labels.
    """
    batches = PairBatches(pairs, items, params=params)
    shown = embed(batches.item_ids, 0)
    head = CompatibilityHead(
        shown.shape[1],
        params.head_out_dim,
        hidden=params.hidden,
        dropout=params.dropout,
        generator=seeded_generator(params.seed, 0),
    )
    head.standardise(torch.from_numpy(shown))
    optimizer = torch.optim.AdamW(head.parameters(), lr=params.lr_head, weight_decay=params.weight_decay, fused=True)
    _sweep(out / CHECKPOINTS)
    history: list[dict[str, Any]] = []
    for epoch in tqdm(range(1, params.epochs + 1), desc="epochs", mininterval=1, leave=False):
        rows = torch.from_numpy(embed(batches.item_ids, epoch))
        dropout = seeded_generator(params.seed, epoch)
        total, count = torch.zeros(()), 0
        drawn = batches.epoch(np.random.default_rng([params.seed, epoch]))
        for batch in drawn:
            loss = _loss(head, rows, batch, params=params, dropout=dropout)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total, count = total + loss.detach(), count + 1
        found = validate(head)
        logged = {} if found is None else {"validation_auc": round(found, 6)}
        history.append({"epoch": epoch, "loss": round(float(total) / count, 6), **logged})
        save_head(out / CHECKPOINTS / f"epoch_{epoch:02d}.pt", head)
        write_text(out / "train_log.jsonl", "".join(json.dumps(row) + "\n" for row in history))
    return _finish(out, history, in_dim=head.in_dim, backbone=backbone, params=params)


def train_nothing(out: Path, reason: str) -> dict[str, str]:
    """Write what a training leaves, without checkpoints; returns what reports say instead of figures."""
    _sweep(out / CHECKPOINTS)
    (out / CHECKPOINTS / "best.pt").unlink(missing_ok=True)
    write_text(out / "train_log.jsonl", "")
    skipped = {"skipped": reason}
    write_manifest(out, ["train_log.jsonl"], facts=skipped)
    return skipped


class PairBatches:
    """Positive pairs with negatives of their first item, as rows of `item_ids`.

    Attributes:
        item_ids: every item that is shown, in the order of the catalogue.

    Raises:
        DataError: the pairs are not of both labels.
        IntegrityError: a pair names an item that is not among `items`.
    """

    def __init__(self, pairs: pd.DataFrame, items: pd.DataFrame, *, params: Compatibility) -> None:
        counts = [int((pairs["label"] == label).sum()) for label in (1, 0)]
        if not all(counts):
            raise DataError(
                f"compatibility: the train split has {counts[0]} pairs that go together and {counts[1]} that do not; "
                "both are needed. Add pairs whose items are both in the train split"
            )
        self._params = params
        named = pd.Index(items["item_id"])
        # what a pair speaks of: a product, or an item alone
        groups = pd.factorize(items["product_id" if params.views == "product" else "item_id"])[0]
        places = [named.get_indexer(pd.Index(pairs[column])) for column in ("a_id", "b_id")]
        if min(map(np.min, places)) < 0:
            raise IntegrityError(
                "compatibility: a pair of the train split names an item that is not in it; run `dvc repro`"
            )
        a, b = (groups[place] for place in places)
        used, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
        both = np.asarray(codes, dtype=np.int64).reshape(2, -1).T
        is_positive = pairs["label"].to_numpy() == 1
        self._positives = both[is_positive]
        negatives = np.concatenate([both[~is_positive], both[~is_positive][:, ::-1]])
        self._negatives = _Lists.of(negatives[:, 0], negatives[:, 1], len(used))
        shown = np.flatnonzero(np.isin(groups, used))
        self.item_ids = items["item_id"].to_numpy()[shown].tolist()
        self._views = _Lists.of(np.searchsorted(used, groups[shown]), np.arange(len(shown)), len(used))

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[IntArray, IntArray, IntArray, npt.NDArray[np.bool_]]]:
        """Every positive pair once, in random order, either item first.

        Yields:
            Rows of anchors (n,), positives (n,) and candidates (n, k), and which of the candidates count (n, k):
            `neg_pool_ratio` per anchor on average, drawn from the anchor's own labelled negatives. An anchor that
            has none draws from those of others, which are assumed not to go with it.
        """
        order = rng.permutation(len(self._positives))
        turned = rng.random(len(order)) < 0.5
        positives = np.where(turned[:, None], self._positives[order][:, ::-1], self._positives[order])
        ratio = self._params.neg_pool_ratio
        for start in range(0, len(order), self._params.batch_size):
            anchors, others = positives[start : start + self._params.batch_size].T
            # a ratio of 2.5 gives half of the anchors two candidates and the others three
            counts = np.diff(np.floor(ratio * np.arange(len(anchors) + 1) + 1e-9)).astype(np.int64)
            allowed = np.arange(max(int(np.ceil(ratio)), 1)) < counts[:, None]
            candidates = self._negatives.draw(np.repeat(anchors[:, None], allowed.shape[1], axis=1), rng)
            yield (*(self._views.draw(part, rng) for part in (anchors, others, candidates)), allowed)


class _Lists:
    """Lists of numbers, one after the other in an array."""

    def __init__(self, values: IntArray, starts: IntArray, lengths: IntArray) -> None:
        self._values, self._starts, self._lengths = values, starts, lengths

    @classmethod
    def of(cls, keys: IntArray, values: IntArray, n_lists: int) -> _Lists:
        """List `k` holds the values whose key is `k`, in order."""
        order = np.argsort(keys, kind="stable")
        lengths = np.bincount(keys, minlength=n_lists).astype(np.int64)
        return cls(values[order], np.cumsum(lengths) - lengths, lengths)

    def draw(self, lists: IntArray, rng: np.random.Generator) -> IntArray:
        """One value of each of these lists, at random; of an empty list, any value of any list."""
        chance, lengths = rng.random(lists.shape), self._lengths[lists]
        own = self._starts[lists] + (chance * lengths).astype(np.int64)
        return self._values[np.where(lengths > 0, own, (chance * len(self._values)).astype(np.int64))]


def _loss(
    head: CompatibilityHead,
    rows: Tensor,
    batch: tuple[IntArray, IntArray, IntArray, npt.NDArray[np.bool_]],
    *,
    params: Compatibility,
    dropout: torch.Generator,
) -> Tensor:
    anchors, positives, candidates, allowed = (torch.from_numpy(part) for part in batch)
    n, k = candidates.shape
    encoded = head(rows[torch.cat([anchors, positives, candidates.flatten()])], dropout)
    a, p, c = encoded[:n], encoded[n : 2 * n], encoded[2 * n :].view(n, k, -1)
    # n: anchors, k: candidates of each, e: embedding axis
    positive, negatives = torch.einsum("ne,ne->n", a, p), torch.einsum("ne,nke->nk", a, c)
    if params.loss == "triplet":
        return triplet(positive, negatives, allowed, margin=params.margin)
    return info_nce(positive, negatives, allowed, temperature=params.temperature)


def _sweep(folder: Path) -> None:
    """Remove what an earlier run left, also half written: it would become part of the out."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_half_written(folder)
    for stale in sorted(folder.glob("epoch_*.pt")):
        stale.unlink()


def _finish(
    out: Path, history: list[dict[str, Any]], *, in_dim: int, backbone: str, params: Compatibility
) -> CompatibilityHead:
    """best.pt as a copy of its epoch's checkpoint, and the manifest."""
    best = (
        max(history, key=lambda row: float(row["validation_auc"])) if "validation_auc" in history[-1] else history[-1]
    )
    folder = out / CHECKPOINTS
    write_bytes(folder / "best.pt", (folder / f"epoch_{best['epoch']:02d}.pt").read_bytes())
    names = [f"{CHECKPOINTS}/epoch_{row['epoch']:02d}.pt" for row in history]
    facts = {
        "backbone": backbone,
        "in_dim": in_dim,
        "out_dim": params.head_out_dim,
        "best_epoch": best["epoch"],
        "params": params.model_dump(mode="json"),
    }
    write_manifest(out, [*names, f"{CHECKPOINTS}/best.pt", "train_log.jsonl"], facts=facts)
    return load_head(folder / "best.pt", in_dim=in_dim, backbone=backbone)
