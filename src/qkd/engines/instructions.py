"""A circuit as the instructions that AerSimulator executes; all engines read circuits this way.

A gate that Aer executes as one instruction has that instruction's noise. Every other gate is replaced by its
definition, whose parts have their own noise. A composite gate for which a noise model has an error (by name or label)
is one noisy instruction: its parts have no noise, and the error follows them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from qiskit.circuit import (
    Barrier,
    ControlFlowOp,
    ControlledGate,
    Delay,
    Gate,
    Instruction,
    Measure,
    ParameterExpression,
    QuantumCircuit,
    Reset,
    Store,
)
from qiskit.circuit.library import DiagonalGate, GlobalPhaseGate, XGate
from qiskit.exceptions import QiskitError
from qiskit_aer import AerSimulator

from qkd.circuits.flatten import is_standard, standard_gates
from qkd.core.errors import EngineError

CHANNELS = frozenset({"kraus", "superop", "quantum_channel"})
"""Names of instructions that are channels given by their Kraus operators or superoperators."""
_NOT_GATES = frozenset({"initialize", "multiplexer", "delay"})


@dataclass(frozen=True, eq=False)
class FlatGate:
    """One instruction.

    Attributes:
        operation: A gate, a delay, a reset or a channel; None for the error that follows a composite gate.
        qubits: The qubits of the operation.
        error: The name under which a noise model has the error that follows; None if no error follows.
    """

    operation: Any
    qubits: tuple[int, ...]
    error: str | None


@lru_cache(maxsize=1)
def native() -> frozenset[str]:
    """Return the names of gates that AerSimulator has an instruction for."""
    return frozenset(AerSimulator().operation_names) - _NOT_GATES


def flattened_gates(circuit: QuantumCircuit, noisy: Collection[str] = ()) -> list[FlatGate]:
    """Return the instructions of a circuit in order, without barriers and global phases.

    Args:
        noisy: The names and labels for which a noise model has errors.
    """
    return list(_unrolled(circuit, range(circuit.num_qubits), noisy, False))


def _unrolled(
    circuit: QuantumCircuit, qubits: Sequence[int], noisy: Collection[str], silent: bool
) -> Iterator[FlatGate]:
    for item in circuit.data:
        operation, on = item.operation, tuple(qubits[circuit.find_bit(qubit).index] for qubit in item.qubits)
        _refuse(operation, on, bool(item.clbits))
        if isinstance(operation, Barrier | GlobalPhaseGate):
            continue
        name = error_name(operation)
        known = None if silent else name if name in noisy else None
        if isinstance(operation, Reset | Delay):
            yield FlatGate(operation, on, name if name in noisy else None)
        elif is_channel(operation):
            yield FlatGate(operation, on, known)
        elif _is_open(operation):
            yield from _closed(operation, on, noisy, silent)
        elif operation.name in native() and is_from_library(operation):
            yield FlatGate(operation, on, known)
        elif (definition := defined(operation)) is not None:
            yield from _unrolled(definition, on, noisy, silent or known is not None)
            if known is not None:
                yield FlatGate(None, on, known)
        else:
            yield FlatGate(operation, on, known)


def defined(operation: Any) -> QuantumCircuit | None:
    """Return the circuit that defines an operation, or None if the operation has only a matrix."""
    if operation.name in ("u", "u3") and is_from_library(operation):  # Qiskit defines these two by each other
        theta, phi, lam = operation.params
        rewritten = QuantumCircuit(1)
        rewritten.rz(lam, 0)
        rewritten.ry(theta, 0)
        rewritten.rz(phi, 0)
        return rewritten
    try:
        if isinstance(operation, Instruction):
            return operation.definition
        return operation.to_circuit() if hasattr(operation, "to_circuit") else None
    except (QiskitError, TypeError, ValueError) as error:  # as of a HamiltonianGate whose time is a parameter
        raise EngineError(f"'{operation.name}' has no definition: {error}; decompose it into standard gates") from error


def matrix_of(operation: Any) -> np.ndarray | None:
    """Return the matrix of a gate, or None if only its definition is known."""
    try:
        return np.asarray(operation.to_matrix(), dtype=complex)
    except (AttributeError, QiskitError, TypeError):  # Qiskit's gates raise any of these
        return None


def error_name(operation: Any) -> str:
    """Return the name by which AerSimulator finds an instruction's errors: the label if there is one."""
    label = getattr(operation, "label", None)
    if operation.name == "pauli" and is_from_library(operation):
        return str(operation.params[0])
    if is_channel(operation):
        return ""  # a channel in a circuit has no error
    unlabelled = isinstance(operation, Reset | Delay | Measure | DiagonalGate)
    return label if label and not unlabelled else operation.name


def free(operation: Any) -> list[int]:
    """Return the positions of an operation's parameters that are not bound."""
    params = getattr(operation, "params", ())
    return [i for i, p in enumerate(params) if isinstance(p, ParameterExpression) and p.parameters]


def is_from_library(operation: Any) -> bool:
    """Return whether an operation's class is one of Qiskit's or Aer's library and agrees with its name.

    The classes ``Gate`` and ``ControlledGate`` are not sufficient, because gates that users define have them too.
    """
    kind = getattr(operation, "base_class", type(operation))
    if operation.name in standard_gates():
        return is_standard(operation)
    return kind.__module__.startswith(("qiskit.circuit.library.", "qiskit_aer.")) or kind in (Reset, Delay)


def is_channel(operation: Any) -> bool:
    """Return whether an operation is a channel given by matrices, and no gate that only has the name of one."""
    return (
        operation.name in CHANNELS
        and not isinstance(operation, Gate)
        and (is_from_library(operation) or operation.definition is None)
    )


def _is_open(operation: Any) -> bool:
    """Return whether a gate has a control in state 0; Aer adds X gates around it, which have noise."""
    return (
        isinstance(operation, ControlledGate)
        and operation.ctrl_state != 2**operation.num_ctrl_qubits - 1
        and operation.name.partition("_o")[0] in native()
        and is_from_library(operation)
    )


def _closed(operation: Any, on: tuple[int, ...], noisy: Collection[str], silent: bool) -> Iterator[FlatGate]:
    controls = operation.num_ctrl_qubits
    plain = operation.to_mutable() if hasattr(operation, "to_mutable") else operation.copy()
    plain.ctrl_state = None
    around = QuantumCircuit(len(on))
    for control in range(controls):
        if not (operation.ctrl_state >> control) & 1:
            around.append(XGate(label=operation.label), [control])
    whole = around.copy()
    whole.append(plain, range(len(on)))
    yield from _unrolled(whole.compose(around), on, noisy, silent)


def _refuse(operation: Any, on: Sequence[int], classical: bool) -> None:
    if isinstance(operation, Measure):
        raise EngineError(
            "the circuit measures qubits, which an estimator does itself; call "
            "circuit.remove_final_measurements() first (mid-circuit measurements are not supported)"
        )
    if classical or isinstance(operation, ControlFlowOp | Store) or getattr(operation, "blocks", None):
        raise EngineError(
            f"instruction '{operation.name}' uses classical bits or control flow; an estimator's circuit is made of "
            "gates, resets, delays and channels"
        )
    made = is_channel(operation) or isinstance(operation, Gate | Reset | Delay | Barrier)
    if not made and not hasattr(operation, "to_matrix") and defined(operation) is None:
        raise EngineError(
            f"instruction '{operation.name}' on qubits {list(on)} has neither a matrix nor a definition; "
            "decompose the circuit into standard gates"
        )
    for value in getattr(operation, "params", ()):
        if isinstance(value, ParameterExpression) and not value.parameters:
            value = value.numeric()
        if isinstance(value, int | float | complex) and not (math.isfinite(value.real) and math.isfinite(value.imag)):
            raise EngineError(f"instruction '{operation.name}' on qubits {list(on)} has the parameter {value}")
    if isinstance(operation, Delay) and free(operation):
        raise EngineError(f"a delay on qubit {on[0]} has a length that is not a number; bind it first")
