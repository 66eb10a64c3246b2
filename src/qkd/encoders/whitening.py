"""Embeddings with their correlations taken out: the strongest directions of the training texts, each of variance 1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.cache import Key
from qkd.core.errors import ModelError

if TYPE_CHECKING:
    from qkd.encoders.protocol import Encoder


def unit(rows: np.ndarray) -> np.ndarray:
    """Return ``rows`` (N,D) scaled to length 1; rows of zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


class Whitened:
    """An encoder and the linear map behind it.

    Args:
        inner: what makes embeddings (N,D).
        mean: (D,) of the training texts.
        matrix: (D,k), which takes centred embeddings to k uncorrelated numbers of variance 1.
    """

    def __init__(self, inner: Encoder, mean: np.ndarray, matrix: np.ndarray) -> None:
        self.inner, self.mean, self.matrix = inner, mean, matrix
        self.name = inner.name

    @classmethod
    def fitted(cls, inner: Encoder, embeddings: np.ndarray, dim: int) -> Whitened:
        """Return the whitening of ``embeddings`` (N,D) that keeps ``dim`` directions.

        Not scikit-learn's ``PCA``: it gives the same up to signs, and a run of an earlier version that is gone on with
        needs the signs it began with.

        Raises:
            QkdError: the embeddings do not vary in that many directions.
        """
        mean = embeddings.mean(axis=0)
        _, singular, directions = np.linalg.svd((embeddings - mean).astype(np.float64), full_matrices=False)
        rank = int(np.sum(singular > 1e-6 * singular[0]))
        if dim > rank:
            raise ModelError(
                f"--whiten {dim}: the {len(embeddings):,} training embeddings of {inner.name} vary in {rank} ways; "
                "keep fewer"
            )
        deviations = singular[:dim] / np.sqrt(len(embeddings) - 1)
        return cls(inner, mean, (directions[:dim].T / deviations).astype(np.float32))

    @property
    def dim(self) -> int:
        """k, the number of directions."""
        return int(self.matrix.shape[1])

    @property
    def num_parameters(self) -> int:
        """The weights of the encoder and of the map."""
        return self.inner.num_parameters + self.mean.size + self.matrix.size

    @property
    def key(self) -> Key:
        """The encoder's key and the map's hash."""
        content = hashlib.sha256(self.mean.tobytes() + self.matrix.tobytes()).hexdigest()[:24]
        return {"kind": "whitened", "inner": self.inner.key, "map": content}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The map, and what the encoder must keep itself."""
        return {"whitening.mean": self.mean, "whitening.matrix": self.matrix, **self.inner.arrays}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return whitened embeddings ``(N,k)`` float32 of N texts."""
        return self.apply(self.inner.encode(texts))

    def apply(self, embeddings: np.ndarray) -> np.ndarray:
        """Return ``(N,k)`` float32 of the encoder's embeddings (N,D)."""
        return ((embeddings - self.mean) @ self.matrix).astype(np.float32)

    def report(self, count: int) -> None:
        """Say what the encoder lost of ``count`` texts."""
        self.inner.report(count)
