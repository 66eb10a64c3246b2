"""The ``object:NAME`` encoder: a function, a scikit-learn transformer or another object that embeds texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qkd.core import objects
from qkd.core.cache import checked_rows
from qkd.core.errors import ConfigError, ModelError
from qkd.core.objects import Named
from qkd.encoders.protocol import EncoderRequest

PROBE = "object.probe"
PROBE_TEXT = "A text that shows whether two encoders are the same."
METHODS = ("encode", "transform")
"""Methods that embed texts: of encoders and sentence transformers, and of scikit-learn transformers."""


def embedding_function(value: Any) -> Callable[[list[str]], Any]:
    """Return the function of an object that embeds texts."""
    for method in METHODS:
        if callable(getattr(value, method, None)) and not isinstance(value, type):
            function: Callable[[list[str]], Any] = getattr(value, method)
            return function
    if not callable(value) or isinstance(value, type):
        kind = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise ConfigError(
            f"encoder is {kind}; give a name, a function from N texts to numbers (N,D), or an object with a method "
            f"{' or '.join(METHODS)}"
        )
    return value


class GivenEncoder(Named):
    """A caller's object as an encoder. Its embeddings are computed on each request and not cached.

    Args:
        name: ``object:NAME``.
    """

    def __init__(self, name: str, value: Any) -> None:
        self.name, self._function, self.dim = name, embedding_function(value), 0
        number = getattr(value, "num_parameters", 0)
        self.num_parameters = number if isinstance(number, int) else 0
        probe = self.encode([PROBE_TEXT])[0]
        self.dim, self.key = len(probe), {"kind": "object", "dim": len(probe)}
        self.arrays = {PROBE: probe}  # by this embedding of a fixed text a loaded student recognizes its encoder

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32 of N texts."""
        if not len(texts):
            return np.empty((0, self.dim), np.float32)
        try:
            rows = self._function(list(texts))
            rows = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows)
        except Exception as error:  # the caller's code
            raise ModelError(f"encoder '{self.name}' fails: {type(error).__name__}: {error}") from error
        if rows.ndim != 2 or not rows.shape[1]:
            raise ModelError(
                f"encoder '{self.name}' returns shape {rows.shape} for {len(texts)} texts; it must return (N,D)"
            )
        width = (self.dim,) if self.dim else None
        return checked_rows(f"encoder '{self.name}'", texts, rows, width).astype(np.float32)

    encode_cached = encode

    def report(self, count: int) -> None:
        """Print nothing: only the object knows the texts that it cut."""


def make(request: EncoderRequest) -> GivenEncoder:
    """Return the encoder of a request."""
    request.check_options(())
    name = objects.PREFIX + request.model
    encoder = GivenEncoder(name, objects.find("encoder", name))
    saved = request.arrays.get(PROBE)
    if saved is not None:
        current = encoder.arrays[PROBE]
        if saved.shape != current.shape or not np.allclose(saved, current, rtol=1e-2, atol=1e-2 * np.abs(saved).max()):
            raise ModelError(
                f"encoder '{name}' gives other embeddings than the object that the student was trained with; pass that "
                "object as encoder=..."
            )
    return encoder
