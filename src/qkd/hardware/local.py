"""A device run without the device: the client's own Estimator on AerSimulator, one light cone at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from qkd.circuits.cone import cut, past, support
from qkd.circuits.student import StudentCircuit
from qkd.core.console import Progress
from qkd.core.errors import CircuitError
from qkd.core.workers import parallel_map
from qkd.devices.noise import noise_model
from qkd.devices.region import Region
from qkd.hardware.mitigation import Layers, Mitigation, layers_of, noise_of_layers, pub, raw

WIDEST = 12
"""Qubits up to which a noisy circuit is simulated: a density matrix of 4^12 numbers."""
TEXTS = 13
"""Texts of one piece of work."""

Piece = tuple[StudentCircuit, Region, list[int]]


def pieces(student: StudentCircuit, region: Region) -> list[Piece]:
    """Return the circuits that are simulated: light cones with their observables' numbers, or the whole.

    Aer's noise is local, so a light cone has the expectation value that the whole circuit has.

    Args:
        student: on the region's indices.
        region: its qubits.

    Raises:
        QkdError: none of it can be simulated.
    """
    cones: dict[tuple[int, ...], list[int]] = {}
    for k, observable in enumerate(student.observables):
        cones.setdefault(past(student.circuit, support([observable]))[0] or (0,), []).append(k)
    if sum(4 ** len(cone) for cone in cones) >= 4**student.num_qubits:
        cones = {tuple(range(student.num_qubits)): list(range(len(student.observables)))}
    widest = max(map(len, cones))
    if widest > WIDEST:
        raise CircuitError(
            f"circuit '{student.name}' has a light cone of {widest} qubits; with noise no more than {WIDEST} are "
            "simulated, so take fewer --layers or --qubits"
        )
    # the widest first, so that no process is left alone with one at the end
    ordered = sorted(cones.items(), key=lambda cone: -len(cone[0]))
    return [_piece(student, region, cone, ks) for cone, ks in ordered]


def _piece(student: StudentCircuit, region: Region, cone: Sequence[int], ks: list[int]) -> Piece:
    if len(cone) == student.num_qubits:
        return student, region, ks
    return cut(student, ks), Region(region.snapshot, tuple(region.qubits[i] for i in cone), region.fractional), ks


def estimator(piece: Piece, mitigation: Mitigation, seed: int) -> Any:
    """Return the client's Estimator on a simulator of the piece's qubits, and its layers' noise if it needs that."""
    from qiskit_aer import AerSimulator
    from qiskit_ibm_runtime.executor_estimator import Estimator

    region = piece[1]
    backend = AerSimulator.from_backend(region.backend, method="density_matrix", max_parallel_threads=1)
    made = Estimator(mode=backend, options=mitigation.options(seed=seed))
    if mitigation.learned:
        made.options = mitigation.options(layer_noise(piece, made), seed=seed)
    return made


def layer_noise(piece: Piece, estimator: Any) -> Layers:
    """Return the layers of a piece with the noise that its calibration says they have."""
    student, region, _ = piece
    return noise_of_layers(layers_of(estimator, student), student, noise_model(region))


def run(
    student: StudentCircuit,
    region: Region,
    values: np.ndarray,
    mitigation: Mitigation,
    seed: int,
    bar: Progress,
    processes: int | None = None,
) -> dict[str, np.ndarray]:
    """Return what ``raw`` keeps of expectation values at parameter values (N,A+P).

    Args:
        student: on the region's indices.
        region: its qubits.
        values: inputs first, weights last.
        mitigation: what is done against errors.
        seed: of shots and twirls; the number of processes changes nothing.
        bar: is advanced by a text's share for each piece of it that is done.
        processes: how many work at once.
    """
    parts = pieces(student, region)
    tasks = [
        (part, mitigation, _columns(student, part[0], values[start : start + TEXTS]), seed + 7919 * start + number)
        for start in range(0, len(values), TEXTS)
        for number, part in enumerate(parts)
    ]
    places = [(start, part[2]) for start in range(0, len(values), TEXTS) for part in parts]
    whole: dict[str, np.ndarray] = {}
    for (start, ks), arrays in zip(places, parallel_map(_one, tasks, processes), strict=True):
        for name, part in arrays.items():
            shape = (len(student.observables), len(values), *part.shape[2:])
            whole.setdefault(name, np.zeros(shape))[ks, start : start + part.shape[1]] = part
        bar.advance(arrays["evs"].shape[1] / len(parts))
    return whole


def _columns(student: StudentCircuit, part: StudentCircuit, values: np.ndarray) -> np.ndarray:
    """Return the parameter values (N,A+P) that a part of the student has."""
    order = {parameter: i for i, parameter in enumerate(student.parameters)}
    return values[:, [order[parameter] for parameter in part.parameters]]


def _one(piece: Piece, mitigation: Mitigation, values: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fits of values near zero say that they have no covariance
        return raw(estimator(piece, mitigation, seed).run([pub(piece[0], values)]).result()[0].data)
