"""Which engine is the fastest that is exact for a circuit, or exact enough where none is in bearable time."""

from __future__ import annotations

from collections.abc import Sequence

from qkd.circuits.student import StudentCircuit
from qkd.engines import density
from qkd.engines.lightcone import WIDEST, past
from qkd.engines.noise import NoiseLike
from qkd.engines.paulis.bloch import differs
from qkd.engines.paulis.cones import Block, Cone, seen
from qkd.engines.paulis.strings import pauli_terms
from qkd.errors import CircuitError, QkdError

ROWS = 32
"""Rows of the batch for which engines are compared."""
PER_AMPLITUDE = 50
"""Multiply-adds per amplitude and row that a statevector sweep is taken to need."""
BEARABLE = 2e8
"""Multiply-adds of a step up to which an exact engine is preferred to one that leaves something out."""
WIDEST_STATE = 24
"""Qubits up to which a statevector is considered."""


def choose(student: StudentCircuit, noise: NoiseLike, accuracy: float) -> tuple[str, str]:
    """Return the engine for a circuit, by name, and why, in words.

    Args:
        student: the circuit.
        noise: the noise model, or None for an ideal device.
        accuracy: what the light-cone engine keeps to in wide light cones; 0 wants it exact.

    Raises:
        QkdError: no engine takes the circuit under this noise.
    """
    n = student.num_qubits
    amplitudes = f"2^{n} amplitudes"
    try:
        terms, _, _ = pauli_terms(student.observables)
        _, blocks, cones = past(student.circuit, terms, noise, student.inputs)
    except QkdError as error:  # gates that only the statevector engine takes
        if noise is not None:
            raise
        return "statevector", str(error)
    width = max((len(one.qubits) for one in cones), default=0)
    fits = max((max(one.counts, default=1) for one in cones), default=1) <= 4**WIDEST
    exact: dict[str, tuple[float, str]] = {}
    if fits:
        exact["lightcone"] = _lightcone(student, blocks, cones), f"light cones of {width} qubits"
    if noise is None and n <= WIDEST_STATE:
        exact["statevector"] = 2.0**n * PER_AMPLITUDE * ROWS, amplitudes
    if noise is not None:
        numbers, qubits = seen([block.qubits for block in blocks], terms)
        if len(qubits) <= density.MOST_QUBITS:
            cost = 4.0 ** len(qubits) * 16 * len(numbers) * ROWS
            exact["density"] = cost, f"a density matrix of {len(qubits)} qubits for each text"
    best = min(exact, key=lambda kind: exact[kind][0], default="")
    if best and (exact[best][0] <= BEARABLE or not accuracy):
        others = " and ".join(why for kind, (_, why) in exact.items() if kind != best)
        return best, f"{exact[best][1]} cost {f'less than {others}' if others else 'least'}"
    if accuracy:
        return "lightcone", f"light cones of {width} qubits are too wide to be exact at a bearable cost"
    raise CircuitError(
        f"circuit '{student.name}' has light cones of {width} qubits, too wide for any exact engine; give an "
        "--accuracy, such as 1e-3, use fewer layers, or take --engine trajectories"
    )


def _lightcone(student: StudentCircuit, blocks: Sequence[Block], cones: Sequence[Cone]) -> float:
    """Return about how many multiply-adds a batch takes in the light-cone engine."""
    inputs = set(student.inputs)
    varying = [any(differs(channel, inputs) for channel in block.channels) for block in blocks]
    total = 0.0
    for one in cones:
        own = any(varying[number] for number, _ in one.blocks)
        total += one.operations * (ROWS if own else 1) + ROWS * (one.counts[-1] if one.counts else 1)
    return total
