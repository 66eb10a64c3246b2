"""Errors about models that transformers loads only in part, or not at all."""

from __future__ import annotations

import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qkd.core.errors import ModelError


@dataclass(frozen=True)
class Source:
    """Arguments of ``from_pretrained``.

    Attributes:
        path: A folder or a hub id.
        revision: Branch, tag or commit of a hub id. None means the newest, or a folder.
        allow_download: Whether the hub may be asked for files that its cache lacks.
    """

    path: str
    revision: str | None = None
    allow_download: bool = True

    @property
    def is_folder(self) -> bool:
        """True if the weights are in a local folder."""
        return Path(self.path).is_dir()


def is_offline() -> bool:
    """Return whether the hub must not be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def quiet_transformers() -> None:
    """Turn off progress bars and log messages of transformers; called before any other import of it."""
    warnings.filterwarnings("ignore", message="IProgress not found")  # about progress bars in notebooks
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def is_pooler(name: str) -> bool:
    """Return whether a weight belongs to a pooler, which hidden states do not use."""
    return "pooler" in name.split(".")


def check_report(model: str, report: Mapping[str, Any], optional: Callable[[str], bool] = is_pooler) -> None:
    """Refuse weights that transformers could not load and would leave random.

    Args:
        report: ``missing_keys``, ``unexpected_keys`` and ``mismatched_keys`` of ``from_pretrained``.
        optional: whether the weight with a given name is unused, or learned later.
    """
    wrong = sorted(
        (name, tuple(actual), tuple(expected))
        for name, actual, expected in report["mismatched_keys"]
        if not optional(name)
    )
    if wrong:
        name, actual, expected = wrong[0]
        more = f" ({len(wrong)} weights do not fit)" if len(wrong) > 1 else ""
        raise ModelError(
            f"{model}: {name} has shape {actual} in the file, but config.json and the tokenizer ask for {expected}"
            f"{more}; give the configuration that belongs to these weights"
        )
    missing = sorted(name for name in report["missing_keys"] if not optional(name))
    if not missing:
        return
    names, extra = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else ""), sorted(report["unexpected_keys"])
    if any(name.startswith("module.") for name in extra):
        advice = "the file's names begin with 'module.', so save the wrapped model itself (model.module)"
    elif all(name.startswith(("lm_head", "cls.", "embed_out")) for name in missing):
        advice = "the language-model head was not saved, so give a checkpoint of a causal LM"
    else:
        advice = f"the file has {', '.join(extra[:2])} instead; rename them" if extra else "save the model again"
    raise ModelError(
        f"{model}: the file lacks {len(missing)} weights that are used and would be random ({names}); {advice}"
    )


def check_unused(model: str, network: Any, report: Mapping[str, Any]) -> None:
    """Refuse weights of a file that belong to the network and that its configuration does not use.

    Heads that the network does not have are no such weights. Further layers, biases, scales of quantized weights and
    adapters that were not merged are.

    Args:
        report: ``unexpected_keys`` of ``from_pretrained``.

    Raises:
        ModelError: there is such a weight.
    """
    prefix = f"{network.base_model_prefix}."
    leaves = {
        name.removeprefix(prefix)
        for name, module in network.named_modules()
        if next(module.children(), None) is None and next(module.parameters(), None) is not None
    }
    layers = {re.sub(r"\.\d+\.", ".*.", name.removeprefix(prefix)) for name in network.state_dict()}
    for key in sorted(report["unexpected_keys"]):
        parts = key.removeprefix(prefix).split(".")
        owner = any(".".join(parts[i:j]) in leaves for i in (0, 1) for j in range(i + 1, len(parts)))
        names = {re.sub(r"\.\d+\.", ".*.", ".".join(parts[i:])) for i in (0, 1)}
        if owner or any("*" in name for name in names & layers):
            raise ModelError(
                f"{model}: the file has {key}, which the network of config.json does not use; give the configuration "
                "that belongs to these weights (merge adapters and convert quantized weights first)"
            )


def loading_sentence(source: Source, error: Exception, kind: str = "AutoModel") -> str:
    """Return one sentence on why ``kind`` of a model could not be loaded, and what to do."""
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
    reason = "it is not in the hub's cache, and offline it cannot be fetched" if is_offline() else first
    return (
        f"model '{source.path}' cannot be loaded ({reason}); check the name, or fetch it on a machine with network "
        f"with 'hf download {source.path}', and give that folder"
    )


def unused_positions(config: Any) -> int:
    """Return how many position embeddings a model never uses.

    In the RoBERTa family, positions start behind the padding token's index.
    """
    from transformers import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        return 0
    found: Any = MODEL_MAPPING[type(config)]
    network = found[0] if isinstance(found, tuple) else found
    starts_late = "create_position_ids_from_input_ids" in inspect.getsource(sys.modules[network.__module__])
    return int(config.pad_token_id) + 1 if starts_late and config.pad_token_id is not None else 0
