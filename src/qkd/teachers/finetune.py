"""Fine-tuning a classifier's adapters: batches of like length, AdamW, early stopping, a checkpoint to go on from.

Not transformers' ``Trainer``: its checkpoints are pickles, which qkd neither writes nor reads.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core import checkpoint
from qkd.core.config import LoraSpec
from qkd.core.console import Progress, progress, warn
from qkd.core.errors import ModelError, QkdError, nearest
from qkd.models.batching import TokenBudget, class_logits, free_memory, out_of_memory, padded
from qkd.models.transformer import Loading

if TYPE_CHECKING:
    import torch

SAVE_EVERY = 60.0
"""Seconds between checkpoints: what a killed fine-tuning loses at most."""

WARM_UP = 0.06
"""The fraction of steps in which the learning rate rises; after that it falls linearly to zero."""

BLOCK = 16
"""Batches whose texts are sorted by length together: less padding, and still another order in every epoch."""


@dataclass(frozen=True)
class Labelled:
    """Token ids of N texts and their class numbers (N,)."""

    tokens: Sequence[list[int]]
    targets: np.ndarray


@dataclass
class State:
    """Where fine-tuning stands; with the tensors beside it, everything that a checkpoint holds."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    best_loss: float = float("inf")
    best_epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def linear_modules(network: Any, targets: str, first: int) -> list[str]:
    """Return the names of the linear maps in the layers from number ``first`` on.

    Args:
        network: a transformer.
        targets: ``all-linear``, or the last parts of their names, separated by commas.
        first: the lowest layer, from 0.

    Raises:
        QkdError: there is none (those that exist are named).
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds: dict[str, str] = {}
    for name, module in network.named_modules():
        layer = re.search(r"\.(\d+)\.", name)
        if layer and int(layer[1]) >= first and isinstance(module, torch.nn.Linear | Conv1D):
            kinds[name] = name.rpartition(".")[2]
    if targets == "all-linear":
        return list(kinds)
    words = [word.strip() for word in targets.split(",")]
    for word in words:
        if word not in kinds.values():
            raise ModelError(
                f"--lora-targets: the model has no linear map '{word}'{nearest(word, set(kinds.values()))}"
            )
    return [name for name, last in kinds.items() if last in words]


class FineTuning:
    """One fine-tuning of whatever in a network wants gradients.

    Args:
        network: takes ``input_ids`` and ``attention_mask`` to ``logits`` (B,C); trained in place.
        train: what it learns from.
        valid: what decides when to stop and which epoch is kept.
        spec: epochs, batch size, learning rate, patience, seed.
        budget: of the batches that are only looked at.
        loading: how the network was loaded, which says what to compute in.
        folder: of the checkpoint.
    """

    def __init__(
        self,
        network: Any,
        train: Labelled,
        valid: Labelled,
        spec: LoraSpec,
        budget: TokenBudget,
        loading: Loading,
        folder: Path,
    ) -> None:
        import torch

        self.network, self.train, self.valid, self.spec = network, train, valid, spec
        self.budget, self.loading, self.folder = budget, loading, folder
        self.weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self.device = next(iter(self.weights.values())).device
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=spec.lora_lr, weight_decay=0.01)
        self.micro = spec.lora_batch_size
        self.state = State()
        self.best = self.copy()
        self.steps = -(-len(train.tokens) // spec.lora_batch_size)

    def run(self, what: str) -> State:
        """Train until the last epoch or until ``patience`` runs out, then load the best epoch's weights.

        Args:
            what: the work, for the progress bar.
        """
        import torch

        state = self.state
        if not state.history:  # nothing was resumed
            torch.manual_seed(self.spec.lora_seed)
            self._judge()
        if self.budget.equal_lengths:  # padding would change results
            self.micro = 1
        with progress(what, self.spec.lora_epochs * self.steps, "steps", state.epoch * self.steps + state.step) as bar:
            while state.epoch < self.spec.lora_epochs and state.epoch - state.best_epoch < self.spec.lora_patience:
                self._epoch(bar)
        self._put(self.best)
        return state

    def logits(self, tokens: Sequence[list[int]]) -> np.ndarray:
        """Return the network's logits ``(N,C)`` float32."""
        import torch

        self.network.eval()

        def step(rows: list[int]) -> np.ndarray:
            with torch.inference_mode():
                return self._answer([tokens[row] for row in rows]).cpu().numpy()

        batches = list(self.budget.run([len(ids) for ids in tokens], step))
        out = np.empty((len(tokens), batches[0][1].shape[1]), np.float32)
        for rows, logits in batches:
            out[rows] = logits
        return out

    def _epoch(self, bar: Progress) -> None:
        state, saved = self.state, time.monotonic()
        started, before = saved, state.seconds
        self.network.train()
        for rows in self._batches(state.epoch)[state.step :]:
            state.loss += self._step(rows) * len(rows)
            state.step += 1
            state.seconds = before + time.monotonic() - started
            bar.advance(1, f"epoch {state.epoch + 1}, validation loss {state.best_loss:.3f}")
            if time.monotonic() - saved > SAVE_EVERY:
                self._save()
                saved = time.monotonic()
        state.epoch, state.step = state.epoch + 1, 0
        self._judge()
        state.loss = 0.0
        state.seconds = before + time.monotonic() - started
        self._save()

    def _batches(self, epoch: int) -> list[list[int]]:
        """Return the rows of every step of an epoch."""
        rng = np.random.default_rng([self.spec.lora_seed, epoch])
        order, size = rng.permutation(len(self.train.tokens)).tolist(), self.spec.lora_batch_size
        batches = []
        for start in range(0, len(order), BLOCK * size):
            block = sorted(order[start : start + BLOCK * size], key=lambda row: len(self.train.tokens[row]))
            batches += [block[place : place + size] for place in range(0, len(block), size)]
        return [batches[number] for number in rng.permutation(len(batches))]

    def _step(self, rows: list[int]) -> float:
        """Take one optimizer step and return the mean loss of its texts."""
        import torch

        done, steps = self.state.epoch * self.steps + self.state.step, self.spec.lora_epochs * self.steps
        warm = max(1.0, WARM_UP * steps)
        share = min((done + 1) / warm, (steps - done) / max(1.0, steps - warm))
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.lora_lr * share
        loss = self._gradients(rows)
        if not np.isfinite(loss):
            raise ModelError(f"the loss of the fine-tuning is {loss}; lower --lora-lr (now {self.spec.lora_lr})")
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        return loss

    def _gradients(self, rows: list[int]) -> float:
        """Fill in the gradients of the mean loss over ``rows``, in as many parts as memory asks for."""
        from torch.nn import functional

        while True:
            self.optimizer.zero_grad()
            total = 0.0
            try:
                for start in range(0, len(rows), self.micro):
                    part = rows[start : start + self.micro]
                    logits = self._answer([self.train.tokens[row] for row in part])
                    loss = functional.cross_entropy(logits, self._targets(part), reduction="sum") / len(rows)
                    loss.backward()
                    total += loss.item()
                return total
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or self.micro == 1:
                    raise
                self.micro = max(1, self.micro // 2)
                warn(f"out of memory in fine-tuning; going on with {self.micro} texts at once")
                free_memory()

    def _targets(self, rows: list[int]) -> torch.Tensor:
        import torch

        return torch.as_tensor(self.train.targets[rows], dtype=torch.long, device=self.device)

    def _answer(self, tokens: Sequence[list[int]]) -> torch.Tensor:
        """Return logits (B,C) float32."""
        ids, mask = padded(tokens)
        with self.loading.autocast():
            return class_logits(self.network, ids.to(self.device), mask.to(self.device)).float()

    def _judge(self) -> None:
        """Measure the validation texts; keep the weights where they are the best so far."""
        from qkd.teachers.heads import mean_cross_entropy

        logits, state = self.logits(self.valid.tokens), self.state
        row = {
            "epoch": float(state.epoch),
            "loss": state.loss / len(self.train.tokens),  # of the epoch, with dropout; 0 before the first
            "valid_loss": mean_cross_entropy(logits, self.valid.targets),
            "valid_accuracy": float(np.mean(logits.argmax(axis=1) == self.valid.targets)),
        }
        state.history.append(row)
        if row["valid_loss"] < state.best_loss:
            state.best_loss, state.best_epoch, self.best = row["valid_loss"], state.epoch, self.copy()

    def copy(self) -> dict[str, torch.Tensor]:
        """Return the trained weights as they are now."""
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    def _put(self, values: dict[str, torch.Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(values[name])

    def _save(self) -> None:
        """Write the checkpoint."""
        optimizer = checkpoint.of_optimizer(self.optimizer)
        tensors = checkpoint.grouped(now=self.copy(), best=self.best, optimizer=optimizer)
        checkpoint.write_checkpoint(self.folder, f"{self.state.epoch:04d}-{self.state.step:06d}", self.state, tensors)

    def resume(self) -> bool:
        """Go back to the checkpoint, if there is a whole one; return whether there was."""
        fresh = self.copy()
        try:
            saved = checkpoint.read_checkpoint(self.folder, State)
            if saved is None:
                return False
            state, tensors = saved
            self._put(checkpoint.under(tensors, "now"))
            self.best = {name: value.to(self.device) for name, value in checkpoint.under(tensors, "best").items()}
            checkpoint.to_optimizer(self.optimizer, checkpoint.under(tensors, "optimizer"))
            checkpoint.to_streams(tensors)
        except (QkdError, KeyError, ValueError, RuntimeError) as error:
            warn(f"the fine-tuning begins anew: {checkpoint.damaged(self.folder, error)}")
            self._put(fresh)
            self.best = fresh
            return False
        self.state = state
        return True
