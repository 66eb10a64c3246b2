"""The smallest error of affine corrections on realistic hidden devices, and the effect of shrinking values.

    python benchmarks/floors.py RUN [--device fake_brisbane] [--seeds 5]

The values are exact noisy values of a run's test texts, averaged over random Pauli frames. The script prints the rms
error of maps that are fitted without noise at 256 calibration points, for one observable each and for all together. At
16 and 4,096 shots it prints the rms error and the accuracy of corrected values, with and without shrinking.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from qkd.core.runs import RunFolder
from qkd.devices import snapshot
from qkd.devices.random_errors import hidden
from qkd.devices.region import Region, to_region
from qkd.devices.transpile import transpile
from qkd.engines import LightConeEstimator
from qkd.engines.noise import Noise
from qkd.hardware.measurements import shot_noise
from qkd.hardware.mitigation import affine
from qkd.hardware.result import exact_values
from qkd.simulation.setup import device_noise
from qkd.student.bundle import Student


def drawn_together(evs: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return values (N,K) shrunk to their mean by their covariance over the texts without noise (Wiener's filter)."""
    mean = evs.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(evs.T) - np.diag((errors**2).mean(axis=0)))
    spread = (vectors * values.clip(1e-8)) @ vectors.T
    gain = np.stack([spread @ np.linalg.inv(spread + np.diag(row**2)) for row in errors])
    return mean + np.einsum("nij,nj->ni", gain, evs - mean)


def rms(off: np.ndarray) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt((off**2).mean()))


def main() -> None:
    """Print means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", default="fake_brisbane")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    run, held = RunFolder(asked.run), snapshot.load_snapshot(asked.device)
    student, rows = Student.load(run.path), run.rows(run.predictions)
    model = student.model
    inputs_of_texts = model.values(student.encoder.encode([row["text"] for row in rows]))
    targets = np.array([model.classes.index(row["label"]) for row in rows])
    exact = exact_values(model.circuit, inputs_of_texts)
    small, region = to_region(transpile(model.circuit, held), held)
    count, inputs = len(inputs_of_texts), len(small.inputs)
    points = np.vstack([inputs_of_texts, affine.shuffled_points(inputs_of_texts, inputs, 256, 0)])

    def values(noise: object) -> np.ndarray:
        program = LightConeEstimator(noise).compile(small.circuit, small.observables, small.inputs, small.weights)
        with torch.no_grad():
            found: np.ndarray = program(
                torch.from_numpy(np.ascontiguousarray(points[:, :inputs])), torch.from_numpy(points[0, inputs:])
            ).numpy()
        return found

    exact, predicted = values(None), values(device_noise(region))
    found: dict[str, list[float]] = {}
    for seed in range(asked.seeds):
        means = values(Noise.from_model(device_noise(Region(hidden(held, seed), region.qubits))).twirled())
        one = np.ones((len(means), 1))
        every = np.hstack([one, means])
        off = every[:count] @ np.linalg.lstsq(every[count:], exact[count:], rcond=None)[0] - exact[:count]
        found.setdefault("rms, maps of all observables together, no noise", []).append(rms(off))
        for k in range(exact.shape[1]):
            own = np.hstack([one, means[:, [k]]])
            off[:, k] = own[:count] @ np.linalg.lstsq(own[count:], exact[count:, k], rcond=None)[0] - exact[:count, k]
        found.setdefault("rms, affine maps, no noise", []).append(rms(off))
        random = np.random.default_rng(seed)
        for shots in (16, 4096):
            seen = 2 * random.binomial(shots, (1 + means.clip(-1, 1)) / 2) / shots - 1
            noise = shot_noise(seen, np.full((len(seen), 1), float(shots)))
            used = slice(count, count + affine.Affine().extra_points(shots))
            maps = affine.fit(seen[used], noise[used], exact[used], predicted[used])
            found_values = maps.correct(seen[:count], noise[:count])
            evs, errors, rest = found_values.evs, found_values.noise, found_values.bias
            assert rest is not None  # the affine method estimates it
            for name, said in (("as they are", evs), ("drawn together", drawn_together(evs, np.hypot(errors, rest)))):
                right = model.logits_of(said).argmax(axis=1) == targets
                found.setdefault(f"rms, {shots} shots, {name}", []).append(rms(said - exact[:count]))
                found.setdefault(f"accuracy, {shots} shots, {name}", []).append(float(right.mean()))
    for name, numbers in found.items():
        print(f"{name}: {np.mean(numbers):.4f}")


if __name__ == "__main__":
    main()
