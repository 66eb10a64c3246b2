"""Submitting, collecting and cancelling a plan's jobs, in a loop that can be stopped anywhere and started again.

qkd submits a job only after it has asked the service for the plan's tag, and only if no earlier submission may still
arrive. A submission with unknown outcome is *uncertain*: qkd looks for its job during a window (``RetryPolicy.window``)
and submits again only if none appears. If a job exists twice, qkd keeps the oldest, cancels the others and prints that.
Jobs are independent: a job that fails keeps no other from being fetched or cancelled.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qkd.core.console import log
from qkd.core.errors import QkdError, ServiceError
from qkd.hardware.ledger import NEVER, JobRecord, Ledger
from qkd.hardware.plan import Plan
from qkd.hardware.service.base import ACTIVE, ListedJob, NotSubmitted, Service, UnusableResult
from qkd.hardware.service.retry import RetryPolicy, ServiceFailure, call_with_retries

# Submissions of one job without answer and without job, after which a process gives up.
MAX_UNANSWERED = 3
# Fetches of an unreadable result; an answer may have been cut.
MAX_FETCHES = 3


class DeviceChanged(ServiceError):
    """The device has another version than the one that the circuit was compiled for.

    Args:
        plan: The plan.
        version: The device's current version.
    """

    def __init__(self, plan: Plan, version: str) -> None:
        self.device, self.compiled, self.version = plan.device, plan.version, version
        super().__init__(
            f"{plan.device} changed from version {plan.version} to {version} since the circuit was compiled, so qkd "
            f"submits nothing more of {plan.name}; 'qkd run-hardware --new-plan' compiles it again"
        )


class JobLoop:
    """One process's work on one plan. Everything that it learns goes into the ledger.

    Args:
        service: Where the jobs run.
        ledger: The ledger.
        policy: Retries and waits.
        host: Id of this machine and folder.
    """

    def __init__(self, service: Service, ledger: Ledger, policy: RetryPolicy, host: str = "") -> None:
        self.service, self.ledger, self.policy, self.plan = service, ledger, policy, service.plan
        self.suspected = NEVER if self.plan.immediate else ledger.suspected_since(self.plan.name, host)
        self.failures: dict[int, QkdError] = {}  # of this round, by job
        self.list_failure: QkdError | None = None  # of this round
        self.refusals: dict[int, QkdError] = {}  # jobs that this process submits no more
        self.unanswered: Counter[int] = Counter()
        self.has_submitted = self.has_listed = False

    def run(self, wait: bool = True, resubmit: bool = False) -> list[JobRecord]:
        """Submit and fetch what is due, and return the state of each job.

        Args:
            wait: Continue until every job has ended.
            resubmit: Submit jobs again that failed, were cancelled, or gave an unusable result.

        Raises:
            DeviceChanged: The remaining jobs no longer fit the device.
            QkdError: The service refuses or does not answer, or the device is down; the ledger has what was done.
        """
        plan, waits = self.plan, self.policy.waits()
        self._reopen(resubmit)
        if self.ledger.is_cancelled(plan.name):
            self._cancel(wait)
        while True:
            self._clear_failures()
            moved = self._reconcile()
            moved |= self._submit_due()
            for record in self._records():
                if record.id and record.open:
                    moved |= self._try(record.number, self._look, record)
            records = self._records()
            waiting = [record for record in records if record.open and record.number not in self.refusals]
            if wait and not plan.immediate:
                waiting += [r for r in records if self._in_flight(r) and r.number not in self.refusals]
            blocked = plan.learns_layers and records[-1].reason is not None  # nothing else can be submitted
            if not waiting or blocked:
                self.list_failure = None  # the list is not needed
                self._raise_first([*sorted(self.refusals.values(), key=_order), *self._round_failures()])
                if self._adopt(self._list_jobs() or []):  # a submission that counted as lost may have arrived
                    continue
                self.service.close()
                return self._records()
            if moved:
                waits = self.policy.waits()
                continue
            self._raise_first(self._round_failures())
            if not wait:
                return records
            outage = call_with_retries(f"asking for {plan.device}", self.service.outage, self.policy)
            if outage:
                raise ServiceError(
                    f"{plan.device} is {outage}; its jobs stay in the queue and nothing is lost; later: "
                    "'qkd jobs collect'"
                )
            self.policy.sleep(next(waits))

    def cancel(self) -> dict[str, str]:
        """Cancel the jobs that have not ended, including those that may still arrive at the service.

        Returns:
            The state of each job that the service knows, by id: ``cancelled`` only if the service says so.

        Raises:
            QkdError: The service refuses or does not answer; the ledger has what was cancelled.
        """
        self.ledger.append(self.plan.name, "cancel")
        return self._cancel(wait=True)

    def _cancel(self, wait: bool) -> dict[str, str]:
        """Cancel jobs; without ``wait``, the next call handles submissions that may still arrive."""
        waits, states = self.policy.waits(), dict[str, str]()
        while True:
            current: dict[str, str] = {}
            self._clear_failures()
            late = {record.number for record in self._records() if self._uncertain(record) or self._in_flight(record)}
            listed = self._list_jobs()
            self._adopt(listed or [])
            ids = {record.id: record.number for record in self._records() if record.id and record.open}
            ids |= {job.id: job.job for job in listed or [] if job.state in ACTIVE}
            for id_, number in ids.items():
                self._try(number, self._cancel_job, number, id_, current)
            if listed is not None:
                for record in self._records():
                    if record.open and record.id is None and record.number not in late:
                        reason = "cancelled by you before it was submitted"
                        self._note("ended", record.number, state="cancelled", reason=reason)
            states |= current
            self._raise_first(self._round_failures())
            if not wait or not (late or any(state in ACTIVE for state in current.values())):
                return states
            self.policy.sleep(next(waits))

    # The state of the plan

    def _records(self) -> list[JobRecord]:
        return self.ledger.jobs(self.plan.name, self.plan.jobs)

    def _uncertain(self, record: JobRecord) -> bool:
        """Return whether a submission of this job, by any process, may still arrive."""
        if self.plan.immediate or record.id is not None or not record.open:
            return False
        since = max(self.suspected, NEVER if record.intended is None else record.intended)
        return self.policy.now() < since + self.policy.window

    def _in_flight(self, record: JobRecord) -> bool:
        """Return whether a submission from here may still arrive beside the job that took its place."""
        return record.intended is not None and self.policy.now() < record.intended + self.policy.window

    def _young(self, record: JobRecord) -> bool:
        """Return whether a job that the service does not know may be too new to be seen."""
        return self.policy.now() < record.since + self.policy.window

    def _note(self, event: str, job: int, **facts: object) -> None:
        self.ledger.append(self.plan.name, event, job=job, **facts)

    def _label(self, job: int) -> str:
        return f"job {job + 1} of {self.plan.jobs}"

    def _reopen(self, resubmit: bool) -> None:
        """Fetch unusable results once more, which costs nothing, and reopen jobs that are to be submitted again."""
        for record in self._records():
            if record.state == "unusable" and record.id:
                self._note("submitted", record.number, id=record.id, tag="")
                self._try(record.number, self._look, record)
        if resubmit:
            self.ledger.append(self.plan.name, "resubmit")
            for record in self._records():
                if record.reason is not None:
                    self._note("resubmit", record.number)

    # Failures of one round, which wait so that other jobs get their turn

    def _clear_failures(self) -> None:
        self.failures.clear()
        self.list_failure = None

    def _round_failures(self) -> list[QkdError]:
        return ([] if self.list_failure is None else [self.list_failure]) + [*self.failures.values()]

    def _try(self, job: int, call: Callable[..., bool], *arguments: Any) -> bool:
        try:
            return call(*arguments)
        except QkdError as error:
            self.failures[job] = error
            return False

    @staticmethod
    def _raise_first(failures: Sequence[QkdError]) -> None:
        """Raise the first failure, after warnings of the others."""
        for error in failures[1:]:
            log.warning(str(error))
        if failures:
            raise failures[0]

    # Jobs that the service lists

    def _list_jobs(self) -> list[ListedJob] | None:
        """Return the plan's jobs that the service lists, or None if it does not answer now."""
        if self.plan.immediate:
            return []
        try:
            return call_with_retries(f"looking for {self.plan.name}", self.service.list_jobs, self.policy)
        except QkdError as error:
            self.list_failure = error
            return None

    def _reconcile(self) -> bool:
        """Adopt what the service lists, if that may be news."""
        records = self._records()
        news = any((record.id is None and record.open) or self._in_flight(record) for record in records)
        if self.has_listed and not news and max(len(record.tags) for record in records) <= 1:
            return False
        listed = self._list_jobs()
        self.has_listed = listed is not None
        return self._adopt(listed or [])

    def _adopt(self, listed: Sequence[ListedJob]) -> bool:
        """Record listed jobs that the ledger lacks, and cancel duplicates; return whether the ledger changed."""
        moved = False
        for record in self._records():
            mine = [job for job in listed if job.job == record.number and job.id not in record.replaced]
            if any(job.id != record.id for job in mine):
                moved |= self._try(record.number, self._adopt_one, record, mine)
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
            log.info(f"{self._label(number)} is at IBM Quantum already; it is {kept}")
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
            self._note("submitted", number, id=kept, tag=next(job.tag for job in mine if job.id == kept))
            moved = True
        return moved

    def _older(self, record: JobRecord, best: ListedJob) -> str:
        """Return which of two jobs is kept: the older one, unless only the other can still give a result."""
        if best.id == record.id:
            return best.id
        what, current = self._label(record.number), str(record.id)
        other, _ = call_with_retries(what, lambda: self.service.state(best.id), self.policy)
        mine, _ = call_with_retries(what, lambda: self.service.state(current), self.policy)
        return current if mine == "done" or other not in (*ACTIVE, "done") else best.id

    def _cancel_duplicate(self, record: JobRecord, other: ListedJob) -> None:
        state = self._stop(other.id) if other.state in ACTIVE else other.state
        if other.id not in record.duplicates:
            self._note("duplicate", record.number, id=other.id, state=state)
            record.duplicates.append(other.id)
            outcome = "is cancelled" if state == "cancelled" else f"is {state} and may be charged"
            log.warning(f"{self._label(record.number)} exists twice; qkd ignores {other.id}, which {outcome}")

    def _stop(self, id_: str) -> str:
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

    def _cancel_job(self, job: int, id_: str, states: dict[str, str]) -> bool:
        """Cancel one of the plan's jobs and record the outcome."""
        states[id_] = state = self._stop(id_)
        record = self._records()[job]
        if record.id != id_:
            self._note("duplicate", job, id=id_, state=state)
        elif state == "gone" and self._young(record):
            states[id_] = "queued"
        elif record.open and state in ("cancelled", "failed", "gone"):
            reasons = {"cancelled": "cancelled by you", "failed": "it failed before it was cancelled"}
            reason = reasons.get(state, "IBM Quantum no longer has it")
            self._note("ended", job, state=state, reason=reason)
        return True

    # Fetching

    def _look(self, record: JobRecord) -> bool:
        """Ask for a job's state, fetch its result if it is done, and return whether anything changed."""
        job, id_ = record.number, str(record.id)
        what = f"{self._label(job)} ({id_})"
        state, reason = call_with_retries(what, lambda: self.service.state(id_), self.policy)
        if state == "gone" and self._young(record):
            return False
        if state not in (record.state, "gone"):
            self._note("state", job, state=state)
            if not self.plan.immediate:
                log.info(f"{what} is {state}")
        if state in ("cancelled", "failed", "gone"):
            reason = reason or ("IBM Quantum no longer has it" if state == "gone" else state)
            self._note("ended", job, state=state, reason=reason)
            log.warning(f"{what} {'was cancelled' if state == 'cancelled' else f'{state}: {reason}'}")
            return True
        if state != "done":
            return False
        try:
            arrays = self._fetch(what, job, id_)
        except UnusableResult as error:
            self._note("unusable", job, reason=str(error))
            log.warning(f"{what} gave an unusable result: {error}")
            return True
        sha256 = self.plan.write_arrays(f"job-{job}", **arrays)
        try:
            seconds = self.service.seconds(id_)
        except Exception:  # a result is saved even if the service does not give its charge now
            seconds = None
        self._note("saved", job, file=f"job-{job}.safetensors", sha256=sha256, seconds=seconds)
        return True

    def _fetch(self, what: str, job: int, id_: str) -> dict[str, np.ndarray]:
        """Return a job's result; qkd fetches an unreadable answer again, because it may have been cut.

        Raises:
            UnusableResult: It stays unreadable, has another shape, or has no finite value.
        """
        if self.plan.immediate:
            return check_result(self.plan, job, self.service.result(job, id_))  # a second try fails too
        waits = self.policy.waits()
        for _ in range(MAX_FETCHES - 1):
            try:
                return self._fetch_once(what, job, id_)
            except UnusableResult:
                self.policy.sleep(next(waits))
        return self._fetch_once(what, job, id_)

    def _fetch_once(self, what: str, job: int, id_: str) -> dict[str, np.ndarray]:
        arrays = call_with_retries(what, lambda: self.service.result(job, id_), self.policy)
        return check_result(self.plan, job, arrays)

    # Submitting

    def _submit_due(self) -> bool:
        """Submit the jobs that are due, and return whether anything changed."""
        if self.ledger.is_cancelled(self.plan.name) or self.list_failure is not None:
            return False
        records, moved = self._records(), False
        if self.plan.learns_layers and records[-1].file is None:
            records = records[-1:]
        busy = sum(record.open and (record.id is not None or self._uncertain(record)) for record in records)
        due = [record for record in records if record.id is None and record.open and not self._uncertain(record)]
        due = [record for record in due if record.number not in self.refusals]
        for record in due if self.plan.immediate else due[: max(0, self.policy.max_pending - busy)]:
            if self.has_submitted and not self.plan.immediate:
                self.policy.sleep(self.policy.submission_interval)
            self.has_submitted = moved = True
            try:
                self._submit(record)
            except DeviceChanged as error:
                self.refusals |= {other.number: error for other in due if other.number >= record.number}
                break
            except QkdError as error:
                self.refusals[record.number] = error
        return moved

    def _submit(self, record: JobRecord) -> None:
        """Submit one job, unless it turns out to exist already.

        Raises:
            QkdError: It was not submitted.
        """
        job, tags = record.number, list(record.tags)
        what, waits = self._label(job), self.policy.waits()
        self._check_version()
        layers = None
        if self.plan.learns_layers and job < len(self.plan.chunks):
            learned = self._records()[-1]
            layers = self.plan.read_arrays(str(learned.file), learned.sha256)
        for tried in range(1, self.policy.tries + 1):
            if not self.plan.immediate:
                self._adopt(call_with_retries(f"looking for {what}", self.service.list_jobs, self.policy))
                if self._records()[job].id is not None:
                    return
            tags.append(self.plan.tag(job, len(tags)))
            self._note("intent", job, tag=tags[-1])
            try:
                id_ = self.service.submit(job, tags[-1], layers)
            except NotSubmitted as refusal:
                failure = ServiceFailure.from_exception(refusal.error)
                self._note("refused", job, reason=failure.message)
                self._wait_after_refusal(job, refusal.error, failure, tried, next(waits))
            except QkdError:
                raise
            except Exception as error:  # the client and the network raise errors of many types
                self._record_unanswered(job, ServiceFailure.from_exception(error))
                return
            else:
                self._note("submitted", job, id=id_, tag=tags[-1])
                if not self.plan.immediate:
                    log.info(f"{what} is submitted: {id_}")
                return

    def _wait_after_refusal(
        self, job: int, error: Exception, failure: ServiceFailure, tried: int, seconds: float
    ) -> None:
        """Wait before the next submission of a job that the service refused.

        Raises:
            QkdError: No further submission can succeed now.
        """
        what = self._label(job)
        if isinstance(error, QkdError):
            raise error from None
        if not failure.transient:
            raise ServiceError(f"{what} was not submitted: IBM Quantum refused ({failure.message})") from None
        if tried == self.policy.tries:
            raise ServiceError(
                f"{what} was not submitted: IBM Quantum did not accept it in {tried} tries ({failure.message}); "
                "nothing is lost, continue with 'qkd jobs collect'"
            ) from None
        log.info(f"{what}: {failure.message}; trying again")
        self.policy.pause(f"{what} was not submitted", seconds, failure)

    def _record_unanswered(self, job: int, failure: ServiceFailure) -> None:
        """Print that the outcome of a submission is unknown, and until when.

        Raises:
            ServiceError: This happened too often.
        """
        what = self._label(job)
        self.unanswered[job] += 1
        if self.unanswered[job] >= MAX_UNANSWERED:
            raise ServiceError(
                f"{what} was not submitted: IBM Quantum did not answer in {MAX_UNANSWERED} tries ({failure.message}); "
                "nothing is lost, continue with 'qkd jobs collect'"
            )
        until = datetime.datetime.fromtimestamp(self.policy.now() + self.policy.window).astimezone()
        log.warning(
            f"{what}: {failure.message}; it is unknown whether the job was created, so qkd looks for it and submits it "
            f"again only if it has not appeared by {until:%H:%M}"
        )

    def _check_version(self) -> None:
        """Refuse to submit a circuit to a device that was reconfigured since it was compiled.

        Raises:
            DeviceChanged: X or Y of its version X.Y.Z changed.
        """
        plan = self.plan
        version = call_with_retries(f"asking for {plan.device}", self.service.version, self.policy)
        if version is not None and plan.version and version.split(".")[:2] != plan.version.split(".")[:2]:
            raise DeviceChanged(plan, version)


def check_result(plan: Plan, job: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a job's arrays if they have the requested shape.

    Raises:
        UnusableResult: They have another shape, as a cut result has, or no text has finite values.
    """
    if job < len(plan.chunks):
        start, stop = plan.chunks[job]
        shape = (len(plan.terms.student.observables), stop - start)
        for name in ("evs", "stds"):
            if arrays[name].shape != shape:
                raise UnusableResult(f"the result has the shape {arrays[name].shape}, not {shape}")
        if not np.isfinite(arrays["evs"]).all(axis=0).any():
            raise UnusableResult("no text has finite expectation values")
    return arrays


def _order(error: QkdError) -> bool:
    """Return the sort key of refusals: the one that concerns all jobs comes first."""
    return not isinstance(error, DeviceChanged)
