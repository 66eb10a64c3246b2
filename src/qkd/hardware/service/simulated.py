"""A device run without the device: IBM's client-side Estimator on AerSimulator, one light cone at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qkd.circuits.cone import cut, past, support
from qkd.circuits.student import StudentCircuit
from qkd.core.console import Progress
from qkd.core.errors import CircuitError, DeviceError
from qkd.core.workers import parallel_map
from qkd.devices.calibration import UNMEASURED, Operation, Place
from qkd.devices.region import Region, noise_model
from qkd.hardware.mitigation import Mitigation
from qkd.hardware.mitigation.client import make_pub, printed_warnings, read_result
from qkd.hardware.mitigation.learned import Layers, calibrated_layers, find_layers

# A density matrix of 12 qubits has 4^12 numbers.
MAX_CONE_QUBITS = 12
TEXTS_PER_TASK = 13
# Gates of two pulses; every other one-qubit gate is one pulse.
TWO_PULSES = ("u3", "u", "r", "ry")

# A circuit, its qubits and the indices of its observables.
Piece = tuple[StudentCircuit, Region, list[int]]


def pieces(student: StudentCircuit, region: Region) -> list[Piece]:
    """Return the circuits to simulate: light cones with their observables' indices, or the whole circuit.

    Aer's noise is local, so a light cone has the expectation value of the whole circuit.

    Args:
        student: The circuit, on the region's indices.
    """
    cones: dict[tuple[int, ...], list[int]] = {}
    for k, observable in enumerate(student.observables):
        cones.setdefault(past(student.circuit, support([observable]))[0] or (0,), []).append(k)
    if sum(4 ** len(cone) for cone in cones) >= 4**student.num_qubits:
        cones = {tuple(range(student.num_qubits)): list(range(len(student.observables)))}
    widest = max(map(len, cones))
    if widest > MAX_CONE_QUBITS:
        raise CircuitError(
            f"circuit '{student.name}' has a light cone of {widest} qubits, and noisy simulation takes at most "
            f"{MAX_CONE_QUBITS}; use fewer --layers or --qubits"
        )
    # The widest cones come first, so that no process works alone at the end.
    ordered = sorted(cones.items(), key=lambda cone: -len(cone[0]))
    return [_piece(student, region, cone, ks) for cone, ks in ordered]


def _piece(student: StudentCircuit, region: Region, cone: Sequence[int], ks: list[int]) -> Piece:
    if len(cone) == student.num_qubits:
        return student, region, ks
    return cut(student, ks), Region(region.snapshot, tuple(region.qubits[i] for i in cone), region.fractional), ks


def estimator(piece: Piece, mitigation: Mitigation, seed: int) -> Any:
    """Return the client's Estimator on a simulator of a piece's qubits, with its layers' noise if it needs that."""
    from qiskit_aer import AerSimulator
    from qiskit_ibm_runtime.executor_estimator import Estimator

    region = with_client_gates(piece[1])
    backend = AerSimulator.from_backend(region.backend, method="density_matrix", max_parallel_threads=1)
    client = Estimator(mode=backend, options=mitigation.options(seed=seed))
    if mitigation.method.needs_layer_noise:
        client.options = mitigation.options(layer_noise(piece, client), seed=seed)
    return client


def with_client_gates(region: Region) -> Region:
    """Return a region with the gates ``rz`` and ``sx``, in which the client writes its one-qubit gates.

    Aer refuses gates that a device lacks, or simulates them without noise. ``rz`` has no error. ``sx`` is one
    pulse: its error is the largest one of a one-qubit gate on its qubit, halved for gates of two pulses.
    """
    snapshot = region.snapshot
    gates = snapshot.calibration.gates
    pulses: dict[Place, Operation] = {}
    for name, places in gates.items():
        count = 2 if name in TWO_PULSES else 1
        for place, done in places.items() if name not in UNMEASURED else ():
            if len(place) == 1 and (place not in pulses or (done.error or 0) / count > (pulses[place].error or 0)):
                share = (None if value is None else value / count for value in (done.error, done.duration))
                pulses[place] = Operation(*share)
    added = {"rz": dict.fromkeys(pulses, Operation(0.0, 0.0)), "sx": pulses}
    known = {name: places | gates.get(name, {}) for name, places in added.items()}
    return replace(region, snapshot=replace(snapshot, calibration=replace(snapshot.calibration, gates=gates | known)))


def layer_noise(piece: Piece, estimator: Any) -> Layers:
    """Return the layers of a piece with the noise that the calibration gives them."""
    student, region, _ = piece
    return calibrated_layers(find_layers(estimator, student), student, noise_model(region))


def run(
    student: StudentCircuit,
    region: Region,
    values: np.ndarray,
    mitigation: Mitigation,
    seed: int,
    bar: Progress,
    processes: int | None = None,
) -> dict[str, np.ndarray]:
    """Return the arrays of ``read_result`` at parameter values.

    Args:
        student: The circuit with T observables, on the region's indices.
        values: Parameter values (N,A+P), inputs first.
        seed: Seed of shots and twirls; results do not depend on the number of processes.
        bar: Progress, advanced by a text's share for each piece.
        processes: Number of processes; None takes all cores.
    """
    parts = pieces(student, region)
    tasks = [
        (
            part,
            mitigation,
            _columns(student, part[0], values[start : start + TEXTS_PER_TASK]),
            seed + 7919 * start + number,
        )
        for start in range(0, len(values), TEXTS_PER_TASK)
        for number, part in enumerate(parts)
    ]
    places = [(start, part[2]) for start in range(0, len(values), TEXTS_PER_TASK) for part in parts]
    whole: dict[str, np.ndarray] = {}
    for (start, ks), arrays in zip(places, parallel_map(_one, tasks, processes), strict=True):
        for name, part in arrays.items():
            shape = (len(student.observables), len(values), *part.shape[2:])
            whole.setdefault(name, np.zeros(shape))[ks, start : start + part.shape[1]] = part
        bar.advance(arrays["evs"].shape[1] / len(parts))
    return whole


def _columns(student: StudentCircuit, part: StudentCircuit, values: np.ndarray) -> np.ndarray:
    """Return the columns of parameter values (N,A+P) that occur in a part of the circuit."""
    order = {parameter: i for i, parameter in enumerate(student.parameters)}
    return values[:, [order[parameter] for parameter in part.parameters]]


def _one(piece: Piece, mitigation: Mitigation, values: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    try:
        with printed_warnings():
            return read_result(estimator(piece, mitigation, seed).run([make_pub(piece[0], values)]).result()[0].data)
    except (AttributeError, TypeError, ValueError) as error:  # about gates that its twirls do not support
        raise DeviceError(
            f"IBM's client cannot rehearse {mitigation.name} with the gates {', '.join(piece[0].circuit.count_ops())} "
            f"({type(error).__name__}: {error}); use mitigation none or affine"
        ) from error
