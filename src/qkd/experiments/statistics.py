"""Differences between students over texts and seeds: intervals, p-values, and what could have been seen.

Every student answers the same N texts after training with each of S seeds. Texts and seeds are two crossed samples, so
both are resampled: the mean over a draw of seeds and, independently, a draw of texts is the pigeonhole bootstrap
(Owen, Annals of Applied Statistics 1:386, 2007). It gives an interval its shape; its width is that of the unbiased
standard error of a two-way layout, and few seeds are accounted for by wider quantiles (Hesterberg, The American
Statistician 69:371, 2015: expanded percentiles) with Satterthwaite's degrees of freedom (Biometrics Bulletin 2:110,
1946).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 4000
"""How many draws an interval is made of."""
POWER = 0.8
"""The chance with which the smallest detectable difference is found."""
ALPHA = 0.05
"""The chance of a verdict where there is no difference."""


@dataclass(frozen=True)
class Difference:
    """A mean over seeds and texts with its 95 % interval.

    value, low, high: the mean and its interval.
    p: the two-sided p-value of a mean of 0.
    error: its standard error.
    freedom: degrees of freedom of that.
    """

    value: float
    low: float
    high: float
    p: float
    error: float
    freedom: float

    def detectable(self, alpha: float = ALPHA) -> float:
        """Return the smallest true mean that a test at ``alpha`` finds in 80 % of all cases (Bloom 1995)."""
        reach = stats.t.ppf(1 - alpha / 2, self.freedom) + stats.t.ppf(POWER, self.freedom)
        return float(reach * self.error)


def mean_over_seeds_and_texts(rows: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Return the mean of ``rows`` (S,N), one value for each seed and text, with its interval.

    With one seed the interval is that over texts alone, and says nothing about other seeds.
    """
    value = float(rows.mean())
    error, freedom = _standard_error(rows)
    if error == 0:
        return Difference(value, value, value, 1.0 if value == 0 else 0.0, 0.0, np.inf)
    drawn = _drawn(rows, resamples, seed)
    # resampling both ways counts twice what belongs to one seed and one text alone, and few seeds spread too little
    scores = (drawn - value) / max(float(drawn.std()), 1e-12)
    level = float(stats.norm.sf(stats.t.ppf(1 - ALPHA / 2, freedom)))
    low, high = (value + error * float(q) for q in np.quantile(scores, (level, 1 - level)))
    reached = value / error
    tail = (min((scores <= -reached).sum(), (scores >= -reached).sum()) + 1) / (resamples + 1)
    # beyond what was drawn, the normal tail
    reached = abs(reached) if tail < 10 / resamples else float(stats.norm.isf(min(tail, 0.5)))
    p = float(2 * stats.t.sf(reached, freedom))
    return Difference(value, min(low, value), max(high, value), p, error, freedom)


def _standard_error(rows: np.ndarray) -> tuple[float, float]:
    """Return the standard error of the mean of ``rows`` (S,N) over both samples, and its degrees of freedom.

    Mean squares of a two-way layout with random rows and columns (Scheffe, The Analysis of Variance, 1959, ch. 7).
    """
    seeds, texts = rows.shape
    of_texts = seeds * float(rows.mean(axis=0).var(ddof=1))
    if seeds == 1:
        return float(np.sqrt(of_texts / texts)), float(texts - 1)
    of_seeds = texts * float(rows.mean(axis=1).var(ddof=1))
    left = rows - rows.mean(axis=0) - rows.mean(axis=1, keepdims=True) + rows.mean()
    of_both = float((left**2).sum()) / ((seeds - 1) * (texts - 1))
    shared = min(of_both, of_seeds, of_texts)
    total = of_seeds + of_texts - shared
    if total <= 0:
        return 0.0, np.inf
    spread = of_seeds**2 / (seeds - 1) + of_texts**2 / (texts - 1) + shared**2 / ((seeds - 1) * (texts - 1))
    return float(np.sqrt(total / (seeds * texts))), total**2 / spread


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, Scandinavian Journal of Statistics 6:65, 1979)."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _drawn(rows: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return means (R,) over draws of seeds and texts with replacement."""
    rng = np.random.default_rng(seed)
    seeds, texts = rows.shape
    means = []
    for start in range(0, resamples, 500):
        count = min(500, resamples - start)
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), count) / seeds
        of_texts = rng.multinomial(texts, np.full(texts, 1 / texts), count) / texts
        means.append(((of_seeds @ rows) * of_texts).sum(axis=1))
    return np.concatenate(means)
