"""The short text that is embedded: attributes first, because most shop texts pass CLIP's 77 tokens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from lib.base.params import ATTRIBUTES

MAX_WORDS = 40
MAX_COST = 70
"""Upper estimate of CLIP tokens; two of the 77 are the start and the end mark."""


def compose_caption(values: Mapping[str, str | None], *, category: str | None, text: str | None) -> str:
    """Write the embedded text of an item: known attributes, colour, category, then the start of its text.

    Args:
        values: attribute and `color` values; unknown ones are left out.
        category: `category2`, or None.
        text: the item's text; of several joined columns the first comes first.

    Returns:
        At most `MAX_WORDS` words that stay below CLIP's context; "" when nothing is known.

    >>> compose_caption({"neckline": "v-neck", "color": "red"}, category="cardigans", text="Anna cardigan")
    'v-neck, red, cardigans. Anna cardigan'
    """
    known = [values.get(name) for name in (*ATTRIBUTES, "color")] + [category]
    head = ", ".join(value for value in known if value)
    return _shorten(". ".join(part for part in (head, plain_text(text)) if part))


def plain_text(text: str | None) -> str:
    """An item's text as one line, its columns joined as sentences; "" when there is none."""
    return " ".join((text or "").replace(" || ", ". ").split())


def _shorten(text: str) -> str:
    words: list[str] = []
    cost = 0
    for word in text.split()[:MAX_WORDS]:
        cost += _cost(word)
        if cost > MAX_COST:
            break
        words.append(word)
    return " ".join(words)


@lru_cache(maxsize=16_384)
def _cost(word: str) -> int:
    """Tokens of a word, rather too many than too few: digits and marks count singly, other letters by bytes."""
    letters = sum(character.isascii() and character.isalpha() for character in word)
    rest = len(word.encode("utf-8", "replace")) - letters
    return -(-letters // 4) + rest
