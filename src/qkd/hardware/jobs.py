"""Submitting, collecting and cancelling a plan's jobs, in a loop that can be stopped anywhere and started again.

qkd submits a job only after it has asked the service for the plan's tag, and only if no earlier submission may still
arrive. A submission with unknown outcome is *uncertain*: qkd looks for its job during a window (``RetryPolicy.window``)
and submits again only if none appears. Jobs are independent: a job that fails keeps no other from being fetched or
cancelled.
"""

from __future__ import annotations

import datetime
from collections import Counter

import numpy as np

from qkd.core.console import log
from qkd.core.errors import QkdError, ServiceError
from qkd.hardware.ledger import JobRecord, Ledger
from qkd.hardware.plan_jobs import DeviceChanged, PlanJobs
from qkd.hardware.service.base import (
    ACTIVE,
    NotSubmitted,
    RetryPolicy,
    Service,
    ServiceFailure,
    UnusableResult,
    call_with_retries,
)

# Submissions of one job without answer and without job, after which a process gives up.
MAX_UNANSWERED = 3
# Fetches of an unreadable result; an answer may have been cut.
MAX_FETCHES = 3


class JobLoop:
    """One process's work on one plan. Everything that it learns goes into the ledger."""

    def __init__(self, service: Service, ledger: Ledger, policy: RetryPolicy, host: str = "") -> None:
        self.service, self.ledger, self.policy, self.plan = service, ledger, policy, service.plan
        self.jobs = PlanJobs(service, ledger, policy, host)
        self.refusals: dict[int, QkdError] = {}  # jobs that this process submits no more
        self.unanswered: Counter[int] = Counter()
        self.has_submitted = self.has_listed = False

    def run(self, wait: bool = True, resubmit: bool = False) -> list[JobRecord]:
        """Submit and fetch what is due, and return the state of each job.

        Args:
            resubmit: Submit jobs again that failed, were cancelled, or gave an unusable result.
        """
        plan, waits = self.plan, self.policy.waits()
        self._reopen(resubmit)
        if self.ledger.is_cancelled(plan.name):
            self._cancel(wait)
        while True:
            self.jobs.clear_failures()
            moved = self._reconcile()
            moved |= self._submit_due()
            for record in self.jobs.records():
                if record.id and record.open:
                    moved |= self.jobs.attempt(record.number, self._look, record)
            records = self.jobs.records()
            waiting = [record for record in records if record.open and record.number not in self.refusals]
            if wait and not plan.immediate:
                waiting += [r for r in records if self.jobs.is_in_flight(r) and r.number not in self.refusals]
            blocked = plan.learns_layers and records[-1].reason is not None  # nothing else can be submitted
            if not waiting or blocked:
                self.jobs.list_failure = None  # the list is not needed
                self.jobs.raise_first([*sorted(self.refusals.values(), key=_order), *self.jobs.round_failures()])
                if self.jobs.adopt(self.jobs.list_jobs() or []):  # a submission that counted as lost may have arrived
                    continue
                self.service.close()
                return self.jobs.records()
            if moved:
                waits = self.policy.waits()
                continue
            self.jobs.raise_first(self.jobs.round_failures())
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
            self.jobs.clear_failures()
            late = {
                record.number
                for record in self.jobs.records()
                if self.jobs.is_uncertain(record) or self.jobs.is_in_flight(record)
            }
            listed = self.jobs.list_jobs()
            self.jobs.adopt(listed or [])
            ids = {record.id: record.number for record in self.jobs.records() if record.id and record.open}
            ids |= {job.id: job.job for job in listed or [] if job.state in ACTIVE}
            for id_, number in ids.items():
                self.jobs.attempt(number, self._cancel_job, number, id_, current)
            if listed is not None:
                for record in self.jobs.records():
                    if record.open and record.id is None and record.number not in late:
                        reason = "cancelled by you before it was submitted"
                        self.jobs.note("ended", record.number, state="cancelled", reason=reason)
            states |= current
            self.jobs.raise_first(self.jobs.round_failures())
            if not wait or not (late or any(state in ACTIVE for state in current.values())):
                return states
            self.policy.sleep(next(waits))

    def _reopen(self, resubmit: bool) -> None:
        """Fetch unusable results once more, which costs nothing, and reopen jobs that are to be submitted again."""
        for record in self.jobs.records():
            if record.state == "unusable" and record.id:
                self.jobs.note("submitted", record.number, id=record.id, tag="")
                self.jobs.attempt(record.number, self._look, record)
        if resubmit:
            self.ledger.append(self.plan.name, "resubmit")
            for record in self.jobs.records():
                if record.reason is not None:
                    self.jobs.note("resubmit", record.number)

    def _reconcile(self) -> bool:
        """Adopt what the service lists, if that may be news."""
        records = self.jobs.records()
        news = any((record.id is None and record.open) or self.jobs.is_in_flight(record) for record in records)
        if self.has_listed and not news and max(len(record.tags) for record in records) <= 1:
            return False
        listed = self.jobs.list_jobs()
        self.has_listed = listed is not None
        return self.jobs.adopt(listed or [])

    def _cancel_job(self, job: int, id_: str, states: dict[str, str]) -> bool:
        """Cancel one of the plan's jobs and record the outcome."""
        states[id_] = state = self.jobs.stop(id_)
        record = self.jobs.records()[job]
        if record.id != id_:
            self.jobs.note("duplicate", job, id=id_, state=state)
        elif state == "gone" and self.jobs.is_young(record):
            states[id_] = "queued"
        elif record.open and state in ("cancelled", "failed", "gone"):
            reasons = {"cancelled": "cancelled by you", "failed": "it failed before it was cancelled"}
            reason = reasons.get(state, "IBM Quantum no longer has it")
            self.jobs.note("ended", job, state=state, reason=reason)
        return True

    # Fetching

    def _look(self, record: JobRecord) -> bool:
        """Ask for a job's state, fetch its result if it is done, and return whether anything changed."""
        job, id_ = record.number, str(record.id)
        what = f"{self.jobs.label(job)} ({id_})"
        state, reason = call_with_retries(what, lambda: self.service.state(id_), self.policy)
        if state == "gone" and self.jobs.is_young(record):
            return False
        if state not in (record.state, "gone"):
            self.jobs.note("state", job, state=state)
            if not self.plan.immediate:
                log.info(f"{what} is {state}")
        if state in ("cancelled", "failed", "gone"):
            reason = reason or ("IBM Quantum no longer has it" if state == "gone" else state)
            self.jobs.note("ended", job, state=state, reason=reason)
            log.warning(f"{what} {'was cancelled' if state == 'cancelled' else f'{state}: {reason}'}")
            return True
        if state != "done":
            return False
        try:
            arrays = self._fetch(what, job, id_)
        except UnusableResult as error:
            self.jobs.note("unusable", job, reason=str(error))
            log.warning(f"{what} gave an unusable result: {error}")
            return True
        sha256 = self.plan.write_arrays(f"job-{job}", **arrays)
        try:
            seconds = self.service.seconds(id_)
        except Exception:  # a result is saved even if the service does not give its charge now
            seconds = None
        self.jobs.note("saved", job, file=f"job-{job}.safetensors", sha256=sha256, seconds=seconds)
        return True

    def _fetch(self, what: str, job: int, id_: str) -> dict[str, np.ndarray]:
        """Return a job's result; qkd fetches an unreadable answer again, because it may have been cut."""
        if self.plan.immediate:
            return self.jobs.check_result(job, self.service.result(job, id_))  # a second try fails too
        waits = self.policy.waits()
        for _ in range(MAX_FETCHES - 1):
            try:
                return self._fetch_once(what, job, id_)
            except UnusableResult:
                self.policy.sleep(next(waits))
        return self._fetch_once(what, job, id_)

    def _fetch_once(self, what: str, job: int, id_: str) -> dict[str, np.ndarray]:
        arrays = call_with_retries(what, lambda: self.service.result(job, id_), self.policy)
        return self.jobs.check_result(job, arrays)

    # Submitting

    def _submit_due(self) -> bool:
        """Submit the jobs that are due, and return whether anything changed."""
        if self.ledger.is_cancelled(self.plan.name) or self.jobs.list_failure is not None:
            return False
        records, moved = self.jobs.records(), False
        if self.plan.learns_layers and records[-1].file is None:
            records = records[-1:]
        busy = sum(record.open and (record.id is not None or self.jobs.is_uncertain(record)) for record in records)
        due = [record for record in records if record.id is None and record.open and not self.jobs.is_uncertain(record)]
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
        """Submit one job, unless it turns out to exist already."""
        job, tags = record.number, list(record.tags)
        what, waits = self.jobs.label(job), self.policy.waits()
        self.jobs.check_version()
        layers = None
        if self.plan.learns_layers and job < len(self.plan.chunks):
            learned = self.jobs.records()[-1]
            layers = self.plan.read_arrays(str(learned.file), learned.sha256)
        for tried in range(1, self.policy.tries + 1):
            if not self.plan.immediate:
                self.jobs.adopt(call_with_retries(f"looking for {what}", self.service.list_jobs, self.policy))
                if self.jobs.records()[job].id is not None:
                    return
            tags.append(self.plan.tag(job, len(tags)))
            self.jobs.note("intent", job, tag=tags[-1])
            try:
                id_ = self.service.submit(job, tags[-1], layers)
            except NotSubmitted as refusal:
                failure = ServiceFailure.from_exception(refusal.error)
                self.jobs.note("refused", job, reason=failure.message)
                self._wait_after_refusal(job, refusal.error, failure, tried, next(waits))
            except QkdError:
                raise
            except Exception as error:  # the client and the network raise errors of many types
                self._record_unanswered(job, ServiceFailure.from_exception(error))
                return
            else:
                self.jobs.note("submitted", job, id=id_, tag=tags[-1])
                if not self.plan.immediate:
                    log.info(f"{what} is submitted: {id_}")
                return

    def _wait_after_refusal(
        self, job: int, error: Exception, failure: ServiceFailure, tried: int, seconds: float
    ) -> None:
        """Wait before the next submission of a job that the service refused."""
        what = self.jobs.label(job)
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
        """Print that the outcome of a submission is unknown, and until when."""
        what = self.jobs.label(job)
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


def _order(error: QkdError) -> bool:
    """Return the sort key of refusals: the one that concerns all jobs comes first."""
    return not isinstance(error, DeviceChanged)
