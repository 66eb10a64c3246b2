"""Limits on the size of a circuit, checked on the text and its syntax tree before a circuit is built.

A program of a kilobyte can define a billion gates (definitions that call definitions), qubits or controls. The limits
are far above every device and student. A program that respects them loads in seconds.
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from typing import Any

import openqasm3
from openqasm3 import ast

from qkd.core.errors import CircuitError

MAX_BYTES = 1 << 20
"""Maximum size of the text of a program."""
MAX_NESTING = 50
"""Maximum depth of nested brackets in a program."""
MAX_QUBITS = 2_000
"""Maximum number of qubits, and of bits, of a circuit."""
MAX_GATES = 100_000
"""Maximum number of written gates, and of input parameters, of a circuit."""
MAX_DEFINED_GATES = 20_000
"""Maximum number of gates in the expanded calls of the program's own gates."""
MAX_MODIFIED_QUBITS = 4
"""Maximum number of qubits, controls included, of a gate with ctrl, negctrl or pow."""
MAX_OBSERVABLE_LETTERS = 20_000_000
"""Maximum number of Pauli letters, identities included, of all observables of a circuit."""

_GATES_PER_CONTROL = 20  # approximate number of gates in the definition of a controlled gate
_PHYSICAL = re.compile(r"\$(\d+)")
_PLAIN = (
    ast.Include,
    ast.IODeclaration,
    ast.QuantumBarrier,
    ast.DelayInstruction,
    ast.QuantumReset,
    ast.QuantumMeasurementStatement,
)


def check_limit(count: int, most: int, what: str, where: str) -> None:
    """Refuse a count above a maximum."""
    if count > most:
        raise CircuitError(f"{where}: {count:,} {what} are more than the maximum of {most:,}")


def check_size(text: str, where: str) -> None:
    """Refuse a text of more than ``MAX_BYTES``, before anything else reads it."""
    check_limit(len(text.encode("utf-8", "surrogatepass")), MAX_BYTES, "bytes", where)


def syntax(text: str, where: str) -> ast.Program:
    """Return the syntax tree of an OpenQASM 3 program that respects the limits."""
    check_size(text, where)
    check_limit(_depth(text), MAX_NESTING, "nested brackets", where)
    for index in _PHYSICAL.findall(text):
        check_limit(int(index[:9]) + 1, MAX_QUBITS, "qubits", where)
    with contextlib.redirect_stderr(io.StringIO()):  # ANTLR prints what it also raises
        tree = openqasm3.parse(text)
    _Counter(where).program(tree)
    return tree


def _depth(text: str) -> int:
    """Return the depth of nested brackets; those in comments count too."""
    depth = deepest = 0
    for mark in re.findall(r"[()\[\]{}]", text):
        depth += 1 if mark in "([{" else -1
        deepest = max(deepest, depth)
    return deepest


@dataclass(frozen=True)
class _Gate:
    """A defined gate.

    Attributes:
        qubits: The number of qubits.
        gates: The number of gates after expansion.
        growth: An upper bound of the number of occurrences of one parameter in an angle after expansion.
    """

    qubits: int
    gates: int
    growth: int


class _Counter:
    """Sums of qubits, bits, gates and parameters over the statements of a program."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.defined: dict[str, _Gate] = {}
        self.widths: dict[str, int] = {}
        self.qubits = self.bits = self.gates = self.expanded = self.parameters = 0

    def program(self, tree: ast.Program) -> None:
        for statement in tree.statements:
            self._statement(statement)
            check_limit(self.qubits, MAX_QUBITS, "qubits", self.where)
            check_limit(self.bits, MAX_QUBITS, "bits", self.where)
            check_limit(self.parameters, MAX_GATES, "input parameters", self.where)
            check_limit(self.gates, MAX_GATES, "gates", self.where)
            check_limit(self.expanded, MAX_DEFINED_GATES, "gates in the expanded gates that it defines", self.where)

    def _statement(self, statement: Any) -> None:
        if isinstance(statement, ast.QubitDeclaration):
            self.qubits += self._declare(statement.qubit.name, statement.size)
        elif isinstance(statement, ast.ClassicalDeclaration):
            self.bits += self._declare(statement.identifier.name, getattr(statement.type, "size", None))
        elif isinstance(statement, ast.AliasStatement):
            self.widths[statement.target.name] = width = self._width(statement.value)
            check_limit(width, MAX_QUBITS, "qubits", self.where)
        elif isinstance(statement, ast.QuantumGateDefinition):
            self._define(statement)
        elif isinstance(statement, ast.QuantumGate | ast.QuantumPhase):
            times = max((self._width(on) for on in statement.qubits), default=1)
            call = self._call(statement)
            self.gates += times
            self.expanded += call.gates * times if call.gates > 1 else 0
        elif isinstance(statement, _PLAIN):
            self.parameters += isinstance(statement, ast.IODeclaration)
            self.gates += sum(self._width(on) for on in _operands(statement))
        else:
            kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(statement).__name__).lower()
            raise CircuitError(
                f"{self.where}: line {statement.span.start_line} has a {kind}; a student circuit is a plain list of "
                "gates, so write them one by one"
            )

    def _declare(self, name: str, size: ast.Expression | None) -> int:
        """Return the width of a declared register, which must be an integer literal."""
        if size is None:
            self.widths[name] = 1
        elif isinstance(size, ast.IntegerLiteral):
            self.widths[name] = size.value
        else:
            raise CircuitError(f"{self.where}: the size of '{name}' must be an integer")
        return self.widths[name]

    def _width(self, node: Any) -> int:
        """Return an upper bound of the number of qubits of an operand."""
        if isinstance(node, ast.Concatenation):
            return self._width(node.lhs) + self._width(node.rhs)
        if isinstance(node, ast.IndexExpression):
            return max(self._width(node.collection), len(getattr(node.index, "values", ())))
        if isinstance(node, ast.IndexedIdentifier):
            last = node.indices[-1]
            if isinstance(last, ast.DiscreteSet):
                return len(last.values)
            return self._width(node.name) if any(isinstance(part, ast.RangeDefinition) for part in last) else 1
        return self.widths.get(getattr(node, "name", ""), 1)

    def _define(self, statement: ast.QuantumGateDefinition) -> None:
        calls = [self._call(gate) for gate in statement.body if isinstance(gate, ast.QuantumGate | ast.QuantumPhase)]
        gates = sum(call.gates for call in calls)
        check_limit(gates, MAX_DEFINED_GATES, f"gates in the expanded gate '{statement.name.name}'", self.where)
        growth = max((call.growth for call in calls), default=1)
        check_limit(
            growth,
            MAX_DEFINED_GATES,
            f"occurrences of a parameter in the expanded gate '{statement.name.name}'",
            self.where,
        )
        self.defined[statement.name.name] = _Gate(len(statement.qubits), max(2, gates), max(1, growth))

    def _call(self, statement: ast.QuantumGate | ast.QuantumPhase) -> _Gate:
        """Return the size of one call of a gate, modifiers included."""
        name = statement.name.name if isinstance(statement, ast.QuantumGate) else "gphase"
        gate = self.defined.get(name, _Gate(len(statement.qubits), 1, 1))
        controls, powers = 0, 0
        for modifier in statement.modifiers:
            if modifier.modifier in (ast.GateModifierName.ctrl, ast.GateModifierName.negctrl):
                if modifier.argument is not None and not isinstance(modifier.argument, ast.IntegerLiteral):
                    raise CircuitError(f"{self.where}: the number of controls of '{name}' must be an integer")
                controls += 1 if modifier.argument is None else modifier.argument.value
            powers += modifier.modifier is ast.GateModifierName.pow
        if controls or powers:
            # a call lists the controls among its qubits; a wrong call of a defined gate may list too few
            qubits = max(len(statement.qubits), gate.qubits + controls if name in self.defined else 0)
            check_limit(qubits, MAX_MODIFIED_QUBITS, f"qubits of a '{name}' with ctrl, negctrl or pow", self.where)
        names = max((_names(argument) for argument in getattr(statement, "arguments", ())), default=1)
        return _Gate(gate.qubits, gate.gates * _GATES_PER_CONTROL**controls, gate.growth * max(1, names))


def _operands(statement: Any) -> list[Any]:
    """Return the qubits of a barrier, delay, reset or measurement."""
    if isinstance(statement, ast.QuantumMeasurementStatement):
        return [statement.measure.qubit]
    on = getattr(statement, "qubits", [])
    return on if isinstance(on, list) else [on]


def _names(node: Any) -> int:
    """Return the number of identifiers in an expression."""
    if isinstance(node, ast.Identifier):
        return 1
    parts = node if isinstance(node, list) else vars(node).values()
    return sum(_names(part) for part in parts if isinstance(part, ast.QASMNode | list))
