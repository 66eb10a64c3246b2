"""Random errors that calibration data omit, for tests of mitigation and learning on many different devices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qkd.core.arguments import public
from qkd.devices.learned import GateNoise, Learned, Place, infidelity
from qkd.devices.snapshot import Snapshot

SHARE = 0.5
"""Coherent part of a gate's reported infidelity on a realistic device."""
LAYER = 2.5
"""Infidelity of simultaneous gates over that of single gates."""
STRESS = 0.3
"""Standard deviation of coherent angles on a stressed device in radians, about 5 % infidelity a gate."""
TOGETHER = 0.003
"""Mean probability that the readouts of two neighbors flip together."""
PHASES = ("ZZ", "IZ", "ZI")
TURNS = {"ecr": (*PHASES, "XZ"), "cz": PHASES, "cx": (*PHASES, "XZ"), "sx": ("X",), "x": ("X",)}
"""Pauli labels of each gate's coherent errors: phases, and the rotation axis of the gate itself."""


@public
def hidden(snapshot: Snapshot, seed: int, stress: bool = False) -> Snapshot:
    """Return a device with random errors that its calibration does not report.

    A realistic device keeps the calibrated average infidelity of every gate. Half of it is coherent: phases ZZ, ZI and
    IZ, and over-rotation. A ZZ interaction between neighboring gates of a layer raises the layer's infidelity to 2.5
    times the sum of its gates. Readouts of neighbors sometimes flip together.

    Args:
        stress: Draw phases with a standard deviation of 0.3 rad instead.
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
            if not stress:  # small angles: infidelity is proportional to the sum of squares
                drawn *= np.sqrt((2 ** len(place) + 1) / 2 ** len(place) * 4 * SHARE * error / (drawn**2).sum())
            angles = dict(zip(labels, map(float, drawn), strict=True))
            rest = error if stress else max(0.0, error - infidelity(angles))
            gates.setdefault(name, {})[place] = GateNoise(angles, rest)
    spectators: dict[Place, float] = {}
    together: dict[Place, float] = {}
    for (a, b), done in sorted(calibration.couplers().items()):
        # a brick layer has as many neighboring pairs as gates, and a ZZ rotation has the infidelity angle^2 / 5
        size = (
            np.sqrt(5 * (LAYER - 1) * min(done.error or 0.0, 0.1)) * random.uniform(0.8, 1.2) * random.choice([-1, 1])
        )
        spectators[a, b] = float(size)
        together[a, b] = float(random.exponential(TOGETHER))
    origin = f"drawn with seed {seed}{', stress' if stress else ''}"
    return with_learned(snapshot, Learned(calibration.date, origin, gates, spectators, together))


def with_learned(snapshot: Snapshot, learned: Learned) -> Snapshot:
    """Return a snapshot with other learned errors."""
    return replace(snapshot, calibration=replace(snapshot.calibration, learned=learned))
