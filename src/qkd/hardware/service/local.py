"""The service of a rehearsal: the device's snapshot computes a job when it is fetched."""

from __future__ import annotations

import zlib

import numpy as np

from qkd.core.console import Progress
from qkd.core.errors import QkdError
from qkd.devices.region import to_region
from qkd.hardware.plan import Plan
from qkd.hardware.service import sampled, simulated
from qkd.hardware.service.base import JobState, ListedJob


class LocalService:
    """A plan's jobs on its snapshot."""

    def __init__(self, plan: Plan, bar: Progress, seed: int = 0) -> None:
        self.plan, self._bar, self._seed = plan, bar, seed

    def version(self) -> str | None:
        """Return None: a snapshot does not change."""
        return None

    def outage(self) -> str | None:
        """Return None: a snapshot is always available."""
        return None

    def list_jobs(self) -> list[ListedJob]:
        """Return an empty list: no service lists jobs."""
        return []

    def submit(self, job: int, tag: str, layers: dict[str, np.ndarray] | None) -> str:
        """Return the job's id."""
        return f"local-{tag}"

    def state(self, id_: str) -> tuple[JobState, str | None]:
        """Return ``done``: the job can be fetched."""
        return "done", None

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Compute a job's result, seeded by its number, its mitigation and ``seed``."""
        plan, (start, stop) = self.plan, self.plan.chunks[job]
        student, region = to_region(plan.terms.student, plan.snapshot)
        label = f"{job} {plan.mitigation}" + (f" {self._seed}" if self._seed else "")
        seed = zlib.crc32(label.encode()) % 2**30
        values = plan.values[start:stop]
        if not plan.request.client and sampled.supports(student, region, plan.mitigation):
            arrays = sampled.run(student, region, values, plan.mitigation, seed)
            self._bar.advance(len(values))
            return arrays
        if plan.snapshot.calibration.learned is not None:
            raise QkdError(
                f"{plan.snapshot.name} has learned errors, which IBM's client does not simulate, and qkd cannot draw "
                f"the shots of '{plan.mitigation.name}' on this circuit; use none, readout or affine"
            )
        return simulated.run(student, region, values, plan.mitigation, seed, self._bar)

    def seconds(self, id_: str) -> float | None:
        """Return None: no QPU ran."""
        return None

    def cancel(self, id_: str) -> None:
        """Do nothing: a job that is not fetched is not computed."""

    def close(self) -> None:
        """Do nothing."""
