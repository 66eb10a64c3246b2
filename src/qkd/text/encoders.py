"""What turns texts into the student's numbers: embeddings (N,D)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from qkd.errors import QkdError
from qkd.text import cache
from qkd.text.backbone import Backbone


class Encoder(Protocol):
    """A fixed function from texts to embeddings."""

    name: str
    """What the user called it; ``make_encoder`` takes it back."""

    @property
    def dim(self) -> int:
        """D, the embedding width."""
        ...

    @property
    def num_parameters(self) -> int:
        """How many weights it has."""
        ...

    @property
    def key(self) -> dict[str, Any]:
        """Everything that determines an embedding except the text; JSON values."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32, rows of length 1, of N texts."""
        ...

    def report(self, count: int) -> None:
        """Say what ``count`` texts just encoded lost, if anything."""
        ...


class TransformerEncoder:
    """The last hidden state averaged over real tokens and scaled to length 1, as sentence-transformers does.

    Args:
        name: a short name, folder or hub id.
        max_length: tokens read of each text.
        torch_device: where it runs.
    """

    def __init__(self, name: str, max_length: int | None = None, torch_device: str | None = None) -> None:
        self.name = name
        self._backbone = Backbone(name, max_length, torch_device)
        self.report = self._backbone.report

    @property
    def dim(self) -> int:
        """D, the embedding width."""
        return self._backbone.dim

    @property
    def num_parameters(self) -> int:
        """How many weights it has."""
        return self._backbone.num_parameters

    @property
    def key(self) -> dict[str, Any]:
        """Everything that determines an embedding except the text."""
        return {"kind": "embedding", "model": self._backbone.fingerprint, "max_length": self._backbone.max_length}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32 of N texts."""
        return _unit(self._backbone.pooled(texts, [self._backbone.num_layers])[:, 0])


class HashingEncoder:
    """Word 1-2-grams and character 3-5-grams, hashed; no weights, nothing to download.

    Args:
        dim: D; half of it for words, half for characters.
    """

    def __init__(self, dim: int = 512) -> None:
        self.name, self.dim = f"hashing:{dim}", dim
        self.num_parameters = 0
        self.key = {"kind": "hashing", "dim": dim, "words": [1, 2], "characters": [3, 5]}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32 of N texts."""
        from sklearn.feature_extraction.text import HashingVectorizer

        if not len(texts):
            return np.empty((0, self.dim), np.float32)
        half = self.dim // 2
        words = HashingVectorizer(n_features=half, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
        characters = HashingVectorizer(n_features=self.dim - half, ngram_range=(3, 5), analyzer="char_wb")
        parts = [vectorizer.transform(texts).toarray() for vectorizer in (words, characters)]
        return _unit(np.hstack(parts).astype(np.float32))

    def report(self, count: int) -> None:
        """Nothing of a text is ever lost to its length."""


def make_encoder(name: str, max_length: int | None = None, torch_device: str | None = None) -> Encoder:
    """Return the encoder called ``name``.

    Args:
        name: ``minilm``, ``hashing``, ``hashing:DIM``, or any Hugging Face encoder (folder or hub id).
        max_length: tokens read of each text; 256 or what the model holds when left out.
        torch_device: where a transformer runs; CUDA when there is one, if left out.

    Raises:
        QkdError: there is no such encoder, or its weights cannot be had.
    """
    kind, _, size = name.partition(":")
    if kind != "hashing":
        return TransformerEncoder(name, max_length, torch_device)
    if size and (not size.isdecimal() or int(size) < 2):
        raise QkdError(f"encoder '{name}': '{size}' is no embedding width; write for example hashing:512")
    return HashingEncoder(int(size)) if size else HashingEncoder()


def embed(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """Return embeddings ``(N,D)`` float32 of N texts, from the cache where it has them."""
    found = cache.rows(encoder.key, texts, encoder.encode, f"embedding with {encoder.name}")
    encoder.report(len(texts))
    return found


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return ``rows`` (N,D) scaled to length 1; rows of zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
