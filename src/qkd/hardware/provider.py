"""Where a plan's jobs are run: what sending, collecting and cancelling need of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qkd.core.errors import QkdError
from qkd.hardware.plan import Plan

LIVE = ("queued", "running")
"""States of a job that can still be cancelled."""


@dataclass(frozen=True)
class Sighting:
    """A job that the service lists.

    id: the service's.
    job: its number in the plan.
    state: queued, running, done, cancelled or failed, as the list says it.
    created: when, as the service writes it.
    tag: of the submission that it came of.
    """

    id: str
    job: int
    state: str
    created: str = ""
    tag: str = ""

    @property
    def rank(self) -> tuple[int, str, str]:
        """Return what orders jobs of one number: one that has measured is kept before one that may, oldest first.

        Whoever sees the same jobs keeps the same one, on whatever machine.
        """
        order = {"done": 0, "running": 1, "queued": 1, "failed": 2, "cancelled": 3}
        return order.get(self.state, 1), self.created, self.id


class NotSent(Exception):
    """A submission failed, and it is certain that no job came of it.

    Args:
        error: what failed.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


class Unusable(QkdError):
    """What a job measured cannot be read, or is not what was asked for."""


class Provider(Protocol):
    """Where a plan's jobs are run."""

    plan: Plan

    def version(self) -> str | None:
        """Return the device's version X.Y.Z as it is now, or None."""
        ...

    def outage(self) -> str | None:
        """Return why no job is run now, or None."""
        ...

    def sightings(self) -> list[Sighting]:
        """Return every job of the plan that the service lists."""
        ...

    def submit(self, job: int, tag: str, layers: dict[str, np.ndarray] | None) -> str:
        """Send a job and return its id.

        Raises:
            NotSent: no job came of it.
        """
        ...

    def state(self, id_: str) -> tuple[str, str | None]:
        """Return a job's state and, where it failed, why; ``gone`` where the service does not know it."""
        ...

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Return what a finished job measured.

        Raises:
            Unusable: it cannot be read.
        """
        ...

    def seconds(self, id_: str) -> float | None:
        """Return the seconds of the QPU that a job was charged, where that is known."""
        ...

    def cancel(self, id_: str) -> None:
        """Ask for a job to be cancelled; one that has ended stays as it is."""
        ...

    def close(self) -> None:
        """Say that nothing more will be sent."""
        ...
