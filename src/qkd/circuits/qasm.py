"""Student circuits as OpenQASM 3: a plain program whose comments say which parameters are data and what is measured.

    // qkd.name: mine
    // qkd.inputs: x0 x1
    // qkd.start: 1.5707963 1.5707963
    // qkd.observables: Z0 ; 0.5 X0 + 0.5 Z0 Z1
    OPENQASM 3.0;
    input float[64] x0;
    ...

Every other ``input`` is a weight. Weights have the order of ``// qkd.weights:`` if it is given, otherwise the order of
declaration. ``// qkd.start:`` gives the input values around which training starts; without it qkd computes them.

Both directions replace gates that are not standard by their definitions. Qiskit's exporter writes a gate's definition
with the arguments of one call, and Qiskit's transpiler and Aer recognize gates by name. Neither can go wrong for a
circuit that contains no gate of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Sequence
from typing import Any

import numpy as np
from openqasm3 import ast
from qiskit.circuit import Delay, Gate, Parameter, ParameterExpression, QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit_qasm3_import import convert

from qkd.circuits import limits
from qkd.circuits.build import observable_text, parse_observables
from qkd.circuits.flatten import flattened, standard_gates
from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.errors import CircuitError, QkdError, nearest

_COMMENT = re.compile(r"//\s*qkd\.(\w+)\s*:(.*)")
_KEYS = ("name", "inputs", "weights", "start", "observables")
# the gates of stdgates.inc and the builtin U, which need no definition in a program
_INCLUDED = frozenset(
    re.findall(r"\w+", "p x y z h s sdg t tdg sx rx ry rz cx cy cz cp crx cry crz ch swap ccx cswap cu id u u1 u2 u3")
)
# angles differ by rounding alone; the last digits depend on the order of additions
_MAX_ANGLE_DIFFERENCE = 1e-9
_MAX_POWER = 16


@public
def to_qasm(circuit: StudentCircuit) -> str:
    """Return a student circuit as text that ``from_qasm`` reads back; inputs become x0..., weights w0...

    The text is read back and compared, gate by gate and angle by angle, before it is returned.

    Raises:
        QkdError: OpenQASM 3 cannot express the circuit exactly.
    """
    inputs = [Parameter(f"x{i}") for i in range(len(circuit.inputs))]
    weights = [Parameter(f"w{i}") for i in range(len(circuit.weights))]
    flat = _renamed(flattened(circuit.circuit), dict(zip(circuit.parameters, [*inputs, *weights], strict=True)))
    own: dict[str, None] = {}
    lines = []
    for item in flat.data:
        if item.operation.name in standard_gates() and item.operation.name not in _INCLUDED:
            own.setdefault(item.operation.name)
        lines.append(_statement(item.operation, [f"q[{flat.find_bit(qubit).index}]" for qubit in item.qubits]))
    head = [
        f"// qkd.name: {' '.join(circuit.name.split())}",
        f"// qkd.inputs: {' '.join(p.name for p in inputs)}",
        f"// qkd.weights: {' '.join(p.name for p in weights)}",
        *([f"// qkd.start: {' '.join(map(repr, circuit.start))}"] if circuit.start else []),
        f"// qkd.observables: {' ; '.join(observable_text(observable) for observable in circuit.observables)}",
        'OPENQASM 3.0;\ninclude "stdgates.inc";',
        *map(_gate_definition, own),
        *(f"input float[64] {p.name};" for p in [*inputs, *weights]),
        f"qubit[{flat.num_qubits}] q;",
    ]
    text = "\n".join([*head, *lines, ""])
    again = from_qasm(text, f"circuit '{circuit.name}' as OpenQASM 3")
    same = _same_gates(flat, again.circuit) and again.start == circuit.start
    observables = zip(circuit.observables, again.observables, strict=True)
    if not same or any(observable_text(old) != observable_text(new) for old, new in observables):
        raise CircuitError(f"circuit '{circuit.name}' cannot be saved: OpenQASM 3 reads it back as another circuit")
    return text


@public
def from_qasm(text: str, where: str = "the OpenQASM 3 program", inputs: Sequence[str] | None = None) -> StudentCircuit:
    """Return the student circuit that a program and its ``// qkd.`` comments describe.

    Gates that the program defines, or modifies by ``ctrl``, ``inv`` or ``pow``, become standard gates.

    Args:
        where: What error messages call the program.
        inputs: The names of the A data parameters, or of the vectors that they form, as the circuit had them before
            ``qiskit.qasm3`` wrote it. None reads the comment.

    Raises:
        QkdError: The program does not parse, exceeds a limit of ``qkd.circuits.limits``, uses classical bits, or does
            not say which of its ``input`` parameters are data.
    """
    limits.check_size(text, where)
    header = _header(text, where)
    if "inputs" not in header and not inputs:
        raise CircuitError(
            f"{where}: nothing says which input parameters are data; name them with --inputs, or in a line "
            "'// qkd.inputs: x0 x1 ...'"
        )
    names: dict[str, str] = {}
    try:
        tree = limits.syntax(text, where)
        names = _with_unique_names(tree, text)
        circuit = convert(tree)
    except QkdError:
        raise
    except Exception as error:  # the importer's parts raise errors of many types
        reason = re.sub(r"own_[\d_]+", lambda match: names.get(match[0], match[0]), _reason(error))
        raise CircuitError(f"{where}: not an OpenQASM 3 program that Qiskit reads ({reason})") from None
    circuit.name = header.get("name", "circuit")
    try:
        circuit = flattened(_recognized(circuit, names))
    except QkdError as error:
        raise CircuitError(f"{where}: {error}") from None
    by_name = {parameter.name: parameter for parameter in circuit.parameters}
    declared = [s.identifier.name for s in tree.statements if isinstance(s, ast.IODeclaration)]
    data = _listed(header["inputs"]) if not inputs else [n for word in inputs for n in _named(word, by_name)]
    listed = "weights" in header and not inputs
    weights = _listed(header["weights"]) if listed else [n for n in declared if n not in data]
    for name in [*data, *weights]:
        if name not in by_name:
            raise CircuitError(f"{where}: '{name}' is no input parameter of the program{nearest(name, by_name)}")
    try:
        return StudentCircuit(
            circuit,
            tuple(by_name[name] for name in data),
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


def _header(text: str, where: str) -> dict[str, str]:
    """Return the content of the ``// qkd.`` comments by key."""
    header: dict[str, str] = {}
    for line in text.split("\n"):
        if comment := _COMMENT.match(line.strip()):
            key, value = comment[1], comment[2].strip()
            if key not in _KEYS:
                raise CircuitError(f"{where}: the comment 'qkd.{key}' means nothing{nearest(key, _KEYS)}")
            header[key] = value
    return header


def _renamed(circuit: QuantumCircuit, names: dict[Parameter, Parameter]) -> QuantumCircuit:
    """Return a circuit with other parameters, whose names may be old names of one another."""
    free = "_" * (1 + max((len(p.name) for p in names), default=0))  # a name longer than all others is free
    between = {parameter: Parameter(f"{free}{i}") for i, parameter in enumerate(names)}
    circuit = circuit.assign_parameters(between)
    return circuit.assign_parameters({between[old]: new for old, new in names.items()})


def _statement(operation: Any, qubits: list[str]) -> str:
    """Return one operation as a statement."""
    arguments, name = ", ".join(map(_angle_text, operation.params)), operation.name
    if isinstance(operation, Delay):
        if operation.unit == "expr":
            raise CircuitError("a delay whose length is an expression cannot be written as OpenQASM 3; use a number")
        name = f"delay[{operation.duration!r}{operation.unit}]"
        arguments = ""
    if arguments:
        name = f"{'U' if name == 'u' else name}({arguments})"
    return f"{name} {', '.join(qubits)};"


def _gate_definition(name: str) -> str:
    """Return the definition of a standard gate that stdgates.inc lacks, with formal parameters."""
    gate = get_standard_gate_name_mapping()[name]
    formal = [Parameter(f"p{i}") for i in range(len(gate.params))]
    definition = _by_included_gates(type(gate)(*formal).definition)
    body = [
        _statement(item.operation, [f"q{definition.find_bit(qubit).index}" for qubit in item.qubits])
        for item in definition.data
    ]
    arguments = f"({', '.join(p.name for p in formal)})" if formal else ""
    return f"gate {name}{arguments} {', '.join(f'q{i}' for i in range(gate.num_qubits))} {{ {' '.join(body)} }}"


def _by_included_gates(definition: QuantumCircuit) -> QuantumCircuit:
    """Return a definition by the gates of stdgates.inc."""
    plain = definition.copy_empty_like()
    for item in definition.data:
        if item.operation.name in _INCLUDED:
            plain.append(item)
        else:
            plain.compose(_by_included_gates(item.operation.definition), item.qubits, inplace=True)
    return plain


def _number_text(value: Any) -> str:
    number = complex(value.numeric() if isinstance(value, ParameterExpression) else value)
    if number.imag or not math.isfinite(number.real):
        raise CircuitError(f"the angle {value} cannot be written as OpenQASM 3; it is not a finite real number")
    return repr(number.real)


def _angle_text(angle: Any) -> str:
    """Return an angle with all digits of its numbers."""
    if not isinstance(angle, ParameterExpression) or not angle.parameters:
        return _number_text(angle)
    if isinstance(angle, Parameter):
        return angle.name
    slopes = {parameter: angle.gradient(parameter) for parameter in sorted(angle.parameters, key=lambda p: p.name)}
    if any(isinstance(slope, ParameterExpression) and slope.parameters for slope in slopes.values()):
        return _symbolic_text(angle.sympify())
    constant = angle.bind(dict.fromkeys(slopes, 0.0))
    terms = [p.name if slope == 1 else f"{_number_text(slope)}*{p.name}" for p, slope in slopes.items()]
    return " + ".join([*terms, _number_text(constant)] if constant != 0 else terms)


def _symbolic_text(expression: Any) -> str:
    """Return a sympy expression by the four operations that the importer reads."""
    if expression is NotImplemented:  # Qiskit's answer for powers of numbers
        raise CircuitError("powers of numbers cannot be written as OpenQASM 3; use sums, products and quotients")
    if expression.is_Symbol:
        return str(expression.name)
    if expression.is_Rational or expression.is_Float or expression.is_NumberSymbol:
        return f"({float(expression)!r})"
    if expression.is_Add or expression.is_Mul:
        return f"({(' + ' if expression.is_Add else ' * ').join(map(_symbolic_text, expression.args))})"
    if expression.is_Pow and expression.exp.is_Integer and abs(expression.exp) <= _MAX_POWER:
        power = " * ".join([_symbolic_text(expression.base)] * abs(int(expression.exp)))
        return f"({power})" if expression.exp > 0 else f"(1.0 / ({power}))"
    raise CircuitError(
        f"the angle '{expression}' cannot be written as OpenQASM 3; use sums, products and quotients of parameters"
    )


def _same_gates(first: QuantumCircuit, second: QuantumCircuit) -> bool:
    """Return whether two circuits of standard gates have the same gates, with equal angles at random points.

    Parameters of the two are identified by name.
    """
    if len(first.data) != len(second.data) or {p.name for p in first.parameters} != {p.name for p in second.parameters}:
        return False
    random = np.random.default_rng(len(first.data))
    points = [{p.name: random.uniform(-math.pi, math.pi) for p in first.parameters} for _ in range(3)]

    def differs(old: Any, new: Any) -> bool:
        return any(abs(_at(old, p) - _at(new, p)) > _MAX_ANGLE_DIFFERENCE * max(1.0, abs(_at(old, p))) for p in points)

    for old, new in zip(first.data, second.data, strict=True):
        qubits = ([c.find_bit(q).index for q in item.qubits] for c, item in ((first, old), (second, new)))
        if old.operation.name != new.operation.name or next(qubits) != next(qubits):
            return False
        if any(map(differs, old.operation.params, new.operation.params)):
            return False
        if isinstance(old.operation, Delay) and old.operation.unit != new.operation.unit:
            return False
    return True


def _at(angle: Any, point: dict[str, float]) -> complex:
    if not isinstance(angle, ParameterExpression):
        return complex(angle)
    return complex(angle.bind({p: point[p.name] for p in angle.parameters}).numeric())


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


def _named(word: str, known: Container[str]) -> list[str]:
    """Return the parameters that a word names: one, or those of a vector in their order.

    ``qiskit.qasm3`` replaces characters that OpenQASM does not allow in a name, and writes an underscore before it.
    """
    escaped = "_" + re.sub(r"\W", "_", word)
    for name in (word, escaped):
        if name in known:
            return [name]
    found: list[str] = []
    for pattern in (f"{word}{{}}", f"{word}_{{}}", f"_{word}_{{}}_"):
        while (name := pattern.format(len(found))) in known:
            found.append(name)
        if found:
            break
    return found or [word]


def _listed(names: str) -> list[str]:
    return [name for name in re.split(r"[,\s]+", names) if name]


def _with_unique_names(tree: ast.Program, text: str) -> dict[str, str]:
    """Rename a program's own gates and their formal parameters, in place, and return the old name of each new one.

    The importer matches arguments to formal parameters in alphabetical order instead of the order of declaration, and
    refuses names that occur twice. Qiskit takes a gate for the library's if only the names are equal. Names that sort
    as declared and occur nowhere else avoid all this.
    """
    prefix = "own_"
    while prefix in text:
        prefix += "_"
    definitions = [s for s in tree.statements if isinstance(s, ast.QuantumGateDefinition)]
    gates = {definition.name.name: f"{prefix}{number:06d}" for number, definition in enumerate(definitions)}
    old = {f"{prefix}{number:06d}": definition.name.name for number, definition in enumerate(definitions)}
    for number, definition in enumerate(definitions):
        names = {a.name: f"{prefix}{number:06d}_{i:06d}" for i, a in enumerate(definition.arguments)}
        old |= {new: name for name, new in names.items()}
        _rename([definition.arguments, definition.name], names | gates)
        for statement in definition.body:
            if isinstance(statement, ast.QuantumGate):
                _rename(statement.arguments, names)
            elif isinstance(statement, ast.QuantumPhase):
                _rename(statement.argument, names)
    for call in [*tree.statements, *(s for definition in definitions for s in definition.body)]:
        if isinstance(call, ast.QuantumGate):
            _rename(call.name, gates)
    return old


def _rename(node: Any, names: dict[str, str]) -> None:
    """Rename the identifiers in an expression, in place."""
    if isinstance(node, ast.Identifier):
        node.name = names.get(node.name, node.name)
    else:
        parts = node if isinstance(node, list) else vars(node).values()
        for part in parts:
            if isinstance(part, ast.QASMNode | list):
                _rename(part, names)


def _recognized(circuit: QuantumCircuit, names: dict[str, str]) -> QuantumCircuit:
    """Return ``circuit`` with a program's own gates that have the name and the matrix of a standard gate as that gate.

    A program must define gates such as rzz itself.
    """
    known = standard_gates()
    plain = circuit.copy_empty_like()
    for item in circuit.data:
        gate, name = item.operation, names.get(item.operation.name, "")
        if name in known:
            standard = get_standard_gate_name_mapping()[name]
            if (gate.num_qubits, len(gate.params)) == (standard.num_qubits, len(standard.params)):
                replacement = known[name](*gate.params)
                gate = replacement if _same_unitary(gate, replacement) else gate
        plain.append(gate, item.qubits, item.clbits)
    return plain


def _same_unitary(first: Gate, second: Gate) -> bool:
    """Return whether two gates with the same parameters are one unitary, judged at random angles."""
    from qiskit.quantum_info import Operator

    circuits = []
    for gate in (first, second):
        circuits.append(QuantumCircuit(gate.num_qubits))
        circuits[-1].append(gate, range(gate.num_qubits))
    random = np.random.default_rng(len(first.name))
    for _ in range(2 if circuits[0].parameters else 1):
        values = {p: random.uniform(-math.pi, math.pi) for p in circuits[0].parameters}
        matrices = [Operator(circuit.assign_parameters(values)) for circuit in circuits]
        if not matrices[0].equiv(matrices[1]):
            return False
    return True
