"""The protocol of a service that runs jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from qkd.core.errors import QkdError
from qkd.hardware.plan import Plan

JobState = Literal["queued", "running", "done", "cancelled", "failed", "gone"]
# States of a job that can still be cancelled.
ACTIVE: tuple[JobState, ...] = ("queued", "running")


@dataclass(frozen=True)
class ListedJob:
    """A job that the service lists.

    Attributes:
        id: The service's id.
        job: The job's number in its plan.
        state: The state that the list gives.
        created: Time of creation, as the service writes it.
        tag: Tag of the submission that created it.
    """

    id: str
    job: int
    state: JobState
    created: str = ""
    tag: str = ""

    @property
    def rank(self) -> tuple[int, str, str]:
        """Sort key of jobs of one number: finished ones first, then those that may finish, the oldest first.

        Every machine that sees the same jobs keeps the same one.
        """
        order = {"done": 0, "running": 1, "queued": 1, "failed": 2, "cancelled": 3}
        return order.get(self.state, 1), self.created, self.id


class NotSubmitted(Exception):
    """A submission failed, and certainly created no job."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


class UnusableResult(QkdError):
    """A job's result cannot be read, or is not the requested one."""


class Service(Protocol):
    """A service that runs a plan's jobs. The defaults are those of a service that computes a job when it is fetched."""

    plan: Plan

    def version(self) -> str | None:
        """Return the device's current version X.Y.Z, or None if it is unknown."""
        return None

    def outage(self) -> str | None:
        """Return why no job runs now, or None."""
        return None

    def list_jobs(self) -> list[ListedJob]:
        """Return every job of the plan that the service lists."""
        return []

    def submit(self, job: int, tag: str, layers: dict[str, np.ndarray] | None) -> str:
        """Submit a job and return its id.

        Raises:
            NotSubmitted: The submission created no job.
        """
        ...

    def state(self, id_: str) -> tuple[JobState, str | None]:
        """Return a job's state and the reason of a failure; ``gone`` if the service does not know the job."""
        ...

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Return the arrays of a finished job.

        Raises:
            UnusableResult: They cannot be read.
        """
        ...

    def seconds(self, id_: str) -> float | None:
        """Return the QPU seconds that a job was charged, or None if they are unknown."""
        return None

    def cancel(self, id_: str) -> None:
        """Request the cancellation of a job. A job that has ended does not change."""
        return

    def close(self) -> None:
        """End the submission of jobs."""
        return
