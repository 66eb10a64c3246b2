"""The jobs of a plan, as the ledger and the service know them.

The service may list jobs that the ledger lacks, and may list a job twice. If a job exists twice, qkd keeps the oldest,
cancels the others and prints that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qkd.core.console import log
from qkd.core.errors import QkdError, ServiceError
from qkd.hardware.ledger import NEVER, JobRecord, Ledger
from qkd.hardware.plan import Plan
from qkd.hardware.service.base import ACTIVE, ListedJob, RetryPolicy, Service, UnusableResult, call_with_retries


class DeviceChanged(ServiceError):
    """The device has another version than the one that the circuit was compiled for."""

    def __init__(self, plan: Plan, version: str) -> None:
        self.device, self.compiled, self.version = plan.device, plan.version, version
        super().__init__(
            f"{plan.device} changed from version {plan.version} to {version} since the circuit was compiled, so qkd "
            f"submits nothing more of {plan.name}; 'qkd run-hardware --new-plan' compiles it again"
        )


class PlanJobs:
    """The jobs of one plan. Failures of one round are collected, so that every job gets its turn."""

    def __init__(self, service: Service, ledger: Ledger, policy: RetryPolicy, host: str) -> None:
        self.service, self.ledger, self.policy, self.plan = service, ledger, policy, service.plan
        self.suspected = NEVER if self.plan.immediate else ledger.suspected_since(self.plan.name, host)
        self.failures: dict[int, QkdError] = {}  # of this round, by job
        self.list_failure: QkdError | None = None  # of this round

    def records(self) -> list[JobRecord]:
        """Return what the ledger knows of each job."""
        return self.ledger.jobs(self.plan.name, self.plan.jobs)

    def is_uncertain(self, record: JobRecord) -> bool:
        """Return whether a submission of this job, by any process, may still arrive."""
        if self.plan.immediate or record.id is not None or not record.open:
            return False
        since = max(self.suspected, NEVER if record.intended is None else record.intended)
        return self.policy.now() < since + self.policy.window

    def is_in_flight(self, record: JobRecord) -> bool:
        """Return whether a submission from here may still arrive beside the job that took its place."""
        return record.intended is not None and self.policy.now() < record.intended + self.policy.window

    def is_young(self, record: JobRecord) -> bool:
        """Return whether a job that the service does not know may be too new to be seen."""
        return self.policy.now() < record.since + self.policy.window

    def note(self, event: str, job: int, **facts: object) -> None:
        """Append an event of a job to the ledger."""
        self.ledger.append(self.plan.name, event, job=job, **facts)

    def label(self, job: int) -> str:
        """Return a job's number for messages."""
        return f"job {job + 1} of {self.plan.jobs}"

    def clear_failures(self) -> None:
        """Begin a round."""
        self.failures.clear()
        self.list_failure = None

    def round_failures(self) -> list[QkdError]:
        """Return the failures of this round."""
        return ([] if self.list_failure is None else [self.list_failure]) + [*self.failures.values()]

    def attempt(self, job: int, call: Callable[..., bool], *arguments: Any) -> bool:
        """Return what ``call`` returns; a failure counts as False and waits, so that other jobs get their turn."""
        try:
            return call(*arguments)
        except QkdError as error:
            self.failures[job] = error
            return False

    @staticmethod
    def raise_first(failures: Sequence[QkdError]) -> None:
        """Raise the first failure, after warnings of the others."""
        for error in failures[1:]:
            log.warning(str(error))
        if failures:
            raise failures[0]

    def list_jobs(self) -> list[ListedJob] | None:
        """Return the plan's jobs that the service lists, or None if it does not answer now."""
        if self.plan.immediate:
            return []
        try:
            return call_with_retries(f"looking for {self.plan.name}", self.service.list_jobs, self.policy)
        except QkdError as error:
            self.list_failure = error
            return None

    def adopt(self, listed: Sequence[ListedJob]) -> bool:
        """Record listed jobs that the ledger lacks, and cancel duplicates; return whether the ledger changed."""
        moved = False
        for record in self.records():
            mine = [job for job in listed if job.job == record.number and job.id not in record.replaced]
            if any(job.id != record.id for job in mine):
                moved |= self.attempt(record.number, self._adopt_one, record, mine)
        return moved

    def _adopt_one(self, record: JobRecord, mine: Sequence[ListedJob]) -> bool:
        """Choose which of the jobs of one number is kept, and cancel the others."""
        number, kept, moved = record.number, record.id, False
        best = min(mine, key=lambda job: job.rank)
        # Every machine sees the same list, so the machine that submitted the other job finds the kept one in it.
        listed = record.id is None or any(job.id == record.id for job in mine)
        if record.file is not None:
            pass
        elif record.id is None:
            kept = best.id
            log.info(f"{self.label(number)} is at IBM Quantum already; it is {kept}")
        elif record.reason is not None:  # it ended without a result, which another job may still have
            hopeful = [job for job in mine if job.id != record.id and job.state in (*ACTIVE, "done")]
            kept = min(hopeful, key=lambda job: job.rank).id if hopeful else kept
        elif listed:
            kept = self._older(record, best)
        others = [job for job in mine if job.id != kept]
        if record.id is not None and kept != record.id and record.open:
            others = [*others, ListedJob(record.id, number, "running")]
        if (listed or kept != record.id) and not self.ledger.is_cancelled(self.plan.name):  # else all are cancelled
            for other in {job.id: job for job in others}.values():
                if other.state in ACTIVE or (other.state == "done" and other.id not in record.duplicates):
                    self._cancel_duplicate(record, other)
        if kept is not None and kept != record.id:
            self.note("submitted", number, id=kept, tag=next(job.tag for job in mine if job.id == kept))
            moved = True
        return moved

    def _older(self, record: JobRecord, best: ListedJob) -> str:
        """Return which of two jobs is kept: the older one, unless only the other can still give a result."""
        if best.id == record.id:
            return best.id
        what, current = self.label(record.number), str(record.id)
        other, _ = call_with_retries(what, lambda: self.service.state(best.id), self.policy)
        mine, _ = call_with_retries(what, lambda: self.service.state(current), self.policy)
        return current if mine == "done" or other not in (*ACTIVE, "done") else best.id

    def _cancel_duplicate(self, record: JobRecord, other: ListedJob) -> None:
        state = self.stop(other.id) if other.state in ACTIVE else other.state
        if other.id not in record.duplicates:
            self.note("duplicate", record.number, id=other.id, state=state)
            record.duplicates.append(other.id)
            outcome = "is cancelled" if state == "cancelled" else f"is {state} and may be charged"
            log.warning(f"{self.label(record.number)} exists twice; qkd ignores {other.id}, which {outcome}")

    def stop(self, id_: str) -> str:
        """Request a job's cancellation until it no longer runs or the tries end, and return its state then."""
        state, waits = "running", self.policy.waits()
        for tried in range(self.policy.tries):
            if tried:
                self.policy.sleep(next(waits))
            call_with_retries(f"cancelling {id_}", lambda: self.service.cancel(id_), self.policy)
            state, _ = call_with_retries(f"asking for {id_}", lambda: self.service.state(id_), self.policy)
            if state not in ACTIVE:
                break
        return state

    def check_version(self) -> None:
        """Refuse to submit a circuit to a device that was reconfigured since it was compiled."""
        plan = self.plan
        version = call_with_retries(f"asking for {plan.device}", self.service.version, self.policy)
        if version is not None and plan.version and version.split(".")[:2] != plan.version.split(".")[:2]:
            raise DeviceChanged(plan, version)

    def check_result(self, job: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return a job's arrays if they have the requested shape."""
        if job < len(self.plan.chunks):
            start, stop = self.plan.chunks[job]
            shape = (len(self.plan.terms.student.observables), stop - start)
            for name in ("evs", "stds"):
                if arrays[name].shape != shape:
                    raise UnusableResult(f"the result has the shape {arrays[name].shape}, not {shape}")
            if not np.isfinite(arrays["evs"]).all(axis=0).any():
                raise UnusableResult("no text has finite expectation values")
        return arrays
