"""``qkd run-hardware`` and ``qkd jobs``: from plans to jobs, and from jobs to results."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from qkd.circuits.student import StudentCircuit
from qkd.core.console import progress, say, warn
from qkd.core.errors import FolderError, QkdError
from qkd.core.files import NotWritten, finite, write_json
from qkd.core.runs import RunFolder, existing_run
from qkd.devices import live
from qkd.hardware import index, jobs
from qkd.hardware.inventory import ledger_of, plan_called, plans_of, unfinished
from qkd.hardware.jobs import Recalibrated, drive
from qkd.hardware.learning import LearningOrder, learn, learning_fingerprint, plan_for
from qkd.hardware.ledger import JobRecord, Ledger
from qkd.hardware.order import Order, order_fingerprint
from qkd.hardware.patience import Patience
from qkd.hardware.plan import Plan, plans
from qkd.hardware.prepare import plans_for, quota
from qkd.hardware.provider import Provider
from qkd.hardware.rehearsal import Rehearsal
from qkd.hardware.remote import Remote
from qkd.hardware.result import interpret, read_result
from qkd.results import DeviceResult
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
    result: DeviceResult | None


def run(
    order: Order | LearningOrder,
    confirm: Confirm,
    detach: bool = False,
    dry_run: bool = False,
    patience: Patience | None = None,
    anew: bool = False,
) -> list[Outcome]:
    """Do a device run, or several with ``mitigation="all"``, or learn a device's errors; return what came of each.

    A plan of the same order that is not finished is gone on with.

    Args:
        order: what is asked for.
        confirm: is shown each plan with its budget, and says whether to go on.
        detach: return once the jobs are sent.
        dry_run: return before anything is sent.
        patience: how long is waited for the service.
        anew: make another plan of the same order.

    Raises:
        QkdError: something does not fit, costs too much, or the service refuses or stays away.
    """
    patience = patience or Patience()
    folder = existing_run(order.run)
    with folder.lock():
        _tidy(folder)
        if not (anew or dry_run) and (waiting := _open(folder, order)):
            return [_again(folder, plan, order, confirm, patience, wait=not detach) for plan in waiting]
        done: list[Outcome] = []
        waiting = _plans(order, folder, dry_run)
        if dry_run:  # what it costs is shown before anything refuses it
            for plan in waiting:
                confirm(plan)
            _afford(waiting)
            return [Outcome(plan, [], None) for plan in waiting]
        while waiting:
            plan = waiting[0]
            _afford(waiting)
            if not confirm(plan):
                done.append(Outcome(waiting.pop(0), [], None))
                continue
            plan.save()
            ledger = ledger_of(folder, plan, patience)
            facts = {"home": index.home_of(folder.hardware), "damaged": len(ledger.read()[1])}
            ledger.append(plan.name, "planned", device=plan.device, jobs=plan.jobs, **facts)
            try:
                done.append(_carry_on(folder, plan, patience, wait=not detach))
            except Recalibrated as changed:
                if any(record.tags for record in ledger.jobs(plan.name, plan.jobs)):
                    raise
                say(f"{plan.device} changed from version {changed.compiled} to {changed.now}: it is compiled anew")
                ledger.append(plan.name, "dropped", reason=f"{plan.device} is version {changed.now} now")
                names = [later.mitigation.name for later in waiting]
                waiting = [later for later in _plans(order, folder) if later.mitigation.name in names]
                continue
            waiting.pop(0)
            if waiting and not order.local:
                left = quota(live.service())
                waiting = [replace(later, budget=replace(later.budget, remaining=left)) for later in waiting]
        return done


def _tidy(folder: RunFolder) -> None:
    """Finish what a killed command left: plans that were not written whole, and a report that lacks a result."""
    ledger = Ledger(folder.hardware / "ledger.jsonl")
    planned = {row["plan"] for row in ledger.read()[0]}
    for path in folder.hardware.glob("hw-*"):
        if path.name.removeprefix("hw-").isdecimal() and not (path / "plan.json").exists() and path.name not in planned:
            shutil.rmtree(path)  # nothing of it was submitted: the ledger has no line about it
    results = [path / "result.json" for path in plans(folder.hardware)]
    written = folder.report.stat().st_mtime_ns if folder.report.exists() else 0
    if any(path.exists() and path.stat().st_mtime_ns > written for path in results):
        _render(folder)


def _plans(order: Order | LearningOrder, folder: RunFolder, offline: bool = False) -> list[Plan]:
    return [plan_for(order, folder, offline)] if isinstance(order, LearningOrder) else plans_for(order, folder, offline)


def _open(folder: RunFolder, order: Order | LearningOrder) -> list[Plan]:
    """Return the plans of the same order whose jobs have not ended; of a cancelled one none is."""
    if isinstance(order, LearningOrder):
        asked = learning_fingerprint(order, folder)
    else:
        asked = order_fingerprint(order, folder)
    alike = [plan for plan in plans_of(folder) if plan.asked == asked]
    ledger = Ledger(folder.hardware / "ledger.jsonl")
    return [
        plan
        for plan in alike
        if not ledger.cancelled(plan.name) and any(record.open for record in ledger.jobs(plan.name, plan.jobs))
    ]


def _again(
    folder: RunFolder, plan: Plan, order: Order | LearningOrder, confirm: Confirm, patience: Patience, wait: bool
) -> Outcome:
    """Go on with a plan instead of making another like it."""
    say(f"{plan.name} asks for the same and is not finished: it is gone on with; --new-plan makes another")
    ledger = ledger_of(folder, plan, patience)
    unsent = [record for record in ledger.jobs(plan.name, plan.jobs) if record.open and not record.tags]
    if unsent:
        limit = plan.limit if order.max_qpu_seconds is None else order.max_qpu_seconds
        left = None if plan.local else quota(live.service())
        plan = replace(plan, limit=limit, budget=replace(plan.budget, remaining=left))
        if len(unsent) == plan.jobs:
            _afford([plan])
        if not confirm(plan):
            return Outcome(plan, ledger.jobs(plan.name, plan.jobs), None)
    return _carry_on(folder, plan, patience, wait)


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
        QkdError: there is no such plan, or the service refuses or stays away; the other plans were gone on with.
    """
    patience, folder = patience or Patience(), existing_run(where)
    with folder.lock():
        _tidy(folder)
        chosen = (
            [plan_called(folder, name)] if name else [plan for plan in plans_of(folder) if unfinished(folder, plan)]
        )
        done, troubles = [], []
        for plan in chosen:
            try:
                done.append(_carry_on(folder, plan, patience, wait, again))
            except QkdError as error:
                troubles.append(error)
        for trouble in troubles[1:]:
            warn(str(trouble))
        if troubles:
            raise troubles[0]
        return done


def cancel(where: Path, name: str, patience: Patience | None = None) -> dict[str, str]:
    """Cancel a plan's jobs that have not ended, and return the state that the service says of each, by id.

    Raises:
        QkdError: there is no such plan, or the service refuses.
    """
    patience, folder = patience or Patience(), existing_run(where)
    with folder.lock():
        plan = plan_called(folder, name)
        with _provider(plan) as provider:
            home = index.home_of(folder.hardware)
            return jobs.cancel(provider, ledger_of(folder, plan, patience), patience, home)


def _carry_on(folder: RunFolder, plan: Plan, patience: Patience, wait: bool, again: bool = False) -> Outcome:
    """Send and collect, then write what the results say."""
    ledger = ledger_of(folder, plan, patience)
    try:
        with _provider(plan) as provider:
            records = drive(provider, ledger, patience, wait, again, index.home_of(folder.hardware))
        student, done = Student.load(folder.path), not any(record.open for record in records)
        result = learn(plan, records) if plan.purpose == "learn" else interpret(plan, student, records)
        if result.failed:
            warn(f"{plan.name}: {len(result.failed)} texts have no finite values and are left out")
        if done:
            write_json(plan.folder / "result.json", finite(result.to_dict()), private=True)
            _render(folder)
    except NotWritten as error:
        if not error.full:
            raise
        raise FolderError(
            f"{error.path}: the disk is full; free some space, then 'qkd jobs collect {plan.name} --run {folder.path}' "
            "goes on, and sends nothing that was sent"
        ) from None
    return Outcome(plan, records, result)


@contextmanager
def _provider(plan: Plan) -> Iterator[Provider]:
    """Yield where a plan's jobs run."""
    if plan.local:
        with progress(f"{plan.mitigation.name} on {plan.snapshot.name}", len(plan.values), "texts") as bar:
            yield Rehearsal(plan, bar)
        return
    client = live.service()
    if plan.instance:
        live.require_instance(client, plan.instance, plan.name)
    try:
        backend = live.backend(plan.device, client, _fractional(plan.student), plan.instance)
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
    from qkd.reports.report import write_report

    results = []
    for path in plans(folder.hardware):
        if (path / "result.json").is_file():
            try:
                results.append(read_result(path / "result.json"))
            except QkdError as error:
                warn(str(error))
    write_report(folder, results)
