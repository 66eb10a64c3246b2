"""The input of every export format, and the predictions that a written export returns."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qkd.core.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from qkd.student.bundle import Student
    from qkd.student.classical import ClassicalForm

# A runtime that has not answered after this many seconds is stopped.
RUNTIME_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class ExportRequest:
    """One export: a student and the options of the formats.

    Attributes:
        student: The student.
        int8: Whether tables and weights are stored as 8-bit integers.
        inputs: ``texts``, or ``embeddings`` to leave the encoder outside (onnx).
        device: Device that the compiled circuit is for (qasm); None writes the logical circuit alone.
        control: Classical control whose answer a page shows beside the student's; the run's own if None.
        threshold: Smallest probability of an answer that is not deferred, or None.
    """

    student: Student
    int8: bool = False
    inputs: str = "texts"
    device: str | None = None
    control: Student | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.inputs not in ("texts", "embeddings"):
            raise ConfigError(f"--inputs is texts or embeddings, not '{self.inputs}'")

    @cached_property
    def form(self) -> ClassicalForm:
        """The student's classical form."""
        from qkd.student.classical import classical_form

        return classical_form(self.student.model)

    @property
    def classes(self) -> tuple[str, ...]:
        """The C class names."""
        return self.student.classes


@dataclass(frozen=True)
class Predictions:
    """The answers of an export's own runtime.

    Attributes:
        classes: The label names that the export contains.
        labels: Label of each of the N texts.
        probabilities: Probabilities (N,C).
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: np.ndarray

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Predictions:
        """Return the predictions that a runtime printed."""
        rows = np.array(value["probabilities"], dtype=np.float64).reshape(-1, len(value["classes"]))
        return cls(tuple(value["classes"]), tuple(value["labels"]), rows)


class ExportFormat(Protocol):
    """A module that writes one format.

    A module may have ``MAX_CHECKED_TEXTS``, the number of texts on which its exports are compared with the student.
    """

    def write(self, request: ExportRequest, folder: Path) -> None:
        """Write the export into an empty folder."""
        ...

    def predict(self, request: ExportRequest, folder: Path, texts: Sequence[str]) -> Predictions:
        """Return the written export's answers, computed by its own runtime without qkd."""
        ...


def run_runtime(command: Sequence[str], payload: object, name: str) -> Predictions:
    """Run a program that reads JSON from its input and prints predictions as JSON.

    Args:
        command: The program with its arguments.
        payload: Its input.
        name: Name of the runtime in an error.

    Raises:
        ModelError: It fails or takes too long.
    """
    try:
        done = subprocess.run(
            list(command), input=json.dumps(payload).encode(), capture_output=True, timeout=RUNTIME_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"{name} has not answered for {RUNTIME_TIMEOUT_SECONDS} s") from None
    if done.returncode:
        message = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise ModelError(f"{name} fails with the export: {message[-1]}")
    return Predictions.from_dict(json.loads(done.stdout))
