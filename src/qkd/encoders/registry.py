"""The encoders by name. A joined name ``A+B`` puts the embeddings of several side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import numpy as np

from qkd.core.arguments import public
from qkd.core.errors import ModelError
from qkd.encoders.combined import JoinedEncoder
from qkd.encoders.protocol import Encoder, EncoderRequest
from qkd.models import weights
from qkd.models.transformer import Loading

# The module of each kind KIND:ARGUMENT. Names without a known kind are transformers.
KINDS = {
    "features": "qkd.encoders.features",
    "hashing": "qkd.encoders.hashing",
    "object": "qkd.encoders.given",
    "static": "qkd.encoders.static",
    "transformer": "qkd.encoders.hidden_states",
}


@public
def make_encoder(
    name: str,
    torch_device: str | None = None,
    trust_remote_code: bool = False,
    arrays: Mapping[str, np.ndarray] | None = None,
    allow_download: bool = True,
    folders: Mapping[str, str] | None = None,
) -> Encoder:
    """Return the encoder called ``name``.

    Args:
        name: ``hashing[:DIM]``, ``features:DIM``, ``static:MODEL[?dim=]``, ``object:NAME``, or a transformer (short
            name, folder or hub id) with the options ``?layers=``, ``&pooling=`` and ``&tokens=``; ``+`` joins several.
        torch_device: where a transformer runs; CUDA if there is one, by default.
        trust_remote_code: whether a transformer may run Python code of its own.
        arrays: the encoder's ``arrays`` from when it was saved.
        allow_download: whether a model that is not in the hub's cache may be fetched.
        folders: folders of the models that a bundle contains, by name.

    Raises:
        ModelError: there is no such encoder, or its weights cannot be loaded.
    """
    loading = Loading(
        torch_device=torch_device,
        trust_remote_code=trust_remote_code,
        allow_download=allow_download,
        folders=folders or {},
    )
    return _make(name, loading, dict(arrays or {}))


def _make(name: str, loading: Loading, arrays: dict[str, np.ndarray]) -> Encoder:
    names = split_name(name)
    if not all(names):
        raise ModelError(f"encoder '{name}': something is missing beside a '+'; write for example minilm+hashing")
    if len(names) > 1:
        parts = []
        for number, part in enumerate(names):
            prefix = f"{number}."
            own = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
            parts.append(_make(part, loading, own))
        return JoinedEncoder(parts)
    name = map_models(name, weights.stable_name)
    kind, model, query = _parsed(name)
    options = {}
    for word in filter(None, query.removeprefix("?").split("&")):
        key, sign, options[key] = word.partition("=")
        if not sign:
            raise ModelError(f"encoder '{name}': the option '{word}' has no value; write {word}=VALUE")
    encoder: Encoder = import_module(KINDS[kind]).make(EncoderRequest(name, model, options, loading, arrays))
    return encoder


def has_layers(name: str) -> bool:
    """Return whether the encoder called ``name`` is a single transformer, by its name alone."""
    parts = split_name(name)
    return len(parts) == 1 and _parsed(parts[0])[0] == "transformer"


def split_name(name: str) -> list[str]:
    """Return the parts of a joined name. A plus sign in the name of an existing folder does not join."""
    words, parts = name.split("+"), []
    while words:
        count = next((n for n in range(len(words), 1, -1) if _plus_in_folder("+".join(words[:n]), n - 1)), 1)
        parts.append("+".join(words[:count]))
        words = words[count:]
    return parts


def map_models(name: str, change: Callable[[str], str]) -> str:
    """Return an encoder's name with every model in it replaced by ``change(model)``."""
    parts = []
    for part in split_name(name):
        kind, model, query = _parsed(part)
        model = model if model.isdecimal() or not model or kind == "object" else change(model)
        prefix = "" if kind == "transformer" else f"{kind}:" if model else kind
        parts.append(prefix + model + query)
    return "+".join(parts)


def _plus_in_folder(name: str, signs: int) -> bool:
    model = _parsed(name)[1]
    return model.count("+") == signs and Path(model).is_dir()


def _parsed(name: str) -> tuple[str, str, str]:
    """Return kind, model, and the options with their question mark."""
    kind, colon, rest = name.partition(":")
    if kind not in KINDS or (not colon and Path(kind).is_dir()):
        kind, rest = "transformer", name
    if Path(rest).is_dir():
        return kind, rest, ""
    model, mark, query = rest.rpartition("?")
    if not mark or not Path(model).is_dir():  # a folder's name may contain a question mark
        model, mark, query = rest.partition("?")
    return kind, model, mark + query
