"""Encoders that train with the student: the last layers of a transformer, or the token table of a static encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from qkd.core.errors import ModelError
from qkd.encoders.hidden_states import TransformerEncoder
from qkd.encoders.protocol import Encoder, embed_texts
from qkd.encoders.static import StaticEncoder
from qkd.models.backbone import Backbone, blocks, pool

# Memory that the states below the trained layers may take.
MAX_STATE_BYTES = 4 * 2**30
# Fraction of a text's tokens that are dropped in training, so that the student relies on no single one.
TOKEN_DROPOUT = 0.2


class TrainableLayers(nn.Module):
    """The last layers of a transformer, from a text's number to its embedding.

    The layers below never change. Their token states are computed once and kept in memory, so that a step costs only
    the trained layers.

    Args:
        texts: N texts, which are referred to by number.
        last: number of layers to train, down from the highest that is read.

    Attributes:
        lr: Default learning rate of Adam.
        lengths: Number of tokens of every text (N,).
    """

    lr = 7e-5
    lengths: torch.Tensor

    def __init__(self, encoder: TransformerEncoder, texts: Sequence[str], last: int) -> None:
        super().__init__()
        top = max(encoder.layers)
        if last > top:
            raise ModelError(
                f"--tune-encoder {last}: '{encoder.name}' reads layer {top}, so at most {top} layers can be trained"
            )
        self.encoder, self._below = encoder, top - last
        backbone = Backbone(encoder.model, encoder.loading, depth=top)
        self._is_whole = top == backbone.num_layers
        self._device = torch.device(backbone.loading.device)
        self._states = _token_states(backbone, texts, self._below)
        self.lengths = torch.tensor([len(states) for states in self._states])
        fixed = [layer for layer in encoder.layers if layer <= self._below]
        rows = embed_texts(encoder.with_layers(fixed), texts) if fixed else np.zeros((len(texts), 0), np.float32)
        self._fixed = torch.as_tensor(rows, device=self._device)
        self._outputs = [layer - self._below - 1 for layer in encoder.layers if layer > self._below]
        network = backbone.network.requires_grad_(False)
        layers = blocks(network, top)
        if layers is None:
            raise ModelError(
                f"--tune-encoder: the layers of '{encoder.model}' are not in one list; choose another encoder"
            )
        self._path = next(name for name, part in network.named_modules() if part is layers)
        del layers[: self._below]
        network.config.use_cache = False
        self._network = [network]  # in a list, so that only the trained layers are parameters of this module
        self.blocks = layers.requires_grad_(True)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return embeddings (B,D) of the texts with numbers ``rows`` (B,)."""
        states = [self._states[row] for row in rows.tolist()]
        batch = nn.utils.rnn.pad_sequence(states, batch_first=True).to(self._device)
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(state)) for state in states], batch_first=True)
        mask = mask.to(self._device)
        outputs: list[torch.Tensor] = []

        def enter(_: nn.Module, args: tuple[Any, ...], options: dict[str, object]) -> tuple[Any, dict[str, object]]:
            return ((batch, *args[1:]), options) if args else (args, {**options, "hidden_states": batch})

        def leave(_: nn.Module, args: Any, output: Any) -> None:
            outputs.append(output if isinstance(output, torch.Tensor) else output[0])

        hooks = [self.blocks[0].register_forward_pre_hook(enter, with_kwargs=True)]
        hooks += [block.register_forward_hook(leave) for block in self.blocks]
        try:
            ids = torch.zeros_like(mask, dtype=torch.long)  # ``enter`` replaces the embeddings of these
            result = self._network[0](input_ids=ids, attention_mask=mask)
        finally:
            for hook in hooks:
                hook.remove()
        if self._is_whole:
            outputs[-1] = result.last_hidden_state  # after the final normalization, if there is one
        pooled = [pool(outputs[n].float(), mask, self.encoder.pooling) for n in self._outputs]
        return torch.cat([self._fixed[rows.to(self._device)], *(functional.normalize(p, dim=1) for p in pooled)], dim=1)

    @torch.inference_mode()
    def embeddings(self, batch: int = 64) -> np.ndarray:
        """Return embeddings (N,D), float32, of all texts."""
        self.eval()
        order = self.lengths.argsort()
        out = np.zeros((len(order), self.encoder.dim), np.float32)
        for rows in order.split(batch):
            out[rows.numpy()] = self(rows).cpu().numpy()
        return out

    def tuned(self) -> TransformerEncoder:
        """Return the encoder with the current weights of the layers."""
        return self.encoder.with_weights(
            {
                f"{self._path}.{self._below + number}.{name}": value.detach().float().cpu().numpy().copy()
                for number, block in enumerate(self.blocks)
                for name, value in block.state_dict().items()
            }
        )


class TrainableTable(nn.Module):
    """The table of a static encoder, from a text's number to the mean of its token vectors.

    Only vectors of tokens that occur train. A vector's length is its token's weight.

    Attributes:
        lr: Default learning rate of Adam.
        lengths: Number of tokens of every text (N,).
    """

    lr = 1e-3
    lengths: torch.Tensor

    def __init__(self, encoder: StaticEncoder, texts: Sequence[str]) -> None:
        super().__init__()
        self.encoder = encoder
        tokens = encoder.tokens(texts)
        self._used = np.unique(np.concatenate([np.zeros(1, np.int64), *(np.asarray(ids, np.int64) for ids in tokens)]))
        self._texts = [torch.as_tensor(np.searchsorted(self._used, ids), dtype=torch.long) for ids in tokens]
        self.lengths = torch.tensor([len(ids) for ids in tokens])
        table = torch.as_tensor(encoder.arrays["table"][self._used].astype(np.float32))
        self._scale = float(table.norm(dim=1).mean())  # vectors of length about 1 train alike for every model
        self.table = nn.Parameter(table / self._scale)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return embeddings (B,D) of the texts with numbers ``rows`` (B,)."""
        texts = [self._texts[row] for row in rows.tolist()]
        ids = torch.cat(texts)
        text = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor([len(tokens) for tokens in texts]))
        if self.training:
            kept = torch.rand(len(ids)) >= TOKEN_DROPOUT
            ids, text = ids[kept], text[kept]
        vectors = self.table[ids.to(self.table.device)].cpu()
        sums = torch.zeros(len(texts), self.table.shape[1]).index_add(0, text, vectors)
        return functional.normalize(sums, dim=1).to(rows.device)

    @torch.inference_mode()
    def embeddings(self) -> np.ndarray:
        """Return embeddings (N,D), float32, of all texts."""
        self.eval()
        return self(torch.arange(len(self._texts))).numpy()

    def tuned(self) -> StaticEncoder:
        """Return the encoder with the current table."""
        table = self.encoder.arrays["table"].copy()
        table[self._used] = (self.table.detach().cpu().numpy() * self._scale).astype(table.dtype)
        return self.encoder.with_table(table)


def make_trainable(encoder: Encoder, texts: Sequence[str], last: int) -> TrainableLayers | TrainableTable:
    """Return the trainable part of an encoder: a transformer's ``last`` layers, or a static encoder's table."""
    if isinstance(encoder, StaticEncoder):
        return TrainableTable(encoder, texts)
    if isinstance(encoder, TransformerEncoder):
        return TrainableLayers(encoder, texts, last)
    raise ModelError(f"--tune-encoder: '{encoder.name}' is neither a transformer nor static; choose one")


def _token_states(backbone: Backbone, texts: Sequence[str], layer: int) -> list[torch.Tensor]:
    """Return each text's token states (L,D) after ``layer``, float32."""
    tokens = backbone.tokens(texts)
    size = 4 * backbone.dim * sum(map(len, tokens))
    if size > MAX_STATE_BYTES:
        raise ModelError(
            f"--tune-encoder: the states of {len(texts):,} texts take {size / 2**30:.0f} GiB, more than "
            f"{MAX_STATE_BYTES >> 30}; use fewer texts (--limit) or fewer tokens (?tokens=)"
        )
    by_text: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    for rows, states in backbone.batched(tokens, lambda ids, mask: backbone.states(ids, mask, [layer])[0]):
        for row, state in zip(rows, states, strict=True):
            by_text[row] = torch.from_numpy(state[: len(tokens[row])].copy())
    backbone.report(len(texts))
    return by_text
