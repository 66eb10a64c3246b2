"""``qkd devices learn``: circuits with known exact values, and the errors that explain their measured values.

The circuits are the run's own, on its region, at random angles, without mitigation and without Pauli frames, because
these are the errors that the student meets. If the circuits cannot distinguish errors, such as phases after one cz and
before the next without a rotation between them, the fit shares them out as the calibration expects. The plan is saved,
estimated, submitted, continued and charged like any other device run.
"""

from __future__ import annotations

import datetime
import math

from qkd.core.console import progress
from qkd.devices import snapshot as snapshots
from qkd.devices.learned import Learned
from qkd.devices.random_errors import with_learned
from qkd.devices.region import to_region
from qkd.hardware.ledger import JobRecord
from qkd.hardware.measurements import collect_measurements
from qkd.hardware.plan import Plan
from qkd.hardware.planning import WEIGHT_SETS
from qkd.hardware.result import describe_jobs
from qkd.results import LearnedResult
from qkd.results.device import Unexplained
from qkd.simulation import fit


def learn(plan: Plan, records: list[JobRecord]) -> LearnedResult:
    """Return the errors that a plan's measurements show, and save them as a snapshot file.

    The file is in the plan's folder. If it explains the values better than the calibration, it is also saved beside the
    user's snapshots, under the time of the measurement, so that it overwrites no other.
    """
    nothing = LearnedResult(**dict(describe_jobs(plan, records)) | {"purpose": plan.request.kind})
    measurements = collect_measurements(plan, records)
    rows = measurements.measured.nonzero()[0]
    if len(rows) < 2 * WEIGHT_SETS or any(record.open for record in records):
        return nothing
    student, region = to_region(plan.student, plan.snapshot)
    date = datetime.datetime.fromtimestamp(max(record.since for record in records), datetime.UTC)
    with progress("fitting", fit.STEPS + fit.MORE, "steps") as bar:
        learned = fit.fit(
            student,
            region,
            measurements.values[rows],
            plan.terms.values(measurements.evs[rows]),
            plan.terms.errors(measurements.stds[rows]),
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
    """Return a sentence about the use of the learned errors."""
    if result.clearer:
        return f"use it like any device: 'qkd distill --sim aer-noisy --device {result.file}'"
    return (
        f"{result.circuits} circuits show no errors beyond the calibration, so there is nothing to train for; more "
        "--points or --shots would show smaller errors"
    )


def table(result: LearnedResult) -> list[tuple[str, ...]]:
    """Return the learned errors as a table, header first: the size of each kind of error and its worst place."""
    learned = Learned.from_dict(result.learned or {})
    kinds: dict[str, dict[str, float]] = {}
    for name, places in learned.gates.items():
        for place, gate in places.items():
            where = "-".join(map(str, place))
            for label, angle in gate.angles.items():
                kinds.setdefault(f"{label} after {name}, rad", {})[where] = angle
            if len(place) == 2:
                kinds.setdefault(f"depolarization of {name}", {})[where] = gate.stochastic
    kinds["ZZ between neighbors, rad"] = {f"{a}-{b}": angle for (a, b), angle in learned.spectators.items()}
    kinds["readout"] = {str(qubit): (up + down) / 2 for qubit, (up, down) in learned.readout.items()}
    rows: list[tuple[str, ...]] = [("error", "rms", "largest", "where")]
    for kind, values in kinds.items():
        if values:
            worst = max(values, key=lambda where: abs(values[where]))
            rms = math.sqrt(sum(value**2 for value in values.values()) / len(values))
            rows.append((kind, f"{rms:.4f}", f"{values[worst]:+.4f}", worst))
    if result.unexplained is not None:
        residuals = (result.unexplained.calibration, result.unexplained.learned)
        before, after = (f"{value:.4f}" if value else "none" for value in residuals)
        rows.append(("residual of the calibration", before, "", "held-out values"))
        rows.append(("residual of the learned errors", after, "", f"shot noise {result.noise:.4f}"))
    return rows
