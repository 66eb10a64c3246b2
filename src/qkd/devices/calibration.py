"""Calibration data of a device, and their cleaning from missing and unphysical values."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from qiskit.circuit import Gate as QiskitGate
from qiskit.providers import BackendV2

from qkd.core.errors import DeviceError
from qkd.devices.learned import Learned

Place = tuple[int, ...]

FRACTIONAL = ("rx", "rzz")
"""Gates with a continuous angle on Heron chips. A target offers them on request only."""
UNMEASURED = ("rz", "u1", "p", "id", "delay", "reset")
"""One-qubit operations that may lack an error: virtual ones, and those outside student circuits."""
WORST_READOUT = 0.5
"""Readout error from which a qubit is unusable: its outcomes carry no information."""


@dataclass(frozen=True)
class Qubit:
    """Calibration of one qubit; None marks a missing value.

    Attributes:
        t1: Relaxation time in seconds.
        t2: Dephasing time in seconds.
        frequency: Transition frequency in Hz.
        readout_error: Mean probability of a wrong outcome.
        readout_length: Readout duration in seconds.
    """

    t1: float | None = None
    t2: float | None = None
    frequency: float | None = None
    readout_error: float | None = None
    readout_length: float | None = None


@dataclass(frozen=True)
class Operation:
    """Calibration of one gate on one tuple of qubits; None marks a missing value.

    Attributes:
        error: Average gate infidelity.
        duration: Duration in seconds.
    """

    error: float | None = None
    duration: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Calibration of a device.

    Attributes:
        name: The backend's name, ``ibm_fez`` or ``fake_fez``.
        family: The processor family: Eagle, Heron, Nighthawk, ...
        processor: The processor revision, ``r2``.
        version: The backend version ``X.Y.Z``. Circuits compiled for another X or Y must be transpiled again.
        date: The calibration date, ISO 8601.
        dt: The clock period in seconds, or None.
        timing: The timing constraints of ``qiskit.transpiler.Target`` (granularity, min_length, ...), in units of dt.
        coordinates: The (column, row) of each qubit on the chip, or None.
        qubits: The n qubits.
        gates: The operations by gate name and qubits. Fractional gates are listed where the device has them.
        rep_delay: The default delay between two shots in seconds, or None.
        learned: Errors that calibration data omit, or None.
    """

    name: str
    family: str
    processor: str
    version: str
    date: str
    dt: float | None
    timing: dict[str, int]
    coordinates: tuple[tuple[int, int], ...] | None = field(repr=False)
    qubits: tuple[Qubit, ...] = field(repr=False)
    gates: dict[str, dict[Place, Operation]] = field(repr=False)
    rep_delay: float | None = None
    learned: Learned | None = field(default=None, repr=False)

    @property
    def two_qubit_gates(self) -> tuple[str, ...]:
        """The native two-qubit gates without fractional ones, ordered by the number of their qubit pairs."""
        count = {
            name: len(places)
            for name, places in self.gates.items()
            if name not in FRACTIONAL and any(len(place) == 2 for place in places)
        }
        return tuple(sorted(count, key=lambda name: (-count[name], name)))

    @property
    def fractional_gates(self) -> tuple[str, ...]:
        """The gates of ``FRACTIONAL`` that have an alternative, so that a target may omit them."""
        alternatives = {"rx": {"sx", "u", "u2", "u3", "r", "ry", "x"} & set(self.gates), "rzz": self.two_qubit_gates}
        return tuple(name for name in FRACTIONAL if name in self.gates and alternatives[name])

    def couplers(self) -> dict[Place, Operation]:
        """Return the better two-qubit gate of every coupled pair ``(a, b)``, a < b."""
        best: dict[Place, Operation] = {}
        for name in self.two_qubit_gates or ("rzz",) * ("rzz" in self.gates):
            for (a, b), done in self.gates[name].items():
                pair = (min(a, b), max(a, b))
                if pair not in best or _error(done) < _error(best[pair]):
                    best[pair] = done
        return best


@dataclass(frozen=True)
class Cleaning:
    """Record of the values that ``clean`` changed.

    Attributes:
        clipped: The qubits whose T2 exceeded its physical bound of 2 T1 and was set to it.
        avoided: The qubits that are unusable.
        couplers: The pairs of usable qubits whose gates are all unusable.
        perfect: The gates, and ``readout``, whose error the device reports nowhere.
    """

    clipped: tuple[int, ...] = ()
    avoided: tuple[int, ...] = ()
    couplers: tuple[Place, ...] = ()
    perfect: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return one line."""
        parts = []
        if self.avoided:
            parts.append(f"{_counted(len(self.avoided), 'qubit')} not used ({_listed(self.avoided)})")
        if self.couplers:
            pairs = [f"{a}-{b}" for a, b in self.couplers]
            parts.append(f"{_counted(len(pairs), 'coupler')} not used ({_listed(pairs)})")
        if self.clipped:
            parts.append(f"T2 clipped to 2 T1 on {_counted(len(self.clipped), 'qubit')} ({_listed(self.clipped)})")
        if self.perfect:
            parts.append(f"no error is reported for {_listed(self.perfect)}, which count as perfect")
        return "; ".join(parts) or "every qubit and coupler is usable"


def clean(raw: Calibration) -> tuple[Calibration, Cleaning]:
    """Return a calibration without missing and unphysical values, and a record of the changes.

    A qubit is excluded if T1, T2, its readout or a pulsed one-qubit gate is missing or failed, and a two-qubit gate
    if its error is. Negative and infinite durations count as missing. T2 is clipped to 2 T1, because relaxation with a
    longer T2 is no physical channel.

    Values that a backend reports for none of its qubits, as an ideal simulator does, are not missing: readout and
    gates without any reported error count as perfect.
    """
    reported = [name for name in ("t1", "t2", "readout_error") if any(getattr(q, name) is not None for q in raw.qubits)]
    unmeasured = {name for name, places in raw.gates.items() if all(done.error is None for done in places.values())}
    perfect = sorted(unmeasured - {*UNMEASURED}) + ["readout"] * ("readout_error" not in reported)
    if "readout_error" not in reported:
        raw = replace(raw, qubits=tuple(replace(qubit, readout_error=0.0) for qubit in raw.qubits))
    avoided = {i for i, qubit in enumerate(raw.qubits) if not _usable(qubit, reported)}
    unmeasured |= {*UNMEASURED}
    for name, places in raw.gates.items():
        if name not in unmeasured and name not in FRACTIONAL:
            avoided |= {place[0] for place, done in places.items() if len(place) == 1 and _error(done) >= 1}
    gates: dict[str, dict[Place, Operation]] = {}
    for name, places in raw.gates.items():
        operations = {
            place: done if _is_duration(done.duration) else replace(done, duration=None)
            for place, done in places.items()
            if not avoided & set(place) and (name in unmeasured or _error(done) < 1)
        }
        if operations:
            gates[name] = operations
    clipped, qubits = [], []
    for i, qubit in enumerate(raw.qubits):
        if i in avoided:
            qubit = Qubit(frequency=qubit.frequency)
        elif qubit.t1 is not None and qubit.t2 is not None and qubit.t2 > 2 * qubit.t1:
            clipped.append(i)
            qubit = replace(qubit, t2=2 * qubit.t1)
        qubits.append(qubit if _is_duration(qubit.readout_length) else replace(qubit, readout_length=None))
    cleaned = replace(raw, qubits=tuple(qubits), gates=gates)
    lost = {pair for pair in raw.couplers() if not avoided & set(pair)} - set(cleaned.couplers())
    return cleaned, Cleaning(tuple(clipped), tuple(sorted(avoided)), tuple(sorted(lost)), tuple(perfect))


def _usable(qubit: Qubit, reported: Collection[str]) -> bool:
    for name in ("t1", "t2"):
        time = getattr(qubit, name)
        if name in reported and (time is None or not math.isfinite(time) or time <= 0):
            return False
    if "readout_error" not in reported:
        return True
    return qubit.readout_error is not None and 0 <= qubit.readout_error < WORST_READOUT


def _error(done: Operation) -> float:
    return done.error if done.error is not None and done.error >= 0 else 1.0


def _is_duration(seconds: float | None) -> bool:
    return seconds is not None and 0 <= seconds < math.inf


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _listed(names: Any, most: int = 6) -> str:
    shown = [str(name) for name in names[:most]]
    return ", ".join(shown) + (", ..." if len(names) > most else "")


def from_backend(backend: BackendV2) -> Calibration:
    """Return the calibration that a backend reports, without cleaning.

    Args:
        backend: A live IBM backend, a snapshot of the client, or another backend with a target.
    """
    target = backend.target
    if not target.num_qubits:
        raise DeviceError(
            f"backend {backend.name} does not report its number of qubits; give it one, such as n_qubits=5"
        )
    gates: dict[str, dict[Place, Operation]] = defaultdict(dict)
    for name in target.operation_names:
        operation = target.operation_from_name(name)
        if name == "measure" or not (isinstance(operation, QiskitGate) or name == "reset"):
            continue  # readout is stored with the qubits; delays and control flow have no calibration
        for place, entry in (target[name] or {None: None}).items():
            done = Operation() if entry is None else Operation(entry.error, entry.duration)
            # None is every place: simulators have no coupling map. Wider gates are synthesized from narrower ones.
            width = operation.num_qubits
            anywhere = itertools.permutations(range(target.num_qubits), width) if 0 < width <= 2 else ()
            gates[name] |= dict.fromkeys(anywhere if place is None else [place], done)
    properties = backend.properties() if hasattr(backend, "properties") else None
    updated = getattr(properties, "last_update_date", None)
    for name in FRACTIONAL if updated is not None else ():
        if name not in gates:  # IBM's targets list fractional gates on request only; properties always do
            gates[name] = _fractional(properties, name)
    readout = target["measure"] if "measure" in target.operation_names else {}
    configuration = backend.configuration() if hasattr(backend, "configuration") else None
    processor = getattr(configuration, "processor_type", None) or {}
    qubits = target.qubit_properties or [None] * target.num_qubits
    return Calibration(
        name=backend.name or "backend",
        family=str(processor.get("family", "unknown")),
        processor=f"r{processor['revision']}" if "revision" in processor else "",
        version=str(backend.backend_version or ""),
        date=updated.isoformat() if updated is not None else "",
        dt=target.dt,
        timing={
            key: int(getattr(target, key))
            for key in ("granularity", "min_length", "pulse_alignment", "acquire_alignment")
        },
        coordinates=_coordinates(configuration, target.num_qubits),
        qubits=tuple(_qubit(qubit, (readout or {}).get((i,))) for i, qubit in enumerate(qubits)),
        gates={name: places for name, places in sorted(gates.items()) if places},
        rep_delay=getattr(configuration, "default_rep_delay", None),
    )


def _qubit(qubit: Any, readout: Any) -> Qubit:
    return Qubit(
        getattr(qubit, "t1", None),
        getattr(qubit, "t2", None),
        getattr(qubit, "frequency", None),
        getattr(readout, "error", None),
        getattr(readout, "duration", None),
    )


def _fractional(properties: Any, name: str) -> dict[Place, Operation]:
    """Return the operations of a gate from a device's properties."""
    if not any(gate.gate == name for gate in properties.gates):
        return {}
    return {
        place: Operation(*(values[key][0] if key in values else None for key in ("gate_error", "gate_length")))
        for place, values in properties.gate_property(name).items()
    }


def _coordinates(configuration: Any, n: int) -> tuple[tuple[int, int], ...] | None:
    """Return the (column, row) of each qubit that a device reports, or None."""
    coordinates = getattr(configuration, "coords", None)
    if coordinates and len(coordinates) == n:
        return tuple((int(column), int(row)) for column, row in coordinates)
    return None
