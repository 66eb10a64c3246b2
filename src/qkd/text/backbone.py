"""A transformer as a function of texts: hidden states averaged over real tokens, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.console import say
from qkd.errors import QkdError
from qkd.text import weights

if TYPE_CHECKING:
    import torch

MAX_LENGTH = 256
"""Tokens of a text that are read, unless told otherwise."""

TOKEN_BUDGET = {"cpu": 512, "cuda": 16384}
"""Tokens of a batch, padding included; on CPUs small batches stay in the processor's cache and are faster."""


class Backbone:
    """A pretrained transformer without its head; weights are loaded when the first text comes.

    Args:
        model: a short name, folder or hub id (see ``weights.resolve``).
        max_length: tokens read of each text; ``MAX_LENGTH`` or what the model can hold when left out.
        torch_device: where it runs, as torch names it; CUDA when there is one, if left out.

    Raises:
        QkdError: the model cannot be had.
    """

    def __init__(self, model: str, max_length: int | None = None, torch_device: str | None = None) -> None:
        weights.quiet_transformers()
        self.model = model
        self.source = weights.resolve(model)
        self.truncated = 0
        """How many texts so far were longer than ``max_length``."""
        self._max_length, self._device = max_length, torch_device

    @cached_property
    def fingerprint(self) -> str:
        """A hash of configuration, tokenizer and weights."""
        return weights.fingerprint(self.source)

    @cached_property
    def config(self) -> Any:
        """The configuration of the model's text part."""
        from transformers import AutoConfig

        return self._load(AutoConfig).get_text_config()

    @property
    def dim(self) -> int:
        """D, the width of a hidden state."""
        return int(self.config.hidden_size)

    @property
    def num_layers(self) -> int:
        """How many layers there are; layer 0 below means the embeddings in front of the first."""
        return int(self.config.num_hidden_layers)

    @property
    def num_parameters(self) -> int:
        """How many weights the model has, shared ones once."""
        return sum(weight.numel() for weight in self._network.parameters())

    @cached_property
    def max_length(self) -> int:
        """Tokens read of each text."""
        holds = getattr(self.config, "max_position_embeddings", MAX_LENGTH)
        return min(self._max_length or MAX_LENGTH, holds, self._tokenizer.model_max_length)

    def pooled(self, texts: Sequence[str], layers: Sequence[int], equal_tokens: bool = False) -> np.ndarray:
        """Return hidden states averaged over each text's real tokens, ``(N, len(layers), D)`` float32.

        Args:
            texts: N texts.
            layers: which layers, 0 (the embeddings) to ``num_layers``.
            equal_tokens: scale each token's state to root mean square 1 first. In the middle layers of a causal LM
                the first token's state is hundreds of times longer than the others and would be all that is left
                of the average.
        """
        import torch

        out = np.empty((len(texts), len(layers), self.dim), np.float32)
        network, tokens = self._network, self._tokens(texts)
        budget = TOKEN_BUDGET.get(network.device.type, TOKEN_BUDGET["cpu"])
        for rows in batches([len(ids) for ids in tokens], budget):
            ids, mask = _padded([tokens[row] for row in rows])
            ids, mask = ids.to(network.device), mask.to(network.device)
            with torch.inference_mode():
                answer = network(input_ids=ids, attention_mask=mask, output_hidden_states=True)
                share = (mask / mask.sum(dim=1, keepdim=True)).unsqueeze(1)
                for place, layer in enumerate(layers):
                    states = answer.hidden_states[layer]
                    if equal_tokens:
                        states = states / states.square().mean(dim=2, keepdim=True).sqrt().clamp_min(1e-6)
                    out[rows, place] = (share @ states).squeeze(1).cpu().numpy()
        return out

    def report(self, count: int) -> None:
        """Say how many of ``count`` texts were cut, and start counting anew."""
        if self.truncated:
            say(
                f"{self.model}: {self.truncated:,} of {count:,} texts are longer than {self.max_length} tokens; "
                "they were read up to there"
            )
        self.truncated = 0

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids, at least one and at most ``max_length``."""
        tokenizer = self._tokenizer
        tokens = tokenizer(list(texts), verbose=False)["input_ids"] if len(texts) else []
        for row, ids in enumerate(tokens):
            if len(ids) > self.max_length:
                self.truncated += 1
                tokens[row] = tokenizer(texts[row], truncation=True, max_length=self.max_length)["input_ids"]
            elif not ids:  # an empty text, for a tokenizer that adds nothing of its own
                tokens[row] = [tokenizer.eos_token_id or 0]
        return tokens

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return self._load(AutoTokenizer)

    @cached_property
    def _network(self) -> Any:
        import torch
        from transformers import AutoModel

        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        return self._load(AutoModel, dtype=torch.float32).to(device).eval()

    def _load(self, kind: Any, **options: Any) -> Any:
        from safetensors import SafetensorError

        revision = self.source.revision or "main"
        try:
            return kind.from_pretrained(self.source.path, revision=revision, trust_remote_code=False, **options)
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            raise QkdError(weights.hub_sentence(self.source, error)) from None


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield row numbers in batches of similar length, longest first, each at most ``budget`` tokens with padding."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def _padded(tokens: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask (float32), padded on the right."""
    import torch

    width = max(len(ids) for ids in tokens)
    ids = torch.zeros(len(tokens), width, dtype=torch.long)
    mask = torch.zeros(len(tokens), width)
    for row, found in enumerate(tokens):
        ids[row, : len(found)] = torch.tensor(found)
        mask[row, : len(found)] = 1.0
    return ids, mask
