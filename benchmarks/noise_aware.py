"""The gain of training under learned noise at equal QPU seconds, over depth, noise and shots.

    python benchmarks/noise_aware.py OUT.jsonl [--depths 2 4 8] [--noises realistic stress] [--seeds 5]
    python benchmarks/noise_aware.py OUT.jsonl --table

For each depth and noise, and each seed of a hidden device (``qkd.devices.random_errors``): its errors are learned
from 256 circuits of 128 shots, as ``qkd devices learn`` does. One student is trained without noise and its head
refitted under the learned noise. Others are trained under it, one with 16 shots in the loss (judged with up to 16)
and one with 256. All are judged on the test texts of ``docstrings`` with shots of the device after a drift that
changes every error by 20 %. Each seed appends a line to OUT.jsonl and is not repeated. Intervals are Student's t over
seeds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t

from qkd.circuits import library
from qkd.core.config import Config, make_config
from qkd.core.console import set_quiet
from qkd.core.runs import RunFolder
from qkd.devices import snapshot
from qkd.devices.learned import GateNoise
from qkd.devices.random_errors import hidden, with_learned
from qkd.devices.region import Region, to_region
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import transpile
from qkd.hardware.measurements import shot_noise
from qkd.hardware.mitigation import Mitigation
from qkd.hardware.mitigation.client import make_pub
from qkd.hardware.planning import WEIGHT_SETS
from qkd.hardware.service import sampled
from qkd.pipeline.inputs import Clock, prepare_inputs
from qkd.reports.tables import aligned
from qkd.simulation import fit
from qkd.simulation.factory import make_engine
from qkd.simulation.setup import device_noise
from qkd.simulation.start import with_start
from qkd.student.cores import QuantumCore
from qkd.student.data import TrainingData
from qkd.student.model import StudentModel
from qkd.student.refit import refit_head
from qkd.student.trainer import make_trainer

SHOTS = (4, 8, 16, 32, 64, 128, 256, 1024)
"""Shots with which students are judged."""
SHOWN = ("4", "8", "16", "256", "exact")
"""The numbers of shots in the table."""
TRAINED = (16, 256)
"""Shots in the loss."""
REPEATS = 8
"""Draws of each judgment."""
POINTS, LEARNING_SHOTS = 256, 128


def drifted(snapshot: Snapshot, seed: int, size: float = 0.2) -> Snapshot:
    """Return a device whose learned errors changed at random by a relative ``size`` (standard deviation)."""
    learned = snapshot.calibration.learned
    if learned is None:
        return snapshot
    random = np.random.default_rng([seed, 2])

    def changed(value: float) -> float:
        return float(value * (1 + size * random.normal()))

    later = replace(
        learned,
        origin=f"{learned.origin}, drifted by {size:.0%} with seed {seed}",
        gates={
            name: {
                place: GateNoise(
                    {label: changed(angle) for label, angle in gate.angles.items()}, abs(changed(gate.stochastic))
                )
                for place, gate in places.items()
            }
            for name, places in learned.gates.items()
        },
        spectators={pair: changed(angle) for pair, angle in learned.spectators.items()},
        flips={pair: min(0.5, abs(changed(chance))) for pair, chance in learned.flips.items()},
        readout={qubit: (abs(changed(up)), abs(changed(down))) for qubit, (up, down) in learned.readout.items()},
    )
    return with_learned(snapshot, later)


def learned(small, region, truth, seed):
    """Return the device that is learned from a hidden one on a region."""
    student = fit.calibrating(small)
    values = fit.points(student, WEIGHT_SETS, POINTS // WEIGHT_SETS, seed)
    found = sampled.run(student, Region(truth, region.qubits), values, Mitigation("none", LEARNING_SHOTS), seed)
    evs = found["evs"].T
    stds = np.fmax(found["stds"].T, shot_noise(evs, np.full((len(evs), 1), float(LEARNING_SHOTS))))
    told = fit.fit(student, region, values, evs, stds, truth.calibration.date)
    return with_learned(region.snapshot, told.learned), told.unexplained


def judged(model: StudentModel, circuit, engine, data: TrainingData, seed: int) -> dict[str, float]:
    """Return the accuracy on the test texts by shots, and with shots without end."""
    values = model.with_engine(circuit, engine).values(data.embeddings[data.test])
    evs = engine.estimator.run([make_pub(circuit, values)]).result()[0].data.evs.T
    targets = data.targets[data.test]
    found = {"exact": float((model.logits_of(evs).argmax(axis=1) == targets).mean())}
    random = np.random.default_rng(seed)
    for shots in SHOTS:
        drawn = [2 * random.binomial(shots, (1 + evs.clip(-1, 1)) / 2) / shots - 1 for _ in range(REPEATS)]
        found[str(shots)] = float(np.mean([(model.logits_of(one).argmax(axis=1) == targets).mean() for one in drawn]))
    return found


def trained(base: Config, circuit, engine, data: TrainingData, seed: int, shots: int):
    """Return a trainer that is done."""
    spec = base.model_copy(update={"train": base.train.model_copy(update={"seed": seed, "train_shots": shots})})
    trainer = make_trainer(spec, QuantumCore(circuit, engine, shots), data, engine.device, None)
    trainer.run()
    return trainer


def cell(base: Config, data: TrainingData, device: str, qubits: int, depth: int, noise: str, seed: int) -> dict:
    """Return what students of one depth are worth on one hidden device."""
    logical = with_start(library.load_circuit("hardware", qubits, depth))
    held = snapshot.load_snapshot(device)
    small, region = to_region(transpile(logical, held), held)
    truth = hidden(held, seed, stress=noise == "stress")
    known, left = learned(small, region, truth, seed)
    plain, aware, there = (
        make_engine(base.engine, circuit, model)
        for circuit, model in (
            (logical, None),
            (small, device_noise(Region(known, region.qubits))),
            (small, device_noise(Region(drifted(truth, seed), region.qubits))),
        )
    )
    ideal = trained(base, logical, plain, data, seed, 0)
    students = {"ideal": ideal.model}
    students["refitted"] = refit_head(
        ideal.model.with_engine(small, aware), ideal.train_set, base.loss, base.train.weight_decay
    )
    for shots in TRAINED:
        students[f"aware {shots}"] = trained(base, small, aware, data, seed, shots).model
    told = {name: judged(one, small, there, data, seed) for name, one in students.items()}
    told["without noise"] = judged(ideal.model, logical, plain, data, seed)
    return {"depth": depth, "noise": noise, "seed": seed, "unexplained": left, "accuracy": told}


def interval(values) -> tuple[float, float]:
    """Return mean and half the width of its 95 % interval."""
    n = len(values)
    return float(np.mean(values)), float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else np.nan


def tables(rows: list[dict]) -> None:
    """Print the map, and the shots at which noise-aware students are as good as others at more."""
    table = [("noise", "layers", "shots", "ideal", "head refitted", "noise-aware", "gain over refitted", "seeds")]
    saved = [("noise", "layers", "refitted with 128 shots", "noise-aware with 16", "difference", "shots for the same")]
    for noise in dict.fromkeys(row["noise"] for row in rows):
        for depth in sorted({row["depth"] for row in rows if row["noise"] == noise}):
            mine = [row["accuracy"] for row in rows if (row["noise"], row["depth"]) == (noise, depth)]
            means = {}
            for shots in SHOWN:
                aware = f"aware {256 if shots in ('256', 'exact') else 16}"
                gain, half = interval([one[aware][shots] - one["refitted"][shots] for one in mine])
                cells = (f"{np.mean([one[who][shots] for one in mine]):.3f}" for who in ("ideal", "refitted", aware))
                sign = " *" if gain - half > 0 else ""
                table.append(
                    (noise, str(depth), shots, *cells, f"{100 * gain:+.1f} +- {100 * half:.1f}{sign}", f"{len(mine)}")
                )
            for who in ("refitted", "aware 16"):
                means[who] = [np.mean([one[who][str(s)] for one in mine]) for s in SHOTS]
            gain, half = interval([one["aware 16"]["16"] - one["refitted"]["128"] for one in mine])
            wanted = means["aware 16"][SHOTS.index(16)]
            needed = next(
                (s for s, a in zip(SHOTS, means["refitted"], strict=True) if a >= wanted), f"over {SHOTS[-1]}"
            )
            at = means["refitted"][SHOTS.index(128)]
            saved.append(
                (noise, str(depth), f"{at:.3f}", f"{wanted:.3f}", f"{100 * gain:+.1f} +- {100 * half:.1f}", f"{needed}")
            )
    print(aligned(table), aligned(saved), sep="\n\n")


def main() -> None:
    """Fill the file, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="fake_brisbane")
    parser.add_argument("--qubits", type=int, default=4)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--noises", nargs="+", default=["realistic", "stress"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=800, help="training texts")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--table", action="store_true", help="print what is there")
    asked = parser.parse_args()
    rows = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.is_file() else []
    if not asked.table:
        base = make_config({"train": {"epochs": asked.epochs, "patience": 8}, "engine": {"torch_device": "cpu"}})
        set_quiet(True)
        with tempfile.TemporaryDirectory() as folder:
            data = prepare_inputs(base, RunFolder(Path(folder)), False, Clock()).data.subset(asked.texts, 0)
        known = {(row["noise"], row["depth"], row["seed"]) for row in rows}
        for seed in range(asked.seeds):
            for noise in asked.noises:
                for depth in asked.depths:
                    if (noise, depth, seed) in known:
                        continue
                    rows.append(cell(base, data, asked.device, asked.qubits, depth, noise, seed))
                    with asked.out.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    tables(rows)


if __name__ == "__main__":
    main()
