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

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib.base.errors import ConfigError
from lib.catalog.extraction import NOTHING, Evidence, Extraction, Level, Mention
from lib.catalog.normal_text import BREAK, locate_words, normalise_text, singular
from lib.catalog.schema import SOURCED

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

    @cached_property
    def _first_words(self) -> frozenset[str]:
        return frozenset(phrase.split(" ", 1)[0] for phrase in self.meanings)

    def applies_to(self, categories: Sequence[str | None]) -> bool:
        """Whether an item of these categories can have the attribute at all; unknown categories can."""
        for category in categories:
            for word in normalise_text(category or "").split():
                if word in self.not_for or singular(word) in self.not_for:
                    return False
        return True

    def extract(self, text: str) -> Extraction:
        """The value a free text names.

        The strongest level present decides; within it two different values are ambiguous. Where values bear a
        percentage ("80% cotton, 20% silk"), the largest share decides.
        """
        kept = self._deciding(normalise_text(text).split())
        if not kept:
            return NOTHING
        values = sorted({mention.value for mention in kept})
        return Extraction(values[0], level=kept[0].level) if len(values) == 1 else Extraction(None, tuple(values))

    def evidence(self, text: str) -> tuple[Evidence, ...]:
        """The phrases that decided `extract(text)`, in the order of the text.

        For an ambiguous text those of every value; `()` where the text names nothing.
        """
        kept = self._deciding(normalise_text(text).split())
        words = locate_words(text) if kept else ()
        return tuple(
            Evidence(m.value, self.entries[m.phrase], words[m.start].start, words[m.end - 1].end) for m in kept
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

    def mentions(self, words: Sequence[str]) -> list[Mention]:
        """Every phrase that names a value in the words of a normalised text, in order and without overlap.

        Also those that do not count; phrases listed as meaningless are none.
        """
        found: list[Mention] = []
        negated_until = -1
        start = 0
        while start < len(words):
            end, phrase = self._phrase_at(words, start)
            if phrase is None:
                start += 1
                continue
            after = words[end] if end < len(words) else ""
            negation = self._negation_before(words[:start], negated_until)
            if negation is not None or after in self.negation.after:
                first = start if negation is None else negation
                reach, counts = (first, end + (after in self.negation.after)), False
                negated_until = end
            else:
                imitates = start > 0 and words[start - 1] in self.imitation_before
                reach, counts = (start - imitates, end), not imitates and after not in self.imitation_after
            meaning = self.meanings[phrase]
            if meaning is not None:
                found.append(Mention(phrase, *meaning, start, end, reach, counts))
            start = end
        return found

    def _deciding(self, words: Sequence[str]) -> list[Mention]:
        """Of what counts the strongest level, and of this, where there are percentages, the largest share."""
        found = [mention for mention in self.mentions(words) if mention.counts]
        strongest = min((mention.level for mention in found), default=0)
        kept = [(mention, _percent(words[: mention.start])) for mention in found if mention.level == strongest]
        largest = max((percent for _, percent in kept if percent is not None), default=None)
        return [mention for mention, percent in kept if percent == largest or largest is None]

    def _phrase_at(self, words: Sequence[str], start: int) -> tuple[int, str | None]:
        """End and text of the longest phrase that begins at a word."""
        if words[start] not in self._first_words:
            return start, None
        for end in range(min(start + self._longest, len(words)), start, -1):
            phrase = " ".join(words[start:end])
            if phrase in self.meanings:
                return end, phrase
        return start, None

    def _negation_before(self, before: Sequence[str], negated_until: int) -> int | None:
        """Position of the word that negates what follows `before`, or None."""
        position = len(before) - 1
        while position >= 0 and before[position] in self.negation.fillers:
            position -= 1
        if position < 0:
            return None
        joined = before[position] in self.negation.joins and position == negated_until
        return position if joined or before[position] in self.negation.before else None


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


def _percent(before: Sequence[str]) -> int | None:
    """The percentage within two words before a value ("60% organic cotton")."""
    for word in reversed(before[-2:]):
        if word == BREAK:
            return None
        if re.fullmatch(r"\d{1,3}%", word):
            return int(word[:-1])
    return None
