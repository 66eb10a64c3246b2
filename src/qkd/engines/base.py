"""What the exact engines share: Qiskit's V2 estimator contract on top of ``compile``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.primitives import BaseEstimatorV2, DataBin, PrimitiveJob, PrimitiveResult, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub, EstimatorPubLike
from qiskit.quantum_info import SparsePauliOp

from qkd.engines.grouping import Batch, Recent, Requests, group
from qkd.engines.program import Program
from qkd.errors import QkdError


class ExactEstimator(BaseEstimatorV2):
    """A V2 estimator whose values have no shot noise: ``precision`` is ignored and ``stds`` are 0.

    An engine implements ``compile``; everything that speaks V2 PUBs then works. Compiled programs are kept
    (the ``programs`` most recently used), so a loop over parameter values compiles once.
    """

    def __init__(self, programs: int = 16) -> None:
        self._programs = Recent[Program](programs)

    @abstractmethod
    def compile(
        self,
        circuit: QuantumCircuit,
        observables: Sequence[SparsePauliOp],
        batched: Sequence[Parameter],
        shared: Sequence[Parameter],
    ) -> Program:
        """Return a program for the K observables on ``circuit``.

        Args:
            circuit: n qubits, parameters exactly those of ``batched`` and ``shared``.
            observables: K Hermitian observables on n qubits.
            batched: the A' parameters that differ from row to row, in the order of the program's columns.
            shared: the P' parameters that all rows share, in the order of the program's vector.

        Raises:
            QkdError: what ``check_program`` refuses, an unsupported instruction, or a circuit too large.
        """

    def run(
        self, pubs: Iterable[EstimatorPubLike], *, precision: float | None = None
    ) -> PrimitiveJob[PrimitiveResult[PubResult]]:
        """Evaluate PUBs ``(circuit, observables, parameter values)`` exactly.

        Args:
            pubs: what to evaluate; observables and parameter values broadcast as the V2 contract says.
            precision: ignored, the values are exact.

        Raises:
            QkdError: a malformed PUB here; what ``compile`` refuses when the job's result is asked for.
        """
        if isinstance(pubs, QuantumCircuit | EstimatorPub):
            raise QkdError("run() takes a list of PUBs; write run([(circuit, observables, values)])")
        job = PrimitiveJob(self._run, [_coerce(i, pub) for i, pub in enumerate(pubs)])
        job._submit()
        return job

    def _run(self, pubs: list[EstimatorPub]) -> PrimitiveResult[PubResult]:
        evs = np.zeros(sum(pub.size for pub in pubs))
        for batch in group(_requests(pub) for pub in pubs):
            evs[batch.requests] = self._expectations(batch)[batch.row, batch.column]
        results, start = [], 0
        for pub in pubs:
            part = evs[start : start + pub.size].reshape(pub.shape)
            start += pub.size
            data = DataBin(evs=part, stds=np.zeros(pub.shape), shape=pub.shape)
            results.append(
                PubResult(data, metadata={"target_precision": 0.0, "circuit_metadata": pub.circuit.metadata})
            )
        return PrimitiveResult(results, metadata={"version": 2})

    def _expectations(self, batch: Batch) -> np.ndarray:
        """Return the expectation values (R,K) of a batch."""
        differs = (batch.values != batch.values[:1]).any(axis=0)
        program = self.program(batch, differs)
        with torch.no_grad():
            rows = torch.from_numpy(np.ascontiguousarray(batch.values[:, differs]))
            common = torch.from_numpy(batch.values[0, ~differs])
            return program(rows, common).double().cpu().numpy()

    def program(self, batch: Batch, differs: np.ndarray) -> Program:
        """Return the compiled, cached program of a batch.

        Args:
            batch: circuit and observables.
            differs: (P,) which of the circuit's parameters, in the circuit's order, are batched.
        """
        key = (batch.key, differs.tobytes())
        program = self._programs.get(key)
        if program is not None:
            return program
        parameters = list(batch.circuit.parameters)
        batched = [parameter for parameter, one in zip(parameters, differs, strict=True) if one]
        shared = [parameter for parameter, one in zip(parameters, differs, strict=True) if not one]
        return self._programs.put(key, self.compile(batch.circuit, batch.observables, batched, shared))


def _coerce(number: int, pub: Any) -> EstimatorPub:
    try:
        return EstimatorPub.coerce(pub)
    except (TypeError, ValueError, AttributeError, QiskitError) as error:
        raise QkdError(f"PUB {number} is malformed: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") + "; a PUB is (circuit, observables, parameter values)"


def _requests(pub: EstimatorPub) -> Requests:
    """Return the requests of a PUB, in the order of its flattened broadcast shape."""
    observables = pub.observables.sparse_observables_array()
    parameters = list(pub.circuit.parameters)
    if parameters:
        values = np.asarray(pub.parameter_values.as_array(parameters), dtype=float).reshape(-1, len(parameters))
    else:
        values = np.zeros((pub.parameter_values.size, 0))
    rows = np.arange(pub.parameter_values.size).reshape(pub.parameter_values.shape)
    which = np.arange(observables.size).reshape(observables.shape)
    return Requests(
        circuit=pub.circuit,
        values=values,
        observables=[SparsePauliOp.from_sparse_observable(o).simplify() for o in observables.reshape(-1)],
        rows=np.broadcast_to(rows, pub.shape).reshape(-1),
        which=np.broadcast_to(which, pub.shape).reshape(-1),
    )
