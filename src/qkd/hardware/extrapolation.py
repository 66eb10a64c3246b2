"""Zero noise from amplified noise: one decay for each observable, and for each text what departs from it.

With noise factors f, ``ev(f) = A exp(-r f) + B f``. The rate r belongs to the observable; A, the value without noise,
and B, what this text does otherwise, to the text. B is taken from a normal distribution whose width is estimated over
all texts (a random effect), so texts that do not decay alike have wider bars. A is the generalized least-squares
estimate, averaged over r and the width with their restricted likelihood as weight.
"""

from __future__ import annotations

import numpy as np

RATES = np.linspace(-0.02, 0.4, 85)
WIDTHS = np.array([0.0, *np.geomspace(5e-4, 0.1, 24)])
EVERYWHERE = 1e-3
"""The width that is always there: no device's noise is amplified exactly."""


def extrapolated(evs: np.ndarray, stds: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values without noise and their standard errors, (K,N) each.

    Args:
        evs: at each noise factor (K,N,F).
        stds: their standard errors (K,N,F), shot noise at least.
        factors: (F,).
    """
    limits = [
        _observable(values, error, np.asarray(factors, dtype=float)) for values, error in zip(evs, stds, strict=True)
    ]
    return np.stack([value for value, _ in limits]), np.stack([error for _, error in limits])


def _observable(evs: np.ndarray, stds: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values and errors (N,) of one observable's texts (N,F)."""
    variance = (stds**2).clip(1e-12)
    scores = np.array([[_score(evs, variance, factors, rate, width) for width in WIDTHS] for rate in RATES])
    # the likelihood as weights: with few texts the rate is not known, and the bars say so
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    mean, square = np.zeros(len(evs)), np.zeros(len(evs))
    for i, j in zip(*np.nonzero(weights > 1e-4), strict=True):
        value, error = _amplitude(evs, variance, factors, RATES[i], max(WIDTHS[j], EVERYWHERE))
        mean += weights[i, j] * value
        square += weights[i, j] * (error + value**2)
    total = weights[weights > 1e-4].sum()
    mean, square = mean / total, square / total
    return mean, np.sqrt((square - mean**2).clip(0))


def _inverse(variance: np.ndarray, factors: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what applies (diag(variance) + width^2 f f^T)^-1 (Sherman and Morrison), and its log determinants (N,)."""
    g = factors / variance
    s = width**2 / (1 + width**2 * (factors * g).sum(axis=1))
    logs = np.log(variance).sum(axis=1) + np.log1p(width**2 * (factors * g).sum(axis=1))
    return g, s, logs


def _score(evs: np.ndarray, variance: np.ndarray, factors: np.ndarray, rate: float, width: float) -> float:
    """Return the restricted log likelihood of a rate and a width, every text's amplitude integrated out."""
    g, s, logs = _inverse(variance, factors, width)
    u = np.exp(-rate * factors)
    uu = (u**2 / variance).sum(axis=1) - s * (u * g).sum(axis=1) ** 2
    uy = (u * evs / variance).sum(axis=1) - s * (u * g).sum(axis=1) * (evs * g).sum(axis=1)
    yy = (evs**2 / variance).sum(axis=1) - s * (evs * g).sum(axis=1) ** 2
    return float(-0.5 * (logs + np.log(uu) + yy - uy**2 / uu).sum() + len(evs) * np.log((u**2).sum()) / 2)


def _amplitude(
    evs: np.ndarray, variance: np.ndarray, factors: np.ndarray, rate: float, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return amplitudes (N,) and their variances (N,)."""
    g, s, _ = _inverse(variance, factors, width)
    u = np.exp(-rate * factors)
    uu = (u**2 / variance).sum(axis=1) - s * (u * g).sum(axis=1) ** 2
    uy = (u * evs / variance).sum(axis=1) - s * (u * g).sum(axis=1) * (evs * g).sum(axis=1)
    return uy / uu, 1 / uu
