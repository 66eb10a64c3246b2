"""Which gates become one dense block, in which order, on which pieces of the state.

The state starts as n pieces of one qubit each. A piece is only joined to another when a gate needs both, so
early gates act on small pieces and a product state is never multiplied out. Gates whose angles all rows
share are gathered into dense blocks of up to ``WIDEST`` qubits; a run of permutations is one index, a run of
diagonal gates one phase. The order is greedy: next comes whatever does most per millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from qkd.core.errors import EngineError
from qkd.engines.amplitudes.steps import DenseBlock, FusedCircuit, Join, Move, Permute, Phase, Step
from qkd.engines.gates import Atom

WIDEST = 5


def fuse(atoms: Sequence[Atom], batched: Sequence[bool], qubits: Sequence[int], limit: int) -> FusedCircuit:
    """Return the steps for the atoms on the given qubits.

    Args:
        atoms: the gates in order; those whose angle differs from row to row are diagonal.
        batched: for each atom, whether its angle differs from row to row.
        qubits: the qubits that matter.
        limit: the widest piece that fits in memory.

    Raises:
        EngineError: gates entangle more than ``limit`` qubits.
    """
    work = _Work(atoms, batched, qubits, limit)
    while any(work.at[q] < len(work.queue[q]) for q in qubits):
        work.emit(max(work.candidates(), key=lambda c: c.gain / work.cost(c)))
    return FusedCircuit(
        tuple(work.steps), {piece.name: tuple(piece.order) for piece in work.piece.values()}, work.amplitudes
    )


@dataclass(frozen=True)
class _Candidate:
    kind: str
    qubits: tuple[int, ...]
    atoms: tuple[int, ...]
    gain: float


@dataclass
class _Piece:
    name: int
    order: list[int]


@dataclass
class _Work:
    atoms: Sequence[Atom]
    batched: Sequence[bool]
    qubits: Sequence[int]
    limit: int
    amplitudes: int = 0
    queue: dict[int, list[int]] = field(default_factory=dict)
    at: dict[int, int] = field(default_factory=dict)
    piece: dict[int, _Piece] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = {q: [i for i, atom in enumerate(self.atoms) if q in atom.qubits] for q in self.qubits}
        self.at = dict.fromkeys(self.qubits, 0)
        self.piece = {q: _Piece(q, [q]) for q in self.qubits}
        self.image = [atom.permutation for atom in self.atoms]
        self.real = [not atom.terms.imag.any() for atom in self.atoms]
        self.diagonal = [atom.diagonal for atom in self.atoms]

    def absorbed(self, window: set[int], allowed: Callable[[int], bool]) -> tuple[tuple[int, ...], dict[int, int]]:
        """Return the allowed atoms inside ``window`` that can come next, and how far each queue then is."""
        at, taken, moved = {q: self.at[q] for q in window}, [], True
        while moved:
            moved = False
            for q in window:
                while at[q] < len(self.queue[q]):
                    i = self.queue[q][at[q]]
                    on = self.atoms[i].qubits
                    if not (allowed(i) and all(p in window and self._head(p, at) == i for p in on)):
                        break
                    for p in on:
                        at[p] += 1
                    taken.append(i)
                    moved = True
        return tuple(taken), at

    def _head(self, qubit: int, at: dict[int, int]) -> int | None:
        position = at.get(qubit, self.at[qubit])
        return self.queue[qubit][position] if position < len(self.queue[qubit]) else None

    def _heads(self, qubits: Iterable[int], at: dict[int, int]) -> set[int]:
        return {i for q in qubits if (i := self._head(q, at)) is not None}

    def gain(self, taken: Sequence[int]) -> float:
        """Return how much work a set of atoms stands for."""
        return sum(1.0 if len(self.atoms[i].qubits) == 1 else 2.0 for i in taken)

    def candidates(self) -> list[_Candidate]:
        """Return what could come next."""
        ready = sorted(
            i
            for i in self._heads(self.qubits, self.at)
            if all(self._head(q, self.at) == i for q in self.atoms[i].qubits)
        )
        options = []
        for i in ready:
            if not self.batched[i]:
                options.append(self._grown(i))
                options.append(self._run("phase", i, lambda j: self.diagonal[j] and not self.batched[j]))
                options.append(self._run("permute", i, lambda j: self.image[j] is not None))
            options.append(self._run("rowwise", i, lambda j: self.diagonal[j]))
        return [candidate for candidate in options if candidate.atoms]

    def _run(self, kind: str, seed: int, allowed: Callable[[int], bool]) -> _Candidate:
        """Return all allowed atoms that can come next on the pieces of one of them."""
        room = {q for p in self.atoms[seed].qubits for q in self.piece[p].order}
        taken = self.absorbed(room, allowed)[0] if allowed(seed) else ()
        return _Candidate(kind, tuple(room), taken, self.gain(taken))

    def _grown(self, seed: int) -> _Candidate:
        def shared(i: int) -> bool:
            return not self.batched[i]

        window = set(self.atoms[seed].qubits)
        taken, at = self.absorbed(window, shared)
        best = _Candidate("block", tuple(sorted(window)), taken, self.gain(taken))
        while True:
            options = []
            for i in self._heads(window | self._beside(window), at):
                wider = window | set(self.atoms[i].qubits)
                if shared(i) and len(window) < len(wider) <= WIDEST:
                    more, ends = self.absorbed(wider, shared)
                    candidate = _Candidate("block", tuple(sorted(wider)), more, self.gain(more))
                    options.append((candidate.gain / self.cost(candidate), candidate.qubits, candidate, ends))
            if not options:
                return best
            _, _, candidate, at = max(options, key=lambda option: option[:2])
            window = set(candidate.qubits)
            if candidate.gain / self.cost(candidate) >= best.gain / self.cost(best):
                best = candidate

    def _beside(self, window: set[int]) -> set[int]:
        """Return the qubits next to the window's in their pieces."""
        neighbours = set()
        for q in window:
            order = self.piece[q].order
            at = order.index(q)
            neighbours.update(order[max(0, at - 1) : at + 2])
        return neighbours - window

    def cost(self, candidate: _Candidate) -> float:
        """Return about how many milliseconds a candidate takes, forward, on a batch of 64 (one core, complex64)."""
        parts = self._parts(candidate.qubits)
        calls = 0.06
        if candidate.kind == "block":
            size = 2 ** len(candidate.qubits)
            real = all(self.real[i] for i in candidate.atoms)
            passes = 0.1 + 0.007 * size if real else 0.13 + 0.012 * size
            calls += 8e-7 * size**3 * len(candidate.atoms)  # building the matrix
            if not self._adjacent(_joined(parts), candidate.qubits):
                passes += 0.07
        else:
            passes = {"permute": 0.07, "phase": 0.1, "rowwise": 0.8}[candidate.kind]
        return calls + passes * 2.0 ** (sum(len(part.order) for part in parts) - 11)

    @staticmethod
    def _adjacent(order: Sequence[int], window: Sequence[int]) -> bool:
        at = [order.index(q) for q in window]
        return max(at) - min(at) + 1 == len(at)

    def _parts(self, window: Sequence[int]) -> list[_Piece]:
        """Return the pieces a window touches, in the order that brings its qubits closest together."""

        def place(piece: _Piece) -> tuple[float, int]:
            inside = [i for i, q in enumerate(piece.order) if q in window]
            if len(inside) == len(piece.order):
                return 0.0, piece.name
            return (-1.0 if 2 * sum(inside) > len(inside) * (len(piece.order) - 1) else 1.0), piece.name

        return sorted({self.piece[q].name: self.piece[q] for q in window}.values(), key=place)

    def emit(self, candidate: _Candidate) -> None:
        """Append the steps of a candidate."""
        piece = self._join(candidate.qubits)
        name, width = piece.name, len(piece.order)
        self.amplitudes += 2 ** (width + (candidate.kind == "rowwise"))
        if candidate.kind == "block":
            if not self._adjacent(piece.order, candidate.qubits):
                self._regroup(piece, candidate.qubits)
            first = min(piece.order.index(q) for q in candidate.qubits)
            window = tuple(piece.order[first : first + len(candidate.qubits)])
            self.steps.append(DenseBlock(name, candidate.atoms, window, first, width - first - len(window)))
        axes = tuple(tuple(piece.order.index(q) for q in self.atoms[i].qubits) for i in candidate.atoms)
        if candidate.kind in ("phase", "rowwise"):
            self.steps.append(Phase(name, candidate.atoms, axes, width, candidate.kind == "rowwise"))
        elif candidate.kind == "permute":
            moves = [
                (self.image[i], tuple(width - 1 - axis for axis in on))
                for i, on in zip(candidate.atoms, axes, strict=True)
            ]
            self._permute(name, width, moves)
        for i in candidate.atoms:
            for q in self.atoms[i].qubits:
                self.at[q] += 1

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
        """Reorder a piece so that the window's qubits are neighbours."""
        old, width = list(piece.order), len(piece.order)
        first = min(old.index(q) for q in window)
        rest = [q for q in old if q not in window]
        piece.order = rest[:first] + [q for q in old if q in window] + rest[first:]
        bits = tuple(width - 1 - old.index(q) for q in reversed(piece.order))
        self._permute(piece.name, width, [(None, bits)])

    def _permute(self, name: int, width: int, moves: Sequence[Move]) -> None:
        last = self.steps[-1] if self.steps else None
        if isinstance(last, Permute) and last.piece == name:
            moves = [*last.moves, *moves]
            self.steps.pop()
        self.steps.append(Permute(name, tuple(moves), width))


def _joined(parts: Sequence[_Piece]) -> list[int]:
    return [q for part in parts for q in part.order]
