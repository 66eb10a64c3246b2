"""The gain of mitigation and shots on devices with errors that their calibration does not report.

    python benchmarks/hidden_devices.py RUN [--devices fake_brisbane fake_fez] [--seeds 5] [--tables errors seconds]
        [--errors 100] [--mitigations none readout affine zne] [--shots 1024 64 32 16] [--reported]

A trained student's test texts are measured on realistic hidden devices (``qkd.devices.random_errors``). The circuit
is compiled for the reported calibration, and shots are drawn from the true noise. The script prints two tables over
the same seeds. One has error and coverage of each mitigation. The other has accuracy against QPU seconds with the
paired difference to exact values. With ``--reported`` the errors are those of the calibration, which IBM's client can
simulate. It draws the shots of observables with X and Y.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from qkd.core.console import _Silent
from qkd.core.runs import RunFolder
from qkd.devices.random_errors import hidden
from qkd.hardware.ledger import JobRecord
from qkd.hardware.plan import Plan
from qkd.hardware.planning import make_plans
from qkd.hardware.request import DeviceRunRequest
from qkd.hardware.result import interpret
from qkd.hardware.service.local import LocalService
from qkd.reports.tables import aligned
from qkd.results.device import MeasuredResult
from qkd.student.bundle import Student


def measured(plan: Plan, student: Student, held: object, seed: int) -> tuple[MeasuredResult, float]:
    """Return a plan's result on a hidden device, and the QPU seconds that it takes."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    rehearsal = LocalService(
        plan.model_copy(update={"snapshot": held}), _Silent(), 1 + seed
    )  # other shots on each device
    records = []
    for job in range(len(plan.chunks)):
        sha256 = plan.write_arrays(f"job-{job}", **rehearsal.result(job, ""))
        records.append(JobRecord(job, file=f"job-{job}.safetensors", sha256=sha256))
    result = interpret(plan, student, records)
    assert isinstance(result, MeasuredResult)
    return result, plan.budget.seconds


def rows(
    run: Path, device: str, seeds: int, samples: int, request: DeviceRunRequest, reported: bool = False
) -> list[tuple[MeasuredResult, float]]:
    """Return result and seconds for each seed's hidden device, or for its shots on the reported device."""
    student = Student.load(run)
    told = {"run": run, "device": device, "local": True, "samples": samples}
    [plan] = make_plans(request.model_copy(update=told), RunFolder(run))
    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            kept = plan.model_copy(update={"folder": Path(folder) / "hw-1"})
            held = plan.snapshot if reported else hidden(plan.snapshot, seed)
            found.append(measured(kept, student, held, seed))
    return found


def interval(values: list[float]) -> str:
    """Return mean and 95 % interval of the mean over seeds (Student's t)."""
    from scipy.stats import t

    n = len(values)
    half = t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return f"{np.mean(values):.4f} +- {half:.4f}"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--devices", nargs="+", default=["fake_brisbane", "fake_fez"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--errors", type=int, default=100, help="texts of the first table")
    parser.add_argument(
        "--mitigations", nargs="+", default=["none", "readout", "affine", "zne"], help="rows of the first"
    )
    parser.add_argument("--shots", nargs="+", default=["1024", "64", "32", "16"], help="of the second")
    parser.add_argument("--tables", nargs="+", default=["errors", "seconds"], choices=["errors", "seconds"])
    parser.add_argument("--reported", action="store_true", help="the reported errors in place of hidden ones")
    asked = parser.parse_args()
    table = [("device", "mitigation", "shots", "rms", "of it noise", "of it bias", "inside 1.96 errors")]
    for device in asked.devices if "errors" in asked.tables else ():
        for name, shots in (("none", 4096), ("readout", 4096), ("affine", 4096), ("affine", 32_768), ("zne", 4096)):
            if name not in asked.mitigations:
                continue
            request = DeviceRunRequest(mitigation=name, shots=shots, max_qpu_seconds=9000)
            found = rows(asked.run, device, asked.seeds, asked.errors, request, asked.reported)
            told = [one for one, _ in found]
            spread = [float(np.mean([np.square(np.array(row.stds, float)) for row in one.rows])) for one in told]
            noise = [max(0.0, size - (one.bias or 0.0) ** 2) ** 0.5 for size, one in zip(spread, told, strict=True)]
            cells = [interval(values) for values in ([one.rms.value for one in told], noise)]
            cells += [interval([getattr(one, key) for one in told]) for key in ("bias", "covered")]
            table.append((device, name, f"{shots:,}", *cells))
            print(table[-1], flush=True)
    print(aligned(table))
    kept = [("device", "shots", "limit, s", "QPU seconds", "accuracy less exact", "accuracy, exact")]
    for device in asked.devices if "seconds" in asked.tables else ():
        for shots in asked.shots:
            limit = 900 if shots == "1024" else 60
            request = DeviceRunRequest(mitigation="affine", shots=shots, max_qpu_seconds=limit)
            judged = rows(asked.run, device, asked.seeds, asked.samples, request)
            exact = judged[0][0].lines["exact"].accuracy.value
            less = [one.lines["measured"].accuracy.value - exact for one, _ in judged]
            kept.append((device, shots, str(limit), interval([s for _, s in judged]), interval(less), f"{exact:.3f}"))
            print(kept[-1], flush=True)
    print(aligned(kept))


if __name__ == "__main__":
    main()
