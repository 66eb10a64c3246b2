"""Which devices there are, or were: every IBM device by its real name and its snapshot's, as a dated data file."""

from __future__ import annotations

import datetime
import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from qkd.core.errors import DeviceError

PREFIXES = ("fake_", "ibm_", "ibmq_")
Status = Literal["live", "retired", "unknown", "model"]


class UnknownDevice(DeviceError):
    """There is no device of that name.

    Args:
        name: what was asked for.
        close: the known name that is most like it, if one is.
    """

    def __init__(self, name: str, close: str | None) -> None:
        self.name, self.close = name, close
        hint = f"; did you mean '{close}'?" if close else "; see qkd devices"
        super().__init__(f"there is no device '{name}'{hint}")


@dataclass(frozen=True)
class DeviceEntry:
    """One device; what is not known is None.

    Args:
        name: the real device's, ``ibm_brisbane``.
        snapshot: the name of the client's snapshot of it, ``fake_brisbane``.
        family: of the processor: Eagle, Heron, Nighthawk, ...
        processor: its revision, ``r3``.
        qubits: how many.
        lattice: heavy-hex, square, line, tree, single or other.
        two_qubit_gate: the native one; where there are several, that of most qubit pairs.
        status: live, retired, unknown (no source says), or model (exists only as a snapshot).
        since: when it was retired, as exactly as the source says (``2025-04-18`` or ``2025-11``).
        source: where status and date were read.
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
    """All devices, and the day on which the list was true."""

    date: datetime.date
    devices: tuple[DeviceEntry, ...]

    def find(self, name: str) -> DeviceEntry:
        """Return the device called ``name``: ``ibm_brisbane``, ``fake_brisbane`` or ``brisbane``.

        Raises:
            QkdError: there is none; the nearest name is given.
        """
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
        """Return the device whose snapshot is most like ``entry``: itself, or else of like family and size."""
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


def find_device(name: str) -> DeviceEntry:
    """Return the device called ``name``; see ``Catalogue.find``."""
    return load_catalogue().find(name)


def require_live(name: str, command: str, online: Iterable[str] | None = None) -> DeviceEntry:
    """Return the device called ``name`` if circuits can be sent to it, as far as is known.

    Args:
        name: of the device.
        command: what the user ran, with ``{device}`` where the device's name goes.
        online: the names that the user's account sees (``live.names``); the catalogue decides when left out, and lets
            pass what it knows nothing of.

    Raises:
        QkdError: the device is unknown, retired, or not among those; the sentence lists live ones and gives the
            command that does the same on the nearest snapshot.
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
        f"{command.format(device=stand_in)} --local"
    )


def _why_not(entry: DeviceEntry, name: str, online: list[str] | None) -> str | None:
    """Return why nothing can be sent to a device, or None."""
    if online is not None and entry.name in online:
        return None
    if name.startswith("fake_") or entry.status == "model":
        return f"{name} is a snapshot, not a device that circuits can be sent to"
    if entry.status == "retired":
        when = f" since {entry.since}" if entry.since else ""
        return f"{entry.name} is retired{when} ({entry.source})"
    return None if online is None else f"{entry.name} is not among the devices of this account"


def _guess(catalogue: Catalogue, name: str) -> DeviceEntry:
    """Return the device whose name is most like ``name``, or else a live one."""
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
