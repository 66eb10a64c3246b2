"""A student on a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from qkd.circuits.student import StudentCircuit
from qkd.reports import plots
from qkd.reports.pages import Part, Picture
from qkd.reports.tables import Table
from qkd.student.bundle import Student

MAX_DRAWN_GATES = 400
"""Gates of a circuit that a notebook draws."""


def facts(student: Student) -> dict[str, str]:
    """Return classes, circuit, sizes, encoder, teacher and accuracy of a student in words."""
    circuit, counts, about = student.model.circuit, student.model.parameter_counts(), student.about
    lines = {
        "classes": ", ".join(student.classes),
        "circuit": f"{circuit.name}, {circuit.num_qubits} qubits, {len(circuit.inputs)} inputs, "
        f"{len(circuit.observables)} observables",
        "parameters": f"{counts.classical:,} classical, {counts.quantum:,} quantum",
        "encoder": f"{student.encoder.name}, embedding width {student.model.dim}",
        "teacher": about.teacher,
        "data": about.data,
    }
    if about.metrics is not None:
        lines["accuracy"] = str(about.metrics.accuracy)
    return lines


def parts(student: Student) -> Sequence[Part]:
    """Return facts, conclusions and circuit of a student."""
    about, circuit = student.about, student.model.circuit
    small = len(circuit.circuit.data) <= MAX_DRAWN_GATES
    drawing = [Picture("The circuit.", circuit_figure, (circuit,))] if small else []
    sentences = [*about.controls, *([about.conclusion] if about.conclusion else [])]
    return [Table(("student", "value"), list(facts(student).items())), sentences, drawing]


def records(student: Student) -> dict[str, list[dict[str, Any]]]:
    """Return the facts, and the trained weights of the circuit."""
    model = student.model
    weights = model.quantum.weights.tolist()
    names = [weight.name for weight in model.circuit.weights]
    return {
        "facts": [{"fact": name, "value": value} for name, value in facts(student).items()],
        "weights": [{"weight": name, "value": value} for name, value in zip(names, weights, strict=True)],
    }


def circuit_figure(circuit: StudentCircuit, axes: Any = None) -> Any:
    """Draw a circuit in the colors of a report."""
    style = dict.fromkeys(("textcolor", "gatetextcolor", "linecolor", "edgecolor", "creglinecolor"), plots.INK)
    drawn = axes or Figure(figsize=(9, 0.6 * circuit.num_qubits + 1)).add_subplot()
    circuit.circuit.draw("mpl", style={"name": "bw", **style}, ax=drawn, fold=-1)
    return drawn.figure
