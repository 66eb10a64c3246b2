"""Engine-calibrated mitigation: what a device does to each observable, learned at points whose exact values are known.

The calibration points are texts' own angles, shuffled column by column, so they lie where the texts lie and no text is
among them. A measured value is modelled as ``a + b exact + rest``: exact values have no error, so shots do not bias a
and b. Both are drawn towards what the device's calibration predicts (a ridge), so that few points are enough; the
rest's width is the bias that an affine map leaves. The correction is ``(measured - a) / b``.

Where light cones are too wide for exact values, the points are Clifford circuits instead: every angle a multiple of
pi/2, whose values stabilizers know at any width (Clifford data regression, Czarnik et al., arXiv:2005.10189).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qkd.circuits.student import StudentCircuit

POINTS, FEWEST, MOST = 2048, 32, 192
"""Executions spent on calibration, and the least and most points they are spread over."""
OFFSET, SLOPE = 0.03, 0.15
"""How far a device's maps are taken to lie from what its calibration predicts: standard deviations of a and b."""


@dataclass(frozen=True)
class Maps:
    """Affine maps of K observables.

    offset, slope: a and b (K,).
    covariance: of a and b (K,2,2).
    rest: the standard deviation of what an affine map leaves (K,).
    """

    offset: np.ndarray
    slope: np.ndarray
    covariance: np.ndarray
    rest: np.ndarray

    def correct(self, evs: np.ndarray, stds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return corrected values, their shot noise, and their bias' standard deviation, (N,K) each.

        Args:
            evs: measured (N,K).
            stds: their shot noise (N,K).
        """
        values = (evs - self.offset) / self.slope
        ones = np.ones_like(values)
        at = np.stack([ones, values], axis=-1)
        fit = np.einsum("nki,kij,nkj->nk", at, self.covariance, at)
        return values, stds / np.abs(self.slope), np.sqrt(self.rest**2 + fit) / np.abs(self.slope)


def points(shots: int) -> int:
    """Return how many calibration points are measured with so many shots each."""
    return int(np.clip(-(-POINTS // shots), FEWEST, MOST))


def shuffled(values: np.ndarray, inputs: int, count: int, seed: int) -> np.ndarray:
    """Return parameter values (count,A+P) whose inputs are those of ``values`` (N,A+P), each column shuffled."""
    random = np.random.default_rng(seed)
    made = np.repeat(values[:1], count, axis=0)
    for column in range(inputs):
        made[:, column] = random.choice(values[:, column], count, replace=count > len(values))
    if len(values) < FEWEST:  # a few texts' angles are no cloud of points
        made[:, :inputs] += random.normal(scale=0.5, size=(count, inputs))
    return made


def clifford(values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return parameter values (count,A+P) that are random multiples of pi/2, for a circuit with ``values`` (N,A+P)."""
    made: np.ndarray = np.random.default_rng(seed).integers(0, 4, (count, values.shape[1])) * (np.pi / 2)
    return made


def is_clifford(values: np.ndarray) -> bool:
    """Whether all parameter values (M,A+P) are multiples of pi/2, as no text's are."""
    turns = values / (np.pi / 2)
    return bool(len(values) and np.allclose(turns, turns.round(), atol=1e-9))


def stabilized(student: StudentCircuit, values: np.ndarray) -> np.ndarray:
    """Return exact expectation values (M,K) of Clifford circuits, from their stabilizers.

    Args:
        student: the logical circuit.
        values: multiples of pi/2 (M,A+P).
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
    """Return the maps that explain measured by exact values.

    Args:
        evs: measured (M,K).
        stds: their shot noise (M,K).
        exact: (M,K).
        predicted: what the device's calibration says would be measured (M,K).
    """
    count = evs.shape[1]
    offset, slope, rest, covariance = np.zeros(count), np.zeros(count), np.zeros(count), np.zeros((count, 2, 2))
    for k in range(count):
        at = np.stack([np.ones(len(exact)), exact[:, k]], axis=1)
        prior = np.linalg.lstsq(at, predicted[:, k], rcond=None)[0]
        ridge = np.diag([OFFSET**-2.0, SLOPE**-2.0])
        width = 0.0
        for _ in range(20):  # the width of the rest and the maps in turn, until they agree
            weight = 1 / (stds[:, k] ** 2 + width**2)
            inverse = np.linalg.inv(at.T @ (weight[:, None] * at) + ridge)
            coefficients = inverse @ (at.T @ (weight * evs[:, k]) + ridge @ prior)
            left = evs[:, k] - at @ coefficients
            used = ((at @ inverse) * at).sum(axis=1)
            width = np.sqrt(max(0.0, float(np.mean(left**2 + used - stds[:, k] ** 2))))
        offset[k], slope[k], covariance[k], rest[k] = coefficients[0], coefficients[1], inverse, width
    return Maps(offset, slope, covariance, rest)
