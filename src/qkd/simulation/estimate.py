"""Estimated duration of a run's simulation, from operation counts and a short pilot before the run starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import rustworkx
import torch
from qiskit_aer.noise import NoiseModel

from qkd.circuits.student import StudentCircuit
from qkd.core.config import Config
from qkd.core.console import log
from qkd.core.errors import BudgetError, QkdError
from qkd.engines.lightcone import LightConeEstimator, LightConeProgram
from qkd.engines.paulis.adaptive import MAX_WEIGHT_CHANGE
from qkd.simulation.factory import cheapest, cost, fastest, loads, work

SEARCH_FACTOR, NOISY_FACTOR = 3.0, 3.0
"""Measured time of a search over its forecast, and time under noise over ideal time (2 cores, 30 qubits)."""
ROUTED_FACTOR = 3.0
"""Further factor under noise for a circuit that needs swaps on a device, because its entangled qubits form no lines."""
EVALUATIONS = 8
"""Passes over the test texts after training: student, ideal and refitted student, checks and tables."""
PILOT_OBSERVABLES = 9
"""Number of observables whose light cones the pilot builds."""
ANNOUNCED_SECONDS = 60.0
"""Runs that are estimated to be shorter are not announced."""


@dataclass(frozen=True)
class SimulationCost:
    """Estimated time of a student's simulation.

    Attributes:
        step: Seconds for the values and gradients of one batch.
        search: Seconds to find the Pauli strings of wide light cones; 0 where the engine is exact.
        batch_size: Texts of a batch, B.
        learning_rate: Adam's, which bounds how far a weight moves in a step, in radians.
    """

    step: float
    search: float
    batch_size: int
    learning_rate: float

    def seconds(self, texts: int, epochs: int) -> float:
        """Return the seconds of training on so many texts, and of measuring the result."""
        steps = math.ceil(texts / self.batch_size)
        searches = max(2, math.ceil(steps * self.learning_rate / MAX_WEIGHT_CHANGE))  # one for the validation texts
        epoch = 1.3 * steps * self.step + searches * self.search
        return epochs * epoch + EVALUATIONS * (self.search + 0.2 * steps * self.step)


def simulation_cost(config: Config, circuit: StudentCircuit) -> SimulationCost:
    """Estimate what simulating a logical circuit costs, in a few seconds.

    Args:
        config: engine, simulator, batch size and learning rate.
        circuit: the logical circuit. ``ROUTED_FACTOR`` stands for its routing on a device.
    """
    spec, rows = config.engine, config.train.batch_size
    noise = NoiseModel() if spec.sim == "aer-noisy" else None
    factor = 1.0 if noise is None else NOISY_FACTOR * (1.0 if _is_line(circuit) else ROUTED_FACTOR)
    step = search = 0.0
    if spec.engine == "aer":
        groups = loads(circuit, noise is not None)
        text = sum(load.seconds(cheapest(groups, spec.shots), spec.shots) for load in groups)
        runs = 3 if spec.gradient == "spsa" else 1 + 2 * len(circuit.parameters)
        step = text * rows * runs if noise is not None else 0.0
        return SimulationCost(step, search, rows, config.train.lr)
    try:
        tasks, width = work(circuit, noise, rows)
    except QkdError:  # gates that only the statevector engine takes
        if noise is not None:
            raise
        return SimulationCost(step, search, rows, config.train.lr)
    kind = spec.engine if spec.engine != "auto" else fastest(circuit, tasks, width, spec.accuracy)[0]
    if kind in tasks:
        step = cost(kind, tasks[kind])
    elif kind == "lightcone" and spec.accuracy + spec.truncation > 0:
        search, step = _pilot(circuit, spec.accuracy, spec.truncation, rows)
        search, step = SEARCH_FACTOR * factor * search, factor * step
    return SimulationCost(step, search, rows, config.train.lr)


def _is_line(circuit: StudentCircuit) -> bool:
    """Return whether entangled qubits form lines."""
    graph = rustworkx.PyGraph(multigraph=False)
    graph.add_nodes_from(range(circuit.num_qubits))
    for item in circuit.circuit.data:
        if len(item.qubits) == 2 and item.operation.name != "barrier":
            first, second = (circuit.circuit.find_bit(qubit).index for qubit in item.qubits)
            graph.add_edge(first, second, None)
    cycles = graph.num_edges() - circuit.num_qubits + rustworkx.number_connected_components(graph)
    return cycles == 0 and all(graph.degree(node) <= 2 for node in graph.node_indices())


def _pilot(circuit: StudentCircuit, accuracy: float, truncation: float, rows: int) -> tuple[float, float]:
    """Return the seconds of a search and of a step without noise, at random values like those of a first step."""
    engine = LightConeEstimator(dtype="float32", accuracy=accuracy, truncation=truncation)
    total = len(circuit.observables)
    numbers = np.unique(np.linspace(0, total - 1, min(total, PILOT_OBSERVABLES)).round().astype(int))
    observables = [circuit.observables[k] for k in numbers]
    program = engine.compile(circuit.circuit, observables, circuit.inputs, circuit.weights)
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(math.pi / 2, 0.3, (rows, len(circuit.inputs))))
    weights = torch.from_numpy(rng.normal(0, 0.1, len(circuit.weights)))
    assert isinstance(program, LightConeProgram)
    search, step = program.forecast(inputs, weights)
    return search * total / len(numbers), step * total / len(numbers)


def check_time(config: Config, cost: SimulationCost, texts: int | None = None) -> None:
    """Announce a long simulation, and refuse one that takes longer than ``max_hours``.

    Args:
        config: epochs, patience and ``max_hours``.
        cost: from ``simulation_cost``.
        texts: the number of training texts; where it is not known yet, one batch in one epoch is assumed.
    """
    train, limit = config.train, 3600 * config.engine.max_hours
    runs = 2 if config.engine.sim == "aer-noisy" else 1  # with and without noise
    epochs = min(train.epochs, train.patience + 1) if texts else 1
    least = runs * cost.seconds(texts or cost.batch_size, epochs)
    if least > limit:
        done = f"{epochs} epoch{'s' * (epochs > 1)} on {texts} texts" if texts else "one batch of texts"
        raise BudgetError(
            f"simulating this circuit takes about {_duration(least)} for {done}, more than --max-hours "
            f"{config.engine.max_hours:g}; use fewer --qubits or --layers, a larger --accuracy such as 0.01, or a "
            "larger --max-hours"
        )
    most = runs * cost.seconds(texts or 0, train.epochs)
    if texts and most > ANNOUNCED_SECONDS:
        log.info(f"simulation: about {_duration(most)} for {train.epochs} epochs, less where training stops early")


def _duration(seconds: float) -> str:
    """Return a duration in the unit that fits it."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
