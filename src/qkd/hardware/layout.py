"""Which circuit, region and learned errors a device run uses: those of training, while they are nearly the best."""

from __future__ import annotations

import datetime
from pathlib import Path

from qkd.circuits.cone import support
from qkd.circuits.qasm import from_qasm
from qkd.circuits.student import StudentCircuit
from qkd.core.console import log
from qkd.core.errors import ConfigError, DeviceError, QkdError
from qkd.core.files import read_text
from qkd.core.runs import RunFolder
from qkd.devices import catalogue, snapshot
from qkd.devices.calibration import FRACTIONAL
from qkd.devices.random_errors import with_learned
from qkd.devices.region import to_region
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import TOLERANCE, predicted_error, verify

# A region of training is used while its predicted error is at most so many times that of the best region.
MAX_ERROR_RATIO = 1.25


def trained_circuit(folder: RunFolder, device: Snapshot) -> StudentCircuit | None:
    """Return the circuit of training on the device's indices, or None if the run was not trained on this device."""
    calibration, program = folder.device / "snapshot.json", folder.device / "circuit.qasm"
    if not (calibration.is_file() and program.is_file()) or not same_device(
        snapshot.read_snapshot(calibration).name, device.name
    ):
        return None
    return from_qasm(read_text(program), str(program))


def choose_circuit(
    logical: StudentCircuit, trained: StudentCircuit | None, compiled: StudentCircuit, device: Snapshot
) -> StudentCircuit:
    """Return the circuit that runs on a device, the trained or the compiled one, and print why.

    Args:
        trained: The circuit of training, or None (see ``trained_circuit``).
        compiled: The circuit compiled for the current calibration.
    """
    if trained is None:
        return compiled
    error, best = region_error(trained, device), region_error(compiled, device)
    if error is None or trained.num_qubits != device.num_qubits:
        log.info(f"{device.name} lacks gates or qubits of the region of training, so the circuit is compiled again")
        return compiled
    qubits = ", ".join(map(str, to_region(trained, device)[1].qubits))
    if best is not None and error > MAX_ERROR_RATIO * best:
        log.info(
            f"the region of training (qubits {qubits}) now has a predicted error of {error:.3f}, more than "
            f"{MAX_ERROR_RATIO:g} times the {best:.3f} of the best region, so the student runs there untrained"
        )
        return compiled
    difference = verify(logical, trained, device)
    if difference is not None and difference > TOLERANCE:
        log.info("the run's compiled circuit is not that of its student, so the circuit is compiled again")
        return compiled
    log.info(f"region of training, qubits {qubits}: predicted error {error:.3f}; the best region has {best or 0:.3f}")
    return trained


def region_error(student: StudentCircuit, device: Snapshot) -> float | None:
    """Return the predicted error (``devices.layout``) of a compiled circuit under a calibration; None if it cannot run.

    Args:
        student: The circuit, on the device's indices.
        device: A calibration, perhaps a later one than the circuit was compiled for.
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
    """Return whether two names, such as ``fake_fez`` and ``ibm_fez``, denote the same device."""
    return _device(name) == _device(other)


def _device(name: str) -> str:
    try:
        return catalogue.find_device(name).name
    except DeviceError:
        return name


# Older learned errors are used only on request, because devices drift.
MAX_DAYS = 7


def with_recent_errors(device: Snapshot, requested: str | None, now: datetime.datetime | None = None) -> Snapshot:
    """Return a device with learned errors beside its calibration, and print which are used.

    Args:
        requested: A file that ``qkd devices learn`` wrote, of any age, or ``none``. None takes the user's newest file
            if it is at most ``MAX_DAYS`` old.
    """
    if requested == "none":
        return device
    if requested is not None:
        return _with_errors_of(device, Path(requested))
    files = snapshot.learned_files(device.name)
    if not files:
        return device
    try:
        source = _with_errors_of(device, files[-1])
    except QkdError as error:
        log.warning(f"the learned errors of {device.name} are ignored: {error}")
        return device
    learned = source.calibration.learned
    if learned is None:
        return device
    if learned.days_before(now or datetime.datetime.now(datetime.UTC)) > MAX_DAYS:
        log.info(
            f"errors of {device.name} were learned on {learned.date[:10]}, over {MAX_DAYS} days ago, and are ignored; "
            f"'qkd devices learn {device.name}' learns them again, and --learned {files[-1]} uses these"
        )
        return device
    log.info(f"predictions use the errors of {device.name} learned on {learned.date[:10]}; --learned none ignores them")
    return source


def _with_errors_of(device: Snapshot, path: Path) -> Snapshot:
    """Return a device with the learned errors of a snapshot file."""
    source = snapshot.read_snapshot(path)
    if source.calibration.learned is None:
        raise ConfigError(f"{path}: has no learned errors; 'qkd devices learn {device.name}' writes files that do")
    if not same_device(source.name, device.name):
        raise ConfigError(f"{path}: is of {source.name}, and {device.name} is another device")
    return with_learned(device, source.calibration.learned)
