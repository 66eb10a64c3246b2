"""Errors that a person is meant to read: one sentence with what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QkdError(Exception):
    """A mistake in what was asked or given, told in one sentence; the CLI prints it without a traceback."""


class EngineError(QkdError, ValueError):
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
