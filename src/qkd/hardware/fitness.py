"""Which device suits a student, and what a device's change since a calibration costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.console import log
from qkd.core.errors import ConfigError, DeviceError, QkdError
from qkd.core.runs import RunFolder, existing_run
from qkd.devices import numbers, snapshot
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import transpile, two_qubit_figures
from qkd.hardware.layout import region_error, same_device, trained_circuit
from qkd.hardware.planning import make_plans
from qkd.hardware.request import DeviceRunRequest
from qkd.hardware.result import exact_values, predicted_values
from qkd.results import Drift, Estimate, Fitness
from qkd.results.device import NoiseScores
from qkd.student.bundle import Student
from qkd.student.metrics import accuracy_gain, proportion

# Test texts whose QPU seconds are estimated.
PRICED_TEXTS = 100


@dataclass(frozen=True)
class Evaluation:
    """A student and its test texts.

    Attributes:
        student: The student.
        values: Parameter values (N,A+P).
        targets: Class indices (N,).
        exact: Ideal expectation values (N,K).
    """

    student: Student
    values: np.ndarray
    targets: np.ndarray
    exact: np.ndarray

    @classmethod
    def from_run(cls, folder: RunFolder) -> Evaluation:
        """Return the student and the test texts of a run.

        Raises:
            QkdError: The run has no student or no predictions.
        """
        student = Student.load(folder.path)
        model = student.model
        rows = folder.rows(folder.predictions)
        values = model.values(student.encoder.encode([row["text"] for row in rows]))
        targets = np.array([model.classes.index(row["label"]) for row in rows])
        return cls(student, values, targets, exact_values(model.circuit, values))


def evaluate(evaluation: Evaluation, compiled: StudentCircuit, device: Snapshot) -> tuple[NoiseScores, np.ndarray]:
    """Return a student's scores under a device's noise, from exact noisy expectation values, and its logits (N,C).

    Args:
        evaluation: The student and its test texts.
        compiled: The circuit on the device's indices.
        device: The device; its learned errors are part of its noise.

    Raises:
        QkdError: No engine takes the circuit under that noise.
    """
    circuit, region = to_region(compiled, device)
    evs = predicted_values(circuit, region, evaluation.values)
    logits, ideal = (evaluation.student.model.logits_of(rows) for rows in (evs, evaluation.exact))
    marks = NoiseScores(
        same=proportion(logits.argmax(axis=1) == ideal.argmax(axis=1)),
        accuracy=proportion(logits.argmax(axis=1) == evaluation.targets),
        cost=accuracy_gain(logits, ideal, evaluation.targets),
        rms=float(np.sqrt(((evs - evaluation.exact) ** 2).mean())),
    )
    return marks, logits


@public
def rank_devices(run: str | Path, devices: Sequence[str]) -> list[Fitness]:
    """Return devices from the best to the worst for a run's student: by the share of predictions that noise keeps.

    Accuracy is no criterion, because noise may raise it by chance on the given texts. Ties are broken by rms error. A
    device that the student does not fit is excluded with a warning.

    Args:
        run: The run folder.
        devices: Names of devices or snapshots, or snapshot files.

    Raises:
        QkdError: There is no such run, or no device takes the student.
    """
    folder = existing_run(Path(run))
    evaluation, ranking = Evaluation.from_run(folder), list[Fitness]()
    for device in dict.fromkeys(devices):
        try:
            request = DeviceRunRequest(run=folder.path, device=device, local=True, samples=PRICED_TEXTS)
            [plan] = make_plans(request, folder, offline=True)
            error = region_error(plan.student, plan.snapshot)
            if error is None:
                raise DeviceError("it lacks gates or qubits of the compiled circuit")
            marks, _ = evaluate(evaluation, plan.student, plan.snapshot)
            ranking.append(
                Fitness(
                    **dict(marks),
                    device=Path(device).name if device.endswith(".json") else plan.snapshot.name,
                    calibrated=plan.snapshot.calibration.date,
                    qubits=to_region(plan.student, plan.snapshot)[1].qubits,
                    error=error,
                    depth=two_qubit_figures(plan.student.circuit)[1],
                    texts=len(plan.texts),
                    seconds=plan.budget.seconds,
                )
            )
        except QkdError as reason:
            log.warning(f"{device} is excluded: {reason}")
    if not ranking:
        raise DeviceError(f"none of {', '.join(devices)} takes this student; the warnings give the reasons")
    return sorted(ranking, key=lambda fitness: (-fitness.same.value, fitness.rms))


def ranking_rows(ranking: Sequence[Fitness]) -> list[tuple[str, ...]]:
    """Return a table, header first, with a row for each device."""
    head = (
        "device",
        "calibrated",
        "predicted error",
        "two-qubit depth",
        "rms",
        "like ideal",
        "accuracy",
        "against ideal",
    )
    table: list[tuple[str, ...]] = [(*head, f"QPU s, {ranking[0].texts} texts")]
    for fitness in ranking:
        shares = (str(fitness.same), str(fitness.accuracy), _signed(fitness.cost))
        cells = (f"{fitness.error:.3f}", str(fitness.depth), f"{fitness.rms:.4f}", *shares)
        table.append((fitness.device, fitness.calibrated[:10], *cells, f"{fitness.seconds:,.1f}"))
    return table


def drift_rows(drift: Drift) -> list[tuple[str, ...]]:
    """Return a table, header first."""
    table: list[tuple[str, ...]] = [("", drift.then.calibrated[:10], drift.now.calibrated[:10], "change")]
    before, after = (numbers.rows_of(device)[1:] for device in (drift.then, drift.now))
    for (name, old, _), (_, new, _) in zip(before, after, strict=True):
        known = "-" not in (old, new) and float(old)
        table.append((f"{name}, median", old, new, f"{float(new) / float(old) - 1:+.0%}" if known else "-"))
    if drift.predicted_error is not None:
        first, second = drift.predicted_error
        old, new = ("unusable" if error is None else f"{error:.3f}" for error in drift.predicted_error)
        ratio = f"{second / first - 1:+.0%}" if first and second is not None else "-"
        table.append(("the region's predicted error", old, new, ratio))
    if drift.student is not None and drift.change is not None:
        table.append(("accuracy on it", *(str(marks.accuracy) for marks in drift.student), _signed(drift.change)))
    return table


@public
def drift(device: str, since: str | Path, run: str | Path | None = None) -> Drift:
    """Return the changes of a device since a calibration, and what they cost a student.

    Args:
        device: The device; its newest snapshot is its current state.
        since: A run that was trained under the device's noise, or a snapshot file.
        run: The run of the student; ``since`` if that is a run, else none.

    Raises:
        QkdError: ``since`` is neither, it is of another device, or the student does not fit.
    """
    now, since = snapshot.load_snapshot(device), Path(since)
    if since.is_dir():
        folder = existing_run(since)
        path, run = folder.device / "snapshot.json", run or since
        if not path.is_file():
            raise ConfigError(
                f"{since} was not trained under a device's noise and keeps no snapshot; give --since a snapshot file "
                f"and --run {since}"
            )
        then = snapshot.read_snapshot(path)
    else:
        then = snapshot.read_snapshot(since)
    if not same_device(then.name, now.name):
        raise ConfigError(f"--since {since} is of {then.name}, and {device} is another device")
    change = Drift(then=numbers.numbers(then), now=numbers.numbers(now))
    if run is None:
        return change
    folder = existing_run(Path(run))
    evaluation = Evaluation.from_run(folder)
    compiled = trained_circuit(folder, then) or transpile(evaluation.student.model.circuit, then)
    errors = region_error(compiled, then), region_error(compiled, now)
    if None in errors:
        log.info("gates or qubits of the student's region are unusable, so its accuracy on the device is unknown")
        return change.model_copy(update={"predicted_error": errors})
    (before, logits_then), (after, logits_now) = (
        evaluate(evaluation, compiled, then),
        evaluate(evaluation, compiled, now),
    )
    gain = accuracy_gain(logits_now, logits_then, evaluation.targets)
    return change.model_copy(update={"predicted_error": errors, "student": (before, after), "change": gain})


def _signed(number: Estimate) -> str:
    return f"{number.value:+.3f} [{number.low:+.3f}, {number.high:+.3f}]"
