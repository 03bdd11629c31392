"""What every HTML page shares: escaping, the content policy, thumbnails inside the file.

A page loads nothing: pictures are base64 JPEG, styles are inline, there is no script, and a
Content-Security-Policy forbids all else, so that a text that slipped through could do nothing.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

LAYOUT = "page.html.j2"
THUMBNAIL_SIDE = 128
"""Pixels of the longer side: more than is shown, for screens of several pixels per point."""
TEXT_LENGTH = 240
"""Characters of an item's text that a page shows: a shop's description can be a page of its own."""
_QUALITY = 82

LABELS = {
    "neckline": "neckline",
    "sleeve": "sleeve",
    "pattern": "pattern",
    "material": "material",
    "color": "color",
    "category": "category2",
}
"""Labels shown on pages: name -> column of the item table."""


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template of `lib/report/templates`; every value is escaped, a missing one is an error."""
    environment = Environment(
        loader=PackageLoader("lib.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values, layout=LAYOUT) + "\n"


def shorten(text: str) -> str:
    """At most `TEXT_LENGTH` characters of a text, on one line; what is left out is marked.

    >>> shorten("a  shirt\\n in blue")
    'a shirt in blue'
    """
    line = " ".join(text.split())
    return line if len(line) <= TEXT_LENGTH else line[: TEXT_LENGTH - 1].rstrip() + "…"


def thumbnails(images: Mapping[str, bytes], *, side: int = THUMBNAIL_SIDE) -> dict[str, Markup]:
    """Encoded pictures by item id -> `data:` addresses of small JPEGs; the same bytes give the same text.

    Their longer side has at most `side` pixels; smaller pictures keep their size.
    """
    return {item_id: _thumbnail(data, side) for item_id, data in images.items()}


def _thumbnail(data: bytes, side: int) -> Markup:
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=_QUALITY)
    return Markup("data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii"))
