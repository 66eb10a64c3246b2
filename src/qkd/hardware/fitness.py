"""Which device suits a student, and what a device's change since a calibration costs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.config import EngineSpec
from qkd.console import say, warn
from qkd.devices import numbers, snapshot
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import transpile, two_qubit_figures
from qkd.errors import ConfigError, DeviceError, QkdError
from qkd.hardware.order import Order
from qkd.hardware.pinned import pinned, region_error, same_device
from qkd.hardware.prepare import plans_for
from qkd.hardware.result import NOISY, expected
from qkd.results import Estimate
from qkd.runs import RunFolder, existing_run
from qkd.simulation.make import make_engine
from qkd.simulation.noise import device_noise
from qkd.student.bundle import Student
from qkd.student.metrics import accuracy_gain, proportion

PRICED = 100
"""Test texts whose seconds of the QPU are estimated."""


@dataclass(frozen=True)
class Exam:
    """A student and its test texts.

    student: as it was trained.
    values: parameter values (N,A+P).
    targets: class indices (N,).
    exact: ideal expectation values (N,K).
    """

    student: Student
    values: np.ndarray
    targets: np.ndarray
    exact: np.ndarray

    @classmethod
    def of(cls, folder: RunFolder) -> Exam:
        """Return a run's.

        Raises:
            QkdError: the run has no student or no predictions.
        """
        student = Student.load(folder.path)
        model = student.model
        rows = folder.rows(folder.predictions)
        values = model.values(student.encoder.encode([row["text"] for row in rows]))
        targets = np.array([model.classes.index(row["label"]) for row in rows])
        exact = expected(make_engine(EngineSpec(precision="double"), model.circuit), model.circuit, values)
        return cls(student, values, targets, exact)


@dataclass(frozen=True)
class Marks:
    """What a student does under a device's noise, with unlimited shots, without mitigation, its head as it is.

    same: the share of test texts whose class noise leaves as it is.
    accuracy: on the test texts.
    cost: accuracy less that without noise, with its paired interval.
    rms: of expectation values, against those without noise.
    logits: (N,C).
    """

    same: Estimate
    accuracy: Estimate
    cost: Estimate
    rms: float
    logits: np.ndarray


@dataclass(frozen=True)
class Fitness:
    """A device for a student.

    device, calibrated: its name, or that of its file, and its calibration's date.
    qubits: the region, in the order of the circuit's qubits.
    error: predicted, the sum of -log(1 - error) over gates and readouts of one shot.
    depth: of two-qubit gates.
    marks: what the student does there.
    texts: how many ``seconds`` are for.
    seconds: of the QPU, estimated, with the device's profile's mitigation and shots.
    """

    device: str
    calibrated: str
    qubits: tuple[int, ...]
    error: float
    depth: int
    marks: Marks
    texts: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        told = {key: value for key, value in vars(self).items() if key != "marks"}
        return told | {"qubits": list(self.qubits)} | _plain(self.marks)


def examine(exam: Exam, compiled: StudentCircuit, held: Snapshot) -> Marks:
    """Return what a student does under a device's noise, from exact noisy expectation values.

    Args:
        exam: student and texts.
        compiled: the student on the device's indices.
        held: the device; its learned errors are part of its noise.

    Raises:
        QkdError: no engine takes the circuit under that noise.
    """
    circuit, region = to_region(compiled, held)
    evs = expected(make_engine(NOISY, circuit, device_noise(region)), circuit, exam.values)
    logits, ideal = (exam.student.model.logits_of(rows) for rows in (evs, exam.exact))
    return Marks(
        proportion(logits.argmax(axis=1) == ideal.argmax(axis=1)),
        proportion(logits.argmax(axis=1) == exam.targets),
        accuracy_gain(logits, ideal, exam.targets),
        float(np.sqrt(((evs - exam.exact) ** 2).mean())),
        logits,
    )


def ranked(run: Path, devices: Sequence[str]) -> list[Fitness]:
    """Return devices from the best to the worst for a run's student: by the predictions that noise leaves as they are.

    Not by accuracy, which noise may raise by luck on the texts at hand. Of equals the least rms error comes first. A
    device that the student does not fit is told and left out.

    Args:
        run: the run folder.
        devices: names of devices or snapshots, or snapshot files.

    Raises:
        QkdError: there is no such run, or no device takes the student.
    """
    folder = existing_run(run)
    exam, found = Exam.of(folder), list[Fitness]()
    for device in dict.fromkeys(devices):
        try:
            order = Order(run=run, device=device, local=True, samples=PRICED)
            [plan] = plans_for(order, folder, offline=True)
            error = region_error(plan.student, plan.snapshot)
            assert error is not None  # it was compiled for this calibration, or checked against it
            found.append(
                Fitness(
                    Path(device).name if device.endswith(".json") else plan.snapshot.name,
                    plan.snapshot.calibration.date,
                    to_region(plan.student, plan.snapshot)[1].qubits,
                    error,
                    two_qubit_figures(plan.student.circuit)[1],
                    examine(exam, plan.student, plan.snapshot),
                    len(plan.texts),
                    plan.budget.seconds,
                )
            )
        except QkdError as reason:
            warn(f"{device} is left out: {reason}")
    if not found:
        raise DeviceError(f"none of {', '.join(devices)} takes this student; see what was said of each")
    return sorted(found, key=lambda one: (-one.marks.same.value, one.marks.rms))


def rows(found: Sequence[Fitness]) -> list[tuple[str, ...]]:
    """Return a table, header first, a row a device."""
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
    table: list[tuple[str, ...]] = [(*head, f"QPU s, {found[0].texts} texts")]
    for one in found:
        marks = one.marks
        shares = (str(marks.same), str(marks.accuracy), _signed(marks.cost))
        cells = (f"{one.error:.3f}", str(one.depth), f"{marks.rms:.4f}", *shares)
        table.append((one.device, one.calibrated[:10], *cells, f"{one.seconds:,.1f}"))
    return table


@dataclass(frozen=True)
class Drift:
    """A device on two days.

    then, now: its calibrations.
    errors: the predicted error of the student's region, then and now; None where gates or qubits of it are gone.
    marks: what the student does there then and now; None where it is not known.
    change: its accuracy now less that of then, with its paired interval.
    """

    then: Snapshot
    now: Snapshot
    errors: tuple[float | None, float | None] | None = None
    marks: tuple[Marks, Marks] | None = None
    change: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "then": numbers.numbers(self.then),
            "now": numbers.numbers(self.now),
            "predicted_error": None if self.errors is None else list(self.errors),
            "student": None if self.marks is None else [_plain(one) for one in self.marks],
            "change": None if self.change is None else self.change.to_json(),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table, header first."""
        table: list[tuple[str, ...]] = [("", *(one.calibration.date[:10] for one in (self.then, self.now)), "change")]
        before, after = (numbers.rows(one)[1:] for one in (self.then, self.now))
        for (name, old, _), (_, new, _) in zip(before, after, strict=True):
            known = "-" not in (old, new) and float(old)
            table.append((f"{name}, median", old, new, f"{float(new) / float(old) - 1:+.0%}" if known else "-"))
        if self.errors is not None:
            old, new = ("gone" if one is None else f"{one:.3f}" for one in self.errors)
            first, second = self.errors
            ratio = f"{second / first - 1:+.0%}" if first and second is not None else "-"
            table.append(("the region's predicted error", old, new, ratio))
        if self.marks is not None and self.change is not None:
            table.append(("accuracy there", *(str(one.accuracy) for one in self.marks), _signed(self.change)))
        return table


def drift(device: str, since: Path, run: Path | None = None) -> Drift:
    """Return what changed on a device since a calibration, and what that costs a student.

    Args:
        device: whose newest snapshot is what it is now.
        since: a run that was trained under the device's noise, or a snapshot file.
        run: whose student it costs; ``since`` if that is a run, else none.

    Raises:
        QkdError: ``since`` is neither, it is of another device, or the student does not fit.
    """
    now = snapshot.load(device)
    if since.is_dir():
        folder = existing_run(since)
        kept, run = folder.device / "snapshot.json", run or since
        if not kept.is_file():
            raise ConfigError(
                f"{since} was not trained under a device's noise and keeps no snapshot; give --since a snapshot file "
                f"and --run {since}"
            )
        then = snapshot.read(kept)
    else:
        then = snapshot.read(since)
    if not same_device(then.name, now.name):
        raise ConfigError(f"--since {since} is of {then.name}, and {device} is another device")
    if run is None:
        return Drift(then, now)
    folder = existing_run(run)
    exam = Exam.of(folder)
    compiled = pinned(folder, then) or transpile(exam.student.model.circuit, then)
    errors = region_error(compiled, then), region_error(compiled, now)
    if None in errors:
        say("gates or qubits of the student's region are gone, so its accuracy there is not known")
        return Drift(then, now, errors)
    marks = examine(exam, compiled, then), examine(exam, compiled, now)
    change = accuracy_gain(marks[1].logits, marks[0].logits, exam.targets)
    return Drift(then, now, errors, marks, change)


def _plain(marks: Marks) -> dict[str, Any]:
    return {
        "same": marks.same.to_json(),
        "accuracy": marks.accuracy.to_json(),
        "cost": marks.cost.to_json(),
        "rms": marks.rms,
    }


def _signed(number: Estimate) -> str:
    return f"{number.value:+.3f} [{number.low:+.3f}, {number.high:+.3f}]"
