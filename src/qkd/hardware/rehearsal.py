"""The device's snapshot in the place of the device: jobs are sent nowhere and computed when they are fetched."""

from __future__ import annotations

import zlib

import numpy as np

from qkd.core.console import Progress
from qkd.core.errors import QkdError
from qkd.devices.region import to_region
from qkd.hardware import local, sampled
from qkd.hardware.plan import Plan
from qkd.hardware.provider import Sighting


class Rehearsal:
    """A plan's jobs on AerSimulator.

    Args:
        plan: what is run.
        bar: is advanced by each text.
        seed: another one draws other shots.
    """

    def __init__(self, plan: Plan, bar: Progress, seed: int = 0) -> None:
        self.plan, self._bar, self._seed = plan, bar, seed

    def version(self) -> str | None:
        """Return nothing: a snapshot does not change."""
        return None

    def outage(self) -> str | None:
        """Return nothing: a snapshot is never down."""
        return None

    def sightings(self) -> list[Sighting]:
        """Return nothing: there is no service that lists jobs."""
        return []

    def submit(self, job: int, tag: str, layers: dict[str, np.ndarray] | None) -> str:
        """Return the job's id."""
        return f"local-{tag}"

    def state(self, id_: str) -> tuple[str, str | None]:
        """Return that it can be fetched."""
        return "done", None

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Compute what the job measures; seeded by its number and mitigation, and by ``seed``.

        Raises:
            QkdError: only IBM's client can simulate this, and the device has errors that it does not know.
        """
        plan, (start, stop) = self.plan, self.plan.chunks[job]
        student, region = to_region(plan.student, plan.snapshot)
        drawn = f"{job} {plan.mitigation}" + (f" {self._seed}" if self._seed else "")
        seed = zlib.crc32(drawn.encode()) % 2**30
        values = plan.values[start:stop]
        if not plan.client and sampled.samples(student, region, plan.mitigation):
            arrays = sampled.run(student, region, values, plan.mitigation, seed)
            self._bar.advance(len(values))
            return arrays
        if plan.snapshot.calibration.learned is not None:
            raise QkdError(
                f"{plan.snapshot.name} has learned errors, which IBM's client does not simulate, and "
                f"'{plan.mitigation.name}' on this circuit is not drawn from exact values; take none, readout or affine"
            )
        return local.run(student, region, values, plan.mitigation, seed, self._bar)

    def seconds(self, id_: str) -> float | None:
        """Return nothing: no QPU ran."""
        return None

    def cancel(self, id_: str) -> None:
        """Do nothing: what is not fetched is not computed."""

    def close(self) -> None:
        """Do nothing."""
