"""The ledger of a run's device jobs: a file that only grows, so that no job is forgotten and none is sent twice.

Each line is one JSON object with ``time``, ``plan``, ``event`` and, where it is about one, ``job``. Events in the life
of a job: ``intent`` (with the tag it will have, before it is sent), ``submitted`` (with its id), ``state``, then
``saved`` (with file and hash of what it measured) or ``ended`` (failed or cancelled, with the reason).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qkd.errors import QkdError
from qkd.runs import append_line, json_lines

NEEDS: dict[str, dict[str, type]] = {
    "intent": {"tag": str},
    "submitted": {"id": str},
    "state": {"state": str},
    "saved": {"file": str, "sha256": str},
    "ended": {"state": str, "reason": str},
    "dropped": {"reason": str},
}
"""What a line of each event has to say."""


@dataclass
class JobRecord:
    """Where one job stands.

    tags: of every intent, oldest first.
    id: the service's, or None before it is known.
    state: as last seen.
    file: what it measured, once saved.
    reason: why it ended without a result.
    """

    number: int
    tags: list[str] = field(default_factory=list)
    id: str | None = None
    state: str = "planned"
    file: str | None = None
    sha256: str | None = None
    reason: str | None = None

    @property
    def open(self) -> bool:
        """Whether a result may still come of it."""
        return self.file is None and self.reason is None


class Ledger:
    """The lines of one run, appended and read.

    Args:
        path: ``hardware/ledger.jsonl``; may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, plan: str, event: str, **facts: Any) -> None:
        """Add a line, and return when it is on the disk.

        Raises:
            QkdError: it cannot be written.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        append_line(self.path, {"time": now, "plan": plan, "event": event, **facts})

    def read(self) -> tuple[list[dict[str, Any]], list[int]]:
        """Return all whole lines, oldest first, and the numbers of damaged ones, which stay in the file.

        Raises:
            QkdError: the file cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise QkdError(f"{self.path}: cannot be read ({error.strerror})") from None
        rows, damaged = [], []
        for number, row in json_lines(data):
            if isinstance(row, ValueError) or not _whole(row):
                damaged.append(number)
            else:
                rows.append(row)
        return rows, damaged

    def jobs(self, plan: str, count: int) -> list[JobRecord]:
        """Return where each of a plan's jobs stands, by number."""
        records = [JobRecord(number) for number in range(count)]
        for row in self.read()[0]:
            if row["plan"] == plan and row["event"] == "dropped":
                for record in records:
                    if not record.tags:
                        record.reason, record.state = row["reason"], "dropped"
            if row["plan"] != plan or not isinstance(row.get("job"), int) or not 0 <= row["job"] < count:
                continue
            record, event = records[row["job"]], row["event"]
            if event == "intent":  # the first, or another try of a job that ended without a result
                record.tags.append(row["tag"])
                record.id, record.reason, record.state = None, None, "intended"
            elif event == "submitted":
                record.id, record.state = row["id"], "submitted"
            elif event == "state":
                record.state = row["state"]
            elif event == "saved":
                record.file, record.sha256, record.state = row["file"], row["sha256"], "saved"
            elif event == "ended":
                record.reason, record.state = row["reason"], row["state"]
        return records


def _whole(row: dict[str, Any]) -> bool:
    """Whether a line says what a line of its event has to say."""
    needs = {"time": str, "plan": str, "event": str} | NEEDS.get(str(row.get("event")), {})
    return all(isinstance(row.get(key), kind) for key, kind in needs.items())
