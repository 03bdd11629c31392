"""One search: from what a visitor gives to ranked items with their reasons.

Retrieval is by the chosen model's embeddings, through an index or exactly; re-ranking orders what was retrieved anew.
`compatibility` asks what goes with an item, not what resembles it: it ranks every allowed item of the kinds that go
with the item's kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Protocol

import numpy as np

from lib.base.artifacts import FloatArray
from lib.catalog.partner_kinds import Kind
from lib.embeddings import EmbeddingSet
from lib.retrieval.scores import UNIT, pair_scores
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import TopK
from lib.serving.catalogue import BoolArray, IntArray, ServedCatalogue
from lib.serving.gathering import GatheringIndex, Index
from lib.serving.query import MAX_RESULTS, Answer, BadQuery, Model, Query, Rerank, Result
from lib.serving.query_encoder import QueryEncoder

EXACT = "exact"
RERANKED = 200
"""Items that are retrieved before they are ranked anew."""
VIEWS = 3
"""Rows that are retrieved per product wanted; more are asked for where products have more views."""
CATEGORY_VOTES = 10
"""Nearest items whose most frequent kind is taken for that of a picture from outside."""


class Heads(Protocol):
    """A trained model on top of the backbone's embeddings."""

    def encode_image_numpy(self, x: FloatArray) -> FloatArray:
        """(n, dim) rows of images."""

    def encode_text_numpy(self, x: FloatArray) -> FloatArray:
        """(n, dim) rows of texts."""


class Searcher:
    """Searches one embedded catalogue with one or two models.

    Args:
        catalogue: the items.
        embedded: embeddings by model; `baseline` must be there. Rows as in `catalogue`.
        encoder: the backbone.
        heads: the protocol model, where there is one.
        indexes: by kind, over the embeddings of `index_model`; other models are searched exactly.
        default_index: the kind used when a query names none.
        compatibility: gallery (n_items, out_dim) rows of the compatibility head, and what encodes a query's.
        partners: kinds of items that go with a kind; beside a kind that is not there, all other categories do.
    """

    def __init__(
        self,
        catalogue: ServedCatalogue,
        embedded: Mapping[Model, EmbeddingSet],
        encoder: QueryEncoder,
        *,
        heads: Heads | None = None,
        indexes: Mapping[str, Index] | None = None,
        index_model: Model = "protocol",
        default_index: str = EXACT,
        compatibility: tuple[FloatArray, Callable[[FloatArray], FloatArray]] | None = None,
        partners: Mapping[Kind, Set[Kind]] | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.encoder = encoder
        self._embedded = embedded
        self._heads = heads
        self._indexes = {kind: GatheringIndex(index) for kind, index in (indexes or {}).items()}
        self._index_model = index_model
        self._default_index = default_index
        self._compatibility = compatibility
        self._partners = partners or {}

    @property
    def models(self) -> list[Model]:
        """Models that can be searched with, the default first."""
        return ["protocol", "baseline"] if "protocol" in self._embedded else ["baseline"]

    @property
    def indexes(self) -> list[str]:
        """Kinds of index, the default first."""
        others = [kind for kind in (*self._indexes, EXACT) if kind != self._default_index]
        return [self._default_index, *others]

    @property
    def reranks(self) -> list[Rerank]:
        """Ways of ranking anew."""
        found: list[Rerank] = ["none"]
        if "protocol" in self._embedded:
            found.append("protocol")
        if self._compatibility is not None:
            found.append("compatibility")
        return found

    def dim(self, model: Model) -> int:
        """Length of a model's embeddings."""
        return int(self._embedded[model].catalog.images.shape[1])

    def search(self, query: Query, *, timeout: float = 30.0) -> Answer:
        """Answer a query.

        Raises:
            BadQuery: it cannot be answered as it stands.
            UnknownQuery: no such item, filter or value.
            ImageError, QueueFull, TimeoutError: see `QueryEncoder`.
        """
        self._check(query)
        allowed = self.catalogue.allowed(query.filters)
        partners: BoolArray | None = None
        wanted = self._wanted(query)
        own = self.catalogue.product_rows(query.item) if query.item is not None else np.zeros(0, dtype=np.int64)
        base = self._base_rows(query, timeout)
        needed = query.offset + query.limit + 1
        if query.rerank == "compatibility":
            partners = self._goes_with(query, base)
            partners[own] = False
            allowed &= partners
            ranked, used = self._best_partners(base, allowed), EXACT
        else:
            ranked, used = self._similar(query, base, allowed, own, needed)
        rows, scores = ranked
        if query.one_per_product:
            first = np.unique(self.catalogue.products[rows], return_index=True)[1]
            first.sort()
            rows, scores = rows[first], scores[first]
        part = slice(query.offset, query.offset + query.limit)
        results = [
            Result(
                rank=query.offset + i + 1,
                score=round(float(score), 4),
                item=self.catalogue.describe_row(int(row)),
                matched=self.catalogue.matched(int(row), wanted),
            )
            for i, (row, score) in enumerate(zip(rows[part], scores[part], strict=True))
        ]
        return Answer(
            results=results,
            total=int(allowed.sum()),
            has_more=len(rows) > query.offset + query.limit and query.offset + query.limit < MAX_RESULTS,
            wanted=wanted,
            facets=self.catalogue.facets(query.filters, within=partners),
            model=query.model,
            rerank=query.rerank,
            index=used,
        )

    def _check(self, query: Query) -> None:
        given = [name for name in ("text", "image", "item", "vector") if getattr(query, name) is not None]
        if not given or set(given) - {"text"} == {"image", "item"} or ("vector" in given and len(given) > 1):
            got = " and ".join(given) or "nothing"
            raise BadQuery(f"give a text, a picture or an item (a text beside either), or a vector; got {got}")
        if query.model not in self._embedded:
            raise BadQuery(f"no model '{query.model}' is loaded; there are {', '.join(self.models)}")
        if query.rerank not in self.reranks:
            raise BadQuery(f"no re-ranking '{query.rerank}' is loaded; there are {', '.join(self.reranks)}")
        if query.vector is not None and query.rerank == "protocol" and query.model != "protocol":
            raise BadQuery(f"a vector of model '{query.model}' cannot be ranked anew by 'protocol'; give a picture")
        if query.rerank == "compatibility" and not {"image", "item"} & set(given):
            raise BadQuery("what goes with something needs a picture or an item, not a text or a vector")
        if query.index is not None and query.index not in self.indexes:
            raise BadQuery(f"no index '{query.index}' is loaded; there are {', '.join(self.indexes)}")
        if query.vector is not None:
            dim = self.dim(query.model)
            norm = float(np.linalg.norm(query.vector.astype(np.float64))) if query.vector.shape == (dim,) else 0.0
            if query.vector.shape != (dim,) or not np.isfinite(norm) or norm == 0.0:
                raise BadQuery(
                    f"vector: expected {dim} finite numbers that are not all zero, got shape {query.vector.shape}"
                )

    def _wanted(self, query: Query) -> dict[str, str | None]:
        wanted: dict[str, str | None] = {}
        if query.item is not None:
            known = self.catalogue.describe(query.item)
            wanted = {name: known[name] for name in self.catalogue.facet_names if known[name] is not None}
        if query.text is not None:
            wanted |= self.catalogue.wishes(query.text)
        return wanted

    def _base_rows(self, query: Query, timeout: float) -> dict[str, FloatArray]:
        """The backbone's rows of the query's picture and text, each (1, dim)."""
        rows = {}
        if query.image is not None:
            rows["image"] = self.encoder.image(query.image, timeout=timeout)[None]
        if query.item is not None:
            side, row = self.catalogue.place(query.item)
            rows["image"] = np.array(getattr(self._embedded["baseline"], side).images[row])[None]
        if query.text is not None:
            rows["text"] = self.encoder.text(self.catalogue.as_caption(query.text), timeout=timeout)[None]
        return rows

    def _query_row(self, query: Query, base: Mapping[str, FloatArray], model: Model) -> FloatArray:
        """(1, dim) float32 unit row of the query as a model sees it."""
        if query.vector is not None:
            vector = query.vector.astype(np.float64)
            return (vector / np.linalg.norm(vector)).astype(np.float32)[None]
        rows = dict(base)
        if model == "protocol" and self._heads is not None:
            if "image" in rows:
                rows["image"] = self._heads.encode_image_numpy(rows["image"])
            if "text" in rows:
                rows["text"] = self._heads.encode_text_numpy(rows["text"])
        if len(rows) == 1:
            return next(iter(rows.values()))
        weight = query.image_weight
        if weight is None:
            learnt = self._embedded[model].image_weight
            weight = 0.5 if learnt is None else learnt
        fused = weight * rows["image"].astype(np.float64) + (1.0 - weight) * rows["text"].astype(np.float64)
        length = float(np.linalg.norm(fused))
        return (fused / length).astype(np.float32) if length > 1e-6 else rows["image"]

    def _similar(
        self, query: Query, base: Mapping[str, FloatArray], allowed: BoolArray, own: IntArray, needed: int
    ) -> tuple[tuple[IntArray, FloatArray], str]:
        """Gallery rows with their scores, best first, and the index that found them; `own` is left out."""
        row = self._query_row(query, base, query.model)
        k = RERANKED if query.rerank != "none" else needed * (VIEWS if query.one_per_product else 1)
        while True:
            top, used = self._top(query, row, allowed, min(k + len(own), len(self.catalogue)))
            there = (top.rows[0] >= 0) & ~np.isin(top.rows[0], own)
            rows, scores = top.rows[0][there][:k], top.scores[0][there][:k]
            enough = not query.one_per_product or len(np.unique(self.catalogue.products[rows])) >= needed
            if enough or len(rows) < k:
                break
            k *= 2
        if query.rerank != "none":
            seen = self._query_row(query, base, "protocol")
            scores = pair_scores(seen, self._embedded["protocol"].catalog.images, rows[None], longest=UNIT)[0]
            order = np.lexsort((rows, -scores))
            rows, scores = rows[order], scores[order]
        return (rows, scores), used

    def _top(self, query: Query, row: FloatArray, allowed: BoolArray, k: int) -> tuple[TopK, str]:
        """The best allowed rows. Without a filter there is no mask: searches without one are gathered."""
        kind = query.index or self._default_index
        mask = allowed if query.filters else None
        if kind != EXACT and query.model == self._index_model:
            return self._indexes[kind].search(row, k=k, allowed=mask), kind
        gallery = self._embedded[query.model].catalog.images
        masks = None if mask is None else {"allowed": mask}
        found = exact_top_k(row, gallery, k=k, masks=masks)
        return next(iter(found.values())), EXACT

    def _goes_with(self, query: Query, base: Mapping[str, FloatArray]) -> BoolArray:
        """(n_items,) True for the items of the kinds that go with the query's."""
        if query.item is not None:
            kind = self.catalogue.kind(query.item)
        else:
            near = exact_top_k(base["image"], self._embedded["baseline"].catalog.images, k=CATEGORY_VOTES)["all"]
            kind = self.catalogue.kind_of_rows(near.rows[0][near.rows[0] >= 0])
        partners = self._partners.get(kind)
        return self.catalogue.of_kinds(partners) if partners else ~self.catalogue.of_category(kind[1])

    def _best_partners(self, base: Mapping[str, FloatArray], allowed: BoolArray) -> tuple[IntArray, FloatArray]:
        """Allowed rows with their scores by the compatibility head, best first."""
        if self._compatibility is None:
            raise BadQuery("no compatibility head is loaded")
        gallery, encode = self._compatibility
        k = min(MAX_RESULTS * 4, len(self.catalogue))
        top = exact_top_k(encode(base["image"]), gallery, k=k, masks={"allowed": allowed})["allowed"]
        rows = top.rows[0][top.rows[0] >= 0]
        return rows, top.scores[0][: len(rows)]
