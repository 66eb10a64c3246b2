"""What to do when a service does not answer as it should: wait and ask again, or give up with a sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from qkd.console import say
from qkd.devices.live import first_line
from qkd.errors import QkdError

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long is waited.

    first: seconds before the second try or look; each wait is half again as long as the one before.
    longest: seconds that a wait may take.
    tries: how often something is tried.
    between: seconds between two submissions; the service takes about five a minute.
    pending: jobs that may wait at once; free plans take three.
    sleep: waits.
    """

    first: float = 2.0
    longest: float = 60.0
    tries: int = 6
    between: float = 13.0
    pending: int = 3
    sleep: Callable[[float], None] = time.sleep

    def waits(self) -> Iterator[float]:
        """Yield the seconds of each wait, without end."""
        wait = self.first
        while True:
            yield wait
            wait = min(self.longest, 1.5 * wait)


@dataclass(frozen=True)
class Trouble:
    """What an exception of the client means.

    passing: whether it may work later.
    wait: seconds that the service asked for.
    words: what it said.
    """

    passing: bool
    wait: float | None
    words: str

    @classmethod
    def of(cls, error: BaseException) -> Trouble:
        """Read an exception and those that it came of: the client hides the service's answer behind its own."""
        passing, wait = True, None
        one: BaseException | None = error
        while one is not None:
            response = getattr(one, "response", None)
            code = getattr(response, "status_code", None) or getattr(one, "status_code", None)
            if isinstance(code, int) and 400 <= code < 500 and code not in (408, 425, 429):
                passing = False
            if response is not None:
                asked = response.headers.get("Retry-After", "")
                wait = float(asked) if asked.isdigit() else wait
            if type(one).__name__ in ("IBMNotAuthorizedError", "IBMInputValueError", "RuntimeJobNotFound"):
                passing = False
            one = one.__cause__ or one.__context__
        return cls(passing, wait, first_line(error))


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
                raise QkdError(f"{what}: IBM Quantum refused ({trouble.words})") from None
            if tried >= patience.tries:
                raise QkdError(
                    f"{what}: IBM Quantum did not answer in {tried} tries ({trouble.words}); nothing is lost, "
                    "go on with 'qkd jobs collect'"
                ) from None
            say(f"{what}: {trouble.words}; trying again")
            patience.sleep(max(wait, trouble.wait or 0))
    raise AssertionError
