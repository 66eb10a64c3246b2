"""A rehearsal from exact noisy values: the light-cone engine computes them, and shots are drawn from them.

What IBM's client would see of one text and observable in one twirl is a number of shots with two outcomes, so their
count is binomial with the exact noisy mean. Readout twirls flip the sign of the readout's offset, drawn for each of
them; gate twirls turn local errors into Pauli channels, and the signs of coherent angles are drawn for every frame. So
each observable's estimate has the client's law; that observables share shots, which the client's rehearsal on light
cones leaves out too, is not in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.noise import NoiseModel

from qkd.circuits.student import StudentCircuit
from qkd.devices.region import Region
from qkd.engines import LightConeEstimator
from qkd.engines.noise import assignment, rebuilt
from qkd.errors import QkdError
from qkd.hardware.mitigation import FACTORS, TREX_SHOTS, Mitigation
from qkd.simulation.choice import choose
from qkd.simulation.coherent import Erring, erring, twirled

FRAMES = 16
"""Pauli frames that are computed; what they differ by is dealt out to texts and twirls at random."""
Terms = list[tuple[tuple[int, ...], float]]


def samples(student: StudentCircuit, region: Region, mitigation: Mitigation) -> bool:
    """Whether a run's law is known here: single Pauli strings, readout, twirls, foldings, and narrow light cones."""
    if mitigation.name in ("pea", "pec") or mitigation.decoupling != "none":
        return False
    if not all(len(one) == 1 and set(one.paulis[0].to_label()) <= set("IZ") for one in student.observables):
        return False
    found = erring(student, region)
    try:
        return choose(found.student, found.model, 2)[0] == "lightcone"
    except QkdError:
        return False


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
    evs = np.stack([one[0] for one in measured], axis=-1) * scale[:, None, None]
    stds = np.stack([one[1] for one in measured], axis=-1) * np.abs(scale)[:, None, None]
    if len(factors) == 1:
        return {"evs": evs[..., 0], "stds": stds[..., 0]}
    return {"evs": evs[..., 0], "stds": stds[..., 0], "evs_factors": evs, "stds_factors": stds}


@dataclass(frozen=True)
class _Law:
    """What is needed to draw a student's shots.

    student, region: where it runs.
    supports: for each observable its qubits and coefficient.
    parts: the strings of Zs whose values are needed, as tuples of qubits.
    readout: for each qubit (a, b): a measured Z has the mean a <Z> + b.
    """

    student: StudentCircuit
    region: Region
    supports: Terms
    parts: list[tuple[int, ...]]
    readout: list[tuple[float, float]]
    together: list[tuple[tuple[int, ...], float]]

    @classmethod
    def of(cls, student: StudentCircuit, region: Region) -> _Law:
        supports = []
        for one in student.observables:
            on = tuple(int(q) for q in np.flatnonzero(one.paulis[0].z))
            supports.append((on, float(one.coeffs[0].real)))
        parts = sorted({part for on, _ in supports for part in _subsets(on) if part})
        model = erring(student, region).model
        learned = region.snapshot.calibration.learned
        flips = {} if learned is None else learned.readout
        together = [
            (tuple(region.index[q] for q in pair), chance)
            for pair, chance in flips.items()
            if all(q in region.index for q in pair)
        ]
        tables = [assignment(model, q) for q in range(student.num_qubits)]
        means = [(float(one[0, 0] + one[1, 1] - 1), float(one[0, 0] - one[1, 1])) for one in tables]
        return cls(student, region, supports, parts, means, together)

    def means(
        self, values: np.ndarray, factor: int, twirled_: bool, twirls: int, shots: int, random: np.random.Generator
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
        found = erring(small, self.region)
        if not twirled_:
            return _evaluated(found.student, found.model, values, found.angles[None])
        if not len(found.slots):
            return _evaluated(found.student, twirled(found.model), values, found.angles[None])
        frames = None
        if factor > 1 or shots > 1:
            angles = _frames(found, FRAMES, factor, small.circuit, random)
            frames = _evaluated(found.student, twirled(found.model), values, angles)
        if factor > 1 and frames is not None:  # a frame is the same for all foldings of a gate
            mean = frames.mean(axis=1, keepdims=True)
        else:
            mean = _evaluated(*found.averaged(twirled(found.model)), values, np.zeros((1, 0)))
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
        for on, chance in self.together:
            for qubit in on:
                flips[qubit] = flips[qubit] * (1 - chance) + (1 - flips[qubit]) * chance
        rates = random.binomial(shots, flips) / shots
        return np.array([math.exp(2 * rates[list(on)].sum()) for on, _ in self.supports])


def _evaluated(student: StudentCircuit, model: NoiseModel, values: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return exact values (N,R,M), readout apart, at parameter values (N,A+P) and each row of angles (R,E)."""
    program = LightConeEstimator(rebuilt(model, lambda name, on, error: error, readout=False), dtype="float64").compile(
        student.circuit, student.observables, student.inputs, student.weights
    )
    count = len(student.inputs)
    inputs, weights = torch.from_numpy(np.ascontiguousarray(values[:, :count])), values[0, count:]
    with torch.no_grad():
        rows = [program(inputs, torch.from_numpy(np.concatenate([weights, row]))).numpy() for row in angles]
    return np.stack(rows, axis=1)


def folded(circuit: QuantumCircuit, factor: int) -> QuantumCircuit:
    """Return a circuit with every two-qubit gate followed by its inverse and itself, ``factor`` gates in all."""
    made = circuit.copy_empty_like()
    for item in circuit.data:
        made.append(item.operation, item.qubits)
        if len(item.qubits) == 2 and item.operation.name != "barrier":
            for i in range(factor - 1):
                made.append(item.operation.inverse() if i % 2 == 0 else item.operation, item.qubits)
    return made


def _frames(found: Erring, count: int, factor: int, circuit: QuantumCircuit, random: np.random.Generator) -> np.ndarray:
    """Return the angles (count,E) in random frames. A frame goes around all foldings of a gate.

    Behind every other one it is what the gate makes of it: the same bits decide for cz, other bits for ecr.
    """
    alternates = any(item.operation.name == "ecr" for item in circuit.data)
    layers = [slot.layer // factor * 2 + (slot.layer % factor % 2 if alternates else 0) for slot in found.slots]
    signs = random.choice([-1.0, 1.0], (count, 1 + max(layers), found.student.num_qubits))
    flips = [signs[:, layer, list(slot.qubits)].prod(axis=1) for layer, slot in zip(layers, found.slots, strict=True)]
    return found.angles * np.stack(flips, axis=1)


def _subsets(on: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(q for i, q in enumerate(on) if bits >> i & 1) for bits in range(2 ** len(on))]
