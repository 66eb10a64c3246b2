"""Encoders made of encoders: several side by side, and one with whitened embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from qkd.core.cache import Key
from qkd.core.errors import ModelError
from qkd.encoders.protocol import Encoder, embed_texts


class JoinedEncoder:
    """Several encoders side by side."""

    def __init__(self, parts: Sequence[Encoder]) -> None:
        self.parts = tuple(parts)
        self.name = "+".join(part.name for part in self.parts)

    @property
    def dim(self) -> int:
        """Sum of the parts' widths."""
        return sum(part.dim for part in self.parts)

    @property
    def num_parameters(self) -> int:
        """Number of weights of all parts."""
        return sum(part.num_parameters for part in self.parts)

    @property
    def key(self) -> Key:
        """The keys of the parts."""
        return {"kind": "joined", "parts": [part.key for part in self.parts]}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the parts, each after its part's number."""
        return {f"{n}.{name}": value for n, part in enumerate(self.parts) for name, value in part.arrays.items()}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the parts' embeddings side by side, ``(N,D)`` float32."""
        return np.hstack([part.encode(texts) for part in self.parts])

    def encode_cached(self, texts: Sequence[str]) -> np.ndarray:
        """Return the same from the cache. Each part has rows of its own, which other combinations reuse."""
        return np.hstack([embed_texts(part, texts) for part in self.parts])

    def report(self, count: int) -> None:
        """Print how many of ``count`` texts the parts cut."""
        for part in self.parts:
            part.report(count)


class Whitened:
    """An encoder followed by a linear map to uncorrelated numbers of variance 1.

    Args:
        mean: mean embedding (D,) of the training texts.
        matrix: map (D,k) of centered embeddings.
    """

    def __init__(self, inner: Encoder, mean: np.ndarray, matrix: np.ndarray) -> None:
        self.inner, self.mean, self.matrix, self.name = inner, mean, matrix, inner.name

    @property
    def dim(self) -> int:
        """Number of directions k."""
        return int(self.matrix.shape[1])

    @property
    def num_parameters(self) -> int:
        """Number of weights of the encoder and the map."""
        return self.inner.num_parameters + self.mean.size + self.matrix.size

    @property
    def key(self) -> Key:
        """The encoder's key and the map's hash."""
        content = hashlib.sha256(self.mean.tobytes() + self.matrix.tobytes()).hexdigest()[:24]
        return {"kind": "whitened", "inner": self.inner.key, "map": content}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The map, and the encoder's own arrays."""
        return {"whitening.mean": self.mean, "whitening.matrix": self.matrix, **self.inner.arrays}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return whitened embeddings ``(N,k)`` float32 of N texts."""
        return self._mapped(self.inner.encode(texts))

    def encode_cached(self, texts: Sequence[str]) -> np.ndarray:
        """Return the same, with the encoder's embeddings from the cache."""
        return self._mapped(embed_texts(self.inner, texts))

    def report(self, count: int) -> None:
        """Print how many of ``count`` texts the encoder cut."""
        self.inner.report(count)

    def _mapped(self, embeddings: np.ndarray) -> np.ndarray:
        return ((embeddings - self.mean) @ self.matrix).astype(np.float32)


def whiten(encoder: Encoder, texts: Sequence[str], dim: int) -> Whitened:
    """Return ``encoder`` followed by the whitening of its embeddings of N ``texts``.

    Args:
        texts: the texts that determine the map: those of the training split.
        dim: number of strongest directions to keep; at most D, and fewer than N.
    """
    embeddings = embed_texts(encoder, texts)
    mean = embeddings.mean(axis=0)
    _, singular, directions = np.linalg.svd((embeddings - mean).astype(np.float64), full_matrices=False)
    rank = int(np.sum(singular > 1e-6 * singular[0]))
    if dim > rank:
        raise ModelError(
            f"--whiten {dim}: the {len(embeddings):,} training embeddings of {encoder.name} vary in {rank} directions; "
            "keep fewer"
        )
    deviations = singular[:dim] / np.sqrt(len(embeddings) - 1)
    return Whitened(encoder, mean, (directions[:dim].T / deviations).astype(np.float32))
