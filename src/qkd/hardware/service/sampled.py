"""A rehearsal from exact noisy values: the light-cone engine computes them, and qkd draws shots from them.

One text and Pauli term in one twirl is a number of shots with two outcomes, so their count is binomial with the exact
noisy mean. Readout twirls flip the sign of the readout's offset, which is drawn for each twirl. Gate twirls turn local
errors into Pauli channels, and the signs of coherent angles are drawn for every frame. So each term's estimate has the
distribution that IBM's client gives it. Correlations of terms that share shots are ignored; the client's rehearsal on
light cones ignores them too.
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
from qkd.engines.instructions import flattened_gates
from qkd.engines.noise import Noise, PlacedTerm
from qkd.engines.noise.aer import assignment, rebuilt
from qkd.hardware.mitigation import Mitigation
from qkd.hardware.mitigation.base import MIN_READOUT_SHOTS
from qkd.simulation.factory import MAX_SECONDS_PER_STEP, cost, work
from qkd.simulation.setup import device_noise

# Pauli frames that are computed; texts and twirls get one of their deviations at random.
FRAMES = 16
# Label of rotations that represent coherent errors.
LABEL = "coherent"
# A layer, a qubit, and which of X and Z is flipped there.
Bit = tuple[int, int, int]
_KINDS = {"X": (0,), "Z": (1,), "Y": (0, 1)}


def supports(student: StudentCircuit, region: Region, mitigation: Mitigation) -> bool:
    """Return whether shots can be drawn here: strings of Z, no learned layers, no pulses, and narrow light cones."""
    if mitigation.method.needs_layer_noise or mitigation.decoupling != "none":
        return False
    if not all(set(observable.paulis[0].to_label()) <= set("IZ") for observable in student.observables):
        return False
    try:
        cones = work(student, device_noise(region), 1)[0].get("lightcone")
    except QkdError:
        return False
    return cones is not None and cost("lightcone", cones) <= MAX_SECONDS_PER_STEP


def run(
    student: StudentCircuit, region: Region, values: np.ndarray, mitigation: Mitigation, seed: int
) -> dict[str, np.ndarray]:
    """Return the arrays of ``read_result``: evs and stds (T,N), and those of each noise factor (T,N,F) if several.

    Args:
        student: The circuit on the region's indices, with T observables of one string of Z each.
        values: Parameter values (N,A+P), inputs first.
    """
    random = np.random.default_rng(seed)
    twirls, shots = mitigation.twirls()
    method = mitigation.method
    factors = method.noise_factors
    law = _Distribution.from_region(student, region)
    scale = np.ones(len(student.observables))
    if method.learns_readout:
        scale = law.readout_factors(max(MIN_READOUT_SHOTS, twirls * shots), random)
    measured = []
    for factor in factors:
        means = law.means(values, factor, mitigation.gates_twirled, twirls, shots, random)
        measured.append(law.draw(means, twirls, shots, method.learns_readout, random))
    evs = np.stack([drawn[0] for drawn in measured], axis=-1) * scale[:, None, None]
    stds = np.stack([drawn[1] for drawn in measured], axis=-1) * np.abs(scale)[:, None, None]
    if len(factors) == 1:
        return {"evs": evs[..., 0], "stds": stds[..., 0]}
    return {"evs": evs[..., 0], "stds": stds[..., 0], "evs_factors": evs, "stds_factors": stds}


@dataclass(frozen=True)
class _Distribution:
    """The distribution of a circuit's shots.

    Attributes:
        student: The circuit.
        noise: Noise of the region without readout errors.
        supports: Qubits of each observable.
        parts: Strings of Z whose values are needed, as tuples of qubits.
        readout: Coefficients (a, b) of each qubit: a measured Z has the mean a <Z> + b.
    """

    student: StudentCircuit
    noise: Noise
    supports: list[tuple[int, ...]]
    parts: list[tuple[int, ...]]
    readout: list[tuple[float, float]]

    @classmethod
    def from_region(cls, student: StudentCircuit, region: Region) -> _Distribution:
        supports = [tuple(int(q) for q in np.flatnonzero(o.paulis[0].z)) for o in student.observables]
        parts = sorted({part for on in supports for part in _subsets(on) if part})
        noise = Noise.from_model(device_noise(region))
        if noise.model is None:
            raise QkdError(f"{region.snapshot.name} has no noise model to draw shots from")
        tables = [assignment(noise.model, q) for q in range(student.num_qubits)]
        means = [(float(p[0, 0] + p[1, 1] - 1), float(p[0, 0] - p[1, 1])) for p in tables]
        unread = replace(noise, model=rebuilt(noise.model, lambda name, on, error: error, readout=False))
        return cls(student, unread, supports, parts, means)

    def means(
        self, values: np.ndarray, factor: int, twirled: bool, twirls: int, shots: int, random: np.random.Generator
    ) -> np.ndarray:
        """Return the mean values (N,R,M) of each text and twirl before readout; R is 1 if all twirls have the same.

        A frame's value is the exact mean over all frames plus the frame's deviation. With one shot in a frame only the
        mean matters.
        """
        n = self.student.num_qubits
        small = self.student.with_circuit(
            fold_gates(self.student.circuit, factor),
            [SparsePauliOp.from_sparse_list([("Z" * len(on), on, 1.0)], n) for on in self.parts],
        )
        if not twirled:
            return _evaluated(small, self.noise, values)
        average = self.noise.twirled()
        framed = _Framed.from_noise(small, self.noise, factor)
        frames = None
        if len(framed.angles) and (factor > 1 or shots > 1):
            rest = self.noise.incoherent().twirled()
            frames = _evaluated(framed.student, rest, values, framed.draw(FRAMES, random))
        if factor > 1 and frames is not None:  # all foldings of a gate are in the same frame
            mean = frames.mean(axis=1, keepdims=True)
        else:
            mean = _evaluated(small, average, values)
        if shots == 1 or frames is None:
            return mean
        off = frames - frames.mean(axis=1, keepdims=True)
        chosen = random.integers(FRAMES, size=(len(values), twirls))
        grown = (FRAMES / (FRAMES - 1)) ** 0.5  # the frames' own mean was subtracted
        return mean + grown * np.take_along_axis(off, chosen[:, :, None], axis=1)

    def draw(
        self, means: np.ndarray, twirls: int, shots: int, flipped: bool, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return expectation values and their standard errors (T,N), as the client computes them from twirls."""
        count = len(means)
        index = {part: i for i, part in enumerate(self.parts)}
        signs = random.choice([-1.0, 1.0], (count, twirls, self.student.num_qubits)) if flipped else None
        evs, stds = np.zeros((2, len(self.supports), count))
        for k, on in enumerate(self.supports):
            seen = np.zeros((count, twirls))
            for part in _subsets(on):
                term = np.ones((count, twirls)) if not part else np.broadcast_to(means[:, :, index[part]], seen.shape)
                for qubit in on:
                    a, b = self.readout[qubit]
                    offset = b if signs is None else b * signs[:, :, qubit]
                    term = term * (a if qubit in part else offset)
                seen = seen + term
            got = 2 * random.binomial(shots, ((1 + seen) / 2).clip(0, 1)) / shots - 1
            evs[k] = got.mean(axis=1)
            if twirls == 1:
                stds[k] = np.sqrt((1 - got[:, 0] ** 2) / shots)
            else:
                stds[k] = got.std(axis=1) / math.sqrt(twirls)
        return evs, stds

    def readout_factors(self, shots: int, random: np.random.Generator) -> np.ndarray:
        """Return the factors (T,) that a job's readout calibration gives, as the client computes them."""
        flips = np.array([(1 - a) / 2 for a, _ in self.readout])
        for on, chance in self.noise.flips:
            for qubit in on:
                flips[qubit] = flips[qubit] * (1 - chance) + (1 - flips[qubit]) * chance
        rates = random.binomial(shots, flips) / shots
        return np.array([math.exp(2 * rates[list(on)].sum()) for on in self.supports])


def _evaluated(
    student: StudentCircuit, noise: Noise, values: np.ndarray, angles: np.ndarray | None = None
) -> np.ndarray:
    """Return exact values (N,R,M) at parameter values (N,A+P) and R rows of further weights (R,E); R is 1 if none."""
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


def fold_gates(circuit: QuantumCircuit, factor: int) -> QuantumCircuit:
    """Return a circuit in which every two-qubit gate is folded into ``factor`` gates: itself, its inverse, itself..."""
    made = circuit.copy_empty_like()
    for item in circuit.data:
        made.append(item.operation, item.qubits)
        if len(item.qubits) == 2 and item.operation.name != "barrier":
            for i in range(factor - 1):
                made.append(item.operation.inverse() if i % 2 == 0 else item.operation, item.qubits)
    return made


@dataclass(frozen=True)
class _Framed:
    """A circuit whose coherent errors after two-qubit gates are rotations of their own, with a sign in each frame.

    Attributes:
        student: The circuit; its weights are the student's, then E angles.
        angles: Angles (E,) in the trivial frame, in radians.
        signs: Bits of a frame that decide each angle's sign; none for angles after one-qubit gates.
    """

    student: StudentCircuit
    angles: np.ndarray
    signs: list[list[Bit]]

    @classmethod
    def from_noise(cls, student: StudentCircuit, noise: Noise, factor: int) -> _Framed:
        """Return a folded circuit with the coherent terms of its noise inserted.

        A frame encloses all foldings of a gate. After every other one the gate has changed it: the same bits decide for
        cz, other bits for ecr.
        """
        old = student.circuit
        made = QuantumCircuit(student.num_qubits, global_phase=old.global_phase)
        angles, signs, added = list[float](), list[list[Bit]](), list[Parameter]()
        depth = [0] * student.num_qubits
        alternates = any(item.operation.name in ("ecr", "cx") for item in old.data)
        for leaf, behind in noise.placed(flattened_gates(old, noise.names)):
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


def _rotate(circuit: QuantumCircuit, term: PlacedTerm, angle: Parameter) -> None:
    """Append ``exp(-i angle/2 P)``; its gates have a label, for which the noise model has no error."""
    turns = {"X": HGate(LABEL), "Y": RXGate(math.pi / 2, LABEL)}
    turned = [(turns[letter], qubit) for qubit, letter in zip(term.qubits, term.letters, strict=True) if letter != "Z"]
    for gate, qubit in turned:
        circuit.append(gate, [qubit])
    circuit.append((RZZGate if len(term.qubits) == 2 else RZGate)(angle, label=LABEL), term.qubits)
    for gate, qubit in turned:
        circuit.append(HGate(LABEL) if gate.name == "h" else RXGate(-math.pi / 2, LABEL), [qubit])


def _subsets(on: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(q for i, q in enumerate(on) if bits >> i & 1) for bits in range(2 ** len(on))]
