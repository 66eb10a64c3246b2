"""The inputs of every training: texts, embeddings and teacher logits, read from the cache where it has them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.cache import checked_rows
from qkd.core.callbacks import notify
from qkd.core.config import Config, read_config
from qkd.core.console import log
from qkd.core.errors import ConfigError, DataError, ModelError
from qkd.core.files import read_json, write_json
from qkd.core.objects import is_object
from qkd.core.runs import RunFolder, find_folder
from qkd.encoders.hidden_states import choose_layers
from qkd.encoders.protocol import Encoder, embed_texts
from qkd.encoders.registry import make_encoder
from qkd.encoders.static import fit_tables
from qkd.models.linear_probes import linear_probe
from qkd.reports.run import LOGREG, NAMES_IN_SENTENCES
from qkd.results.teacher import SelectionTrial
from qkd.simulation.factory import torch_device
from qkd.student.bundle import Student
from qkd.student.data import TrainingData
from qkd.student.losses import UNLABELED
from qkd.student.verdicts import compare_accuracies
from qkd.teachers.labeling import Corpus, load_corpus
from qkd.teachers.protocol import SavableTeacher, Teacher
from qkd.teachers.registry import make_teacher

if TYPE_CHECKING:
    from qkd.data.loading import Dataset

PROBE_TEXTS = 2000
"""Maximum number of training texts of the logistic regression that the teacher is compared with."""
PINNED_TEXTS = 8
"""Number of texts by which a resumed run recognizes its teacher and encoder."""
KEPT = (
    ("encoder", "encoder"),
    ("student", "circuit"),
    ("student", "inputs"),
    ("student", "qubits"),
    ("student", "layers"),
    ("student", "angle_map"),
)
"""Settings that a student keeps when its training continues."""


class Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to the seconds of ``name``."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
            notify("on_stage", name, {"seconds": self.seconds[name]})


@dataclass(frozen=True)
class Inputs:
    """The inputs of every training, and where they come from.

    Attributes:
        corpus: The texts with labels and splits, and the unlabeled texts.
        encoder: The encoder of the texts.
        candidates: Layers of the encoder that were compared before some were chosen.
        teacher: The fitted teacher.
        data: Embeddings, teacher logits, labels and splits.
        before: The student whose training continues.
    """

    corpus: Corpus
    encoder: Encoder
    candidates: Sequence[SelectionTrial]
    teacher: Teacher
    data: TrainingData
    before: Student | None = None

    @property
    def dataset(self) -> Dataset:
        """The labeled texts."""
        return self.corpus.dataset

    @property
    def test_texts(self) -> list[str]:
        """The texts of the test split."""
        return [self.dataset.texts[row] for row in self.data.test]


def prepare_inputs(
    config: Config, folder: RunFolder, resume: bool, clock: Clock, corpus: Corpus | None = None
) -> Inputs:
    """Load the texts, embed them, and label them with the teacher.

    Args:
        config: data, encoder and teacher.
        folder: the run's folder, which stores a fingerprint of the texts and the teacher.
        resume: whether the folder's fingerprint must be that of the texts.
        clock: measures the stages.
        corpus: the texts, if they were read before.

    Raises:
        QkdError: a source is missing or malformed, or the texts have changed.
    """
    if corpus is None:
        with clock.stage("data"):
            corpus = load_corpus(config)
    teacher = make_teacher(config.teacher.teacher, str(torch_device(config.engine.torch_device)), config)
    _pin_texts(corpus, folder, resume)
    before = _student_before(config, corpus)
    with clock.stage("encoder"):
        candidates: Sequence[SelectionTrial] = ()
        if before is not None:
            encoder = before.encoder
        else:
            tunes = config.encoder.tune_encoder > 0
            encoder, candidates = choose_encoder(config.encoder.encoder, config, corpus, tunes)
        embeddings = embed_texts(encoder, corpus.texts)
    _report_layers(candidates, encoder, config)
    with clock.stage("teacher"):
        logits = _label(teacher, corpus)
    _pin_objects(config, folder, embeddings, logits)
    if isinstance(teacher, SavableTeacher):
        teacher.save(folder.teacher)
    data = _training_data(corpus, embeddings, logits)
    if config.student.controls:
        _report_teacher(data, config.student.margin)
    return Inputs(corpus, encoder, candidates, teacher, data, before)


def _report_teacher(data: TrainingData, margin: float) -> None:
    """Compare the teacher with a logistic regression on the validation texts, before the student trains.

    Args:
        data: The training data.
        margin: Points of accuracy within which two classifiers are equivalent.
    """
    labeled, targets = data.labeled_train, data.targets[data.valid]
    rows = labeled[:: -(-len(labeled) // PROBE_TEXTS)]
    embeddings = data.embeddings
    _, logits = linear_probe(embeddings[rows], data.targets[rows], embeddings[data.valid], targets)
    hits = {
        name: (answers.argmax(axis=1) == targets).astype(float)[None]
        for name, answers in (("teacher", data.teacher_logits[data.valid]), (LOGREG, logits))
    }
    gain = compare_accuracies("the teacher", hits["teacher"], {LOGREG: hits[LOGREG]}, margin / 100, NAMES_IN_SENTENCES)
    sentence = f"on the validation texts: {gain[LOGREG].sentence}"
    if gain[LOGREG].verdict == "worse":
        log.warning(f"{sentence} A stronger --teacher may help; Ctrl-C stops this run.")
    else:
        log.info(sentence)


def _student_before(config: Config, corpus: Corpus) -> Student | None:
    """Return the student whose training continues, if there is one.

    Raises:
        ConfigError: The run is to have another circuit or encoder.
        DataError: Its classes are not those of the texts.
    """
    if config.data.continue_from is None:
        return None
    stored = RunFolder(find_folder(config.data.continue_from)).config
    if stored.is_file():
        of_student = read_config(stored)
        for section, key in KEPT:
            old, new = (getattr(getattr(each, section), key) for each in (of_student, config))
            if old != new:
                known = "the default" if old is None else old
                raise ConfigError(
                    f"--{key.replace('_', '-')} is {new}, and the student in {config.data.continue_from} has {known}; "
                    "omit the option, or train a new student"
                )
    before = Student.load(config.data.continue_from)
    if before.classes != corpus.dataset.classes:
        raise DataError(
            f"{corpus.dataset.source}: the labels are {', '.join(map(repr, corpus.dataset.classes))}, but the student "
            f"in {config.data.continue_from} knows {', '.join(map(repr, before.classes))}; train a new student"
        )
    return before


def ask_run_teacher(folder: RunFolder, classes: Sequence[str]) -> Callable[[Sequence[str]], np.ndarray]:
    """Return a function from texts to the logits (N,C) of a run's teacher, fitted on the run's texts at the first call.

    Args:
        folder: the run's folder.
        classes: the labels of its student.

    The function raises a ``QkdError`` where the texts or the teacher are missing, or have changed.
    """

    def ask(texts: Sequence[str]) -> np.ndarray:
        return _fitted_teacher(folder, classes).predict_logits(texts)

    return ask


def _fitted_teacher(folder: RunFolder, classes: Sequence[str]) -> Teacher:
    """Return the teacher of a run, fitted on the run's texts.

    Raises:
        QkdError: the texts or the teacher are missing, or have changed.
    """
    config = read_config(folder.config)
    if is_object(config.teacher.teacher):
        raise ModelError(
            f"{folder.path}: the teacher '{config.teacher.teacher}' is a Python object, which no run keeps; "
            "call it yourself"
        )
    corpus = load_corpus(config)
    if not folder.data.is_file() or read_json(folder.data)["sha256"] != _digest(corpus):
        raise DataError(f"{corpus.dataset.source}: the texts have changed since {folder.path} was trained")
    if tuple(corpus.dataset.classes) != tuple(classes):
        raise DataError(f"{corpus.dataset.source}: the labels are not those of the student in {folder.path}")
    teacher = make_teacher(config.teacher.teacher, str(torch_device(config.engine.torch_device)), config)
    teacher.fit(corpus.dataset, corpus.splits)
    return teacher


def choose_encoder(name: str, config: Config, corpus: Corpus, trains: bool) -> tuple[Encoder, list[SelectionTrial]]:
    """Return the encoder called ``name``, fitted on these texts, and the layers it compared.

    Open layers are chosen on training and validation texts. Static tables are made of training and unlabeled texts.

    ``trains`` says whether the encoder trains with the student; see ``choose_layers``.
    """
    encoder = make_encoder(name, str(torch_device(config.engine.torch_device)), config.models.trust_remote_code)
    dataset = corpus.dataset
    encoder = fit_tables(encoder, [*(dataset.texts[row] for row in corpus.splits.train), *corpus.unlabeled])
    rows = np.sort(np.concatenate([corpus.splits.train, corpus.splits.valid]))
    return choose_layers(encoder, [dataset.texts[row] for row in rows], dataset.targets[rows], trains)


def _label(teacher: Teacher, corpus: Corpus) -> np.ndarray:
    """Fit the teacher and return its logits (N,C) of all texts."""
    teacher.fit(corpus.dataset, corpus.splits)
    return checked_rows(teacher.name, corpus.texts, teacher.logits(corpus.texts), (len(corpus.dataset.classes),))


def _training_data(corpus: Corpus, embeddings: np.ndarray, logits: np.ndarray) -> TrainingData:
    """Return the texts as training data; the unlabeled ones are training texts behind the rows of the data set."""
    dataset, splits, count = corpus.dataset, corpus.splits, len(corpus.unlabeled)
    return TrainingData(
        classes=dataset.classes,
        embeddings=embeddings,
        teacher_logits=logits,
        targets=np.concatenate([dataset.targets, np.full(count, UNLABELED)]),
        train=np.concatenate([splits.train, np.arange(len(dataset.texts), len(dataset.texts) + count)]),
        valid=splits.valid,
        test=splits.test,
    )


def _report_layers(candidates: Sequence[SelectionTrial], encoder: Encoder, config: Config) -> None:
    """Print the layers that were compared and the choice."""
    for row in candidates:
        log.info(f"{row.name}: leave-one-out error of a linear probe {row.error:.3f}, accuracy {row.accuracy:.3f}")
    if candidates:
        tuned = config.encoder.tune_encoder > 0
        rule = "the smallest error, or a single layer with nearly that error" if tuned else "the smallest error"
        log.info(f"the student reads {encoder.name}: {rule}")


def _digest(corpus: Corpus) -> str:
    """Return a fingerprint of the texts, their labels and their splits."""
    dataset = corpus.dataset
    content = [dataset.texts, dataset.labels, *([corpus.unlabeled] if corpus.unlabeled else ())]
    if dataset.parts is not None:
        content.append(dataset.parts)
    if dataset.split_keys is not None:
        content.append(dataset.split_keys)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _pin_texts(corpus: Corpus, folder: RunFolder, resume: bool) -> None:
    """Store a fingerprint of the texts; a resumed run must have the same texts."""
    dataset, digest = corpus.dataset, _digest(corpus)
    if not (resume and folder.data.is_file()):
        write_json(folder.data, {"sha256": digest, "texts": len(dataset.texts), "classes": list(dataset.classes)})
    elif read_json(folder.data)["sha256"] != digest:
        raise DataError(f"{dataset.source}: the texts have changed since {folder.path} was started; start a new run")


def _pin_objects(config: Config, folder: RunFolder, embeddings: np.ndarray, logits: np.ndarray) -> None:
    """Store what a teacher and an encoder that are Python objects compute for the first texts.

    Raises:
        ConfigError: the run was started with objects that compute something else.
    """
    facts = read_json(folder.data)
    named = {"teacher": (config.teacher.teacher, logits), "encoder": (config.encoder.encoder, embeddings)}
    for role, (name, rows) in named.items():
        if not is_object(name):
            continue
        rows = rows[:PINNED_TEXTS].astype(float)
        before = np.array(facts.setdefault(role, rows.tolist()))
        if before.shape != rows.shape or not np.allclose(rows, before, rtol=1e-2, atol=1e-2 * np.abs(before).max()):
            raise ConfigError(
                f"{role} is another object than the one with which {folder.path} was started: it computes other "
                "numbers for the same texts; pass that object, or start a new run"
            )
        write_json(folder.data, facts)
