"""What a calibration does not say: coherent errors of gates and of neighbours, and how readouts really err."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from qkd.core import records

Place = tuple[int, ...]


@dataclass(frozen=True)
class GateNoise:
    """The error of one gate on one place.

    angles: by Pauli label (Qiskit's: the rightmost letter is the place's first qubit) the angle in radians of
        ``exp(-i angle/2 P)`` behind the gate. ``ZZ``, ``IZ`` and ``ZI`` are phases of a two-qubit gate; an ``ecr`` that
        turns too far has ``XZ``, a ``cz`` ``ZZ``, an ``sx`` or ``x`` ``X``.
    stochastic: average infidelity of the depolarization behind the gate, in place of the calibrated error.
    """

    angles: dict[str, float] = field(default_factory=dict)
    stochastic: float = 0.0


class LearnedRecord(records.Record):
    """``Learned`` in a file: what it keys by places and qubits are rows."""

    date: str
    origin: str
    gates: dict[str, tuple[tuple[Place, dict[str, float], float], ...]]
    spectators: tuple[tuple[Place, float], ...]
    flips: tuple[tuple[Place, float], ...]
    readout: tuple[tuple[int, tuple[float, float]], ...]


@dataclass(frozen=True)
class Learned:
    """Errors beside a calibration.

    date: when they were learned, ISO 8601.
    origin: how they are known, in words.
    gates: per gate name and place.
    spectators: the ZZ angle between two neighbours while a layer drives both of them in different gates, a < b.
    flips: the probability that the readouts of two neighbours flip together, a < b.
    readout: by qubit the probabilities to read 1 for 0 and 0 for 1, in place of the calibrated ones.
    """

    date: str
    origin: str
    gates: dict[str, dict[Place, GateNoise]] = field(default_factory=dict)
    spectators: dict[Place, float] = field(default_factory=dict)
    flips: dict[Place, float] = field(default_factory=dict)
    readout: dict[int, tuple[float, float]] = field(default_factory=dict)

    def days_before(self, now: datetime.datetime) -> float:
        """Return how many days before ``now`` they were learned; infinitely many where the date is none."""
        try:
            then = datetime.datetime.fromisoformat(self.date)
        except ValueError:
            return float("inf")
        return (now - (then if then.tzinfo else then.replace(tzinfo=datetime.UTC))) / datetime.timedelta(days=1)

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain values that ``from_dict`` reads."""
        gates = {
            name: tuple((place, noise.angles, noise.stochastic) for place, noise in places.items())
            for name, places in self.gates.items()
        }
        pairs = {
            "spectators": tuple(self.spectators.items()),
            "flips": tuple(self.flips.items()),
            "readout": tuple(self.readout.items()),
        }
        record = LearnedRecord.model_validate({"date": self.date, "origin": self.origin, "gates": gates, **pairs})
        return record.model_dump(mode="json")

    @classmethod
    def from_record(cls, record: LearnedRecord) -> Learned:
        """Return what a file says."""
        gates = {
            name: {place: GateNoise(angles, rest) for place, angles, rest in rows}
            for name, rows in record.gates.items()
        }
        return cls(record.date, record.origin, gates, dict(record.spectators), dict(record.flips), dict(record.readout))

    @classmethod
    def from_dict(cls, values: Mapping[str, JsonValue]) -> Learned:
        """Return what ``to_dict`` wrote.

        Raises:
            ValueError: it is something else.
        """
        return cls.from_record(LearnedRecord.model_validate(values))


def infidelity(angles: dict[str, float]) -> float:
    """Return the average infidelity of coherent errors, ``(d^2 - |tr U|^2) / (d^2 + d)`` (Nielsen, quant-ph/0205035).

    Args:
        angles: see ``GateNoise``, of one gate.
    """
    import numpy as np
    from qiskit.quantum_info import Pauli
    from scipy.linalg import expm

    if not angles:
        return 0.0
    d = 2 ** len(next(iter(angles)))
    turn = sum(angle * Pauli(label).to_matrix() for label, angle in angles.items())
    return float((d**2 - abs(np.trace(expm(-0.5j * turn))) ** 2) / (d**2 + d))
