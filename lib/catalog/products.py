"""Products: which items show one and the same thing, and which split each product goes to.

Keys are taken at any confidence, because two views of a product on either side of a split would leak;
`build_groups` judges later which ties are good enough to train on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lib.base.errors import ConfigError
from lib.catalog.columns import TextColumn, text_column
from lib.catalog.schema import PRODUCT_KEYS, SPLITS, ProductKey, Split

IntArray = npt.NDArray[np.int64]

LINKING_KEYS: tuple[ProductKey, ...] = PRODUCT_KEYS[:-1]
MAX_DERIVED = 50
"""A derived key value that more items share is no product but a naming scheme (`SHIRT-1` … `SHIRT-99`)."""

_VIEW_WORDS = (
    "front|back|side|full|detail|details|flat|additional|left|right|top|bottom|model|zoom|closeup|close[_-]?up|"
    "swatch|main|hover|worn|packshot|look|alt"
)
_VIEW_SUFFIX = re.compile(
    rf"(?:[_-]\d{{1,2}})?[_-](?:{_VIEW_WORDS})(?:[_-]?\d{{1,2}})?$"  # _front, _1_front, -detail2
    r"|[_-](?:view|v|img|image|photo|pic|angle|shot)[_-]?\d{1,2}$"  # _view1, -v2
    r"|[_-][a-h]$"  # _A
    r"|[_-]\d{1,2}$",  # -3
    re.IGNORECASE,
)
_MIN_STEM = 3


@dataclass(frozen=True)
class Grouping:
    """Products of a catalogue.

    Attributes:
        product_ids: (n_items,) readable and distinct between products.
        keys: (n_items,) the weakest key on the way that ties the item to the core of its product.
        ignored: (key, value, number of items) that too many items share.
    """

    product_ids: list[str]
    keys: list[ProductKey]
    ignored: tuple[tuple[ProductKey, str, int], ...]


def id_stem(item_id: str) -> str:
    """An item id without its view suffix; the id itself where nothing is left or nothing is to remove.

    >>> [id_stem(i) for i in ("S00412_view1", "S01200_A", "S00731_front", "S00044-1", "id_00002558_02_1_front")]
    ['S00412', 'S01200', 'S00731', 'S00044', 'id_00002558_02']
    """
    stem = _VIEW_SUFFIX.sub("", item_id, count=1)
    return stem if len(stem) >= _MIN_STEM else item_id


def url_stem(url: str) -> str | None:
    """Host and path of an image address without query, file ending and view suffix; None where it has no path.

    >>> url_stem("https://img.shop.example/p/S00412_front.jpg?w=300")
    'img.shop.example/p/S00412'
    """
    try:
        parts = urlsplit(url.strip())
        path = PurePosixPath(parts.path)
        return f"{parts.netloc}{path.with_name(id_stem(path.stem))}" if parts.path.strip("/") else None
    except ValueError:  # brackets or a wide colon in the host, a path that ends in a dot: no address of a photo
        return None


def compile_sku_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """Compile `data.sku_pattern`.

    Raises:
        ConfigError: it is no regular expression, or has not exactly one group.
    """
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"data.sku_pattern: not a regular expression ({error}); got {pattern!r}") from None
    if compiled.groups != 1:
        raise ConfigError(
            f"data.sku_pattern: expected exactly one group around the SKU, got {compiled.groups}: {pattern!r}; "
            "write (?:…) for groups that only bracket"
        )
    return compiled


def find_sku(pattern: re.Pattern[str] | None, *places: str | None) -> str | None:
    """The SKU in the first place that has one: item id, then image name, then text."""
    for place in places:
        match = pattern.search(place) if pattern is not None and place else None
        if match and match.group(1):
            return match.group(1)
    return None


def group_products(item_ids: Sequence[str] | TextColumn, keys: Mapping[ProductKey, Sequence[str | None]]) -> Grouping:
    """Tie items that share any key value into products (connected components).

    Args:
        item_ids: distinct, n_items of them.
        keys: per kind of key, a value or None for each item.

    Returns:
        The products. A value shared by more than `MAX_DERIVED` items (for a given column or SKU: by more than
        1 % of the items as well) is ignored and reported. An empty catalogue gives an empty grouping.
    """
    n_items = len(item_ids)
    columns = {kind: text_column(values) for kind, values in keys.items()}
    ignored: list[tuple[ProductKey, str, int]] = []
    levels: list[IntArray] = []
    items: list[IntArray] = [np.zeros(0, dtype=np.int64)]
    values: list[IntArray] = [np.zeros(0, dtype=np.int64)]
    n_values = 0
    for kind in LINKING_KEYS:
        limit = max(MAX_DERIVED, n_items // 100) if kind in ("column", "sku") else MAX_DERIVED
        if kind in columns:
            codes = columns[kind].codes()
            counts = np.bincount(codes[codes >= 0])
            for code in np.flatnonzero(counts > limit).tolist():
                first = int((codes == code).argmax())
                ignored.append((kind, str(columns[kind][first]), int(counts[code])))
            ties = (counts > 1) & (counts <= limit)
            numbers = n_items + n_values + np.cumsum(ties) - 1
            members = np.flatnonzero((codes >= 0) & np.append(ties, False)[codes])
            items.append(members)
            values.append(numbers[codes[members]])
            n_values += int(ties.sum())
        levels.append(_components(n_items, np.concatenate(items), np.concatenate(values), n_values))
    final = levels[-1]
    core = _cores(levels, final)
    kinds: list[ProductKey] = ["single"] * n_items
    for kind, labels in reversed(list(zip(LINKING_KEYS, levels, strict=True))):
        tied = np.bincount(labels)[labels] > 1 if n_items else labels == 0
        for item in np.flatnonzero(tied & (labels == labels[core[final]])):
            kinds[item] = kind
    return Grouping(_name_products(text_column(item_ids), columns, final, ignored), kinds, tuple(ignored))


def assign_splits(
    product_ids: Sequence[str], categories: Sequence[str | None], shares: Mapping[str, float], seed: int
) -> list[Split]:
    """Give every item the split of its product; products never straddle splits.

    Within a category, products are ordered by a hash of seed and id and cut by systematic sampling:
    product `rank` of `n` goes where `(rank + u) / n` falls in the cumulative shares, `u` being a hash of the
    category. So shares hold in every category, and a few new products move few old ones.

    Args:
        product_ids: (n_items,).
        categories: (n_items,) a product's category is its most frequent one, the first by name on ties.
        shares: of train, validation and test; they add up to 1.
        seed: of the hashes; the same on every machine.
    """
    named = text_column(product_ids)
    products = named.codes()
    first = np.unique(products, return_index=True)[1]  # a product's first item; products in order of appearance
    names = sorted({category for category in categories if category})
    place = {name: number for number, name in enumerate(names)}
    category = np.fromiter((place[c] if c else -1 for c in categories), dtype=np.int64, count=len(products))
    votes, counts = np.unique(products[category >= 0] * len(names) + category[category >= 0], return_counts=True)
    voted, choice = np.divmod(votes, max(len(names), 1))
    order = np.lexsort((choice, -counts, voted))
    winners = order[np.unique(voted[order], return_index=True)[1]]
    stratum = np.full(len(first), -1, dtype=np.int64)
    stratum[voted[winners]] = choice[winners]
    hashes = np.fromiter((_hash(seed, "product", str(named[item])) for item in first), np.uint64, len(first))
    ranks = named.ranks()[first]
    bounds = np.cumsum([shares[split] for split in SPLITS])[:-1]
    codes = np.zeros(len(first), dtype=np.int64)
    for number in np.unique(stratum).tolist():
        members = np.flatnonzero(stratum == number)
        members = members[np.lexsort((ranks[members], hashes[members]))]
        offset = _hash(seed, "category", names[number] if number >= 0 else "") / 2**64
        positions = (np.arange(len(members)) + offset) / len(members)
        codes[members] = np.searchsorted(bounds, positions, side="right")
    return [SPLITS[code] for code in codes[products]]


def _hash(seed: int, kind: str, value: str) -> int:
    digest = hashlib.sha256(f"{seed}|{kind}|{value}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def _components(n_items: int, items: IntArray, values: IntArray, n_values: int) -> IntArray:
    size = n_items + n_values
    edges = coo_array((np.ones(len(items), dtype=np.int8), (items, values)), shape=(size, size))
    labels = connected_components(edges, directed=False)[1] if size else np.zeros(0)
    return np.asarray(labels[:n_items], dtype=np.int64)


def _cores(levels: list[IntArray], final: IntArray) -> IntArray:
    """Per product, an item of its core: the largest part that the strongest key used in it ties together."""
    core = np.full(int(final.max(initial=-1)) + 1, -1, dtype=np.int64)
    for labels in levels:
        sizes = np.bincount(labels)[labels] if len(labels) else labels
        for item in np.lexsort((np.arange(len(labels)), -sizes)):
            if sizes[item] < 2:
                break
            if core[final[item]] < 0:
                core[final[item]] = item
    first = np.unique(final, return_index=True)[1]
    return np.where(core < 0, first, core)


def _name_products(
    item_ids: TextColumn,
    keys: Mapping[ProductKey, TextColumn],
    final: IntArray,
    ignored: list[tuple[ProductKey, str, int]],
) -> list[str]:
    """The smallest given id, else SKU, else id stem; a name already taken gives way to an item id."""
    useless = {(kind, value) for kind, value, _ in ignored}
    naming: list[tuple[ProductKey, TextColumn]] = [
        (kind, keys[kind]) for kind in ("column", "sku", "item_id") if kind in keys
    ]
    ranks = item_ids.ranks()
    order = np.lexsort((ranks, final))
    bounds = np.searchsorted(final[order], np.arange(int(final.max(initial=-1)) + 2))
    taken: set[str] = set()
    names = [""] * (len(bounds) - 1)
    for component in np.argsort(ranks[order[bounds[:-1]]]).tolist():
        found = order[bounds[component] : bounds[component + 1]].tolist()
        smallest = str(item_ids[found[0]])
        name = smallest
        for kind, values in naming:
            usable = {v for v in (values[item] for item in found) if v and (kind, v) not in useless}
            if usable:
                name = min(usable)
                break
        number = 2
        for candidate in (name, smallest):
            name = candidate
            if name not in taken:
                break
        while name in taken:
            name, number = f"{smallest}~{number}", number + 1
        taken.add(name)
        names[component] = name
    return [names[component] for component in final]
