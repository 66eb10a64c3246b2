"""Zero-noise extrapolation from folded two-qubit gates: one decay for each Pauli term, and a departure for each text.

With noise factors f, ``ev(f) = A exp(-r f) + B f``. The rate r belongs to the term. The value without noise A and the
departure B belong to the text. B has a normal distribution whose width is estimated over all texts (a random effect).
So texts that do not decay alike have wider error bars. A is the generalized least-squares estimate, averaged over r and
the width with their restricted likelihood as weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qkd.core.console import log
from qkd.hardware.mitigation.base import Corrected, Measurements, fit_lines
from qkd.hardware.mitigation.readout import Readout

if TYPE_CHECKING:
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions


# Rates up to 0.4 are those of today's devices. Beyond 2, the value at factor 1 is below a seventh, and the
# factors 3 and 5 hold no signal.
MAX_RATE = 2.0
RATES = np.concatenate([np.linspace(-0.02, 0.4, 85), np.linspace(0.42, MAX_RATE, 80)])
RATE_SPACING = np.gradient(RATES)
WIDTHS = np.array([0.0, *np.geomspace(5e-4, 0.1, 24)])
# Width that is always assumed, because no device amplifies its noise exactly.
MIN_WIDTH = 1e-3
# Share of the weight in the last tenth of the rates at which a term counts as decayed.
MAX_EDGE_WEIGHT = 0.05
# Standard deviation of a uniform distribution on [-1, 1], for an unknown value.
UNKNOWN_STD = 3**-0.5


def extrapolate(
    evs: np.ndarray, stds: np.ndarray, factors: np.ndarray, warn_of_fast_decay: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values without noise and their standard errors, (T,N) each.

    A term whose rate may lie beyond the grid has a standard error of ``UNKNOWN_STD`` at least, and a warning names it.

    Args:
        evs: Values at each noise factor (T,N,F).
        stds: Their standard errors (T,N,F), not below shot noise.
        factors: Noise factors (F,).
    """
    factors = np.asarray(factors, dtype=float)
    values, errors, decayed = zip(*(_term(e, s, factors) for e, s in zip(evs, stds, strict=True)), strict=True)
    fast = [str(k) for k, flag in enumerate(decayed) if flag]
    if fast and warn_of_fast_decay:
        log.warning(
            f"zne: the values of Pauli terms {', '.join(fast)} decay too fast to be extrapolated, so their standard "
            f"errors are at least {UNKNOWN_STD:.2f}; use --mitigation affine or a less noisy device"
        )
    return np.stack(values), np.stack(errors)


def _term(evs: np.ndarray, stds: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return values (N,) and errors (N,) of one term's texts (N,F), and whether its rate may lie beyond the grid."""
    variance = (stds**2).clip(1e-12)
    scores = np.array([_fit(evs, variance, factors, rate, WIDTHS)[2] for rate in RATES])
    # The likelihood is the weight: with few texts the rate is uncertain, and the error bars contain that.
    weights = np.exp(scores - scores.max()) * RATE_SPACING[:, None]
    weights /= weights.sum()
    mean, square, total = np.zeros(len(evs)), np.zeros(len(evs)), 0.0
    for i in np.flatnonzero(weights.max(axis=1) > 1e-4):
        used = weights[i] > 1e-4
        values, variances, _ = _fit(evs, variance, factors, RATES[i], np.fmax(WIDTHS[used], MIN_WIDTH))
        mean += weights[i, used] @ values
        square += weights[i, used] @ (variances + values**2)
        total += weights[i, used].sum()
    errors = np.sqrt((square / total - (mean / total) ** 2).clip(0))
    decayed = bool(weights[RATES > 0.9 * MAX_RATE].sum() > MAX_EDGE_WEIGHT)
    return mean / total, np.fmax(errors, UNKNOWN_STD) if decayed else errors, decayed


def _fit(
    evs: np.ndarray, variance: np.ndarray, factors: np.ndarray, rate: float, widths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return amplitudes (W,N), their variances (W,N), and restricted log likelihoods (W,), for each of W widths.

    The covariance of a text is ``diag(variance) + width^2 f f^T``, whose inverse is that of Sherman and Morrison. Every
    text's amplitude is integrated out of the likelihood.
    """
    g, u = factors / variance, np.exp(-rate * factors)
    squares = widths[:, None] ** 2 * (factors * g).sum(axis=1)
    s = widths[:, None] ** 2 / (1 + squares)
    ug, yg = (u * g).sum(axis=1), (evs * g).sum(axis=1)
    uu = (u**2 / variance).sum(axis=1) - s * ug**2
    uy = (u * evs / variance).sum(axis=1) - s * ug * yg
    yy = (evs**2 / variance).sum(axis=1) - s * yg**2
    logs = np.log(variance).sum(axis=1) + np.log1p(squares)
    score = -0.5 * (logs + np.log(uu) + yy - uy**2 / uu).sum(axis=1) + len(evs) * np.log((u**2).sum()) / 2
    return uy / uu, 1 / uu, score


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
