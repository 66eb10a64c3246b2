"""Raw and mitigated values of a plan's jobs, with every part of their errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qkd.hardware.ledger import JobRecord
from qkd.hardware.mitigation import Measurements
from qkd.hardware.plan import Plan
from qkd.student.metrics import Z95

# Number of texts that the bias predicted by the calibration counts for.
PRIOR_TEXTS = 4
# Factors by which a bias estimate may be scaled to reach the nominal coverage.
BIAS_SCALES = np.geomspace(0.5, 2.0, 29)
# Number of values that outweigh a change of the scale by a factor e.
SCALE_PENALTY = 2.0


@dataclass(frozen=True)
class Estimates:
    """Expectation values of n texts.

    Attributes:
        rows: Indices of the texts (n,).
        evs: Values of the observables (n,K).
        noise: Standard deviations from shots, twirls and fits (n,K).
        bias: Standard deviations of the bias that remains at any number of shots (n,K).
        term_noise: The noise of the Pauli terms (n,T).
    """

    rows: np.ndarray
    evs: np.ndarray
    noise: np.ndarray
    bias: np.ndarray
    term_noise: np.ndarray

    @property
    def stds(self) -> np.ndarray:
        """Standard errors (n,K) from noise and bias."""
        return np.hypot(self.noise, self.bias)


def collect_measurements(plan: Plan, records: list[JobRecord]) -> Measurements:
    """Return the raw term values that a plan's jobs measured.

    The client's standard errors come from the spread over twirls, of which there may be few. None is allowed below shot
    noise.
    """
    count, shape = len(plan.values), (len(plan.values), len(plan.terms.student.observables))
    evs, stds = np.full((2, *shape), np.nan)
    shots, failed = np.zeros(count), list[int]()
    factors = np.full((2, *shape, len(plan.mitigation.method.noise_factors)), np.nan)
    for record in records[: len(plan.chunks)]:
        if record.file is None:
            continue
        arrays, (start, stop) = plan.read_arrays(record.file, record.sha256), plan.chunks[record.number]
        rows = np.arange(start, stop)
        valid = np.isfinite(arrays["evs"]).all(axis=0)
        failed += rows[~valid].tolist()
        evs[rows], stds[rows], shots[rows] = arrays["evs"].T, arrays["stds"].T, plan.mitigation.shots * valid
        if "evs_factors" in arrays:
            factors[0, rows] = arrays["evs_factors"].transpose(1, 0, 2)
            factors[1, rows] = arrays["stds_factors"].transpose(1, 0, 2)
    spread = None
    if np.isfinite(factors).any():
        spread = (factors[0], np.fmax(factors[1], shot_noise(factors[0], shots[:, None, None])))
    missing = np.array(sorted(i for i in failed if i < len(plan.texts)), dtype=int)
    return Measurements(plan.values, evs, np.fmax(stds, shot_noise(evs, shots[:, None])), shots, spread, missing)


def shot_noise(evs: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """Return the standard errors of Pauli terms at S shots: ``sqrt((1 - p^2 + 2 / S) / S)``, infinite without shots.

    The term 2 / S stands for the outcome that was not seen yet.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((1 - np.nan_to_num(evs).clip(-1, 1) ** 2 + 2 / shots) / shots)


def mitigate(plan: Plan, measurements: Measurements, exact: np.ndarray, predicted: np.ndarray) -> Estimates:
    """Return the texts' expectation values with their errors.

    A method may estimate its own bias. Otherwise the bias is the deviation of the *other* texts' measured values from
    exact ones beyond their noise; a text's own exact value is in neither.

    Args:
        exact: Ideal term values of all points (M,T).
        predicted: Term values that the device's calibration predicts without mitigation (M,T).
    """
    terms, method = plan.terms, plan.mitigation.method
    texts = np.flatnonzero(measurements.measured[: len(plan.texts)])
    corrected = method.combine(measurements, texts, exact, predicted, len(plan.texts))
    evs, noise = terms.values(corrected.evs), terms.errors(corrected.noise)
    if corrected.bias is not None:
        remaining = terms.errors(corrected.bias)
    else:
        ideal = terms.values(exact[texts])
        prior = terms.values(predicted[texts]) - ideal
        remaining = estimate_bias(evs - ideal, noise, np.zeros_like(evs) if method.removes_gate_noise else prior)
    return Estimates(texts, evs, noise, remaining, corrected.noise)


def estimate_bias(deviations: np.ndarray, noise: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the bias at each text and observable (n,K), estimated on the other texts.

    It is the other texts' root mean square beyond noise, scaled so that 95 % of their values lie inside 1.96 standard
    errors, because a bias is not normally distributed.

    Args:
        deviations: Measured less exact values (n,K).
        noise: Standard deviations of noise (n,K).
        prior: Bias that the calibration predicts (n,K).
    """
    if not len(deviations):
        return deviations
    known = np.isfinite(deviations) & np.isfinite(noise)
    excess = np.where(known, deviations**2 - noise**2, 0.0)
    others = excess.sum(axis=0) - excess + PRIOR_TEXTS * (prior**2).mean(axis=0)
    width = np.sqrt((others / (known.sum(axis=0) - known + PRIOR_TEXTS)).clip(0))
    return width * _coverage_scale(deviations, noise, width)[:, None]


def _coverage_scale(deviations: np.ndarray, noise: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return for each text (n,) the factor on ``width`` (n,K) at which 95 % of the others lie inside 1.96 errors."""
    known = np.isfinite(deviations) & np.isfinite(noise)
    with np.errstate(invalid="ignore"):
        inside = np.stack([known & (np.abs(deviations) < Z95 * np.hypot(noise, c * width)) for c in BIAS_SCALES]).sum(
            axis=2
        )
    total = known.sum() - known.sum(axis=1)
    missed = np.abs(inside.sum(axis=1, keepdims=True) - inside - 0.95 * total)  # (scales,n)
    best: np.ndarray = BIAS_SCALES[(missed + SCALE_PENALTY * np.abs(np.log(BIAS_SCALES))[:, None]).argmin(axis=0)]
    return best
