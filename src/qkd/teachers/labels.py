"""Which output of a model means which class: sums over several outputs, and a check of the assignment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qkd.core.console import log

# Another assignment is reported when it is right on more texts by this fraction and by this many standard errors.
MIN_GAIN, MIN_ERRORS = 0.2, 4.0


def assigned(scores: np.ndarray, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Return logits ``(N,C)`` float32 of a model's ``scores`` (N,labels).

    Args:
        rows: the model's labels for each of the C classes. Probabilities of several labels add up.
    """
    from scipy.special import logsumexp

    return np.stack([logsumexp(scores[:, list(columns)], axis=1) for columns in rows], axis=1).astype(np.float32)


def warn_of_other_assignment(
    option: str,
    labels: Sequence[str],
    classes: Sequence[str],
    rows: Sequence[Sequence[int]],
    scores: np.ndarray,
    targets: np.ndarray,
) -> None:
    """Warn when other meanings of a model's labels fit labeled texts far better than the ones in use.

    Args:
        option: the teacher's name, and in parentheses the option that sets the assignment.
        rows: the model's labels for each of the C classes.
        scores: logits (N,labels) of N validation texts.
        targets: their class numbers (N,).
    """
    from scipy.optimize import linear_sum_assignment

    votes = np.zeros((len(labels), len(classes)))
    np.add.at(votes, (scores.argmax(axis=1), targets), 1)
    best_rows, best_classes = linear_sum_assignment(votes, maximize=True)
    current = float(sum(votes[list(row), number].sum() for number, row in enumerate(rows))) / len(targets)
    other = float(votes[best_rows, best_classes].sum()) / len(targets)
    noise = np.sqrt(max(other * (1 - other) + current * (1 - current), 1 / len(targets)) / len(targets))
    if other - current > max(MIN_GAIN, MIN_ERRORS * noise):
        pairs = ",".join(
            f"{labels[row]}={classes[number]}" for row, number in zip(best_rows, best_classes, strict=True)
        )
        log.warning(
            f"{option}: its labels are right on {current:.1%} of the validation texts and would be on {other:.1%} with "
            f"the meanings {pairs}; check the model's card"
        )
