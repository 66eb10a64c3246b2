"""What a device's expectation values say: predictions with their errors, beside exact and simulated ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.config import EngineSpec
from qkd.devices.noise import noise_model
from qkd.devices.region import to_region
from qkd.hardware.ledger import JobRecord
from qkd.hardware.mitigation import pub
from qkd.hardware.plan import Plan
from qkd.simulation.make import Engine, make_engine
from qkd.student.bundle import Student
from qkd.student.metrics import Z95, bootstrap, proportion

NOISY = EngineSpec(precision="double")


def expected(engine: Engine, student: StudentCircuit, values: np.ndarray) -> np.ndarray:
    """Return an engine's expectation values (N,K) at parameter values (N,A+P)."""
    evs: np.ndarray = engine.estimator.run([pub(student, values)]).result()[0].data.evs
    return evs.T


def measured(plan: Plan, records: list[JobRecord]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the numbers of the texts that were measured (n,), and their evs and stds (n,K).

    A text of which one value is missing, not a number or infinite was not measured.

    Errors are taken from the spread over twirls, of which there may be few; so none is let below shot noise,
    ``sqrt((1 - ev^2) / shots)``.
    """
    rows, evs, stds = [], [], []
    for record in records[: len(plan.chunks)]:
        if record.file is not None:
            arrays = plan.kept(record.file, record.sha256)
            rows += list(range(*plan.chunks[record.number]))
            evs.append(arrays["evs"].T)
            stds.append(arrays["stds"].T)
    if not rows:
        k = len(plan.student.observables)
        return np.zeros(0, dtype=int), np.zeros((0, k)), np.zeros((0, k))
    found, errors = np.concatenate(evs), np.concatenate(stds)
    whole = np.isfinite(found).all(axis=1)
    found, errors = found[whole], errors[whole]
    floor = np.sqrt((1 - found.clip(-1, 1) ** 2) / plan.mitigation.shots)
    return np.array(rows)[whole], found, np.fmax(errors, floor)


def interpret(plan: Plan, student: Student, records: list[JobRecord]) -> dict[str, Any]:
    """Return what a plan's results say, as JSON values.

    A prediction is too close to call where the first class's logit exceeds the second's by less than 1.96 standard
    errors of that difference, which is linear in the expectation values.
    """
    model = student.model
    texts, evs, stds = measured(plan, records)
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
        "texts": len(texts),
        "asked": len(plan.values),
        "failed": sorted(_saved(plan, records) - {*texts.tolist()}),
    }
    if not len(texts):
        return told
    values = plan.values[texts]
    small, region = to_region(plan.student, plan.snapshot)
    exact = expected(make_engine(NOISY, model.circuit), model.circuit, values)
    noisy = expected(make_engine(NOISY, small, noise_model(region)), small, values)
    logits = {who: model.logits_of(rows) for who, rows in (("measured", evs), ("noisy", noisy), ("exact", exact))}
    margin, error = margins(logits["measured"], stds, model.head.weight.detach().cpu().numpy())
    close = ~(margin > Z95 * error)  # an unknown error is never clear
    rows = [plan.texts[i] for i in texts]
    labels = [row["label"] for row in rows]
    targets = None if any(one is None for one in labels) else np.array([model.classes.index(one) for one in labels])
    off = np.abs(evs - exact).mean(axis=1)
    told |= {
        "classes": list(model.classes),
        "error": asdict(bootstrap(lambda chosen: float(off[chosen].mean()), len(off))),
        "error_noisy": float(np.abs(noisy - exact).mean()),
        "stderr": float(np.mean(stds[np.isfinite(stds)])) if np.isfinite(stds).any() else None,
        "too_close": int(close.sum()),
        "lines": {who: _line(found, targets, logits["exact"], rows) for who, found in logits.items()},
        "rows": [
            {
                **row,
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


def _saved(plan: Plan, records: list[JobRecord]) -> set[int]:
    """Return the numbers of the texts of saved jobs, whether or not each has a value."""
    saved = [record.number for record in records[: len(plan.chunks)] if record.file is not None]
    return {text for job in saved for text in range(*plan.chunks[job])}


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
    return {name: asdict(number) for name, number in line.items()}
