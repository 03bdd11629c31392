"""Splits of a catalogue that brings an official retrieval protocol: train, query and gallery items.

Query and gallery are the test split, train is divided into train and validation. What belongs together stays
together: items of one product, of one official item, or with the same photo. Where such a tie crosses the border
of the official train part, all of it is test: nothing of a test product may be trained on. The official partition
itself is never changed, so that its protocol stays what it is elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lib.base.errors import ConfigError
from lib.catalog.products import assign_splits
from lib.catalog.schema import Partition, Split


def split_by_partition(
    product_ids: Sequence[str],
    categories: Sequence[str | None],
    *,
    partitions: Sequence[Partition | None],
    partition_items: Sequence[str | None],
    shares: Mapping[str, float],
    seed: int,
) -> list[Split]:
    """Give every item a split, query and gallery items the test split.

    Args:
        product_ids: (n_items,).
        categories: (n_items,) train and validation are stratified by them.
        partitions: (n_items,) official parts; an item without one is treated like a train item.
        partition_items: (n_items,) official item ids.
        shares: of train and validation; their proportion counts, the share of test does not.
        seed: of `assign_splits`.

    Raises:
        ConfigError: the shares of train and validation are both 0.
    """
    total = shares["train"] + shares["validation"]
    if not total > 0:
        raise ConfigError("data.splits: train and validation are both 0; the official test items are not theirs")
    units = _units(product_ids, partition_items)
    asked = {unit for unit, part in zip(units, partitions, strict=True) if part in ("query", "gallery")}
    own = [i for i, unit in enumerate(units) if unit not in asked]
    train = shares["train"] / total
    drawn = assign_splits(
        [units[i] for i in own],
        [categories[i] for i in own],
        {"train": train, "validation": 1.0 - train, "test": 0.0},
        seed,
    )
    splits: list[Split] = ["test"] * len(units)
    for i, split in zip(own, drawn, strict=True):
        splits[i] = split
    return splits


def moved_to_test(splits: Sequence[Split], partitions: Sequence[Partition | None]) -> list[int]:
    """Items of the official train part that stand in the test split.

    >>> moved_to_test(["train", "test", "test"], ["train", "train", "query"])
    [1]
    """
    pairs = zip(splits, partitions, strict=True)
    return [i for i, (split, part) in enumerate(pairs) if split == "test" and part == "train"]


def _units(product_ids: Sequence[str], partition_items: Sequence[str | None]) -> list[str]:
    """Items that share a product or an official item, as the smallest product id of those tied together."""
    codes = {name: code for code, name in enumerate(sorted(set(product_ids)))}
    official = {name: len(codes) + code for code, name in enumerate(sorted({n for n in partition_items if n}))}
    pairs = [(codes[p], official[n]) for p, n in zip(product_ids, partition_items, strict=True) if n]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    size = len(codes) + len(official)
    if not size:
        return []
    edges = coo_array((np.ones(len(pairs), dtype=np.int64), (rows, columns)), shape=(size, size))
    labels = connected_components(edges, directed=False)[1]
    names: dict[int, str] = {}
    for name, code in codes.items():  # in sorted order: the first of a component is its smallest
        names.setdefault(int(labels[code]), name)
    return [names[int(labels[codes[product_id]])] for product_id in product_ids]
