"""The same budget for everybody: each student tries as many settings of its own training, validation texts choose.

A comparison in which one student was tuned and the others were not says who was tuned. Here all draw the same numbers:
a factor of their own learning rate, a weight decay, a dropout. Random search needs no study and no order (Bergstra and
Bengio, JMLR 13:281, 2012); the first try is what the student has anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qkd.core import cache
from qkd.core.config import Config
from qkd.core.console import progress
from qkd.core.errors import QkdError
from qkd.core.files import write_json
from qkd.core.records import read_record
from qkd.core.workers import parallel_map
from qkd.experiments.candidates import Candidate
from qkd.experiments.trial import run_validation
from qkd.pipeline.settings import Overrides, merged
from qkd.results.study import TuningResult, ValidationResult
from qkd.student.lesson import Lesson

FACTOR = 10.0
"""The learning rate is tried from its own value divided by this to its own value times this."""
DECAY = (0.001, 1.0)
DROPOUT = (0.0, 0.7)
"""Ends of what is drawn, weight decay on a logarithmic scale."""


def tuning_candidates(student: Candidate, count: int) -> list[Candidate]:
    """Return a student with ``count`` settings of its training, the first its own; the draws are alike for all."""
    rng = np.random.default_rng(0)
    versions = [student]
    while len(versions) < count:
        factor = float(FACTOR ** rng.uniform(-1, 1))
        decay = float(np.exp(rng.uniform(*np.log(DECAY))))
        dropout = float(rng.uniform(*DROPOUT))
        values: Overrides = {
            ("train", "lr"): float(f"{student.config.train.lr * factor:.3g}"),
            ("train", "weight_decay"): float(f"{decay:.3g}"),
            ("student", "dropout"): float(f"{dropout:.3g}"),
        }
        versions.append(replace(student, config=merged(student.config, values)))
    return versions


def tune_students(
    students: Sequence[Candidate],
    lessons: Mapping[str, Lesson],
    fingerprints: Mapping[str, str],
    count: int,
    folder: Path,
) -> tuple[list[Candidate], dict[str, TuningResult]]:
    """Return the students with the settings that validation texts chose, and what was chosen, by name.

    Args:
        students: the logistic regression chooses its regularisation itself, and those whose settings are the point
            (``fixed``, ``carried``) keep them.
        lessons: what each learns from, by name.
        fingerprints: of the lessons.
        count: settings of each student.
        folder: where tries are kept.
    """
    tries = [
        (student, candidate)
        for student in students
        if not (student.is_logreg or student.fixed or student.carried)
        for candidate in tuning_candidates(student, count)
    ]
    paths = [
        folder / f"{cache.digest({'tried': candidate.key(), 'lesson': fingerprints[student.name]})[:24]}.json"
        for student, candidate in tries
    ]
    missing = [(number, path) for number, path in enumerate(paths) if not path.is_file()]
    tasks = [(tries[number][1], lessons[tries[number][0].name], 0) for number, _ in missing]
    with progress("tuning", len(missing), "tries") as bar:
        for (number, path), tried in zip(missing, parallel_map(_tried, tasks), strict=True):
            write_json(path, tried.to_dict())
            bar.advance(1, tries[number][0].name)
    results: dict[str, list[tuple[float, int, Candidate]]] = {}
    for number, ((student, candidate), path) in enumerate(zip(tries, paths, strict=True)):
        loss = read_record(path, ValidationResult, "delete it and it is done again").valid_loss
        results.setdefault(student.name, []).append((np.inf if loss is None else loss, number, candidate))
    best = {name: min(rows)[2] for name, rows in results.items()}
    return [best.get(student.name, student) for student in students], {
        name: TuningResult(trials=count, settings=_settings(student.config)) for name, student in best.items()
    }


def _tried(student: Candidate, lesson: Lesson, seed: int) -> ValidationResult:
    """Return what validation texts say of a student; no loss where it could not be trained."""
    try:
        return run_validation(student, lesson, seed)
    except QkdError as error:
        return ValidationResult(valid_loss=None, error=str(error))


def _settings(config: Config) -> dict[str, float]:
    return {"lr": config.train.lr, "weight-decay": config.train.weight_decay, "dropout": config.student.dropout}
