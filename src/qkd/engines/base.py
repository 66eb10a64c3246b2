"""What the engines share: Qiskit's V2 estimator contract on top of ``compile``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.primitives import BaseEstimatorV2, DataBin, PrimitiveJob, PrimitiveResult, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub, EstimatorPubLike
from qiskit.quantum_info import SparsePauliOp

from qkd.core.errors import EngineError, PubTypeError
from qkd.engines.grouping import Batch, Recent, Requests, group
from qkd.engines.machine import TURN, threads
from qkd.engines.program import Program, Question, simplified


@dataclass(frozen=True)
class Estimates:
    """What an engine says of R rows and K observables.

    evs: (R,K) expectation values.
    stds: (R,K) their standard errors, 0 where the engine does not sample.
    bounds: (R,K) how far ``evs`` can be off because the engine left something out; 0 where it did not.
    errors: (R,K) how far they probably are off for it.
    """

    evs: np.ndarray
    stds: np.ndarray
    bounds: np.ndarray
    errors: np.ndarray

    @classmethod
    def exact(cls, evs: np.ndarray) -> Estimates:
        """Return estimates without any error."""
        return cls.sampled(evs, np.zeros_like(evs))

    @classmethod
    def sampled(cls, evs: np.ndarray, stds: np.ndarray) -> Estimates:
        """Return estimates with standard errors alone."""
        return cls(evs, stds, np.zeros_like(evs), np.zeros_like(evs))


class EngineEstimator(BaseEstimatorV2):
    """A V2 estimator that compiles circuits to differentiable programs.

    An engine implements ``compile``; everything that speaks V2 PUBs then works. Compiled programs are kept
    (the ``programs`` most recently used), so a loop over parameter values compiles once.
    """

    threads: int | None = None
    """Threads of torch that are best for it; None leaves that to torch."""
    samples: ClassVar[bool] = False
    """Whether values are random, so that equal requests need draws of their own."""

    def __init__(self, programs: int = 16) -> None:
        self._programs = Recent[Program](programs)

    def compile(
        self,
        circuit: QuantumCircuit,
        observables: Sequence[SparsePauliOp],
        batched: Sequence[Parameter],
        shared: Sequence[Parameter],
    ) -> Program:
        """Return a program for K observables on a circuit; see ``Question`` for the arguments.

        Raises:
            EngineError: what ``Question`` refuses, an unsupported instruction, or a circuit too large.
        """
        with torch.inference_mode(False):
            return self._compile(Question(circuit, observables, batched, shared, self._noise_parameters()))

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings and random streams; a copy or a pickle compiles its programs anew."""
        return self.__dict__ | {"_programs": Recent[Program](self._programs.size)}

    def _noise_parameters(self) -> frozenset[Parameter]:
        """Return the parameters of the engine's noise."""
        return frozenset()

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        """Return what a circuit's programs depend on beside the question: where it changes, they are made anew."""
        return ()

    @abstractmethod
    def _compile(self, question: Question) -> Program:
        """Return the program that answers a question."""

    def run(
        self, pubs: Iterable[EstimatorPubLike], *, precision: float | None = None
    ) -> PrimitiveJob[PrimitiveResult[PubResult]]:
        """Evaluate PUBs ``(circuit, observables, parameter values)``.

        Args:
            pubs: what to evaluate; observables and parameter values broadcast as the V2 contract says.
            precision: the standard error wanted of PUBs without one of their own; engines that do not sample
                ignore it.

        Raises:
            EngineError: a malformed PUB here; what ``compile`` refuses when the job's result is asked for.
        """
        if isinstance(pubs, QuantumCircuit | EstimatorPub):
            raise PubTypeError("run() takes a list of PUBs; write run([(circuit, observables, values)])")
        job = PrimitiveJob(self._run, [_coerce(i, pub, precision) for i, pub in enumerate(pubs)])
        job._submit()  # noqa: SLF001 - as every BaseEstimatorV2 starts its PrimitiveJob
        return job

    def _run(self, pubs: list[EstimatorPub]) -> PrimitiveResult[PubResult]:
        with TURN, threads(self.threads):
            return self._evaluated(pubs)

    def _evaluated(self, pubs: list[EstimatorPub]) -> PrimitiveResult[PubResult]:
        ends = np.cumsum([pub.size for pub in pubs], dtype=int)
        answers = np.zeros((4, ends[-1] if len(ends) else 0))
        precisions = [pub.precision or None for pub in pubs]
        for precision in dict.fromkeys(precisions):
            chosen = [i for i, other in enumerate(precisions) if other == precision]
            place = np.concatenate([np.arange(ends[i] - pubs[i].size, ends[i]) for i in chosen])
            for batch in group((_requests(pubs[i]) for i in chosen), independent=self.samples):
                differs = (batch.values != batch.values[:1]).any(axis=0)
                estimates = self._estimates(
                    self.program(batch, differs),
                    torch.from_numpy(np.ascontiguousarray(batch.values[:, differs])),
                    torch.from_numpy(batch.values[0, ~differs]),
                    precision,
                )
                at = place[batch.requests]
                parts = (estimates.evs, estimates.stds, estimates.bounds, estimates.errors)
                for row, part in zip(answers, parts, strict=True):
                    row[at] = part[batch.row, batch.column]
        results = []
        for pub, end in zip(pubs, ends, strict=True):
            evs, stds, bounds, errors = (part[end - pub.size : end].reshape(pub.shape) for part in answers)
            target = self._default_precision() if pub.precision is None else pub.precision
            metadata = {"target_precision": target, "circuit_metadata": pub.circuit.metadata}
            if bounds.any():
                metadata["error_bounds"], metadata["error_estimates"] = bounds, errors
            results.append(PubResult(DataBin(evs=evs, stds=stds, shape=pub.shape), metadata=metadata))
        return PrimitiveResult(results, metadata={"version": 2})

    def _default_precision(self) -> float:
        """Return the largest standard error of a Pauli string in a PUB that does not say its precision."""
        return 0.0

    def reseed(self, number: int) -> None:
        """Start stream ``number`` of the engine's random numbers; an engine without any does nothing."""

    def note(self) -> str:
        """Return what a person should know of the latest values, in words; empty where they are as promised."""
        return ""

    def _estimates(
        self, program: Program, batched: torch.Tensor, shared: torch.Tensor, precision: float | None
    ) -> Estimates:
        """Return the estimates of one of this engine's programs at parameter values (R,A') and (P',).

        Args:
            program: The program.
            batched: (R,A') values of the parameters that differ from row to row.
            shared: (P',) values of the parameters that all rows share.
            precision: Largest standard error that a PUB accepts; None if it does not say.
        """
        with torch.no_grad():
            return Estimates.exact(program(batched, shared).double().cpu().numpy())

    def program(self, batch: Batch, differs: np.ndarray) -> Program:
        """Return the compiled, cached program of a batch.

        Args:
            batch: circuit and observables.
            differs: (P,) which of the circuit's parameters, in the circuit's order, are batched.
        """
        key = (batch.key, differs.tobytes(), self._settings(batch.circuit))
        program = self._programs.get(key)
        if program is not None:
            return program
        parameters = list(batch.circuit.parameters)
        batched = [parameter for parameter, varies in zip(parameters, differs, strict=True) if varies]
        shared = [parameter for parameter, varies in zip(parameters, differs, strict=True) if not varies]
        return self._programs.put(key, self.compile(batch.circuit, batch.observables, batched, shared))


def _coerce(number: int, pub: Any, precision: float | None) -> EstimatorPub:
    try:
        coerced = EstimatorPub.coerce(pub, precision)
    except (TypeError, ValueError, AttributeError, QiskitError) as error:
        kind = PubTypeError if isinstance(error, TypeError | AttributeError) else EngineError
        raise kind(f"PUB {number} is malformed: {_sentence(error)}") from error
    if not np.isfinite(coerced.parameter_values.as_array()).all():
        raise EngineError(f"PUB {number} has parameter values that are not finite numbers")
    return coerced


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
        observables=[simplified(SparsePauliOp.from_sparse_observable(o)) for o in observables.reshape(-1)],
        rows=np.broadcast_to(rows, pub.shape).reshape(-1),
        which=np.broadcast_to(which, pub.shape).reshape(-1),
    )
