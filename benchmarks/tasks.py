"""Student circuits as neutral gate lists, the form that every contender reads."""

from __future__ import annotations

from typing import Any

from qkd.circuits.student import StudentCircuit


def task(student: StudentCircuit, batch: int, repeats: int, seed: int = 0) -> dict[str, Any]:
    """Return the task of one forward and backward pass of ``student`` (see ``contender.py``).

    Neighboring rotations about one axis of one qubit are merged into one with a weight of its own. This spares every
    contender the same work. The paper's 144 weights become 60.

    Raises:
        ValueError: a gate has more than one parameter or an expression of one; no bundled circuit has.
    """
    where = {p: ["input", i] for i, p in enumerate(student.inputs)}
    weights = set(student.weights)
    gates: list[list[Any]] = []
    latest: dict[int, list[Any]] = {}
    count = 0
    for instruction in student.circuit.data:
        name, params = instruction.operation.name, instruction.operation.params
        if name == "barrier":
            continue
        qubits = [student.circuit.find_bit(qubit).index for qubit in instruction.qubits]
        if len(params) > 1:
            raise ValueError(f"{name} has {len(params)} parameters")
        parameter = None
        if params and params[0] in weights:
            last = latest.get(qubits[0])
            if last is not None and last[:2] == [name, qubits] and last[2] and last[2][0] == "weight":
                continue
            parameter, count = ["weight", count], count + 1
        elif params:
            parameter = where[params[0]]
        gates.append([name, qubits, parameter])
        latest.update(dict.fromkeys(qubits, gates[-1]))
    return {
        "n": student.num_qubits,
        "num_inputs": len(student.inputs),
        "num_weights": count,
        "batch": batch,
        "repeats": repeats,
        "seed": seed,
        "gates": gates,
    }
