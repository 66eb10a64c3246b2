"""What a person sees while work goes on: sentences and progress, on standard error.

On a terminal progress is a live bar; elsewhere it is a plain line now and then. Standard output is kept for
results, so that ``--json`` can be piped.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Silence ``say`` and ``progress`` (the CLI's ``-q``); warnings and errors still show."""
    global _quiet
    _quiet = quiet


@contextmanager
def hushed() -> Iterator[None]:
    """Silence ``say`` and ``progress`` in a block, or in the function that this decorates."""
    before = _quiet
    set_quiet(True)
    try:
        yield
    finally:
        set_quiet(before)


def say(message: str) -> None:
    """Print one line about what is going on, unless quiet."""
    if not _quiet:
        print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print one line that a person should not miss, even when quiet."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


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
            say(f"{self.what}: {self.done:,.0f}/{self.total:,.0f} {self.unit}, {rate:,.1f}/s{ends} {note}".rstrip())


@dataclass
class _Silent:
    def advance(self, amount: float = 1, note: str = "") -> None: ...


class _Live:
    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._bar.update(self._task, advance=amount, note=note)


Progress = _Plain | _Silent | _Live


@contextmanager
def progress(what: str, total: float, unit: str = "", done: float = 0) -> Iterator[Progress]:
    """Show how far a long piece of work is; call ``advance(amount, note)`` on what this yields.

    Args:
        what: the work, as a short noun phrase.
        total: how much there is in all.
        unit: what is counted ("texts", "epochs", "MB").
        done: how much of it an earlier process did.
    """
    if _quiet:
        yield _Silent()
    elif not sys.stderr.isatty():
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
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Bar(*columns, console=Console(stderr=True)) as bar:
            yield _Live(bar, bar.add_task(what, total=total, completed=int(done), note=""))


@contextmanager
def working(what: str, first: float = 2.0, every: float = 10.0) -> Iterator[None]:
    """Report work whose steps cannot be counted: one line after ``first`` seconds, then one every ``every`` seconds.

    Args:
        what: the work, as a short noun phrase.
        first: seconds of silence that need no explanation.
        every: seconds between later lines.
    """
    ended, began = threading.Event(), time.monotonic()

    def report() -> None:
        wait = first
        while not ended.wait(wait):
            say(f"{what}: {time.monotonic() - began:,.0f} s so far")
            wait = every

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
