"""Attribute values from structured columns and from free text, by an editable schema (`attributes.yaml`).

Text is lower-cased and reduced to words; phrases match whole words, leftmost and longest first. A match counts
unless it is negated ("without a hood"), an imitation ("leather-look") or listed as meaningless ("lace-up").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib.catalog.schema import SOURCED
from lib.errors import ConfigError

Level = Literal[0, 1, 2]
Phrases = Mapping[str, tuple[str, ...]]
BREAK = "|"
"""Stands for punctuation that ends a phrase: no value and no negation reaches across it."""
_NOT_A_WORD = re.compile(r"[^\w%|]+|_")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Negation(_Section):
    """Words that turn a value off; see the comments in `attributes.yaml`."""

    before: frozenset[str] = frozenset()
    fillers: frozenset[str] = frozenset()
    joins: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()


class _AttributeEntry(_Section):
    values: dict[str, tuple[str, ...]] = Field(min_length=1)
    weak: dict[str, tuple[str, ...]] = {}
    generic: dict[str, tuple[str, ...]] = {}
    ignore: tuple[str, ...] = ()
    not_for: frozenset[str] = frozenset()
    imitation_before: frozenset[str] = frozenset()
    imitation_after: frozenset[str] = frozenset()


class _SchemaFile(_Section):
    words: dict[str, tuple[str, ...]] = {}
    negation: Negation = Negation()
    attributes: dict[str, _AttributeEntry]


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
class _Match:
    value: str
    level: Level
    percent: int | None


@dataclass(frozen=True)
class AttributeRule:
    """The phrases of one attribute; made by `load_attribute_schema`.

    Attributes:
        meanings: phrase → (value, level), or None for a phrase that means nothing.
        not_for: words of category names for which the attribute does not exist.
    """

    name: str
    meanings: Mapping[str, tuple[str, Level] | None]
    not_for: frozenset[str]
    negation: Negation
    imitation_before: frozenset[str]
    imitation_after: frozenset[str]

    @cached_property
    def _longest(self) -> int:
        return max(phrase.count(" ") for phrase in self.meanings) + 1

    def applies_to(self, categories: Sequence[str | None]) -> bool:
        """Whether an item of these categories can have the attribute at all; unknown categories can."""
        for category in categories:
            for word in normalise_text(category or "").split():
                if word in self.not_for or _singular(word) in self.not_for:
                    return False
        return True

    def extract(self, text: str) -> Extraction:
        """The value a free text names.

        The strongest level present decides; within it two different values are ambiguous. Where values bear a
        percentage ("80% cotton, 20% silk"), the largest share decides.
        """
        return self._resolve(self._matches(normalise_text(text)))

    def canonical(self, cell: str) -> tuple[str, bool]:
        """A column's value in the schema's words, and whether the schema knows it.

        A value outside the schema comes back lower-cased with single spaces.
        """
        meaning = self.meanings.get(normalise_text(cell).strip())
        if meaning is not None:
            return meaning[0], True
        found = self.extract(cell).value
        return (found, True) if found is not None else (" ".join(cell.lower().split()), False)

    def _matches(self, normal: str) -> list[_Match]:
        words = normal.split()
        found: list[_Match] = []
        negated_until = -1
        start = 0
        while start < len(words):
            end, phrase = self._phrase_at(words, start)
            if phrase is None:
                start += 1
                continue
            before, after = words[:start], words[end : end + 1]
            start = end
            if self._is_negated(before, after, negated_until):
                negated_until = end
                continue
            meaning = self.meanings[phrase]
            if meaning is None or self.imitation_before & set(before[-1:]) or self.imitation_after & set(after):
                continue
            found.append(_Match(*meaning, _percent(before)))
        return found

    def _phrase_at(self, words: list[str], start: int) -> tuple[int, str | None]:
        """End and text of the longest phrase that begins at a word."""
        for end in range(min(start + self._longest, len(words)), start, -1):
            phrase = " ".join(words[start:end])
            if phrase in self.meanings:
                return end, phrase
        return start, None

    def _is_negated(self, before: list[str], after: list[str], negated_until: int) -> bool:
        if self.negation.after & set(after):
            return True
        position = len(before) - 1
        while position >= 0 and before[position] in self.negation.fillers:
            position -= 1
        if position < 0:
            return False
        if before[position] in self.negation.before:
            return True
        return before[position] in self.negation.joins and position == negated_until

    def _resolve(self, matches: list[_Match]) -> Extraction:
        if not matches:
            return NOTHING
        strongest = min(match.level for match in matches)
        kept = [match for match in matches if match.level == strongest]
        shares = [match.percent for match in kept if match.percent is not None]
        if shares:
            kept = [match for match in kept if match.percent == max(shares)]
        values = sorted({match.value for match in kept})
        return Extraction(values[0], level=strongest) if len(values) == 1 else Extraction(None, tuple(values))


AttributeSchema = Mapping[str, AttributeRule]
"""Attribute name → rule, for every name of `SOURCED`."""


@lru_cache(maxsize=256)
def normalise_text(text: str) -> str:
    """Lower-case words with single spaces and one at either end; sentence marks become `|`.

    >>> normalise_text("Men's V-Neck T-Shirt, 3/4 sleeves")
    ' mens v neck t shirt | 3 4 sleeves '
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("'", "").replace("’", "").replace("&", " and ")
    text = re.sub(r"(\d)\s*%", r"\1% ", text)
    text = re.sub(r"[.,;:!?|()\[\]\n]+", f" {BREAK} ", text)
    return f" {' '.join(_NOT_A_WORD.sub(' ', text).split())} "


def load_attribute_schema(path: Path) -> AttributeSchema:
    """Read an attribute schema.

    Raises:
        ConfigError: the file is missing, is no YAML of the expected form, lacks an attribute, or gives one
            phrase two meanings.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such attribute schema; data.attribute_schema names it") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    try:
        file = _SchemaFile.model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"{path}: bad value for '{where}': {problem['msg']}; got {problem['input']!r}") from None
    if set(file.attributes) != set(SOURCED):
        raise ConfigError(
            f"{path}: attributes must be {', '.join(SOURCED)}; got {', '.join(sorted(file.attributes))}"
        )
    return {name: _rule(path, name, file) for name in SOURCED}


def _rule(path: Path, name: str, file: _SchemaFile) -> AttributeRule:
    entry = file.attributes[name]
    explicit: dict[str, tuple[str, Level] | None] = {}
    derived: dict[str, tuple[str, Level] | None] = {}
    levels: tuple[tuple[Phrases, Level], ...] = ((entry.values, 0), (entry.weak, 1), (entry.generic, 2))
    listed: list[tuple[str, tuple[str, Level] | None]] = [(phrase, None) for phrase in entry.ignore]
    for phrases, level in levels:
        listed += [(phrase, (value, level)) for value, many in phrases.items() for phrase in (value, *many)]
    for phrase, meaning in listed:
        plain = normalise_text(phrase).strip()
        if not plain:
            raise ConfigError(f"{path}: {name}: the phrase {phrase!r} has no letters")
        known = explicit.setdefault(plain, meaning)
        # A value repeats itself at a weaker level when it has synonyms there; the stronger one stands.
        if known != meaning and (known is None or meaning is None or known[0] != meaning[0]):
            raise ConfigError(f"{path}: {name}: the phrase {phrase!r} has two meanings: {known} and {meaning}")
        for variant in _variants(plain, file.words):
            derived.setdefault(variant, meaning)
    return AttributeRule(
        name=name,
        meanings={**derived, **explicit},
        not_for=entry.not_for,
        negation=file.negation,
        imitation_before=entry.imitation_before,
        imitation_after=entry.imitation_after,
    )


def _variants(phrase: str, words: Phrases) -> list[str]:
    """Spellings of a phrase: each word's own variants, plurals, and one word where the last one has variants."""
    parts = phrase.split()
    spellings = [" ".join(spelling) for spelling in product(*(words.get(part, (part,)) for part in parts))]
    if parts[-1] in words and len(parts) > 1:
        spellings += [spelling.replace(" ", "") for spelling in spellings]
    return [variant for spelling in spellings for variant in (spelling, f"{spelling}s", f"{spelling}es")]


def _percent(before: list[str]) -> int | None:
    """The percentage within two words before a value ("60% organic cotton")."""
    for word in reversed(before[-2:]):
        if word == BREAK:
            return None
        if re.fullmatch(r"\d{1,3}%", word):
            return int(word[:-1])
    return None


def _singular(word: str) -> str:
    for ending, replacement in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if word.endswith(ending):
            return word.removesuffix(ending) + replacement
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
