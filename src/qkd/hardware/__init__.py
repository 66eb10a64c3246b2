"""Device runs: what they cost, how they are sent and collected, and what came back.

::

    outcomes = qkd.run_hardware(device="ibm_fez", local=True, samples=20, mitigation="readout")
    outcomes = qkd.run_hardware(device="ibm_fez", detach=True, confirm=lambda plan: plan.budget.seconds < 60)
    qkd.hardware.collect("runs/latest")

================== ===================================================================================================
`LearningOrder`    what a device is asked to tell of its errors; `qkd.learn` makes one from its options
`Order`            what is asked for; `qkd.run_hardware` makes one from its options
`Plan`             everything about one device run that is decided before anything is sent
`Budget`           what it costs
`Mitigation`       what is done against errors
`Outcome`          plan, jobs and results of one device run
`collect`          go on: send what is not sent, fetch what is done
`cancel`           cancel jobs that have not ended
`listed`           every job of a run, from its ledger
`ranked`, `drift`  which device suits a student, and what a device's change costs it
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.hardware.budget import Budget
    from qkd.hardware.fitness import drift, ranked
    from qkd.hardware.inventory import listed
    from qkd.hardware.learning import LearningOrder
    from qkd.hardware.mitigation import Mitigation
    from qkd.hardware.order import Order
    from qkd.hardware.plan import Plan
    from qkd.hardware.run import Outcome, cancel, collect

__all__ = [
    "Budget",
    "LearningOrder",
    "Mitigation",
    "Order",
    "Outcome",
    "Plan",
    "cancel",
    "collect",
    "drift",
    "listed",
    "ranked",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Budget": "qkd.hardware.budget",
        "LearningOrder": "qkd.hardware.learning",
        "Mitigation": "qkd.hardware.mitigation",
        "Order": "qkd.hardware.order",
        "Outcome": "qkd.hardware.run",
        "Plan": "qkd.hardware.plan",
        "cancel": "qkd.hardware.run",
        "collect": "qkd.hardware.run",
        "drift": "qkd.hardware.fitness",
        "listed": "qkd.hardware.inventory",
        "ranked": "qkd.hardware.fitness",
    },
)
