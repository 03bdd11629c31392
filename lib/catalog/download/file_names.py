"""File names in the cache of downloaded photos: safe on every system, whatever the item is called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import quote

ENDINGS: Mapping[str, str] = {
    "JPEG": "jpg",
    "MPO": "jpg",  # a JPEG with further pictures behind the first
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "AVIF": "avif",
    "JPEG2000": "jp2",
    "PPM": "ppm",
}
"""By the format that was decoded, never by what an address ends with."""

MAX_STEM = 150
"""Characters; with an ending and what a temporary name adds it stays below every system's 255."""

_ENDING = "|".join(sorted(set(ENDINGS.values())))
FILE_NAME = rf"^[A-Za-z0-9_%][A-Za-z0-9_.~%-]*\.(?:{_ENDING})$"
"""What every name in the cache looks like: no folder, no hidden file."""
TEMPORARY_NAME = re.compile(rf"^\..+\.(?:{_ENDING}|jsonl)\.[a-z0-9_]{{8}}$")
"""What a killed run may leave behind, see `lib.base.atomic.replacing`."""

_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE)


def plain_stem(item_id: str) -> str:
    """An item id as a file name without ending; ordinary ids stay as they are.

    Everything but ASCII letters, digits and `_ . - ~` is written `%XX`, and so is a first character that would hide
    the file, look like an option or make it a device of Windows. An id that gets too long keeps its start. Two ids
    never have one name, but names may differ in case alone.

    >>> [plain_stem(item_id) for item_id in ("S00412_view1", "../x", ".x", "con", "a b")]
    ['S00412_view1', '%2E.%2Fx', '%2Ex', '%63on', 'a%20b']
    """
    quoted = quote(item_id, safe="")
    if quoted[:1] in (".", "-", "~") or _DEVICE.match(quoted):
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    return quoted if len(quoted) <= MAX_STEM else marked_stem(item_id)


def marked_stem(item_id: str) -> str:
    """The name of an id whose plain one is too long, or taken by an id that differs in case alone.

    >>> marked_stem("s1")
    's1%-e8bc163c82eee187'
    """
    quoted = quote(item_id, safe="")
    # `%-` is in no plain name; two starts of 120 characters that are equal are told apart by 64 bits
    digest = hashlib.sha256(item_id.encode()).hexdigest()[:16]
    first = f"%{ord(quoted[0]):02X}" if quoted[0] in ".-~" or _DEVICE.match(quoted) else quoted[0]
    return f"{first}{quoted[1:120]}%-{digest}"
