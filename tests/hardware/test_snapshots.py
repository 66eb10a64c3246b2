"""Snapshots of IBM's client: compiled for, estimated and rehearsed. ``tests/faults`` does this for all of them."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import PhaseGate, RGate, RYGate, U1Gate, U2Gate, U3Gate, UGate
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector
from qiskit_aer import AerSimulator

from qkd.circuits.student import StudentCircuit
from qkd.core.console import _Silent
from qkd.devices.calibration import Operation
from qkd.devices.region import Region, noise_model
from qkd.devices.snapshot import load_snapshot
from qkd.hardware.mitigation import Mitigation
from qkd.hardware.mitigation.client import make_pub, printed_warnings
from qkd.hardware.run import run
from qkd.hardware.service import simulated

from .test_service import YES, order


def rehearse(folder, device, **more):
    """Estimate and rehearse two texts on a snapshot, and return the result."""
    [device_run] = run(order(folder, device=device, local=True, samples=2, mitigation="readout", **more), YES)
    assert device_run.plan.budget.seconds > 2
    return device_run.result


@pytest.mark.parametrize("device", ["fake_almaden", "fake_singapore", "fake_torino"])
@pytest.mark.parametrize("client", [False, True], ids=["engine", "client"])
def test_a_snapshot_is_estimated_and_rehearsed(folder, device, client):
    result = rehearse(folder, device, client=client)
    assert result.texts == 2 and result.device == device


@pytest.mark.parametrize("name", ["u1", "u2", "u3", "u", "p", "r", "ry"])
def test_parameterized_gates_reach_the_client_as_rotations_with_the_same_values(name):
    angle = Parameter("a")
    kind, params = {
        "u1": (U1Gate, [angle]),
        "u2": (U2Gate, [0.3, 2 * angle]),
        "u3": (U3Gate, [angle, 0.3, -0.2]),
        "r": (RGate, [angle, 0.4]),
        "ry": (RYGate, [angle]),
        "u": (UGate, [0.4, angle, 0.1 - angle]),
        "p": (PhaseGate, [angle]),
    }[name]
    circuit = QuantumCircuit(1)
    circuit.append(kind(*params), [0])
    sent, *_ = make_pub(StudentCircuit(circuit, [angle], [], [SparsePauliOp("Z")]), np.array([[0.7]]))
    assert set(sent.count_ops()) <= {"rz", "sx"} and set(sent.parameters) == {angle}
    assert Operator(sent.assign_parameters([0.7])).equiv(Operator(circuit.assign_parameters([0.7])))


def region_of(errors):
    """A region of one qubit with perfect readout whose only gates have these errors."""
    held = load_snapshot("fake_burlington")
    qubits = tuple(replace(qubit, readout_error=0.0) for qubit in held.calibration.qubits)
    gates = {name: {(0,): Operation(error, 1e-8)} for name, error in errors.items()}
    return Region(replace(held, calibration=replace(held.calibration, gates=gates, qubits=qubits)), (0,))


@pytest.mark.parametrize(
    ("errors", "gate"),
    [
        ({"u1": 0.0, "u2": 0.02, "u3": 0.04}, U3Gate),
        ({"u": 0.04}, UGate),
        ({"sx": 0.02, "rz": 0.0, "u3": 0.04}, U3Gate),
    ],
    ids=["u3", "u", "sx"],
)
def test_a_gate_that_the_client_rewrites_keeps_its_error(errors, gate):
    angle, region = Parameter("a"), region_of(errors)
    circuit = QuantumCircuit(1)
    circuit.append(gate(angle, 0.3, -0.2), [0])
    observables = [SparsePauliOp(pauli) for pauli in "XYZ"]
    student = StudentCircuit(circuit, [angle], [], observables)
    values = np.array([[0.0], [0.7], [2.0]])
    measured = simulated.run(student, region, values, Mitigation("none", 40_000), 3, _Silent(), 1)["evs"]
    circuits = [circuit.assign_parameters(row) for row in values]
    for made in circuits:
        made.save_density_matrix()
    backend = AerSimulator(noise_model=noise_model(region), method="density_matrix")
    noisy, ideal = (
        np.array([[state.expectation_value(o).real for state in states] for o in observables])
        for states in (
            [backend.run(made).result().data()["density_matrix"] for made in circuits],
            [Statevector(circuit.assign_parameters(row)) for row in values],
        )
    )
    assert np.abs(measured - noisy).max() < 0.02
    assert np.abs(ideal - noisy).max() > 0.06


def test_what_the_client_warns_of_is_printed(said):
    with printed_warnings():
        for _ in range(2):
            warnings.warn("readout mitigation will not be applied", UserWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert said() == ["IBM's client: readout mitigation will not be applied"]
