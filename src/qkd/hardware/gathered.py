"""What a plan's jobs measured, put together: over jobs, mitigated, with every part of its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qkd.hardware import affine
from qkd.hardware.extrapolation import extrapolated
from qkd.hardware.ledger import JobRecord
from qkd.hardware.mitigation import FACTORS
from qkd.hardware.plan import Plan
from qkd.student.metrics import Z95


@dataclass(frozen=True)
class Gathered:
    """Raw values of the plan's points: its texts, and behind them its calibration points.

    values: parameter values (T,A+P).
    evs, stds: measured values and their shot noise (T,K); NaN where nothing was measured.
    shots: of each point (T,).
    factors: with ``zne`` the values and shot noise at each noise factor (T,K,F), else None.
    failed: the numbers of texts whose values came back missing or infinite; they count as not measured.
    """

    values: np.ndarray
    evs: np.ndarray
    stds: np.ndarray
    shots: np.ndarray
    factors: tuple[np.ndarray, np.ndarray] | None
    failed: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """Whether a point was measured (T,)."""
        return self.shots > 0


@dataclass(frozen=True)
class Mitigated:
    """Expectation values of n texts.

    rows: the texts' numbers (n,).
    evs: (n,K).
    noise: the standard deviation that comes of shots, twirls and extrapolation (n,K).
    bias: the standard deviation of what stays however many shots are taken (n,K).
    shots: (n,).
    """

    rows: np.ndarray
    evs: np.ndarray
    noise: np.ndarray
    bias: np.ndarray
    shots: np.ndarray

    @property
    def stds(self) -> np.ndarray:
        """Standard errors (n,K), of noise and bias."""
        return np.hypot(self.noise, self.bias)


def gather(plan: Plan, records: list[JobRecord]) -> Gathered:
    """Return what a plan's jobs measured.

    Standard errors are taken from the spread over twirls, of which there may be few; none is let below shot noise,
    ``sqrt((1 - ev^2 + 2 / S) / S)``, where 2 / S stands for the outcome that was not seen yet.
    """
    values, count = plan.values, len(plan.student.observables)
    evs, stds = np.full((2, len(values), count), np.nan)
    shots, failed = np.zeros(len(values)), list[int]()
    factors = np.full((2, len(values), count, len(FACTORS)), np.nan)
    for record in records[: len(plan.chunks)]:
        if record.file is None:
            continue
        arrays, (start, stop) = plan.read_arrays(record.file, record.sha256), plan.chunks[record.number]
        at = np.arange(start, stop)
        whole = np.isfinite(arrays["evs"]).all(axis=0)
        failed += at[~whole].tolist()
        evs[at], stds[at], shots[at] = arrays["evs"].T, arrays["stds"].T, plan.mitigation.shots * whole
        if "evs_factors" in arrays:
            factors[0, at] = arrays["evs_factors"].transpose(1, 0, 2)
            factors[1, at] = arrays["stds_factors"].transpose(1, 0, 2)
    floor = shot_noise(evs, shots[:, None])
    spread = None
    if np.isfinite(factors).any():
        spread = (factors[0], np.fmax(factors[1], shot_noise(factors[0], shots[:, None, None])))
    missing = np.array(sorted(i for i in failed if i < len(plan.texts) and not shots[i]), dtype=int)
    return Gathered(values, evs, np.fmax(stds, floor), shots, spread, missing)


def shot_noise(evs: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """Return the standard error of an expectation value of Pauli outcomes; infinite without shots."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((1 - np.nan_to_num(evs).clip(-1, 1) ** 2 + 2 / shots) / shots)


def mitigate(plan: Plan, gathered: Gathered, exact: np.ndarray, predicted: np.ndarray) -> Mitigated:
    """Return the texts' expectation values with their errors.

    With ``affine`` the bias is what the maps leave at the calibration points. Otherwise it is what measured values of
    the *other* texts differ from exact ones beyond their noise; a text's own exact value is in neither.

    Args:
        plan: what was asked for.
        gathered: what was measured.
        exact: ideal values of all points (T,K).
        predicted: what the device's calibration says would be measured without mitigation (T,K).
    """
    texts = np.flatnonzero(gathered.there[: len(plan.texts)])
    evs, noise, shots = gathered.evs[texts], gathered.stds[texts], gathered.shots[texts]
    if plan.mitigation.name == "affine":
        points = len(plan.texts) + np.flatnonzero(gathered.there[len(plan.texts) :])
        maps = affine.fit(gathered.evs[points], gathered.stds[points], exact[points], predicted[points])
        return Mitigated(texts, *maps.correct(evs, noise), shots)
    if gathered.factors is not None and len(texts):
        whole, errors = (part[texts].transpose(1, 0, 2) for part in gathered.factors)
        values, spread = extrapolated(whole, errors, np.array(FACTORS))
        evs, noise = values.T, spread.T
    prior = predicted[texts] - exact[texts] if plan.mitigation.name in ("none", "readout") else np.zeros_like(evs)
    return Mitigated(texts, evs, noise, bias(evs - exact[texts], noise, prior), shots)


OTHERS = 4
"""Texts that what the calibration predicts of the bias counts for."""
SCALES = np.geomspace(0.5, 2.0, 29)
"""By what a bias is multiplied so that as many of the others as should lie inside their bars."""
RELUCTANCE = 2.0
"""Values that speak for leaving it as it is, against each e-fold of a multiple."""


def bias(off: np.ndarray, noise: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return the bias' standard deviation at each text and observable (n,K), estimated on the other texts.

    Its size is that of the other texts' mean square, multiplied by what brings 95 % of their values inside 1.96
    standard errors: a bias has no normal distribution.

    Args:
        off: measured less exact (n,K).
        noise: the standard deviation that comes of shots (n,K).
        prior: the bias that a calibration predicts (n,K).
    """
    if not len(off):
        return off
    known = np.isfinite(off) & np.isfinite(noise)
    excess = np.where(known, off**2 - noise**2, 0.0)
    others = excess.sum(axis=0) - excess + OTHERS * (prior**2).mean(axis=0)
    width = np.sqrt((others / (known.sum(axis=0) - known + OTHERS)).clip(0))
    return width * scale(off, noise, width)[:, None]


def scale(off: np.ndarray, noise: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return for each text (n,) the multiple of ``width`` (n,K) at which 95 % of the others lie inside 1.96 errors."""
    known = np.isfinite(off) & np.isfinite(noise)
    with np.errstate(invalid="ignore"):
        inside = np.stack([known & (np.abs(off) < Z95 * np.hypot(noise, c * width)) for c in SCALES]).sum(axis=2)
    total = known.sum() - known.sum(axis=1)
    missed = np.abs(inside.sum(axis=1, keepdims=True) - inside - 0.95 * total)  # (scales,n)
    best: np.ndarray = SCALES[(missed + RELUCTANCE * np.abs(np.log(SCALES))[:, None]).argmin(axis=0)]
    return best
