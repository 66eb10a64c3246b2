"""The classifiers that a student learns from, by kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qkd.errors import QkdError, nearest
from qkd.text.logits_file import LogitsTeacher
from qkd.text.probe import ProbeTeacher

if TYPE_CHECKING:
    from qkd.text.data import Dataset
    from qkd.text.splits import Splits


class Teacher(Protocol):
    """A classifier with logits. ``fit`` comes first, once."""

    name: str
    """What the user called it, ``KIND:MODEL``."""

    @property
    def num_parameters(self) -> int:
        """How many weights it has; 0 where nobody knows."""
        ...

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Learn from the training and validation splits what there is to learn, and the classes' names and order."""
        ...

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, cached; columns as in ``Dataset.classes``."""
        ...

    def answer(self, texts: Sequence[str]) -> np.ndarray:
        """Return the same logits ``(N,C)`` as ``logits``, computed now, the cache left alone."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what it is and how it was fitted, for reports; JSON values."""
        ...


KINDS: dict[str, Callable[[str, str | None], Teacher]] = {
    "logits": lambda file, torch_device: LogitsTeacher(file),
    "probe": ProbeTeacher,
}
"""What makes a teacher of each kind from what stands behind the colon and the torch device."""


def make_teacher(spec: str, torch_device: str | None = None) -> Teacher:
    """Return the teacher that ``spec`` names.

    Args:
        spec: ``KIND:MODEL``: ``probe:`` and a causal LM (short name, folder or hub id), or ``logits:`` and a file.
        torch_device: where a model runs; CUDA when there is one, if left out.

    Raises:
        QkdError: there is no such kind, no model is named, or it cannot be had.
    """
    kind, _, model = spec.partition(":")
    if kind not in KINDS:
        raise QkdError(f"teacher '{spec}': there is no kind '{kind}'{nearest(kind, KINDS)}")
    if not model:
        example = "logits:FILE" if kind == "logits" else f"{kind}:smollm2-135m"
        raise QkdError(f"teacher '{spec}' names nothing behind '{kind}:'; write for example {example}")
    return KINDS[kind](model, torch_device)
