"""A causal LM that scores answers: likelihoods of token sequences after prompts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.models.batching import padded
from qkd.models.transformer import Transformer

if TYPE_CHECKING:
    import torch

# Number of shared tokens that count as one token of a text in the budget of a batch: they take memory, but no time.
SHARED_PER_TOKEN = 8


class CausalLM(Transformer):
    """A causal LM that scores answers to prompts."""

    auto_class = "AutoModelForCausalLM"

    @cached_property
    def _last_only(self) -> dict[str, int]:
        """Argument that limits logits to the last token of the prompt."""
        return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(self.network.forward).parameters else {}

    @cached_property
    def _cache(self) -> str:
        """Name of keys and values in the installed version of transformers, as argument and in the output."""
        return "cache" if "cache" in inspect.signature(self.network.forward).parameters else "past_key_values"

    def likelihoods(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> np.ndarray:
        """Return the mean log-likelihood of each answer's tokens after each prompt, ``(N, answers)`` float32.

        The beginning that all prompts share is read once.
        """
        import torch

        self.check_ids([*prompts, *answers])
        shared = common_length([ids[:-1] for ids in prompts])
        start = self._read_start(prompts[0][:shared]) if shared else None

        def step(rows: list[int]) -> np.ndarray:
            ids, mask = padded([prompts[row][shared:] for row in rows], left=True)
            mask = torch.cat([torch.ones(len(rows), shared), mask], dim=1)
            with torch.inference_mode(), self.loading.autocast():
                scores = self._score(start, ids.to(self.loading.device), mask.to(self.loading.device), answers)
            return scores.cpu().numpy()

        out = np.empty((len(prompts), len(answers)), np.float32)
        lengths = [len(ids) - shared + shared // SHARED_PER_TOKEN for ids in prompts]
        for rows, scores in self.budget.run(lengths, step):
            out[rows] = scores
        return out

    def near(self, answers: Sequence[list[int]], count: int) -> np.ndarray:
        """Return the sorted ids of the ``count`` tokens with embeddings nearest to each answer's, by angle.

        An answer of several tokens has their mean embedding. A token that is near several answers occurs once.
        """
        import torch

        with torch.inference_mode():
            table = self.network.get_input_embeddings().weight[: len(self.tokenizer)].float()  # further rows are unused
            table = table / table.norm(dim=1, keepdim=True).clamp_min(1e-9)
            means = torch.stack([table[torch.tensor(ids, device=table.device)].mean(dim=0) for ids in answers])
            nearest = (means @ table.T).topk(min(count, len(table)), dim=1).indices
        return np.unique(nearest.cpu().numpy())

    def _read_start(self, ids: list[int]) -> Any:
        """Return keys and values of the tokens with which all prompts begin."""
        import torch

        with torch.inference_mode(), self.loading.autocast():
            output = self.network(
                input_ids=torch.tensor([ids], device=self.loading.device), use_cache=True, **self._last_only
            )
        return output[self._cache]

    def _score(self, start: Any, ids: torch.Tensor, mask: torch.Tensor, answers: Sequence[list[int]]) -> torch.Tensor:
        """Return scores ``(B, answers)``. The prompts are read once; each answer continues from their keys."""
        import torch

        mask = mask.long()
        positions = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        past = {}
        if start is not None:
            past[self._cache] = copy.deepcopy(start)
            past[self._cache].batch_repeat_interleave(len(ids))
        output = self.network(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **past, **self._last_only
        )
        first = output.logits[:, -1].float().log_softmax(dim=1)
        scores = first[:, torch.tensor([answer[0] for answer in answers], device=first.device)]
        for column, answer in enumerate(answers):
            if len(answer) > 1:
                more = torch.tensor(answer[:-1], device=ids.device).expand(len(ids), -1)
                logits = self.network(
                    input_ids=more,
                    attention_mask=torch.cat([mask, torch.ones_like(more)], dim=1),
                    position_ids=positions[:, -1:] + 1 + torch.arange(len(answer) - 1, device=ids.device),
                    use_cache=True,
                    **{self._cache: copy.deepcopy(output[self._cache])},
                ).logits
                rest = torch.tensor(answer[1:], device=ids.device).expand(len(ids), -1).unsqueeze(2)
                scores[:, column] += logits.float().log_softmax(dim=2).gather(2, rest).sum(dim=(1, 2))
                scores[:, column] /= len(answer)
        return scores


def common_length(sequences: Sequence[Sequence[int]]) -> int:
    """Return the number of tokens with which all ``sequences`` begin."""
    count = min((len(ids) for ids in sequences), default=0)
    return next((place for place in range(count) if len({ids[place] for ids in sequences}) > 1), count)
