"""What the engines that know noise share: where the noise comes from, and which numbers they compute with."""

from __future__ import annotations

import torch
from qiskit_aer.noise import NoiseModel

from qkd.engines.base import EngineEstimator
from qkd.errors import QkdError


class NoisyEstimator(EngineEstimator):
    """A V2 estimator of a circuit under local noise.

    Args:
        noise_model: Aer's; its local quantum errors follow the instructions they are for, its readout errors (one qubit
            each) are part of what is measured. None is no noise.
        backend: take the noise model from this backend instead.
        dtype: ``float64``, or ``float32`` for training.
        device: a torch device; the CPU when left out.

    Raises:
        QkdError: the dtype is another, or both a noise model and a backend are given.
    """

    def __init__(
        self,
        noise_model: NoiseModel | None = None,
        backend: object | None = None,
        dtype: str = "float64",
        device: str | None = None,
    ) -> None:
        super().__init__()
        if dtype not in ("float32", "float64"):
            raise QkdError(f"dtype is float32 or float64, not '{dtype}'")
        self.noise_model = chosen_noise(noise_model, backend)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.device = torch.device(device or "cpu")


def chosen_noise(noise_model: NoiseModel | None, backend: object | None) -> NoiseModel | None:
    """Return a noise model, or that of a backend.

    Raises:
        QkdError: both are given.
    """
    if noise_model is not None and backend is not None:
        raise QkdError("give a noise model or a backend to take it from, not both")
    return NoiseModel.from_backend(backend) if backend is not None else noise_model
