"""Features of a text from one pass through a causal LM: pooled states of several layers, and its own likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core.cache import Key
from qkd.models.backbone import Backbone, pool, unit_rms
from qkd.models.transformer import Loading

if TYPE_CHECKING:
    import torch

# The poolings of each layer, in this order.
POOLED = ("mean", "last", "max")
# Number of features that ``likelihood_features`` returns.
NUM_LIKELIHOODS = 9
FLOAT16_MAX = float(np.finfo(np.float16).max)


class FeatureExtractor(Backbone):
    """A causal LM that computes no more layers than its features need.

    Args:
        layers: layers to read, from 1.
        likelihoods: whether to read the LM's likelihoods of the text's own tokens, which needs all layers.
    """

    def __init__(self, model: str, loading: Loading | None, layers: Sequence[int], likelihoods: bool) -> None:
        super().__init__(model, loading, depth=None if likelihoods else max(layers))
        self.layers, self.likelihoods = tuple(layers), likelihoods
        self.auto_class = "AutoModelForCausalLM" if likelihoods else "AutoModel"

    def __getstate__(self) -> dict[str, object]:
        own = {"layers": self.layers, "likelihoods": self.likelihoods, "auto_class": self.auto_class}
        return {**super().__getstate__(), **own}

    @property
    def key(self) -> Key:
        """Everything that determines features except the text."""
        return {**super().key, "layers": list(self.layers), "likelihoods": self.likelihoods}

    @property
    def widths(self) -> tuple[int, ...]:
        """Sizes of the blocks of features: one block for each layer, and one for the likelihoods."""
        layers = (len(POOLED) * self.dim,) * len(self.layers)
        return (*layers, NUM_LIKELIHOODS) if self.likelihoods else layers

    @cached_property
    def network(self) -> Any:
        """The torch module, which keeps no keys and values for a next token."""
        network = super().network
        network.config.use_cache = False
        return network

    def features(self, texts: Sequence[str]) -> np.ndarray:
        """Return features ``(N, sum(widths))`` float16 of N texts; states have order one by construction.

        Each token's state is scaled to root mean square 1 before pooling; see ``Backbone.pooled``.
        """
        import torch

        def read(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states, logits = self._run(ids, mask)
            parts = [pool(unit_rms(layer), mask, pooling) for layer in states for pooling in POOLED]
            if logits is not None:
                parts.append(likelihood_features(logits, ids, mask))
            return torch.cat(parts, dim=1)

        out = np.empty((len(texts), sum(self.widths)), np.float16)
        for rows, values in self.batched(self.tokens(texts), read):
            out[rows] = np.clip(values, -FLOAT16_MAX, FLOAT16_MAX)  # a long text's log-likelihood exceeds it
        return out

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Return the states (B,L,D) of the layers and, for likelihoods, the logits (B,L,V) of next tokens."""
        if not self.likelihoods:
            return self.states(ids, mask, self.layers), None
        output = self.network(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return [output.hidden_states[layer].float() for layer in self.layers], output.logits


def likelihood_features(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return ``(B, NUM_LIKELIHOODS)`` features of texts (B,L) from the logits (B,L,V) of their next tokens.

    Over all tokens but the first: mean, standard deviation and minimum of the log-likelihoods, mean entropy, mean
    log-rank, the fractions that were the likeliest and among the ten likeliest, the logarithm of the number of tokens,
    and the sum of the log-likelihoods; all 0 for a single token. Rank, likelihood and entropy distinguish generated
    from human text (Gehrmann et al., arXiv 1906.04043).
    """
    import torch

    scores, following, real = logits[:, :-1].float().log_softmax(dim=2), ids[:, 1:, None], mask[:, 1:].float()
    count = real.sum(dim=1).clamp_min(1)

    def average(values: torch.Tensor) -> torch.Tensor:
        return (values * real).sum(dim=1) / count

    own = scores.gather(2, following).squeeze(2)
    rank = (scores > own.unsqueeze(2)).sum(dim=2).float()
    entropy = -(scores.exp() * scores).sum(dim=2)
    mean = average(own)
    features = [
        mean,
        average((own - mean.unsqueeze(1)).square()).sqrt(),
        own.masked_fill(real == 0, 0.0).amin(dim=1) if own.shape[1] else mean,
        average(entropy),
        average(rank.log1p()),
        average((rank < 1).float()),
        average((rank < 10).float()),
        count.log(),
        (own * real).sum(dim=1),
    ]
    return torch.stack(features, dim=1)
