"""Hidden states of a transformer as embeddings: of one layer or of several, read in one pass, fixed or chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.errors import ModelError, nearest
from qkd.encoders.whitening import unit
from qkd.models.backbone import POOLINGS, Backbone
from qkd.models.transformer import Loading

AUTO: tuple[int, ...] = ()
"""Layers that are to be chosen; see ``choose``."""
MOST_LAYERS = 8
"""Layers of one pass that are kept, evenly spaced, the last one among them."""


class TransformerEncoder:
    """Hidden states of a layer, pooled over real tokens and scaled to length 1; of several layers side by side.

    Args:
        name: a short name, folder or hub id, with its options.
        model: the same without options.
        loading: how it is loaded.
        layers: which layers are read, 0 being the embeddings in front of the first; the last when left out, all that
            are kept of a pass when ``AUTO``.
        pooling: one of ``POOLINGS``.
        arrays: weights that were tuned, by name behind ``tuned.``.

    Raises:
        QkdError: there is no such pooling.
    """

    def __init__(
        self,
        name: str,
        model: str,
        loading: Loading | None = None,
        layers: Sequence[int] | None = None,
        pooling: str = "mean",
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        if pooling not in POOLINGS:
            raise ModelError(f"encoder '{name}': there is no pooling '{pooling}'{nearest(pooling, POOLINGS)}")
        self.name, self.model, self.pooling = name, model, pooling
        self._asked = None if layers is None else tuple(sorted(set(layers)))
        self.loading, self.arrays = loading, dict(arrays or {})
        """``arrays``: what a bundle must keep of it."""
        self._whole = Backbone(model, loading)

    @property
    def open(self) -> bool:
        """Whether its layers have yet to be chosen."""
        return self._asked == AUTO

    def with_layers(self, layers: Sequence[int]) -> TransformerEncoder:
        """Return this encoder with its layers chosen."""
        words = self.name.partition("?")[2].split("&")
        chosen = "layers=" + ",".join(map(str, layers))
        options = "&".join(chosen if word.startswith("layers=") else word for word in words)
        other = TransformerEncoder(f"{self.model}?{options}", self.model, self.loading, layers, self.pooling)
        other._whole = self._whole
        return other

    def tuned(self, weights: Mapping[str, np.ndarray]) -> TransformerEncoder:
        """Return this encoder with some of its weights, by name, changed."""
        arrays = {f"tuned.{name}": value for name, value in weights.items()}
        return TransformerEncoder(self.name, self.model, self.loading, self._asked, self.pooling, arrays)

    @property
    def dim(self) -> int:
        """D, the embedding width."""
        return self._whole.dim * len(self.layers)

    @property
    def num_parameters(self) -> int:
        """How many weights it has, up to the last layer that is read."""
        return self._backbone.num_parameters

    @property
    def key(self) -> Key:
        """Everything that determines an embedding except the text."""
        chosen: dict[str, int | list[int] | str] = {} if self._asked is None else {"layers": list(self.layers)}
        if self._asked is not None and len(self._asked) == 1:
            chosen = {"layer": self._asked[0]}
        if self.pooling != "mean":
            chosen["pooling"] = self.pooling
        if self.arrays:
            chosen["tuned"] = self._digest
        return {"kind": "embedding", **self._whole.key, **chosen}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32, each layer's part of a row of length 1, of N texts."""
        return self._read(self._backbone, texts, self.layers)

    def remembered(self, texts: Sequence[str]) -> np.ndarray:
        """Return the same, from the cache where it has them."""
        self.remember(texts)
        columns = [self._stored.index(layer) for layer in self.layers]
        return self._store.read(texts, lambda rows: rows[:, columns]).reshape(len(texts), self.dim)

    def remember(self, texts: Sequence[str]) -> None:
        """Have the cache hold the states of N texts, all that are kept of a pass together."""

        def compute(chunk: list[str]) -> np.ndarray:
            backbone = self._backbone if self._stored == self.layers else self._whole
            return self._read(backbone, chunk, self._stored).reshape(len(chunk), len(self._stored), -1)

        width = (len(self._stored), self._whole.dim)
        self._store.fill(texts, compute, f"embedding with {self.name}", width)
        self.report(len(texts))

    @cached_property
    def _digest(self) -> str:
        return cache.digest([[name, value.tobytes().hex()] for name, value in sorted(self.arrays.items())])[:24]

    @cached_property
    def _stored(self) -> tuple[int, ...]:
        """The layers that are cached together: all that are kept of a pass, or just those asked for."""
        inside = self._asked is not None and set(self.layers) <= set(self.pass_layers) and not self.arrays
        return self.pass_layers if inside else self.layers

    @cached_property
    def _store(self) -> cache.Store:
        changed = {"tuned": self._digest} if self.arrays else {}
        key = {"layers": list(self._stored), "pooling": self.pooling, **changed}
        return cache.Store({"kind": "layers", **key, **self._whole.key})

    def report(self, count: int) -> None:
        """Say how many of ``count`` texts were cut."""
        for backbone in dict.fromkeys((self._whole, self._backbone)):
            backbone.report(count)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers that are read."""
        last = self._whole.num_layers
        if self._asked is None:
            return (last,)
        for layer in self._asked:
            if layer > last:
                raise ModelError(f"encoder '{self.name}': there is no layer {layer}, the last one is {last}")
        return self._asked or self.pass_layers

    @cached_property
    def pass_layers(self) -> tuple[int, ...]:
        """The layers of a whole pass that the cache keeps."""
        last = self._whole.num_layers
        step = -(-last // MOST_LAYERS)
        return tuple(sorted(range(last, 0, -step)))

    @cached_property
    def _backbone(self) -> Backbone:
        """The transformer up to the last layer that is read."""
        top = max(self.layers)
        if top == self._whole.num_layers and not self.arrays:
            return self._whole
        tuned = {name.removeprefix("tuned."): value for name, value in self.arrays.items()}
        return Backbone(self.model, self.loading, max(top, 1), tuned)

    def _read(self, backbone: Backbone, texts: Sequence[str], layers: Sequence[int]) -> np.ndarray:
        states = backbone.pooled(texts, layers, pooling=self.pooling)
        parts = unit(states.reshape(-1, states.shape[2]))
        return parts.reshape(len(texts), -1)
