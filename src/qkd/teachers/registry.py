"""The classifiers that a student learns from, by kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qkd.core.config import Config
from qkd.core.errors import ModelError, nearest
from qkd.models.transformer import Loading
from qkd.teachers.api.teacher import ApiTeacher
from qkd.teachers.classifier import ClassifierTeacher
from qkd.teachers.ensemble import EnsembleTeacher
from qkd.teachers.logits_file import LogitsTeacher
from qkd.teachers.lora import LoraTeacher
from qkd.teachers.probe import ProbeTeacher
from qkd.teachers.prompt import PromptTeacher
from qkd.teachers.protocol import Teacher

KINDS: dict[str, Callable[[str, Loading, Config], Teacher]] = {
    "api": lambda model, loading, config: ApiTeacher(model, config.prompt, config.api),
    "classifier": lambda model, loading, config: ClassifierTeacher(model, loading, config.teacher.label_map),
    "logits": lambda file, loading, config: LogitsTeacher(file),
    "lora": lambda model, loading, config: LoraTeacher(model, loading, config.lora),
    "probe": lambda model, loading, config: ProbeTeacher(model, loading),
    "prompt": lambda model, loading, config: PromptTeacher(model, loading, config.prompt),
}
"""What makes a teacher of each kind from what stands behind the colon, how models are loaded, and all settings."""


def make_teacher(spec: str | Sequence[str], torch_device: str | None = None, config: Config | None = None) -> Teacher:
    """Return the teacher that ``spec`` names.

    Args:
        spec: ``KIND:MODEL``, a kind of ``KINDS`` and what it takes: a short name, folder, GGUF file or hub id, or for
            ``logits:`` a file. Several make an ensemble.
        torch_device: where a model runs; CUDA when there is one, if left out.
        config: the settings of all kinds; the defaults when left out.

    Raises:
        QkdError: there is no such kind, no model is named, or it cannot be had.
    """
    config = config or Config()
    specs = [spec] if isinstance(spec, str) else list(spec)
    loading = Loading(
        torch_device=torch_device,
        dtype=config.teacher.dtype,
        quantize=config.teacher.quantize,
        max_tokens=config.teacher.max_tokens,
        trust_remote_code=config.models.trust_remote_code,
    )
    members = [_single(name, loading, config) for name in specs]
    return members[0] if len(members) == 1 else EnsembleTeacher(members, config.teacher.ensemble)


def _single(spec: str, loading: Loading, config: Config) -> Teacher:
    kind, _, model = spec.partition(":")
    if kind not in KINDS:
        raise ModelError(f"teacher '{spec}': there is no kind '{kind}'{nearest(kind, KINDS)}")
    if not model:
        example = "logits:FILE" if kind == "logits" else f"{kind}:smollm2-135m"
        raise ModelError(f"teacher '{spec}' names nothing behind '{kind}:'; write for example {example}")
    return KINDS[kind](model, loading, config)
