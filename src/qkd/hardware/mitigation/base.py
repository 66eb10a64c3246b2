"""Mitigation methods: their base class, and a method with its shots, twirls and pulses as options of IBM's client."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.errors import ConfigError
from qkd.hardware.mitigation.registry import find_method

if TYPE_CHECKING:
    from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions

    from qkd.hardware.mitigation.learned import Layers


@dataclass(frozen=True)
class Measurements:
    """Raw values of Pauli terms at the points of a plan: its texts, then its calibration points.

    Attributes:
        values: Parameter values (M,A+P).
        evs: Measured values (M,T). They are NaN where nothing was measured.
        stds: Standard errors of shot noise (M,T).
        shots: Shots of each point (M,). They are zero where nothing was measured.
        factors: Values and standard errors at each noise factor (M,T,F), or None if there is one factor.
        failed: Indices of texts whose values were missing or infinite.
    """

    values: np.ndarray
    evs: np.ndarray
    stds: np.ndarray
    shots: np.ndarray
    factors: tuple[np.ndarray, np.ndarray] | None
    failed: np.ndarray

    @property
    def measured(self) -> np.ndarray:
        """True where a point was measured (M,)."""
        return self.shots > 0


@dataclass(frozen=True)
class Corrected:
    """Mitigated values of Pauli terms at n texts.

    Attributes:
        evs: Values (n,T).
        noise: Standard deviations from shots, twirls and fits (n,T).
        bias: Standard deviations of the bias that remains at any number of shots (n,T). None if the method cannot
            estimate it; qkd then estimates it from the other texts.
    """

    evs: np.ndarray
    noise: np.ndarray
    bias: np.ndarray | None = None


class Method:
    """Measurement without mitigation, and the base class of all methods.

    A method overrides what it does differently. One line in ``METHODS`` makes it available everywhere.

    Attributes:
        name: The name that users type.
        description: One sentence for help texts.
        needs_client: Whether only IBM's client can run it.
        learns_readout: Whether each job measures readout calibration circuits and twirls the readout.
        twirls_gates: Whether two-qubit gates are twirled: always, never, or as the user chooses (None).
        noise_factors: Noise factors at which each circuit is measured.
        folds_gates: Whether the noise factors come from folded two-qubit gates.
        needs_layer_noise: Whether a noise model of each layer of two-qubit gates is needed.
        rehearsal_twirls: Twirls of a rehearsal in IBM's client if the user sets none; None keeps the client's choice.
        removes_gate_noise: Whether the calibrated noise of gates is removed, so that it predicts no bias.
    """

    name = "none"
    description = "No mitigation."
    needs_client = False
    learns_readout = False
    twirls_gates: bool | None = None
    noise_factors: tuple[int, ...] = (1,)
    folds_gates = False
    needs_layer_noise = False
    rehearsal_twirls: int | None = None
    removes_gate_noise = False

    @property
    def gate_overhead(self) -> float:
        """Mean factor by which two-qubit gates take longer."""
        return float(np.mean(self.noise_factors)) if self.folds_gates else 1.0

    def gates_twirled(self, requested: bool | None) -> bool:
        """Return whether two-qubit gates are twirled; ``requested`` is the user's choice or None."""
        return bool(requested) if self.twirls_gates is None else self.twirls_gates

    def set_options(self, options: EstimatorOptions) -> None:
        """Set the resilience options of IBM's client that belong to this method."""

    def extra_points(self, shots: int) -> int:
        """Return the number of calibration points that are measured beside the texts, with ``shots`` each."""
        return 0

    def combine(
        self, measurements: Measurements, texts: np.ndarray, exact: np.ndarray, predicted: np.ndarray, count: int
    ) -> Corrected:
        """Return mitigated values of the texts.

        Args:
            measurements: Raw values of all points.
            texts: Indices of the n measured texts.
            exact: Ideal values of all points (M,T).
            predicted: Values that the calibration predicts without mitigation (M,T).
            count: Number of texts N; calibration points follow them.
        """
        return Corrected(measurements.evs[texts], measurements.stds[texts])

    def expect(self, exact: np.ndarray, predicted: np.ndarray, readout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values that mitigation is expected to give (N,T) and their variances at one shot (N,T).

        Args:
            exact: Ideal values (N,T).
            predicted: Values that the calibration predicts without mitigation (N,T).
            readout: Factors by which readout errors scale each term (T,).
        """
        return predicted, 1 - predicted**2


def fit_lines(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and slopes (T,) of least-squares lines of ``y`` (N,T) on ``x`` (N,T); slope 1 if x is constant."""
    spread = x.var(axis=0)
    covariance = ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).mean(axis=0)
    slope = np.divide(covariance, spread, out=np.ones_like(spread), where=spread > 1e-12)
    return y.mean(axis=0) - slope * x.mean(axis=0), slope


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
