"""The device runs of a run folder, and of every run on this machine: their plans, and where their jobs stand."""

from __future__ import annotations

from pathlib import Path

from qkd.core.console import warn
from qkd.core.errors import FolderError, QkdError
from qkd.core.files import Row
from qkd.core.runs import RunFolder, existing_run
from qkd.hardware import index
from qkd.hardware.ledger import Ledger
from qkd.hardware.patience import Patience
from qkd.hardware.plan import Plan, plans


def listed(where: Path) -> tuple[list[Row], list[int]]:
    """Return every job of a run as plain values, and the numbers of the ledger's damaged lines."""
    folder = existing_run(where)
    ledger, rows = Ledger(folder.hardware / "ledger.jsonl"), []
    for plan in plans_of(folder):
        device = plan.snapshot.name if plan.local else plan.device
        chunks = [stop - start for start, stop in plan.chunks]
        for record in ledger.jobs(plan.name, plan.jobs):
            rows.append(index.listing(folder.path, plan.name, device, plan.mitigation.name, chunks, record))
    return rows, ledger.read()[1]


def listed_all(beside: Path = Path("runs")) -> list[Row]:
    """Return every job of every run on this machine as plain values, open ones first, then the newest runs' first."""
    rows: list[Row] = []
    for where in index.runs(beside):
        try:
            folder = RunFolder(where)
            for plan in plans_of(folder):
                index.restore(where, plan, Ledger(folder.hardware / "ledger.jsonl"))
            rows = listed(where)[0] + rows
        except QkdError as error:
            warn(str(error))
    rows += [row | {"folder_gone": True} for entry in index.orphans() for row in entry.jobs()]
    return sorted(rows, key=lambda row: not row["open"])


def holding(name: str | None, beside: Path = Path("runs")) -> list[Path]:
    """Return the run folders with an unfinished plan, or with one that is called ``name``."""
    folders = []
    for where in index.runs(beside):
        folder = RunFolder(where)
        chosen = [path for path in plans(folder.hardware) if name in (None, path.name)]
        if (name is not None and chosen) or any(unfinished(folder, plan) for plan in loaded(chosen)):
            folders.append(where)
    return folders


def ledger_of(folder: RunFolder, plan: Plan, patience: Patience) -> Ledger:
    """Return a plan's ledger, whose lines go into the index of this machine too."""
    path = folder.hardware / "ledger.jsonl"
    index.restore(folder.path, plan, Ledger(path))
    return Ledger(path, patience.now, index.witness(folder.path, plan))


def plans_of(folder: RunFolder) -> list[Plan]:
    """Return a run's plans, oldest first."""
    return loaded(plans(folder.hardware))


def loaded(folders: list[Path]) -> list[Plan]:
    """Return the plans in folders; one that is damaged is told and passed over."""
    readable = []
    for path in folders:
        try:
            readable.append(Plan.load(path))
        except QkdError as error:
            warn(str(error))
    return readable


def plan_called(folder: RunFolder, name: str) -> Plan:
    """Return a run's plan by name.

    Raises:
        FolderError: there is none of that name.
    """
    known = {path.name: path for path in plans(folder.hardware)}
    if name not in known:
        raise FolderError(f"{folder.path}: there is no device run '{name}'; there are {', '.join(known) or 'none'}")
    return Plan.load(known[name])


def unfinished(folder: RunFolder, plan: Plan) -> bool:
    """Whether something of a plan is still to be sent, fetched or interpreted."""
    records = Ledger(folder.hardware / "ledger.jsonl").jobs(plan.name, plan.jobs)
    saved = any(record.file is not None for record in records)
    waits = any(record.open or record.state == "unusable" for record in records)
    return waits or (saved and not (plan.folder / "result.json").is_file())
