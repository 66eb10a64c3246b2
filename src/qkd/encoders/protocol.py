"""The interface of an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from qkd.core.cache import Key


class Encoder(Protocol):
    """A fixed function from texts to embeddings."""

    name: str
    """What the user called it; ``make_encoder`` takes it back, with ``arrays``."""

    @property
    def dim(self) -> int:
        """D, the embedding width."""
        ...

    @property
    def num_parameters(self) -> int:
        """How many weights it has."""
        ...

    @property
    def key(self) -> Key:
        """Everything that determines an embedding except the text; JSON values."""
        ...

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """What a bundle must keep of it, because it was computed and cannot be fetched again; mostly nothing."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32 of N texts."""
        ...

    def report(self, count: int) -> None:
        """Say what ``count`` texts just encoded lost, if anything."""
        ...
