"""Twirled readout error extinction (TREX; van den Berg et al., arXiv:2012.09738), computed by IBM's client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qkd.hardware.mitigation.base import Method

if TYPE_CHECKING:
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions


class Readout(Method):
    """Readout errors are twirled into a factor, which each job measures and divides out."""

    name = "readout"
    description = "Twirled readout error extinction."
    needs_client = True
    learns_readout = True
    rehearsal_twirls = 8

    def set_options(self, options: EstimatorOptions) -> None:
        """Let the client measure and divide out the readout factors."""
        options.resilience.measure_mitigation = True

    def expect(self, exact: np.ndarray, predicted: np.ndarray, readout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the predicted values without readout errors (N,T) and their variances at one shot (N,T)."""
        return (predicted / readout).clip(-1, 1), (1 - predicted**2) / readout**2
