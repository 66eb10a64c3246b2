"""Fit of a device's coherent, depolarizing and readout errors to measured expectation values.

The light-cone engine predicts expectation values of single Z operators under noise whose angles and rates are
parameters. The fit minimizes the squared differences over shot noise plus normal priors (a ridge) whose means and
widths come from the calibration. The priors keep errors small that the measurements do not determine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qkd.circuits.student import StudentCircuit
from qkd.devices.learned import GateNoise, Learned, Place, infidelity
from qkd.devices.random_errors import PHASES, TURNS
from qkd.devices.region import Region, noise_model
from qkd.engines import LightConeEstimator
from qkd.engines.noise import Noise
from qkd.engines.noise.aer import assignment, rebuilt
from qkd.simulation.setup import depolarizing_rate, neighbors

STEPS, MORE = 50, 19
"""L-BFGS evaluations on the training rows, and then on all rows; a line search may add a few."""
Z95 = 1.96
"""Standard errors by which the fit must beat the calibration on validation rows."""
VALIDATION_STRIDE = 5
"""Every fifth row is a validation row of the first fit."""
LEAST_ERROR = 1e-5
"""Minimum infidelity of a gate in the priors."""
SPECTATOR_WIDTH = 0.08
"""Prior standard deviation of the ZZ angle between neighboring gates, in radians."""
STOCHASTIC_MEAN, STOCHASTIC_WIDTH = math.log(0.6), 0.7
"""Prior mean and standard deviation of log(stochastic infidelity / calibrated infidelity)."""
READOUT_WIDTH = 0.7
"""Prior standard deviation of log(readout error / calibrated readout error)."""


@dataclass(frozen=True)
class Fit:
    """Result of a fit.

    Attributes:
        learned: The errors.
        unexplained: The rms difference of validation values to the calibration's predictions and to the fit's,
            without shot noise.
        noise: The rms shot noise of the validation values.
        clearer: True if the fit is significantly nearer to the validation values than the calibration.
    """

    learned: Learned
    unexplained: tuple[float, float]
    noise: float
    clearer: bool


@dataclass
class _NoiseParameters:
    """Noise parameters with normal priors.

    A parameter is ``mean + width * u`` with a standard normal u, or the exponential of it.
    """

    parameters: list[Parameter]
    means: list[float]
    widths: list[float]
    logs: list[bool]

    def new(self, name: str, mean: float, width: float, log: bool = False) -> Parameter:
        """Add a parameter."""
        self.parameters.append(Parameter(f"{name}_{len(self.parameters)}"))
        self.means.append(mean)
        self.widths.append(width)
        self.logs.append(log)
        return self.parameters[-1]

    def values(self, u: torch.Tensor) -> torch.Tensor:
        """Return the parameter values (E,) of standard normal numbers (E,)."""
        plain = torch.tensor(self.means, dtype=u.dtype) + torch.tensor(self.widths, dtype=u.dtype) * u
        return torch.where(torch.tensor(self.logs), plain.exp(), plain)


def calibrating(student: StudentCircuit, qubits: int | None = None) -> StudentCircuit:
    """Return the circuit for ``fit``: it measures Z on every qubit that has a gate."""
    circuit = student.circuit
    touched = sorted({circuit.find_bit(q).index for item in circuit.data for q in item.qubits})
    paulis = [SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], circuit.num_qubits) for q in touched]
    return student.with_circuit(circuit, paulis)


def points(student: StudentCircuit, weights: int, rows: int, seed: int) -> np.ndarray:
    """Return random parameter values (M,A+P): several weight vectors, each with the same number of input rows."""
    random, inputs = np.random.default_rng([seed, 3]), len(student.inputs)
    made = random.uniform(-np.pi, np.pi, (weights * rows, len(student.parameters)))
    made[:, inputs:] = made[::rows, inputs:].repeat(rows, axis=0)
    return made


def fit(
    student: StudentCircuit,
    region: Region,
    values: np.ndarray,
    evs: np.ndarray,
    stds: np.ndarray,
    date: str,
    said: Callable[[int, float], None] = lambda step, loss: None,
) -> Fit:
    """Fit the errors of a region to measured expectation values.

    Args:
        student: A circuit on the region's indices with Z on single qubits as observables; see ``calibrating``.
        region: The region. Learned errors of its snapshot are ignored.
        values: Parameter values (M,A+P), inputs first; rows with equal weights are adjacent.
        evs: Measured expectation values (M,K) without mitigation.
        stds: Standard errors (M,K) from shot noise.
        date: The date of the measurement, ISO 8601.
        said: A callback with the number of each iteration and its loss.
    """
    unknowns = _NoiseParameters([], [], [], [])
    noise, known = _noise(student, region, unknowns)
    parameters = *student.weights, *unknowns.parameters
    program = LightConeEstimator(noise).compile(student.circuit, student.observables, student.inputs, parameters)
    qubits = [int(np.flatnonzero(observable.paulis[0].z)[0]) for observable in student.observables]
    model = noise_model(region)
    reads = torch.tensor(np.array([[m[0, 1], m[1, 0]] for m in (assignment(model, q) for q in qubits)]).clip(1e-4, 0.4))
    measured, weight = torch.from_numpy(evs), torch.from_numpy(stds**-2.0)
    inputs = torch.from_numpy(np.ascontiguousarray(values[:, : len(student.inputs)]))
    sets = [np.flatnonzero((values[:, len(student.inputs) :] == row).all(axis=1)) for row in _weights(student, values)]
    validation = np.arange(len(values)) % VALIDATION_STRIDE == VALIDATION_STRIDE - 1
    count = len(unknowns.parameters)

    def predicted(u: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        weights = torch.from_numpy(values[rows[0], len(student.inputs) :])
        ideal = program(inputs[rows], torch.cat([weights, unknowns.values(u[:count])]))
        up, down = (reads * (READOUT_WIDTH * u[count:].reshape(-1, 2)).exp()).T
        return (1 - up - down) * ideal + down - up

    def losses(u: torch.Tensor, used: np.ndarray) -> Iterator[torch.Tensor]:
        for rows in sets:  # one weight vector at a time, which bounds the memory of gradients
            chosen = rows[used[rows]]
            if len(chosen):
                yield (weight[chosen] * (predicted(u, chosen) - measured[chosen]) ** 2).sum() / 2

    u = torch.zeros(count + 2 * len(qubits), dtype=torch.float64)
    u = _minimize(u, lambda u: losses(u, ~validation), STEPS, said)
    with torch.no_grad():
        predictions = torch.cat([predicted(u, rows) for rows in sets])[np.argsort(np.concatenate(sets))]
    calibrated = _calibrated(student, replace(region), values)
    u = _minimize(u, lambda u: losses(u, np.ones(len(values), dtype=bool)), MORE, said)
    final = unknowns.values(u[:count]).tolist()
    readout = (reads * (READOUT_WIDTH * u[count:].reshape(-1, 2)).exp()).tolist()
    learned = replace(
        known(dict(zip(unknowns.parameters, final, strict=True))),
        date=date,
        origin=f"fitted to {len(values)} circuits on qubits {', '.join(map(str, region.qubits))}",
        readout={region.qubits[q]: (a, b) for q, (a, b) in zip(qubits, readout, strict=True)},
    )
    return _judged(learned, evs[validation], stds[validation], calibrated[validation], predictions.numpy()[validation])


def _minimize(
    u: torch.Tensor,
    losses: Callable[[torch.Tensor], Iterator[torch.Tensor]],
    steps: int,
    said: Callable[[int, float], None],
) -> torch.Tensor:
    """Return the minimum, by L-BFGS, of the sum of losses and of a standard normal prior."""
    u = u.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [u], max_iter=steps * 4 // 5, max_eval=steps, history_size=30, line_search_fn="strong_wolfe"
    )
    calls = itertools.count(1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = 0.0
        for loss in itertools.chain(losses(u), [u.square().sum() / 2]):
            loss.backward()
            total += float(loss.detach())
        said(next(calls), total)
        return torch.tensor(total, dtype=u.dtype)

    optimizer.step(closure)
    return u.detach()


def _judged(learned: Learned, evs: np.ndarray, stds: np.ndarray, calibrated: np.ndarray, predicted: np.ndarray) -> Fit:
    """Return learned errors with their residuals on values (M,K) that were not fitted."""
    before, after = ((other - evs) ** 2 for other in (calibrated, predicted))
    shot_noise = stds**2
    unexplained = [float(np.sqrt(max(0.0, (squares - shot_noise).mean()))) for squares in (before, after)]
    nearer = (before - after).mean(axis=1)  # paired: both predictions are compared with the same shots
    clearer = bool(nearer.mean() > Z95 * nearer.std(ddof=1) / math.sqrt(len(nearer)))
    return Fit(learned, (unexplained[0], unexplained[1]), float(np.sqrt(shot_noise.mean())), clearer)


def _noise(
    student: StudentCircuit, region: Region, unknowns: _NoiseParameters
) -> tuple[Noise, Callable[[dict[Parameter, float]], Learned]]:
    """Return the parameterized noise without readout, and a function from parameter values to learned errors."""
    circuit, calibration = student.circuit, region.snapshot.calibration
    used: dict[tuple[str, Place], float] = {}
    for item in circuit.data:
        on = tuple(circuit.find_bit(qubit).index for qubit in item.qubits)
        if item.operation.name in TURNS or (len(on) == 2 and item.operation.name != "barrier"):
            done = calibration.gates.get(item.operation.name, {}).get(tuple(region.qubits[q] for q in on))
            used[item.operation.name, on] = max(LEAST_ERROR, (done.error if done else None) or 0.0)
    model = noise_model(region)
    noise = Noise(rebuilt(model, lambda name, on, error: None if (name, on) in used else error, readout=False))
    angles: dict[tuple[str, Place], dict[str, Parameter]] = {}
    rates: dict[tuple[str, Place], Parameter] = {}
    for (name, on), error in used.items():
        labels = TURNS.get(name, PHASES)
        width = math.sqrt(4 * (2 ** len(on) + 1) / 2 ** len(on) * error / len(labels))
        angles[name, on] = {label: unknowns.new(name, 0.0, width) for label in labels}
        noise = noise.coherent(name, angles[name, on], on)
        if len(on) == 2:
            rates[name, on] = unknowns.new(
                "rate", STOCHASTIC_MEAN + math.log(depolarizing_rate(error, 2)), STOCHASTIC_WIDTH, log=True
            )
            noise = noise.depolarizing(name, rates[name, on], on)
        else:
            noise = noise.depolarizing(name, depolarizing_rate(error, 1), on)
    between: dict[Place, Parameter] = {}
    gates = set(used)
    for pair in calibration.couplers():
        at_once = [both for both in neighbors(pair, region) if set(both) <= gates]
        if at_once:
            between[pair] = unknowns.new("between", 0.0, SPECTATOR_WIDTH)
        for both in at_once:
            noise = noise.coherent(both, {"ZZ": between[pair]}, (region.index[pair[0]], region.index[pair[1]]))

    def learned(values: dict[Parameter, float]) -> Learned:
        gates: dict[str, dict[Place, GateNoise]] = {}
        for (name, on), error in used.items():
            turned = {label: values[parameter] for label, parameter in angles[name, on].items()}
            rest = max(0.0, error - infidelity(turned))
            if len(on) == 2:
                rest = (1 - math.exp(-2 * values[rates[name, on]])) * 0.75
            gates.setdefault(name, {})[tuple(region.qubits[q] for q in on)] = GateNoise(turned, rest)
        return Learned("", "", gates, {pair: values[parameter] for pair, parameter in between.items()})

    return noise, learned


def _weights(student: StudentCircuit, values: np.ndarray) -> np.ndarray:
    """Return the distinct weight vectors (W,P) of parameter values (M,A+P)."""
    distinct: np.ndarray = np.unique(values[:, len(student.inputs) :], axis=0)
    return distinct


def _calibrated(student: StudentCircuit, region: Region, values: np.ndarray) -> np.ndarray:
    """Return the expectation values (M,K) that the calibration predicts."""
    program = LightConeEstimator(noise_model(region), dtype="float64").compile(
        student.circuit, student.observables, student.inputs, student.weights
    )
    evs = np.zeros((len(values), len(student.observables)))
    inputs = len(student.inputs)
    for row in _weights(student, values):
        rows = (values[:, inputs:] == row).all(axis=1)
        with torch.no_grad():
            evs[rows] = program(torch.from_numpy(values[rows, :inputs]), torch.from_numpy(row)).numpy()
    return evs
