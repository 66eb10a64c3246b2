"""Gradients of an engine's expectation values through Qiskit's gradient interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import SparsePauliOp
from qiskit.quantum_info.operators.base_operator import BaseOperator
from qiskit_machine_learning.gradients import BaseEstimatorGradient, EstimatorGradientResult

from qkd.core.errors import EngineError
from qkd.engines.base import ENGINE_LOCK, EngineEstimator, threads
from qkd.engines.grouping import Requests, group
from qkd.engines.program import simplified


class EngineGradient(BaseEstimatorGradient):
    """Gradients of an engine with respect to any of a circuit's parameters.

    They come from torch's backward pass through the engine's program. They are exact for exact engines, and
    truncated where the engine truncates; ``AerEstimator`` uses SPSA or the parameter-shift rule.

    The list samples x observables of ``EstimatorQNN`` becomes one batch for each circuit, with one backward pass for
    each observable. ``EngineEstimator.compile`` is faster for a batch that shares its weights: it needs one backward
    pass for all observables.
    """

    def __init__(self, estimator: EngineEstimator) -> None:
        if not isinstance(estimator, EngineEstimator):
            raise EngineError(
                f"EngineGradient differentiates qkd's engines, not {type(estimator).__name__}; use "
                "ParamShiftEstimatorGradient for other estimators"
            )
        super().__init__(estimator)
        self._engine = estimator

    def _run(
        self,
        circuits: Sequence[QuantumCircuit],
        observables: Sequence[BaseOperator],
        parameter_values: Sequence[Sequence[float]] | np.ndarray,
        parameters: Sequence[Sequence[Parameter]],
        **options: Any,
    ) -> EstimatorGradientResult:
        gradients: list[np.ndarray] = [np.zeros(0)] * len(circuits)
        with ENGINE_LOCK, threads(self._engine.threads):
            for batch in group(_requests(circuits, observables, parameter_values), self._engine.samples):
                order = {parameter: i for i, parameter in enumerate(batch.circuit.parameters)}
                columns: dict[tuple[int, ...], np.ndarray] = {}  # most requests want the same parameters
                wanted = [tuple(map(id, parameters[number])) for number in batch.numbers]
                for number, key in zip(batch.numbers, wanted, strict=True):
                    if key not in columns:
                        columns[key] = np.array([order[parameter] for parameter in parameters[number]], dtype=int)
                needed = np.zeros(len(order), dtype=bool)
                needed[np.concatenate(list(columns.values()))] = True
                jacobian = self._jacobian(batch, needed)
                for number, key, row, column in zip(batch.numbers, wanted, batch.rows, batch.columns, strict=True):
                    gradients[number] = jacobian[row, column, columns[key]]
        metadata = [{"parameters": list(chosen)} for chosen in parameters]
        return EstimatorGradientResult(gradients=gradients, metadata=metadata, options=options)

    def _jacobian(self, batch: Requests, needed: np.ndarray) -> np.ndarray:
        """Return the derivatives (R,K,P) of all values of a batch; columns not in ``needed`` stay 0."""
        differs = (batch.values != batch.values[:1]).any(axis=0)
        if len(batch.values) > 1:
            differs = differs | needed  # each row has its own derivative, so it needs its own value
        program = self._engine.program(batch, differs)
        rows = torch.tensor(batch.values[:, differs], requires_grad=True)
        common = torch.tensor(batch.values[0, ~differs], requires_grad=True)
        jacobian = np.zeros((len(batch.values), len(batch.observables), len(differs)))
        program.clear_cache()
        with torch.enable_grad():
            values = program(rows, common)
        for k in range(values.shape[1] if values.requires_grad else 0):
            by_row, by_common = torch.autograd.grad(
                values[:, k].sum(), (rows, common), retain_graph=k + 1 < values.shape[1], allow_unused=True
            )
            if by_row is not None:
                jacobian[:, k, differs] = by_row.double().cpu().numpy()
            if by_common is not None and len(batch.values) == 1:
                jacobian[:, k, ~differs] = by_common.double().cpu().numpy()
        return jacobian


def _requests(circuits: Sequence[QuantumCircuit], observables: Sequence[BaseOperator], values: Any) -> list[Requests]:
    """Return one ``Requests`` for each run of the same circuit object."""
    requests: list[Requests] = []
    start = 0
    while start < len(circuits):
        stop = start + 1
        while stop < len(circuits) and circuits[stop] is circuits[start]:
            stop += 1
        distinct = {id(observable): observable for observable in observables[start:stop]}
        place = {key: k for k, key in enumerate(distinct)}
        requests.append(
            Requests(
                circuits[start],
                np.asarray(values[start:stop], dtype=float),
                [_pauli_sum(observable) for observable in distinct.values()],
                np.arange(stop - start),
                np.array([place[id(observable)] for observable in observables[start:stop]]),
            )
        )
        start = stop
    return requests


def _pauli_sum(observable: BaseOperator) -> SparsePauliOp:
    if isinstance(observable, SparsePauliOp):
        return simplified(observable)
    try:
        return simplified(SparsePauliOp(observable))
    except QiskitError:  # an operator that is given as a matrix
        return SparsePauliOp.from_operator(observable)
