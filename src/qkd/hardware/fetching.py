"""Asking what became of jobs, fetching what they measured, and cancelling them."""

from __future__ import annotations

import numpy as np

from qkd.core.console import say, warn
from qkd.hardware.known import Known
from qkd.hardware.ledger import JobRecord
from qkd.hardware.patience import insist
from qkd.hardware.plan import Plan
from qkd.hardware.provider import Provider, Unusable

LOOKS = 3
"""How often a result that cannot be read is fetched before it is told to be unusable."""


class Fetching(Known):
    """One process's view of one plan, that asks the service about its jobs."""

    def look(self, record: JobRecord) -> bool:
        """Ask for a job, fetch its result if it is done, and return whether anything came of it."""
        job, id_ = record.number, str(record.id)
        what = f"{self.called(job)} ({id_})"
        state, reason = insist(what, lambda: self.provider.state(id_), self.patience)
        if state == "gone" and self._young(record):
            return False
        if state not in (record.state, "gone"):
            self.note("state", job, state=state)
            if not self.plan.local:
                say(f"{what} is {state}")
        if state in ("cancelled", "failed", "gone"):
            reason = reason or ("IBM Quantum does not have it any more" if state == "gone" else state)
            self.note("ended", job, state=state, reason=reason)
            warn(f"{what} {'was cancelled' if state == 'cancelled' else f'{state}: {reason}'}")
            return True
        if state != "done":
            return False
        try:
            arrays = self._fetch(what, job, id_)
        except Unusable as error:
            self.note("unusable", job, reason=str(error))
            warn(f"{what} measured what cannot be used: {error}")
            return True
        sha256 = self.plan.write_arrays(f"job-{job}", **arrays)
        facts = {"file": f"job-{job}.safetensors", "sha256": sha256, "seconds": _seconds(self.provider, id_)}
        self.note("saved", job, **facts)
        return True

    def _young(self, record: JobRecord) -> bool:
        """Whether a job that the service does not know may be too new to be seen."""
        return self.patience.now() < record.since + self.patience.window

    def _fetch(self, what: str, job: int, id_: str) -> dict[str, np.ndarray]:
        """Return what a job measured; an answer that cannot be read is asked for again, for it may have been cut.

        Raises:
            Unusable: it stays unreadable, has another shape, or has no finite value.
        """
        if self.plan.local:
            return _checked(self.plan, job, self.provider.result(job, id_))  # what fails here fails again
        waits = self.patience.waits()
        for look in range(1, LOOKS + 1):
            try:
                return _checked(self.plan, job, insist(what, lambda: self.provider.result(job, id_), self.patience))
            except Unusable:
                if look == LOOKS:
                    raise
                self.patience.sleep(next(waits))
        raise AssertionError

    def cancel_job(self, job: int, id_: str, states: dict[str, str]) -> bool:
        """Cancel one of the plan's jobs and note what became of it."""
        states[id_] = state = self.stop(id_)
        record = self.records()[job]
        if record.id != id_:
            self.note("duplicate", job, id=id_, state=state)
        elif state == "gone" and self._young(record):
            states[id_] = "queued"  # it may be too new to be seen
        elif record.open and state in ("cancelled", "failed", "gone"):
            reasons = {"cancelled": "cancelled by you", "failed": "it failed before it was cancelled"}
            reason = reasons.get(state, "IBM Quantum does not have it any more")
            self.note("ended", job, state=state, reason=reason)
        return True


def _checked(plan: Plan, job: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays if they are what was asked for.

    Raises:
        Unusable: another shape, as of a result that is cut short, or no text with finite values.
    """
    if job < len(plan.chunks):
        start, stop = plan.chunks[job]
        shape = (len(plan.student.observables), stop - start)
        for name in ("evs", "stds"):
            if arrays[name].shape != shape:
                raise Unusable(f"the result has the shape {arrays[name].shape}, not {shape}")
        if not np.isfinite(arrays["evs"]).all(axis=0).any():
            raise Unusable("not one text has finite expectation values")
    return arrays


def _seconds(provider: Provider, id_: str) -> float | None:
    """Return what a job was charged; a service that does not say it now keeps no result from being saved."""
    try:
        return provider.seconds(id_)
    except Exception:
        return None
