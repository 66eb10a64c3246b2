"""``qkd run-hardware`` and ``qkd jobs``: from requests to plans, jobs and results."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit.providers import BackendV2

from qkd.core.arguments import public
from qkd.core.config import read_config
from qkd.core.console import log, progress
from qkd.core.errors import DeviceError, FolderError, QkdError
from qkd.core.files import NotWritten, finite, write_json
from qkd.core.runs import RunFolder, existing_run
from qkd.devices import catalogue, live
from qkd.devices.snapshot import Snapshot, load_snapshot
from qkd.hardware.index import find_plan, host_id, indexed_ledger, is_unfinished, ledger_of, load_plans
from qkd.hardware.jobs import JobLoop
from qkd.hardware.learning import learn
from qkd.hardware.ledger import Ledger
from qkd.hardware.plan import Plan, list_plans
from qkd.hardware.plan_jobs import DeviceChanged
from qkd.hardware.planning import make_plans, remaining_seconds
from qkd.hardware.request import AnyRequest, check_objects, fingerprint
from qkd.hardware.result import DeviceRun, interpret, read_result
from qkd.hardware.service.base import RetryPolicy, Service
from qkd.hardware.service.ibm import IBMService
from qkd.hardware.service.local import BackendService, LocalService
from qkd.student.bundle import Student

if TYPE_CHECKING:
    from qiskit_ibm_runtime import QiskitRuntimeService

Confirm = Callable[[Plan], bool]
Own = Any
"""A backend or a client of the user, or None."""


def run(
    request: AnyRequest,
    confirm: Confirm,
    *,
    detach: bool = False,
    dry_run: bool = False,
    new_plan: bool = False,
    policy: RetryPolicy | None = None,
    own: Own = None,
) -> list[DeviceRun]:
    """Carry out a request, and return a device run for each mitigation.

    An unfinished plan of the same request is continued.

    Args:
        confirm: Receives each plan with its budget, and returns whether to submit it.
        new_plan: Make another plan although one of the same request is unfinished.
        own: The device as an object, any ``BackendV2``, or the client of the account that has the device.
    """
    policy, folder = policy or RetryPolicy(), existing_run(request.run)
    backend = own if isinstance(own, BackendV2) else None
    if own is not None and backend is None and not request.local:
        backend = _backend_of(own, request, folder)
    if backend is not None:
        request = request.model_copy(update={"device": str(backend.name)})
    with folder.lock():
        _finish_interrupted(folder)
        if not (new_plan or dry_run) and (unfinished := _open_plans(folder, request, backend)):
            return [_continue(folder, p, request, confirm, policy, not detach, backend) for p in unfinished]
        waiting, finished = make_plans(request, folder, dry_run, backend), list[DeviceRun]()
        asked, available = getattr(request, "samples", None) or 0, len(waiting[0].texts)
        if asked > available:
            log.info(f"--samples is {asked:,}, but there are {available:,} texts; qkd uses all of them")
        if dry_run:  # the cost is shown before a limit refuses it
            for plan in waiting:
                confirm(plan)
            _check_budget(waiting)
            return [DeviceRun(plan, [], None) for plan in waiting]
        while waiting:
            plan = waiting[0]
            _check_budget(waiting)
            if not confirm(plan):
                finished.append(DeviceRun(waiting.pop(0), [], None))
                continue
            ledger = _save(folder, plan, policy)
            try:
                finished.append(_advance(folder, plan, policy, not detach, own=backend))
            except DeviceChanged as change:
                if any(record.tags for record in ledger.jobs(plan.name, plan.jobs)):
                    raise
                log.info(f"{plan.device} changed from version {change.compiled} to {change.version}; compiling again")
                ledger.append(plan.name, "dropped", reason=f"{plan.device} has version {change.version} now")
                names = [later.mitigation.name for later in waiting]
                waiting = [
                    later for later in make_plans(request, folder, backend=backend) if later.mitigation.name in names
                ]
                continue
            waiting.pop(0)
            if waiting and not plan.immediate:
                left = remaining_seconds(_client(backend))
                waiting = [_with_remaining(later, left) for later in waiting]
        return finished


def _save(folder: RunFolder, plan: Plan, policy: RetryPolicy) -> Ledger:
    """Save a plan and record it in its ledger, before anything of it is submitted."""
    plan.save()
    ledger = indexed_ledger(folder, plan, policy)
    facts = {"host": host_id(folder.hardware), "damaged": len(ledger.read()[1])}
    ledger.append(plan.name, "planned", device=plan.device, jobs=plan.jobs, **facts)
    return ledger


def _backend_of(service: QiskitRuntimeService, request: AnyRequest, folder: RunFolder) -> BackendV2:
    """Return the requested device of an account."""
    name = request.device or read_config(folder.config).device.device
    command = f"qkd run-hardware --run {request.run} --device {{device}}"
    catalogue.require_live(name, command, live.names(service))
    backend: BackendV2 = live.backend(name, service, fractional=None)  # all its gates; the profile chooses among them
    return backend


def _finish_interrupted(folder: RunFolder) -> None:
    """Remove plans that a killed command wrote in part, and write a report that lacks a result."""
    planned = {row["plan"] for row in ledger_of(folder).read()[0]}
    for path in folder.hardware.glob("hw-*"):
        if path.name.removeprefix("hw-").isdecimal() and not (path / "plan.json").exists() and path.name not in planned:
            shutil.rmtree(path)  # nothing of it was submitted, because the ledger has no line about it
    results = [path / "result.json" for path in list_plans(folder.hardware)]
    written = folder.report.stat().st_mtime_ns if folder.report.exists() else 0
    if any(path.exists() and path.stat().st_mtime_ns > written for path in results):
        _write_report(folder)


def _open_plans(folder: RunFolder, request: AnyRequest, backend: BackendV2 | None) -> list[Plan]:
    """Return the unfinished plans of the same request, except cancelled ones.

    A plan whose values are saved and whose result a killed command did not write is one of them: its jobs are paid.
    Backends of other providers can have the same name and other gates.
    """
    gates = None if backend is None else _places(load_snapshot(backend))
    ledger, hashed = ledger_of(folder), fingerprint(request, folder)
    return [
        plan
        for plan in load_plans(folder)
        if plan.fingerprint == hashed
        and (plan.service != "backend" or gates is None or _places(plan.snapshot) == gates)
        and not ledger.is_cancelled(plan.name)
        and is_unfinished(folder, plan)
    ]


def _places(snapshot: Snapshot) -> dict[str, list[tuple[int, ...]]]:
    return {name: sorted(places) for name, places in snapshot.calibration.gates.items()}


def _continue(
    folder: RunFolder,
    plan: Plan,
    request: AnyRequest,
    confirm: Confirm,
    policy: RetryPolicy,
    wait: bool,
    backend: BackendV2 | None,
) -> DeviceRun:
    """Continue an unfinished plan of the same request."""
    log.info(f"{plan.name} is an unfinished plan of the same request, so it is continued; --new-plan makes another")
    records = indexed_ledger(folder, plan, policy).jobs(plan.name, plan.jobs)
    unsubmitted = [record for record in records if record.open and not record.tags]
    if unsubmitted:
        limit = plan.limit if request.max_qpu_seconds is None else request.max_qpu_seconds
        left = None if plan.immediate else remaining_seconds(_client(backend))
        plan = _with_remaining(plan, left).model_copy(update={"limit": limit})
        if len(unsubmitted) == plan.jobs:
            _check_budget([plan])
        if not confirm(plan):
            return DeviceRun(plan, records, None)
    return _advance(folder, plan, policy, wait, own=backend)


def _with_remaining(plan: Plan, seconds: float | None) -> Plan:
    return plan.model_copy(update={"budget": replace(plan.budget, remaining=seconds)})


def _check_budget(plans: list[Plan]) -> None:
    """Refuse plans that together exceed their limit or the time that is left; only warn if they are rehearsals."""
    stages = tuple(stage for plan in plans for stage in plan.budget.stages)
    try:
        replace(plans[0].budget, stages=stages).check(plans[0].limit)
    except QkdError as error:
        if not plans[0].local:
            raise
        log.warning(f"the device would refuse this: {error}")


@public
def collect(
    where: str | Path,
    name: str | None = None,
    *,
    wait: bool = True,
    resubmit: bool = False,
    policy: RetryPolicy | None = None,
    backend: BackendV2 | None = None,
    service: QiskitRuntimeService | None = None,
) -> list[DeviceRun]:
    """Continue a run's plans: submit what is due, fetch what is done.

    Args:
        where: The run folder.
        name: Name of a plan; None takes all unfinished ones.
        wait: Wait until all jobs have ended.
        resubmit: Submit jobs again that failed or were cancelled.
        policy: Retries and waits.
        backend: The device, for plans of a backend object.
        service: The client of the account that has the device; the stored account if None.

    Raises:
        QkdError: There is no such plan, or the service refuses or does not answer; the other plans were continued.
    """
    check_objects(backend, service)
    policy, folder, own = policy or RetryPolicy(), existing_run(Path(where)), backend or service
    with folder.lock():
        _finish_interrupted(folder)
        plans = [find_plan(folder, name)] if name else [p for p in load_plans(folder) if is_unfinished(folder, p)]
        finished, failures = [], []
        for plan in plans:
            try:
                finished.append(_advance(folder, plan, policy, wait, resubmit, own))
            except QkdError as error:
                failures.append(error)
        for failure in failures[1:]:
            log.warning(str(failure))
        if failures:
            raise failures[0]
        return finished


@public
def cancel(
    where: str | Path, name: str, policy: RetryPolicy | None = None, service: QiskitRuntimeService | None = None
) -> dict[str, str]:
    """Cancel a plan's jobs that have not ended, and return the state that the service gives for each, by id.

    Args:
        where: The run folder.
        name: Name of the plan.
        policy: Retries and waits.
        service: The client of the account that has the device; the stored account if None.

    Raises:
        QkdError: There is no such plan, or the service refuses.
    """
    policy, folder = policy or RetryPolicy(), existing_run(Path(where))
    with folder.lock():
        plan = find_plan(folder, name)
        with _open_service(plan, service) as opened:
            ledger = indexed_ledger(folder, plan, policy)
            return JobLoop(opened, ledger, policy, host_id(folder.hardware)).cancel()


def _advance(
    folder: RunFolder, plan: Plan, policy: RetryPolicy, wait: bool, resubmit: bool = False, own: Own = None
) -> DeviceRun:
    """Submit and collect jobs, then write the result and the report."""
    ledger = indexed_ledger(folder, plan, policy)
    try:
        with _open_service(plan, own) as service:
            records = JobLoop(service, ledger, policy, host_id(folder.hardware)).run(wait, resubmit)
        device_run = DeviceRun(plan, records, None)
        if plan.request.kind == "learn":
            device_run.result = learn(plan, records)
        else:
            device_run.result = interpret(plan, Student.load(folder.path), records)
        if device_run.result.failed:
            log.warning(f"{plan.name}: {len(device_run.result.failed)} texts have no finite values and are excluded")
        if not device_run.open:
            write_json(plan.folder / "result.json", finite(device_run.result.to_dict()), private=True)
            _write_report(folder)
    except NotWritten as error:
        if not error.full:
            raise
        raise FolderError(
            f"{error.path}: the disk is full; free some space, then continue with 'qkd jobs collect {plan.name} --run "
            f"{folder.path}', which submits no job twice"
        ) from None
    return device_run


def _client(own: Own) -> Any:
    """Return IBM's client: the user's, that of the user's backend object, or one with the stored account."""
    return live.service() if own is None else getattr(own, "service", own)


@contextmanager
def _open_service(plan: Plan, own: Own = None) -> Iterator[Service]:
    """Yield the service on which a plan's jobs run; ``own`` is the user's backend or client."""
    if plan.immediate:
        with progress(f"{plan.mitigation.name} on {plan.place}", len(plan.values), "texts") as bar:
            if plan.local:
                yield LocalService(plan, bar)
            elif not isinstance(own, BackendV2):
                raise DeviceError(f"{plan.name} runs on the backend object {plan.device}; collect it with backend=")
            else:
                yield BackendService(plan, bar, own)
        return
    client = _client(own)
    if plan.instance:
        live.require_instance(client, plan.instance, plan.name)
    fractional = any(item.operation.name in ("rx", "rzz") for item in plan.student.circuit.data)
    try:
        backend = live.backend(plan.device, client, fractional, plan.instance)
    except QkdError as error:  # a device that is gone still has results
        log.warning(str(error))
        backend = None
    service = IBMService(plan, client, backend)
    try:
        yield service
    finally:
        service.close()


def _write_report(folder: RunFolder) -> None:
    """Write the run's report with its device runs."""
    from qkd.reports.report import write_report

    results = []
    for path in list_plans(folder.hardware):
        if (path / "result.json").is_file():
            try:
                results.append(read_result(path / "result.json"))
            except QkdError as error:
                log.warning(str(error))
    write_report(folder, results)
