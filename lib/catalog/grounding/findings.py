"""What a completed audit says: how often values are right, what makes them wrong, what to change in the schema."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from lib.catalog.attributes import AttributeSchema
from lib.catalog.grounding.proportions import proportion
from lib.catalog.grounding.review import NONE, Judgement, judged
from lib.catalog.normal_text import BREAK, normalise_text
from lib.catalog.schema import SOURCED

LOW_PRECISION = 0.9
MIN_JUDGED = 3
"""Fewer cases than this give no advice."""
MIN_REPEATED = 2
"""Wrong values that a neighbouring word must share before it is named."""
MAX_EXAMPLES = 3
CONTEXT = 40
"""Characters on either side of a phrase in an example."""


def analyse(judgements: Sequence[Judgement], schema: AttributeSchema) -> dict[str, Any]:
    """Sum up a completed audit.

    `precision` is correct / (correct + wrong): what cannot be seen is counted apart and is neither. Intervals are
    Wilson's at 95 % and take claims for independent. The audit gives rare categories a floor of places, so that
    totals lean a little towards them.

    Args:
        judgements: what `read_review` returned; at least one is judged.
        schema: to tell which true values it knows.

    Returns:
        `claims`, `judged`, `missing` (in all and per attribute); counts `by_attribute`, `by_source`,
        `by_category`; `confusions` (stated → true); `rules` that led to values, the worst first; `contamination`
        (each source of wrong values with its surroundings and examples); `notes` of the reviewer; `advice`. What
        cannot be said is `skipped: reason`; lists are empty where there is nothing to tell.
    """
    known = judged(judgements)
    missing = Counter(j.attribute for j in judgements if j.verdict is None)
    wrong = [j for j in known if j.verdict == "wrong"]
    rules = _rule_counts(known)
    return {
        "claims": len(judgements),
        "judged": len(known),
        "missing": {"claims": missing.total(), "by_attribute": {name: missing[name] for name in SOURCED}},
        "by_attribute": _grouped(known, lambda j: (j.attribute,), ("attribute",)),
        "by_source": _grouped(known, lambda j: (j.attribute, j.source), ("attribute", "source")),
        "by_category": _grouped(known, lambda j: (j.category, j.attribute), ("category", "attribute")),
        "confusions": _confusions(wrong),
        "rules": rules,
        "contamination": _contamination(known),
        "notes": _notes(known),
        "advice": {
            "low_precision": [
                rule
                for rule in rules
                if rule["correct"] + rule["wrong"] >= MIN_JUDGED and rule["precision"] < LOW_PRECISION
            ],
            "ignore": _phrases_to_ignore(known),
            "missing_values": _missing_values(wrong, schema),
            "not_visible": _not_visible(known),
        },
    }


def _counts(group: Iterable[Judgement]) -> dict[str, Any]:
    found = Counter(j.verdict for j in group)
    visible = found["correct"] + found["wrong"]
    return {
        "judged": found.total(),
        "correct": found["correct"],
        "wrong": found["wrong"],
        "not_visible": found["not_visible"],
        **proportion(found["correct"], visible, name="precision", empty="nothing that can be seen was judged"),
    }


def _grouped(
    known: Sequence[Judgement], key: Callable[[Judgement], tuple[str, ...]], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    groups: dict[tuple[Hashable, ...], list[Judgement]] = defaultdict(list)
    for judgement in known:
        groups[key(judgement)].append(judgement)
    order = sorted(groups, key=lambda parts: [_rank(str(part)) for part in parts])
    return [dict(zip(names, parts, strict=True)) | _counts(groups[parts]) for parts in order]


def _rank(name: str) -> tuple[int, str]:
    """Attributes in their own order, anything else by name."""
    return (SOURCED.index(name), name) if name in SOURCED else (len(SOURCED), name)


def _confusions(wrong: Sequence[Judgement]) -> list[dict[str, Any]]:
    pairs: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for j in wrong:
        pairs[j.attribute, j.value, str(j.true_value)][j.source] += 1
    order = sorted(pairs, key=lambda pair: (-pairs[pair].total(), pair))
    return [
        {"attribute": a, "stated": s, "true": t, "claims": pairs[a, s, t].total()} | _sources(pairs[a, s, t])
        for a, s, t in order
    ]


def _sources(counts: Counter[str]) -> dict[str, int]:
    return {f"from_{source}": counts[source] for source in ("column", "text")}


def _rule_counts(known: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Per entry of the schema, over the claims it led to; a claim with several entries counts for each."""
    groups: dict[tuple[str, str, str], list[Judgement]] = defaultdict(list)
    for judgement in known:
        for rule in judgement.rules:
            groups[judgement.attribute, judgement.value, rule].append(judgement)
    rows = [{"attribute": a, "value": v, "rule": r} | _counts(group) for (a, v, r), group in groups.items()]
    return sorted(rows, key=lambda row: (-row["wrong"], -row["judged"], row["attribute"], row["rule"]))


def _contamination(known: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Every source of wrong values: a column, or entries of the schema in a text."""
    groups: dict[tuple[str, str, str, str], list[Judgement]] = defaultdict(list)
    for j in known:
        groups[j.attribute, j.value, j.source, "; ".join(j.rules)].append(j)
    rows = []
    for (attribute, value, source, rule), group in groups.items():
        wrong = [j for j in group if j.verdict == "wrong"]
        if not wrong:
            continue
        truths = Counter(str(j.true_value) for j in wrong)
        rows.append(
            {
                "attribute": attribute,
                "value": value,
                "source": source,
                "rule": rule,
                **_counts(group),
                "true_values": dict(sorted(truths.items(), key=lambda entry: (-entry[1], entry[0]))),
                "surroundings": _surroundings(group),
                "examples": [
                    {"row": j.row, "item_id": j.item_id, "context": context(j), "note": j.note}
                    for j in wrong[:MAX_EXAMPLES]
                ],
            }
        )
    return sorted(rows, key=lambda row: (-row["wrong"], row["attribute"], row["value"], row["source"], row["rule"]))


def _surroundings(group: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Phrases with the word before or after them that several wrong values share, where they are wrong at least
    as often as the phrases are in all."""
    verdicts = Counter(judgement.verdict for judgement in group)
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for judgement in group:
        for words in wider_phrases(judgement):
            seen[words][str(judgement.verdict)] += 1
    rows = [
        {"words": words, "wrong": counts["wrong"], "correct": counts["correct"]}
        for words, counts in seen.items()
        if counts["wrong"] >= MIN_REPEATED
        and counts["wrong"] * verdicts["correct"] >= verdicts["wrong"] * counts["correct"]
    ]
    return sorted(rows, key=lambda row: (-row["wrong"], row["correct"], row["words"]))


def wider_phrases(judgement: Judgement) -> set[str]:
    """The phrases of a claim with one more word before, and with one more after, as the schema writes them."""
    words = normalise_text(judgement.text).split()
    found: set[str] = set()
    for phrase in judgement.phrases:
        parts = normalise_text(phrase).split()
        for start in range(len(words) - len(parts) + 1):
            end = start + len(parts)
            if words[start:end] == parts:
                found |= {" ".join(w) for w in (words[max(start - 1, 0) : end], words[start : end + 1])}
    plain = {normalise_text(phrase).strip() for phrase in judgement.phrases}
    return {phrase for phrase in found - plain if BREAK not in phrase.split()}


def context(judgement: Judgement) -> str:
    """The text around the first phrase, which stands in [brackets]; the start of the text without one."""
    text = " ".join(judgement.text.split())
    phrase = " ".join(judgement.phrases[0].split()) if judgement.phrases else ""
    place = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) if phrase else None
    if place is None:
        return text[: 2 * CONTEXT] + ("…" if len(text) > 2 * CONTEXT else "")
    start, end = max(place.start() - CONTEXT, 0), place.end() + CONTEXT
    before, after = "…" if start else "", "…" if end < len(text) else ""
    return f"{before}{text[start : place.start()]}[{phrase}]{text[place.end() : end]}{after}"


def _notes(known: Sequence[Judgement]) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for j in known:
        if j.note:
            counts[j.note.lower(), j.attribute][str(j.verdict)] += 1
    order = sorted(counts, key=lambda key: (-counts[key].total(), key))
    return [{"note": note, "attribute": a, "claims": counts[note, a].total()} for note, a in order]


def _phrases_to_ignore(known: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Wider phrases that were never right: candidates for `ignore` in the schema."""
    groups: dict[tuple[str, str], list[Judgement]] = defaultdict(list)
    for judgement in known:
        if judgement.rules:
            groups[judgement.attribute, judgement.value].append(judgement)
    rows = [
        {"attribute": attribute, "value": value, **entry}
        for (attribute, value), group in groups.items()
        for entry in _surroundings(group)
        if entry["correct"] == 0
    ]
    return sorted(rows, key=lambda row: (-row["wrong"], row["attribute"], row["words"]))


def _missing_values(wrong: Sequence[Judgement], schema: AttributeSchema) -> list[dict[str, Any]]:
    stated: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for j in wrong:
        if j.true_value not in (None, NONE) and not schema[j.attribute].canonical(str(j.true_value))[1]:
            stated[j.attribute, str(j.true_value)][j.value] += 1
    order = sorted(stated, key=lambda key: (-stated[key].total(), key))
    return [
        {"attribute": a, "true": t, "claims": stated[a, t].total(), "stated": dict(sorted(stated[a, t].items()))}
        for a, t in order
    ]


def _not_visible(known: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Attributes of a category that most of its claims cannot be seen for, or that it does not have."""
    groups: dict[tuple[str, str], list[Judgement]] = defaultdict(list)
    for judgement in known:
        groups[judgement.category, judgement.attribute].append(judgement)
    rows = []
    for (category, attribute), group in groups.items():
        hidden = sum(j.verdict == "not_visible" for j in group)
        absent = sum(j.true_value == NONE for j in group)
        if len(group) >= MIN_JUDGED and 2 * (hidden + absent) >= len(group):
            share = proportion(hidden + absent, len(group), name="share", empty="nothing was judged")
            rows.append(
                {"category": category, "attribute": attribute, "judged": len(group)}
                | {"not_visible": hidden, "does_not_exist": absent}
                | share
            )
    return sorted(rows, key=lambda row: (-(row["not_visible"] + row["does_not_exist"]), row["category"]))
