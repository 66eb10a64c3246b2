"""The content of a bundle: the records of its ``config.json``, and the models that its files describe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from qkd.circuits.qasm import from_qasm
from qkd.core import records
from qkd.core.arrays import read_shapes, read_tensors
from qkd.core.config import EngineSpec
from qkd.core.errors import FolderError
from qkd.core.files import read_text
from qkd.data.hashes import FILE as HASHES
from qkd.results import Scores
from qkd.results.base import Result
from qkd.results.cascade import Cascade
from qkd.simulation.factory import make_engine
from qkd.student.cores import Linear, QuantumCore, StudentCore
from qkd.student.model import StudentModel

FORMAT = 1
MODELS = "encoder"
"""Folder of the encoder's models in a bundle."""
FILES = (
    "config.json",
    "student.safetensors",
    "control.safetensors",
    "circuit.qasm",
    HASHES,
    "encoder.safetensors",
    "quick.json",
    "quick.safetensors",
    "README.md",
)
"""All files that a bundle can have; the folder ``MODELS`` is not among them."""
REMEDY = "copy it again"


class EncoderRecord(records.Record):
    """An encoder in ``config.json``.

    Attributes:
        name: The encoder's name, as ``--encoder`` takes it.
        dim: The embedding width D.
        key: Everything that determines its embeddings.
        models: Names of the models whose folders are in the bundle.
    """

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    dim: Annotated[int, Field(ge=1, le=records.MAX_DIMENSIONS)]
    key: dict[str, JsonValue]
    models: tuple[str, ...] = ()


class Validation(Result):
    """The student's answers to the validation texts, from which thresholds for deferral follow.

    Attributes:
        confidences: The largest probability of each text.
        correct: Whether the student is right.
        teacher_accuracy: The teacher's accuracy on the same texts.
    """

    confidences: tuple[float, ...]
    correct: tuple[bool, ...]
    teacher_accuracy: float | None = None


class About(Result):
    """A student's origin.

    Attributes:
        teacher: The teacher's name.
        data: The name of the training data.
        metrics: Scores on the test split.
        control_metrics: Scores of the linear control on the test split.
        examples: Number of labeled training texts by label.
        command: The command that makes the student again.
        finished: Whether training was completed.
        controls: One sentence for each classical student that it was compared with.
        conclusion: The conclusion of that comparison about the circuit.
        validation: The student's answers to the validation texts.
        cascade: The student with its teacher behind it.
    """

    model_config = ConfigDict(extra="allow")

    teacher: str = "unknown"
    data: str = "unknown"
    metrics: Scores | None = None
    control_metrics: Scores | None = None
    examples: dict[str, int] = Field(default_factory=dict)
    command: str = ""
    finished: bool | None = None
    controls: tuple[str, ...] = ()
    conclusion: str = ""
    validation: Validation | None = None
    cascade: Cascade | None = None


class BundleRecord(records.Record):
    """The content of ``config.json``.

    Attributes:
        format: The number of the bundle format.
        classes: The C class names, in the order of the logits.
        encoder: The encoder.
        angle_map: The map from projections to angles.
        about: The student's origin.
    """

    format: int
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=records.MAX_CLASSES)]
    encoder: EncoderRecord
    angle_map: Literal["tanh", "minmax"]
    about: About = About()


def read_models(path: Path, record: BundleRecord, engine: EngineSpec) -> tuple[StudentModel, StudentModel | None]:
    """Return the student of a bundle's folder, and its control if there is one.

    Raises:
        FolderError: the sizes in ``config.json``, the circuit and the arrays differ.
    """
    program, control_file = path / "circuit.qasm", path / "control.safetensors"
    circuit = from_qasm(read_text(program), str(program))
    student_file = path / "student.safetensors"
    _check_shapes(student_file, len(circuit.inputs), len(circuit.observables), record)
    student = _read_model(student_file, QuantumCore(circuit, make_engine(engine, circuit)), record)
    if not control_file.exists():
        return student, None
    core = Linear(circuit, len(record.classes))
    _check_shapes(control_file, core.num_inputs, core.num_outputs, record)
    return student, _read_model(control_file, core, record)


def _read_model(path: Path, core: StudentCore, record: BundleRecord) -> StudentModel:
    model = StudentModel(core, record.encoder.dim, record.classes, record.angle_map, fresh=False)
    model.load_state_dict(read_tensors(path))
    return model.eval()


def _check_shapes(path: Path, inputs: int, outputs: int, record: BundleRecord) -> None:
    """Compare the sizes in ``config.json`` with the arrays, before anything of those sizes is allocated.

    Args:
        path: The arrays of a student or of its control.
        inputs: Number of the core's inputs A.
        outputs: Number of its outputs K.
        record: The content of ``config.json``.

    Raises:
        FolderError: they differ.
    """
    shapes = read_shapes(path)
    expected = {"projection.weight": (inputs, record.encoder.dim), "head.weight": (len(record.classes), outputs)}
    for name, shape in expected.items():
        if shapes.get(name) != shape:
            raise FolderError(
                f"{path}: {name} has shape {shapes.get(name)}, but config.json and the circuit need {shape}; {REMEDY}"
            )
