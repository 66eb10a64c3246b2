"""Grouping of requests (circuit, parameter row, observable) into as few batches as possible.

``EstimatorQNN`` requests samples x observables one by one; a V2 PUB requests a broadcast of the two. Both become the
same list here. Requests on one circuit whose rows want the same observables form one batch (R rows, K observables), so
that an engine computes each requested value once and no other value.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qkd.engines.keys import circuit_key, observable_key


@dataclass(frozen=True)
class Requests:
    """Requested expectation values of one circuit: pair i is row ``rows[i]`` with observable ``columns[i]``.

    Attributes:
        circuit: The circuit. Its P parameters, in its own order, are the columns of ``values``.
        values: The R parameter rows (R,P).
        observables: The K observables.
        rows: The row (Q,) of each request.
        columns: The observable (Q,) of each request.
        numbers: The position (Q,) of each request in the ungrouped list; only batches have it.
        key: A hashable that is equal for equal circuits with equal observables; only batches have it.
    """

    circuit: QuantumCircuit
    values: np.ndarray
    observables: Sequence[SparsePauliOp]
    rows: np.ndarray
    columns: np.ndarray
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    key: Hashable = None


def group(requests: Iterable[Requests], independent: bool = False) -> list[Requests]:
    """Return batches in which all R rows want all K observables.

    Args:
        requests: The requests, numbered in the order given.
        independent: Whether each repetition of a request gets a row of its own, because its value is a random draw.
            Different observables of equal rows still share a row, as in one PUB.
    """
    by_circuit: dict[Hashable, list[tuple[int, Requests]]] = {}
    start = 0
    for request in requests:
        by_circuit.setdefault(circuit_key(request.circuit), []).append((start, request))
        start += len(request.rows)
    return [batch for key, parts in by_circuit.items() for batch in _batches(key, parts, independent)]


def _batches(key: Hashable, parts: list[tuple[int, Requests]], independent: bool) -> Iterable[Requests]:
    place: dict[Hashable, int] = {}
    distinct: list[SparsePauliOp] = []
    all_columns, all_rows, offset = [], [], 0
    for _, part in parts:
        index = []
        for observable in part.observables:
            index.append(place.setdefault(observable_key(observable), len(distinct)))
            if index[-1] == len(distinct):
                distinct.append(observable)
        all_columns.append(np.asarray(index, dtype=int)[part.columns])
        all_rows.append(part.rows + offset)
        offset += len(part.values)
    values, inverse = np.unique(np.concatenate([part.values for _, part in parts]), axis=0, return_inverse=True)
    column = np.concatenate(all_columns)
    number = np.concatenate([start + np.arange(len(part.rows)) for start, part in parts])
    row = inverse.reshape(-1)[np.concatenate(all_rows)]
    if independent:
        copies, row = np.unique(np.stack([row, _repetition(row, column)]), axis=1, return_inverse=True)
        values, row = values[copies[0]], row.reshape(-1)

    order = np.lexsort((column, row))
    row, column, number = row[order], column[order], number[order]
    by_wanted: dict[tuple[int, ...], list[np.ndarray]] = {}
    for of_row in np.split(np.arange(len(row)), np.flatnonzero(np.diff(row)) + 1):
        if len(of_row):
            by_wanted.setdefault(tuple(np.unique(column[of_row]).tolist()), []).append(of_row)
    keys = list(place)
    for wanted, members in by_wanted.items():
        chosen = np.concatenate(members)
        yield Requests(
            circuit=parts[0][1].circuit,
            values=values[[row[member[0]] for member in members]],
            observables=tuple(distinct[c] for c in wanted),
            rows=np.repeat(np.arange(len(members)), [len(member) for member in members]),
            columns=np.searchsorted(np.asarray(wanted), column[chosen]),
            numbers=number[chosen],
            key=(key, tuple(keys[c] for c in wanted)),
        )


def _repetition(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Return for each request (Q,) the number of earlier requests with the same row and column."""
    order = np.lexsort((column, row))
    starts = (np.diff(row[order], prepend=-1) != 0) | (np.diff(column[order], prepend=-1) != 0)
    position = np.arange(len(row))
    counts = np.empty(len(row), dtype=int)
    counts[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return counts
