"""Choice of the fastest exact engine for a circuit, or of the light-cone engine with an accuracy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from qiskit.circuit import Parameter

from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.errors import CircuitError, QkdError
from qkd.engines import density
from qkd.engines.lightcone import MAX_CONE_QUBITS, light_cones
from qkd.engines.noise import NoiseLike
from qkd.engines.paulis.carry import Encoding, differs
from qkd.engines.paulis.cones import ChannelBlock, Cone, cone_union
from qkd.engines.program import pauli_terms

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
        "--accuracy, such as 1e-3, use fewer layers, or take --engine trajectories"
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
    if noise is not None and len(qubits) <= density.MAX_DENSITY_QUBITS:
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
