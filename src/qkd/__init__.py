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

Rooms, each with its page: `qkd.circuits`, `qkd.devices`, `qkd.engines`, `qkd.hardware`, `qkd.reports`,
`qkd.simulation`, `qkd.student`, `qkd.text`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.lazy import exports

if TYPE_CHECKING:
    from qkd import circuits, devices, engines, errors, hardware, reports, simulation, student, text
    from qkd.api import Run, distill, evaluate, predict, teach
    from qkd.comparison.specs import CompareSpec, SweepSpec
    from qkd.config import Config
    from qkd.device_runs import learn, run_hardware
    from qkd.devices.compiled import compile_for as transpile
    from qkd.errors import QkdError
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
    "devices",
    "distill",
    "engines",
    "errors",
    "evaluate",
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
    "text",
    "transpile",
]

# names load on first use: the command line's --help must not wait for torch and qiskit
_ROOMS = ("circuits", "devices", "engines", "errors", "hardware", "reports", "simulation", "student", "text")
_HOMES = {
    "CompareSpec": "qkd.comparison.specs",
    "Config": "qkd.config",
    "QkdError": "qkd.errors",
    "Student": "qkd.student.bundle",
    "SweepSpec": "qkd.comparison.specs",
    "compare": "qkd.studies",
    "learn": "qkd.device_runs",
    "reproduce": "qkd.studies",
    "run_hardware": "qkd.device_runs",
    "sweep": "qkd.studies",
    "transpile": "qkd.devices.compiled:compile_for",
    "__version__": "qkd.version:VERSION",
    **dict.fromkeys(("Run", "distill", "evaluate", "predict", "teach"), "qkd.api"),
    **{room: f"qkd.{room}" for room in _ROOMS},
}
__getattr__, __dir__ = exports(__name__, _HOMES)
