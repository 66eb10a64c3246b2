"""Sending and collecting, as one loop that can be stopped anywhere and started again.

Before a job is sent its tag is in the ledger; whatever happens then, the tag tells whether the job exists. So a job is
sent only if no job has its tag, and a job that exists is never sent again.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from qkd.console import say, warn
from qkd.errors import QkdError
from qkd.hardware.ledger import JobRecord, Ledger
from qkd.hardware.patience import Patience, insist
from qkd.hardware.plan import Plan


class Provider(Protocol):
    """Where a plan's jobs are run."""

    plan: Plan

    def version(self) -> str | None:
        """Return the device's version X.Y.Z as it is now, or None."""
        ...

    def outage(self) -> str | None:
        """Return why no job is run now, or None."""
        ...

    def find(self, tag: str) -> list[str]:
        """Return the ids of the jobs with a tag, oldest first."""
        ...

    def submit(self, job: int, tag: str, layers: dict[str, np.ndarray] | None) -> str:
        """Send a job and return its id."""
        ...

    def state(self, id_: str) -> tuple[str, str | None]:
        """Return a job's state and, where it failed, why."""
        ...

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Return what a finished job measured."""
        ...

    def seconds(self, id_: str) -> float | None:
        """Return the seconds of the QPU that a job was charged, where that is known."""
        ...

    def cancel(self, id_: str) -> None:
        """Cancel a job."""
        ...

    def close(self) -> None:
        """Say that nothing more will be sent."""
        ...


class Recalibrated(QkdError):
    """The device is not the one any more that the circuit was compiled for.

    Args:
        plan: what was to be sent.
        now: the device's version as it is now.
    """

    def __init__(self, plan: Plan, now: str) -> None:
        self.device, self.compiled, self.now = plan.device, plan.version, now
        super().__init__(
            f"{plan.device} changed from version {plan.version} to {now} since the circuit was compiled, so nothing "
            f"more of {plan.name} is sent; run 'qkd run-hardware --anew' to compile it anew"
        )


def drive(
    provider: Provider, ledger: Ledger, patience: Patience, wait: bool = True, again: bool = False
) -> list[JobRecord]:
    """Send what is not sent, fetch what is done, and return where each job stands.

    Args:
        provider: where the jobs are run.
        ledger: what was done already.
        patience: how long is waited.
        wait: whether to go on until every job has ended.
        again: send jobs again that failed or were cancelled.

    Raises:
        QkdError: the service refuses, stays away, or the device is down; what was done is in the ledger.
    """
    plan, waits, sent = provider.plan, patience.waits(), False
    known: dict[int, str] = {}
    while True:
        for record in _next(plan, ledger, patience, again):
            if sent and not plan.local:
                patience.sleep(patience.between)
            _send(provider, ledger, record, patience)
            sent = True
        again = False
        records = ledger.jobs(plan.name, plan.jobs)
        moved = [_look(provider, ledger, record, patience, known) for record in records if record.id and record.open]
        records = ledger.jobs(plan.name, plan.jobs)
        if not any(record.open for record in records) or _stuck(plan, records):
            provider.close()
            return records
        if any(moved):
            waits = patience.waits()
            continue
        if not wait:
            return records
        why = insist(f"asking for {plan.device}", provider.outage, patience)
        if why:
            raise QkdError(
                f"{plan.device} is {why}; its jobs stay in the queue and nothing is lost; later: 'qkd jobs collect'"
            )
        patience.sleep(next(waits))


def _stuck(plan: Plan, records: list[JobRecord]) -> bool:
    """Whether the layers' noise was not learned, so that nothing else can be sent."""
    return plan.learns and records[-1].reason is not None


def _next(plan: Plan, ledger: Ledger, patience: Patience, again: bool) -> list[JobRecord]:
    """Return the jobs that are to be sent now."""
    records = ledger.jobs(plan.name, plan.jobs)
    if plan.learns and records[-1].file is None:
        records = records[-1:]
    waiting = sum(record.id is not None and record.open for record in records)
    due = [record for record in records if record.id is None and record.open]
    if again:
        due += [record for record in records if record.reason is not None]
    return due if plan.local else due[: max(0, patience.pending - waiting)]


def _send(provider: Provider, ledger: Ledger, record: JobRecord, patience: Patience) -> None:
    """Send one job, unless it turns out to be sent already."""
    plan, job = provider.plan, record.number
    what = f"job {job + 1} of {plan.jobs}"
    if record.tags and record.reason is None:
        tag = record.tags[-1]
        found = _found(provider, tag, what, patience)
        if found:
            say(f"{what} had been sent before qkd was stopped; it is {found}")
            ledger.append(plan.name, "submitted", job=job, id=found)
            return
    else:
        tag = plan.tag(job, len(record.tags))
    _same_device(provider, patience)
    layers = None
    if plan.learns and job < len(plan.chunks):
        learned = ledger.jobs(plan.name, plan.jobs)[-1]
        assert learned.file is not None
        layers = plan.kept(learned.file, learned.sha256)
    if tag not in record.tags:
        ledger.append(plan.name, "intent", job=job, tag=tag)
    tried = 0

    def once() -> str:
        nonlocal tried
        tried += 1
        # the answer to an earlier try may be lost, and the job there
        there = _found(provider, tag, what, patience) if tried > 1 else None
        return there or provider.submit(job, tag, layers)

    id_ = insist(f"{what} was not sent", once, patience)
    ledger.append(plan.name, "submitted", job=job, id=id_)
    if not plan.local:
        say(f"{what} is sent: {id_}")


def _found(provider: Provider, tag: str, what: str, patience: Patience) -> str | None:
    """Return the id of the job with a tag, looking twice, for a job may show up late; cancel any beyond the first."""
    for look in range(2):
        ids = insist(f"looking for {what}", lambda: provider.find(tag), patience)
        for extra in ids[1:]:
            warn(f"{what} is there twice; {extra} is cancelled")
            provider.cancel(extra)
        if ids:
            return ids[0]
        if look == 0:
            patience.sleep(patience.first)
    return None


def _same_device(provider: Provider, patience: Patience) -> None:
    """Refuse to send a circuit to a device that was set up anew since it was compiled.

    Raises:
        Recalibrated: X or Y of its version X.Y.Z changed.
    """
    plan = provider.plan
    now = insist(f"asking for {plan.device}", provider.version, patience)
    if now is not None and plan.version and now.split(".")[:2] != plan.version.split(".")[:2]:
        raise Recalibrated(plan, now)


def _look(provider: Provider, ledger: Ledger, record: JobRecord, patience: Patience, known: dict[int, str]) -> bool:
    """Ask for a job, fetch its result if it is done, and return whether anything came of it."""
    plan, job, id_ = provider.plan, record.number, str(record.id)
    what = f"job {job + 1} of {plan.jobs} ({id_})"
    state, reason = insist(what, lambda: provider.state(id_), patience)
    if state != known.get(job, record.state):
        ledger.append(plan.name, "state", job=job, state=state)
        if not plan.local:
            say(f"{what} is {state}")
    known[job] = state
    if state in ("cancelled", "failed"):
        ledger.append(plan.name, "ended", job=job, state=state, reason=reason or state)
        warn(f"{what} {'was cancelled' if state == 'cancelled' else f'failed: {reason}'}")
        return True
    if state != "done":
        return False

    def fetch() -> dict[str, np.ndarray]:
        return _checked(plan, job, provider.result(job, id_))

    arrays = fetch() if plan.local else insist(what, fetch, patience)  # what fails here fails again
    file = f"job-{job}"
    sha256 = plan.keep(file, **arrays)
    ledger.append(
        plan.name, "saved", job=job, file=f"{file}.safetensors", sha256=sha256, seconds=_seconds(provider, id_)
    )
    return True


def _checked(plan: Plan, job: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays if they have the shape that was asked for; a result that is cut short does not."""
    if job < len(plan.chunks):
        start, stop = plan.chunks[job]
        shape = (len(plan.student.observables), stop - start)
        if arrays["evs"].shape != shape or arrays["stds"].shape != shape:
            raise ValueError(f"the result has the shape {arrays['evs'].shape}, not {shape}")
    return arrays


def _seconds(provider: Provider, id_: str) -> float | None:
    """Return what a job was charged; a service that does not say it now keeps no result from being saved."""
    try:
        return provider.seconds(id_)
    except Exception:
        return None
