"""Catalogue of IBM's devices, live and retired, read from a dated data file."""

from __future__ import annotations

import datetime
import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from qkd.core.arguments import public
from qkd.core.errors import DeviceError

PREFIXES = ("fake_", "ibm_", "ibmq_")
Status = Literal["live", "retired", "unknown", "model"]


class UnknownDevice(DeviceError):
    """No device has that name.

    Attributes:
        name: The requested name.
        close: The most similar known name, or None.
    """

    def __init__(self, name: str, close: str | None) -> None:
        self.name, self.close = name, close
        hint = f"; did you mean '{close}'?" if close else "; see qkd devices"
        super().__init__(f"there is no device '{name}'{hint}")


@dataclass(frozen=True)
class DeviceEntry:
    """Catalogue entry of a device. None marks an unknown value.

    Attributes:
        name: The real device's name, ``ibm_brisbane``.
        qubits: The number of qubits.
        status: One of live, retired, unknown (no source), and model (a snapshot without a device).
        snapshot: The name of the client's snapshot, ``fake_brisbane``.
        family: The processor family: Eagle, Heron, Nighthawk, ...
        processor: The processor revision, ``r3``.
        lattice: One of heavy-hex, square, line, tree, single and other.
        two_qubit_gate: The native two-qubit gate with most qubit pairs.
        since: The retirement date as precise as the source has it (``2025-04-18`` or ``2025-11``).
        source: The source of status and date.
    """

    name: str
    qubits: int
    status: Status
    snapshot: str | None = None
    family: str | None = None
    processor: str | None = None
    lattice: str | None = None
    two_qubit_gate: str | None = None
    since: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """All known devices.

    Attributes:
        date: The day on which the statuses were checked.
        devices: The devices.
    """

    date: datetime.date
    devices: tuple[DeviceEntry, ...]

    def find(self, name: str) -> DeviceEntry:
        """Return the device called ``name``: ``ibm_brisbane``, ``fake_brisbane`` or ``brisbane``."""
        names = {alias: entry for entry in self.devices for alias in _aliases(entry)}
        if name not in names:
            known = [entry.snapshot if name.startswith("fake_") else entry.name for entry in self.devices]
            close = difflib.get_close_matches(name, [candidate for candidate in known if candidate], n=1)
            raise UnknownDevice(name, close[0] if close else None)
        return names[name]

    def live(self) -> tuple[DeviceEntry, ...]:
        """Return the devices that were live on the catalogue's date."""
        return tuple(entry for entry in self.devices if entry.status == "live")

    def nearest_snapshot(self, entry: DeviceEntry) -> DeviceEntry:
        """Return the entry itself if it has a snapshot, else the device with a snapshot of similar family and size."""
        if entry.snapshot is not None:
            return entry
        candidates = [device for device in self.devices if device.snapshot is not None]
        kin = [device for device in candidates if entry.family in (None, device.family)] or candidates
        return min(kin, key=lambda device: (abs(device.qubits - entry.qubits), device.name))


@lru_cache(maxsize=1)
def load_catalogue() -> Catalogue:
    """Return the catalogue that ships with qkd."""
    data = tomllib.loads(files("qkd.devices").joinpath("catalogue.toml").read_text(encoding="utf-8"))
    sources = data["sources"]
    entries = (row | {"source": sources[row["source"]] if "source" in row else None} for row in data["devices"])
    return Catalogue(data["date"], tuple(DeviceEntry(**row) for row in entries))


@public
def find_device(name: str) -> DeviceEntry:
    """Return the device called ``name``; see ``Catalogue.find``."""
    return load_catalogue().find(name)


def require_live(name: str, command: str, online: Iterable[str] | None = None) -> DeviceEntry:
    """Return the device called ``name`` unless it is known to be out of reach.

    Args:
        command: The user's command, with ``{device}`` for the device's name.
        online: The device names that the account lists (``live.names``). Without it the catalogue decides, and
            accepts devices of unknown status.
    """
    catalogue = load_catalogue()
    seen = None if online is None else sorted(online)
    others = ", ".join(seen or [entry.name for entry in catalogue.live()])
    if seen is not None and name in seen:
        known = [entry for entry in catalogue.devices if entry.name == name]
        return known[0] if known else DeviceEntry(name=name, qubits=0, status="live")  # newer than the catalogue
    try:
        entry = catalogue.find(name)
        why = _why_not(entry, name, seen)
    except UnknownDevice as error:
        entry, why = _guess(catalogue, name), f"there is no device '{name}'"
        if error.close:
            why += f" (the nearest name is '{error.close}')"
    if why is None:
        return entry
    stand_in = catalogue.nearest_snapshot(entry).snapshot or ""
    raise DeviceError(
        f"{why}; live devices are {others}; the nearest snapshot is {stand_in}, to run the same there: "
        f"'{command.format(device=stand_in)} --local'"
    )


def _why_not(entry: DeviceEntry, name: str, online: list[str] | None) -> str | None:
    """Return the reason why no job can be submitted to a device, or None."""
    if online is not None and entry.name in online:
        return None
    if name.startswith("fake_") or entry.status == "model":
        return f"{name} is a snapshot, which takes no jobs"
    if entry.status == "retired":
        when = f" since {entry.since}" if entry.since else ""
        return f"{entry.name} is retired{when} ({entry.source})"
    return None if online is None else f"{entry.name} is not among the devices of this account"


def _guess(catalogue: Catalogue, name: str) -> DeviceEntry:
    """Return the device with the most similar name, or a live one."""
    close = difflib.get_close_matches(name, [entry.name for entry in catalogue.devices], n=1)
    return catalogue.find(close[0]) if close else catalogue.live()[0]


def _aliases(entry: DeviceEntry) -> set[str]:
    city = entry.name
    for prefix in PREFIXES:
        city = city.removeprefix(prefix)
    if entry.snapshot is not None:
        city = entry.snapshot.removeprefix("fake_")
    names = {entry.name, city, f"ibm_{city}", f"ibmq_{city}"}
    return names | ({entry.snapshot} if entry.snapshot else set())
