"""The content of a device run's ``result.json``."""

from __future__ import annotations

from pydantic import ConfigDict, JsonValue, field_validator

from qkd.results.base import Estimate, Result


class Lost(Result):
    """A job that came to nothing, and why."""

    job: int
    reason: str


class Jobs(Result):
    """How many jobs a device run has, and how many came back."""

    all: int
    saved: int


class MitigationCard(Result):
    """What was done against errors; ``hardware.Mitigation`` explains the fields."""

    model_config = ConfigDict(extra="allow")

    name: str
    shots: int


class DeviceScores(Result):
    """What predictions from one kind of expectation values are worth."""

    like_exact: Estimate
    accuracy: Estimate | None = None
    like_teacher: Estimate | None = None


class MeasuredText(Result):
    """A text and what a device said of it; lists have one entry for each observable (K,) or class (C,)."""

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
    """By how much the first class's logit exceeds the second's, and"""
    margin_error: float | None = None
    """the standard error of that."""
    too_close: bool


class DeviceResult(Result):
    """The content of a ``result.json`` that measured no texts, or none yet."""

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
    """Which texts have no finite values."""


class MeasuredResult(DeviceResult):
    """The content of a ``result.json`` with texts."""

    mitigation: MitigationCard
    classes: tuple[str, ...]
    error: Estimate
    """Mean absolute error of the expectation values."""
    error_noisy: float
    """That of the device's simulated noise."""
    stderr: float | None = None
    """Mean standard error."""
    rms: float | None = None
    covered: float | None = None
    """The share of expectation values whose 95 % interval holds the exact one."""
    bias: float | None = None
    """What mitigation is thought to leave, root mean square."""
    too_close: int
    lines: dict[str, DeviceScores]
    """``measured``, ``noisy`` and ``exact``."""
    rows: tuple[MeasuredText, ...]

    @field_validator("lines")
    @classmethod
    def _whole(cls, lines: dict[str, DeviceScores]) -> dict[str, DeviceScores]:
        if not {"measured", "exact"} <= set(lines):
            raise ValueError("a line is missing")
        return lines


class Unexplained(Result):
    """The root mean square that is left of measured values kept apart, in expectation values."""

    calibration: float
    learned: float


class LearnedResult(DeviceResult):
    """The content of a ``result.json`` of ``qkd devices learn``."""

    circuits: int = 0
    file: str | None = None
    """The snapshot with what was learned."""
    unexplained: Unexplained | None = None
    noise: float = 0.0
    """Shot noise."""
    clearer: bool = False
    """Whether what was learned is nearer to those values than the calibration, by more than chance explains."""
    learned: dict[str, JsonValue] | None = None
    """As ``devices.learned.Learned.from_dict`` reads it."""


class Spread(Result):
    """What is measured at many places of a device, in two numbers."""

    median: float
    best: float


class DeviceNumbers(Result):
    """A device in the few numbers that a person compares; times in seconds, None where nothing was measured."""

    device: str
    family: str
    calibrated: str
    qubits: int
    usable_qubits: int
    two_qubit_gate: str | None
    two_qubit_error: Spread | None
    readout_error: Spread | None
    t1: Spread | None
    t2: Spread | None


class NoiseScores(Result):
    """What a student does under a device's noise, with unlimited shots, without mitigation, its head as it is."""

    same: Estimate
    """The share of test texts whose class noise leaves as it is."""
    accuracy: Estimate
    """On the test texts."""
    cost: Estimate
    """Accuracy less that without noise, with its paired interval."""
    rms: float
    """Of expectation values, against those without noise."""


class Fitness(NoiseScores):
    """A device for a student."""

    device: str
    """Its name, or that of its file."""
    calibrated: str
    qubits: tuple[int, ...]
    """The region, in the order of the circuit's qubits."""
    error: float
    """Predicted, the sum of -log(1 - error) over gates and readouts of one shot."""
    depth: int
    """Of two-qubit gates."""
    texts: int
    """How many ``seconds`` are for."""
    seconds: float
    """Of the QPU, estimated, with the device's profile's mitigation and shots."""


class Drift(Result):
    """A device on two days; pairs are of then and now."""

    then: DeviceNumbers
    now: DeviceNumbers
    predicted_error: tuple[float | None, float | None] | None = None
    """Of the student's region; None where gates or qubits of it are gone."""
    student: tuple[NoiseScores, NoiseScores] | None = None
    """What the student does there; None where it is not known."""
    change: Estimate | None = None
    """Its accuracy now less that of then, with its paired interval."""
