"""An Aer noise model on a few of its qubits, counted anew: what is simulated is then no wider than what is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qiskit_aer.noise import LocalNoisePass, NoiseModel

from qkd.errors import QkdError


def restricted(noise: NoiseModel, qubits: Sequence[int]) -> NoiseModel:
    """Return the part of a noise model that concerns ``qubits`` alone, which become 0, 1, ...

    Raises:
        QkdError: the model changes circuits in a way that is not local.
    """
    place = {qubit: i for i, qubit in enumerate(qubits)}
    model = NoiseModel(basis_gates=noise.basis_gates)
    for name, error in noise._default_quantum_errors.items():
        model.add_all_qubit_quantum_error(error, name, warnings=False)
    for name, errors in noise._local_quantum_errors.items():
        for on, error in errors.items():
            if all(qubit in place for qubit in on):
                model.add_quantum_error(error, name, [place[qubit] for qubit in on], warnings=False)
    if noise._default_readout_error is not None:
        model.add_all_qubit_readout_error(noise._default_readout_error, warnings=False)
    for on, error in noise._local_readout_errors.items():
        if all(qubit in place for qubit in on):
            model.add_readout_error(error, [place[qubit] for qubit in on], warnings=False)
    for added in noise._custom_noise_passes:
        if not isinstance(added, LocalNoisePass):
            raise QkdError(f"the noise model changes circuits by a {type(added).__name__}, which is not local")
        model._custom_noise_passes.append(LocalNoisePass(_moved(added._func, qubits), added._ops, added._method))
    return model


def _moved(function: Any, qubits: Sequence[int]) -> Any:
    """Return a pass's function for the qubits' new numbers."""
    return lambda operation, on: function(operation, [qubits[i] for i in on])
