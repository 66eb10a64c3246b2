"""Numbers of a comparison's report: a row for each student, and a difference with its verdict for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qkd.core.version import VERSION
from qkd.experiments.candidates import Candidate
from qkd.experiments.compare import Trials
from qkd.pipeline.evaluation import TIMED_TEXTS, ms_per_text
from qkd.results import Comparison, Estimate, Scores, StudentResult
from qkd.results.study import CurvePoint, Verdict
from qkd.student.data import TrainingData
from qkd.student.metrics import calibration_error, macro_f1, softmax
from qkd.student.verdicts import compare_accuracies, conclude, mean_over_seeds_and_texts

RELIABILITY_BINS = 10
"""Number of bins of a reliability curve."""
RESAMPLES = 300
"""Number of draws of seeds and texts for the interval of a number that is not a mean."""


def summarize(trials: Trials, command: str) -> Comparison:
    """Return the content of a comparison's report."""
    data, most = trials.inputs.data, trials.counts[-1]
    targets = data.targets[data.test]
    right = {student.name: hits(trials, student, most, targets) for student in trials.students}
    timed = trials.inputs.test_texts[:TIMED_TEXTS]
    milliseconds = {id(encoder): ms_per_text(encoder.encode, timed) for encoder in trials.encoders.values()}
    teacher = _interval((data.teacher_logits[data.test].argmax(axis=1) == targets)[None].astype(float))
    return Comparison(
        qkd=VERSION,
        data=trials.inputs.dataset.source,
        classes=data.classes,
        texts={"train": most, "valid": len(data.valid), "test": len(data.test)},
        teacher=trials.inputs.teacher.name,
        teacher_accuracy=teacher,
        encoder=trials.inputs.encoder.name,
        seeds=max(len(rows) for rows in right.values()),
        students={
            student.name: _line(trials, student, data, milliseconds[id(trials.encoders[student.name])])
            for student in trials.students
        },
        **dict(verdict_on(trials.students, right)),
        curves=_curves(trials, targets),
        shot_curves=_condition_curves(trials, targets, "shots"),
        noise_curves=_condition_curves(trials, targets, "noise"),
        sims=trials.sims,
        tuned=trials.tuning,
        seconds={stage: round(value, 1) for stage, value in trials.seconds.items()},
        command=command,
    )


def verdict_on(students: Sequence[Candidate], right: dict[str, np.ndarray]) -> Verdict:
    """Return the verdict on the first of some students.

    Args:
        students: the first, which sets the margin of equivalence, is compared with all others.
        right: correct test texts of each seed of each student by name, (S,N_test) or (1,N_test).
    """
    first = students[0]
    others = {name: rows for name, rows in right.items() if name != first.name}
    differences = compare_accuracies(first.name, right[first.name], others, first.config.student.margin / 100)
    conclusion = f"{first.name} has no circuit: this comparison says nothing about one."
    if first.is_quantum:
        classical = {student.name for student in students if not student.is_quantum}
        conclusion = conclude(first.name, {name: one for name, one in differences.items() if name in classical})
    return Verdict(reference=first.name, differences=differences, conclusion=conclusion)


def _logits(trials: Trials, student: Candidate, texts: int) -> np.ndarray:
    """Return a student's logits (S,N_test,C); the logistic regression has no seed, so its S is 1."""
    return np.array([row.logits for row in trials.seeds(student, texts)])


def hits(trials: Trials, student: Candidate, texts: int, targets: np.ndarray) -> np.ndarray:
    """Return 1 for each correct test text of each seed and 0 for the others, (S,N_test)."""
    return (_logits(trials, student, texts).argmax(axis=2) == targets).astype(float)


def _line(trials: Trials, student: Candidate, data: TrainingData, encoder_ms: float) -> StudentResult:
    """Return a student's scores, sizes and times; ``encoder_ms`` is the encoder's time per text."""
    most = trials.counts[-1]
    logits, rows = _logits(trials, student, most), trials.seeds(student, most)
    targets, teacher = data.targets[data.test], data.teacher_logits[data.test].argmax(axis=1)
    predicted, probabilities = logits.argmax(axis=2), np.stack([softmax(rows) for rows in logits])
    classes = len(data.classes)

    def f1(seed: int, texts: np.ndarray) -> float:
        return float(macro_f1(predicted[seed, texts], targets[texts], classes))

    def ece(seed: int, texts: np.ndarray) -> float:
        return float(calibration_error(probabilities[seed, texts], targets[texts]))

    right = (predicted == targets).astype(float)
    accuracy = drop = None
    if rows[0].measured is not None:
        noisy = (np.array([row.measured for row in rows]).argmax(axis=2) == targets).astype(float)
        accuracy, drop = _interval(noisy), mean_over_seeds_and_texts(right - noisy).interval()
    encoder = trials.encoders[student.name]
    return StudentResult(
        numbers=Scores(
            accuracy=_interval(right),
            macro_f1=_resampled(f1, predicted.shape),
            agreement=_interval((predicted == teacher).astype(float)),
            calibration_error=_resampled(ece, predicted.shape),
        ),
        measured_accuracy=accuracy,
        measured_drop=drop,
        reliability=_reliability(probabilities, targets),
        parameters=rows[0].parameters.model_copy(update={"encoder": encoder.num_parameters}),
        seconds=float(np.mean([row.seconds for row in rows])),
        epochs=float(np.mean([row.epochs for row in rows])),
        ms_per_text=float(np.median([row.ms_per_text for row in rows])) + encoder_ms,
        trials=len(rows),
        encoder=encoder.name,
    )


def _resampled(statistic: Callable[[int, np.ndarray], float], shape: tuple[int, ...]) -> Estimate:
    """Return a statistic's mean over seeds with the interval over draws of seeds and texts."""
    seeds, texts = shape
    rng = np.random.default_rng(0)
    value = float(np.mean([statistic(seed, np.arange(texts)) for seed in range(seeds)]))
    drawn = [statistic(int(rng.integers(seeds)), rng.integers(0, texts, texts)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)))


def _reliability(probabilities: np.ndarray, targets: np.ndarray) -> tuple[tuple[float, float, int], ...]:
    """Return (mean confidence, accuracy, texts) of each bin of confidence, over all seeds."""
    confidence = probabilities.max(axis=2).ravel()
    hit = (probabilities.argmax(axis=2) == targets).ravel()
    index = np.clip((confidence * RELIABILITY_BINS).astype(int), 0, RELIABILITY_BINS - 1)
    return tuple(
        (float(confidence[index == b].mean()), float(hit[index == b].mean()), int((index == b).sum()))
        for b in range(RELIABILITY_BINS)
        if (index == b).any()
    )


def _curves(trials: Trials, targets: np.ndarray) -> dict[str, tuple[CurvePoint, ...]]:
    """Return each student's accuracy against the number of training texts."""
    return {
        student.name: tuple(
            CurvePoint(texts=texts, **dict(_interval(hits(trials, student, texts, targets)))) for texts in trials.counts
        )
        for student in trials.students
    }


def _condition_curves(trials: Trials, targets: np.ndarray, axis: str) -> dict[str, tuple[CurvePoint, ...]]:
    """Return the accuracy of each circuit against numbers of shots, or factors of noise."""
    curves = {}
    for student in trials.students:
        rows = [row.curves.get(axis, {}) for row in trials.seeds(student, trials.counts[-1])]
        if rows and rows[0]:
            points = []
            for at in sorted(rows[0], key=float):
                right = (np.array([row[at] for row in rows]) == targets).astype(float)
                share = _interval(right)
                points.append(CurvePoint.model_validate({axis: float(at), **dict(share)}))
            curves[student.name] = tuple(points)
    return curves


def _interval(rows: np.ndarray) -> Estimate:
    """Return a share with its interval, from values (S,N) in [0, 1]."""
    return mean_over_seeds_and_texts(rows).interval(0, 1)
