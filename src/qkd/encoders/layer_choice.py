"""Choose the layers of a transformer by the leave-one-out error of a linear probe.

The last layer serves the transformer's own task; layers below it often contain information that the last one has lost.
The cache keeps all layers of a pass, so each candidate costs one eigendecomposition. Leave-one-out errors use all
training and validation texts, because the validation texts alone are too few to compare candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qkd.encoders.combined import JoinedEncoder
from qkd.encoders.hidden_states import TransformerEncoder
from qkd.encoders.protocol import Encoder, embed_texts
from qkd.models.linear_probes import leave_one_out, squared_errors
from qkd.results.run import SelectionTrial

# Maximum number of texts on which layers are compared.
MAX_TEXTS = 2000
# A single layer is preferred for fine-tuning if its relative excess error is below this: fine-tuning gained as much.
MAX_EXCESS_ERROR = 0.05


def layer_candidates(layers: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the sets of ``layers`` to compare: the last, the one at two thirds, both, and the upper two thirds."""
    middle = layers[max(round(2 * len(layers) / 3) - 1, 0)]
    upper = tuple(layers[len(layers) // 3 :])
    return list(dict.fromkeys([(layers[-1],), (middle,), tuple(sorted({middle, layers[-1]})), upper]))


def choose_layers(
    encoder: Encoder, texts: Sequence[str], y: np.ndarray, trains: bool = False
) -> tuple[Encoder, list[SelectionTrial]]:
    """Return ``encoder`` with its open layers chosen, and the errors of all candidates.

    Args:
        encoder: any encoder; only transformers with ``?layers=auto`` have open layers.
        texts: labeled texts (N), none of them of the test split.
        y: their class numbers (N,).
        trains: whether the encoder is fine-tuned with the student. Then a single layer within ``MAX_EXCESS_ERROR`` of
            the smallest error is preferred, because a student overfits many fixed layers and ignores the others.

    Returns:
        The encoder, and the candidates in the order compared.
    """
    if isinstance(encoder, JoinedEncoder):
        parts = [choose_layers(part, texts, y, trains) for part in encoder.parts]
        return JoinedEncoder([part for part, _ in parts]), [row for _, rows in parts for row in rows]
    if not isinstance(encoder, TransformerEncoder) or not encoder.has_open_layers:
        return encoder, []
    encoder.fill_cache(texts)  # one pass serves all candidates
    step = -(-len(texts) // MAX_TEXTS)  # the order of the rows does not depend on the class
    some, classes = texts[::step], np.unique(y[::step], return_inverse=True)[1]
    tried: list[SelectionTrial] = []
    for layers in layer_candidates(encoder.pass_layers):
        candidate = encoder.with_layers(layers)
        x = embed_texts(candidate, some)
        x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
        scores = leave_one_out(x @ x.T, classes)
        error = float(squared_errors(scores, classes).mean())
        accuracy = float((scores.argmax(axis=1) == classes).mean())
        tried.append(SelectionTrial(name=candidate.name, layers=layers, error=error, accuracy=accuracy))
    limit = (1 + MAX_EXCESS_ERROR) * min(row.error for row in tried)
    single = [row for row in tried if len(row.layers) == 1 and row.error <= limit] if trains else []
    return encoder.with_layers(min(single or tried, key=lambda row: row.error).layers), tried
