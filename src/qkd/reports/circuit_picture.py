"""A student's circuit as an SVG picture whose colors are CSS variables of the page."""

from __future__ import annotations

from markupsafe import Markup, escape
from qiskit.circuit import CircuitInstruction

from qkd.circuits.student import StudentCircuit
from qkd.core.console import one_line

COLUMNS = 14
"""Gates beside each other before the picture continues in a new row."""
MAX_CELLS = 3000
"""Places for gates that are drawn; larger circuits end early, with a note."""
CELL, LEFT, GAP = 46, 44, 30
"""Width and height of a gate's place, width of the qubit names, and gap between rows, in pixels."""


def circuit_picture(circuit: StudentCircuit) -> Markup:
    """Return a circuit as SVG. Gates with data and gates with trained weights have colors of their own."""
    qubits = circuit.num_qubits
    columns = _columns(circuit)
    shown = columns[: max(COLUMNS, MAX_CELLS // max(qubits, 1))]
    height, rows = qubits * CELL + GAP, range(0, len(shown), COLUMNS)
    width = LEFT + min(len(shown), COLUMNS) * CELL + 8
    inputs, weights = set(circuit.inputs), set(circuit.weights)
    parts = []
    for row, start in enumerate(rows):
        top = row * height + 4
        for qubit in range(qubits):
            y = top + (qubit + 0.5) * CELL
            parts.append(f'<text x="0" y="{y + 4:g}" class="name">q{qubit}</text>')
            parts.append(f'<line x1="{LEFT - 8}" y1="{y:g}" x2="{width}" y2="{y:g}" class="wire"/>')
        for column, gates in enumerate(shown[start : start + COLUMNS]):
            x = LEFT + (column + 0.5) * CELL
            for gate in gates:
                used = set(gate.operation.params and _parameters(gate))
                kind = "data" if used & inputs else "trained" if used & weights else "fixed"
                parts += _gate(gate, [circuit.circuit.find_bit(q).index for q in gate.qubits], x, top, kind)
    label = f"Circuit with {qubits} qubits"
    if len(shown) < len(columns):
        label += f", of which the first {len(shown)} of {len(columns)} columns are drawn"
        parts.append(f'<text x="0" y="{len(rows) * height - 4}">{label}</text>')
    return Markup(
        f'<svg role="img" aria-label="{label}" class="circuit" viewBox="0 0 {width} {len(rows) * height}" '
        f'style="max-width: {width}px">{"".join(parts)}</svg>'
    )


def _columns(circuit: StudentCircuit) -> list[list[CircuitInstruction]]:
    """Return the gates in columns, so that no gate crosses another one of its column."""
    free = [0] * circuit.num_qubits
    columns: list[list[CircuitInstruction]] = []
    for gate in circuit.circuit.data:
        if gate.operation.name == "barrier" or not gate.qubits:
            continue
        places = [circuit.circuit.find_bit(qubit).index for qubit in gate.qubits]
        span = range(min(places), max(places) + 1)
        column = max(free[qubit] for qubit in span)
        for qubit in span:
            free[qubit] = column + 1
        columns += [[] for _ in range(column + 1 - len(columns))]
        columns[column].append(gate)
    return columns


def _parameters(gate: CircuitInstruction) -> set[object]:
    return {parameter for value in gate.operation.params for parameter in getattr(value, "parameters", ())}


def _gate(gate: CircuitInstruction, places: list[int], x: float, top: float, kind: str) -> list[str]:
    """Return a gate's SVG elements: dots for controls, a cross for a target, and boxes with names for the rest."""
    ys = [top + (place + 0.5) * CELL for place in places]
    parts = []
    if len(ys) > 1:
        parts.append(f'<line x1="{x:g}" y1="{min(ys):g}" x2="{x:g}" y2="{max(ys):g}" class="link {kind}"/>')
    name = gate.operation.name
    if name in ("cx", "cz"):
        dots = ys if name == "cz" else ys[:1]
        parts += [f'<circle cx="{x:g}" cy="{y:g}" r="4" class="dot {kind}"/>' for y in dots]
        if name == "cx":
            y = ys[1]
            parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="9" class="box {kind}"/>')
            parts.append(f'<path d="M{x - 9:g} {y:g}h18M{x:g} {y - 9:g}v18" class="link {kind}"/>')
        return parts
    label = ", ".join(_argument(value) for value in gate.operation.params[:2])
    for y in ys:
        parts.append(
            f'<rect x="{x - 20:g}" y="{y - 17:g}" width="40" height="34" rx="4" class="box {kind}"/>'
            f'<text x="{x:g}" y="{y - 2 if label else y + 4:g}" class="gate">{escape(_short(name, 6))}</text>'
        )
        if label:
            parts.append(f'<text x="{x:g}" y="{y + 11:g}" class="gate small">{escape(_short(label, 8))}</text>')
    return parts


def _argument(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _short(text: str, width: int) -> str:
    line = one_line(text)
    return line if len(line) <= width else line[: width - 1] + "…"
