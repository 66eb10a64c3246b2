"""A pretrained transformer as it is loaded and fed: tokens in, batches out, whatever is read off them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.console import say
from qkd.core.errors import ModelError
from qkd.models import weights
from qkd.models.batching import TOKEN_BUDGET, TokenBudget, padded
from qkd.models.linear import faster

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

MAX_TOKENS = 256
"""Tokens of a text that are read, unless told otherwise."""


@dataclass(frozen=True)
class Loading:
    """How a model is loaded.

    Args:
        torch_device: where it runs, as torch names it; CUDA when there is one, if left out.
        dtype: of the weights; ``auto`` is float32 on CPUs and bfloat16 on CUDA.
        quantize: ``8bit`` or ``4bit`` through bitsandbytes.
        max_tokens: tokens read of each text; ``MAX_TOKENS`` or what the model can hold when left out.
        trust_remote_code: whether a model may bring Python code of its own.
    """

    torch_device: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    quantize: Literal["none", "8bit", "4bit"] = "none"
    max_tokens: int | None = None
    trust_remote_code: bool = False

    @property
    def device(self) -> str:
        """The torch device, of the process that asks."""
        import torch

        return self.torch_device or ("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def precision(self) -> str:
        """The weights' dtype by name."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if self.device.startswith("cuda") else "float32"

    def arithmetic(self) -> torch.autocast:
        """Return what to compute in, so that half-precision weights and float32 ones (a head's) can meet."""
        import torch

        kind = self.device.partition(":")[0]
        return torch.autocast(kind, getattr(torch, self.precision), enabled=self.precision != "float32")

    @property
    def key(self) -> dict[str, str]:
        """What of it changes numbers, where it is not plain float32; JSON values."""
        changed = {"dtype": self.precision, "quantize": self.quantize}
        return {name: value for name, value in changed.items() if value not in ("float32", "none")}


class WeightOptions(TypedDict, total=False):
    """What ``from_pretrained`` is told about weights."""

    dtype: torch.dtype
    quantization_config: BitsAndBytesConfig
    device_map: str


class Transformer:
    """A pretrained model with its tokenizer; weights are loaded when the first text comes.

    Pickling it leaves the weights behind: who unpickles it, in whatever process, loads them again.

    Args:
        model: a short name, folder, GGUF file or hub id (see ``weights.resolve``).
        loading: how it is loaded.

    Raises:
        QkdError: the model cannot be had.
    """

    head = "AutoModel"
    """Which of transformers' classes loads it."""

    def __init__(self, model: str, loading: Loading | None = None) -> None:
        self.model, self.loading = model, loading or Loading()
        self.source = self.located()
        """Where the weights are."""

    def __getstate__(self) -> dict[str, object]:
        return {name: self.__dict__[name] for name in ("model", "loading")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.source = self.located()

    @property
    def truncated(self) -> int:
        """How many texts were longer than ``max_tokens`` since that was last reported."""
        return cache.truncated[self.model]

    @truncated.setter
    def truncated(self, count: int) -> None:
        cache.truncated[self.model] = count

    def located(self) -> weights.Source:
        """Return where the weights are on this machine."""
        return weights.resolve(self.model)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of configuration, tokenizer and weights."""
        return weights.weights_fingerprint(self.source)

    @property
    def key(self) -> Key:
        """Everything that determines a text's numbers but the text and what is read off; JSON values."""
        return {"model": self.fingerprint, "max_length": self.max_tokens, **self.loading.key}

    @cached_property
    def config(self) -> Any:
        """The configuration of the model's text part."""
        return self.whole_config.get_text_config()

    @cached_property
    def whole_config(self) -> Any:
        """The model's configuration."""
        return self.load("AutoConfig")

    @property
    def num_parameters(self) -> int:
        """How many weights the model has, shared ones once."""
        return sum(weight.numel() for weight in self.network.parameters())

    @cached_property
    def context(self) -> int:
        """How many tokens the model can hold."""
        holds = getattr(self.config, "max_position_embeddings", None) or self.tokenizer.model_max_length
        return int(min(holds, self.tokenizer.model_max_length))

    @cached_property
    def max_tokens(self) -> int:
        """Tokens read of each text."""
        return min(self.loading.max_tokens or MAX_TOKENS, self.context)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.load("AutoTokenizer")

    @cached_property
    def network(self) -> Any:
        """The torch module, on its device, for inference."""
        return self.placed(self.load(self.head, **self.weight_options()))

    def weight_options(self) -> WeightOptions:
        """Return what ``from_pretrained`` is told about dtype and quantisation.

        Raises:
            QkdError: quantisation was asked for and bitsandbytes is not installed.
        """
        import importlib.util

        import torch

        options: WeightOptions = {"dtype": getattr(torch, self.loading.precision)}
        if self.loading.quantize != "none":
            if importlib.util.find_spec("bitsandbytes") is None:
                raise ModelError(
                    f"--quantize {self.loading.quantize} needs bitsandbytes, which is not installed; "
                    "'pip install bitsandbytes' gets it"
                )
            from transformers import BitsAndBytesConfig

            bits = {f"load_in_{self.loading.quantize}": True}
            options["quantization_config"], options["device_map"] = BitsAndBytesConfig(**bits), self.loading.device
        return options

    def placed(self, network: Any) -> Any:
        """Return ``network`` on its device, ready for inference."""
        if self.loading.quantize != "none":
            return network.eval()
        faster(network)
        return network.to(self.loading.device).eval()

    @cached_property
    def budget(self) -> TokenBudget:
        """How many tokens a batch may have."""
        return TokenBudget(TOKEN_BUDGET.get(self.loading.device.partition(":")[0], TOKEN_BUDGET["cpu"]), self.model)

    @property
    def pad(self) -> int:
        """The token that fills a batch up."""
        return int(self.tokenizer.pad_token_id or 0)

    def batched(
        self, tokens: Sequence[Sequence[int]], read: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield rows and what ``read(ids, mask)`` gives for them, batch by batch, longest first, without gradients."""
        import torch

        def step(rows: list[int]) -> np.ndarray:
            ids, mask = padded([tokens[row] for row in rows], self.pad)
            with torch.inference_mode(), self.loading.arithmetic():
                answer = read(ids.to(self.loading.device), mask.to(self.loading.device))
            return answer.float().cpu().numpy()

        return self.budget.run([len(ids) for ids in tokens], step)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids, at least one and at most ``max_tokens``."""
        tokens = self.tokenizer(list(texts), verbose=False)["input_ids"] if len(texts) else []
        for row, ids in enumerate(tokens):
            if len(ids) > self.max_tokens:
                self.truncated += 1
                tokens[row] = self.tokenizer(texts[row], truncation=True, max_length=self.max_tokens)["input_ids"]
            elif not ids:  # an empty text, for a tokenizer that adds nothing of its own
                tokens[row] = [self.tokenizer.eos_token_id or 0]
        return tokens

    def report(self, count: int, most: int | None = None) -> None:
        """Say how many of ``count`` texts were cut, after ``max_tokens`` or ``most``, and start counting anew."""
        if self.truncated:
            say(
                f"{self.model}: {self.truncated:,} of {count:,} texts are longer than {most or self.max_tokens:,} "
                f"tokens; they were read up to there (the model holds {self.context:,}; see --max-tokens)"
            )
        self.truncated = 0

    def load(self, kind: str, **options: Any) -> Any:
        """Return ``transformers.KIND.from_pretrained`` of this model.

        Raises:
            QkdError: it cannot be loaded.
        """
        from safetensors import SafetensorError

        weights.quiet_transformers()
        import transformers

        options = {
            "revision": self.source.revision or "main",
            "trust_remote_code": self.loading.trust_remote_code,
            **options,
        }
        try:
            return getattr(transformers, kind).from_pretrained(self.source.path, **options)
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            raise ModelError(weights.hub_sentence(self.source, error)) from None
