"""Sending, collecting and cancelling, as loops that can be stopped anywhere and started again.

A job is sent only after the service was asked for it by its plan's tag, and only where no earlier submission of it may
still be on its way: one whose fate is not known is *uncertain*, and waits for a window (``Patience.window``) in which
it is looked for again and again. What turns up twice all the same is cancelled, counted and told. Jobs are independent:
one that fails keeps no other from being fetched or cancelled.
"""

from __future__ import annotations

import datetime
from collections import Counter

from qkd.core.console import say, warn
from qkd.core.errors import QkdError, ServiceError
from qkd.hardware.fetching import Fetching
from qkd.hardware.ledger import JobRecord, Ledger
from qkd.hardware.patience import Patience, Trouble, insist
from qkd.hardware.plan import Plan
from qkd.hardware.provider import LIVE, NotSent, Provider

BLIND = 3
"""How often a process sends a job whose submissions have no answer and no job."""


class Recalibrated(ServiceError):
    """The device is not the one any more that the circuit was compiled for.

    Args:
        plan: what was to be sent.
        now: the device's version as it is now.
    """

    def __init__(self, plan: Plan, now: str) -> None:
        self.device, self.compiled, self.now = plan.device, plan.version, now
        super().__init__(
            f"{plan.device} changed from version {plan.version} to {now} since the circuit was compiled, so nothing "
            f"more of {plan.name} is sent; run 'qkd run-hardware --new-plan' to compile it anew"
        )


def drive(
    provider: Provider, ledger: Ledger, patience: Patience, wait: bool = True, again: bool = False, home: str = ""
) -> list[JobRecord]:
    """Send what is not sent, fetch what is done, and return where each job stands.

    Args:
        provider: where the jobs are run.
        ledger: what was done already.
        patience: how long is waited.
        wait: whether to go on until every job has ended.
        again: send jobs again that failed, were cancelled, or measured what cannot be read.
        home: this machine and folder.

    Raises:
        Recalibrated: the device changed, so the jobs that are left fit it no more.
        QkdError: the service refuses, stays away, or the device is down; what was done is in the ledger.
    """
    return _Drive(provider, ledger, patience, home).run(wait, again)


def cancel(provider: Provider, ledger: Ledger, patience: Patience, home: str = "") -> dict[str, str]:
    """Cancel a plan's jobs that have not ended, those too that may still be on their way to the service.

    Returns:
        The state of each job that the service knows, by its id: ``cancelled`` only where the service says so.

    Raises:
        QkdError: the service refuses or stays away; what it did cancel is in the ledger.
    """
    ledger.append(provider.plan.name, "cancel")
    return _Drive(provider, ledger, patience, home).cancel()


class _Drive(Fetching):
    """One process's work on one plan."""

    def __init__(self, provider: Provider, ledger: Ledger, patience: Patience, home: str) -> None:
        super().__init__(provider, ledger, patience, home)
        self.refusals: dict[int, QkdError] = {}  # jobs that this process sends no more
        self.blind: Counter[int] = Counter()  # submissions without an answer
        self.sent = self.listed = False

    def run(self, wait: bool, again: bool) -> list[JobRecord]:
        """Do what ``drive`` says."""
        plan, waits = self.plan, self.patience.waits()
        self._reopen(again)
        if self.ledger.cancelled(plan.name):
            self.cancel(wait)
        while True:
            self.troubles.clear()
            moved = self._reconcile()
            moved |= self._send_due()
            for record in self.records():
                if record.id and record.open:
                    moved |= self.safely(record.number, self.look, record)
            records = self.records()
            waiting = [record for record in records if record.open and record.number not in self.refusals]
            if wait and not self.plan.local:
                waiting += [record for record in records if self.loose(record) and record.number not in self.refusals]
            if not waiting or self._stuck(records):
                self.troubles.pop(-1, None)  # of a list that was not needed
                self.tell([*sorted(self.refusals.values(), key=_weight), *self.troubles.values()])
                if self.take_in(self.sightings() or []):  # what was given up for lost may have arrived meanwhile
                    continue
                self.provider.close()
                return self.records()
            if moved:
                waits = self.patience.waits()
                continue
            self.tell([*self.troubles.values()])
            if not wait:
                return records
            why = insist(f"asking for {plan.device}", self.provider.outage, self.patience)
            if why:
                raise ServiceError(
                    f"{plan.device} is {why}; its jobs stay in the queue and nothing is lost; later: 'qkd jobs collect'"
                )
            self.patience.sleep(next(waits))

    def cancel(self, wait: bool = True) -> dict[str, str]:
        """Do what ``cancel`` says; without ``wait``, what may still be on its way is left to the next call."""
        waits, states = self.patience.waits(), dict[str, str]()
        while True:
            now: dict[str, str] = {}
            self.troubles.clear()
            late = {record.number for record in self.records() if self.uncertain(record) or self.loose(record)}
            seen = self.sightings()
            self.take_in(seen or [])
            ids = {record.id: record.number for record in self.records() if record.id and record.open}
            ids |= {sighting.id: sighting.job for sighting in seen or [] if sighting.state in LIVE}
            for id_, job in ids.items():
                self.safely(job, self.cancel_job, job, id_, now)
            if seen is not None:
                for record in self.records():
                    if record.open and record.id is None and record.number not in late:
                        reason = "cancelled by you before it was sent"
                        self.note("ended", record.number, state="cancelled", reason=reason)
            states |= now
            self.tell([*self.troubles.values()])
            if not wait or not (late or any(state in LIVE for state in now.values())):
                return states
            self.patience.sleep(next(waits))

    def _reopen(self, again: bool) -> None:
        """Ask once more for what could not be read, which costs nothing; and send again what is to be sent again."""
        for record in self.records():
            if record.state == "unusable" and record.id:
                self.note("submitted", record.number, id=record.id, tag="")
                self.safely(record.number, self.look, record)
        if again:
            self.ledger.append(self.plan.name, "again")
            for record in self.records():
                if record.reason is not None:
                    self.note("again", record.number)

    def _reconcile(self) -> bool:
        """Take in what the service lists, where that may be news."""
        records = self.records()
        news = any(record.id is None and record.open for record in records)
        news |= any(self.loose(record) for record in records)
        if self.listed and not news and max(len(record.tags) for record in records) <= 1:
            return False
        seen = self.sightings()
        self.listed = seen is not None
        return self.take_in(seen or [])

    def _stuck(self, records: list[JobRecord]) -> bool:
        """Whether the layers' noise was not learned, so that nothing else can be sent."""
        return self.plan.learns and records[-1].reason is not None

    # sending

    def _send_due(self) -> bool:
        """Send the jobs that are to be sent now, and return whether anything came of it."""
        if self.ledger.cancelled(self.plan.name) or -1 in self.troubles:
            return False
        records, moved = self.records(), False
        if self.plan.learns and records[-1].file is None:
            records = records[-1:]
        busy = sum(record.open and (record.id is not None or self.uncertain(record)) for record in records)
        due = [record for record in records if record.id is None and record.open and not self.uncertain(record)]
        due = [record for record in due if record.number not in self.refusals]
        for record in due if self.plan.local else due[: max(0, self.patience.pending - busy)]:
            if self.sent and not self.plan.local:
                self.patience.sleep(self.patience.between)
            self.sent = moved = True
            try:
                self._send(record)
            except Recalibrated as error:
                self.refusals |= {other.number: error for other in due if other.number >= record.number}
                break
            except QkdError as error:
                self.refusals[record.number] = error
        return moved

    def _send(self, record: JobRecord) -> None:
        """Send one job, unless it turns out to be there already.

        Raises:
            QkdError: it is not sent.
        """
        job, tags = record.number, list(record.tags)
        what, waits = self.called(job), self.patience.waits()
        self._same_device()
        layers = None
        if self.plan.learns and job < len(self.plan.chunks):
            learned = self.records()[-1]
            assert learned.file is not None
            layers = self.plan.read_arrays(learned.file, learned.sha256)
        for tried in range(1, self.patience.tries + 1):
            if not self.plan.local:
                self.take_in(insist(f"looking for {what}", self.provider.sightings, self.patience))
                if self.records()[job].id is not None:
                    return
            tags.append(self.plan.tag(job, len(tags)))
            self.note("intent", job, tag=tags[-1])
            try:
                id_ = self.provider.submit(job, tags[-1], layers)
            except NotSent as failure:
                trouble = Trouble.of(failure.error)
                self.note("refused", job, reason=trouble.words)
                if isinstance(failure.error, QkdError):
                    raise failure.error from None
                if not trouble.passing:
                    raise ServiceError(f"{what} was not sent: IBM Quantum refused ({trouble.words})") from None
                if tried == self.patience.tries:
                    raise ServiceError(
                        f"{what} was not sent: IBM Quantum did not take it in {tried} tries ({trouble.words}); nothing "
                        "is lost, go on with 'qkd jobs collect'"
                    ) from None
                say(f"{what}: {trouble.words}; trying again")
                self.patience.pause(f"{what} was not sent", next(waits), trouble)
                continue
            except QkdError:
                raise
            except Exception as error:  # the client's and the network's errors have many types
                self._unanswered(job, Trouble.of(error))
                return
            self.note("submitted", job, id=id_, tag=tags[-1])
            if not self.plan.local:
                say(f"{what} is sent: {id_}")
            return

    def _unanswered(self, job: int, trouble: Trouble) -> None:
        """Say that a job's fate is not known, and when it will be.

        Raises:
            QkdError: this happened too often.
        """
        what = self.called(job)
        self.blind[job] += 1
        if self.blind[job] >= BLIND:
            raise ServiceError(
                f"{what} was not sent: IBM Quantum did not answer in {BLIND} tries ({trouble.words}); nothing is lost, "
                "go on with 'qkd jobs collect'"
            )
        until = datetime.datetime.fromtimestamp(self.patience.now() + self.patience.window).astimezone()
        warn(
            f"{what}: {trouble.words}; whether it was sent is not known, so it is looked for, and sent anew only if it "
            f"is not there by {until:%H:%M}"
        )

    def _same_device(self) -> None:
        """Refuse to send a circuit to a device that was set up anew since it was compiled.

        Raises:
            Recalibrated: X or Y of its version X.Y.Z changed.
        """
        now = insist(f"asking for {self.plan.device}", self.provider.version, self.patience)
        if now is not None and self.plan.version and now.split(".")[:2] != self.plan.version.split(".")[:2]:
            raise Recalibrated(self.plan, now)


def _weight(error: QkdError) -> bool:
    """Order refusals so that the one that concerns all jobs is told."""
    return not isinstance(error, Recalibrated)
