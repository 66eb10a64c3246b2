"""Error mitigation by name, as options of IBM's client-side Estimator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from qiskit.circuit import CircuitInstruction
from qiskit.quantum_info import Operator, PauliLindbladMap, SuperOp, pauli_basis

from qkd.circuits.student import StudentCircuit
from qkd.core.errors import ConfigError, nearest
from qkd.engines.noise import error_of

if TYPE_CHECKING:
    from qiskit_aer.noise import NoiseModel
    from qiskit_ibm_runtime.executor_estimator import Estimator
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions

Name = Literal["none", "readout", "affine", "zne", "pea", "pec"]
NAMES: tuple[str, ...] = get_args(Name)
LEARNED = ("pea", "pec")
"""Those that need a model of the noise of every layer of two-qubit gates."""
FACTORS = (1, 3, 5)
"""The noise factors of ``zne`` and ``pea``."""
TREX_SHOTS = 2048
"""The least shots with which a job learns its readout: fewer would move all its values together."""
Layers = list[tuple[CircuitInstruction, PauliLindbladMap]]


@dataclass(frozen=True)
class Mitigation:
    """What is done against errors.

    name: ``none``; ``readout``, twirled readout error extinction (van den Berg et al., arXiv:2012.09738); ``affine``, a
        map for each observable fitted on points whose exact values the engine knows; ``zne``, readout
        and extrapolation from folded two-qubit gates; ``pea``, that and extrapolation from amplified learned noise
        (Kim et al., Nature 618:500); ``pec``, that and cancellation of learned noise (van den Berg et al.,
        arXiv:2201.09866).
    shots: S, per parameter set, basis and noise factor.
    randomizations: how many twirls the shots are spread over; the client's own choice when None.
    decoupling: the sequence of pulses on waiting qubits, or ``none``.
    twirl_gates: twirl two-qubit gates, or not; the method's own choice when None.
    """

    name: str
    shots: int
    randomizations: int | None = None
    decoupling: str = "none"
    twirl_gates: bool | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ConfigError(f"there is no mitigation '{self.name}'{nearest(self.name, NAMES)}")
        if self.shots < 1:
            raise ConfigError(f"an expectation value needs at least 1 shot, not {self.shots}")

    @property
    def learned(self) -> bool:
        """Whether it needs a model of the layers' noise."""
        return self.name in LEARNED

    @property
    def trex(self) -> bool:
        """Whether each job learns its readout."""
        return self.name not in ("none", "affine")

    @property
    def readout_twirled(self) -> bool:
        """Whether readouts are flipped at random."""
        return self.trex

    @property
    def gates_twirled(self) -> bool:
        """Whether two-qubit gates stand in random Pauli frames."""
        if self.name in ("zne", *LEARNED):
            return True
        # in random frames a coherent error shrinks values, which an affine map undoes
        return self.name == "affine" if self.twirl_gates is None else self.twirl_gates

    def twirls(self) -> tuple[int, int]:
        """Return over how many twirls the shots are spread, and the shots of each.

        As many as divide the shots, up to 64; the client's own choice would be one twirl of 64 shots at least.
        """
        if not (self.gates_twirled or self.readout_twirled):
            return 1, self.shots
        count = self.randomizations or max(d for d in range(1, 65) if self.shots % d == 0)
        return count, math.ceil(self.shots / count)

    def options(
        self,
        layers: Layers | None = None,
        tags: list[str] | None = None,
        seed: int | None = None,
        most_seconds: int | None = None,
    ) -> EstimatorOptions:
        """Return the client's options.

        Args:
            layers: the layers and their noise, for those of ``LEARNED``.
            tags: of the job.
            seed: of the simulation, where there is one.
            most_seconds: of the QPU, after which the service stops the job.
        """
        from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions

        options = EstimatorOptions()
        options.default_shots = self.shots
        options.resilience_level = 0
        options.resilience.measure_mitigation = self.trex
        options.resilience.zne_mitigation = self.name in ("zne", "pea")
        options.resilience.pec_mitigation = self.name == "pec"
        if self.name == "pea":
            options.resilience.zne.amplifier = "pea"
        options.twirling.enable_gates = self.gates_twirled
        options.twirling.enable_measure = self.readout_twirled
        if self.name != "pec" and (self.gates_twirled or self.readout_twirled):
            count, each = self.twirls()
            options.twirling.num_randomizations = count
            if count * each < TREX_SHOTS:
                options.resilience.measure_noise_learning.num_randomizations = math.ceil(TREX_SHOTS / each)
        elif self.randomizations is not None:
            options.twirling.num_randomizations = self.randomizations
        if layers is not None:
            options.resilience.layer_noise_model = layers
        options.simulator.layer_noise_model = []  # else the client adds the learned noise to the simulator's own
        options.simulator.seed_simulator = seed
        options.dynamical_decoupling.enable = self.decoupling != "none"
        if self.decoupling != "none":
            options.dynamical_decoupling.sequence_type = self.decoupling
        options.max_execution_time = most_seconds
        if tags is not None:
            options.environment.job_tags = tags
        return options


def pub(student: StudentCircuit, values: np.ndarray) -> tuple[Any, ...]:
    """Return one PUB of all observables (K,1) at parameter values (N,A+P); its result has the shape (K,N)."""
    return student.circuit, [[observable] for observable in student.observables], {tuple(student.parameters): values}


def raw(data: Any) -> dict[str, np.ndarray]:
    """Return what is kept of the client's result: ``evs``, ``stds`` (K,N), and those at each noise factor (K,N,F)."""
    names = {"evs": "evs", "stds": "stds", "evs_factors": "evs_noise_factors", "stds_factors": "stds_noise_factors"}
    return {name: np.asarray(data[its], dtype=float) for name, its in names.items() if its in data}


def executions(student: StudentCircuit, mitigation: Mitigation, layers: Layers | None, backend: Any) -> tuple[int, int]:
    """Return how often the device runs a circuit for each parameter set, and once for each job (readout learning).

    Counted on the program that the client makes of a single parameter set, so twirls, bases, noise factors and the
    sampling overhead of ``pec`` are in it.
    """
    from qiskit_ibm_runtime.executor_estimator.prepare import prepare

    single = pub(student, np.zeros((1, len(student.parameters))))
    program, _ = prepare([single], mitigation.options(layers), backend=backend)
    sizes = [program.shots * item.size() for item in program.items]
    once = sizes[-1] if mitigation.trex else 0
    return sum(sizes) - once, once


def layers_of(estimator: Estimator, student: StudentCircuit) -> list[CircuitInstruction]:
    """Return the layers of two-qubit gates whose noise ``pea`` and ``pec`` need to know."""
    layers: list[CircuitInstruction] = estimator.find_unique_layers(
        [pub(student, np.zeros((1, len(student.parameters))))]
    )
    return layers


def noise_of_layers(layers: Sequence[CircuitInstruction], student: StudentCircuit, noise: NoiseModel) -> Layers:
    """Return layers with the noise that a calibration says they have, as learning would find it.

    Args:
        layers: of the circuit.
        student: on the noise model's indices.
        noise: Aer's, of local errors.
    """
    return [(layer, _lindblad(layer, student, noise)) for layer in layers]


def _lindblad(layer: CircuitInstruction, student: StudentCircuit, noise: NoiseModel) -> PauliLindbladMap:
    """Return the twirled noise of one layer, which acts before its gates."""
    body = layer.operation.body
    terms: list[tuple[str, list[int], float]] = []
    for item in body.data:
        if len(item.qubits) != 2 or item.operation.name == "barrier":
            continue
        inside = [body.find_bit(qubit).index for qubit in item.qubits]
        outside = tuple(student.circuit.find_bit(layer.qubits[i]).index for i in inside)
        error = error_of(noise, item.operation.name, outside)
        if error is not None:
            terms += [(label, inside[::-1], rate) for label, rate in _rates(SuperOp(error), Operator(item.operation))]
    return PauliLindbladMap.from_sparse_list(terms, num_qubits=len(layer.qubits))


def _rates(error: SuperOp, gate: Operator) -> list[tuple[str, float]]:
    """Return the rates of a two-qubit gate's error as twirling leaves it, carried in front of the gate.

    Twirling keeps the fidelities ``f_b``, and ``log f_b = -2 sum_k rate_k <b,k>``, where <b,k> is 1 for Paulis that do
    not commute (van den Berg et al., arXiv:2201.09866, eq. 4): 15 equations for 15 rates.
    """
    paulis = pauli_basis(2)[1:]
    before = SuperOp(gate).compose(error).compose(SuperOp(gate.adjoint()))
    matrices = paulis.to_matrix(array=True)
    carried = (before.data @ matrices.transpose(0, 2, 1).reshape(15, 16).T).T  # column-stacked operators
    fidelities = np.einsum("bi,bi->b", matrices.transpose(0, 2, 1).reshape(15, 16).conj(), carried).real / 4
    clash = np.array([[not a.commutes(b) for b in paulis] for a in paulis], dtype=float)
    rates = np.linalg.solve(clash, -np.log(fidelities.clip(1e-9, 1)) / 2)
    return [(label, float(rate)) for label, rate in zip(paulis.to_labels(), rates, strict=True) if rate > 1e-9]
