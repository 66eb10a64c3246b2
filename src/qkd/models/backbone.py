"""A transformer without its head: pooled hidden states of several layers, and likelihoods of a text's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core.cache import Key
from qkd.core.errors import ModelError
from qkd.models.transformer import Loading, Transformer

if TYPE_CHECKING:
    import torch

# How the states of a text's tokens become one. ``padding`` reproduces a deviation of the paper's public code: it takes
# the last position of the text padded to the maximum, which is a padding token in nearly all texts.
POOLINGS = ("mean", "first", "last", "max", "padding")
# The poolings of each layer, in this order.
POOLED = ("mean", "last", "max")
# Number of features that ``likelihood_features`` returns.
NUM_LIKELIHOODS = 9
FLOAT16_MAX = float(np.finfo(np.float16).max)


class Backbone(Transformer):
    """A pretrained transformer without its head.

    Args:
        depth: number of layers, from the bottom, to keep and compute; all by default.
        tuned: weights by name that replace the model's own.
    """

    def __init__(
        self,
        model: str,
        loading: Loading | None = None,
        depth: int | None = None,
        tuned: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__(model, loading)
        self.depth, self.changed = depth, dict(tuned or {})

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "depth": self.depth, "changed": self.changed}

    @cached_property
    def network(self) -> Any:
        """The torch module on its device, without the layers above ``depth``."""
        network = super().network
        layers = blocks(network, self.num_layers)
        if self.depth is not None and layers is not None:
            del layers[self.depth :]
        if self.changed:
            import torch

            tensors = {name: torch.as_tensor(value) for name, value in self.changed.items()}
            unknown = network.load_state_dict(tensors, strict=False).unexpected_keys
            if unknown:
                raise ModelError(f"{self.model} has no weights '{unknown[0]}', which were fine-tuned for another model")
        return network

    def states(self, ids: torch.Tensor, mask: torch.Tensor, layers: Sequence[int]) -> list[torch.Tensor]:
        """Return the hidden states (B,L,D), float32, after each of ``layers``, for token ids and mask (B,L).

        The state after the last layer of a whole transformer includes the final normalization, if there is one. That of
        a cut transformer is the state before the cut.
        """
        import torch

        top: list[Any] = []
        modules = None if self.depth in (None, self.num_layers) else blocks(self.network, self.depth)
        hook = modules[-1].register_forward_hook(lambda *call: top.append(call[2])) if modules else None
        try:
            hidden = list(self.network(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states)
        finally:
            if hook is not None:
                hook.remove()
        if top and self.depth is not None:
            hidden[self.depth] = top[0] if isinstance(top[0], torch.Tensor) else top[0][0]
        return [hidden[layer].float() for layer in layers]

    @property
    def dim(self) -> int:
        """Width D of a hidden state."""
        return int(self.config.hidden_size)

    @property
    def num_layers(self) -> int:
        """Number of layers; layer 0 means the embeddings in front of the first."""
        return int(self.config.num_hidden_layers)

    def pooled(self, texts: Sequence[str], layers: Sequence[int], pooling: str = "mean") -> np.ndarray:
        """Return hidden states pooled over each text's tokens, ``(N, len(layers), D)`` float32.

        Args:
            layers: layers to read, 0 (the embeddings) to ``num_layers``.
            pooling: one of ``POOLINGS``.
        """
        return self.pooled_tokens(self.tokens(texts), layers, pooling)

    def pooled_tokens(
        self, tokens: Sequence[Sequence[int]], layers: Sequence[int], pooling: str = "mean"
    ) -> np.ndarray:
        """Return the same for N texts given as token ids."""
        import torch

        def read(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            if pooling == "padding":
                ids, mask = self._pad_to_maximum(ids, mask)
            states = self.states(ids, mask, layers)
            rows = [pool(layer, mask, pooling) for layer in states]
            return torch.stack(rows, dim=1)

        out = np.empty((len(tokens), len(layers), self.dim), np.float32)
        for rows, values in self.batched(tokens, read):
            out[rows] = values
        return out

    def _pad_to_maximum(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from torch.nn import functional

        pad = self.tokenizer.pad_token_id
        if pad is None:
            raise ModelError(f"{self.model}: pooling=padding needs a padding token, which the tokenizer lacks")
        more = (0, self.max_tokens - ids.shape[1])
        return functional.pad(ids.masked_fill(mask == 0, pad), more, value=pad), functional.pad(mask, more)


def blocks(network: torch.nn.Module, count: int | None) -> torch.nn.ModuleList | None:
    """Return the ``count`` layers of a transformer, or None if they are not in one list."""
    from torch.nn import ModuleList

    return next((part for part in network.modules() if isinstance(part, ModuleList) and len(part) == count), None)


def unit_rms(states: torch.Tensor) -> torch.Tensor:
    """Return ``states`` (B,L,D) with each token's state scaled to root mean square 1."""
    return states / states.square().mean(dim=2, keepdim=True).sqrt().clamp_min(1e-6)


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return one state (B,D) for each text from its tokens' ``states`` (B,L,D); ``mask`` (B,L), padded right."""
    import torch

    if pooling == "mean":
        return ((mask / mask.sum(dim=1, keepdim=True)).unsqueeze(1) @ states).squeeze(1)
    if pooling == "max":
        return states.masked_fill(mask.unsqueeze(2) == 0, -torch.inf).amax(dim=1)
    if pooling == "padding":
        return states[:, -1]
    place = 0 if pooling == "first" else mask.sum(dim=1).long() - 1
    return states[torch.arange(len(states), device=states.device), place]


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

        Each token's state is scaled to root mean square 1 before pooling. In the middle layers of a causal LM the first
        token's state is hundreds of times longer than the others and would dominate the mean.
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
