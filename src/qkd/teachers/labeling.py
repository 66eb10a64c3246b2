"""Label a corpus with a teacher and write the logits to a Parquet file that ``logits:`` reads."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qkd.core.cache import checked_rows
from qkd.core.config import Config
from qkd.core.console import log
from qkd.core.errors import DataError
from qkd.core.files import write_with
from qkd.data import loading as data
from qkd.data.hashes import keep_apart, read_hashes, text_hashes
from qkd.data.loading import Dataset, Splits
from qkd.encoders.protocol import embed_texts
from qkd.encoders.registry import make_encoder
from qkd.results import Labeling
from qkd.teachers.protocol import Teacher
from qkd.teachers.registry import make_teacher


@dataclass(frozen=True)
class Corpus:
    """Labeled texts with their splits, and unlabeled texts.

    Attributes:
        dataset: The labeled texts.
        splits: The rows of the training, validation and test texts.
        unlabeled: Texts without labels.
    """

    dataset: Dataset
    splits: Splits
    unlabeled: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts, the labeled ones first."""
        return self.dataset.texts + self.unlabeled


def load_corpus(config: Config) -> Corpus:
    """Return the texts that ``config`` names, and print their numbers."""
    spec = config.data
    dataset = data.load_dataset(
        spec.data, spec.text_column, spec.label_column, spec.limit, spec.split_seed, spec.test_data, spec.split_by
    )
    splits = data.split_dataset(dataset, spec.valid, spec.test, spec.split_seed)
    before = read_hashes(spec.continue_from) if spec.continue_from else None
    if before is not None:
        splits = keep_apart(dataset, splits, before)
    for line in dataset.notes:
        log.info(line)
    log.info(
        f"{len(dataset.texts):,} texts of {len(dataset.classes)} classes ({', '.join(map(repr, dataset.classes))}): "
        f"{len(splits.train):,} train, {len(splits.valid):,} validation, {len(splits.test):,} test"
        f"{_whose(dataset)}"
    )
    extra = data.load_unlabeled(spec.unlabeled, dataset, spec.text_column) if spec.unlabeled else ()
    if before is not None:
        tested = np.isin(text_hashes(extra), before["test"])
        extra = tuple(text for text, known in zip(extra, tested, strict=True) if not known)
    if extra:
        log.info(f"{len(extra):,} texts without labels of {spec.unlabeled}")
    return Corpus(dataset, splits, extra)


def _whose(dataset: Dataset) -> str:
    """Return a remark on splits that the data set defines."""
    if dataset.split_kind == "group":
        return f"; none of {len(set(dataset.split_keys or ())):,} groups is in two splits"
    if dataset.split_kind == "time":
        return "; the newest texts are the test texts"
    if not dataset.own:
        return ""
    return " (as given)" if "valid" in dataset.own else " (as given; validation drawn from the training texts)"


def label(config: Config, out: Path, torch_device: str | None = None, embed_too: bool = False) -> Labeling:
    """Fit the teacher, label every text, and write the logits to a Parquet file.

    Logits are cached text by text. A labeling that was killed continues, and a repeated one calls no model.

    Args:
        out: the file, with a column ``text`` and one float32 column for each class; rows as in ``Corpus.texts``.
        embed_too: whether to compute the encoder's embeddings as well and cache them for ``distill``.
    """
    if out.suffix != ".parquet":
        raise DataError(f"--out {out}: the file must be called NAME.parquet")
    started = time.monotonic()
    corpus = load_corpus(config)
    if "text" in corpus.dataset.classes:
        raise DataError(f"{config.data.data}: a label is called 'text', as the column of texts is; rename it")
    teacher = make_teacher(config.teacher.teacher, torch_device, config)
    teacher.fit(corpus.dataset, corpus.splits)
    logits = checked_rows(teacher.name, corpus.texts, teacher.logits(corpus.texts), (len(corpus.dataset.classes),))
    if embed_too:
        embed_texts(make_encoder(config.encoder.encoder, torch_device, config.models.trust_remote_code), corpus.texts)
    write_logits(out, corpus.texts, corpus.dataset.classes, logits, teacher)
    valid = corpus.splits.valid
    targets, classes = corpus.dataset.targets[valid], corpus.dataset.classes
    right = logits[valid].argmax(axis=1) == targets
    counts = np.bincount(logits.argmax(axis=1), minlength=len(classes)).tolist()
    return Labeling(
        file=str(out),
        texts=len(corpus.texts),
        classes=tuple(classes),
        seconds=round(time.monotonic() - started, 3),
        valid_accuracy=float(right.mean()),
        valid_chance=float(np.bincount(targets).max() / len(targets)),
        predicted=dict(zip(classes, counts, strict=True)),
        teacher=teacher.describe(),
    )


def write_logits(out: Path, texts: Sequence[str], classes: Sequence[str], logits: np.ndarray, teacher: Teacher) -> None:
    """Write N texts and logits ``(N,C)`` to a Parquet file, with the teacher's card in its metadata."""
    import pyarrow
    import pyarrow.parquet as parquet

    columns = {"text": pyarrow.array(list(texts), pyarrow.string())}
    columns |= {name: pyarrow.array(logits[:, number]) for number, name in enumerate(classes)}
    table = pyarrow.table(columns).replace_schema_metadata({"qkd.teacher": json.dumps(teacher.describe().to_dict())})
    write_with(out, lambda part: parquet.write_table(table, part), private=True)
