"""Simulation: the engine for a circuit on a device, its cost, and comparisons with Aer.

::

    student = qkd.circuits.load("hardware")
    print(qkd.simulation.check_circuit(student).render())
    engine = qkd.simulation.make_engine(EngineSpec(), student)

==================== =================================================================================================
`make_engine`        make the engine for a circuit, ideal or under a noise model
`Engine`             an estimator with its gradient and the reason for its choice
`choose`             choose the fastest exact engine for a circuit by operation counts
`compare_with_aer`   compare an engine with AerSimulator
`check_circuit`      find dead and redundant weights, light cones and the response to the data
`linear_response`    measure how linearly expectation values respond to the data
==================== =================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.simulation.aer_check import compare_with_aer
    from qkd.simulation.diagnostics import check_circuit
    from qkd.simulation.factory import Engine, choose, make_engine
    from qkd.simulation.start import linear_response

__all__ = ["Engine", "check_circuit", "choose", "compare_with_aer", "linear_response", "make_engine"]

__getattr__, __dir__ = exports(__name__)
