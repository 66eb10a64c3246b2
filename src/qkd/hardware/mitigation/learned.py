"""Methods of IBM's client that need the noise of each layer of two-qubit gates, and that noise.

``pea`` amplifies the learned noise and extrapolates (Kim et al., Nature 618:500). ``pec`` cancels it (van den Berg et
al., arXiv:2201.09866).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from qiskit.circuit import CircuitInstruction
from qiskit.quantum_info import Operator, PauliLindbladMap, SuperOp, pauli_basis

from qkd.circuits.student import StudentCircuit
from qkd.engines.noise.aer import error_of
from qkd.hardware.mitigation.client import make_pub
from qkd.hardware.mitigation.readout import Readout
from qkd.hardware.mitigation.zne import ZNE

if TYPE_CHECKING:
    from qiskit_aer.noise import NoiseModel
    from qiskit_ibm_runtime.executor_estimator import Estimator
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions


Layers = list[tuple[CircuitInstruction, PauliLindbladMap]]


def find_layers(estimator: Estimator, student: StudentCircuit) -> list[CircuitInstruction]:
    """Return the layers of two-qubit gates whose noise the client needs."""
    pub = make_pub(student, np.zeros((1, len(student.parameters))))
    layers: list[CircuitInstruction] = estimator.find_unique_layers([pub])
    return layers


def calibrated_layers(layers: Sequence[CircuitInstruction], student: StudentCircuit, noise: NoiseModel) -> Layers:
    """Return layers with the noise that the calibration gives them, as learning would find it.

    Args:
        student: The circuit, on the noise model's indices.
    """
    return [(layer, _lindblad(layer, student, noise)) for layer in layers]


def _lindblad(layer: CircuitInstruction, student: StudentCircuit, noise: NoiseModel) -> PauliLindbladMap:
    """Return the twirled noise of one layer, which acts before its gates."""
    body = layer.operation.body
    terms: list[tuple[str, list[int], float]] = []
    for item in body.data:
        if len(item.qubits) != 2 or item.operation.name == "barrier":
            continue
        inside = [body.find_bit(qubit).index for qubit in item.qubits]
        outside = tuple(student.circuit.find_bit(layer.qubits[i]).index for i in inside)
        error = error_of(noise, item.operation.name, outside)
        if error is not None:
            rates = lindblad_rates(SuperOp(error), Operator(item.operation))
            terms += [(label, inside[::-1], rate) for label, rate in rates]
    return PauliLindbladMap.from_sparse_list(terms, num_qubits=len(layer.qubits))


def lindblad_rates(error: SuperOp, gate: Operator) -> list[tuple[str, float]]:
    """Return the Pauli-Lindblad rates of a two-qubit gate's twirled error, moved in front of the gate.

    Twirling keeps the fidelities ``f_b``, and ``log f_b = -2 sum_k rate_k <b,k>``, where <b,k> is 1 for Paulis that do
    not commute (van den Berg et al., arXiv:2201.09866, eq. 4): 15 equations for 15 rates.
    """
    paulis = pauli_basis(2)[1:]
    before = SuperOp(gate).compose(error).compose(SuperOp(gate.adjoint()))
    matrices = paulis.to_matrix(array=True)
    carried = (before.data @ matrices.transpose(0, 2, 1).reshape(15, 16).T).T  # column-stacked operators
    fidelities = np.einsum("bi,bi->b", matrices.transpose(0, 2, 1).reshape(15, 16).conj(), carried).real / 4
    clash = np.array([[not a.commutes(b) for b in paulis] for a in paulis], dtype=float)
    rates = np.linalg.solve(clash, -np.log(fidelities.clip(1e-9, 1)) / 2)
    return [(label, float(rate)) for label, rate in zip(paulis.to_labels(), rates, strict=True) if rate > 1e-9]


class PEA(ZNE):
    """Readout mitigation, then extrapolation from amplified learned noise."""

    name = "pea"
    description = "Readout mitigation, and extrapolation from amplified learned noise."
    folds_gates = False
    needs_layer_noise = True
    rehearsal_twirls = 16

    def set_options(self, options: EstimatorOptions) -> None:
        """Let the client amplify the noise of the layers."""
        super().set_options(options)
        options.resilience.zne.amplifier = "pea"


class PEC(Readout):
    """Readout mitigation, then cancellation of learned noise."""

    name = "pec"
    description = "Readout mitigation, and cancellation of learned noise."
    twirls_gates = True
    needs_layer_noise = True
    rehearsal_twirls = 32
    removes_gate_noise = True

    def set_options(self, options: EstimatorOptions) -> None:
        """Let the client cancel the noise of the layers; it raises the shots by the sampling overhead itself."""
        super().set_options(options)
        options.resilience.pec_mitigation = True

    def expect(self, exact: np.ndarray, predicted: np.ndarray, readout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ideal values (N,T) and their variances at one shot (N,T); the overhead is in the executions."""
        return exact, (1 - exact**2) / readout**2
