"""What a backbone's token limit cuts off a catalogue's texts, and what the re-ordered caption saves of it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from lib.catalog.attributes import AttributeRule, AttributeSchema
from lib.catalog.captions import plain_text
from lib.catalog.normal_text import locate_words

IntArray = npt.NDArray[np.int64]
MAX_ITEMS = 2_000
"""Items looked at most: shares are then true to two points, and a tokenizer reads some thousand texts a second."""
PERCENTILES = (50, 90, 95, 99)
_DECIMALS = 6


class Tokens(Protocol):
    """A tokenizer that counts without cutting; `limit` is what the backbone reads, marks included."""

    limit: int

    def count(self, texts: list[str]) -> IntArray:
        """(n_texts,) tokens of each text."""
        ...


def measure_budget(
    rows: pd.DataFrame, schema: AttributeSchema, tokens: Tokens, *, rng: np.random.Generator
) -> dict[str, Any]:
    """Compare the full texts and the captions of a catalogue with a token limit.

    An attribute value that was read from the text is *lost* when the first phrase that names it ends behind the
    last token that the backbone reads: in the full text embedded as it stands, or in the caption.

    Args:
        rows: processed rows with `text`, `caption`, and the attributes of `schema` with their `_source`.
        schema: the one that processed them.
        tokens: the backbone's own tokenizer.
        rng: draws `MAX_ITEMS` of more rows.

    Returns:
        `{"limit", "full_text": {...}, "caption": {...}, "attributes": {name: {...}}}`. Texts have the number of
        `items` that have one and of `distinct` ones, `tokens` (percentiles and maximum over the items), the share
        of items `cut` and, over those, the tokens cut off (`mean`, `p95`); attributes the number `n` of values
        from the text and the shares `lost_in_full_text` and `lost_in_caption`. What cannot be said is a string
        `skipped: reason`.
    """
    if len(rows) > MAX_ITEMS:
        rows = rows.iloc[np.sort(rng.choice(len(rows), size=MAX_ITEMS, replace=False))]
    texts = {
        "full_text": [plain_text(text) for text in rows["text"]],
        "caption": [plain_text(caption) for caption in rows["caption"]],
    }
    counts = {text: 0 for column in texts.values() for text in column}
    counts |= dict(zip(counts, tokens.count(list(counts)).tolist(), strict=True))
    report: dict[str, Any] = {"limit": tokens.limit}
    report |= {name: _lengths(column, counts, tokens.limit) for name, column in texts.items()}
    report["attributes"] = {}
    for name, rule in tqdm(schema.items(), desc="token budget", mininterval=1, delay=2):
        told = np.flatnonzero(rows[f"{name}_source"].eq("text"))
        if not len(told):
            report["attributes"][name] = "skipped: no value was read from the text"
            continue
        values = rows[name].tolist()
        report["attributes"][name] = {"n": len(told)} | {
            f"lost_in_{kind}": _lost([(column[row], values[row]) for row in told.tolist()], rule, counts, tokens)
            for kind, column in texts.items()
        }
    return report


def _lengths(texts: list[str], counts: dict[str, int], limit: int) -> dict[str, Any] | str:
    known = [text for text in texts if text]
    if not known:
        return "skipped: no item has one"
    lengths = np.array([counts[text] for text in known])
    over = lengths[lengths > limit] - limit
    levels = np.percentile(lengths, PERCENTILES, method="inverted_cdf")
    return {
        "items": len(known),
        "distinct": len(set(known)),
        "tokens": {f"p{p}": int(n) for p, n in zip(PERCENTILES, levels, strict=True)} | {"max": int(lengths.max())},
        "cut": round(len(over) / len(known), _DECIMALS),
        "tokens_cut": {
            "mean": round(float(over.mean()), _DECIMALS),
            "p95": int(np.percentile(over, 95, method="inverted_cdf")),
        }
        if len(over)
        else "skipped: no text is cut",
    }


def _lost(named: list[tuple[str, str]], rule: AttributeRule, counts: dict[str, int], tokens: Tokens) -> float:
    """Share of (text, value) pairs whose value is first named behind the limit."""
    # only a cut text can lose anything, and of it only what reaches the end of the phrase is counted
    starts = {pair: _up_to_value(*pair, rule) for pair in named if counts[pair[0]] > tokens.limit}
    read = list(dict.fromkeys(starts.values()))
    lengths = dict(zip(read, tokens.count(read).tolist(), strict=True))
    lost = sum(int(lengths[starts[pair]]) > tokens.limit for pair in named if pair in starts)
    return round(lost / len(named), _DECIMALS)


def _up_to_value(text: str, value: str, rule: AttributeRule) -> str:
    """A text up to the end of the first phrase that names a value; all of it when none does."""
    words = locate_words(text)
    for mention in rule.mentions([word.word for word in words]):
        if mention.counts and mention.value == value:
            return text[: words[mention.end - 1].end]
    return text
