"""A static encoder's table as something that trains: from a text's number to the mean of its tokens' vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from qkd.encoders.static import StaticEncoder

FORGOTTEN = 0.2
"""The fraction of a text's tokens that are left out in training, so that no single one is relied on."""


class TrainableTable(nn.Module):
    """The vectors of the tokens that occur; a vector's length is its token's weight, and trains too.

    Args:
        encoder: a static encoder.
        texts: the N texts that will be asked for, by number.
    """

    lr = 1e-3
    """Adam's learning rate where none is asked for."""
    lengths: torch.Tensor
    """Tokens of every text (N,)."""

    def __init__(self, encoder: StaticEncoder, texts: Sequence[str]) -> None:
        super().__init__()
        self.encoder = encoder
        tokens = encoder.tokens(texts)
        self._used = np.unique(np.concatenate([np.zeros(1, np.int64), *(np.asarray(ids, np.int64) for ids in tokens)]))
        self._texts = [torch.as_tensor(np.searchsorted(self._used, ids), dtype=torch.long) for ids in tokens]
        self.lengths = torch.tensor([len(ids) for ids in tokens])
        table = torch.as_tensor(encoder.arrays["table"][self._used].astype(np.float32))
        self._scale = float(table.norm(dim=1).mean())  # vectors of length about 1 train alike whatever the model
        self.table = nn.Parameter(table / self._scale)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return embeddings (B,D) of the texts numbered ``rows`` (B,)."""
        texts = [self._texts[row] for row in rows.tolist()]
        ids = torch.cat(texts)
        text = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor([len(tokens) for tokens in texts]))
        if self.training:
            mask = torch.rand(len(ids)) >= FORGOTTEN
            ids, text = ids[mask], text[mask]
        sums = torch.zeros(len(texts), self.table.shape[1]).index_add(
            0, text, self.table[ids.to(self.table.device)].cpu()
        )
        return functional.normalize(sums, dim=1).to(rows.device)

    def embeddings(self) -> np.ndarray:
        """Return embeddings (N,D), float32, of all texts."""
        self.eval()
        with torch.inference_mode():
            return self(torch.arange(len(self._texts))).numpy()

    def tuned(self) -> StaticEncoder:
        """Return the encoder with the table as it is now."""
        table = self.encoder.arrays["table"].copy()
        table[self._used] = (self.table.detach().cpu().numpy() * self._scale).astype(table.dtype)
        return self.encoder.with_table(table)
