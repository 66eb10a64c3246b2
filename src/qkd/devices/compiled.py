"""Circuits compiled for a device, with their report: the result of ``qkd.transpile``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkd.circuits import library
from qkd.circuits.student import StudentCircuit
from qkd.devices import profiles, snapshot
from qkd.devices.profiles import Profile
from qkd.devices.region import Region, to_region
from qkd.devices.report import TranspileReport, report
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import transpile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Compiled:
    """A student circuit compiled for a device.

    Attributes:
        logical: The circuit before compilation.
        student: The compiled circuit on the device's qubits.
        device: The snapshot of the device.
        profile: The transpile profile.
    """

    logical: StudentCircuit
    student: StudentCircuit
    device: Snapshot
    profile: Profile

    @cached_property
    def report(self) -> TranspileReport:
        """Gates, depth, duration and predicted fidelity, before and after."""
        return report(self.logical, self.student, self.device)

    @property
    def qubits(self) -> tuple[int, ...]:
        """The physical qubit of each logical one."""
        return self.report.qubits

    def region(self) -> tuple[StudentCircuit, Region]:
        """Return the circuit and the device restricted to the qubits used."""
        return to_region(self.student, self.device)

    def chip(self) -> Figure:
        """Return a map of the chip with the qubits used."""
        from qkd.devices import chipmap

        return chipmap.figure(self.device, self.qubits)


def compile_for(
    student: str | Path | StudentCircuit,
    device: str | Snapshot = "ibm_fez",
    profile: str | Profile | None = None,
    *,
    qubits: int | None = None,
    layers: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Compiled:
    """Compile a student circuit for a device.

    Args:
        student: a circuit, its name or file, or a run's or bundle's folder.
        device: a device's name, its snapshot's, a snapshot file, or a snapshot.
        profile: how; the device's own when left out.
        qubits: n, of a named circuit.
        layers: of a named circuit.
        settings: keys of the profile that are set otherwise.

    Raises:
        QkdError: there is no such circuit, device or profile, or the circuit does not fit the device.
    """
    machine = device if isinstance(device, Snapshot) else snapshot.load_snapshot(device)
    chosen = (
        profile if isinstance(profile, Profile) else profiles.load_profile(profile or profiles.default_name(machine))
    )
    if settings:
        chosen = chosen.with_overrides(settings)
    logical = student if isinstance(student, StudentCircuit) else _load(student, qubits, layers)
    return Compiled(logical, transpile(logical, machine, chosen), machine, chosen)


def _load(student: str | Path, qubits: int | None, layers: int | None) -> StudentCircuit:
    folder = Path(student)
    if not folder.is_dir():
        return library.load_circuit(str(student), qubits, layers)
    bundled = folder / "student" / "circuit.qasm"
    return library.load_circuit(str(bundled if bundled.is_file() else folder / "circuit.qasm"), qubits, layers)
