"""Output: the log on standard error, with progress, and results on standard output.

``log`` is the logger ``qkd`` of the standard library: ``log.info`` for one line about the work, ``log.warning`` for a
line that ``--quiet`` keeps. Progress is a live bar on a terminal and a plain line now and then elsewhere. Labels, texts
and names are foreign; ``one_line`` and ``printable`` make their control characters visible, so that no text can move
the cursor, color the screen or forge a line. A closed stream never ends the work.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from qkd.core.errors import spoken

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_closed: set[int] = set()


def printable(text: str) -> str:
    """Return a text of several lines with its other control characters as visible escapes."""
    return re.sub(f"[{_CONTROLS}]", _escaped, text)


def one_line(text: str) -> str:
    """Return a text as one line, with control characters and line breaks as visible escapes."""
    return re.sub(f"[{_CONTROLS}\t\n]", _escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def write(text: str = "", end: str = "\n") -> None:
    """Print a result on standard output."""
    _write(sys.stdout, printable(text) + end, 1)


def fail(sentence: str) -> None:
    """Print the error that ends a command, on standard error."""
    _write(sys.stderr, f"error: {one_line(sentence)}\n", 2)


def is_closed() -> bool:
    """Return whether standard output was closed before everything was printed."""
    return 1 in _closed


def _write(stream: TextIO | None, text: str, descriptor: int) -> None:
    """Write to a stream; when its reader is gone, what follows goes nowhere."""
    try:
        if stream is not None:
            with _screen.lock:
                _screen.erase()
                stream.write(text)
                stream.flush()
    except BrokenPipeError:
        _closed.add(descriptor)
        with suppress(OSError, ValueError):  # a stream of a notebook has no descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno() if stream else descriptor)
    except (OSError, ValueError):  # a full disk behind a redirection, or a closed stream
        _closed.add(descriptor)


@dataclass
class _Screen:
    """The last line of a terminal, where a command without other output counts seconds.

    Attributes:
        lock: Is held while something is written.
        spoken: Time of the last output.
        counts: Whether the line counts seconds now.
        watched: Whether ``heartbeat`` is active.
        held: Number of blocks in which the line belongs to a bar, a question or a server.
        labels: The work of the ``working`` blocks, the innermost last.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    spoken: float = field(default_factory=time.monotonic)
    counts: bool = False
    watched: bool = False
    held: int = 0
    labels: list[str] = field(default_factory=lambda: ["working"])

    def erase(self) -> None:
        """Remove the seconds, because something else is written."""
        self.spoken = time.monotonic()
        if self.counts and sys.stderr is not None:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self.counts = False

    def count(self) -> None:
        """Show the seconds since the last output, if these are many."""
        with self.lock:
            silent = time.monotonic() - self.spoken
            if silent < SILENCE_SECONDS or self.held or is_quiet() or sys.stderr is None:
                return
            with suppress(OSError, ValueError):
                sys.stderr.write(f"\r\x1b[K{one_line(self.labels[-1])}: {silent:.0f} s")
                sys.stderr.flush()
                self.counts = True


_screen = _Screen()
SILENCE_SECONDS = 1.0
"""Seconds without output after which a command on a terminal counts them."""


@contextmanager
def _meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run ``work`` in a thread during this block; its event is set at the end."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def heartbeat() -> Iterator[None]:
    """On a terminal, count the seconds in the last line while a command prints nothing, as during slow imports."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return

    def beat(ended: threading.Event) -> None:
        while not ended.wait(0.5):
            _screen.count()

    _screen.watched = True
    try:
        with _meanwhile(beat):
            yield
    finally:
        _screen.watched = False
        with _screen.lock:
            _screen.erase()


@contextmanager
def held() -> Iterator[None]:
    """Leave the terminal to a bar, a question or a server in this block."""
    with _screen.lock:
        _screen.erase()
        _screen.held += 1
    try:
        yield
    finally:
        with _screen.lock:
            _screen.held -= 1
            _screen.spoken = time.monotonic()


class _Handler(logging.Handler):
    """Writes each record as one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        _write(sys.stderr, f"{prefix}{record.getMessage()}\n", 2)


def _escape(record: logging.LogRecord) -> bool:
    """Make the message one line that every handler can encode, also one that a caller added."""
    record.msg, record.args = one_line(spoken(record.getMessage())), None
    return True


log = logging.getLogger("qkd")
log.addFilter(_escape)
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(_Handler())


def set_quiet(quiet: bool) -> None:
    """Suppress progress and ``log.info`` (the CLI's ``-q``); warnings and errors still show."""
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def is_quiet() -> bool:
    """Return whether progress and ``log.info`` are suppressed."""
    return not log.isEnabledFor(logging.INFO)


@contextmanager
def suppressed_output() -> Iterator[None]:
    """Suppress progress and ``log.info`` in a block, or in the function that this decorates."""
    before = log.level
    set_quiet(True)
    try:
        yield
    finally:
        log.setLevel(before)


@dataclass
class _Plain:
    """Progress where there is no terminal: one line at the start, every ten seconds and at the end."""

    what: str
    total: float
    unit: str
    every: float = 10.0
    done: float = 0.0
    before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount
        now = time.monotonic()
        if self.done >= self.total or now - self.last >= self.every:
            self.last = now
            rate = (self.done - self.before) / max(now - self.started, 1e-9)
            left = (self.total - self.done) / rate if rate else float("inf")
            ends = f", {left:,.0f} s left" if 0 < left < float("inf") else ""
            log.info(
                f"{self.what}: {self.done:,.0f}/{self.total:,.0f} {self.unit}, {rate:,.1f}/s{ends} {note}".rstrip()
            )


@dataclass
class _Silent:
    def advance(self, amount: float = 1, note: str = "") -> None: ...


class _Live:
    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._bar.update(self._task, advance=amount, note=one_line(note))


Progress = _Plain | _Silent | _Live


@contextmanager
def progress(what: str, total: float, unit: str = "", done: float = 0) -> Iterator[Progress]:
    """Show the progress of long work; yield an object with ``advance(amount, note)``.

    Args:
        what: the work, as a short noun phrase.
        unit: what is counted ("texts", "epochs", "MB").
        done: how much of it an earlier process did.
    """
    if is_quiet():
        yield _Silent()
    elif sys.stderr is None or not sys.stderr.isatty():
        yield _Plain(what, total, unit, done=done, before=done)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{task.speed:,.1f}/s" if task.speed else "")

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit, markup=False),
            Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with held(), Bar(*columns, console=Console(stderr=True)) as bar:
            yield _Live(bar, bar.add_task(one_line(what), total=total, completed=int(done), note=""))


@contextmanager
def working(what: str, first: float = 2.0, every: float = 10.0) -> Iterator[None]:
    """Report work whose steps cannot be counted: one line after ``first`` seconds, then one every ``every`` seconds.

    On a terminal with a ``heartbeat``, the last line counts the seconds instead.

    Args:
        what: the work, as a short noun phrase.
        first: seconds of silence that need no explanation.
        every: seconds between later lines.
    """
    if _screen.watched:
        _screen.labels.append(what)
        try:
            yield
        finally:
            _screen.labels.remove(what)
        return
    began = time.monotonic()

    def report(ended: threading.Event) -> None:
        wait = first
        while not ended.wait(wait):
            log.info(f"{what}: {time.monotonic() - began:,.0f} s so far")
            wait = every

    with _meanwhile(report):
        yield
