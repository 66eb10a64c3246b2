"""What the engines that know noise share: where the noise comes from, and which numbers they compute with."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from qiskit.circuit import Parameter, QuantumCircuit

from qkd.core.errors import EngineError
from qkd.engines.base import EngineEstimator
from qkd.engines.machine import device_called
from qkd.engines.noise import Noise, NoiseLike, noise_of


class NoisyEstimator(EngineEstimator):
    """A V2 estimator of a circuit under local noise.

    Args:
        noise_model: Aer's; its local quantum errors follow the instructions they are for, its readout errors (one qubit
            each) are part of what is measured. None is no noise.
        backend: take the noise model from this backend instead.
        dtype: ``float64``, or ``float32`` for training.
        device: a torch device such as ``cuda``; by default ``cuda`` where torch sees one, else ``cpu``.

    Raises:
        EngineError: the dtype is another, or both a noise model and a backend are given.
    """

    def __init__(
        self,
        noise_model: NoiseLike = None,
        backend: object | None = None,
        dtype: str = "float64",
        device: str | None = None,
    ) -> None:
        super().__init__()
        if dtype not in ("float32", "float64"):
            raise EngineError(f"dtype is float32 or float64, not '{dtype}'")
        self.noise_model = noise_of(noise_model, backend)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.device = device_called(device)

    def _noise_parameters(self) -> frozenset[Parameter]:
        return Noise.from_model(self.noise_model).parameters

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        return Noise.from_model(self.noise_model).key(circuit), self.dtype, self.device
