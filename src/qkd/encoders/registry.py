"""What turns texts into the student's numbers: embeddings (N,D)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.errors import ModelError, nearest
from qkd.core.records import DIMENSIONS
from qkd.encoders.hidden_states import AUTO, TransformerEncoder
from qkd.encoders.protocol import Encoder
from qkd.encoders.static import StaticEncoder
from qkd.encoders.whitening import Whitened, unit
from qkd.models import weights
from qkd.models.transformer import Loading


class HashingEncoder:
    """Word 1-2-grams and character 3-5-grams, hashed; no weights, nothing to download.

    Args:
        dim: D; half of it for words, half for characters.
    """

    arrays: Mapping[str, np.ndarray] = {}

    def __init__(self, dim: int = 512) -> None:
        self.name, self.dim = f"hashing:{dim}", dim
        self.num_parameters = 0
        self.key = {"kind": "hashing", "dim": dim, "words": [1, 2], "characters": [3, 5]}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings ``(N,D)`` float32, rows of length 1, of N texts."""
        from sklearn.feature_extraction.text import HashingVectorizer

        if not len(texts):
            return np.empty((0, self.dim), np.float32)
        half = self.dim // 2
        words = HashingVectorizer(n_features=half, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
        characters = HashingVectorizer(n_features=self.dim - half, ngram_range=(3, 5), analyzer="char_wb")
        parts = [vectorizer.transform(texts).toarray() for vectorizer in (words, characters)]
        return unit(np.hstack(parts).astype(np.float32))

    def report(self, count: int) -> None:
        """Nothing of a text is ever lost to its length."""


class JoinedEncoder:
    """Several encoders side by side.

    Args:
        parts: the encoders.
    """

    def __init__(self, parts: Sequence[Encoder]) -> None:
        self.parts = tuple(parts)
        self.name = "+".join(part.name for part in self.parts)

    @property
    def dim(self) -> int:
        """D, the sum of the parts' widths."""
        return sum(part.dim for part in self.parts)

    @property
    def num_parameters(self) -> int:
        """The weights of all parts."""
        return sum(part.num_parameters for part in self.parts)

    @property
    def key(self) -> Key:
        """The parts' keys."""
        return {"kind": "joined", "parts": [part.key for part in self.parts]}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The parts' arrays, each under its part's number."""
        return {f"{n}.{name}": value for n, part in enumerate(self.parts) for name, value in part.arrays.items()}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the parts' embeddings side by side, ``(N,D)`` float32."""
        return np.hstack([part.encode(texts) for part in self.parts])

    def report(self, count: int) -> None:
        """Say what the parts lost of ``count`` texts."""
        for part in self.parts:
            part.report(count)


def make_encoder(
    name: str,
    torch_device: str | None = None,
    trust_remote_code: bool = False,
    arrays: Mapping[str, np.ndarray] | None = None,
    allow_download: bool = True,
) -> Encoder:
    """Return the encoder called ``name``.

    Args:
        name: ``hashing[:DIM]``, ``static:MODEL[?dim=]``, or a transformer (short name, folder or hub id), with
            ``?layers=``, ``&pooling=`` and ``&tokens=`` behind it where wanted; several joined by ``+``.
        torch_device: where a transformer runs; CUDA when there is one, if left out.
        trust_remote_code: whether a transformer may bring Python code of its own.
        arrays: the encoder's ``arrays`` from when it was saved.
        allow_download: whether a model that is not in the hub's cache may be fetched.

    Raises:
        ModelError: there is no such encoder, or its weights cannot be loaded.
    """
    loading = Loading(torch_device=torch_device, trust_remote_code=trust_remote_code, allow_download=allow_download)
    return _make(name, loading, dict(arrays or {}))


def _make(name: str, loading: Loading, arrays: dict[str, np.ndarray]) -> Encoder:
    if "whitening.matrix" in arrays:
        mean, matrix = arrays.pop("whitening.mean"), arrays.pop("whitening.matrix")
        return Whitened(_make(name, loading, arrays), mean, matrix)
    names = split_name(name)
    if len(names) == 1:
        return _single(name, loading, arrays)
    if not all(names):
        raise ModelError(f"encoder '{name}': something is missing beside a '+'; write for example minilm+hashing")
    return JoinedEncoder([_make(part, loading, _under(arrays, f"{number}.")) for number, part in enumerate(names)])


def split_name(name: str) -> list[str]:
    """Return the parts of a joined encoder's name; a folder's name may contain the joining sign itself."""
    words, parts = name.split("+"), []
    while words:
        longest = next((n for n in range(len(words), 1, -1) if _in_folder_name("+".join(words[:n]), n - 1)), 1)
        parts.append("+".join(words[:longest]))
        words = words[longest:]
    return parts


def _in_folder_name(name: str, signs: int) -> bool:
    """Return whether ``name`` is a folder, with or without options and kind, that contains all the ``signs``."""
    model = _query(name)[0].removeprefix("static:")
    return model.count("+") == signs and Path(model).is_dir()


def map_models(name: str, change: Callable[[str], str]) -> str:
    """Return an encoder's name with every model in it replaced by ``change(model)``."""
    parts = []
    for part in split_name(name):
        model, query = _query(part)
        kind, colon, rest = model.partition(":")
        parts.append(f"static:{change(rest)}{query}" if kind == "static" and colon else change(model) + query)
    return "+".join(parts)


def _query(name: str) -> tuple[str, str]:
    """Return a name without its options, and the options with their question mark."""
    if Path(name).is_dir():
        return name, ""
    model, mark, query = name.rpartition("?")
    if not mark or not Path(model).is_dir():
        model, mark, query = name.partition("?")
    return model, mark + query


def has_layers(name: str) -> bool:
    """Return whether the encoder called ``name`` is one transformer, by its name alone."""
    kind = name.partition("?")[0].partition(":")[0]
    return Path(name).is_dir() or (kind not in ("hashing", "static") and "+" not in name)


def _single(name: str, loading: Loading, arrays: Mapping[str, np.ndarray]) -> Encoder:
    name = map_models(name, weights.stable_name)
    model, query = _query(name)
    query = query.removeprefix("?")
    kind, _, rest = model.partition(":")
    if kind == "hashing" and not query:
        if rest and (not rest.isdecimal() or len(rest) > 7 or not 2 <= int(rest) <= DIMENSIONS):
            raise ModelError(f"encoder '{name}': '{rest:.20}' is no embedding width; write for example hashing:512")
        return HashingEncoder(int(rest)) if rest else HashingEncoder()
    if kind == "static" and rest:
        return StaticEncoder(name, rest, loading, **_numbers(name, query, ("dim",)), arrays=arrays)
    options = _options(name, query, ("layers", "layer", "pooling", "tokens"))
    tokens = _number(name, "tokens", options["tokens"]) if "tokens" in options else None
    choice = options.get("layers", options.get("layer"))
    layers = (
        AUTO if choice == "auto" else tuple(_number(name, "layers", n) for n in choice.split(",")) if choice else None
    )
    return TransformerEncoder(
        name, model, replace(loading, max_tokens=tokens), layers, options.get("pooling", "mean"), arrays
    )


def _options(name: str, query: str, known: Sequence[str]) -> dict[str, str]:
    """Return what stands behind an encoder's question mark."""
    options = {}
    for word in filter(None, query.split("&")):
        key, sign, value = word.partition("=")
        if key not in known or not sign:
            raise ModelError(f"encoder '{name}': there is no option '{key}'{nearest(key, known)}")
        options[key] = value
    return options


def _numbers(name: str, query: str, known: Sequence[str]) -> dict[str, int]:
    return {key: _number(name, key, value) for key, value in _options(name, query, known).items()}


def _number(name: str, key: str, value: str) -> int:
    if not value.isdecimal():
        raise ModelError(f"encoder '{name}': {key}={value} is no number")
    return int(value)


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def embed_texts(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """Return embeddings ``(N,D)`` float32 of N texts, from the cache where it has them."""
    if isinstance(encoder, JoinedEncoder):  # each part has its own rows, so that other combinations find them
        return np.hstack([embed_texts(part, texts) for part in encoder.parts])
    if isinstance(encoder, Whitened):
        return encoder.apply(embed_texts(encoder.inner, texts))
    if isinstance(encoder, TransformerEncoder):  # its layers have rows together, so that another choice finds them
        return encoder.remembered(texts)
    rows = cache.cached_rows(encoder.key, texts, encoder.encode, f"embedding with {encoder.name}", (encoder.dim,))
    encoder.report(len(texts))
    return rows


def whitened(encoder: Encoder, texts: Sequence[str], dim: int) -> Whitened:
    """Return ``encoder`` followed by the whitening of its embeddings of N ``texts``.

    Args:
        encoder: what makes the embeddings (N,D).
        texts: what the whitening is fitted on: the training split.
        dim: how many of the strongest directions are kept; at most D, and fewer than N.

    Raises:
        QkdError: there are not that many directions.
    """
    return Whitened.fitted(encoder, embed_texts(encoder, texts), dim)
