"""Whether what ``--minutes`` forecasts comes to pass, on hidden devices that were learned before, or were not.

    python benchmarks/forecasts.py RUN [--devices fake_brisbane fake_fez] [--seeds 4] [--samples 240] [--shots 256]
        [--mitigations none affine]

A run's student is planned for what a realistic hidden device (``qkd.devices.hidden``) reports, once without and once
with errors that were learned on it (256 circuits of 128 shots), and measured on that device after it drifted by 20 %.
A row is one device, mitigation and knowledge: the share of predictions that shots and errors turn over, in per cent, as
forecast and as seen, mean and 95 % interval over the seeds; behind them how far a single device's share is from what
was forecast (root mean square).
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hidden_devices import interval, measured
from noise_aware import learned

from qkd.core.runs import RunFolder
from qkd.devices.hidden import drifted, hidden
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot
from qkd.hardware.forecast import forecast
from qkd.hardware.order import Order
from qkd.hardware.plan import Plan
from qkd.hardware.prepare import plan_of, prepared
from qkd.reports.tables import aligned
from qkd.student.bundle import Student


def shares(plan: Plan, student: Student, known: Snapshot, there: Snapshot, seed: int) -> tuple[float, float]:
    """Return the share of predictions that differ from the exact student's, as forecast and as seen."""
    plan = replace(plan, snapshot=known)
    expected = forecast(plan, student).flipped(plan.mitigation.shots)
    with tempfile.TemporaryDirectory() as folder:
        told, _ = measured(replace(plan, folder=Path(folder) / "hw-1"), student, there, seed, most_rounds=1)
    return expected, 1 - told["lines"]["measured"]["like_exact"]["value"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--devices", nargs="+", default=["fake_brisbane", "fake_fez"])
    parser.add_argument("--mitigations", nargs="+", default=["none", "affine"])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--samples", type=int, default=240)
    parser.add_argument("--shots", type=int, default=256)
    asked = parser.parse_args()
    run = RunFolder(asked.run)
    table = [("device", "mitigation", "errors learned", "forecast, %", "seen, %", "a single one is off by")]
    for device in asked.devices:
        order = Order(
            asked.run, device, local=True, samples=asked.samples, shots=str(asked.shots), max_qpu_seconds=9000
        )
        ready = prepared(order, run)
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for seed in range(asked.seeds):
            for name in asked.mitigations:
                plan = plan_of(ready, order, run, name)
                small, region = to_region(plan.student, plan.snapshot)
                truth = hidden(plan.snapshot, seed)
                taught, _ = learned(small, region, truth, seed)
                for how, known in (("no", plan.snapshot), ("yes", taught)):
                    pair = shares(plan, ready.student, known, drifted(truth, seed), seed)
                    found.setdefault((name, how), []).append(pair)
                    print(device, seed, name, how, pair, flush=True)
        for (name, how), pairs in found.items():
            expected, seen = 100 * np.array(pairs).T
            off = f"{np.sqrt(np.mean((seen - expected) ** 2)):.1f}"
            table.append((device, name, how, interval(list(expected)), interval(list(seen)), off))
    print(aligned(table))


if __name__ == "__main__":
    main()
