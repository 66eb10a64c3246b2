"""Batches of similar length under a token budget, which halves where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.console import warn
from qkd.core.errors import ModelError

if TYPE_CHECKING:
    import torch

TOKEN_BUDGET = {"cpu": 512, "cuda": 16384}
"""Tokens of a batch, padding included; on CPUs small batches stay in the processor's cache and are faster."""


def padded(tokens: Sequence[Sequence[int]], pad: int = 0, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask (float32), ``(B, longest)`` each, padded with ``pad`` on the right, or on the left."""
    import torch

    width = max(len(ids) for ids in tokens)
    ids = torch.full((len(tokens), width), pad, dtype=torch.long)
    mask = torch.zeros(len(tokens), width)
    for row, sequence in enumerate(tokens):
        place = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, place] = torch.tensor(sequence)
        mask[row, place] = 1.0
    return ids, mask


class TokenBudget:
    """How many tokens a batch may have; halved for good whenever memory runs out.

    Args:
        tokens: where it starts.
        what: the model, for the messages.
    """

    def __init__(self, tokens: int, what: str) -> None:
        self.tokens, self.what = tokens, what

    def run(
        self, lengths: Sequence[int], step: Callable[[list[int]], np.ndarray], copies: int = 1
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield ``(rows, step(rows))``, longest rows first, until every row was in one batch.

        Args:
            lengths: tokens of each row.
            step: takes row numbers to an array with these rows as first axis.
            copies: how many sequences ``step`` makes of each row.

        Raises:
            QkdError: memory does not hold a single row.
        """
        waiting = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        while waiting:
            size = max(1, self.tokens // max(1, copies * lengths[waiting[0]]))
            rows = waiting[:size]
            try:
                result = step(rows)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                self._halve(len(rows), lengths[rows[0]] * copies)
                continue
            waiting = waiting[size:]
            yield rows, result

    def _halve(self, rows: int, length: int) -> None:
        if rows == 1:
            raise ModelError(
                f"{self.what}: memory does not hold one text of {length:,} tokens; choose a smaller model, a smaller "
                "--max-tokens, or --dtype bfloat16"
            ) from None
        self.tokens = rows // 2 * length
        warn(f"{self.what}: out of memory with {rows} texts of up to {length:,} tokens at once; going on with half")
        release()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out, on whatever device."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release() -> None:
    """Give memory that torch only keeps in reserve back to the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
