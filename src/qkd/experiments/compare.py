"""All trials of a comparison: teacher and embeddings once, students in parallel processes, what is done is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qkd.core import cache
from qkd.core.config import Config
from qkd.core.console import progress, say
from qkd.core.errors import QkdError
from qkd.core.files import write_json
from qkd.core.records import read_record
from qkd.core.runs import RunFolder
from qkd.core.workers import parallel_map
from qkd.encoders.protocol import Encoder, embed_texts
from qkd.experiments.candidates import Candidate
from qkd.experiments.conditions import EXACT, Conditions, check_conditions, conditions_of
from qkd.experiments.specs import CompareSpec
from qkd.experiments.trial import repetitions, run_trial
from qkd.experiments.tuning import tune_students
from qkd.pipeline.sources import Clock, Sources, choose_encoder, gather_sources
from qkd.results.study import TrialResult, TuningResult
from qkd.student.lesson import Lesson

MEND = "delete it and it is done again"
"""What to do about a damaged trial."""


@dataclass(frozen=True)
class Task:
    """One trial that is to be done: a student, a seed, and how many training texts it sees."""

    candidate: Candidate
    seed: int
    texts: int


@dataclass(frozen=True)
class Trials:
    """All trials of a comparison, done.

    sources: texts, teacher, encoder.
    students: who took part; the others are judged against the first.
    counts: numbers of training texts, ascending.
    results: what each trial answered, by student's name, number of texts and seed.
    encoders: of each student by name.
    seconds: wall seconds by stage.
    sims: the first is what circuits were trained for and are judged by, a second what they were measured with besides.
    tries: what tuning chose, by student's name.
    """

    sources: Sources
    students: tuple[Candidate, ...]
    counts: tuple[int, ...]
    results: dict[tuple[str, int, int], TrialResult]
    encoders: dict[str, Encoder]
    seconds: dict[str, float]
    sims: tuple[str, ...]
    tries: dict[str, TuningResult]

    def seeds(self, student: Candidate, texts: int) -> list[TrialResult]:
        """Return a student's trials on so many texts, one for each seed."""
        return [row for (name, count, _), row in sorted(self.results.items()) if (name, count) == (student.name, texts)]


def run_trials(config: Config, students: Sequence[Candidate], spec: CompareSpec, folder: RunFolder) -> Trials:
    """Do every trial that ``folder`` does not hold yet.

    Args:
        config: texts, teacher, encoder, simulator and device.
        students: who is compared.
        spec: on how many seeds and texts, measured with what.
        folder: where trials are kept; the caller holds its lock.

    Raises:
        QkdError: something in configuration, data, teacher or students does not fit.
        KeyboardInterrupt: it was interrupted; trials that were done are kept.
    """
    check_conditions(spec)
    conditions = {
        student.name: conditions_of(config, spec, student.circuit(), student.name)
        for student in students
        if student.is_quantum
    }
    clock = Clock()
    sources = gather_sources(config, folder, False, clock)
    return trained(sources, config, students, spec, folder, conditions, clock)


def trained(
    sources: Sources,
    config: Config,
    students: Sequence[Candidate],
    spec: CompareSpec,
    folder: RunFolder,
    conditions: Mapping[str, Conditions],
    clock: Clock,
) -> Trials:
    """Do every trial that ``folder`` does not hold yet, with texts, teacher and encoder that are there.

    Args:
        sources: texts, teacher, encoder.
        config: see ``run_trials``.
        students: who is compared.
        spec: on how many seeds and texts; how many settings each may try.
        folder: where trials are kept.
        conditions: what each circuit is asked, by its student's name; exact values where nothing is said.
        clock: of the stages.
    """
    lessons, encoders = lessons_of(sources, students, config)
    prints = {name: _fingerprint(lesson) for name, lesson in lessons.items()}
    everything = len(sources.lesson().train)
    counts = tuple(sorted({everything if n == "all" else min(n, everything) for n in spec.train_texts}))
    tries: dict[str, TuningResult] = {}
    if spec.tune > 1:
        with clock.stage("tuning"):
            students, tries = tune_students(students, lessons, prints, spec.tune, folder.path / "tuning")
    tasks = list(_tasks([student for student in students if not student.carried], counts, spec.seeds))
    results: dict[tuple[str, int, int], TrialResult] = {}
    with clock.stage("trials"):
        for task, result in _done(tasks, lessons, prints, conditions, folder.path / "trials"):
            results[task.candidate.name, task.texts, task.seed] = result
        for student in students:
            if student.carried:
                carried = _carried(student, lessons[student.name], prints[student.name], spec.seeds, folder)
                for number, result in enumerate(carried):
                    results[student.name, counts[-1], number] = result
    sims = spec.sims
    return Trials(sources, tuple(students), counts, results, encoders, clock.seconds, sims, tries)


def _tasks(students: Sequence[Candidate], counts: Sequence[int], seeds: int) -> Iterator[Task]:
    """Yield the trials, all students of one seed before the next, so that what a killed comparison has is balanced."""
    for seed in range(seeds):
        for count in reversed(counts):
            for student in students:
                if seed == 0 or not student.is_logreg or count < counts[-1]:  # fewer texts are drawn by the seed
                    yield Task(student, seed, count)


def lessons_of(
    sources: Sources, students: Sequence[Candidate], config: Config
) -> tuple[dict[str, Lesson], dict[str, Encoder]]:
    """Return what each student learns from, and by what encoder, by its name."""
    common, texts = sources.lesson(), sources.dataset.texts
    lessons, encoders = {}, {}
    by_encoder: dict[tuple[str, bool], tuple[Lesson, Encoder]] = {}
    for student in students:
        lessons[student.name], encoders[student.name] = common, sources.encoder
        if student.encoder is not None:
            if sources.unlabeled:
                raise QkdError(f"--students {student.name}: another encoder cannot be compared with --unlabeled texts")
            reader = student.encoder, student.tune > 0
            if reader not in by_encoder:
                encoder, _ = choose_encoder(student.encoder, config, sources.dataset, sources.splits, student.tune > 0)
                by_encoder[reader] = replace(common, embeddings=embed_texts(encoder, list(texts))), encoder
            lesson, encoders[student.name] = by_encoder[reader]
            if student.tune:
                lesson = replace(lesson, encoder=encoders[student.name], texts=tuple(texts))
            lessons[student.name] = lesson
    return lessons, encoders


def _done(
    tasks: Sequence[Task],
    lessons: Mapping[str, Lesson],
    prints: Mapping[str, str],
    conditions: Mapping[str, Conditions],
    folder: Path,
) -> Iterator[tuple[Task, TrialResult]]:
    """Yield each task with its result: those kept in ``folder`` first, the others as they are done."""
    missing: list[tuple[Task, Path]] = []
    most = max((task.texts for task in tasks), default=0)

    def conditions_of_task(task: Task) -> Conditions | None:
        whole = conditions.get(task.candidate.name)
        return whole if whole is None or task.texts == most else whole.first()

    for task in tasks:
        student, answered_under = task.candidate, conditions_of_task(task)
        key = {
            "student": student.key(),
            "lesson": prints[student.name],
            "seed": task.seed,
            "texts": task.texts,
            "measured": None if answered_under is None else answered_under.key(),
        }
        path = folder / f"{cache.digest(key)[:24]}.json"
        if path.is_file():
            yield task, read_record(path, TrialResult, MEND)
        else:
            missing.append((task, path))
    if len(missing) < len(tasks):
        say(f"{len(tasks) - len(missing)} of {len(tasks)} trials are there already")
    subsets: dict[tuple[str, int, int], Lesson] = {}
    arguments = []
    for task, _ in missing:
        student = task.candidate
        whole = lessons[student.name]
        where = (str(id(whole)), task.texts, task.seed)
        subset = subsets.setdefault(where, whole.fewer(task.texts, task.seed))
        arguments.append((student, subset, task.seed, conditions_of_task(task) or EXACT))
    with progress("students", len(missing), "trials") as bar:
        for (task, path), result in zip(missing, parallel_map(run_trial, arguments), strict=True):
            write_json(path, result.to_dict())
            bar.advance(1, f"{task.candidate.name}, seed {task.seed}, {task.texts:,} texts")
            yield task, result


def _carried(student: Candidate, lesson: Lesson, fingerprint: str, count: int, folder: RunFolder) -> list[TrialResult]:
    """Return the repetitions of a student that goes on with its model, from ``folder`` where it has them."""
    key = {"student": student.key(), "lesson": fingerprint, "repetitions": count}
    path = folder.path / "trials" / f"{cache.digest(key)[:24]}.json"
    if not path.is_file():
        say(f"{student.name}: {count} repetitions of one model")
        answers = next(iter(parallel_map(repetitions, [(student, lesson, count)])))
        write_json(path, [answer.to_dict() for answer in answers])
    return read_record(path, list[TrialResult], MEND)


def _fingerprint(lesson: Lesson) -> str:
    """Return a hash of what a lesson holds."""
    import hashlib

    digest = hashlib.sha256(json.dumps(lesson.classes).encode())
    for array in (lesson.embeddings, lesson.teacher, lesson.targets, lesson.train, lesson.valid, lesson.test):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
