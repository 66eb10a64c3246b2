"""The protocol of a service that runs jobs, and how often and how long qkd repeats requests that get no answer."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol, TypeVar

import numpy as np
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from qkd.core.console import log
from qkd.core.errors import QkdError, ServiceError
from qkd.devices.live import MAX_RETRY_AFTER, first_line
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


T = TypeVar("T")

# Errors of the client, and of ``live.requests``, that no retry can remove.
PERMANENT = ("IBMNotAuthorizedError", "IBMInputValueError", "RuntimeJobNotFound", "RuntimeProgramNotFound", "TooLong")
# Errors of a request. Any other error is about the content of an answer.
REQUEST_ERRORS = ("RequestException", "ApiError", "IBMError", "JobError")
# Growth of the wait from one try to the next.
BACKOFF = 1.5


@dataclass(frozen=True)
class ServiceFailure:
    """The meaning of an exception of the client.

    Attributes:
        transient: Whether a retry may succeed.
        code: HTTP status of the answer, or None.
        retry_after: The answer's ``Retry-After`` header.
        message: First line of the exception.
        unreadable: Whether an answer came and cannot be read.
    """

    transient: bool
    code: int | None
    retry_after: str
    message: str
    unreadable: bool

    @classmethod
    def from_exception(cls, error: BaseException) -> ServiceFailure:
        """Read an exception and its causes: the client hides the service's answer behind its own exceptions."""
        transient, code, retry_after, unreadable = True, None, "", True
        cause: BaseException | None = error
        while cause is not None:
            response = getattr(cause, "response", None)
            status = getattr(response, "status_code", None) or getattr(cause, "status_code", None)
            if isinstance(status, int) and status > 0:
                code = status
            if response is not None:
                retry_after = response.headers.get("Retry-After", "") or retry_after
            names = {kind.__name__ for kind in type(cause).__mro__}
            if names & set(PERMANENT):
                transient = False
            if names & set(REQUEST_ERRORS):
                unreadable = False
            cause = cause.__cause__ or cause.__context__
        if code is not None and 400 <= code < 500 and code not in (408, 425, 429):
            transient = False
        return cls(transient, code, retry_after, first_line(error), unreadable)

    def requested_wait(self, now: float) -> float | None:
        """Return the seconds of ``Retry-After``, a number or a date; None if it is neither."""
        text = self.retry_after.strip()
        if text.isdecimal() and text.isascii():
            return float(text[:12])
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=datetime.UTC)
        return max(0.0, when.timestamp() - now)


@dataclass(frozen=True)
class RetryPolicy:
    """Number of tries, waits and limits of requests, and the clock that measures them.

    Attributes:
        first_wait: Seconds before the second try; each wait is 1.5 times the one before.
        max_wait: Maximum seconds of a wait that qkd chooses.
        tries: Maximum number of tries.
        submission_interval: Seconds between two submissions; the service takes five a minute.
        max_pending: Maximum number of pending jobs; free plans take three.
        window: Seconds after which a submission without an answer counts as lost if no job appears. IBM's client itself
            waits 900 s for the answer to a submission (``Runtime.program_run``, qiskit-ibm-runtime#662).
        max_retry_after: Maximum ``Retry-After`` in seconds that qkd obeys.
        sleep: Waits for a number of seconds.
        now: Returns the time in seconds since 1970.
    """

    first_wait: float = 2.0
    max_wait: float = 60.0
    tries: int = 6
    submission_interval: float = 13.0
    max_pending: int = 3
    window: float = 900.0
    max_retry_after: float = MAX_RETRY_AFTER
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time

    def waits(self) -> Iterator[float]:
        """Yield the seconds of each wait, without end."""
        wait = self.first_wait
        while True:
            yield wait
            wait = min(self.max_wait, BACKOFF * wait)

    def pause(self, what: str, seconds: float, failure: ServiceFailure) -> None:
        """Wait for ``seconds``, or longer if the service requests it."""
        requested = failure.requested_wait(self.now())
        if requested is not None and requested > self.max_retry_after:
            raise ServiceError(
                f"{what}: IBM Quantum asks to wait {requested:,.0f} s, and qkd waits {self.max_retry_after:,.0f} s at "
                "most; nothing is lost, continue later with 'qkd jobs collect'"
            )
        self.sleep(max(seconds, requested or 0.0))


def call_with_retries(what: str, call: Callable[[], T], policy: RetryPolicy) -> T:
    """Return ``call()``, retried while its failures are transient. It must be safe to call it twice."""

    def wait_before_retry(state: RetryCallState) -> None:
        failure = _failure(state)
        log.info(f"{what}: {failure.message}; trying again")
        seconds = wait_exponential(multiplier=policy.first_wait, exp_base=BACKOFF, max=policy.max_wait)(state)
        policy.pause(what, seconds, failure)

    retrying = Retrying(
        retry=retry_if_exception(_is_transient),
        stop=stop_after_attempt(policy.tries),
        before_sleep=wait_before_retry,  # it waits itself, because Retry-After may end the retries
        sleep=lambda seconds: None,
        reraise=True,
    )
    try:
        return retrying(call)
    except QkdError:
        raise
    except Exception as error:  # the client and the network raise errors of many types
        failure = ServiceFailure.from_exception(error)
        if not failure.transient:
            raise ServiceError(f"{what}: IBM Quantum refused ({failure.message})") from None
        raise ServiceError(
            f"{what}: IBM Quantum did not answer in {policy.tries} tries ({failure.message}); nothing is lost, "
            "continue with 'qkd jobs collect'"
        ) from None


def _is_transient(error: BaseException) -> bool:
    known = isinstance(error, QkdError) or not isinstance(error, Exception)
    return not known and ServiceFailure.from_exception(error).transient


def _failure(state: RetryCallState) -> ServiceFailure:
    error = state.outcome.exception() if state.outcome is not None else None
    return ServiceFailure.from_exception(error or RuntimeError("no answer"))
