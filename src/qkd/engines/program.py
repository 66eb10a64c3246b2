"""The problem that an engine solves, and the program that it compiles for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qkd.core.errors import EngineError

PauliString = tuple[tuple[int, str], ...]
"""The qubits on which a string is not the identity, in order, with their letters X, Y or Z."""


@dataclass(frozen=True)
class ExpectationProblem:
    """Expectation values of K observables on a circuit.

    Attributes:
        circuit: The circuit, n qubits.
        observables: The K Hermitian observables on n qubits.
        batched: The A' parameters that differ from row to row, in the order of a program's columns.
        shared: The P' parameters that all rows share, in the order of a program's vector.
        noise: The parameters of the engine's noise; they are batched or shared as well.

    Raises:
        EngineError: A parameter is missing, unknown or listed twice; an observable has another width or complex
            coefficients; there is no observable.
    """

    circuit: QuantumCircuit
    observables: Sequence[SparsePauliOp]
    batched: Sequence[Parameter]
    shared: Sequence[Parameter]
    noise: frozenset[Parameter] = frozenset()

    @property
    def parameters(self) -> list[Parameter]:
        """The batched parameters, then the shared ones."""
        return [*self.batched, *self.shared]

    def __post_init__(self) -> None:
        name, listed = self.circuit.name, self.parameters
        if len(set(listed)) != len(listed):
            raise EngineError("a parameter is listed twice; list each once, as batched or as shared")
        unbound = set(self.circuit.parameters) - set(listed)
        if unbound:
            raise EngineError(f"circuit '{name}' has unbound parameters: {_names(unbound)}; give each a value")
        if self.noise - set(listed):
            raise EngineError(f"the noise has the parameters {_names(self.noise - set(listed))}; bind or list them")
        unknown = set(listed) - set(self.circuit.parameters) - self.noise
        if unknown:
            raise EngineError(f"circuit '{name}' has no parameter {_names(unknown)}; remove it from the list")
        if not self.circuit.num_qubits:
            raise EngineError(f"circuit '{name}' has no qubits; there is nothing to measure")
        if not self.observables:
            raise EngineError(f"nothing to measure on circuit '{name}'; give at least one observable")
        for k, observable in enumerate(self.observables):
            if observable.num_qubits != self.circuit.num_qubits:
                raise EngineError(
                    f"observable {k} acts on {observable.num_qubits} qubits but circuit '{name}' has "
                    f"{self.circuit.num_qubits}; pad or apply the layout to the observable"
                )
            simple = simplified(observable)  # folds a Pauli's own phase into its coefficient
            if abs(simple.coeffs.imag).max(initial=0.0) > 1e-9 * max(1.0, abs(simple.coeffs).max(initial=0.0)):
                raise EngineError(f"observable {k} is not Hermitian: its Pauli coefficients must be real")


class Program(ABC):
    """A circuit with its K observables, compiled once by an engine.

    A copy or an unpickled program is compiled again by a copy of the engine.
    """

    def __init__(self, problem: ExpectationProblem, engine: Any) -> None:
        self._source = engine, problem
        self._sizes = len(problem.batched), len(problem.shared), len(problem.observables)

    def __call__(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return expectation values (B,K), differentiable (torch autograd, first order) in both arguments.

        Args:
            batched: (B,A') values of the parameters that differ from row to row.
            shared: (P',) values of the parameters that all rows share.

        Raises:
            EngineError: The values have other shapes.
        """
        own, common, count = self._sizes
        if batched.ndim != 2 or batched.shape[1] != own or shared.shape != (common,):
            raise EngineError(
                f"a program expects values (B,{own}) of the batched parameters and ({common},) of the shared ones, not "
                f"{tuple(batched.shape)} and {tuple(shared.shape)}"
            )
        if not len(batched):
            return (batched.sum() + shared.sum().to(batched)).expand(0, count)
        if torch.is_inference_mode_enabled():
            # Tensors that a program keeps between calls must not be inference tensors: training could not use them.
            with torch.inference_mode(False), torch.no_grad():
                return self._values(batched.clone(), shared.clone())
        return self._values(batched, shared)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the engine and the problem: locks and recorded operations cannot be pickled."""
        return _compiled, self._source

    def clear_cache(self) -> None:  # noqa: B027 - most programs keep nothing
        """Drop choices that depend on the rows of earlier calls."""

    @abstractmethod
    def _values(self, batched: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        """Return the expectation values (B,K) of at least one row."""


def _compiled(engine: Any, problem: ExpectationProblem) -> Program:
    program: Program = engine.compile(problem.circuit, problem.observables, problem.batched, problem.shared)
    return program


def simplified(observable: SparsePauliOp) -> SparsePauliOp:
    """Return an observable with each Pauli string once; the threshold for zero is relative to the largest one."""
    return observable.simplify(atol=1e-14 * np.abs(observable.coeffs).max(initial=0.0), rtol=0)


def pauli_terms(
    observables: Sequence[SparsePauliOp], dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> tuple[list[PauliString], torch.Tensor, torch.Tensor]:
    """Return T distinct Pauli strings, coefficients (K,T) and the observables' identity parts (K,)."""
    place: dict[PauliString, int] = {}
    entries, constants = [], np.zeros(len(observables))
    for k, observable in enumerate(observables):
        for letters, qubits, coefficient in simplified(observable).to_sparse_list():
            string = tuple(sorted((q, letter) for q, letter in zip(qubits, letters, strict=True) if letter != "I"))
            if string:
                entries.append((k, place.setdefault(string, len(place)), coefficient.real))
            else:
                constants[k] += coefficient.real
    coefficients = np.zeros((len(observables), len(place)))
    for k, t, value in entries:
        coefficients[k, t] += value
    as_tensor = partial(torch.as_tensor, dtype=dtype, device=device)
    return list(place), as_tensor(coefficients), as_tensor(constants)


def _names(parameters: Collection[Parameter]) -> str:
    names = sorted(f"'{parameter.name}'" for parameter in parameters)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
