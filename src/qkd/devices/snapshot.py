"""Snapshots: a device as it was on one day, from the client's own files, a live backend, or a file of the user's."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from qiskit.providers import BackendV2
from qiskit.transpiler import Target

from qkd.core import records
from qkd.core.bundled import user_dirs
from qkd.core.errors import DeviceError, FolderError
from qkd.core.files import read_json, write_json
from qkd.devices import calibration as calibrations
from qkd.devices import catalogue
from qkd.devices.backend import CalibratedBackend, make_target
from qkd.devices.calibration import Calibration, Cleaning, Operation, Qubit
from qkd.devices.learned import Learned, LearnedRecord

FORMAT, VERSION = "qkd-snapshot", 1
MEND = "make one with 'qkd devices snapshot DEVICE'"

Number = Annotated[float | None, AfterValidator(lambda value: value if value is None or isfinite(value) else None)]
"""What was measured; some devices report infinities where nothing was."""

Measured = Literal["t1", "t2", "frequency", "readout_error", "readout_length"]


OWN = ("gates", "qubits", "learned")
"""What is not written as it is held."""


class _Calibration(records.Record):
    """A ``Calibration`` in a file."""

    model_config = ConfigDict(allow_inf_nan=True)

    name: str
    family: str
    processor: str
    version: str
    date: str
    dt: Number
    rep_delay: Number = None
    timing: dict[str, Annotated[int, Field(ge=1, le=1 << 20)]]
    coordinates: tuple[tuple[int, int], ...] | None
    qubits: Annotated[tuple[dict[Measured, Number], ...], Field(min_length=1)]
    gates: dict[str, tuple[tuple[tuple[int, ...], Number, Number], ...]]
    learned: LearnedRecord | None = None


class _File(records.Record):
    """A snapshot file."""

    calibration: _Calibration


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A device on the day of its calibration, cleaned.

    Args:
        calibration: what was measured, without what is unusable.
        cleaning: what that took.
        origin: where it came from, in words or as a path.
    """

    calibration: Calibration
    cleaning: Cleaning
    origin: str

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.calibration.name

    @property
    def num_qubits(self) -> int:
        """All qubits of the chip, usable or not."""
        return len(self.calibration.qubits)

    @cached_property
    def target(self) -> Target:
        """The device with its fixed gates."""
        return make_target(self.calibration)

    def target_with(self, *fractional: str) -> Target:
        """Return the device with some of the gates of ``FRACTIONAL`` beside its fixed ones.

        Raises:
            QkdError: it does not have them.
        """
        missing = [name for name in fractional if name not in self.calibration.gates]
        if missing:
            raise DeviceError(f"{self.name} has no fractional gate {' or '.join(missing)}; set basis to native")
        return make_target(self.calibration, fractional=fractional)

    @cached_property
    def backend(self) -> CalibratedBackend:
        """The device as a backend that Qiskit, Aer and IBM's client take."""
        return CalibratedBackend(self.name, self.target, self.calibration.version, self.summary())

    def summary(self) -> str:
        """Return one line: what and when, and what was cleaned away."""
        calibration = self.calibration
        kind = f"{calibration.family} {calibration.processor}".strip()
        about = f"{kind}, {self.num_qubits} qubits, calibrated {calibration.date[:10]}"
        return f"{calibration.name} ({about}): {self.cleaning.summary()}"


def from_backend(backend: BackendV2, origin: str | None = None) -> Snapshot:
    """Return the snapshot of what ``backend`` reports now."""
    return _cleaned(calibrations.from_backend(backend), origin or f"backend {backend.name}")


def load_snapshot(name_or_path: str | Path) -> Snapshot:
    """Return a snapshot by its device's name or from a file.

    ``fake_fez`` is the client's own; ``ibm_fez`` and ``fez`` are the user's newest file of that device where there is
    one (see ``save_snapshot``), else the client's.

    Raises:
        QkdError: there is no such device, snapshot or file, or the file is damaged or newer than this qkd.
    """
    text = str(name_or_path)
    if text.endswith(".json"):
        return read_snapshot(Path(text))
    entry = catalogue.find_device(text)
    saved = [] if text.startswith("fake_") else saved_files(entry.name)
    if saved:
        return read_snapshot(saved[-1])
    if entry.snapshot is None:
        nearest = catalogue.load_catalogue().nearest_snapshot(entry)
        raise DeviceError(f"there is no snapshot of {entry.name}; the nearest is {nearest.snapshot}")
    return _of_client(entry.snapshot)


@lru_cache(maxsize=8)
def _of_client(name: str) -> Snapshot:
    """Return a snapshot that comes with qiskit-ibm-runtime."""
    import warnings

    from qiskit_ibm_runtime import fake_provider

    for kind in vars(fake_provider).values():
        if isinstance(kind, type) and getattr(kind, "backend_name", None) == name:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some say on every use that they are no device
                return from_backend(kind(), "qiskit-ibm-runtime")
    raise DeviceError(f"{name}: the installed qiskit-ibm-runtime has no such snapshot; upgrade it")


def save_snapshot(backend: BackendV2, folder: Path | None = None) -> Path:
    """Write what a backend reports now to a dated file and return its path; no installed file is touched.

    Args:
        backend: a live backend, or any other.
        folder: the first of ``qkd.core.bundled.user_dirs("snapshots")`` when left out.

    Raises:
        QkdError: it reports no calibration, or the file cannot be written.
    """
    calibration = calibrations.from_backend(backend)
    if not calibration.date:
        raise DeviceError(
            f"{calibration.name} does not say when it was calibrated; only calibrated devices can be kept"
        )
    path = (folder or user_dirs("snapshots")[0]) / f"{calibration.name}-{calibration.date[:10]}.json"
    write_snapshot(calibration, path)
    return path


def write_snapshot(calibration: Calibration, path: Path) -> None:
    """Write a calibration to a file that ``read_snapshot`` reads."""
    write_json(path, _to_json(calibration))


def saved_files(name: str) -> list[Path]:
    """Return the user's snapshot files of a device, oldest calibration first."""
    files = [path for folder in user_dirs("snapshots") for path in folder.glob(f"{name}-????-??-??.json")]
    return sorted(files, key=lambda path: path.name)


def learned_path(name: str, date: datetime.datetime) -> Path:
    """Return where the user's snapshot of a device lies whose errors were learned at a time: no two share a file."""
    return user_dirs("snapshots")[0] / f"{name}-{date:%Y-%m-%dT%H%M%S}-learned.json"


def learned_files(name: str) -> list[Path]:
    """Return the user's snapshot files of a device with learned errors, oldest first; older ones have the day alone."""
    files = [path for folder in user_dirs("snapshots") for path in folder.glob(f"{name}-????-??-??*-learned.json")]
    return sorted(files, key=lambda path: path.name)


def read_snapshot(path: Path) -> Snapshot:
    """Return the snapshot in a file that ``save_snapshot`` wrote.

    Raises:
        QkdError: the file is missing, damaged, or from a newer qkd.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise FolderError(f"{path}: not a snapshot; {MEND}")
    if not isinstance(value.get("version"), int) or value["version"] > VERSION:
        raise FolderError(
            f"{path}: snapshot format {value.get('version')!r:.20} is newer than this qkd reads ({VERSION})"
        )
    return _cleaned(_from_json(records.checked(value, _File, path, MEND).calibration, path), str(path))


def _cleaned(raw: Calibration, origin: str) -> Snapshot:
    return Snapshot(*calibrations.clean(raw), origin)


def _to_json(calibration: Calibration) -> dict[str, object]:
    value = asdict(calibration)
    value["gates"] = {
        name: [[list(place), done.error, done.duration] for place, done in places.items()]
        for name, places in calibration.gates.items()
    }
    value["learned"] = None if calibration.learned is None else calibration.learned.to_dict()
    return {"format": FORMAT, "version": VERSION, "calibration": value}


def _from_json(record: _Calibration, path: Path) -> Calibration:
    gates = {name: {on: Operation(error, length) for on, error, length in rows} for name, rows in record.gates.items()}
    for name, places in gates.items():
        if len({len(place) for place in places}) > 1 or any(
            len({*place}) != len(place) or not place for place in places
        ):
            raise FolderError(f"{path}: damaged (gate {name!r:.40} is not on as many qubits everywhere); {MEND}")
        if any(not 0 <= q < len(record.qubits) for place in places for q in place):
            raise FolderError(f"{path}: damaged (gate {name!r:.40} names a qubit that is not there); {MEND}")
    if record.coordinates is not None and len(record.coordinates) != len(record.qubits):
        raise FolderError(f"{path}: damaged (not one pair of coordinates for each qubit); {MEND}")
    plain = {field: getattr(record, field) for field in _Calibration.model_fields if field not in OWN}
    learned = None if record.learned is None else Learned.from_record(record.learned)
    qubits = tuple(Qubit(**qubit) for qubit in record.qubits)
    return Calibration(**plain, qubits=qubits, gates=gates, learned=learned)
