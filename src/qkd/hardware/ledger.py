"""The ledger of a run's device jobs: a file that only grows, so that no job is forgotten.

Each line is one JSON object with ``time``, ``plan``, ``event`` and, where it is about one, ``job``. Events of a plan:
``planned``, ``doubt`` (this ledger may not know of every job), ``cancel``, ``again``, ``dropped``. In the life of a
job: ``intent`` (with the tag it will have, before it is sent), ``refused`` (no job came of the intent), ``submitted``
(with its id), ``state``, then ``saved`` (with file and hash of what it measured), ``unusable`` (what it measured cannot
be read) or ``ended`` (failed, cancelled or gone, with the reason); ``duplicate`` (another job of the same number).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qkd.core.files import MAX_LINES_BYTES, Row, append_line, json_lines, read_bytes

NEEDS: dict[str, dict[str, type]] = {
    "doubt": {"home": str, "damaged": int},
    "dropped": {"reason": str},
    "intent": {"tag": str},
    "submitted": {"id": str},
    "state": {"state": str},
    "saved": {"file": str, "sha256": str},
    "unusable": {"reason": str},
    "ended": {"state": str, "reason": str},
    "duplicate": {"id": str, "state": str},
}
"""What a line of each event has to say."""


@dataclass
class JobRecord:
    """Where one job stands.

    tags: of every intent, oldest first.
    intended: when the last intent was written whose fate is not known, in seconds since 1970.
    id: the service's, or None before it is known.
    since: when its id became known.
    dead: ids of earlier jobs of this number that ended without a result.
    duplicates: ids of jobs of this number beside it.
    state: as last seen.
    file: what it measured, once saved.
    reason: why it ended without a result.
    """

    number: int
    tags: list[str] = field(default_factory=list)
    intended: float | None = None
    id: str | None = None
    since: float = 0.0
    dead: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    state: str = "planned"
    file: str | None = None
    sha256: str | None = None
    reason: str | None = None

    @property
    def open(self) -> bool:
        """Whether a result may still come of it."""
        return self.file is None and self.reason is None

    def follow(self, row: Row) -> None:
        """Take in a line about this job."""
        event = row["event"]
        if event == "intent":  # the first, or another try of a job that ended without a result
            self.tags.append(row["tag"])
            self._end()
            self.id, self.reason, self.state, self.intended = None, None, "uncertain", _seconds(row["time"])
        elif event == "refused":
            self.intended, self.state = None, "planned"
        elif event == "submitted":
            if row["id"] != self.id:
                self._end()
            self.id, self.state, self.reason = row["id"], "submitted", None
            self.since = _seconds(row["time"])
            if self.tags and row.get("tag", self.tags[-1]) == self.tags[-1]:
                self.intended = None  # else it is another submission's, and the last one may still arrive
        elif event == "state":
            self.state = row["state"]
        elif event == "saved":
            self.file, self.sha256, self.state, self.reason = row["file"], row["sha256"], "saved", None
        elif event == "unusable":
            self.reason, self.state = row["reason"], "unusable"
        elif event == "ended":
            self.reason, self.state = row["reason"], row["state"]
        elif event == "again":
            self._end()
            self.id, self.reason, self.state, self.intended = None, None, "planned", None
        elif event == "duplicate":
            self.duplicates.append(row["id"])

    def _end(self) -> None:
        """Remember the job that another one takes the place of."""
        if self.id is not None:
            self.dead.append(self.id)


class Ledger:
    """The lines of one run, appended and read.

    Args:
        path: ``hardware/ledger.jsonl``; may not exist yet.
        now: tells the time, in seconds since 1970.
        witness: is told every line too.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], float] = time.time,
        witness: Callable[[Row], None] | None = None,
    ) -> None:
        self.path, self._now, self._witness = path, now, witness

    def append(self, plan: str, event: str, **facts: Any) -> None:
        """Add a line, and return when it is on the disk.

        Raises:
            QkdError: it cannot be written.
        """
        stamp = datetime.datetime.fromtimestamp(self._now(), datetime.UTC).isoformat(timespec="milliseconds")
        row = {"time": stamp, "plan": plan, "event": event, **facts}
        append_line(self.path, row)
        if self._witness is not None:
            self._witness(row)

    def read(self) -> tuple[list[Row], list[int]]:
        """Return all whole lines, oldest first, and the numbers of damaged ones, which stay in the file.

        Raises:
            QkdError: the file cannot be read.
        """
        if not self.path.exists():
            return [], []
        data = read_bytes(self.path, MAX_LINES_BYTES)
        rows, damaged = [], []
        for number, row in json_lines(data):
            if isinstance(row, ValueError) or not whole(row):
                damaged.append(number)
            else:
                rows.append(row)
        return rows, damaged

    def of(self, plan: str) -> list[Row]:
        """Return the whole lines about a plan, oldest first."""
        return [row for row in self.read()[0] if row["plan"] == plan]

    def jobs(self, plan: str, count: int) -> list[JobRecord]:
        """Return where each of a plan's jobs stands, by number."""
        return follow(self.of(plan), count)

    def cancelled(self, plan: str) -> bool:
        """Whether the user has cancelled a plan, and not sent it again since."""
        events = [row["event"] for row in self.of(plan) if row["event"] in ("cancel", "again")]
        return events[-1:] == ["cancel"]

    def doubt(self, plan: str, home: str) -> float:
        """Return since when this ledger is doubted, in seconds since 1970; minus infinity where it is not.

        It may lack jobs that were sent where it does not know that the plan was made here (it was deleted, or the
        folder is a copy of one that sends too), or where a line is damaged. What is doubted now is written into it.

        Args:
            plan: its name.
            home: this machine and folder.
        """
        rows, damaged = self.read()
        last = None
        for row in rows:
            if row["plan"] == plan and row["event"] in ("planned", "doubt"):
                last = row
        if last is not None and last.get("home", home) == home and last.get("damaged", 0) >= len(damaged):
            return _seconds(last["time"]) if last["event"] == "doubt" else float("-inf")
        self.append(plan, "doubt", home=home, damaged=len(damaged))
        return self._now()


def follow(rows: list[Row], count: int) -> list[JobRecord]:
    """Return where each of ``count`` jobs stands after the lines about their plan."""
    records = [JobRecord(number) for number in range(count)]
    for row in rows:
        if row["event"] == "dropped":
            for record in records:
                if not record.tags and record.id is None:
                    record.reason, record.state = row["reason"], "dropped"
        elif isinstance(row.get("job"), int) and 0 <= row["job"] < count:
            records[row["job"]].follow(row)
    return records


def whole(row: Row) -> bool:
    """Whether a line says what a line of its event has to say."""
    needs = {"time": str, "plan": str, "event": str} | NEEDS.get(str(row.get("event")), {})
    if not all(isinstance(row.get(key), kind) for key, kind in needs.items()):
        return False
    try:
        _seconds(row["time"])
    except ValueError:
        return False
    return True


def _seconds(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()
