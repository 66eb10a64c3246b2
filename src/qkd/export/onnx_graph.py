"""A student as an ONNX graph of standard operators (opset 17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qkd.core.errors import ModelError
from qkd.student.classical import ClassicalForm, FourierCore, LinearCore, MlpCore
from qkd.student.contraction import ContractedCircuit
from qkd.student.gatelist import Gate, GateList

OPSET = 17
# Names of BERT's table of tokens and, where it is int8, of the scales (T,1) of its rows.
WORDS = "embeddings.word_embeddings.weight"
WORD_SCALES = "embeddings.word_embeddings.scale"
# Added to attention scores of padding tokens.
MASKED_SCORE = -1e9


class Graph:
    """Nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        from onnx import helper

        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Append a constant and return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        array = np.array(value, dtype=dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

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
    blocked = graph.add("Mul", graph.add("Sub", graph.constant(1.0), mask), graph.constant(MASKED_SCORE))
    scores_mask = graph.add("Unsqueeze", blocked, graph.constant([1, 2], np.int64))
    states = _bert_embeddings(graph, weights, config)
    parts = []
    for layer in range(max(layers) + 1):
        if layer:
            states = _bert_layer(graph, weights, f"encoder.layer.{layer - 1}.", config, states, scores_mask)
        if layer in layers:
            parts.append(graph.unit(_pooled(graph, states, column, pooling)))
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def _pooled(graph: Graph, states: str, mask: str, pooling: str) -> str:
    axis = graph.constant([1], np.int64)
    if pooling == "mean":
        total = graph.add("ReduceSum", graph.add("Mul", states, mask), axis, keepdims=0)
        return graph.add("Div", total, graph.add("ReduceSum", mask, axis, keepdims=0))
    if pooling == "max":
        low = graph.add("Mul", graph.add("Sub", graph.constant(1.0), mask), graph.constant(MASKED_SCORE))
        return graph.add("ReduceMax", graph.add("Add", states, low), axes=[1], keepdims=0)
    if pooling == "first":
        return graph.add("Gather", states, graph.constant(0, np.int64), axis=1)
    raise ModelError(f"the pooling '{pooling}' has no ONNX export; use --inputs embeddings")


def _normalized(graph: Graph, weights: Mapping[str, np.ndarray], name: str, value: str, epsilon: float) -> str:
    scale, offset = (graph.constant(weights[f"{name}.{kind}"]) for kind in ("weight", "bias"))
    return graph.add("LayerNormalization", value, scale, offset, axis=-1, epsilon=epsilon)


def _dense(graph: Graph, weights: Mapping[str, np.ndarray], name: str, value: str) -> str:
    return graph.linear(value, weights[f"{name}.weight"].T, weights[f"{name}.bias"])


def _bert_embeddings(graph: Graph, weights: Mapping[str, np.ndarray], config: Any) -> str:
    words = graph.rows(weights[WORDS], weights.get(WORD_SCALES))
    # Every token has type 0, so its vector joins the positions'.
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    length = graph.add("Gather", graph.add("Shape", "input_ids"), graph.constant([1], np.int64))
    zero = graph.constant([0], np.int64)
    used = graph.add("Slice", graph.constant(positions), zero, length, zero)
    return _normalized(graph, weights, "embeddings.LayerNorm", graph.add("Add", words, used), config.layer_norm_eps)


def _bert_layer(
    graph: Graph, weights: Mapping[str, np.ndarray], name: str, config: Any, states: str, scores_mask: str
) -> str:
    """Append one layer (Devlin et al., arXiv:1810.04805)."""
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    split = graph.constant([0, 0, heads, size], np.int64)
    query, key, value = (
        graph.add("Reshape", _dense(graph, weights, f"{name}attention.self.{kind}", states), split)
        for kind in ("query", "key", "value")
    )
    query, value = (graph.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
    scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 2, 3, 1]))
    scores = graph.add("Add", graph.add("Mul", scores, graph.constant(size**-0.5)), scores_mask)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    mixed = graph.add("Reshape", graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), graph.constant([0, 0, -1], np.int64))
    attended = graph.add("Add", _dense(graph, weights, f"{name}attention.output.dense", mixed), states)
    states = _normalized(graph, weights, f"{name}attention.output.LayerNorm", attended, config.layer_norm_eps)
    inner = _dense(graph, weights, f"{name}intermediate.dense", states)
    erf = graph.add("Erf", graph.add("Mul", inner, graph.constant(0.5**0.5)))
    gelu = graph.add("Mul", graph.add("Mul", inner, graph.constant(0.5)), graph.add("Add", erf, graph.constant(1.0)))
    out = graph.add("Add", _dense(graph, weights, f"{name}output.dense", gelu), states)
    return _normalized(graph, weights, f"{name}output.LayerNorm", out, config.layer_norm_eps)


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
