"""What a student's name means in a comparison."""

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
from qkd.core.specs import read_toml
from qkd.encoders.registry import has_layers
from qkd.simulation.factory import Engine, make_engine
from qkd.simulation.start import with_start
from qkd.student.cores.base import StudentCore
from qkd.student.cores.factory import CLASSICAL, make_control, without_entanglers
from qkd.student.cores.quantum import QuantumCore

LOGREG, PRODUCT, TEACHERLESS = "logreg", "product", "teacher-free"
RECIPE = "qdllm"
"""Names that are no circuits; the last is the paper's whole recipe."""
TUNED = 2
"""Layers of a ``transformer:`` that train, where ``--tune-encoder`` says nothing."""
RECIPE_SECTIONS = ("student", "loss", "train")
"""What a recipe says of a student; texts, teacher and encoder are the comparison's."""


@dataclass(frozen=True)
class Candidate:
    """One student of a comparison.

    name: as it was asked for.
    config: student, loss and training; its seed is set for each trial.
    control: the classical core's name, or None for a circuit.
    encoder: another encoder than the comparison's, or None.
    tune: how many of that encoder's last layers train with it, after it was trained on them as they were.
    carried: whether every repetition goes on with the model of the one before, which is a slip.
    fixed: whether its settings are what is looked at, so that nobody tunes them.
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
        """Whether it is the logistic regression, which knows no teacher and no seed."""
        return self.control == LOGREG

    @property
    def is_quantum(self) -> bool:
        """Whether it has a circuit."""
        return self.control is None

    def circuit(self) -> StudentCircuit:
        """Return its circuit; of a control, the one whose size it takes."""
        spec = self.config.student
        circuit = library.load_circuit(spec.circuit, spec.qubits, spec.layers)
        return with_start(without_entanglers(circuit) if self.name == PRODUCT else circuit)

    def core(self, circuit: StudentCircuit, classes: int) -> StudentCore:
        """Return what stands between projection and head."""
        if self.control is not None:
            return make_control(self.control, circuit, classes, self.config.engine)
        return QuantumCore(circuit, self.engine(circuit), self.config.train.train_shots)

    def engine(self, circuit: StudentCircuit) -> Engine:
        """Return what trains its circuit, exactly and ideally."""
        spec = self.config.engine
        return make_engine(EngineSpec(precision=spec.precision, torch_device=spec.torch_device), circuit)

    def key(self) -> Key:
        """Return everything that determines it, as JSON values."""
        values = self.config.model_dump(mode="json", include={*RECIPE_SECTIONS, "engine"})
        for name in ("margin", "controls", "diagnose", "spread_seeds"):  # these do not change a trained student
            del values["student"][name]
        if self.tune:  # apart, so that what is kept of others is found again
            values |= {"tune": self.tune, "tuning": self.config.encoder.model_dump(mode="json")}
        return {"control": self.control, "encoder": self.encoder, "product": self.name == PRODUCT} | values


def make_candidates(names: Sequence[str], config: Config) -> list[Candidate]:
    """Return the students called ``names``.

    ``linear``, ``mlp``, ``fourier`` and ``product`` are controls of the configuration's circuit; ``teacher-free`` is
    its student without a teacher; ``logreg`` a logistic regression; ``model2vec:MODEL`` and ``encoder:MODEL`` a linear
    student on a static table or on another encoder, ``transformer:MODEL`` one whose last layers are distilled with it
    (``--tune-encoder`` of them, or two); ``qdllm`` the paper's recipe; a TOML file with a student in it
    another recipe; anything else a circuit in place of the configuration's.

    Raises:
        QkdError: a name means nothing, or stands there twice.
    """
    students = [_candidate(name, config) for name in names]
    for candidate in students:
        if sum(other.name == candidate.name for other in students) > 1:
            raise QkdError(f"--students: '{candidate.name}' stands there twice; name each student once")
    for candidate in students:
        candidate.circuit()  # a mistake in it comes out before any work is done
    return students


def _candidate(name: str, config: Config) -> Candidate:
    kind, _, model = name.partition(":")
    if name == LOGREG or name in CLASSICAL:
        return Candidate(name, config, control=name)
    if name == PRODUCT:
        return Candidate(name, config)
    if name == TEACHERLESS:
        return Candidate(name, config.model_copy(update={"loss": config.loss.model_copy(update={"alpha": 0.0})}))
    if model and kind == "transformer":
        if not has_layers(model):
            raise QkdError(f"--students: '{name}': no layers of '{model}' could train; name one transformer")
        return Candidate(name, config, "linear", model, tune=config.encoder.tune_encoder or TUNED)
    if model and kind in ("model2vec", "encoder"):
        return Candidate(name, config, "linear", f"static:{model}" if kind == "model2vec" else model)
    recipe = recipe_file() if name == RECIPE else Path(name)
    if recipe.suffix == ".toml" and recipe.is_file() and "student" in (tables := read_toml(recipe)):
        values = config.model_dump() | {section: tables.get(section, {}) for section in RECIPE_SECTIONS}
        return Candidate(name, make_config(values, str(recipe)))
    if name not in library.paths() and not Path(name).is_file():
        known = sorted({*library.paths(), LOGREG, PRODUCT, TEACHERLESS, *CLASSICAL})
        raise QkdError(f"--students: there is no student '{name}'{nearest(name, known)}")
    same = name == config.student.circuit
    update: dict[str, str | None] = {} if same else {"circuit": name, "layers": None}
    return Candidate(name, config.model_copy(update={"student": config.student.model_copy(update=update)}))


def recipe_file() -> Path:
    """Return the file of the paper's recipe."""
    return bundled_dir("examples") / "qdllm.toml"
