"""The causes of a student's shortfall against its teacher, measured: encoder, capacity, data or optimization.

Probes of the embeddings, one linear and one kernel, show how much the embeddings contain. A probe's distance from the
teacher is the encoder's share of the shortfall, the student's distance from the better probe is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from qkd.models.linear_probes import Probe, kernel_probe, linear_probe
from qkd.reports.run import FROZEN_ENCODER, LABELED_ONLY
from qkd.results import Diagnosis, PairedDifference
from qkd.student.data import TrainingData

if TYPE_CHECKING:
    from qkd.pipeline.evaluation import Evaluation
    from qkd.pipeline.training import Trainings

PROBE_TEXTS = 2000
"""Maximum number of training texts for the probes."""
CURVE_SHARES = (0.25, 0.5, 1.0)
"""Fractions of the training texts at the points of the learning curve."""
MIN_CAUSE = 0.01
"""Smallest loss of accuracy that a sentence names a cause for."""


@dataclass(frozen=True)
class Remedies:
    """Remedies that the run itself has tried.

    Attributes:
        unlabeled: The student's accuracy minus that of one without the unlabeled texts.
        tuned: The student's accuracy minus that of one with the encoder before fine-tuning.
        stalled: Whether training stopped because the validation loss no longer improved.
    """

    unlabeled: PairedDifference | None = None
    tuned: PairedDifference | None = None
    stalled: bool = False


def diagnose_run(trainings: Trainings, evaluation: Evaluation) -> Diagnosis:
    """Return the diagnosis of a run's student."""
    data, model, over = trainings.data, evaluation.model, evaluation.difference
    rows = probe_rows(data)
    test_logits, train_logits = (model.logits(data.embeddings[part]) for part in (data.test, rows))
    tried = Remedies(over(LABELED_ONLY), over(FROZEN_ENCODER), trainings.stalled)
    shortfall = evaluation.differences(["teacher"])["teacher"]
    return diagnose(data, test_logits, train_logits, shortfall, trainings.spread, tried)


def sentences(numbers: Diagnosis, tried: Remedies | None = None) -> tuple[str, ...]:
    """Return the causes of a shortfall in words, the largest first; no remedy that ``tried`` names is recommended."""
    tried = tried or Remedies()
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
        lines = ["These test texts do not decide whether the student is worse than its teacher."]
    else:
        lines = ["The student is not worse than its teacher on these test texts."]
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


def _encoder(numbers: Diagnosis, best: float, tried: Remedies) -> str:
    """Return the share of the encoder, whose better probe has accuracy ``best``."""
    advice = "use another --encoder" if tried.tuned else "use another --encoder or --tune-encoder 2"
    return (
        f"Encoder: the best probe of the embeddings scores {100 * best:.1f} %, {100 * (numbers.teacher - best):.1f} "
        f"points below the teacher, so the embeddings lack that information; {advice}."
    )


def _own(numbers: Diagnosis, best: float, tried: Remedies) -> str:
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
    data: TrainingData,
    test_logits: np.ndarray,
    train_logits: np.ndarray,
    shortfall: PairedDifference,
    seeds: Sequence[float] = (),
    tried: Remedies | None = None,
) -> Diagnosis:
    """Return the diagnosis of a student.

    Args:
        data: its training data.
        test_logits: its logits (N_test,C) on the test texts.
        train_logits: its logits on the training texts at ``probe_rows``.
        shortfall: its accuracy minus the teacher's on the test texts.
        seeds: accuracies of the same student with other seeds.
        tried: remedies that the run has tried.
    """
    x, y, test, train = data.embeddings, data.targets, data.test, probe_rows(data)

    def probe(rows: np.ndarray) -> tuple[Probe, float]:
        fitted, logits = linear_probe(x[rows], y[rows], x[data.valid], y[data.valid], x[test])
        return fitted, accuracy(logits, test)

    def accuracy(logits: np.ndarray, rows: np.ndarray) -> float:
        return float((logits.argmax(axis=1) == y[rows]).mean())

    whole = replace(data, train=train)
    parts = [train if share == 1 else whole.subset(max(int(share * len(train)), 2), 0).train for share in CURVE_SHARES]
    fits = [probe(rows) for rows in parts]
    kernel = kernel_probe(x[train], y[train], x[data.valid], y[data.valid], x[test])
    numbers = Diagnosis(
        teacher=accuracy(data.teacher_logits[test], test),
        student=accuracy(test_logits, test),
        linear=fits[-1][1],
        kernel=float((kernel == y[test]).mean()),
        student_train=accuracy(train_logits, train),
        linear_train=fits[-1][0].train_accuracy,
        teacher_train=accuracy(data.teacher_logits[train], train),
        texts=tuple(map(len, parts)),
        curve=tuple(value for _, value in fits),
        shortfall=shortfall,
        seeds=tuple(seeds),
    )
    return numbers.model_copy(update={"sentences": sentences(numbers, tried)})


def probe_rows(data: TrainingData) -> np.ndarray:
    """Return the row numbers of the labeled training texts that the probes use."""
    labeled = data.labeled_train
    return labeled[:: -(-len(labeled) // PROBE_TEXTS)]
