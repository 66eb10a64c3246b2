"""What a device's expectation values say: predictions with their errors, beside exact and simulated ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.config import EngineSpec
from qkd.devices.region import to_region
from qkd.hardware import affine
from qkd.hardware.budget import PER_JOB, Stage
from qkd.hardware.gathered import Gathered, Mitigated, gather, mitigate
from qkd.hardware.ledger import JobRecord
from qkd.hardware.mitigation import pub
from qkd.hardware.plan import Plan
from qkd.simulation.make import Engine, make_engine
from qkd.simulation.noise import device_noise
from qkd.student.bundle import Student
from qkd.student.metrics import Z95, bootstrap, proportion

NOISY = EngineSpec(precision="double")


def expected(engine: Engine, student: StudentCircuit, values: np.ndarray) -> np.ndarray:
    """Return an engine's expectation values (N,K) at parameter values (N,A+P)."""
    evs: np.ndarray = engine.estimator.run([pub(student, values)]).result()[0].data.evs
    return evs.T


def interpret(plan: Plan, student: Student, records: list[JobRecord]) -> dict[str, Any]:
    """Return what a plan's results say, as JSON values.

    A prediction is too close to call where the first class's logit exceeds the second's by less than 1.96 standard
    errors of that difference, which is linear in the expectation values.
    """
    model = student.model
    found = gather(plan, records)
    told: dict[str, Any] = {
        "plan": plan.name,
        "device": plan.snapshot.name if plan.local else plan.device,
        "calibrated": plan.snapshot.calibration.date,
        "local": plan.local,
        "mitigation": asdict(plan.mitigation),
        "executions": plan.budget.executions,
        "qpu_seconds_estimated": plan.budget.seconds,
        "jobs": {"all": plan.jobs, "saved": sum(record.file is not None for record in records)},
        "lost": [{"job": one.number, "reason": one.reason} for one in records if one.reason is not None],
        "texts": int(found.there[: len(plan.texts)].sum()),
        "asked": len(plan.texts),
        "failed": found.failed.tolist(),
    }
    if plan.earlier is not None:  # of all rounds
        told["executions"] = int(found.shots.sum()) * _bases(plan)
        told["qpu_seconds_estimated"] = plan.earlier.seconds + plan.budget.own_seconds
    if not told["texts"]:
        return told
    said, every, predicted = say_of(plan, student, found)
    texts, evs, stds = said.rows, said.evs, said.stds
    exact, noisy = every[texts], predicted[texts]
    weights = model.head.weight.detach().cpu().numpy()
    logits = {who: model.logits_of(rows) for who, rows in (("measured", evs), ("noisy", noisy), ("exact", exact))}
    margin, error = margins(logits["measured"], stds, weights)
    close = ~(margin > Z95 * error)  # an unknown error is never clear
    rows = [plan.texts[i] for i in texts]
    labels = [row["label"] for row in rows]
    targets = None if any(one is None for one in labels) else np.array([model.classes.index(one) for one in labels])
    off = np.abs(evs - exact).mean(axis=1)
    told |= {
        "classes": list(model.classes),
        "error": bootstrap(lambda chosen: float(off[chosen].mean()), len(off)).to_json(),
        "error_noisy": float(np.abs(noisy - exact).mean()),
        "stderr": float(np.mean(stds[np.isfinite(stds)])) if np.isfinite(stds).any() else None,
        "rms": float(np.sqrt(((evs - exact) ** 2).mean())),
        "covered": proportion((np.abs(evs - exact) < Z95 * stds).ravel()).value,
        "bias": float(np.sqrt((said.bias**2).mean())),
        "mitigation": asdict(plan.mitigation) | {"shots": int(np.median(said.shots))},  # a plan's are its round's
        "shots": _shots(plan, said.shots),
        "too_close": int(close.sum()),
        "lines": {who: _line(found, targets, logits["exact"], rows) for who, found in logits.items()},
        "rows": [
            {
                **row,
                "shots": int(said.shots[i]),
                "evs": evs[i].tolist(),
                "stds": [float(one) if np.isfinite(one) else None for one in stds[i]],
                "exact": exact[i].tolist(),
                "noisy": noisy[i].tolist(),
                "logits": logits["measured"][i].tolist(),
                "prediction": model.classes[logits["measured"][i].argmax()],
                "margin": float(margin[i]),
                "margin_error": float(error[i]) if np.isfinite(error[i]) else None,
                "too_close": bool(close[i]),
            }
            for i, row in enumerate(rows)
        ],
    }
    return told


def say_of(plan: Plan, student: Student, found: Gathered) -> tuple[Mitigated, np.ndarray, np.ndarray]:
    """Return what a plan's texts measured, mitigated, and of all points the exact and the predicted values (T,K)."""
    small, region = to_region(plan.student, plan.snapshot)
    logical, texts = student.model.circuit, len(plan.texts)
    stabilizers = plan.mitigation.name == "affine" and affine.is_clifford(found.values[texts:])
    values = found.values[:texts] if stabilizers else found.values
    exact = expected(make_engine(NOISY, logical), logical, values)
    predicted = expected(make_engine(NOISY, small, device_noise(region)), small, values)
    if stabilizers:  # of the points nothing is predicted; the maps start from no error
        known = affine.stabilized(logical, found.values[texts:])
        exact, predicted = np.vstack([exact, known]), np.vstack([predicted, known])
    return mitigate(plan, found, exact, predicted), exact, predicted


def _shots(plan: Plan, shots: np.ndarray) -> dict[str, Any]:
    """Return the shots that texts took over all rounds, and what the most of them would have cost for every text."""
    numbers, texts = np.unique(shots.astype(int), return_counts=True)
    most, each = int(numbers.max()), _measuring(plan).each * _bases(plan)
    return {
        "texts": {str(number): int(count) for number, count in zip(numbers, texts, strict=True)},
        "mean": float(shots.mean()),
        "median": float(np.median(shots)),
        "total": int(shots.sum()),
        "fixed": most,
        "fixed_seconds": plan.budget.correction * (PER_JOB + most * len(shots) * each),
        "seconds": plan.budget.own_seconds + (plan.earlier.seconds if plan.earlier is not None else 0.0),
    }


def _measuring(plan: Plan) -> Stage:
    """Return the stage that measures texts."""
    return next(stage for stage in plan.budget.stages if not stage.name.startswith("learning"))


def _bases(plan: Plan) -> int:
    """Return the executions for each shot of a point: measured bases, and noise factors."""
    return max(1, round(_measuring(plan).executions / (len(plan.values) * plan.mitigation.shots)))


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


def _line(
    logits: np.ndarray, targets: np.ndarray | None, exact: np.ndarray, rows: list[dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """Return accuracy and agreements of logits (N,C), each with its interval."""
    said = logits.argmax(axis=1)
    line = {"like_exact": proportion(said == exact.argmax(axis=1))}
    if targets is not None:
        line["accuracy"] = proportion(said == targets)
    if all(row.get("teacher") for row in rows):
        line["like_teacher"] = proportion(said == np.array([np.argmax(row["teacher"]) for row in rows]))
    return {name: number.to_json() for name, number in line.items()}
