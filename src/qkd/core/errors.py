"""Errors that a person is meant to read: one sentence with what was wrong, where, and what to do.

All are ``QkdError``; the subclasses say what a caller can do about one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class QkdError(Exception):
    """A mistake in what was asked or given, told in one sentence; the CLI prints it without a traceback."""

    def __str__(self) -> str:
        """Return the sentence; what it quotes of a damaged file may be one endless word, and is shown by its ends."""
        return re.sub(r"(\S{100})\S{200,}(\S{100})", r"\1...\2", super().__str__())


class ConfigError(QkdError):
    """A setting or a name does not exist or does not fit: ask for something else."""


class DataError(QkdError):
    """Texts, labels or logits do not fit: mend the data."""


class ModelError(QkdError):
    """A teacher or an encoder cannot be had, or cannot do what is asked: fetch it, or take another."""


class CircuitError(QkdError):
    """A circuit or an observable is malformed, too large, or not what an engine runs: change the circuit."""


class DeviceError(QkdError):
    """A device is unknown, retired or does not hold the circuit: take another, or its snapshot."""


class BudgetError(QkdError):
    """A device run would cost more than was allowed: ask for less, or allow more."""


class ServiceError(QkdError):
    """A service refuses or stays away: try again later; nothing is lost."""


class FolderError(QkdError):
    """A run, a bundle or another file of qkd's own is missing, damaged, in use or cannot be written."""


class EngineError(CircuitError, ValueError):
    """What an engine refuses; a ``ValueError`` too, as code written to Qiskit's primitives expects."""


class PubTypeError(EngineError, TypeError):
    """A PUB of the wrong kind of things."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or a list of what is known.

    The result is made to be appended to an error sentence.
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known are: {', '.join(known)}"
