"""``qkd run-hardware`` and ``qkd jobs``: from a run's student to a plan, to jobs, to a result."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd import config as configs
from qkd.circuits.student import StudentCircuit
from qkd.config import EngineSpec
from qkd.console import progress, say, warn
from qkd.devices import catalogue, live, profiles, snapshot
from qkd.devices.noise import noise_model
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import transpile
from qkd.engines import make_engine
from qkd.errors import QkdError
from qkd.hardware import budget as costs
from qkd.hardware.budget import Budget, Stage
from qkd.hardware.jobs import Provider, Recalibrated, drive
from qkd.hardware.ledger import JobRecord, Ledger
from qkd.hardware.mitigation import NAMES, Layers, Mitigation, executions, layers_of, noise_of_layers
from qkd.hardware.patience import Patience, insist
from qkd.hardware.plan import Plan, new_folder, plans
from qkd.hardware.rehearsal import Rehearsal
from qkd.hardware.remote import Remote
from qkd.hardware.result import expected, interpret, margins, slopes_of
from qkd.runs import RunFolder, existing_run, read_json, read_lines, write_json
from qkd.student.bundle import Student

if TYPE_CHECKING:
    from qkd.devices.profiles import Profile

LOCAL_TEXTS = 50
"""Texts of a rehearsal's job: what a rehearsal that is killed loses at most."""
LOCAL_RANDOMIZATIONS = {"readout": 8, "zne": 6, "pea": 16, "pec": 32}
"""Twirls of a rehearsal that asks for none: each is a simulation of its own, and Aer's noise is twirled already."""
Confirm = Callable[[Plan], bool]


@dataclass(frozen=True)
class Order:
    """What a user asked for; None is the profile's choice or the run's.

    run: the run folder.
    device: where.
    local: on its snapshot.
    mitigation: a name, or ``all``.
    shots: a number, or ``auto``.
    target_stderr: the standard error wanted of expectation values, for shots ``auto``.
    samples: how many test texts, stratified by label; all when None.
    file: texts of one's own in place of the run's test texts.
    text_column: of that file.
    profile: the transpile profile.
    max_qpu_seconds: the limit.
    mode: job, batch or session.
    randomizations: twirls.
    decoupling: the sequence of pulses.
    twirl_gates: twirl gates whatever the mitigation.
    seed: of the choice of texts.
    """

    run: Path = Path("runs/latest")
    device: str | None = None
    local: bool = False
    mitigation: str | None = None
    shots: str | None = None
    target_stderr: float | None = None
    samples: int | None = None
    file: Path | None = None
    text_column: str = "text"
    profile: str | None = None
    max_qpu_seconds: float | None = None
    mode: str | None = None
    randomizations: int | None = None
    decoupling: str | None = None
    twirl_gates: bool = False
    seed: int = 0


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
        done = []
        for plan, limit in _plans(order, folder):
            if not order.local:
                plan.budget.check(limit)
            if not confirm(plan) or dry_run:
                done.append(Outcome(plan, [], None))
                continue
            plan.save()
            stages = [stage.name for stage in plan.budget.stages]
            _ledger(folder).append(plan.name, "planned", device=plan.device, jobs=plan.jobs, stages=stages)
            try:
                done.append(_carry_on(folder, plan, patience, wait=not detach))
            except Recalibrated as changed:
                if any(record.id for record in _ledger(folder).jobs(plan.name, plan.jobs)):
                    raise
                say(f"{changed.args[0].partition(',')[0]}: it is compiled anew")
                again = next(_plans(replace(order, mitigation=plan.mitigation.name), folder))[0]
                again.save()
                _ledger(folder).append(again.name, "planned", device=again.device, jobs=again.jobs, stages=stages)
                done.append(_carry_on(folder, again, patience, wait=not detach))
        return done


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
    return any(record.open for record in records) or not (plan.folder / "result.json").is_file()


def _carry_on(folder: RunFolder, plan: Plan, patience: Patience, wait: bool, again: bool = False) -> Outcome:
    """Send and collect, then write what the results say."""
    with _provider(plan) as provider:
        records = drive(provider, _ledger(folder), patience, wait, again)
    result = interpret(plan, Student.load(folder.path), records)
    if not any(record.open for record in records):
        write_json(plan.folder / "result.json", result)
        _render(folder)
    return Outcome(plan, records, result)


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


def _plans(order: Order, folder: RunFolder) -> Iterator[tuple[Plan, float]]:
    """Yield a plan for each mitigation asked for, with its limit in seconds of the QPU."""
    config = configs.load(folder.config)
    device = order.device or config.device.name
    client = None
    if order.local:
        held = snapshot.load(device)
        version = held.calibration.version
    else:
        online = live.names(client := live.service()) if live.has_account() else None
        catalogue.require_live(device, f"qkd run-hardware --run {order.run} --device {{device}}", online)
        client = client or live.service()
        backend = live.backend(device, client)
        held = snapshot.from_backend(backend)
        told = str(backend.status().backend_version)
        version = held.calibration.version if told == "0.0.0" else told
    profile = profiles.load(order.profile or profiles.default_name(held))
    say(held.summary())
    student = Student.load(folder.path)
    texts = _texts(order, folder)
    values = student.model.values(student.encoder.encode([row["text"] for row in texts]))
    compiled = transpile(student.model.circuit, held, profile)
    shots = _shots(order, profile, student, values)
    remaining = None
    if client is not None:
        remaining = insist("asking for the quota", client.usage, Patience()).get("usage_remaining_seconds")
    names = NAMES if order.mitigation == "all" else (order.mitigation or profile.mitigation,)
    for name in names:
        mitigation = _mitigation(order, profile, name, shots)
        made, chunks = _budget(order, held, compiled, mitigation, len(texts), remaining)
        yield (
            Plan(
                folder=new_folder(folder.hardware),
                key=secrets.token_hex(6),
                device=device,
                local=order.local,
                snapshot=held,
                version=version,
                student=compiled,
                values=values,
                mitigation=mitigation,
                mode=order.mode or profile.execution_mode,
                chunks=tuple(chunks),
                budget=made,
                texts=texts,
            ),
            order.max_qpu_seconds or profile.max_qpu_seconds,
        )


def _mitigation(order: Order, profile: Profile, name: str, shots: int) -> Mitigation:
    twirls = order.randomizations or (LOCAL_RANDOMIZATIONS.get(name) if order.local else None)
    pulses = order.decoupling or ("none" if order.local else profile.dynamical_decoupling)
    return Mitigation(name, shots, twirls, pulses, order.twirl_gates)


def _budget(
    order: Order, held: Snapshot, compiled: StudentCircuit, mitigation: Mitigation, texts: int, remaining: float | None
) -> tuple[Budget, list[tuple[int, int]]]:
    """Return what a run costs on the device, and the texts of each job."""
    from qiskit_ibm_runtime.executor_estimator import Estimator

    small, region = to_region(compiled, held)
    layers: Layers | None = None
    if mitigation.learned:
        found = layers_of(Estimator(mode=region.backend, options=mitigation.options()), small)
        layers = noise_of_layers(found, small, noise_model(region))
    # on a device the client spreads shots over more twirls than a rehearsal, at the same number of shots
    each, once = executions(small, mitigation, layers, region.backend)
    chunks = costs.packed(texts, each, once)
    stages = [Stage(f"measuring {texts} texts", len(chunks), texts * each)]
    if once:
        stages.append(Stage("learning readout", 0, len(chunks) * once))
    if layers is not None:
        circuits, shots = costs.LEARNING
        stages.insert(0, Stage(f"learning {len(layers)} layers", 1, len(layers) * circuits * shots))
    if order.local:
        chunks = [(start, min(texts, start + LOCAL_TEXTS)) for start in range(0, texts, LOCAL_TEXTS)]
    return Budget(tuple(stages), remaining), chunks


def _texts(order: Order, folder: RunFolder) -> list[dict[str, Any]]:
    """Return the texts to classify, with label and teacher's logits where they are known."""
    if order.file is not None:
        from qkd.text.data import load_texts

        rows = [{"text": text, "label": None, "teacher": None} for text in load_texts(order.file, order.text_column)]
    else:
        rows = [{key: row[key] for key in ("text", "label", "teacher")} for row in read_lines(folder.predictions)]
    if order.samples is None or order.samples >= len(rows):
        return rows
    random = np.random.default_rng(order.seed)
    groups: dict[Any, list[int]] = {}
    for i in random.permutation(len(rows)):
        groups.setdefault(rows[i]["label"], []).append(int(i))
    ranked = [(place / len(members), i) for members in groups.values() for place, i in enumerate(members)]
    return [rows[i] for i in sorted(i for _, i in sorted(ranked)[: order.samples])]


def _shots(order: Order, profile: Profile, student: Student, values: np.ndarray) -> int:
    if order.shots is None and order.target_stderr is None:
        return profile.shots
    if order.target_stderr is not None:
        if order.shots not in (None, "auto"):
            raise QkdError("--shots and --target-stderr say the same thing twice; give one of them")
        return costs.shots_at(order.target_stderr)
    if order.shots != "auto":
        try:
            return int(str(order.shots))
        except ValueError:
            raise QkdError(f"--shots {order.shots}: give a number, or auto") from None
    model = student.model
    evs = expected(make_engine(EngineSpec(precision="double"), model.circuit), model.circuit, values)
    logits, weights = model.logits_of(evs), model.head.weight.detach().cpu().numpy()
    margin, _ = margins(logits, np.zeros_like(evs), weights)
    shots = costs.shots_for(evs, margin, slopes_of(logits, weights))
    say(f"{shots:,} shots make all but 5 % of these predictions clearer than two standard errors")
    return shots


def _render(folder: RunFolder) -> None:
    """Write the run's report anew, with its device runs."""
    from qkd.reports.report import rewrite

    results = [read_json(path / "result.json") for path in plans(folder.hardware) if (path / "result.json").is_file()]
    rewrite(folder, results)
