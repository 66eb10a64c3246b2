"""Gradients of an engine's expectation values, as Qiskit's gradient interface wants them."""

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
from qkd.engines.base import EngineEstimator
from qkd.engines.grouping import Batch, Requests, group
from qkd.engines.machine import TURN, threads
from qkd.engines.program import simplified


class EngineGradient(BaseEstimatorGradient):
    """Gradients of an engine with respect to any of a circuit's parameters.

    They are what torch's backward sweep through the engine's program gives: exact for exact engines, unbiased for
    trajectories, truncated where the engine truncates, and SPSA or parameter shift for ``AerEstimator``.

    The list samples x observables that ``EstimatorQNN`` asks for becomes one batch per circuit, with one
    backward sweep per observable. A whole batch that shares its weights is differentiated faster through
    the engine's program itself (``EngineEstimator.compile``), which needs one sweep for all observables.

    Args:
        estimator: the engine.
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
        with TURN, threads(self._engine.threads):
            return self._gradients(circuits, observables, parameter_values, parameters, **options)

    def _gradients(
        self,
        circuits: Sequence[QuantumCircuit],
        observables: Sequence[BaseOperator],
        parameter_values: Sequence[Sequence[float]] | np.ndarray,
        parameters: Sequence[Sequence[Parameter]],
        **options: Any,
    ) -> EstimatorGradientResult:
        gradients: list[np.ndarray] = [np.zeros(0)] * len(circuits)
        for batch in group(_requests(circuits, observables, parameter_values), self._engine.samples):
            order = {parameter: i for i, parameter in enumerate(batch.circuit.parameters)}
            columns: dict[tuple[int, ...], np.ndarray] = {}  # most requests want the same parameters
            chosen = [tuple(map(id, parameters[number])) for number in batch.requests]
            for number, key in zip(batch.requests, chosen, strict=True):
                if key not in columns:
                    columns[key] = np.array([order[parameter] for parameter in parameters[number]], dtype=int)
            needed = np.zeros(len(order), dtype=bool)
            needed[np.concatenate(list(columns.values()))] = True
            jacobian = self._jacobian(batch, needed)
            for number, key, row, column in zip(batch.requests, chosen, batch.row, batch.column, strict=True):
                gradients[number] = jacobian[row, column, columns[key]]
        metadata = [{"parameters": list(chosen)} for chosen in parameters]
        return EstimatorGradientResult(gradients=gradients, metadata=metadata, options=options)

    def _jacobian(self, batch: Batch, needed: np.ndarray) -> np.ndarray:
        """Return d<O_k>/d parameter for every row of a batch, (R,K,P); columns not in ``needed`` stay 0."""
        differs = (batch.values != batch.values[:1]).any(axis=0)
        if len(batch.values) > 1:
            differs = differs | needed  # a row's own derivative needs a value of the row's own
        program = self._engine.program(batch, differs)
        rows = torch.tensor(batch.values[:, differs], requires_grad=True)
        common = torch.tensor(batch.values[0, ~differs], requires_grad=True)
        result = np.zeros((*_shape(batch), len(differs)))
        program.forget()
        with torch.enable_grad():
            values = program(rows, common)
        for k in range(values.shape[1] if values.requires_grad else 0):
            last = k + 1 == values.shape[1]
            by_row, by_common = torch.autograd.grad(
                values[:, k].sum(), (rows, common), retain_graph=not last, allow_unused=True
            )
            if by_row is not None:
                result[:, k, differs] = by_row.double().cpu().numpy()
            if by_common is not None and len(batch.values) == 1:
                result[:, k, ~differs] = by_common.double().cpu().numpy()
        return result


def _shape(batch: Batch) -> tuple[int, int]:
    return len(batch.values), len(batch.observables)


def _requests(circuits: Sequence[QuantumCircuit], observables: Sequence[BaseOperator], values: Any) -> list[Requests]:
    """Return one ``Requests`` for every run of the same circuit object."""
    requests: list[Requests] = []
    start = 0
    while start < len(circuits):
        stop = start + 1
        while stop < len(circuits) and circuits[stop] is circuits[start]:
            stop += 1
        distinct: dict[int, int] = {}
        operators: list[SparsePauliOp] = []
        which = np.empty(stop - start, dtype=int)
        for i in range(start, stop):
            which[i - start] = distinct.setdefault(id(observables[i]), len(operators))
            if which[i - start] == len(operators):
                operators.append(_pauli_sum(observables[i]))
        rows = np.asarray(values[start:stop], dtype=float)
        requests.append(Requests(circuits[start], rows, operators, np.arange(stop - start), which))
        start = stop
    return requests


def _pauli_sum(observable: BaseOperator) -> SparsePauliOp:
    if isinstance(observable, SparsePauliOp):
        return simplified(observable)
    try:
        return simplified(SparsePauliOp(observable))
    except QiskitError:  # an operator that is not made of Paulis
        return SparsePauliOp.from_operator(observable)
