"""Engines: Qiskit V2 estimators that also compile a circuit to a function torch can differentiate.

Every estimator here is a :class:`qiskit.primitives.BaseEstimatorV2`; :class:`EngineGradient` gives its gradients in
the form that ``EstimatorQNN`` takes. They need no language model and no other package of qkd::

    from qiskit_machine_learning.neural_networks import EstimatorQNN
    from qkd.engines import EngineGradient, StatevectorEstimator

    engine = StatevectorEstimator()
    qnn = EstimatorQNN(circuit=circuit, estimator=engine, gradient=EngineGradient(engine))

========================== ============================== =====================================================
estimator                  values                         cost
========================== ============================== =====================================================
`StatevectorEstimator`     exact, ideal                   2^n amplitudes a row; all gradients in one sweep
`LightConeEstimator`       exact, ideal or noisy          4^w coefficients of each light cone of w qubits, once
                                                          for a whole batch
`DensityMatrixEstimator`   exact, noisy                   4^n coefficients a row
`AerEstimator`             sampled by Aer, with stds      shots
========================== ============================== =====================================================

`EngineEstimator` is their base class, :class:`EngineGradient` computes their gradients, and `Noise` is their noise
model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.engines.aer import AerEstimator
    from qkd.engines.base import EngineEstimator
    from qkd.engines.density import DensityMatrixEstimator
    from qkd.engines.gradient import EngineGradient
    from qkd.engines.lightcone import LightConeEstimator
    from qkd.engines.noise import Noise
    from qkd.engines.statevector import StatevectorEstimator

__all__ = [
    "AerEstimator",
    "DensityMatrixEstimator",
    "EngineEstimator",
    "EngineGradient",
    "LightConeEstimator",
    "Noise",
    "StatevectorEstimator",
]

__getattr__, __dir__ = exports(__name__)
