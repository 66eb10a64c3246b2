"""What mitigated values will be, as far as a device's calibration says it: their bias, and their noise by shots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from qkd.circuits.student import StudentCircuit
from qkd.core.config import EngineSpec
from qkd.devices.region import Region, to_region
from qkd.engines.noise import Noise, rebuilt
from qkd.hardware import adaptive, affine
from qkd.hardware.extrapolation import extrapolated
from qkd.hardware.mitigation import FACTORS, Mitigation
from qkd.hardware.plan import Plan
from qkd.hardware.result import expected
from qkd.hardware.sampled import folded
from qkd.simulation.noise import device_noise
from qkd.simulation.simulators import make_engine
from qkd.student.bundle import Student
from qkd.student.model import StudentModel

TEXTS = 1000
"""Texts that are looked at, at most."""
UNKNOWN, LEFT = 2.0, 0.5
"""What gates do to values beside what their calibration says, as a multiple of that, and what twirled gates and affine
maps leave of it: about what ``benchmarks/hidden_devices.py`` sees."""
DRIFT = 0.5
"""The same multiple where errors were learned, of all that the device is known to do: what a fit to 256 circuits of 128
shots missed after a drift of 20 %, root mean square over seven hidden devices (0.14 to 0.97; 1.5 to 3.5 without it)."""
DRAWS = 64
"""Measurements that are drawn for each text."""
SHOTS = 256
"""Shots at which the noise of an extrapolation is computed."""
EXACT = EngineSpec(precision="double")


@dataclass(frozen=True)
class Forecast:
    """What a mitigation is expected to measure, and what is drawn from that, from a fixed seed.

    evs: mitigated values without shot noise (N,K).
    noise: their standard deviation at one shot (N,K).
    floor: their standard deviation that no shots of the texts make smaller (N,K).
    first: the exact student's classes (N,).
    model: whose head makes logits of values.
    """

    evs: np.ndarray
    noise: np.ndarray
    floor: np.ndarray
    first: np.ndarray
    model: StudentModel

    def flipped(self, shots: int) -> float:
        """Return the share of predictions that will differ from the exact student's, at a number of shots."""
        [course] = self._courses((shots,))
        return float((self.model.logits_of(course).argmax(axis=1) != np.tile(self.first, DRAWS)).mean())

    def adaptive(self) -> tuple[tuple[float, ...], float]:
        """Return the share of texts in each adaptive round, and of predictions that will differ at the end."""
        rounds, weights = adaptive.ROUNDS, self.model.head.weight.detach().cpu().numpy()
        going, wrong, shares = np.ones(DRAWS * len(self.first), dtype=bool), 0, list[float]()
        for number, course in enumerate(self._courses(rounds)):
            shares.append(float(going.mean()))
            noise = np.tile(self.noise, (DRAWS, 1)) / sum(rounds[: number + 1]) ** 0.5
            logits = self.model.logits_of(course)
            clear = adaptive.clearness(course, noise, weights, logits) >= adaptive.threshold(len(rounds))
            ends = going & (clear if number + 1 < len(rounds) else True)
            wrong += int((logits.argmax(axis=1) != np.tile(self.first, DRAWS))[ends].sum())
            going &= ~clear
        return tuple(shares), wrong / len(going)

    def _courses(self, rounds: tuple[int, ...]) -> Iterator[np.ndarray]:
        """Yield drawn values (DRAWS N,K) after each of some rounds of shots."""
        random, shape = np.random.default_rng(0), (DRAWS, *self.evs.shape)
        start, walked, total = self.evs + self.floor * random.standard_normal(shape), np.zeros(shape), 0
        for shots in rounds:
            walked, total = walked + shots**0.5 * random.standard_normal(shape), total + shots
            yield (start + self.noise * walked / total).reshape(-1, shape[-1])


def forecast(plan: Plan, student: Student) -> Forecast:
    """Return what is expected of a plan's mitigation on its device; learned noise is taken to leave no bias.

    Args:
        plan: whose texts are looked at.
        student: the run's.
    """
    model = student.model
    values = plan.values[: min(TEXTS, len(plan.texts))]
    exact = expected(make_engine(EXACT, model.circuit), model.circuit, values)
    return Forecast(*_mitigated(plan, values, exact), model.logits_of(exact).argmax(axis=1), model)


def _mitigated(plan: Plan, values: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mitigated values, their noise at one shot, and what shots leave of it (N,K)."""
    name = plan.mitigation.name
    if plan.mitigation.learned:
        return exact, _noise(exact), np.zeros_like(exact)
    student, region = to_region(plan.student, plan.snapshot)
    seen = _means(student, region, values, plan.mitigation, 1)
    bare = _means(student, region, values, plan.mitigation, 1, readout=False)
    missed = UNKNOWN if plan.snapshot.calibration.learned is None else DRIFT
    unknown = np.broadcast_to(missed * np.sqrt(((bare - exact) ** 2).mean(axis=0)), exact.shape)
    if name == "none":
        return seen, _noise(seen), unknown
    if name == "affine":
        offset, slope = _lines(exact, seen)
        at = (exact - exact.mean(axis=0)) ** 2 / (exact.var(axis=0) + 1e-12)
        fit = np.sqrt((_noise(seen) ** 2).mean(axis=0) * (1 + at) / affine.POINTS)
        return (seen - offset) / slope, _noise(seen) / slope, np.hypot(LEFT * unknown, fit) / slope
    _, slope = _lines(bare, seen)  # what readout makes of a value
    if name == "readout":
        return bare, _noise(slope * bare) / slope, unknown
    more = [_means(student, region, values, plan.mitigation, factor, readout=False) for factor in FACTORS[1:]]
    whole = np.stack([bare, *more], axis=-1)
    stds = _noise(slope[:, None] * whole) / slope[:, None] / SHOTS**0.5
    limits, errors = extrapolated(whole.transpose(1, 0, 2), stds.transpose(1, 0, 2), np.array(FACTORS))
    return limits.T, errors.T * SHOTS**0.5, unknown


def _means(
    student: StudentCircuit,
    region: Region,
    values: np.ndarray,
    mitigation: Mitigation,
    factor: int,
    readout: bool = True,
) -> np.ndarray:
    """Return what a device measures on the average over its frames (N,K), two-qubit gates folded ``factor`` times."""
    small = student.with_circuit(folded(student.circuit, factor), student.observables)
    noise = Noise.of(device_noise(region))
    if mitigation.gates_twirled:
        noise = noise.twirled()
    if not readout and noise.model is not None:
        noise = replace(noise, model=rebuilt(noise.model, lambda name, on, error: error, readout=False))
    return expected(make_engine(EXACT, small, noise), small, values)


def _noise(evs: np.ndarray) -> np.ndarray:
    """Return the standard deviation of one shot."""
    return np.sqrt((1 - evs**2).clip(0))


def _lines(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and slopes (K,) of the least-squares lines of y on x, column by column; slope 1 without a line."""
    spread = x.var(axis=0)
    slope = np.where(
        spread > 1e-12, ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).mean(axis=0) / (spread + 1e-300), 1.0
    )
    return y.mean(axis=0) - slope * x.mean(axis=0), slope
