"""The ``hashing[:DIM]`` encoder: hashed n-grams, without weights or downloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qkd.core.errors import ModelError
from qkd.core.objects import Named
from qkd.core.records import MAX_DIMENSIONS
from qkd.encoders.protocol import EncoderRequest, unit


class HashingEncoder(Named):
    """Word 1-2-grams and character 3-5-grams, hashed.

    Args:
        dim: embedding width D; half of it for words, half for characters.
    """

    arrays: Mapping[str, np.ndarray] = {}
    num_parameters = 0

    def __init__(self, dim: int = 512) -> None:
        self.name, self.dim = f"hashing:{dim}", dim
        self.key = {"kind": "hashing", "dim": dim, "words": [1, 2], "characters": [3, 5]}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32, rows of length 1, of N texts."""
        from sklearn.feature_extraction.text import HashingVectorizer

        if not len(texts):
            return np.empty((0, self.dim), np.float32)
        half = self.dim // 2
        words = HashingVectorizer(n_features=half, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
        characters = HashingVectorizer(n_features=self.dim - half, ngram_range=(3, 5), analyzer="char_wb")
        parts = [vectorizer.transform(texts).toarray() for vectorizer in (words, characters)]
        return unit(np.hstack(parts).astype(np.float32))

    def report(self, count: int) -> None:
        """Print nothing: this encoder reads whole texts."""


def make(request: EncoderRequest) -> HashingEncoder:
    """Return the encoder of a request."""
    request.check_options(())
    dim = request.model
    if dim and (not dim.isdecimal() or len(dim) > 7 or not 2 <= int(dim) <= MAX_DIMENSIONS):
        raise ModelError(f"encoder '{request.name}': '{dim:.20}' is no embedding width; write for example hashing:512")
    return HashingEncoder(int(dim)) if dim else HashingEncoder()
