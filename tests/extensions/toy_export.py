"""A toy export format: a JSON file with a linear classifier."""

import json

import numpy as np

from qkd.export.request import Predictions


def write(request, folder):
    """Write the classical form of a linear student as JSON."""
    form = request.form
    value = {"classes": form.classes, "weight": (form.weight @ form.head).tolist()}
    value["bias"] = (form.bias @ form.head + form.head_bias).tolist()
    (folder / "toy.json").write_text(json.dumps(value), "utf-8")


def predict(request, folder, texts):
    """Return the answers of the file."""
    value = json.loads((folder / "toy.json").read_text("utf-8"))
    logits = request.student.encoder.encode(list(texts)) @ np.array(value["weight"]) + value["bias"]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    classes = tuple(value["classes"])
    return Predictions(classes, tuple(classes[i] for i in shares.argmax(axis=1)), shares)
