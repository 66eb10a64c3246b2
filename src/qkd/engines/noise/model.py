"""Noise beyond Aer's models: coherent errors, Pauli-Lindblad rates, crosstalk, joint flips of readouts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from qiskit.circuit import Parameter, ParameterExpression, QuantumCircuit
from qiskit.quantum_info import PauliLindbladMap
from qiskit_aer.noise import NoiseModel

from qkd.core.errors import EngineError
from qkd.engines.instructions import FlatGate
from qkd.engines.noise import aer

Amount: TypeAlias = float | ParameterExpression
Gate: TypeAlias = tuple[str, tuple[int, ...] | None]
"""The name or label of an instruction, and its qubits in order; None is any."""
ALL_PAULIS = "*"
"""The letter of a term that contains all Paulis of its qubits except the identity, with one rate."""


@dataclass(frozen=True)
class PlacedTerm:
    """A noise term at one place of a circuit.

    Attributes:
        qubits: The qubits on which the term is not the identity.
        letters: One of X, Y, Z for each qubit; or ``ALL_PAULIS`` for each.
        amount: An angle in radians, or a rate.
        coherent: Whether the term is ``exp(-i amount/2 P)``. Otherwise it is ``exp(amount (P . P - .))``, which damps
            Paulis that anticommute with P by ``exp(-2 amount)``; with ``ALL_PAULIS`` it damps all except the identity.
    """

    qubits: tuple[int, ...]
    letters: str
    amount: Amount
    coherent: bool


@dataclass(frozen=True)
class _Term:
    gates: tuple[Gate, ...]
    qubits: tuple[int, ...] | None
    pauli: str
    amount: Amount
    coherent: bool

    def on(self, qubits: tuple[int, ...]) -> PlacedTerm:
        """Return the term after a gate on ``qubits``, or on its own qubits."""
        qubits = qubits if self.qubits is None else self.qubits
        if len(qubits) != len(self.pauli):
            raise EngineError(
                f"the noise term {self.pauli} follows an instruction on qubits {list(qubits)}; use one letter for each"
            )
        letters = [(q, letter) for q, letter in zip(qubits, reversed(self.pauli), strict=True) if letter != "I"]
        return PlacedTerm(tuple(q for q, _ in letters), "".join(x for _, x in letters), self.amount, self.coherent)


@dataclass(frozen=True)
class Noise:
    """A noise model; the module ``qkd.engines.noise`` has examples.

    In labels, as in Qiskit, the rightmost letter belongs to the first qubit. Terms act after the errors of Aer's model
    for the same instruction, in the order in which they were added.

    Attributes:
        model: Aer's noise model, or None.
    """

    model: NoiseModel | None = None
    _terms: tuple[_Term, ...] = ()
    _flips: tuple[tuple[frozenset[int], float], ...] = ()

    @classmethod
    def from_model(cls, noise: NoiseLike) -> Noise:
        """Return any noise as a ``Noise``."""
        return noise if isinstance(noise, Noise) else cls(noise)

    def coherent(
        self, after: str | Sequence[Gate], angles: Mapping[str, Amount], qubits: tuple[int, ...] | None = None
    ) -> Noise:
        """Return this noise with ``exp(-i angle/2 P)`` after an instruction, for each Pauli P of ``angles``.

        Args:
            after: The name or label of an instruction; or several instructions ``(name, qubits)``, for crosstalk of
                two-qubit gates in one layer. Each gate belongs to the earliest layer that its qubits allow.
            qubits: The qubits of the named instruction, in its order; None means all its occurrences. With several
                instructions, the qubits of the Paulis.

        Raises:
            EngineError: A label is not a Pauli, or has another number of qubits.
        """
        return self._with(after, angles, qubits, True)

    def lindblad(
        self,
        after: str | Sequence[Gate],
        rates: Mapping[str, Amount] | PauliLindbladMap,
        qubits: tuple[int, ...] | None = None,
    ) -> Noise:
        """Return this noise with a Pauli-Lindblad channel after an instruction or a layer.

        ``exp(sum_P rate_P (P . P - .))``: a Pauli Q is damped by ``exp(-2 sum rate_P)`` over the P that anticommute
        with it (van den Berg et al., arXiv:2201.09866).

        Args:
            after: The instructions, as in ``coherent``.
            rates: Rates or parameters, by Pauli labels; or Qiskit's own map, which noise learners return.
            qubits: The qubits, as in ``coherent``.

        Raises:
            EngineError: A rate is negative, or as in ``coherent``.
        """
        if not isinstance(rates, PauliLindbladMap):
            if any(isinstance(rate, int | float) and not rate >= 0 for rate in rates.values()):
                raise EngineError("a Pauli-Lindblad rate is 0 or positive")
            return self._with(after, rates, qubits, False)
        noise = self
        whole = tuple(range(rates.num_qubits)) if qubits is None and not isinstance(after, str) else qubits
        for letters, places, rate in rates.to_sparse_list():
            label = ["I"] * rates.num_qubits
            for letter, place in zip(letters, places, strict=True):
                label[rates.num_qubits - 1 - place] = letter
            noise = noise.lindblad(after, {"".join(label): float(np.real(rate))}, whole)
        return noise

    def depolarizing(self, after: str, rate: Amount, qubits: tuple[int, ...]) -> Noise:
        """Return this noise with depolarization after an instruction on ``qubits``.

        Every Pauli of its qubits but the identity is damped by ``exp(-2 rate)``: on k qubits an average infidelity of
        ``(1 - exp(-2 rate)) (1 - 2^-k)``.

        Raises:
            EngineError: The rate is negative.
        """
        if isinstance(rate, int | float) and not rate >= 0:
            raise EngineError("a depolarizing rate is 0 or positive")
        term = _Term(((after, tuple(qubits)),), None, ALL_PAULIS * len(qubits), rate, False)
        return replace(self, _terms=(*self._terms, term))

    def _with(
        self,
        after: str | Sequence[Gate],
        amounts: Mapping[str, Amount],
        qubits: tuple[int, ...] | None,
        coherent: bool,
    ) -> Noise:
        if isinstance(after, str):
            gates: tuple[Gate, ...] = ((after, qubits),)
            where = None
        else:
            gates, where = tuple((name, None if on is None else tuple(on)) for name, on in after), qubits
            if where is None or not gates or any(on is None for _, on in gates):
                raise EngineError("with several instructions, give the qubits of each and those of the Paulis")
        terms = []
        for pauli, amount in amounts.items():
            weight = len(pauli) - pauli.count("I")
            if set(pauli) - set("IXYZ") or not weight or (qubits is not None and len(qubits) != len(pauli)):
                raise EngineError(
                    f"a noise term is a Pauli label, one letter for each of the instruction's qubits, not '{pauli}'"
                )
            terms.append(_Term(gates, where, pauli, amount, coherent))
        return replace(self, _terms=(*self._terms, *terms))

    def flipped(self, chance: float, qubits: tuple[int, ...]) -> Noise:
        """Return this noise with a probability that the readouts of all ``qubits`` are flipped together.

        Flips are added to existing readout errors, and several flips may share qubits.

        Raises:
            EngineError: The probability is not between 0 and 1/2.
        """
        if not 0 <= chance <= 0.5:
            raise EngineError(f"the probability of flipped readouts is between 0 and 1/2, not {chance}")
        return replace(self, _flips=(*self._flips, (frozenset(qubits), float(chance))))

    def attenuation(self, string: Iterable[tuple[int, str]]) -> float:
        """Return the factor by which flips reduce the mean of a Pauli string, given as qubits with letters."""
        on = {qubit for qubit, _ in string}
        return math.prod(1 - 2 * chance for qubits, chance in self._flips if len(on & qubits) % 2)

    def incoherent(self) -> Noise:
        """Return this noise without its coherent errors."""
        return replace(self, _terms=tuple(term for term in self._terms if not term.coherent))

    def twirled(self) -> Noise:
        """Return this noise averaged over random Pauli frames around every two-qubit gate.

        Errors of Aer's model on two qubits become Pauli channels. The sign of a coherent term becomes random, so its
        Pauli occurs with probability ``sin^2(angle/2)``. Correlations of three signs after one gate are of third order
        in the angles and neglected. One-qubit gates have no frames.

        Raises:
            EngineError: An angle is a parameter, or above pi/2.
        """
        terms = []
        for term in self._terms:
            if term.coherent and (len(term.pauli) > 1 or len(term.gates) > 1):
                if not isinstance(term.amount, int | float) or abs(term.amount) >= math.pi / 2:
                    raise EngineError(f"an angle in random frames is a number below pi/2, not {term.amount}")
                term = replace(term, amount=-math.log(math.cos(term.amount)) / 2, coherent=False)
            terms.append(term)
        return replace(self, model=None if self.model is None else aer.twirled(self.model), _terms=tuple(terms))

    def scaled(self, factor: float) -> Noise:
        """Return this noise with errors to the power ``factor``, and angles and rates multiplied by it.

        Folding each gate (G, its inverse, G) has the effect of an odd factor on noise that commutes with G. Readout
        errors are unchanged.

        Raises:
            EngineError: The factor is negative.
        """
        if not factor >= 0:
            raise EngineError(f"noise is scaled by 0 or a positive number, not {factor}")
        terms = tuple(replace(term, amount=term.amount * factor) for term in self._terms)
        return replace(self, model=None if self.model is None else aer.scaled(self.model, factor), _terms=terms)

    def bind(self, values: Mapping[Parameter, float]) -> Noise:
        """Return this noise with numbers for some or all of its parameters."""
        terms = []
        for term in self._terms:
            amount = term.amount
            if isinstance(amount, ParameterExpression):
                amount = amount.bind({p: values[p] for p in amount.parameters if p in values})
                amount = amount if amount.parameters else float(np.real(amount.numeric()))
            terms.append(replace(term, amount=amount))
        return replace(self, _terms=tuple(terms))

    @property
    def parameters(self) -> frozenset[Parameter]:
        """The parameters of angles and rates."""
        by_term = (term.amount.parameters for term in self._terms if isinstance(term.amount, ParameterExpression))
        return frozenset().union(*by_term)

    @property
    def names(self) -> frozenset[str]:
        """Names and labels of instructions that have noise."""
        return frozenset(aer.names(self.model)).union(name for term in self._terms for name, _ in term.gates)

    @property
    def flips(self) -> tuple[tuple[frozenset[int], float], ...]:
        """The sets of qubits whose readouts are flipped together, with probabilities."""
        return self._flips

    def key(self, circuit: QuantumCircuit) -> Hashable:
        """Return a key that changes with every part of the noise that affects a circuit."""
        return aer.noise_key(self.model, circuit), self._terms, self._flips

    def placed(self, flattened_gates: Sequence[FlatGate]) -> Iterator[tuple[FlatGate, list[PlacedTerm]]]:
        """Yield a circuit's instructions, each with the terms that follow it.

        With crosstalk terms the instructions are ordered by layers, which changes no value.
        """
        if any(len(term.gates) > 1 for term in self._terms):
            yield from self._layered(flattened_gates)
            return
        for flat in flattened_gates:
            yield flat, [term.on(flat.qubits) for term in self._terms if _is(flat, term.gates[0])]

    def _layered(self, flattened_gates: Sequence[FlatGate]) -> Iterator[tuple[FlatGate, list[PlacedTerm]]]:
        at: dict[int, int] = {}
        layers: dict[int, tuple[list[FlatGate], list[FlatGate]]] = {0: ([], [])}
        for flat in flattened_gates:
            wide = len(flat.qubits) > 1 and flat.operation is not None
            level = max(at.get(qubit, 0) for qubit in flat.qubits) + wide
            at.update(dict.fromkeys(flat.qubits, level))
            layers.setdefault(level, ([], []))[0 if wide else 1].append(flat)
        for level in sorted(layers):
            gates, single = layers[level]
            after_layer: list[PlacedTerm] = []
            for term in self._terms:
                there = all(any(_is(flat, gate) for flat in gates) for gate in term.gates)
                if len(term.gates) > 1 and there:
                    after_layer.append(term.on(()))
            for i, flat in enumerate([*gates, *single]):
                own = [
                    term.on(flat.qubits) for term in self._terms if len(term.gates) == 1 and _is(flat, term.gates[0])
                ]
                yield flat, own + (after_layer if i == len(gates) - 1 else [])


def _is(flat: FlatGate, gate: Gate) -> bool:
    name, qubits = gate
    return flat.error == name and (qubits is None or flat.qubits == qubits)


NoiseLike: TypeAlias = NoiseModel | Noise | None
