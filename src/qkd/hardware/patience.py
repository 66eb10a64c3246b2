"""What to do when a service does not answer as it should: wait and ask again, or give up with a sentence."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

from qkd.core.console import say
from qkd.core.errors import QkdError, ServiceError
from qkd.devices.live import BELIEVED, first_line

T = TypeVar("T")

REFUSALS = ("IBMNotAuthorizedError", "IBMInputValueError", "RuntimeJobNotFound", "RuntimeProgramNotFound", "TooLong")
"""The errors of the client, and of ``live.asking``, that no waiting mends."""
NETWORK = ("RequestException", "ApiError", "IBMError", "JobError")
"""The client's and requests' errors of asking; anything else is about what was answered."""


@dataclass(frozen=True)
class Patience:
    """How long is waited, and by which clock.

    first: seconds before the second try or look; each wait is half again as long as the one before.
    longest: seconds that a wait of qkd's own may take.
    tries: how often something is tried.
    between: seconds between two submissions; the service takes five a minute.
    pending: jobs that may wait at once; free plans take three.
    window: seconds after which a submission without an answer is taken not to have arrived, if no job shows up. IBM's
        client itself waits 900 s for the answer to a submission (``Runtime.program_run``, qiskit-ibm-runtime#662).
    believed: the longest ``Retry-After`` in seconds that is waited out.
    sleep: waits.
    now: tells the time, in seconds since 1970.
    """

    first: float = 2.0
    longest: float = 60.0
    tries: int = 6
    between: float = 13.0
    pending: int = 3
    window: float = 900.0
    believed: float = BELIEVED
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time

    def waits(self) -> Iterator[float]:
        """Yield the seconds of each wait, without end."""
        wait = self.first
        while True:
            yield wait
            wait = min(self.longest, 1.5 * wait)

    def pause(self, what: str, own: float, trouble: Trouble) -> None:
        """Wait as long as the service asks for, or else ``own`` seconds.

        Raises:
            QkdError: it asks for more than is believed.
        """
        asked = trouble.asked(self.now())
        if asked is not None and asked > self.believed:
            raise ServiceError(
                f"{what}: IBM Quantum asks to wait {asked:,.0f} s, and qkd waits {self.believed:,.0f} s at most; "
                "nothing is lost, go on later with 'qkd jobs collect'"
            )
        self.sleep(max(own, asked or 0.0))


@dataclass(frozen=True)
class Trouble:
    """What an exception of the client means.

    passing: whether it may work later.
    code: the HTTP status of the answer, where there was one.
    retry_after: the header of that name.
    words: what it said.
    answered: whether it is about an answer that came and cannot be read, not about asking.
    """

    passing: bool
    code: int | None
    retry_after: str
    words: str
    answered: bool

    @classmethod
    def of(cls, error: BaseException) -> Trouble:
        """Read an exception and those that it came of: the client hides the service's answer behind its own."""
        passing, code, asked, answered = True, None, "", True
        cause: BaseException | None = error
        while cause is not None:
            response = getattr(cause, "response", None)
            status = getattr(response, "status_code", None) or getattr(cause, "status_code", None)
            if isinstance(status, int) and status > 0:
                code = status
            if response is not None:
                asked = response.headers.get("Retry-After", "") or asked
            names = {kind.__name__ for kind in type(cause).__mro__}
            if names & set(REFUSALS):
                passing = False
            if names & set(NETWORK):
                answered = False
            cause = cause.__cause__ or cause.__context__
        if code is not None and 400 <= code < 500 and code not in (408, 425, 429):
            passing = False
        return cls(passing, code, asked, first_line(error), answered)

    def asked(self, now: float) -> float | None:
        """Return the seconds that ``Retry-After`` asks for, as a number or as a date; None where it makes no sense."""
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


def insist(what: str, call: Callable[[], T], patience: Patience) -> T:
    """Return ``call()``, tried again while its trouble may pass; so it must do no harm to call it twice.

    Raises:
        QkdError: it was refused, or did not work often enough.
    """
    for tried, wait in enumerate(patience.waits(), start=1):
        try:
            return call()
        except QkdError:
            raise
        except Exception as error:  # the client's and the network's errors have many types
            trouble = Trouble.of(error)
            if not trouble.passing:
                raise ServiceError(f"{what}: IBM Quantum refused ({trouble.words})") from None
            if tried >= patience.tries:
                raise ServiceError(
                    f"{what}: IBM Quantum did not answer in {tried} tries ({trouble.words}); nothing is lost, "
                    "go on with 'qkd jobs collect'"
                ) from None
            say(f"{what}: {trouble.words}; trying again")
            patience.pause(what, wait, trouble)
    raise AssertionError
