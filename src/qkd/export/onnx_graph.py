"""A student as an ONNX graph of standard operators (opset 17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qkd.core.errors import ModelError
from qkd.export.numpy_format import quantize_rows
from qkd.student.classical import ClassicalForm, FourierCore, LinearCore, MlpCore
from qkd.student.contraction import ContractedCircuit
from qkd.student.gatelist import Gate, GateList

OPSET = 17
# Names of BERT's table of tokens and, where it is int8, of the scales (T,1) of its rows.
WORDS = "embeddings.word_embeddings.weight"
WORD_SCALES = "embeddings.word_embeddings.scale"
# Subtracted from attention scores of padding tokens; more would make their weights denormal numbers, which are slow.
PADDING_PENALTY = 60.0


class Graph:
    """Nodes and constants of a graph under construction.

    Args:
        int8: Whether ``dense`` multiplies 8-bit integers.
    """

    def __init__(self, int8: bool = False) -> None:
        self.int8 = int8
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._names: dict[tuple[Any, ...], str] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        from onnx import helper

        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Return the name of a constant, which is appended where it is new."""
        from onnx import numpy_helper

        array = np.array(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            self._names[key] = f"constant_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def rows(self, table: np.ndarray, scale: np.ndarray | None) -> str:
        """Return the rows (B,L,D), float32, of ``input_ids`` in a table, which has a scale (T,1) where it is int8."""
        vectors = self.add("Cast", self.add("Gather", self.constant(table, table.dtype), "input_ids"), to=1)
        if scale is None:
            return vectors
        return self.add("Mul", vectors, self.add("Gather", self.constant(scale), "input_ids"))

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Return a reshaped tensor; -1 is the axis of the texts."""
        return self.add("Reshape", value, self.constant(shape, np.int64))

    def unit(self, rows: str) -> str:
        """Return rows (B,D) scaled to length 1."""
        norm = self.add("Sqrt", self.add("ReduceSumSquare", rows, axes=[1], keepdims=1))
        return self.add("Div", rows, self.add("Max", norm, self.constant(1e-12)))

    def linear(self, value: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """Return ``value @ weight + bias``."""
        product = self.add("MatMul", value, self.constant(weight))
        return product if bias is None else self.add("Add", product, self.constant(bias))

    def dense(self, value: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """Return ``value @ weight + bias`` of rows (T,D), in 8-bit integers if the graph has them."""
        from onnx import helper

        if not self.int8:
            return self.linear(value, weight, bias)
        columns, scale = quantize_rows(weight.T)
        names = [f"{value}_{kind}" for kind in ("int8", "scale", "zero")]
        self.nodes.append(helper.make_node("DynamicQuantizeLinear", [value], names, name=names[0]))
        product = self.add("MatMulInteger", names[0], self.constant(columns.T, np.int8), names[2])
        factors = self.add("Mul", names[1], self.constant(scale[:, 0]))
        return self.add("Add", self.add("Mul", self.add("Cast", product, to=1), factors), self.constant(bias))


def add_static_encoder(graph: Graph, table: np.ndarray, scale: np.ndarray | None) -> str:
    """Append the mean of token vectors, scaled to length 1.

    Args:
        graph: The graph; its inputs are ``input_ids`` and ``attention_mask`` (B,L).
        table: Vectors of all tokens (T,D), float16 or int8.
        scale: Factor of each row (T,1) of an int8 table.
    """
    vectors = graph.rows(table, scale)
    mask = graph.add("Unsqueeze", graph.add("Cast", "attention_mask", to=1), graph.constant([2], np.int64))
    total = graph.add("ReduceSum", graph.add("Mul", vectors, mask), graph.constant([1], np.int64), keepdims=0)
    return graph.unit(total)


def add_bert(graph: Graph, weights: Mapping[str, np.ndarray], config: Any, layers: Sequence[int], pooling: str) -> str:
    """Append a BERT encoder and the pooled states of some layers, each scaled to length 1, side by side.

    Args:
        graph: The graph; its inputs are ``input_ids`` and ``attention_mask`` (B,L).
        weights: The network's weights by name.
        config: Its transformers configuration.
        layers: The layers read, 0 is the embeddings.
        pooling: ``mean``, ``max`` or ``first``.
    """
    mask = graph.add("Cast", "attention_mask", to=1)
    column = graph.add("Unsqueeze", mask, graph.constant([2], np.int64))
    blocked = graph.add("Mul", graph.add("Sub", mask, graph.constant(1.0)), graph.constant(PADDING_PENALTY))
    scores_mask = graph.add("Unsqueeze", blocked, graph.constant([1, 2], np.int64))
    states = _split(graph, _bert_embeddings(graph, weights, config))
    parts = []
    for layer in range(max(layers) + 1):
        if layer:
            states = _bert_layer(graph, weights, f"encoder.layer.{layer - 1}.", config, states, scores_mask)
        if layer in layers:
            parts.append(graph.unit(_pooled(graph, _joined(graph, states, [config.hidden_size]), column, pooling)))
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def _split(graph: Graph, states: str) -> list[str]:
    """Return states (B,L,D) as rows (B*L,D); an int8 graph has those of the first token apart.

    The first token's states have outliers, beside which those of the other tokens would share few of the 256 values.
    The rows are a matrix, because for three axes onnxruntime fuses addition and normalization into a slower operator.
    """
    if not graph.int8:
        return [graph.add("Flatten", states, axis=2)]
    zero, one, end = (graph.constant([value], np.int64) for value in (0, 1, 1 << 31))
    return [graph.add("Flatten", graph.add("Slice", states, *ends, one), axis=2) for ends in ((zero, one), (one, end))]


def _joined(graph: Graph, parts: Sequence[str], shape: Sequence[int]) -> str:
    """Return the rows of ``_split`` as (B,L,...), where a row has the ``shape``."""
    count = graph.add("Gather", graph.add("Shape", "input_ids"), graph.constant([0], np.int64))
    full = graph.add("Concat", count, graph.constant([-1, *shape], np.int64), axis=0)
    return graph.add("Concat", *(graph.add("Reshape", part, full) for part in parts), axis=1)


def _pooled(graph: Graph, states: str, mask: str, pooling: str) -> str:
    axis = graph.constant([1], np.int64)
    if pooling == "mean":
        total = graph.add("ReduceSum", graph.add("Mul", states, mask), axis, keepdims=0)
        return graph.add("Div", total, graph.add("ReduceSum", mask, axis, keepdims=0))
    if pooling == "max":
        low = graph.add("Mul", graph.add("Sub", mask, graph.constant(1.0)), graph.constant(1e9))
        return graph.add("ReduceMax", graph.add("Add", states, low), axes=[1], keepdims=0)
    if pooling == "first":
        return graph.add("Gather", states, graph.constant(0, np.int64), axis=1)
    raise ModelError(f"the pooling '{pooling}' has no ONNX export; use --inputs embeddings")


def _normalized(graph: Graph, weights: Mapping[str, np.ndarray], name: str, value: str, epsilon: float) -> str:
    scale, offset = (graph.constant(weights[f"{name}.{kind}"]) for kind in ("weight", "bias"))
    return graph.add("LayerNormalization", value, scale, offset, axis=-1, epsilon=epsilon)


def _bert_embeddings(graph: Graph, weights: Mapping[str, np.ndarray], config: Any) -> str:
    words = graph.rows(weights[WORDS], weights.get(WORD_SCALES))
    # Every token has type 0, so its vector joins the positions'.
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    length = graph.add("Gather", graph.add("Shape", "input_ids"), graph.constant([1], np.int64))
    zero = graph.constant([0], np.int64)
    used = graph.add("Slice", graph.constant(positions), zero, length, zero)
    return _normalized(graph, weights, "embeddings.LayerNorm", graph.add("Add", words, used), config.layer_norm_eps)


def _bert_layer(
    graph: Graph, weights: Mapping[str, np.ndarray], name: str, config: Any, states: list[str], mask: str
) -> list[str]:
    """Append one layer (Devlin et al., arXiv:1810.04805) to the rows of ``_split``."""
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    factors = {"query": size**-0.5, "key": 1.0, "value": 1.0}
    own = [
        [factor * weights[f"{name}attention.self.{kind}.{part}"].T for kind, factor in factors.items()]
        for part in ("weight", "bias")
    ]
    rows = [graph.dense(part, *(np.concatenate(one, axis=-1) for one in own)) for part in states]
    together = graph.add("Transpose", _joined(graph, rows, [3, heads, size]), perm=[2, 0, 3, 1, 4])
    query, key, value = (graph.add("Gather", together, graph.constant(i, np.int64), axis=0) for i in range(3))
    scores = graph.add("Add", graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 1, 3, 2])), mask)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    mixed = graph.add("Reshape", graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), graph.constant([0, 0, -1], np.int64))

    def dense(kind: str, value: str) -> str:
        return graph.dense(value, weights[f"{name}{kind}.dense.weight"].T, weights[f"{name}{kind}.dense.bias"])

    def added(kind: str, value: str, state: str) -> str:
        """Return the normalized sum of a state and the map ``kind`` of a value."""
        total = graph.add("Add", dense(kind, value), state)
        return _normalized(graph, weights, f"{name}{kind}.LayerNorm", total, config.layer_norm_eps)

    results = []
    for part, state in zip(_split(graph, mixed), states, strict=True):
        attended = added("attention.output", part, state)
        inner = dense("intermediate", attended)
        # The order of operations that onnxruntime replaces by one Gelu.
        erf = graph.add("Add", graph.add("Erf", graph.add("Div", inner, graph.constant(2**0.5))), graph.constant(1.0))
        gelu = graph.add("Mul", graph.add("Mul", inner, erf), graph.constant(0.5))
        results.append(added("output", gelu, attended))
    return results


def add_form(graph: Graph, form: ClassicalForm, embeddings: str) -> tuple[str, str]:
    """Append a classical form.

    Returns:
        The names of the features (B,K) and of the probabilities (B,C).

    Raises:
        ModelError: The form has a core without ONNX export.
    """
    z = graph.linear(embeddings, form.weight, form.bias)
    if form.angle_map == "tanh":
        z = graph.add("Mul", graph.add("Tanh", z), graph.constant(np.pi))
    elif form.angle_map == "minmax":
        low, high = (graph.add(kind, z, axes=[1], keepdims=1) for kind in ("ReduceMin", "ReduceMax"))
        span = graph.add("Add", graph.add("Sub", high, low), graph.constant(1e-9))
        z = graph.add("Mul", graph.add("Div", graph.add("Sub", z, low), span), graph.constant(10.0))
    values = _add_core(graph, form, z)
    logits = graph.linear(values, form.head, form.head_bias)
    return values, graph.add("Softmax", logits, axis=1)


def _add_core(graph: Graph, form: ClassicalForm, z: str) -> str:
    core = form.core
    if isinstance(core, ContractedCircuit):
        return _add_contraction(graph, core, z)
    if isinstance(core, GateList):
        return _add_gates(graph, core, z)
    if isinstance(core, MlpCore):
        x = graph.add("Div", z, graph.constant(np.pi))
        hidden = graph.add("Tanh", graph.linear(x, core.hidden, core.hidden_bias))
        return graph.add("Add", x, graph.linear(hidden, core.out))
    if isinstance(core, FourierCore):
        return graph.add("Cos", graph.linear(z, core.frequencies, core.phases))
    assert isinstance(core, LinearCore)
    return graph.add("Identity", z)


def _add_contraction(graph: Graph, core: ContractedCircuit, z: str) -> str:
    degree = max((degree for one in core.contractions for degree in one.degrees), default=1)
    waves = [graph.add("Exp", graph.add("Mul", z, graph.constant(0.0)))]  # ones
    for frequency in range(1, degree + 1):
        angle = graph.add("Mul", z, graph.constant(float(frequency)))
        waves += [graph.add(kind, angle) for kind in ("Cos", "Sin")]
    two = graph.constant([2], np.int64)
    features = graph.add("Concat", *(graph.add("Unsqueeze", wave, two) for wave in waves), axis=2)
    products: dict[tuple[tuple[int, int], ...], str] = {}

    def product(inputs: tuple[tuple[int, int], ...]) -> str:
        """Return the products of the features of inputs, each given with its degree."""
        if inputs not in products:
            column, own = inputs[-1]
            last = graph.add("Gather", features, graph.constant(column, np.int64), axis=1)
            if own < degree:
                last = graph.add("Gather", last, graph.constant(np.arange(2 * own + 1), np.int64), axis=1)
            if len(inputs) > 1:
                before = graph.add("Unsqueeze", product(inputs[:-1]), two)
                after = graph.add("Unsqueeze", last, graph.constant([1], np.int64))
                size = int(np.prod([2 * d + 1 for _, d in inputs]))
                last = graph.reshape(graph.add("Mul", before, after), [-1, size])
            products[inputs] = last
        return products[inputs]

    values = []
    for one in core.contractions:
        inputs = tuple(zip(one.inputs, one.degrees, strict=True))
        halves = []
        for half, matrix in ((inputs[: one.split], one.left), (inputs[one.split :], one.right)):
            halves.append(graph.linear(product(half), matrix) if half else graph.constant(matrix))
        both = graph.add("Mul", *halves)
        value = graph.add("ReduceSum", both, graph.constant([1], np.int64), keepdims=1)
        if not inputs:  # the value of an observable that depends on no text
            first = graph.add("Gather", waves[0], graph.constant([0], np.int64), axis=1)
            value = graph.add("Mul", value, first)
        values.append(value)
    return graph.add("Concat", *values, axis=1)


def _add_gates(graph: Graph, core: GateList, z: str) -> str:
    """Append a statevector (B,2,2^n); the second axis holds real and imaginary part."""
    n = core.num_qubits
    start = np.zeros((1, 2, 1 << n))
    start[0, 0, 0] = 1.0
    first = graph.add("Gather", z, graph.constant([0], np.int64), axis=1)
    ones = graph.add("Exp", graph.add("Mul", first, graph.constant(0.0)))
    state = graph.add("Mul", graph.add("Unsqueeze", ones, graph.constant([2], np.int64)), graph.constant(start))
    for gate in core.gates:
        state = _add_gate(graph, gate, state, z, n)
    index = np.arange(1 << n)
    values = []
    for terms in core.observables:
        parts = []
        for term in terms:
            ys = int(np.bitwise_count(np.array(term.x & term.z))) % 4
            # The real part of conj(a) i^ys b, as a bilinear form in (re, im) of a and of b.
            form = np.array([[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]])[ys]
            signs = term.coefficient * (1 - 2.0 * (np.bitwise_count(index & term.z) & 1))
            a = graph.add("Gather", state, graph.constant(index ^ term.x, np.int64), axis=2) if term.x else state
            b = graph.add("Mul", graph.add("MatMul", graph.constant(form), state), graph.constant(signs))
            parts.append(graph.add("Mul", a, b))
        total = graph.add("Sum", *parts) if parts else graph.add("Mul", state, graph.constant(0.0))
        values.append(graph.add("ReduceSum", total, graph.constant([1, 2], np.int64), keepdims=0))
    one = graph.constant([1], np.int64)
    return graph.add("Concat", *(graph.add("Unsqueeze", value, one) for value in values), axis=1)


def _add_gate(graph: Graph, gate: Gate, state: str, z: str, n: int) -> str:
    flat = [-1, 2, 1 << n]
    if gate.matrix is None:
        assert gate.slopes is not None
        qubit = gate.qubits[0]
        half = 0.5 * np.array(gate.slopes)
        angle = graph.add(
            "Add", graph.add("MatMul", z, graph.constant(half[:, None])), graph.constant(0.5 * gate.offset)
        )
        cosine, sine = (
            graph.add("Unsqueeze", graph.add(kind, angle), graph.constant([2, 3, 4], np.int64))
            for kind in ("Cos", "Sin")
        )
        grid = graph.reshape(state, [-1, 2, 1 << (n - 1 - qubit), 2, 1 << qubit])
        swapped = graph.add("Gather", grid, graph.constant([1, 0], np.int64), axis=1)
        signs = np.array([[1.0, -1.0], [-1.0, 1.0]]).reshape(1, 2, 1, 2, 1)
        turned = graph.add("Mul", graph.add("Mul", swapped, graph.constant(signs)), sine)
        return graph.reshape(graph.add("Add", graph.add("Mul", grid, cosine), turned), flat)
    count = len(gate.qubits)
    axes = [2 + n - 1 - qubit for qubit in reversed(gate.qubits)]
    rest = [axis for axis in range(2, n + 2) if axis not in axes]
    order = [0, *rest, 1, *axes]
    real, imaginary = gate.matrix.real, gate.matrix.imag
    matrix = np.block([[real, -imaginary], [imaginary, real]]).T
    moved = graph.add("Transpose", graph.reshape(state, [-1, *[2] * (n + 1)]), perm=order)
    applied = graph.linear(graph.reshape(moved, [-1, 1 << (n - count), 2 << count]), matrix)
    back = graph.reshape(applied, [-1, *[2] * (n + 1)])
    return graph.reshape(graph.add("Transpose", back, perm=np.argsort(order).tolist()), flat)
