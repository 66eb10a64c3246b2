"""Why a student falls short of its teacher, measured: encoder, capacity, data or optimisation.

Probes see what the student sees, embeddings and labels: a linear one, and a kernel one that is not bound to any shape.
What they lack of the teacher is not in the embeddings; what the student lacks of them is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qkd.models.linear_probes import Probe, kernel_probe, linear_probe
from qkd.results import Diagnosis, PairedDifference
from qkd.student.lesson import Lesson
from qkd.student.losses import UNLABELED

TEXTS = 2000
"""Training texts that are looked at."""
SHARES = (0.25, 0.5, 1.0)
"""Of the training texts, with which the learning curve is drawn."""
MIN_CAUSE = 0.01
"""Smallest loss of accuracy that a sentence names a cause for."""


@dataclass(frozen=True)
class Tried:
    """Remedies that the run itself has tried; no sentence recommends one of them again.

    Attributes:
        unlabeled: The student's accuracy minus that of one without the unlabeled texts.
        tuned: The student's accuracy minus that of one with the encoder before fine-tuning.
        stalled: Whether training stopped because the validation loss no longer improved.
    """

    unlabeled: PairedDifference | None = None
    tuned: PairedDifference | None = None
    stalled: bool = False


def sentences(numbers: Diagnosis, tried: Tried = Tried()) -> tuple[str, ...]:
    """Return the causes of a shortfall in words, the largest first."""
    verdict = numbers.shortfall.verdict
    if verdict == "worse":
        best = max(numbers.linear, numbers.kernel)
        causes = [
            (numbers.teacher - best, _encoder(numbers, best, tried)),
            (best - numbers.student, _own(numbers, best, tried)),
        ]
        lines = [text for size, text in sorted(causes, key=lambda cause: -cause[0]) if size >= MIN_CAUSE]
        lines = lines or ["No single cause explains a point of the shortfall."]
    elif verdict == "undecided":
        lines = ["Whether the student falls short of its teacher is undecided on these test texts."]
    else:
        lines = ["The student does not fall short of its teacher on these test texts."]
    if numbers.doubling >= MIN_CAUSE:
        more = "more texts, labeled or not (--unlabeled), should help."
        if tried.unlabeled:
            more = "more labeled texts should help."
            if tried.unlabeled.verdict == "better":
                more = "more texts should help, as the unlabeled ones did."
        lines.append(
            f"Data: from {numbers.texts[-2]:,} to {numbers.texts[-1]:,} training texts a linear probe gains "
            f"{100 * numbers.doubling:.1f} points; {more}"
        )
    if len(numbers.seeds) > 1:
        deviation = 100 * float(np.std(numbers.seeds, ddof=1))
        lines.append(f"Optimization: {len(numbers.seeds)} seeds have a standard deviation of {deviation:.1f} points.")
    return tuple(lines)


def _encoder(numbers: Diagnosis, best: float, tried: Tried) -> str:
    """Return the share of the encoder, whose better probe has accuracy ``best``."""
    advice = "use another --encoder" if tried.tuned else "use another --encoder or --tune-encoder 2"
    return (
        f"Encoder: the best probe of the embeddings scores {100 * best:.1f} %, {100 * (numbers.teacher - best):.1f} "
        f"points below the teacher, so the embeddings lack that information; {advice}."
    )


def _own(numbers: Diagnosis, best: float, tried: Tried) -> str:
    """Return the share of the student itself, where the better probe has accuracy ``best``."""
    kind = "kernel" if numbers.kernel > numbers.linear else "linear"
    more = f"{100 * (best - numbers.student):.1f} points more than the student"
    begin = f"a {kind} probe of the same embeddings scores {more}"
    if numbers.student_train < numbers.linear_train - MIN_CAUSE:
        advice = "use more --qubits" if tried.stalled else "use more --qubits or --epochs"
        return (
            f"Capacity or optimization: {begin}. On its training texts the student reaches "
            f"{100 * numbers.student_train:.1f} %, a linear probe {100 * numbers.linear_train:.1f} %; {advice}."
        )
    return (
        f"Generalization: {begin}, although the student reaches {100 * numbers.student_train:.1f} % on its training "
        "texts; raise --dropout or lower --lr."
    )


def diagnose(
    lesson: Lesson,
    student: np.ndarray,
    student_train: np.ndarray,
    train: np.ndarray,
    shortfall: PairedDifference,
    seeds: Sequence[float] = (),
    tried: Tried = Tried(),
) -> Diagnosis:
    """Return the diagnosis of a student.

    Args:
        lesson: what it learned from.
        student: its logits (N_test,C) on the test texts.
        student_train: its logits on the training texts numbered ``train``; see ``looked_at``.
        train: those numbers.
        shortfall: its accuracy minus the teacher's on the test texts.
        seeds: accuracies of the same student with other seeds.
        tried: remedies that the run has tried.
    """
    x, y = lesson.embeddings, lesson.targets
    test = lesson.test

    def probed(rows: np.ndarray) -> tuple[Probe, float]:
        probe, logits = linear_probe(x[rows], y[rows], x[lesson.valid], y[lesson.valid], x[test])
        return probe, float((logits.argmax(axis=1) == y[test]).mean())

    def right(logits: np.ndarray, rows: np.ndarray) -> float:
        return float((logits.argmax(axis=1) == y[rows]).mean())

    whole = replace(lesson, train=train)
    parts = [train if share == 1 else whole.fewer(max(int(share * len(train)), 2), 0).train for share in SHARES]
    fits = [probed(rows) for rows in parts]
    kernel = kernel_probe(x[train], y[train], x[lesson.valid], y[lesson.valid], x[test])
    numbers = Diagnosis(
        teacher=right(lesson.teacher[test], test),
        student=right(student, test),
        linear=fits[-1][1],
        kernel=float((kernel == y[test]).mean()),
        student_train=right(student_train, train),
        linear_train=fits[-1][0].train_accuracy,
        teacher_train=right(lesson.teacher[train], train),
        texts=tuple(map(len, parts)),
        curve=tuple(accuracy for _, accuracy in fits),
        shortfall=shortfall,
        seeds=tuple(seeds),
    )
    return numbers.model_copy(update={"sentences": sentences(numbers, tried)})


def looked_at(lesson: Lesson) -> np.ndarray:
    """Return the labelled training texts, by number, with which a student is diagnosed."""
    labeled = lesson.train[lesson.targets[lesson.train] != UNLABELED]
    return labeled[:: -(-len(labeled) // TEXTS)]
