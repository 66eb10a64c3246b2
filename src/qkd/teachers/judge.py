"""A causal LM as a judge: how likely certain answers are after certain prompts."""

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

SHARED_PER_TOKEN = 8
"""Tokens of a shared beginning that count as one of a text's own, in a batch's budget."""


class CausalLM(Transformer):
    """A causal LM as a judge of answers to prompts."""

    auto_class = "AutoModelForCausalLM"

    @cached_property
    def _last_only(self) -> dict[str, int]:
        """What keeps the LM from making logits of every token of the prompt."""
        return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(self.network.forward).parameters else {}

    @cached_property
    def _cache(self) -> str:
        """What this version of the library calls keys and values, as an argument and in the answer."""
        return "cache" if "cache" in inspect.signature(self.network.forward).parameters else "past_key_values"

    def likelihoods(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> np.ndarray:
        """Return the mean log-likelihood of every answer's tokens after every prompt, ``(N, answers)`` float32.

        What all prompts begin with is read once.
        """
        import torch

        self.check_ids([*prompts, *answers])
        shared = common([ids[:-1] for ids in prompts])
        start = self._start(prompts[0][:shared]) if shared else None

        def step(rows: list[int]) -> np.ndarray:
            ids, mask = padded([prompts[row][shared:] for row in rows], left=True)
            mask = torch.cat([torch.ones(len(rows), shared), mask], dim=1)
            with torch.inference_mode(), self.loading.autocast():
                scores = self._scored(start, ids.to(self.loading.device), mask.to(self.loading.device), answers)
            return scores.cpu().numpy()

        out = np.empty((len(prompts), len(answers)), np.float32)
        # a shared token costs no time but memory
        for rows, scores in self.budget.run([len(ids) - shared + shared // SHARED_PER_TOKEN for ids in prompts], step):
            out[rows] = scores
        return out

    def near(self, answers: Sequence[list[int]], count: int) -> np.ndarray:
        """Return the numbers of the ``count`` tokens whose embeddings are nearest to each answer's, by angle.

        An answer of several tokens has their mean embedding. Those of all answers together, each once.
        """
        import torch

        with torch.inference_mode():
            table = self.network.get_input_embeddings().weight[: len(self.tokenizer)].float()  # some rows have no token
            table = table / table.norm(dim=1, keepdim=True).clamp_min(1e-9)
            means = torch.stack([table[torch.tensor(ids, device=table.device)].mean(dim=0) for ids in answers])
            nearest = (means @ table.T).topk(min(count, len(table)), dim=1).indices
        return np.unique(nearest.cpu().numpy())

    def _start(self, ids: list[int]) -> Any:
        """Return the keys and values of what all prompts begin with."""
        import torch

        with torch.inference_mode(), self.loading.autocast():
            read = self.network(
                input_ids=torch.tensor([ids], device=self.loading.device), use_cache=True, **self._last_only
            )
        return read[self._cache]

    def _scored(self, start: Any, ids: torch.Tensor, mask: torch.Tensor, answers: Sequence[list[int]]) -> torch.Tensor:
        """Return ``(B, answers)``: the prompts are read once, each answer goes on from there."""
        import torch

        mask = mask.long()
        places = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        begun = {}
        if start is not None:
            begun[self._cache] = copy.deepcopy(start)
            begun[self._cache].batch_repeat_interleave(len(ids))
        output = self.network(
            input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, **begun, **self._last_only
        )
        first = output.logits[:, -1].float().log_softmax(dim=1)
        scores = first[:, torch.tensor([answer[0] for answer in answers], device=first.device)]
        for column, answer in enumerate(answers):
            if len(answer) > 1:
                more = torch.tensor(answer[:-1], device=ids.device).expand(len(ids), -1)
                seen = torch.cat([mask, torch.ones_like(more)], dim=1)
                more_logits = self.network(
                    input_ids=more,
                    attention_mask=seen,
                    position_ids=places[:, -1:] + 1 + torch.arange(len(answer) - 1, device=ids.device),
                    use_cache=True,
                    **{self._cache: copy.deepcopy(output[self._cache])},
                ).logits
                rest = torch.tensor(answer[1:], device=ids.device).expand(len(ids), -1).unsqueeze(2)
                scores[:, column] += more_logits.float().log_softmax(dim=2).gather(2, rest).sum(dim=(1, 2))
                scores[:, column] /= len(answer)
        return scores


def common(sequences: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all ``sequences`` begin with together."""
    count = min((len(ids) for ids in sequences), default=0)
    for place in range(count):
        if len({ids[place] for ids in sequences}) > 1:
            return place
    return count
