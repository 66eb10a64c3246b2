"""A student's circuit with a device's learned errors in it, so that every engine that takes a noise model takes them.

Coherent errors become rotations with a label of their own, to which no noise belongs; joint readout flips become
labelled identities at the end, behind which the noise model flips both qubits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.circuit.library import RZGate, RZZGate
from qiskit.quantum_info import SuperOp
from qiskit_aer.noise import NoiseModel, QuantumError, depolarizing_error, pauli_error

from qkd.circuits.student import StudentCircuit
from qkd.devices.learned import GateNoise, Learned
from qkd.devices.noise import noise_model
from qkd.devices.region import Region
from qkd.engines.noise import rebuilt

LABEL, TOGETHER = "coherent", "flipped-together"


@dataclass(frozen=True)
class Slot:
    """One angle in a circuit.

    key: what it belongs to: (gate, pair, term) or ("spectator", pair), in the device's numbers.
    layer: the layer of two-qubit gates in which it happens.
    qubits: the region's qubits that it acts on.
    """

    key: tuple[object, ...]
    layer: int
    qubits: tuple[int, ...]


@dataclass(frozen=True)
class Erring:
    """A student with errors whose angles are parameters.

    student: its weights are the student's, followed by one angle for each slot.
    slots: what the angles are, E of them.
    angles: their values (E,).
    model: the noise of everything else.
    """

    student: StudentCircuit
    slots: tuple[Slot, ...]
    angles: np.ndarray
    model: NoiseModel

    def fixed(self) -> StudentCircuit:
        """Return the student with the angles put in."""
        weights = self.student.weights[: len(self.student.weights) - len(self.slots)]
        added = self.student.weights[len(weights) :]
        circuit = self.student.circuit.assign_parameters(dict(zip(added, self.angles, strict=True)))
        return StudentCircuit(circuit, self.student.inputs, weights, self.student.observables, name=self.student.name)

    def averaged(self, model: NoiseModel) -> tuple[StudentCircuit, NoiseModel]:
        """Return the student in random Pauli frames, averaged: every angle a chance of its Pauli, and the noise model.

        In a frame the signs of angles are independent pair by pair, so each angle averages for itself; what three signs
        have in common is of third order in the angles.

        Args:
            model: the noise of everything else, which gets the chances.
        """
        circuit, number = self.student.circuit.copy_empty_like(), 0
        for item in self.student.circuit.data:
            if getattr(item.operation, "label", None) != LABEL:
                circuit.append(item.operation, item.qubits)
                continue
            on = [circuit.find_bit(qubit).index for qubit in item.qubits]
            label, chance = f"{LABEL}-{number}", float(np.sin(self.angles[number] / 2) ** 2)
            circuit.append(RZZGate(0.0, label=label) if len(on) == 2 else RZGate(0.0, label=label), on)
            flips = [("Z" * len(on), chance), ("I" * len(on), 1 - chance)]
            model.add_quantum_error(pauli_error(flips), label, on, warnings=False)
            number += 1
        weights = self.student.weights[: len(self.student.weights) - len(self.slots)]
        made = StudentCircuit(circuit, self.student.inputs, weights, self.student.observables, name=self.student.name)
        return made, model


def noisy(student: StudentCircuit, region: Region) -> tuple[StudentCircuit, NoiseModel]:
    """Return a student as its device runs it, and the noise model: the calibration's, and what was learned beside it.

    Args:
        student: on the region's indices.
        region: its qubits.
    """
    if region.snapshot.calibration.learned is None:
        return student, noise_model(region)
    found = erring(student, region)
    return found.fixed(), found.model


def erring(student: StudentCircuit, region: Region, learned: Learned | None = None) -> Erring:
    """Return a student with a parameter for each coherent error; see ``noisy``.

    Args:
        student: on the region's indices.
        region: its qubits.
        learned: the errors, instead of those of the region's calibration.
    """
    learned = learned or region.snapshot.calibration.learned or Learned("", "")
    old = student.circuit
    circuit = QuantumCircuit(student.num_qubits, global_phase=old.global_phase)
    slots: list[Slot] = []
    angles: list[float] = []
    depth, driven = [0] * student.num_qubits, dict[int, dict[int, int]]()

    def err(key: tuple[object, ...], layer: int, on: tuple[int, ...], angle: float) -> None:
        parameter = Parameter(f"error_{len(slots)}")
        circuit.append((RZZGate if len(on) == 2 else RZGate)(parameter, label=LABEL), on)
        slots.append(Slot(key, layer, on))
        angles.append(angle)

    for number, item in enumerate(old.data):
        on = tuple(old.find_bit(qubit).index for qubit in item.qubits)
        circuit.append(item.operation, on)
        if len(on) != 2 or item.operation.name == "barrier":
            continue
        layer = max(depth[on[0]], depth[on[1]])
        depth[on[0]] = depth[on[1]] = layer + 1
        place = tuple(region.qubits[i] for i in on)
        name = item.operation.name
        noise = learned.gates.get(name, {}).get(place)
        if noise is not None:
            err((name, place, "zz"), layer, on, noise.zz)
            err((name, place, "zi"), layer, on[:1], noise.zi)
            err((name, place, "iz"), layer, on[1:], noise.iz)
        here = driven.setdefault(layer, {})
        for pair, angle in learned.spectators.items():  # once the second of two neighbouring gates is done
            inside = [region.index.get(qubit, -1) for qubit in pair]
            new = [i for i in inside if i in on]
            other = [i for i in inside if i in here and i not in on]
            if len(new) == 1 and len(other) == 1:
                err(("spectator", pair), layer, (inside[0], inside[1]), angle)
        here |= dict.fromkeys(on, number)
    model = _stochastic(noise_model(region), learned, region)
    for pair, chance in learned.readout.items():
        if all(qubit in region.index for qubit in pair):
            inside = [region.index[qubit] for qubit in pair]
            circuit.append(RZZGate(0.0, label=TOGETHER), inside)
            model.add_quantum_error(pauli_error([("XX", chance), ("II", 1 - chance)]), TOGETHER, inside, warnings=False)
    added = [p for p in circuit.parameters if p not in set(old.parameters)]
    order = sorted(added, key=lambda one: int(one.name.removeprefix("error_")))
    made = StudentCircuit(circuit, student.inputs, (*student.weights, *order), student.observables, name=student.name)
    return Erring(made, tuple(slots), np.array(angles), model)


def _stochastic(noise: NoiseModel, learned: Learned, region: Region) -> NoiseModel:
    """Return a noise model with the depolarization that was learned in place of what the calibration says of a gate."""
    instead: dict[tuple[str, tuple[int, ...]], GateNoise] = {
        (name, tuple(region.index[q] for q in place)): one
        for name, places in learned.gates.items()
        for place, one in places.items()
        if all(q in region.index for q in place)
    }
    return rebuilt(noise, lambda name, on, error: _depolarization(instead.get((name, on)), error))


def _depolarization(noise: GateNoise | None, error: QuantumError) -> QuantumError:
    # depolarization of strength p has the average infidelity p (1 - 1/4)
    return error if noise is None else depolarizing_error(noise.stochastic * 4 / 3, 2)


def twirled(noise: NoiseModel) -> NoiseModel:
    """Return a noise model in which the errors of two-qubit gates are what random Pauli frames make of them."""
    return rebuilt(noise, lambda name, on, error: _pauli(error) if len(on) == 2 else error)


def _pauli(error: QuantumError) -> QuantumError:
    """Return the Pauli channel with the same diagonal of the chi matrix."""
    from qiskit.quantum_info import pauli_basis

    paulis = pauli_basis(error.num_qubits)
    kraus = SuperOp(error).data
    found = []
    d = 2**error.num_qubits
    for pauli in paulis:
        # <<P|S|P>> over vectorized operators of P (.) P^+ gives the chi diagonal
        matrix = pauli.to_matrix()
        found.append((pauli.to_label(), float(np.real(np.vdot(np.kron(matrix.conj(), matrix), kraus)) / d**2)))
    total = sum(max(0.0, p) for _, p in found)
    return pauli_error([(label, max(0.0, p) / total) for label, p in found])
