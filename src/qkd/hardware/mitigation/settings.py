"""A mitigation method with its shots, twirls and pulses, as options of IBM's client-side Estimator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qkd.core.errors import ConfigError
from qkd.hardware.mitigation.base import Method
from qkd.hardware.mitigation.registry import find_method

if TYPE_CHECKING:
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions

    from qkd.hardware.mitigation.layers import Layers

# A job learns its readout with at least so many shots; fewer would shift all its values together.
MIN_READOUT_SHOTS = 2048
MAX_TWIRLS = 64


@dataclass(frozen=True)
class Mitigation:
    """A mitigation method with its settings.

    Attributes:
        name: Name of the method in ``METHODS``.
        shots: Shots S of each parameter set, basis and noise factor.
        randomizations: Number of twirls that the shots are spread over; None lets qkd choose.
        decoupling: Sequence of pulses on idle qubits, or ``none``.
        twirl_gates: Whether two-qubit gates are twirled, for methods that leave the choice; None is their default.
    """

    name: str
    shots: int
    randomizations: int | None = None
    decoupling: str = "none"
    twirl_gates: bool | None = None

    def __post_init__(self) -> None:
        find_method(self.name)
        if self.shots < 1:
            raise ConfigError(f"an expectation value needs at least 1 shot, not {self.shots}")

    @property
    def method(self) -> Method:
        """The method."""
        return find_method(self.name)

    @property
    def gates_twirled(self) -> bool:
        """True if two-qubit gates are twirled."""
        return self.method.gates_twirled(self.twirl_gates)

    @property
    def twirled(self) -> bool:
        """True if gates or readouts are twirled."""
        return self.gates_twirled or self.method.learns_readout

    def twirls(self) -> tuple[int, int]:
        """Return the number of twirls and the shots of each.

        It is the largest divisor of the shots up to 64. The client's own choice is one twirl for 64 shots at least.
        """
        if not self.twirled:
            return 1, self.shots
        count = self.randomizations or max(d for d in range(1, MAX_TWIRLS + 1) if self.shots % d == 0)
        return count, math.ceil(self.shots / count)

    def options(
        self,
        layers: Layers | None = None,
        tags: list[str] | None = None,
        seed: int | None = None,
        max_seconds: int | None = None,
    ) -> EstimatorOptions:
        """Return the options of IBM's client.

        Args:
            layers: Layers of two-qubit gates and their noise, for methods that need it.
            seed: Seed of the simulation, if there is one.
            max_seconds: QPU seconds after which the service stops the job.
        """
        from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions

        options = EstimatorOptions()
        options.default_shots = self.shots
        options.resilience_level = 0
        options.resilience.measure_mitigation = False
        options.resilience.zne_mitigation = False
        options.resilience.pec_mitigation = False
        self.method.set_options(options)
        options.twirling.enable_gates = self.gates_twirled
        options.twirling.enable_measure = self.method.learns_readout
        if not options.resilience.pec_mitigation and self.twirled:
            count, shots = self.twirls()
            options.twirling.num_randomizations = count
            if count * shots < MIN_READOUT_SHOTS:
                options.resilience.measure_noise_learning.num_randomizations = math.ceil(MIN_READOUT_SHOTS / shots)
        elif self.randomizations is not None:
            options.twirling.num_randomizations = self.randomizations
        if layers is not None:
            options.resilience.layer_noise_model = layers
        options.simulator.layer_noise_model = []  # otherwise the client adds the learned noise to the simulator's own
        options.simulator.seed_simulator = seed
        options.dynamical_decoupling.enable = self.decoupling != "none"
        if self.decoupling != "none":
            options.dynamical_decoupling.sequence_type = self.decoupling
        options.max_execution_time = max_seconds
        if tags is not None:
            options.environment.job_tags = tags
        return options
