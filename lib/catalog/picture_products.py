"""Products behind pairs of photos, and what of the pairs is held out to choose an epoch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lib.base.errors import DataError
from lib.catalog.picture_store import IntArray, PictureTables

BoolArray = npt.NDArray[np.bool_]


def products_of(pairs: IntArray) -> IntArray:
    """A product code per pair: pairs that share a photo, also over others, are of one product.

    >>> products_of(np.array([[7, 1], [7, 2], [8, 2], [9, 3]])).tolist()
    [0, 0, 0, 1]
    """
    if not len(pairs):
        return np.zeros(0, dtype=np.int64)
    _, codes = np.unique(pairs, return_inverse=True)
    ends = codes.reshape(pairs.shape)
    size = int(codes.max()) + 1
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][ends[:, 0]]
    _, start, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(start))  # by first appearance
    return np.asarray(order[inverse], dtype=np.int64)


def held_out(pairs: IntArray, *, fraction: float, rng: np.random.Generator) -> BoolArray:
    """Which pairs validate: whole products, at least one of them, at least one left to learn from.

    Raises:
        DataError: all pairs hang together, so that nothing can be held out.
    """
    products = products_of(pairs)
    n_products = int(products.max(initial=-1)) + 1
    if n_products < 3:
        raise DataError(
            f"two_tower.pairs: the {len(pairs)} pairs are of {n_products} products (pairs that share a photo are of "
            "one); at least 3 are needed: two to learn from and one to validate"
        )
    n_held = min(max(round(fraction * n_products), 1), n_products - 2)
    chosen = np.zeros(n_products, dtype=np.bool_)
    chosen[rng.permutation(n_products)[:n_held]] = True
    return np.asarray(chosen[products])


def validation_gallery(tables: PictureTables, *, limit: int, rng: np.random.Generator) -> IntArray:
    """What a validation searches: the candidates of all pairs, and others drawn from the table up to `limit`.

    What the evaluation asks for is not among them. Sorted picture numbers; the candidates of the pairs are all there,
    however many.
    """
    named = np.unique(tables.pairs[:, 1])
    others = np.setdiff1d(tables.candidates, np.concatenate([named, tables.truths[:, 1]]))
    drawn = rng.permutation(len(others))[: max(limit - len(named), 0)]
    return np.sort(np.concatenate([named, others[drawn]]))
