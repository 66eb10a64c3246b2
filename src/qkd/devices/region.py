"""The few physical qubits that a circuit uses, as a device of their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from qiskit.transpiler import Target

from qkd.circuits.cone import narrow, narrowed, support
from qkd.circuits.student import StudentCircuit
from qkd.core.errors import DeviceError
from qkd.devices.backend import CalibratedBackend, make_target
from qkd.devices.calibration import FRACTIONAL
from qkd.devices.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a device with the calibration that the device has there.

    Args:
        snapshot: the device.
        qubits: the device's qubits; region qubit i is ``qubits[i]``.
        fractional: the fractional gates that are native there.
    """

    snapshot: Snapshot
    qubits: tuple[int, ...]
    fractional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.qubits)) != len(self.qubits) or not set(self.qubits) <= set(range(self.snapshot.num_qubits)):
            raise DeviceError(
                f"a region of {self.snapshot.name} names different qubits from 0 to {self.snapshot.num_qubits - 1}, "
                f"not {list(self.qubits)}"
            )

    @property
    def index(self) -> dict[int, int]:
        """The region's index of each of the device's qubits in it."""
        return {qubit: i for i, qubit in enumerate(self.qubits)}

    @cached_property
    def target(self) -> Target:
        """The region as a target: qubits 0 to m - 1 and every operation that lies among them."""
        return make_target(self.snapshot.calibration, self.qubits, self.fractional)

    @cached_property
    def backend(self) -> CalibratedBackend:
        """The region as a backend for the transpiler, Aer and IBM's client-side Estimator."""
        name = f"{self.snapshot.name}-region"
        where = f"qubits {', '.join(map(str, self.qubits))} of {self.snapshot.name}"
        return CalibratedBackend(name, self.target, self.snapshot.calibration.version, where)


def to_region(student: StudentCircuit, snapshot: Snapshot) -> tuple[StudentCircuit, Region]:
    """Return a transpiled student on a region's indices, and the region.

    The region's qubits are in the order of the logical circuit's, followed by whatever routing passed through.

    Args:
        student: on the device's indices, as ``transpile`` returns it.
        snapshot: the device it was transpiled for.

    Raises:
        QkdError: it has another width than the device.
    """
    if student.num_qubits != snapshot.num_qubits:
        raise DeviceError(
            f"circuit '{student.name}' has {student.num_qubits} qubits and {snapshot.name} {snapshot.num_qubits}: "
            "transpile it for this device first"
        )
    circuit = student.circuit
    items = [item for item in circuit.data if item.operation.name != "barrier"]
    touched = {circuit.find_bit(qubit).index for item in items for qubit in item.qubits}
    used = touched | set(support(student.observables))
    first = student.layout.initial_index_layout(filter_ancillas=True) if student.layout is not None else []
    qubits = [q for q in first if q in used]
    qubits += sorted(used - set(qubits))
    names = {item.operation.name for item in items}
    small = student.with_circuit(
        narrowed(circuit, qubits, items), [narrow(observable, qubits) for observable in student.observables]
    )
    return small, Region(snapshot, tuple(qubits), tuple(name for name in FRACTIONAL if name in names))
