"""The top of an encoder as something that trains: what lies beneath it is computed once for every text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from qkd.core.errors import ModelError
from qkd.encoders.hidden_states import TransformerEncoder
from qkd.encoders.protocol import Encoder
from qkd.encoders.registry import embed_texts
from qkd.encoders.static import StaticEncoder
from qkd.encoders.trainable import TrainableTable
from qkd.models.backbone import Backbone, blocks, pool

MOST_BYTES = 4 * 2**30
"""What the states beneath the trained layers may take in memory."""


class TrainableLayers(nn.Module):
    """The last layers of an encoder, from a text's number to its embedding.

    The layers beneath never change, so their token states are computed once and kept in memory; a step costs the
    trained layers alone.

    Args:
        encoder: a transformer encoder; ``make_trainable`` takes any.
        texts: the N texts that will be asked for, by number.
        last: how many of its layers, below and with the last one that is read, are trained.

    Raises:
        QkdError: the encoder has not that many layers, or the states do not fit in memory.
    """

    lr = 7e-5
    """Adam's learning rate where none is asked for."""
    lengths: torch.Tensor
    """Tokens of every text (N,)."""

    def __init__(self, encoder: TransformerEncoder, texts: Sequence[str], last: int) -> None:
        super().__init__()
        top = max(encoder.layers)
        if last > top:
            raise ModelError(
                f"--tune-encoder {last}: '{encoder.name}' reads layer {top}, so that many cannot be trained"
            )
        self.encoder, self._top, self._below = encoder, top, top - last
        backbone = Backbone(encoder.model, encoder.loading, depth=top)
        self._whole = top == backbone.num_layers
        self._device = torch.device(backbone.loading.device)
        self._states = _states(backbone, texts, self._below)
        self.lengths = torch.tensor([len(states) for states in self._states])
        fixed = [layer for layer in encoder.layers if layer <= self._below]
        rows = embed_texts(encoder.with_layers(fixed), texts) if fixed else np.zeros((len(texts), 0), np.float32)
        self._fixed = torch.as_tensor(rows, device=self._device)
        self._read = [layer - self._below - 1 for layer in encoder.layers if layer > self._below]
        network = backbone.network.requires_grad_(False)
        layers = blocks(network, top)
        if layers is None:
            raise ModelError(
                f"--tune-encoder: the layers of '{encoder.model}' are not in one list; take another encoder"
            )
        self._path = next(name for name, part in network.named_modules() if part is layers)
        del layers[: self._below]
        network.config.use_cache = False
        self._network = [network]  # in a list, so that only the trained layers are this module's parameters
        self.blocks = layers.requires_grad_(True)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return embeddings (B,D) of the texts numbered ``rows`` (B,)."""
        states = [self._states[row] for row in rows.tolist()]
        width = max(map(len, states))
        batch = torch.stack([functional.pad(state, (0, 0, 0, width - len(state))) for state in states]).to(self._device)
        mask = torch.tensor(
            [[1.0] * len(state) + [0.0] * (width - len(state)) for state in states], device=self._device
        )
        outputs: list[torch.Tensor] = []

        def enter(_: nn.Module, args: tuple[Any, ...], options: dict[str, object]) -> tuple[Any, dict[str, object]]:
            return ((batch, *args[1:]), options) if args else (args, {**options, "hidden_states": batch})

        def leave(_: nn.Module, args: Any, output: Any) -> None:
            outputs.append(output if isinstance(output, torch.Tensor) else output[0])

        hooks = [self.blocks[0].register_forward_pre_hook(enter, with_kwargs=True)]
        hooks += [block.register_forward_hook(leave) for block in self.blocks]
        try:
            ids = torch.zeros_like(mask, dtype=torch.long)  # what becomes of them is replaced on entering
            answer = self._network[0](input_ids=ids, attention_mask=mask)
        finally:
            for hook in hooks:
                hook.remove()
        if self._whole:
            outputs[-1] = answer.last_hidden_state  # with what follows the last layer
        parts = [functional.normalize(pool(outputs[n].float(), mask, self.encoder.pooling), dim=1) for n in self._read]
        return torch.cat([self._fixed[rows.to(self._device)], *parts], dim=1)

    @torch.inference_mode()
    def embeddings(self, batch: int = 64) -> np.ndarray:
        """Return embeddings (N,D), float32, of all texts."""
        self.eval()
        order = sorted(range(len(self._states)), key=lambda row: len(self._states[row]))
        out = np.zeros((len(order), self.encoder.dim), np.float32)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            out[rows] = self(torch.tensor(rows)).cpu().numpy()
        return out

    def tuned(self) -> TransformerEncoder:
        """Return the encoder with the layers as they are now."""
        weights = {
            f"{self._path}.{self._below + number}.{name}": value.detach().float().cpu().numpy().copy()
            for number, block in enumerate(self.blocks)
            for name, value in block.state_dict().items()
        }
        return self.encoder.tuned(weights)


def make_trainable(encoder: Encoder, texts: Sequence[str], last: int) -> TrainableLayers | TrainableTable:
    """Return what trains of an encoder: a transformer's ``last`` layers, or a static encoder's table.

    Raises:
        QkdError: it is neither, or has not that many layers.
    """
    if isinstance(encoder, StaticEncoder):
        return TrainableTable(encoder, texts)
    if isinstance(encoder, TransformerEncoder):
        return TrainableLayers(encoder, texts, last)
    raise ModelError(
        f"--tune-encoder: '{encoder.name}' is neither a transformer nor static; name one, without --whiten"
    )


def _states(backbone: Backbone, texts: Sequence[str], layer: int) -> list[torch.Tensor]:
    """Return each text's token states (L,D) behind ``layer``, float32."""
    tokens = backbone.tokens(texts)
    size = 4 * backbone.dim * sum(map(len, tokens))
    if size > MOST_BYTES:
        raise ModelError(
            f"--tune-encoder: the states of {len(texts):,} texts take {size / 2**30:.0f} GiB, more than "
            f"{MOST_BYTES >> 30}; take fewer texts (--limit) or fewer tokens (?tokens=)"
        )
    by_text: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    for rows, states in backbone.batched(tokens, lambda ids, mask: backbone.states(ids, mask, [layer])[0]):
        for row, state in zip(rows, states, strict=True):
            by_text[row] = torch.from_numpy(state[: len(tokens[row])].copy())
    backbone.report(len(texts))
    return by_text
