"""Student circuits as neutral gate lists, the form that every contender reads."""

from __future__ import annotations

from typing import Any

from qkd.circuits.student import StudentCircuit


def task(student: StudentCircuit, batch: int, repeats: int, seed: int = 0) -> dict[str, Any]:
    """Return the task of one forward and backward pass of ``student`` (see ``contender.py``).

    Raises:
        ValueError: a gate has more than one parameter or an expression of one; no bundled circuit has.
    """
    where = {p: ["input", i] for i, p in enumerate(student.inputs)}
    where |= {p: ["weight", i] for i, p in enumerate(student.weights)}
    gates = []
    for instruction in student.circuit.data:
        qubits = [student.circuit.find_bit(qubit).index for qubit in instruction.qubits]
        if len(instruction.operation.params) > 1:
            raise ValueError(f"{instruction.operation.name} has {len(instruction.operation.params)} parameters")
        parameter = where[instruction.operation.params[0]] if instruction.operation.params else None
        if instruction.operation.name != "barrier":
            gates.append([instruction.operation.name, qubits, parameter])
    return {
        "n": student.num_qubits,
        "num_inputs": len(student.inputs),
        "num_weights": len(student.weights),
        "batch": batch,
        "repeats": repeats,
        "seed": seed,
        "gates": gates,
    }
