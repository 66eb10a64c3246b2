"""The ONNX format: one graph from token ids, or embeddings, to probabilities, labels and expectation values."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qkd.core.errors import ModelError, require_extra
from qkd.core.files import write_bytes, write_text
from qkd.core.version import VERSION
from qkd.encoders.hidden_states import TransformerEncoder
from qkd.encoders.protocol import Encoder
from qkd.encoders.static import StaticEncoder
from qkd.export.numpy_format import module_functions, quantize_rows
from qkd.export.onnx_graph import OPSET, WORD_SCALES, WORDS, Graph, add_bert, add_form, add_static_encoder
from qkd.export.request import ExportRequest, Predictions, run_runtime
from qkd.models.backbone import Backbone

# Version of the file structure that runtimes since 2022 read.
IR_VERSION = 8
_CHECK_TEXTS = """
import json, sys
for name in ("qkd", "torch", "qiskit", "sklearn", "transformers"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import classify
texts = json.load(sys.stdin)
labels = classify.load().run(texts, "label").tolist()
answers = {"labels": labels, "probabilities": classify.predict_proba(texts).tolist()}
print(json.dumps({"classes": classify.load().classes, **answers}))
"""
_CHECK_EMBEDDINGS = """
import json, sys
sys.modules["qkd"] = None
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"])
rows = numpy.array(json.load(sys.stdin), numpy.float32)
names = ["classes", "label", "probabilities"]
values = session.run(names, {"embeddings": rows})
print(json.dumps(dict(zip(["classes", "labels", "probabilities"], [value.tolist() for value in values]))))
"""


def write(request: ExportRequest, folder: Path) -> None:
    """Write ``model.onnx`` and, for texts, ``tokenizer.json`` and ``classify.py``.

    Raises:
        ModelError: The encoder cannot be in the graph.
        ConfigError: A package is not installed.
    """
    require_extra("the format onnx", "export", "onnx", "onnxruntime")
    import onnx
    from onnx import helper, numpy_helper

    graph = Graph(request.int8)
    from_texts = request.inputs == "texts"
    embeddings = _add_encoder(graph, request.student.encoder, request.int8) if from_texts else "embeddings"
    values, probabilities = add_form(graph, request.form, embeddings)
    index = graph.add("ArgMax", probabilities, axis=1, keepdims=0)
    names = numpy_helper.from_array(np.array(request.classes, dtype=object), "classes_constant")
    graph.constants.append(names)
    for node, source, output in (
        ("Identity", [probabilities], "probabilities"),
        ("Gather", ["classes_constant", index], "label"),
        ("Identity", [values], "expectation_values"),
        ("Identity", ["classes_constant"], "classes"),
    ):
        graph.nodes.append(helper.make_node(node, source, [output], name=f"output_{output}"))
    made = helper.make_graph(graph.nodes, "student", *_signature(request, from_texts), initializer=graph.constants)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="qkd", producer_version=VERSION
    )
    model.ir_version = IR_VERSION
    helper.set_model_props(model, _metadata(request))
    onnx.checker.check_model(model, full_check=True)
    write_bytes(folder / "model.onnx", model.SerializeToString())
    if from_texts:
        write_text(folder / "tokenizer.json", _tokenizer(request.student.encoder))
        loader = Path(__file__).with_name("onnx_classify.py").read_text("utf-8")
        write_text(folder / "classify.py", f"{loader}\n\n{module_functions()}")


def predict(request: ExportRequest, folder: Path, texts: Sequence[str]) -> Predictions:
    """Return the answers of onnxruntime, run without qkd."""
    if request.inputs == "embeddings":
        rows = request.student.encoder.encode(list(texts)).tolist()
        return run_runtime([sys.executable, "-c", _CHECK_EMBEDDINGS, str(folder)], rows, "onnxruntime")
    return run_runtime([sys.executable, "-c", _CHECK_TEXTS, str(folder)], list(texts), "onnxruntime")


def _signature(request: ExportRequest, from_texts: bool) -> tuple[list[Any], list[Any]]:
    """Return the graph's inputs and outputs."""
    from onnx import TensorProto, helper

    form, batch = request.form, "texts"
    inputs = [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [batch, len(form.weight)])]
    if from_texts:
        names = ("input_ids", "attention_mask")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [batch, "tokens"]) for name in names]
    classes, features = len(form.classes), len(form.head)
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, classes]),
        helper.make_tensor_value_info("label", TensorProto.STRING, [batch]),
        helper.make_tensor_value_info("expectation_values", TensorProto.FLOAT, [batch, features]),
        helper.make_tensor_value_info("classes", TensorProto.STRING, [classes]),
    ]
    return inputs, outputs


def _metadata(request: ExportRequest) -> dict[str, str]:
    student = request.student
    return {
        "qkd": VERSION,
        "classes": json.dumps(list(request.classes), ensure_ascii=False),
        "encoder": student.encoder.name,
        "inputs": request.inputs,
        "core": student.model.core.name,
        "teacher": student.about.teacher,
        "data": student.about.data,
        "int8": json.dumps(request.int8),
        "threshold": json.dumps(request.threshold),
    }


def _add_encoder(graph: Graph, encoder: Encoder, int8: bool) -> str:
    """Append an encoder and return the name of its embeddings (B,D).

    Raises:
        ModelError: The encoder cannot be in the graph.
    """
    if isinstance(encoder, StaticEncoder):
        table = encoder.arrays["table"]
        return add_static_encoder(graph, *(quantize_rows(table) if int8 else (table, None)))
    if isinstance(encoder, TransformerEncoder):
        backbone = _backbone(encoder)
        kind, activation = backbone.config.model_type, getattr(backbone.config, "hidden_act", "")
        if kind != "bert" or activation != "gelu":
            raise ModelError(
                f"the encoder '{encoder.name}' is a {kind} model, and only BERT models can be in the graph; use "
                "--inputs embeddings"
            )
        weights = {name: value.float().cpu().numpy() for name, value in backbone.network.state_dict().items()}
        if int8:
            weights[WORDS], weights[WORD_SCALES] = quantize_rows(weights[WORDS])
        return add_bert(graph, weights, backbone.config, encoder.layers, encoder.pooling)
    raise ModelError(
        f"the encoder '{encoder.name}' cannot be in an ONNX graph; use --inputs embeddings, or --format numpy for "
        "hashing"
    )


def _backbone(encoder: TransformerEncoder) -> Backbone:
    """Return the transformer up to the last layer read, with its fine-tuned weights."""
    tuned = {name.removeprefix("tuned."): value for name, value in encoder.arrays.items()}
    return Backbone(encoder.model, encoder.loading, max(*encoder.layers, 1), tuned)


def _tokenizer(encoder: Encoder) -> str:
    """Return the tokenizer as JSON, with the truncation and the special tokens that the student uses."""
    if isinstance(encoder, StaticEncoder):
        content = json.loads(encoder.arrays["tokenizer"].tobytes())
        return json.dumps({**content, "post_processor": None, "truncation": None, "padding": None}, ensure_ascii=False)
    assert isinstance(encoder, TransformerEncoder)
    from tokenizers import Tokenizer

    backbone = _backbone(encoder)
    tokenizer = Tokenizer.from_str(backbone.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(backbone.max_tokens)
    return tokenizer.to_str()
