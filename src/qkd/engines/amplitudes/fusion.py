"""Fusion: the order of gates, their grouping into dense blocks, and the pieces of the state on which they act.

The state starts as n pieces of one qubit each. Two pieces are joined only when a gate needs both, so early gates act on
small pieces and a product state is never multiplied out.

Gates whose angles all rows share become dense blocks of up to ``MAX_BLOCK_QUBITS`` qubits. One block of k qubits costs
one pass over the state, about as long as a single gate, but its arithmetic grows as 2^k. Permutations in sequence
become one index, and diagonal gates in sequence become one phase. An exhaustive search would be exponential, so the
order is greedy: the next step is the one with most gates per estimated millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from qkd.core.errors import EngineError
from qkd.engines.amplitudes.steps import DenseBlock, FusedCircuit, Join, Move, Permute, Phase, Step
from qkd.engines.gates import ElementaryGate

MAX_BLOCK_QUBITS = 5
"""Maximum number of qubits of a dense block; a wider matrix takes longer than the passes that it saves."""


def fuse(gates: Sequence[ElementaryGate], batched: Sequence[bool], qubits: Sequence[int], limit: int) -> FusedCircuit:
    """Return the steps for the gates on the given qubits.

    Args:
        gates: The gates in order; gates whose angle differs from row to row are diagonal.
        batched: Whether each gate's angle differs from row to row.
        limit: Maximum number of qubits of a piece, which must fit in memory.
    """
    work = _Work(gates, batched, qubits, limit)
    while any(work.position[q] < len(work.queue[q]) for q in qubits):
        work.append_steps(max(work.candidates(), key=lambda c: c.gain / work.cost(c)))
    return FusedCircuit(
        tuple(work.steps), {piece.name: tuple(piece.order) for piece in work.piece.values()}, work.amplitudes
    )


@dataclass(frozen=True)
class _Candidate:
    kind: str
    qubits: tuple[int, ...]
    gates: tuple[int, ...]
    gain: float


@dataclass
class _Piece:
    name: int
    order: list[int]


@dataclass
class _Work:
    """The state of the search.

    Attributes:
        queue: The numbers of the gates on each qubit, in order.
        position: The place in each queue of the first gate that is not yet in a step.
        piece: The piece that contains each qubit.
        steps: The steps so far.
        amplitudes: The number of amplitudes of the states after all steps.
    """

    gates: Sequence[ElementaryGate]
    batched: Sequence[bool]
    qubits: Sequence[int]
    limit: int
    amplitudes: int = 0
    queue: dict[int, list[int]] = field(default_factory=dict)
    position: dict[int, int] = field(default_factory=dict)
    piece: dict[int, _Piece] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = {q: [i for i, gate in enumerate(self.gates) if q in gate.qubits] for q in self.qubits}
        self.position = dict.fromkeys(self.qubits, 0)
        self.piece = {q: _Piece(q, [q]) for q in self.qubits}
        self.image = [gate.permutation for gate in self.gates]
        self.real = [not gate.terms.imag.any() for gate in self.gates]
        self.diagonal = [gate.diagonal for gate in self.gates]

    def absorbable(self, window: set[int], allowed: Callable[[int], bool]) -> tuple[tuple[int, ...], dict[int, int]]:
        """Return the allowed gates inside ``window`` that can be next, and the positions of the queues after them."""
        position, absorbed, progressed = {q: self.position[q] for q in window}, [], True
        while progressed:
            progressed = False
            for q in window:
                while position[q] < len(self.queue[q]):
                    i = self.queue[q][position[q]]
                    on = self.gates[i].qubits
                    if not (allowed(i) and all(p in window and self._head(p, position) == i for p in on)):
                        break
                    for p in on:
                        position[p] += 1
                    absorbed.append(i)
                    progressed = True
        return tuple(absorbed), position

    def _head(self, qubit: int, position: dict[int, int]) -> int | None:
        index = position.get(qubit, self.position[qubit])
        return self.queue[qubit][index] if index < len(self.queue[qubit]) else None

    def _heads(self, qubits: Iterable[int], position: dict[int, int]) -> set[int]:
        return {i for q in qubits if (i := self._head(q, position)) is not None}

    def gain(self, absorbed: Sequence[int]) -> float:
        """Return the number of gates, in which two-qubit gates count twice."""
        return sum(1.0 if len(self.gates[i].qubits) == 1 else 2.0 for i in absorbed)

    def candidates(self) -> list[_Candidate]:
        """Return possible next steps: for each gate at the head of its queues one step of every kind that fits."""
        ready = sorted(
            i
            for i in self._heads(self.qubits, self.position)
            if all(self._head(q, self.position) == i for q in self.gates[i].qubits)
        )
        options = []
        for i in ready:
            if not self.batched[i]:
                options.append(self._grown_block(i))
                options.append(self._single_kind("phase", i, lambda j: self.diagonal[j] and not self.batched[j]))
                options.append(self._single_kind("permute", i, lambda j: self.image[j] is not None))
            options.append(self._single_kind("rowwise", i, lambda j: self.diagonal[j]))
        return [candidate for candidate in options if candidate.gates]

    def _single_kind(self, kind: str, seed: int, allowed: Callable[[int], bool]) -> _Candidate:
        """Return a step of all allowed gates that can be next on the pieces of the gate ``seed``."""
        piece_qubits = {q for p in self.gates[seed].qubits for q in self.piece[p].order}
        absorbed = self.absorbable(piece_qubits, allowed)[0] if allowed(seed) else ()
        return _Candidate(kind, tuple(piece_qubits), absorbed, self.gain(absorbed))

    def _grown_block(self, seed: int) -> _Candidate:
        """Return the best block that contains the gate ``seed``.

        The window grows by the neighbor that gives the best ratio of gain and cost, also while the ratio falls: a gate
        that follows may pay for the growth. The best block of all windows is returned.
        """

        def shared(i: int) -> bool:
            return not self.batched[i]

        window = set(self.gates[seed].qubits)
        absorbed, position = self.absorbable(window, shared)
        best = _Candidate("block", tuple(sorted(window)), absorbed, self.gain(absorbed))
        while True:
            options = []
            for i in self._heads(window | self._beside(window), position):
                wider = window | set(self.gates[i].qubits)
                if shared(i) and len(window) < len(wider) <= MAX_BLOCK_QUBITS:
                    more, ends = self.absorbable(wider, shared)
                    candidate = _Candidate("block", tuple(sorted(wider)), more, self.gain(more))
                    options.append((candidate.gain / self.cost(candidate), candidate.qubits, candidate, ends))
            if not options:
                return best
            _, _, candidate, position = max(options, key=lambda option: option[:2])
            window = set(candidate.qubits)
            if candidate.gain / self.cost(candidate) >= best.gain / self.cost(best):
                best = candidate

    def _beside(self, window: set[int]) -> set[int]:
        """Return the neighbors of the window's qubits in their pieces, which a block reaches without a permutation."""
        neighbors = set()
        for q in window:
            order = self.piece[q].order
            position = order.index(q)
            neighbors.update(order[max(0, position - 1) : position + 2])
        return neighbors - window

    def cost(self, candidate: _Candidate) -> float:
        """Return the estimated milliseconds of a forward step on a batch of 64 (one core, complex64).

        The constants were fitted to measurements; only their ratios matter. A piece of 11 qubits is the reference.
        """
        parts = self._parts(candidate.qubits)
        calls = 0.06
        if candidate.kind == "block":
            size = 2 ** len(candidate.qubits)
            real = all(self.real[i] for i in candidate.gates)
            passes = 0.1 + 0.007 * size if real else 0.13 + 0.012 * size
            calls += 8e-7 * size**3 * len(candidate.gates)  # building the matrix
            if not self._adjacent(_joined(parts), candidate.qubits):
                passes += 0.07
        else:
            passes = {"permute": 0.07, "phase": 0.1, "rowwise": 0.8}[candidate.kind]
        return calls + passes * 2.0 ** (sum(len(part.order) for part in parts) - 11)

    @staticmethod
    def _adjacent(order: Sequence[int], window: Sequence[int]) -> bool:
        position = [order.index(q) for q in window]
        return max(position) - min(position) + 1 == len(position)

    def _parts(self, window: Sequence[int]) -> list[_Piece]:
        """Return the pieces that a window touches, in the order that brings its qubits closest together."""

        def place(piece: _Piece) -> tuple[float, int]:
            inside = [i for i, q in enumerate(piece.order) if q in window]
            if len(inside) == len(piece.order):
                return 0.0, piece.name
            return (-1.0 if 2 * sum(inside) > len(inside) * (len(piece.order) - 1) else 1.0), piece.name

        return sorted({self.piece[q].name: self.piece[q] for q in window}.values(), key=place)

    def append_steps(self, candidate: _Candidate) -> None:
        """Append a candidate's step, after a join and a permutation that make its qubits neighbors."""
        piece = self._join(candidate.qubits)
        name, width = piece.name, len(piece.order)
        self.amplitudes += 2 ** (width + (candidate.kind == "rowwise"))
        if candidate.kind == "block":
            if not self._adjacent(piece.order, candidate.qubits):
                self._regroup(piece, candidate.qubits)
            first = min(piece.order.index(q) for q in candidate.qubits)
            window = tuple(piece.order[first : first + len(candidate.qubits)])
            self.steps.append(DenseBlock(name, candidate.gates, window, first, width - first - len(window)))
        axes = tuple(tuple(piece.order.index(q) for q in self.gates[i].qubits) for i in candidate.gates)
        if candidate.kind in ("phase", "rowwise"):
            self.steps.append(Phase(name, candidate.gates, axes, width, candidate.kind == "rowwise"))
        elif candidate.kind == "permute":
            moves = [
                (self.image[i], tuple(width - 1 - axis for axis in on))
                for i, on in zip(candidate.gates, axes, strict=True)
            ]
            self._permute(name, width, moves)
        for i in candidate.gates:
            for q in self.gates[i].qubits:
                self.position[q] += 1

    def _join(self, qubits: Sequence[int]) -> _Piece:
        parts = self._parts(qubits)
        if len(parts) == 1:
            return parts[0]
        joined = _Piece(parts[0].name, _joined(parts))
        if len(joined.order) > self.limit:
            raise EngineError(
                f"the circuit entangles {len(joined.order)} qubits or more, of which {self.limit} fit in memory as a "
                "statevector; use fewer qubits or layers, complex64, or the light-cone engine"
            )
        self.steps.append(Join(tuple(part.name for part in parts)))
        self.amplitudes += 2 ** len(joined.order)
        self.piece.update(dict.fromkeys(joined.order, joined))
        return joined

    def _regroup(self, piece: _Piece, window: Sequence[int]) -> None:
        """Reorder a piece so that the window's qubits are neighbors."""
        old, width = list(piece.order), len(piece.order)
        first = min(old.index(q) for q in window)
        rest = [q for q in old if q not in window]
        piece.order = rest[:first] + [q for q in old if q in window] + rest[first:]
        bits = tuple(width - 1 - old.index(q) for q in reversed(piece.order))
        self._permute(piece.name, width, [(None, bits)])

    def _permute(self, name: int, width: int, moves: Sequence[Move]) -> None:
        last = self.steps[-1] if self.steps else None
        if isinstance(last, Permute) and last.piece == name:
            moves = [*last.moves, *moves]  # two permutations in sequence are one
            self.steps.pop()
        self.steps.append(Permute(name, tuple(moves), width))


def _joined(parts: Sequence[_Piece]) -> list[int]:
    return [q for part in parts for q in part.order]
