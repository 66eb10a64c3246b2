"""The device's snapshot in the place of the device: jobs are sent nowhere and computed when they are fetched."""

from __future__ import annotations

import zlib

import numpy as np

from qkd.console import Progress
from qkd.devices.region import to_region
from qkd.hardware import local
from qkd.hardware.plan import Plan
from qkd.hardware.provider import Sighting


class Rehearsal:
    """A plan's jobs on AerSimulator.

    Args:
        plan: what is run.
        bar: is advanced by each text.
    """

    def __init__(self, plan: Plan, bar: Progress) -> None:
        self.plan, self._bar = plan, bar

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
        """Compute what the job measures, evs and stds (K,n); seeded by its number and the mitigation."""
        start, stop = self.plan.chunks[job]
        student, region = to_region(self.plan.student, self.plan.snapshot)
        seed = zlib.crc32(f"{job} {self.plan.mitigation}".encode()) % 2**30
        evs, stds = local.run(student, region, self.plan.values[start:stop], self.plan.mitigation, seed, self._bar)
        return {"evs": evs, "stds": stds}

    def seconds(self, id_: str) -> float | None:
        """Return nothing: no QPU ran."""
        return None

    def cancel(self, id_: str) -> None:
        """Do nothing: what is not fetched is not computed."""

    def close(self) -> None:
        """Do nothing."""
