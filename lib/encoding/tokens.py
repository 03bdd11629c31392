"""How many tokens a text is to a backbone, before its tokenizer cuts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lib.encoding.backbone import Backbone

_START_AND_END = 2
_CLIPS_MARKS = 3  # start, end, class


class TokenCounter:
    """A backbone's tokenizer without its cut.

    Attributes:
        limit: tokens that the backbone reads of a text, its marks for start and end included.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._tokenizer = backbone.tokenizer
        self.limit = int(backbone.tokenizer.context_length)

    def count(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Tokens of each text, the marks for start and end included; (n_texts,) int64."""
        if hasattr(self._tokenizer, "encode"):  # OpenCLIP's own byte-pair tokenizer
            lengths = [len(self._tokenizer.encode(text)) + _START_AND_END for text in texts]
        else:  # a Hugging Face one in OpenCLIP's wrapper
            clips = self._tokenizer.tokenizer_mode == "clips"
            cleaned = [self._tokenizer.clean_fn(text) for text in texts]
            encoded = self._tokenizer.tokenizer(cleaned, add_special_tokens=not clips)["input_ids"] if texts else []
            lengths = [len(tokens) + _CLIPS_MARKS * clips for tokens in encoded]
        return np.asarray(lengths, dtype=np.int64)
