"""Circuits compiled for a device, the result of ``qkd.transpile``, with their figures before and after."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, Unpack

from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.providers import BackendV2
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import Target, generate_preset_pass_manager

from qkd.circuits import library
from qkd.circuits.cone import support
from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.errors import CircuitError, ConfigError, nearest
from qkd.devices import profiles, snapshot
from qkd.devices.calibration import FRACTIONAL
from qkd.devices.profiles import Profile
from qkd.devices.region import Region, to_region
from qkd.devices.snapshot import Device, Snapshot
from qkd.devices.transpile import check_native, predicted_error, transpile, two_qubit_figures, verify
from qkd.results.base import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Figures:
    """Figures of a circuit. None marks a value that is unknown before compilation.

    Attributes:
        two_qubit_gates: The number of two-qubit gates.
        two_qubit_depth: The depth in two-qubit gates.
        duration: The seconds of one shot without readout, or None if the device reports no durations.
        error: The sum of -log(1 - error) over gates and readouts.
    """

    two_qubit_gates: int
    two_qubit_depth: int
    duration: float | None = None
    error: float | None = None

    @property
    def fidelity(self) -> float | None:
        """The predicted fidelity of a shot that reads every measured qubit."""
        return None if self.error is None else math.exp(-self.error)


@dataclass(frozen=True)
class TranspileReport:
    """Figures of a circuit before and after compilation.

    Attributes:
        device: The snapshot's name.
        logical: The circuit before compilation.
        stock: The result of Qiskit's level 3 for the circuit without measurements, as an Estimator compiles it.
        compiled: The compiled circuit.
        qubits: The physical qubit of each logical one.
        difference: The largest difference of an expectation value, or None if light cones are too wide to simulate.
    """

    device: str
    logical: Figures
    stock: Figures
    compiled: Figures
    qubits: tuple[int, ...]
    difference: float | None

    def rows(self) -> list[tuple[str, ...]]:
        """Return table rows, header first."""
        stages = (self.logical, self.stock, self.compiled)
        return [
            ("", "logical", "level 3", "compiled"),
            ("two-qubit gates", *(str(stage.two_qubit_gates) for stage in stages)),
            ("two-qubit depth", *(str(stage.two_qubit_depth) for stage in stages)),
            ("duration", *("-" if stage.duration is None else f"{stage.duration * 1e6:.2f} us" for stage in stages)),
            ("predicted fidelity", *("-" if stage.fidelity is None else f"{stage.fidelity:.3f}" for stage in stages)),
        ]


def report(logical: StudentCircuit, compiled: StudentCircuit, snapshot: Snapshot) -> TranspileReport:
    """Return the report of a circuit that ``transpile`` compiled for a device."""
    used = {item.operation.name for item in compiled.circuit.data}
    target = snapshot.target_with(*(name for name in FRACTIONAL if name in used))
    stock = generate_preset_pass_manager(3, target=target, seed_transpiler=0).run(logical.circuit)
    stock_read = [observable.apply_layout(stock.layout) for observable in logical.observables]
    layout = compiled.layout
    return TranspileReport(
        device=snapshot.name,
        logical=Figures(*two_qubit_figures(logical.circuit)),
        stock=_figures(stock, target, support(stock_read)),
        compiled=_figures(compiled.circuit, target, support(compiled.observables)),
        qubits=tuple(layout.initial_index_layout(filter_ancillas=True)) if layout is not None else (),
        difference=verify(logical, compiled, snapshot),
    )


def _figures(circuit: QuantumCircuit, target: Target, measured: tuple[int, ...]) -> Figures:
    try:
        duration = circuit.estimate_duration(target, unit="s")
    except QiskitError:  # a gate without a duration
        duration = None
    return Figures(*two_qubit_figures(circuit), duration, predicted_error(circuit, target, measured))


class CompileOptions(TypedDict, total=False):
    """Further options of ``compile_for``.

    Attributes:
        qubits: The width n of a named circuit.
        layers: The layers of a named circuit.
        settings: Keys of the profile with other values.
    """

    qubits: int | None
    layers: int | None
    settings: Mapping[str, Any] | None


@dataclass(frozen=True, repr=False)
class Compiled(Shown):
    """A student circuit compiled for a device. ``to_frame`` has the table ``figures``.

    Attributes:
        logical: The circuit before compilation.
        student: The compiled circuit on the device's qubits.
        device: The snapshot of the device.
        profile: The transpile profile.
    """

    logical: StudentCircuit
    student: StudentCircuit
    device: Snapshot
    profile: Profile
    _view: ClassVar[str] = "qkd.reports.compiled"

    @cached_property
    def report(self) -> TranspileReport:
        """Gates, depth, duration and predicted fidelity, before and after."""
        return report(self.logical, self.student, self.device)

    @property
    def qubits(self) -> tuple[int, ...]:
        """The physical qubit of each logical one."""
        return self.report.qubits

    def region(self) -> tuple[StudentCircuit, Region]:
        """Return the circuit and the device restricted to the qubits used."""
        return to_region(self.student, self.device)

    def chip(self) -> Figure:
        """Return a map of the chip with the qubits used."""
        from qkd.devices import chip_plot

        return chip_plot.figure(self.device, self.qubits)


@public
def compile_for(
    circuit: str | Path | StudentCircuit | QuantumCircuit,
    device: Device = "ibm_fez",
    profile: str | Profile | None = None,
    *,
    backend: BackendV2 | None = None,
    layout: Sequence[int] | None = None,
    inputs: Iterable[Parameter | str] | None = None,
    observables: Sequence[SparsePauliOp] | None = None,
    quiet: bool = False,
    **options: Unpack[CompileOptions],
) -> Compiled:
    """Compile a circuit for a device, or check a ``QuantumCircuit`` that is compiled already.

    Args:
        circuit: A student circuit, its name or file, the folder of a run or bundle, or a ``QuantumCircuit`` with
            ``inputs``. One with a layout counts as compiled: it keeps its gates and qubits.
        device: A device's name, a snapshot file, a snapshot or any ``BackendV2``.
        profile: The transpile profile; None is the device's default.
        backend: Another name of ``device`` for backends.
        layout: The physical qubit of each logical one; None searches for a layout.
        inputs: The data parameters of a ``QuantumCircuit``, in order. Its other parameters are weights.
        observables: The observables of a ``QuantumCircuit`` on its logical qubits; None is Z on each qubit.
        quiet: Print warnings only.
        **options: See ``CompileOptions``.

    Raises:
        QkdError: The circuit, device or profile does not exist, or the circuit does not fit the device.
    """
    machine = snapshot.load_snapshot(device if backend is None else backend)
    chosen = (
        profile if isinstance(profile, Profile) else profiles.load_profile(profile or profiles.default_name(machine))
    )
    if not isinstance(options.get("settings") or {}, Mapping):
        raise ConfigError(f"settings is a {type(options['settings']).__name__}; give settings of the profile by name")
    settings = dict(options.get("settings") or {}) | ({} if layout is None else {"qubits": tuple(layout)})
    if settings:
        chosen = chosen.with_overrides(settings)
    if isinstance(circuit, QuantumCircuit):
        student = from_quantum_circuit(circuit, inputs, observables)
        if circuit.layout is not None:
            check_native(student, machine)
            return Compiled(to_region(student, machine)[0], student, machine, chosen)
        circuit = student
    elif inputs is not None or observables is not None:
        raise CircuitError("inputs= and observables= belong to a QuantumCircuit; other circuits have their own")
    if isinstance(circuit, StudentCircuit):
        if options.get("qubits") is not None or options.get("layers") is not None:
            raise CircuitError("qubits= and layers= belong to a circuit's name or file; an object has its own")
    else:
        circuit = _load(circuit, options.get("qubits"), options.get("layers"))
    return Compiled(circuit, transpile(circuit, machine, chosen), machine, chosen)


def from_quantum_circuit(
    circuit: QuantumCircuit,
    inputs: Iterable[Parameter | str] | None = None,
    observables: Sequence[SparsePauliOp] | None = None,
) -> StudentCircuit:
    """Return a ``QuantumCircuit`` as a student circuit; see ``compile_for`` for the arguments."""
    by_name = {parameter.name: parameter for parameter in circuit.parameters}
    if not isinstance(inputs, Iterable | Parameter | None):
        raise CircuitError(f"inputs is {inputs!r:.40}; give a list of parameters or of their names")
    given = [inputs] if isinstance(inputs, str | Parameter) else list(inputs or ())
    wrong = next((item for item in given if not isinstance(item, str | Parameter)), None)
    if wrong is not None:
        raise CircuitError(f"inputs has {wrong!r:.40}, which is neither a parameter nor the name of one")
    names = [item if isinstance(item, str) else item.name for item in given]
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise CircuitError(f"circuit '{circuit.name}' has no parameter '{unknown[0]}'{nearest(unknown[0], by_name)}")
    layout = circuit.layout
    width = circuit.num_qubits if layout is None else len(layout.initial_index_layout(filter_ancillas=True))
    if observables is None:
        observables = [SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], width) for q in range(width)]
    if layout is not None:
        observables = [o if o.num_qubits == circuit.num_qubits else o.apply_layout(layout) for o in observables]
    weights = [parameter for name, parameter in by_name.items() if name not in names]
    student_inputs = tuple(by_name[name] for name in names)
    return StudentCircuit(circuit, student_inputs, tuple(weights), tuple(observables), layout, circuit.name)


def _load(student: str | Path, qubits: int | None, layers: int | None) -> StudentCircuit:
    folder = Path(student)
    if not folder.is_dir():
        return library.load_circuit(str(student), qubits, layers)
    bundled = folder / "student" / "circuit.qasm"
    return library.load_circuit(str(bundled if bundled.is_file() else folder / "circuit.qasm"), qubits, layers)
