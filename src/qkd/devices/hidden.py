"""Devices with errors that their calibration does not tell, drawn by seed, so that nothing is tuned to one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qkd.devices.learned import GateNoise, Learned, Place, infidelity
from qkd.devices.snapshot import Snapshot

SHARE = 0.5
"""The part of a gate's reported infidelity that is coherent on a realistic device."""
LAYER = 2.5
"""The infidelity of gates at the same time as a multiple of what they have alone."""
STRESS = 0.3
"""The standard deviation of coherent angles on a stressed device, in radians: 5 % infidelity a gate."""
TOGETHER = 0.003
"""The mean probability that two neighbours' readouts flip together."""
PHASES = ("ZZ", "IZ", "ZI")
TURNS = {"ecr": (*PHASES, "XZ"), "cz": PHASES, "cx": (*PHASES, "XZ"), "sx": ("X",), "x": ("X",)}
"""The coherent errors of each gate: phases, and its own turn where that is none of them."""


def hidden(snapshot: Snapshot, seed: int, stress: bool = False) -> Snapshot:
    """Return a device that reports what ``snapshot`` reports and does something else.

    Realistic: every gate has the average infidelity that the calibration reports, half of it coherent (phases ZZ, ZI,
    IZ, and a turn that goes too far); gates that neighbour each other in a layer have a ZZ between them that makes the
    layer's infidelity 2.5 times the sum of its gates'; neighbours' readouts flip together now and then. Stress:
    phases of 0.3 rad.

    Args:
        snapshot: the device as it is calibrated.
        seed: of the errors.
        stress: draw stress instead.
    """
    random = np.random.default_rng([seed, 1 if stress else 0])
    calibration = snapshot.calibration
    gates: dict[str, dict[Place, GateNoise]] = {}
    for name, labels in TURNS.items():
        for place, done in sorted(calibration.gates.get(name, {}).items()):
            error = min(done.error or 0.0, 0.1)
            drawn = random.normal(size=len(labels)) * (STRESS if stress else 1.0)
            if stress and len(place) == 1:
                continue
            if not stress:  # scaled to the infidelity wanted, which is a multiple of the sum of squares for small ones
                drawn *= np.sqrt((2 ** len(place) + 1) / 2 ** len(place) * 4 * SHARE * error / (drawn**2).sum())
            angles = dict(zip(labels, map(float, drawn), strict=True))
            rest = error if stress else max(0.0, error - infidelity(angles))
            gates.setdefault(name, {})[place] = GateNoise(angles, rest)
    spectators: dict[Place, float] = {}
    together: dict[Place, float] = {}
    for (a, b), done in sorted(calibration.couplers().items()):
        # a brick layer has as many pairs of neighbouring gates as gates; ZZ alone has the infidelity angle^2 / 5
        size = (
            np.sqrt(5 * (LAYER - 1) * min(done.error or 0.0, 0.1)) * random.uniform(0.8, 1.2) * random.choice([-1, 1])
        )
        spectators[a, b] = float(size)
        together[a, b] = float(random.exponential(TOGETHER))
    origin = f"drawn with seed {seed}{', stress' if stress else ''}"
    return with_learned(snapshot, Learned(calibration.date, origin, gates, spectators, together))


def drifted(snapshot: Snapshot, seed: int, size: float = 0.2) -> Snapshot:
    """Return a device some time later: every learned error changed by ``size`` of itself, at random."""
    learned = snapshot.calibration.learned
    if learned is None:
        return snapshot
    random = np.random.default_rng([seed, 2])

    def moved(value: float) -> float:
        return float(value * (1 + size * random.normal()))

    later = replace(
        learned,
        origin=f"{learned.origin}, drifted by {size:.0%} with seed {seed}",
        gates={
            name: {
                place: GateNoise(
                    {label: moved(angle) for label, angle in gate.angles.items()}, abs(moved(gate.stochastic))
                )
                for place, gate in places.items()
            }
            for name, places in learned.gates.items()
        },
        spectators={pair: moved(angle) for pair, angle in learned.spectators.items()},
        flips={pair: min(0.5, abs(moved(chance))) for pair, chance in learned.flips.items()},
        readout={qubit: (abs(moved(up)), abs(moved(down))) for qubit, (up, down) in learned.readout.items()},
    )
    return with_learned(snapshot, later)


def with_learned(snapshot: Snapshot, learned: Learned) -> Snapshot:
    """Return a snapshot with other learned errors."""
    return replace(snapshot, calibration=replace(snapshot.calibration, learned=learned))
