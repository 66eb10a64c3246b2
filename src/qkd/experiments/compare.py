"""All trials of a comparison: inputs once, students in parallel processes, and every finished trial in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qkd.core import cache
from qkd.core.config import Config
from qkd.core.console import log
from qkd.core.errors import QkdError
from qkd.core.files import write_json
from qkd.core.records import read_record
from qkd.core.runs import RunFolder
from qkd.core.workers import parallel_map
from qkd.encoders.protocol import Encoder, embed_texts
from qkd.experiments.candidates import Candidate
from qkd.experiments.conditions import EXACT, Conditions, check_conditions, make_conditions
from qkd.experiments.specs import CompareSpec
from qkd.experiments.trial import REMEDY, run_missing, run_repetitions, run_trial, tune_students
from qkd.pipeline.inputs import Clock, Inputs, choose_encoder, prepare_inputs
from qkd.results.study import TrialResult, TuningResult
from qkd.simulation.diagnostics import check_saved
from qkd.student.data import TrainingData
from qkd.teachers.labeling import load_corpus


@dataclass(frozen=True)
class Task:
    """One trial: a student, a seed and a number of training texts."""

    student: Candidate
    seed: int
    texts: int


@dataclass(frozen=True)
class Trials:
    """All finished trials of a comparison.

    Attributes:
        inputs: Texts, teacher and encoder.
        students: The students; the others are compared with the first.
        counts: Numbers of training texts, ascending.
        results: Logits and times of each trial, by student's name, number of texts and seed.
        encoders: The encoder of each student, by name.
        seconds: Wall seconds by stage.
        sims: The simulator that circuits are trained for and judged by, and a second one that measures them.
        tuning: The settings that the validation texts chose, by student's name.
    """

    inputs: Inputs
    students: tuple[Candidate, ...]
    counts: tuple[int, ...]
    results: dict[tuple[str, int, int], TrialResult]
    encoders: dict[str, Encoder]
    seconds: dict[str, float]
    sims: tuple[str, ...]
    tuning: dict[str, TuningResult]

    def seeds(self, student: Candidate, texts: int) -> list[TrialResult]:
        """Return a student's trials with so many training texts, one for each seed."""
        return [row for (name, count, _), row in sorted(self.results.items()) if (name, count) == (student.name, texts)]


def run_trials(config: Config, students: Sequence[Candidate], spec: CompareSpec, folder: RunFolder) -> Trials:
    """Run every trial that ``folder`` does not have yet.

    Args:
        folder: the folder of the trials; the caller holds its lock.
    """
    check_conditions(spec)
    clock = Clock()
    with clock.stage("data"):
        corpus = load_corpus(config)  # refuses unsuitable texts before the search for a start
    for student in students:
        if student.is_quantum:
            check_saved(student.circuit())
    conditions = {
        student.name: make_conditions(config, spec, student.circuit(), student.name)
        for student in students
        if student.is_quantum
    }
    inputs = prepare_inputs(config, folder, False, clock, corpus)
    return run_with_inputs(inputs, config, students, spec, folder, conditions, clock)


def run_with_inputs(
    inputs: Inputs,
    config: Config,
    students: Sequence[Candidate],
    spec: CompareSpec,
    folder: RunFolder,
    conditions: Mapping[str, Conditions],
    clock: Clock,
) -> Trials:
    """Run every trial that ``folder`` does not have yet, with given texts, teacher and encoder.

    Args:
        config: see ``run_trials``.
        spec: seeds, numbers of texts and of settings to try.
        conditions: the simulators of each circuit by its student's name; exact values for the others.
    """
    data, encoders = candidate_data(inputs, students, config)
    prints = {name: _fingerprint(one) for name, one in data.items()}
    available = len(inputs.data.train)
    counts = tuple(sorted({available if n == "all" else min(n, available) for n in spec.train_texts}))
    tuning: dict[str, TuningResult] = {}
    if spec.tune > 1:
        with clock.stage("tuning"):
            students, tuning = tune_students(students, data, prints, spec.tune, folder.path / "tuning")
    tasks = list(_tasks([student for student in students if not student.carried], counts, spec.seeds))
    with clock.stage("trials"):
        results = _results(tasks, data, prints, conditions, folder.path / "trials")
        for student in students:
            if student.carried:
                carried = _repetitions(student, data[student.name], prints[student.name], spec.seeds, folder)
                results |= {(student.name, counts[-1], number): result for number, result in enumerate(carried)}
    return Trials(inputs, tuple(students), counts, results, encoders, clock.seconds, spec.sims, tuning)


def _tasks(students: Sequence[Candidate], counts: Sequence[int], seeds: int) -> Iterator[Task]:
    """Yield the trials, all students of one seed before the next, so the trials of a killed comparison are balanced."""
    for seed in range(seeds):
        for count in reversed(counts):
            for student in students:
                # with all texts, a logistic regression does not depend on the seed
                if seed == 0 or not student.is_logreg or count < counts[-1]:
                    yield Task(student, seed, count)


def candidate_data(
    inputs: Inputs, students: Sequence[Candidate], config: Config
) -> tuple[dict[str, TrainingData], dict[str, Encoder]]:
    """Return the training data of each student and its encoder, by its name."""
    data, encoders = {}, {}
    embedded: dict[tuple[str, bool], tuple[np.ndarray, Encoder]] = {}
    texts = inputs.dataset.texts
    for student in students:
        data[student.name], encoders[student.name] = inputs.data, inputs.encoder
        if student.encoder is None:
            continue
        if inputs.corpus.unlabeled:
            raise QkdError(f"--students {student.name}: another encoder cannot be compared with --unlabeled texts")
        key = student.encoder, student.tune > 0
        if key not in embedded:
            encoder, _ = choose_encoder(student.encoder, config, inputs.corpus, student.tune > 0)
            embedded[key] = embed_texts(encoder, list(texts)), encoder
        embeddings, encoder = embedded[key]
        encoders[student.name] = encoder
        own = replace(inputs.data, embeddings=embeddings)
        data[student.name] = replace(own, encoder=encoder, texts=tuple(texts)) if student.tune else own
    return data, encoders


def _results(
    tasks: Sequence[Task],
    data: Mapping[str, TrainingData],
    prints: Mapping[str, str],
    conditions: Mapping[str, Conditions],
    folder: Path,
) -> dict[tuple[str, int, int], TrialResult]:
    """Return each task's result by student, number of texts and seed, after running those that ``folder`` lacks."""
    most = max((task.texts for task in tasks), default=0)

    def conditions_of(task: Task) -> Conditions | None:
        whole = conditions.get(task.student.name)
        return whole if whole is None or task.texts == most else whole.first()

    def path_of(task: Task) -> Path:
        own = conditions_of(task)
        key = {
            "student": task.student.key(),
            "data": prints[task.student.name],
            "seed": task.seed,
            "texts": task.texts,
            "measured": None if own is None else own.key(),
        }
        return folder / f"{cache.digest(key)[:24]}.json"

    subsets: dict[tuple[int, int, int], TrainingData] = {}  # one object for all students with the same data

    def arguments(number: int) -> tuple[Any, ...]:
        task = tasks[number]
        whole = data[task.student.name]
        subset = subsets.setdefault((id(whole), task.texts, task.seed), whole.subset(task.texts, task.seed))
        return task.student, subset, task.seed, conditions_of(task) or EXACT

    paths = [path_of(task) for task in tasks]
    names = [f"{task.student.name}, seed {task.seed}, {task.texts:,} texts" for task in tasks]
    run_missing("students", paths, run_trial, arguments, names)
    keys = [(task.student.name, task.texts, task.seed) for task in tasks]
    return {key: read_record(path, TrialResult, REMEDY) for key, path in zip(keys, paths, strict=True)}


def _repetitions(
    student: Candidate, data: TrainingData, fingerprint: str, count: int, folder: RunFolder
) -> list[TrialResult]:
    """Return the repetitions of a student that continues with its model, from ``folder`` if it has them."""
    key = {"student": student.key(), "data": fingerprint, "repetitions": count}
    path = folder.path / "trials" / f"{cache.digest(key)[:24]}.json"
    if not path.is_file():
        log.info(f"{student.name}: {count} repetitions of one model")
        answers = next(iter(parallel_map(run_repetitions, [(student, data, count)])))
        write_json(path, [answer.to_dict() for answer in answers])
    return read_record(path, list[TrialResult], REMEDY)


def _fingerprint(data: TrainingData) -> str:
    """Return a hash of the arrays."""
    digest = hashlib.sha256(json.dumps(data.classes).encode())
    for array in (data.embeddings, data.teacher_logits, data.targets, data.train, data.valid, data.test):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
