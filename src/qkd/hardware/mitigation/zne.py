"""Zero-noise extrapolation from folded two-qubit gates, with the fit of ``extrapolation``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qkd.hardware.mitigation.base import Corrected, Measurements, fit_lines
from qkd.hardware.mitigation.extrapolation import extrapolate
from qkd.hardware.mitigation.readout import Readout

if TYPE_CHECKING:
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions

FORECAST_TEXTS = 64
FORECAST_SHOTS = 256


class ZNE(Readout):
    """Readout mitigation, then extrapolation to zero noise from folded gates."""

    name = "zne"
    description = "Readout mitigation, and extrapolation from two-qubit gates folded 1, 3 and 5 times."
    twirls_gates = True
    noise_factors = (1, 3, 5)
    folds_gates = True
    rehearsal_twirls = 5
    removes_gate_noise = True

    def set_options(self, options: EstimatorOptions) -> None:
        """Let the client measure at each noise factor."""
        super().set_options(options)
        options.resilience.zne_mitigation = True
        options.resilience.zne.noise_factors = list(self.noise_factors)

    def combine(
        self, measurements: Measurements, texts: np.ndarray, exact: np.ndarray, predicted: np.ndarray, count: int
    ) -> Corrected:
        """Return extrapolated values; see ``Method.combine``."""
        if measurements.factors is None or not len(texts):
            return super().combine(measurements, texts, exact, predicted, count)
        evs, stds = (part[texts].transpose(1, 0, 2) for part in measurements.factors)
        values, errors = extrapolate(evs, stds, np.array(self.noise_factors))
        return Corrected(values.T, errors.T)

    def expect(self, exact: np.ndarray, predicted: np.ndarray, readout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ideal values (N,T) and the variances at one shot (N,T) that the extrapolation leaves.

        The decay of each term is that of the predicted values. The extrapolation of a few texts without noise gives the
        variance, which is then taken for all texts.
        """
        _, slope = fit_lines(exact, predicted)
        factors = np.array(self.noise_factors)
        decay = (slope / readout).clip(1e-3, 1)[:, None] ** factors  # (T,F)
        evs = exact[:FORECAST_TEXTS].T[:, :, None] * decay[:, None]
        stds = np.sqrt((1 - (evs * readout[:, None, None]) ** 2).clip(1e-9) / FORECAST_SHOTS) / readout[:, None, None]
        _, errors = extrapolate(evs, stds, factors, warn_of_fast_decay=False)
        variance = (errors**2).mean(axis=1) * FORECAST_SHOTS
        return exact, np.broadcast_to(variance, exact.shape)
