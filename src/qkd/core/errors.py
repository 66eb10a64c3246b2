"""Errors for people: one sentence with the fault, its place and a remedy.

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
import re
from collections.abc import Iterable

MAX_CHARACTERS = 1100
"""Length of an error sentence above which its middle is omitted."""
FUNCTIONS = ("distill", "teach", "compare", "sweep", "reproduce", "evaluate", "predict", "run-hardware", "transpile")
"""Commands that are Python functions of the same name."""
VALUES = "exact|aer|affine|none|onnx|numpy|trajectories|votes|embeddings|lightcone|auto"
"""Words that are the value of an option wherever they follow one."""
_VALUE = rf"'[^']*'|-?\d[\w.,-]*\w|\d|[A-Z][A-Z_,=]*\b|/[\w./-]*\w|\w+(?:[-:_][\w:.-]*)?[-:_]\w+|(?:{VALUES})\b"
_OPTION = re.compile(rf"(?<![\w-])--(no-)?([a-z][a-z0-9-]*[a-z0-9])(?:[ =]({_VALUE}))?")
_WORD = r"(?: --[a-z][a-z0-9-]*(?:[ =](?!-)[^\s',;]+)?)"
_COMMAND = re.compile(rf"'qkd ({'|'.join(FUNCTIONS)})((?: [^']*)?)'|\bqkd ({'|'.join(FUNCTIONS)})({_WORD}+)")
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


def speak_options() -> None:
    """Let sentences name options and commands as a shell has them, instead of Python's arguments and functions."""
    global _on_command_line
    _on_command_line = True


def spoken(sentence: str) -> str:
    """Return a sentence in the words of the caller: in Python ``epochs=3`` for ``--epochs 3``."""
    if _on_command_line or ("--" not in sentence and "'qkd " not in sentence):
        return sentence
    return _OPTION.sub(_as_argument, _COMMAND.sub(_as_call, sentence))


def _as_argument(match: re.Match[str]) -> str:
    no, name, value = match.groups()
    name = name.replace("-", "_")
    if no:
        return f"{name}=False"
    return name if value is None else f"{name}={_literal(value)}"


def _as_call(match: re.Match[str]) -> str:
    name, words = match[1] or match[3], (match[2] or match[4] or "").replace("=", " ").split()
    arguments = []
    while words:
        word = words.pop(0)
        value = words.pop(0) if word.startswith("--") and words and not words[0].startswith("--") else None
        key = word.removeprefix("--").replace("-", "_")
        arguments.append(_literal(word) if key == word else f"{key}={'True' if value is None else _literal(value)}")
    return f"qkd.{name.replace('-', '_')}({', '.join(arguments)})"


def _literal(value: str) -> str:
    plain = value.strip("'\"")
    return plain if re.fullmatch(r"[A-Z_]+|-?\d+(\.\d+)?(e-?\d+)?", plain) else repr(plain)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error sentence: ``"; did you mean 'x'?"``, or a list of the known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known are: {', '.join(known)}"
