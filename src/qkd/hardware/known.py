"""What is known of a plan's jobs: what its ledger says, joined with what the service lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qkd.core.console import say, warn
from qkd.core.errors import QkdError
from qkd.hardware.ledger import JobRecord, Ledger
from qkd.hardware.patience import Patience, insist
from qkd.hardware.provider import LIVE, Provider, Sighting

NEVER = float("-inf")


class Known:
    """One process's view of one plan; what it finds out goes into the ledger.

    Args:
        provider: where the jobs are run.
        ledger: what was done already.
        patience: how long is waited.
        home: this machine and folder.
    """

    def __init__(self, provider: Provider, ledger: Ledger, patience: Patience, home: str) -> None:
        self.provider, self.ledger, self.patience = provider, ledger, patience
        self.plan = provider.plan
        self.doubted = NEVER if self.plan.local else ledger.doubt(self.plan.name, home)
        self.troubles: dict[int, QkdError] = {}  # of this round, by job; that of the list is -1's

    def records(self) -> list[JobRecord]:
        """Return where each job stands."""
        return self.ledger.jobs(self.plan.name, self.plan.jobs)

    def uncertain(self, record: JobRecord) -> bool:
        """Whether a submission of this job, by whatever process, may still be on its way."""
        if self.plan.local or record.id is not None or not record.open:
            return False
        since = max(self.doubted, NEVER if record.intended is None else record.intended)
        return self.patience.now() < since + self.patience.window

    def loose(self, record: JobRecord) -> bool:
        """Whether a submission from here may still arrive beside the job that stands in its place."""
        return record.intended is not None and self.patience.now() < record.intended + self.patience.window

    def note(self, event: str, job: int, **facts: object) -> None:
        """Write a line about a job."""
        self.ledger.append(self.plan.name, event, job=job, **facts)

    def called(self, job: int) -> str:
        """Return what a job is called in sentences."""
        return f"job {job + 1} of {self.plan.jobs}"

    def safely(self, job: int, call: Callable[..., bool], *arguments: Any) -> bool:
        """Return ``call(*arguments)``; its trouble is kept for later, so that other jobs get their turn."""
        try:
            return call(*arguments)
        except QkdError as error:
            self.troubles[job] = error
            return False

    def tell(self, troubles: Sequence[QkdError]) -> None:
        """Raise the first trouble, after warnings of the others.

        Raises:
            QkdError: there is one.
        """
        for error in troubles[1:]:
            warn(str(error))
        if troubles:
            raise troubles[0]

    def sightings(self) -> list[Sighting] | None:
        """Return the plan's jobs that the service lists, or None where it does not say now."""
        if self.plan.local:
            return []
        seen: list[Sighting] = []

        def ask() -> bool:
            seen.extend(insist(f"looking for {self.plan.name}", self.provider.sightings, self.patience))
            return True

        return seen if self.safely(-1, ask) else None

    def take_in(self, seen: Sequence[Sighting]) -> bool:
        """Take in jobs that the service lists: those that the ledger does not know, and those that are there twice.

        Returns:
            Whether the ledger knows more now.
        """
        moved = False
        for record in self.records():
            mine = [sighting for sighting in seen if sighting.job == record.number and sighting.id not in record.dead]
            if any(sighting.id != record.id for sighting in mine):
                moved |= self.safely(record.number, self._take_in, record, mine)
        return moved

    def _take_in(self, record: JobRecord, mine: Sequence[Sighting]) -> bool:
        """Decide which of the jobs of one number is kept; the others are cancelled."""
        job, keep, moved = record.number, record.id, False
        best = min(mine, key=lambda sighting: sighting.rank)
        # the list is the same everywhere: once the job that is kept stands in it, whoever sent the other one finds it
        listed = record.id is None or any(sighting.id == record.id for sighting in mine)
        if record.file is not None:
            pass
        elif record.id is None:
            keep = best.id
            say(f"{self.called(job)} is at IBM Quantum already; it is {keep}")
        elif record.reason is not None:  # it ended without a result, which another one may still have
            hopes = [sighting for sighting in mine if sighting.id != record.id and sighting.state in (*LIVE, "done")]
            keep = min(hopes, key=lambda sighting: sighting.rank).id if hopes else keep
        elif listed:
            keep = self._older(record, best)
        others = [sighting for sighting in mine if sighting.id != keep]
        if record.id is not None and keep != record.id and record.open:
            others = [*others, Sighting(record.id, job, "running")]
        if (listed or keep != record.id) and not self.ledger.cancelled(self.plan.name):  # else all of them are
            for extra in {sighting.id: sighting for sighting in others}.values():
                if extra.state in LIVE or (extra.state == "done" and extra.id not in record.duplicates):
                    self._double(record, extra)
        if keep is not None and keep != record.id:
            self.note("submitted", job, id=keep, tag=next(sighting.tag for sighting in mine if sighting.id == keep))
            moved = True
        return moved

    def _older(self, record: JobRecord, best: Sighting) -> str:
        """Return which of two jobs is kept: the older, unless the other one alone can still end well."""
        if best.id == record.id:
            return best.id
        what = self.called(record.number)
        other, _ = insist(what, lambda: self.provider.state(best.id), self.patience)
        mine, _ = insist(what, lambda: self.provider.state(str(record.id)), self.patience)
        return str(record.id) if mine == "done" or other not in (*LIVE, "done") else best.id

    def _double(self, record: JobRecord, extra: Sighting) -> None:
        """Cancel a job that is there beside the one that is kept; count and tell it."""
        state = self.stop(extra.id) if extra.state in LIVE else extra.state
        if extra.id not in record.duplicates:
            self.note("duplicate", record.number, id=extra.id, state=state)
            record.duplicates.append(extra.id)
            how = "it is cancelled" if state == "cancelled" else f"it is {state} and may be charged"
            warn(f"{self.called(record.number)} is there twice; nothing is taken of {extra.id}, {how}")

    def stop(self, id_: str) -> str:
        """Ask for a job to be cancelled until it runs no more or patience ends, and return its state then."""
        state, waits = "running", self.patience.waits()
        for tried in range(self.patience.tries):
            if tried:
                self.patience.sleep(next(waits))
            insist(f"cancelling {id_}", lambda: self.provider.cancel(id_), self.patience)
            state, _ = insist(f"asking for {id_}", lambda: self.provider.state(id_), self.patience)
            if state not in LIVE:
                break
        return state
