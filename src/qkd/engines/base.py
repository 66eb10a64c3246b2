"""Qiskit's V2 estimator contract on top of ``compile``, which every engine implements; threads, devices and memory."""

from __future__ import annotations

import ctypes
import sys
import threading
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from cachetools import LRUCache
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.primitives import BaseEstimatorV2, DataBin, PrimitiveJob, PrimitiveResult, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub, EstimatorPubLike
from qiskit.quantum_info import SparsePauliOp

from qkd.core.errors import EngineError, PubTypeError
from qkd.engines.grouping import Requests, group
from qkd.engines.noise import Noise, NoiseLike
from qkd.engines.program import ExpectationProblem, Program, simplified

ENGINE_LOCK = threading.RLock()
"""Jobs are threads. They run one at a time, because random streams, cached programs and torch's thread count are
shared."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h
MAX_PROGRAMS = 16
"""Number of compiled programs that an engine keeps."""


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` threads inside the block; None changes nothing.

    On a core that is shared with other work, OpenMP's threads wait for one another at the end of every operation. A
    step of many small operations was measured to take fifty times as long on two threads as on one.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


def device_called(name: str | None) -> torch.device:
    """Return the torch device called ``name``; None means ``cuda`` if torch sees one, else ``cpu``."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let the C library keep up to 256 MiB of freed memory, in the whole process from now on.

    By default glibc returns the states of a sweep to the system after every step and obtains them page by page in the
    next, which takes half of the time. No engine calls this function; a program that trains in a loop calls it once.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_TRIM_THRESHOLD, 2**28)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)


@dataclass(frozen=True)
class Estimates:
    """An engine's results for R rows and K observables.

    Attributes:
        evs: The expectation values (R,K).
        stds: Their standard errors (R,K), 0 if the engine does not sample.
        bounds: Upper bounds (R,K) of the truncation error of ``evs``, 0 if the engine truncates nothing.
        errors: Estimates (R,K) of the truncation error.
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
        """Return estimates that have standard errors and no truncation error."""
        return cls(evs, stds, np.zeros_like(evs), np.zeros_like(evs))


class EngineEstimator(BaseEstimatorV2):
    """A V2 estimator that compiles circuits to differentiable programs.

    Engines implement ``_compile``. The estimator keeps the ``MAX_PROGRAMS`` most recently used programs, so a loop over
    parameter values compiles once.
    """

    threads: int | None = None
    """The number of torch threads with which the engine is fastest; None keeps torch's setting."""
    samples: ClassVar[bool] = False
    """True if values are random draws, so that equal requests need separate draws."""

    def __init__(self) -> None:
        self._programs: LRUCache[Hashable, Program] = LRUCache(MAX_PROGRAMS)

    def __getstate__(self) -> dict[str, Any]:
        """Return settings and random streams; a copy compiles its programs again."""
        return self.__dict__ | {"_programs": LRUCache(MAX_PROGRAMS)}

    def compile(
        self,
        circuit: QuantumCircuit,
        observables: Sequence[SparsePauliOp],
        batched: Sequence[Parameter],
        shared: Sequence[Parameter],
    ) -> Program:
        """Return a program for K observables on a circuit; see ``ExpectationProblem`` for the arguments.

        Raises:
            EngineError: The problem is malformed, an instruction is not supported, or the circuit is too large.
        """
        with torch.inference_mode(False):
            return self._compile(ExpectationProblem(circuit, observables, batched, shared, self._noise_parameters()))

    def _noise_parameters(self) -> frozenset[Parameter]:
        """Return the parameters of the engine's noise."""
        return frozenset()

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        """Return a key of the settings on which a circuit's compiled programs depend."""
        return ()

    @abstractmethod
    def _compile(self, problem: ExpectationProblem) -> Program:
        """Return the program that solves a problem."""

    def run(
        self, pubs: Iterable[EstimatorPubLike], *, precision: float | None = None
    ) -> PrimitiveJob[PrimitiveResult[PubResult]]:
        """Evaluate PUBs ``(circuit, observables, parameter values)``.

        Args:
            pubs: The PUBs; observables and parameter values broadcast as in the V2 contract.
            precision: Largest standard error of PUBs that do not give one. Engines that do not sample ignore it; with
                None or 0, engines that sample use their own number of shots.

        Raises:
            EngineError: A PUB is malformed. Errors of ``compile`` are raised when the job's result is requested.
        """
        if isinstance(pubs, QuantumCircuit | EstimatorPub):
            raise PubTypeError("run() takes a list of PUBs; write run([(circuit, observables, values)])")
        job = PrimitiveJob(self._run, [_coerce(i, pub, precision) for i, pub in enumerate(pubs)])
        job._submit()  # noqa: SLF001 - as every BaseEstimatorV2 starts its PrimitiveJob
        return job

    def _run(self, pubs: list[EstimatorPub]) -> PrimitiveResult[PubResult]:
        with ENGINE_LOCK, threads(self.threads):
            return self._evaluated(pubs)

    def _evaluated(self, pubs: list[EstimatorPub]) -> PrimitiveResult[PubResult]:
        ends = np.cumsum([pub.size for pub in pubs], dtype=int)
        columns = np.zeros((4, ends[-1] if len(ends) else 0))  # the fields of ``Estimates``
        precisions = [pub.precision or None for pub in pubs]
        for precision in dict.fromkeys(precisions):
            chosen = [i for i, other in enumerate(precisions) if other == precision]
            position = np.concatenate([np.arange(ends[i] - pubs[i].size, ends[i]) for i in chosen])
            for batch in group((_requests(pubs[i]) for i in chosen), independent=self.samples):
                differs = (batch.values != batch.values[:1]).any(axis=0)
                estimates = self._estimates(
                    self.program(batch, differs),
                    torch.from_numpy(np.ascontiguousarray(batch.values[:, differs])),
                    torch.from_numpy(batch.values[0, ~differs]),
                    precision,
                )
                parts = (estimates.evs, estimates.stds, estimates.bounds, estimates.errors)
                for column, part in zip(columns, parts, strict=True):
                    column[position[batch.numbers]] = part[batch.rows, batch.columns]
        results = []
        for pub, end in zip(pubs, ends, strict=True):
            evs, stds, bounds, errors = (part[end - pub.size : end].reshape(pub.shape) for part in columns)
            target = self._default_precision() if pub.precision is None else pub.precision
            metadata = {"target_precision": target, "circuit_metadata": pub.circuit.metadata}
            if bounds.any():
                metadata["error_bounds"], metadata["error_estimates"] = bounds, errors
            results.append(PubResult(DataBin(evs=evs, stds=stds, shape=pub.shape), metadata=metadata))
        return PrimitiveResult(results, metadata={"version": 2})

    def _default_precision(self) -> float:
        """Return the largest standard error of a Pauli string in a PUB that gives no precision."""
        return 0.0

    def reseed(self, number: int) -> None:
        """Start stream ``number`` of the engine's random numbers; an engine without any does nothing."""

    def note(self) -> str:
        """Return a remark on the accuracy of the latest values; empty if they are as accurate as documented."""
        return ""

    def _estimates(
        self, program: Program, batched: torch.Tensor, shared: torch.Tensor, precision: float | None
    ) -> Estimates:
        """Return the estimates of one of this engine's programs at parameter values (R,A') and (P',).

        Args:
            batched: The values (R,A') of the batched parameters.
            shared: The values (P',) of the shared parameters.
            precision: Largest standard error that a PUB accepts; None if it gives none.
        """
        with torch.no_grad():
            return Estimates.exact(program(batched, shared).double().cpu().numpy())

    def program(self, batch: Requests, differs: np.ndarray) -> Program:
        """Return the compiled, cached program of a batch.

        Args:
            differs: A mask (P,) of the circuit's parameters that are batched.
        """
        key = (batch.key, differs.tobytes(), self._settings(batch.circuit))
        if key not in self._programs:
            parameters = list(zip(batch.circuit.parameters, differs, strict=True))
            batched = [parameter for parameter, varies in parameters if varies]
            shared = [parameter for parameter, varies in parameters if not varies]
            self._programs[key] = self.compile(batch.circuit, batch.observables, batched, shared)
        return self._programs[key]


class NoisyEstimator(EngineEstimator):
    """A V2 estimator of a circuit under local noise.

    Args:
        noise_model: Aer's model or a ``Noise``; None is no noise. Quantum errors follow their instructions, and readout
            errors (one qubit each) are part of the measured observable.
        dtype: ``float64``, or ``float32`` for training.
        device: A torch device such as ``cuda``; by default ``cuda`` if torch sees one, else ``cpu``.

    Raises:
        EngineError: The dtype is another.
    """

    def __init__(self, noise_model: NoiseLike = None, dtype: str = "float64", device: str | None = None) -> None:
        super().__init__()
        if dtype not in ("float32", "float64"):
            raise EngineError(f"dtype is float32 or float64, not '{dtype}'")
        self.noise_model = noise_model
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.device = device_called(device)

    def _noise_parameters(self) -> frozenset[Parameter]:
        return Noise.from_model(self.noise_model).parameters

    def _settings(self, circuit: QuantumCircuit) -> tuple[Hashable, ...]:
        return Noise.from_model(self.noise_model).key(circuit), self.dtype, self.device


def _coerce(number: int, pub: Any, precision: float | None) -> EstimatorPub:
    try:
        coerced = EstimatorPub.coerce(pub, precision)
    except (TypeError, ValueError, AttributeError, QiskitError) as error:
        kind = PubTypeError if isinstance(error, TypeError | AttributeError) else EngineError
        message = " ".join(str(error).split()).rstrip(".")
        raise kind(
            f"PUB {number} is malformed: {message}; a PUB is (circuit, observables, parameter values)"
        ) from error
    if not np.isfinite(coerced.parameter_values.as_array()).all():
        raise EngineError(f"PUB {number} has parameter values that are not finite numbers")
    return coerced


def _requests(pub: EstimatorPub) -> Requests:
    """Return the requests of a PUB, in the order of its flattened broadcast shape."""
    observables = pub.observables.sparse_observables_array()
    parameters, size = list(pub.circuit.parameters), pub.parameter_values.size
    values = np.asarray(pub.parameter_values.as_array(parameters), dtype=float) if parameters else np.zeros((size, 0))
    rows = np.arange(size).reshape(pub.parameter_values.shape)
    columns = np.arange(observables.size).reshape(observables.shape)
    return Requests(
        circuit=pub.circuit,
        values=values.reshape(size, len(parameters)),
        observables=[simplified(SparsePauliOp.from_sparse_observable(o)) for o in observables.reshape(-1)],
        rows=np.broadcast_to(rows, pub.shape).reshape(-1),
        columns=np.broadcast_to(columns, pub.shape).reshape(-1),
    )
