"""A pytest plugin that puts our engines where a test suite of others takes Qiskit's estimators.

Loaded with ``-p tests.outside.substitute`` before the tests are imported; the environment variable QKD_ENGINE names the
engine. An exact one takes the place of ``StatevectorEstimator`` and ``QMLEstimator``, one that samples that of
``BackendEstimatorV2``; a QNN takes our gradient for our engines. At the end it says how many PUBs the engine has
answered.
"""

import os
from types import SimpleNamespace

import qiskit.primitives
import qiskit_ibm_runtime
import qiskit_machine_learning.primitives
from qiskit_machine_learning.gradients import ParamShiftEstimatorGradient
from qiskit_machine_learning.neural_networks import estimator_qnn

from qkd import engines

EXACT = {
    "statevector": engines.StatevectorEstimator,
    "lightcone": engines.LightConeEstimator,
    "density": engines.DensityMatrixEstimator,
}
answered = 0


class Counted:
    """Counts the PUBs of an engine."""

    def run(self, pubs, **options):
        """Answer PUBs."""
        global answered
        if not isinstance(pubs, qiskit.QuantumCircuit):
            pubs = list(pubs)
            answered += len(pubs)
        return super().run(pubs, **options)


class Exact(Counted, EXACT.get(os.environ["QKD_ENGINE"], engines.StatevectorEstimator)):
    """An engine with the arguments of Qiskit's estimator, which it has no use for: it is exact."""

    def __init__(self, *, default_precision=0.0, seed=None):
        super().__init__(device="cpu")


class Sampled(Counted, engines.AerEstimator):
    """An engine that samples, with the arguments of Qiskit's estimator."""

    def __init__(self, *, backend, options=None):
        options = options or {}
        shots = round(options.get("default_precision", 1 / 64) ** -2)
        super().__init__(shots=shots, seed=options.get("seed_simulator") or 0)
        self.options = SimpleNamespace()  # how strings are grouped is ours to say


class Remote(Counted, engines.AerEstimator):
    """An engine that samples, with the arguments of the runtime client's estimator; its backend has no part in it."""

    def __init__(self, mode=None, options=None):
        super().__init__(shots=4096, seed=0)


def gradient(estimator, **options):
    """The gradient that a QNN makes itself."""
    ours = isinstance(estimator, engines.EngineEstimator)
    return engines.EngineGradient(estimator) if ours else ParamShiftEstimatorGradient(estimator, **options)


estimator_qnn.ParamShiftEstimatorGradient = gradient
if os.environ["QKD_ENGINE"] in EXACT:
    qiskit.primitives.StatevectorEstimator = Exact
    qiskit_machine_learning.primitives.QMLEstimator = estimator_qnn.Estimator = Exact
else:
    qiskit.primitives.BackendEstimatorV2 = Sampled
    qiskit_ibm_runtime.EstimatorV2 = Remote


def pytest_terminal_summary(terminalreporter):
    """Say how much of the suite has met the engine."""
    terminalreporter.write_line(f"answered {answered} PUBs with {os.environ['QKD_ENGINE']}")
