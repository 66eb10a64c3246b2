"""Hidden states of a transformer as embeddings: of one layer or several, read in one pass, fixed or chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.errors import ModelError, nearest
from qkd.encoders.protocol import EncoderRequest, unit
from qkd.models.backbone import POOLINGS, Backbone
from qkd.models.transformer import Loading

# The layers of ``?layers=auto``, which ``layer_choice.choose_layers`` replaces.
AUTO: tuple[int, ...] = ()
# Maximum number of layers of one pass that the cache keeps, evenly spaced, including the last one.
MAX_CACHED_LAYERS = 8


class TransformerEncoder:
    """Hidden states pooled over a text's tokens and scaled to length 1, those of several layers side by side.

    Args:
        layers: layers to read, 0 being the embeddings in front of the first. None means the last one; ``AUTO`` means
            all that the cache keeps.
        pooling: one of ``POOLINGS``.
        arrays: fine-tuned weights, by name after ``tuned.``.

    Raises:
        ModelError: there is no such pooling.
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
        self._requested = None if layers is None else tuple(sorted(set(layers)))
        self.loading, self.arrays = loading, dict(arrays or {})
        self._whole = Backbone(model, loading)

    @property
    def has_open_layers(self) -> bool:
        """True if its layers have yet to be chosen."""
        return self._requested == AUTO

    def with_layers(self, layers: Sequence[int]) -> TransformerEncoder:
        """Return this encoder with its layers chosen."""
        words = self.name.removeprefix(self.model).removeprefix("?").split("&")
        chosen = "layers=" + ",".join(map(str, layers))
        options = "&".join(chosen if word.startswith("layers=") else word for word in words)
        other = TransformerEncoder(f"{self.model}?{options}", self.model, self.loading, layers, self.pooling)
        other._whole = self._whole
        return other

    def with_weights(self, weights: Mapping[str, np.ndarray]) -> TransformerEncoder:
        """Return this encoder with some of its weights, by name, replaced."""
        arrays = {f"tuned.{name}": value for name, value in weights.items()}
        return TransformerEncoder(self.name, self.model, self.loading, self._requested, self.pooling, arrays)

    @property
    def dim(self) -> int:
        """Embedding width D."""
        return self._whole.dim * len(self.layers)

    @property
    def num_parameters(self) -> int:
        """Number of weights up to the highest layer that is read."""
        return self._backbone.num_parameters

    @property
    def key(self) -> Key:
        """Everything that determines an embedding except the text."""
        chosen: dict[str, int | list[int] | str] = {} if self._requested is None else {"layers": list(self.layers)}
        if self._requested is not None and len(self._requested) == 1:
            chosen = {"layer": self._requested[0]}
        if self.pooling != "mean":
            chosen["pooling"] = self.pooling
        if self.arrays:
            chosen["tuned"] = self._digest
        return {"kind": "embedding", **self._whole.key, **chosen}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32 of N texts; the part of each layer has length 1."""
        return self._read(self._backbone, texts, self.layers)

    def encode_cached(self, texts: Sequence[str]) -> np.ndarray:
        """Return the same from the cache, after adding the texts that it lacks."""
        self.fill_cache(texts)
        columns = [self._stored.index(layer) for layer in self.layers]
        return self._store.read(texts, lambda rows: rows[:, columns]).reshape(len(texts), self.dim)

    def fill_cache(self, texts: Sequence[str]) -> None:
        """Add the states of N texts to the cache. All layers that it keeps come from one pass."""

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
        """Layers that are cached together: those of a whole pass if they contain the ones read, else these alone."""
        inside = self._requested is not None and set(self.layers) <= set(self.pass_layers) and not self.arrays
        return self.pass_layers if inside else self.layers

    @cached_property
    def _store(self) -> cache.Store:
        changed = {"tuned": self._digest} if self.arrays else {}
        key = {"layers": list(self._stored), "pooling": self.pooling, **changed}
        return cache.Store({"kind": "layers", **key, **self._whole.key})

    def report(self, count: int) -> None:
        """Print how many of ``count`` texts were cut."""
        for backbone in dict.fromkeys((self._whole, self._backbone)):
            backbone.report(count)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Layers that are read."""
        last = self._whole.num_layers
        if self._requested is None:
            return (last,)
        for layer in self._requested:
            if layer > last:
                raise ModelError(f"encoder '{self.name}': there is no layer {layer}, the last one is {last}")
        return self._requested or self.pass_layers

    @cached_property
    def pass_layers(self) -> tuple[int, ...]:
        """Layers of a whole pass that the cache keeps."""
        last = self._whole.num_layers
        step = -(-last // MAX_CACHED_LAYERS)
        return tuple(sorted(range(last, 0, -step)))

    @cached_property
    def _backbone(self) -> Backbone:
        """The transformer up to the highest layer that is read."""
        top = max(self.layers)
        if top == self._whole.num_layers and not self.arrays:
            return self._whole
        weights = {name.removeprefix("tuned."): value for name, value in self.arrays.items()}
        return Backbone(self.model, self.loading, max(top, 1), weights)

    def _read(self, backbone: Backbone, texts: Sequence[str], layers: Sequence[int]) -> np.ndarray:
        states = backbone.pooled(texts, layers, pooling=self.pooling)
        return unit(states.reshape(-1, states.shape[2])).reshape(len(texts), -1)


def make(request: EncoderRequest) -> TransformerEncoder:
    """Return the encoder of a request.

    Raises:
        ModelError: an option does not exist or does not fit, or the model cannot be located.
    """
    request.check_options(("layers", "layer", "pooling", "tokens"))
    options = request.options
    tokens = request.number("tokens", options["tokens"]) if "tokens" in options else None
    choice = options.get("layers", options.get("layer"))
    layers = AUTO if choice == "auto" else None
    if choice and choice != "auto":
        layers = tuple(request.number("layers", layer) for layer in choice.split(","))
    loading = replace(request.loading, max_tokens=tokens)
    pooling = options.get("pooling", "mean")
    return TransformerEncoder(request.name, request.model, loading, layers, pooling, request.arrays)
