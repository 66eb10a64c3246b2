"""Observables as text: ``z-each``, ``zz-neighbours``, ``Z0 Z1``, ``0.5 X0 + 0.5 Z2``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from qiskit.quantum_info import SparsePauliOp

from qkd.circuits.limits import MAX_OBSERVABLE_LETTERS, check_limit
from qkd.core.errors import CircuitError

_NAMED = ("z-each", "zz-neighbours")
_TERM = re.compile(
    r"(?:(?P<sign>[+-])\s*)?"
    r"(?:(?P<factor>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*)?"
    r"(?P<pauli>(?:[IXYZ]\d+\s*)*)"
)


def parse_observables(texts: Iterable[str], num_qubits: int) -> tuple[SparsePauliOp, ...]:
    """Return the observables of ``texts`` on n qubits; each of the two names denotes several observables.

    Raises:
        QkdError: A text is neither a known name nor a sum of Paulis, or a qubit does not exist.
    """
    observables: list[SparsePauliOp] = []
    letters = 0
    for text in texts:
        if text == "z-each":
            observables += [_sparse([("Z", [q], 1.0)], num_qubits) for q in range(num_qubits)]
        elif text == "zz-neighbours":
            observables += [_sparse([("ZZ", [q, q + 1], 1.0)], num_qubits) for q in range(num_qubits - 1)]
        else:
            observables.append(_sum(text, num_qubits))
        letters += num_qubits * (num_qubits if text in _NAMED else len(observables[-1]))
        check_limit(letters, MAX_OBSERVABLE_LETTERS, "letters of observables", "the circuit")
    return tuple(observables)


def observable_text(observable: SparsePauliOp) -> str:
    """Return an observable as text that ``parse_observables`` reads."""
    terms = []
    for letters, qubits, coefficient in observable.to_sparse_list():
        paulis = " ".join(f"{letter}{q}" for letter, q in zip(letters, qubits, strict=True)) or "I0"
        value = float(coefficient.real)
        terms.append(f"{'-' if value < 0 else '+'} {abs(value)!r} {paulis}")
    return " ".join(terms).removeprefix("+ ").replace(" 1.0 ", " ").removeprefix("1.0 ")


def _sum(text: str, num_qubits: int) -> SparsePauliOp:
    terms: list[tuple[str, list[int], float]] = []
    position, stripped = 0, text.strip()
    while position < len(stripped):
        match = _TERM.match(stripped, position)
        if match is None or not match["pauli"].strip() or (terms and not match["sign"]):
            raise CircuitError(
                f"observable '{text}' cannot be read from '{stripped[position:][:40]}'; write z-each, zz-neighbours, "
                "or Paulis such as 'Z0 Z1' or '0.5 X0 + Z2'"
            )
        letters = re.findall(r"([IXYZ])(\d+)", match["pauli"])
        qubits = [int(q) if len(q) < 10 else num_qubits for _, q in letters]
        if max(qubits) >= num_qubits or len(set(qubits)) != len(qubits):
            raise CircuitError(f"observable '{text}' must name different qubits from 0 to {num_qubits - 1}")
        factor = float(match["factor"] or 1) * (-1 if match["sign"] == "-" else 1)
        if not math.isfinite(factor):
            raise CircuitError(f"observable '{text[:60]}' has a coefficient that is not finite")
        terms.append(("".join(letter for letter, _ in letters), qubits, factor))
        check_limit(len(terms) * num_qubits, MAX_OBSERVABLE_LETTERS, "letters of an observable", "the circuit")
        position = match.end()
    if not terms:
        raise CircuitError("an observable is empty; write z-each, zz-neighbours, or Paulis such as 'Z0 Z1'")
    return _sparse(terms, num_qubits)


def _sparse(terms: list[tuple[str, list[int], float]], num_qubits: int) -> SparsePauliOp:
    return SparsePauliOp.from_sparse_list(terms, num_qubits)
