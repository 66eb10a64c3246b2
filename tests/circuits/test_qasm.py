"""A circuit that is written as OpenQASM 3 and read back is the same circuit, whatever gates it defines."""

import numpy as np
import pytest
from qiskit.circuit import Gate, Parameter, QuantumCircuit
from qiskit.circuit.library import HamiltonianGate, MCPhaseGate, PauliEvolutionGate, PermutationGate, UnitaryGate, XGate
from qiskit.quantum_info import Operator, SparsePauliOp, random_unitary

from qkd import QkdError
from qkd.circuits.limits import MAX_BYTES
from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import StudentCircuit
from qkd.simulation.diagnostics import check_saved
from tests.circuits.conftest import Program, check_program

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'


@pytest.mark.parametrize("seed", range(60))
def test_random_programs_are_read_as_they_mean_and_written_as_they_are(seed):
    try:
        student = from_qasm(Program(seed).text)
    except QkdError:
        return
    check_program(Program(seed), student)


def test_arguments_belong_to_parameters_in_the_order_of_declaration():
    program = (
        f"// qkd.inputs: dx\n{HEAD}input float dx;\ngate two(zeta, alpha) q {{ rx(zeta) q; rz(alpha) q; }}\nqubit q;\n"
    )
    student = from_qasm(program + "two(dx, 0.25) q;\n")
    assert [(item.operation.name, item.operation.params) for item in student.circuit.data] == [
        ("rx", [student.inputs[0]]),
        ("rz", [0.25]),
    ]


def test_numbers_keep_all_their_digits():
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.rx(np.pi / 4 + 3e-10, 0)
    circuit.ry(x / 3 - 1e-12 * w + 0.1, 0)
    circuit.delay(160, 0, unit="dt")
    circuit.delay(0.1234567890123, 0, unit="us")
    circuit.id(0)
    student = StudentCircuit(circuit, [x], [w], [SparsePauliOp("Z", 0.1 + 0.2)], start=[0.1 + 0.2])
    again = from_qasm(to_qasm(student))
    assert [item.operation.name for item in again.circuit.data] == ["rx", "ry", "delay", "delay", "id"]
    assert again.circuit.data[0].operation.params == [np.pi / 4 + 3e-10]
    angle = again.circuit.data[1].operation.params[0]
    slopes = [complex(angle.gradient(parameter)).real for parameter in again.parameters]
    assert slopes == [1 / 3, -1e-12] and again.start == student.start
    assert [again.circuit.data[i].operation.duration for i in (2, 3)] == [160, 0.1234567890123]
    assert again.observables[0].coeffs == student.observables[0].coeffs


def test_parameters_without_effect_remain():
    program = f"// qkd.inputs: dx\n{HEAD}input float dx;\ninput float dy;\ninput float dz;\n"
    program += "gate nothing(a) q { h q; }\nqubit q;\nrx(dx) q;\nnothing(dy) q;\n"
    student = from_qasm(program)
    again = from_qasm(to_qasm(student))
    assert [p.name for p in student.weights] == ["dy", "dz"] and len(again.weights) == 2
    check_saved(student)


def test_gates_of_python_circuits_are_written_by_their_definitions():
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(3)
    circuit.append(MCPhaseGate(x, 2), [0, 1, 2])
    circuit.append(UnitaryGate(random_unitary(4, seed=1)), [2, 0])
    circuit.append(UnitaryGate(random_unitary(8, seed=2)), [2, 0, 1])
    circuit.append(XGate().control(2, ctrl_state=1), [0, 1, 2])
    circuit.ry(w * x / (w * w + 2), 0)
    check_saved(StudentCircuit(circuit, [x], [w], [SparsePauliOp("ZXY")]))


def test_what_cannot_be_written_is_refused_in_one_sentence():
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.rx(x.sin(), 0)
    with pytest.raises(QkdError, match=r"sin.*cannot be written as OpenQASM 3"):
        check_saved(StudentCircuit(circuit, [x], [], [SparsePauliOp("Z")]))
    circuit = QuantumCircuit(1)
    circuit.append(HamiltonianGate(np.diag([1.0, -1.0]), x), [0])
    with pytest.raises(QkdError, match="hamiltonian"):
        check_saved(StudentCircuit(circuit, [x], [], [SparsePauliOp("Z")]))


def test_a_gate_with_the_name_of_a_library_gate_is_its_definition():
    x = Parameter("x")
    inside = QuantumCircuit(2)
    inside.h(0)
    inside.ry(x, 1)
    own = Gate("rzz", 2, [x])
    own.definition = inside
    circuit = QuantumCircuit(2)
    circuit.append(own, [0, 1])
    student = StudentCircuit(circuit, [x], [], [SparsePauliOp("ZX")])
    assert student.circuit.count_ops() == {"h": 1, "ry": 1}
    assert Operator(student.circuit.assign_parameters([0.3])).equiv(Operator(inside.assign_parameters([0.3])))


def test_blanks_are_read_in_linear_time():
    blanks = "\n" * 200_000 + " " * 200_000  # in quadratic time they would take minutes
    program = f"{blanks}// qkd.inputs: dx\n{HEAD}input float{blanks}dx;\nqubit q;\nrx(dx) q;\n"
    assert from_qasm(program).num_qubits == 1
    with pytest.raises(QkdError, match="bytes"):
        from_qasm(" \n" * MAX_BYTES)


@pytest.mark.parametrize(
    ("definitions", "named"),
    [
        ("gate mine(a) q { mine(a) q; }", "gate 'mine' is not defined"),
        ("gate mine(a) q { other(a) q; }\ngate other(a) q { rx(a) q; }", "gate 'other' is not defined"),
        ("gate mine(a) q { rx(a) q; }\ngate mine(a) q { ry(a) q; }", "'mine' is already defined"),
        ("gate mine(a, a) q { rx(a) q; }", "Symbol 'a' already inserted"),
    ],
)
def test_an_error_names_gates_as_the_program_does(definitions, named):
    program = f"// qkd.inputs: dx\n{HEAD}input float dx;\n{definitions}\nqubit q;\nmine(dx) q;\n"
    with pytest.raises(QkdError, match=named) as refused:
        from_qasm(program)
    assert "own_" not in str(refused.value)


def test_powers_of_numbers_and_gates_without_a_definition_are_refused():
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    observable = SparsePauliOp("ZZ")
    power, swapped = circuit.copy(), circuit.copy()
    power.rx(2**w, 1)
    with pytest.raises(QkdError, match="powers of numbers cannot be written"):
        to_qasm(StudentCircuit(power, (x,), (w,), (observable,)))
    swapped.append(PermutationGate([1, 0]), [0, 1])
    with pytest.raises(QkdError, match="'permutation', which has no definition by standard gates; transpile it"):
        to_qasm(StudentCircuit(swapped, (x,), (), (observable,)))


def test_product_formulas_are_named_where_they_are_not_exact(capfd):
    x = Parameter("x")
    for terms, words in ((["ZZ", "XI"], "terms that do not commute"), (["ZZ", "XX"], "")):
        circuit = QuantumCircuit(2, name=f"evolution of {terms}")
        circuit.append(PauliEvolutionGate(SparsePauliOp(terms), time=x), [0, 1])
        StudentCircuit(circuit, (x,), (), (SparsePauliOp("ZZ"),), name=str(terms))
        assert bool(words) == bool(said := capfd.readouterr().err) and words in said
