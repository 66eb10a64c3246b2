"""Every circuit file builds, draws, checks and survives a round trip through OpenQASM 3; mistakes are named."""

import numpy as np
import pytest
from qiskit import transpile
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_ibm_runtime.fake_provider import FakeBrisbane

from qkd import QkdError
from qkd.circuits import library
from qkd.circuits.build import (
    AnsatzSpec,
    CircuitSpec,
    EncodingSpec,
    entangled_pairs,
    observable_text,
    parse_observables,
)
from qkd.circuits.cone import cone_qubits, cut
from qkd.circuits.qasm import from_qasm, to_qasm
from qkd.circuits.student import StudentCircuit, circuit_text, count
from qkd.simulation.diagnostics import check_circuit

NAMES = sorted(library.paths())


def bound(student, seed):
    """The state of a student at random parameters, in the order of its lists."""
    values = np.random.default_rng(seed).uniform(-np.pi, np.pi, len(student.parameters))
    return Statevector(student.circuit.assign_parameters(dict(zip(student.parameters, values, strict=True))))


def _evs(student, values):
    state = Statevector(student.circuit.assign_parameters(dict(zip(student.parameters, values, strict=True))))
    return np.array([state.expectation_value(observable).real for observable in student.observables])


@pytest.mark.parametrize("name", NAMES)
def test_bundled_circuits_build_draw_and_check(name):
    student = library.load_circuit(name, qubits=5)
    assert student.num_qubits == 5 and len(student.observables) == 5
    assert "x0" in circuit_text(student)
    assert student.circuit.draw("mpl") is not None
    report = check_circuit(student)
    assert report.num_weights == len(student.weights) and not report.dead_inputs
    if name != "qdllm":
        assert not report.dead_weights and report.rank == report.num_weights


def test_the_papers_circuit_is_the_papers():
    student = library.load_circuit("qdllm")
    assert (student.num_qubits, len(student.inputs), len(student.weights)) == (11, 11, 144)
    assert student.circuit.count_ops() == {"rz": 66, "ry": 60, "cx": 34, "rzz": 18, "rx": 11}
    report = check_circuit(student)
    assert len(report.dead_weights) == 36 and report.rank == 47
    assert "36 of 144" in report.render() and "47 of 144" in report.render()


def test_the_default_circuit_is_native_and_shallow():
    student = library.load_circuit("hardware")
    assert student.circuit.count_ops()["cz"] == 20 and count(student).two_qubit_depth == 4
    assert all(abs(a - b) == 1 for a, b in entangled_pairs("brick", 11))
    assert [len(cone_qubits(student, k)) for k in (0, 5, 10)] == [4, 8, 5]


def test_check_finds_what_is_dead_or_repeated():
    x, a, b, c, d = (Parameter(name) for name in "xabcd")
    circuit = QuantumCircuit(3)
    circuit.ry(x, 0)
    circuit.ry(a, 0)
    circuit.ry(b, 0)  # repeats a
    circuit.rz(c, 0)  # commutes with the readout
    circuit.barrier()
    circuit.ry(d, 2)  # not read
    student = StudentCircuit(circuit, [x], [d, c, b, a], [SparsePauliOp("IIZ", 1e-3)])
    report = check_circuit(student)
    assert report.dead_weights == ("d", "c") and not report.dead_inputs
    assert (report.rank, report.redundant, report.cone_widths) == (1, 1, (1,))
    assert (report.counts.two_qubit_gates, report.counts.two_qubit_depth) == (0, 0)
    blind = StudentCircuit(circuit, [d], [x, c, b, a], [SparsePauliOp("IIZ")])
    assert check_circuit(blind).dead_inputs == ("d",)
    constant = check_circuit(StudentCircuit(circuit, [x], [d, c, b, a], [SparsePauliOp("III")]))
    assert constant.rank == 0 and len(constant.dead_weights) == 4


def test_the_rank_is_the_circuits_and_not_the_samples():
    # one qubit, one observable: each input is one equation, and there are more weights than inputs to begin with
    student = library.load_circuit("reupload", qubits=1, layers=6)
    weights = np.random.default_rng(5).uniform(-np.pi, np.pi, len(student.weights))
    steps = 1e-4 * np.eye(len(weights))
    jacobian = [
        [(_evs(student, [x, *weights + step]) - _evs(student, [x, *weights - step])) / 2e-4 for step in steps]
        for x in np.linspace(0, 6, 20)
    ]
    report = check_circuit(student)
    assert report.rank == np.linalg.matrix_rank(np.squeeze(jacobian), tol=1e-6) > 8


def test_wide_circuits_are_checked_cone_by_cone_or_refused():
    report = check_circuit(library.load_circuit("hardware", qubits=40, layers=1), points=1)
    assert report.rank == report.num_weights == 120 and max(report.cone_widths) == 4
    with pytest.raises(QkdError, match="has 20 qubits"):
        check_circuit(library.load_circuit("qdllm", qubits=20))


@pytest.mark.parametrize("name", NAMES)
def test_a_cone_has_the_whole_circuits_expectation_value(name):
    student = library.load_circuit(name, qubits=7, layers=1)
    values = dict(zip(student.parameters, np.random.default_rng(11).normal(size=len(student.parameters)), strict=True))
    state = Statevector(student.circuit.assign_parameters(values))
    for k, observable in enumerate(student.observables):
        part = cut(student, [k])
        assert part.num_qubits == len(cone_qubits(student, k))
        assert list(part.parameters) == [p for p in student.parameters if p in set(part.parameters)]
        mine = Statevector(part.circuit.assign_parameters({p: values[p] for p in part.parameters}))
        expected = state.expectation_value(observable).real
        assert mine.expectation_value(part.observables[0]).real == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_comments_in_bundled_files_are_the_specs_sentences(name):
    spec, comment, seen = CircuitSpec, None, 0
    for line in library.locate(name).read_text(encoding="utf-8").splitlines():
        key = line.strip("[]").split(" =")[0]
        if line.startswith("#"):
            comment = line.removeprefix("# ")
        elif line:
            fields = CircuitSpec.model_fields if line.startswith("[") else spec.model_fields
            assert comment == fields[key].description
            spec = {"[encoding]": EncodingSpec, "[ansatz]": AnsatzSpec}.get(line, spec)
            seen += 1
    assert seen >= 10


@pytest.mark.parametrize("name", NAMES)
def test_openqasm_round_trip(name):
    student = library.load_circuit(name, qubits=4, layers=2)
    again = from_qasm(to_qasm(student))
    assert again.name == student.name and again.observables == student.observables
    assert len(again.inputs) == len(student.inputs) and len(again.weights) == len(student.weights)
    assert bound(again, 7).equiv(bound(student, 7))
    assert again.circuit.count_ops() == student.circuit.count_ops()


@pytest.mark.parametrize("name", ["hardware", "qdllm"])
def test_openqasm_round_trip_of_an_isa_circuit(name):
    student = library.load_circuit(name, qubits=4)
    isa = transpile(student.circuit, FakeBrisbane(), optimization_level=1, seed_transpiler=3)
    placed = student.with_circuit(isa, [o.apply_layout(isa.layout) for o in student.observables], isa.layout)
    again = from_qasm(to_qasm(placed))
    assert again.num_qubits == 127 and again.observables == placed.observables
    assert again.circuit.count_ops() == isa.count_ops()
    values = np.random.default_rng(2).uniform(-np.pi, np.pi, len(student.parameters))
    for k in range(4):
        part = cut(again, [k])
        mine = dict(zip(again.parameters, values, strict=True))
        state = Statevector(part.circuit.assign_parameters({p: mine[p] for p in part.parameters}))
        expected = _evs(student, values)[k]
        assert state.expectation_value(part.observables[0]).real == pytest.approx(expected, abs=1e-9)


def test_openqasm_keeps_the_order_of_names_that_cross():
    a, b = Parameter("x0"), Parameter("x1")
    circuit = QuantumCircuit(1, name="two\nlines")
    circuit.ry(a, 0)
    circuit.rz(2 * b - a, 0)
    circuit.rx(b, 0)
    student = StudentCircuit(circuit, [b], [a], [SparsePauliOp("Z")], name="two\nlines")
    again = from_qasm(to_qasm(student))
    assert again.name == "two lines" and bound(again, 1).equiv(bound(student, 1))


def test_roles_come_from_the_lists_and_not_from_names_or_order(tmp_path):
    program = (
        "// qkd.inputs: zeta\n// qkd.observables: 0.5 X0 - 2.0 Z0 Z1 ; Z1\n"
        'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
        "input float[64] beta;\ninput float[64] zeta;\ninput float[64] alpha;\n"
        "qubit[2] q;\nrx(zeta) q[0];\nry(2*beta + pi/2) q[1];\ncx q[0], q[1];\nrz(alpha) q[1];\n"
    )
    path = tmp_path / "mine.qasm"
    path.write_text(program)
    student = library.load_circuit(str(path))
    assert [p.name for p in student.inputs] == ["zeta"]
    assert [p.name for p in student.weights] == ["beta", "alpha"]
    assert student.observables[0].equiv(SparsePauliOp(["IX", "ZZ"], [0.5, -2.0]))
    again = from_qasm(to_qasm(student))
    assert bound(again, 3).equiv(bound(student, 3))
    with pytest.raises(QkdError, match="leave qubits and"):
        library.load_circuit(str(path), qubits=3)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("OPENQASM 3.0;\nqubit[1] q;\n", "qkd.inputs"),
        ("// qkd.inputs: x\nOPENQASM 3.0;\nqubit[1 q;\n", "not an OpenQASM 3 program"),
        ("// qkd.inputs: x\nOPENQASM 3.0;\ninput float w, v;\n", "line 3: ',' is not expected"),
        (
            '// qkd.inputs: v\nOPENQASM 3.0;\ninclude "stdgates.inc";\ninput float v;\nqubit q;\nbit c;\n'
            "rx(v) q;\nc = measure q;\n",
            "'measure', which uses classical bits",
        ),
        ("// qkd.input: x\nOPENQASM 3.0;\n", "did you mean 'inputs'"),
        (
            '// qkd.inputs: y\nOPENQASM 3.0;\ninclude "stdgates.inc";\ninput float v;\nqubit q;\nrx(v) q;\n',
            "'y' is no input",
        ),
    ],
)
def test_damaged_programs_are_named(tmp_path, program, words):
    (tmp_path / "bad.qasm").write_text(program)
    with pytest.raises(QkdError, match=words) as caught:
        library.load_circuit(str(tmp_path / "bad.qasm"))
    assert "bad.qasm" in str(caught.value)


@pytest.mark.parametrize(("qubits", "layers"), [(0, None), (-2, None), (None, 0)])
def test_no_qubits_or_layers(qubits, layers):
    with pytest.raises(QkdError, match="at least 1 of each"):
        library.load_circuit("hardware", qubits, layers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "a"\nlayer = 3\n', "no key 'layer'; did you mean 'layers'"),
        ('name = "a"\n[ansatz]\nentangler = "cy"\n', "ansatz.entangler = 'cy'"),
        ('name = "a"\n[ansatz]\npattern = "qdllm"\nentangler = "cz"\n', "remove these keys"),
        ('name = "a"\nobservables = ["Z99"]\n', "qubits from 0 to 10"),
        ('name = "a"\nobservables = ["Q0"]\n', "cannot be read"),
        ("layers = 2\n", "'name' is missing"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path, text, words):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(QkdError, match=words.replace("[", r"\[")):
        library.load_circuit(str(tmp_path / "bad.toml"))
    with pytest.raises(QkdError, match=r"bad\.toml"):
        library.load_circuit(str(tmp_path / "bad.toml"))


def test_unknown_circuits_and_a_users_own(tmp_path, monkeypatch):
    with pytest.raises(QkdError, match="did you mean 'hardware'"):
        library.load_circuit("hardwere")
    (tmp_path / "mine.toml").write_text('name = "mine"\nqubits = 3\n[ansatz]\nrotations = ["ry"]\nentangler = "cx"\n')
    monkeypatch.setenv("QKD_CIRCUITS", str(tmp_path))
    assert library.load_circuit("mine").num_qubits == 3


@pytest.mark.parametrize("pattern", ["line", "brick", "ring", "ladder", "heavy-hex"])
@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_patterns_join_every_qubit_once_per_pair(pattern, n):
    found = entangled_pairs(pattern, n)
    assert len(found) == len({frozenset(pair) for pair in found})
    reached, grown = {0}, True
    while grown:
        more = {q for pair in found if reached & set(pair) for q in pair}
        grown, reached = not more <= reached, reached | more
    assert reached == set(range(n))
    if pattern == "heavy-hex":
        assert max((sum(q in pair for pair in found) for q in range(n)), default=0) <= 3


@pytest.mark.parametrize("text", ["Z0", "Z0 Z3", "0.5 X0 - 1.25e-3 Y2 Z3 + Z1", "I0", "- X1 + 2 Z0"])
def test_observables_read_back(text):
    (observable,) = parse_observables([text], 4)
    assert parse_observables([observable_text(observable)], 4)[0].equiv(observable)


def test_a_student_circuit_refuses_what_does_not_fit():
    x, w, z = Parameter("x"), Parameter("w"), SparsePauliOp("Z")
    circuit = QuantumCircuit(1)
    circuit.rx(x, 0)
    circuit.ry(w, 0)
    assert StudentCircuit(circuit, [x], [w], [z]).parameters == (x, w)
    for inputs, weights, observables, words in (
        ([x, w], [w], [z], "both an input and a weight"),
        ([x], [], [z], "neither an input nor a weight"),
        ([x], [w, Parameter("v")], [z], "does not occur"),
        ([x], [w], [], "measures nothing"),
        ([x], [w], [SparsePauliOp("ZZ")], "1 qubits but observable 0 has 2"),
        ([x], [w], [SparsePauliOp("Z", 1j)], "not Hermitian"),
    ):
        with pytest.raises(QkdError, match=words):
            StudentCircuit(circuit, inputs, weights, observables)
