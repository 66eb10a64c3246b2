"""A rehearsal from exact noisy values: the light-cone engine computes them, and shots are drawn from them.

What IBM's client would see of one text and observable in one twirl is a number of shots with two outcomes, so their
count is binomial with the exact noisy mean. Readout twirls flip the sign of the readout's offset, drawn for each of
them; gate twirls turn local errors into Pauli channels, and the signs of coherent angles are drawn for every frame. So
each observable's estimate has the client's law; that observables share shots, which the client's rehearsal on light
cones leaves out too, is not in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.circuit.library import HGate, RXGate, RZGate, RZZGate
from qiskit.quantum_info import SparsePauliOp

from qkd.circuits.student import StudentCircuit
from qkd.core.errors import QkdError
from qkd.devices.region import Region
from qkd.engines import LightConeEstimator
from qkd.engines.instructions import leaves
from qkd.engines.noise import Noise, Placed, assignment, rebuilt
from qkd.hardware.mitigation import FACTORS, TREX_SHOTS, Mitigation
from qkd.simulation.choice import MAX_SECONDS_PER_STEP, cost, work
from qkd.simulation.noise import device_noise

FRAMES = 16
"""Pauli frames that are computed; what they differ by is dealt out to texts and twirls at random."""
LABEL = "coherent"
"""Of rotations that stand for coherent errors."""
Terms = list[tuple[tuple[int, ...], float]]
Bit = tuple[int, int, int]
"""A layer, a qubit, and which of X and Z it flips there."""
_KINDS = {"X": (0,), "Z": (1,), "Y": (0, 1)}


def samples(student: StudentCircuit, region: Region, mitigation: Mitigation) -> bool:
    """Whether a run's law is known here: single Pauli strings, readout, twirls, foldings, and narrow light cones."""
    if mitigation.name in ("pea", "pec") or mitigation.decoupling != "none":
        return False
    if not all(
        len(observable) == 1 and set(observable.paulis[0].to_label()) <= set("IZ") for observable in student.observables
    ):
        return False
    try:
        cones = work(student, device_noise(region), 1)[0].get("lightcone")
    except QkdError:
        return False
    return cones is not None and cost("lightcone", cones) <= MAX_SECONDS_PER_STEP


def run(
    student: StudentCircuit, region: Region, values: np.ndarray, mitigation: Mitigation, seed: int
) -> dict[str, np.ndarray]:
    """Return what a job would measure: ``evs``, ``stds`` (K,N); of ``zne`` also the ``_factors`` (K,N,F) of both.

    Args:
        student: on the region's indices, observables of one Pauli string each.
        region: its qubits.
        values: (N,A+P), inputs first.
        mitigation: what is done against errors.
        seed: of shots, twirls and frames.
    """
    random = np.random.default_rng(seed)
    twirls, shots = mitigation.twirls()
    factors = FACTORS if mitigation.name == "zne" else (1,)
    law = _Law.of(student, region)
    scale = law.trex(max(TREX_SHOTS, twirls * shots), random) if mitigation.trex else np.ones(len(student.observables))
    measured = []
    for factor in factors:
        means = law.means(values, factor, mitigation.gates_twirled, twirls, shots, random)
        measured.append(law.draw(means, twirls, shots, mitigation.readout_twirled, random))
    evs = np.stack([drawn[0] for drawn in measured], axis=-1) * scale[:, None, None]
    stds = np.stack([drawn[1] for drawn in measured], axis=-1) * np.abs(scale)[:, None, None]
    if len(factors) == 1:
        return {"evs": evs[..., 0], "stds": stds[..., 0]}
    return {"evs": evs[..., 0], "stds": stds[..., 0], "evs_factors": evs, "stds_factors": stds}


@dataclass(frozen=True)
class _Law:
    """What is needed to draw a student's shots.

    student: where it runs.
    noise: of the region, readout apart.
    supports: for each observable its qubits and coefficient.
    parts: the strings of Zs whose values are needed, as tuples of qubits.
    readout: for each qubit (a, b): a measured Z has the mean a <Z> + b.
    """

    student: StudentCircuit
    noise: Noise
    supports: Terms
    parts: list[tuple[int, ...]]
    readout: list[tuple[float, float]]

    @classmethod
    def of(cls, student: StudentCircuit, region: Region) -> _Law:
        supports = []
        for observable in student.observables:
            on = tuple(int(q) for q in np.flatnonzero(observable.paulis[0].z))
            supports.append((on, float(observable.coeffs[0].real)))
        parts = sorted({part for on, _ in supports for part in _subsets(on) if part})
        noise = Noise.from_model(device_noise(region))
        assert noise.model is not None
        tables = [assignment(noise.model, q) for q in range(student.num_qubits)]
        means = [(float(p[0, 0] + p[1, 1] - 1), float(p[0, 0] - p[1, 1])) for p in tables]
        unread = replace(noise, model=rebuilt(noise.model, lambda name, on, error: error, readout=False))
        return cls(student, unread, supports, parts, means)

    def means(
        self, values: np.ndarray, factor: int, twirled: bool, twirls: int, shots: int, random: np.random.Generator
    ) -> np.ndarray:
        """Return what each twirl of each text means (N,R,M) before readout; R is 1 where twirls need not differ.

        A frame's mean is the exact mean over all frames, and what a frame differs from it by. Where a frame has one
        shot only the mean matters.
        """
        n = self.student.num_qubits
        small = self.student.with_circuit(
            folded(self.student.circuit, factor),
            [SparsePauliOp.from_sparse_list([("Z" * len(on), on, 1.0)], n) for on in self.parts],
        )
        if not twirled:
            return _evaluated(small, self.noise, values)
        average = self.noise.twirled()
        framed = _Framed.of(small, self.noise, factor)
        frames = None
        if len(framed.angles) and (factor > 1 or shots > 1):
            rest = self.noise.incoherent().twirled()
            frames = _evaluated(framed.student, rest, values, framed.draw(FRAMES, random))
        if factor > 1 and frames is not None:  # a frame is the same for all foldings of a gate
            mean = frames.mean(axis=1, keepdims=True)
        else:
            mean = _evaluated(small, average, values)
        if shots == 1 or frames is None:
            return mean
        off = frames - frames.mean(axis=1, keepdims=True)
        chosen = random.integers(FRAMES, size=(len(values), twirls))
        grown = (FRAMES / (FRAMES - 1)) ** 0.5  # what the frames' own mean took
        return mean + grown * np.take_along_axis(off, chosen[:, :, None], axis=1)

    def draw(
        self, means: np.ndarray, twirls: int, shots: int, flipped: bool, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return expectation values and their standard errors (K,N), as the client computes them from twirls."""
        count = len(means)
        index = {part: i for i, part in enumerate(self.parts)}
        signs = random.choice([-1.0, 1.0], (count, twirls, self.student.num_qubits)) if flipped else None
        evs, stds = np.zeros((2, len(self.supports), count))
        for k, (on, coefficient) in enumerate(self.supports):
            seen = np.zeros((count, twirls))
            for part in _subsets(on):
                term = np.ones((count, twirls)) if not part else np.broadcast_to(means[:, :, index[part]], seen.shape)
                for qubit in on:
                    a, b = self.readout[qubit]
                    offset = b if signs is None else b * signs[:, :, qubit]
                    term = term * (a if qubit in part else offset)
                seen = seen + term
            got = 2 * random.binomial(shots, ((1 + seen) / 2).clip(0, 1)) / shots - 1
            evs[k] = coefficient * got.mean(axis=1)
            if twirls == 1:
                stds[k] = np.abs(coefficient) * np.sqrt((1 - got[:, 0] ** 2) / shots)
            else:
                stds[k] = np.abs(coefficient) * got.std(axis=1) / math.sqrt(twirls)
        return evs, stds

    def trex(self, shots: int, random: np.random.Generator) -> np.ndarray:
        """Return the factors (K,) that a job's readout calibration would find, as the client computes them."""
        flips = np.array([(1 - a) / 2 for a, _ in self.readout])
        for on, chance in self.noise.flips:
            for qubit in on:
                flips[qubit] = flips[qubit] * (1 - chance) + (1 - flips[qubit]) * chance
        rates = random.binomial(shots, flips) / shots
        return np.array([math.exp(2 * rates[list(on)].sum()) for on, _ in self.supports])


def _evaluated(
    student: StudentCircuit, noise: Noise, values: np.ndarray, angles: np.ndarray | None = None
) -> np.ndarray:
    """Return exact values (N,R,M) at parameter values (N,A+P) and rows of further weights (R,E); R is 1 for none."""
    program = LightConeEstimator(noise, dtype="float64").compile(
        student.circuit, student.observables, student.inputs, student.weights
    )
    count, further = len(student.inputs), np.zeros((1, 0)) if angles is None else angles
    evs = np.zeros((len(values), len(further), len(student.observables)))
    for weights in np.unique(values[:, count:], axis=0):
        rows = (values[:, count:] == weights).all(axis=1)
        inputs = torch.from_numpy(np.ascontiguousarray(values[rows, :count]))
        with torch.no_grad():
            for number, row in enumerate(further):
                evs[rows, number] = program(inputs, torch.from_numpy(np.concatenate([weights, row]))).numpy()
    return evs


def folded(circuit: QuantumCircuit, factor: int) -> QuantumCircuit:
    """Return a circuit with every two-qubit gate followed by its inverse and itself, ``factor`` gates in all."""
    made = circuit.copy_empty_like()
    for item in circuit.data:
        made.append(item.operation, item.qubits)
        if len(item.qubits) == 2 and item.operation.name != "barrier":
            for i in range(factor - 1):
                made.append(item.operation.inverse() if i % 2 == 0 else item.operation, item.qubits)
    return made


@dataclass(frozen=True)
class _Framed:
    """A student whose coherent errors behind two-qubit gates are rotations of their own, with a sign in each frame.

    student: its weights are the student's, followed by E angles.
    angles: (E,) in the frame of all plus.
    signs: the bits of a frame that decide on each angle's sign; none for those behind one-qubit gates.
    """

    student: StudentCircuit
    angles: np.ndarray
    signs: list[list[Bit]]

    @classmethod
    def of(cls, student: StudentCircuit, noise: Noise, factor: int) -> _Framed:
        """Return a folded student with the coherent terms of its noise put in.

        A frame goes around all foldings of a gate. Behind every other one it is what the gate makes of it: the same
        bits decide for cz, other bits for ecr.
        """
        old = student.circuit
        made = QuantumCircuit(student.num_qubits, global_phase=old.global_phase)
        angles, signs, added = list[float](), list[list[Bit]](), list[Parameter]()
        depth = [0] * student.num_qubits
        alternates = any(item.operation.name in ("ecr", "cx") for item in old.data)
        for leaf, behind in noise.placed(leaves(old, noise.names)):
            if leaf.operation is not None:
                made.append(leaf.operation, leaf.qubits)
            if len(leaf.qubits) == 2:
                depth[leaf.qubits[0]] = depth[leaf.qubits[1]] = 1 + max(depth[q] for q in leaf.qubits)
            for term in behind:
                if not term.coherent:
                    continue
                added.append(Parameter(f"error_{len(added)}"))
                _rotate(made, term, added[-1])
                layer = max(depth[q] for q in term.qubits) - 1
                number = layer // factor * 2 + (layer % factor % 2 if alternates else 0)
                angles.append(float(term.amount))
                letters = zip(term.qubits, term.letters, strict=True) if len(leaf.qubits) == 2 else ()
                signs.append([(number, q, kind) for q, letter in letters for kind in _KINDS[letter]])
        weights = (*student.weights, *added)
        circuit = StudentCircuit(made, student.inputs, weights, student.observables, name=student.name)
        return cls(circuit, np.array(angles), signs)

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return the angles (count,E) in random frames."""
        layers = 1 + max((layer for bits in self.signs for layer, _, _ in bits), default=0)
        drawn = random.choice([-1.0, 1.0], (count, layers, self.student.num_qubits, 2))
        signs = [drawn[:, *np.array(bits, dtype=int).reshape(-1, 3).T].prod(axis=1) for bits in self.signs]
        return self.angles * np.stack(signs, axis=1)


def _rotate(circuit: QuantumCircuit, term: Placed, angle: Parameter) -> None:
    """Append ``exp(-i angle/2 P)``; its gates have a label, to which no noise belongs."""
    turns = {"X": HGate(LABEL), "Y": RXGate(math.pi / 2, LABEL)}
    turned = [(turns[letter], qubit) for qubit, letter in zip(term.qubits, term.letters, strict=True) if letter != "Z"]
    for gate, qubit in turned:
        circuit.append(gate, [qubit])
    circuit.append((RZZGate if len(term.qubits) == 2 else RZGate)(angle, label=LABEL), term.qubits)
    for gate, qubit in turned:
        circuit.append(HGate(LABEL) if gate.name == "h" else RXGate(-math.pi / 2, LABEL), [qubit])


def _subsets(on: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(q for i, q in enumerate(on) if bits >> i & 1) for bits in range(2 ** len(on))]
