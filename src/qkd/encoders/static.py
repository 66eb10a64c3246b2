"""The ``static:`` encoder: a table of one vector a token, made once from a transformer that inference does without.

Every token of the vocabulary goes through the transformer alone; the states lose their mean, are reduced to their
principal directions, and weighted so that frequent tokens count less, frequency being taken from the token's rank in
the vocabulary (Tulkens and van Dongen, *Model2Vec*, 2024; Arora et al., *SIF*, 2017). A text is the mean of its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.encoders.whitening import unit
from qkd.models.backbone import Backbone
from qkd.models.transformer import Loading

RARE = 1e-4
"""SIF's a: a token of frequency p gets the weight a / (a + p)."""


class StaticEncoder:
    """A mean of token vectors.

    Args:
        name: what the user called it.
        model: the transformer that the table is made from: short name, folder or hub id.
        loading: how it is loaded.
        dim: D.
        arrays: a table that was kept; with it, no transformer is looked for.
    """

    def __init__(
        self,
        name: str,
        model: str,
        loading: Loading,
        dim: int = 256,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.name, self._dim, self._kept = name, dim, dict(arrays or {})
        self._backbone = None if self._kept else Backbone(model, loading)

    @property
    def dim(self) -> int:
        """D, the embedding width."""
        return int(self.arrays["table"].shape[1])

    @property
    def num_parameters(self) -> int:
        """The numbers in the table."""
        return self.arrays["table"].size

    @property
    def key(self) -> Key:
        """The hash of table and tokenizer."""
        return {"kind": "static", "content": self._digest}

    @cached_property
    def _digest(self) -> str:
        return cache.digest([self.arrays["table"].tobytes().hex(), self.arrays["tokenizer"].tobytes().hex()])[:24]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """``table (tokens,D)`` float16, and ``tokenizer``, the bytes of its JSON file."""
        if self._backbone is None:
            return self._kept
        key = {"kind": "static", "model": self._backbone.fingerprint, "dim": self._dim, "rare": RARE}
        return cache.arrays(key, lambda: _table(self._backbone, self._dim))  # type: ignore[arg-type]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32, rows of length 1, of N texts."""
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, ids in enumerate(self.tokens(texts)):
            if ids:
                out[row] = self._table[ids].mean(axis=0)
        return unit(out)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids: rows of the table."""
        return [text.ids for text in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def with_table(self, table: np.ndarray) -> StaticEncoder:
        """Return this encoder with another table (tokens,D)."""
        return StaticEncoder(self.name, "", Loading(), arrays={**self.arrays, "table": table})

    def report(self, count: int) -> None:
        """Nothing of a text is ever lost to its length."""

    @cached_property
    def _table(self) -> np.ndarray:
        return self.arrays["table"].astype(np.float32)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.arrays["tokenizer"].tobytes().decode())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


def _table(backbone: Backbone, dim: int) -> dict[str, np.ndarray]:
    """Return ``StaticEncoder.arrays``, computed now."""
    from qkd.core.console import say

    tokenizer = backbone.tokenizer
    around = tokenizer("")["input_ids"]
    before, after = (around[:1], around[1:]) if len(around) > 1 else ([], around)
    count = len(tokenizer)
    say(f"{backbone.model}: reading {count:,} tokens one by one (once)")
    states = backbone.pooled_tokens([[*before, token, *after] for token in range(count)], [backbone.num_layers])[:, 0]
    centred = states - states.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    table = centred @ directions[:, ::-1][:, :dim]
    frequency = 1 / np.arange(1, count + 1)
    weight = RARE / (RARE + frequency / frequency.sum())
    text = tokenizer.backend_tokenizer.to_str()
    return {
        "table": (table * weight[:, None]).astype(np.float16),
        "tokenizer": np.frombuffer(text.encode(), dtype=np.uint8),
    }
