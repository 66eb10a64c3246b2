"""The ``lora:`` teacher: the LM fine-tuned on the training split, then frozen.

The lower part of the LM is kept, the upper half of that gets low-rank adapters (Hu et al., arXiv 2106.09685), and a
linear head reads the last token's state. The head starts where logistic regression on the untouched LM ends, so that
fine-tuning begins from a good classifier (Kumar et al., arXiv 2202.10054) and needs few epochs. What is saved is an
ordinary peft adapter, which ``classifier:FOLDER`` reads too.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core import cache, records
from qkd.core.config import LoraSpec
from qkd.core.console import say
from qkd.core.errors import ModelError
from qkd.core.files import write_json
from qkd.data.splits import shuffled_by_content
from qkd.models import weights
from qkd.models.batching import class_logits
from qkd.models.transformer import Loading, Transformer
from qkd.results import TeacherCard
from qkd.results.base import Result
from qkd.teachers.classifier import Classifier
from qkd.teachers.finetune import FineTuning, Labelled, linear_modules
from qkd.teachers.heads import calibrated_temperature, fit_head, mean_cross_entropy

if TYPE_CHECKING:
    import torch

    from qkd.data.loading import Dataset
    from qkd.data.splits import Splits

VALID_TEXTS = 1000
"""Validation texts that are measured after every epoch."""

FACTS = "qkd.json"
"""The file beside an adapter that says how it came about; written last."""


class AdapterTraining(Result):
    """The content of ``qkd.json``."""

    model: str
    layers: list[int]
    """How many are left of how many."""
    trained: int
    """Weights."""
    texts: int
    classes: list[str]
    epochs: int
    best_epoch: int
    seconds: float
    history: list[dict[str, float]]
    """A row for each epoch, and one for the start."""
    temperature: float
    """By which logits are divided."""
    valid_loss: float
    valid_accuracy: float


class LoraTeacher:
    """A fine-tuned LM.

    Args:
        model: a short name, folder or hub id of a causal LM or encoder.
        loading: how it is loaded.
        spec: how it is fine-tuned.

    Raises:
        QkdError: the model cannot be had.
    """

    cross_fitted = False

    def __init__(self, model: str, loading: Loading | None = None, spec: LoraSpec | None = None) -> None:
        self.spec, self._base = spec or LoraSpec(), _Base(model, loading)
        self.name = f"lora:{self._base.model}"
        self._tuned: Classifier | None = None
        self._training: AdapterTraining | None = None

    @property
    def num_parameters(self) -> int:
        """The weights of the kept layers, of adapters and of the head."""
        return self._classifier.num_parameters

    @property
    def _classifier(self) -> Classifier:
        if self._tuned is None:
            raise self._unfitted()
        return self._tuned

    @property
    def _done(self) -> AdapterTraining:
        if self._training is None:
            raise self._unfitted()
        return self._training

    def _unfitted(self) -> ModelError:
        return ModelError(f"{self.name} has not been fitted: call fit(dataset, splits) first")

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Fine-tune on the training split, or take the adapter that the cache has; goes on where it was killed."""
        from filelock import FileLock

        train = _some(dataset, splits.train, self.spec.lora_texts)
        valid = _some(dataset, splits.valid, VALID_TEXTS)
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
        self._training = records.read_record(folder / FACTS, AdapterTraining, f"delete {folder}")
        self._tuned = Classifier(str(folder), self._base.loading)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, cached."""
        model = self._classifier
        logits = cache.cached_rows({"kind": "lora", **model.key}, texts, model.scores, f"labelling with {self.name}")
        model.report(len(texts))
        return logits / np.float32(self._done.temperature)

    def answer(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, computed now."""
        return self._classifier.scores(texts) / np.float32(self._done.temperature)

    def describe(self) -> TeacherCard:
        """Return model, adapters, epochs and validation numbers."""
        facts = self._done.model_dump()
        return TeacherCard(name=self.name, kind="lora", fingerprint=self._classifier.fingerprint, **facts)

    def save(self, folder: Path) -> None:
        """Copy the adapter to ``folder``, whole or not at all."""
        source = Path(self._classifier.model)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            new = Path(work) / "adapter"
            shutil.copytree(source, new, ignore=shutil.ignore_patterns("state-*", "state.json"))
            if folder.is_dir():
                shutil.rmtree(folder)
            new.rename(folder)

    def _train(self, dataset: Dataset, train: np.ndarray, valid: np.ndarray, folder: Path) -> None:
        """Fine-tune, and write the adapter into ``folder``."""
        import torch

        base, spec = self._base, self.spec
        learned, judged = (
            Labelled(base.tokens([dataset.texts[row] for row in rows]), dataset.targets[rows])
            for rows in (train, valid)
        )
        base.report(len(train) + len(valid))
        torch.manual_seed(spec.lora_seed)
        network = base.with_adapters(dataset.classes, spec)
        trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        say(
            f"{self.name}: {base.depth(spec)} of {base.num_layers} layers, {trained:,} weights to train, "
            f"{len(train):,} training texts"
        )
        job = FineTuning(network, learned, judged, spec, base.budget, base.loading, folder)
        if not job.resume():
            base.start_head(network, learned, judged)
            job.best = job.copy()
        state = job.run(f"fine-tuning {base.model}")
        logits = job.logits(judged.tokens)
        temperature = calibrated_temperature(logits, judged.targets)
        base.write(network, folder)
        training = AdapterTraining(
            model=base.model,
            layers=[base.depth(spec), base.num_layers],
            trained=trained,
            texts=len(train),
            classes=list(dataset.classes),
            epochs=state.epoch,
            best_epoch=state.best_epoch,
            seconds=round(state.seconds, 1),
            history=state.history,
            temperature=temperature,
            valid_loss=mean_cross_entropy(logits / temperature, judged.targets),
            valid_accuracy=float(np.mean(logits.argmax(axis=1) == judged.targets)),
        )
        write_json(folder / FACTS, training.to_dict())
        for left in ("state.json", *(path.name for path in folder.glob("state-*"))):
            (folder / left).unlink(missing_ok=True)


class _Base(Transformer):
    """The LM before it is fine-tuned."""

    auto_class = "AutoModelForSequenceClassification"

    @property
    def num_layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def embedding_rows(self) -> int:
        return int(self.config.vocab_size)

    def depth(self, spec: LoraSpec) -> int:
        """How many layers are kept."""
        return max(1, round(spec.lora_depth * self.num_layers))

    @cached_property
    def _names(self) -> tuple[str, str | None]:
        """What an adapter's file calls this model: a short name stays one, a hub id and its commit are told apart."""
        if self.source.is_folder:
            return self.model if not Path(self.model).exists() else self.source.path, None
        return self.source.path, self.source.revision

    def with_adapters(self, classes: Sequence[str], spec: LoraSpec) -> Any:
        """Return the kept layers with fresh adapters and a fresh head, for training."""
        import torch
        from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training

        depth = self.depth(spec)
        config = copy.deepcopy(self.full_config)
        text = config.get_text_config()
        text.num_hidden_layers, kinds = depth, getattr(text, "layer_types", None)
        if kinds:
            text.layer_types = kinds[:depth]
        config.num_labels = len(classes)
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: number for number, name in enumerate(classes)}
        network, report = self.load_network(config=config)
        prefix = network.base_model_prefix + "."

        def is_head(name: str) -> bool:
            return not name.startswith(prefix) or "pooler" in name.split(".")

        weights.check_report(f"lora:{self.model}", report, is_head)
        fresh = [*report["missing_keys"], *(row[0] for row in report["mismatched_keys"])]
        heads = {"pooler" if name.startswith(prefix) else name.partition(".")[0] for name in fresh}
        network = self.place(network)
        if self.loading.quantize != "none":
            network = prepare_model_for_kbit_training(network, use_gradient_checkpointing=False)
        adapters = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=spec.lora_rank,
            lora_alpha=2 * spec.lora_rank,
            modules_to_save=sorted(heads) or None,  # all that was not in the checkpoint is trained and saved
            target_modules=linear_modules(network, spec.lora_targets, depth - max(1, round(spec.lora_tuned * depth))),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # between the two libraries
            network = get_peft_model(network, adapters)
        adapters.base_model_name_or_path, adapters.revision = self._names
        for weight in network.parameters():
            if weight.requires_grad:  # adapters and head learn in full precision whatever the LM is in
                weight.data = weight.data.to(torch.float32)
        return network

    def start_head(self, network: Any, train: Labelled, valid: Labelled) -> None:
        """Put logistic regression on the untouched LM's last-token states into the head."""
        import torch

        head = _head(network)
        if head is None:
            return  # more than one linear map: it learns from where chance put it
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
                rows = list(self.batched(part.tokens, read))
                out = np.empty((len(part.tokens), rows[0][1].shape[1]), np.float32)
                for places, values in rows:
                    out[places] = values
                features.append(out)
        finally:
            hook.remove()
        best = fit_head(features[0], train.targets, features[1], valid.targets)
        weight = best.weight
        if head.bias is None:  # the direction along which every state is 1, as nearly as can be, does its work
            ones = np.linalg.lstsq(features[0], np.ones(len(features[0]), np.float32), rcond=1e-4)[0]
            weight = weight + np.outer(ones, best.bias)
        with torch.no_grad():
            head.weight.copy_(torch.as_tensor(weight.T))
            if head.bias is not None:
                head.bias.copy_(torch.as_tensor(best.bias))

    def write(self, network: Any, folder: Path) -> None:
        """Save adapter, configuration and tokenizer in peft's own layout."""
        network.save_pretrained(folder)
        network.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _head(network: Any) -> Any:
    """Return the trainable linear map that makes the logits, or None where it is not a single one."""
    import torch

    for name, module in network.named_modules():
        if name.endswith("modules_to_save.default") and isinstance(module, torch.nn.Linear):
            return module
    return None


def _some(dataset: Dataset, rows: np.ndarray, most: int | None) -> np.ndarray:
    """Return at most ``most`` of ``rows``, chosen by content."""
    if most is None or len(rows) <= most:
        return rows
    return np.sort(rows[shuffled_by_content([dataset.texts[row] for row in rows], 0)[:most]])
