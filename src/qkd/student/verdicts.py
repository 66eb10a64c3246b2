"""Paired differences in accuracy and their verdicts: better, worse, equivalent or undecided.

Every student answers the same N texts after training with each of S seeds, so texts and seeds are two crossed samples.
The standard error comes from a two-way layout with random rows and columns. Satterthwaite's degrees of freedom widen
the interval where seeds are few.

A verdict compares the interval of a paired difference with a margin of practical equivalence. One test asks whether the
difference is not 0, another whether it is inside the margin. Both have the 95 % level and are corrected for the number
of differences. The second consists of two one-sided tests (Schuirmann, J. Pharmacokinet. Biopharm. 15:657, 1987).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from qkd.results import Estimate, PairedDifference
from qkd.results.base import VerdictName

ALPHA = 0.05
"""Probability of a false verdict."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and texts.

    Attributes:
        value: The mean.
        variance: Its sampling variance.
        seed_variance: The part of the variance that more texts do not reduce.
        freedom: Degrees of freedom of the variance.
        texts: Number of texts N.
    """

    value: float
    variance: float
    seed_variance: float
    freedom: float
    texts: int

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(self.variance)

    def interval(self, low: float = -math.inf, high: float = math.inf) -> Estimate:
        """Return the mean with its 95 % interval, clipped to [low, high]."""
        reach = float(stdtrit(self.freedom, 1 - ALPHA / 2)) * self.error
        return Estimate(value=self.value, low=max(low, self.value - reach), high=min(high, self.value + reach))

    def p_different(self) -> float:
        """Return the two-sided p-value of a true mean of 0."""
        return float(2 * stdtr(self.freedom, -abs(self.value) / self.error))

    def p_equivalent(self, margin: float) -> float:
        """Return twice the larger one-sided p-value of a true mean at or beyond either end of the margin.

        The factor makes 5 % agree with a 95 % interval that is inside the margin.
        """
        return min(1.0, float(2 * stdtr(self.freedom, -(margin - abs(self.value)) / self.error)))

    def texts_needed(self, margin: float, alpha: float) -> int | None:
        """Return the number of texts that would decide a difference of this size.

        Args:
            margin: the margin of practical equivalence.
            alpha: the probability of a false verdict, corrected for the number of differences.

        Returns:
            None where no number of texts suffices with so few seeds.
        """
        distance = max(abs(self.value), margin - abs(self.value))
        error = distance / float(stdtrit(self.freedom, 1 - alpha / 2))
        variance = error**2 - self.seed_variance
        if variance <= 0:
            return None
        # variance = each / count + 2 / count^2, as in mean_over_seeds_and_texts
        each = self.texts * (self.variance - self.seed_variance - _unseen(self.texts))
        count = (each + math.sqrt(each**2 + 8 * variance)) / (2 * variance)
        digit = 10 ** max(0, math.floor(math.log10(max(count, 1))) - 1)
        return math.ceil(count / digit) * digit


def mean_over_seeds_and_texts(rows: np.ndarray) -> Mean:
    """Return the mean of ``rows`` (S,N), one value in [-1, 1] for each seed and text, with its sampling variance.

    With one seed the variance is that over texts alone and says nothing about other seeds. Mean squares: Scheffe, The
    Analysis of Variance, 1959, ch. 7. Degrees of freedom: Satterthwaite, Biometrics Bulletin 2:110, 1946.
    """
    seeds, texts = rows.shape
    of_texts = seeds * float(rows.mean(axis=0).var(ddof=1)) if texts > 1 else 1.0
    of_seeds = shared = 0.0
    freedom = max(texts - 1.0, 1.0)
    if seeds > 1 and texts > 1:
        of_seeds = texts * float(rows.mean(axis=1).var(ddof=1))
        residual = rows - rows.mean(axis=0) - rows.mean(axis=1, keepdims=True) + rows.mean()
        of_both = float((residual**2).sum()) / ((seeds - 1) * (texts - 1))
        shared = min(of_both, of_seeds, of_texts)
        total = of_seeds + of_texts - shared
        spread = of_seeds**2 / (seeds - 1) + of_texts**2 / (texts - 1) + shared**2 / ((seeds - 1) * (texts - 1))
        freedom = total**2 / spread if spread > 0 else math.inf
    variance = (of_seeds + of_texts - shared) / (seeds * texts) + _unseen(texts)
    seed_variance = (of_seeds - shared) / (seeds * texts)
    return Mean(float(rows.mean()), variance, seed_variance, freedom, texts)


def _unseen(texts: int) -> float:
    """Return the variance of two more discordant texts, one each way.

    Without them a difference that 50 texts do not show would have a variance of 0 and pass for proven equivalence
    (Bonett and Price, Journal of Educational and Behavioral Statistics 37:479, 2012).
    """
    return 2 / (texts + 2) ** 2


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for their number (Holm, Scandinavian Journal of Statistics 6:65, 1979).

    ``statsmodels`` has the same correction, but its import takes 2.6 s.
    """
    p = np.asarray(p_values)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.minimum(1, (len(p) - np.arange(len(p))) * p[order]))
    return corrected


def compare_accuracies(
    subject: str,
    hits: np.ndarray,
    others: Mapping[str, np.ndarray],
    margin: float,
    names: Mapping[str, str] | None = None,
) -> dict[str, PairedDifference]:
    """Return the accuracy of one classifier minus that of each other, each with its verdict.

    Args:
        subject: the classifier's name in sentences.
        hits: its correct test texts, 1 or 0 for each seed and text, (S,N).
        others: those of the others by name, (S,N) or (1,N).
        margin: the margin of practical equivalence, as a fraction.
        names: names of the others in sentences, where these differ.
    """
    means = {name: mean_over_seeds_and_texts(hits - rows) for name, rows in others.items()}
    different = holm([mean.p_different() for mean in means.values()])
    equivalent = holm([mean.p_equivalent(margin) for mean in means.values()])
    differences = {}
    for (name, mean), p, p_equivalent in zip(means.items(), different, equivalent, strict=True):
        verdict: VerdictName = "undecided"
        if p_equivalent <= ALPHA:
            verdict = "equivalent"
        elif p <= ALPHA:
            verdict = "better" if mean.value > 0 else "worse"
        texts = mean.texts_needed(margin, ALPHA / len(means)) if verdict == "undecided" else None
        difference = PairedDifference(
            **dict(mean.interval(-1, 1)), p=mean.p_different(), p_holm=float(p), verdict=verdict, texts_needed=texts
        )
        sentence = _sentence(subject, (names or {}).get(name, name), difference, margin)
        differences[name] = difference.model_copy(update={"sentence": sentence})
    return differences


def _sentence(subject: str, other: str, difference: PairedDifference, margin: float) -> str:
    """Return a difference and its verdict in words."""
    value, low, high = (f"{100 * number:+z.1f}" for number in (difference.value, difference.low, difference.high))
    points = f"{value} points, {low} to {high}"
    if difference.verdict == "equivalent":
        text = f"{subject} is equivalent to {other} ({points}; margin {100 * margin:g})."
    elif difference.verdict == "undecided":
        end = "more seeds, not more texts, would decide it."
        if difference.texts_needed:
            end = f"about {difference.texts_needed:,} texts would decide a difference of this size."
        text = f"{subject} and {other}: undecided ({points}); {end}"
    else:
        text = f"{subject} is {difference.verdict} than {other} ({points})."
    return text[0].upper() + text[1:] if subject.startswith("the ") else text


def conclude(subject: str, differences: Mapping[str, PairedDifference], names: Mapping[str, str] | None = None) -> str:
    """Return the conclusion about a student's circuit from its differences to classical students.

    Args:
        subject: the student's name.
        differences: its differences to classical students by their names.
        names: their names in the sentence, where these differ.
    """

    def listed(verdict: VerdictName) -> str:
        words = [(names or {}).get(name, name) for name, one in differences.items() if one.verdict == verdict]
        return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))

    if not differences:
        return "No classical student took part: this comparison cannot show whether a circuit helps."
    if worse := listed("worse"):
        return f"No benefit of the circuit: {subject} is worse than {worse}."
    equivalent, undecided = listed("equivalent"), listed("undecided")
    if not equivalent and not undecided:
        return f"A benefit of the circuit: {subject} is better than every classical student here ({listed('better')})."
    parts = [f"{subject} is equivalent to {equivalent}"] if equivalent else []
    parts += [f"the difference from {undecided} is undecided"] if undecided else []
    return f"No benefit of the circuit is shown: {', and '.join(parts)}."
