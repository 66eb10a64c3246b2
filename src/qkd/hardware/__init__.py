"""Device runs: their cost, their jobs, and their results.

::

    runs = qkd.run_hardware(device="ibm_fez", local=True, samples=20, mitigation="readout")
    runs = qkd.run_hardware(device="ibm_fez", detach=True, confirm=lambda plan: plan.budget.seconds < 60)
    qkd.hardware.collect("runs/latest")

=================== ================================================================================
`DeviceRunRequest`  a request to classify texts; ``qkd.run_hardware`` makes one from its options
`LearningRequest`   a request to learn a device's errors; ``qkd.learn`` makes one from its options
`Plan`              everything about a device run that is decided before anything is submitted
`Budget`            its estimated cost
`Mitigation`        a mitigation method with its shots, twirls and pulses
`DeviceRun`         plan, jobs and result of a device run
`collect`           submit what is due, fetch what is done
`cancel`            cancel jobs that have not ended
`list_jobs`         every job of a run, from its ledger
`rank_devices`      which device suits a student best
=================== ================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.hardware.budget import Budget
    from qkd.hardware.fitness import rank_devices
    from qkd.hardware.index import list_jobs
    from qkd.hardware.mitigation import Mitigation
    from qkd.hardware.plan import Plan
    from qkd.hardware.request import DeviceRunRequest, LearningRequest
    from qkd.hardware.result import DeviceRun
    from qkd.hardware.run import cancel, collect

__all__ = [
    "Budget",
    "DeviceRun",
    "DeviceRunRequest",
    "LearningRequest",
    "Mitigation",
    "Plan",
    "cancel",
    "collect",
    "list_jobs",
    "rank_devices",
]

__getattr__, __dir__ = exports(__name__)
