"""What the sample shop stocks: long-tailed shares of categories, materials, patterns, cuts and colours."""

from __future__ import annotations

from collections.abc import Mapping

Weights = Mapping[str, float]

CATEGORIES: Weights = {
    "tees": 0.22,
    "shirts": 0.14,
    "dresses": 0.12,
    "blouses": 0.10,
    "sweaters": 0.10,
    "pants": 0.09,
    "skirts": 0.07,
    "hoodies": 0.06,
    "jackets": 0.05,
    "shorts": 0.045,
    "cardigans": 0.045,
    "graphic": 0.03,
}
BOTTOMS = frozenset({"pants", "skirts", "shorts"})
WOMEN_ONLY = frozenset({"dresses", "blouses", "skirts"})

MATERIALS: Mapping[str, Weights] = {
    "tees": {"cotton": 0.76, "polyester": 0.13, "linen": 0.07, "silk": 0.02, "lace": 0.02},
    "graphic": {"cotton": 0.88, "polyester": 0.12},
    "shirts": {"cotton": 0.60, "linen": 0.18, "denim": 0.06, "polyester": 0.06, "silk": 0.06, "wool": 0.04},
    "dresses": {
        "cotton": 0.34,
        "polyester": 0.12,
        "silk": 0.14,
        "linen": 0.10,
        "chiffon": 0.09,
        "lace": 0.09,
        "wool": 0.09,
        "denim": 0.03,
    },
    "blouses": {
        "cotton": 0.28,
        "silk": 0.24,
        "chiffon": 0.18,
        "polyester": 0.12,
        "linen": 0.09,
        "lace": 0.09,
    },
    "sweaters": {"wool": 0.64, "cotton": 0.26, "fleece": 0.10},
    "pants": {"cotton": 0.36, "denim": 0.15, "wool": 0.12, "linen": 0.13, "polyester": 0.12, "leather": 0.12},
    "skirts": {
        "cotton": 0.30,
        "denim": 0.12,
        "leather": 0.13,
        "polyester": 0.12,
        "silk": 0.12,
        "wool": 0.09,
        "linen": 0.07,
        "chiffon": 0.05,
    },
    "shorts": {"cotton": 0.44, "denim": 0.17, "linen": 0.16, "polyester": 0.14, "leather": 0.09},
    "hoodies": {"cotton": 0.48, "fleece": 0.44, "polyester": 0.08},
    "jackets": {
        "leather": 0.24,
        "denim": 0.18,
        "polyester": 0.22,
        "wool": 0.14,
        "cotton": 0.16,
        "fleece": 0.06,
    },
    "cardigans": {"wool": 0.70, "cotton": 0.24, "fleece": 0.06},
}

PATTERNS: Weights = {
    "solid": 0.46,
    "striped": 0.16,
    "checked": 0.09,
    "floral print": 0.09,
    "polka dot": 0.06,
    "graphic print": 0.05,
    "colourblock": 0.055,
    "animal print": 0.025,
    "camouflage": 0.02,
}
# Multipliers on PATTERNS: what a shop really sells in that category.
PATTERN_TASTE: Mapping[str, Weights] = {
    "tees": {"floral print": 0.6, "checked": 0.25, "graphic print": 1.2},
    "shirts": {"checked": 2.6, "striped": 1.5, "graphic print": 0.0, "colourblock": 0.4, "camouflage": 0.6},
    "dresses": {"floral print": 2.4, "polka dot": 1.6, "graphic print": 0.2, "camouflage": 0.0, "striped": 0.8},
    "blouses": {"floral print": 1.9, "polka dot": 1.8, "graphic print": 0.0, "camouflage": 0.0},
    "sweaters": {"floral print": 0.2, "checked": 0.6, "striped": 1.5, "colourblock": 1.8, "camouflage": 0.3},
    "pants": {"floral print": 0.5, "graphic print": 0.0, "polka dot": 0.3, "striped": 0.7, "colourblock": 0.3},
    "skirts": {"floral print": 1.5, "checked": 1.4, "graphic print": 0.0, "colourblock": 0.6, "camouflage": 0.2},
    "hoodies": {"floral print": 0.3, "graphic print": 2.5, "checked": 0.2, "polka dot": 0.4, "colourblock": 1.8},
    "jackets": {"floral print": 0.4, "graphic print": 0.0, "polka dot": 0.1, "striped": 0.3},
    "shorts": {"floral print": 1.0, "graphic print": 0.0, "polka dot": 0.6},
    "cardigans": {
        "floral print": 0.3,
        "graphic print": 0.0,
        "striped": 1.3,
        "camouflage": 0.0,
        "animal print": 0.5,
    },
}

NECKLINES: Mapping[str, Weights] = {
    "tees": {
        "round neck": 0.36,
        "v-neck": 0.20,
        "polo collar": 0.15,
        "henley": 0.10,
        "scoop neck": 0.10,
        "boat neck": 0.04,
        "square neck": 0.03,
        "turtleneck": 0.02,
    },
    "graphic": {"round neck": 0.80, "v-neck": 0.12, "scoop neck": 0.08},
    "shirts": {"shirt collar": 0.88, "mandarin collar": 0.12},
    "dresses": {
        "v-neck": 0.23,
        "round neck": 0.19,
        "scoop neck": 0.12,
        "square neck": 0.12,
        "off shoulder": 0.10,
        "boat neck": 0.07,
        "shirt collar": 0.10,
        "turtleneck": 0.07,
    },
    "blouses": {
        "v-neck": 0.25,
        "round neck": 0.16,
        "shirt collar": 0.16,
        "square neck": 0.10,
        "off shoulder": 0.10,
        "mandarin collar": 0.08,
        "boat neck": 0.08,
        "scoop neck": 0.07,
    },
    "sweaters": {
        "round neck": 0.34,
        "turtleneck": 0.24,
        "v-neck": 0.21,
        "polo collar": 0.07,
        "henley": 0.05,
        "boat neck": 0.05,
        "scoop neck": 0.04,
    },
    "hoodies": {"hood": 1.0},
    "jackets": {"shirt collar": 0.48, "mandarin collar": 0.32, "hood": 0.20},
    "cardigans": {"v-neck": 0.66, "round neck": 0.34},
}

SLEEVES: Mapping[str, Weights] = {
    "tees": {"short sleeve": 0.64, "long sleeve": 0.20, "three-quarter sleeve": 0.08, "sleeveless": 0.08},
    "graphic": {"short sleeve": 0.80, "long sleeve": 0.14, "sleeveless": 0.06},
    "shirts": {"long sleeve": 0.68, "short sleeve": 0.26, "three-quarter sleeve": 0.06},
    "dresses": {"sleeveless": 0.32, "short sleeve": 0.26, "three-quarter sleeve": 0.15, "long sleeve": 0.27},
    "blouses": {"long sleeve": 0.40, "short sleeve": 0.25, "three-quarter sleeve": 0.20, "sleeveless": 0.15},
    "sweaters": {"long sleeve": 0.82, "three-quarter sleeve": 0.08, "short sleeve": 0.05, "sleeveless": 0.05},
    "hoodies": {"long sleeve": 0.90, "short sleeve": 0.06, "sleeveless": 0.04},
    "jackets": {"long sleeve": 0.93, "sleeveless": 0.07},
    "cardigans": {"long sleeve": 0.84, "three-quarter sleeve": 0.12, "short sleeve": 0.04},
}

SUBCATEGORIES: Mapping[str, tuple[str, ...]] = {
    "tees": ("basic tees", "long tees", "fitted tees"),
    "graphic": (),
    "shirts": ("casual shirts", "dress shirts", "overshirts"),
    "dresses": ("maxi dresses", "midi dresses", "mini dresses"),
    "blouses": ("peplum blouses", "loose blouses"),
    "sweaters": ("chunky sweaters", "fine sweaters"),
    "pants": ("skinny pants", "straight pants", "wide-leg pants"),
    "skirts": ("mini skirts", "midi skirts", "maxi skirts"),
    "hoodies": ("zip hoodies", "pullover hoodies"),
    "jackets": ("bomber jackets", "trucker jackets", "hooded jackets"),
    "shorts": ("short shorts", "bermuda shorts"),
    "cardigans": ("long cardigans", "cropped cardigans"),
}

COLOURS: Weights = {
    "black": 0.16,
    "white": 0.13,
    "grey": 0.10,
    "navy blue": 0.10,
    "blue": 0.10,
    "red": 0.07,
    "burgundy": 0.05,
    "pink": 0.06,
    "green": 0.06,
    "olive": 0.05,
    "beige": 0.06,
    "brown": 0.04,
    "yellow": 0.04,
    "purple": 0.04,
}
MATERIAL_COLOURS: Mapping[str, Weights] = {
    "denim": {"blue": 0.50, "navy blue": 0.20, "black": 0.12, "grey": 0.10, "white": 0.08},
    "leather": {"black": 0.58, "brown": 0.20, "beige": 0.08, "burgundy": 0.14},
    "linen": {
        "beige": 0.24,
        "white": 0.22,
        "blue": 0.14,
        "green": 0.08,
        "grey": 0.10,
        "pink": 0.08,
        "olive": 0.14,
    },
}
# Plain cloth is what these are sold in; a print on leather is rare enough to leave out.
MATERIAL_PATTERNS: Mapping[str, Weights] = {
    "denim": {"solid": 0.90, "colourblock": 0.05, "floral print": 0.03, "striped": 0.02},
    "leather": {"solid": 0.93, "colourblock": 0.07},
    "lace": {"solid": 0.92, "colourblock": 0.08},
}

SUFFIX_STYLES: Mapping[str, float] = {"view": 0.34, "word": 0.32, "letter": 0.2, "number": 0.14}
