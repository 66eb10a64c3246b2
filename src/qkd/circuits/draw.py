"""Circuits for the eye: as text, for a terminal or a page."""

from __future__ import annotations

from qkd.circuits.counts import count
from qkd.circuits.student import StudentCircuit

WIDEST = 30
"""Qubits up to which a drawing is still a drawing."""


def circuit_text(student: StudentCircuit, columns: int = 150) -> str:
    """Return the circuit drawn in characters, folded at ``columns``; a wide one is told in words instead."""
    if student.num_qubits > WIDEST:
        return f"({student.num_qubits} qubits: too wide to draw)"
    return str(student.circuit.draw("text", fold=columns, idle_wires=True))


def size(student: StudentCircuit) -> str:
    """Return a circuit's n, A, P and K in words."""
    return count(student).size()


def counts(student: StudentCircuit) -> str:
    """Return a circuit's size, gates and depths, one line."""
    return count(student).render()
