"""How much of a text's help is the label read back.

Attribute values are partly read from the very texts that are embedded, and the caption names all of them first. A
query that holds a text can then answer "does the neighbour have this neckline?" by reading. Every figure is
therefore measured twice: with the captions as they are, and with captions composed again in which nothing names the
attribute (`lib.catalog.masking`). The difference is the *leak*; what the masked texts still add to the images is
what texts help *beyond* the label. Both are paired by query.

Conventions are those of `lib.evaluation.evaluate`: gallery = train, queries = validation with a known value, the
query's product left out, an unknown neighbour is no match. Queries without a caption are left out throughout, so that
all figures speak of the same queries. In fused searches an item without a caption, or with nothing left of it, is its
image alone; text searches leave out gallery items without a caption, and what has nothing left is the empty text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.base.params import Bootstrap, QueryMode
from lib.catalog.attributes import AttributeSchema
from lib.catalog.schema import SOURCED
from lib.embeddings import EmbeddingSet
from lib.evaluation.bootstrap import clustered_intervals
from lib.evaluation.evaluation import LABELS
from lib.evaluation.measure import BoolArray, Codes, IntArray, Measured, column_codes, measure_precision, rounded
from lib.evaluation.metrics import count_allowed
from lib.evaluation.text_sides import TextEncoder, TextSide, mask_sides, side_of
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import TopK

SPLIT = "validation"
MAX_GALLERY = 1_500
"""Gallery items at most, in whole products: each text is masked and embedded once per attribute."""
MAX_QUERIES = 400
MIN_PRODUCTS = 10
"""Query products below which an interval says nothing: of four equal differences it has width zero."""

SEARCHES: Mapping[str, tuple[QueryMode, QueryMode]] = {
    "image_to_image": ("image_to_image", "image_to_image"),
    "fused_to_image": ("fused", "image_to_image"),
    "fused_to_fused": ("fused", "fused"),
    "text_to_image": ("text_to_image", "image_to_image"),
    "text_to_text": ("text_to_image", "text_to_image"),
}
"""Search -> what stands for a query and for a gallery item, in the words of `query_embeddings`.

`fused_to_image` is what the evaluation calls `fused`: its gallery of images holds no words, but the query does.
"""
WITH_TEXT = tuple(name for name in SEARCHES if name != "image_to_image")
SOURCES = ("column", "text")


def measure_leakage(
    embedded: EmbeddingSet,
    rows: pd.DataFrame,
    encoder: TextEncoder,
    schema: AttributeSchema,
    *,
    pattern_only: Sequence[str],
    k: int,
    image_weight: float,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Measure every attribute with and without the words that name it.

    Args:
        embedded: the embedded catalogue.
        rows: its processed rows with all their string columns, in any order.
        encoder: what embedded its captions.
        schema: what its texts were read with.
        pattern_only: categories that say nothing about the category.
        k: results per query.
        image_weight: weight of the image in fused embeddings.
        bootstrap: resamples and seed; the seed also draws gallery products and queries where there are
            more items than `MAX_GALLERY` and `MAX_QUERIES`.

    Returns:
        `{"split", "k", "image_weight", "n_queries", "n_gallery", "gallery_items", "attributes"}`, where
        `n_gallery` of `gallery_items` are searched. An attribute has `masked_queries` and `masked_gallery`
        (captions that named it; of the queries, those whose value is known) and the groups `all`, `column` and
        `text` (where the query's value came from), each with `n_queries`, `n_products` and per search of
        `SEARCHES` its `value` and `chance`, and for those with a text `masked`, `leak` (value - masked) with its
        95 % interval `leak_low`, `leak_high`, and `beyond` (masked - image_to_image) with `beyond_low`,
        `beyond_high`. What cannot be said is a string `skipped: reason`, at the level where that is so. Where no
        caption names an attribute, `leak` is such a string.

    Raises:
        IntegrityError: an embedded item is not among the rows.
    """
    rng = np.random.default_rng(bootstrap.seed)
    gallery = side_of(embedded.catalog, rows)
    gallery = gallery.of_rows(_sample_products(gallery.rows["product_id"], MAX_GALLERY, rng))
    queries = side_of(embedded.queries.of_split(SPLIT), rows)
    products = column_codes(gallery.rows, queries.rows, "product_id")
    n_allowed = count_allowed(products.queries, products.gallery, gallery.captioned)
    usable = np.flatnonzero(queries.captioned & (n_allowed > 0))
    asked = usable[_sample(len(usable), MAX_QUERIES, rng)]
    audit = _Audit(
        queries=queries.of_rows(asked),
        gallery=gallery,
        products=products.of_queries(asked),
        encoder=encoder,
        schema=schema,
        pattern_only=tuple(pattern_only),
        k=k,
        image_weight=image_weight,
        bootstrap=bootstrap,
    )
    reason = f"no query of the {SPLIT} split has a caption and a captioned item of another product to find"
    return {
        "split": SPLIT,
        "k": k,
        "image_weight": image_weight,
        "n_queries": len(asked),
        "n_gallery": len(gallery),
        "gallery_items": len(embedded.catalog),
        "attributes": {
            label: audit.of_label(label) if len(asked) else f"skipped: {reason}"
            for label in tqdm(LABELS, desc="text leakage", mininterval=1, delay=2)
        },
    }


@dataclass(frozen=True)
class _Audit:
    queries: TextSide
    gallery: TextSide
    products: Codes
    encoder: TextEncoder
    schema: AttributeSchema
    pattern_only: tuple[str, ...]
    k: int
    image_weight: float
    bootstrap: Bootstrap

    @cached_property
    def _plain(self) -> dict[str, TopK]:
        """Every search of all queries, with the captions as they are."""
        return {name: self._search(name, self.queries, self.gallery, self.products) for name in SEARCHES}

    def of_label(self, label: str) -> dict[str, Any] | str:
        """The entry of one attribute, see `measure_leakage`."""
        unknown = self.pattern_only if label == "category" else ()
        codes = column_codes(self.gallery.rows, self.queries.rows, LABELS[label], unknown=unknown)
        known = np.flatnonzero(codes.queries >= 0)
        if not len(known) or not (codes.gallery >= 0).any():
            return f"skipped: no {'gallery item' if len(known) else 'query'} with a known value"
        if len(np.unique(np.concatenate([codes.queries[known], codes.gallery[codes.gallery >= 0]]))) < 2:
            return "skipped: only one value is known, nothing to tell apart"
        queries, products = self.queries.of_rows(known), self.products.of_queries(known)
        codes = codes.of_queries(known)
        tops = {name: TopK(top.rows[known], top.scores[known]) for name, top in self._plain.items()}
        plain = self._precisions(tops, codes, products)
        (queries, n_queries), (gallery, n_gallery) = mask_sides(
            (queries, self.gallery),
            label,
            encoder=self.encoder,
            schema=self.schema,
            pattern_only=self.pattern_only,
        )
        masked = {}
        if n_queries or n_gallery:
            tops = {name: self._search(name, queries, gallery, products) for name in WITH_TEXT}
            masked = self._precisions(tops, codes, products)
        source = queries.rows[f"{label}_source"].to_numpy() if label in SOURCED else np.full(len(known), "column")
        groups = {"all": np.arange(len(known))} | {name: np.flatnonzero(source == name) for name in SOURCES}
        return {"masked_queries": n_queries, "masked_gallery": n_gallery} | {
            name: self._group(members, plain, masked, products.queries[members]) for name, members in groups.items()
        }

    def _search(self, name: str, queries: TextSide, gallery: TextSide, products: Codes) -> TopK:
        asked, searched = SEARCHES[name]
        return exact_top_k(
            queries.embeddings(asked, self.image_weight),
            gallery.embeddings(searched, self.image_weight),
            k=self.k,
            query_products=products.queries,
            gallery_products=products.gallery,
            masks={name: self._allowed(name)},
        )[name]

    def _allowed(self, name: str) -> BoolArray:
        """Gallery items that a search may return: by their own caption, whether or not masking emptied it."""
        captioned = self.gallery.captioned
        return captioned if SEARCHES[name][1] == "text_to_image" else np.ones_like(captioned)

    def _precisions(self, tops: Mapping[str, TopK], codes: Codes, products: Codes) -> dict[str, Measured]:
        found = {}
        for name, top in tops.items():
            measured = measure_precision(top, codes, products, allowed=self._allowed(name))
            if isinstance(measured, Measured):  # always: values are known on both sides
                found[name] = measured
        return found

    def _group(
        self, members: IntArray, plain: Mapping[str, Measured], masked: Mapping[str, Measured], clusters: IntArray
    ) -> dict[str, Any] | str:
        if not len(members):
            return "skipped: no query's value came from there"
        n_products = len(np.unique(clusters))
        if n_products < MIN_PRODUCTS:
            return f"skipped: {len(members)} queries of {n_products} products, an interval needs {MIN_PRODUCTS}"
        group: dict[str, Any] = {"n_queries": len(members), "n_products": n_products}
        for name, measured in plain.items():
            part = measured.of_queries(members)
            group[name] = {"value": rounded(part.value.mean()), "chance": rounded(part.chance.mean())}
        if not masked:
            for name in WITH_TEXT:
                group[name]["leak"] = "skipped: no caption names it"
            return group
        image = plain["image_to_image"].value
        leaks = [(plain[name].value - masked[name].value)[members] for name in WITH_TEXT]
        beyond = [(masked[name].value - image)[members] for name in WITH_TEXT]
        rng = np.random.default_rng(self.bootstrap.seed)
        differences = np.column_stack(leaks + beyond)
        ends = clustered_intervals(differences, clusters, resamples=self.bootstrap.resamples, rng=rng)
        for place, name in enumerate(WITH_TEXT):
            group[name]["masked"] = rounded(masked[name].value[members].mean())
            for kind, column in (("leak", place), ("beyond", place + len(WITH_TEXT))):
                group[name] |= {
                    kind: rounded(differences[:, column].mean()),
                    f"{kind}_low": rounded(ends.low[column]),
                    f"{kind}_high": rounded(ends.high[column]),
                }
        return group


def _sample_products(products: pd.Series, wanted: int, rng: np.random.Generator) -> IntArray:
    """Sorted rows of whole products, drawn until there are as many as wanted, or a few more; views share a text."""
    codes, names = pd.factorize(products)
    order = rng.permutation(len(names))
    before = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(names))[order])[:-1]])
    return np.flatnonzero(np.isin(codes, order[before < wanted]))


def _sample(n: int, wanted: int, rng: np.random.Generator) -> IntArray:
    """Sorted rows of a sample without replacement; all rows when there are not more than wanted."""
    return np.sort(rng.choice(n, size=min(n, wanted), replace=False)).astype(np.int64)
