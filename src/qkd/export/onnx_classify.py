"""Classify texts with an exported student; needs onnxruntime, tokenizers and numpy.

python classify.py "a text" "another text"

from classify import predict, predict_proba
"""

import functools
import os
import pathlib
import sys  # noqa: F401 - for the command line, which an export appends
from collections.abc import Sequence

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

# Tokens of a batch, padding included: few enough for the processor's cache.
BATCH_TOKENS = 512
TOKENIZED_TEXTS = 1024


class Classifier:
    """The student of an export folder; ``classes`` has the C label names in the order of the columns."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))  # 0: one for each core
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, ["CPUExecutionProvider"])
        self.classes = tuple(self.session.run(["classes"], self._feed([[0, 0]]))[0])

    def _feed(self, tokens: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        ids, mask = (np.zeros((len(tokens), max(map(len, tokens), default=1) or 1), np.int64) for _ in range(2))
        for row, own in enumerate(tokens):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; it truncates as the student does."""
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    def run(self, texts: Sequence[str], output: str) -> np.ndarray:
        """Return an output of the graph (N,...): ``probabilities``, ``label`` or ``expectation_values``."""
        if isinstance(texts, str):
            raise TypeError("give a list of texts, not one string")
        blocks = [texts[start : start + TOKENIZED_TEXTS] for start in range(0, len(texts), TOKENIZED_TEXTS)]
        tokens = [one.ids for block in blocks for one in self.tokenizer.encode_batch(list(block))]
        order = sorted(range(len(texts)), key=lambda row: -len(tokens[row]))  # similar lengths need less padding
        parts, start = list[np.ndarray](), 0
        while start < len(order):
            size = max(1, BATCH_TOKENS // max(1, len(tokens[order[start]])))
            feed = self._feed([tokens[row] for row in order[start : start + size]])
            parts.append(self.session.run([output], feed)[0])
            start += size
        values = np.concatenate(parts) if parts else self.session.run([output], self._feed([[0, 0]]))[0][:0]
        return values[np.argsort(order)]

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return probabilities (N,C) of N texts."""
        return self.run(texts, "probabilities")


def read_export(folder: pathlib.Path) -> Classifier:
    """Return the classifier of an export folder."""
    return Classifier(folder)
