"""Which products the sample shop sells: a seeded draw from its assortment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from lib.catalog.drawing.assortment import (
    BOTTOMS,
    CATEGORIES,
    COLOURS,
    MATERIAL_COLOURS,
    MATERIAL_PATTERNS,
    MATERIALS,
    NECKLINES,
    PATTERN_TASTE,
    PATTERNS,
    SLEEVES,
    SUBCATEGORIES,
    SUFFIX_STYLES,
    WOMEN_ONLY,
    Weights,
)


@dataclass(frozen=True)
class Product:
    """One product of the shop, with its true attributes. neckline and sleeve are None for bottoms."""

    number: int
    gender: str
    category: str
    subcategory: str | None
    material: str
    pattern: str
    neckline: str | None
    sleeve: str | None
    colour: str
    views: tuple[str, ...]
    suffixes: tuple[str, ...]

    @property
    def key(self) -> str:
        """The product number as the shop writes it, e.g. S00412."""
        return f"S{self.number:05d}"


def draw(rng: Generator, weights: Weights) -> str:
    """One key of weights, drawn in proportion to its value."""
    names = list(weights)
    share = np.array([weights[name] for name in names], dtype=np.float64)
    return names[
        int(np.searchsorted(np.cumsum(share), rng.random() * share.sum(), side="right").clip(0, len(names) - 1))
    ]


def _pattern(rng: Generator, category: str, material: str) -> str:
    if category == "graphic":
        return "graphic print"
    if material in MATERIAL_PATTERNS:
        return draw(rng, MATERIAL_PATTERNS[material])
    taste = PATTERN_TASTE.get(category, {})
    return draw(rng, {name: share * taste.get(name, 1.0) for name, share in PATTERNS.items()})


def _views(rng: Generator, style: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The views of a product and the id suffix of each; view names are front, side, back and detail."""
    count = 2 if rng.random() < 0.5 else 3
    later = {"side": 0.40, "back": 0.20, "detail": 0.40}
    views = ["front"]
    while len(views) < count:
        view = draw(rng, later)
        if view not in views:
            views.append(view)
    if style == "word":
        return tuple(views), tuple(f"_{view}" for view in views)
    marks = {
        "view": ("_view1", "_view2", "_view3"),
        "letter": ("_A", "_B", "_C"),
        "number": ("-1", "-2", "-3"),
    }
    return tuple(views), marks[style][:count]


def plan_product(seed: int, number: int) -> Product:
    """The product with this number; depends on (seed, number) only, never on how many are sold."""
    rng = np.random.default_rng([seed, number])
    category = draw(rng, CATEGORIES)
    gender = "women" if category in WOMEN_ONLY or rng.random() < 0.42 else "men"
    material = draw(rng, MATERIALS[category])
    pattern = _pattern(rng, category, material)
    neckline = sleeve = None
    if category not in BOTTOMS:
        neckline = draw(rng, NECKLINES[category])
        sleeve = draw(rng, SLEEVES[category])
        if neckline == "off shoulder" and sleeve == "sleeveless":
            sleeve = "short sleeve"
        if gender == "men" and neckline in ("off shoulder", "square neck", "boat neck"):
            neckline = "round neck"
    colour = draw(rng, MATERIAL_COLOURS.get(material, COLOURS))
    names = SUBCATEGORIES[category]
    subcategory = str(rng.choice(np.array(names))) if names and rng.random() < 0.7 else None
    if subcategory == "hooded jackets" and neckline != "hood":
        subcategory = None
    if subcategory == "trucker jackets" and (neckline != "shirt collar" or material not in ("denim", "cotton")):
        subcategory = "bomber jackets" if neckline == "mandarin collar" else None
    if subcategory == "bomber jackets" and neckline != "mandarin collar":
        subcategory = None
    views, suffixes = _views(rng, draw(rng, SUFFIX_STYLES))
    return Product(
        number, gender, category, subcategory, material, pattern, neckline, sleeve, colour, views, suffixes
    )
