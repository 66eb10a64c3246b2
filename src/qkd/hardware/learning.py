"""``qkd devices learn``: a plan of circuits whose exact values are known, and the errors that explain what they say.

The circuits are the run's own, on its region, at random angles, without mitigation and in no frames: what is learned
is what the student meets. Errors that these circuits cannot tell apart, such as phases behind one cz and before the
next without a turn between them, are shared out as a calibration lets expect. The plan is kept, estimated, sent, gone
on with and billed like any other device run.
"""

from __future__ import annotations

import datetime
import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

from qkd.core.console import progress
from qkd.core.errors import ConfigError
from qkd.core.runs import RunFolder
from qkd.devices import snapshot as snapshots
from qkd.devices.hidden import with_learned
from qkd.devices.learned import Learned
from qkd.devices.region import to_region
from qkd.hardware.gathered import gather
from qkd.hardware.ledger import JobRecord
from qkd.hardware.order import Order
from qkd.hardware.plan import Plan
from qkd.hardware.prepare import plan_of, prepared
from qkd.hardware.recent import NONE
from qkd.hardware.result import of_jobs
from qkd.results import LearnedResult
from qkd.results.device import Unexplained
from qkd.simulation import fit

WEIGHTS = 8
"""Sets of weights among the circuits; each is one more compilation of the engine."""


@dataclass(frozen=True)
class LearningOrder:
    """What is asked of a device.

    run: whose circuit and region.
    device: its name, or a snapshot's.
    local: on the snapshot.
    points: circuits M.
    shots: of each.
    max_qpu_seconds: the limit; the profile's when None.
    decoupling: the sequence of pulses; the profile's when None.
    seed: of the circuits.
    """

    run: Path
    device: str | None = None
    local: bool = False
    points: int = 256
    shots: int = 128
    max_qpu_seconds: float | None = None
    decoupling: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points < 2 * WEIGHTS or self.shots < 1:
            raise ConfigError(f"errors are learned from {2 * WEIGHTS} circuits at least, of 1 shot at least")

    @property
    def of_texts(self) -> Order:
        """The same as an order of texts, of which there are none."""
        return Order(
            run=self.run,
            device=self.device,
            local=self.local,
            mitigation="none",
            shots=str(self.shots),
            samples=1,
            max_qpu_seconds=self.max_qpu_seconds,
            decoupling=self.decoupling,
            seed=self.seed,
            learned=NONE,
        )


def learning_fingerprint(order: LearningOrder, folder: RunFolder) -> str:
    """Return a hash of all that decides what is measured."""
    circuit = (folder.student / "circuit.qasm").read_bytes()
    settings = repr(replace(order, run=Path(), max_qpu_seconds=None)).replace(type(order).__name__, "Lesson", 1)
    return hashlib.sha256(b"learn" + settings.encode() + circuit).hexdigest()


def plan_for(order: LearningOrder, folder: RunFolder, offline: bool = False) -> Plan:
    """Return the plan of what a device is asked; nothing of it is kept yet.

    Raises:
        QkdError: there is no such device, it takes no circuits now, or the circuit does not fit it.
    """
    of_texts = order.of_texts
    there = prepared(of_texts, folder, offline)
    compiled = fit.calibrating(there.compiled)
    values = fit.points(compiled, WEIGHTS, -(-order.points // WEIGHTS), order.seed)
    circuits = replace(there, compiled=compiled, values=values, texts=[{}] * len(values))
    plan = plan_of(circuits, of_texts, folder, "none")
    stages = tuple(replace(stage, name=f"measuring {len(values)} circuits") for stage in plan.budget.stages)
    return replace(
        plan,
        texts=[],
        budget=replace(plan.budget, stages=stages),
        purpose="learn",
        asked=learning_fingerprint(order, folder),
    )


def learn(plan: Plan, records: list[JobRecord]) -> LearnedResult:
    """Return what a plan's measurements say of its device, and keep it as a snapshot file.

    The file lies in the plan's folder and, if it is clearer than the calibration, beside the user's snapshots under the
    time of the measurement, so that no other is written over.
    """
    nothing = LearnedResult(**dict(of_jobs(plan, records)) | {"purpose": plan.purpose})
    gathered = gather(plan, records)
    rows = gathered.there.nonzero()[0]
    if len(rows) < 2 * WEIGHTS or any(record.open for record in records):
        return nothing
    student, region = to_region(plan.student, plan.snapshot)
    date = datetime.datetime.fromtimestamp(max(record.since for record in records), datetime.UTC)
    with progress("fitting", fit.STEPS + fit.MORE, "steps") as bar:
        learned = fit.fit(
            student,
            region,
            gathered.values[rows],
            gathered.evs[rows],
            gathered.stds[rows],
            date.isoformat(timespec="seconds"),
            lambda *_: bar.advance(1),
        )
    calibration = with_learned(plan.snapshot, learned.learned).calibration
    path = plan.folder / "learned.json"
    snapshots.write_snapshot(calibration, path)
    if learned.clearer:
        path = snapshots.learned_path(plan.snapshot.name, date)
        snapshots.write_snapshot(calibration, path)
    before, after = learned.unexplained
    return nothing.model_copy(
        update={
            "circuits": len(rows),
            "file": str(path),
            "unexplained": Unexplained(calibration=before, learned=after),
            "noise": learned.noise,
            "clearer": learned.clearer,
            "learned": learned.learned.to_dict(),
        }
    )


def conclusion(result: LearnedResult) -> str:
    """Return what is to be done with what was learned, as a sentence."""
    if result.clearer:
        return f"take it as any device: qkd distill --sim aer-noisy --device {result.file}"
    return (
        "what was learned is no nearer to the values kept apart than the calibration, as far as "
        f"{result.circuits} circuits tell: there is nothing here to train for; more --points or --shots would tell more"
    )


def table(result: LearnedResult) -> list[tuple[str, ...]]:
    """Return what was learned as a table, header first: for each kind of error how large it is, and the worst place."""
    learned = Learned.from_dict(result.learned or {})
    kinds: dict[str, dict[str, float]] = {}
    for name, places in learned.gates.items():
        for place, gate in places.items():
            where = "-".join(map(str, place))
            for label, angle in gate.angles.items():
                kinds.setdefault(f"{label} behind {name}, rad", {})[where] = angle
            if len(place) == 2:
                kinds.setdefault(f"depolarization of {name}", {})[where] = gate.stochastic
    kinds["ZZ between neighbours, rad"] = {f"{a}-{b}": angle for (a, b), angle in learned.spectators.items()}
    kinds["readout"] = {str(qubit): (up + down) / 2 for qubit, (up, down) in learned.readout.items()}
    rows: list[tuple[str, ...]] = [("error", "rms", "largest", "where")]
    for kind, values in kinds.items():
        if values:
            worst = max(values, key=lambda where: abs(values[where]))
            rms = math.sqrt(sum(value**2 for value in values.values()) / len(values))
            rows.append((kind, f"{rms:.4f}", f"{values[worst]:+.4f}", worst))
    if result.unexplained is not None:
        left = (result.unexplained.calibration, result.unexplained.learned)
        before, after = (f"{value:.4f}" if value else "none seen" for value in left)
        rows.append(("unexplained by the calibration", before, "", "values kept apart"))
        rows.append(("unexplained by what was learned", after, "", f"shot noise {result.noise:.4f}"))
    return rows
