"""The form in which texts, cells and phrases are compared, and where its words stand in the text they came from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

BREAK = "|"
"""Stands for punctuation that ends a phrase: no value and no negation reaches across it."""
_STEPS = (
    (re.compile("['’]"), ""),
    (re.compile("&"), " and "),
    (re.compile(r"(\d)\s*%"), r"\1% "),
    (re.compile(r"[.,;:!?|()\[\]\n]+"), f" {BREAK} "),
)
"""What lower-case text goes through, in this order, before its words are what `_WORD` finds."""
_WORD = re.compile(r"(?:[^\W_]|[%|])+")


class Word(NamedTuple):
    """A word of a normalised text and the characters `start` to `end` (exclusive) of the text that gave it."""

    word: str
    start: int
    end: int


@lru_cache(maxsize=256)
def normalise_text(text: str) -> str:
    """Lower-case words with single spaces and one at either end; sentence marks become `|`.

    >>> normalise_text("Men's V-Neck T-Shirt, 3/4 sleeves")
    ' mens v neck t shirt | 3 4 sleeves '
    """
    text = unicodedata.normalize("NFKC", text).lower()
    for pattern, replacement in _STEPS:
        text = pattern.sub(replacement, text)
    return f" {' '.join(_WORD.findall(text))} "


@lru_cache(maxsize=256)
def locate_words(text: str) -> Sequence[Word]:
    """The words of `normalise_text(text)`, in order, each with its place in `text`.

    Several times slower than `normalise_text`, which reads whole catalogues.

    >>> text = "Men's ¾-Sleeves"
    >>> [(word, text[start:end]) for word, start, end in locate_words(text)]
    [('mens', "Men's"), ('3', '¾'), ('4', '¾'), ('sleeves', 'Sleeves')]
    """
    if text.isascii():
        characters, places = text.lower(), [(place, place + 1) for place in range(len(text))]
    else:
        parts, places = list[str](), list[tuple[int, int]]()
        for start, end in _clusters(text):
            parts.append(unicodedata.normalize("NFKC", text[start:end]).lower())
            places += [(start, end)] * len(parts[-1])
        characters = "".join(parts)
    for pattern, replacement in _STEPS:
        characters, places = _substitute(pattern, replacement, characters, places)
    spans = [(places[w.start()][0], places[w.end() - 1][1]) for w in _WORD.finditer(characters)]
    # The words themselves are taken whole: the last sigma of a Greek word has a form of its own in lower case.
    return tuple(Word(word, *span) for word, span in zip(normalise_text(text).split(), spans, strict=True))


def singular(word: str) -> str:
    """A word without its plural ending.

    >>> [singular(word) for word in ("dresses", "dress", "tees", "bodies")]
    ['dress', 'dress', 'tee', 'body']
    """
    for ending, replacement in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending):
            return word.removesuffix(ending) + replacement
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Spans of characters with what composes with them."""
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or not _composes(text[place]):
            yield start, place
            start = place


def _composes(character: str) -> bool:
    """Whether a character can become one with that before it: marks, vowels and finals of Korean syllables."""
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first).startswith("M") or "\u1160" <= first <= "\u11ff"


def _substitute(
    pattern: re.Pattern[str], replacement: str, characters: str, places: list[tuple[int, int]]
) -> tuple[str, list[tuple[int, int]]]:
    """`pattern.sub`, where every character keeps its place; what is put in has the place of what it replaces."""
    parts, where, last = list[str](), list[tuple[int, int]](), 0
    for match in pattern.finditer(characters):
        start, end = match.span()
        new = match.expand(replacement)
        parts += [characters[last:start], new]
        where += places[last:start]
        where += [(places[start][0], places[end - 1][1])] * len(new)
        last = end
    return "".join([*parts, characters[last:]]), where + places[last:]
