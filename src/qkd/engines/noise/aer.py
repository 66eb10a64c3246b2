"""Access to Aer's noise models; no other module reads Aer's private fields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import Kraus, SuperOp, pauli_basis
from qiskit_aer.noise import LocalNoisePass, NoiseModel, PauliLindbladError, QuantumError, pauli_error

from qkd.core.errors import EngineError
from qkd.engines.grouping import object_key, operation_key
from qkd.engines.instructions import is_channel, is_from_library

AnyError: TypeAlias = QuantumError | PauliLindbladError
"""The two kinds of errors that Aer's models hold."""
_PLAIN = frozenset({"id", "x", "y", "z", "reset", "pauli", "kraus", "superop", "unitary"})


def names(noise: NoiseModel | None) -> Collection[str]:
    """Return the names and labels of instructions for which a model has quantum errors."""
    return () if noise is None else {*noise._default_quantum_errors, *noise._local_quantum_errors}


def error_of(noise: NoiseModel, name: str, qubits: tuple[int, ...]) -> AnyError | None:
    """Return the error of an instruction: its qubits' own, or the one for all qubits, or None."""
    return noise._local_quantum_errors.get(name, {}).get(qubits, noise._default_quantum_errors.get(name))


def added(noise: NoiseModel, operation: Any, qubits: tuple[int, ...]) -> Iterator[AnyError]:
    """Yield the errors that a model's own passes append to an instruction, such as relaxation during a delay."""
    for custom in noise._custom_noise_passes:
        if not isinstance(custom, LocalNoisePass) or custom._method != "append":
            raise EngineError(f"the noise model changes circuits by a {type(custom).__name__}, which only Aer can do")
        if not custom._ops or isinstance(operation, custom._ops):
            error = custom._func(operation, list(qubits))
            if error is not None:
                yield error if isinstance(error, QuantumError) else QuantumError([(error, 1.0)])


def assignment(noise: NoiseModel | None, qubit: int) -> np.ndarray:
    """Return the probabilities p(read j | is i) of a qubit's readout as a matrix [i,j]."""
    if noise is None:
        return np.eye(2)
    for on in noise._local_readout_errors:
        if len(on) > 1 and qubit in on:
            raise EngineError(f"the noise model's readout error on qubits {on} is correlated; give one per qubit")
    error = noise._local_readout_errors.get((qubit,), noise._default_readout_error)
    if error is not None and error.number_of_qubits > 1:
        raise EngineError("the noise model's readout error is correlated between qubits; give one per qubit")
    return np.eye(2) if error is None else np.asarray(error.probabilities, dtype=float)


def rebuilt(
    noise: NoiseModel,
    changed: Callable[[str, tuple[int, ...], AnyError], AnyError | None],
    readout: bool = True,
    place: Mapping[int, int] | None = None,
) -> NoiseModel:
    """Return a model with other errors.

    Args:
        changed: A function of name, qubits and error that returns the new error, or None for no error. The errors of
            all qubits have no qubits.
        place: New numbers of qubits; errors on other qubits are dropped. None keeps all numbers.
    """

    def moved(on: tuple[int, ...]) -> list[int] | None:
        return list(on) if place is None else [place[q] for q in on] if all(q in place for q in on) else None

    model = NoiseModel(basis_gates=noise.basis_gates)
    for name, error in noise._default_quantum_errors.items():
        if (other := changed(name, (), error)) is not None:
            model.add_all_qubit_quantum_error(other, name, warnings=False)
    for name, errors in noise._local_quantum_errors.items():
        for on, error in errors.items():
            qubits = moved(on)
            if qubits is not None and (other := changed(name, on, error)) is not None:
                model.add_quantum_error(other, name, qubits, warnings=False)
    if readout and noise._default_readout_error is not None:
        model.add_all_qubit_readout_error(noise._default_readout_error, warnings=False)
    for on, error in noise._local_readout_errors.items() if readout else ():
        if (qubits := moved(on)) is not None:
            model.add_readout_error(error, qubits, warnings=False)
    model._custom_noise_passes += noise._custom_noise_passes
    return model


def _with_passes(model: NoiseModel, changed: Callable[[Any], Any], what: str) -> NoiseModel:
    """Return a model with changed functions of its passes, in place."""
    passes = list(model._custom_noise_passes)
    for custom in passes:
        if not isinstance(custom, LocalNoisePass):
            raise EngineError(f"the noise model changes circuits by a {type(custom).__name__}, which {what}")
    model._custom_noise_passes = [LocalNoisePass(changed(c._func), c._ops, c._method) for c in passes]
    return model


def twirled(noise: NoiseModel) -> NoiseModel:
    """Return a model in which the errors of two-qubit gates are averaged over random Pauli frames."""
    return rebuilt(noise, lambda name, on, error: _pauli(error) if error.num_qubits == 2 else error)


def _pauli(error: AnyError) -> AnyError:
    """Return the Pauli channel with the same diagonal of the chi matrix."""
    if isinstance(error, PauliLindbladError):
        return error
    channel, chances = SuperOp(error).data, list[tuple[str, float]]()
    for pauli in pauli_basis(error.num_qubits):
        # <<P|S|P>> over vectorized operators of P (.) P^+ gives the chi diagonal
        matrix = pauli.to_matrix()
        chance = float(np.real(np.vdot(np.kron(matrix.conj(), matrix), channel)) / 4**error.num_qubits)
        chances.append((pauli.to_label(), max(0.0, chance)))
    total = sum(chance for _, chance in chances)
    return pauli_error([(label, chance / total) for label, chance in chances])


def restricted(noise: NoiseModel, qubits: Sequence[int]) -> NoiseModel:
    """Return the part of a noise model on ``qubits``, which become 0, 1, ...

    A simulation then needs the used qubits only.
    """
    model = rebuilt(noise, lambda name, on, error: error, place={qubit: i for i, qubit in enumerate(qubits)})
    return _with_passes(model, lambda function: _moved(function, qubits), "is not local")


def _moved(function: Any, qubits: Sequence[int]) -> Any:
    """Return a pass's function for the qubits' new numbers."""
    return lambda operation, on: function(operation, [qubits[i] for i in on])


def _content(error: AnyError) -> Hashable:
    if isinstance(error, PauliLindbladError):
        return tuple(error.generators.to_labels()), error.rates.tobytes()
    return tuple(map(_inside, error.circuits)), tuple(error.probabilities)


def _inside(circuit: QuantumCircuit) -> Hashable:
    """Return a key of one of an error's circuits, of which there are many thousands in a large device's model."""
    place = {qubit: i for i, qubit in enumerate(circuit.qubits)}
    entries = []
    for item in circuit.data:
        operation = item.operation
        if operation.name in _PLAIN and (is_from_library(operation) or is_channel(operation)):
            params = (p.tobytes() if isinstance(p, np.ndarray) else p for p in operation.params)
            kind: Hashable = (operation.name, *params)
        else:
            kind = operation_key(operation)
        entries.append((kind, *(place[qubit] for qubit in item.qubits)))
    return tuple(entries)


def generators(error: PauliLindbladError, qubits: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str, float]]:
    """Yield qubits, letters and rate of each of an error's generators on ``qubits``."""
    for label, rate in zip(error.generators.to_labels(), error.rates, strict=True):
        letters = [(q, letter) for q, letter in zip(qubits, reversed(label), strict=True) if letter != "I"]
        if letters:
            yield tuple(q for q, _ in letters), "".join(letter for _, letter in letters), float(np.real(rate))


def error_in(operation: Any) -> AnyError | None:
    """Return the error that an instruction of a circuit represents, or None."""
    return getattr(operation, "_quantum_error", None)


def scaled(noise: NoiseModel, factor: float) -> NoiseModel:
    """Return a model whose quantum errors are powers of another model's; readout errors are unchanged."""
    model = rebuilt(noise, lambda name, on, error: _power(error, factor))
    return _with_passes(model, lambda function: _stronger(function, factor), "cannot be scaled")


def _power(error: AnyError, factor: float) -> AnyError:
    if isinstance(error, PauliLindbladError):
        return PauliLindbladError(error.generators, error.rates * factor)
    power = int(factor) if float(factor).is_integer() else factor
    if power == 0:
        return QuantumError(Kraus([np.eye(2**error.num_qubits)]))
    if power == 1:
        return error
    matrix = SuperOp(error).data
    if isinstance(power, int):
        raised = np.linalg.matrix_power(matrix, power)
    else:
        from scipy.linalg import fractional_matrix_power  # slow to import and rarely needed

        raised = fractional_matrix_power(matrix, power)
    return QuantumError(Kraus(SuperOp(raised)))


def _stronger(function: Any, factor: float) -> Any:
    """Return a pass's function with powers of its errors."""

    def powered(operation: Any, on: Any) -> AnyError | None:
        error = function(operation, on)
        return None if error is None else _power(QuantumError(SuperOp(error)), factor)

    return powered


def noise_key(noise: NoiseModel | None, circuit: QuantumCircuit) -> Hashable:
    """Return a key that changes with every part of a model that affects a circuit.

    Changes in place of a model, an error or a matrix change the key.
    """
    if noise is None:
        return None
    qubits = {circuit.find_bit(qubit).index for item in circuit.data for qubit in item.qubits}
    quantum = [(name, None, error) for name, error in noise._default_quantum_errors.items()]
    quantum += [
        (name, on, error)
        for name, on_each in noise._local_quantum_errors.items()
        for on, error in on_each.items()
        if name == "measure" or all(qubit in qubits for qubit in on)
    ]
    readout = [(None, noise._default_readout_error), *noise._local_readout_errors.items()]
    return (
        tuple((name, on, _content(error)) for name, on, error in quantum),
        tuple((on, None if error is None else np.asarray(error.probabilities).tobytes()) for on, error in readout),
        tuple(
            object_key(custom)
            for custom in noise._custom_noise_passes
            if not getattr(custom, "_ops", ()) or any(isinstance(item.operation, custom._ops) for item in circuit.data)
        ),
    )
