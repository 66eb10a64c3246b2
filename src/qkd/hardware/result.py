"""The result of a device run: predictions with their errors, beside exact and simulated ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qkd.circuits.build import observable_text
from qkd.circuits.student import StudentCircuit
from qkd.core import records
from qkd.core.config import EngineSpec
from qkd.core.errors import DeviceError
from qkd.core.files import Row, read_json
from qkd.devices.region import Region, to_region
from qkd.engines.noise import NoiseLike
from qkd.hardware.ledger import JobRecord
from qkd.hardware.measurements import Estimates, collect_measurements, mitigate
from qkd.hardware.mitigation import Measurements, affine
from qkd.hardware.mitigation.client import make_pub
from qkd.hardware.plan import Plan
from qkd.hardware.terms import Terms
from qkd.results import DeviceResult, LearnedResult, MeasuredResult, MeasuredText
from qkd.results.base import Shown
from qkd.results.device import DeviceScores, Jobs, Lost
from qkd.simulation.factory import make_engine
from qkd.simulation.setup import device_noise
from qkd.student.bundle import Student
from qkd.student.metrics import Z95, bootstrap, proportion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOUBLE = EngineSpec(precision="double")


@dataclass(repr=False)
class DeviceRun(Shown):
    """A plan with its jobs and result. ``to_frame`` has the tables ``values``, ``texts`` and ``jobs``.

    Attributes:
        plan: The plan.
        records: The states of its jobs.
        result: The result; None if nothing was submitted.
    """

    plan: Plan
    records: list[JobRecord]
    result: DeviceResult | None

    @property
    def open(self) -> bool:
        """True if a job may still give a result."""
        return any(record.open for record in self.records)

    def _parts(self) -> list[Any]:
        from qkd.reports import devices
        from qkd.reports.tables import Table

        header, *rows = self.plan.budget.rows()
        parts = [
            f"{self.plan.name} on {self.plan.place}: {len(self.records)} job{'s' * (len(self.records) != 1)}",
            Table(header, rows),
        ]
        return [*parts, *(devices.parts(self.result) if isinstance(self.result, MeasuredResult) else ())]

    def _records(self) -> dict[str, list[dict[str, Any]]]:
        from qkd.reports import devices

        jobs = [{"job": row.number, "id": row.id, "state": row.state, "reason": row.reason} for row in self.records]
        return (devices.records(self.result) if isinstance(self.result, MeasuredResult) else {}) | {"jobs": jobs}

    def plot_values(self, against: Literal["exact", "noisy"] = "exact", ax: Axes | None = None) -> Axes:
        """Draw measured expectation values with error bars against exact ones, or those that the noise predicts.

        Raises:
            DeviceError: No text was measured yet.
        """
        if not isinstance(self.result, MeasuredResult):
            raise DeviceError(f"{self.plan.name} has no expectation values yet; qkd.hardware.collect fetches them")
        return self.result.plot_values(against, ax)


def exact_values(student: StudentCircuit, values: np.ndarray, noise: NoiseLike = None) -> np.ndarray:
    """Return the fastest exact engine's expectation values (N,K) at parameter values (N,A+P).

    Args:
        values: Parameter values (N,A+P).
        noise: Noise model on the circuit's indices; None is an ideal device.
    """
    engine = make_engine(DOUBLE, student, noise)
    evs: np.ndarray = engine.estimator.run([make_pub(student, values)]).result()[0].data.evs
    return evs.T


def predicted_values(student: StudentCircuit, region: Region, values: np.ndarray) -> np.ndarray:
    """Return the expectation values (N,K) that a region's calibration predicts, without shot noise."""
    return exact_values(student, values, device_noise(region))


def interpret(plan: Plan, student: Student, job_records: list[JobRecord]) -> DeviceResult:
    """Return the result of a plan; it is a ``MeasuredResult`` if a text has values.

    A prediction is unclear if the first class's logit exceeds the second's by less than 1.96 standard errors
    of that difference. The difference is linear in the expectation values.
    """
    measurements = collect_measurements(plan, job_records)
    count = int(measurements.measured[: len(plan.texts)].sum())
    common = dict(describe_jobs(plan, job_records)) | {
        "mitigation": asdict(plan.mitigation),
        "executions": plan.budget.executions,
        "texts": count,
        "asked": len(plan.texts),
        "failed": tuple(measurements.failed.tolist()),
    }
    if not count:
        return DeviceResult(**common)
    model = student.model
    estimates, exact, noisy = estimate(plan, student, measurements)
    evs, stds = estimates.evs, estimates.stds
    logits = {name: model.logits_of(v) for name, v in (("measured", evs), ("noisy", noisy), ("exact", exact))}
    margin, error = _margin_errors(plan, logits["measured"], estimates, model.head.weight.detach().cpu().numpy())
    unclear = ~(margin > Z95 * error)  # an unknown error is never clear
    texts = [plan.texts[i] for i in estimates.rows]
    labels = [row["label"] for row in texts]
    targets = None if None in labels else np.array([model.classes.index(label) for label in labels])
    squares = ((evs - exact) ** 2).mean(axis=1)
    return MeasuredResult(
        **common,
        classes=tuple(model.classes),
        observables=tuple(map(observable_text, model.circuit.observables)),
        rms=bootstrap(lambda chosen: np.sqrt(squares[chosen].mean(axis=-1)), len(squares)),
        rms_noisy=float(np.sqrt(((noisy - exact) ** 2).mean())),
        stderr=float(np.mean(stds[np.isfinite(stds)])) if np.isfinite(stds).any() else None,
        covered=proportion((np.abs(evs - exact) < Z95 * stds).ravel()).value,
        bias=float(np.sqrt((estimates.bias**2).mean())),
        unclear=int(unclear.sum()),
        lines={name: _line(rows, targets, logits["exact"], texts) for name, rows in logits.items()},
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
                unclear=bool(unclear[i]),
            )
            for i, row in enumerate(texts)
        ),
    )


def describe_jobs(plan: Plan, job_records: list[JobRecord]) -> DeviceResult:
    """Return the part of a result that every plan has: the plan and its jobs."""
    return DeviceResult(
        plan=plan.name,
        device=plan.place,
        calibrated=plan.snapshot.calibration.date,
        local=plan.local,
        qpu_seconds_estimated=plan.budget.seconds,
        jobs=Jobs(all=plan.jobs, saved=sum(record.file is not None for record in job_records)),
        lost=tuple(
            Lost(job=record.number, reason=record.reason) for record in job_records if record.reason is not None
        ),
    )


def read_result(path: Path) -> DeviceResult:
    """Return the content of a ``result.json``."""
    value = read_json(path)
    kind: type[DeviceResult] = DeviceResult
    if isinstance(value, dict) and value.get("texts"):
        kind = MeasuredResult
    elif isinstance(value, dict) and "circuits" in value:
        kind = LearnedResult
    return records.checked(value, kind, path, "'qkd jobs collect' with the plan's name writes it again")


def estimate(plan: Plan, student: Student, measurements: Measurements) -> tuple[Estimates, np.ndarray, np.ndarray]:
    """Return the texts' mitigated expectation values, and their exact and predicted ones (n,K)."""
    small, region = to_region(plan.terms.student, plan.snapshot)
    logical, count = Terms.from_student(student.model.circuit), len(plan.texts)
    clifford = count < len(plan.values) and affine.is_clifford(plan.values[count:])
    values = plan.values[:count] if clifford else plan.values
    exact, predicted = exact_values(logical.student, values), predicted_values(small, region, values)
    if clifford:  # the circuits are too wide for a prediction, so the maps start from no error
        known = affine.stabilizer_values(logical.student, plan.values[count:])
        exact, predicted = np.vstack([exact, known]), np.vstack([predicted, known])
    estimates = mitigate(plan, measurements, exact, predicted)
    rows = estimates.rows
    return estimates, logical.values(exact[rows]), logical.values(predicted[rows])


def _margin_errors(
    plan: Plan, logits: np.ndarray, estimates: Estimates, head: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return margins (n,) and their standard errors (n,).

    The noise of terms is independent; observables that share a term are not. So the noise is summed over terms.
    """
    margin, noise = margins(logits, estimates.term_noise, head @ plan.terms.coefficients)
    _, bias = margins(logits, estimates.bias, head)
    return margin, np.hypot(noise, bias)


def margins(logits: np.ndarray, stds: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the first class's logit exceeds the second's (N,), and the standard error of that (N,).

    Args:
        logits: Logits (N,C).
        stds: Standard errors of independent values (N,T).
        weights: Derivatives of the logits by these values (C,T).
    """
    first, second = np.argsort(-logits, axis=1)[:, :2].T
    order = np.sort(logits, axis=1)
    slopes = weights[first] - weights[second]
    return order[:, -1] - order[:, -2], np.sqrt((slopes**2 * stds**2).sum(axis=1))


def _line(logits: np.ndarray, targets: np.ndarray | None, exact: np.ndarray, texts: list[Row]) -> DeviceScores:
    """Return accuracy and agreements of logits (N,C), each with its interval."""
    predictions = logits.argmax(axis=1)
    like_teacher = None
    if all(row.get("teacher") for row in texts):
        like_teacher = proportion(predictions == np.array([np.argmax(row["teacher"]) for row in texts]))
    return DeviceScores(
        like_exact=proportion(predictions == exact.argmax(axis=1)),
        accuracy=None if targets is None else proportion(predictions == targets),
        like_teacher=like_teacher,
    )
