"""Which layers of a transformer a student reads: those on which a linear probe does best on the validation texts.

The last layer is made for what the transformer was trained for; layers in the middle often know what it has lost. All
layers of a pass are cached together, so that looking at several costs a few logistic regressions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qkd.results import Tried
from qkd.text.encoders.layered import TransformerEncoder
from qkd.text.encoders.make import JoinedEncoder, embed
from qkd.text.probes import linear_probe
from qkd.text.protocols import Encoder

TEXTS = 2000
"""Training texts with which layers are compared."""


def candidates(kept: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the few sets of ``kept`` layers that are compared: last, two thirds up, both, and the upper two thirds."""
    middle = kept[max(round(2 * len(kept) / 3) - 1, 0)]
    upper = tuple(kept[len(kept) // 3 :])
    return list(dict.fromkeys([(kept[-1],), (middle,), tuple(sorted({middle, kept[-1]})), upper]))


def chosen(
    encoder: Encoder, train: Sequence[str], y_train: np.ndarray, valid: Sequence[str], y_valid: np.ndarray
) -> tuple[Encoder, list[Tried]]:
    """Return ``encoder`` with its open layers chosen, and what was tried.

    Args:
        encoder: any encoder; only transformers with ``?layers=auto`` have something to choose.
        train: training texts (N).
        y_train: their class numbers.
        valid: validation texts, whose cross-entropy decides.
        y_valid: their class numbers.

    Returns:
        The encoder, and how each candidate did, in the order tried.
    """
    if isinstance(encoder, JoinedEncoder):
        parts = [chosen(part, train, y_train, valid, y_valid) for part in encoder.parts]
        return JoinedEncoder([part for part, _ in parts]), [row for _, rows in parts for row in rows]
    if not isinstance(encoder, TransformerEncoder) or not encoder.open:
        return encoder, []
    encoder.remember([*train, *valid])  # one pass, whatever is chosen
    step = -(-len(train) // TEXTS)  # every step-th: the rows carry no order that depends on the class
    tried: list[Tried] = []
    for layers in candidates(encoder.kept):
        candidate = encoder.with_layers(layers)
        probe, _ = linear_probe(embed(candidate, train[::step]), y_train[::step], embed(candidate, valid), y_valid)
        loss, accuracy = probe.valid_loss, probe.valid_accuracy
        tried.append(Tried(encoder=candidate.name, layers=layers, valid_loss=loss, valid_accuracy=accuracy))
    return encoder.with_layers(min(tried, key=lambda row: row.valid_loss).layers), tried
