"""The student circuit: one Qiskit circuit, its data inputs, its weights and what is measured on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import TranspileLayout

from qkd.circuits.flatten import flattened, has_misnamed_gates
from qkd.core.errors import CircuitError


@dataclass(frozen=True)
class StudentCircuit:
    """A parameterized circuit with A ordered inputs, P ordered weights and K observables.

    Inputs and weights are told apart by these two lists alone, never by name or sort order. Every
    transformation (transpilation, cutting to a region) returns another ``StudentCircuit`` with the same
    two lists in the same order, so that a parameter array ``(B, A+P)`` means the same thing everywhere.

    Args:
        circuit: the circuit, n qubits, no measurements. A gate that only has the name of a library gate is replaced by
            its definition.
        inputs: the A data parameters, in the order of the angles' columns.
        weights: the P trainable parameters, in the order of the weight vector.
        observables: K Hermitian observables, each on the n qubits of ``circuit``.
        layout: where transpilation put the logical qubits; the observables have it applied already.
        name: what reports call this circuit.
        start: the A input values, radians, around which training starts, where expectation values respond linearly
            to every input; empty where nobody has said (``simulation.start.started`` finds them).

    Raises:
        QkdError: the lists overlap, leave out a parameter or name a foreign one, an observable has another
            width or is not Hermitian, the circuit uses classical bits, or ``start`` has another length than ``inputs``.
    """

    circuit: QuantumCircuit
    inputs: tuple[Parameter, ...]
    weights: tuple[Parameter, ...]
    observables: tuple[SparsePauliOp, ...]
    layout: TranspileLayout | None = None
    name: str = "circuit"
    start: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for field in ("inputs", "weights", "observables", "start"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
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
                f"circuit '{self.name}' has {len(self.inputs)} inputs but says where {len(self.start)} of them start"
            )
        classical = next((i.operation.name for i in self.circuit.data if i.clbits), None)
        if classical:
            raise CircuitError(
                f"circuit '{self.name}' holds '{classical}', which uses classical bits; leave it out, the observables "
                "say what is measured"
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

    @property
    def num_qubits(self) -> int:
        """n, the circuit's width."""
        return self.circuit.num_qubits

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All A+P parameters, inputs first: the columns of every parameter array."""
        return self.inputs + self.weights

    def with_circuit(
        self,
        circuit: QuantumCircuit,
        observables: Sequence[SparsePauliOp],
        layout: TranspileLayout | None = None,
    ) -> StudentCircuit:
        """Return this student on another circuit over the same parameters."""
        return replace(self, circuit=circuit, observables=tuple(observables), layout=layout)


def _names(parameters: set[Parameter]) -> str:
    return ", ".join(sorted(f"'{p.name}'" for p in parameters))
