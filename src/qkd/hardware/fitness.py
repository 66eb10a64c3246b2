"""Which device suits a student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qkd.core.arguments import public
from qkd.core.console import log
from qkd.core.errors import DeviceError, QkdError
from qkd.core.runs import existing_run
from qkd.devices.region import to_region
from qkd.devices.transpile import two_qubit_figures
from qkd.hardware.layout import region_error
from qkd.hardware.planning import make_plans
from qkd.hardware.request import DeviceRunRequest
from qkd.hardware.result import exact_values, predicted_values
from qkd.results import Estimate, Fitness
from qkd.student.bundle import Student
from qkd.student.metrics import accuracy_gain, proportion

# Test texts whose QPU seconds are estimated.
PRICED_TEXTS = 100


@public
def rank_devices(run: str | Path, devices: Sequence[str]) -> list[Fitness]:
    """Return devices from the best to the worst for a run's student: by the share of predictions that noise keeps.

    Accuracy is no criterion, because noise may raise it by chance on the given texts. Ties are broken by rms error. A
    device that the student does not fit is excluded with a warning.

    Args:
        run: The run folder.
        devices: Names of devices or snapshots, or snapshot files.

    Raises:
        QkdError: There is no such run, or no device takes the student.
    """
    folder = existing_run(Path(run))
    student, rows, ranking = Student.load(folder.path), folder.rows(folder.predictions), list[Fitness]()
    model = student.model
    values = model.values(student.encoder.encode([row["text"] for row in rows]))
    targets = np.array([model.classes.index(row["label"]) for row in rows])
    exact = exact_values(model.circuit, values)
    ideal = model.logits_of(exact)
    for device in dict.fromkeys(devices):
        try:
            request = DeviceRunRequest(run=folder.path, device=device, local=True, samples=PRICED_TEXTS)
            [plan] = make_plans(request, folder, offline=True)
            error = region_error(plan.student, plan.snapshot)
            if error is None:
                raise DeviceError("it lacks gates or qubits of the compiled circuit")
            circuit, region = to_region(plan.student, plan.snapshot)
            evs = predicted_values(circuit, region, values)
            logits = model.logits_of(evs)
            ranking.append(
                Fitness(
                    same=proportion(logits.argmax(axis=1) == ideal.argmax(axis=1)),
                    accuracy=proportion(logits.argmax(axis=1) == targets),
                    cost=accuracy_gain(logits, ideal, targets),
                    rms=float(np.sqrt(((evs - exact) ** 2).mean())),
                    device=Path(device).name if device.endswith(".json") else plan.snapshot.name,
                    calibrated=plan.snapshot.calibration.date,
                    qubits=region.qubits,
                    error=error,
                    depth=two_qubit_figures(plan.student.circuit)[1],
                    texts=len(plan.texts),
                    seconds=plan.budget.seconds,
                )
            )
        except QkdError as reason:
            log.warning(f"{device} is excluded: {reason}")
    if not ranking:
        raise DeviceError(f"none of {', '.join(devices)} takes this student; the warnings give the reasons")
    return sorted(ranking, key=lambda fitness: (-fitness.same.value, fitness.rms))


def ranking_rows(ranking: Sequence[Fitness]) -> list[tuple[str, ...]]:
    """Return a table, header first, with a row for each device."""
    head = (
        "device",
        "calibrated",
        "predicted error",
        "two-qubit depth",
        "rms",
        "like ideal",
        "accuracy",
        "against ideal",
    )
    table: list[tuple[str, ...]] = [(*head, f"QPU s, {ranking[0].texts} texts")]
    for fitness in ranking:
        shares = (str(fitness.same), str(fitness.accuracy), _signed(fitness.cost))
        cells = (f"{fitness.error:.3f}", str(fitness.depth), f"{fitness.rms:.4f}", *shares)
        table.append((fitness.device, fitness.calibrated[:10], *cells, f"{fitness.seconds:,.1f}"))
    return table


def _signed(number: Estimate) -> str:
    return f"{number.value:+.3f} [{number.low:+.3f}, {number.high:+.3f}]"
