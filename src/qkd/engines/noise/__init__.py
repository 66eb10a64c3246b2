"""Noise of every engine: Aer's noise models, coherent errors, Pauli-Lindblad channels, crosstalk, flipped readouts.

:class:`Noise` extends Aer's noise model by errors that qkd learns on devices. Every engine with noise accepts it in
place of Aer's model. It is immutable: every method returns a new one::

    noise = Noise(NoiseModel.from_backend(backend))                  # or Noise(): no noise
    noise = noise.coherent("cz", {"ZZ": 0.1, "IZ": 0.02})            # exp(-i angle/2 P) after each cz, radians
    noise = noise.lindblad("cz", {"XX": 1e-3, "ZI": 4e-3}, (2, 3))   # Pauli-Lindblad rates after cz on qubits 2, 3
    noise = noise.coherent([("cz", (0, 1)), ("cz", (2, 3))], {"ZZ": 0.05}, (1, 2))   # crosstalk of simultaneous gates
    noise = noise.flipped(0.003, (1, 2))                             # both readouts flip together
    LightConeEstimator(noise.scaled(3))
    LightConeEstimator(noise.twirled())                              # mean over random Pauli frames

Angles and rates may be Qiskit parameters. A program then has them beside the circuit's parameters, so torch can fit a
noise model::

    rate = Parameter("rate")
    noise = Noise().lindblad("cz", {"ZZ": rate})
    program = LightConeEstimator(noise).compile(circuit, observables, batched=[], shared=[rate])

``noise.bind({rate: 0.01})`` replaces them by numbers, which ``run`` needs.
"""

from __future__ import annotations

from qkd.engines.noise.model import ALL_PAULIS, Noise, NoiseLike, PlacedTerm

__all__ = ["ALL_PAULIS", "Noise", "NoiseLike", "PlacedTerm"]
