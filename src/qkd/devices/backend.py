"""Qiskit backends and targets made from calibrations."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from qiskit.circuit import Delay, Measure, Parameter, QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.providers import BackendV2, Job, Options, QubitProperties
from qiskit.transpiler import InstructionProperties, Target

from qkd.devices.calibration import Calibration


class CalibratedBackend(BackendV2):
    """A backend with a calibration's target. It runs circuits on Aer with the calibration's noise."""

    def __init__(self, name: str, target: Target, version: str = "", description: str | None = None) -> None:
        super().__init__(name=name, description=description, backend_version=version)
        self._target = target

    @property
    def target(self) -> Target:
        """Gates, couplings and errors that the transpiler uses."""
        return self._target

    @property
    def max_circuits(self) -> None:
        """Maximum number of circuits in a job; None is no limit."""
        return None

    @classmethod
    def _default_options(cls) -> Options:
        return Options(shots=1024, seed_simulator=None)

    def run(self, run_input: QuantumCircuit | Sequence[QuantumCircuit], **options: Any) -> Job:
        """Run circuits on AerSimulator with this backend's noise model."""
        from qiskit_aer import AerSimulator

        return AerSimulator.from_backend(self).run(run_input, **options)


def make_target(
    calibration: Calibration, qubits: Sequence[int] | None = None, fractional: Collection[str] = ()
) -> Target:
    """Return the target of a device or of some of its qubits.

    Args:
        calibration: A cleaned calibration. The target lacks every qubit and gate that it lacks.
        qubits: The device's qubits that become the target's 0, 1, ...; None is all of them.
        fractional: The optional gates (see ``Calibration.fractional_gates``) that the target offers.
    """
    place = {qubit: i for i, qubit in enumerate(range(len(calibration.qubits)) if qubits is None else qubits)}
    reported = [calibration.qubits[qubit] for qubit in place]
    target = Target(
        num_qubits=len(place),
        dt=calibration.dt,
        qubit_properties=[QubitProperties(t1=q.t1, t2=q.t2, frequency=q.frequency) for q in reported],
        **calibration.timing,
    )
    known = get_standard_gate_name_mapping()
    for name, places in calibration.gates.items():
        optional = name in calibration.fractional_gates
        if name not in known or (optional and name not in fractional):
            continue
        properties = {
            tuple(place[q] for q in on): InstructionProperties(duration=done.duration, error=done.error)
            for on, done in places.items()
            if all(q in place for q in on)
        }
        # IBM refuses jobs with rzz angles outside these bounds
        bounds = [(0.0, math.pi / 2)] if optional and name == "rzz" else None
        target.add_instruction(known[name], properties, angle_bounds=bounds)
    usable = [i for i, q in enumerate(reported) if q.readout_error is not None]
    target.add_instruction(
        Measure(),
        {
            (i,): InstructionProperties(duration=reported[i].readout_length, error=reported[i].readout_error)
            for i in usable
        },
    )
    target.add_instruction(Delay(Parameter("t")), {(i,): None for i in usable})
    return target
