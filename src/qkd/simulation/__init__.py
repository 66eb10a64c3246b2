"""Which engine answers, for which circuit, on which device, and whether it agrees with Aer.

::

    student = qkd.circuits.load("hardware")
    print(qkd.simulation.check_circuit(student).render())
    engine = qkd.simulation.make_engine(EngineSpec(), student)

==================== =================================================================================================
`make_engine`        the engine for a circuit, ideal or under a noise model
`Engine`             an estimator and its gradient, and why it was picked
`choose`             the fastest engine that is exact for a circuit, by operation counts
`compare_with_aer`   compare an engine with AerSimulator
`check_circuit`      dead and redundant weights, light cones, the response to the data
`linear_response`    how linearly expectation values respond to the data where training starts
==================== =================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.simulation.agree import agree as compare_with_aer
    from qkd.simulation.check import check as check_circuit
    from qkd.simulation.choice import choose
    from qkd.simulation.response import linear_response
    from qkd.simulation.simulators import Engine, make_engine

__all__ = ["Engine", "check_circuit", "choose", "compare_with_aer", "linear_response", "make_engine"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Engine": "qkd.simulation.simulators",
        "check_circuit": "qkd.simulation.check:check",
        "choose": "qkd.simulation.choice",
        "compare_with_aer": "qkd.simulation.agree:agree",
        "linear_response": "qkd.simulation.response",
        "make_engine": "qkd.simulation.simulators",
    },
)
