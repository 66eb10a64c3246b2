"""Transpilation of a student circuit to a device's gates and to the qubits with the best predicted fidelity.

Qiskit's layout passes consider readout errors only in circuits with measurements, which qkd adds and removes again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress

import numpy as np
import rustworkx
from qiskit.circuit import ClassicalRegister, QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import Statevector
from qiskit.transpiler import Target, generate_preset_pass_manager
from qiskit.utils import apply_prefix

from qkd.circuits.cone import cone_qubits, cut, support
from qkd.circuits.flatten import without_resets
from qkd.circuits.student import StudentCircuit
from qkd.core.errors import DeviceError
from qkd.devices.profiles import Profile, default_name, load_profile
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot


def with_measurements(circuit: QuantumCircuit, qubits: Iterable[int]) -> QuantumCircuit:
    """Return a circuit that measures ``qubits``, so that layout passes consider readout errors.

    A barrier in front prevents optimizations that only a measured circuit allows, such as removing diagonal gates.
    """
    measured = circuit.copy()
    qubits = list(qubits)
    bits = ClassicalRegister(len(qubits), "for_layout")
    measured.add_register(bits)
    measured.barrier()
    measured.measure(qubits, bits)
    return measured


def without_measurements(measured: QuantumCircuit) -> QuantumCircuit:
    """Return a compiled circuit without the measurements and the barrier of ``with_measurements``."""
    circuit = QuantumCircuit(*measured.qregs, global_phase=measured.global_phase, name=measured.name)
    last = max(i for i, item in enumerate(measured.data) if item.operation.name == "barrier")
    for i, item in enumerate(measured.data):
        if item.operation.name != "measure" and i != last:
            circuit.append(item.operation, item.qubits)
    circuit._layout = measured.layout  # noqa: SLF001 - Qiskit sets a layout nowhere else
    return circuit


def predicted_error(circuit: QuantumCircuit, target: Target, measured: Iterable[int]) -> float:
    """Return the sum of -log(1 - error) over all gates and one readout of each measured qubit.

    ``exp(-error)`` is the predicted fidelity of a shot that reads every measured qubit.

    Args:
        circuit: A circuit of the target's gates and qubits.
        target: The target. An operation without an error counts as perfect.
        measured: The physical qubits that are read out.
    """
    total = 0.0
    places = [(item.operation.name, tuple(circuit.find_bit(q).index for q in item.qubits)) for item in circuit.data]
    for name, place in [*places, *(("measure", (qubit,)) for qubit in measured)]:
        if name in ("barrier", "delay"):
            continue
        properties = target[name][place]
        total -= math.log1p(-properties.error) if properties is not None and properties.error else 0.0
    return total


def check_fits(circuit: QuantumCircuit, snapshot: Snapshot) -> None:
    """Refuse a circuit with more qubits, or more entangled qubits, than the device has usable and connected."""
    n, usable = circuit.num_qubits, snapshot.num_qubits - len(snapshot.cleaning.avoided)
    if n > usable:
        raise DeviceError(
            f"the circuit has {n} qubits and {snapshot.name} {snapshot.num_qubits}, of which {usable} are usable; "
            "take fewer --qubits or a larger device"
        )
    index = {qubit: i for i, qubit in enumerate(circuit.qubits)}
    pairs = [(index[item.qubits[0]], index[item.qubits[1]]) for item in circuit.data if len(item.qubits) == 2]
    couplers = [(a, b) for a, b in snapshot.calibration.couplers()]
    needed, joined = _largest(n, pairs), _largest(snapshot.num_qubits, couplers)
    if needed > joined == 1:
        raise DeviceError(
            f"the circuit entangles {needed} qubits with one another, and {snapshot.name} entangles none: its "
            "calibration gives every two-qubit gate an error of 1 or none; take another device or snapshot, or 1 qubit"
        )
    if needed > joined:
        raise DeviceError(
            f"the circuit entangles {needed} qubits with one another, but no more than {joined} usable qubits of "
            f"{snapshot.name} are joined ({snapshot.cleaning.summary()}); take another device or snapshot"
        )


def check_layout(qubits: Sequence[int], circuit: QuantumCircuit, snapshot: Snapshot) -> None:
    """Refuse physical qubits that are too few, too many, repeated, not on the device or not usable."""
    n, total = circuit.num_qubits, snapshot.num_qubits
    listed = ", ".join(map(str, qubits))
    if len(qubits) != n or len({*qubits}) != n:
        raise DeviceError(
            f"the layout {listed} does not fit: the circuit has {n} qubits, so give {n} different physical qubits"
        )
    beyond = [q for q in qubits if not 0 <= q < total]
    if beyond:
        raise DeviceError(f"the layout names qubit {beyond[0]}; {snapshot.name} has qubits 0 to {total - 1}")
    faulty = [q for q in qubits if q in snapshot.cleaning.avoided]
    if faulty:
        raise DeviceError(
            f"the layout names qubit {faulty[0]} of {snapshot.name}, which its calibration reports as faulty "
            f"({snapshot.cleaning.summary()}); choose another qubit"
        )


def _largest(n: int, pairs: Iterable[tuple[int, int]]) -> int:
    """Return the number of nodes of a graph's largest connected component."""
    graph = rustworkx.PyGraph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from_no_data(list(pairs))
    return max((len(part) for part in rustworkx.connected_components(graph)), default=0)


TOLERANCE = 1e-9
"""Largest difference of an expectation value between the logical and the compiled circuit."""
MAX_VERIFIED_QUBITS = 14
"""Maximum number of qubits of a circuit or light cone that ``verify`` simulates."""


def transpile(student: StudentCircuit, snapshot: Snapshot, profile: Profile | None = None) -> StudentCircuit:
    """Compile a circuit for a device, keep its inputs and weights, and apply the layout to its observables.

    An Estimator's circuit has no measurements, and without them layout passes ignore readout errors. Measurements are
    therefore added for compilation and removed afterwards. The best-scored result of several seeds is returned.

    Args:
        profile: The transpile profile; None is the device's default.

    Raises:
        ConfigError: The profile is for another family.
        DeviceError: The circuit does not fit the device, Qiskit cannot compile it, or its values changed.
    """
    _check_delays(student, snapshot)
    profile = profile or load_profile(default_name(snapshot))
    profile.check_family(snapshot)
    check_fits(student.circuit, snapshot)
    if profile.qubits:
        check_layout(profile.qubits, student.circuit, snapshot)
    target = _target(student.circuit, snapshot, profile)
    measured = with_measurements(student.circuit, support(student.observables))
    results = [_compiled(student, measured, target, profile, seed) for seed in range(profile.seeds)]
    best = min(results, key=lambda result: _score(result, target, profile))
    if not profile.qubits:
        # the reverse of a line may need fewer pulses where two-qubit gates have a direction
        reversed_qubits = (
            best.layout.initial_index_layout(filter_ancillas=True)[::-1] if best.layout is not None else []
        )
        reverse = profile.model_copy(update={"qubits": tuple(reversed_qubits)})
        with suppress(DeviceError):  # an optional improvement: the forward result stands where this one fails
            results = [best, _compiled(student, measured, target, reverse, 0)]
            best = min(results, key=lambda result: _score(result, target, profile))
    difference = verify(student, best, snapshot)
    if difference is not None and difference > TOLERANCE:
        raise DeviceError(
            f"circuit '{student.name}' compiled for {snapshot.name} differs from the logical one by {difference:.1e}; "
            "please report this with the circuit file"
        )
    return best


def _check_delays(student: StudentCircuit, snapshot: Snapshot) -> None:
    """Refuse delays of variable length, and those that the device's clock cannot produce."""
    target = snapshot.target
    step = math.lcm(target.acquire_alignment, target.pulse_alignment)
    for item in student.circuit.data:
        if item.operation.name != "delay":
            continue
        length, unit = item.operation.duration, item.operation.unit
        if item.operation.is_parameterized():
            raise DeviceError(f"circuit '{student.name}' holds a delay of a variable length; give it a number")
        if step == 1 or (target.dt is None and unit != "dt"):
            continue
        steps = length if unit == "dt" else target.seconds_to_dt(apply_prefix(length, unit))
        if steps % step:
            raise DeviceError(
                f"circuit '{student.name}' holds a delay of {length:g} {unit}, which is {steps:,} steps of "
                f"{snapshot.name}'s clock; a delay must be a multiple of {step} there, such as "
                f"{max(step, round(steps / step) * step)} dt"
            )


def check_native(student: StudentCircuit, snapshot: Snapshot) -> None:
    """Refuse a compiled circuit with operations that the device does not have."""
    circuit = student.circuit
    if circuit.num_qubits != snapshot.num_qubits:
        raise DeviceError(
            f"circuit '{student.name}' is compiled for {circuit.num_qubits} qubits, and {snapshot.name} has "
            f"{snapshot.num_qubits}; compile it for this device"
        )
    calibration = snapshot.calibration
    target = snapshot.target_with(*calibration.fractional_gates)
    for item in circuit.data:
        name, on = item.operation.name, tuple(circuit.find_bit(q).index for q in item.qubits)
        if name != "barrier" and not target.instruction_supported(name, on):
            raise DeviceError(f"circuit '{student.name}' has '{name}' on qubits {on}, which {snapshot.name} lacks")


def _target(circuit: QuantumCircuit, snapshot: Snapshot, profile: Profile) -> Target:
    """Return the target. It has rzz (angles 0 to pi/2) only if no two-qubit angle is a parameter."""
    if profile.basis == "native":
        return snapshot.target
    free = any(len(item.qubits) > 1 and item.operation.is_parameterized() for item in circuit.data)
    return snapshot.target_with("rx") if free else snapshot.target_with("rx", "rzz")


def _compiled(
    student: StudentCircuit, measured: QuantumCircuit, target: Target, profile: Profile, seed: int
) -> StudentCircuit:
    try:
        passes = generate_preset_pass_manager(
            profile.optimization_level,
            target=target,
            seed_transpiler=seed,
            initial_layout=list(profile.qubits) or None,
            layout_method=None if profile.layout_method == "auto" else profile.layout_method,
        )
        circuit = without_measurements(passes.run(measured))
    except QiskitError as error:
        message = " ".join(str(error.message).split())
        raise DeviceError(
            f"circuit '{student.name}' cannot be compiled with profile '{profile.name}': {message}"
        ) from None
    observables = [observable.apply_layout(circuit.layout) for observable in student.observables]
    return student.with_circuit(circuit, observables, circuit.layout)


def _score(student: StudentCircuit, target: Target, profile: Profile) -> tuple[float, ...]:
    """Return the score; less is better."""
    error = predicted_error(student.circuit, target, support(student.observables))
    if profile.scoring == "fidelity":
        return (error,)
    return (*two_qubit_figures(student.circuit), error)


def two_qubit_figures(circuit: QuantumCircuit) -> tuple[int, int]:
    """Return the number of two-qubit gates and the depth in them."""
    gates = [item for item in circuit.data if len(item.qubits) == 2 and item.operation.name != "barrier"]
    return len(gates), circuit.depth(lambda item: len(item.qubits) == 2 and item.operation.name != "barrier")


def verify(logical: StudentCircuit, compiled: StudentCircuit, snapshot: Snapshot, seed: int = 0) -> float | None:
    """Return the largest difference of an expectation value at random inputs and weights.

    Both circuits are simulated exactly: narrow ones whole, wide ones one light cone at a time.

    Args:
        compiled: The compiled circuit on the device's indices.

    Returns:
        The difference, or None if a light cone has more than ``MAX_VERIFIED_QUBITS`` qubits.
    """
    small, _ = to_region(compiled, snapshot)
    values = np.random.default_rng(seed).uniform(-np.pi, np.pi, len(logical.parameters))
    pair = [expectation_values(student, values) for student in (logical, small)]
    if pair[0] is None or pair[1] is None:
        return None
    return float(np.abs(pair[0] - pair[1]).max())


def expectation_values(student: StudentCircuit, values: np.ndarray) -> np.ndarray | None:
    """Return the expectation values (K,) at one parameter vector (A+P,), or None where light cones are too wide."""
    student = student.with_circuit(*without_resets(student.circuit, student.observables))
    by_parameter = dict(zip(student.parameters, values, strict=True))
    parts = [student]
    if student.num_qubits > MAX_VERIFIED_QUBITS:
        if max(len(cone_qubits(student, k)) for k in range(len(student.observables))) > MAX_VERIFIED_QUBITS:
            return None
        parts = [cut(student, [k]) for k in range(len(student.observables))]
    evs = []
    for part in parts:
        state = Statevector(part.circuit.assign_parameters({p: by_parameter[p] for p in part.parameters}))
        evs += [state.expectation_value(observable).real for observable in part.observables]
    return np.array(evs)
