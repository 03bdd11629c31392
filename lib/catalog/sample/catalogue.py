"""The embedded sample catalogue: drawn from a seed, without network and without anybody's photographs."""

from __future__ import annotations

import csv
import io
import multiprocessing
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from lib.base.atomic import replacing_folder
from lib.catalog.drawing.cut import make_cut
from lib.catalog.drawing.plan import Product, plan_product
from lib.catalog.drawing.scene import draw_view, make_staging
from lib.catalog.sample.outfits import Garment, Outfit, draw_outfits
from lib.catalog.sample.street import draw_street_view
from lib.catalog.sample.wording import write_texts

CATALOGUE_FIELDS = ("id", "image", "gender", "category", "subcategory", "color", "title", "description")
TRUTH_FIELDS = ("id", "product", "category", "material", "pattern", "neckline", "sleeve", "color", "view")
PAIRS_PER_PRODUCT = 8
SHOP, STREET = "images", "street"
PICTURE_TABLES = "two_tower"
STREET_SHARE, STREET_TEST_SHARE = 0.6, 0.25
"""Of the products, those that were also seen in a street; of these, those whose shop photos are to be found."""

Row = dict[str, str]
Rows = list[tuple[Row, Row]]
"""Of a product: the catalogue row and the truth row of every view."""


class Listed(NamedTuple):
    """A product in the tables; `table` is the one that its street photo stands in, None without such a photo."""

    rows: Rows
    table: str | None


class Drawn(NamedTuple):
    """A product and its photos: JPEG files, by name, of the shop and of the street."""

    listed: Listed
    shop: dict[str, bytes]
    street: dict[str, bytes]


# Each product has one independent stream of chance per purpose, so that a change to the texts of the sample
# leaves its pictures alone, and the other way round.
_CUT, _STAGING, _TEXT, _VIEW, _OUTFITS, _STREET = 1, 2, 3, 4, 5, 6  # outfits are of no product: theirs is number 0's
_CHUNK = 8


def _stream(seed: int, number: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, number, *purpose])


def _rows(product: Product, seed: int) -> Rows:
    """The catalogue row and the truth row of every view of a product."""
    wording = write_texts(_stream(seed, product.number, _TEXT), product)
    rows = []
    for view, suffix in zip(product.views, product.suffixes, strict=True):
        item = product.key + suffix
        row = {
            "id": item,
            "image": f"{item}.jpg",
            "gender": product.gender,
            "category": product.category,
            "subcategory": product.subcategory or "",
            "color": wording.colour or "",
            "title": wording.title,
            "description": wording.description,
        }
        truth = {
            "id": item,
            "product": product.key,
            "category": product.category,
            "material": product.material,
            "pattern": product.pattern,
            "neckline": product.neckline or "",
            "sleeve": product.sleeve or "",
            "color": product.colour,
            "view": view,
        }
        rows.append((row, truth))
    return rows


def _draw_product(number: int, *, image_size: int, seed: int) -> Drawn:
    """Draw every view of one product, and perhaps a photo taken in a street."""
    product = plan_product(seed, number)
    cut = make_cut(_stream(seed, number, _CUT), product)
    staging = make_staging(_stream(seed, number, _STAGING), product)
    rows = _rows(product, seed)
    shop: dict[str, bytes] = {}
    for k, (row, truth) in enumerate(rows):
        rng = _stream(seed, number, _VIEW, k)
        picture = draw_view(product, cut, staging, truth["view"], rng, image_size)
        shop[row["image"]] = _encoded(picture, quality=int(rng.integers(68, 94)))
    rng = _stream(seed, number, _STREET)
    seen, tested = rng.random(2) < (STREET_SHARE, STREET_TEST_SHARE)
    if not seen:
        return Drawn(Listed(rows, None), shop, {})
    picture = draw_street_view(product, cut, staging, rng, image_size)
    street = {f"{product.key}.jpg": _encoded(picture, quality=int(rng.integers(40, 80)))}
    return Drawn(Listed(rows, "query_gt" if tested else "pairs"), shop, street)


def _encoded(picture: Image.Image, *, quality: int) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


class _Archive:
    """A ZIP archive of photos that is being written: not compressed again, and no file has a date."""

    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path, "w")

    def add(self, photos: Mapping[str, bytes]) -> None:
        for name, data in photos.items():
            self._file.writestr(zipfile.ZipInfo(name), data)

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _write_street(folder: Path, drawn: Sequence[Listed]) -> None:
    """The three tables of the two-tower model; a product's street photo goes with each of its shop photos."""
    shop = [[f"{SHOP}/{row['image']}" for row, _ in product.rows] for product in drawn]
    _write(folder / "candidates.csv", ("cand_path",), [{"cand_path": path} for paths in shop for path in paths])
    for table, cand in (("pairs", "cand_path"), ("query_gt", "gt_cand_path")):
        rows = [
            {"query_path": f"{STREET}/{product.rows[0][1]['product']}.jpg", cand: path}
            for product, paths in zip(drawn, shop, strict=True)
            if product.table == table
            for path in paths
        ]
        _write(folder / f"{table}.csv", ("query_path", cand), rows)


def _outfits(rows: list[tuple[Row, Row]], *, n_pairs: int, seed: int) -> list[Outfit]:
    """Pairs of items that go together or do not, by their true attributes."""
    garments = [
        Garment(
            item_id=truth["id"],
            product=truth["product"],
            gender=row["gender"],
            category=truth["category"],
            material=truth["material"],
            pattern=truth["pattern"],
            sleeve=truth["sleeve"],
            colour=truth["color"],
        )
        for row, truth in rows
    ]
    return draw_outfits(garments, n_pairs=n_pairs, rng=_stream(seed, 0, _OUTFITS))


def _write(path: Path, fields: tuple[str, ...], rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw_sample(out: Path, *, n_products: int, image_size: int, seed: int, workers: int) -> dict[str, Any]:
    """Draw the sample catalogue into `out`: catalogue.csv, outfits.csv, truth.csv, images.zip, street.zip, two_tower.

    The folder is replaced as a whole; a run that fails leaves the old one.
    Pictures are image_size x image_size pixels. The files are byte-identical for equal (n_products, image_size,
    seed), whatever the number of worker processes; a larger n_products only adds products after the others, but
    draws other outfits. catalogue.csv is what a shop would hand over, outfits.csv what its stylist says of pairs of
    items (lib/catalog/sample/outfits.py); truth.csv holds the true attributes and is meant for tests. images.zip
    stands for a folder of photos (lib/catalog/photo_folder.py), <item id>.jpg; street.zip for photos of some products
    taken in a street (lib/catalog/sample/street.py). two_tower/ holds the tables of the two-tower model: pairs.csv,
    query_gt.csv (other products) and candidates.csv (every shop photo), paths relative to `out`.

    Returns n_products, n_items and, per attribute, how many products have each value.
    Raises ValueError when n_products is negative or image_size is below 16, BusyError when the disk is full.
    """
    if n_products < 0:
        raise ValueError(f"n_products must not be negative, got {n_products}")
    if image_size < 16:
        raise ValueError(f"image_size must be at least 16 pixels, got {image_size}")
    with replacing_folder(out) as folder:
        work = partial(_draw_product, image_size=image_size, seed=seed)
        drawn: list[Listed] = []
        with _Archive(folder / f"{SHOP}.zip") as shop, _Archive(folder / f"{STREET}.zip") as street:
            for product in _draw_all(work, n_products, workers):
                drawn.append(product.listed)
                shop.add(product.shop)
                street.add(product.street)
        rows = [pair for product in drawn for pair in product.rows]
        _write(folder / "catalogue.csv", CATALOGUE_FIELDS, [row for row, _ in rows])
        _write(folder / "truth.csv", TRUTH_FIELDS, [truth for _, truth in rows])
        outfits = _outfits(rows, n_pairs=PAIRS_PER_PRODUCT * n_products, seed=seed)
        _write(folder / "outfits.csv", Outfit._fields, [pair._asdict() for pair in outfits])
        (folder / PICTURE_TABLES).mkdir()
        _write_street(folder / PICTURE_TABLES, drawn)
    firsts = [product.rows[0][1] for product in drawn]
    statistics: dict[str, Any] = {"n_products": n_products, "n_items": len(rows)}
    for name in ("category", "material", "pattern", "neckline", "sleeve", "color"):
        statistics[name] = dict(sorted(Counter(truth[name] or "none" for truth in firsts).items()))
    statistics["view"] = dict(sorted(Counter(truth["view"] for _, truth in rows).items()))
    statistics["street"] = sum(product.table is not None for product in drawn)
    return statistics


def _draw_all(work: Callable[[int], Drawn], n_products: int, workers: int) -> Iterator[Drawn]:
    if workers > 1 and n_products > 1:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            results = pool.map(work, range(n_products), chunksize=_CHUNK)
            yield from tqdm(results, total=n_products, desc="sample", unit="product", disable=None)
    else:
        yield from map(work, tqdm(range(n_products), desc="sample", unit="product", disable=None))
