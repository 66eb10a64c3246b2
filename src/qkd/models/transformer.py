"""A pretrained transformer: loading, tokenization and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.console import log
from qkd.core.errors import ModelError
from qkd.models import weights
from qkd.models.batching import TOKEN_BUDGET, TokenBudget, faster, padded
from qkd.models.loading_report import (
    Source,
    check_report,
    check_unused,
    loading_sentence,
    quiet_transformers,
    unused_positions,
)

if TYPE_CHECKING:
    import torch

# Tokens of a text that are read, unless the user sets another number.
MAX_TOKENS = 256
# Texts with fewer tokens than this together may consist of unknown tokens alone.
MIN_TOKENS_JUDGED = 100


@dataclass(frozen=True)
class Loading:
    """Device, precision and limits with which a model is loaded.

    Attributes:
        torch_device: Device as torch names it. None means CUDA if there is one, else the CPU.
        dtype: Precision of the weights. ``auto`` is float32 on CPUs and bfloat16 on CUDA.
        quantize: Quantization by bitsandbytes.
        max_tokens: Number of tokens read of each text. None means ``MAX_TOKENS`` or the model's maximum.
        trust_remote_code: Whether a model may run Python code of its own.
        allow_download: Whether a model that is not in the hub's cache may be fetched.
        folders: Folders of the models that a bundle contains, by name.
    """

    torch_device: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    quantize: Literal["none", "8bit", "4bit"] = "none"
    max_tokens: int | None = None
    trust_remote_code: bool = False
    allow_download: bool = True
    folders: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def device(self) -> str:
        """Torch device in the process that reads this property."""
        import torch

        return self.torch_device or ("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def precision(self) -> str:
        """Name of the weights' dtype."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if self.device.startswith("cuda") else "float32"

    def autocast(self) -> torch.autocast:
        """Return the context in which half-precision weights and the float32 weights of a head work together."""
        import torch

        kind = self.device.partition(":")[0]
        return torch.autocast(kind, getattr(torch, self.precision), enabled=self.precision != "float32")

    @property
    def key(self) -> dict[str, str]:
        """Settings that change numbers, where they are not plain float32; JSON values."""
        changed = {"dtype": self.precision, "quantize": self.quantize}
        return {name: value for name, value in changed.items() if value not in ("float32", "none")}


class Transformer:
    """A pretrained model with its tokenizer. Weights are loaded when the first text comes.

    A pickle contains no weights; the process that unpickles it loads them again.

    Args:
        model: a short name, folder, GGUF file or hub id (see ``weights.resolve``).
    """

    auto_class = "AutoModel"
    """Class of transformers that loads the network."""

    def __init__(self, model: str, loading: Loading | None = None) -> None:
        self.model, self.loading = weights.stable_name(model), loading or Loading()
        self.source = self.locate()

    def __getstate__(self) -> dict[str, object]:
        return {name: self.__dict__[name] for name in ("model", "loading")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.source = self.locate()

    @property
    def truncated(self) -> int:
        """Number of texts longer than ``max_tokens`` since the last report."""
        return cache.truncated[self.model]

    @truncated.setter
    def truncated(self, count: int) -> None:
        cache.truncated[self.model] = count

    def locate(self) -> Source:
        """Return where the weights are."""
        if self.model in self.loading.folders:
            return Source(self.loading.folders[self.model])
        source = weights.resolve(self.model, allow_download=self.loading.allow_download)
        if source.is_folder and (Path(source.path) / "adapter_config.json").is_file():
            raise ModelError(
                f"{self.model}: this folder holds a peft adapter; use classifier:{self.model}, or merge it with its "
                "base model (merge_and_unload, save_pretrained) and give the new folder"
            )
        return source

    @cached_property
    def fingerprint(self) -> str:
        """Hash of configuration, tokenizer and weights."""
        return weights.weights_fingerprint(self.source)

    @property
    def key(self) -> Key:
        """Everything that determines a text's numbers except the text and the quantity read; JSON values."""
        return {"model": self.fingerprint, "max_length": self.max_tokens, **self.loading.key}

    @cached_property
    def config(self) -> Any:
        """Configuration of the model's text part."""
        return self.full_config.get_text_config()

    @cached_property
    def full_config(self) -> Any:
        """Configuration of the model."""
        config = self.load("AutoConfig")
        if getattr(config, "is_encoder_decoder", False) and "Classification" not in self.auto_class:
            raise ModelError(
                f"{self.model}: {config.model_type} is an encoder-decoder model, which qkd reads only as classifier:; "
                "give an encoder (such as minilm) or a causal LM"
            )
        return config

    @property
    def num_parameters(self) -> int:
        """Number of weights; shared ones count once."""
        return sum(weight.numel() for weight in self.network.parameters())

    @cached_property
    def context(self) -> int:
        """Number of tokens that the model holds."""
        limit = int(self.tokenizer.model_max_length)
        positions = getattr(self.config, "max_position_embeddings", None) or 0
        return min(limit, positions - unused_positions(self.config)) if positions > 0 else limit

    @cached_property
    def max_tokens(self) -> int:
        """Number of tokens read of each text."""
        return min(self.loading.max_tokens or MAX_TOKENS, self.context)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        tokenizer = self.load("AutoTokenizer", self.tokenizer_folder)
        words, rows = len(tokenizer), getattr(self.config, "vocab_size", None) or 0
        if words < rows / 2:  # transformers makes an empty tokenizer for a folder that has none
            raise ModelError(
                f"{self.model}: the tokenizer knows {words:,} tokens and the model {rows:,}, so it is missing or that "
                "of another model; copy the model's own tokenizer (tokenizer.json, tokenizer_config.json) there"
            )
        model: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
        if getattr(model, "dropout", None):
            model.dropout = None  # for training: with it, a text has other tokens each time
        return tokenizer

    @property
    def tokenizer_folder(self) -> str | None:
        """Folder of the tokenizer, if it is not with the weights."""
        return None

    @cached_property
    def network(self) -> Any:
        """The torch module, on its device, for inference."""
        network, report = self.load_network()
        check_report(self.model, report)
        check_unused(self.model, network, report)
        return self.place(network)

    @property
    def embedding_rows(self) -> int:
        """Number of tokens for which the network has an embedding."""
        try:
            return int(self.network.get_input_embeddings().weight.shape[0])
        except (AttributeError, NotImplementedError) as error:
            raise ModelError(
                f"{self.model}: a {self.config.model_type} has no table of token embeddings, which qkd needs; give a "
                "model that reads tokens"
            ) from error

    def load_network(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Return the network as loaded and transformers' report of missing weights and wrong shapes."""
        options = {**self.weight_options(), "output_loading_info": True, "ignore_mismatched_sizes": True, **options}
        self.full_config  # noqa: B018 - refuses what has no sense before anything is loaded
        loaded: tuple[Any, dict[str, Any]] = self.load(self.auto_class, **options)
        return loaded

    def weight_options(self) -> dict[str, Any]:
        """Return the arguments of ``from_pretrained`` for dtype and quantization."""
        import importlib.util

        import torch

        options = {"dtype": getattr(torch, self.loading.precision)}
        if self.loading.quantize != "none":
            if importlib.util.find_spec("bitsandbytes") is None:
                raise ModelError(
                    f"--quantize {self.loading.quantize} needs bitsandbytes, which is not installed; "
                    "'pip install bitsandbytes' installs it"
                )
            from transformers import BitsAndBytesConfig

            bits = {f"load_in_{self.loading.quantize}": True}
            options |= {"quantization_config": BitsAndBytesConfig(**bits), "device_map": self.loading.device}
        return options

    def place(self, network: Any) -> Any:
        """Return ``network`` on its device, ready for inference."""
        if self.loading.quantize == "none":
            faster(network)
            network = network.to(self.loading.device)
        return network.eval()

    @cached_property
    def budget(self) -> TokenBudget:
        """Limit on the tokens of a batch."""
        exact = self.loading.precision == "float32" and self.loading.quantize == "none"
        limit = TOKEN_BUDGET.get(self.loading.device.partition(":")[0], TOKEN_BUDGET["cpu"])
        return TokenBudget(limit, self.model, 1e-4 if exact else 0.1)

    def batched(
        self, tokens: Sequence[Sequence[int]], read: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield row numbers and ``read(ids, mask)`` for them, batch by batch, longest first, without gradients."""
        import torch

        self.check_ids(tokens)

        def step(rows: list[int]) -> np.ndarray:
            ids, mask = padded([tokens[row] for row in rows])
            with torch.inference_mode(), self.loading.autocast():
                values = read(ids.to(self.loading.device), mask.to(self.loading.device))
            return values.float().cpu().numpy()

        return self.budget.run([len(ids) for ids in tokens], step)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids, at least one and at most ``max_tokens``."""
        encoded = self.tokenizer(list(texts), verbose=False) if len(texts) else {"input_ids": []}
        tokens = encoded["input_ids"]
        if any(map(any, encoded.get("token_type_ids", ()))):
            raise ModelError(
                f"{self.model}: its tokenizer marks segments of a text (token_type_ids other than 0), which qkd does "
                "not pass on; give a model that reads one segment"
            )
        self.check_known(tokens)
        for row, ids in enumerate(tokens):
            if len(ids) > self.max_tokens:
                self.truncated += 1
                tokens[row] = self.tokenizer(texts[row], truncation=True, max_length=self.max_tokens)["input_ids"]
            elif not ids:  # an empty text, for a tokenizer that adds no special tokens
                ends = [self.tokenizer.eos_token_id, self.tokenizer.bos_token_id]
                tokens[row] = [end for end in ends if end is not None][:1]
            if not tokens[row]:
                raise ModelError(
                    f"{self.model}: the text {texts[row]!r} has no tokens; remove it or choose another model"
                )
        return tokens

    def check_known(self, tokens: Iterable[Sequence[int]]) -> None:
        """Refuse texts, given as token ids, whose tokens are mostly unknown to the tokenizer."""
        unknown, special = self.tokenizer.unk_token_id, {*self.tokenizer.all_special_ids}
        content = [token for ids in tokens for token in ids if token == unknown or token not in special]
        missed = content.count(unknown)
        if len(content) >= MIN_TOKENS_JUDGED and missed > len(content) / 2:
            raise ModelError(
                f"{self.model}: {missed:,} of {len(content):,} tokens are unknown to its tokenizer; check that it is "
                "the model's own, or choose a model for the language of these texts"
            )

    def check_ids(self, tokens: Sequence[Sequence[int]]) -> None:
        """Refuse token ids for which the network has no embedding."""
        rows = self.embedding_rows
        largest = max((max(ids) for ids in tokens), default=0)
        if largest >= rows:
            word = self.tokenizer.convert_ids_to_tokens(largest)
            raise ModelError(
                f"{self.model}: the tokenizer gives token {largest:,} ({word!r}) and the model has {rows:,} "
                "embeddings; give the tokenizer and the weights of one model"
            )

    def report(self, count: int, most: int | None = None) -> None:
        """Print how many of ``count`` texts were cut after ``max_tokens`` or ``most``, and reset that number."""
        if self.truncated:
            log.info(
                f"{self.model}: {self.truncated:,} of {count:,} texts are longer than {most or self.max_tokens:,} "
                f"tokens; qkd read them up to there (the model holds {self.context:,}; see --max-tokens)"
            )
        self.truncated = 0

    def load(self, kind: str, path: str | None = None, **options: Any) -> Any:
        """Return ``transformers.KIND.from_pretrained`` of this model, or of the folder ``path``."""
        quiet_transformers()
        import transformers

        options = {
            "revision": self.source.revision or "main",
            "trust_remote_code": self.loading.trust_remote_code,
            **options,
        }
        if path is None and not self.source.is_folder and not self.loading.allow_download:
            path = str(Path(weights.hub_file(self.source)).parent)  # transformers asks the hub about a hub id
        try:
            return getattr(transformers, kind).from_pretrained(path or self.source.path, **options)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file ends in errors of many kinds
            raise ModelError(loading_sentence(self.source, error, kind)) from error
