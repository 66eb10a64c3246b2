"""What a run costs on a QPU, before anything is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.errors import BudgetError

if TYPE_CHECKING:
    from qiskit.circuit import QuantumCircuit

    from qkd.devices.snapshot import Snapshot

PER_JOB = 2.0
"""Seconds of the QPU that a job takes besides its executions."""
REP_DELAY = 250e-6
"""Seconds between two shots of a device that does not say; most devices say this."""
MOST_PER_JOB = 4_000_000
"""Executions of one job; the service refuses more than some millions."""
MOST_SHOTS = 65_536
SHOTS = tuple(sorted({16, *(n * 2**power for power in range(3, 15) for n in (3, 4))}))
"""Numbers of shots that are tried: 16, 24, 32, 48, ... 65,536."""
LEARNING = (9 * 6 * 32, 128)
"""Circuits and shots with which the noise of one layer is learned: bases x depths x twirls, as the client sets them."""


@dataclass(frozen=True)
class Stage:
    """A part of a run: how many jobs, how many executions, and the seconds of the QPU for each execution."""

    name: str
    jobs: int
    executions: int
    each: float = REP_DELAY

    @property
    def seconds(self) -> float:
        """Estimated seconds of the QPU."""
        return self.jobs * PER_JOB + self.executions * self.each


@dataclass(frozen=True)
class Budget:
    """A run's stages, and what the account has left, in seconds of the QPU, where the service tells.

    correction: what earlier bills of this device came to, as a multiple of what had been estimated; see ``bills``.
    """

    stages: tuple[Stage, ...]
    remaining: float | None = None
    correction: float = 1.0

    @property
    def seconds(self) -> float:
        """Estimated seconds of the QPU."""
        return self.correction * sum(stage.seconds for stage in self.stages)

    @property
    def executions(self) -> int:
        """Shots of all circuits together."""
        return sum(stage.executions for stage in self.stages)

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table, header first."""
        cells = [
            (stage.name, str(stage.jobs), f"{stage.executions:,}", f"{self.correction * stage.seconds:,.1f}")
            for stage in self.stages
        ]
        total = (
            "in all",
            str(sum(stage.jobs for stage in self.stages)),
            f"{self.executions:,}",
            f"{self.seconds:,.1f}",
        )
        return [("stage", "jobs", "executions", "QPU seconds"), *cells, total]

    def check(self, limit: float) -> None:
        """Refuse a run above its limit, or above what is left.

        Raises:
            QkdError: says by how much, and what makes it cheaper.
        """
        cheaper = "take fewer --samples or --shots, or a cheaper --mitigation"
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


def shot_seconds(circuit: QuantumCircuit, device: Snapshot, folds: float = 1.0) -> float:
    """Return the seconds of the QPU for one shot: the device's delay between shots, the circuit, and its readout.

    Args:
        circuit: of the device's gates, on its indices.
        device: the device.
        folds: how many times longer two-qubit gates take, on the average of a mitigation's noise factors.
    """
    calibration = device.calibration
    busy = dict.fromkeys(circuit.qubits, 0.0)
    for item in circuit.data:
        place = tuple(circuit.find_bit(qubit).index for qubit in item.qubits)
        done = calibration.gates.get(item.operation.name, {}).get(place)
        length = (done.duration if done is not None else None) or 0.0
        end = max(busy[qubit] for qubit in item.qubits) + length * (folds if len(place) == 2 else 1)
        busy |= dict.fromkeys(item.qubits, end)
    readout = max((qubit.readout_length or 0.0 for qubit in calibration.qubits), default=0.0)
    delay = REP_DELAY if calibration.rep_delay is None else calibration.rep_delay
    return delay + max(busy.values(), default=0.0) + readout


def packed(texts: int, each: int, once: int, most: int = MOST_PER_JOB) -> list[tuple[int, int]]:
    """Return the texts of each job, ``(start, stop)``: as few jobs as their limit allows, of nearly equal size.

    Args:
        texts: N.
        each: executions per text.
        once: executions per job besides.
        most: executions that one job may have.

    Raises:
        QkdError: a single text is more than a job.
    """
    room = (most - once) // each
    if room < 1:
        raise BudgetError(f"one text takes {each + once:,} executions and a job at most {most:,}; take fewer --shots")
    jobs = math.ceil(texts / room)
    edges = [round(texts * i / jobs) for i in range(jobs + 1)]
    return list(pairwise(edges))


def unclear(margins: np.ndarray, variances: np.ndarray, shots: int) -> float:
    """Return the share of predictions whose margin is below two standard errors of shot noise.

    Args:
        margins: first class's logit less the second's (N,).
        variances: variances of the margins at one shot (N,).
        shots: S.
    """
    return float((margins < 2 * np.sqrt(variances / shots)).mean())


def shots_for(margins: np.ndarray, variances: np.ndarray, share: float = 0.05) -> int:
    """Return the fewest of ``SHOTS`` at which at most a share of the predictions is unclear; see ``unclear``."""
    return next((shots for shots in SHOTS if unclear(margins, variances, shots) <= share), SHOTS[-1])


def shots_at(stderr: float) -> int:
    """Return the shots at which no expectation value has a larger standard error than ``stderr``.

    Raises:
        QkdError: it is not between 0 and 1, or takes more than 65,536 shots.
    """
    if not 0 < stderr < 1:
        raise BudgetError(f"--target-stderr {stderr} must be between 0 and 1; an expectation value goes from -1 to 1")
    shots = math.ceil(stderr**-2)
    if shots > MOST_SHOTS:
        raise BudgetError(f"--target-stderr {stderr} takes {shots:,} shots, more than {MOST_SHOTS:,}; ask for less")
    return shots
