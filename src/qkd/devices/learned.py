"""What a calibration does not say: coherent errors of gates and of neighbours, and joint flips of readouts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

Place = tuple[int, ...]


@dataclass(frozen=True)
class GateNoise:
    """The error of one two-qubit gate on one pair (a, b): ``exp(-i/2 (zz ZZ + zi Z_a + iz Z_b))`` behind it.

    zz, zi, iz: angles in radians.
    stochastic: average infidelity of the depolarization behind the gate, in place of the calibrated error.
    """

    zz: float = 0.0
    zi: float = 0.0
    iz: float = 0.0
    stochastic: float = 0.0


@dataclass(frozen=True)
class Learned:
    """Errors beside a calibration.

    date: when they were learned, ISO 8601.
    origin: how they are known, in words.
    gates: per gate name and pair.
    spectators: the ZZ angle between two neighbours while a layer drives both of them in different gates, a < b.
    readout: the probability that the readouts of two neighbours flip together, a < b.
    """

    date: str
    origin: str
    gates: dict[str, dict[Place, GateNoise]] = field(default_factory=dict)
    spectators: dict[Place, float] = field(default_factory=dict)
    readout: dict[Place, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values that ``from_json`` reads."""
        return {
            "date": self.date,
            "origin": self.origin,
            "gates": {
                name: [[list(place), asdict(noise)] for place, noise in places.items()]
                for name, places in self.gates.items()
            },
            "spectators": [[list(place), angle] for place, angle in self.spectators.items()],
            "readout": [[list(place), chance] for place, chance in self.readout.items()],
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Learned:
        """Return what ``to_json`` wrote."""
        gates = {
            name: {tuple(place): GateNoise(**noise) for place, noise in rows} for name, rows in told["gates"].items()
        }
        spectators = {tuple(place): float(angle) for place, angle in told["spectators"]}
        readout = {tuple(place): float(chance) for place, chance in told["readout"]}
        return cls(str(told["date"]), str(told["origin"]), gates, spectators, readout)


def infidelity(noise: GateNoise) -> float:
    """Return the average infidelity of a gate's coherent error, ``(16 - |tr U|^2) / 20`` (Nielsen, quant-ph/0205035).

    Args:
        noise: of the gate.
    """
    import numpy as np

    zz, za, zb = (np.array(signs) for signs in ([1, -1, -1, 1], [1, 1, -1, -1], [1, -1, 1, -1]))
    trace = np.exp(-0.5j * (noise.zz * zz + noise.zi * za + noise.iz * zb)).sum()
    return float((16 - abs(trace) ** 2) / 20)
