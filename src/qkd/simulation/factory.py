"""The choice of the fastest engine for a circuit, and engines for training and measurement made from settings.

The constants of AerSimulator's cost are seconds on one core, fitted to Aer 0.18.2 with IBM's noise models. They are no
measurements of the machine at hand, so that the same circuit is simulated with the same method everywhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from qiskit.circuit import CircuitInstruction, Parameter

from qkd.circuits.cone import past
from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.config import EngineSpec
from qkd.core.errors import CircuitError, ConfigError, QkdError
from qkd.engines.aer import MAX_EXACT_QUBITS, AerEstimator, ShotEstimator
from qkd.engines.base import EngineEstimator
from qkd.engines.density import MAX_DENSITY_QUBITS, DensityMatrixEstimator
from qkd.engines.gradient import EngineGradient
from qkd.engines.lightcone import MAX_CONE_QUBITS, LightConeEstimator, light_cones
from qkd.engines.measured import measurement_groups
from qkd.engines.noise import NoiseLike
from qkd.engines.paulis.carry import Encoding, differs
from qkd.engines.paulis.cones import ChannelBlock, Cone, cone_union
from qkd.engines.program import pauli_terms
from qkd.engines.statevector import StatevectorEstimator

ROWS = 64
"""Default batch size."""
COSTS = {
    "lightcone": (830.0, 119.0, 4.0e-5, 8.9e-4, 3.8e-5, 7.6),
    "statevector": (560.0, 16.0, 4.6e-4, 4.4e-3),
    "density": (730.0, 45.0, 5.2e-3),
}
"""Microseconds per unit of each amount of ``work``: forward and gradient, single precision, one thread.

Only ratios matter. ``benchmarks/choice.py`` fits them and compares choices with measured times."""
MAX_SECONDS_PER_STEP = 0.25
"""Estimated seconds of a step up to which an exact engine is preferred to a truncating one."""
MAX_STATE_QUBITS = 24
"""Maximum width for which a statevector is considered."""


@dataclass(frozen=True)
class Work:
    """Work of one training step of an exact engine.

    Attributes:
        amounts: The counts that ``COSTS`` weighs. Light-cone engine: steps; blocks of cones of different shapes;
            multiply-adds that all rows share, that each row needs, and of the contraction with the encoded qubits;
            blocks with matrices of each row. Other engines: steps; blocks; numbers that blocks change in all rows;
            numbers that are read in all rows.
        why: A description for the reason of the choice.
    """

    amounts: tuple[float, ...]
    why: str


@public
def choose(student: StudentCircuit, noise: NoiseLike, accuracy: float, rows: int = ROWS) -> tuple[str, str]:
    """Return the name of the engine for a circuit, and the reason.

    Args:
        noise: The noise model; None is an ideal device.
        accuracy: The accuracy of the light-cone engine in wide light cones; 0 demands an exact engine.
        rows: The batch size, B.

    Raises:
        QkdError: No engine supports the circuit under this noise.
    """
    try:
        exact, width = work(student, noise, rows)
    except QkdError as error:  # only the statevector engine supports some gates
        if noise is not None:
            raise
        return "statevector", str(error)
    return fastest(student, exact, width, accuracy)


def fastest(student: StudentCircuit, exact: Mapping[str, Work], width: int, accuracy: float) -> tuple[str, str]:
    """Return the name of the engine for a circuit with the work (see ``work``) of exact engines, and the reason."""
    seconds = {kind: cost(kind, task) for kind, task in exact.items()}
    best = min(seconds, key=seconds.__getitem__, default="")
    if best and (seconds[best] <= MAX_SECONDS_PER_STEP or not accuracy):
        others = " and ".join(task.why for kind, task in exact.items() if kind != best)
        return best, f"{exact[best].why} cost {f'less than {others}' if others else 'least'}"
    if accuracy:
        return "lightcone", f"light cones of {width} qubits are too wide to be exact in reasonable time"
    raise CircuitError(
        f"circuit '{student.name}' has light cones of {width} qubits, too wide for any exact engine; give an "
        "--accuracy, such as 1e-3, use fewer layers, or take --engine aer"
    )


def is_affordable(student: StudentCircuit, noise: NoiseLike = None, rows: int = ROWS) -> bool:
    """Return whether some exact engine needs at most ``MAX_SECONDS_PER_STEP`` for a step of a circuit."""
    exact, _ = work(student, noise, rows)
    return min((cost(kind, task) for kind, task in exact.items()), default=float("inf")) <= MAX_SECONDS_PER_STEP


def cost(kind: str, task: Work) -> float:
    """Return the estimated seconds of a step."""
    return 1e-6 * sum(price * amount for price, amount in zip(COSTS[kind], task.amounts, strict=True))


def work(student: StudentCircuit, noise: NoiseLike, rows: int) -> tuple[dict[str, Work], int]:
    """Return the work of every exact engine by name, and the width of the widest light cone, or of a too wide one."""
    terms, _, _ = pauli_terms(student.observables)
    largest = 4**MAX_CONE_QUBITS
    encoding, blocks, cones = light_cones(student.circuit, terms, noise, student.inputs, largest)
    width = max((len(cone.qubits) for cone in cones), default=0)
    numbers, qubits = cone_union([block.qubits for block in blocks], terms)
    tasks: dict[str, Work] = {}
    if max((max(cone.counts, default=1) for cone in cones), default=1) <= largest:
        amounts = _lightcone(set(student.inputs), encoding, blocks, cones, rows)
        tasks["lightcone"] = Work(amounts, f"light cones of {width} qubits")
    if noise is None and student.num_qubits <= MAX_STATE_QUBITS:
        amplitudes = 2.0 ** len(qubits) * rows
        amounts = 1.0, len(numbers), amplitudes * len(numbers), amplitudes
        tasks["statevector"] = Work(amounts, f"2^{len(qubits)} amplitudes")
    if noise is not None and len(qubits) <= MAX_DENSITY_QUBITS:
        amounts = 1.0, len(numbers), 4.0 ** len(qubits) * rows * len(numbers)
        tasks["density"] = Work(amounts, f"a density matrix of {len(qubits)} qubits for each text")
    return tasks, width


def _lightcone(
    inputs: set[Parameter], encoding: Encoding, blocks: Sequence[ChannelBlock], cones: Sequence[Cone], rows: int
) -> tuple[float, ...]:
    """Return the amounts of the light-cone engine; see ``Work``."""
    varying = [any(differs(channel, inputs) for channel in block.channels) for block in blocks]
    shared = own = met = 0.0
    shapes: dict[Hashable, tuple[int, bool]] = {}
    for cone in cones:
        kinds = tuple(varying[number] for number, _ in cone.blocks)
        if any(kinds):
            own += cone.operations
        else:
            shared += cone.operations
        met += cone.counts[-1] if cone.counts else 1
        shapes[cone.moves, kinds, tuple(encoding.sizes[q] for q in cone.qubits)] = len(cone.moves), any(kinds)
    moves = sum(count for count, _ in shapes.values())
    return 1.0, moves, shared, own * rows, met * rows, moves if any(varies for _, varies in shapes.values()) else 0.0


METHODS = {
    "density_matrix": "density matrices",
    "statevector": "trajectories of statevectors",
    "matrix_product_state": "trajectories of matrix product states",
}
"""Aer's methods under noise with their descriptions."""
THREADED = 14
"""Width from which statevector operations profit from several threads."""

MAX_AER_SECONDS = 0.2
"""Estimated seconds per text up to which AerSimulator measures a student."""


@dataclass(frozen=True)
class Load:
    """Pauli strings that are measured together, with the size of their light cone.

    Attributes:
        strings: The indices of the Pauli strings.
        qubits: The number of qubits in the light cone.
        gates: The number of gates in the light cone.
        bond: An upper bound on the bond dimension of a matrix product state.
    """

    strings: tuple[int, ...]
    qubits: int
    gates: int
    bond: int

    def seconds(self, method: str, shots: int) -> float:
        """Return the estimated seconds for one parameter vector."""
        if method == "density_matrix":
            return self.gates * (3e-5 + 2e-9 * 4**self.qubits)
        if method == "statevector":
            return shots * self.gates * (5e-6 + 6.4e-9 * 2**self.qubits)
        return shots * self.gates * (1.8e-5 + 1.4e-9 * self.bond**3)


def loads(student: StudentCircuit, noisy: bool) -> list[Load]:
    """Return the groups of Pauli strings that AerSimulator measures together for a circuit."""
    terms, _, _ = pauli_terms(student.observables)
    groups = []
    for strings, qubits in measurement_groups(student.circuit, terms, noisy):
        measured = {qubit for t in strings for qubit, _ in terms[t]}
        items = past(student.circuit, measured)[1]
        groups.append(Load(tuple(strings), len(qubits), len(items), _bond(student, qubits, items)))
    return groups


def cheapest(groups: Sequence[Load], shots: int) -> str:
    """Return the method for the widest light cones: exact if possible, else the fastest."""
    if all(load.qubits <= MAX_EXACT_QUBITS for load in groups):
        return "density_matrix"
    methods = ["matrix_product_state"]
    if all(load.qubits <= MAX_STATE_QUBITS for load in groups):
        methods.append("statevector")
    return min(methods, key=lambda method: max(load.seconds(method, shots) for load in groups))


def _bond(student: StudentCircuit, qubits: Sequence[int], items: Sequence[CircuitInstruction]) -> int:
    """Return a bound on the bond dimension. Every two-qubit gate across a cut of the ordered qubits doubles it."""
    place = {qubit: i for i, qubit in enumerate(qubits)}
    crossings = [0] * max(1, len(qubits) - 1)
    for item in items:
        on = [place[student.circuit.find_bit(qubit).index] for qubit in item.qubits]
        for cut in range(min(on), max(on)):
            crossings[cut] += 1
    return max(2 ** min(count, cut + 1, len(qubits) - 1 - cut) for cut, count in enumerate(crossings))


@dataclass(frozen=True)
class Engine:
    """Estimator of a student's circuit with its gradient.

    Attributes:
        kind: The engine's name in ``--engine``.
        estimator: A V2 estimator that also compiles to differentiable programs.
        shots: The shots per expectation value, or None without sampling.
        device: The torch device.
        reason: A description with the reason of the choice.
    """

    kind: str
    estimator: EngineEstimator
    shots: int | None
    device: torch.device
    reason: str

    @cached_property
    def gradient(self) -> EngineGradient:
        """The gradient of its values."""
        return EngineGradient(self.estimator)

    def describe(self) -> str:
        """Return one line with the engine, the reason of its choice and its accuracy."""
        note = self.estimator.note()
        return f"{self.reason}; {note}" if note else self.reason


@public
def make_engine(spec: EngineSpec, student: StudentCircuit, noise: NoiseLike = None, rows: int = ROWS) -> Engine:
    """Return the training engine for a circuit.

    Args:
        noise: The noise model on the circuit's qubits; None is an ideal device.
        rows: The batch size, B, which the choice of ``auto`` depends on.

    Raises:
        QkdError: The torch device does not exist, or the engine does not support the circuit or the noise.
    """
    device = torch_device(spec.torch_device)
    under = "ideal" if noise is None else "under the device's noise"
    kind, why = (spec.engine, "as asked") if spec.engine != "auto" else choose(student, noise, spec.accuracy, rows)
    if kind == "aer":
        estimator = AerEstimator(noise, shots=spec.shots, seed=spec.engine_seed, gradient=spec.gradient)
        reason = f"aer engine ({why}), {spec.shots:,} shots, {under}, gradients by {spec.gradient}"
        return Engine("aer", estimator, spec.shots, torch.device("cpu"), reason)
    single = spec.precision == "single"
    if kind == "statevector":
        if noise is not None:
            raise ConfigError("the statevector engine has no noise; use --engine auto, lightcone or density")
        dtype = "complex64" if single else "complex128"
        plain = StatevectorEstimator(dtype=dtype, device=str(device))
        plain.threads = 1 if student.num_qubits < THREADED else None
        return Engine(kind, plain, None, device, f"statevector engine ({why}), exact, ideal, {dtype} on {device}")
    dtype = "float32" if single else "float64"
    made, exact = _noisy(kind, spec, noise, dtype, str(device))
    return Engine(kind, made, None, device, f"{kind} engine ({why}), {exact}, {under}, {dtype} on {device}")


def _noisy(kind: str, spec: EngineSpec, noise: NoiseLike, dtype: str, device: str) -> tuple[EngineEstimator, str]:
    """Return an engine with noise and a description of its accuracy."""
    if kind == "lightcone":
        cut = f"exact, to {spec.accuracy:g} in wide light cones" if spec.accuracy else "exact"
        if spec.truncation:
            cut = f"Pauli strings below {spec.truncation:g} left out"
        return LightConeEstimator(
            noise, dtype=dtype, device=device, accuracy=spec.accuracy, truncation=spec.truncation
        ), cut
    return DensityMatrixEstimator(noise, dtype=dtype, device=device), "exact"


def make_sampler(spec: EngineSpec, student: StudentCircuit, noise: NoiseLike, trainer: Engine) -> Engine:
    """Return the engine that measures a student with shots after training.

    AerSimulator measures if it is fast enough. Otherwise shot noise is added to the values of the training engine.
    """
    under = "without noise" if noise is None else "with the device's noise"
    seconds = 0.0
    if noise is not None:
        whole = loads(student, noisy=True)
        method = cheapest(whole, spec.shots)
        seconds = sum(load.seconds(method, spec.shots) for load in whole)
    if seconds <= MAX_AER_SECONDS or trainer.kind == "aer":
        estimator = AerEstimator(noise, shots=spec.shots, seed=spec.engine_seed)
        reason = f"AerSimulator {under}, {spec.shots:,} shots"
        return Engine("aer", estimator, spec.shots, torch.device("cpu"), reason)
    sampler = ShotEstimator(trainer.estimator, shots=spec.shots, seed=spec.engine_seed)
    reason = (
        f"{trainer.kind} engine {under}, {spec.shots:,} shots drawn from its values (AerSimulator would need about "
        f"{seconds:.0f} s per text)"
    )
    return Engine(trainer.kind, sampler, spec.shots, trainer.device, reason)


def torch_device(name: str) -> torch.device:
    """Return the torch device called ``name``; ``auto`` is CUDA if available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--torch-device {name}: not available ({str(error).splitlines()[0]})") from None
