"""A device's noise, which is Aer's model of its calibration, on the qubits that matter."""

from __future__ import annotations

from qiskit.circuit import QuantumCircuit
from qiskit.circuit.library import IGate
from qiskit_aer.noise import NoiseModel, thermal_relaxation_error

from qkd.circuits.student import StudentCircuit
from qkd.core.errors import DeviceError
from qkd.devices.region import Region
from qkd.devices.snapshot import Snapshot


def noise_model(device: Region | Snapshot) -> NoiseModel:
    """Return ``NoiseModel.from_backend`` of a region, on its own indices, or of a whole device.

    Every gate is followed by depolarization and relaxation that together have the gate's calibrated error, every
    readout flips with its calibrated error. Qubits that wait are not noisy; see ``with_idle_noise``.
    """
    return NoiseModel.from_backend(device.backend)


def with_idle_noise(student: StudentCircuit, region: Region) -> tuple[StudentCircuit, NoiseModel]:
    """Return a student that waits where the device would, and the noise model under which waiting relaxes.

    The circuit is scheduled as late as possible, as IBM's devices do. Every wait becomes an identity gate with a label
    that names qubit and length, and the noise model has the relaxation of that time for the label: so any engine that
    takes a noise model takes idle noise too.

    Args:
        student: on the region's indices, of the region's gates.
        region: with a clock (dt) and durations.

    Raises:
        QkdError: the device reports no clock, or a gate no duration.
    """
    dt = region.target.dt
    if dt is None:
        raise DeviceError(f"{region.snapshot.name} reports no clock (dt), so its idle noise is not known; leave it out")
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
        if label not in known:
            known.add(label)
            noise.add_quantum_error(thermal_relaxation_error(properties.t1, properties.t2, steps * dt), label, [qubit])
    return student.with_circuit(waiting, student.observables), noise


def _scheduled(circuit: QuantumCircuit, region: Region) -> QuantumCircuit:
    """Return a circuit with its waits as delays; readout starts at once on all qubits."""
    from qiskit.transpiler import PassManager
    from qiskit.transpiler.exceptions import TranspilerError
    from qiskit.transpiler.passes import ALAPScheduleAnalysis, PadDelay

    try:
        passes = PassManager([ALAPScheduleAnalysis(target=region.target), PadDelay(target=region.target)])
        return passes.run(circuit)
    except TranspilerError as error:
        raise DeviceError(f"the circuit cannot be scheduled on {region.snapshot.name}: {error.message}") from None
