"""Why a student falls short of its teacher, measured: encoder, capacity, data or optimisation.

Probes see what the student sees, embeddings and labels: a linear one, and a kernel one that is not bound to any shape.
What they lack of the teacher is not in the embeddings; what the student lacks of them is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qkd.models.linear_probes import Probe, kernel_probe, linear_probe
from qkd.results import Diagnosis
from qkd.student.lesson import Lesson
from qkd.student.losses import UNLABELED
from qkd.student.metrics import accuracy_gain

TEXTS = 2000
"""Training texts that are looked at."""
SHARES = (0.25, 0.5, 1.0)
"""Of the training texts, with which the learning curve is drawn."""
WORTH = 0.01
"""A cause is named from this much accuracy on."""


def sentences(numbers: Diagnosis) -> tuple[str, ...]:
    """Return what the numbers say, the largest cause first; nothing to mend is one sentence."""
    points = "{:.1f} points".format
    if numbers.shortfall.high >= 0:
        lines = ["No shortfall against the teacher can be seen on these test texts."]
    else:
        best = max(numbers.linear, numbers.kernel)
        causes = [(numbers.teacher - best, _encoder(numbers, best)), (best - numbers.student, _own(numbers, best))]
        lines = [text for size, text in sorted(causes, key=lambda cause: -cause[0]) if size >= WORTH]
        lines = lines or ["The shortfall is spread thinly: no single cause is worth a point."]
    if numbers.doubling >= WORTH:
        lines.append(
            f"Data: from {numbers.texts[-2]:,} to {numbers.texts[-1]:,} training texts a linear probe gains "
            f"{points(100 * numbers.doubling)}; more texts, labelled or not (--unlabeled), should help."
        )
    if len(numbers.seeds) > 1:
        deviation = 100 * float(np.std(numbers.seeds, ddof=1))
        lines.append(f"Optimisation: {len(numbers.seeds)} seeds lie {points(deviation)} (standard deviation) apart.")
    return tuple(lines)


def _encoder(numbers: Diagnosis, best: float) -> str:
    """Return what is missing in the embeddings, of which the better probe has accuracy ``best``."""
    return (
        f"Encoder: the best probe of the embeddings scores {100 * best:.1f} %, "
        f"{100 * (numbers.teacher - best):.1f} points below the teacher, so what is "
        "missing is not in them; take another --encoder or --tune-encoder 2."
    )


def _own(numbers: Diagnosis, best: float) -> str:
    """Return what the student makes too little of, where the better probe has accuracy ``best``."""
    kind = "kernel" if numbers.kernel > numbers.linear else "linear"
    more = f"{100 * (best - numbers.student):.1f} points more than the student"
    begin = f"a {kind} probe of the same embeddings scores {more}"
    if numbers.student_train < numbers.linear_train - WORTH:
        return (
            f"Capacity or optimisation: {begin}, and on its training texts the student reaches "
            f"{100 * numbers.student_train:.1f} % where a linear probe reaches {100 * numbers.linear_train:.1f} %; "
            "give it more --qubits or --epochs."
        )
    return (
        f"Generalisation: {begin}, although the student reaches {100 * numbers.student_train:.1f} % on its training "
        "texts; raise --dropout or lower --lr."
    )


def diagnose(
    lesson: Lesson, student: np.ndarray, student_train: np.ndarray, train: np.ndarray, seeds: Sequence[float] = ()
) -> Diagnosis:
    """Return the diagnosis of a student.

    Args:
        lesson: what it learned from.
        student: its logits (N_test,C) on the test texts.
        student_train: its logits on the training texts numbered ``train``; see ``looked_at``.
        train: those numbers.
        seeds: accuracies of the same student with other seeds.
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
        shortfall=accuracy_gain(student, lesson.teacher[test], y[test]),
        seeds=tuple(seeds),
    )
    return numbers.model_copy(update={"sentences": sentences(numbers)})


def looked_at(lesson: Lesson) -> np.ndarray:
    """Return the labelled training texts, by number, with which a student is diagnosed."""
    labeled = lesson.train[lesson.targets[lesson.train] != UNLABELED]
    return labeled[:: -(-len(labeled) // TEXTS)]
