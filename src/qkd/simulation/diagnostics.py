"""Diagnostics of a circuit: dead weights, the Jacobian's rank, light cones, the start, and whether it can be saved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qkd.circuits.cone import cone_qubits, cut
from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import Counts, StudentCircuit, count
from qkd.core.arguments import public
from qkd.core.errors import CircuitError
from qkd.engines.statevector import StatevectorEstimator
from qkd.simulation.start import Response, linear_response

TOLERANCE = 1e-8
"""Gradients and singular values below this fraction of the largest count as 0 (double precision)."""
ROWS = 8
"""Initial number of random inputs in the search for the rank."""
MAX_CONE_QUBITS = 16
"""Maximum width of a light cone; the paper's circuit of that width takes about a minute."""
MAX_COMPARED_QUBITS = 12
"""Light cones of more qubits are compared gate by gate alone, as ``to_qasm`` always does."""
MAX_CONES = 16
"""Number of light cones whose values and gradients are compared."""
MAX_DIFFERENCE = 1e-7
"""Largest difference of a value or a derivative, as a share of the observable's coefficients."""


@dataclass(frozen=True)
class CircuitReport:
    """Diagnostics of a circuit.

    Attributes:
        counts: The numbers of gates, depths and parameters.
        dead_weights: The names of weights whose gradient is 0 at all random points.
        dead_inputs: The names of inputs whose gradient is 0 at all random points.
        num_weights: The number of weights, P.
        rank: The rank of the Jacobian (rows x K, P) at random weights; P - rank directions change nothing.
        cone_widths: The number of qubits in each observable's past light cone.
        response: The response to the inputs at the start of training.
        blind_inputs: The names of living inputs to which no observable responds linearly at the start.
    """

    counts: Counts
    dead_weights: tuple[str, ...]
    dead_inputs: tuple[str, ...]
    num_weights: int
    rank: int
    cone_widths: tuple[int, ...]
    response: Response
    blind_inputs: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """True if some observable responds linearly to every input at the start."""
        return not self.dead_inputs and not self.blind_inputs

    @property
    def redundant(self) -> int:
        """The number of redundant directions among the living weights."""
        return self.num_weights - len(self.dead_weights) - self.rank

    def render(self) -> str:
        """Return the diagnostics as lines of text."""
        dead = f"{len(self.dead_weights)} of {self.num_weights} weights have no gradient anywhere"
        lines = [
            self.counts.render(),
            dead + (f": {' '.join(self.dead_weights)}" if self.dead_weights else ""),
            f"the Jacobian's rank is {self.rank} of {self.num_weights}"
            + (f": beside dead weights, {self.redundant} directions repeat others" if self.redundant else ""),
            f"light cones hold {min(self.cone_widths)} to {max(self.cone_widths)} qubits",
        ]
        if self.dead_inputs:
            lines.insert(2, f"{len(self.dead_inputs)} inputs reach no observable: {' '.join(self.dead_inputs)}")
        return "\n".join([*lines, self._start()])

    def _start(self) -> str:
        """Return one line about the response at the start."""
        angles, shares = self.response.angles, self.response.shares
        if not angles:
            return "no data enter"
        place = f"{angles[0]:.3f}" if len(set(angles)) == 1 else f"{min(angles):.3f} to {max(angles):.3f}"
        if self.blind_inputs:
            return (
                f"blind at the start (inputs at {place}): no expectation value responds linearly to "
                f"{' '.join(self.blind_inputs)}, so that training memorizes; rotate about another axis than the "
                "readout's, or give better values in an OpenQASM file with '// qkd.start:'"
            )
        weakest = 100 * min((share for share in shares if share), default=0.0)
        return (
            f"linear response at the start (inputs at {place}): the weakest input has {weakest:.0f} % of its best slope"
        )


@public
def check_circuit(student: StudentCircuit, points: int = 2, seed: int = 0) -> CircuitReport:
    """Return the diagnostics of a circuit, computed light cone by light cone.

    Args:
        points: The number of random weight vectors; the largest rank counts.

    Raises:
        CircuitError: A light cone has more than ``MAX_CONE_QUBITS`` qubits.
    """
    if points < 1:
        raise CircuitError(f"points = {points} is no number of points; give at least 1")
    cones = [cone_qubits(student, k) for k in range(len(student.observables))]
    widest = max(map(len, cones))
    if widest > MAX_CONE_QUBITS:
        raise CircuitError(
            f"a light cone of '{student.name}' has {widest} qubits and the limit is {MAX_CONE_QUBITS}; check "
            "the same circuit with fewer --qubits or --layers"
        )
    parts = [_Part(student, [k for k, cone in enumerate(cones) if cone == qubits]) for qubits in dict.fromkeys(cones)]
    rng = np.random.default_rng(seed)
    size, rank = np.zeros(len(student.parameters)), 0
    for _ in range(points):
        jacobian = _jacobian(student, parts, rng)
        size = np.maximum(size, np.abs(jacobian).max(axis=0, initial=0))
        rank = max(rank, _rank(jacobian[:, len(student.inputs) :]))
    least = TOLERANCE * size.max(initial=0)
    dead = [p.name for p, largest in zip(student.parameters, size, strict=True) if largest <= least]
    inputs = {p.name for p in student.inputs}
    response = linear_response(student, seed=seed)
    blind = [student.inputs[a].name for a in response.blind]
    return CircuitReport(
        counts=count(student),
        dead_weights=tuple(name for name in dead if name not in inputs),
        dead_inputs=tuple(name for name in dead if name in inputs),
        num_weights=len(student.weights),
        rank=rank,
        cone_widths=tuple(map(len, cones)),
        response=response,
        blind_inputs=tuple(name for name in blind if name not in dead),
    )


class _Part:
    """The compiled program of the observables of one light cone."""

    def __init__(self, student: StudentCircuit, observables: list[int]) -> None:
        piece = cut(student, observables)
        place = {parameter: i for i, parameter in enumerate(student.parameters)}
        self._columns = [place[parameter] for parameter in piece.parameters]
        self._count = len(observables)
        # all parameters are batched, so that one backward pass yields the gradients of all rows
        estimator = StatevectorEstimator(device="cpu")
        self._program = estimator.compile(piece.circuit, piece.observables, piece.parameters, ())

    def jacobian(self, values: np.ndarray) -> np.ndarray:
        """Return the derivatives (rows x K', A+P) of the part's K' observables at ``values`` (rows, A+P)."""
        jacobian = np.zeros((len(values) * self._count, values.shape[1]))
        if self._columns:
            rows = torch.tensor(values[:, self._columns]).repeat_interleave(self._count, 0).requires_grad_()
            evs = self._program(rows, torch.zeros(0, dtype=torch.float64))
            directions = torch.eye(self._count, dtype=torch.float64).repeat(len(values), 1)
            jacobian[:, self._columns] = torch.autograd.grad(evs, rows, directions)[0].numpy()
        return jacobian


def _jacobian(student: StudentCircuit, parts: list[_Part], rng: np.random.Generator) -> np.ndarray:
    """Return derivatives (rows x K, A+P) at random weights, with inputs added until the rank is constant."""
    a, p = len(student.inputs), len(student.weights)
    weights = rng.uniform(-np.pi, np.pi, p)
    blocks: list[np.ndarray] = []
    rows, rank, before = ROWS, 0, -1
    while before < rank < p or not blocks:
        inputs = rng.uniform(-np.pi, np.pi, (rows, a))
        values = np.hstack([inputs, np.broadcast_to(weights, (rows, p))])
        blocks += [part.jacobian(values) for part in parts]
        before, rank = rank, _rank(np.vstack(blocks)[:, a:])
        rows = sum(map(len, blocks)) // len(student.observables)  # twice as many next time
    return np.vstack(blocks)


def _rank(matrix: np.ndarray) -> int:
    singular = np.linalg.svd(matrix, compute_uv=False) if matrix.size else np.zeros(0)
    return int((singular > TOLERANCE * singular.max(initial=0)).sum())


def check_saved(student: StudentCircuit, points: int = 2) -> None:
    """Write a circuit as OpenQASM 3, read it back and compare expectation values and gradients at random points."""
    again = from_qasm(to_qasm(student), f"circuit '{student.name}' as OpenQASM 3")
    values = np.random.default_rng(0).uniform(-np.pi, np.pi, (points, len(student.parameters)))
    cones = [k for k in range(len(student.observables)) if len(cone_qubits(student, k)) <= MAX_COMPARED_QUBITS]
    for k in cones[:MAX_CONES]:
        scale = np.abs(student.observables[k].coeffs).sum() or 1.0
        for old, new in zip(_evaluated(student, k, values), _evaluated(again, k, values), strict=True):
            if np.abs(old - new).max(initial=0) > MAX_DIFFERENCE * scale:
                raise CircuitError(
                    f"circuit '{student.name}' would be saved as another one: observable {k} differs by "
                    f"{np.abs(old - new).max():.1e}; decompose its gates into standard gates"
                )


def _evaluated(student: StudentCircuit, observable: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return expectation values (R,) of one observable and their derivatives (R,A+P) by all parameters."""
    part = cut(student, [observable])
    columns = [student.parameters.index(parameter) for parameter in part.parameters]
    rows = torch.tensor(values[:, columns], requires_grad=True)
    program = StatevectorEstimator(device="cpu").compile(part.circuit, part.observables, list(part.parameters), [])
    with torch.inference_mode(False), torch.enable_grad():
        evs = program(rows, torch.zeros(0, dtype=torch.float64))[:, 0]
        (gradient,) = torch.autograd.grad(evs.sum(), rows, allow_unused=True) if evs.requires_grad else (None,)
    derivatives = np.zeros_like(values)
    if gradient is not None:
        derivatives[:, columns] = gradient.numpy()
    return evs.detach().numpy(), derivatives
