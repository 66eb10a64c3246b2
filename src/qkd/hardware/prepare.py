"""From an order to plans: angles, a compiled circuit, mitigation, jobs and what they cost."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec, read_config
from qkd.core.console import say
from qkd.core.errors import QkdError
from qkd.core.files import Row
from qkd.core.runs import RunFolder
from qkd.devices import catalogue, live, profiles
from qkd.devices import snapshot as snapshots
from qkd.devices.noise import noise_model
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import transpile
from qkd.hardware import affine, sampled
from qkd.hardware import budget as costs
from qkd.hardware.bills import Bills, bills_of
from qkd.hardware.budget import Budget, Stage
from qkd.hardware.mitigation import NAMES, Layers, Mitigation, executions, layers_of, noise_of_layers
from qkd.hardware.order import Order, order_fingerprint, texts_of
from qkd.hardware.patience import Patience, insist
from qkd.hardware.pinned import chosen, pinned
from qkd.hardware.plan import Plan, new_folder
from qkd.hardware.recent import with_recent_errors
from qkd.hardware.result import expected, margins
from qkd.simulation.choice import choose
from qkd.simulation.simulators import make_engine
from qkd.student.bundle import Student

if TYPE_CHECKING:
    from qiskit_ibm_runtime import QiskitRuntimeService

    from qkd.devices.profiles import Profile

LOCAL_TEXTS = 50
"""Texts of a rehearsal's job: what a rehearsal that is killed loses at most."""
LOCAL_RANDOMIZATIONS = {"readout": 8, "zne": 5, "pea": 16, "pec": 32}
"""Twirls of a rehearsal that asks for none: each is a simulation of its own, and Aer's noise is twirled already."""


@dataclass(frozen=True)
class Prepared:
    """What all plans of an order have in common.

    device, version, instance: where they run; the instance of a device on a snapshot is None.
    snapshot: the device as it was read.
    profile: the transpile profile.
    student: the run's.
    compiled: its circuit on the device.
    texts: the rows, N of them.
    values: their parameter values (N,A+P).
    evs: their exact expectation values (N,K).
    remaining: seconds of the QPU that the account has left, where the service tells.
    known: what the device charged before.
    """

    device: str
    version: str
    instance: str | None
    snapshot: Snapshot
    profile: Profile
    student: Student
    compiled: StudentCircuit
    texts: list[Row]
    values: np.ndarray
    evs: np.ndarray
    remaining: float | None
    known: Bills


def plans_for(order: Order, folder: RunFolder, offline: bool = False) -> list[Plan]:
    """Return a plan for each mitigation asked for; nothing of them is kept yet.

    Args:
        order: what is asked for.
        folder: the run's.
        offline: nothing will be sent, so that without an account the snapshot says what it would cost.

    Raises:
        QkdError: there is no such device, it takes no circuits now, or what is asked does not fit it.
    """
    there = prepared(order, folder, offline)
    say(there.snapshot.summary())
    names = NAMES if order.mitigation == "all" else (order.mitigation or there.profile.mitigation,)
    return [plan_of(there, order, folder, name, place) for place, name in enumerate(names)]


def prepared(order: Order, folder: RunFolder, offline: bool = False) -> Prepared:
    """Return what an order's plans have in common; see ``plans_for``."""
    config = read_config(folder.config)
    device = order.device or config.device.device
    client, instance = None, None
    if offline and not order.local and not live.has_account():
        snapshot = snapshots.load_snapshot(catalogue.require_live(device, _command(order)).name)
        version = snapshot.calibration.version
        say(f"there is no account here, so this is what the snapshot of {snapshot.calibration.date} says")
    elif order.local:
        snapshot = snapshots.load_snapshot(device)
        version = snapshot.calibration.version
    else:
        online = live.names(client := live.service()) if live.has_account() else None
        catalogue.require_live(device, _command(order), online)
        client = client or live.service()
        backend = live.backend(device, client, fractional=None)  # all its gates; the profile says which are taken
        with live.asking():
            snapshot, instance = snapshots.from_backend(backend), live.instance_of(backend)
            version_now = str(backend.status().backend_version)
        version = snapshot.calibration.version if version_now == "0.0.0" else version_now
    if order.learned is not None or not order.local:
        snapshot = with_recent_errors(snapshot, order.learned)
    trained = pinned(folder, snapshot) if order.profile is None else None  # another profile asks for another circuit
    own = None if trained is None else config.device.profile
    profile = profiles.load_profile(order.profile or own or profiles.default_name(snapshot))
    student = Student.load(folder.path)
    texts = texts_of(order, folder)
    values = student.model.values(student.encoder.encode([row["text"] for row in texts]))
    compiled = transpile(student.model.circuit, snapshot, profile)
    compiled = chosen(student.model.circuit, trained, compiled, snapshot)
    evs = expected(make_engine(EngineSpec(precision="double"), student.model.circuit), student.model.circuit, values)
    remaining = quota(client) if client is not None else None
    known = Bills() if order.local else bills_of(device, folder.path.parent)
    if known.runs:
        say(f"{device} has charged {known.correction:.2f} times the estimate in {known.runs} earlier runs")
    return Prepared(
        device, version, instance, snapshot, profile, student, compiled, texts, values, evs, remaining, known
    )


def plan_of(there: Prepared, order: Order, folder: RunFolder, name: str, place: int = 0) -> Plan:
    """Return the plan of one mitigation, which is not kept yet.

    Args:
        there: the order, prepared.
        order: what is asked for.
        folder: the run's.
        name: of the mitigation.
        place: among plans that are made at once.

    Raises:
        QkdError: what is asked does not fit the device.
    """
    snapshot, profile, student, compiled = there.snapshot, there.profile, there.student, there.compiled
    fractional = any(item.operation.name in ("rx", "rzz") for item in compiled.circuit.data)
    limit = profile.max_qpu_seconds if order.max_qpu_seconds is None else order.max_qpu_seconds

    def at(shots: int) -> tuple[Mitigation, Budget, list[tuple[int, int]], int]:
        """Return mitigation, cost, the texts of each job and the number of calibration points at a number of shots."""
        mitigation = _mitigation(order, profile, name, shots, fractional)
        extra = affine.points(shots) if name == "affine" else 0
        made, chunks = _budget(order, snapshot, compiled, mitigation, len(there.texts), extra)
        return mitigation, replace(made, remaining=there.remaining, correction=there.known.correction), chunks, extra

    asked = order.shots or profile.shots
    if order.target_stderr is not None:
        mitigation, made, chunks, extra = at(costs.shots_at(order.target_stderr))
    elif asked != "auto":
        mitigation, made, chunks, extra = at(int(asked))
    else:
        share = limit / len(NAMES) if order.mitigation == "all" else limit
        room = min(share, math.inf if there.remaining is None else there.remaining)
        needed = shots_of(student, there.evs)
        for shots in reversed([few for few in costs.SHOTS if few <= needed]):
            mitigation, made, chunks, extra = at(shots)
            if made.seconds <= room:
                break
        unclear = costs.unclear(*leads(student, there.evs), mitigation.shots)
        say(f"{name}: {mitigation.shots:,} shots leave {unclear:.1%} of the predictions unclear")
        if mitigation.shots < needed:
            say(f"{needed:,} shots would leave 5 % unclear, and take more than the {room:,.0f} s of the QPU there are")
    points = np.vstack([there.values, _calibrating(student.model.circuit, there.values, extra, order.seed)])
    return Plan(
        folder=new_folder(folder.hardware, place),
        key=secrets.token_hex(6),
        device=there.device,
        local=order.local,
        snapshot=snapshot,
        version=there.version,
        student=compiled,
        values=points,
        mitigation=mitigation,
        mode=order.mode or profile.execution_mode,
        chunks=tuple(chunks),
        budget=made,
        texts=there.texts,
        limit=limit,
        client=order.client,
        instance=there.instance,
        asked=order_fingerprint(order, folder),
    )


def _calibrating(circuit: StudentCircuit, values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return calibration points (count,A+P): near the texts' values (N,A+P) where an engine is exact, else Clifford."""
    try:
        choose(circuit, None, 0.0)
    except QkdError:
        if count:
            say("light cones are too wide for exact values: maps are fitted on Clifford circuits")
        return affine.clifford(values, count, seed)
    return affine.shuffled(values, len(circuit.inputs), count, seed)


def _command(order: Order) -> str:
    return f"qkd run-hardware --run {order.run} --device {{device}}"


def quota(client: QiskitRuntimeService) -> float | None:
    """Return the seconds of the QPU that the account has left, where the service tells."""
    with live.asking():
        left: float | None = insist("asking for the quota", client.usage, Patience()).get("usage_remaining_seconds")
    return left


def _mitigation(order: Order, profile: Profile, name: str, shots: int, fractional: bool) -> Mitigation:
    """Return what is done against errors. Where gates have a free angle there are no frames that twirl them."""
    twirls = order.randomizations or (LOCAL_RANDOMIZATIONS.get(name) if order.local and order.client else None)
    pulses = order.decoupling or ("none" if order.local else profile.dynamical_decoupling)
    return Mitigation(name, shots, twirls, pulses, True if order.twirl_gates else False if fractional else None)


def _budget(
    order: Order, snapshot: Snapshot, compiled: StudentCircuit, mitigation: Mitigation, texts: int, extra: int
) -> tuple[Budget, list[tuple[int, int]]]:
    """Return what a run costs on the device, and the texts of each job."""
    from qiskit_ibm_runtime.executor_estimator import Estimator

    small, region = to_region(compiled, snapshot)
    layers: Layers | None = None
    if mitigation.learned:
        instructions = layers_of(Estimator(mode=region.backend, options=mitigation.options()), small)
        layers = noise_of_layers(instructions, small, noise_model(region))
    there = replace(mitigation, randomizations=order.randomizations)  # a rehearsal's fewer twirls are its own
    each, once = executions(small, there, layers, region.backend)
    points = texts + extra
    chunks = costs.packed(points, each, once)
    folds = 3 if mitigation.name == "zne" else 1  # the mean of 1, 3 and 5
    seconds = costs.shot_seconds(compiled.circuit, snapshot, folds)
    beside = f" and {extra} calibration points" if extra else ""
    stages = [Stage(f"measuring {texts} texts{beside}", len(chunks), points * each, seconds)]
    if once:
        stages.append(Stage("learning readout", 0, len(chunks) * once, seconds))
    if layers is not None:
        circuits, shots = costs.LEARNING
        stages.insert(0, Stage(f"learning {len(layers)} layers", 1, len(layers) * circuits * shots, seconds))
    if order.local:
        drawn = not order.client and sampled.samples(small, region, mitigation)
        size = points if drawn else LOCAL_TEXTS
        chunks = [(start, min(points, start + size)) for start in range(0, points, size)]
    return Budget(tuple(stages)), chunks


def leads(student: Student, evs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the first class leads the second (n,), and the variance of that at one shot (n,).

    Args:
        student: whose head makes logits of values.
        evs: exact values (n,K).
    """
    logits = student.model.logits_of(evs)
    weights: np.ndarray = student.model.head.weight.detach().cpu().numpy()
    margin, deviation = margins(logits, np.sqrt((1 - evs**2).clip(0)), weights)
    return margin, deviation**2


def shots_of(student: Student, evs: np.ndarray) -> int:
    """Return the fewest shots at which at most 5 % of the predictions are unclear; see ``budget.shots_for``."""
    return costs.shots_for(*leads(student, evs))
