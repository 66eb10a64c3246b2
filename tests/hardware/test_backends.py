"""Backends of other providers as devices."""

import numpy as np
import pandas as pd
import pytest
from qiskit.circuit import Measure, Parameter
from qiskit.circuit.library import RGate, RXXGate, RZGate
from qiskit.providers import BackendV2, Options
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import Target
from qiskit_aer import AerSimulator

import qkd
from qkd import QkdError
from qkd.hardware import collect


def test_any_backend_is_a_device(folder):
    backend = GenericBackendV2(5, seed=3)
    options = {"backend": backend, "samples": 12, "shots": 1024, "max_qpu_seconds": 900, "confirm": lambda plan: True}
    runs = qkd.run_hardware(folder, mitigation="none,affine", **options)
    results = [device_run.result for device_run in runs]
    for result in results:
        assert result.texts == 12 and result.device == backend.name and not result.local
        off = [np.abs(np.array(row.evs) - row.exact) / np.array(row.stds) for row in result.rows]
        assert np.median(off) < 1.5
    assert results[0].rms.value < 0.2
    values = pd.concat(device_run.to_frame() for device_run in runs)
    for device_run in runs:
        part = values[values["mitigation"] == device_run.plan.mitigation.name]
        assert len(part) == 12 * 4 and list(part["observable"][:4]) == ["Z0", "Z1", "Z2", "Z3"]
        rms = np.sqrt(((part["value"] - part["exact"]) ** 2).mean())
        assert rms == pytest.approx(device_run.result.rms.value) and (part["standard_error"] > 0).all()
        assert "RMS error" in repr(device_run) and "<svg" in device_run._repr_html_()
        assert list(device_run.to_frame("jobs")["state"]) == ["saved"]
    [rehearsed] = qkd.run_hardware(folder, backend=backend, local=True, samples=6, shots=1024, mitigation="readout")
    assert rehearsed.result.local and rehearsed.result.texts == 6


def test_a_device_may_be_the_object_itself(folder, capfd):
    [dry] = qkd.run_hardware(folder, device=GenericBackendV2(5, seed=3), samples=4, dry_run=True)
    assert "qkd uses all of them" not in capfd.readouterr().err
    [all_texts] = qkd.run_hardware(folder, device=GenericBackendV2(5, seed=3), samples=9999, dry_run=True)
    expected = f"samples is 9,999, but there are {len(all_texts.plan.texts)} texts"
    assert expected in " ".join(capfd.readouterr().err.split())
    assert dry.plan.device == GenericBackendV2(5, seed=3).name
    for options in ({"device": GenericBackendV2}, {"backend": "ibm_fez"}, {"service": 3}, {"device": 3}):
        with pytest.raises(QkdError, match=r"the device is|service is"):
            qkd.run_hardware(folder, dry_run=True, **options)


def test_a_client_that_the_user_made_is_the_account(folder, service, monkeypatch):
    from qiskit_ibm_runtime import QiskitRuntimeService

    client = QiskitRuntimeService()
    monkeypatch.setattr(QiskitRuntimeService, "saved_accounts", dict)
    for name in ("QISKIT_IBM_TOKEN", "QISKIT_IBM_INSTANCE", "QISKIT_IBM_URL"):
        monkeypatch.delenv(name)
    options = {"samples": 4, "shots": 64, "mitigation": "none", "confirm": lambda plan: True}
    with pytest.raises(QkdError, match="retired"):
        qkd.run_hardware(folder, device="ibm_manila", **options)
    [done] = qkd.run_hardware(folder, device="ibm_manila", service=client, **options)
    assert done.result.texts == 4 and len(service.jobs) == done.plan.jobs and not done.result.local
    [sent] = qkd.run_hardware(folder, device="ibm_manila", service=client, seed=1, detach=True, **options)
    [fetched] = collect(folder, sent.plan.name, service=client)
    assert fetched.result.texts == 4
    with pytest.raises(QkdError, match="ibm_brisbane is retired"):
        qkd.run_hardware(folder, device="ibm_brisbane", service=client, **options)


def test_mitigation_that_needs_ibms_client_says_so(folder):
    backend = GenericBackendV2(5, seed=3)
    with pytest.raises(QkdError, match="need IBM's client"):
        qkd.run_hardware(folder, backend=backend, mitigation="zne", confirm=lambda plan: True)


def test_a_plan_of_a_backend_object_is_collected_with_that_object(folder):
    backend = GenericBackendV2(5, seed=3)
    with pytest.raises(KeyboardInterrupt):
        options = {"samples": 4, "shots": 64, "mitigation": "none", "confirm": lambda plan: True}
        qkd.run_hardware(folder, backend=Interrupted(5, seed=3), **options)
    with pytest.raises(QkdError, match="backend="):
        collect(folder)
    [device_run] = collect(folder, backend=backend)
    assert device_run.result.texts == 4


def test_gates_of_other_providers(folder, tmp_path):
    """Trapped ions: gates ``r``, ``rz`` and ``rxx`` between all pairs, without numbers about errors."""
    ions = Ions()
    options = {"samples": 6, "shots": 512, "confirm": lambda plan: True}
    device_runs = qkd.run_hardware(folder, backend=ions, mitigation="none,affine", **options)
    assert all(device_run.result.rms.value < 0.1 for device_run in device_runs)
    compiled = qkd.transpile("hardware", ions, qubits=4)
    assert set(compiled.student.circuit.count_ops()) <= {"r", "rz", "rxx"}
    assert qkd.devices.load(str(qkd.devices.save(ions, tmp_path))).name == "ions"
    [rehearsed] = qkd.run_hardware(folder, backend=ions, mitigation="readout", local=True, **options)
    assert rehearsed.result.rms.value < 0.1


def test_a_backend_of_the_same_name_with_other_gates_gets_a_plan_of_its_own(folder):
    options = {"samples": 4, "shots": 128, "mitigation": "none", "seed": 7, "confirm": lambda plan: True}
    with pytest.raises(KeyboardInterrupt):
        qkd.run_hardware(folder, backend=Interrupted(5, seed=3), **options)
    other = GenericBackendV2(5, basis_gates=["cz", "rz", "sx", "x"], seed=3)
    [done] = qkd.run_hardware(folder, backend=other, **options)
    assert "cz" in done.plan.student.circuit.count_ops()


class Ions(BackendV2):
    """A simulator of trapped ions whose target has no places and no errors."""

    max_circuits = 50

    def __init__(self):
        super().__init__(name="ions")
        self._target = Target(num_qubits=6)
        for gate in (RZGate(Parameter("a")), RGate(Parameter("a"), Parameter("b")), RXXGate(Parameter("a")), Measure()):
            self._target.add_instruction(gate)

    @property
    def target(self):
        return self._target

    @classmethod
    def _default_options(cls):
        return Options(shots=100)

    def run(self, circuits, shots=100, **_):
        return AerSimulator().run(circuits, shots=shots, seed_simulator=1)


class Interrupted(GenericBackendV2):
    """A backend on which the user interrupts every job."""

    def run(self, *_, **__):
        raise KeyboardInterrupt
