"""Simulation setup of a run: circuit, noise of its region with learned errors, and the engines."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from qiskit_aer.noise import NoiseModel, ReadoutError

from qkd.circuits.student import StudentCircuit
from qkd.core.config import Config, EngineSpec
from qkd.core.console import working
from qkd.devices import profiles, snapshot
from qkd.devices.learned import Learned, Place
from qkd.devices.region import Region, noise_model, to_region, with_idle_noise
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import transpile
from qkd.engines.noise import Noise, NoiseLike
from qkd.engines.noise.aer import rebuilt
from qkd.simulation.factory import Engine, make_engine, make_sampler


def device_noise(region: Region, model: NoiseModel | None = None) -> NoiseLike:
    """Return the noise of a region on its own indices.

    Args:
        region: The region; learned errors of its snapshot are included.
        model: Aer's noise model, for example with idle noise; None is the calibration's.
    """
    model = noise_model(region) if model is None else model
    learned = region.snapshot.calibration.learned
    return model if learned is None else learned_noise(model, learned, region)


def learned_noise(model: NoiseModel, learned: Learned, region: Region) -> Noise:
    """Return a noise model in which learned errors replace the calibrated errors of the same gates.

    Args:
        learned: The learned errors on the device's indices.
    """
    index = region.index
    known = {
        (name, tuple(index[qubit] for qubit in place)): gate
        for name, places in learned.gates.items()
        for place, gate in places.items()
        if all(qubit in index for qubit in place)
    }
    left = rebuilt(model, lambda name, on, error: None if (name, on) in known else error)
    for qubit, (up, down) in learned.readout.items():
        if qubit in index:
            left.add_readout_error(ReadoutError([[1 - up, up], [down, 1 - down]]), [index[qubit]], warnings=False)
    noise = Noise(left)
    for (name, on), gate in known.items():
        noise = noise.depolarizing(name, depolarizing_rate(gate.stochastic, len(on)), on)
        noise = noise.coherent(name, {label: angle for label, angle in gate.angles.items() if angle}, on)
    for pair, angle in learned.spectators.items():
        for gates in neighbors(pair, region):
            noise = noise.coherent(gates, {"ZZ": angle}, (index[pair[0]], index[pair[1]]))
    for pair, chance in learned.flips.items():
        if all(qubit in index for qubit in pair):
            noise = noise.flipped(chance, tuple(index[qubit] for qubit in pair))
    return noise


def neighbors(pair: Place, region: Region) -> list[list[tuple[str, tuple[int, ...]]]]:
    """Return all pairs of disjoint two-qubit gates that act on different qubits of a coupled pair.

    Args:
        region: The region; the gates returned are on its indices.
    """
    if any(qubit not in region.index for qubit in pair):
        return []
    first, second = (region.index[qubit] for qubit in pair)
    gates = [
        (name, tuple(place))
        for name in region.target.operation_names
        for place in region.target.qargs_for_operation_name(name) or ()
        if len(place) == 2
    ]
    ones = [gate for gate in gates if first in gate[1] and second not in gate[1]]
    others = [gate for gate in gates if second in gate[1] and first not in gate[1]]
    return [[a, b] for a, b in itertools.product(ones, others) if not set(a[1]) & set(b[1])]


def depolarizing_rate(infidelity: float, qubits: int) -> float:
    """Return the depolarizing rate (see ``Noise.depolarizing``) with an average infidelity."""
    return -math.log(1 - infidelity / (1 - 2.0**-qubits)) / 2


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
        stored: A snapshot file that replaces the device's, so that a resumed run keeps its noise.
    """
    spec = config.engine
    noisy = place(config, logical, stored) if spec.sim == "aer-noisy" else None
    circuit = logical if noisy is None else noisy.circuit
    model = None if noisy is None else noisy.model
    rows = config.train.batch_size
    trainer = make_engine(spec, circuit, model, rows)
    exact = trainer
    if noisy is not None or spec.engine == "aer":
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
