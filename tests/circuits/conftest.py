"""Random OpenQASM 3 programs and their unitaries, which numpy computes from the same random choices."""

import numpy as np
import torch
from qiskit.circuit.library import get_standard_gate_name_mapping

from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.engines import DensityMatrixEstimator

STANDARD = [
    "p",
    "x",
    "y",
    "z",
    "h",
    "s",
    "sdg",
    "t",
    "tdg",
    "sx",
    "rx",
    "ry",
    "rz",
    "cx",
    "cy",
    "cz",
    "cp",
    "crx",
    "cry",
    "crz",
    "ch",
    "swap",
    "ccx",
    "cswap",
    "cu",
    "id",
    "u1",
    "u2",
    "u3",
]
OWN_NAMES = ["enc", "rzz", "rxx", "ecr", "iswap", "r", "foo", "unitary", "mcx", "csx", "kraus", "measure_x", "cu1"]
PARAMETER_NAMES = ["x0", "x1", "w0", "w1", "dx", "theta", "a", "b", "p0", "_gate_p_0", "lam", "phi"]


class Expression:
    """A text and a function from values by name to a number."""

    def __init__(self, text, value, angle):
        self.text, self.value, self.angle = text, value, angle


def expression(random, names, depth=2):
    """Return a random angle over ``names``, which maps each name to whether its type is ``angle``."""
    kind = random.integers(6) if depth else random.integers(2)
    if kind == 0 or not names:
        number = [0.5, 1.25, 3.0, 1e-3, 0.1234567890123456, np.pi / 2, 2.0][random.integers(7)]
        text = "pi/2" if number == np.pi / 2 else repr(number)
        return Expression(text, lambda values: number, False)
    if kind == 1:
        name = list(names)[random.integers(len(names))]
        return Expression(name, lambda values: values[name], names[name])
    first, second = (expression(random, names, depth - 1) for _ in range(2))
    if kind == 2:
        return Expression(f"(-{first.text})", lambda values: -first.value(values), first.angle)
    if kind == 3:
        sign = 1 if random.random() < 0.5 else -1
        text = f"({first.text} {'+' if sign > 0 else '-'} {second.text})"
        angle = first.angle or second.angle
        return Expression(text, lambda values: first.value(values) + sign * second.value(values), angle)
    number = [0.5, 2.0, 3.5][random.integers(3)]
    if kind == 4 and not first.angle and not second.angle and random.random() < 0.7:
        if random.random() < 0.6:
            return Expression(
                f"{first.text}*{second.text}", lambda values: first.value(values) * second.value(values), False
            )
        return Expression(
            f"{first.text}/({second.text}*{second.text} + 2.0)",
            lambda values: first.value(values) / (second.value(values) ** 2 + 2.0),
            False,
        )
    if kind == 4:
        return Expression(f"{first.text}*{number}", lambda values: first.value(values) * number, first.angle)
    return Expression(f"{first.text}/{number}", lambda values: first.value(values) / number, first.angle)


def _library(name):
    mapping = get_standard_gate_name_mapping()
    if name == "id":
        return 1, 0, lambda: np.eye(2)
    gate = mapping["u" if name == "U" else name]
    kind = gate.base_class
    return gate.num_qubits, len(gate.params), lambda *angles: np.asarray(kind(*angles).to_matrix())


def _embedded(matrix, qubits, count):
    """Return a matrix on ``qubits`` (the first is the least significant bit) as one on ``count`` qubits."""
    whole = np.zeros((2**count, 2**count), dtype=complex)
    for column in range(2**count):
        local = sum(((column >> qubit) & 1) << i for i, qubit in enumerate(qubits))
        rest = column & ~sum(1 << qubit for qubit in qubits)
        for row in range(len(matrix)):
            whole[rest | sum(((row >> i) & 1) << qubit for i, qubit in enumerate(qubits)), column] += matrix[row, local]
    return whole


def _modified(random, name, width, room, constant):
    """Return modifiers as text, how many controls they add, and a function that applies them to a matrix."""
    text, controls, steps = "", 0, []
    while random.random() < 0.35 and len(steps) < 2:
        kind = random.integers(4)
        if kind < 2 and width + controls < min(room, 4):
            positive = kind == 0
            text, controls = f"{text}{'ctrl' if positive else 'negctrl'} @ ", controls + 1
            steps.append(lambda matrix, positive=positive: _controlled(matrix, positive))
        elif kind == 2:
            text += "inv @ "
            steps.append(lambda matrix: matrix.conj().T)
        elif constant:
            power = int(random.choice([2, 3]))
            text += f"pow({power}) @ "
            steps.append(lambda matrix, power=power: np.linalg.matrix_power(matrix, power))

    def apply(matrix):
        for step in reversed(steps):
            matrix = step(matrix)
        return matrix

    return text, controls, apply


def _controlled(matrix, positive):
    """Return a matrix with one more control as the first, least significant qubit."""
    size = len(matrix)
    whole = np.eye(2 * size, dtype=complex)
    chosen = 2 * np.arange(size) + positive
    whole[np.ix_(chosen, chosen)] = matrix
    return whole


class Program:
    """A random program: its text, its inputs and what its density matrix is at given values."""

    def __init__(self, seed):
        random = self.random = np.random.default_rng(seed)
        self.qubits = int(random.integers(1, 4))
        chosen = random.permutation(PARAMETER_NAMES)[: random.integers(1, 5)]
        self.names = {str(name): bool(random.random() < 0.2) for name in chosen}
        self.gates, lines = {}, []
        for name in random.permutation(OWN_NAMES)[: random.integers(0, 4)]:
            lines.append(self._define(str(name)))
        for name, angle in self.names.items():
            lines.insert(random.integers(len(lines) + 1), f"input {'angle' if angle else 'float[64]'} {name};")
        lines.append(f"qubit[{self.qubits}] qs;")
        self.steps = []
        calls = [self._statement() for _ in range(random.integers(2, 9))]
        count = random.integers(1, len(self.names) + 1)
        self.inputs = [str(name) for name in random.permutation(list(self.names))[:count]]
        self.weights = [name for name in self._declared(lines) if name not in self.inputs]
        observables = " ; ".join(["Z0", f"0.5 X0 - 2.5 Z{self.qubits - 1}"] if self.qubits > 1 else ["Z0", "2 Y0"])
        head = [f"// qkd.inputs: {' '.join(self.inputs)}", f"// qkd.observables: {observables}"]
        self.text = "\n".join([*head, "OPENQASM 3.0;", 'include "stdgates.inc";', *lines, *calls, ""])

    @staticmethod
    def _declared(lines):
        return [line.split()[-1].rstrip(";") for line in lines if line.startswith("input")]

    def _call(self, names, wires):
        """Return a call of a gate as text, without its qubits, its width, and its matrix as a function of values."""
        random = self.random
        pool = [*STANDARD, "U", *list(self.gates) * 8]
        while True:
            name = pool[random.integers(len(pool))]
            width, count, matrix = self.gates[name] if name in self.gates else _library(name)
            if width <= wires:
                break
        angles = [expression(random, names) for _ in range(count)]
        text, controls, apply = _modified(random, name, width, wires, not count)
        arguments = f"({', '.join(angle.text for angle in angles)})" if angles else ""
        return (
            f"{text}{name}{arguments}",
            width + controls,
            lambda values: apply(matrix(*(angle.value(values) for angle in angles))),
        )

    def _define(self, name):
        random = self.random
        width, count = int(random.integers(1, 3)), int(random.integers(0, 3))
        formal = [str(word) for word in random.permutation(PARAMETER_NAMES)[:count]]
        wires, steps, body = ["u", "v"][:width], [], []
        for _ in range(random.integers(1, 4)):
            call, used, matrix = self._call(dict.fromkeys(formal, True), width)
            on = [int(i) for i in random.permutation(width)[:used]]
            body.append(f"{call} {', '.join(wires[i] for i in on)};")
            steps.append((on, matrix))
        if random.random() < 0.2:
            phase = expression(random, dict.fromkeys(formal, True), 1)
            body.append(f"gphase({phase.text});")
            steps.append(([0], lambda values: np.exp(1j * phase.value(values)) * np.eye(2)))

        def matrix(*angles):
            whole, values = np.eye(2**width, dtype=complex), dict(zip(formal, angles, strict=True))
            for on, step in steps:
                whole = _embedded(step(values), on, width) @ whole
            return whole

        self.gates[name] = width, count, matrix
        arguments = f"({', '.join(formal)})" if formal else ""
        return f"gate {name}{arguments} {', '.join(wires)} {{ {' '.join(body)} }}"

    def _statement(self):
        random, choice = self.random, self.random.random()
        qubit = int(random.integers(self.qubits))
        if choice < 0.04:
            self.steps.append(("reset", qubit))
            return f"reset qs[{qubit}];"
        if choice < 0.1:
            return f"barrier qs[{qubit}];" if choice < 0.07 else f"delay[{random.integers(1, 99)}ns] qs[{qubit}];"
        call, used, matrix = self._call(self.names, self.qubits)
        if used == 1 and choice > 0.9:
            self.steps += [("gate", [q], matrix) for q in range(self.qubits)]
            return f"{call} qs;"
        on = [int(i) for i in random.permutation(self.qubits)[:used]]
        self.steps.append(("gate", on, matrix))
        return f"{call} {', '.join(f'qs[{i}]' for i in on)};"

    def values(self, point):
        """Return the expectation values of the two observables at parameter values by name."""
        rho = np.zeros((2**self.qubits, 2**self.qubits), dtype=complex)
        rho[0, 0] = 1
        for kind, on, *rest in self.steps:
            if kind == "gate":
                whole = _embedded(rest[0](point), on, self.qubits)
                rho = whole @ rho @ whole.conj().T
            else:
                kraus = (_embedded(np.array(k), [on], self.qubits) for k in ([[1, 0], [0, 0]], [[0, 1], [0, 0]]))
                rho = sum(k @ rho @ k.conj().T for k in kraus)
        paulis = {"X": [[0, 1], [1, 0]], "Y": [[0, -1j], [1j, 0]], "Z": [[1, 0], [0, -1]]}

        def mean(letter, qubit):
            return np.trace(rho @ _embedded(np.array(paulis[letter]), [qubit], self.qubits)).real

        second = 0.5 * mean("X", 0) - 2.5 * mean("Z", self.qubits - 1) if self.qubits > 1 else 2 * mean("Y", 0)
        return np.array([mean("Z", 0), second])


def values_and_gradients(student, points):
    """Return expectation values (R,K) of a circuit and their derivatives (K,R,A+P) at parameter values (R,A+P)."""
    program = DensityMatrixEstimator().compile(student.circuit, student.observables, list(student.parameters), [])
    rows = torch.tensor(points, requires_grad=True)
    evs = program(rows, torch.zeros(0, dtype=torch.float64))
    gradients = [
        torch.autograd.grad(column.sum(), rows, retain_graph=True, allow_unused=True)[0]
        if column.requires_grad
        else None
        for column in evs.unbind(1)
    ]
    zero = torch.zeros_like(rows)
    return evs.detach().numpy(), torch.stack([zero if g is None else g for g in gradients]).numpy()


def check_program(program, student):
    """Assert that a circuit has the unitary of its program, also after it is written and read back."""
    assert [p.name for p in student.parameters] == program.inputs + program.weights
    points = np.random.default_rng(0).uniform(-3, 3, (3, len(student.parameters)))
    evs, gradients = values_and_gradients(student, points)
    names = [parameter.name for parameter in student.parameters]
    meant = [program.values(dict(zip(names, row, strict=True))) for row in points]
    np.testing.assert_allclose(evs, meant, atol=1e-9, err_msg=program.text)
    again, gradients_again = values_and_gradients(from_qasm(to_qasm(student)), points)
    np.testing.assert_allclose(again, evs, atol=1e-9, err_msg=program.text)
    np.testing.assert_allclose(gradients_again, gradients, atol=1e-9, err_msg=program.text)
