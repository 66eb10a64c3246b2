"""Simulation setup of a run: circuit, device noise, and the engines for training and measurement."""

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
from qkd.simulation.factory import Engine, make_engine, make_sampler
from qkd.simulation.noise import device_noise


@dataclass(frozen=True)
class DeviceCircuit:
    """A circuit on a device with its noise.

    Attributes:
        snapshot: The device.
        compiled: The circuit on the device's indices, as a job would run it.
        circuit: The circuit on the region's indices, as engines simulate it.
        region: The qubits that the circuit uses.
        model: The noise of the region.
    """

    snapshot: Snapshot
    compiled: StudentCircuit
    circuit: StudentCircuit
    region: Region
    model: NoiseLike

    def describe(self) -> str:
        """Return one line with the device and the qubits."""
        qubits = ", ".join(map(str, self.region.qubits))
        return f"{self.snapshot.summary()}; circuit on qubits {qubits}"


@dataclass(frozen=True)
class SimulationSetup:
    """Circuit and engines of a run.

    Attributes:
        logical: The circuit before transpilation.
        noisy: The circuit on a device, or None without device noise.
        trainer: The engine for training.
        exact: The engine for ideal expectation values of the logical circuit.
        measure: The engine for reported metrics.
    """

    logical: StudentCircuit
    noisy: DeviceCircuit | None
    trainer: Engine
    exact: Engine
    measure: Engine

    @property
    def circuit(self) -> StudentCircuit:
        """The circuit that engines simulate."""
        return self.logical if self.noisy is None else self.noisy.circuit


def make_setup(config: Config, logical: StudentCircuit, stored: Path | None = None) -> SimulationSetup:
    """Return the simulation setup of a run.

    Args:
        config: Simulator, engine and device.
        logical: The circuit.
        stored: A snapshot file that replaces the device's, so that a resumed run keeps its noise.

    Raises:
        QkdError: The device is unknown, the circuit does not fit it, or no engine supports the circuit.
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
    return SimulationSetup(logical, noisy, trainer, exact, measure)


def place(config: Config, logical: StudentCircuit, stored: Path | None = None) -> DeviceCircuit:
    """Return a circuit on the device of a configuration; see ``make_setup``."""
    device = snapshot.load_snapshot(stored or config.device.device)
    profile = profiles.load_profile(config.device.profile or profiles.default_name(device))
    if config.device.layout is not None:
        profile = profile.with_overrides({"qubits": config.device.layout})
    with working(f"compiling circuit '{logical.name}' for {device.name}"):
        compiled = transpile(logical, device, profile)
    circuit, region = to_region(compiled, device)
    idle = None
    if config.device.idle_noise:
        circuit, idle = with_idle_noise(circuit, region)
    return DeviceCircuit(device, compiled, circuit, region, device_noise(region, idle))
