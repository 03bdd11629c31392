"""Retrieval evaluation of one embedded catalogue: gallery = train, queries = validation and test.

`<label>@k` is `metrics.attribute_precision_at_k` over the gallery without the query's own product;
`known_<label>@k` is the same with the gallery restricted to items whose value is known. Besides, by mode:

- `image_to_image`: `hit_rate@k`, `recall@k`, `map@k`, `ndcg@k` by product in the gallery (product-disjoint
  splits have none); `product_hit_rate@1`, `product_recall@k`, `product_map@k`, `product_ndcg@k` by product
  within the query split: each item searches all others of its split, where its product's other items are
  relevant.
- `unseen_gallery` (always measured): the images of one query split search those of the other, so that neither
  backbone nor heads have seen a picture or a label of either side. In the train split they have: what a model
  remembers of single gallery items counts there, as it does for a catalogue in use, and does not count here.
- `fused`: image and caption together, the image weighing `fused_image_weight` in every model, so that models can be
  compared; `fused_learned`: at the weight that the model learnt, skipped for one that learnt none.
- `official` (where the data set brings an official query and gallery part): `official_hit_rate@k`, the literature's
  Recall@k, see `lib.evaluation.official`.
- `text_to_image`: `text_recall@1`, `text_recall@k`: each caption searches the images of its own split, where
  every image with the same caption is relevant: the ceiling is below 1 where captions repeat.

Every metric comes with its number of queries, chance, ceiling and interval, or is skipped with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.base.artifacts import FloatArray
from lib.base.errors import DataError
from lib.base.params import Bootstrap, Evaluate, QueryMode
from lib.embeddings import Embeddings, EmbeddingSet
from lib.evaluation.evaluation import (
    LABELS,
    OFFICIAL,
    PRECISION_NAMES,
    QUERY_SPLITS,
    UNSEEN,
    Evaluation,
    query_table,
)
from lib.evaluation.measure import (
    Codes,
    IntArray,
    Measured,
    column_codes,
    measure_precision,
    measure_rankings,
    summarise,
    summarise_balanced,
)
from lib.evaluation.official import measure_official
from lib.evaluation.probe import linear_probe
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import TopK

Found = dict[str, Measured]
Reasons = dict[str, str]


def evaluate(embedded: EmbeddingSet, params: Evaluate, *, pattern_only: Sequence[str]) -> Evaluation:
    """Measure retrieval in every mode, on validation and test.

    Args:
        embedded: gallery and queries; unknown values are None.
        params: k, modes, weight of the image in `fused` queries, bootstrap.
        pattern_only: categories that say nothing about the category: unknown in category metrics.

    Returns:
        The `Evaluation`. The text modes leave out queries with an empty caption.

    Raises:
        DataError: the gallery is empty.
    """
    gallery, queries = embedded.catalog, embedded.queries
    if not len(gallery):
        raise DataError("the gallery (train split) is empty: nothing to search; check data.splits.train")
    codes = {
        label: column_codes(gallery.meta, queries.meta, column, unknown=pattern_only if label == "category" else ())
        for label, column in LABELS.items()
    }
    products = column_codes(gallery.meta, queries.meta, "product_id")
    metrics: dict[str, Any] = {split: {} for split in QUERY_SPLITS}
    by_category: dict[str, Any] = {split: {} for split in QUERY_SPLITS}
    by_material: dict[str, Any] = {split: {} for split in QUERY_SPLITS}
    skipped: dict[str, dict[str, Reasons]] = {split: {} for split in QUERY_SPLITS}
    tables = []
    tasks: list[tuple[str, QueryMode | Literal["unseen_gallery"]]]
    tasks = [(split, mode) for split in QUERY_SPLITS for mode in (*params.modes, UNSEEN)]
    for split, mode in tqdm(tasks, desc="evaluate", mininterval=1):
        shape: QueryMode = "image_to_image" if mode == UNSEEN else mode
        image_weight = embedded.image_weight if mode == "fused_learned" else params.fused_image_weight
        if image_weight is None:
            skipped[split][mode] = {"*": "this model learnt no weight of the image in fused queries"}
            continue
        rows = _query_rows(queries.meta, split, shape)
        images = query_embeddings(queries, rows, shape, image_weight=image_weight)
        searched, searched_meta = gallery.images, gallery.meta
        own_codes = {label: code.of_queries(rows) for label, code in codes.items()}
        own_products = products.of_queries(rows)
        if mode == UNSEEN:
            others = np.flatnonzero((queries.meta["split"] != split).to_numpy(dtype=bool))
            if not len(others):
                skipped[split][mode] = {"*": "the other query split is empty"}
                continue
            searched = np.ascontiguousarray(queries.images[others])
            searched_meta = queries.meta.iloc[others]
            own_codes = {label: Codes(code.queries[others], code.queries[rows]) for label, code in codes.items()}
            own_products = Codes(products.queries[others], products.queries[rows])
        clusters = own_products.queries
        top, precisions, reasons = _precisions(images, searched, own_codes, own_products, k=params.k)
        rankings: Found = {}
        if mode == "image_to_image":
            for measure in (_by_product_in_gallery, _by_product_in_split):
                found, reason = measure(images, gallery.images, own_products, k=params.k)
                rankings |= found
                reasons |= reason
        if mode == "text_to_image":
            found, reason = _by_caption(images, queries, rows, k=params.k)
            rankings |= found
            reasons |= reason
        metrics[split][mode] = summarise(precisions | rankings, clusters, params.bootstrap)
        if reasons:
            skipped[split][mode] = reasons
        meta = queries.meta.iloc[rows].reset_index(drop=True)
        for label, tree in (("category", by_category), ("material", by_material)):
            values = meta[LABELS[label]].where(own_codes[label].queries >= 0, None)
            tree[split][mode] = _by_class(precisions, values, clusters, params.bootstrap)
        tables.append(query_table(meta, searched_meta, mode, top, precisions | rankings, k=params.k))
    official = measure_official(queries, params.bootstrap)
    if official is not None:
        if official.metrics:
            metrics["test"][OFFICIAL] = official.metrics
        if official.skipped:
            skipped["test"][OFFICIAL] = official.skipped
        if (search := official.search) is not None:
            table = query_table(search.queries, search.gallery, OFFICIAL, search.top, {}, k=params.k)
            tables.append(table.assign(official_rank=search.ranks))
    rng = np.random.default_rng(params.bootstrap.seed)
    probed, balanced, probe_skipped = _probes(embedded, codes, products, rng, params.bootstrap)
    metrics |= {"probe": probed, "balanced_probe": balanced}
    for split, reasons in probe_skipped.items():
        skipped[split]["probe"] = reasons
    skipped = {split: modes for split, modes in skipped.items() if modes}
    return Evaluation(
        metrics=metrics | ({"skipped": skipped} if skipped else {}),
        by_category=by_category,
        by_material=by_material,
        per_query=pd.concat(tables, ignore_index=True),
        k=params.k,
        fingerprint=embedded.fingerprint,
    )


def query_embeddings(queries: Embeddings, rows: IntArray, mode: QueryMode, *, image_weight: float) -> FloatArray:
    """(n, dim) float32 unit rows that stand for some queries in one mode.

    `fused` and `fused_learned` are weight · image + (1 - weight) · text, in float64, scaled to length 1.
    """
    if mode == "image_to_image":
        return np.ascontiguousarray(queries.images[rows])
    if mode == "text_to_image":
        return np.ascontiguousarray(queries.texts[rows])
    images, texts = queries.images[rows].astype(np.float64), queries.texts[rows].astype(np.float64)
    fused = image_weight * images + (1.0 - image_weight) * texts
    lengths = np.linalg.norm(fused, axis=1, keepdims=True)
    # Opposite embeddings cancel out at weight 0.5: such a query falls back to its image.
    fused = np.where(lengths > 1e-6, fused / np.maximum(lengths, 1e-6), images)
    return fused.astype(np.float32)


def _query_rows(meta: pd.DataFrame, split: str, mode: QueryMode) -> IntArray:
    chosen = (meta["split"] == split).to_numpy(dtype=bool)
    if mode != "image_to_image":
        chosen = chosen & meta["caption"].fillna("").str.strip().ne("").to_numpy(dtype=bool)
    return np.flatnonzero(chosen)


def _precisions(
    images: FloatArray, gallery: FloatArray, codes: Mapping[str, Codes], products: Codes, *, k: int
) -> tuple[TopK, Found, Reasons]:
    """Every `<label>@k` and `known_<label>@k` of some queries, from one shared search."""
    masks = {"": np.ones(len(gallery), dtype=np.bool_)}
    masks |= {f"known_{label}": code.gallery >= 0 for label, code in codes.items()}
    tops = exact_top_k(
        images,
        gallery,
        k=k,
        query_products=products.queries,
        gallery_products=products.gallery,
        masks=masks,
    )
    found: Found = {}
    reasons: Reasons = {}
    for name in PRECISION_NAMES:
        mask = name if name.startswith("known_") else ""
        label = codes[name.removeprefix("known_")]
        result = measure_precision(tops[mask], label, products, allowed=masks[mask])
        if isinstance(result, Measured):
            found[f"{name}@{k}"] = result
        else:
            reasons[f"{name}@{k}"] = result
    return tops[""], found, reasons


def _by_product_in_gallery(
    images: FloatArray, gallery: FloatArray, products: Codes, *, k: int
) -> tuple[Found, Reasons]:
    wanted = [(name, k) for name in ("hit_rate", "recall", "map", "ndcg")]
    sizes = np.bincount(products.gallery, minlength=int(products.queries.max(initial=0)) + 1)
    n_relevant = sizes[products.queries]
    if not n_relevant.any():
        reason = "no query's product has an item in the gallery (product-disjoint splits)"
        return {}, {f"{name}@{k}": reason for name, k in wanted}
    top = exact_top_k(images, gallery, k=k)["all"]
    n_allowed = np.full(len(images), len(gallery))
    return measure_rankings(top, products, n_relevant, n_allowed, wanted=wanted), {}


def _by_product_in_split(
    images: FloatArray, gallery: FloatArray, products: Codes, *, k: int
) -> tuple[Found, Reasons]:
    wanted = [("hit_rate", 1), ("recall", k), ("map", k), ("ndcg", k)]
    own = products.queries
    n_relevant = np.bincount(own)[own] - 1 if len(own) else own
    if not n_relevant.any():
        reason = "no product of this split has two items"
        return {}, {f"product_{name}@{k}": reason for name, k in wanted}
    items = np.arange(len(own))
    top = exact_top_k(images, images, k=k, query_products=items, gallery_products=items)["all"]
    n_allowed = np.full(len(own), len(own) - 1)
    found = measure_rankings(top, Codes(own, own), n_relevant, n_allowed, wanted=wanted)
    return {f"product_{name}": metric for name, metric in found.items()}, {}


def _by_caption(texts: FloatArray, queries: Embeddings, rows: IntArray, *, k: int) -> tuple[Found, Reasons]:
    wanted = [("recall", 1), ("recall", k)]
    if not len(rows):
        return {}, {f"text_{name}@{k}": "no query with a caption" for name, k in wanted}
    # Items without a caption are searched too: an image is there whether or not somebody described it.
    split = np.flatnonzero((queries.meta["split"] == queries.meta["split"].iloc[rows[0]]).to_numpy())
    captions = column_codes(queries.meta.iloc[split], queries.meta.iloc[rows], "caption", unknown=("",))
    top = exact_top_k(texts, np.ascontiguousarray(queries.images[split]), k=k)["all"]
    n_relevant = np.bincount(captions.gallery[captions.gallery >= 0])[captions.queries]
    found = measure_rankings(top, captions, n_relevant, np.full(len(rows), len(split)), wanted=wanted)
    return {f"text_{name}": metric for name, metric in found.items()}, {}


def _by_class(
    precisions: Found, values: pd.Series, clusters: IntArray, bootstrap: Bootstrap
) -> dict[str, dict[str, dict[str, float]]]:
    """Precisions over the queries of each class, classes in alphabetical order."""
    table = {}
    for value in sorted(values.dropna().unique()):
        rows = np.flatnonzero((values == value).to_numpy())
        part = {name: metric.of_queries(rows) for name, metric in precisions.items()}
        table[str(value)] = summarise(part, clusters[rows], bootstrap)
    return table


def _probes(
    embedded: EmbeddingSet,
    codes: Mapping[str, Codes],
    products: Codes,
    rng: np.random.Generator,
    bootstrap: Bootstrap,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], dict[str, Reasons]]:
    """Accuracy and balanced accuracy per split and label, and why a label has none."""
    found: dict[str, dict[str, Any]] = {split: {} for split in QUERY_SPLITS}
    balanced: dict[str, dict[str, Any]] = {split: {} for split in QUERY_SPLITS}
    skipped: dict[str, Reasons] = {}
    images = np.asarray(embedded.catalog.images)
    for label, code in tqdm(codes.items(), desc="linear probes", mininterval=1, delay=2):
        held_out, clusters = {}, {}
        for split in QUERY_SPLITS:
            rows = _query_rows(embedded.queries.meta, split, "image_to_image")
            clusters[split] = products.queries[rows]
            held_out[split] = (embedded.queries.images[rows], code.queries[rows])
        probe = linear_probe(images, code.gallery, held_out, rng=rng)
        for split, measured in probe.splits.items():
            numbers = summarise({label: measured}, clusters[split], bootstrap)[label]
            found[split][label] = _renamed(numbers, "accuracy")
            numbers = summarise_balanced(measured, held_out[split][1], clusters[split], bootstrap)
            balanced[split][label] = _renamed(numbers, "balanced_accuracy")
        for split, reason in probe.skipped.items():
            skipped.setdefault(split, {})[label] = reason
    return found, balanced, skipped


def _renamed(numbers: Mapping[str, float], value: str) -> dict[str, float]:
    renamed = {"value": value, "n_queries": "n"}
    return {renamed.get(name, name): number for name, number in numbers.items()}
