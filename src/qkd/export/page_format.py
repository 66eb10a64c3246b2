"""The page format: one HTML file that classifies while a person types, without network or framework."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qkd.circuits.build import observable_text
from qkd.circuits.student import StudentCircuit
from qkd.core.errors import ModelError
from qkd.core.files import write_text
from qkd.export.numpy_format import describe_core, describe_encoder, describe_gates, form_arrays
from qkd.export.request import ExportRequest, Predictions, run_runtime
from qkd.student.bundle import Student
from qkd.student.classical import ClassicalForm, classical_form
from qkd.student.contraction import ContractedCircuit
from qkd.student.cores import QuantumCore
from qkd.student.gatelist import gate_list

# Widest circuit whose Bloch vectors the page simulates on each keystroke.
MAX_SIMULATED_QUBITS = 12
# Largest drawing, in qubits and in columns of gates.
MAX_DRAWN_QUBITS, MAX_DRAWN_COLUMNS = 40, 60
_DTYPES = {"float16": "F16", "int8": "I8"}
_CHECK = """
const fs = require("fs"), html = fs.readFileSync(process.argv[1], "utf8");
const scripts = [...html.matchAll(/<script[^>]*>([\\s\\S]*?)<\\/script>/g)].map((match) => match[1]);
const model = JSON.parse(scripts[0]), makeClassifier = new Function(scripts[1] + "; return makeClassifier;")();
const answers = JSON.parse(fs.readFileSync(0, "utf8")).map(makeClassifier(model).classify);
console.log(JSON.stringify({ classes: model.classes, labels: answers.map((answer) => model.classes[answer.label]),
  probabilities: answers.map((answer) => Array.from(answer.probabilities)) }));
"""


def write(request: ExportRequest, folder: Path) -> None:
    """Write ``index.html``.

    Raises:
        ModelError: The encoder is no hashing or static one, or the student has no classical form.
    """
    student = request.student
    encoder, arrays = describe_encoder(student.encoder, request.int8)
    model = {**_describe_form(request.form, arrays), "encoder": encoder, "threshold": request.threshold}
    model |= {
        "summary": _summary(student),
        "how": _explanation(student, request.form),
        "circuit": None,
        "control": None,
    }
    if isinstance(student.model.core, QuantumCore):
        model["circuit"] = _describe_circuit(
            student.model.circuit, student.model.core.weights.detach().cpu().double().numpy()
        )
    control = request.control.model if request.control is not None else student.control
    if request.control is not None and (
        request.control.classes != student.classes or request.control.encoder.key != student.encoder.key
    ):
        raise ModelError("the control of a page has the student's labels and encoder; this one has others")
    if control is not None:
        model["control"] = {"name": control.core.name, **_describe_form(classical_form(control), {})}
    write_text(folder / "index.html", _page(model, f"Text classifier: {', '.join(student.classes[:6])}"))


def predict(request: ExportRequest, folder: Path, texts: Sequence[str]) -> Predictions:
    """Return the answers of the page's own code in node.

    Raises:
        ModelError: node is not installed, or the code fails.
    """
    node = shutil.which("node")
    if node is None:
        raise ModelError("comparing a page with the student needs node; install it, or export with --no-check")
    return run_runtime([node, "-e", _CHECK, str(folder / "index.html")], list(texts), "the page's code")


def _page(model: Mapping[str, Any], title: str) -> str:
    sources = {name: (Path(__file__).with_name("page") / name).read_text("utf-8") for name in ("runtime.js", "page.js")}
    hashes = (base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources.values())
    page = (Path(__file__).with_name("page") / "page.html").read_text("utf-8")
    fields = {
        "HASHES": " ".join(f"'sha256-{value}'" for value in hashes),
        "TITLE": html.escape(" ".join(title.split())),
        "CSS": (Path(__file__).with_name("page") / "page.css").read_text("utf-8"),
        "RUNTIME": sources["runtime.js"],
        "PAGE": sources["page.js"],
        # A data block ends at the first "</script", so no "<" may occur in it.
        "MODEL": json.dumps(model, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    for name, value in fields.items():
        page = page.replace(f"@@{name}@@", value)
    return page


def _encoded(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, str]]:
    """Return arrays as base64 text; floats are 32 bits wide, tables keep their type."""
    encoded = {}
    for name, value in arrays.items():
        dtype = _DTYPES.get(value.dtype.name, "F32")
        data = np.ascontiguousarray(value if dtype != "F32" else value.astype(np.float32)).tobytes()
        encoded[name] = {"dtype": dtype, "data": base64.b64encode(data).decode()}
    return encoded


def _describe_form(form: ClassicalForm, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    core, own = describe_core(form)
    return {
        "classes": list(form.classes),
        "angle_map": form.angle_map,
        "core": core,
        "arrays": _encoded({**arrays, **own, **form_arrays(form)}),
    }


def _describe_circuit(circuit: StudentCircuit, weights: np.ndarray) -> dict[str, Any]:
    """Return what the page draws and, for narrow circuits, simulates."""
    gates, columns = _place_gates(circuit)
    drawn = circuit.num_qubits <= MAX_DRAWN_QUBITS and columns <= MAX_DRAWN_COLUMNS
    wires = [_wire(observable_text(observable)) for observable in circuit.observables]
    described: dict[str, Any] = {
        "qubits": circuit.num_qubits,
        "gates": gates if drawn else [],
        "columns": columns if drawn else 0,
        "observables": [observable_text(observable) for observable in circuit.observables],
        "wires": wires if len(set(wires)) == len(wires) else [-1] * len(wires),
        "simulation": None,
        "arrays": {},
    }
    if circuit.num_qubits <= MAX_SIMULATED_QUBITS:
        simulation, arrays = describe_gates(gate_list(circuit, weights), len(circuit.inputs))
        described |= {"simulation": simulation, "arrays": _encoded(arrays)}
    return described


def _place_gates(circuit: StudentCircuit) -> tuple[list[list[Any]], int]:
    """Return each gate as name, qubits, input (-1 for none) and column, and the number of columns."""
    place = {parameter: i for i, parameter in enumerate(circuit.inputs)}
    free = [0] * circuit.num_qubits
    gates = []
    for item in circuit.circuit.data:
        if item.operation.name == "barrier":
            continue
        qubits = [circuit.circuit.find_bit(qubit).index for qubit in item.qubits]
        crossed = range(min(qubits), max(qubits) + 1)
        column = max(free[qubit] for qubit in crossed)
        for qubit in crossed:
            free[qubit] = column + 1
        used = {place[p] for value in item.operation.params for p in getattr(value, "parameters", ()) if p in place}
        gates.append([item.operation.name, qubits, used.pop() if len(used) == 1 else -1, column])
    return gates, max(free, default=0)


def _wire(observable: str) -> int:
    """Return the qubit of an observable such as Z3, or -1 for any other."""
    return int(observable[1:]) if observable[0] == "Z" and observable[1:].isdecimal() else -1


def _summary(student: Student) -> str:
    core = student.model.core
    what = f"A classical model '{core.name}'"
    if isinstance(core, QuantumCore):
        what = f"A circuit of {core.circuit.num_qubits} qubits"
    teacher = student.about.teacher
    origin = "" if teacher == "unknown" else f", distilled from the teacher {teacher},"
    return f"{what}{origin} classifies as you type. Everything is computed in this page, and no text leaves it."


def _explanation(student: Student, form: ClassicalForm) -> str:
    core = form.core
    features = "a classical layer"
    if isinstance(core, ContractedCircuit):
        features = (
            f"the {len(core.contractions)} expectation values of the circuit, computed exactly as tensor contractions "
            f"of its light cones with {core.num_numbers:,} coefficients"
        )
    elif isinstance(student.model.core, QuantumCore):
        features = f"{len(form.head)} expectation values of the circuit, simulated as a statevector"
    return (
        f"The encoder {student.encoder.name} makes {len(form.weight)} numbers of a text. A linear projection and the "
        f"function {form.angle_map} turn them into {form.weight.shape[1]} angles. The features are {features}. A "
        f"linear head with a softmax gives the probabilities of the {len(form.classes)} labels. The color of a word "
        "shows how much the label's probability falls when the word is removed."
    )
