"""The base class of mitigation methods: client options, extra points, combination, overhead and variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions


@dataclass(frozen=True)
class Measurements:
    """Raw values of Pauli terms at the points of a plan: its texts, then its calibration points.

    Attributes:
        values: Parameter values (M,A+P).
        evs: Measured values (M,T). They are NaN where nothing was measured.
        stds: Standard errors of shot noise (M,T).
        shots: Shots of each point (M,). They are zero where nothing was measured.
        factors: Values and standard errors at each noise factor (M,T,F), or None if there is one factor.
        failed: Indices of texts whose values were missing or infinite.
    """

    values: np.ndarray
    evs: np.ndarray
    stds: np.ndarray
    shots: np.ndarray
    factors: tuple[np.ndarray, np.ndarray] | None
    failed: np.ndarray

    @property
    def measured(self) -> np.ndarray:
        """True where a point was measured (M,)."""
        return self.shots > 0


@dataclass(frozen=True)
class Corrected:
    """Mitigated values of Pauli terms at n texts.

    Attributes:
        evs: Values (n,T).
        noise: Standard deviations from shots, twirls and fits (n,T).
        bias: Standard deviations of the bias that remains at any number of shots (n,T). None if the method cannot
            estimate it; qkd then estimates it from the other texts.
    """

    evs: np.ndarray
    noise: np.ndarray
    bias: np.ndarray | None = None


class Method:
    """Measurement without mitigation, and the base class of all methods.

    A method overrides what it does differently. One line in ``METHODS`` makes it available everywhere.

    Attributes:
        name: The name that users type.
        description: One sentence for help texts.
        needs_client: Whether only IBM's client can run it.
        learns_readout: Whether each job measures readout calibration circuits and twirls the readout.
        twirls_gates: Whether two-qubit gates are twirled: always, never, or as the user chooses (None).
        noise_factors: Noise factors at which each circuit is measured.
        folds_gates: Whether the noise factors come from folded two-qubit gates.
        needs_layer_noise: Whether a noise model of each layer of two-qubit gates is needed.
        rehearsal_twirls: Twirls of a rehearsal in IBM's client if the user sets none; None keeps the client's choice.
        removes_gate_noise: Whether the calibrated noise of gates is removed, so that it predicts no bias.
    """

    name = "none"
    description = "No mitigation."
    needs_client = False
    learns_readout = False
    twirls_gates: bool | None = None
    noise_factors: tuple[int, ...] = (1,)
    folds_gates = False
    needs_layer_noise = False
    rehearsal_twirls: int | None = None
    removes_gate_noise = False

    @property
    def gate_overhead(self) -> float:
        """Mean factor by which two-qubit gates take longer."""
        return float(np.mean(self.noise_factors)) if self.folds_gates else 1.0

    def gates_twirled(self, requested: bool | None) -> bool:
        """Return whether two-qubit gates are twirled; ``requested`` is the user's choice or None."""
        return bool(requested) if self.twirls_gates is None else self.twirls_gates

    def set_options(self, options: EstimatorOptions) -> None:
        """Set the resilience options of IBM's client that belong to this method."""

    def extra_points(self, shots: int) -> int:
        """Return the number of calibration points that are measured beside the texts, with ``shots`` each."""
        return 0

    def combine(
        self, measurements: Measurements, texts: np.ndarray, exact: np.ndarray, predicted: np.ndarray, count: int
    ) -> Corrected:
        """Return mitigated values of the texts.

        Args:
            measurements: Raw values of all points.
            texts: Indices of the n measured texts.
            exact: Ideal values of all points (M,T).
            predicted: Values that the calibration predicts without mitigation (M,T).
            count: Number of texts N; calibration points follow them.
        """
        return Corrected(measurements.evs[texts], measurements.stds[texts])

    def expect(self, exact: np.ndarray, predicted: np.ndarray, readout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values that mitigation is expected to give (N,T) and their variances at one shot (N,T).

        Args:
            exact: Ideal values (N,T).
            predicted: Values that the calibration predicts without mitigation (N,T).
            readout: Factors by which readout errors scale each term (T,).
        """
        return predicted, 1 - predicted**2


def fit_lines(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and slopes (T,) of least-squares lines of ``y`` (N,T) on ``x`` (N,T); slope 1 if x is constant."""
    spread = x.var(axis=0)
    covariance = ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).mean(axis=0)
    slope = np.divide(covariance, spread, out=np.ones_like(spread), where=spread > 1e-12)
    return y.mean(axis=0) - slope * x.mean(axis=0), slope
