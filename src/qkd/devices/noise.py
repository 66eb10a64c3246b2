"""Aer's noise model of a device's calibration, with noise of idle qubits on request."""

from __future__ import annotations

from qiskit.circuit import QuantumCircuit
from qiskit.circuit.library import IGate
from qiskit_aer.noise import NoiseModel, thermal_relaxation_error

from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.errors import DeviceError
from qkd.devices.region import Region
from qkd.devices.snapshot import Snapshot


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

    Raises:
        DeviceError: The device reports no clock, or no duration of a gate.
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
