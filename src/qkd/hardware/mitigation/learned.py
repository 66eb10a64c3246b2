"""Methods that need a noise model of each layer of two-qubit gates, both computed by IBM's client.

``pea`` amplifies the learned noise and extrapolates (Kim et al., Nature 618:500). ``pec`` cancels it (van den Berg et
al., arXiv:2201.09866).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qkd.hardware.mitigation.readout import Readout
from qkd.hardware.mitigation.zne import ZNE

if TYPE_CHECKING:
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions


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
