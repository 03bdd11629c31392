"""Drawn garments with their true necklines, seen from where a neckline can be seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lib.catalog.drawing.cut import make_cut
from lib.catalog.drawing.plan import plan_product
from lib.catalog.drawing.scene import draw_view, make_staging

SEEN = ("front", "side")


def draw_necks(number: int, *, seed: int, size: int) -> list[tuple[npt.NDArray[np.uint8], str]]:
    """Pictures of one product, (size, size, 3) each, and its neckline; none of a product without one."""
    product = plan_product(seed, number)
    if product.neckline is None:
        return []
    rng = np.random.default_rng([seed, number, 1])
    cut = make_cut(rng, product)
    staging = make_staging(rng, product)
    return [
        (np.asarray(draw_view(product, cut, staging, view, rng, size)), product.neckline)
        for view in product.views
        if view in SEEN
    ]
