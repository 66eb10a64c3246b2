"""The students of a comparison by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qkd.circuits import library
from qkd.circuits.student import StudentCircuit
from qkd.core.bundled import bundled_dir
from qkd.core.cache import Key
from qkd.core.config import Config, EngineSpec, make_config
from qkd.core.errors import QkdError, nearest
from qkd.core.objects import is_object
from qkd.core.specs import read_toml
from qkd.encoders.registry import has_layers
from qkd.simulation.factory import Engine, make_engine
from qkd.simulation.start import with_start
from qkd.student.cores import CLASSICAL, QuantumCore, StudentCore, make_control, without_entanglers
from qkd.student.trainer import for_control

LOGREG, PRODUCT, TEACHER_FREE = "logreg", "product", "teacher-free"
RECIPE = "qdllm"
"""Name of the paper's recipe."""
DEFAULT_TUNED_LAYERS = 2
"""Number of layers of a ``transformer:`` that train if ``--tune-encoder`` is not given."""
RECIPE_SECTIONS = ("student", "loss", "train")
"""Sections of the configuration that a recipe sets; texts, teacher and encoder are those of the comparison."""
UNTRAINED_SETTINGS = ("margin", "controls", "diagnose", "spread_seeds")
"""Settings of the section ``student`` that do not change a trained student."""


@dataclass(frozen=True)
class Candidate:
    """One student of a comparison.

    Attributes:
        name: The name that the user gave.
        config: Student, loss and training; each trial sets its own seed.
        control: The classical core's name, or None for a circuit.
        encoder: Another encoder than the comparison's, or None.
        tune: Number of that encoder's last layers that train with the student.
        carried: Whether every repetition continues with the model of the previous one.
        fixed: Whether its settings are under test, so tuning does not change them.
    """

    name: str
    config: Config
    control: str | None = None
    encoder: str | None = None
    tune: int = 0
    carried: bool = False
    fixed: bool = False

    @property
    def is_logreg(self) -> bool:
        """True for the logistic regression, which has no teacher and no seed."""
        return self.control == LOGREG

    @property
    def is_quantum(self) -> bool:
        """True for a student with a circuit."""
        return self.control is None

    def circuit(self) -> StudentCircuit:
        """Return its circuit, or the circuit whose size a control has."""
        spec = self.config.student
        circuit = library.load_circuit(spec.circuit, spec.qubits, spec.layers, spec.inputs)
        return with_start(without_entanglers(circuit) if self.name == PRODUCT else circuit)

    def core(self, circuit: StudentCircuit, classes: int) -> StudentCore:
        """Return a new core between projection and head."""
        if self.control is not None:
            return make_control(self.control, circuit, classes, self.config.engine)
        return QuantumCore(circuit, self.engine(circuit), self.config.train.train_shots)

    def engine(self, circuit: StudentCircuit) -> Engine:
        """Return the exact, ideal engine of its circuit."""
        spec = self.config.engine
        return make_engine(EngineSpec(precision=spec.precision, torch_device=spec.torch_device), circuit)

    def key(self) -> Key:
        """Return everything that determines its training, as JSON values."""
        values = self.config.model_dump(mode="json", include={*RECIPE_SECTIONS, "engine"})
        for name in UNTRAINED_SETTINGS:
            del values["student"][name]
        if self.tune:
            values |= {"tune": self.tune, "tuning": self.config.encoder.model_dump(mode="json")}
        return {"control": self.control, "encoder": self.encoder, "product": self.name == PRODUCT} | values


def make_candidates(names: Sequence[str], config: Config) -> list[Candidate]:
    """Return the students called ``names``.

    =====================  ==============================================================================
    ``linear``, ``mlp``    classical controls of the configuration's circuit; ``fourier`` is the third
    ``product``            the circuit without entanglers
    ``teacher-free``       the configuration's student without a teacher
    ``logreg``             a logistic regression
    ``encoder:MODEL``      a linear student on another encoder, such as the static table ``encoder:static:MODEL``
    ``transformer:MODEL``  a linear student that trains with the encoder's last layers (``--tune-encoder``, or two)
    ``qdllm``              the paper's recipe; a TOML file with a section ``student`` is another recipe
    anything else          a circuit in place of the configuration's
    =====================  ==============================================================================
    """
    students = [_make_candidate(name, config) for name in names]
    for student in students:
        if sum(other.name == student.name for other in students) > 1:
            raise QkdError(f"--students: '{student.name}' appears twice; name each student once")
    for student in students:
        student.circuit()  # finds a mistake in the circuit before any work
    return students


def _make_candidate(name: str, config: Config) -> Candidate:
    kind, _, model = name.partition(":")
    if name == LOGREG or name in CLASSICAL:
        return Candidate(name, for_control(config), control=name)
    if name == PRODUCT:
        return Candidate(name, config)
    if name == TEACHER_FREE:
        if is_object(config.loss.loss):
            raise QkdError(f"--students: {TEACHER_FREE} sets alpha = 0, which the loss '{config.loss.loss}' ignores")
        return Candidate(name, config.model_copy(update={"loss": config.loss.model_copy(update={"alpha": 0.0})}))
    if model and kind == "transformer":
        if not has_layers(model):
            raise QkdError(f"--students: '{name}': '{model}' has no layers to train; name one transformer")
        return Candidate(
            name, for_control(config), "linear", model, tune=config.encoder.tune_encoder or DEFAULT_TUNED_LAYERS
        )
    if model and kind == "encoder":
        return Candidate(name, for_control(config), "linear", model)
    recipe = recipe_file() if name == RECIPE else Path(name)
    if recipe.suffix == ".toml" and recipe.is_file() and "student" in (tables := read_toml(recipe)):
        values = config.model_dump() | {section: tables.get(section, {}) for section in RECIPE_SECTIONS}
        return Candidate(name, make_config(values, str(recipe)))
    if name not in library.paths() and not Path(name).is_file():
        known = sorted({*library.paths(), LOGREG, PRODUCT, TEACHER_FREE, *CLASSICAL})
        raise QkdError(f"--students: there is no student '{name}'{nearest(name, known)}")
    update = {"circuit": name, "layers": None, "inputs": None} if name != config.student.circuit else {}
    return Candidate(name, config.model_copy(update={"student": config.student.model_copy(update=update)}))


def recipe_file() -> Path:
    """Return the file of the paper's recipe."""
    return bundled_dir("examples") / "qdllm.toml"
