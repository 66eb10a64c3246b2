"""Circuits made of standard gates alone: every other gate is replaced by its definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from qiskit.circuit import Barrier, Delay, Gate, Operation, ParameterExpression, QuantumCircuit, Reset
from qiskit.circuit.library import GlobalPhaseGate, IGate, PauliEvolutionGate, get_standard_gate_name_mapping
from qiskit.quantum_info import SparsePauliOp
from qiskit.synthesis import ProductFormula

from qkd.core.errors import CircuitError

MAX_FLATTENED_GATES = 200_000
"""Maximum number of gates that a circuit may have after flattening."""

# names of gates that Qiskit or Aer treat in a way of their own, beside the standard gates
_OTHER_NAMES = frozenset({"unitary", "mcx", "mcphase", "mcp", "pauli", "diagonal", "permutation", "initialize"})


@lru_cache(maxsize=1)
def standard_gates() -> dict[str, type]:
    """Return the classes of Qiskit's standard gates by name."""
    others = ("delay", "reset", "measure", "global_phase")
    mapping = get_standard_gate_name_mapping()
    return {name: gate.base_class for name, gate in mapping.items() if name not in others}


def is_standard(operation: Any) -> bool:
    """Return whether an operation is a standard gate: both its name and its class are those of the library.

    The name alone proves nothing, because any program may define a gate called ``rzz``.
    """
    return standard_gates().get(operation.name) is getattr(operation, "base_class", type(operation))


def has_misnamed_gates(circuit: QuantumCircuit) -> bool:
    """Return whether a gate, or one inside its definition, has the name of a library gate without being that gate.

    Qiskit's transpiler and Aer would take it for the library's gate.
    """
    for item in circuit.data:
        operation = item.operation
        if is_standard(operation) or not isinstance(operation, Gate):
            continue
        kind = getattr(operation, "base_class", type(operation))
        if str(kind.__module__).startswith("qiskit.circuit.library"):
            continue
        if operation.name in standard_gates() or operation.name in _OTHER_NAMES:
            return True
        definition = _definition(operation)
        if definition is not None and has_misnamed_gates(definition):
            return True
    return False


def is_approximated(operation: Any) -> bool:
    """Return whether an operation's definition is a product formula that only approximates the operation."""
    if not isinstance(operation, PauliEvolutionGate) or not isinstance(operation.synthesis, ProductFormula):
        return False
    terms = operation.operator if isinstance(operation.operator, list) else [operation.operator]
    groups = [SparsePauliOp(term).group_commuting() if isinstance(term, SparsePauliOp) else (1, 1) for term in terms]
    return any(len(group) > 1 for group in groups)


def flattened(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return an equivalent circuit of standard gates, barriers, delays and resets.

    The result keeps the layout, the order of operations and every parameter, also those that no gate depends on.
    Global phases inside definitions are dropped; no expectation value depends on them.
    """
    flat = circuit.copy_empty_like()
    for operation, qubits in _flat_operations(circuit, range(circuit.num_qubits)):
        if len(flat.data) >= MAX_FLATTENED_GATES:
            raise CircuitError(f"circuit '{circuit.name}' stands for more than {MAX_FLATTENED_GATES:,} gates")
        flat.append(operation, qubits)
    for parameter in set(circuit.parameters) - set(flat.parameters):
        flat.global_phase += parameter - parameter  # Qiskit has no other way to keep a parameter without effect
    return flat


def _flat_operations(circuit: QuantumCircuit, qubits: Sequence[int]) -> Iterator[tuple[Operation, list[int]]]:
    for item in circuit.data:
        operation, on = item.operation, [qubits[circuit.find_bit(qubit).index] for qubit in item.qubits]
        if item.clbits:
            raise CircuitError(f"circuit '{circuit.name}' contains '{operation.name}', which uses classical bits")
        if isinstance(operation, GlobalPhaseGate):
            continue
        if is_standard(operation) and operation.name == "u" and _is_zero(operation.params):
            yield IGate(), on  # OpenQASM's importer reads id as this gate
        elif is_standard(operation) or isinstance(operation, Barrier | Delay | Reset):
            yield operation, on
        elif (definition := _definition(operation)) is not None:
            yield from _flat_operations(definition, on)
        else:
            raise CircuitError(
                f"circuit '{circuit.name}' contains '{operation.name}', which has no definition by standard gates; "
                "transpile it with basis_gates=['u', 'cx'] first"
            )


def _is_zero(params: Sequence[Any]) -> bool:
    return not any(isinstance(value, ParameterExpression) or value for value in params)


def _definition(operation: Any) -> QuantumCircuit | None:
    """Return the circuit that defines an operation, or None."""
    try:
        definition = getattr(operation, "definition", None)
        if definition is None and hasattr(operation, "to_circuit"):
            definition = operation.to_circuit()
        return definition
    except Exception as error:  # Qiskit's classes raise errors of many types
        raise CircuitError(f"'{operation.name}' cannot be written as standard gates ({error})") from None


def without_resets(
    circuit: QuantumCircuit, observables: Sequence[SparsePauliOp]
) -> tuple[QuantumCircuit, Sequence[SparsePauliOp]]:
    """Return a circuit with a new qubit for each reset of a qubit in use, and the observables on it.

    Tracing out the old qubit and continuing with a new one in |0> is the definition of a reset. A circuit that needs no
    new qubit, or that uses classical bits, is returned unchanged.
    """
    wire, width, used = list(range(circuit.num_qubits)), circuit.num_qubits, set[int]()
    kept: list[tuple[Operation, list[int]]] = []
    for operation, qubits in _with_resets_apart(circuit, range(circuit.num_qubits)):
        if operation.name != "reset":
            used.update(() if isinstance(operation, Barrier) else qubits)
            kept.append((operation, [wire[qubit] for qubit in qubits]))
        elif qubits[0] in used:
            wire[qubits[0]], width = width, width + 1
            used.discard(qubits[0])
    if width == circuit.num_qubits or any(item.clbits for item in circuit.data):
        return circuit, observables
    wide = QuantumCircuit(width, global_phase=circuit.global_phase, name=circuit.name)
    for operation, qubits in kept:
        wide.append(operation, qubits)
    return wide, [observable.apply_layout(wire, width) for observable in observables]


def _with_resets_apart(circuit: QuantumCircuit, qubits: Sequence[int]) -> Iterator[tuple[Operation, list[int]]]:
    """Yield gates and resets with their qubits; instructions that are no gates may contain resets and are expanded."""
    for item in circuit.data:
        on = [qubits[circuit.find_bit(qubit).index] for qubit in item.qubits]
        whole = isinstance(item.operation, Gate | Barrier)
        if whole or (definition := getattr(item.operation, "definition", None)) is None:
            yield item.operation, on
        else:
            yield from _with_resets_apart(definition, on)
