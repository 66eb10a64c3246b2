"""Every device job of this user: the jobs of run folders, and an index of them in the user's state folder.

The ledgers are authoritative. The index finds them from any folder, and still knows the jobs of a deleted run folder.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qkd.core.arguments import public
from qkd.core.console import log
from qkd.core.errors import FolderError, QkdError
from qkd.core.files import MAX_LINES_BYTES, Row, append_line, json_lines, read_bytes, read_json
from qkd.core.runs import RunFolder, existing_run
from qkd.hardware.ledger import JobRecord, Ledger, is_valid, replay
from qkd.hardware.plan import Plan, list_plans
from qkd.hardware.service.base import RetryPolicy

MACHINE_ID = Path("/etc/machine-id")


def index_path() -> Path:
    """Return the path of the index, in ``$QKD_STATE`` or the user's state folder."""
    from platformdirs import user_state_path

    folder = os.environ.get("QKD_STATE")
    return (Path(folder) if folder else user_state_path("qkd")) / "jobs.jsonl"


def host_id(hardware: Path) -> str:
    """Return an id of this machine and this very folder; a copy of the folder has another."""
    hardware.mkdir(parents=True, exist_ok=True)
    machine = MACHINE_ID.read_text(encoding="utf-8") if MACHINE_ID.is_file() else ""
    place = f"{machine} {platform.node()} {hardware.resolve()} {hardware.stat().st_ino}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


# Ledgers and plans of a run folder


def ledger_of(folder: RunFolder) -> Ledger:
    """Return a run's ledger for reading."""
    return Ledger(folder.hardware / "ledger.jsonl")


def indexed_ledger(folder: RunFolder, plan: Plan, policy: RetryPolicy) -> Ledger:
    """Return a plan's ledger, whose lines also go into the index."""
    _restore(folder.path, plan, ledger_of(folder))
    return Ledger(folder.hardware / "ledger.jsonl", policy.now, _index_listener(folder.path, plan))


def load_plans(folder: RunFolder, name: str | None = None) -> list[Plan]:
    """Return a run's plans, the oldest first, or those called ``name``; a damaged one is skipped with a warning."""
    plans = []
    for path in list_plans(folder.hardware):
        if name in (None, path.name):
            try:
                plans.append(Plan.load(path))
            except QkdError as error:
                log.warning(str(error))
    return plans


def find_plan(folder: RunFolder, name: str) -> Plan:
    """Return a run's plan by name."""
    known = {path.name: path for path in list_plans(folder.hardware)}
    if name not in known:
        raise FolderError(f"{folder.path}: there is no device run '{name}'; there are {', '.join(known) or 'none'}")
    return Plan.load(known[name])


def is_unfinished(folder: RunFolder, plan: Plan) -> bool:
    """Return whether something of a plan remains to be submitted, fetched or interpreted."""
    records = ledger_of(folder).jobs(plan.name, plan.jobs)
    saved = any(record.file is not None for record in records)
    waiting = any(record.open or record.state == "unusable" for record in records)
    return waiting or (saved and not (plan.folder / "result.json").is_file())


@public
def list_jobs(where: str | Path) -> tuple[list[Row], list[int]]:
    """Return every job of a run as plain values, and the numbers of the ledger's damaged lines."""
    folder = existing_run(Path(where))
    return _jobs(folder, load_plans(folder)), ledger_of(folder).read()[1]


def _jobs(folder: RunFolder, plans: Sequence[Plan]) -> list[Row]:
    """Return the jobs of a run's plans as plain values."""
    ledger, rows = ledger_of(folder), []
    for plan in plans:
        chunks = [stop - start for start, stop in plan.chunks]
        entry = Entry(folder.path, plan.name, plan.place, plan.mitigation.name, chunks)
        rows += [entry.row(record) for record in ledger.jobs(plan.name, plan.jobs)]
    return rows


def list_all_jobs(under: Path = Path("runs")) -> list[Row]:
    """Return every job of every run on this machine as plain values: open ones first, then those of the newest runs."""
    rows: list[Row] = []
    for where in _run_folders(under):
        try:
            folder = RunFolder(where)
            plans = load_plans(folder)
            for plan in plans:
                _restore(where, plan, ledger_of(folder))
            rows = _jobs(folder, plans) + rows
        except QkdError as error:
            log.warning(str(error))
    gone = [entry for key, entry in _read_index().items() if _key(entry.run / "hardware" / entry.plan) != key]
    rows += [row | {"folder_gone": True} for entry in gone for row in entry.jobs()]
    return sorted(rows, key=lambda row: not row["open"])


def runs_with_plan(name: str | None, under: Path = Path("runs")) -> list[Path]:
    """Return the run folders with a plan called ``name``, or with an unfinished plan if it is None."""
    folders = []
    for where in _run_folders(under):
        folder = RunFolder(where)
        plans = load_plans(folder, name)
        if (name is not None and plans) or any(is_unfinished(folder, plan) for plan in plans):
            folders.append(where)
    return folders


# The index


@dataclass
class Entry:
    """A plan in the index.

    Attributes:
        run: Its run folder, which may be gone.
        plan: Its name.
        device: Name of the device or snapshot.
        mitigation: Name of the mitigation.
        chunks: Number of points of each job.
        rows: Its ledger lines.
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
        return [self.row(record) for record in replay(self.rows, max(min(count, 10_000), len(self.chunks)))]

    def row(self, record: JobRecord) -> Row:
        """Return one job as plain values."""
        return {
            "run": str(self.run),
            "plan": self.plan,
            "job": record.number,
            "device": self.device,
            "mitigation": self.mitigation,
            "texts": self.chunks[record.number] if record.number < len(self.chunks) else 0,
            "id": record.id,
            "state": record.state,
            "reason": record.reason,
            "duplicates": record.duplicates,
            "open": record.open,
        }


def _index_listener(run: Path, plan: Plan) -> Callable[[Row], None]:
    """Return a function that appends a ledger line to the index; it warns once if that fails."""
    facts = {
        "run": str(run.resolve()),
        "key": plan.key,
        "device": plan.place,
        "mitigation": plan.mitigation.name,
        "chunks": [stop - start for start, stop in plan.chunks],
    }
    failures: list[str] = []

    def add(row: Row) -> None:
        try:
            append_line(index_path(), row | facts)
        except QkdError as error:
            if not failures:
                log.warning(f"{error}; the ledger of {run} still has its jobs")
            failures.append(str(error))

    return add


def _restore(run: Path, plan: Plan, ledger: Ledger) -> None:
    """Append a plan's lines to the index if it has none of them: it was lost, or the folder comes from elsewhere."""
    if plan.key not in _read_index():
        add = _index_listener(run, plan)
        for row in ledger.lines(plan.name):
            add(row)


def _read_index() -> dict[str, Entry]:
    """Return the plans in the index, by key; damaged lines are ignored."""
    try:
        data = read_bytes(index_path(), MAX_LINES_BYTES)
    except QkdError:
        return {}
    by_key: dict[str, Entry] = {}
    for _, row in json_lines(data):
        if isinstance(row, ValueError) or not is_valid(row) or not isinstance(row.get("key"), str):
            continue
        try:
            chunks = [int(count) for count in row["chunks"]]
            entry = Entry(Path(row["run"]), row["plan"], row["device"], row["mitigation"], chunks)
        except (KeyError, TypeError, ValueError):
            continue
        known = by_key.setdefault(row["key"], entry)
        known.run, known.plan = entry.run, entry.plan
        known.rows.append(row)
    return by_key


def _run_folders(under: Path) -> list[Path]:
    """Return the run folders with device runs that the index knows, or that are anywhere below ``under``."""
    folders = {entry.run: None for entry in _read_index().values() if list_plans(entry.run / "hardware")}
    for plan in sorted(under.glob("**/hardware/hw-*/plan.json")):
        folders.setdefault(plan.parents[2].resolve(), None)
    return list(folders)


def _key(folder: Path) -> str | None:
    """Return the key of the plan in a folder, or None."""
    try:
        key = read_json(folder / "plan.json").get("key")
    except (QkdError, AttributeError):
        return None
    return str(key)
