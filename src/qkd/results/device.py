"""The content of a device run's ``result.json``, and numbers about devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict, JsonValue, field_validator

from qkd.results.base import Estimate, Result, Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Lost(Result):
    """A job without a usable result.

    Attributes:
        job: The number of the job.
        reason: The reason in words.
    """

    job: int
    reason: str


class Jobs(Result):
    """The jobs of a device run.

    Attributes:
        all: The number of jobs.
        saved: The number of jobs whose results are saved.
    """

    all: int
    saved: int


class MitigationCard(Result):
    """Description of the error mitigation. ``hardware.Mitigation`` explains the other fields.

    Attributes:
        name: The method.
        shots: The shots of each expectation value.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    shots: int


class DeviceScores(Result):
    """Quality of the predictions from one kind of expectation values.

    Attributes:
        like_exact: The share of predictions that equal those of exact values.
        accuracy: The share of correct predictions.
        like_teacher: The share of predictions that equal the teacher's.
    """

    like_exact: Estimate
    accuracy: Estimate | None = None
    like_teacher: Estimate | None = None


class MeasuredText(Result):
    """A text measured on a device. Lists have one entry for each observable (K,) or class (C,).

    Attributes:
        text: The text.
        label: The label.
        teacher: The teacher's logits (C,).
        evs: The measured expectation values (K,).
        stds: Their standard errors (K,).
        exact: The exact expectation values (K,).
        noisy: The expectation values (K,) predicted from the device's noise.
        logits: The student's logits (C,) from the measured values.
        prediction: The predicted class.
        margin: The largest logit minus the second largest.
        margin_error: The standard error of the margin.
        unclear: Whether the margin is below 1.96 standard errors.
    """

    model_config = ConfigDict(extra="allow")

    text: str
    label: str | None = None
    teacher: tuple[float, ...] | None = None
    evs: tuple[float, ...]
    stds: tuple[float | None, ...]
    exact: tuple[float, ...]
    noisy: tuple[float, ...]
    logits: tuple[float, ...]
    prediction: str
    margin: float
    margin_error: float | None = None
    unclear: bool


class DeviceResult(Result):
    """The content of a ``result.json`` without measured texts.

    Attributes:
        plan: The name of the plan.
        device: The device or snapshot.
        calibrated: The date of the calibration.
        local: Whether a simulator took the device's place.
        purpose: The purpose of a run that measures no texts.
        mitigation: The error mitigation.
        executions: The number of executed circuits, each with its shots.
        qpu_seconds_estimated: The estimated QPU seconds.
        jobs: The numbers of jobs.
        lost: The jobs without a usable result.
        texts: The number of measured texts.
        asked: The number of requested texts.
        failed: The numbers of texts without finite values.
    """

    plan: str
    device: str = ""
    calibrated: str | None = None
    local: bool = False
    purpose: str | None = None
    mitigation: MitigationCard | None = None
    executions: int = 0
    qpu_seconds_estimated: float = 0.0
    jobs: Jobs | None = None
    lost: tuple[Lost, ...] = ()
    texts: int = 0
    asked: int = 0
    failed: tuple[int, ...] = ()


class MeasuredResult(Shown, DeviceResult):
    """The content of a ``result.json`` with measured texts. ``to_frame`` has the tables ``values`` and ``texts``.

    Attributes:
        classes: The C class names.
        observables: The K observables.
        rms: The root mean square error of the expectation values: measured minus exact.
        rms_noisy: The root mean square error that the device's noise predicts without shot noise and mitigation.
        stderr: The mean standard error.
        covered: The share of expectation values whose 95 % interval contains the exact one.
        bias: The estimated root mean square bias after mitigation.
        unclear: The number of texts whose margin is below 1.96 standard errors.
        lines: The scores from ``measured``, ``noisy`` and ``exact`` values.
        rows: The texts.
    """

    _view: ClassVar[str] = "qkd.reports.devices"

    mitigation: MitigationCard
    classes: tuple[str, ...]
    observables: tuple[str, ...]
    rms: Estimate
    rms_noisy: float
    stderr: float | None = None
    covered: float | None = None
    bias: float | None = None
    unclear: int
    lines: dict[str, DeviceScores]
    rows: tuple[MeasuredText, ...]

    @field_validator("lines")
    @classmethod
    def _check_lines(cls, lines: dict[str, DeviceScores]) -> dict[str, DeviceScores]:
        if not {"measured", "exact"} <= set(lines):
            raise ValueError("a line is missing")
        return lines

    def plot_values(self, against: Literal["exact", "noisy"] = "exact", ax: Axes | None = None) -> Axes:
        """Draw measured expectation values with error bars against exact ones, or those that the noise predicts."""
        return self._plot("qkd.reports.plots:scatter", self, against, ax=ax)


class Unexplained(Result):
    """Root mean square residuals of measured expectation values that were not fitted.

    Attributes:
        calibration: The residual of the calibration.
        learned: The residual of the learned noise.
    """

    calibration: float
    learned: float


class LearnedResult(DeviceResult):
    """The content of a ``result.json`` of ``qkd devices learn``.

    Attributes:
        circuits: The number of circuits.
        file: The snapshot with the learned noise.
        unexplained: The residuals of values that were not fitted.
        noise: The shot noise of these values.
        clearer: Whether the learned noise explains them significantly better than the calibration.
        learned: The learned noise, as ``devices.learned.Learned.from_dict`` reads it.
    """

    circuits: int = 0
    file: str | None = None
    unexplained: Unexplained | None = None
    noise: float = 0.0
    clearer: bool = False
    learned: dict[str, JsonValue] | None = None


class Spread(Result):
    """Summary of a property over the qubits or gates of a device.

    Attributes:
        median: The median.
        best: The best value.
    """

    median: float
    best: float


class DeviceNumbers(Result):
    """Key figures of a device. Times are in seconds, and None where nothing was measured.

    Attributes:
        device: The device's name.
        family: The processor family.
        calibrated: The date of the calibration.
        qubits: The number of qubits.
        usable_qubits: The number of qubits without a fault.
        two_qubit_gate: The native two-qubit gate.
        two_qubit_error: The errors of that gate.
        readout_error: The readout errors.
        t1: The relaxation times.
        t2: The dephasing times.
    """

    device: str
    family: str
    calibrated: str
    qubits: int
    usable_qubits: int
    two_qubit_gate: str | None = None
    two_qubit_error: Spread | None = None
    readout_error: Spread | None = None
    t1: Spread | None = None
    t2: Spread | None = None


class Fitness(Result):
    """Suitability of a device for a student, under the calibration's noise with unlimited shots, without mitigation.

    Attributes:
        same: The share of test texts whose predicted class the noise does not change.
        accuracy: The accuracy on the test texts.
        cost: The accuracy minus that without noise.
        rms: The root mean square error of the expectation values.
        device: The device's name, or its snapshot file.
        calibrated: The date of the calibration.
        qubits: The physical qubits in the order of the circuit's qubits.
        error: The predicted error: the sum of -log(1 - error) over gates and readouts of one shot.
        depth: The two-qubit depth.
        texts: The number of texts of the cost estimate.
        seconds: The estimated QPU seconds for them.
    """

    same: Estimate
    accuracy: Estimate
    cost: Estimate
    rms: float
    device: str
    calibrated: str
    qubits: tuple[int, ...]
    error: float
    depth: int
    texts: int
    seconds: float
