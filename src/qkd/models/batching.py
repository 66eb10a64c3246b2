"""Batches of similar length under a token budget that halves when memory runs out, and faster linear maps on CPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core.console import log
from qkd.core.errors import ModelError, QkdError

if TYPE_CHECKING:
    import torch

# Tokens of a batch, padding included. On CPUs, small batches stay in the processor's cache and are faster.
TOKEN_BUDGET = {"cpu": 512, "cuda": 16384}

Step = Callable[[list[int]], np.ndarray]


def padded(tokens: Sequence[Sequence[int]], left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (B,L) and an attention mask (B,L), float32, of B token sequences.

    Padding is on the right, or on the left. It holds token 0, which says nothing: only the mask tells real tokens
    from padding, because token 0 is a word in many vocabularies.
    """
    import torch

    width = max(len(ids) for ids in tokens)
    ids = torch.zeros(len(tokens), width, dtype=torch.long)
    mask = torch.zeros(len(tokens), width)
    for row, sequence in enumerate(tokens):
        columns = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, columns] = torch.tensor(sequence)
        mask[row, columns] = 1.0
    return ids, mask


def class_logits(network: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the logits (B,C) of a sequence-classification network for ids and mask (B,L), padded on the right.

    Classification heads of decoder models read the last token that is not ``config.pad_token_id``. A text may contain
    that token, or the configuration may name none. Therefore the padding is a token that no text of the batch
    contains, in the batch and in the configuration.
    """
    import torch

    configs = (network.config, network.config.get_text_config())
    saved = [getattr(config, "pad_token_id", None) for config in configs]
    free = torch.ones(network.get_input_embeddings().weight.shape[0], dtype=torch.bool, device=ids.device)
    free[ids[mask > 0]] = False
    ends = getattr(configs[1], "eos_token_id", None)  # some heads read the state of this token
    for end in ends if isinstance(ends, list | tuple) else [ends]:
        if end is not None and 0 <= end < len(free):
            free[end] = False
    unused = free.nonzero().flatten()[:1]
    if not len(unused) and len(ids) > 1:  # every token occurs, so the texts go alone
        parts = [
            class_logits(network, *(rows[:, : int(own.sum())] for rows in (one[None], own[None])))
            for one, own in zip(ids, mask, strict=True)
        ]
        return torch.cat(parts)
    filler = int(unused[0]) if len(unused) else None
    if filler is not None:
        ids = ids.masked_fill(mask == 0, filler)
    try:
        for config in configs:
            config.pad_token_id = filler
        logits: torch.Tensor = network(input_ids=ids, attention_mask=mask).logits
    finally:
        for config, value in zip(configs, saved, strict=True):
            config.pad_token_id = value
    return logits


class TokenBudget:
    """Runs batches of at most ``tokens`` tokens; the limit halves for good whenever memory runs out.

    Some models compute another result for a padded text although they get a mask, for example because their head
    reads the last position. The first batch finds that out, and then all batches hold texts of one length.

    Args:
        tolerance: the largest difference between a text's row alone and padded, relative to the largest number in
            the row, that counts as rounding.
    """

    def __init__(self, tokens: int, model: str, tolerance: float = 1e-4) -> None:
        self.tokens, self.model, self.tolerance = tokens, model, tolerance
        self.equal_lengths = False
        self._checked = False

    def run(self, lengths: Sequence[int], step: Step, copies: int = 1) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield ``(rows, step(rows))``, longest rows first, until every row was in one batch.

        Args:
            step: computes an array with one row for each of the given row numbers.
            copies: number of sequences that ``step`` makes of each row.
        """
        waiting = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        if not self._checked:
            self._check_padding(waiting, lengths, step)
        while waiting:
            longest = lengths[waiting[0]]
            rows = waiting[: max(1, self.tokens // max(1, copies * longest))]
            if self.equal_lengths:
                rows = [row for row in rows if lengths[row] == longest]
            result = self._attempt(rows, longest * copies, step)
            if result is not None:
                waiting = waiting[len(rows) :]
                yield rows, result

    def _check_padding(self, waiting: Sequence[int], lengths: Sequence[int], step: Step) -> None:
        """Compare the shortest row alone with the same row in a batch with a longer one."""
        longer = [row for row in waiting if lengths[row] > lengths[waiting[-1]]]
        if not longer:
            return
        short = waiting[-1]
        try:
            alone, together = step([short])[0], step([longer[-1], short])[1]
        except (MemoryError, RuntimeError, IndexError, ValueError):
            return  # the batches below fail in the same way, and report it
        together = together[tuple(slice(size) for size in alone.shape)]  # rows may have one entry for each token
        scale = float(np.nan_to_num(np.abs(alone)).max(initial=0.0))
        same = np.allclose(together, alone, rtol=0, atol=self.tolerance * scale, equal_nan=True)
        self._checked, self.equal_lengths = True, not same

    def _attempt(self, rows: list[int], size: int, step: Step) -> np.ndarray | None:
        """Return ``step(rows)``, or None after memory ran out and the limit was halved."""
        try:
            return step(rows)
        except QkdError:
            raise
        except (MemoryError, RuntimeError, IndexError, ValueError) as error:
            if not out_of_memory(error):
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise ModelError(
                    f"{self.model}: the model fails on texts of up to {size:,} tokens ({reason}); check that weights, "
                    "config.json and tokenizer belong together, or set a smaller --max-tokens"
                ) from error
        if len(rows) == 1:
            raise ModelError(
                f"{self.model}: memory does not hold one text of {size:,} tokens; choose a smaller model, a smaller "
                "--max-tokens, or --dtype bfloat16"
            )
        self.tokens = len(rows) // 2 * size
        log.warning(
            f"{self.model}: out of memory with {len(rows)} texts of up to {size:,} tokens; continuing with half"
        )
        free_memory()
        return None


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch means that memory ran out, on any device."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def free_memory() -> None:
    """Return memory that torch keeps in reserve to the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def faster(network: torch.nn.Module) -> None:
    """Compute the linear maps of ``network`` by oneDNN in float32 inference on CPUs.

    torch uses MKL for float32. Its products were 2.1 to 3.4 times slower on the AMD processor that was measured.
    Weights, their names and gradients stay the same; numbers differ in the last digit.
    """
    import torch

    product: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # torch.compile emits this for a linear map
    if product is None or not torch.backends.mkldnn.is_available():
        return

    class Linear(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            plain = input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32
            if not plain or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not input.numel():
                return super().forward(input)
            output: torch.Tensor = product(input, self.weight, self.bias, "none", [], "")
            return output

    for module in network.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = Linear
