"""How one product is cut: the measures that make two garments of one class differ, in body units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from lib.catalog.drawing.assortment import BOTTOMS
from lib.catalog.drawing.curve import Points, bezier, pts, spline
from lib.catalog.drawing.fabric import Cloth, Rgb, light_of, mix, shade
from lib.catalog.drawing.pattern import make_cloth, plain
from lib.catalog.drawing.plan import Product, draw

ARM = 1.28  # shoulder to wrist


@dataclass(frozen=True)
class Cut:
    """The measures (units), trims and cloth of one product; all halves are half widths."""

    cloth: Cloth
    trim: Cloth
    lining: Rgb
    button: Rgb
    seam_colour: Rgb
    shoulder: float
    drop: float
    chest: float
    waist: float
    hem: float
    length: float
    neck_half: float
    neck_depth: float
    sleeve_length: float
    sleeve_width: float
    cuff_width: float
    cuff: str
    flare: float
    rise: float
    opening: str
    pocket: str
    bottom: str
    belt: bool
    buttons: int
    choice: int


def _u(rng: Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


_NECKS: dict[str, tuple[float, float, float, float]] = {
    # neck_half low, high, neck_depth low, high
    "round neck": (0.17, 0.21, 0.13, 0.18),
    "v-neck": (0.17, 0.22, 0.40, 0.56),
    "polo collar": (0.15, 0.17, 0.13, 0.18),
    "henley": (0.16, 0.20, 0.12, 0.16),
    "turtleneck": (0.15, 0.17, 0.08, 0.10),
    "scoop neck": (0.24, 0.29, 0.34, 0.46),
    "square neck": (0.25, 0.30, 0.28, 0.38),
    "boat neck": (0.33, 0.38, 0.06, 0.10),
    "hood": (0.16, 0.19, 0.14, 0.20),
    "shirt collar": (0.15, 0.17, 0.16, 0.26),
    "mandarin collar": (0.14, 0.16, 0.10, 0.16),
    "off shoulder": (0.40, 0.44, 0.30, 0.36),
}
_LENGTHS: dict[str, tuple[float, float]] = {
    "tees": (1.15, 1.48),
    "graphic": (1.15, 1.45),
    "shirts": (1.25, 1.52),
    "blouses": (1.02, 1.35),
    "sweaters": (1.08, 1.42),
    "hoodies": (1.12, 1.40),
    "jackets": (1.02, 1.50),
    "cardigans": (1.05, 1.75),
    "dresses": (1.75, 3.0),
    "pants": (2.85, 3.12),
    "shorts": (1.62, 2.18),
    "skirts": (1.60, 2.95),
}
_SLEEVES: dict[str, tuple[float, float]] = {
    "sleeveless": (0.0, 0.0),
    "short sleeve": (0.26, 0.46),
    "three-quarter sleeve": (0.78, 0.92),
    "long sleeve": (1.18, 1.30),
}


def _length(rng: Generator, product: Product) -> float:
    low, high = _LENGTHS[product.category]
    kind = product.subcategory or ""
    if kind.startswith(("maxi", "long")):
        low = low + 0.75 * (high - low)
    elif kind.startswith(("midi", "bermuda")):
        low, high = low + 0.4 * (high - low), low + 0.7 * (high - low)
    elif kind.startswith(("mini", "short", "cropped", "bomber", "trucker")):
        high = low + 0.3 * (high - low)
    return _u(rng, low, high)


def make_cut(rng: Generator, product: Product) -> Cut:
    """The cut of a product, drawn from rng; equal seeds give equal cuts."""
    cloth = make_cloth(rng, product.material, product.pattern, product.colour)
    category, women = product.category, product.gender == "women"
    outer = category in ("jackets", "cardigans", "hoodies", "sweaters")
    ease = _u(rng, -0.03, 0.09) + (0.04 if outer else 0.0) - (0.03 if women else 0.0)
    shoulder = 0.44 + 0.4 * ease + _u(rng, -0.01, 0.05) - (0.03 if women else 0.0)
    sleeveless = product.sleeve == "sleeveless"
    low, high, shallow, deep = _NECKS[product.neckline or "round neck"]
    neck_half = _u(rng, low, high)
    if sleeveless and category not in ("jackets", "hoodies"):
        shoulder = max(neck_half + 0.05, shoulder - _u(rng, 0.06, 0.16))
    chest = 0.43 + ease
    waist = chest - _u(rng, 0.0, 0.05) - (_u(rng, 0.02, 0.09) if women and not outer else 0.0)
    if category == "dresses":
        waist = 0.33 + _u(rng, 0.0, 0.07)
    elif category in BOTTOMS:
        waist = 0.33 + _u(rng, -0.02, 0.05)
    trimmed = rng.random() < (0.3 if category in ("tees", "graphic", "sweaters", "cardigans", "hoodies") else 0.1)
    plain_trim = product.pattern not in ("solid", "colourblock", "graphic print") or trimmed
    # A dark or pale shade of the cloth keeps collars and bands readable on it.
    near = shade(cloth.base, 0.72) if light_of(cloth.base) > 60 else shade(cloth.base, 1.9)
    trim_rgb = cloth.accent if trimmed else near
    trim = plain(cloth, trim_rgb) if plain_trim or category in ("sweaters", "cardigans", "hoodies") else cloth
    if product.material in ("lace", "leather", "denim"):
        trim = cloth
    seam = (208, 150, 78) if product.material == "denim" and rng.random() < 0.8 else shade(cloth.base, 0.45)
    if light_of(cloth.base) < 60 and product.material != "denim":
        seam = shade(cloth.base, 2.6)
    dark = light_of(cloth.base) < 110
    button = (232, 228, 216) if dark else ((60, 46, 38) if rng.random() < 0.6 else mix(cloth.base, (0, 0, 0), 0.5))
    if product.material == "denim":
        button = (186, 140, 84)
    sleeve_low, sleeve_high = _SLEEVES[product.sleeve or "sleeveless"]
    cuffs = {
        "shirts": {"shirt": 1.0},
        "sweaters": {"rib": 1.0},
        "hoodies": {"rib": 1.0},
        "cardigans": {"rib": 1.0},
    }
    cuffs["jackets"] = {"rib": 0.5, "shirt": 0.5}
    cuffs["blouses"] = cuffs["dresses"] = {"plain": 0.4, "puff": 0.3, "bell": 0.2, "shirt": 0.1}
    cuff = draw(rng, cuffs.get(category, {"plain": 0.85, "rib": 0.15}))
    openings = {
        "shirts": {"buttons": 1.0},
        "cardigans": {"buttons": 0.55, "open": 0.45},
        "jackets": {"zip": 0.40, "buttons": 0.22, "open": 0.38},
        "hoodies": {"none": 0.7, "zip": 0.3},
        "skirts": {"none": 0.75, "buttons": 0.25},
    }
    opening = draw(rng, openings.get(category, {"none": 1.0}))
    if product.subcategory == "zip hoodies":
        opening = "zip"
    elif product.subcategory == "pullover hoodies":
        opening = "none"
    if category in ("blouses", "dresses") and product.neckline == "shirt collar":
        opening = "buttons"
    if category == "blouses" and product.neckline == "v-neck" and rng.random() < 0.35:
        opening = "buttons"
    pockets = {
        "tees": {"none": 0.8, "patch": 0.2},
        "shirts": {"none": 0.35, "patch": 0.45, "flap": 0.2},
        "hoodies": {"kangaroo": 1.0},
        "jackets": {"slant": 0.55, "flap": 0.45},
        "cardigans": {"none": 0.5, "low": 0.5},
        "dresses": {"none": 0.85, "low": 0.15},
    }
    pocket = draw(rng, pockets.get(category, {"none": 1.0}))
    if product.material == "denim" and category in ("shirts", "jackets"):
        pocket = "flap"
    bottoms = {
        "pants": {"skinny": 0.35, "straight": 0.4, "wide": 0.25},
        "shorts": {"straight": 0.6, "wide": 0.4},
        "skirts": {"aline": 0.35, "pencil": 0.25, "pleated": 0.18, "gathered": 0.22},
        "dresses": {"aline": 0.35, "pencil": 0.25, "gathered": 0.40},
    }
    bottom = draw(rng, bottoms.get(category, {"straight": 1.0}))
    named = (product.subcategory or "").split("-")[0].split(" ")[0]
    if category == "pants" and named in ("skinny", "straight", "wide"):
        bottom = named
    flares = {"aline": (0.16, 0.30), "pencil": (0.0, 0.06), "pleated": (0.22, 0.38), "gathered": (0.22, 0.42)}
    flare = _u(rng, *flares.get(bottom, (-0.03, 0.07)))
    hem = chest + (_u(rng, -0.02, 0.08) if category not in ("blouses", "cardigans") else _u(rng, -0.02, 0.14))
    return Cut(
        cloth=cloth,
        trim=trim,
        lining=shade(cloth.base, 0.5) if light_of(cloth.base) > 60 else shade(cloth.base, 1.9),
        button=button,
        seam_colour=seam,
        shoulder=shoulder,
        drop=_u(rng, 0.10, 0.17),
        chest=chest,
        waist=waist,
        hem=hem,
        length=_length(rng, product),
        neck_half=neck_half,
        neck_depth=_u(rng, shallow, deep),
        sleeve_length=_u(rng, sleeve_low, sleeve_high),
        sleeve_width=_u(rng, 0.135, 0.175) + (0.02 if outer else 0.0) + 0.25 * max(ease, 0.0),
        cuff_width=_u(rng, 0.075, 0.105)
        + {"short sleeve": 0.065, "three-quarter sleeve": 0.02}.get(product.sleeve or "", 0.0),
        cuff=cuff,
        flare=flare,
        rise=_u(rng, 0.88, 1.0),
        opening=opening,
        pocket=pocket,
        bottom=bottom,
        belt=bool(rng.random() < 0.3),
        buttons=int(rng.integers(5, 8)),
        choice=int(rng.integers(1 << 30)),
    )


def neck_path(kind: str, cut: Cut, back: bool = False) -> Points:
    """The right half of the neck opening, from its lowest point on the centre line to the shoulder seam."""
    half, depth = cut.neck_half, cut.neck_depth
    if kind == "off shoulder":
        return bezier((0.0, depth + 0.03), (0.25, depth + 0.03), (cut.chest + 0.06, depth - 0.07))
    if back:
        return bezier((0.0, 0.045), (half * 0.6, 0.045), (half, 0.0))
    if kind in ("v-neck", "shirt collar", "polo collar"):
        bulge = 0.04 if kind == "v-neck" else 0.0
        return bezier((0.0, depth), (half * 0.5 + bulge, depth * 0.5), (half, 0.0))
    if kind == "square neck":
        return pts(
            (0.0, depth),
            (half * 0.6, depth),
            (half * 0.97, depth - 0.01),
            (half * 0.98, 0.5 * depth),
            (half, 0.0),
        )
    return bezier((0.0, depth), (half * 0.78, depth), (half, depth * 0.55), (half, 0.0))


def side_path(cut: Cut, neckline: str, bottom: float, hem: float) -> Points:
    """The right outline of the torso from the shoulder seam to the hem at height `bottom`, `hem` wide there."""
    arm = (cut.chest - 0.005, 0.47)
    if neckline == "off shoulder":
        top = pts((cut.chest + 0.06, cut.neck_depth - 0.07))
    else:
        tip = (cut.shoulder, cut.drop)
        top = np.vstack([pts((cut.neck_half, 0.0)), bezier(tip, (cut.shoulder - 0.07, 0.30), arm, n=8)[:-1]])
    middle = [arm]
    if bottom > 1.1:
        middle.append((cut.waist, 0.95))
    return np.vstack([top, spline([*middle, (hem, bottom)])])
