"""The numpy format: arrays, a description and one Python file that classifies with numpy alone."""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from qkd.core.errors import ModelError
from qkd.core.files import write_bytes, write_text
from qkd.core.version import VERSION
from qkd.encoders.combined import JoinedEncoder
from qkd.encoders.hashing import HashingEncoder
from qkd.encoders.protocol import Encoder
from qkd.encoders.static import StaticEncoder
from qkd.export import classify
from qkd.export.request import ExportRequest, Predictions, run_runtime
from qkd.student.classical import ClassicalForm, LinearCore, MlpCore
from qkd.student.contraction import ContractedCircuit
from qkd.student.gatelist import GateList

_SECTION = re.compile(r" *# begin (\w+)\n(.*?)\n+ *# end \1\n(\n*)", re.DOTALL)
# Runs in a process that cannot import qkd or its dependencies.
_CHECK = """
import json, sys
for name in ("qkd", "torch", "qiskit", "sklearn", "tokenizers", "transformers", "safetensors"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import classify
texts = json.load(sys.stdin)
answers = {"labels": classify.predict(texts), "probabilities": classify.predict_proba(texts).tolist()}
print(json.dumps({"classes": classify.load().classes, **answers}))
"""


def write(request: ExportRequest, folder: Path) -> None:
    """Write ``model.json``, ``model.safetensors`` and ``classify.py``.

    Raises:
        ModelError: The encoder is no hashing or static one, or the student has no classical form.
    """
    encoder, arrays = describe_encoder(request.student.encoder, request.int8)
    core, core_arrays = describe_core(request.form)
    form = request.form
    arrays |= core_arrays | form_arrays(form)
    data = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    model = {
        "format": classify.FORMAT,
        "qkd": VERSION,
        "classes": list(form.classes),
        "encoder": encoder,
        "angle_map": form.angle_map,
        "core": core,
        "threshold": request.threshold,
        "checksum": zlib.crc32(data),
    }
    write_bytes(folder / "model.safetensors", data)
    write_text(folder / "model.json", json.dumps(model, ensure_ascii=False))
    needed = {core["kind"], form.angle_map, *(part["kind"] for part in encoder)}
    write_text(folder / "classify.py", loader_source(needed))


def predict(request: ExportRequest, folder: Path, texts: Sequence[str]) -> Predictions:
    """Return the answers of ``classify.py``, run without qkd."""
    return run_runtime([sys.executable, "-c", _CHECK, str(folder)], list(texts), "classify.py")


def loader_source(needed: set[str]) -> str:
    """Return ``classify.py`` with the sections for the encoders, the angle map and the core that are ``needed``."""

    def section(match: re.Match[str]) -> str:
        return f"{match[2]}\n{match[3]}" if match[1] in {*needed, "module"} else ""

    source = _SECTION.sub(section, Path(classify.__file__).read_text("utf-8"))
    return re.sub(r"\n{2,}(?=def |class |@|if )", "\n\n\n", source)


def module_functions() -> str:
    """Return the part of ``classify.py`` that is the same for every runtime: its functions and its command line."""
    sections = {match[1]: match[2] for match in _SECTION.finditer(Path(classify.__file__).read_text("utf-8"))}
    return f"{sections['module']}\n"


def form_arrays(form: ClassicalForm) -> dict[str, np.ndarray]:
    """Return projection and head of a classical form."""
    return {"weight": form.weight, "bias": form.bias, "head": form.head, "head_bias": form.head_bias}


def describe_core(form: ClassicalForm) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return a core's description for JSON and its arrays.

    Raises:
        ModelError: The format has no such core.
    """
    core = form.core
    if isinstance(core, ContractedCircuit):
        observables = [
            [list(one.inputs), [2 * degree + 1 for degree in one.degrees], one.split] for one in core.contractions
        ]
        degree = max((degree for one in core.contractions for degree in one.degrees), default=1)
        arrays = {f"left.{k}": one.left.T for k, one in enumerate(core.contractions)}
        arrays |= {f"right.{k}": one.right.T for k, one in enumerate(core.contractions)}
        return {"kind": "contraction", "degree": degree, "observables": observables}, arrays
    if isinstance(core, GateList):
        return describe_gates(core, form.weight.shape[1])
    if isinstance(core, MlpCore):
        return {"kind": "mlp"}, {"hidden": core.hidden, "hidden_bias": core.hidden_bias, "out": core.out}
    if isinstance(core, LinearCore):
        return {"kind": "linear"}, {}
    raise ModelError("the control 'fourier' has no export; export a circuit, linear, mlp or product")


def describe_gates(core: GateList, num_inputs: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return a gate list's description for JSON and its arrays; a gate's number -1 - s means rotation s."""
    gates: list[list[Any]] = []
    matrices: list[np.ndarray] = []
    slopes: list[np.ndarray] = []
    offsets: list[float] = []
    for gate in core.gates:
        if gate.matrix is not None:
            gates.append([list(gate.qubits), len(matrices)])
            padded = np.zeros((4, 4), dtype=complex)
            padded[: len(gate.matrix), : len(gate.matrix)] = gate.matrix
            matrices.append(padded)
        elif gate.slopes is not None:
            gates.append([list(gate.qubits), -1 - len(slopes)])
            slopes.append(gate.slopes)
            offsets.append(gate.offset)
    stacked = np.array(matrices).reshape(-1, 4, 4)
    arrays = {
        "matrices": np.stack([stacked.real, stacked.imag], axis=1),
        "slopes": np.array(slopes).reshape(-1, num_inputs).T,
        "offsets": np.array(offsets),
    }
    observables = [[[term.coefficient, term.x, term.z] for term in terms] for terms in core.observables]
    return {"kind": "gates", "qubits": core.num_qubits, "gates": gates, "observables": observables}, arrays


def describe_encoder(
    encoder: Encoder, int8: bool = False, prefix: str = ""
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the descriptions, for JSON, of the encoders that ``encoder`` puts side by side, and their arrays.

    Args:
        encoder: The encoder.
        int8: Whether a static table is stored as 8-bit integers with one scale for each token.
        prefix: Prefix of the arrays' names.

    Raises:
        ModelError: It is no hashing or static encoder, or its tokenizer is not BERT's.
    """
    if isinstance(encoder, HashingEncoder):
        return [{"kind": "hashing", "dim": encoder.dim}], {}
    if isinstance(encoder, JoinedEncoder):
        parts = [describe_encoder(part, int8, f"{prefix}{i}.") for i, part in enumerate(encoder.parts)]
        merged = {name: value for _, arrays in parts for name, value in arrays.items()}
        return [description for own, _ in parts for description in own], merged
    if isinstance(encoder, StaticEncoder):
        names = {"table": f"{prefix}table", "scale": f"{prefix}scale"}
        tables = {names["table"]: encoder.arrays["table"]}
        if int8:
            tables = dict(zip(names.values(), quantize_rows(encoder.arrays["table"]), strict=True))
        return [{"kind": "static", **names, **_describe_tokenizer(encoder)}], tables
    raise ModelError(
        f"the encoder '{encoder.name}' runs a transformer, which this format does not have; use --format onnx, or "
        "train the student with --encoder hashing or --encoder static:MODEL"
    )


def quantize_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a table (T,D) as 8-bit integers with the scale (T,1) of each row."""
    scale = np.maximum(np.abs(table.astype(np.float32)).max(axis=1, keepdims=True), 1e-12) / 127
    return np.round(table / scale).astype(np.int8), scale


def _describe_tokenizer(encoder: StaticEncoder) -> dict[str, Any]:
    """Return a BERT WordPiece tokenizer's settings.

    Raises:
        ModelError: The tokenizer is another one.
    """
    tokenizer = json.loads(encoder.arrays["tokenizer"].tobytes())
    model, normalizer, splitter = (tokenizer.get(key) or {} for key in ("model", "normalizer", "pre_tokenizer"))
    kinds = (model.get("type"), normalizer.get("type"), splitter.get("type"))
    added = tokenizer.get("added_tokens")
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer") or not normalizer["clean_text"] or added:
        raise ModelError(
            f"the tokenizer of '{encoder.name}' ({', '.join(map(str, kinds))}) is not BERT's WordPiece without "
            "added tokens, the only one that this format reads; use --format onnx"
        )
    vocabulary = model["vocab"]
    tokens = [""] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        tokens[number] = token
    strip = normalizer["strip_accents"]
    return {
        "tokens": tokens,
        "unknown": vocabulary[model["unk_token"]],
        "prefix": model["continuing_subword_prefix"],
        "longest": model["max_input_chars_per_word"],
        "lowercase": normalizer["lowercase"],
        "strip": normalizer["lowercase"] if strip is None else strip,
    }
