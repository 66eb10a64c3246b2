"""The ``static:MODEL`` encoder: a table of one vector per token, distilled from a transformer.

A token's vector is the mean of its hidden states over the training texts, labeled or not (Bommasani et al., 2020). The
states are those of three depths: the token embeddings, two thirds of the layers, and the last layer. The token alone
counts as ``ALONE_WEIGHT`` occurrences, so that unseen tokens have the vector that Model2Vec gives them (Tulkens and van
Dongen, 2024). Vectors are reduced to the principal directions of the training texts and weighted so that frequent
tokens count less. The token's rank in the vocabulary determines its frequency (Arora et al., *SIF*, 2017). An embedding
is the mean over a text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.console import log, progress
from qkd.core.errors import ModelError
from qkd.core.objects import Named
from qkd.encoders.combined import JoinedEncoder
from qkd.encoders.protocol import Encoder, EncoderRequest, unit
from qkd.models.backbone import Backbone

# SIF's a: a token of frequency p has the weight a / (a + p).
SIF_WEIGHT = 1e-4
# Number of occurrences in texts as which a token alone counts.
ALONE_WEIGHT = 2.0
# Size of a WordPiece vocabulary beyond which tokens that no training text has are dropped, the rarest first.
MAX_TABLE_TOKENS = 15_000
# Weight of the tokens' covariance beside that of the training texts.
TOKEN_VARIANCE = 1e-3


class StaticEncoder(Named):
    """A mean of token vectors.

    Args:
        source: the transformer from which a table is made, or a table that was saved: ``arrays``.
        texts: the texts whose tokens the transformer reads in context.
    """

    def __init__(
        self, name: str, dim: int, source: Backbone | Mapping[str, np.ndarray], texts: Sequence[str] = ()
    ) -> None:
        self.name, self._dim, self._source, self._texts = name, dim, source, texts

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
        texts = cache.digest(list(self._texts))
        sizes = [SIF_WEIGHT, ALONE_WEIGHT, MAX_TABLE_TOKENS]
        key = {"kind": "static", "model": source.key, "dim": self._dim, "texts": texts, "sizes": sizes}
        return cache.arrays(key, lambda: make_table(source, self._dim, self._texts))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32, rows of length 1, of N texts."""
        return mean_vectors(self._table, self.tokens(texts))

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids, which are rows of the table."""
        return [text.ids for text in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def fit(self, texts: Sequence[str]) -> StaticEncoder:
        """Return this encoder with a table made of training texts; a saved table does not change."""
        if not isinstance(self._source, Backbone):
            return self
        return StaticEncoder(self.name, self._dim, self._source, tuple(texts))

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


def mean_vectors(table: np.ndarray, tokens: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    """Return the means (N,D) of N texts' vectors, scaled to length 1, from their rows of a ``table`` (T,D)."""
    out = np.zeros((len(tokens), table.shape[1]), np.float32)
    for row, ids in enumerate(tokens):
        if len(ids):
            out[row] = table[ids].mean(axis=0)
    return unit(out)


def fit_tables(encoder: Encoder, texts: Sequence[str]) -> Encoder:
    """Return ``encoder`` with the tables of its static parts made of the training ``texts`` (N)."""
    if isinstance(encoder, JoinedEncoder):
        return JoinedEncoder([fit_tables(part, texts) for part in encoder.parts])
    return encoder.fit(texts) if isinstance(encoder, StaticEncoder) else encoder


def make_table(backbone: Backbone, dim: int, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return ``StaticEncoder.arrays`` of a transformer and N training texts.

    Raises:
        ModelError: its tokenizer is not one of the tokenizers library.
    """
    if not hasattr(backbone.tokenizer, "backend_tokenizer"):
        raise ModelError(f"static:{backbone.model}: the model has no tokenizer.json; choose a model that has one")
    content = json.loads(backbone.tokenizer.backend_tokenizer.to_str())
    text_tokens = backbone.tokens(texts)
    kept = _kept_tokens(content, text_tokens, len(backbone.tokenizer))
    states, counts = _mean_states(backbone, kept, text_tokens)
    share = (counts + 1) / (counts + 1).sum()
    scale = np.sqrt(np.einsum("t,tld->l", share, states**2))  # all depths have the same weight
    frequency = 1 / (kept + 1)
    weight = SIF_WEIGHT / (SIF_WEIGHT + frequency / frequency.sum())
    table = (states / np.maximum(scale, 1e-12)[:, None]).reshape(len(kept), -1) * weight[:, None]
    special = backbone.tokenizer("")["input_ids"]
    means = mean_vectors(table, [np.searchsorted(kept, [n for n in ids if n not in special]) for ids in text_tokens])
    means -= means.mean(axis=0) if len(means) else 0
    # The tokens determine the directions in which few texts do not vary.
    covariance = means.T @ means / max(len(means), 1) + TOKEN_VARIANCE * table.T @ table / len(table)
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :dim]
    # Students standardize each number. After a rotation all have similar variances, so that weak directions stay weak.
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(directions.shape[1],) * 2))
    return {
        "table": (table @ (directions @ rotation)).astype(np.float16),
        "tokenizer": np.frombuffer(json.dumps(_renumbered(content, kept), ensure_ascii=False).encode(), dtype=np.uint8),
    }


def _mean_states(
    backbone: Backbone, kept: np.ndarray, text_tokens: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean centered states (T,layers,D) of the ``kept`` tokens (T,) and how often each occurs (T,)."""
    import torch

    special = backbone.tokenizer("")["input_ids"]
    before, after = (special[:1], special[1:]) if len(special) > 1 else ([], special)
    layers = sorted({0, round(2 * backbone.num_layers / 3), backbone.num_layers})
    alone = [[*before, token, *after] for token in kept.tolist()]
    states = np.zeros((len(kept), len(layers), backbone.dim), np.float32)
    sums, counts = np.zeros_like(states), np.zeros(len(kept), np.float32)

    def read(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.stack(backbone.states(ids, mask, layers), dim=2)

    log.info(f"{backbone.model}: distilling a static table of {len(kept):,} tokens from {len(text_tokens):,} texts")
    with progress("distilling a static table", len(alone) + len(text_tokens), "texts") as bar:
        for rows, values in backbone.batched(alone, read):
            states[rows] = values[:, len(before)]
            bar.advance(len(rows))
        for rows, values in backbone.batched(text_tokens, read):
            ids = np.concatenate([text_tokens[row] for row in rows])
            flat = np.concatenate([value[: len(text_tokens[row])] for row, value in zip(rows, values, strict=True)])
            own = ~np.isin(ids, special)
            places = np.searchsorted(kept, ids[own])
            np.add.at(sums, places, flat[own])
            np.add.at(counts, places, 1)
            bar.advance(len(rows))
    backbone.report(len(text_tokens))
    center = sums.sum(axis=0) / max(counts.sum(), 1)
    states = ALONE_WEIGHT * (states - states.mean(axis=0)) + sums - counts[:, None, None] * center
    return states / (ALONE_WEIGHT + counts)[:, None, None], counts


def _kept_tokens(content: Mapping[str, Any], text_tokens: Sequence[Sequence[int]], size: int) -> np.ndarray:
    """Return the sorted ids of the tokens that a table has: all, or for WordPiece the frequent and the seen ones.

    WordPiece vocabularies are sorted by frequency, and a word whose token is dropped is split into shorter tokens.
    """
    if content["model"]["type"] != "WordPiece":
        return np.arange(size)
    seen = {token["id"] for token in content["added_tokens"]}.union(*text_tokens)
    common = sorted(n for token, n in content["model"]["vocab"].items() if n not in seen and "[unused" not in token)
    return np.array(sorted([*seen, *common[: max(MAX_TABLE_TOKENS - len(seen), 0)]]))


def _renumbered(content: dict[str, Any], kept: np.ndarray) -> dict[str, Any]:
    """Return a tokenizer's JSON with the ``kept`` tokens alone, numbered in the order of their ids."""
    if content["model"]["type"] != "WordPiece":
        return content
    number = {old: new for new, old in enumerate(kept.tolist())}
    vocabulary = {token: number[old] for token, old in content["model"]["vocab"].items() if old in number}
    # A text that contains [SEP] is a text, and no sequence of two.
    added = [{**token, "id": number[token["id"]]} for token in content["added_tokens"] if not token["special"]]
    model = {**content["model"], "vocab": vocabulary}
    return {**content, "model": model, "added_tokens": added, "post_processor": None}


def make(request: EncoderRequest) -> StaticEncoder:
    """Return the encoder of a request; one with saved arrays needs no transformer.

    Raises:
        ModelError: no model is named, an option does not fit, or the model cannot be located.
    """
    request.check_options(("dim",))
    if not request.model:
        raise ModelError(f"encoder '{request.name}' names no model; write for example static:minilm")
    dim = request.number("dim", request.options.get("dim", "128"))
    return StaticEncoder(request.name, dim, request.arrays or Backbone(request.model, request.loading))
