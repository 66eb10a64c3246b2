"""The student as people keep it: a folder of four files that needs neither teacher nor training data.

config.json          classes, encoder, angle map, circuit, and what trained it
student.safetensors  projection, circuit weights, head
circuit.qasm         the circuit with its inputs, weights and observables, OpenQASM 3
encoder.safetensors  what was computed for the encoder (a whitening, a static table), where there is any
README.md            the model card
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field, JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.core import records
from qkd.core.config import EngineSpec
from qkd.core.errors import FolderError, ModelError, QkdError
from qkd.core.files import write_json, write_text, write_with
from qkd.core.version import VERSION
from qkd.data.dataset import checked_texts
from qkd.encoders.protocol import Encoder
from qkd.encoders.registry import make_encoder
from qkd.results import Scores
from qkd.results.base import Result
from qkd.simulation.simulators import make_engine
from qkd.student.cores.quantum import QuantumMiddle
from qkd.student.metrics import softmax
from qkd.student.model import StudentModel

if TYPE_CHECKING:
    from qkd.student.classical import ClassicalForm

FORMAT = 2
READABLE = (1, 2)
"""Formats that are read; 1 called the circuit's weights ``weights``, 2 calls them ``middle.weights``."""


MEND = "copy it again"


class EncoderRecord(records.Record):
    """What a bundle says of its encoder: its name, its width D, and what makes its embeddings these."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    dim: Annotated[int, Field(ge=1, le=records.DIMENSIONS)]
    key: dict[str, JsonValue]


class About(Result):
    """How a student came about: what taught it, on which data, and what it is worth on the test split."""

    model_config = ConfigDict(extra="allow")

    teacher: str = "unknown"
    data: str = "unknown"
    metrics: Scores | None = None
    finished: bool | None = None
    """Whether training came to its end."""
    controls: tuple[str, ...] = ()
    """A sentence on each student beside it."""
    conclusion: str = ""
    """What they say of the circuit."""


class BundleRecord(records.Record):
    """A bundle's ``config.json``."""

    format: int
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=records.CLASSES)]
    encoder: EncoderRecord
    angle_map: Literal["tanh", "minmax"]
    about: About = About()


def _check_shapes(path: Path, circuit: StudentCircuit, record: BundleRecord) -> None:
    """Compare what a bundle says of its sizes with the arrays that it holds, before anything of those sizes is made.

    Raises:
        FolderError: they differ.
    """
    shapes = records.shapes(path)
    expected = {
        "projection.weight": (len(circuit.inputs), record.encoder.dim),
        "head.weight": (len(record.classes), len(circuit.observables)),
    }
    for name, shape in expected.items():
        if shapes.get(name) != shape:
            raise FolderError(
                f"{path}: holds {name} of shape {shapes.get(name)}, where config.json and the circuit say {shape}; "
                f"{MEND}"
            )


class Student:
    """A trained student that takes texts.

    Args:
        model: the trained model.
        encoder: what makes its embeddings.
        about: what the card and ``config.json`` say of how it came about.
    """

    def __init__(self, model: StudentModel, encoder: Encoder, about: About | None = None) -> None:
        self.model, self.encoder, self.about = model, encoder, about or About()

    @property
    def classes(self) -> tuple[str, ...]:
        """The C class names, in the order of the logits' columns."""
        return self.model.classes

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits (N,C), float32, of N texts.

        Raises:
            DataError: ``texts`` is one string, or holds something else than strings.
        """
        return self.model.logits(self.encoder.encode(checked_texts(texts)))

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return class probabilities (N,C), float32, of N texts; columns as in ``classes``."""
        return softmax(self.logits(texts))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the most probable class name of each text."""
        return [self.classes[index] for index in self.logits(texts).argmax(axis=1)]

    def classical(self, tolerance: float = 0.0) -> ClassicalForm:
        """Return the student's classical form, which maps embeddings to probabilities with numpy alone.

        Args:
            tolerance: Largest allowed error of an expectation value; 0 keeps the form exact.

        Raises:
            ModelError: The circuit has no classical form, with the reason.
        """
        from qkd.student.classical import classical_form

        return classical_form(self.model, tolerance)

    def save(self, folder: Path) -> None:
        """Write the bundle into ``folder``, file by file and each atomically."""
        model = self.model
        tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        write_with(folder / "student.safetensors", lambda part: save_file(tensors, part))
        write_text(folder / "circuit.qasm", to_qasm(model.circuit))
        config = {
            "format": FORMAT,
            "qkd": VERSION,
            "classes": list(model.classes),
            "encoder": {"name": self.encoder.name, "dim": model.dim, "key": self.encoder.key},
            "angle_map": model.angle_map,
            "circuit": model.circuit.name,
            "about": self.about.to_json(),
        }
        arrays = {name: np.ascontiguousarray(value) for name, value in self.encoder.arrays.items()}
        if arrays:
            write_with(folder / "encoder.safetensors", lambda part: save_arrays(arrays, part))
        write_text(folder / "README.md", card(self))
        write_json(folder / "config.json", config)  # last: a folder with a config.json is whole

    @classmethod
    def load(cls, folder: str | Path, engine: EngineSpec | None = None) -> Student:
        """Return the student of a run folder or of a bundle folder; nothing is downloaded or trained.

        Args:
            folder: ``runs/NAME`` or ``runs/NAME/student``.
            engine: what runs the circuit; exact simulation when left out.

        Raises:
            QkdError: the folder holds no student, a file of it is missing, damaged or of another format, or its circuit
                is larger than qkd takes.
        """
        path = Path(folder)
        if not (path / "config.json").is_file() and (path / "student").is_dir():
            path = path / "student"
        if not (path / "config.json").is_file():
            raise FolderError(f"{folder}: no student lies there; train one with 'qkd distill'")
        record = records.read_record(path / "config.json", BundleRecord, MEND, READABLE)
        program = path / "circuit.qasm"
        circuit = from_qasm(records.read_text(program), str(program))
        _check_shapes(path / "student.safetensors", circuit, record)
        try:
            model = StudentModel(
                QuantumMiddle(circuit, make_engine(engine or EngineSpec(), circuit)),
                dim=record.encoder.dim,
                classes=record.classes,
                angle_map=record.angle_map,
                fresh=False,
            )
            model.load_state_dict(load_file(path / "student.safetensors"))
            encoder_file = path / "encoder.safetensors"
            arrays = load_arrays(encoder_file) if encoder_file.is_file() else {}
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise FolderError(f"{path}: the student is damaged ({str(error).splitlines()[0]}); {MEND}") from None
        try:
            encoder = make_encoder(record.encoder.name, arrays=arrays)
        except QkdError as error:
            raise ModelError(f"{path}: the student's encoder: {error}") from None
        if encoder.key != record.encoder.key:
            raise ModelError(
                f"{path}: trained on embeddings of {record.encoder.key}, but '{encoder.name}' here is "
                f"{encoder.key}; use the same encoder weights"
            )
        model.eval()
        return cls(model, encoder, record.about)


def card(student: Student) -> str:
    """Return the model card, Markdown."""
    model, about = student.model, student.about
    circuit, counts = model.circuit, model.parameter_counts()
    lines = [
        f"# A {circuit.num_qubits}-qubit student: {', '.join(_escaped(name) for name in model.classes)}",
        "",
        f"Distilled by qkd from the teacher {_code(about.teacher)} on {_code(about.data)}.",
        f"Text goes through the encoder {_code(student.encoder.name)} (D={model.dim}), a linear projection and a "
        f"{model.angle_map} map to {len(circuit.inputs)} angles, the circuit {_code(circuit.name)} "
        f"({len(circuit.weights)} weights, {len(circuit.observables)} observables), and a linear head.",
        "",
        f"Trainable parameters: {model.num_parameters:,}, of them {counts.quantum:,} in the circuit and "
        f"{counts.classical:,} in the linear projection and head; the encoder before them has "
        f"{student.encoder.num_parameters:,}.",
        *about.controls,
        *([about.conclusion] if about.conclusion else []),
        "",
    ]
    if about.metrics is not None:
        lines += ["| on the test split | value | 95 % interval |", "| --- | --- | --- |"]
        lines += [
            f"| {name.replace('_', ' ')} | {number.value:.3f} | {number.low:.3f} to {number.high:.3f} |"
            for name, number in about.metrics.items()
        ]
        lines.append("")
    lines += [
        "```python",
        "from qkd import Student",
        "",
        'student = Student.load("this-folder")',
        'student.predict(["a text", "another text"])',
        "```",
        "",
    ]
    return "\n".join(lines)


def _escaped(text: object) -> str:
    """Return a text as one line of Markdown that shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~&])", r"\\\1", " ".join(str(text).split()))


def _code(text: object) -> str:
    """Return a text as Markdown code: fenced by one more backtick than it holds in a row."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"
