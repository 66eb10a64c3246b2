"""Noise of every engine: Aer's noise models, and what they do not know.

:class:`Noise` adds to a noise model what is learned on devices or left over after calibration. All engines but the
ideal one take it where they take Aer's model. It is a value: every method returns another::

    noise = Noise(NoiseModel.from_backend(backend))                  # or Noise(): nothing yet
    noise = noise.coherent("cz", {"ZZ": 0.1, "IZ": 0.02})            # exp(-i angle/2 P) behind each cz, radians
    noise = noise.lindblad("cz", {"XX": 1e-3, "ZI": 4e-3}, (2, 3))   # Pauli-Lindblad rates behind cz on qubits 2, 3
    noise = noise.coherent([("cz", (0, 1)), ("cz", (2, 3))], {"ZZ": 0.05}, (1, 2))   # crosstalk of simultaneous gates
    noise = noise.readout(assignment, (0, 1))                        # p(read j | is i) of two qubits together, (4,4)
    noise = noise.flipped(0.003, (1, 2))                             # what is read of both flips at once
    LightConeEstimator(noise.scaled(3))
    LightConeEstimator(noise.twirled())                              # in random Pauli frames, on average

Angles and rates may be Qiskit parameters. A program then takes them like a circuit's own, so a noise model can be
fitted with torch::

    rate = Parameter("rate")
    noise = Noise().lindblad("cz", {"ZZ": rate})
    program = LightConeEstimator(noise).compile(circuit, observables, batched=[], shared=[rate])

``noise.bind({rate: 0.01})`` makes numbers of them, as ``run`` wants.
"""

from __future__ import annotations

from qkd.engines.noise.aer import (
    AnyError,
    added,
    assignment,
    error_in,
    error_of,
    generators,
    names,
    noise_key,
    rebuilt,
    restricted,
)
from qkd.engines.noise.model import EVERY, Noise, NoiseLike, Placed, noise_of

__all__ = [
    "EVERY",
    "AnyError",
    "Noise",
    "NoiseLike",
    "Placed",
    "added",
    "assignment",
    "error_in",
    "error_of",
    "generators",
    "names",
    "noise_key",
    "noise_of",
    "rebuilt",
    "restricted",
]
