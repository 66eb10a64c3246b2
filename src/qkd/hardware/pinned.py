"""The region that a student was trained on, which its device runs use as long as it is nearly as good as the best."""

from __future__ import annotations

from qkd.circuits.cone import support
from qkd.circuits.qasm import from_qasm
from qkd.circuits.student import StudentCircuit
from qkd.core.console import say
from qkd.core.errors import DeviceError
from qkd.core.files import read_text
from qkd.core.runs import RunFolder
from qkd.devices import catalogue, snapshot
from qkd.devices.calibration import FRACTIONAL
from qkd.devices.layout import predicted_error
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import TOLERANCE, verify

WORSE = 1.25
"""How many times the predicted error of the best region found anew that of the pinned one may be."""


def pinned(folder: RunFolder, device: Snapshot) -> StudentCircuit | None:
    """Return the circuit as a run's student was trained on a device, on the device's indices; None if on another.

    Args:
        folder: the run's.
        device: the device.

    Raises:
        QkdError: what the run kept of its device is damaged.
    """
    calibration, program = folder.device / "snapshot.json", folder.device / "circuit.qasm"
    if not (calibration.is_file() and program.is_file()) or not same_device(
        snapshot.read_snapshot(calibration).name, device.name
    ):
        return None
    return from_qasm(read_text(program), str(program))


def chosen(
    logical: StudentCircuit, trained: StudentCircuit | None, anew: StudentCircuit, device: Snapshot
) -> StudentCircuit:
    """Return the circuit that runs on a device: as it was trained, or compiled anew; which, and why, is said.

    Args:
        logical: the student's circuit.
        trained: as it was trained on the device (see ``pinned``), if it was.
        anew: compiled for today's calibration.
        device: today's calibration.
    """
    if trained is None:
        return anew
    error, best = region_error(trained, device), region_error(anew, device)
    if error is None or trained.num_qubits != device.num_qubits:
        say(
            f"the region of training cannot be used on {device.name} now: gates or qubits of it are gone; compiled anew"
        )
        return anew
    qubits = ", ".join(map(str, to_region(trained, device)[1].qubits))
    if best is not None and error > WORSE * best:
        say(
            f"the region of training (qubits {qubits}) has a predicted error of {error:.3f} now, more than "
            f"{WORSE:g} times the {best:.3f} of the best found anew, which is taken; the student was not trained there"
        )
        return anew
    difference = verify(logical, trained, device)
    if difference is not None and difference > TOLERANCE:
        say("the circuit that the run kept of its device is not the student's; compiled anew")
        return anew
    say(f"on the region of training, qubits {qubits}: predicted error {error:.3f}; the best anew has {best or 0:.3f}")
    return trained


def region_error(student: StudentCircuit, device: Snapshot) -> float | None:
    """Return the predicted error (``devices.layout``) of a compiled circuit under a calibration; None if it cannot run.

    Args:
        student: on the device's indices.
        device: a calibration, perhaps a later one than it was compiled for.
    """
    circuit, measured = student.circuit, support(student.observables)
    names = {item.operation.name for item in circuit.data}
    try:
        target = device.target_with(*(name for name in FRACTIONAL if name in names))
    except DeviceError:
        return None
    places = [
        (item.operation.name, tuple(circuit.find_bit(qubit).index for qubit in item.qubits))
        for item in circuit.data
        if item.operation.name not in ("barrier", "delay")
    ]
    places += [("measure", (qubit,)) for qubit in measured]
    if not all(target.instruction_supported(name, place) for name, place in places):
        return None
    return predicted_error(circuit, target, measured)


def same_device(name: str, other: str) -> bool:
    """Whether two names, ``fake_fez`` and ``ibm_fez``, are of one device."""
    return _device(name) == _device(other)


def _device(name: str) -> str:
    try:
        return catalogue.find_device(name).name
    except DeviceError:
        return name
