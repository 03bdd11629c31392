"""What the phrases of an attribute schema find in a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal[0, 1, 2]


@dataclass(frozen=True)
class Extraction:
    """What a text says about one attribute: a value, nothing, or several things (`ambiguous`).

    `level` is that of the value: 0 plain, 1 weak, 2 generic ("printed" does not contradict "floral print").
    """

    value: str | None
    ambiguous: tuple[str, ...] = ()
    level: Level = 0


NOTHING = Extraction(None)


@dataclass(frozen=True)
class Mention:
    """A phrase of the schema that names a value, at words `start` to `end` (exclusive) of a text.

    Attributes:
        phrase: as the text has it, normalised.
        value, level: what it means.
        start, end: its words.
        reach: words from `reach[0]` to `reach[1]`: the phrase with what cancels it ("without a collar").
        counts: whether nothing cancels it: neither a negation nor a sign of an imitation.
    """

    phrase: str
    value: str
    level: Level
    start: int
    end: int
    reach: tuple[int, int]
    counts: bool


@dataclass(frozen=True)
class Evidence:
    """A phrase of a text that decided what the text says.

    Attributes:
        value: what the phrase means.
        entry: the phrase of the schema, normalised; what is found may be a plural or another spelling of it.
        start, end: the characters of the text that hold it; `end` is exclusive.
    """

    value: str
    entry: str
    start: int
    end: int
