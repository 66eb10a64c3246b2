"""Student circuits as OpenQASM 3: a plain program whose comments say what is data and what is measured.

    // qkd.name: mine
    // qkd.inputs: x0 x1
    // qkd.start: 1.5707963 1.5707963
    // qkd.observables: Z0 ; 0.5 X0 + 0.5 Z0 Z1
    OPENQASM 3.0;
    input float[64] x0;
    ...

Every other ``input`` is a weight, in the order of ``// qkd.weights:`` where that is given, else in that of declaration.
``// qkd.start:`` says around which values of the inputs training starts; it is found where it is left out.
"""

from __future__ import annotations

import re

from qiskit import qasm3
from qiskit.circuit import Gate, Parameter, QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit_qasm3_import import convert

from qkd.circuits import limits
from qkd.circuits.observables import observable_text, parse_observables
from qkd.circuits.student import StudentCircuit
from qkd.core.errors import CircuitError, QkdError, nearest

_COMMENT = re.compile(r"^\s*//\s*qkd\.(\w+)\s*:\s*(.*?)\s*$", re.MULTILINE)
_DECLARED = re.compile(r"^\s*input\s+(?:float|angle)\s*(?:\[\s*\d+\s*\])?\s+(\w+)\s*;", re.MULTILINE)
_KEYS = ("name", "inputs", "weights", "start", "observables")


def to_qasm(student: StudentCircuit) -> str:
    """Return a student circuit as text that ``from_qasm`` reads back; inputs become x0..., weights w0...."""
    inputs = [Parameter(f"x{i}") for i in range(len(student.inputs))]
    weights = [Parameter(f"w{i}") for i in range(len(student.weights))]
    plain = QuantumCircuit(student.num_qubits)  # without the layout, which would turn qubits into hardware addresses
    plain.compose(student.circuit, inplace=True)
    # two steps, because a new name may be another parameter's old one; a name longer than all others is free
    free = "_" * max((len(p.name) for p in student.parameters), default=0)
    between = [Parameter(f"{free}{i}") for i in range(len(student.parameters))]
    plain.assign_parameters(dict(zip(student.parameters, between, strict=True)), inplace=True)
    plain.assign_parameters(dict(zip(between, [*inputs, *weights], strict=True)), inplace=True)
    head = [
        f"// qkd.name: {' '.join(student.name.split())}",
        f"// qkd.inputs: {' '.join(p.name for p in inputs)}",
        f"// qkd.weights: {' '.join(p.name for p in weights)}",
        *([f"// qkd.start: {' '.join(map(repr, student.start))}"] if student.start else []),
        f"// qkd.observables: {' ; '.join(observable_text(observable) for observable in student.observables)}",
    ]
    return "\n".join([*head, qasm3.dumps(plain)])


def from_qasm(text: str, where: str = "the OpenQASM 3 program") -> StudentCircuit:
    """Return the student circuit that a program and its ``// qkd.`` comments describe.

    Args:
        text: the program.
        where: what an error calls it.

    Raises:
        QkdError: it does not parse, stands for more than ``qkd.circuits.limits`` allow, uses classical
            bits, or does not say which of its ``input`` parameters are data.
    """
    header: dict[str, str] = {}
    for key, value in _COMMENT.findall(text):
        if key not in _KEYS:
            raise CircuitError(f"{where}: the comment 'qkd.{key}' means nothing{nearest(key, _KEYS)}")
        header[key] = value
    if "inputs" not in header:
        raise CircuitError(f"{where}: a line '// qkd.inputs: x0 x1 ...' must say which input parameters are data")
    try:
        circuit = _standard(convert(limits.syntax(text, where)))
    except QkdError:
        raise
    except Exception as error:  # the importer's parts raise errors of many types
        raise CircuitError(f"{where}: not an OpenQASM 3 program that Qiskit reads ({_reason(error)})") from None
    by_name = {parameter.name: parameter for parameter in circuit.parameters}
    declared = [name for name in _DECLARED.findall(text) if name in by_name]
    inputs = _listed(header["inputs"])
    weights = _listed(header["weights"]) if "weights" in header else [n for n in declared if n not in inputs]
    for name in [*inputs, *weights]:
        if name not in by_name:
            raise CircuitError(f"{where}: '{name}' is no input parameter that the circuit uses{nearest(name, by_name)}")
    try:
        return StudentCircuit(
            circuit,
            tuple(by_name[name] for name in inputs),
            tuple(by_name[name] for name in weights),
            parse_observables(
                [part.strip() for part in header.get("observables", "z-each").split(";")], circuit.num_qubits
            ),
            name=header.get("name", "circuit"),
            start=tuple(map(float, _listed(header.get("start", "")))),
        )
    except ValueError:
        raise CircuitError(f"{where}: '// qkd.start: {header['start']}' must give a number for each input") from None
    except QkdError as error:
        raise CircuitError(f"{where}: {error}") from None


def _reason(error: BaseException) -> str:
    """Return what an error of the importer says or, where it says nothing, the token at which parsing stopped."""
    message = " ".join(str(error).split())
    cause: object = error
    while not message and isinstance(cause, BaseException):
        token = getattr(cause, "offendingToken", None)
        if token is not None:
            return f"line {token.line}: '{token.text}' is not expected here"
        cause = cause.__cause__ or next(iter(cause.args), None)  # ANTLR hides the error it met in its arguments
    return message or type(error).__name__


def _listed(names: str) -> list[str]:
    return [name for name in re.split(r"[,\s]+", names) if name]


def _standard(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return ``circuit`` with gates that bear a standard gate's name and matrix as that gate.

    A program must define gates such as rzz itself, and the importer makes strangers of them.
    """
    known = get_standard_gate_name_mapping()
    plain = circuit.copy_empty_like()
    for item in circuit.data:
        gate = item.operation
        standard = known.get(gate.name)
        alike = standard is not None and (gate.num_qubits, len(gate.params)) == (
            standard.num_qubits,
            len(standard.params),
        )
        if alike and type(gate) is not type(standard):
            replacement = type(standard)(*gate.params)
            if _same(gate, replacement):
                gate = replacement
        plain.append(gate, item.qubits, item.clbits)
    return plain


def _same(first: Gate, second: Gate) -> bool:
    """Whether two gates with the same parameters are one unitary, tried at fixed odd angles."""
    from qiskit.quantum_info import Operator

    matrices = []
    for gate in (first, second):
        circuit = QuantumCircuit(gate.num_qubits)
        circuit.append(gate, range(gate.num_qubits))
        values = {p: 0.37 + 0.91 * i for i, p in enumerate(sorted(circuit.parameters, key=lambda p: p.name))}
        matrices.append(Operator(circuit.assign_parameters(values)))
    return matrices[0].equiv(matrices[1])
