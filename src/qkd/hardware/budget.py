"""The cost of a run in QPU seconds, before anything is submitted, and what earlier runs were charged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from qkd.core.errors import BudgetError, QkdError
from qkd.core.files import read_json
from qkd.student.metrics import Z95

if TYPE_CHECKING:
    from qiskit.circuit import QuantumCircuit

    from qkd.devices.snapshot import Snapshot

# QPU seconds of a job in addition to its executions.
SECONDS_PER_JOB = 2.0
# Seconds between two shots of a device that does not report them; most devices report this.
DEFAULT_REP_DELAY = 250e-6
# The service refuses jobs with more than some millions of executions.
MAX_EXECUTIONS_PER_JOB = 4_000_000
MAX_SHOTS = 65_536
# Numbers of shots that ``auto`` tries: 16, 24, 32, 48, ... 65,536.
SHOTS_GRID = tuple(sorted({16, *(n * 2**power for power in range(3, 15) for n in (3, 4))}))
# Circuits and shots with which the client learns the noise of one layer: bases x depths x twirls.
LEARNING_CIRCUITS, LEARNING_SHOTS = 9 * 6 * 32, 128
# QPU seconds of charges that count for the estimate itself, so that one short job does not change it much.
PRIOR_SECONDS = 20.0

StageKind = Literal["learn-layers", "measure", "learn-readout"]


@dataclass(frozen=True)
class Stage:
    """A part of a run.

    Attributes:
        kind: What the stage does.
        name: Its name in tables.
        jobs: Number of jobs.
        executions: Number of shots of all circuits.
        seconds_per_execution: QPU seconds of one execution.
    """

    kind: StageKind
    name: str
    jobs: int
    executions: int
    seconds_per_execution: float = DEFAULT_REP_DELAY

    @property
    def seconds(self) -> float:
        """Estimated QPU seconds."""
        return self.jobs * SECONDS_PER_JOB + self.executions * self.seconds_per_execution


@dataclass(frozen=True)
class Budget:
    """The estimated cost of a run.

    Attributes:
        stages: Parts of the run.
        remaining: QPU seconds that the account has left, or None if unknown.
        correction: Factor on the estimate, from earlier charges of this device; see ``ChargeHistory``.
    """

    stages: tuple[Stage, ...]
    remaining: float | None = None
    correction: float = 1.0

    @property
    def seconds(self) -> float:
        """Estimated QPU seconds."""
        return self.correction * sum(stage.seconds for stage in self.stages)

    @property
    def executions(self) -> int:
        """Number of shots of all circuits."""
        return sum(stage.executions for stage in self.stages)

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table, header first."""
        cells = [
            (stage.name, str(stage.jobs), f"{stage.executions:,}", f"{self.correction * stage.seconds:,.1f}")
            for stage in self.stages
        ]
        total = ("total", str(sum(stage.jobs for stage in self.stages)), f"{self.executions:,}", f"{self.seconds:,.1f}")
        return [("stage", "jobs", "executions", "QPU seconds"), *cells, total]

    def check(self, limit: float) -> None:
        """Refuse a run above its limit, or above the time that is left.

        Raises:
            BudgetError: It says by how much, and how to make the run cheaper.
        """
        cheaper = "use fewer --samples or --shots, or a cheaper --mitigation"
        if self.seconds > limit:
            raise BudgetError(
                f"the run is estimated to take {self.seconds:,.0f} s of the QPU, above --max-qpu-seconds {limit:,.0f}; "
                f"{cheaper}, or raise the limit"
            )
        if self.remaining is not None and self.seconds > self.remaining:
            raise BudgetError(
                f"the run is estimated to take {self.seconds:,.0f} s of the QPU, and the account has "
                f"{self.remaining:,.0f} s left; {cheaper}"
            )


def seconds_per_shot(circuit: QuantumCircuit, device: Snapshot, gate_overhead: float = 1.0) -> float:
    """Return the QPU seconds of one shot: the device's delay between shots, the circuit, and its readout.

    A gate without a reported duration takes the median of the device's gates on as many qubits.

    Args:
        circuit: Circuit of the device's gates, on its indices.
        gate_overhead: Mean factor by which a mitigation method lengthens two-qubit gates.
    """
    calibration = device.calibration
    reported: dict[int, list[float]] = {}
    for places in calibration.gates.values():
        for place, gate in places.items():
            if gate.duration is not None:
                reported.setdefault(len(place), []).append(gate.duration)
    typical = {size: float(np.median(durations)) for size, durations in reported.items()}
    busy = dict.fromkeys(circuit.qubits, 0.0)
    for item in circuit.data:
        place = tuple(circuit.find_bit(qubit).index for qubit in item.qubits)
        known = calibration.gates.get(item.operation.name, {}).get(place)
        length = 0.0
        if known is not None:
            length = typical.get(len(place), 0.0) if known.duration is None else known.duration
        end = max(busy[qubit] for qubit in item.qubits) + length * (gate_overhead if len(place) == 2 else 1)
        busy |= dict.fromkeys(item.qubits, end)
    readout = max((qubit.readout_length or 0.0 for qubit in calibration.qubits), default=0.0)
    delay = DEFAULT_REP_DELAY if calibration.rep_delay is None else calibration.rep_delay
    return delay + max(busy.values(), default=0.0) + readout


def split_into_jobs(
    points: int, each: int, learning: int, max_executions: int = MAX_EXECUTIONS_PER_JOB
) -> list[tuple[int, int]]:
    """Return the points of each job, ``(start, stop)``: as few jobs as their limit allows, of nearly equal size."""
    per_job = (max_executions - learning) // each
    if per_job < 1:
        raise BudgetError(
            f"one text takes {each + learning:,} executions and a job at most {max_executions:,}; use fewer --shots"
        )
    jobs = math.ceil(points / per_job)
    edges = [round(points * i / jobs) for i in range(jobs + 1)]
    return list(pairwise(edges))


def unclear_share(margins: np.ndarray, variances: np.ndarray, shots: int) -> float:
    """Return the share of predictions whose margin is below 1.96 standard errors of shot noise.

    Args:
        margins: First class's logit less the second's (N,).
        variances: Variances of the margins at one shot (N,).
        shots: Shots S.
    """
    return float((margins < Z95 * np.sqrt(variances / shots)).mean())


def find_shots(margins: np.ndarray, variances: np.ndarray, share: float = 0.05) -> int:
    """Return the fewest of ``SHOTS_GRID`` at which at most ``share`` of the predictions are unclear."""
    found = (shots for shots in SHOTS_GRID if unclear_share(margins, variances, shots) <= share)
    return next(found, SHOTS_GRID[-1])


def shots_for_stderr(stderr: float, variances: np.ndarray) -> int:
    """Return the shots at which no expectation value has a larger standard error than ``stderr``.

    Args:
        variances: Variances of expectation values at one shot, any shape.
    """
    shots = max(1, math.ceil(float(np.max(variances)) / stderr**2 - 1e-9))
    if shots > MAX_SHOTS:
        raise BudgetError(f"--target-stderr {stderr} takes {shots:,} shots, more than {MAX_SHOTS:,}; use a larger one")
    return shots


@dataclass(frozen=True)
class ChargeHistory:
    """Estimates and charges of a device's finished runs, in QPU seconds.

    Attributes:
        runs: Number of runs.
        estimated: Estimated seconds of all runs.
        charged: Charged seconds of all runs.
    """

    runs: int = 0
    estimated: float = 0.0
    charged: float = 0.0

    @property
    def correction(self) -> float:
        """Factor on the next estimate."""
        return (PRIOR_SECONDS + self.charged) / (PRIOR_SECONDS + self.estimated)


def read_charges(device: str, folder: Path) -> ChargeHistory:
    """Return the charges of a device's runs in all run folders below ``folder``.

    A run counts once the service has reported the charge of each of its jobs.
    """
    from qkd.hardware.ledger import Ledger
    from qkd.hardware.plan import list_plans

    runs, estimated, charged = 0, 0.0, 0.0
    for place in sorted(folder.glob("*/hardware")):
        charges: dict[str, dict[int, float]] = {}
        for row in Ledger(place / "ledger.jsonl").read()[0]:
            if row["event"] == "saved" and isinstance(row.get("seconds"), float | int):
                charges.setdefault(row["plan"], {})[row["job"]] = float(row["seconds"])
        for path in list_plans(place):
            try:
                plan = read_json(path / "plan.json")
                if plan["request"]["local"] or plan["device"] != device:
                    continue
                stages = [Stage(**stage) for stage in plan["budget"]["stages"]]
            except (QkdError, KeyError, TypeError):  # a damaged plan
                continue
            paid = charges.get(path.name, {})
            if paid and len(paid) == sum(stage.jobs for stage in stages):
                runs, charged = runs + 1, charged + sum(paid.values())
                estimated += sum(stage.seconds for stage in stages)
    return ChargeHistory(runs, estimated, charged)
