"""The ``lora:`` teacher: the LM fine-tuned on the training split, then frozen.

The lower part of the LM is kept, its upper half gets low-rank adapters (Hu et al., arXiv 2106.09685), and a linear head
reads the last token's state. The head starts as logistic regression on the untouched LM, so that fine-tuning starts
from a good classifier (Kumar et al., arXiv 2202.10054) and needs few epochs. The result is an ordinary peft adapter,
which ``classifier:FOLDER`` reads too.
"""

from __future__ import annotations

import copy
import re
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core import cache, records
from qkd.core.config import Config
from qkd.core.console import log
from qkd.core.errors import ModelError, nearest, require_extra
from qkd.core.files import write_json
from qkd.core.objects import Named
from qkd.core.teacher_config import LoraSpec
from qkd.data.dataset import shuffled_by_content
from qkd.models.batching import class_logits
from qkd.models.loading_report import check_report
from qkd.models.transformer import Loading, Transformer
from qkd.results import TeacherCard
from qkd.results.base import Result
from qkd.teachers.classifier import Classifier
from qkd.teachers.finetune import FineTuning, LabeledTokens
from qkd.teachers.heads import calibrated_temperature, fit_head, mean_cross_entropy
from qkd.teachers.protocol import not_fitted

if TYPE_CHECKING:
    import torch

    from qkd.data.dataset import Splits
    from qkd.data.loading import Dataset

# Maximum number of validation texts that are measured after every epoch.
MAX_VALID_TEXTS = 1000
# File beside an adapter with facts about its training; written last.
FACTS = "qkd.json"


class AdapterTraining(Result):
    """Content of ``qkd.json``.

    Attributes:
        model: The base model.
        layers: Numbers of kept layers and of all layers.
        trained: Number of trained weights.
        texts: Number of training texts.
        classes: Names of the classes.
        epochs: Number of epochs.
        best_epoch: Epoch whose weights were kept.
        seconds: Training time.
        history: One row for each epoch, and one before the first.
        temperature: Divisor of the logits.
        valid_loss: Validation cross-entropy in nats.
        valid_accuracy: Validation accuracy.
    """

    model: str
    layers: list[int]
    trained: int
    texts: int
    classes: list[str]
    epochs: int
    best_epoch: int
    seconds: float
    history: list[dict[str, float]]
    temperature: float
    valid_loss: float
    valid_accuracy: float


class LoraTeacher(Named):
    """A fine-tuned LM.

    Args:
        model: a short name, folder or hub id of a causal LM or encoder.
    """

    cross_fitted = False

    def __init__(self, model: str, loading: Loading | None = None, spec: LoraSpec | None = None) -> None:
        self.spec, self._base = spec or LoraSpec(), _BaseModel(model, loading)
        self.name = f"lora:{self._base.model}"
        self._result: tuple[Classifier, AdapterTraining] | None = None

    @property
    def num_parameters(self) -> int:
        """Number of weights of kept layers, adapters and head."""
        return self._fitted[0].num_parameters

    @property
    def _fitted(self) -> tuple[Classifier, AdapterTraining]:
        if self._result is None:
            raise not_fitted(self.name)
        return self._result

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Fine-tune on the training split, or read the adapter from the cache. A killed fine-tuning continues."""
        from filelock import FileLock

        train = _subset(dataset, splits.train, self.spec.lora_texts)
        valid = _subset(dataset, splits.valid, MAX_VALID_TEXTS)
        texts = {
            name: [[dataset.texts[row] for row in rows], dataset.targets[rows].tolist()]
            for name, rows in (("train", train), ("valid", valid))
        }
        key = {"spec": self.spec.model_dump(), "classes": dataset.classes, **texts, **self._base.key}
        folder = cache.root() / "adapters" / f"lora-{cache.digest(key)[:24]}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not (folder / FACTS).is_file():
                self._train(dataset, train, valid, folder)
        training = records.read_record(folder / FACTS, AdapterTraining, f"delete {folder}")
        self._result = Classifier(str(folder), self._base.loading), training

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, cached."""
        model, training = self._fitted
        logits = cache.cached_rows({"kind": "lora", **model.key}, texts, model.scores, f"labeling with {self.name}")
        model.report(len(texts))
        return logits / np.float32(training.temperature)

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, computed now."""
        model, training = self._fitted
        return model.scores(texts) / np.float32(training.temperature)

    def describe(self) -> TeacherCard:
        """Return model, adapters, epochs and validation scores."""
        model, training = self._fitted
        return TeacherCard(name=self.name, kind="lora", fingerprint=model.fingerprint, **training.model_dump())

    def save(self, folder: Path) -> None:
        """Copy the adapter to ``folder``, whole or not at all."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            new = Path(work) / "adapter"
            shutil.copytree(self._fitted[0].model, new, ignore=shutil.ignore_patterns("state-*", "state.json"))
            if folder.is_dir():
                shutil.rmtree(folder)
            new.rename(folder)

    def _train(self, dataset: Dataset, train: np.ndarray, valid: np.ndarray, folder: Path) -> None:
        """Fine-tune, and write the adapter into ``folder``."""
        import torch

        base, spec = self._base, self.spec
        train_set, valid_set = (
            LabeledTokens(base.tokens([dataset.texts[row] for row in rows]), dataset.targets[rows])
            for rows in (train, valid)
        )
        base.report(len(train) + len(valid))
        torch.manual_seed(spec.lora_seed)
        network = base.with_adapters(dataset.classes, spec)
        trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        layers = [base.depth(spec), int(base.config.num_hidden_layers)]
        log.info(
            f"{self.name}: {layers[0]} of {layers[1]} layers, {trained:,} weights to train, "
            f"{len(train):,} training texts"
        )
        tuning = FineTuning(network, train_set, valid_set, spec, base.budget, base.loading, folder)
        if not tuning.resume():
            base.start_head(network, train_set, valid_set)
            tuning.best = tuning.copy_weights()
        state = tuning.run(f"fine-tuning {base.model}")
        logits = tuning.logits(valid_set.tokens)
        temperature = calibrated_temperature(logits, valid_set.targets)
        for part in (network, network.config, base.tokenizer):
            part.save_pretrained(folder)
        training = AdapterTraining(
            model=base.model,
            layers=layers,
            trained=trained,
            texts=len(train),
            classes=list(dataset.classes),
            epochs=state.epoch,
            best_epoch=state.best_epoch,
            seconds=round(state.seconds, 1),
            history=state.history,
            temperature=temperature,
            valid_loss=mean_cross_entropy(logits / temperature, valid_set.targets),
            valid_accuracy=float(np.mean(logits.argmax(axis=1) == valid_set.targets)),
        )
        write_json(folder / FACTS, training.to_dict())
        for left in ("state.json", *(path.name for path in folder.glob("state-*"))):
            (folder / left).unlink(missing_ok=True)


class _BaseModel(Transformer):
    """The LM before fine-tuning."""

    auto_class = "AutoModelForSequenceClassification"

    @property
    def embedding_rows(self) -> int:
        return int(self.config.vocab_size)

    def depth(self, spec: LoraSpec) -> int:
        """Return the number of kept layers."""
        return max(1, round(spec.lora_depth * self.config.num_hidden_layers))

    def with_adapters(self, classes: Sequence[str], spec: LoraSpec) -> Any:
        """Return the kept layers with new adapters and a new head, for training."""
        import torch
        from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training

        depth = self.depth(spec)
        network, report = self.load_network(config=self._cut_config(classes, depth))
        prefix = network.base_model_prefix + "."

        def is_head(name: str) -> bool:
            return not name.startswith(prefix) or "pooler" in name.split(".")

        check_report(f"lora:{self.model}", report, is_head)
        fresh = [*report["missing_keys"], *(row[0] for row in report["mismatched_keys"])]
        heads = {"pooler" if name.startswith(prefix) else name.partition(".")[0] for name in fresh}
        network = self.place(network)
        if self.loading.quantize != "none":
            network = prepare_model_for_kbit_training(network, use_gradient_checkpointing=False)
        adapters = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=spec.lora_rank,
            lora_alpha=2 * spec.lora_rank,
            modules_to_save=sorted(heads) or None,  # weights that the checkpoint lacks are trained and saved
            target_modules=linear_modules(network, spec.lora_targets, depth - max(1, round(spec.lora_tuned * depth))),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated name of transformers
            network = get_peft_model(network, adapters)
        name = self.source.path
        if self.source.is_folder and not Path(self.model).exists():
            name = self.model  # a short name, which every machine can fetch
        adapters.base_model_name_or_path, adapters.revision = name, self.source.revision
        for weight in network.parameters():
            if weight.requires_grad:  # adapters and head learn in full precision, whatever the precision of the LM
                weight.data = weight.data.to(torch.float32)
        return network

    def _cut_config(self, classes: Sequence[str], depth: int) -> Any:
        """Return the configuration with ``depth`` layers and a head for the classes."""
        config = copy.deepcopy(self.full_config)
        text = config.get_text_config()
        text.num_hidden_layers, kinds = depth, getattr(text, "layer_types", None)
        if kinds:
            text.layer_types = kinds[:depth]
        config.num_labels = len(classes)
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: number for number, name in enumerate(classes)}
        return config

    def start_head(self, network: Any, train: LabeledTokens, valid: LabeledTokens) -> None:
        """Start the head as logistic regression on the untouched LM's last-token states."""
        import torch

        saved = (module for name, module in network.named_modules() if name.endswith("modules_to_save.default"))
        head = next((module for module in saved if isinstance(module, torch.nn.Linear)), None)
        if head is None:
            return  # a head of several linear maps starts at random
        states: list[torch.Tensor] = []
        hook = head.register_forward_pre_hook(lambda module, inputs: states.append(inputs[0].detach().float()))

        def read(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states.clear()
            class_logits(network.eval(), ids, mask)
            last = mask.sum(dim=1).long() - 1
            return states[0] if states[0].ndim == 2 else states[0][torch.arange(len(ids)), last]

        try:
            features = []
            for part in (train, valid):
                batches = list(self.batched(part.tokens, read))
                out = np.empty((len(part.tokens), batches[0][1].shape[1]), np.float32)
                for rows, values in batches:
                    out[rows] = values
                features.append(out)
        finally:
            hook.remove()
        best = fit_head(features[0], train.targets, features[1], valid.targets)
        weight = best.weight
        if head.bias is None:  # the direction along which every state is about 1 replaces the bias
            ones = np.linalg.lstsq(features[0], np.ones(len(features[0]), np.float32), rcond=1e-4)[0]
            weight = weight + np.outer(ones, best.bias)
        with torch.no_grad():
            head.weight.copy_(torch.as_tensor(weight.T))
            if head.bias is not None:
                head.bias.copy_(torch.as_tensor(best.bias))


def linear_modules(network: Any, targets: str, first: int) -> list[str]:
    """Return the names of the linear maps in the layers from number ``first`` on.

    Args:
        targets: ``all-linear``, or the last parts of their names, separated by commas.
        first: the lowest layer, from 0.
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


def _subset(dataset: Dataset, rows: np.ndarray, limit: int | None) -> np.ndarray:
    """Return at most ``limit`` of ``rows``, chosen by content."""
    if limit is None or len(rows) <= limit:
        return rows
    return np.sort(rows[shuffled_by_content([dataset.texts[row] for row in rows], 0)[:limit]])


def make(model: str, loading: Loading, config: Config) -> LoraTeacher:
    """Return the teacher ``lora:MODEL``."""
    require_extra(f"the teacher lora:{model}", "lora", "peft")
    return LoraTeacher(model, loading, config.lora)
