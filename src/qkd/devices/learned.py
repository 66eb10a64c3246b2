"""Errors that calibration data omit: coherent errors of gates and neighbors, and measured readout errors."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from qkd.core import records

Place = tuple[int, ...]


@dataclass(frozen=True)
class GateNoise:
    """Error of one gate on one tuple of qubits.

    Attributes:
        angles: The angle in radians of ``exp(-i angle/2 P)`` after the gate, by the Pauli label P. Its rightmost
            letter belongs to the first qubit. ``ZZ``, ``IZ`` and ``ZI`` are phases of a two-qubit gate. Over-rotation
            is ``XZ`` for an ``ecr``, ``ZZ`` for a ``cz`` and ``X`` for an ``sx`` or ``x``.
        stochastic: The average infidelity of the depolarization after the gate. It replaces the calibrated error.
    """

    angles: dict[str, float] = field(default_factory=dict)
    stochastic: float = 0.0


class LearnedRecord(records.Record):
    """File format of ``Learned``: dictionaries with keys of qubits are lists of rows."""

    date: str
    origin: str
    gates: dict[str, tuple[tuple[Place, dict[str, float], float], ...]]
    spectators: tuple[tuple[Place, float], ...]
    flips: tuple[tuple[Place, float], ...]
    readout: tuple[tuple[int, tuple[float, float]], ...]


@dataclass(frozen=True)
class Learned:
    """Errors that calibration data omit.

    Attributes:
        date: The date of the measurement, ISO 8601.
        origin: A description of the source.
        gates: Gate errors by gate name and qubits.
        spectators: The ZZ angle in radians between neighbors a < b while a layer drives them in different gates.
        flips: The probability that the readouts of neighbors a < b flip together.
        readout: The probabilities to read 1 for 0 and 0 for 1, by qubit. They replace the calibrated ones.
    """

    date: str
    origin: str
    gates: dict[str, dict[Place, GateNoise]] = field(default_factory=dict)
    spectators: dict[Place, float] = field(default_factory=dict)
    flips: dict[Place, float] = field(default_factory=dict)
    readout: dict[int, tuple[float, float]] = field(default_factory=dict)

    def days_before(self, now: datetime.datetime) -> float:
        """Return the age in days at ``now``, or infinity if the date is unknown."""
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
        """Return the errors in a file's record."""
        gates = {
            name: {place: GateNoise(angles, rest) for place, angles, rest in rows}
            for name, rows in record.gates.items()
        }
        return cls(record.date, record.origin, gates, dict(record.spectators), dict(record.flips), dict(record.readout))

    @classmethod
    def from_dict(cls, values: Mapping[str, JsonValue]) -> Learned:
        """Return what ``to_dict`` wrote."""
        return cls.from_record(LearnedRecord.model_validate(values))


def infidelity(angles: dict[str, float]) -> float:
    """Return the average infidelity of coherent errors, ``(d^2 - |tr U|^2) / (d^2 + d)`` (Nielsen, quant-ph/0205035).

    Args:
        angles: The coherent errors of one gate; see ``GateNoise``.
    """
    import numpy as np
    from qiskit.quantum_info import Pauli
    from scipy.linalg import expm

    if not angles:
        return 0.0
    d = 2 ** len(next(iter(angles)))
    turn = sum(angle * Pauli(label).to_matrix() for label, angle in angles.items())
    return float((d**2 - abs(np.trace(expm(-0.5j * turn))) ** 2) / (d**2 + d))
