"""A transformer without its head as a function of texts: hidden states, pooled over a text's tokens, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core.errors import ModelError
from qkd.models.transformer import Loading, Transformer

if TYPE_CHECKING:
    import torch

POOLINGS = ("mean", "first", "last", "max", "padding")
"""How the states of a text's real tokens become one. ``padding`` is a slip, kept to see what it does: the state of the
last position of the text padded to the most tokens there may be, which is a padding token in all but the longest."""


class Backbone(Transformer):
    """A pretrained transformer without its head.

    Args:
        model: a short name, folder, GGUF file or hub id.
        loading: how it is loaded.
        depth: how many of its layers, from the bottom, are kept in memory and computed; all when left out.
        tuned: weights, by name, that take the place of the model's own.
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
                raise ModelError(f"{self.model} has no weights '{unknown[0]}', which were tuned; it is another model")
        return network

    def states(self, ids: torch.Tensor, mask: torch.Tensor, layers: Sequence[int]) -> list[torch.Tensor]:
        """Return the hidden states (B,L,D), float32, behind each of ``layers``, of token ids and mask (B,L).

        The state behind a whole transformer's last layer has gone through what follows there (some normalise); behind
        the last layer of one that was cut it is what it was before the cut.
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
        """D, the width of a hidden state."""
        return int(self.config.hidden_size)

    @property
    def num_layers(self) -> int:
        """How many layers there are; layer 0 below means the embeddings in front of the first."""
        return int(self.config.num_hidden_layers)

    def pooled(
        self, texts: Sequence[str], layers: Sequence[int], equal_tokens: bool = False, pooling: str = "mean"
    ) -> np.ndarray:
        """Return hidden states pooled over each text's real tokens, ``(N, len(layers), D)`` float32.

        Args:
            texts: N texts.
            layers: which layers, 0 (the embeddings) to ``num_layers``.
            equal_tokens: scale each token's state to root mean square 1 first. In the middle layers of a causal LM
                the first token's state is hundreds of times longer than the others and would be all that is left
                of the average.
            pooling: one of ``POOLINGS``.
        """
        return self.pooled_tokens(self.tokens(texts), layers, equal_tokens, pooling)

    def pooled_tokens(
        self, tokens: Sequence[Sequence[int]], layers: Sequence[int], equal_tokens: bool = False, pooling: str = "mean"
    ) -> np.ndarray:
        """Return the same for N texts given as token ids."""
        import torch

        def read(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            if pooling == "padding":
                pad = self.tokenizer.pad_token_id
                if pad is None:
                    raise ModelError(f"{self.model}: pooling=padding needs a padding token and the tokenizer has none")
                more = (0, self.max_tokens - ids.shape[1])
                ids = torch.nn.functional.pad(ids.masked_fill(mask == 0, pad), more, value=pad)
                mask = torch.nn.functional.pad(mask, more)
            pooled = []
            for states in self.states(ids, mask, layers):
                if equal_tokens:
                    states = states / states.square().mean(dim=2, keepdim=True).sqrt().clamp_min(1e-6)
                pooled.append(pool(states, mask, pooling))
            return torch.stack(pooled, dim=1)

        out = np.empty((len(tokens), len(layers), self.dim), np.float32)
        for rows, values in self.batched(tokens, read):
            out[rows] = values
        return out


def blocks(network: torch.nn.Module, count: int | None) -> torch.nn.ModuleList | None:
    """Return the ``count`` layers of a transformer; None where it does not keep them in one list."""
    from torch.nn import ModuleList

    return next((part for part in network.modules() if isinstance(part, ModuleList) and len(part) == count), None)


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return one state (B,D) for each text, of its real tokens' ``states`` (B,L,D); ``mask`` (B,L), padding right."""
    import torch

    if pooling == "mean":
        return ((mask / mask.sum(dim=1, keepdim=True)).unsqueeze(1) @ states).squeeze(1)
    if pooling == "max":
        return states.masked_fill(mask.unsqueeze(2) == 0, -torch.inf).amax(dim=1)
    if pooling == "padding":
        return states[:, -1]
    place = 0 if pooling == "first" else mask.sum(dim=1).long() - 1
    return states[torch.arange(len(states), device=states.device), place]
