"""Regions: the physical qubits that a circuit uses, as a smaller device, and Aer's noise model of a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from qiskit.circuit import QuantumCircuit
from qiskit.circuit.library import IGate
from qiskit.transpiler import Target
from qiskit_aer.noise import NoiseModel, thermal_relaxation_error

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


@public
def noise_model(device: Region | Snapshot) -> NoiseModel:
    """Return ``NoiseModel.from_backend`` of a region or of a whole device.

    Depolarization and relaxation after a gate have its calibrated error together. Readouts flip with their calibrated
    error. Idle qubits are free of noise; see ``with_idle_noise``.
    """
    return NoiseModel.from_backend(device.backend)


def with_idle_noise(student: StudentCircuit, region: Region) -> tuple[StudentCircuit, NoiseModel]:
    """Return a circuit with explicit delays, and a noise model under which qubits relax during them.

    IBM's devices schedule circuits as late as possible, and so does this function. Every delay becomes an identity
    gate whose label names qubit and duration. The noise model has the relaxation for that label, so every engine with
    a noise model supports idle noise.

    Args:
        student: A circuit of the region's gates on the region's indices.
        region: A region with a clock (dt) and durations.
    """
    dt = region.target.dt
    if dt is None:
        raise DeviceError(
            f"{region.snapshot.name} reports no clock (dt), so its idle noise is unknown; run without idle_noise"
        )
    noise, known = noise_model(region), set[str]()
    waiting = QuantumCircuit(student.num_qubits, global_phase=student.circuit.global_phase)
    scheduled = _scheduled(student.circuit, region)
    for item in scheduled.data:
        on = [scheduled.find_bit(q).index for q in item.qubits]
        if item.operation.name != "delay":
            waiting.append(item.operation, on)
            continue
        qubit, steps = on[0], int(item.operation.duration)
        label = f"wait_{qubit}_{steps}"
        waiting.append(IGate(label=label), on)
        properties = region.target.qubit_properties[qubit]
        if properties.t1 is None or properties.t2 is None:
            raise DeviceError(f"{region.snapshot.name} reports no T1 and T2; run without idle_noise")
        if label not in known:
            known.add(label)
            noise.add_quantum_error(thermal_relaxation_error(properties.t1, properties.t2, steps * dt), label, [qubit])
    return student.with_circuit(waiting, student.observables), noise


def _scheduled(circuit: QuantumCircuit, region: Region) -> QuantumCircuit:
    """Return a circuit with delays, such that all readouts start together."""
    from qiskit.transpiler import PassManager
    from qiskit.transpiler.exceptions import TranspilerError
    from qiskit.transpiler.passes import ALAPScheduleAnalysis, PadDelay

    try:
        passes = PassManager([ALAPScheduleAnalysis(target=region.target), PadDelay(target=region.target)])
        return passes.run(circuit)
    except TranspilerError as error:
        raise DeviceError(f"the circuit cannot be scheduled on {region.snapshot.name}: {error.message}") from None
