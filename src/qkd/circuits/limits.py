"""How large a circuit may be: counted on the text and its syntax tree, before anything is built from it.

A program of a kilobyte can stand for a billion gates (definitions that call definitions), qubits or controls. The
limits are far above every device and student, and what is within them is loaded in seconds.
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

BYTES = 1 << 20
"""Of a program's text."""
NESTING = 50
"""Of brackets in a program."""
QUBITS = 2_000
"""Of a circuit; bits and parameters alike."""
GATES = 100_000
"""Of a circuit, as it is written."""
DEFINED = 20_000
"""Gates that a program's own definitions stand for, all calls together."""
MODIFIED = 4
"""Qubits of a gate behind ctrl, negctrl or pow, controls among them."""
LETTERS = 20_000_000
"""Of all observables of a circuit written at full width, identities among them."""

_CONTROL = 20  # about how many gates a controlled gate is made of
_PHYSICAL = re.compile(r"\$(\d+)")
_PLAIN = (
    ast.Include,
    ast.IODeclaration,
    ast.QuantumBarrier,
    ast.DelayInstruction,
    ast.QuantumReset,
    ast.QuantumMeasurementStatement,
)


def within(count: int, most: int, what: str, where: str) -> None:
    """Refuse more than ``most`` of something.

    Raises:
        QkdError: there are more.
    """
    if count > most:
        raise CircuitError(f"{where}: {count:,} {what} are more than the {most:,} that qkd takes")


def check_size(text: str, where: str) -> None:
    """Refuse a text of more than ``BYTES``, before anything else reads it.

    Raises:
        QkdError: The text is too long.
    """
    within(len(text.encode("utf-8", "surrogatepass")), BYTES, "bytes", where)


def syntax(text: str, where: str) -> ast.Program:
    """Return an OpenQASM 3 program's syntax tree, if what it stands for is within the limits.

    Args:
        text: the program.
        where: what an error calls it.

    Raises:
        QkdError: it is too large, or says what no list of gates says (loops, branches, subroutines).
        Exception: of the parser's own types, where it does not parse.
    """
    check_size(text, where)
    within(_depth(text), NESTING, "brackets inside one another", where)
    for index in _PHYSICAL.findall(text):
        within(int(index[:9]) + 1, QUBITS, "qubits", where)
    with contextlib.redirect_stderr(io.StringIO()):  # ANTLR prints what it also raises
        tree = openqasm3.parse(text)
    _Counter(where).program(tree)
    return tree


def _depth(text: str) -> int:
    """Return how deep brackets lie inside one another; those in comments count too."""
    depth = deepest = 0
    for mark in re.findall(r"[()\[\]{}]", text):
        depth += 1 if mark in "([{" else -1
        deepest = max(deepest, depth)
    return deepest


@dataclass(frozen=True)
class _Gate:
    """A defined gate: its qubits, the gates it stands for, and how often one angle may occur in one of theirs."""

    qubits: int
    gates: int
    growth: int


class _Counter:
    """Adds up what a program's statements stand for."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.defined: dict[str, _Gate] = {}
        self.widths: dict[str, int] = {}
        self.qubits = self.bits = self.gates = self.expanded = self.parameters = 0

    def program(self, tree: ast.Program) -> None:
        for statement in tree.statements:
            self._statement(statement)
            within(self.qubits, QUBITS, "qubits", self.where)
            within(self.bits, QUBITS, "bits", self.where)
            within(self.parameters, GATES, "input parameters", self.where)
            within(self.gates, GATES, "gates", self.where)
            within(self.expanded, DEFINED, "gates behind the gates it defines", self.where)

    def _statement(self, statement: Any) -> None:
        if isinstance(statement, ast.QubitDeclaration):
            self.qubits += self._declare(statement.qubit.name, statement.size)
        elif isinstance(statement, ast.ClassicalDeclaration):
            self.bits += self._declare(statement.identifier.name, getattr(statement.type, "size", None))
        elif isinstance(statement, ast.AliasStatement):
            self.widths[statement.target.name] = width = self._width(statement.value)
            within(width, QUBITS, "qubits", self.where)
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
                f"{self.where}: line {statement.span.start_line} holds a {kind}; a student circuit is a plain list of "
                "gates, so write them out"
            )

    def _declare(self, name: str, size: ast.Expression | None) -> int:
        """Return the width of a declared register, a plain number."""
        if size is None:
            self.widths[name] = 1
        elif isinstance(size, ast.IntegerLiteral):
            self.widths[name] = size.value
        else:
            raise CircuitError(f"{self.where}: the size of '{name}' must be a plain number")
        return self.widths[name]

    def _width(self, node: Any) -> int:
        """Return at most how many qubits an operand has."""
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
        within(gates, DEFINED, f"gates behind the gate '{statement.name.name}'", self.where)
        growth = max((call.growth for call in calls), default=1)
        within(growth, DEFINED, f"occurrences of an angle behind the gate '{statement.name.name}'", self.where)
        self.defined[statement.name.name] = _Gate(len(statement.qubits), max(2, gates), max(1, growth))

    def _call(self, statement: ast.QuantumGate | ast.QuantumPhase) -> _Gate:
        """Return what one call of a gate stands for, its modifiers among it."""
        name = statement.name.name if isinstance(statement, ast.QuantumGate) else "gphase"
        gate = self.defined.get(name, _Gate(len(statement.qubits), 1, 1))
        controls, powers = 0, 0
        for modifier in statement.modifiers:
            if modifier.modifier in (ast.GateModifierName.ctrl, ast.GateModifierName.negctrl):
                if modifier.argument is not None and not isinstance(modifier.argument, ast.IntegerLiteral):
                    raise CircuitError(f"{self.where}: how many controls '{name}' has must be a plain number")
                controls += 1 if modifier.argument is None else modifier.argument.value
            powers += modifier.modifier is ast.GateModifierName.pow
        if controls or powers:
            # a call lists the controls among its qubits; a wrong call of a defined gate may list too few
            qubits = max(len(statement.qubits), gate.qubits + controls if name in self.defined else 0)
            within(qubits, MODIFIED, f"qubits of a controlled or raised '{name}'", self.where)
        names = max((_names(argument) for argument in getattr(statement, "arguments", ())), default=1)
        return _Gate(gate.qubits, gate.gates * _CONTROL**controls, gate.growth * max(1, names))


def _operands(statement: Any) -> list[Any]:
    """Return the qubits of a barrier, delay, reset or measurement."""
    if isinstance(statement, ast.QuantumMeasurementStatement):
        return [statement.measure.qubit]
    on = getattr(statement, "qubits", [])
    return on if isinstance(on, list) else [on]


def _names(node: Any) -> int:
    """Return how many names an expression holds."""
    if isinstance(node, ast.Identifier):
        return 1
    parts = node if isinstance(node, list) else vars(node).values()
    return sum(_names(part) for part in parts if isinstance(part, ast.QASMNode | list))
