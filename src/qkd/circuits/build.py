"""Circuit files with their observables, and their circuits for any number of qubits and layers.

Observables are text: ``z-each``, ``zz-neighbours``, ``Z0 Z1``, ``0.5 X0 + 0.5 Z2``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qkd.circuits import limits
from qkd.circuits.limits import MAX_OBSERVABLE_LETTERS, check_limit
from qkd.circuits.student import StudentCircuit
from qkd.core.errors import CircuitError
from qkd.core.specs import Spec, option, read_toml, validated

_NAMED = ("z-each", "zz-neighbours")
_TERM = re.compile(
    r"(?:(?P<sign>[+-])\s*)?"
    r"(?:(?P<factor>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*)?"
    r"(?P<pauli>(?:[IXYZ]\d+\s*)*)"
)
Axis = Literal["rx", "ry", "rz"]
Count = Annotated[int, Field(ge=1)]
Pairs = list[tuple[int, int]]


def parse_observables(texts: Iterable[str], num_qubits: int) -> tuple[SparsePauliOp, ...]:
    """Return the observables of ``texts`` on n qubits; each of the two names denotes several observables."""
    observables: list[SparsePauliOp] = []
    letters = 0
    for text in texts:
        if text == "z-each":
            observables += [_sparse([("Z", [q], 1.0)], num_qubits) for q in range(num_qubits)]
        elif text == "zz-neighbours":
            observables += [_sparse([("ZZ", [q, q + 1], 1.0)], num_qubits) for q in range(num_qubits - 1)]
        else:
            observables.append(_sum(text, num_qubits))
        letters += num_qubits * (num_qubits if text in _NAMED else len(observables[-1]))
        check_limit(letters, MAX_OBSERVABLE_LETTERS, "letters of observables", "the circuit")
    return tuple(observables)


def observable_text(observable: SparsePauliOp) -> str:
    """Return an observable as text that ``parse_observables`` reads."""
    terms = []
    for letters, qubits, coefficient in observable.to_sparse_list():
        paulis = " ".join(f"{letter}{q}" for letter, q in zip(letters, qubits, strict=True)) or "I0"
        value = float(coefficient.real)
        terms.append(f"{'-' if value < 0 else '+'} {abs(value)!r} {paulis}")
    return " ".join(terms).removeprefix("+ ").replace(" 1.0 ", " ").removeprefix("1.0 ")


def _sum(text: str, num_qubits: int) -> SparsePauliOp:
    terms: list[tuple[str, list[int], float]] = []
    position, stripped = 0, text.strip()
    while position < len(stripped):
        match = _TERM.match(stripped, position)
        if match is None or not match["pauli"].strip() or (terms and not match["sign"]):
            raise CircuitError(
                f"observable '{text}' cannot be read from '{stripped[position:][:40]}'; write z-each, zz-neighbours, "
                "or Paulis such as 'Z0 Z1' or '0.5 X0 + Z2'"
            )
        letters = re.findall(r"([IXYZ])(\d+)", match["pauli"])
        qubits = [int(q) if len(q) < 10 else num_qubits for _, q in letters]
        if max(qubits) >= num_qubits or len(set(qubits)) != len(qubits):
            raise CircuitError(f"observable '{text}' must name different qubits from 0 to {num_qubits - 1}")
        factor = float(match["factor"] or 1) * (-1 if match["sign"] == "-" else 1)
        if not math.isfinite(factor):
            raise CircuitError(f"observable '{text[:60]}' has a coefficient that is not finite")
        terms.append(("".join(letter for letter, _ in letters), qubits, factor))
        check_limit(len(terms) * num_qubits, MAX_OBSERVABLE_LETTERS, "letters of an observable", "the circuit")
        position = match.end()
    if not terms:
        raise CircuitError("an observable is empty; write z-each, zz-neighbours, or Paulis such as 'Z0 Z1'")
    return _sparse(terms, num_qubits)


def _sparse(terms: list[tuple[str, list[int], float]], num_qubits: int) -> SparsePauliOp:
    return SparsePauliOp.from_sparse_list(terms, num_qubits)


class EncodingSpec(Spec):
    """The encoding of the data."""

    rotations: tuple[Axis, ...] = Field(
        default=("ry",), min_length=1, description="Rotations (rx, ry, rz) of every qubit, in order, each an input."
    )
    upload: Literal["once", "every-layer"] = option(
        "once", "Whether the inputs enter once, or again before every-layer."
    )


class AnsatzSpec(Spec):
    """The trained layers."""

    rotations: tuple[Axis, ...] = option((), "Rotations of every qubit at the start of a layer, each a weight.")
    entangler: Literal["cz", "cx", "ecr", "rzz", "none"] = option(
        "none", "The two-qubit gate: cz, cx, ecr, rzz (which has a weight) or none."
    )
    pattern: Literal["line", "brick", "ring", "ladder", "heavy-hex", "qdllm"] = option(
        "brick", "The pairs it joins: line, brick, ring, ladder or heavy-hex; qdllm is the paper's whole layer."
    )
    closing: tuple[Axis, ...] = option((), "Rotations of every qubit after the last layer, each a weight.")

    @model_validator(mode="after")
    def _qdllm_is_whole(self) -> AnsatzSpec:
        if self.pattern == "qdllm" and (self.rotations or self.closing or self.entangler != "none"):
            raise ValueError("the pattern qdllm fixes rotations, entangler and closing; remove these keys")
        return self


class CircuitSpec(Spec):
    """A student circuit, for any number of qubits and layers."""

    name: str = Field(description="The name in reports.")
    description: str = option("", "The purpose.")
    reference: str = option("", "The source.")
    qubits: Count = option(11, "The default width n.")
    layers: Count = option(2, "The default number of layers.")
    observables: tuple[str, ...] = Field(
        default=("z-each",),
        min_length=1,
        description="z-each, zz-neighbours, or Paulis such as 'Z0 Z1' or '0.5 X0 + Z2'.",
    )
    encoding: EncodingSpec = option(EncodingSpec(), "The encoding of the data.")
    ansatz: AnsatzSpec = option(AnsatzSpec(), "The trained layers.")


def read_circuit_spec(path: Path) -> CircuitSpec:
    """Return the spec in a TOML file."""
    return validated(CircuitSpec, read_toml(path), str(path))


def build(spec: CircuitSpec, qubits: int | None = None, layers: int | None = None) -> StudentCircuit:
    """Return the circuit that ``spec`` describes.

    Inputs are named ``x0, x1, ...`` and weights ``w0, w1, ...``, both in order of appearance.

    Args:
        qubits: The number n of qubits; by default the spec's.
        layers: The number of repetitions of the ansatz; by default the spec's.
    """
    n = spec.qubits if qubits is None else qubits
    depth = spec.layers if layers is None else layers
    if min(n, depth) < 1:
        raise CircuitError(f"circuit '{spec.name}' cannot have {n} qubits and {depth} layers; give at least 1 of each")
    limits.check_limit(n, limits.MAX_QUBITS, "qubits", f"circuit '{spec.name}'")
    rows = len(spec.encoding.rotations) + len(spec.ansatz.rotations) + (8 if spec.ansatz.pattern == "qdllm" else 2)
    limits.check_limit(
        n * (depth * rows + len(spec.ansatz.closing)), limits.MAX_GATES, "gates", f"circuit '{spec.name}'"
    )
    circuit = QuantumCircuit(n, name=spec.name)
    inputs = [Parameter(f"x{i}") for i in range(n * len(spec.encoding.rotations))]
    weights: list[Parameter] = []

    def weight() -> Parameter:
        weights.append(Parameter(f"w{len(weights)}"))
        return weights[-1]

    def encode() -> None:
        values = iter(inputs)
        for axis in spec.encoding.rotations:
            for qubit in range(n):
                getattr(circuit, axis)(next(values), qubit)

    def rotate(axes: tuple[str, ...]) -> None:
        for axis in axes:
            for qubit in range(n):
                getattr(circuit, axis)(weight(), qubit)

    for layer in range(depth):
        if layer == 0 or spec.encoding.upload == "every-layer":
            encode()
        if spec.ansatz.pattern == "qdllm":
            _qdllm_layer(circuit, weight)
            continue
        rotate(spec.ansatz.rotations)
        for a, b in entangled_pairs(spec.ansatz.pattern, n) if spec.ansatz.entangler != "none" else ():
            angle = [weight()] if spec.ansatz.entangler == "rzz" else []
            getattr(circuit, spec.ansatz.entangler)(*angle, a, b)
    rotate(spec.ansatz.closing)
    return StudentCircuit(
        circuit, tuple(inputs), tuple(weights), parse_observables(spec.observables, n), name=spec.name
    )


def entangled_pairs(pattern: str, n: int) -> Pairs:
    """Return the qubit pairs that one layer of ``pattern`` entangles, in order."""
    line = [(q, q + 1) for q in range(n - 1)]
    if pattern == "line":
        return line
    if pattern == "brick":
        return line[0::2] + line[1::2]
    if pattern == "ring":
        return line + ([(n - 1, 0)] if n > 2 else [])
    if pattern == "ladder":
        return [pair for q in range(n - 1) for pair in ((q, q + 1), (q, q + 2)) if pair[1] < n]
    if pattern == "heavy-hex":
        return list(_heavy_hex(n))
    raise CircuitError(f"there is no entangling pattern '{pattern}'")


def _heavy_hex(n: int) -> Iterator[tuple[int, int]]:
    """Yield the edges of a connected patch of n heavy-hex sites, ordered so that many gates act in parallel."""
    import rustworkx

    distance = 3
    while (5 * distance**2 - 2 * distance - 1) // 2 < n:  # number of sites of the lattice of this code distance
        distance += 2
    lattice = rustworkx.generators.heavy_hex_graph(distance)
    order = [site for layer in rustworkx.bfs_layers(lattice, [0]) for site in layer]
    place = {site: i for i, site in enumerate(order[:n])}
    sites = sorted(place)
    patch = lattice.subgraph(sites)
    colors = rustworkx.graph_greedy_edge_color(patch)
    edges = [(colors[i], *sorted((place[sites[a]], place[sites[b]]))) for i, (a, b) in enumerate(patch.edge_list())]
    for _, a, b in sorted(edges):
        yield a, b


def _qdllm_layer(circuit: QuantumCircuit, weight: Callable[[], Parameter]) -> None:
    """Append one layer of QD-LLM's ansatz (Li et al., arXiv:2505.13205, as their public code builds it)."""
    n = circuit.num_qubits
    if n < 3:
        raise CircuitError(f"the circuit qdllm needs at least 3 qubits, not {n}")
    for q in range(n - 1):
        for _ in range(3):
            circuit.ry(weight(), q)
        if q != n - 2:
            circuit.rzz(weight(), q + 1, q + 2)
    for q in range(n):
        for _ in range(3):
            circuit.rz(weight(), q)
    circuit.cx(n - 1, 0)
    for q in range(1, n - 2):
        circuit.cx(q, q + 1)
        circuit.cx(q, q - 1)
