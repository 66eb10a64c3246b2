"""Several encoders side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qkd.core.cache import Key
from qkd.core.objects import Named
from qkd.encoders.protocol import Encoder, embed_texts


class JoinedEncoder(Named):
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
