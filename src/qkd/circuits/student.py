"""The student circuit: one Qiskit circuit, its data inputs, its weights and its observables; its size and drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from qiskit.circuit import CircuitInstruction, Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import TranspileLayout

from qkd.circuits.flatten import flattened, has_misnamed_gates, is_approximated
from qkd.core.errors import CircuitError


@dataclass(frozen=True, repr=False)
class StudentCircuit:
    """A parameterized circuit with A ordered inputs, P ordered weights and K observables.

    Only these two lists distinguish inputs from weights, never names or sort order. Every transformation
    (transpilation, cutting to a region) returns another ``StudentCircuit`` with the same two lists in the same order.
    The columns of a parameter array ``(B, A+P)`` therefore have the same meaning everywhere.

    Attributes:
        circuit: The circuit, n qubits, no measurements. A gate that only has the name of a library gate is replaced by
            its definition.
        inputs: The A data parameters, in the order of the angles' columns.
        weights: The P trainable parameters, in the order of the weight vector.
        observables: The K Hermitian observables on the n qubits of ``circuit``.
        layout: The layout of a transpiled circuit; it is already applied to the observables.
        name: The name in reports.
        start: The A input values in radians around which training starts, so that expectation values respond linearly
            to every input. If it is empty, ``simulation.start.started`` computes them.

    Raises:
        QkdError: The lists overlap, miss a parameter or have an unknown one, an observable has another width or is not
            Hermitian, the circuit uses classical bits, or ``start`` has another length than ``inputs``.
    """

    circuit: QuantumCircuit
    inputs: tuple[Parameter, ...]
    weights: tuple[Parameter, ...]
    observables: tuple[SparsePauliOp, ...]
    layout: TranspileLayout | None = None
    name: str = "circuit"
    start: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.circuit, QuantumCircuit):
            raise CircuitError(f"the circuit is a {type(self.circuit).__name__}; give a QuantumCircuit")
        kinds = {"inputs": Parameter, "weights": Parameter, "observables": SparsePauliOp, "start": (int, float)}
        for field, kind in kinds.items():
            given = getattr(self, field)
            values = tuple(given) if isinstance(given, Iterable) else (given,)
            if not isinstance(given, Iterable) or not all(isinstance(value, kind) for value in values):
                name = "number" if isinstance(kind, tuple) else kind.__name__
                raise CircuitError(f"circuit '{self.name}': {field} must be a list with elements of type {name}")
            object.__setattr__(self, field, values)
        if any(is_approximated(item.operation) for item in self.circuit.data):
            _warn_of_approximation(self.name)
        if has_misnamed_gates(self.circuit):
            object.__setattr__(self, "circuit", flattened(self.circuit))
        both = set(self.inputs) & set(self.weights)
        if both:
            raise CircuitError(f"circuit '{self.name}': {_names(both)} is both an input and a weight; name it once")
        listed, occurring = set(self.inputs) | set(self.weights), set(self.circuit.parameters)
        if occurring - listed:
            raise CircuitError(f"circuit '{self.name}': {_names(occurring - listed)} is neither an input nor a weight")
        if listed - occurring:
            raise CircuitError(f"circuit '{self.name}': {_names(listed - occurring)} does not occur in the circuit")
        if self.start and len(self.start) != len(self.inputs):
            raise CircuitError(
                f"circuit '{self.name}' has {len(self.inputs)} inputs but {len(self.start)} start values"
            )
        classical = next((i.operation.name for i in self.circuit.data if i.clbits), None)
        if classical:
            raise CircuitError(
                f"circuit '{self.name}' has '{classical}', which uses classical bits; remove it, because the "
                "observables define the measurement"
            )
        if not self.observables:
            raise CircuitError(f"circuit '{self.name}' measures nothing: give at least one observable")
        for k, observable in enumerate(self.observables):
            if observable.num_qubits != self.circuit.num_qubits:
                raise CircuitError(
                    f"circuit '{self.name}' has {self.circuit.num_qubits} qubits but observable {k} has "
                    f"{observable.num_qubits}"
                )
            if abs(observable.coeffs.imag).max(initial=0.0) > 1e-12:
                raise CircuitError(f"circuit '{self.name}': observable {k} is not Hermitian (complex coefficients)")

    def __repr__(self) -> str:
        return f"<StudentCircuit '{self.name}': {count(self).size()}>"

    @property
    def num_qubits(self) -> int:
        """The number n of qubits."""
        return self.circuit.num_qubits

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All A+P parameters, inputs first, in the order of the columns of every parameter array."""
        return self.inputs + self.weights

    def with_circuit(
        self, circuit: QuantumCircuit, observables: Sequence[SparsePauliOp], layout: TranspileLayout | None = None
    ) -> StudentCircuit:
        """Return this student circuit with another circuit over the same parameters."""
        return replace(self, circuit=circuit, observables=tuple(observables), layout=layout)


def _names(parameters: set[Parameter]) -> str:
    return ", ".join(sorted(f"'{p.name}'" for p in parameters))


@lru_cache(maxsize=8)
def _warn_of_approximation(name: str) -> None:
    from qkd.core.console import log  # engines alone load no console

    log.warning(
        f"circuit '{name}' contains a PauliEvolutionGate of terms that do not commute; qkd runs its product formula, "
        "as a device does, which differs from the exact evolution"
    )


MAX_DRAWN_QUBITS = 30
"""Maximum number of qubits of a readable drawing."""


@dataclass(frozen=True)
class Counts:
    """The size of a student circuit.

    Attributes:
        qubits: The number n of qubits.
        inputs: The number A of inputs.
        weights: The number P of weights.
        observables: The number K of observables.
        gates: The number of gates of each name, without barriers.
        depth: The number of gates on the longest path.
        two_qubit_gates: The number of gates on two or more qubits.
        two_qubit_depth: The number of these gates on the longest path.
    """

    qubits: int
    inputs: int
    weights: int
    observables: int
    gates: dict[str, int]
    depth: int
    two_qubit_gates: int
    two_qubit_depth: int

    def size(self) -> str:
        """Return n, A, P and K in words."""
        return f"{self.qubits} qubits, {self.inputs} inputs, {self.weights} weights, {self.observables} observables"

    def render(self) -> str:
        """Return size, gates and depths in one line."""
        gates = ", ".join(f"{count} {name}" for name, count in self.gates.items()) or "no gates"
        return (
            f"{self.size()}; {gates}; depth {self.depth}; "
            f"{self.two_qubit_gates} two-qubit gates, two-qubit depth {self.two_qubit_depth}"
        )


def count(circuit: StudentCircuit) -> Counts:
    """Return the size of a circuit."""
    operations = circuit.circuit
    return Counts(
        qubits=circuit.num_qubits,
        inputs=len(circuit.inputs),
        weights=len(circuit.weights),
        observables=len(circuit.observables),
        gates={name: number for name, number in operations.count_ops().items() if name != "barrier"},
        depth=operations.depth(),
        two_qubit_gates=sum(map(_entangles, operations.data)),
        two_qubit_depth=operations.depth(_entangles),
    )


def circuit_text(circuit: StudentCircuit, columns: int = 150) -> str:
    """Return the circuit drawn in characters, folded at ``columns``, or a remark if it is too wide."""
    if circuit.num_qubits > MAX_DRAWN_QUBITS:
        return f"({circuit.num_qubits} qubits: too wide to draw)"
    return str(circuit.circuit.draw("text", fold=columns, idle_wires=True))


def _entangles(item: CircuitInstruction) -> bool:
    return len(item.qubits) > 1 and item.operation.name != "barrier"
