"""Errors for people: one sentence with the fault, its place and a remedy.

The classes::

    QkdError
        ConfigError     a setting or a name
        DataError       texts, labels or logits
        ModelError      a teacher or an encoder
        CircuitError    a circuit or an observable
            EngineError     a request that an engine refuses
                PubTypeError
        DeviceError     a device
        BudgetError     the cost of a device run
        ServiceError    a service that refuses or does not answer
        FolderError     a run, a bundle or another file of qkd
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterable

MAX_CHARACTERS = 1100
"""Length of an error sentence above which characters in the center are omitted."""
_OPTION = re.compile(r"(?<!\w)'(?:qkd|pip|ray) [^']*'|(?<![\w-])--([a-z][a-z0-9-]*[a-z0-9])")
_on_command_line = False


class QkdError(Exception):
    """A foreseen mistake; the CLI prints it as one sentence, without a traceback."""

    def __str__(self) -> str:
        """Return the sentence in the words of the caller, with endless words and blanks of damaged files shortened."""
        text = re.sub(r"(\S{100})\S{200,}(\S{100})", r"\1...\2", re.sub(r"\s{20,}", " ... ", super().__str__()))
        text = spoken(text)
        half = MAX_CHARACTERS // 2
        return text if len(text) <= MAX_CHARACTERS else f"{text[:half]} ... {text[-half:]}"


class ConfigError(QkdError):
    """A setting or a name does not exist or does not fit."""


class DataError(QkdError):
    """Texts, labels or logits do not fit."""


class ModelError(QkdError):
    """A teacher or an encoder is unavailable, damaged or unsuitable."""


class CircuitError(QkdError):
    """A circuit or an observable is malformed, too large or unsupported."""


class DeviceError(QkdError):
    """A device is unknown, retired or too small for the circuit."""


class BudgetError(QkdError):
    """A device run would cost more than its limit."""


class ServiceError(QkdError):
    """A service refuses or does not answer; nothing is lost."""


class FolderError(QkdError):
    """A file of qkd is missing, damaged, in use or cannot be written."""


class EngineError(CircuitError, ValueError):
    """A request that an engine refuses; also a ``ValueError``, as callers of Qiskit's primitives expect."""


class PubTypeError(EngineError, TypeError):
    """A PUB with elements of wrong types."""


def require_extra(what: str, extra: str, *packages: str) -> None:
    """Check that the packages of an extra of qkd are installed.

    Args:
        what: What needs them, as the subject of a sentence.
        extra: Name of the extra.
        packages: Names of the modules.

    Raises:
        ConfigError: One is missing.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        names = " and ".join(missing)
        raise ConfigError(f"{what} needs {names}, which this environment lacks; run pip install 'qkd-llm[{extra}]'")


def speak_options() -> None:
    """Let sentences name options as a shell has them, instead of the arguments of Python functions."""
    global _on_command_line
    _on_command_line = True


def spoken(sentence: str) -> str:
    """Return a sentence in the words of the caller: in Python ``batch_size`` for ``--batch-size``, not in commands."""
    if _on_command_line or "--" not in sentence:
        return sentence
    return _OPTION.sub(_as_argument, sentence)


def _as_argument(match: re.Match[str]) -> str:
    if match[1] is None:  # a command
        return match[0]
    name = match[1].replace("-", "_")
    return f"{name[3:]}=False" if name.startswith("no_") else name


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error sentence: ``"; did you mean 'x'?"``, or a list of the known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known are: {', '.join(known)}"
