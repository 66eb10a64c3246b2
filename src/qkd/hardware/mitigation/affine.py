"""Engine-calibrated mitigation: one affine map for each Pauli term, fitted at points whose exact values are known.

The calibration points are the texts' own angles, shuffled column by column. They lie where the texts lie, and no text
is among them. A measured value is modeled as ``a + b exact + residual``. Exact values have no error, so shots do not
bias a and b. A ridge draws a and b towards the values that the device's calibration predicts, so few points are enough.
The width of the residual is the bias that an affine map leaves. The correction is ``(measured - a) / b``.

Where light cones are too wide for exact values, every angle of a point is a multiple of pi/2. Stabilizers give the
exact values of such Clifford circuits at any width (Clifford data regression, Czarnik et al., arXiv:2005.10189).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.hardware.mitigation.base import Corrected, Measurements, Method, fit_lines

CALIBRATION_SHOTS = 2048
MIN_POINTS, MAX_POINTS = 32, 192
# Prior standard deviations of a and b around the values that the calibration predicts.
OFFSET_PRIOR, SLOPE_PRIOR = 0.03, 0.15
FIT_ITERATIONS = 20


class Affine(Method):
    """Affine maps fitted at calibration points; two-qubit gates are twirled unless the user says otherwise."""

    name = "affine"
    description = "An affine map for each Pauli term, fitted at points whose exact values the engine knows."

    def gates_twirled(self, requested: bool | None) -> bool:
        """Return whether gates are twirled: then a coherent error shrinks values, which an affine map corrects."""
        return requested is None or requested

    def extra_points(self, shots: int) -> int:
        """Return the number of calibration points; together they have about ``CALIBRATION_SHOTS`` shots."""
        return int(np.clip(-(-CALIBRATION_SHOTS // shots), MIN_POINTS, MAX_POINTS))

    def combine(
        self, measurements: Measurements, texts: np.ndarray, exact: np.ndarray, predicted: np.ndarray, count: int
    ) -> Corrected:
        """Return corrected values with the bias that the maps leave at the calibration points; see ``Method``."""
        points = count + np.flatnonzero(measurements.measured[count:])
        maps = fit(measurements.evs[points], measurements.stds[points], exact[points], predicted[points])
        return maps.correct(measurements.evs[texts], measurements.stds[texts])

    def expect(self, exact: np.ndarray, predicted: np.ndarray, readout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ideal values (N,T) and their variances at one shot (N,T), which the maps enlarge."""
        _, slope = fit_lines(exact, predicted)
        return exact, (1 - predicted**2) / slope.clip(1e-3) ** 2


@dataclass(frozen=True)
class Maps:
    """Affine maps of T terms.

    Attributes:
        offset: Offsets a (T,).
        slope: Slopes b (T,).
        covariance: Covariances of a and b (T,2,2).
        residual: Standard deviations of the residuals (T,).
    """

    offset: np.ndarray
    slope: np.ndarray
    covariance: np.ndarray
    residual: np.ndarray

    def correct(self, evs: np.ndarray, stds: np.ndarray) -> Corrected:
        """Return corrected values of measured ones (N,T) with standard errors ``stds`` (N,T)."""
        values = (evs - self.offset) / self.slope
        at = np.stack([np.ones_like(values), values], axis=-1)
        fit_variance = np.einsum("nki,kij,nkj->nk", at, self.covariance, at)
        slope = np.abs(self.slope)
        return Corrected(values, stds / slope, np.sqrt(self.residual**2 + fit_variance) / slope)


def shuffled_points(values: np.ndarray, inputs: int, count: int, seed: int) -> np.ndarray:
    """Return parameter values (count,A+P) whose input columns are shuffled columns of ``values`` (N,A+P)."""
    random = np.random.default_rng(seed)
    points = np.repeat(values[:1], count, axis=0)
    for column in range(inputs):
        points[:, column] = random.choice(values[:, column], count, replace=count > len(values))
    if len(values) < MIN_POINTS:  # the angles of a few texts do not span a cloud of points
        points[:, :inputs] += random.normal(scale=0.5, size=(count, inputs))
    return points


def clifford_points(values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return parameter values (count,A+P) that are random multiples of pi/2, for a circuit with ``values`` (N,A+P)."""
    points: np.ndarray = np.random.default_rng(seed).integers(0, 4, (count, values.shape[1])) * (np.pi / 2)
    return points


def is_clifford(values: np.ndarray) -> bool:
    """Return whether all parameter values (M,A+P) are multiples of pi/2, as no text's are."""
    turns = values / (np.pi / 2)
    return bool(len(values) and np.allclose(turns, turns.round(), atol=1e-9))


def stabilizer_values(student: StudentCircuit, values: np.ndarray) -> np.ndarray:
    """Return exact expectation values (M,K) of Clifford circuits, from their stabilizers.

    Args:
        values: Multiples of pi/2 (M,A+P).
    """
    from qiskit.quantum_info import Clifford, StabilizerState

    evs = np.zeros((len(values), len(student.observables)))
    for row, angles in enumerate(values):
        bound = student.circuit.assign_parameters(dict(zip(student.parameters, angles, strict=True)))
        state = StabilizerState(Clifford(bound))
        for k, observable in enumerate(student.observables):
            terms = zip(observable.paulis, observable.coeffs.real, strict=True)
            evs[row, k] = sum(weight * state.expectation_value(pauli) for pauli, weight in terms)
    return evs


def fit(evs: np.ndarray, stds: np.ndarray, exact: np.ndarray, predicted: np.ndarray) -> Maps:
    """Return the maps from exact to measured values.

    Args:
        evs: Measured values (M,T).
        stds: Standard errors of shot noise (M,T).
        exact: Ideal values (M,T).
        predicted: Values that the calibration predicts (M,T).
    """
    count = evs.shape[1]
    offset, slope, residual, covariance = np.zeros(count), np.zeros(count), np.zeros(count), np.zeros((count, 2, 2))
    for k in range(count):
        at = np.stack([np.ones(len(exact)), exact[:, k]], axis=1)
        prior = np.linalg.lstsq(at, predicted[:, k], rcond=None)[0]
        ridge = np.diag([OFFSET_PRIOR**-2.0, SLOPE_PRIOR**-2.0])
        width = 0.0
        # The weights need the width of the residual and the width needs the map: iterate until they agree.
        for _ in range(FIT_ITERATIONS):
            weight = 1 / (stds[:, k] ** 2 + width**2)
            inverse = np.linalg.inv(at.T @ (weight[:, None] * at) + ridge)
            coefficients = inverse @ (at.T @ (weight * evs[:, k]) + ridge @ prior)
            residuals = evs[:, k] - at @ coefficients
            fit_variance = ((at @ inverse) * at).sum(axis=1)
            width = np.sqrt(max(0.0, float(np.mean(residuals**2 + fit_variance - stds[:, k] ** 2))))
        offset[k], slope[k], covariance[k], residual[k] = coefficients[0], coefficients[1], inverse, width
    return Maps(offset, slope, covariance, residual)
