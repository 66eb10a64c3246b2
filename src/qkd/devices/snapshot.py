"""Snapshots: a device with its calibration, from IBM's client, a backend or a file."""

from __future__ import annotations

import datetime
import glob
import json
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field
from qiskit.providers import BackendV2
from qiskit.transpiler import Target

from qkd.core import records
from qkd.core.arguments import public
from qkd.core.bundled import user_dirs
from qkd.core.console import log
from qkd.core.errors import DeviceError, FolderError
from qkd.core.files import finite, read_json, write_json
from qkd.devices import calibration as calibrations
from qkd.devices import catalogue
from qkd.devices.backend import CalibratedBackend, make_target
from qkd.devices.calibration import Calibration, Cleaning, Operation, Qubit
from qkd.devices.learned import Learned, LearnedRecord

FORMAT, VERSION = "qkd-snapshot", 1
REMEDY = "make one with 'qkd devices snapshot DEVICE'"

Number = Annotated[float | None, AfterValidator(lambda value: value if value is None or isfinite(value) else None)]
"""A measured value; some devices report infinity instead of a missing one."""

Measured = Literal["t1", "t2", "frequency", "readout_error", "readout_length"]


OWN = ("gates", "qubits", "learned")
"""Fields whose file format differs from the dataclass."""


class _Calibration(records.Record):
    """File format of ``Calibration``."""

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
    """File format of a snapshot."""

    calibration: _Calibration


@dataclass(frozen=True, eq=False, repr=False)
class Snapshot:
    """A device with its cleaned calibration.

    Attributes:
        calibration: The cleaned calibration.
        cleaning: The values that cleaning changed.
        origin: A description or the path of the source.
    """

    calibration: Calibration
    cleaning: Cleaning
    origin: str

    def __repr__(self) -> str:
        return f"<Snapshot {self.summary()}>"

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.calibration.name

    @property
    def num_qubits(self) -> int:
        """The number of qubits of the chip, unusable ones included."""
        return len(self.calibration.qubits)

    @cached_property
    def target(self) -> Target:
        """The target without fractional gates."""
        return make_target(self.calibration)

    def target_with(self, *fractional: str) -> Target:
        """Return the target with some of the gates of ``FRACTIONAL``.

        Raises:
            DeviceError: The device does not have them.
        """
        missing = [name for name in fractional if name not in self.calibration.gates]
        if missing:
            raise DeviceError(f"{self.name} has no fractional gate {' or '.join(missing)}; set basis to native")
        return make_target(self.calibration, fractional=fractional)

    @cached_property
    def backend(self) -> CalibratedBackend:
        """A backend of the device for Qiskit, Aer and IBM's client."""
        return CalibratedBackend(self.name, self.target, self.calibration.version, self.summary())

    def summary(self) -> str:
        """Return one line with processor, date and unusable parts."""
        calibration = self.calibration
        kind = f"{calibration.family} {calibration.processor}".strip()
        dated = f", calibrated {calibration.date[:10]}" if calibration.date else ""
        about = f"{kind}, {self.num_qubits} qubits{dated}"
        return f"{calibration.name} ({about}): {self.cleaning.summary()}"


Device: TypeAlias = str | Path | BackendV2 | Snapshot
"""A device's name, a snapshot file, a backend or a snapshot."""


def from_backend(backend: BackendV2, origin: str | None = None) -> Snapshot:
    """Return a snapshot of the current calibration of any backend."""
    # IonQ's backends have an option of that name that is no model of Aer
    is_ideal = getattr(getattr(backend.options, "noise_model", None), "is_ideal", None)
    if is_ideal is not None and not is_ideal() and not _has_errors(backend):
        log.warning("%s has a noise model that its target does not report, so qkd takes it as ideal", backend.name)
    return _cleaned(calibrations.from_backend(backend), origin or f"backend {backend.name}")


def _has_errors(backend: BackendV2) -> bool:
    """Return whether a backend's target reports the error of any gate."""
    target = backend.target
    return any(
        entry is not None and entry.error for name in target.operation_names for entry in (target[name] or {}).values()
    )


def load_snapshot(device: Device) -> Snapshot:
    """Return the snapshot of a device by name or backend, or the one in a JSON file.

    ``fake_fez`` is the client's snapshot. ``ibm_fez`` and ``fez`` are the user's newest file of that device (see
    ``save_snapshot``), or the client's snapshot if there is no file.

    Raises:
        DeviceError: The device or its snapshot does not exist.
        FolderError: The file is missing, damaged or from a newer qkd.
    """
    if isinstance(device, Snapshot):
        return device
    if isinstance(device, BackendV2):
        return from_backend(device)
    if not isinstance(device, str | Path):
        raise DeviceError(f"{type(device).__name__} is no device; give a name, a snapshot file or a BackendV2")
    text = str(device)
    if text.endswith(".json"):
        return read_snapshot(Path(text))
    try:
        entry = catalogue.find_device(text)
    except catalogue.UnknownDevice:  # a snapshot of another provider's backend that the user saved
        saved = saved_files(text)
        if not saved:
            raise
        return read_snapshot(saved[-1])
    saved = [] if text.startswith("fake_") else saved_files(entry.name)
    if saved:
        return read_snapshot(saved[-1])
    if entry.snapshot is None:
        nearest = catalogue.load_catalogue().nearest_snapshot(entry)
        raise DeviceError(f"there is no snapshot of {entry.name}; the nearest is {nearest.snapshot}")
    return _of_client(entry.snapshot)


@lru_cache(maxsize=8)
def _of_client(name: str) -> Snapshot:
    """Return a snapshot of qiskit-ibm-runtime."""
    import warnings

    from qiskit_ibm_runtime import fake_provider

    for kind in vars(fake_provider).values():
        if isinstance(kind, type) and getattr(kind, "backend_name", None) == name:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some fake backends warn on every use
                return from_backend(kind(), "qiskit-ibm-runtime")
    raise DeviceError(f"{name}: the installed qiskit-ibm-runtime has no such snapshot; upgrade it")


@public
def save_snapshot(backend: BackendV2, folder: str | Path | None = None) -> Path:
    """Write the current calibration of a backend to a dated file and return its path.

    ``device=`` accepts the name in the file afterwards. The date is the calibration's, or now if it has none.

    Args:
        folder: The folder of the file; None is the user's folder of snapshots.

    Raises:
        DeviceError: The backend does not report its number of qubits.
        FolderError: The file cannot be written.
    """
    calibration = calibrations.from_backend(backend)
    name = re.sub(r"[^\w-]+", "_", calibration.name).strip("_") or "backend"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    calibration = replace(calibration, name=name, date=calibration.date or now)
    path = Path(folder or user_dirs("snapshots")[0]) / f"{calibration.name}-{calibration.date[:10]}.json"
    write_snapshot(calibration, path)
    return path


def device_file(device: object) -> Path:
    """Return the file of a device that is no name: the given path, or a new snapshot file of a backend."""
    if isinstance(device, Path):
        return device
    if isinstance(device, BackendV2):
        return save_snapshot(device)
    if isinstance(device, Snapshot):
        path = user_dirs("snapshots")[0] / f"{device.name}-{device.calibration.date[:10] or 'undated'}.json"
        write_snapshot(device.calibration, path)
        return path
    raise DeviceError(f"{type(device).__name__} is no device; give a name, a snapshot file, a Snapshot or a BackendV2")


@public
def write_snapshot(calibration: Calibration, path: Path) -> None:
    """Write a calibration, learned errors included, to a file that ``read_snapshot`` reads, and read it back.

    Raises:
        FolderError: the file cannot be written, or what it holds differs from the calibration.
    """
    value = _to_json(calibration)
    write_json(path, value)
    if _to_json(_read(path)) != value:
        raise FolderError(f"{path}: the file does not hold the calibration that was written; check the disk")


def saved_files(name: str) -> list[Path]:
    """Return the user's snapshot files of a device, oldest calibration first."""
    return _files(name, "????-??-??.json")


def learned_path(name: str, date: datetime.datetime) -> Path:
    """Return the path of the user's snapshot of a device with errors learned at ``date``."""
    return user_dirs("snapshots")[0] / f"{name}-{date:%Y-%m-%dT%H%M%S}-learned.json"


def learned_files(name: str) -> list[Path]:
    """Return the user's snapshot files of a device with learned errors, oldest first."""
    return _files(name, "????-??-??*-learned.json")


def _files(name: str, pattern: str) -> list[Path]:
    if Path(name).name != name:  # a path is no name of a device
        return []
    files = [path for folder in user_dirs("snapshots") for path in folder.glob(f"{glob.escape(name)}-{pattern}")]
    return sorted(files, key=lambda path: path.name)


def read_snapshot(path: Path) -> Snapshot:
    """Return the snapshot in a file that ``save_snapshot`` wrote."""
    return _cleaned(_read(path), str(path))


def _read(path: Path) -> Calibration:
    """Return the calibration in a file without cleaning."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise FolderError(f"{path}: not a snapshot; {REMEDY}")
    if not isinstance(value.get("version"), int) or value["version"] > VERSION:
        raise FolderError(
            f"{path}: snapshot format {value.get('version')!r:.20} is newer than this qkd reads ({VERSION})"
        )
    return _from_json(records.checked(value, _File, path, REMEDY).calibration, path)


def _cleaned(raw: Calibration, origin: str) -> Snapshot:
    return Snapshot(*calibrations.clean(raw), origin)


def _to_json(calibration: Calibration) -> dict[str, object]:
    value = asdict(calibration)
    value["gates"] = {
        name: [[list(place), done.error, done.duration] for place, done in places.items()]
        for name, places in calibration.gates.items()
    }
    value["learned"] = None if calibration.learned is None else calibration.learned.to_dict()
    plain: dict[str, object] = json.loads(
        json.dumps(finite({"format": FORMAT, "version": VERSION, "calibration": value}))
    )
    return plain


def _from_json(record: _Calibration, path: Path) -> Calibration:
    gates = {name: {on: Operation(error, length) for on, error, length in rows} for name, rows in record.gates.items()}
    for name, places in gates.items():
        if len({len(place) for place in places}) > 1 or any(
            len({*place}) != len(place) or not place for place in places
        ):
            raise FolderError(f"{path}: damaged (gate {name!r:.40} is not on as many qubits everywhere); {REMEDY}")
        if any(not 0 <= q < len(record.qubits) for place in places for q in place):
            raise FolderError(f"{path}: damaged (gate {name!r:.40} names a qubit that is not there); {REMEDY}")
    if record.coordinates is not None and len(record.coordinates) != len(record.qubits):
        raise FolderError(f"{path}: damaged (not one pair of coordinates for each qubit); {REMEDY}")
    plain = {field: getattr(record, field) for field in _Calibration.model_fields if field not in OWN}
    learned = None if record.learned is None else Learned.from_record(record.learned)
    qubits = tuple(Qubit(**qubit) for qubit in record.qubits)
    return Calibration(**plain, qubits=qubits, gates=gates, learned=learned)
