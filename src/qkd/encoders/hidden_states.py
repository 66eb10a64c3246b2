"""Hidden states of a transformer as embeddings: of one layer or several, read in one pass, fixed or chosen.

``choose_layers`` compares layers by the leave-one-out error of a linear probe. The last layer serves the transformer's
own task; layers below it often contain information that the last one has lost. The cache keeps all layers of a pass, so
each candidate costs one eigendecomposition. Leave-one-out errors use all training and validation texts, because the
validation texts alone are too few to compare candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.console import log
from qkd.core.errors import ModelError, nearest
from qkd.core.files import read_json
from qkd.core.objects import Named
from qkd.encoders.combined import JoinedEncoder
from qkd.encoders.protocol import Encoder, EncoderRequest, embed_texts, unit
from qkd.models.backbone import POOLINGS, Backbone
from qkd.models.linear_probes import leave_one_out, squared_errors
from qkd.models.transformer import Loading
from qkd.results.teacher import SelectionTrial

# qkd's pooling for each name in a folder of sentence-transformers, of its new and of its old format
SENTENCE_POOLINGS = {
    "cls": "first",
    "pooling_mode_cls_token": "first",
    "mean": "mean",
    "pooling_mode_mean_tokens": "mean",
    "max": "max",
    "pooling_mode_max_tokens": "max",
    "lasttoken": "last",
    "pooling_mode_lasttoken": "last",
}
# The layers of ``?layers=auto``, which ``choose_layers`` replaces.
AUTO: tuple[int, ...] = ()
# Maximum number of layers of one pass that the cache keeps, evenly spaced, including the last one.
MAX_CACHED_LAYERS = 8
# Maximum number of texts on which layers are compared.
MAX_TEXTS = 2000
# A single layer is preferred for fine-tuning if its relative excess error is below this: fine-tuning gained as much.
MAX_EXCESS_ERROR = 0.05


class TransformerEncoder(Named):
    """Hidden states pooled over a text's tokens and scaled to length 1, those of several layers side by side.

    Args:
        layers: layers to read, 0 being the embeddings in front of the first. None means the last one; ``AUTO`` means
            all that the cache keeps.
        pooling: one of ``POOLINGS``.
        arrays: fine-tuned weights, by name after ``tuned.``.
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
        self.whole = Backbone(model, loading)

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
        other.whole = self.whole
        return other

    def with_weights(self, weights: Mapping[str, np.ndarray]) -> TransformerEncoder:
        """Return this encoder with some of its weights, by name, replaced."""
        arrays = {f"tuned.{name}": value for name, value in weights.items()}
        return TransformerEncoder(self.name, self.model, self.loading, self._requested, self.pooling, arrays)

    @property
    def dim(self) -> int:
        """Embedding width D."""
        return self.whole.dim * len(self.layers)

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
        return {"kind": "embedding", **self.whole.key, **chosen}

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
            backbone = self._backbone if self._stored == self.layers else self.whole
            return self._read(backbone, chunk, self._stored).reshape(len(chunk), len(self._stored), -1)

        width = (len(self._stored), self.whole.dim)
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
        return cache.Store({"kind": "layers", **key, **self.whole.key})

    def report(self, count: int) -> None:
        """Print how many of ``count`` texts were cut."""
        for backbone in dict.fromkeys((self.whole, self._backbone)):
            backbone.report(count)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Layers that are read."""
        last = self.whole.num_layers
        if self._requested is None:
            return (last,)
        for layer in self._requested:
            if layer > last:
                raise ModelError(f"encoder '{self.name}': there is no layer {layer}, the last one is {last}")
        return self._requested or self.pass_layers

    @cached_property
    def pass_layers(self) -> tuple[int, ...]:
        """Layers of a whole pass that the cache keeps."""
        last = self.whole.num_layers
        step = -(-last // MAX_CACHED_LAYERS)
        return tuple(sorted(range(last, 0, -step)))

    @cached_property
    def _backbone(self) -> Backbone:
        """The transformer up to the highest layer that is read."""
        top = max(self.layers)
        if top == self.whole.num_layers and not self.arrays:
            return self.whole
        weights = {name.removeprefix("tuned."): value for name, value in self.arrays.items()}
        return Backbone(self.model, self.loading, max(top, 1), weights)

    def _read(self, backbone: Backbone, texts: Sequence[str], layers: Sequence[int]) -> np.ndarray:
        states = backbone.pooled(texts, layers, pooling=self.pooling)
        return unit(states.reshape(-1, states.shape[2])).reshape(len(texts), -1)


def make(request: EncoderRequest) -> TransformerEncoder:
    """Return the encoder of a request."""
    request.check_options(("layers", "layer", "pooling", "tokens"))
    options = request.options
    tokens = request.number("tokens", options["tokens"]) if "tokens" in options else None
    choice = options.get("layers", options.get("layer"))
    layers = AUTO if choice == "auto" else None
    if choice and choice != "auto":
        layers = tuple(request.number("layers", layer, least=0) for layer in choice.split(","))
    loading = replace(request.loading, max_tokens=tokens)
    encoder = TransformerEncoder(
        request.name, request.model, loading, layers, options.get("pooling", "mean"), request.arrays
    )
    _compare_modules(encoder, Path(encoder.whole.source.path))
    return encoder


def _compare_modules(encoder: TransformerEncoder, folder: Path) -> None:
    """Warn where a folder of sentence-transformers computes its embeddings in another way than qkd."""
    if not (folder / "modules.json").is_file():
        return
    modules = read_json(folder / "modules.json")
    for module in modules if isinstance(modules, list) else ():
        kind = str(module.get("type")).rpartition(".")[2] if isinstance(module, dict) else ""
        if kind == "Pooling":
            config = read_json(folder / str(module.get("path")) / "config.json")
            modes = [] if not isinstance(config, dict) else [str(config.get("pooling_mode"))]
            modes += [key for key, value in config.items() if value is True] if modes else []
            wanted = [ours for mode, ours in SENTENCE_POOLINGS.items() if mode in modes]
            if wanted != [encoder.pooling]:
                log.warning(
                    f"encoder '{encoder.name}': sentence-transformers pools this model by "
                    f"{' and '.join(wanted or modes)}, and qkd by {encoder.pooling}; set ?pooling= to one of "
                    f"{', '.join(POOLINGS)}"
                )
        elif kind not in ("Transformer", "Normalize"):
            log.warning(
                f"encoder '{encoder.name}': qkd reads the transformer without its module {kind}, so embeddings are not "
                "those of sentence-transformers; pass that model as an object in Python to use it whole"
            )


def layer_candidates(layers: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the sets of ``layers`` to compare: the last, the one at two thirds, both, and the upper two thirds."""
    middle = layers[max(round(2 * len(layers) / 3) - 1, 0)]
    upper = tuple(layers[len(layers) // 3 :])
    return list(dict.fromkeys([(layers[-1],), (middle,), tuple(sorted({middle, layers[-1]})), upper]))


def choose_layers(
    encoder: Encoder, texts: Sequence[str], y: np.ndarray, trains: bool = False
) -> tuple[Encoder, list[SelectionTrial]]:
    """Return ``encoder`` with its open layers chosen, and the errors of all candidates.

    Args:
        encoder: any encoder; only transformers with ``?layers=auto`` have open layers.
        texts: labeled texts (N), none of them of the test split.
        y: their class numbers (N,).
        trains: whether the encoder is fine-tuned with the student. Then a single layer within ``MAX_EXCESS_ERROR`` of
            the smallest error is preferred, because a student overfits many fixed layers and ignores the others.

    Returns:
        The encoder, and the candidates in the order compared.
    """
    if isinstance(encoder, JoinedEncoder):
        parts = [choose_layers(part, texts, y, trains) for part in encoder.parts]
        return JoinedEncoder([part for part, _ in parts]), [row for _, rows in parts for row in rows]
    if not isinstance(encoder, TransformerEncoder) or not encoder.has_open_layers:
        return encoder, []
    encoder.fill_cache(texts)  # one pass serves all candidates
    step = -(-len(texts) // MAX_TEXTS)  # the order of the rows does not depend on the class
    some, classes = texts[::step], np.unique(y[::step], return_inverse=True)[1]
    tried: list[SelectionTrial] = []
    for layers in layer_candidates(encoder.pass_layers):
        candidate = encoder.with_layers(layers)
        x = embed_texts(candidate, some)
        x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
        scores = leave_one_out(x @ x.T, classes)
        error = float(squared_errors(scores, classes).mean())
        accuracy = float((scores.argmax(axis=1) == classes).mean())
        tried.append(SelectionTrial(name=candidate.name, layers=layers, error=error, accuracy=accuracy))
    limit = (1 + MAX_EXCESS_ERROR) * min(row.error for row in tried)
    single = [row for row in tried if len(row.layers) == 1 and row.error <= limit] if trains else []
    return encoder.with_layers(min(single or tried, key=lambda row: row.error).layers), tried
