"""Classify texts with an exported student; needs onnxruntime, tokenizers and numpy.

python classify.py "a text" "another text"

from classify import predict, predict_proba
"""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BATCH_TEXTS = 32


class Classifier:
    """The student of an export folder; ``classes`` has the C label names in the order of the columns."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, ["CPUExecutionProvider"])
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.classes = tuple(self.session.run(["classes"], self._feed([""]))[0])

    def _feed(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        encodings = self.tokenizer.encode_batch(list(texts))
        length = max(1, *(len(encoding.ids) for encoding in encodings))
        ids, mask = (np.zeros((len(texts), length), np.int64) for _ in range(2))
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; it truncates as the student does."""
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    def run(self, texts: Sequence[str], output: str) -> np.ndarray:
        """Return an output of the graph (N,...): ``probabilities``, ``label`` or ``expectation_values``."""
        if isinstance(texts, str):
            raise TypeError("give a list of texts, not one string")
        # batches of similar length need less padding
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        chunks = [order[start : start + BATCH_TEXTS] for start in range(0, len(order), BATCH_TEXTS)]
        parts = [self.session.run([output], self._feed([texts[row] for row in chunk]))[0] for chunk in chunks]
        values = np.concatenate(parts) if parts else self.session.run([output], self._feed([""]))[0][:0]
        return values[np.argsort(order)]

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the most probable label of each text."""
        return list(self.run(texts, "label"))

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return probabilities (N,C) of N texts."""
        return self.run(texts, "probabilities")
