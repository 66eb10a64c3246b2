"""Everything left of the trainer: texts, embeddings and the teacher's logits, from the cache where it knows them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.cache import checked_rows
from qkd.core.config import Config
from qkd.core.console import say
from qkd.core.errors import DataError
from qkd.core.files import read_json, write_json
from qkd.core.runs import RunFolder
from qkd.encoders.combined import whiten
from qkd.encoders.layer_choice import choose_layers
from qkd.encoders.protocol import Encoder, embed_texts
from qkd.encoders.registry import make_encoder
from qkd.results.run import SelectionTrial
from qkd.simulation.factory import torch_device
from qkd.student.lesson import Lesson
from qkd.student.losses import UNLABELED
from qkd.teachers.labeling import Corpus, load_corpus
from qkd.teachers.protocol import SavableTeacher, Teacher
from qkd.teachers.registry import make_teacher

if TYPE_CHECKING:
    from qkd.data.loading import Dataset, Splits


@dataclass(frozen=True)
class Sources:
    """Everything left of the trainer: N texts with embeddings (N,D), teacher logits (N,C), and where they come from.

    Behind the rows of the data set come those of the unlabelled texts, if there are any.
    """

    dataset: Dataset
    splits: Splits
    encoder: Encoder
    embeddings: np.ndarray
    teacher: Teacher
    logits: np.ndarray
    texts: tuple[str, ...] = ()
    """The N texts."""
    tried: Sequence[SelectionTrial] = ()
    """What was compared before the encoder's layers were chosen; see ``encoders.layer_choice``."""

    @property
    def unlabeled(self) -> int:
        """How many unlabelled texts there are."""
        return len(self.embeddings) - len(self.dataset.texts)

    def lesson(self, unlabeled: bool = True) -> Lesson:
        """Return what students learn from: the unlabelled texts too, or the labelled alone."""
        count, splits = len(self.dataset.texts), self.splits
        more = np.arange(count, count + (self.unlabeled if unlabeled else 0))
        targets = np.concatenate([self.dataset.targets, np.full(self.unlabeled, UNLABELED)])
        train = np.concatenate([splits.train, more])
        return Lesson(self.dataset.classes, self.embeddings, self.logits, targets, train, splits.valid, splits.test)


class Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what the block takes to the seconds of ``name``."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


def gather_sources(config: Config, folder: RunFolder, resume: bool, clock: Clock) -> Sources:
    """Load the texts and have them embedded and labelled, from the cache where it knows them."""
    with clock.stage("data"):
        corpus = load_corpus(config)
    dataset, splits = corpus.dataset, corpus.splits
    device = str(torch_device(config.engine.torch_device))
    teacher = make_teacher(config.teacher.teacher, device, config)
    _pin_texts(corpus, folder, resume)
    with clock.stage("encoder"):
        encoder, tried = choose_encoder(
            config.encoder.encoder, config, dataset, splits, config.encoder.tune_encoder > 0
        )
        if config.encoder.whiten:
            encoder = whiten(encoder, [dataset.texts[row] for row in splits.train], config.encoder.whiten)
        embeddings = embed_texts(encoder, corpus.texts)
    for row in tried:
        say(f"{row.name}: a linear probe errs by {row.error:.3f}, accuracy {row.accuracy:.3f} (leave one out)")
    if tried:
        trains = config.encoder.tune_encoder
        rule = "the least, or one layer that errs hardly more and will train" if trains else "the least"
        say(f"the student reads {encoder.name}, chosen by that error: {rule}")
    with clock.stage("teacher"):
        teacher.fit(dataset, splits)
        logits = checked_rows(teacher.name, corpus.texts, teacher.logits(corpus.texts), (len(dataset.classes),))
    if isinstance(teacher, SavableTeacher):
        teacher.save(folder.teacher)
    return Sources(dataset, splits, encoder, embeddings, teacher, logits, corpus.texts, tried)


def choose_encoder(
    name: str, config: Config, dataset: Dataset, splits: Splits, trains: bool
) -> tuple[Encoder, list[SelectionTrial]]:
    """Return the encoder called ``name``, its open layers chosen on these texts, and what was tried for that.

    See ``choose_layers`` for an encoder that ``trains`` with the student.
    """
    device = str(torch_device(config.engine.torch_device))
    encoder = make_encoder(name, device, config.models.trust_remote_code)
    rows = np.sort(np.concatenate([splits.train, splits.valid]))
    return choose_layers(encoder, [dataset.texts[row] for row in rows], dataset.targets[rows], trains)


def _pin_texts(corpus: Corpus, folder: RunFolder, resume: bool) -> None:
    """Note which texts a run has, and make sure that a resumed one has the very same."""
    dataset = corpus.dataset
    content = [dataset.texts, dataset.labels, *([corpus.unlabeled] if corpus.unlabeled else ())]
    if dataset.parts is not None:
        content.append(dataset.parts)
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    if resume and folder.data.is_file() and read_json(folder.data)["sha256"] != digest:
        raise DataError(f"{dataset.source}: the texts have changed since {folder.path} was started; start a new run")
    write_json(folder.data, {"sha256": digest, "texts": len(dataset.texts), "classes": list(dataset.classes)})
