"""Student circuits: files to circuits, and where the files are found.

::

    student = qkd.circuits.load("hardware", qubits=6)
    student.circuit.draw("mpl")

================== ===================================================================================================
`load`             the circuit of a name, a TOML file or an OpenQASM 3 program
`paths`            the files that can be named
`StudentCircuit`   a Qiskit circuit, its A inputs, its P weights and K observables
`CircuitSpec`      what a TOML file says
`to_qasm`          a circuit as OpenQASM 3 with its inputs, weights and observables
`from_qasm`        and back
================== ===================================================================================================

How large a circuit may be: `qkd.circuits.limits`. What is dead or redundant in one: `qkd.simulation.check_circuit`.
What a device makes of one: `qkd.transpile`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.circuits.library import load_circuit as load
    from qkd.circuits.library import paths
    from qkd.circuits.qasm import from_qasm, to_qasm
    from qkd.circuits.spec import CircuitSpec
    from qkd.circuits.student import StudentCircuit

__all__ = ["CircuitSpec", "StudentCircuit", "from_qasm", "load", "paths", "to_qasm"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "CircuitSpec": "qkd.circuits.spec",
        "StudentCircuit": "qkd.circuits.student",
        "from_qasm": "qkd.circuits.qasm",
        "load": "qkd.circuits.library:load_circuit",
        "paths": "qkd.circuits.library",
        "to_qasm": "qkd.circuits.qasm",
    },
)
