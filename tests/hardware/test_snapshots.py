"""Snapshots of IBM's client: compiled for, estimated and rehearsed. ``tests/faults`` does this for all of them."""

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import PhaseGate, U1Gate, U2Gate, U3Gate, UGate
from qiskit.quantum_info import Operator, SparsePauliOp

from qkd.circuits.student import StudentCircuit
from qkd.hardware.mitigation.client import make_pub
from qkd.hardware.run import run

from .test_service import YES, order


def rehearse(folder, device):
    """Estimate and rehearse two texts on a snapshot, and return the result."""
    [device_run] = run(order(folder, device=device, local=True, samples=2, mitigation="readout"), YES)
    assert device_run.plan.budget.seconds > 2
    return device_run.result


@pytest.mark.parametrize("device", ["fake_almaden", "fake_singapore", "fake_torino"])
def test_a_snapshot_is_estimated_and_rehearsed(folder, device):
    result = rehearse(folder, device)
    assert result.texts == 2 and result.device == device


@pytest.mark.parametrize("name", ["u1", "u2", "u3", "u", "p"])
def test_parameterized_gates_reach_the_client_as_rotations_with_the_same_values(name):
    angle = Parameter("a")
    kind, params = {
        "u1": (U1Gate, [angle]),
        "u2": (U2Gate, [0.3, 2 * angle]),
        "u3": (U3Gate, [angle, 0.3, -0.2]),
        "u": (UGate, [0.4, angle, 0.1 - angle]),
        "p": (PhaseGate, [angle]),
    }[name]
    circuit = QuantumCircuit(1)
    circuit.append(kind(*params), [0])
    sent, *_ = make_pub(StudentCircuit(circuit, [angle], [], [SparsePauliOp("Z")]), np.array([[0.7]]))
    assert set(sent.count_ops()) <= {"rz", "sx"} and set(sent.parameters) == {angle}
    assert Operator(sent.assign_parameters([0.7])).equiv(Operator(circuit.assign_parameters([0.7])))
