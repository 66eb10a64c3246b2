"""Density matrices, for circuits under noise whose light cones are wide, and the choice of an engine."""

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.noise import NoiseModel, ReadoutError, amplitude_damping_error, depolarizing_error

from qkd import QkdError
from qkd.circuits import library
from qkd.core.config import EngineSpec
from qkd.engines import DensityMatrixEstimator, LightConeEstimator, StatevectorEstimator
from qkd.simulation.factory import cost, make_engine, work


@pytest.fixture
def noise():
    model = NoiseModel()
    model.add_all_qubit_quantum_error(amplitude_damping_error(0.05), ["rz", "ry", "rx"])
    model.add_all_qubit_quantum_error(depolarizing_error(0.03, 2), ["cz", "cx", "rzz"])
    model.add_readout_error(ReadoutError([[0.9, 0.1], [0.05, 0.95]]), [0])
    return model


def values(student, rows, seed):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.uniform(-3, 3, (rows, len(student.inputs))), requires_grad=True)
    return x, torch.tensor(rng.uniform(-3, 3, len(student.weights)), requires_grad=True)


def compiled(engine, student):
    return engine.compile(student.circuit, student.observables, student.inputs, student.weights)


@pytest.mark.parametrize(("name", "layers"), [("qdllm", 1), ("reupload", 2), ("hardware", 2)])
def test_a_density_matrix_says_what_light_cones_say(name, layers, noise):
    student = library.load_circuit(name, 5, layers)
    x, w = values(student, 3, 1)
    found = []
    for engine in (DensityMatrixEstimator(noise), LightConeEstimator(noise)):
        evs = compiled(engine, student)(x, w)
        found.append([evs, *torch.autograd.grad((evs * torch.arange(evs.numel()).view_as(evs)).sum(), (x, w))])
    for mine, other in zip(*found, strict=True):
        assert torch.allclose(mine, other, atol=1e-9)


def test_a_density_matrix_takes_any_observable(noise):
    circuit, a = QuantumCircuit(4), Parameter("a")
    circuit.h(0)
    circuit.crx(2 * a + 1, 0, 1)
    circuit.iswap(1, 2)
    circuit.cp(a, 2, 0)
    observables = [SparsePauliOp(["XYIZ", "IIIX", "IIII"], [0.5, 2, -1]), SparsePauliOp("IIZI")]
    x = torch.tensor([[0.4], [1.9]], dtype=torch.float64)
    none = torch.zeros(0, dtype=torch.float64)
    ideal = StatevectorEstimator().compile(circuit, observables, [a], [])(x, none)
    assert torch.allclose(DensityMatrixEstimator().compile(circuit, observables, [a], [])(x, none), ideal, atol=1e-9)


def test_auto_picks_by_what_a_step_costs_and_says_why(noise):
    spec = EngineSpec(torch_device="cpu")
    picks = {
        ("hardware", 11, 2): "lightcone",
        ("hardware", 100, 2): "lightcone",
        ("qdllm", 11, 2): "lightcone",
        ("reupload", 5, 6): "density",
    }
    for (name, n, layers), expected in picks.items():
        engine = make_engine(spec, library.load_circuit(name, n, layers), noise)
        assert engine.describe().startswith(expected) and "qubits" in engine.describe()
    assert make_engine(spec, library.load_circuit("qdllm")).describe().startswith("statevector")
    default = [make_engine(spec, library.load_circuit("hardware"), rows=rows).kind for rows in (1, 32, 1024)]
    assert default == ["statevector", "statevector", "lightcone"]
    assert make_engine(spec, library.load_circuit("hardware", 100)).describe().startswith("lightcone")
    with pytest.raises(QkdError, match="too wide for any exact engine"):
        make_engine(EngineSpec(torch_device="cpu", accuracy=0), library.load_circuit("qdllm", 24), noise)
    for name, n, layers in (("qdllm", 24, 2), ("hardware", 127, 6), ("reupload", 127, 5)):
        for model in (noise, None):
            assert make_engine(spec, library.load_circuit(name, n, layers), model).describe().startswith("lightcone")
    with pytest.raises(QkdError, match="has no noise"):
        make_engine(EngineSpec(engine="statevector", torch_device="cpu"), library.load_circuit("product"), noise)


@pytest.mark.parametrize("name", ["hardware", "qdllm", "reupload", "product"])
def test_what_auto_weighs_grows_with_rows_and_layers(name, noise):
    for model in (None, noise):
        before = {}
        for layers, rows in ((1, 1), (1, 64), (2, 64), (2, 512)):
            found, width = work(library.load_circuit(name, 6, layers), model, rows)
            assert set(found) == {"lightcone", "density" if model else "statevector"} and 1 <= width <= 6
            for kind, one in found.items():
                assert cost(kind, one) >= before.get(kind, 0)  # a product of rotations does not grow with layers
                before[kind] = cost(kind, one)
    wide, _ = work(library.load_circuit("hardware", 100, 2), None, 64)
    assert set(wide) == {"lightcone"}
    narrow = cost("lightcone", work(library.load_circuit("hardware", 20, 2), None, 64)[0]["lightcone"])
    assert (
        cost("lightcone", wide["lightcone"]) < 5.5 * narrow
    )  # no more than the observables, which are 5 times as many


def test_too_many_qubits_are_refused(noise):
    with pytest.raises(QkdError, match="depend on 22 qubits"):
        compiled(DensityMatrixEstimator(noise), library.load_circuit("qdllm", 22, 1))
