"""The qasm format: the trained circuit as OpenQASM 3, and the arithmetic around it as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qiskit import qasm3
from qiskit.circuit import Parameter, QuantumCircuit

from qkd.circuits.build import observable_text
from qkd.circuits.student import StudentCircuit
from qkd.core.errors import ModelError
from qkd.core.files import write_text
from qkd.devices.compiled import compile_for
from qkd.export.request import ExportRequest, Predictions, run_runtime
from qkd.student.classical import linear_form
from qkd.student.gatelist import MAX_QUBITS

# Number of texts that are compared with the student, because each is simulated by Qiskit.
MAX_CHECKED_TEXTS = 200
_FORMULAS = {"tanh": "pi * tanh(z)", "minmax": "10 * (z - min(z)) / (max(z) - min(z) + 1e-9)", "none": "z"}
# Reads the program with Qiskit's importer and simulates it; qkd is not loaded.
_CHECK = """
import json, sys
sys.modules["qkd"] = None
import numpy as np
from qiskit import qasm3
from qiskit.quantum_info import SparsePauliOp, Statevector
folder, rows = sys.argv[1], json.load(sys.stdin)
about = json.load(open(folder + "/student.json", encoding="utf-8"))
circuit = qasm3.loads(open(folder + "/circuit.qasm", encoding="utf-8").read())
place = {parameter.name: parameter for parameter in circuit.parameters}
observables = [
    SparsePauliOp.from_sparse_list([(t["paulis"], t["qubits"], t["coefficient"]) for t in terms], circuit.num_qubits)
    for terms in about["observables"]["terms"]
]
z = np.array(rows) @ np.array(about["angles"]["weight"]) + about["angles"]["bias"]
angles = np.pi * np.tanh(z)
if about["angles"]["map"] == "minmax":
    low, high = z.min(axis=1, keepdims=True), z.max(axis=1, keepdims=True)
    angles = 10 * (z - low) / (high - low + 1e-9)
values = []
for row in angles:
    bound = {place[name]: value for name, value in zip(about["inputs"], row) if name in place}
    state = Statevector(circuit.assign_parameters(bound))
    values.append([state.expectation_value(observable).real for observable in observables])
logits = np.array(values) @ np.array(about["head"]["weight"]) + about["head"]["bias"]
weights = np.exp(logits - logits.max(axis=1, keepdims=True))
shares = weights / weights.sum(axis=1, keepdims=True)
labels = [about["classes"][i] for i in shares.argmax(axis=1)]
print(json.dumps({"classes": about["classes"], "labels": labels, "probabilities": shares.tolist()}))
"""


def write(request: ExportRequest, folder: Path) -> None:
    """Write ``circuit.qasm``, ``student.json`` and, for a device, ``isa.qasm``.

    Raises:
        ModelError: The student is a classical control, or no program of the circuit can be written.
    """
    model = request.student.model
    circuit, weights = model.circuit, model.quantum.weights.detach().cpu().double().numpy()
    about = _describe(request, circuit)
    if request.device is not None:
        compiled = compile_for(circuit, request.device)
        write_text(folder / "isa.qasm", _program(compiled.student, weights))
        about["isa"] = {
            "device": compiled.device.name,
            "physical_qubits": list(compiled.qubits),
            "observables": [observable_text(observable) for observable in compiled.student.observables],
        }
    write_text(folder / "circuit.qasm", _program(circuit, weights))
    write_text(folder / "student.json", json.dumps(about, indent=1, ensure_ascii=False))


def predict(request: ExportRequest, folder: Path, texts: Sequence[str]) -> Predictions:
    """Return the answers of the program in Qiskit's statevector simulation, run without qkd.

    Raises:
        ModelError: The circuit is too wide for a statevector.
    """
    qubits = request.student.model.circuit.num_qubits
    if qubits > MAX_QUBITS:
        raise ModelError(
            f"comparing the program with the student needs a statevector, and {qubits} qubits are more than "
            f"{MAX_QUBITS}; export with --no-check"
        )
    rows = request.student.encoder.encode(list(texts)).tolist()
    return run_runtime([sys.executable, "-c", _CHECK, str(folder)], rows, "Qiskit")


def _program(circuit: StudentCircuit, weights: np.ndarray) -> str:
    """Return a circuit with fixed weights as OpenQASM 3; its inputs are called x0, x1, ..."""
    names = {parameter: Parameter(f"_input{i}") for i, parameter in enumerate(circuit.inputs)}
    values = dict(zip(circuit.weights, weights.tolist(), strict=True))
    bound: QuantumCircuit = circuit.circuit.assign_parameters({**values, **names})
    # In two steps, because a new name may be another parameter's old one.
    final = {parameter: Parameter(f"x{i}") for i, parameter in enumerate(names.values())}
    bound.assign_parameters(final, inplace=True)
    try:
        return f"// Expectation values and labels: see student.json.\n{qasm3.dumps(bound)}"
    except qasm3.QASM3ExporterError as error:
        raise ModelError(f"circuit '{circuit.name}' cannot be written as OpenQASM 3 ({error})") from None


def _describe(request: ExportRequest, circuit: StudentCircuit) -> dict[str, Any]:
    form = linear_form(request.student.model)
    terms = [
        [
            {"paulis": letters, "qubits": list(qubits), "coefficient": float(np.real(coefficient))}
            for letters, qubits, coefficient in observable.to_sparse_list()
        ]
        for observable in circuit.observables
    ]
    return {
        "classes": list(form.classes),
        "encoder": request.student.encoder.name,
        "inputs": [f"x{i}" for i in range(len(circuit.inputs))],
        "angles": {
            "explanation": "The inputs, radians, of the encoder's embedding e of a text, with z = e @ weight + bias.",
            "formula": _FORMULAS[form.angle_map],
            "map": form.angle_map,
            "weight": form.weight.tolist(),
            "bias": form.bias.tolist(),
        },
        "observables": {
            "explanation": "Measure the expectation value v of each observable on the circuit's final state.",
            "texts": [observable_text(observable) for observable in circuit.observables],
            "terms": terms,
        },
        "head": {
            "explanation": "Probabilities of the classes from the expectation values.",
            "formula": "softmax(v @ weight + bias)",
            "weight": form.head.tolist(),
            "bias": form.head_bias.tolist(),
        },
        "threshold": request.threshold,
        "isa": None,
    }
