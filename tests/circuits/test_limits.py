"""Small files that describe huge circuits are refused before a circuit is built."""

import tracemalloc

import pytest

from qkd import QkdError
from qkd.circuits import library, limits
from qkd.circuits.qasm import from_qasm, to_qasm

HEAD = '// qkd.inputs: w\nOPENQASM 3.0;\ninclude "stdgates.inc";\ninput float[64] w;\n'


def nested(depth, first, call, angle=""):
    """Gates g0, g1, ... each of which says the one before it several times."""
    lines = [f"gate g0{angle} a {{ {first} }}"]
    lines += [f"gate g{i}{angle} a {{ {call.format(i - 1)} }}" for i in range(1, depth)]
    return HEAD + "\n".join(lines) + f"\nqubit q;\nrx(w) q;\ng{depth - 1}{angle.replace('t', 'w')} q;\n"


WIDE = ", ".join(f"q[{i}]" for i in range(14))
BOMBS = {
    "gates in gates": nested(16, "rx(t) a;", "g{0}(t) a; g{0}(t) a;", "(t)"),
    "gates without angles": nested(40, "h a;", "g{0} a; g{0} a;"),
    "an angle in an angle": nested(40, "rx(t) a;", "g{0}(t*t) a;", "(t)"),
    "many qubits": HEAD + "qubit[1000000000] q;\nrx(w) q[0];\n",
    "many bits": HEAD + "qubit q;\nbit[1000000000] c;\nrx(w) q;\n",
    "a far physical qubit": HEAD + "rx(w) $999999999999999999999;\n",
    "many controls": HEAD + "qubit[30] q;\nctrl(29) @ rx(w) " + ", ".join(f"q[{i}]" for i in range(30)) + ";\n",
    "a power of a wide gate": HEAD
    + f"gate wide {WIDE.replace('[', '').replace(']', '')} {{ h q0; }}\nqubit[14] q;\nrx(w) q[0];\n"
    + f"pow(0.5) @ wide {WIDE};\n",
    "aliases of aliases": HEAD
    + "qubit[2] q;\nlet a0 = q ++ q;\n"
    + "".join(f"let a{i} = a{i - 1} ++ a{i - 1};\n" for i in range(1, 40))
    + "rx(w) q[0];\n",
    "a loop": HEAD + "qubit q;\nfor int i in [0:1000000000] { rx(w) q; }\n",
    "brackets": HEAD + "qubit q;\nrx(" + "(" * 100_000 + "w" + ")" * 100_000 + ") q;\n",
    "a long program": HEAD + "qubit q;\n" + "rx(w) q;\n" * 200_000,
    "many letters": "// qkd.observables: " + ";".join(["z-each"] * 10) + "\n" + HEAD + "qubit[1999] q;\nrx(w) q[0];\n",
    "an infinite coefficient": "// qkd.observables: 1e999 Z0\n" + HEAD + "qubit[2] q;\nrx(w) q[0];\n",
    "a qubit of many digits": f"// qkd.observables: Z{'9' * 5000}\n" + HEAD + "qubit[2] q;\nrx(w) q[0];\n",
}


@pytest.mark.parametrize("what", BOMBS)
def test_bombs_are_one_sentence_and_take_no_memory(what):
    tracemalloc.start()
    try:
        with pytest.raises(QkdError, match="bomb") as caught:
            from_qasm(BOMBS[what], "bomb.qasm")
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
    assert "not an OpenQASM 3 program" not in str(caught.value)  # the limit was met, not the parser's end


def test_a_foreign_gate_of_a_standard_name_stays_what_it_is():
    body = " ".join(f"cx q{i}, q{i + 1};" for i in range(13))
    program = f"{HEAD}gate ecr {', '.join(f'q{i}' for i in range(14))} {{ {body} }}\nqubit[14] q;\nrx(w) q[0];\n"
    circuit = from_qasm(program + f"ecr {WIDE};\n").circuit  # no operator of 14 qubits is made to see that it is none
    assert circuit.count_ops() == {"rx": 1, "cx": 13}


def test_what_devices_and_students_need_is_within_the_limits():
    student = library.load_circuit("hardware", qubits=156, layers=2)
    again = from_qasm(to_qasm(student))
    assert again.circuit.count_ops() == student.circuit.count_ops()
    program = HEAD + "qubit[4] q;\nlet half = q[0:1];\nctrl @ rx(w) q[0], q[1];\nrz(2*w + 1) half;\ninv @ s q[3];\n"
    assert from_qasm(program).num_qubits == 4


@pytest.mark.parametrize("settings", [{"qubits": 10**9}, {"layers": 10**9}])
def test_no_circuit_is_built_beyond_the_limits(settings):
    with pytest.raises(QkdError, match="more than the"):
        library.load_circuit("hardware", **settings)
    assert limits.MAX_QUBITS >= 156 * 10


def test_errors_of_the_parser_are_not_printed(capfd):
    with pytest.raises(QkdError, match="not an OpenQASM 3 program"):
        from_qasm("// qkd.inputs: x\nOPENQASM 3.0;;; gate qubit[1 q;\n")
    assert capfd.readouterr().err == ""
