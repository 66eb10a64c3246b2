"""The ``static:MODEL`` encoder: a table of one vector per token, made once from a transformer.

Every token of the vocabulary passes through the transformer alone. The states are centered, reduced to their principal
directions, and weighted so that frequent tokens count less. The token's rank in the vocabulary determines its frequency
(Tulkens and van Dongen, *Model2Vec*, 2024; Arora et al., *SIF*, 2017). An embedding is the mean over a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.console import log
from qkd.core.errors import ModelError
from qkd.encoders.protocol import EncoderRequest, unit
from qkd.models.backbone import Backbone

# SIF's a: a token of frequency p has the weight a / (a + p).
SIF_WEIGHT = 1e-4


class StaticEncoder:
    """A mean of token vectors.

    Args:
        source: the transformer from which a table is made, or a table that was saved: ``arrays``.
    """

    def __init__(self, name: str, dim: int, source: Backbone | Mapping[str, np.ndarray]) -> None:
        self.name, self._dim, self._source = name, dim, source

    @property
    def dim(self) -> int:
        """Embedding width D."""
        return int(self.arrays["table"].shape[1])

    @property
    def num_parameters(self) -> int:
        """Number of entries of the table."""
        return self.arrays["table"].size

    @cached_property
    def key(self) -> Key:
        """Hash of table and tokenizer."""
        content = [self.arrays[name].tobytes().hex() for name in ("table", "tokenizer")]
        return {"kind": "static", "content": cache.digest(content)[:24]}

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """``table (tokens,D)`` float16, and ``tokenizer``, the bytes of its JSON file."""
        source = self._source
        if not isinstance(source, Backbone):
            return source
        key = {"kind": "static", "model": source.fingerprint, "dim": self._dim, "rare": SIF_WEIGHT}
        return cache.arrays(key, lambda: make_table(source, self._dim))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32, rows of length 1, of N texts."""
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, ids in enumerate(self.tokens(texts)):
            if ids:
                out[row] = self._table[ids].mean(axis=0)
        return unit(out)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids, which are rows of the table."""
        return [text.ids for text in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def with_table(self, table: np.ndarray) -> StaticEncoder:
        """Return this encoder with another table (tokens,D)."""
        return StaticEncoder(self.name, self._dim, {**self.arrays, "table": table})

    def report(self, count: int) -> None:
        """Print nothing: this encoder reads whole texts."""

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


def make_table(backbone: Backbone, dim: int) -> dict[str, np.ndarray]:
    """Return ``StaticEncoder.arrays`` of a transformer.

    Raises:
        ModelError: its tokenizer is not one of the tokenizers library.
    """
    tokenizer = backbone.tokenizer
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ModelError(f"static:{backbone.model}: the model has no tokenizer.json; choose a model that has one")
    special = tokenizer("")["input_ids"]
    before, after = (special[:1], special[1:]) if len(special) > 1 else ([], special)
    count = len(tokenizer)
    log.info(f"{backbone.model}: reading {count:,} tokens one by one (once)")
    states = backbone.pooled_tokens([[*before, token, *after] for token in range(count)], [backbone.num_layers])[:, 0]
    centered = states - states.mean(axis=0)
    _, directions = np.linalg.eigh(centered.T @ centered)
    table = centered @ directions[:, ::-1][:, :dim]
    frequency = 1 / np.arange(1, count + 1)
    weight = SIF_WEIGHT / (SIF_WEIGHT + frequency / frequency.sum())
    text = tokenizer.backend_tokenizer.to_str()
    return {
        "table": (table * weight[:, None]).astype(np.float16),
        "tokenizer": np.frombuffer(text.encode(), dtype=np.uint8),
    }


def make(request: EncoderRequest) -> StaticEncoder:
    """Return the encoder of a request; one with saved arrays needs no transformer.

    Raises:
        ModelError: no model is named, an option does not fit, or the model cannot be located.
    """
    request.check_options(("dim",))
    if not request.model:
        raise ModelError(f"encoder '{request.name}' names no model; write for example static:minilm")
    dim = request.number("dim", request.options.get("dim", "256"))
    return StaticEncoder(request.name, dim, request.arrays or Backbone(request.model, request.loading))
