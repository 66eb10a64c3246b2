"""Noise of a region for the engines: Aer's model of the calibration, with learned errors."""

from __future__ import annotations

import itertools
import math

from qiskit_aer.noise import NoiseModel, ReadoutError

from qkd.devices.learned import Learned, Place
from qkd.devices.noise import noise_model
from qkd.devices.region import Region
from qkd.engines.noise import Noise, NoiseLike
from qkd.engines.noise.aer import rebuilt


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
        model: Aer's noise model on the region's indices.
        learned: The learned errors on the device's indices.
        region: The region.
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
        pair: Two coupled qubits of the device.
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
