"""What a run is worth: everything that is compared on the test split, in numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.console import progress
from qkd.engines.aer import AerEstimator
from qkd.engines.base import EngineEstimator
from qkd.simulation.setting import Setting
from qkd.sources import Sources
from qkd.student import metrics as numbers
from qkd.student.bundle import Student
from qkd.student.model import StudentModel
from qkd.student.trainer import Trainer
from qkd.version import VERSION
from qkd.workers import spread

TIMED_TEXTS = 64
"""Texts over which milliseconds per text are taken."""
MEASURED_TEXTS = 32
"""Texts that are measured at once."""


def compare(
    sources: Sources, setting: Setting, students: dict[str, StudentModel], controls: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the logits on the test split, (N,C) each, of teacher, students, controls and the commonest class."""
    dataset, test = sources.dataset, sources.splits.test
    embeddings = sources.embeddings[test]
    found = {"teacher": sources.logits[test]}
    for name, model in students.items():
        exact = model.moved(setting.logical, setting.exact).logits(embeddings)
        if setting.measure is setting.exact:
            found[name] = exact
        else:
            found[name] = measured(model.moved(setting.circuit, setting.measure), embeddings, name)
            found[f"{name}, {'ideal device' if setting.noisy else 'no shot noise'}"] = exact
    found |= controls
    found["majority"] = numbers.majority_logits(dataset.targets[sources.splits.train], len(test), len(dataset.classes))
    return found


def measured(model: StudentModel, embeddings: np.ndarray, name: str) -> np.ndarray:
    """Return logits (N,C) of embeddings (N,D) from shots."""
    values = model.values(embeddings)
    starts = range(0, len(values), MEASURED_TEXTS)
    tasks = [(model.engine.estimator, model.circuit, values[i : i + MEASURED_TEXTS], i) for i in starts]
    parts = []
    with progress(f"measuring: {name}", len(values), "texts") as bar:
        # what is not Aer has compiled its program here, and takes the cores it needs
        for evs in spread(_shots, tasks, None if isinstance(model.engine.estimator, AerEstimator) else 1):
            parts.append(evs)
            bar.advance(len(evs))
    return model.logits_of(np.concatenate(parts))


def _shots(estimator: EngineEstimator, student: StudentCircuit, values: np.ndarray, stream: int) -> np.ndarray:
    """Return expectation values (B,K) at parameter values (B,A+P), from a stream of shots of their own."""
    estimator.reseed(stream)
    by_parameter = {tuple(student.parameters): values}
    pub = (student.circuit, [[observable] for observable in student.observables], by_parameter)
    evs: np.ndarray = estimator.run([pub]).result()[0].data.evs
    return evs.T


def gain(sources: Sources, answers: dict[str, np.ndarray], who: str, other: str) -> dict[str, float]:
    """Return by how much one is more accurate than another on the test split, with its paired interval."""
    return numbers.accuracy_gain(answers[who], answers[other], sources.dataset.targets[sources.splits.test])


def table_lines(sources: Sources, model: StudentModel, answers: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Return numbers, size and speed of each line of the final table."""
    dataset, test = sources.dataset, sources.splits.test
    lines: dict[str, dict[str, Any]] = {
        who: {"numbers": numbers.score(rows, dataset.targets[test], None if who == "teacher" else answers["teacher"])}
        for who, rows in answers.items()
    }
    sample = [dataset.texts[i] for i in test[:TIMED_TEXTS]]
    teacher, encoder = sources.teacher, sources.encoder
    lines["teacher"] |= {"ms_per_text": _ms(teacher.answer, sample)}
    if teacher.num_parameters:
        lines["teacher"]["parameters"] = {"classical": teacher.num_parameters, "quantum": 0}
    lines["student"] |= {
        "parameters": model.parameter_counts() | {"encoder": encoder.num_parameters},
        "ms_per_text": _ms(Student(model, encoder).logits, sample),
    }
    return lines


def describe(sources: Sources, setting: Setting, trainer: Trainer, lines: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what ``metrics.json`` says of the parts and of the lines."""
    dataset, splits, circuit, noisy = sources.dataset, sources.splits, setting.logical, setting.noisy
    found: dict[str, Any] = {
        "qkd": VERSION,
        "data": dataset.source,
        "classes": list(dataset.classes),
        "texts": {"train": len(splits.train), "valid": len(splits.valid), "test": len(splits.test)},
        "given_splits": list(dataset.own),
        "dropped": list(dataset.dropped),
        "teacher": sources.teacher.describe(),
        "encoder": {"name": sources.encoder.name, "dim": trainer.student.dim, "tried": list(sources.tried)},
        "student": {
            "circuit": circuit.name,
            "qubits": circuit.num_qubits,
            "inputs": len(circuit.inputs),
            "weights": len(circuit.weights),
            "observables": len(circuit.observables),
            "engine": setting.trainer.describe(),
            "measured": setting.measure.describe(),
        },
        "training": {
            "epochs": trainer.progress.epoch,
            "best_epoch": trainer.progress.best_epoch,
            "best_valid_loss": trainer.progress.best_loss,
        },
        "lines": lines,
    }
    if noisy is not None:
        found["noise"] = {
            "device": noisy.snapshot.name,
            "calibrated": noisy.snapshot.calibration.date,
            "qubits": list(noisy.region.qubits),
        }
    return found


def _ms(answer: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> float:
    """Return milliseconds per text of one call over ``texts``, after one warm-up text."""
    answer(texts[:1])
    started = time.perf_counter()
    answer(texts)
    return 1000 * (time.perf_counter() - started) / len(texts)
