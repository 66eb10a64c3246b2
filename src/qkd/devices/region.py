"""Regions: the physical qubits that a circuit uses, as a smaller device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from qiskit.transpiler import Target

from qkd.circuits.cone import narrow, narrowed, support
from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.errors import DeviceError
from qkd.devices.backend import CalibratedBackend, make_target
from qkd.devices.calibration import FRACTIONAL
from qkd.devices.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class Region:
    """Some qubits of a device with their calibration.

    Attributes:
        snapshot: The device.
        qubits: The device's qubits; region qubit i is ``qubits[i]``.
        fractional: The fractional gates that the region's target offers.
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
        """The region's index of each of its physical qubits."""
        return {qubit: i for i, qubit in enumerate(self.qubits)}

    @cached_property
    def target(self) -> Target:
        """The target on qubits 0 to m - 1 with every operation among them."""
        return make_target(self.snapshot.calibration, self.qubits, self.fractional)

    @cached_property
    def backend(self) -> CalibratedBackend:
        """A backend of the region for the transpiler, Aer and IBM's client-side Estimator."""
        name = f"{self.snapshot.name}-region"
        where = f"qubits {', '.join(map(str, self.qubits))} of {self.snapshot.name}"
        return CalibratedBackend(name, self.target, self.snapshot.calibration.version, where)


@public
def to_region(student: StudentCircuit, snapshot: Snapshot) -> tuple[StudentCircuit, Region]:
    """Return a transpiled circuit on a region's indices, and the region.

    The region lists the qubits in the order of the logical circuit, followed by qubits that only routing uses.

    Args:
        student: A circuit on the device's indices, as ``transpile`` returns it.
        snapshot: The device.

    Raises:
        DeviceError: The circuit has another width than the device.
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
