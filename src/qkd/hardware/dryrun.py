"""The service's own dry run: a plan's first job on a mock of the device, without a QPU, and what is said of it.

What the client promises of it (``Executor.run``) is that the service reads and checks the job as it would a real one,
estimates what it will use, and answers with random numbers, which are not looked at here. Access may be restricted.
"""

from __future__ import annotations

from dataclasses import dataclass

from qkd.core.errors import QkdError, ServiceError
from qkd.hardware.patience import Patience, Trouble, insist
from qkd.hardware.plan import Plan
from qkd.hardware.provider import LIVE
from qkd.hardware.remote import Remote

NO_MOCK = "Unable to use `dry_run` mode"
"""How the client begins to say that the account sees no mock of a device."""


@dataclass(frozen=True)
class DryRun:
    """What the service says of a plan's first job.

    id: of the job on the mock.
    state: ``done``, ``failed`` or ``cancelled``; ``queued`` or ``running`` where it had not ended in time.
    reason: why it failed.
    seconds: of the QPU that the service expects the job to take, where it tells.
    """

    id: str
    state: str
    reason: str | None
    seconds: float | None

    def __str__(self) -> str:
        if self.state == "done":
            expects = "" if self.seconds is None else f" and expects {self.seconds:,.1f} s of the QPU for it"
            return f"IBM Quantum's dry run takes the first job{expects}"
        if self.state in LIVE:
            return f"IBM Quantum's dry run of the first job is still {self.state} ({self.id})"
        return f"IBM Quantum's dry run does not take the first job: {self.reason or self.state}"


def tried_by_service(remote: Remote, patience: Patience) -> DryRun:
    """Send a plan's first job to the mock of its device and return what becomes of it there.

    A submission whose answer is lost is not repeated; nothing of it costs anything.

    Args:
        remote: the plan on its device.
        patience: how long is waited; a job that has not ended after ``patience.tries`` looks is left.

    Raises:
        ServiceError: the account sees no mock of the device, or the service refuses or stays away.
    """
    plan = remote.plan
    try:
        id_ = remote.submit_dry(first_job(plan))
    except QkdError:
        raise
    except Exception as error:  # the client's and the network's errors have many types
        words = Trouble.of(error).words
        if words.startswith(NO_MOCK):
            raise ServiceError(
                f"this account sees no mock of {plan.device}, so IBM Quantum cannot try the plan"
            ) from None
        raise ServiceError(f"IBM Quantum's dry run of {plan.name} was not sent ({words})") from None
    waits = patience.waits()
    for _ in range(patience.tries):
        state, reason = insist("asking for the dry run", lambda: remote.state(id_), patience)
        if state not in LIVE:
            break
        patience.sleep(next(waits))
    return DryRun(id_, state, reason, insist("asking for the dry run", lambda: remote.expected_seconds(id_), patience))


def first_job(plan: Plan) -> int:
    """Return the number of the job that is sent first: that which learns noise, where there is one."""
    return len(plan.chunks) if plan.learns else 0
