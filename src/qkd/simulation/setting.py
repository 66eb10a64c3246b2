"""What a run is simulated on: the circuit as it stands there, its noise, what trains it and what measures it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qkd.circuits.student import StudentCircuit
from qkd.core.config import Config, EngineSpec
from qkd.core.console import working
from qkd.devices import profiles, snapshot
from qkd.devices.noise import with_idle_noise
from qkd.devices.region import Region, to_region
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import transpile
from qkd.engines.noise import NoiseLike
from qkd.simulation.noise import device_noise
from qkd.simulation.simulators import Engine, make_engine, make_sampler


@dataclass(frozen=True)
class Noisy:
    """A student on a device.

    snapshot: the device.
    compiled: the student on the device's own indices, as it would be sent there.
    circuit: the same on the region's indices, as it is simulated.
    region: the qubits it uses.
    model: their noise.
    """

    snapshot: Snapshot
    compiled: StudentCircuit
    circuit: StudentCircuit
    region: Region
    model: NoiseLike

    def describe(self) -> str:
        """Return the device and the qubits used, one line."""
        qubits = ", ".join(map(str, self.region.qubits))
        return f"{self.snapshot.summary()}; circuit on qubits {qubits}"


@dataclass(frozen=True)
class Setting:
    """What a run is simulated on.

    logical: the student as its circuit file says.
    noisy: where it stands on a device, or None.
    trainer: what trains it.
    exact: ideal, exact expectation values of the logical circuit.
    measure: what the result is measured with.
    """

    logical: StudentCircuit
    noisy: Noisy | None
    trainer: Engine
    exact: Engine
    measure: Engine

    @property
    def circuit(self) -> StudentCircuit:
        """The student as it is simulated."""
        return self.logical if self.noisy is None else self.noisy.circuit


def make_setting(config: Config, logical: StudentCircuit, stored: Path | None = None) -> Setting:
    """Return what ``config`` simulates a student on.

    Args:
        config: simulator, engine and device.
        logical: the student.
        stored: a snapshot file that takes the place of the device named, as a resumed run must.

    Raises:
        QkdError: there is no such device, the circuit does not fit it, or no engine takes it.
    """
    spec = config.engine
    noisy = place(config, logical, stored) if spec.sim == "aer-noisy" else None
    circuit = logical if noisy is None else noisy.circuit
    model = None if noisy is None else noisy.model
    rows = config.train.batch_size
    trainer = make_engine(spec, circuit, model, rows)
    exact = trainer
    if noisy is not None or spec.engine in ("aer", "trajectories"):
        exact = make_engine(EngineSpec(precision=spec.precision, torch_device=spec.torch_device), logical, rows=rows)
    measure = exact if spec.sim == "exact" else make_sampler(spec, circuit, model, trainer)
    return Setting(logical, noisy, trainer, exact, measure)


def place(config: Config, logical: StudentCircuit, stored: Path | None = None) -> Noisy:
    """Return a student on the device that ``config`` names; see ``make_setting``."""
    device = snapshot.load_snapshot(stored or config.device.device)
    profile = profiles.load_profile(config.device.profile or profiles.default_name(device))
    with working(f"compiling circuit '{logical.name}' for {device.name}"):
        compiled = transpile(logical, device, profile)
    circuit, region = to_region(compiled, device)
    idle = None
    if config.device.idle_noise:
        circuit, idle = with_idle_noise(circuit, region)
    return Noisy(device, compiled, circuit, region, device_noise(region, idle))
