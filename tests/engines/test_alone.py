"""The engines in a clean environment: qkd's source, the packages that they import, and their dependencies."""

import re
import subprocess
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import qkd

PACKAGES = ("numpy", "scipy", "torch", "qiskit", "qiskit-aer", "qiskit-machine-learning", "cachetools")
ABSENT = ("transformers", "pandas", "pydantic", "typer", "rich", "qiskit_ibm_runtime", "safetensors", "matplotlib")
SCRIPT = f"""
from importlib.util import find_spec

assert not [name for name in {ABSENT} if find_spec(name)]

import numpy as np
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.noise import NoiseModel, depolarizing_error
from qiskit_machine_learning.neural_networks import EstimatorQNN

from qkd.engines import (
    AerEstimator,
    DensityMatrixEstimator,
    EngineGradient,
    LightConeEstimator,
    StatevectorEstimator,
)

angle, circuit = Parameter("angle"), QuantumCircuit(2)
circuit.ry(angle, 0)
circuit.cx(0, 1)
observable, angles = SparsePauliOp("ZI"), np.array([[0.3], [1.1]])  # carried back through the gates: cos(angle)
noise = NoiseModel()
noise.add_all_qubit_quantum_error(depolarizing_error(0.1, 1), ["ry"])
for kept, engine in [
    (1.0, StatevectorEstimator()),
    (1.0, LightConeEstimator()),
    (0.9, LightConeEstimator(noise)),
    (0.9, DensityMatrixEstimator(noise)),
    (0.9, AerEstimator(noise)),
]:
    data = engine.run([(circuit, observable, angles)]).result()[0].data
    assert (np.abs(data.evs - kept * np.cos(angles[:, 0])) <= 1e-9 + 5 * data.stds).all(), engine
    if not data.stds.any():
        qnn = EstimatorQNN(
            circuit=circuit, observables=observable, input_params=[angle], weight_params=[], estimator=engine,
            gradient=EngineGradient(engine), input_gradients=True, default_precision=0.0,
        )
        slopes, _ = qnn.backward(angles, [])
        assert np.abs(slopes.ravel() + kept * np.sin(angles[:, 0])).max() < 1e-9, engine
"""


def required(packages):
    """The distributions of some packages and of all that pip would install with them."""
    distributions, missing = {}, list(packages)
    while missing:
        name = re.sub(r"[-_.]+", "-", missing.pop()).lower()
        if name not in distributions:
            distributions[name] = metadata.distribution(name)
            needs = map(Requirement, distributions[name].requires or ())
            missing += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return distributions.values()


@pytest.fixture
def clean(tmp_path):
    """The Python of a new environment, in which those packages lie as links instead of being downloaded again."""
    venv.create(tmp_path / "clean")
    (site,) = tmp_path.glob("clean/lib/python*/site-packages")
    places = {  # several distributions may share a folder, as those of CUDA do
        file.parts[0]: distribution.locate_file(file.parts[0])
        for distribution in required(PACKAGES)
        for file in distribution.files
    }
    for name in places.keys() - {"..", "__pycache__"}:
        (site / name).symlink_to(places[name])
    (site / "qkd").symlink_to(Path(qkd.__file__).parent)
    return tmp_path / "clean" / "bin" / "python"


def test_the_packages_that_engines_import_are_enough_for_them(clean):
    done = subprocess.run([clean, "-I", "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
