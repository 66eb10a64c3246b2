"""qkd distils a large language model's text classifier into a parameterized quantum circuit.

::

    import qkd

    run = qkd.distill(data="texts.csv")
    print(run.table())
    run.student.predict(["a new text"])

==================== =================================================================================================
`distill`            make a run: teacher, student, numbers with intervals
`Run`, `Student`     read one; classify texts
`evaluate`           measure a student on other texts
`predict`            classify texts, with probabilities
`compare`            several students over several seeds, and what may be concluded
`sweep`              search settings of the student, judge the best
`reproduce`          the paper's recipe on its data, beside its numbers
`teach`              let a teacher alone label a corpus
`transpile`          compile a student for a device
`run_hardware`       run it there, or rehearse that on the device's snapshot
`learn`              learn what a device's calibration does not tell, from a few circuits
`Callback`           follows the epochs, stages and jobs of a run
`Config`             every setting of a run
`CompareSpec`        every setting of a comparison; `SweepSpec` of a sweep
`QkdError`           what all errors are that a person can cause; `qkd.errors` has its kinds
==================== =================================================================================================

Packages: `qkd.circuits`, `qkd.data`, `qkd.devices`, `qkd.encoders`, `qkd.engines`, `qkd.export`,
`qkd.hardware`, `qkd.reports`, `qkd.simulation`, `qkd.student`, `qkd.teachers`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qkd.core.lazy import exports

# Before torch loads its OpenMP: threads that spin while they wait made steps 10 to 60 times slower beside other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    import qkd.circuits as circuits
    import qkd.core.errors as errors
    import qkd.data as data
    import qkd.devices as devices
    import qkd.encoders as encoders
    import qkd.engines as engines
    import qkd.export as export
    import qkd.hardware as hardware
    import qkd.reports as reports
    import qkd.simulation as simulation
    import qkd.student as student
    import qkd.teachers as teachers
    from qkd.api import distill, evaluate, predict, teach
    from qkd.core.callbacks import Callback
    from qkd.core.config import Config
    from qkd.core.errors import QkdError
    from qkd.core.version import VERSION as __version__  # noqa: F401
    from qkd.device_runs import learn, run_hardware
    from qkd.devices.compiled import compile_for as transpile
    from qkd.experiments.specs import CompareSpec, SweepSpec
    from qkd.opened import Run
    from qkd.student.bundle import Student
    from qkd.studies import compare, reproduce, sweep

    # not at run time: pydoc would print every method of every class
    __all__ = [
        "Callback",
        "CompareSpec",
        "Config",
        "QkdError",
        "Run",
        "Student",
        "SweepSpec",
        "circuits",
        "compare",
        "data",
        "devices",
        "distill",
        "encoders",
        "engines",
        "errors",
        "evaluate",
        "export",
        "hardware",
        "learn",
        "predict",
        "reports",
        "reproduce",
        "run_hardware",
        "simulation",
        "student",
        "sweep",
        "teach",
        "teachers",
        "transpile",
    ]

__getattr__, __dir__ = exports(__name__)
