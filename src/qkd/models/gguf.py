"""GGUF files as ordinary model folders, unpacked once."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from qkd.core import cache
from qkd.core.console import log
from qkd.core.errors import ModelError
from qkd.models import manifest
from qkd.models.loading_report import check_report, quiet_transformers


def unpacker(file: str) -> Callable[[Path], None]:
    """Return a function that turns a folder with the GGUF ``file`` into an ordinary model folder."""

    def unpack(folder: Path) -> None:
        # float32, because inference is float32: numbers are exactly those of the file, and later loads convert nothing
        import torch
        import transformers
        from safetensors import SafetensorError

        quiet_transformers()
        # newer versions keep quantized blocks where they have a kernel, and then cannot save the model
        config = getattr(transformers, "GgufConfig", None)
        options: dict[str, Any] = {"quantization_config": config(dequantize=True)} if config else {}
        options |= {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
        auto: Any = transformers.AutoModelForCausalLM
        with redirect_stderr(io.StringIO()):  # for a progress bar without a switch
            model, report = auto.from_pretrained(folder, gguf_file=file, **options)
        check_report(file, report)
        quantizer: Any = getattr(model, "hf_quantizer", None)
        if quantizer is not None:
            quantizer.remove_quantization_config(model)
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:  # a full disk raises this
            raise OSError(errno.ENOSPC if "No space left" in str(error) else errno.EIO, str(error)) from None
        transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(folder)
        (folder / file).unlink()

    return unpack


def unpacked(file: Path) -> Path:
    """Return a model folder in the cache with the weights of a GGUF file.

    Raises:
        ModelError: the file is damaged, or lacks weights.
    """
    content = manifest.file_digest(file)

    def fill(new: Path) -> None:
        log.info(f"{file}: unpacking the weights (once; as float32 they take 4 bytes each)")
        (new / "model.gguf").symlink_to(file.resolve())
        try:
            unpacker("model.gguf")(new)
        except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            raise ModelError(f"{file}: cannot be read as a GGUF model ({str(error).strip()[:200]})") from None

    name = f"gguf-{content[:24]}"
    return manifest.make_model_folder(cache.root() / "models" / name, name, fill, {"gguf": content})
