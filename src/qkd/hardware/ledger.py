"""The ledger of a run's device jobs: a file that only grows, so that no job is lost.

Each line is one JSON object with ``time``, ``plan``, ``event`` and, if it is about one, ``job``. Events of a plan:
``planned``, ``suspect`` (this ledger may not know every job), ``cancel``, ``resubmit``, ``dropped``. Events of a job
begin with ``intent`` (with its tag, before the submission). Then follow ``refused`` (the submission created no job) or
``submitted`` (with its id), and ``state``. It ends with ``saved`` (with file and hash of the result), ``unusable`` (the
result cannot be read) or ``ended`` (failed, cancelled or gone, with the reason). ``duplicate`` is another job of the
same number.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qkd.core.callbacks import notify
from qkd.core.files import MAX_LINES_BYTES, Row, append_line, json_lines, read_bytes

# Fields that a line of each event must have.
REQUIRED_FIELDS: dict[str, dict[str, type]] = {
    "suspect": {"host": str, "damaged": int},
    "dropped": {"reason": str},
    "intent": {"tag": str},
    "submitted": {"id": str},
    "state": {"state": str},
    "saved": {"file": str, "sha256": str},
    "unusable": {"reason": str},
    "ended": {"state": str, "reason": str},
    "duplicate": {"id": str, "state": str},
}
NEVER = float("-inf")


@dataclass
class JobRecord:
    """The state of one job.

    Attributes:
        number: Number of the job in its plan.
        tags: Tags of all intents, the oldest first.
        intended: Time of the last intent with unknown outcome, in seconds since 1970, or None.
        id: The service's id, or None before it is known.
        since: Time at which the id became known.
        replaced: Ids of earlier jobs of this number that ended without a result.
        duplicates: Ids of other jobs of this number.
        state: State as last seen.
        file: File of the saved result, or None.
        sha256: Hash of the file, or None.
        reason: Why the job ended without a result, or None.
    """

    number: int
    tags: list[str] = field(default_factory=list)
    intended: float | None = None
    id: str | None = None
    since: float = 0.0
    replaced: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    state: str = "planned"
    file: str | None = None
    sha256: str | None = None
    reason: str | None = None

    @property
    def open(self) -> bool:
        """True if the job may still give a result."""
        return self.file is None and self.reason is None

    def apply(self, row: Row) -> None:
        """Apply a line of the ledger about this job."""
        event = row["event"]
        if event == "intent":  # the first, or one after a job that ended without a result
            self.tags.append(row["tag"])
            self._replace()
            self.id, self.reason, self.state, self.intended = None, None, "uncertain", _seconds(row["time"])
        elif event == "refused":
            self.intended, self.state = None, "planned"
        elif event == "submitted":
            if row["id"] != self.id:
                self._replace()
            self.id, self.state, self.reason = row["id"], "submitted", None
            self.since = _seconds(row["time"])
            if self.tags and row.get("tag", self.tags[-1]) == self.tags[-1]:
                self.intended = None  # otherwise it is another submission's job, and the last one may still arrive
        elif event == "state":
            self.state = row["state"]
        elif event == "saved":
            self.file, self.sha256, self.state, self.reason = row["file"], row["sha256"], "saved", None
        elif event == "unusable":
            self.reason, self.state = row["reason"], "unusable"
        elif event == "ended":
            self.reason, self.state = row["reason"], row["state"]
        elif event == "resubmit":
            self._replace()
            self.id, self.reason, self.state, self.intended = None, None, "planned", None
        elif event == "duplicate":
            self.duplicates.append(row["id"])

    def _replace(self) -> None:
        if self.id is not None:
            self.replaced.append(self.id)


class Ledger:
    """The lines of one run, appended and read.

    Args:
        path: ``hardware/ledger.jsonl``; it may not exist yet.
        now: Returns the time in seconds since 1970.
    """

    def __init__(
        self, path: Path, now: Callable[[], float] = time.time, listener: Callable[[Row], None] | None = None
    ) -> None:
        self.path, self._now, self._listener = path, now, listener

    def append(self, plan: str, event: str, **facts: Any) -> None:
        """Append a line, and return when it is on the disk."""
        stamp = datetime.datetime.fromtimestamp(self._now(), datetime.UTC).isoformat(timespec="milliseconds")
        row = {"time": stamp, "plan": plan, "event": event, **facts}
        append_line(self.path, row)
        if self._listener is not None:
            self._listener(row)
        notify("on_job", plan, event, facts)

    def read(self) -> tuple[list[Row], list[int]]:
        """Return all valid lines, the oldest first, and the numbers of damaged ones, which remain in the file."""
        rows, damaged = list[Row](), list[int]()
        if not self.path.exists():
            return rows, damaged
        for number, row in json_lines(read_bytes(self.path, MAX_LINES_BYTES)):
            if isinstance(row, ValueError) or not is_valid(row):
                damaged.append(number)
            else:
                rows.append(row)
        return rows, damaged

    def lines(self, plan: str) -> list[Row]:
        """Return the valid lines about a plan, the oldest first."""
        return [row for row in self.read()[0] if row["plan"] == plan]

    def jobs(self, plan: str, count: int) -> list[JobRecord]:
        """Return the states of a plan's jobs, by number."""
        return replay(self.lines(plan), count)

    def is_cancelled(self, plan: str) -> bool:
        """Return whether the user has cancelled a plan and not resubmitted it since."""
        events = [row["event"] for row in self.lines(plan) if row["event"] in ("cancel", "resubmit")]
        return events[-1:] == ["cancel"]

    def suspected_since(self, plan: str, host: str) -> float:
        """Return since when this ledger may lack jobs, in seconds since 1970; minus infinity if it is complete.

        It may lack submitted jobs if it does not record that the plan was made here: it was deleted, or the folder is a
        copy of one that also submits. It may also lack them if a line is damaged. A new suspicion is appended.
        """
        rows, damaged = self.read()
        last = None
        for row in rows:
            if row["plan"] == plan and row["event"] in ("planned", "suspect"):
                last = row
        if last is not None and last.get("host", host) == host and last.get("damaged", 0) >= len(damaged):
            return _seconds(last["time"]) if last["event"] == "suspect" else NEVER
        self.append(plan, "suspect", host=host, damaged=len(damaged))
        return self._now()


def replay(rows: list[Row], count: int) -> list[JobRecord]:
    """Return the states of ``count`` jobs after the lines about their plan."""
    records = [JobRecord(number) for number in range(count)]
    for row in rows:
        if row["event"] == "dropped":
            for record in records:
                if not record.tags and record.id is None:
                    record.reason, record.state = row["reason"], "dropped"
        elif isinstance(row.get("job"), int) and 0 <= row["job"] < count:
            records[row["job"]].apply(row)
    return records


def is_valid(row: Row) -> bool:
    """Return whether a line has the fields of its event."""
    required = {"time": str, "plan": str, "event": str} | REQUIRED_FIELDS.get(str(row.get("event")), {})
    if not all(isinstance(row.get(key), kind) for key, kind in required.items()):
        return False
    if not isinstance(row.get("damaged", 0), int):
        return False
    try:
        _seconds(row["time"])
    except (ValueError, OverflowError):
        return False
    return True


def _seconds(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()
