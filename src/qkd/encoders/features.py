"""The ``features:DIM`` encoder: rows of numbers that someone else computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qkd.core.errors import ModelError
from qkd.core.objects import Named
from qkd.core.records import MAX_DIMENSIONS
from qkd.data import features
from qkd.encoders.protocol import EncoderRequest


class FeaturesEncoder(Named):
    """An encoder of features (N,D), which are arrays or texts such as ``[0.5, 1.0]``.

    Args:
        dim: number of features D.
    """

    arrays: Mapping[str, np.ndarray] = {}
    num_parameters = 0

    def __init__(self, dim: int) -> None:
        self.name, self.dim = f"features:{dim}", dim
        self.key = {"kind": "features", "dim": dim}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the features ``(N,D)`` float32 of N rows."""
        return features.to_array(texts, self.dim)

    encode_cached = encode

    def report(self, count: int) -> None:
        """Print nothing: this encoder reads whole rows."""


def make(request: EncoderRequest) -> FeaturesEncoder:
    """Return the encoder of a request."""
    request.check_options(())
    dim = request.model
    if not dim.isdecimal() or len(dim) > 7 or not 1 <= int(dim) <= MAX_DIMENSIONS:
        raise ModelError(f"encoder '{request.name}': '{dim:.20}' is no number of features; write features:D")
    return FeaturesEncoder(int(dim))
