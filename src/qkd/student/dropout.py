"""Dropout from random bytes: in training a student spent half of its time on drawing one random number an entry."""

from __future__ import annotations

import torch
from torch import nn


class Dropout(nn.Module):
    """Entries set to 0 in training, each alone with probability ``p`` (to the nearest 1/256), the others scaled up.

    Srivastava et al., JMLR 15:1929, 2014. The draws come from torch's own generator, which a checkpoint keeps.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``, with entries dropped while training; the mean over draws is ``x``."""
        threshold = max(1, round(256 * (1 - self.p)))
        if not self.training or threshold == 256:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        draws = words.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * (draws < threshold).to(x.dtype).mul_(256 / threshold)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"p={self.p}"
