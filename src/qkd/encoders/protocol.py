"""The interface of an encoder, the request that makes one, and cached embeddings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from qkd.core import cache
from qkd.core.arguments import public
from qkd.core.cache import Key
from qkd.core.errors import ModelError, nearest
from qkd.models.transformer import Loading


class Encoder(Protocol):
    """A fixed function from texts to embeddings.

    Attributes:
        name: Name from which ``make_encoder`` makes the same encoder again, given ``arrays``.
    """

    name: str

    @property
    def dim(self) -> int:
        """Embedding width D."""
        ...

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        ...

    @property
    def key(self) -> Key:
        """Everything that determines an embedding except the text; JSON values."""
        ...

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Arrays that a bundle must contain because they were computed and cannot be fetched; mostly none."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32 of N texts."""
        ...

    def report(self, count: int) -> None:
        """Print how many of the ``count`` texts encoded last were cut, if any."""
        ...


@runtime_checkable
class CachingEncoder(Protocol):
    """An encoder that organizes its cached rows itself."""

    def encode_cached(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32 of N texts from the cache, after adding those that it lacks."""
        ...


@dataclass(frozen=True)
class EncoderRequest:
    """A parsed encoder name ``[KIND:]MODEL[?OPTION=VALUE&...]``.

    Attributes:
        name: The whole name, with absolute paths.
        model: The model, or the argument of the kind.
        options: The options after the question mark.
        loading: How models are loaded.
        arrays: Arrays from a bundle; empty for a new encoder.
    """

    name: str
    model: str
    options: Mapping[str, str]
    loading: Loading
    arrays: Mapping[str, np.ndarray]

    def check_options(self, known: Collection[str]) -> None:
        """Refuse options that are not among ``known``."""
        for option in self.options:
            if option not in known:
                raise ModelError(f"encoder '{self.name}': there is no option '{option}'{nearest(option, known)}")

    def number(self, option: str, value: str, least: int = 1) -> int:
        """Return the ``value`` of an option as a number that is not below ``least``."""
        if not value.isdecimal() or int(value) < least:
            raise ModelError(f"encoder '{self.name}': {option}={value} is no number from {least} on")
        return int(value)


@public
def embed_texts(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """Return embeddings ``(N,D)`` float32 of N texts, from the cache where possible.

    Raises:
        ModelError: embeddings have another shape or are not finite.
    """
    if isinstance(encoder, CachingEncoder):
        return encoder.encode_cached(texts)
    rows = cache.cached_rows(encoder.key, texts, encoder.encode, f"embedding with {encoder.name}", (encoder.dim,))
    encoder.report(len(texts))
    return rows


def unit(rows: np.ndarray) -> np.ndarray:
    """Return ``rows`` (N,D) scaled to length 1; zero rows stay zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
