"""Texts without what they say about one attribute.

A caption names the value that retrieval is then asked about. To know how much of a figure is that label read back,
the same texts are composed again with every phrase gone that names the attribute: the schema's values with all
their spellings, whether they count or are negated ("without a collar"), and words of the item's own value where the
schema does not know it, as it knows no category.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lib.catalog.attributes import AttributeRule
from lib.catalog.captions import compose_caption
from lib.catalog.normal_text import BREAK, locate_words, normalise_text, singular

_JOINING = frozenset({"and", "the", "with", "for"})
_LONGEST_RUN = 4  # words that may spell a value in one ("t shirts" = "Tshirts")
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]")
_LOOSE_MARK = re.compile(r"\s+([.,;:!?)\]])")
_REPEATED_MARK = re.compile(r"((?:[.,;:!?]|\|\|)+)(?:\s+(?:[.,;:!?]|\|\|)+)+(?=\s|$)")


def without_phrases(text: str, rule: AttributeRule) -> str:
    """A text without the phrases that name a value of an attribute, and without the words that cancel them.

    What the cut brings together and what then reads as a phrase goes as well. A text without such a phrase
    comes back as it is.
    """
    while named := [mention.reach for mention in rule.mentions(_words(text))]:
        text = _cut(text, named)
    return text


def without_words(text: str, value: str) -> str:
    """A text without a value's own words, singular or plural, together or apart; the rest as `without_phrases`.

    >>> without_words("Blue T-Shirt, a tshirt for men", "Tshirts")
    'Blue, a for men'
    """
    own = [word for word in _words(value) if word != BREAK]
    forms = {_stem(word) for word in own if len(word) > 2 and word not in _JOINING}
    forms |= {_stem("".join(own))} if own else set()
    while named := _runs(_words(text), forms):
        text = _cut(text, named)
    return text


def mask_caption(
    values: Mapping[str, str | None],
    label: str,
    *,
    category: str | None,
    text: str | None,
    rule: AttributeRule | None,
) -> str:
    """`compose_caption` of an item as if nobody had named one of its attributes.

    Args:
        values: as for `compose_caption`.
        label: the attribute to hide: a key of `values`, or `category`.
        category: as for `compose_caption`.
        text: the item's text.
        rule: the attribute's phrases; None for one that has no schema (`category`).

    Returns:
        The caption, `compose_caption`'s own where nothing names the attribute; "" when nothing else was said.
    """
    own = category if label == "category" else values.get(label)
    if own is not None and rule is not None and normalise_text(own).strip() in rule.meanings:
        own = None  # the rule knows it, with all its spellings

    def masked(part: str | None) -> str | None:
        if part and rule is not None:
            part = without_phrases(part, rule)
        return without_words(part, own) if part and own is not None else part

    caption = compose_caption(
        {name: masked(value) for name, value in values.items() if name != label},
        category=None if label == "category" else masked(category),
        text=masked(text),
    )
    # once more: shortening may leave the first half of a phrase that meant something else ("polo" of "polo assn")
    return masked(caption) or ""


def _words(text: str) -> list[str]:
    return normalise_text(text).split()


def _stem(word: str) -> str:
    """One spelling for singular and plural: `singular` makes "hoody" of "hoodies"."""
    stem = singular(word)
    return f"{stem[:-2]}y" if stem.endswith("ie") else stem


def _runs(words: Sequence[str], forms: set[str]) -> list[tuple[int, int]]:
    """Runs of words that spell one of some stems, longest first, without overlap."""
    longest = max((len(form) for form in forms), default=0) + len("es")  # a plural is so much longer than its stem
    found: list[tuple[int, int]] = []
    for start in range(len(words)):
        if found and start < found[-1][1]:
            continue
        run, spelled = "", None
        for end in range(start + 1, min(start + _LONGEST_RUN, len(words)) + 1):
            run += words[end - 1]
            if len(run) > longest:
                break
            if _stem(run) in forms:
                spelled = end
        if spelled is not None:
            found.append((start, spelled))
    return found


def _cut(text: str, runs: Sequence[tuple[int, int]]) -> str:
    """The text without some runs of its words, and without the marks that then stand for nothing."""
    words = locate_words(text)
    left, done = "", 0
    for first, end in runs:  # in order; the words that cancel a phrase may belong to the one before as well
        left += f"{text[done : words[first].start]} "
        done = max(done, words[end - 1].end)
    text = _EMPTY_BRACKETS.sub(" ", left + text[done:])
    text = _REPEATED_MARK.sub(r"\1", text)
    text = _LOOSE_MARK.sub(r"\1", text)
    return " ".join(text.split()).lstrip(" .,;:!?|").rstrip(" ,;:|")
