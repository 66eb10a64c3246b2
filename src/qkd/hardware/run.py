"""``qkd run-hardware`` and ``qkd jobs``: from plans to jobs, and from jobs to results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qkd.circuits.student import StudentCircuit
from qkd.console import progress, say, warn
from qkd.devices import live
from qkd.errors import QkdError
from qkd.hardware import adaptive
from qkd.hardware.gathered import gather
from qkd.hardware.jobs import Provider, Recalibrated, drive
from qkd.hardware.ledger import JobRecord, Ledger
from qkd.hardware.order import Order, plans_for, quota
from qkd.hardware.patience import Patience, insist
from qkd.hardware.plan import Plan, plans
from qkd.hardware.rehearsal import Rehearsal
from qkd.hardware.remote import Remote
from qkd.hardware.result import interpret, say_of
from qkd.runs import RunFolder, existing_run, read_json, write_json
from qkd.student.bundle import Student

Confirm = Callable[[Plan], bool]


@dataclass
class Outcome:
    """What became of one plan.

    plan: what was asked.
    records: where its jobs stand.
    result: what they say; None where nothing was sent.
    """

    plan: Plan
    records: list[JobRecord]
    result: dict[str, Any] | None


def run(
    order: Order, confirm: Confirm, detach: bool = False, dry_run: bool = False, patience: Patience | None = None
) -> list[Outcome]:
    """Do a device run, or several with ``mitigation="all"``, and return what came of each.

    Args:
        order: what is asked for.
        confirm: is shown each plan with its budget, and says whether to go on.
        detach: return once the jobs are sent.
        dry_run: return before anything is sent.
        patience: how long is waited for the service.

    Raises:
        QkdError: something does not fit, costs too much, or the service refuses or stays away.
    """
    patience = patience or Patience()
    folder = existing_run(order.run)
    with folder.lock():
        done: list[Outcome] = []
        waiting = plans_for(order, folder)
        while waiting:
            plan = waiting[0]
            _afford(waiting)
            if not confirm(plan) or dry_run:
                done.append(Outcome(waiting.pop(0), [], None))
                continue
            plan.save()
            _ledger(folder).append(plan.name, "planned", device=plan.device, jobs=plan.jobs)
            try:
                done.append(_carry_on(folder, plan, patience, wait=not detach))
            except Recalibrated as changed:
                if any(record.tags for record in _ledger(folder).jobs(plan.name, plan.jobs)):
                    raise
                say(f"{plan.device} changed from version {changed.compiled} to {changed.now}: it is compiled anew")
                _ledger(folder).append(plan.name, "dropped", reason=f"{plan.device} is version {changed.now} now")
                names = [one.mitigation.name for one in waiting]
                waiting = [one for one in plans_for(order, folder) if one.mitigation.name in names]
                continue
            waiting.pop(0)
            if waiting and not order.local:
                left = quota(live.service())
                waiting = [replace(one, budget=replace(one.budget, remaining=left)) for one in waiting]
        return done


def _afford(plans: list[Plan]) -> None:
    """Refuse plans that together are above their limit or above what the account has left; warn of a rehearsal's.

    Raises:
        QkdError: says by how much.
    """
    stages = tuple(stage for plan in plans for stage in plan.budget.stages)
    try:
        replace(plans[0].budget, stages=stages).check(plans[0].limit)
    except QkdError as error:
        if not plans[0].local:
            raise
        warn(f"on the device this would be refused: {error}")


def collect(
    where: Path, name: str | None = None, wait: bool = True, again: bool = False, patience: Patience | None = None
) -> list[Outcome]:
    """Go on with a run's plans: send what is not sent, fetch what is done.

    Args:
        where: the run folder.
        name: of one plan; all that are not finished when left out.
        wait: until their jobs have ended.
        again: send jobs again that failed or were cancelled.
        patience: how long is waited for the service.

    Raises:
        QkdError: there is no such plan, or the service refuses or stays away.
    """
    folder = existing_run(where)
    with folder.lock():
        chosen = [_plan(folder, name)] if name else [plan for plan in _all(folder) if _unfinished(folder, plan)]
        return [_carry_on(folder, plan, patience or Patience(), wait, again) for plan in chosen]


def cancel(where: Path, name: str) -> list[str]:
    """Cancel a plan's jobs that have not ended, and return their ids.

    Raises:
        QkdError: there is no such plan, or the service refuses.
    """
    folder = existing_run(where)
    with folder.lock():
        plan, ledger, gone = _plan(folder, name), _ledger(folder), []
        with _provider(plan) as provider:
            for record in ledger.jobs(plan.name, plan.jobs):
                if not record.open:
                    continue
                tag = record.tags[-1] if record.tags else None
                found = [record.id] if record.id else provider.find(tag) if tag and not plan.local else []
                for id_ in found:
                    insist(f"cancelling {id_}", lambda id_=id_: provider.cancel(id_), Patience(tries=3))  # type: ignore[misc]
                    gone.append(str(id_))
                ledger.append(plan.name, "ended", job=record.number, state="cancelled", reason="cancelled by you")
        return gone


def listed(where: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return every job of a run as plain values, and the numbers of the ledger's damaged lines."""
    folder = existing_run(where)
    ledger, rows = _ledger(folder), []
    for plan in _all(folder):
        for record in ledger.jobs(plan.name, plan.jobs):
            start, stop = plan.chunks[record.number] if record.number < len(plan.chunks) else (0, 0)
            rows.append(
                {
                    "plan": plan.name,
                    "job": record.number,
                    "device": plan.snapshot.name if plan.local else plan.device,
                    "mitigation": plan.mitigation.name,
                    "texts": stop - start,
                    "id": record.id,
                    "state": record.state,
                    "reason": record.reason,
                }
            )
    return rows, ledger.read()[1]


def _ledger(folder: RunFolder) -> Ledger:
    return Ledger(folder.hardware / "ledger.jsonl")


def _all(folder: RunFolder) -> list[Plan]:
    return [Plan.load(path) for path in plans(folder.hardware)]


def _plan(folder: RunFolder, name: str) -> Plan:
    known = {path.name: path for path in plans(folder.hardware)}
    if name not in known:
        raise QkdError(f"{folder.path}: there is no device run '{name}'; there are {', '.join(known) or 'none'}")
    return Plan.load(known[name])


def _unfinished(folder: RunFolder, plan: Plan) -> bool:
    records = _ledger(folder).jobs(plan.name, plan.jobs)
    saved = any(record.file is not None for record in records)
    return any(record.open for record in records) or (saved and not (plan.folder / "result.json").is_file())


def _carry_on(folder: RunFolder, plan: Plan, patience: Patience, wait: bool, again: bool = False) -> Outcome:
    """Send and collect, then write what the results say, or go on with the next round of adaptive shots."""
    with _provider(plan) as provider:
        records = drive(provider, _ledger(folder), patience, wait, again)
    student = Student.load(folder.path)
    if not any(record.open for record in records):
        later = _next_round(folder, plan, student, records)
        if later is not None:
            write_json(
                plan.folder / "result.json", {"plan": plan.name, "texts": 0, "continued": later.name}, private=True
            )
            return _carry_on(folder, later, patience, wait, again)
    result = interpret(plan, student, records)
    if not any(record.open for record in records):
        write_json(plan.folder / "result.json", result, private=True)
        _render(folder)
    return Outcome(plan, records, result)


def _next_round(folder: RunFolder, plan: Plan, student: Student, records: list[JobRecord]) -> Plan | None:
    """Return the round that follows a plan, kept; None where every text is clear, or a job has no result."""
    kept = next((one for one in _all(folder) if one.earlier is not None and one.earlier.of == plan.name), None)
    if kept is not None or not plan.rounds or any(record.file is None for record in records):
        return kept
    found = gather(plan, records)
    said, _, _ = say_of(plan, student, found)
    weights = student.model.head.weight.detach().cpu().numpy()
    later = adaptive.following(plan, found, said, weights, student.model.logits_of(said.evs))
    if later is not None:
        more = f"{later.mitigation.shots} shots more for them"
        say(f"{len(later.values)} of {len(plan.texts)} texts are not clear yet: {more}")
        later.save()
        _ledger(folder).append(later.name, "planned", device=later.device, jobs=later.jobs)
    return later


@contextmanager
def _provider(plan: Plan) -> Iterator[Provider]:
    """Yield where a plan's jobs run."""
    if plan.local:
        with progress(f"{plan.mitigation.name} on {plan.snapshot.name}", len(plan.values), "texts") as bar:
            yield Rehearsal(plan, bar)
        return
    client = live.service()
    try:
        backend = live.backend(plan.device, client, _fractional(plan.student))
    except QkdError as error:  # a device that is gone still has results
        warn(str(error))
        backend = None
    provider = Remote(plan, client, backend)
    try:
        yield provider
    finally:
        provider.close()


def _fractional(student: StudentCircuit) -> bool:
    return any(item.operation.name in ("rx", "rzz") for item in student.circuit.data)


def _render(folder: RunFolder) -> None:
    """Write the run's report anew, with its device runs."""
    from qkd.reports.report import rewrite

    results = [read_json(path / "result.json") for path in plans(folder.hardware) if (path / "result.json").is_file()]
    rewrite(folder, results)
