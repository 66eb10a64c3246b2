"""Circuits by name or path; a user's own circuits precede the bundled ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qkd.circuits.build import build, read_circuit_spec
from qkd.circuits.qasm import from_qasm
from qkd.circuits.student import StudentCircuit
from qkd.core.arguments import public
from qkd.core.bundled import find_files, say_what_is_hidden
from qkd.core.errors import CircuitError, QkdError, nearest

SUFFIXES = (".toml", ".qasm", ".qasm3")


def paths() -> dict[str, Path]:
    """Return every circuit file by its name; ``qkd.core.bundled.user_dirs`` returns the folders."""
    return find_files("circuits", SUFFIXES)


def locate(name: str) -> Path:
    """Return the file of the circuit called ``name``, or ``name`` itself if it is a file."""
    known = paths()
    if name in known:
        say_what_is_hidden("circuits", known[name])
        return known[name]
    path = Path(name)
    if path.is_file() and path.suffix in SUFFIXES:
        return path
    if path.suffix in SUFFIXES or "/" in name:
        raise CircuitError(f"{name}: no such circuit file ({', '.join(SUFFIXES)})")
    raise CircuitError(f"there is no circuit '{name}'{nearest(name, known)}")


@public
def load_circuit(
    name: str, qubits: int | None = None, layers: int | None = None, inputs: Sequence[str] | None = None
) -> StudentCircuit:
    """Return the circuit called ``name``.

    Args:
        name: The name of a bundled or a user's circuit, or the path of a TOML or OpenQASM 3 file.
        qubits: The number n of qubits; by default the file's.
        layers: The number of repetitions of the ansatz; by default the file's.
        inputs: The names of the A input parameters of an OpenQASM file, or of the vectors that they form; by default
            those in its comment.

    Raises:
        QkdError: There is no such circuit, its file is malformed, or another size of an OpenQASM file is requested.
    """
    path = locate(name)
    if path.suffix == ".toml":
        if inputs:
            raise CircuitError(f"{path}: inputs are for OpenQASM files; a circuit TOML file defines its own")
        spec = read_circuit_spec(path)
        try:
            return build(spec, qubits, layers)
        except QkdError as error:
            raise CircuitError(f"{path}: {error}") from None
    try:
        circuit = from_qasm(path.read_text(encoding="utf-8"), str(path), inputs)
    except (OSError, UnicodeDecodeError) as error:
        raise CircuitError(f"{path}: cannot be read ({error})") from None
    if qubits not in (None, circuit.num_qubits) or layers is not None:
        raise CircuitError(f"{path}: the size of an OpenQASM circuit is fixed; leave --qubits and --layers unset")
    return circuit
