"""Token counts against what the tokenizers really write."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lib.encoding import torchvision_ops  # noqa: F401
from lib.encoding.backbone import Backbone
from lib.encoding.tokens import TokenCounter

import open_clip  # isort: skip

TEXTS = ["", "Red V-neck", "naïve 3/4-sleeve tee &amp; 100% cotton!!", "wool " * 40]


def counter(tokenizer: Any) -> TokenCounter:
    return TokenCounter(Backbone(torch.nn.Identity(), None, tokenizer, "fake"))


def test_byte_pairs_are_counted_as_they_are_written() -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    tokens = counter(tokenizer)
    assert tokens.limit == 32
    roomy = tokenizer(TEXTS, context_length=500)
    end = int(tokenizer.eot_token_id)
    expected = [row.tolist().index(end) + 1 for row in roomy]
    assert tokens.count(TEXTS).tolist() == expected == [2, 6, expected[2], 42]
    assert tokens.count([]).tolist() == []


def test_what_fits_is_not_cut_and_one_more_is() -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    tokens = counter(tokenizer)
    for n_words in (29, 30, 31, 32):
        text = " ".join(["wool"] * n_words)
        read = int((tokenizer([text])[0] == tokenizer.encode("wool")[0]).sum())
        assert (tokens.count([text])[0] <= tokens.limit) == (read == n_words)


@pytest.mark.parametrize(("mode", "marks"), [("", 1), ("clips", 3)])
def test_hugging_face_tokenizers_count_their_own_marks(mode: str, marks: int) -> None:
    def tokenize(texts: list[str], *, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[7] * len(text.split()) + [1] * add_special_tokens for text in texts]}

    fake = SimpleNamespace(context_length=64, tokenizer_mode=mode, clean_fn=str.lower, tokenizer=tokenize)
    found = counter(fake).count(["A B c", ""])
    assert found.tolist() == [3 + marks, marks] and found.dtype == np.int64
    assert counter(fake).count([]).tolist() == []
