"""Encoders inside a bundle: the folders of their models are copied into it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from qkd.core.console import log
from qkd.core.errors import FolderError, ModelError
from qkd.encoders.combined import JoinedEncoder
from qkd.encoders.given import GivenEncoder
from qkd.encoders.hidden_states import TransformerEncoder
from qkd.encoders.protocol import Encoder
from qkd.models.transformer import Transformer
from qkd.models.weights import model_folder

SAFE_SUFFIXES = (".json", ".safetensors", ".txt", ".model", ".jinja")
"""Endings of model files that cannot execute code."""


def copy_models(encoder: Encoder, folder: Path) -> tuple[str, ...]:
    """Copy the models of an encoder into ``folder/0``, ``folder/1``, ... and return their names.

    Raises:
        ModelError: the encoder is a Python object, or a model has no safetensors.
    """
    if any(isinstance(leaf, GivenEncoder) for leaf in _leaves(encoder)):
        raise ModelError(f"the encoder '{encoder.name}' is a Python object, which no bundle contains")
    names = []
    for number, (name, model) in enumerate(_models(encoder).items()):
        source = model_folder(model.source)
        if not any(source.glob("*.safetensors")):
            raise ModelError(f"{name}: the model has no safetensors, and a bundle contains no other weights")
        (folder / str(number)).mkdir(parents=True)
        for path in source.iterdir():
            if path.suffix in SAFE_SUFFIXES:
                shutil.copyfile(path, folder / str(number) / path.name)
        size = sum(path.stat().st_size for path in (folder / str(number)).iterdir())
        log.info(f"the bundle contains the encoder {name}, {size / 1e6:,.1f} MB")
        names.append(name)
    return tuple(names)


def bundled_models(names: Sequence[str], folder: Path) -> dict[str, str]:
    """Return the folders of an encoder's models below ``folder`` by their names.

    Raises:
        FolderError: a folder is missing or contains a file that could execute code.
    """
    folders = {name: folder.absolute() / str(number) for number, name in enumerate(names)}
    for path in folders.values():
        if not (path / "config.json").is_file():
            raise FolderError(f"{path}: the bundle's encoder is missing; copy it again")
        for file in path.iterdir():
            if not file.is_file() or file.suffix not in SAFE_SUFFIXES:
                raise FolderError(f"{file}: an encoder in a bundle cannot have such a file; remove it if you trust it")
    return {name: str(path) for name, path in folders.items()}


def has_models(encoder: Encoder) -> bool:
    """Return whether some models of an encoder are already in a bundle."""
    return any(name in model.loading.folders for name, model in _models(encoder).items())


def _leaves(encoder: Encoder) -> Iterator[Encoder]:
    """Yield the encoders that an encoder consists of."""
    if isinstance(encoder, JoinedEncoder):
        for part in encoder.parts:
            yield from _leaves(part)
    else:
        yield encoder


def _models(encoder: Encoder) -> dict[str, Transformer]:
    """Return the pretrained models that an encoder loads, by name."""
    return {leaf.model: leaf.whole for leaf in _leaves(encoder) if isinstance(leaf, TransformerEncoder)}
