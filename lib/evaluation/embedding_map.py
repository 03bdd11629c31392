"""A two-dimensional map of both models' embeddings, and how far a map may be believed.

Drawn are images of the test split: nothing was trained on them and nothing was chosen by them. A map is t-SNE (van
der Maaten and Hinton 2008) of the principal components. Both models start from the baseline's first two components,
and the protocol's finished map is turned (never stretched) onto the baseline's, so that an item keeps its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import threadpoolctl
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

from lib.base.artifacts import FloatArray
from lib.base.errors import IntegrityError
from lib.base.params import EmbeddingMap
from lib.embeddings import Embeddings
from lib.evaluation.evaluation import LABELS
from lib.evaluation.measure import Codes, column_codes, measure_precision, rounded
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import IntArray, TopK

Places = npt.NDArray[np.float64]

SPLIT = "test"
NEIGHBOURS = 10
MIN_ITEMS = 30
"""Fewer items are no map."""
COMPONENTS = 50
ITERATIONS = 500
"""Half of t-SNE's default and half the time; whether they suffice, the trustworthiness says."""


@dataclass(frozen=True)
class ModelMap:
    """One model's map.

    Attributes:
        places: (n_items, 2) in 0…1, the longer side of the map filling it.
        neighbours: (n_items, `NEIGHBOURS`) rows of the nearest drawn items of other products by the full embeddings,
            nearest first; -1 where there are fewer.
    """

    places: Places
    neighbours: IntArray


@dataclass(frozen=True)
class DrawnMaps:
    """Everything to show.

    Attributes:
        items: n_items rows with `item_id` and the columns of `LABELS`; `None` is unknown.
        maps: model -> its map, the baseline first.
        figures: `{"n_items", "models": {model: {"trustworthiness", "neighbours_kept"}}, "labels": {label:
            {"n_items", "chance", model: {"embedding", "map"}}}}`, all fractions; see `map_embeddings`.
    """

    items: pd.DataFrame
    maps: Mapping[str, ModelMap]
    figures: dict[str, Any]


def map_embeddings(
    baseline: Embeddings, protocol: Embeddings, *, params: EmbeddingMap, pattern_only: Sequence[str]
) -> DrawnMaps:
    """Draw the same test items once per model and measure both maps.

    Figures: `trustworthiness` (Venna and Kaski 2001) falls below 1 where the map makes neighbours of items that are
    none; `neighbours_kept` is the mean share of an item's nearest ones that are nearest on the map as well. Per
    label, `embedding` is `<label>@10` among the drawn items (the item's own product left out, unknown is no match),
    and `map` is the same with neighbours taken from the map. Everything runs on one thread: t-SNE adds up its forces
    in an order that depends on the number of threads.

    Args:
        baseline: the queries embedded by the frozen backbone.
        protocol: the same queries embedded by the trained model.
        params: items at most, perplexity, seed.
        pattern_only: categories that say nothing about the category: unknown in the figures.

    Returns:
        The maps; with fewer than `MIN_ITEMS` test items no item is drawn and `figures` says `skipped`.

    Raises:
        IntegrityError: the two sides are not of the same items.
    """
    parts = {"baseline": baseline.of_split(SPLIT), "protocol": protocol.of_split(SPLIT)}
    ids = [part.meta["item_id"].tolist() for part in parts.values()]
    if ids[0] != ids[1]:
        raise IntegrityError("the two models embedded different items; run `dvc repro`")
    meta = parts["baseline"].meta
    rng = np.random.default_rng(params.seed)
    rows = np.sort(rng.permutation(len(meta))[: params.items])
    items = meta[["item_id", "product_id", *LABELS.values()]].iloc[rows].reset_index(drop=True)
    if len(rows) < MIN_ITEMS:
        reason = f"{len(rows)} test items to draw; a map needs {MIN_ITEMS}"
        return DrawnMaps(items.iloc[:0], {}, {"n_items": 0, "skipped": reason})
    products = column_codes(items, items, "product_id")
    codes = {
        label: column_codes(items, items, column, unknown=pattern_only if label == "category" else ())
        for label, column in LABELS.items()
    }
    maps: dict[str, ModelMap] = {}
    figures: dict[str, Any] = {"n_items": len(rows), "models": {}, "labels": {}}
    start = np.zeros((len(rows), 2))
    with threadpoolctl.threadpool_limits(1):
        for name, part in parts.items():
            images = np.ascontiguousarray(part.images[rows])
            components = _components(images)
            start = start if maps else components[:, :2]  # the baseline's, for both
            places = _places(components, start, params)
            if maps:
                places = _turned(places, maps["baseline"].places)
            near = _nearest(images, products)
            near_on_map = _nearest_on_map(places, products)
            maps[name] = ModelMap(places, near.rows)
            figures["models"][name] = {
                "trustworthiness": rounded(trustworthiness(images, places, n_neighbors=NEIGHBOURS)),
                "neighbours_kept": rounded(_kept(near.rows, near_on_map.rows)),
            }
            for label, code in codes.items():
                measured = [_share(top, code, products) for top in (near, near_on_map)]
                if measured[0]:
                    entry = figures["labels"].setdefault(label, {k: measured[0][k] for k in ("n_items", "chance")})
                    entry[name] = {kind: m["value"] for kind, m in zip(("embedding", "map"), measured, strict=True)}
    return DrawnMaps(items, maps, figures)


def _components(images: FloatArray) -> Places:
    """(n, at most 50) principal components; the solver that draws no random numbers."""
    count = min(COMPONENTS, len(images) - 1, images.shape[1])
    if (images == images[0]).all():  # a collapsed model: scikit-learn would divide by its variance
        return np.zeros((len(images), max(count, 2)))
    found: Places = PCA(count, svd_solver="full").fit_transform(np.asarray(images, dtype=np.float64))
    return found if count > 1 else np.pad(found, ((0, 0), (0, 1)))


def _places(components: Places, start: Places, params: EmbeddingMap) -> Places:
    """(n, 2) t-SNE of principal components from given places, in 0…1."""
    spread = start[:, 0].std()
    tsne = TSNE(
        2,
        perplexity=min(params.perplexity, (len(components) - 1) / 3),
        init=(1e-4 * start / (spread if spread > 0 else 1.0)).astype(np.float32),
        max_iter=ITERATIONS,
        random_state=params.seed,
        n_jobs=1,
    )
    return _fitted(tsne.fit_transform(components.astype(np.float32)).astype(np.float64))


def _turned(places: Places, onto: Places) -> Places:
    """Places rotated or mirrored so that they lie as near to others as they can."""
    mine, theirs = places - places.mean(axis=0), onto - onto.mean(axis=0)
    rotation, _ = orthogonal_procrustes(mine, theirs)
    return _fitted(mine @ rotation)


def _fitted(places: Places) -> Places:
    """Places moved and scaled into 0…1, to four decimals."""
    low, high = places.min(axis=0), places.max(axis=0)
    side = float((high - low).max())
    middle = (low + high) / 2
    scaled = (places - middle) / side if side > 0 else np.zeros_like(places)
    return np.asarray(np.round(scaled + 0.5, 4), dtype=np.float64)


def _nearest(images: FloatArray, products: Codes) -> TopK:
    return exact_top_k(
        images, images, k=NEIGHBOURS, query_products=products.queries, gallery_products=products.gallery
    )["all"]


def _nearest_on_map(places: Places, products: Codes) -> TopK:
    """As `_nearest`, by distance on the map; ties to the earlier row."""
    distances = ((places[:, None, :] - places[None, :, :]) ** 2).sum(axis=2)
    distances[products.queries[:, None] == products.gallery[None, :]] = np.inf
    rows = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS].astype(np.int64)
    found = np.take_along_axis(distances, rows, axis=1)
    return TopK(np.where(np.isinf(found), -1, rows), -found)


def _kept(near: IntArray, near_on_map: IntArray) -> float:
    """Mean share of the nearest items that are among the nearest on the map."""
    both = ((near[:, :, None] == near_on_map[:, None, :]) & (near >= 0)[:, :, None]).any(axis=2).sum(axis=1)
    counts = (near >= 0).sum(axis=1)
    return float((both / np.maximum(counts, 1))[counts > 0].mean()) if counts.any() else 0.0


def _share(top: TopK, code: Codes, products: Codes) -> dict[str, float]:
    """`<label>@10` of some neighbours; empty when nobody knows the label."""
    measured = measure_precision(top, code, products, allowed=np.ones(len(code.gallery), dtype=np.bool_))
    if isinstance(measured, str):
        return {}
    counted = ~np.isnan(measured.value)
    return {
        "n_items": int(counted.sum()),
        "chance": rounded(np.nanmean(measured.chance)),
        "value": rounded(np.nanmean(measured.value)),
    }
