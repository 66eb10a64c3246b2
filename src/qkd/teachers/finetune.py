"""Fine-tuning of a classifier's adapters: AdamW, batches of similar length, early stopping, exact resume.

transformers' ``Trainer`` is not used because its checkpoints are pickles, which qkd neither writes nor reads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core import checkpoint
from qkd.core.console import Progress, log, progress
from qkd.core.errors import ModelError, QkdError
from qkd.core.teacher_config import LoraSpec
from qkd.models.batching import TokenBudget, class_logits, free_memory, out_of_memory, padded
from qkd.models.transformer import Loading
from qkd.teachers.heads import mean_cross_entropy

if TYPE_CHECKING:
    import torch

# Time between checkpoints; a killed process loses at most this much.
SAVE_INTERVAL_SECONDS = 60.0
# Fraction of steps in which the learning rate rises. After that it falls linearly to zero.
WARM_UP = 0.06
# Number of batches whose texts are sorted by length together. This saves padding, and every epoch has another order.
SORTED_BATCHES = 16


@dataclass(frozen=True)
class LabeledTokens:
    """Tokenized texts with labels.

    Attributes:
        tokens: Token ids of N texts.
        targets: Class numbers (N,).
    """

    tokens: Sequence[list[int]]
    targets: np.ndarray


@dataclass
class State:
    """State of a fine-tuning. A checkpoint contains it and the tensors of weights and optimizer.

    Attributes:
        epoch: Number of finished epochs.
        step: Number of finished steps of the current epoch.
        loss: Sum of the losses of the current epoch's texts, in nats.
        best_loss: Smallest validation loss in nats.
        best_epoch: Its epoch.
        seconds: Training time.
        history: One row for each epoch, and one before the first.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    best_loss: float = float("inf")
    best_epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class FineTuning:
    """One fine-tuning of all weights of a network that require gradients.

    Args:
        network: maps ``input_ids`` and ``attention_mask`` to ``logits`` (B,C); trained in place.
        valid: validation texts, which determine when to stop and which epoch is kept.
        spec: epochs, batch size, learning rate, patience, seed.
        budget: limit on the tokens of batches for inference.
        loading: how the network was loaded, which determines the precision.
    """

    def __init__(
        self,
        network: Any,
        train: LabeledTokens,
        valid: LabeledTokens,
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
        self.state, self.best = State(), self.copy_weights()
        self._texts_at_once = spec.lora_batch_size
        self._steps = -(-len(train.tokens) // spec.lora_batch_size)

    def run(self, work: str) -> State:
        """Train until the last epoch or until ``patience`` runs out, then load the weights of the best epoch."""
        import torch

        state, spec = self.state, self.spec
        if not state.history:  # nothing was resumed
            torch.manual_seed(spec.lora_seed)
            self._validate()
        if self.budget.equal_lengths:  # padding changes the results of this network
            self._texts_at_once = 1
        total = spec.lora_epochs * self._steps
        with progress(work, total, "steps", state.epoch * self._steps + state.step) as bar:
            while state.epoch < spec.lora_epochs and state.epoch - state.best_epoch < spec.lora_patience:
                self._run_epoch(bar)
        self._set_weights(self.best)
        return state

    def logits(self, tokens: Sequence[list[int]]) -> np.ndarray:
        """Return the network's logits ``(N,C)`` float32 of N texts."""
        import torch

        self.network.eval()

        def step(rows: list[int]) -> np.ndarray:
            with torch.inference_mode():
                return self._forward([tokens[row] for row in rows]).cpu().numpy()

        batches = list(self.budget.run([len(ids) for ids in tokens], step))
        out = np.empty((len(tokens), batches[0][1].shape[1]), np.float32)
        for rows, logits in batches:
            out[rows] = logits
        return out

    def _run_epoch(self, bar: Progress) -> None:
        state, saved = self.state, time.monotonic()
        started, before = saved, state.seconds
        self.network.train()
        for rows in self._batches(state.epoch)[state.step :]:
            state.loss += self._step(rows) * len(rows)
            state.step += 1
            state.seconds = before + time.monotonic() - started
            bar.advance(1, f"epoch {state.epoch + 1}, validation loss {state.best_loss:.3f}")
            if time.monotonic() - saved > SAVE_INTERVAL_SECONDS:
                self._save()
                saved = time.monotonic()
        state.epoch, state.step = state.epoch + 1, 0
        self._validate()
        state.loss = 0.0
        state.seconds = before + time.monotonic() - started
        self._save()

    def _batches(self, epoch: int) -> list[list[int]]:
        """Return the row numbers of every step of an epoch."""
        rng = np.random.default_rng([self.spec.lora_seed, epoch])
        order, size = rng.permutation(len(self.train.tokens)).tolist(), self.spec.lora_batch_size
        batches = []
        for start in range(0, len(order), SORTED_BATCHES * size):
            block = sorted(order[start : start + SORTED_BATCHES * size], key=lambda row: len(self.train.tokens[row]))
            batches += [block[place : place + size] for place in range(0, len(block), size)]
        return [batches[number] for number in rng.permutation(len(batches))]

    def _step(self, rows: list[int]) -> float:
        """Run one optimizer step and return the mean loss of its texts."""
        import torch

        lr, steps = self.spec.lora_lr, self.spec.lora_epochs * self._steps
        done, warm = self.state.epoch * self._steps + self.state.step, max(1.0, WARM_UP * steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * min((done + 1) / warm, (steps - done) / max(1.0, steps - warm))
        loss = self._compute_gradients(rows)
        if not np.isfinite(loss):
            raise ModelError(f"the loss of the fine-tuning is {loss}; lower --lora-lr (now {lr})")
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        return loss

    def _compute_gradients(self, rows: list[int]) -> float:
        """Compute gradients of the mean loss over ``rows``, in smaller parts when memory runs out."""
        import torch
        from torch.nn import functional

        while True:
            self.optimizer.zero_grad()
            total = 0.0
            try:
                for start in range(0, len(rows), self._texts_at_once):
                    part = rows[start : start + self._texts_at_once]
                    logits = self._forward([self.train.tokens[row] for row in part])
                    targets = torch.as_tensor(self.train.targets[part], dtype=torch.long, device=self.device)
                    loss = functional.cross_entropy(logits, targets, reduction="sum") / len(rows)
                    loss.backward()
                    total += loss.item()
                return total
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or self._texts_at_once == 1:
                    raise
                self._texts_at_once = max(1, self._texts_at_once // 2)
                log.warning(f"out of memory in fine-tuning; continuing with {self._texts_at_once} texts at once")
                free_memory()

    def _forward(self, tokens: Sequence[list[int]]) -> torch.Tensor:
        """Return logits (B,C) float32."""
        ids, mask = padded(tokens)
        with self.loading.autocast():
            return class_logits(self.network, ids.to(self.device), mask.to(self.device)).float()

    def _validate(self) -> None:
        """Measure the validation texts, and keep the weights if they are the best so far."""
        logits, state = self.logits(self.valid.tokens), self.state
        row = {
            "epoch": float(state.epoch),
            "loss": state.loss / len(self.train.tokens),  # with dropout; 0 before the first epoch
            "valid_loss": mean_cross_entropy(logits, self.valid.targets),
            "valid_accuracy": float(np.mean(logits.argmax(axis=1) == self.valid.targets)),
        }
        state.history.append(row)
        if row["valid_loss"] < state.best_loss:
            state.best_loss, state.best_epoch, self.best = row["valid_loss"], state.epoch, self.copy_weights()

    def copy_weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the trained weights."""
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    def _set_weights(self, values: dict[str, torch.Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(values[name])

    def _save(self) -> None:
        optimizer = checkpoint.of_optimizer(self.optimizer)
        tensors = checkpoint.grouped(now=self.copy_weights(), best=self.best, optimizer=optimizer)
        checkpoint.write_checkpoint(self.folder, f"{self.state.epoch:04d}-{self.state.step:06d}", self.state, tensors)

    def resume(self) -> bool:
        """Return whether there was a complete checkpoint, after loading it."""
        fresh = self.copy_weights()
        try:
            saved = checkpoint.read_checkpoint(self.folder, State)
            if saved is None:
                return False
            state, tensors = saved
            self._set_weights(checkpoint.under(tensors, "now"))
            self.best = {name: value.to(self.device) for name, value in checkpoint.under(tensors, "best").items()}
            checkpoint.to_optimizer(self.optimizer, checkpoint.under(tensors, "optimizer"))
            checkpoint.to_streams(tensors)
        except (QkdError, KeyError, ValueError, RuntimeError) as error:
            log.warning(f"the fine-tuning starts again: {checkpoint.damaged(self.folder, error)}")
            self._set_weights(fresh)
            self.best = fresh
            return False
        self.state = state
        return True
