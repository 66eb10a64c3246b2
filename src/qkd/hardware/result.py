"""What a device's expectation values say: predictions with their errors, beside exact and simulated ones."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core import records as records_of
from qkd.core.config import EngineSpec
from qkd.core.files import Row, read_json
from qkd.devices.region import to_region
from qkd.hardware import affine
from qkd.hardware.gathered import Gathered, Mitigated, gather, mitigate
from qkd.hardware.ledger import JobRecord
from qkd.hardware.mitigation import pub
from qkd.hardware.plan import Plan
from qkd.results import DeviceResult, LearnedResult, MeasuredResult, MeasuredText
from qkd.results.device import DeviceScores, Jobs, Lost
from qkd.simulation.noise import device_noise
from qkd.simulation.simulators import Engine, make_engine
from qkd.student.bundle import Student
from qkd.student.metrics import Z95, bootstrap, proportion

NOISY = EngineSpec(precision="double")


def expected(engine: Engine, student: StudentCircuit, values: np.ndarray) -> np.ndarray:
    """Return an engine's expectation values (N,K) at parameter values (N,A+P)."""
    evs: np.ndarray = engine.estimator.run([pub(student, values)]).result()[0].data.evs
    return evs.T


def interpret(plan: Plan, student: Student, records: list[JobRecord]) -> DeviceResult:
    """Return what a plan's results say: a ``MeasuredResult`` where there are texts with values.

    A prediction is too close to call where the first class's logit exceeds the second's by less than 1.96 standard
    errors of that difference, which is linear in the expectation values.
    """
    gathered = gather(plan, records)
    common = dict(of_jobs(plan, records)) | {
        "mitigation": asdict(plan.mitigation),
        "executions": plan.budget.executions,
        "texts": int(gathered.there[: len(plan.texts)].sum()),
        "asked": len(plan.texts),
        "failed": tuple(gathered.failed.tolist()),
    }
    if not common["texts"]:
        return DeviceResult(**common)
    model = student.model
    mitigated, every, predicted = say_of(plan, student, gathered)
    texts, evs, stds = mitigated.rows, mitigated.evs, mitigated.stds
    exact, noisy = every[texts], predicted[texts]
    weights = model.head.weight.detach().cpu().numpy()
    logits = {who: model.logits_of(rows) for who, rows in (("measured", evs), ("noisy", noisy), ("exact", exact))}
    margin, error = margins(logits["measured"], stds, weights)
    close = ~(margin > Z95 * error)  # an unknown error is never clear
    rows = [plan.texts[i] for i in texts]
    labels = [row["label"] for row in rows]
    known = all(label is not None for label in labels)
    targets = np.array([model.classes.index(label) for label in labels]) if known else None
    off = np.abs(evs - exact).mean(axis=1)
    return MeasuredResult(
        **common,
        classes=tuple(model.classes),
        error=bootstrap(lambda chosen: float(off[chosen].mean()), len(off)),
        error_noisy=float(np.abs(noisy - exact).mean()),
        stderr=float(np.mean(stds[np.isfinite(stds)])) if np.isfinite(stds).any() else None,
        rms=float(np.sqrt(((evs - exact) ** 2).mean())),
        covered=proportion((np.abs(evs - exact) < Z95 * stds).ravel()).value,
        bias=float(np.sqrt((mitigated.bias**2).mean())),
        too_close=int(close.sum()),
        lines={who: _line(values, targets, logits["exact"], rows) for who, values in logits.items()},
        rows=tuple(
            MeasuredText(
                **row,
                evs=tuple(evs[i].tolist()),
                stds=tuple(std if np.isfinite(std) else None for std in stds[i].tolist()),
                exact=tuple(exact[i].tolist()),
                noisy=tuple(noisy[i].tolist()),
                logits=tuple(logits["measured"][i].tolist()),
                prediction=model.classes[logits["measured"][i].argmax()],
                margin=float(margin[i]),
                margin_error=float(error[i]) if np.isfinite(error[i]) else None,
                too_close=bool(close[i]),
            )
            for i, row in enumerate(rows)
        ),
    )


def of_jobs(plan: Plan, records: list[JobRecord]) -> DeviceResult:
    """Return what is known of any plan's result: of the plan, and of its jobs."""
    return DeviceResult(
        plan=plan.name,
        device=plan.snapshot.name if plan.local else plan.device,
        calibrated=plan.snapshot.calibration.date,
        local=plan.local,
        qpu_seconds_estimated=plan.budget.seconds,
        jobs=Jobs(all=plan.jobs, saved=sum(record.file is not None for record in records)),
        lost=tuple(Lost(job=record.number, reason=record.reason) for record in records if record.reason is not None),
    )


def read_result(path: Path) -> DeviceResult:
    """Return the content of a ``result.json``.

    Raises:
        FolderError: the file is missing or damaged.
    """
    value = read_json(path)
    kind: type[DeviceResult] = DeviceResult
    if isinstance(value, dict) and value.get("texts"):
        kind = MeasuredResult
    elif isinstance(value, dict) and "circuits" in value:
        kind = LearnedResult
    return records_of.checked(value, kind, path, "'qkd jobs collect' with the plan's name makes it anew")


def say_of(plan: Plan, student: Student, gathered: Gathered) -> tuple[Mitigated, np.ndarray, np.ndarray]:
    """Return what a plan's texts measured, mitigated, and of all points the exact and the predicted values (T,K)."""
    small, region = to_region(plan.student, plan.snapshot)
    logical, texts = student.model.circuit, len(plan.texts)
    stabilizers = plan.mitigation.name == "affine" and affine.is_clifford(gathered.values[texts:])
    values = gathered.values[:texts] if stabilizers else gathered.values
    exact = expected(make_engine(NOISY, logical), logical, values)
    predicted = expected(make_engine(NOISY, small, device_noise(region)), small, values)
    if stabilizers:  # of the points nothing is predicted; the maps start from no error
        known = affine.stabilized(logical, gathered.values[texts:])
        exact, predicted = np.vstack([exact, known]), np.vstack([predicted, known])
    return mitigate(plan, gathered, exact, predicted), exact, predicted


def margins(logits: np.ndarray, stds: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the first class exceeds the second (N,), and the standard error of that (N,).

    Args:
        logits: (N,C).
        stds: of the expectation values (N,K).
        weights: of the head (C,K).
    """
    slopes = slopes_of(logits, weights)
    order = np.sort(logits, axis=1)
    return order[:, -1] - order[:, -2], np.sqrt((slopes**2 * stds**2).sum(axis=1))


def slopes_of(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the derivative (N,K) of the first class's lead over the second by each expectation value."""
    first, second = np.argsort(-logits, axis=1)[:, :2].T
    return weights[first] - weights[second]


def _line(logits: np.ndarray, targets: np.ndarray | None, exact: np.ndarray, rows: list[Row]) -> DeviceScores:
    """Return accuracy and agreements of logits (N,C), each with its interval."""
    said = logits.argmax(axis=1)
    taught = all(row.get("teacher") for row in rows)
    return DeviceScores(
        like_exact=proportion(said == exact.argmax(axis=1)),
        accuracy=None if targets is None else proportion(said == targets),
        like_teacher=proportion(said == np.array([np.argmax(row["teacher"]) for row in rows])) if taught else None,
    )
