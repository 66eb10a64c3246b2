"""Layouts: measurements for Qiskit's calibration-aware passes, predicted errors, and checks that a circuit fits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import rustworkx
from qiskit.circuit import ClassicalRegister, QuantumCircuit
from qiskit.transpiler import Target

from qkd.core.errors import DeviceError
from qkd.devices.snapshot import Snapshot


def with_measurements(circuit: QuantumCircuit, qubits: Iterable[int]) -> QuantumCircuit:
    """Return a circuit that measures ``qubits``, so that layout passes consider readout errors.

    A barrier in front prevents optimizations that only a measured circuit allows, such as removing diagonal gates.
    """
    measured = circuit.copy()
    qubits = list(qubits)
    bits = ClassicalRegister(len(qubits), "for_layout")
    measured.add_register(bits)
    measured.barrier()
    measured.measure(qubits, bits)
    return measured


def without_measurements(measured: QuantumCircuit) -> QuantumCircuit:
    """Return a compiled circuit without the measurements and the barrier of ``with_measurements``."""
    circuit = QuantumCircuit(*measured.qregs, global_phase=measured.global_phase, name=measured.name)
    last = max(i for i, item in enumerate(measured.data) if item.operation.name == "barrier")
    for i, item in enumerate(measured.data):
        if item.operation.name != "measure" and i != last:
            circuit.append(item.operation, item.qubits)
    circuit._layout = measured.layout  # noqa: SLF001 - Qiskit sets a layout nowhere else
    return circuit


def predicted_error(circuit: QuantumCircuit, target: Target, measured: Iterable[int]) -> float:
    """Return the sum of -log(1 - error) over all gates and one readout of each measured qubit.

    ``exp(-error)`` is the predicted fidelity of a shot that reads every measured qubit.

    Args:
        circuit: A circuit of the target's gates and qubits.
        target: The target. An operation without an error counts as perfect.
        measured: The physical qubits that are read out.
    """
    total = 0.0
    places = [(item.operation.name, tuple(circuit.find_bit(q).index for q in item.qubits)) for item in circuit.data]
    for name, place in [*places, *(("measure", (qubit,)) for qubit in measured)]:
        if name in ("barrier", "delay"):
            continue
        properties = target[name][place]
        total -= math.log1p(-properties.error) if properties is not None and properties.error else 0.0
    return total


def check_fits(circuit: QuantumCircuit, snapshot: Snapshot) -> None:
    """Refuse a circuit with more qubits, or more entangled qubits, than the device has usable and connected."""
    n, usable = circuit.num_qubits, snapshot.num_qubits - len(snapshot.cleaning.avoided)
    if n > usable:
        raise DeviceError(
            f"the circuit has {n} qubits and {snapshot.name} {snapshot.num_qubits}, of which {usable} are usable; "
            "take fewer --qubits or a larger device"
        )
    index = {qubit: i for i, qubit in enumerate(circuit.qubits)}
    pairs = [(index[item.qubits[0]], index[item.qubits[1]]) for item in circuit.data if len(item.qubits) == 2]
    couplers = [(a, b) for a, b in snapshot.calibration.couplers()]
    needed, joined = _largest(n, pairs), _largest(snapshot.num_qubits, couplers)
    if needed > joined == 1:
        raise DeviceError(
            f"the circuit entangles {needed} qubits with one another, and {snapshot.name} entangles none: its "
            "calibration gives every two-qubit gate an error of 1 or none; take another device or snapshot, or 1 qubit"
        )
    if needed > joined:
        raise DeviceError(
            f"the circuit entangles {needed} qubits with one another, but no more than {joined} usable qubits of "
            f"{snapshot.name} are joined ({snapshot.cleaning.summary()}); take another device or snapshot"
        )


def check_layout(qubits: Sequence[int], circuit: QuantumCircuit, snapshot: Snapshot) -> None:
    """Refuse physical qubits that are too few, too many, repeated, not on the device or not usable."""
    n, total = circuit.num_qubits, snapshot.num_qubits
    listed = ", ".join(map(str, qubits))
    if len(qubits) != n or len({*qubits}) != n:
        raise DeviceError(
            f"the layout {listed} does not fit: the circuit has {n} qubits, so give {n} different physical qubits"
        )
    beyond = [q for q in qubits if not 0 <= q < total]
    if beyond:
        raise DeviceError(f"the layout names qubit {beyond[0]}; {snapshot.name} has qubits 0 to {total - 1}")
    faulty = [q for q in qubits if q in snapshot.cleaning.avoided]
    if faulty:
        raise DeviceError(
            f"the layout names qubit {faulty[0]} of {snapshot.name}, which its calibration reports as faulty "
            f"({snapshot.cleaning.summary()}); choose another qubit"
        )


def _largest(n: int, pairs: Iterable[tuple[int, int]]) -> int:
    """Return the number of nodes of a graph's largest connected component."""
    graph = rustworkx.PyGraph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from_no_data(list(pairs))
    return max((len(part) for part in rustworkx.connected_components(graph)), default=0)
