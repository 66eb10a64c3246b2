"""Which engine is the fastest that is exact for a circuit, and what to take where none is."""

from __future__ import annotations

from collections.abc import Sequence

from qiskit_aer.noise import NoiseModel

from qkd.circuits.student import StudentCircuit
from qkd.engines import density, trajectories
from qkd.engines.lightcone import WIDEST, past
from qkd.engines.paulis.bloch import differs
from qkd.engines.paulis.cones import Block, Cone, seen
from qkd.engines.paulis.strings import pauli_terms
from qkd.errors import QkdError

ROWS = 32
"""Rows of the batch for which engines are compared."""
PER_AMPLITUDE = 50
"""Multiply-adds per amplitude and row that a statevector sweep is taken to need."""
BEARABLE = 5e9
"""Multiply-adds of a step up to which an exact engine is preferred to one that samples: a few seconds on one core."""


def choose(student: StudentCircuit, noise: NoiseModel | None, samples: int) -> tuple[str, str]:
    """Return the engine for a circuit, by name, and why, in words.

    Args:
        student: the circuit.
        noise: the noise model, or None for an ideal device.
        samples: how many trajectories a row would get.

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
    lightcone = _lightcone(student, blocks, cones)
    if noise is None:
        statevector = 2.0**n * PER_AMPLITUDE * ROWS
        if lightcone < statevector if fits else n > 2 * WIDEST:
            return "lightcone", f"light cones of {width} qubits cost less than {amplitudes}"
        return "statevector", f"{amplitudes} cost less than light cones of {width} qubits"
    pairs = [block.qubits for block in blocks]
    numbers, qubits = seen(pairs, terms)
    exact = {"lightcone": lightcone} if fits else {}
    if len(qubits) <= density.MOST_QUBITS:
        exact["density"] = 4.0 ** len(qubits) * 16 * len(numbers) * ROWS
    best = min(exact, key=exact.__getitem__, default="")
    if best and (exact[best] <= BEARABLE or len(qubits) > trajectories.MOST_QUBITS):
        said = {
            "lightcone": f"light cones of {width} qubits",
            "density": f"a density matrix of {len(qubits)} qubits for each text",
        }
        return best, f"{said[best]} cost least and are exact"
    if len(qubits) <= trajectories.MOST_QUBITS:
        return "trajectories", (
            f"light cones of {width} qubits under noise cost too much to be exact; {samples} quantum trajectories "
            "a text are unbiased"
        )
    raise QkdError(
        f"circuit '{student.name}': the observables depend on {len(qubits)} qubits through light cones of {width}, "
        "too wide for any engine under noise; use fewer layers, or --engine lightcone with a --truncation"
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
