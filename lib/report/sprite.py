"""Many small pictures in one: a page with a thousand thumbnails stays one file of a few megabytes."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from PIL import Image, ImageOps

SIDE = 64
"""Pixels of a thumbnail; a multiple of 16, so that no JPEG block holds pixels of two pictures."""
MAX_BYTES = 1_600_000
"""Of the JPEG; a page embeds a third more."""
_QUALITIES = (80, 70, 60, 50, 40, 30)
_GROUND = (238, 240, 243)


@dataclass(frozen=True)
class Sprite:
    """Pictures in rows of `columns`, `side` pixels each; picture i stands in row i // columns."""

    address: Markup
    columns: int
    side: int


def make_sprite(images: Sequence[bytes]) -> Sprite:
    """Fit pictures into squares of one JPEG, at the best quality that stays under `MAX_BYTES`.

    Args:
        images: encoded pictures, in order; none gives an empty square.

    Returns:
        The sprite; the same pictures give the same bytes.
    """
    columns = max(math.ceil(math.sqrt(len(images))), 1)
    rows = max(math.ceil(len(images) / columns), 1)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE), _GROUND)
    for place, data in enumerate(images):
        with Image.open(io.BytesIO(data)) as image:
            small = ImageOps.pad(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS, color=_GROUND)
        sheet.paste(small, (place % columns * SIDE, place // columns * SIDE))
    encoded = b""
    for quality in _QUALITIES:
        stream = io.BytesIO()
        sheet.save(stream, format="JPEG", quality=quality)
        encoded = stream.getvalue()
        if len(encoded) <= MAX_BYTES:
            break
    address = Markup("data:image/jpeg;base64," + base64.b64encode(encoded).decode("ascii"))
    return Sprite(address, columns, SIDE)
