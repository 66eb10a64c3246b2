"""The teachers by kind. Other packages add kinds through the entry point group ``qkd.teachers``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from qkd.core.arguments import public
from qkd.core.config import Config
from qkd.core.errors import ModelError, nearest
from qkd.models.transformer import Loading
from qkd.teachers.protocol import Teacher

# The module of each kind KIND:MODEL. It has a function ``make(model, loading, config)`` that returns a ``Teacher``.
KINDS = {
    "api": "qkd.teachers.api.teacher",
    "classifier": "qkd.teachers.classifier",
    "features": "qkd.teachers.features",
    "logits": "qkd.teachers.logits_file",
    "lora": "qkd.teachers.lora",
    "object": "qkd.teachers.given",
    "probe": "qkd.teachers.probe",
    "prompt": "qkd.teachers.prompt",
}
ENTRY_POINTS = "qkd.teachers"

Make = Callable[[str, Loading, Config], Teacher]


@public
def make_teacher(spec: str, torch_device: str | None = None, config: Config | None = None) -> Teacher:
    """Return the teacher that ``spec`` names.

    Args:
        spec: ``KIND:MODEL`` with a kind of ``KINDS`` or of an entry point, and a short name, folder, GGUF file or hub
            id; for ``logits:`` a file.
        torch_device: where a model runs; CUDA if there is one, by default.
        config: the settings of all kinds; the defaults if it is None.

    Raises:
        ModelError: there is no such kind, no model is named, or it cannot be loaded.
    """
    config = config or Config()
    loading = Loading(
        torch_device=torch_device,
        dtype=config.teacher.dtype,
        quantize=config.teacher.quantize,
        max_tokens=config.teacher.max_tokens,
        trust_remote_code=config.models.trust_remote_code,
    )
    kind, _, model = spec.partition(":")
    make = _find(kind, spec)
    if not model:
        example = f"{kind}:smollm2-135m" if kind in ("lora", "probe", "prompt") else f"{kind}:NAME, a model or file"
        raise ModelError(f"teacher '{spec}' names nothing after '{kind}:'; write for example {example}")
    return make(model, loading, config)


def _find(kind: str, name: str) -> Make:
    """Return the function that makes teachers of a kind."""
    if kind in KINDS:
        make: Make = import_module(KINDS[kind]).make
        return make
    others: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if kind not in others:
        raise ModelError(f"teacher '{name}': there is no kind '{kind}'{nearest(kind, [*KINDS, *others])}")
    try:
        loaded = others[kind].load()
    except Exception as error:  # code of another package
        raise ModelError(f"teacher '{name}': {others[kind].value} cannot be imported ({error})") from error
    found: Make = loaded if callable(loaded) else loaded.make
    return found
