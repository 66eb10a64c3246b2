"""Which layers of a transformer a student reads: those with the least leave-one-out error of a linear probe.

The last layer is made for what the transformer was trained for; layers in the middle often know what it has lost. All
layers of a pass are cached together, so that looking at several costs an eigendecomposition for each. Every training
and validation text judges in its turn, for the validation texts alone are too few to tell such sets apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qkd.encoders.hidden_states import TransformerEncoder
from qkd.encoders.protocol import Encoder
from qkd.encoders.registry import JoinedEncoder, embed_texts
from qkd.models.linear_probes import leave_one_out, squared_errors
from qkd.results import Tried

TEXTS = 2000
"""Texts with which layers are compared."""
SLACK = 0.05
"""By so much a layer that trains may err more than several that do not: training it was seen to win about as much."""


def layer_candidates(layers: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the few sets of ``layers`` that are compared: last, two thirds up, both, and the upper two thirds."""
    middle = layers[max(round(2 * len(layers) / 3) - 1, 0)]
    upper = tuple(layers[len(layers) // 3 :])
    return list(dict.fromkeys([(layers[-1],), (middle,), tuple(sorted({middle, layers[-1]})), upper]))


def choose_layers(
    encoder: Encoder, texts: Sequence[str], y: np.ndarray, trains: bool = False
) -> tuple[Encoder, list[Tried]]:
    """Return ``encoder`` with its open layers chosen, and what was tried.

    Args:
        encoder: any encoder; only transformers with ``?layers=auto`` have something to choose.
        texts: labelled texts (N), none of them of the test split.
        y: their class numbers (N,).
        trains: the encoder will train with the student. A single layer is then taken where its error is within
            ``SLACK`` of the least: a student that has learned many fixed layers by heart asks nothing of the rest.

    Returns:
        The encoder, and how each candidate did, in the order tried.
    """
    if isinstance(encoder, JoinedEncoder):
        parts = [choose_layers(part, texts, y, trains) for part in encoder.parts]
        return JoinedEncoder([part for part, _ in parts]), [row for _, rows in parts for row in rows]
    if not isinstance(encoder, TransformerEncoder) or not encoder.open:
        return encoder, []
    encoder.remember(texts)  # one pass, whatever is chosen
    step = -(-len(texts) // TEXTS)  # every step-th: the rows carry no order that depends on the class
    some, classes = texts[::step], np.unique(y[::step], return_inverse=True)[1]
    tried: list[Tried] = []
    for layers in layer_candidates(encoder.pass_layers):
        candidate = encoder.with_layers(layers)
        x = embed_texts(candidate, some)
        x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
        scores = leave_one_out(x @ x.T, classes)
        error = float(squared_errors(scores, classes).mean())
        accuracy = float((scores.argmax(axis=1) == classes).mean())
        tried.append(Tried(encoder=candidate.name, layers=layers, error=error, accuracy=accuracy))
    most = (1 + SLACK) * min(row.error for row in tried)
    single = [row for row in tried if len(row.layers) == 1 and row.error <= most] if trains else []
    return encoder.with_layers(min(single or tried, key=lambda row: row.error).layers), tried
