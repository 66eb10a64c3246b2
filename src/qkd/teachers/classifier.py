"""The ``classifier:`` teacher: a sequence classifier or its adapter, with its labels mapped to those of the data."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core import cache
from qkd.core.config import Config
from qkd.core.console import log
from qkd.core.errors import ModelError, nearest, require_extra
from qkd.core.objects import Named
from qkd.models import weights
from qkd.models.batching import class_logits
from qkd.models.loading_report import Source, check_report, check_unused
from qkd.models.transformer import Loading, Transformer
from qkd.results import TeacherCard
from qkd.teachers.labels import assigned, warn_of_other_assignment
from qkd.teachers.protocol import not_fitted

if TYPE_CHECKING:
    import torch

    from qkd.data.dataset import Splits
    from qkd.data.loading import Dataset

ADAPTER_WEIGHTS = "adapter_model.safetensors"


class Classifier(Transformer):
    """A transformer with a classification head, or a base model with a peft adapter that has one."""

    auto_class = "AutoModelForSequenceClassification"

    def locate(self) -> Source:
        """Return where the weights are; for an adapter, those of its base model."""
        source = weights.resolve(self.model, allow_download=self.loading.allow_download)
        base = weights.base_of(source)
        self._adapter = Path(base[1]) if base else None
        if self._adapter and not (self._adapter / ADAPTER_WEIGHTS).is_file():
            pickled = (self._adapter / "adapter_model.bin").is_file()
            reason = "is a pickle, which qkd does not read, as it can run code" if pickled else "is missing"
            raise ModelError(
                f"{self.model}: adapter_model.{'bin' if pickled else 'safetensors'} {reason}; save the adapter with "
                "save_pretrained(folder, safe_serialization=True)"
            )
        return base[0] if base else source

    @cached_property
    def fingerprint(self) -> str:
        """Hash of configuration, tokenizer, weights and adapter."""
        own = weights.weights_fingerprint(self.source)
        if self._adapter is None:
            return own
        return cache.digest([own, weights.weights_fingerprint(Source(str(self._adapter)))])[:24]

    @property
    def tokenizer_folder(self) -> str | None:
        """Folder of the adapter, if it has a tokenizer."""
        own = self._adapter is not None and any(self._adapter.glob("tokenizer*"))
        return str(self._adapter) if own else None

    @cached_property
    def full_config(self) -> Any:
        """Configuration of the model. An adapter's folder may hold one of its own."""
        if self._adapter is None:
            return self.load("AutoConfig")
        if (self._adapter / "config.json").is_file():
            return self.load("AutoConfig", str(self._adapter))
        config = self.load("AutoConfig")
        config.num_labels = _head_rows(self._adapter)
        return config

    @cached_property
    def network(self) -> Any:
        """The torch module, on its device, for inference."""
        network, report = self.load_network(config=self.full_config)
        if self._adapter is None:
            prefix = network.base_model_prefix + "."
            heads = sorted(name for name in report["missing_keys"] if not name.startswith(prefix))
            if heads and not any(name.startswith("module.") for name in report["unexpected_keys"]):
                raise self._no_head(f"{', '.join(heads[:3])} would be random")
            check_report(f"classifier:{self.model}", report, lambda name: False)
            check_unused(f"classifier:{self.model}", network, report)
            return self.place(network)
        return self.place(self._with_adapter(network, report))

    def _with_adapter(self, network: Any, report: Mapping[str, Any]) -> Any:
        """Return the base model ``network`` with the adapter, every weight of which was read from its file."""
        require_extra(f"the adapter {self.model}", "lora", "peft")
        from peft import PeftModel, get_peft_model_state_dict

        assert self._adapter is not None
        shapes = _shapes(self._adapter)
        path = next(name for name, part in network.named_modules() if part is network.get_input_embeddings())
        resized = [shape[0] for name, shape in shapes.items() if name.endswith(f".{path}.weight")]
        if resized and resized[0] != network.get_input_embeddings().weight.shape[0]:  # for tokens that were added
            network.resize_token_embeddings(resized[0], mean_resizing=False)
        who = f"{self.model} (base model {self.source.path})"
        check_report(who, report, lambda name: f"base_model.model.{name}" in shapes)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated name of transformers
                adapted = PeftModel.from_pretrained(network, str(self._adapter))
            expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        except Exception as error:  # peft has no errors of its own for an adapter that does not fit
            first = " ".join((str(error).strip() or type(error).__name__).split())
            raise ModelError(f"{who}: the adapter does not fit its base model ({first:.300})") from error
        lacking = {"missing_keys": expected.keys() - shapes.keys(), "unexpected_keys": (), "mismatched_keys": ()}
        check_report(self.model, lacking, lambda name: False)
        surplus = sorted(name for name in shapes.keys() - expected.keys() if f".{path}." not in name)
        if surplus:
            raise ModelError(
                f"{who}: the adapter has {len(surplus)} weights that the model does not use ({surplus[0]}, ...); "
                "give its own adapter_config.json and base model"
            )
        return adapted

    def _no_head(self, reason: str) -> ModelError:
        return ModelError(
            f"classifier:{self.model}: the checkpoint has no classification head ({reason}); use probe:{self.model} or "
            f"lora:{self.model}, which learn one"
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the head's outputs."""
        config = self.full_config
        kinds = config.architectures or ()
        if self._adapter is None and kinds and not any("Classification" in kind for kind in kinds):
            raise self._no_head(f"it is a {', '.join(kinds)}")
        names: Mapping[int, str] = config.id2label
        problem = getattr(config, "problem_type", None)
        if len(names) == 1 or problem == "regression":
            raise ModelError(
                f"classifier:{self.model}: the head has {len(names)} output for a regression, not one for each label; "
                f"give a classifier, or use probe:{self.model} on its base model"
            )
        if problem == "multi_label_classification":
            raise ModelError(
                f"classifier:{self.model}: the head gives several labels to one text (multi_label_classification), so "
                "its outputs are no probabilities of one label; give a classifier with one label for each text"
            )
        if sorted(names) != list(range(len(names))):
            raise ModelError(
                f"classifier:{self.model}: id2label of config.json numbers its labels {sorted(names)}, not from 0 on; "
                "write one name for each output of the head"
            )
        return tuple(str(names[row]) for row in range(len(names)))

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return the head's logits ``(N, labels)`` float32 of N texts."""

        def read(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return class_logits(self.network, ids, mask)

        out = np.empty((len(texts), len(self.labels)), np.float32)
        for rows, logits in self.batched(self.tokens(texts), read):
            out[rows] = logits
        return out


class ClassifierTeacher(Named):
    """A trained classifier as a teacher.

    Args:
        model: a sequence-classification checkpoint or a peft adapter: folder or hub id.
        label_map: the data's label for each of the model's, ``MODEL=DATA`` separated by commas. A pair that contains a
            comma is written in double quotes. Several labels may mean the same one.
    """

    cross_fitted = False

    def __init__(self, model: str, loading: Loading | None = None, label_map: str | None = None) -> None:
        self._network, self._pairs = Classifier(model, loading), split_pairs(label_map)
        self.name = f"classifier:{self._network.model}"
        self._classes: tuple[str, ...] = ()
        self._rows: tuple[tuple[int, ...], ...] = ()

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        return self._network.num_parameters

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Find the model's labels for each class of the data, and compare this assignment with all others."""
        labels, classes = self._network.labels, dataset.classes
        self._classes, self._rows = classes, match_labels(self.name, labels, classes, self._pairs)
        scores, targets = self._scores([dataset.texts[row] for row in splits.valid]), dataset.targets[splits.valid]
        warn_of_other_assignment(f"{self.name} (--label-map)", labels, classes, self._rows, scores, targets)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts; the model's own are cached."""
        return assigned(self._scores(texts), self._fitted)

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, computed now."""
        return assigned(self._network.scores(texts), self._fitted)

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

    @property
    def _fitted(self) -> tuple[tuple[int, ...], ...]:
        if not self._rows:
            raise not_fitted(self.name)
        return self._rows

    def _scores(self, texts: Sequence[str]) -> np.ndarray:
        network = self._network
        key = {"kind": "classifier", **network.key}
        scores = cache.cached_rows(key, texts, network.scores, f"labeling with {network.model}")
        network.report(len(texts))
        return scores


def match_labels(
    teacher: str, labels: Sequence[str], classes: Sequence[str], pairs: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Return, for each of the C ``classes``, which of the model's ``labels`` mean it, and print which mean none.

    Args:
        pairs: ``MODEL=DATA`` for labels with different names. Without any, equal names match, whatever their case.
    """
    given = dict(_parsed(teacher, pair, labels, classes) for pair in pairs)
    meanings = [
        given.get(label) or next((name for name in classes if not given and _same(name, label)), None)
        for label in labels
    ]
    for name in classes:
        if name not in meanings:
            raise ModelError(
                f"{teacher}: none of the model's labels ({', '.join(labels)}) means the data's '{name}'; look up in "
                "the model's card what its labels mean, and write --label-map 'MODEL=DATA,MODEL=DATA' with one of "
                f"{', '.join(classes)} for each (in double quotes where a label has a comma)"
            )
    unused = [label for label, meaning in zip(labels, meanings, strict=True) if meaning is None]
    if unused:
        log.info(f"{teacher}: its labels {', '.join(unused)} mean no label of the data and are ignored")
    return tuple(tuple(row for row, meaning in enumerate(meanings) if meaning == name) for name in classes)


def _same(first: str, second: str) -> bool:
    return first.casefold().strip() == second.casefold().strip()


def split_pairs(label_map: str | None) -> list[str]:
    """Return the pairs ``MODEL=DATA`` of a map, in which double quotes protect commas."""
    rows = csv.reader([(label_map or "").replace("\n", " ")], skipinitialspace=True)
    pairs = [pair.strip() for row in rows for pair in row if pair.strip()]
    for pair in pairs:
        if not pair.strip("=").partition("=")[2]:
            raise ModelError(f"--label-map '{label_map}': '{pair}' is not MODEL=DATA")
    return pairs


def _parsed(teacher: str, pair: str, labels: Sequence[str], classes: Sequence[str]) -> tuple[str, str]:
    """Return both labels of a pair; either may contain an equals sign."""
    signs = [place for place, sign in enumerate(pair) if sign == "="]
    splits = [(pair[:place].strip(), pair[place + 1 :].strip()) for place in signs]
    for label, name in splits:
        if label in labels and name in classes:
            return label, name
    label, name = splits[0]
    if label not in labels:
        raise ModelError(f"{teacher}: --label-map: the model has no label '{label}'{nearest(label, labels)}")
    raise ModelError(f"{teacher}: --label-map: the data have no label '{name}'{nearest(name, classes)}")


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of an adapter, by name."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="numpy") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{folder / ADAPTER_WEIGHTS}: cannot be read ({error}); copy the adapter again") from None


def _head_rows(folder: Path) -> int:
    """Return the number of outputs of the head in an adapter's folder."""
    for name, shape in _shapes(folder).items():
        if name.endswith(("score.weight", "classifier.weight", "out_proj.weight")) and "lora" not in name:
            return shape[0]
    raise ModelError(f"{folder}: the adapter has no classification head; give one that was trained for classification")


def make(model: str, loading: Loading, config: Config) -> ClassifierTeacher:
    """Return the teacher ``classifier:MODEL``."""
    return ClassifierTeacher(model, loading, config.teacher.label_map)
