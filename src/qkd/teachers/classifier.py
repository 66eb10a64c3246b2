"""The ``classifier:`` teacher: any sequence-classification checkpoint or peft adapter, its labels put on the data's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core import cache
from qkd.core.console import say
from qkd.core.errors import ModelError, QkdError, nearest
from qkd.models import weights
from qkd.models.transformer import Loading, Transformer
from qkd.results import TeacherCard

if TYPE_CHECKING:
    import torch

    from qkd.data.loading import Dataset
    from qkd.data.splits import Splits


class Classifier(Transformer):
    """A transformer with a classification head, or a base model under a peft adapter that has one."""

    head = "AutoModelForSequenceClassification"

    def located(self) -> weights.Source:
        """Return where the weights are on this machine, those under the adapter where the model is one."""
        source = weights.resolve(self.model)
        below = weights.base_of(source)
        self._adapter = below[1] if below else None
        return below[0] if below else source

    @cached_property
    def fingerprint(self) -> str:
        """A hash of configuration, tokenizer, weights and adapter."""
        own = weights.weights_fingerprint(self.source)
        return own if self._adapter is None else cache.digest([own, _folder_digest(self._adapter)])[:24]

    @cached_property
    def whole_config(self) -> Any:
        """The model's configuration; an adapter's folder may hold one of its own."""
        if self._adapter is None:
            return self.load("AutoConfig")
        if (Path(self._adapter) / "config.json").is_file():
            from transformers import AutoConfig

            return AutoConfig.from_pretrained(self._adapter, trust_remote_code=self.loading.trust_remote_code)
        config = self.load("AutoConfig")
        config.num_labels = _rows_of_head(Path(self._adapter))
        return config

    @cached_property
    def network(self) -> Any:
        """The torch module, on its device, for inference."""
        config = self.whole_config
        if config.get_text_config().pad_token_id is None:
            config.get_text_config().pad_token_id = self.pad
        options = self.weight_options() | {"config": config, "output_loading_info": True}
        network, info = self.load("AutoModelForSequenceClassification", **options)
        if self._adapter is None:
            missing = sorted(info["missing_keys"])
            if missing:
                raise self._no_head(f"{', '.join(missing[:3])} would be random")
            return self.placed(network)
        from peft import PeftModel

        return self.placed(PeftModel.from_pretrained(network, self._adapter))

    def _no_head(self, why: str) -> QkdError:
        return QkdError(
            f"classifier:{self.model}: the checkpoint has no classification head ({why}); use probe:{self.model} or "
            f"lora:{self.model}, which learn one"
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the head's rows.

        Raises:
            QkdError: the configuration is one of a model without a head.
        """
        kinds = self.whole_config.architectures or ()
        if self._adapter is None and kinds and not any("Classification" in kind for kind in kinds):
            raise self._no_head(f"it is a {', '.join(kinds)}")
        names: Mapping[int, str] = self.whole_config.id2label
        return tuple(str(names[row]) for row in sorted(names))

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return the head's logits ``(N, labels)`` float32 of N texts."""

        def read(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.network(input_ids=ids, attention_mask=mask).logits

        out = np.empty((len(texts), len(self.labels)), np.float32)
        for rows, logits in self.batched(self.tokens(texts), read):
            out[rows] = logits
        return out


class ClassifierTeacher:
    """A classifier that somebody trained.

    Args:
        model: a sequence-classification checkpoint or a peft adapter: folder or hub id.
        loading: how it is loaded.
        label_map: which of its labels means which of the data's, ``MODEL=DATA`` separated by commas; several may mean
            the same one.

    Raises:
        QkdError: the model cannot be had, or the map is malformed.
    """

    cross_fitted = False

    def __init__(self, model: str, loading: Loading | None = None, label_map: str | None = None) -> None:
        self.name, self._map = f"classifier:{model}", _parsed(label_map)
        self._network = Classifier(model, loading)
        self._classes: tuple[str, ...] = ()
        self._rows: tuple[tuple[int, ...], ...] = ()

    @property
    def num_parameters(self) -> int:
        """How many weights it has."""
        return self._network.num_parameters

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Find the model's labels of each class of the data.

        Raises:
            QkdError: the model has no head, or a class of the data is none of its labels.
        """
        self._classes = dataset.classes
        self._rows = match_labels(self.name, self._network.labels, dataset.classes, self._map)
        unused = [name for row, name in enumerate(self._network.labels) if all(row not in rows for rows in self._rows)]
        if unused:
            say(f"{self.name}: its labels {', '.join(unused)} mean no label of the data and are left out")

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts; the model's own are cached."""
        network = self._network
        key = {"kind": "classifier", **network.key}
        scores = cache.cached_rows(key, texts, network.scores, f"labelling with {network.model}")
        network.report(len(texts))
        return self._gathered(scores)

    def answer(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, computed now."""
        return self._gathered(self._network.scores(texts))

    def describe(self) -> TeacherCard:
        """Return the model and which of its labels count for which class."""
        labels = self._network.labels
        return TeacherCard(
            name=self.name,
            kind="classifier",
            model=self._network.model,
            fingerprint=self._network.fingerprint,
            classes=tuple(self._classes),
            labels={name: [labels[row] for row in rows] for name, rows in zip(self._classes, self._rows, strict=True)},
        )

    def _gathered(self, scores: np.ndarray) -> np.ndarray:
        """Return ``(N,C)`` of the model's logits: where several labels mean one class, probabilities add up."""
        from scipy.special import logsumexp

        if not self._rows:
            raise ModelError(f"{self.name} has not been fitted: call fit(dataset, splits) first")
        return np.stack([logsumexp(scores[:, list(rows)], axis=1) for rows in self._rows], axis=1).astype(np.float32)


def match_labels(
    who: str, labels: Sequence[str], classes: Sequence[str], given: Mapping[str, str]
) -> tuple[tuple[int, ...], ...]:
    """Return, for each of the C ``classes``, which of the model's ``labels`` mean it.

    Raises:
        QkdError: the map names what does not exist, or a class is left without a label.
    """
    for name, meaning in given.items():
        if name not in labels:
            raise ModelError(f"{who}: --label-map: the model has no label '{name}'{nearest(name, labels)}")
        if meaning not in classes:
            raise ModelError(f"{who}: --label-map: the data have no label '{meaning}'{nearest(meaning, classes)}")
    meanings = [
        given.get(label) or next((name for name in classes if not given and _same(name, label)), None)
        for label in labels
    ]
    for name in classes:
        if name not in meanings:
            pairs = ",".join(f"{label}={name}" for label, name in zip(labels, classes, strict=False))
            raise ModelError(
                f"{who}: none of the model's labels ({', '.join(labels)}) means the data's '{name}'; say which does, "
                f"for example --label-map '{pairs}'"
            )
    return tuple(tuple(row for row, meaning in enumerate(meanings) if meaning == name) for name in classes)


def _same(first: str, second: str) -> bool:
    return first.casefold().strip() == second.casefold().strip()


def _parsed(label_map: str | None) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in (label_map or "").split(",") if pair.strip()]
    for name, sign, meaning in pairs:
        if not (sign and name.strip() and meaning.strip()):
            raise ModelError(f"--label-map '{label_map}': '{name}{sign}{meaning}' is not MODEL=DATA")
    return {name.strip(): meaning.strip() for name, _, meaning in pairs}


def _folder_digest(folder: str) -> str:
    return weights.weights_fingerprint(weights.Source(folder))


def _rows_of_head(folder: Path) -> int:
    """Return how many rows the head in an adapter's folder has.

    Raises:
        QkdError: the adapter has no classification head.
    """
    from safetensors import safe_open

    file = folder / "adapter_model.safetensors"
    if file.is_file():
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                if name.endswith(("score.weight", "classifier.weight", "out_proj.weight")) and "lora" not in name:
                    return int(tensors.get_slice(name).get_shape()[0])
    raise ModelError(f"{folder}: the adapter has no classification head; give one that was trained for classification")
