"""Student circuits, and the files that define them.

::

    circuit = qkd.circuits.load("hardware", qubits=6)
    circuit.circuit.draw("mpl")

================== ===================================================================================================
`load`             returns the circuit of a name, a TOML file or an OpenQASM 3 program
`paths`            returns the circuit files by name
`StudentCircuit`   a Qiskit circuit, its A inputs, its P weights and K observables
`CircuitSpec`      the content of a TOML file
`to_qasm`          writes a circuit as OpenQASM 3 with its inputs, weights and observables
`from_qasm`        reads it
================== ===================================================================================================

`qkd.circuits.limits` has the limits on the size of a circuit. `qkd.simulation.check_circuit` finds dead and redundant
weights. `qkd.transpile` compiles a circuit for a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.circuits.build import CircuitSpec
    from qkd.circuits.library import load_circuit as load
    from qkd.circuits.library import paths
    from qkd.circuits.qasm import from_qasm, to_qasm
    from qkd.circuits.student import StudentCircuit

__all__ = ["CircuitSpec", "StudentCircuit", "from_qasm", "load", "paths", "to_qasm"]

__getattr__, __dir__ = exports(__name__)
