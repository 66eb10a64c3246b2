"""One index of every device job of this user, in the user's state folder: what a run's ledger says, and where it lies.

The ledgers are the truth; the index finds them from any folder, and still knows the jobs of a run folder that is gone.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qkd.core.console import warn
from qkd.core.errors import QkdError
from qkd.core.files import Row, append_line, json_lines, read_json
from qkd.hardware.ledger import Ledger, follow, whole
from qkd.hardware.plan import Plan, plans

MACHINE = Path("/etc/machine-id")


def path() -> Path:
    """Return where the index lies: ``$QKD_STATE``, or the user's state folder."""
    from platformdirs import user_state_path

    folder = os.environ.get("QKD_STATE")
    return (Path(folder) if folder else user_state_path("qkd")) / "jobs.jsonl"


def home_of(hardware: Path) -> str:
    """Return a word for this machine and this very folder: a copy of the folder has another."""
    hardware.mkdir(parents=True, exist_ok=True)
    machine = MACHINE.read_text(encoding="utf-8") if MACHINE.is_file() else ""
    place = f"{machine} {platform.node()} {hardware.resolve()} {hardware.stat().st_ino}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def witness(run: Path, plan: Plan) -> Callable[[Row], None]:
    """Return what adds a ledger's lines about a plan to the index; one that cannot be written is told once."""
    facts = {
        "run": str(run.resolve()),
        "key": plan.key,
        "device": plan.snapshot.name if plan.local else plan.device,
        "mitigation": plan.mitigation.name,
        "chunks": [stop - start for start, stop in plan.chunks],
    }
    troubles: list[str] = []

    def add(row: Row) -> None:
        try:
            append_line(path(), row | facts)
        except QkdError as error:
            if not troubles:
                warn(f"{error}; the jobs of {run} are in its own ledger all the same")
            troubles.append(str(error))

    return add


def restore(run: Path, plan: Plan, ledger: Ledger) -> None:
    """Put a plan's lines into the index, where it has none of them: it was lost, or the folder comes from elsewhere."""
    if plan.key not in entries():
        add = witness(run, plan)
        for row in ledger.of(plan.name):
            add(row)


@dataclass
class Entry:
    """A plan that the index knows.

    run: its run folder, which may be gone.
    plan: its name.
    device: where its jobs run.
    mitigation: what is done against errors.
    chunks: how many texts each job has.
    rows: the lines about it.
    """

    run: Path
    plan: str
    device: str
    mitigation: str
    chunks: list[int]
    rows: list[Row] = field(default_factory=list)

    def jobs(self) -> list[Row]:
        """Return its jobs as plain values."""
        count = 1 + max((row["job"] for row in self.rows if isinstance(row.get("job"), int)), default=0)
        records = follow(self.rows, max(count, len(self.chunks)))
        return [listing(self.run, self.plan, self.device, self.mitigation, self.chunks, record) for record in records]


def listing(run: Path, plan: str, device: str, mitigation: str, chunks: list[int], record: Any) -> Row:
    """Return one job as plain values."""
    return {
        "run": str(run),
        "plan": plan,
        "job": record.number,
        "device": device,
        "mitigation": mitigation,
        "texts": chunks[record.number] if record.number < len(chunks) else 0,
        "id": record.id,
        "state": record.state,
        "reason": record.reason,
        "duplicates": record.duplicates,
        "open": record.open,
    }


def entries() -> dict[str, Entry]:
    """Return the plans that the index knows, by key; lines that are damaged are passed over."""
    try:
        data = path().read_bytes()
    except OSError:
        return {}
    by_key: dict[str, Entry] = {}
    for _, row in json_lines(data):
        if isinstance(row, ValueError) or not whole(row) or not isinstance(row.get("key"), str):
            continue
        try:
            entry = Entry(
                Path(row["run"]), row["plan"], row["device"], row["mitigation"], [int(n) for n in row["chunks"]]
            )
        except (KeyError, TypeError, ValueError):
            continue
        known = by_key.setdefault(row["key"], entry)
        known.run, known.plan = entry.run, entry.plan
        known.rows.append(row)
    return by_key


def runs(beside: Path) -> list[Path]:
    """Return the run folders with device runs: those that the index knows, and those anywhere under ``beside``."""
    folders = {entry.run: None for entry in entries().values() if plans(entry.run / "hardware")}
    for plan in sorted(beside.glob("**/hardware/hw-*/plan.json")):
        folders.setdefault(plan.parents[2].resolve(), None)
    return list(folders)


def orphans() -> list[Entry]:
    """Return the plans whose folders are gone."""
    return [entry for key, entry in entries().items() if _key(entry.run / "hardware" / entry.plan) != key]


def _key(folder: Path) -> str | None:
    """Return the key of the plan in a folder, or None."""
    try:
        key = read_json(folder / "plan.json").get("key")
    except (QkdError, AttributeError):
        return None
    return str(key)
