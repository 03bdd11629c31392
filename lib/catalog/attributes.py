"""Attribute values from structured columns and from free text, by an editable schema (`attributes.yaml`).

Text is lower-cased and reduced to words; phrases match whole words, leftmost and longest first. A match counts
unless it is negated ("without a hood"), an imitation ("leather-look") or listed as meaningless ("lace-up").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib.catalog.normal_text import BREAK, locate_words, normalise_text
from lib.catalog.schema import SOURCED
from lib.errors import ConfigError

Level = Literal[0, 1, 2]
Phrases = Mapping[str, tuple[str, ...]]


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


@dataclass(frozen=True)
class _Match:
    value: str
    level: Level
    percent: int | None
    first: int  # word
    end: int  # word after the last one
    phrase: str


@dataclass(frozen=True)
class AttributeRule:
    """The phrases of one attribute; made by `load_attribute_schema`.

    Attributes:
        meanings: phrase → (value, level), or None for a phrase that means nothing.
        entries: phrase → the phrase that the schema lists for it.
        not_for: words of category names for which the attribute does not exist.
    """

    name: str
    meanings: Mapping[str, tuple[str, Level] | None]
    entries: Mapping[str, str]
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
        kept = _deciding(self._matches(normalise_text(text)))
        if not kept:
            return NOTHING
        values = sorted({match.value for match in kept})
        return Extraction(values[0], level=kept[0].level) if len(values) == 1 else Extraction(None, tuple(values))

    def evidence(self, text: str) -> tuple[Evidence, ...]:
        """The phrases that decided `extract(text)`, in the order of the text.

        For an ambiguous text those of every value; `()` where the text names nothing.
        """
        kept = _deciding(self._matches(normalise_text(text)))
        words = locate_words(text) if kept else []
        return tuple(
            Evidence(m.value, self.entries[m.phrase], words[m.first].start, words[m.end - 1].end) for m in kept
        )

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
            first, start = start, end
            if self._is_negated(before, after, negated_until):
                negated_until = end
                continue
            meaning = self.meanings[phrase]
            if meaning is None or self.imitation_before & set(before[-1:]) or self.imitation_after & set(after):
                continue
            found.append(_Match(*meaning, _percent(before), first, end, phrase))
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


AttributeSchema = Mapping[str, AttributeRule]
"""Attribute name → rule, for every name of `SOURCED`."""


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
    entries: dict[str, str] = {}
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
            entries.setdefault(variant, plain)
    return AttributeRule(
        name=name,
        meanings={**derived, **explicit},
        entries={**entries, **{phrase: phrase for phrase in explicit}},
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


def _deciding(matches: list[_Match]) -> list[_Match]:
    """Of the matches those of the strongest level, and of these with percentages the largest share."""
    strongest = min((match.level for match in matches), default=0)
    kept = [match for match in matches if match.level == strongest]
    largest = max((match.percent for match in kept if match.percent is not None), default=None)
    return kept if largest is None else [match for match in kept if match.percent == largest]


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
