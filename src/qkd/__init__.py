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
    from qkd import circuits, data, devices, encoders, engines, export, hardware, reports, simulation, student, teachers
    from qkd.api import Run, distill, evaluate, predict, teach
    from qkd.core import errors
    from qkd.core.config import Config
    from qkd.core.errors import QkdError
    from qkd.device_runs import learn, run_hardware
    from qkd.devices.compiled import compile_for as transpile
    from qkd.experiments.specs import CompareSpec, SweepSpec
    from qkd.student.bundle import Student
    from qkd.studies import compare, reproduce, sweep

    __version__: str

__all__ = [
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

# names load on first use: the command line's --help must not wait for torch and qiskit
_PACKAGES = (
    "circuits",
    "data",
    "devices",
    "encoders",
    "engines",
    "export",
    "hardware",
    "reports",
    "simulation",
    "student",
    "teachers",
)
_HOMES = {
    "CompareSpec": "qkd.experiments.specs",
    "Config": "qkd.core.config",
    "QkdError": "qkd.core.errors",
    "Student": "qkd.student.bundle",
    "SweepSpec": "qkd.experiments.specs",
    "compare": "qkd.studies",
    "learn": "qkd.device_runs",
    "reproduce": "qkd.studies",
    "run_hardware": "qkd.device_runs",
    "sweep": "qkd.studies",
    "transpile": "qkd.devices.compiled:compile_for",
    "__version__": "qkd.core.version:VERSION",
    **dict.fromkeys(("Run", "distill", "evaluate", "predict", "teach"), "qkd.api"),
    "errors": "qkd.core.errors",
    **{name: f"qkd.{name}" for name in _PACKAGES},
}
__getattr__, __dir__ = exports(__name__, _HOMES)
